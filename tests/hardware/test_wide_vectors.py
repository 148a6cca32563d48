"""Vectors of operands of 9 to 16 bits: right by the oracle and by IEEE arithmetic, and where faults live."""

import hashlib
import math
from itertools import product

import ml_dtypes
import numpy as np
import pytest
from oracle_helpers import modes, overflows

import rf8sim
from rf8sim import Rounding, reference
from rf8sim.arithmetic.operations import OPERATIONS
from rf8sim.formats import get_format
from rf8sim.hardware.golden.golden import golden
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.coverage import Coverage

FORMATS = (
    "float16",
    "bfloat16",
    "int(12)",
    "posit16_es1",
    "minifloat(4,5)",
    ("bfloat16", "e4m3fn"),
    ("rf8", "float16"),
)
OTHERS = ("dlfloat16", "uint16", "posit16_es2", "takum16", "takum_linear16", "binary16p11se", ("e4m3fn", "bfloat16"),
          ("int16", "float16"))  # fmt: skip
SLOW = [pytest.param(fmt, marks=pytest.mark.slow) for fmt in OTHERS]


def some_of_each_class(asked, count):
    """Places of vectors: so many of each class, the first and the last among them."""
    places, start = [], 0
    for size in asked.classes.values():
        places += (start + np.linspace(0, size - 1, min(count, size)).astype(int)).tolist()
        start += size
    return places


def exact(operation, mode, numbers):
    """The exact result, by the oracle."""
    x, y = numbers[:2]
    match operation:
        case "add":
            return reference.add(x, y, mode)
        case "subtract":
            return reference.add(x, -y, mode)
        case "multiply":
            return reference.multiply(x, y)
        case "divide":
            return reference.divide(x, y)
    return reference.add(reference.multiply(x, y), numbers[2], mode)


def check_rows(asked, operation, rounding, count, word=False):
    kinds = [port.kind for port in asked.model.operands][: 3 if operation == "fma" else 2]
    into = asked.model.into
    for row in some_of_each_class(asked, count):
        numbers = [kind.number(int(column[row])) for kind, column in zip(kinds, asked.operands, strict=False)]
        result = exact(operation, rounding.mode, numbers)
        nans = any(isinstance(x, float) and math.isnan(x) for x in numbers)
        invalid = isinstance(result, float) and math.isnan(result) and not nans
        by_zero = False
        if operation == "divide" and not nans and numbers[1] == 0 and numbers[0] != 0 and abs(numbers[0]) != math.inf:
            by_zero, invalid = True, False
            result = result if into.divides_by_zero else math.nan
        where = (operation, rounding.mode, [hex(int(column[row])) for column in asked.operands], asked.class_of(row))
        if word:
            options = {"word": int(asked.operands[-1][row]), "random_bits": rounding.bits}
            wanted = reference.round_value(result, into, "stochastic", rounding.overflow, **options)
            assert asked.results[row] == wanted, where
            continue
        code, flags = reference.round_with_flags(result, into, rounding.mode, rounding.overflow)
        assert (asked.results[row], asked.flags[row]) == (code, flags | 16 * invalid | 8 * by_zero), where


@pytest.mark.parametrize("fmt", [*FORMATS, *SLOW], ids=str)
@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_two_wide_operands_are_the_oracle(operation, fmt):
    """Some of every class, in every mode and option of overflow."""
    form = get_format(fmt[0] if isinstance(fmt, tuple) else fmt)
    choices = [*product(modes(form), ["saturate"]), *product(["nearest-even", "up"], overflows(form)[1:])]
    for mode, overflow in choices:
        asked = vectors(operation, fmt, rounding=Rounding(mode, overflow), n=500)
        check_rows(asked, operation, Rounding(mode, overflow), 5)


@pytest.mark.parametrize(
    "fmt",
    ["float16", "bfloat16", "posit16_es1", "int(12)", ("e4m3fn", "e4m3fn", "float16"), ("float16", "rf8", "bfloat16")],
    ids=str,
)  # fmt: skip
def test_fused_wide_operands_are_the_oracle(fmt):
    for mode in ("nearest-even", "nearest-away", "toward-zero", "down", "up", "to-odd"):
        asked = vectors("fma", fmt, rounding=mode, n=500)
        check_rows(asked, "fma", Rounding(mode), 6)


@pytest.mark.parametrize("operation", ["add", "multiply", "divide", "fma"])
@pytest.mark.parametrize("fmt", ["float16", "bfloat16", "posit16_es1", "int(12)"])
def test_stochastic_wide_operands_are_the_oracle(fmt, operation):
    """With words of 32 bits, which need all that the exact results hold."""
    rounding = Rounding("stochastic", bits=32)
    asked = vectors(operation, fmt, rounding=rounding, n=500)
    assert "ties, first word up" in asked.classes or fmt == "int(12)" or operation == "divide"
    check_rows(asked, operation, rounding, 8, word=True)


@pytest.mark.parametrize("operation", ["add", "multiply", "divide"])
def test_results_of_24_digits_are_drawn(operation):
    asked = vectors(operation, "takum16", rounding=Rounding("stochastic", bits=32), n=500)
    check_rows(asked, operation, Rounding("stochastic", bits=32), 8, word=True)


def test_a_stochastic_quotient_of_8_bits_needs_more_than_39_bits():
    """160 / 1.5 lies two thirds of the way from 106 to 107: the 32nd bit of the fraction decides."""
    model = golden("divide", ("e5m2", "e5m2"), result="int8", rounding=Rounding("stochastic", bits=32))
    a, b = (rf8sim.encode([x], "e5m2") for x in (160.0, 1.5))
    first = 2**32 - (2 * 2**32) // 3
    for word, quotient in ((first, 107), (first - 1, 106)):
        answers, _ = model.compute([a, b, np.array([word], np.uint32)])
        assert rf8sim.decode(answers.results, "int8")[0] == quotient


def test_quotients_are_rounded_to_odd():
    a, b = np.array([1.0, -1.0, 6.0, 0.0, -0.0]), np.array([3.0, 3.0, -2.0, 5.0, 5.0])
    got = OPERATIONS["divide"].exact(a, b)
    third = np.float64(1 / 3)
    assert (third.view(np.int64) & 1) == 1
    assert got.tolist() == [third, -third, -3.0, 0.0, 0.0]
    assert np.signbit(got).tolist() == [False, True, True, False, True]


@pytest.mark.parametrize(("fmt", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_nearest_even_is_ieee_arithmetic(fmt, dtype, operation):
    """All vectors, against numpy's float16 and ml_dtypes' bfloat16, whose operations go through float32: see below.

    A float32 has 24 digits, at least twice 11 and two more: rounding to it first changes no result that is normal.
    """
    asked = vectors(operation, fmt, rounding=Rounding(overflow="ieee"))
    a, b = (column.view(dtype) for column in asked.operands)
    function = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}[operation]
    with np.errstate(all="ignore"):
        peer = function(a, b)
    got = asked.results.view(dtype)
    nan = np.isnan(peer)
    assert np.array_equal(nan, np.isnan(got))
    same = nan | (peer.view(np.uint16) == asked.results)
    subnormal = np.abs(peer.astype(np.float64)) <= get_format(fmt).subnormals_below
    assert same[~subnormal].all()
    # Two roundings may differ among subnormal products and quotients of bfloat16, whose float32 is subnormal too.
    assert same.all() or (fmt == "bfloat16" and operation in ("multiply", "divide") and np.mean(same) > 0.99)


@pytest.mark.parametrize("fmt", ["float16", "bfloat16", ("bfloat16", "e4m3fn"), ("rf8", "float16"), "posit16_es1"])
def test_sums_of_wide_products_are_exact(fmt):
    first, second = (get_format(name) for name in (fmt if isinstance(fmt, tuple) else (fmt, fmt)))
    for mode in ("nearest-even", "up"):
        asked = vectors("dot:3", fmt, n=300, rounding=mode)
        for row in some_of_each_class(asked, 12):
            held = 0.0
            for x, y in zip(*(column[row].tolist() for column in asked.operands), strict=True):
                held = reference.add(held, reference.multiply(reference.number(x, first), reference.number(y, second)))
            assert asked.results[row] == reference.round_with_flags(held, first, mode)[0], (row, mode)
    asked = vectors("accumulate", fmt, n=300)
    chosen = set(some_of_each_class(asked, 40))
    held = 0.0
    for row, (starts, x, y) in enumerate(zip(*(column.tolist() for column in asked.operands), strict=True)):
        one = reference.multiply(reference.number(x, first), reference.number(y, second))
        held = reference.add(0.0 if starts else held, one)
        if row in chosen:
            assert asked.results[row] == reference.round_with_flags(held, first, "nearest-even")[0], row


def test_products_of_integers_in_fixed_point():
    asked = vectors("multiply", "int16", result="fixed:32.0")
    a, b = (column.view(np.int16).astype(np.int64) for column in asked.operands)
    np.testing.assert_array_equal(asked.results.view(np.int32).astype(np.int64), a * b)
    assert asked.model.result.bits == 32


@pytest.mark.parametrize("fmt", ["float16", "bfloat16", "int(12)", "posit16_es2", "takum16"])
def test_encode_and_decode_of_wide_formats(fmt):
    form = get_format(fmt)
    if form.fits_float32:
        asked = vectors("decode", fmt)
        assert len(asked) == 1 << form.bits
        np.testing.assert_array_equal(asked.results.view(np.float32), form.values.astype(np.float32))
    for source, mode in (("float32", "nearest-even"), ("float32", "up"), ("fixed:9.20", "nearest-away")):
        asked = vectors("encode", fmt, source=source, rounding=mode, n=200)
        kind = asked.model.operands[0].kind
        for row in some_of_each_class(asked, 25):
            x = kind.number(int(asked.operands[0][row]))
            assert (asked.results[row], asked.flags[row]) == reference.round_with_flags(x, form, mode)


# --- where faults live ----------------------------------------------------------------------------------------------


def rows_of(asked, name):
    start = 0
    for each, size in asked.classes.items():
        if each == name:
            return [column[start : start + size] for column in asked.operands]
        start += size
    raise KeyError(name)


@pytest.mark.parametrize("fmt", ["float16", "bfloat16"])
@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide", "fma"])
def test_structured_classes_of_wide_operands_leave_nothing_out(operation, fmt):
    """Without a random vector: every exponent, special, kind and rounding outcome of operands and result."""
    asked = vectors(operation, fmt, n=0)
    coverage = Coverage(asked.model)
    for block in asked.blocks():
        coverage.add(block.operands, block.answers)
    missed = {f"{group.port} {group.aspect}": group.missed for group in coverage.groups() if group.missed}
    # A sum of floats is exact where it is subnormal.
    exact = {"result rounding outcomes": ["underflow"]} if operation in ("add", "subtract") else {}
    assert missed == exact


def test_every_distance_of_exponents_is_asked():
    for fmt, low, high in (("float16", -24, 15), ("bfloat16", -133, 127)):
        a, b = rows_of(vectors("add", fmt, n=0), "alignments")
        values = get_format(fmt).values
        distance = np.frexp(values[a])[1] - np.frexp(values[b])[1]
        opposite = np.signbit(values[a]) != np.signbit(values[b])
        for signs in (opposite, ~opposite):
            assert set(distance[signs].tolist()) == set(range(low - high, high - low + 1))


def test_ties_are_ties_and_near_ties_are_not():
    for operation in ("add", "subtract", "multiply", "fma"):
        asked = vectors(operation, "float16", n=0)
        for name, share in (("ties", 1.0), ("near ties", 0.5)):
            operands = rows_of(asked, name)
            ties = asked.model.compute(operands)[0].ties
            assert ties.size > 1000
            assert np.mean(ties) == share if name == "ties" else np.mean(ties) < share
    a, b = rows_of(vectors("add", "bfloat16", n=0), "ties")
    values = get_format("bfloat16").values
    octaves = np.unique(np.frexp(values[a] + values[b])[1])
    assert octaves.size > 240  # of 254 exponents


def test_sums_that_cancel_and_those_beside():
    asked = vectors("subtract", "float16", n=0)
    a, b = rows_of(asked, "cancellation")
    values = get_format("float16").values
    assert np.count_nonzero(values[a] == values[b]) > 4000
    assert np.count_nonzero(values[a] > values[b]) > 4000
    assert np.count_nonzero(values[a] < values[b]) > 4000


def test_overflow_and_underflow_lie_at_the_boundary():
    for operation in ("add", "multiply", "divide", "fma"):
        asked = vectors(operation, "float16", rounding=Rounding(overflow="infinity"), n=0)
        answers = asked.model.compute(rows_of(asked, "overflow"))[0]
        finite = np.abs(get_format("float16").values[answers.results]) >= 65472
        assert np.mean(answers.flags & 4 != 0) > 0.05
        assert np.mean(finite & (answers.flags & 4 == 0)) > 0.05
    for operation in ("multiply", "divide", "fma"):
        asked = vectors(operation, "float16", n=0)
        answers = asked.model.compute(rows_of(asked, "underflow"))[0]
        assert np.mean(answers.flags & 2 != 0) > 0.1


def test_random_vectors_are_uniform_patterns():
    asked = vectors("multiply", "bfloat16", n=1 << 14, seed=3)
    for column in rows_of(asked, "random"):
        counts = np.bincount(column >> 8, minlength=256)
        assert counts.min() > 30
        assert counts.max() < 110
    other = vectors("multiply", "bfloat16", n=1 << 14, seed=4)
    assert np.mean(rows_of(asked, "random")[0] == rows_of(other, "random")[0]) < 0.01
    for start, stop in ((0, 3), (len(asked) - 5, len(asked))):
        for piece, whole in zip(asked.operands_between(start, stop), asked.operands, strict=True):
            np.testing.assert_array_equal(piece, whole[start:stop])


def test_level_2_asks_more():
    first, second = (vectors("multiply", "float16", level=level, n=0) for level in (1, 2))
    assert len(second) > 4 * len(first)
    assert set(first.classes) == set(second.classes)


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "options", "message"),
    [
        ("add", {"fmt": "bfloat16", "result": "float64"}, "have up to 262 digits here, and 53 are computed"),
        ("multiply", {"fmt": "float16", "result": "float32", "level": 3}, "`level` must be 1 or 2"),
        ("divide", {"fmt": "float16", "result": "float64"}, "the result of divide is rounded, and not to float64"),
    ],
)
def test_what_is_not_decided_is_refused(operation, options, message):
    with pytest.raises(ValueError, match=message):
        vectors(operation, **options)


def test_float16_is_a_format_where_results_are_rounded():
    asked = vectors("divide", "e4m3fn", result="float16", rounding="up")
    model = asked.model
    assert model.into == get_format("float16")
    a, b = (reference.number(code, get_format("e4m3fn")) for code in (0x38, 0x3C))
    code, flags = reference.round_with_flags(reference.divide(a, b), model.into, "up")
    assert (asked.results[0x383C], asked.flags[0x383C]) == (code, flags)
    assert vectors("decode", "e4m3fn", result="float16").model.into is None


PINNED = {
    ("multiply", "float16"): "abf8d5a7437e06cddf601b381415ce8012510e9cb8ea1bae4f1409ce9f136381",
    ("add", "bfloat16"): "8099c95a574cd483029302ed72f760f66eeb03407abb7c1e7c876a0042977644",
    ("divide", ("bfloat16", "e4m3fn")): "2ba80d0443b0d4789b0c58c63a6a56c6cbe7c913c42f4ee2ba126f3e5cb2ec89",
    ("fma", "bfloat16"): "693d39cc27f3b74ba59264641c1b78ac4c74b9f802b6317c0e87be51dfae6460",
    ("dot:4", "float16"): "683a682f17d6ff1601baa238a21ae96858b241404ecf0412e61ec8a602749e3f",
    ("accumulate", "bfloat16"): "12e0d8c766cb63bd4537e5712a5996bd40d413ea5ef5cf81be79602d2bbe846f",
}
"""SHA-256 of TestFloat lines with 1,000 random vectors."""


@pytest.mark.parametrize("key", PINNED, ids=str)
def test_bytes_are_those_of_every_machine(key):
    operation, fmt = key
    assert hashlib.sha256(b"".join(vectors(operation, fmt, n=1000).text())).hexdigest() == PINNED[key]
