"""Every option of every operation: taken if it changes the vectors, and else refused with the reason."""

import re

import pytest

from rf8sim import Rounding, cli
from rf8sim.hardware.golden import golden as golden_module
from rf8sim.hardware.golden.options import IDLE
from rf8sim.hardware.vectors import vectors as vectors_module
from rf8sim.hardware.vectors.vectors import vectors

OPERATIONS = ["decode", "encode", "add", "subtract", "multiply", "divide", "fma", "dot:2", "accumulate"]
STOCHASTIC = {"rounding": "stochastic"}
SETTINGS = {
    "plain": {},
    "of few random vectors": {"n": 10},
    "of none": {"n": 0},
    "stochastic": {**STOCHASTIC, "n": 10},
    "stochastic by level": STOCHASTIC,
    "exact": {"result": "fixed:40.24", "n": 10},
    "of short numbers": {"source": "float16"},
    "of short numbers, stochastic": {"source": "float16", "n": 10, **STOCHASTIC},
    "in a code of another format": {"result": "int8", "n": 10},
}
VALUES = {
    "source": ("float16", "fixed:4.4"),
    "result": ("float64", "e5m2"),
    "rounding": ("up", "down"),
    "overflow": ("saturate", "nan"),
    "bits": (4, 7),
    "level": (1, 2),
    "seed": (1, 2),
    "scale": ("e8m0fnu", "e4m3fn"),
    "accumulator": ("float32", "int:6"),
    "tininess": ("before", "after"),
    "signalling": ("quiet", "invalid"),
}
FLAGS = {
    "source": "--from", "result": "--result", "rounding": "--rounding", "overflow": "--overflow",
    "bits": "--random-bits", "level": "--level", "seed": "--seed", "n": "-n",
    "scale": "--scale", "accumulator": "--accumulator", "profile": "--profile", "tininess": "--tininess",
    "signalling": "--signalling-nan",
}  # fmt: skip


def asked(operation, options):
    """The vectors, the fields of their rounding among the options."""
    options = dict(options)
    fields = {"rounding": "mode", "overflow": "overflow", "bits": "bits"}
    chosen = {field: options.pop(name) for name, field in fields.items() if name in options}
    return vectors(operation, "rf6", rounding=Rounding(**chosen) if chosen else None, **options)


def made(operation, options):
    """The vectors; None if something else than an idle option is wrong."""
    try:
        return asked(operation, options)
    except ValueError:
        return None


def differ(one, other):
    """Whether a design is asked or must answer something else."""
    if one.classes != other.classes or [port.kind for port in one.ports] != [port.kind for port in other.ports]:
        return True
    return any(x != y for x, y in zip(one.text(), other.text(), strict=True))


def refusal(operation, options):
    try:
        asked(operation, options)
    except ValueError as error:
        return str(error)
    return ""


def test_every_option_is_here():
    assert set(VALUES) | {"profile"} == set(IDLE)  # what a profile changes is in test_widening.py


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_option_is_taken_if_and_only_if_it_changes_the_vectors(monkeypatch, operation, setting):
    checked = 0
    for option, values in VALUES.items():
        # The rest of the setting: what is not idle in it, and is not the option itself.
        base = {name: value for name, value in SETTINGS[setting].items() if name != option}
        if refusal(operation, base):
            return  # the setting itself is none of this operation
        both = [{**base, option: value} for value in values]
        with monkeypatch.context() as patch:
            for module in (golden_module, vectors_module):
                patch.setattr(module, "check_given", lambda *_: None)
            sets = [made(operation, options) for options in both]
        if None in sets:  # refused for another reason, so never passed over in silence
            assert all(refusal(operation, options) for options, found in zip(both, sets, strict=True) if not found)
            continue
        checked += 1
        said = [refusal(operation, options) for options in both]
        if operation == "encode" and option == "result":  # its format by another name
            assert not differ(sets[1], vectors("encode", "e5m2", **base))
        elif differ(*sets):
            # A value may make another option idle: an exact result that of the rounding.
            assert not any(sentence.startswith(f"`{option}`") for sentence in said), said
            assert "" in said
            continue
        for value, sentence in zip(values, said, strict=True):
            # A rounding that has all its defaults is named as one.
            name = "rounding" if value == "saturate" and "rounding" not in base else option
            assert sentence.startswith(f"`{name}` changes nothing: "), (option, sentence)
            assert sentence.endswith("; leave it out")
    assert checked > 4


@pytest.mark.parametrize("command", ["vectors", "verify"])
@pytest.mark.parametrize("option", VALUES)
def test_the_command_line_says_its_own_names(capsys, command, option):
    operation = {"source": "multiply", "result": "encode", "rounding": "decode", "overflow": "decode"}
    words = [command, operation.get(option, "multiply"), FLAGS[option], str(VALUES[option][1])]
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"rf8sim: error: {FLAGS[option]} changes nothing: ")
    assert err.endswith("; leave it out\n")
    assert not re.search(r"`|fmt|random_bits|\bsource\b", err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("decode --format-b int8", "error: --format-b changes nothing: decode has no operand b; leave it out"),
        ("multiply --format-c int8", "error: --format-c changes nothing: multiply has no operand c; leave it out"),
        ("encode --format-b rf6", "error: --format-b changes nothing: encode has no operand b; leave it out"),
        ("decode --overflow saturate", "error: --overflow changes nothing: a result in float32 is exact; leave it out"),
        ("compare --rounding up", "error: --rounding changes nothing: compare rounds nothing; leave it out"),
        ("compare --result int8", "--result changes nothing: the result of compare is a relation; leave it out"),
        ("multiply --scale e8m0fnu", "error: --scale changes nothing: multiply has no scales; leave it out"),
        ("add --accumulator float32", "--accumulator changes nothing: add sums no products in an accumulator"),
        ("multiply --tininess after", "--tininess changes nothing: a result in rf8 has no underflow that rounding"),
        ("dot:2 -f e4m3fn --signalling-nan invalid", "operands of dot:2 have no signalling NaN; leave it out"),
        ("compare --profile riscv", "--profile changes nothing: results in relation are the same by each; leave it"),
        ("convert -f float32", "convert goes into another format: --result says which"),
        ("dot:2 --result float32 --rounding residual", "rounding 'residual' is not for a result in float32"),
        ("dot:2 --format-c float64", "operand c is a number of at most 53 digits, not float64"),
        ("dot:2 -f int8 --accumulator int:24 --format-c float32", "operand c must be whole in them, and of at most 53"),
        ("block_dot:2 --accumulator int:24", "scaled sums are no integers, choose a float"),
        ("accumulate -f float16 --accumulator int:24", "integer accumulators take products of up to 52"),
        ("multiply --profile arm", "unknown profile 'arm': the choices are riscv, cuda, ocp, p3109"),
        (
            "multiply --random-bits 32",
            "error: --random-bits changes nothing: only stochastic rounding has a random word",
        ),
        ("multiply --overflow infinity", "format 'rf8' has no infinity: use --overflow saturate"),
        ("encode -f int8 --overflow nan", "format 'int8' has no NaN code: use --overflow saturate"),
        ("multiply --result fixed:2.2", "error: 7.130438461899757e-10 is not a number of fixed:2.2: choose more bits"),
        ("decode -f e8m0fnu --result float16", "error: 5.877471754111438e-39 is not a float16 number"),
        ("encode --from rf8", "encode is given numbers: --from is a float or fixed:I.F, got the format 'rf8'"),
        ("divide --result float64", "rounded, and not to float64: choose float32 or narrower"),
        ("encode --seed 99999999999999999999", "--seed must be from 0 to 2**64 - 1"),
        ("multiply -n 5 --level 2", "--level changes nothing: all 65,536 combinations"),
        ("multiply --rounding stochastic -n 5 --level 2", "which -n says"),
    ],
)
def test_the_words_of_refusals_are_those_of_the_command_line(capsys, words, message):
    assert cli.main(["vectors", *words.split()]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert not re.search(r"np\.|`|=|fmt_|random_bits", err)
