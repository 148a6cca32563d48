"""Stochastic rounding into floats of more than 16 bits: vectors against rational arithmetic, verdicts, refusals."""

import math
from fractions import Fraction

import numpy as np
import pytest

import rf8sim
from rf8sim import Rounding, reference
from rf8sim.cli import main
from rf8sim.formats.floats import ARRAY_LAYOUTS
from rf8sim.hardware.golden.exact import Exact
from rf8sim.hardware.golden.golden import golden
from rf8sim.hardware.golden.layout_draws import layout_draws
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.arrays import verify_arrays

FMA = ("e4m3fn", "e5m2", "float32")
CASES = [
    ("fma", FMA, "float32", 8, "ieee"), ("fma", FMA, "float32", 32, "saturate"), ("fma", FMA, "e8m13", 32, "nan"),
    ("dot:4", "bfloat16", "float32", 12, "ieee"), ("divide", "float16", "float32", 32, "ieee"),
    ("multiply", "bfloat16", "e5m12", 5, "ieee"), ("multiply", "bfloat16", "e5m12", 5, "infinity"),
    ("sqrt", "bfloat16", "tf32", 32, "ieee"), ("convert", "float32", "tf32", 10, "ieee"),
    ("block_dot:2", "e4m3fn", "float32", 16, "ieee"), ("add", "float16", "e4m13", 32, "propagate"),
]  # fmt: skip


def root(x):
    """Return a square root cut off 400 bits below the point."""
    return Fraction(math.isqrt(int(x * 4**400)), 2**400) if isinstance(x, Fraction) else math.sqrt(x)


def exact(operation, numbers):
    """Return the exact result of the numbers of each operand's lanes."""
    add, multiply = reference.add, reference.multiply
    first = [lanes[0] for lanes in numbers]
    match operation.partition(":")[0]:
        case "fma":
            return add(multiply(first[0], first[1]), first[2])
        case "dot" | "block_dot":
            scale = multiply(*first[2:4]) if operation[0] == "b" else Fraction(1)
            total = 0.0
            for x, y in zip(numbers[0], numbers[1], strict=True):
                total = add(total, multiply(multiply(x, y), scale))
            return total
        case "sqrt":
            return math.nan if first[0] < 0 else root(first[0])
        case "convert":
            return first[0]
    return {"add": add, "multiply": multiply, "divide": reference.divide}[operation](*first[:2])


def drawn(x, layout, word, bits, overflow):
    """Return the pattern and the flags of an exact number: the next place up if its fraction and the word carry."""
    exponent_bits, mantissa = layout.exponent_bits, layout.mantissa_bits
    top = (1 << exponent_bits) - 1 << mantissa
    sign = math.copysign(1.0, x) < 0 if isinstance(x, float) else x < 0
    rule = {"ieee": top, "infinity": top, "saturate": top - 1, "propagate": top - 1, "nan": top | 1 << (mantissa - 1)}
    if isinstance(x, float):
        if math.isnan(x):
            return top | 1 << (mantissa - 1), 0
        if x == 0:
            return sign << (exponent_bits + mantissa), 0
        pattern, flags = (top, 0) if overflow in ("ieee", "infinity", "propagate") else (rule[overflow], 5)
    else:
        emin = 2 - (1 << (exponent_bits - 1))
        size = abs(x)
        exponent = size.numerator.bit_length() - size.denominator.bit_length()
        exponent -= size < Fraction(2) ** exponent
        exponent = max(exponent, emin)
        places = size / Fraction(2) ** (exponent - mantissa)
        low = int(places)
        carry = int((places - low) * 2**bits) + word >= 2**bits
        pattern = (exponent - emin << mantissa) + low + carry
        tiny = 2 if size < Fraction(2) ** emin else 0
        flags = 1 | tiny if places != low else 0
        if pattern >= top:
            pattern, flags = rule[overflow], 5
    nan = pattern > top
    return pattern | (sign and not nan) << (exponent_bits + mantissa), flags


@pytest.mark.parametrize(("operation", "fmt", "result", "bits", "overflow"), CASES)
def test_vectors_are_the_oracle(operation, fmt, result, bits, overflow):
    rounding = Rounding("stochastic", overflow, bits=bits)
    asked = vectors(operation, fmt, result=result, n=500, rounding=rounding)
    ports = asked.model.operands
    assert (ports[-1].name, ports[-1].bits) == ("word", bits)
    layout = asked.model.result.kind.layout
    chosen = np.unique(np.linspace(0, len(asked) - 1, 700).astype(int))
    inexact = 0
    for row in chosen.tolist():
        numbers = [
            [port.kind.number(lane) for lane in np.atleast_1d(column[row]).tolist()]
            for port, column in zip(ports[:-1], asked.operands, strict=False)
        ]
        x = exact(operation, numbers)
        pattern, flags = drawn(x, layout, int(asked.operands[-1][row]), bits, overflow)
        where = (numbers, int(asked.operands[-1][row]), asked.class_of(row))
        assert asked.results[row] == pattern, where
        assert asked.flags[row] & 7 == flags, where
        inexact += flags & 1
    assert inexact > 20


def test_first_and_last_words_part_up_from_down():
    asked = vectors("fma", FMA, result="float32", n=0, rounding=Rounding("stochastic", bits=8))
    sizes = asked.classes
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    pairs = [name.removesuffix(", last word down") for name in sizes if name.endswith("last word down")]
    assert pairs
    for name in pairs:
        down, up = (slice(starts[f"{name}, {end}"], starts[f"{name}, {end}"] + sizes[f"{name}, {end}"])
                    for end in ("last word down", "first word up"))  # fmt: skip
        both = asked.operands[-1][up].astype(int) - asked.operands[-1][down] == 1
        assert both.any()
        moved = asked.results[down][both].astype(np.int64) - asked.results[up][both]
        changed = (moved != 0) | (asked.flags[down] != asked.flags[up])[both]
        assert changed.all()
        assert np.all(moved <= 0)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("overflow", ["ieee", "saturate", "propagate", "nan", "infinity"])
def test_a_layout_is_drawn_as_the_format_of_its_values(name, overflow):
    """Two ways to one answer: the table of a format, and the fields of a layout."""
    rng = np.random.default_rng(5)
    values = np.ldexp(rng.standard_normal(3000), rng.integers(-160, 140, 3000))
    values = np.concatenate(
        [values, rf8sim.get_format(name).values[::37], [np.inf, -np.inf, np.nan, 0.0, -0.0, 65520.0]]
    )
    rounding = Rounding("stochastic", overflow, bits=32)
    sums = Exact(values, np.zeros(values.size, np.int64))
    model = golden("encode", name, source="float64", rounding=rounding)
    words = rng.integers(0, 1 << 32, values.size, np.uint32)
    wanted = model.round(sums, words)
    table = layout_draws(sums, ARRAY_LAYOUTS[name], rounding)
    answers = model._drawn(table, words)
    nan = np.isnan(values)
    np.testing.assert_array_equal(answers.results[~nan], wanted.results[~nan])
    np.testing.assert_array_equal(answers.flags, wanted.flags)


def test_faults_of_random_words_are_named():
    asked = vectors("fma", FMA, result="float32", n=3000, rounding=Rounding("stochastic", bits=8))
    model = asked.model
    assert verify_arrays(asked, asked.results).passed

    def named(results):
        verdict = verify_arrays(asked, results)
        assert not verdict.passed
        return [finding.name for finding in verdict.findings]

    inverted, _ = model.compute([*asked.operands[:-1], ~asked.operands[-1]])
    assert "word inverted" in named(inverted.results)
    truncated = vectors("fma", FMA, result="float32", n=3000, rounding="toward-zero").model
    assert named(truncated.compute(asked.operands[:-1])[0].results)
    early = [*asked.operands[:-1], np.minimum(asked.operands[-1].astype(int) + 1, 255).astype(np.uint8)]
    results = model.compute(early)[0].results
    full = asked.operands[-1] == 255
    assert "word one too large" in named(np.where(full, _away(asked, full), results))


def _away(asked, where):
    """Return the next pattern away from zero of every finite sum."""
    down = asked.model.changed(operands=asked.model.operands[:-1], rounding=Rounding("toward-zero", "ieee"))
    lower = down.compute(asked.operands[:-1])[0].results
    exact_sum = asked.model.exact_of(asked.operands)[0].values
    moved = np.isfinite(exact_sum) & (exact_sum != 0) & (lower & 0x7FFFFFFF < 0x7F800000)
    return np.where(moved & where, lower + np.uint32(1), lower)


def test_a_stream_is_verified_by_command(tmp_path, capsys):
    options = ["fma", "-f", "e4m3fn", "--format-b", "e5m2", "--format-c", "float32", "--result", "float32",
               "--rounding", "stochastic", "--random-bits", "8", "-n", "100"]  # fmt: skip
    path = tmp_path / "fma.tv"
    assert main(["vectors", *options, "-o", str(path)]) == 0
    assert main(["verify", *options, str(path)]) == 0
    text = path.read_text().splitlines()
    place = next(row for row, line in enumerate(text) if not line.startswith("//")) + 40
    fields = text[place].split("_")
    fields[-2] = f"{int(fields[-2], 16) ^ 1:08X}"
    text[place] = "_".join(fields)
    path.write_text("\n".join(text) + "\n")
    assert main(["verify", *options, str(path)]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("operation", "options", "words"),
    [
        ("decode", {"fmt": "e4m3fn", "result": "float32"}, "is exact"),
        ("fma", {"fmt": FMA, "result": "float32", "tininess": "after"}, "not for stochastic rounding"),
        ("multiply", {"fmt": "e4m3fn", "result": "float64"}, "is exact"),
    ],
)
def test_what_draws_nothing_is_refused(operation, options, words):
    with pytest.raises(ValueError, match=words):
        vectors(operation, rounding="stochastic", **options)
