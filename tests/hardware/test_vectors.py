"""Vectors: right by the oracle, the same on every machine, in every form, and where faults live."""

import hashlib
import json
import math
import re
import shutil
import subprocess
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from oracle_helpers import modes, overflows

import rf8sim
from rf8sim import reference
from rf8sim.arithmetic.operations import operation_table
from rf8sim.formats import format_names, get_format
from rf8sim.hardware.golden.golden import golden
from rf8sim.hardware.golden.ports import Port, get_kind
from rf8sim.hardware.vectors.files import FORMS, from_digits, to_digits
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.coverage import Coverage

# --- what must be answered ------------------------------------------------------------------------------------------


def test_short_names() -> None:
    for short, name in {"mul": "multiply", "sub": "subtract", "div": "divide"}.items():
        assert golden(short, "rf8") == golden(name, "rf8")
        assert golden(short, "rf8").name == name


@pytest.mark.parametrize("fmt", format_names())
def test_two_operands_are_the_tables(fmt):
    """The whole table of each operation, mode and option; the tables are held against the oracle elsewhere."""
    form = get_format(fmt)
    size = 1 << form.bits
    names = {"add": "add", "subtract": "subtract", "multiply": "multiply", "divide": "divide"}
    choices = [*product(modes(form), ["saturate"]), *product(["nearest-even"], overflows(form)[1:])]
    for (operation, name), (mode, overflow) in product(names.items(), choices):
        asked = vectors(operation, fmt, rounding=rf8sim.Rounding(mode, overflow))
        table = operation_table(name, fmt, rounding=rf8sim.Rounding(mode, overflow))
        a, b = asked.operands
        assert len(asked) == size * size - np.count_nonzero(table.missing[:size, :size])
        assert np.bincount(a.astype(int) * 256 + b).max() == 1, "no pair twice"
        np.testing.assert_array_equal(asked.results, table.codes[a, b])
        np.testing.assert_array_equal(asked.flags, table.flags[a, b])


@pytest.mark.parametrize("fmt", ["rf8", "e4m3fn", "e5m2", "int8", "posit8_es1", "uint8", "rf6"])
def test_encode_is_the_oracle(fmt):
    form = get_format(fmt)
    for source, mode, overflow in product(("float32", "bfloat16", "fixed:8.14"), modes(form), overflows(form)):
        asked = vectors("encode", fmt, source=source, n=150, rounding=rf8sim.Rounding(mode, overflow))
        chosen = slice(None, None, max(1, len(asked) // 150))
        kind = asked.model.operands[0].kind
        for pattern, code, flags in zip(
            asked.operands[0][chosen].tolist(), asked.results[chosen], asked.flags[chosen], strict=True
        ):
            x = kind.number(pattern)
            assert (code, flags) == reference.round_with_flags(x, form, mode, overflow), (hex(pattern), x, mode)


def test_decode_gives_the_values():
    for fmt in format_names():
        form = get_format(fmt)
        asked = vectors("decode", fmt)
        np.testing.assert_array_equal(asked.results.view(np.float32), form.values.astype(np.float32))
        assert not asked.flags.any()
    asked = vectors("decode", "rf8", result="fixed:2.19")
    finite = np.isfinite(get_format("rf8").values)
    signed = asked.results.astype(np.int64) - ((asked.results.astype(np.int64) >> 20) << 21)
    np.testing.assert_array_equal(signed[finite] / 2.0**19, get_format("rf8").values[finite])
    assert asked.results[0x80] == 0
    assert asked.flags[0x80] == 16


def test_fma_is_the_library_s():
    for fmt, mode in (("rf8", "nearest-even"), ("rf8", "down"), ("e5m2", "up"), ("posit8_es1", "nearest-even")):
        asked = vectors("fma", fmt, rounding=mode, n=3000)
        codes, flags = rf8sim.fma(*asked.operands, fmt, rounding=mode, flags=True)
        np.testing.assert_array_equal(asked.results, codes)
        np.testing.assert_array_equal(asked.flags, flags)


def total(products):
    held = 0.0
    for one in products:
        held = reference.add(held, one)
    return held


@pytest.mark.parametrize(("fmt", "fmt_b"), [("rf8", None), ("rf8", "int8"), ("e5m2", None), ("posit8_es2", None)])
def test_dot_and_accumulate_are_exact_sums(fmt, fmt_b):
    first, second = get_format(fmt), get_format(fmt_b or fmt)
    for mode in ("nearest-even", "up"):
        asked = vectors("dot:3", (fmt, fmt_b or fmt), n=400, rounding=mode)
        for row in range(0, len(asked), 29):
            a, b = (operand[row].tolist() for operand in asked.operands)
            numbers = [(reference.number(x, first), reference.number(y, second)) for x, y in zip(a, b, strict=True)]
            products = [reference.multiply(x, y) for x, y in numbers]
            code, flags = reference.round_with_flags(total(products), first, mode)
            invalid = math.isnan(total(products)) and not any(
                math.isnan(fmt.values[x]) for fmt, side in ((first, a), (second, b)) for x in side
            )
            assert (asked.results[row], asked.flags[row]) == (code, flags | 16 * invalid)
        asked = vectors("accumulate", (fmt, fmt_b or fmt), n=400, rounding=mode)
        held: reference.Number = 0.0
        clear, a, b = (operand.tolist() for operand in asked.operands)
        for row, (starts, x, y) in enumerate(zip(clear, a, b, strict=True)):
            one = reference.multiply(reference.number(x, first), reference.number(y, second))
            held = reference.add(0.0 if starts else held, one)
            if row % 7 == 0:
                assert asked.results[row] == reference.round_with_flags(held, first, mode)[0], row


def test_infinities_of_both_signs_are_invalid_in_a_stream():
    model = golden("accumulate", "e5m2", rounding=rf8sim.Rounding(overflow="ieee"))
    clear = np.array([1, 0, 0, 1, 0, 1, 0], np.uint8)
    a = np.array([0x7C, 0xFC, 0x3C, 0x7C, 0x3C, 0x7E, 0xFC], np.uint8)  # infinity, -infinity, 1; then NaN
    answers, _ = model.compute([clear, a, np.full(7, 0x3C, np.uint8)])
    assert answers.flags.tolist() == [0, 16, 16, 0, 0, 0, 0]
    assert model.result.kind.is_nan(answers.results).tolist() == [False, True, True, False, False, True, True]


def test_sums_in_fixed_point_are_integers():
    for operation in ("dot:5", "accumulate"):
        asked = vectors(operation, "rf8", result="fixed:26.38", n=500)
        values = np.array([Fraction(v) * 2**38 if v == v else 0 for v in get_format("rf8").values], dtype=object)
        a, b = asked.operands[-2:]
        terms = values[a] * values[b] / 2**38
        nan = (a == 0x80) | (b == 0x80)
        if operation == "accumulate":
            expected, held, poisoned = [], 0, False
            for starts, term, bad in zip(asked.operands[0], terms, nan, strict=True):
                held, poisoned = (term, bad) if starts else (held + term, poisoned or bad)
                expected.append(0 if poisoned else held % 2**64)
        else:
            sums = zip(terms.sum(axis=1), nan.any(axis=1), strict=True)
            expected = [0 if bad else held % 2**64 for held, bad in sums]
        assert asked.results.tolist() == expected


def test_weights_times_int8_in_fixed_point():
    asked = vectors("multiply", ("rf8", "int8"), result="fixed:9.19")
    a, b = asked.operands
    signed = (asked.results.astype(np.int64) ^ (1 << 27)) - (1 << 27)
    exact = get_format("rf8").values[a] * get_format("int8").values[b] * 2**19
    good = a != 0x80
    np.testing.assert_array_equal(signed[good], exact[good])


@pytest.mark.parametrize("operation", ["encode", "add", "multiply", "divide", "fma", "dot:2"])
def test_stochastic_is_the_oracle(operation):
    bits = 7
    asked = vectors(operation, "rf8", n=2000, rounding=rf8sim.Rounding("stochastic", bits=bits))
    kinds = [port.kind for port in asked.model.operands]
    assert [port.name for port in asked.model.operands][-1] == "word"
    for row in range(0, len(asked), max(1, len(asked) // 400)):
        numbers = [
            [kind.number(lane) for lane in np.atleast_1d(operand[row]).tolist()]
            for kind, operand in zip(kinds[:-1], asked.operands[:-1], strict=True)
        ]
        x, y = numbers[0][0], numbers[-1][0]
        exact = {
            "encode": lambda x=x: x, "add": lambda x=x, y=y: reference.add(x, y),
            "multiply": lambda x=x, y=y: reference.multiply(x, y), "divide": lambda x=x, y=y: reference.divide(x, y),
            "fma": lambda n=numbers: reference.add(reference.multiply(n[0][0], n[1][0]), n[2][0]),
            "dot:2": lambda n=numbers: total(reference.multiply(x, y) for x, y in zip(n[0], n[1], strict=True)),
        }[operation]()  # fmt: skip
        if math.isinf(exact) and operation == "divide":
            exact = math.nan
        word = int(asked.operands[-1][row])
        assert asked.results[row] == reference.round_value(exact, "rf8", "stochastic", word=word, random_bits=bits)


def test_stochastic_from_float64_and_into_many_digits():
    for fmt, source in (("rf8", "float64"), ("nf8", "float32"), ("e5m2", "fixed:20.40")):
        asked = vectors("encode", fmt, source=source, n=300, rounding=rf8sim.Rounding("stochastic", bits=32))
        kind = asked.model.operands[0].kind
        for row in range(0, len(asked), max(1, len(asked) // 300)):
            x, word = kind.number(int(asked.operands[0][row])), int(asked.operands[1][row])
            if x == x or rf8sim.get_format(fmt).nan is not None:
                code = reference.round_value(x, fmt, "stochastic", word=word)
                assert asked.results[row] == code, (x, word)


def test_words_of_stochastic_part_up_from_down():
    """The classes of first and last words: one more or less, and the result is the other."""
    asked = vectors("multiply", "rf8", n=0, rounding=rf8sim.Rounding("stochastic", bits=8))
    sizes = list(asked.classes.values())
    assert list(asked.classes) == ["exhaustive", "exhaustive, last word down", "exhaustive, first word up"]
    a, _, words = asked.operands
    down, up = slice(sizes[0], sizes[0] + sizes[1]), slice(sizes[0] + sizes[1], None)
    np.testing.assert_array_equal(a[down], a[up])
    assert np.all(words[up].astype(int) - words[down] <= 1)
    both = words[up].astype(int) - words[down] == 1
    # Beyond the largest value it is the overflow that is drawn.
    changed = (asked.results[down] != asked.results[up]) | (asked.flags[down] != asked.flags[up])
    assert changed[both].all()
    assert np.mean(asked.results[down][both] != asked.results[up][both]) > 0.99


# --- the same everywhere --------------------------------------------------------------------------------------------

PINNED = {
    ("multiply", "rf8", ()): "84e575a3f3b6facc7f699a80e6a3a5a41b4ddf7c56ea00e1e4298503be1c822e",
    ("encode", "rf8", (("seed", 3),)): "8dc559080cadc479126baf499bb7c9dc9b362eceb45704f77aebca1ae443b6ec",
    (
        "encode",
        "e4m3fn",
        (("source", "fixed:10.20"), ("rounding", "up")),
    ): "2c1e8928611837b7fcdbd143516c74389c7401becb8f2b8f86d8c426e06c4e87",
    ("fma", "e5m2", (("n", 1000),)): "dc509c2583f044fc0224733032b4404f43f274df78ac2918f4e938845d85ec76",
    ("dot:4", "rf8", (("seed", 2**64 - 1),)): "31994a254d503cf41d47d15211222d475f752317f5d140e19e464d126bff81ce",
    ("accumulate", "rf8", ()): "1f2b762ab7773d0663e1b0860cc05fb39e0d91a3a016b9c8c9d214b02dff61af",
    (
        "multiply",
        "rf8",
        (("rounding", rf8sim.Rounding("stochastic", bits=16)), ("n", 1000)),
    ): "1ab9ab442c568328e677779b17c4e3e40aa1c88bee8f9be804ac0e680467d7b1",
    ("decode", "posit8_es1", ()): "766080084539def696997cab8488e7c421d80bbbd87960b41831c64222bae1a0",
}
"""SHA-256 of TestFloat lines: another machine, another version of numpy, another run must give these bytes."""


@pytest.mark.parametrize("key", PINNED, ids=lambda key: f"{key[0]}-{key[1]}")
def test_bytes_are_those_of_every_machine(key):
    operation, fmt, options = key
    digest = hashlib.sha256(b"".join(vectors(operation, fmt, **dict(options)).text())).hexdigest()
    assert digest == PINNED[key]


def test_pieces_do_not_matter():
    for operation, options in (("encode", {}), ("accumulate", {}), ("dot:3", {}), ("encode", {"fmt": "int8"})):
        asked = vectors(operation, n=5000, **options)
        for size in (997, 4096):
            blocks = list(asked.blocks(size))
            assert max(len(block.operands[0]) for block in blocks) <= size
            sizes = [len(block.operands[0]) for block in blocks]
            assert [block.start for block in blocks] == np.cumsum([0, *sizes])[:-1].tolist()
            for place, whole in enumerate(asked.operands):
                np.testing.assert_array_equal(np.concatenate([block.operands[place] for block in blocks]), whole)
            np.testing.assert_array_equal(np.concatenate([block.answers.results for block in blocks]), asked.results)


def test_seed_level_and_count():
    one, other = (vectors("encode", "rf8", seed=seed) for seed in (0, 1))
    structured = len(one) - one.random
    np.testing.assert_array_equal(one.operands[0][:structured], other.operands[0][:structured])
    assert np.mean(one.operands[0][structured:] == other.operands[0][structured:]) < 0.01
    assert len(vectors("encode", "rf8", n=7)) == structured + 7
    fewer = vectors("encode", "rf8", n=5000).operands[0]
    np.testing.assert_array_equal(fewer, one.operands[0][: structured + 5000])
    assert len(vectors("encode", "rf8", level=2)) > 1 << 20
    assert len(vectors("multiply", "rf8", n=10)) == 65546
    assert len(vectors("multiply", "rf8")) == 65536


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("encode", {"n": 40}), ("multiply", {"n": 40}), ("fma", {"fmt": "rf6", "n": 40}),
        ("divide", {"fmt": "int8", "n": 200}),
        ("dot:2", {"n": 40}), ("accumulate", {"n": 40}), ("add", {"rounding": "stochastic", "n": 9}),
    ],
)  # fmt: skip
def test_any_piece_of_a_set(operation, options):
    asked = vectors(operation, **{"fmt": "rf8", **options})
    size, structured = len(asked), len(asked) - asked.random
    for start, stop in ((0, 3), (structured - 2, structured + 3), (structured + 1, size + 9), (size, size + 1), (5, 5)):
        for piece, whole in zip(asked.operands_between(start, stop), asked.operands, strict=True):
            np.testing.assert_array_equal(piece, whole[start:stop])


# --- where faults live ----------------------------------------------------------------------------------------------


def missed(asked):
    coverage = Coverage(asked.model)
    for block in asked.blocks():
        coverage.add(block.operands, block.answers)
    return {f"{group.port} {group.aspect}": group.missed for group in coverage.groups() if group.missed}


@pytest.mark.parametrize("n", [0, None])
def test_structured_classes_leave_nothing_out(n):
    """Without a single random vector, every code, exponent, tie, overflow and special is there."""
    for fmt in ("rf8", "e4m3fn", "e5m2"):
        assert missed(vectors("encode", fmt, n=n)) == {"result rounding outcomes": ["invalid"]}
        assert missed(vectors("encode", fmt, source="fixed:20.20", n=n)).keys() <= {
            "result rounding outcomes", "result kinds", "result codes",
        }  # fmt: skip
    # RF8 has no infinity: nothing is invalid, and no vector can hit that bin. A sum of products of three can underflow.
    assert missed(vectors("fma", "rf8", n=n)) == {}
    left = missed(vectors("dot:4", "rf8", n=n))
    assert left.get("a codes", []) == []
    assert left.keys() <= {"result codes"}


def test_thresholds_hold_every_boundary_and_its_neighbours():
    """For each pair of neighbouring values, the midpoint and one float32 to either side are asked, with both signs."""
    asked = vectors("encode", "rf8", n=0)
    patterns = set(asked.operands[0].tolist())
    values = np.sort(get_format("rf8").sides[0].magnitudes)
    for middle in (values[1:] + values[:-1]) / 2:
        at = int(np.float32(middle).view(np.uint32))
        assert np.float32(middle) == middle
        assert {at - 1, at, at + 1, at | 1 << 31} <= patterns
    for value in values[1:]:
        at = int(np.float32(value).view(np.uint32))
        assert {at - 1, at, at + 1} <= patterns
    # The irrational boundary of the residual mode between 1 and 1.0625.
    boundary = np.float32(1 + math.sqrt(2) / 32)
    assert {int(boundary.view(np.uint32)) + step for step in (-1, 0, 1)} & patterns


def test_ties_of_fma_are_ties():
    asked = vectors("fma", "rf8", n=0)
    first = sum(size for name, size in list(asked.classes.items())[: list(asked.classes).index("ties")])
    stop = first + asked.classes["ties"]
    exact, _ = asked.model.exact(asked.model.read([operand[first:stop] for operand in asked.operands]))
    ties = asked.model.round(exact).ties
    assert np.mean(ties) > 0.2
    sums = set(get_format("rf8").sides[0].codes.tolist()) - set(asked.operands[2][first:stop][ties].tolist())
    assert len(sums) < 40  # nearly every code has a sum halfway to the next


# --- forms ----------------------------------------------------------------------------------------------------------


def test_fields_and_back():
    for name, lanes in (
        ("rf8", 1),
        ("rf6", 1),
        ("rf6", 3),
        ("rf8", 5),
        ("float32", 1),
        ("fixed:3.38", 1),
        ("e2m1fn", 4),
    ):
        port = Port("x", get_kind(name), lanes)
        rng = np.random.default_rng(0)
        shape = (200, lanes) if lanes > 1 else (200,)
        wide = rng.integers(0, 1 << port.kind.bits, shape, dtype=np.uint64)
        patterns = wide.astype(f"u{1 if port.kind.bits <= 8 else 4 if port.kind.bits <= 32 else 8}")
        digits = to_digits(port, patterns)
        assert digits.shape == (200, port.digits)
        for row, text in zip(np.atleast_2d(wide.T).T, digits, strict=True):
            whole = sum(int(lane) << (port.kind.bits * place) for place, lane in enumerate(row))
            assert int("".join(f"{digit:x}" for digit in text), 16) == whole
        back, beyond = from_digits(port, digits)
        np.testing.assert_array_equal(back, patterns)
        assert not beyond.any()
        if port.bits % 4:
            assert from_digits(port, np.full((1, port.digits), 15, np.uint8))[1].all()


def readmemh(text):
    """What ``$readmemh`` loads: comments are white space, underscores are nothing, words are hexadecimal."""
    return [int(word.replace("_", ""), 16) for word in re.sub(r"//[^\n]*", " ", text).split()]


def test_files_of_every_form(tmp_path):
    asked = vectors("dot:2", "rf6", n=20)
    a, b = (operand[:, 0] | operand[:, 1].astype(int) << 6 for operand in asked.operands)
    rows = np.stack([a, b, asked.results, asked.flags], axis=1).tolist()
    for form in FORMS:
        name = {"testfloat": "v.txt"}.get(form, f"v.{form}")
        files = asked.write(tmp_path / form / name)
        manifest = json.loads(files[-1].read_text())
        assert manifest["operation"] == "dot:2"
        assert manifest["vectors"] == len(asked) == sum(manifest["classes"].values())
        assert manifest["form"] == form
        for file in files[:-1]:
            assert manifest["sha256"][file.name] == hashlib.sha256(file.read_bytes()).hexdigest()
        text = files[0].read_text()
        if form == "testfloat":
            assert [[int(word, 16) for word in line.split()] for line in text.splitlines()] == rows
            assert re.fullmatch(r"([0-9A-F]{3} [0-9A-F]{3} [0-9A-F]{2} [0-9A-F]{2}\n)+", text)
        if form == "csv":
            head, *lines = text.splitlines()
            assert head == "a,b,result,flags"
            assert [[int(word, 16) for word in line.split(",")] for line in lines] == rows
        if form == "json":
            data = json.loads(text)
            assert data["columns"] == ["a", "b", "result", "flags"]
            assert [[int(word, 16) for word in row] for row in data["vectors"]] == rows
            assert data["manifest"]["seed"] == 0
        if form == "tv":
            assert readmemh(text) == [a << 28 | b << 16 | r << 8 | f for a, b, r, f in rows]
            body = "".join(line + "\n" for line in text.splitlines() if not line.startswith("//"))
            assert text.splitlines()[-1].endswith(hashlib.sha256(body.encode()).hexdigest())
        if form == "mem":
            assert [file.name for file in files] == ["v.in.mem", "v.out.mem", "v.mem.manifest.json"]
            assert readmemh(text) == [a << 12 | b for a, b, _, _ in rows]
            assert readmemh(files[1].read_text()) == [r << 8 | f for _, _, r, f in rows]
    without = b"".join(asked.text(flags=False)).decode()
    assert all(len(line.split()) == 3 for line in without.splitlines())


@pytest.mark.hardware
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_a_simulator_loads_the_files(tmp_path):
    asked = vectors("multiply", "rf8")
    asked.write(tmp_path / "mul.tv")
    asked.write(tmp_path / "mul.mem", flags=False)
    (tmp_path / "t.sv").write_text("""module t;
  reg [31:0] all [0:65535]; reg [15:0] in [0:65535]; reg [7:0] out [0:65535]; integer i, bad = 0;
  initial begin
    $readmemh("mul.tv", all); $readmemh("mul.in.mem", in); $readmemh("mul.out.mem", out);
    for (i = 0; i < 65536; i = i + 1) if (all[i][31:8] !== {in[i], out[i]} || in[i] !== i) bad = bad + 1;
    $display("bad %0d last %h", bad, all[65535]);
  end
endmodule
""")
    subprocess.run(["iverilog", "-g2012", "-o", "t", "t.sv"], cwd=tmp_path, check=True)
    run = subprocess.run(["vvp", "t"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "bad 0 last ffff7f05" in run.stdout
    assert "WARNING" not in run.stdout + run.stderr


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "options", "message"),
    [
        ("multipl", {}, "unknown operation 'multipl'"),
        ("dot", {}, "write dot:n"),
        ("dot:0", {}, "n from 1 to 1024"),
        ("multiply:2", {}, "write dot:n"),
        ("encode", {"source": "rf8"}, "encode is given numbers"),
        ("encode", {"source": "fixed:3"}, "fixed:I.F"),
        ("encode", {"source": "fixed:40.40"}, "1 to 64 together"),
        (
            "encode",
            {"fmt": ("rf8", "int8")},
            "`fmt` has 2 formats, and the operands of encode are x, which are numbers",
        ),
        (
            "multiply",
            {"fmt": ("rf8", "rf8", "int8")},
            "`fmt` has 3 formats, and the operands of multiply are a, b: give one",
        ),
        ("fma", {"fmt": ("rf8", "rf8")}, "`fmt` has 2 formats, and the operands of fma are a, b, c: give one"),
        ("multiply", {"rounding": rf8sim.Rounding("stochastic", seed=1)}, "leave out seed, offset and words"),
        ("multiply", {"rounding": rf8sim.Rounding(bits=8)}, "`bits` changes nothing: only stochastic"),
        ("multiply", {"result": "fixed:2.20"}, "choose more bits"),
        ("dot:2", {"result": "fixed:20.30"}, "give it more bits"),
        ("divide", {"result": "fixed:2.20"}, "the result of divide is a code"),
        (
            "multiply",
            {"result": "fixed:3.38", "rounding": "up"},
            "`rounding` changes nothing: a result in fixed",
        ),
        ("decode", {"fmt": "e8m0fnu", "result": "float16"}, "is not a float16 number"),
        ("multiply", {"rounding": "residual", "fmt": "int8"}, "RF family only"),
        ("multiply", {"level": 3}, "`level` must be 1 or 2"),
        ("multiply", {"seed": -1}, "`seed` must be from 0"),
        ("multiply", {"n": -1}, "must not be negative"),
    ],
)
def test_refusals(operation, options, message):
    options = {"fmt": "rf8", **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        len(vectors(operation, **options).results)


def test_the_suffix_says_the_form(tmp_path):
    asked = vectors("decode", "rf8")
    for name, form in (
        ("a.txt", "testfloat"),
        ("a", "testfloat"),
        ("a.tv", "tv"),
        ("a.csv", "csv"),
        ("a.json", "json"),
    ):
        files = asked.write(tmp_path / name)
        assert [file.name for file in files] == [name, f"{name}.manifest.json"]
        assert files[0].read_bytes() == b"".join(asked.text(form))
    for name in ("b.hex", "b.v2", "b.CSV"):
        with pytest.raises(ValueError, match=r"the suffix \.\w+ is none of \.txt, \.tv, \.mem, \.csv, \.json: choose"):
            asked.write(tmp_path / name)
        assert not (tmp_path / name).exists()
    assert asked.write(tmp_path / "b.hex", "tv")[0].read_bytes() == b"".join(asked.text("tv"))


def test_each_file_has_its_own_manifest(tmp_path):
    """Whatever the names and the order, what is said of a file is true of it."""
    for seed, name in enumerate(["x.tv", "x.csv", "x.json", "x.mem", "x.txt", "x"]):
        vectors("encode", "rf6", n=5, seed=seed).write(tmp_path / name)
    manifests = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.manifest.json")}
    assert len(manifests) == 6
    for seed, name in enumerate(["x.tv", "x.csv", "x.json", "x.mem", "x.txt", "x"]):
        manifest = manifests[f"{name}.manifest.json"]
        assert manifest["seed"] == seed
        for file, digest in manifest["sha256"].items():
            assert digest == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()


def test_unknown_form(tmp_path):
    with pytest.raises(ValueError, match="unknown form 'vcd'"):
        vectors("multiply").write(tmp_path / "x", "vcd")
    assert list(tmp_path.iterdir()) == []


def test_kinds():
    with pytest.raises(ValueError, match=r"fixed:I\.F"):
        get_kind("fixed:a.b")
    assert golden("encode", "rf8", source="ufixed:1.63").operands[0].bits == 64
    kind = get_kind("ufixed:1.63")
    top = np.array([2**64 - 1, 2**63 + 1, 2**63], np.uint64)
    # More than 53 bits: cut off, the last bit of what is kept set.
    assert kind.values(top)[2] == 1.0
    assert 1.0 < kind.values(top)[1] < 1.0 + 2**-50
    assert 2 - 2**-50 < kind.values(top)[0] < 2.0
