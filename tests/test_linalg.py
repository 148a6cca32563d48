"""Matrix products against Fractions: every accumulator, order and mode; NaN, infinities; shapes; scales; threads."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import linalg_oracle as oracle
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loops import looped

import rf8sim
from rf8sim import reference
from rf8sim.arithmetic import linalg, products
from rf8sim.arithmetic.operands import get_operand, nibble_tables

MODES = ("nearest-even", "nearest-away", "toward-zero", "up", "down", "to-odd", "stochastic")
ORDERS = ("sequential", "pairwise", "blocked:3", "blocked:100")
FLOATS = tuple(oracle.FLOATS)
FORMATS = ("rf8", "e5m2", "e4m3fn", "int8", "posit8_es2", "lns8")
PAIRS = (
    ("rf8", "rf8"), ("rf8", "int8"), ("e4m3", "e4m3fn"), ("e5m2", "e5m2"), ("posit8_es2", "posit8_es2"),
    ("lns8", "nf8"), ("e8m0fnu", "e8m0fnu"), ("rf8", "float32"), ("e8m0fnu", "float32"),
)  # fmt: skip


def draw(rng: np.random.Generator, fmt: str, shape: tuple[int, ...], finite: bool) -> np.ndarray:
    """Random codes of a format (numbers for float32), of all magnitudes; a few NaN and infinities unless finite."""
    if fmt == "float32":
        numbers = rng.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32)
        usual = (rng.normal(size=shape) * 2.0 ** rng.integers(-12, 12, shape)).astype(np.float32)
        numbers = np.where(rng.random(shape) < 0.2, numbers, usual)
        return np.where(np.isfinite(numbers), numbers, np.float32(1)) if finite else numbers
    values = rf8sim.get_format(fmt).values
    kind = rf8sim.get_format(fmt).code_dtype
    codes = rng.integers(0, values.size, shape).astype(kind)
    ordinary = np.flatnonzero(np.isfinite(values)).astype(kind)
    swap = ~np.isfinite(values[codes]) & (finite | (rng.random(shape) < 0.7))
    return np.where(swap, ordinary[rng.integers(0, ordinary.size, shape)], codes)


def numbers(x: np.ndarray, fmt: str) -> np.ndarray:
    return x.astype(np.float64) if fmt == "float32" else rf8sim.decode(x, fmt, dtype=np.float64)


def unit(fmt_a: str, fmt_b: str) -> Fraction:
    tables = [rf8sim.get_format(fmt).values for fmt in (fmt_a, fmt_b)]
    return oracle.unit_of(tables[0]) * oracle.unit_of(tables[1])


def check(fmt_a: str, fmt_b: str, accumulator: str, order: str, mode: str, *, seed: int = 0, finite: bool = True,
          shape: tuple[int, int, int] = (3, 13, 5), overflow: str = "saturate") -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    rows, depth, columns = shape
    a, b = draw(rng, fmt_a, (rows, depth), finite), draw(rng, fmt_b, (depth, columns), finite)
    got = rf8sim.matmul(
        a,
        b,
        (fmt_a, fmt_b),
        accumulator=rf8sim.Accumulation(accumulator, order=order, rounding=rf8sim.Rounding(mode, overflow, seed=seed)),
    )
    step = unit(fmt_a, fmt_b) if accumulator.startswith("int:") else Fraction(1)
    with np.errstate(invalid="ignore"):
        expected = oracle.matmul(numbers(a, fmt_a), numbers(b, fmt_b), accumulator, order, mode, overflow, step, seed)
    oracle.same(got, expected, f"{fmt_a} x {fmt_b}, {accumulator}, {order}, {mode}, seed {seed}")


# ---------------------------------------------------------------- every accumulator against Fractions


@looped("mode", MODES)
@looped("order", ORDERS)
@pytest.mark.parametrize("accumulator", FLOATS)
def test_floats(accumulator, order, mode):
    for (fmt_a, fmt_b), finite in itertools.product(PAIRS, (True, False)):
        check(fmt_a, fmt_b, accumulator, order, mode, finite=finite)


@pytest.mark.parametrize("order", ORDERS)
@looped(("accumulator", "mode"), [*itertools.product(FORMATS, MODES), ("rf8", "residual"), ("rf6", "residual")])
def test_formats(accumulator, mode, order):
    for fmt_a, fmt_b in PAIRS[:6]:
        for finite in (True, False):
            if finite or rf8sim.get_format(accumulator).nan is not None:
                check(fmt_a, fmt_b, accumulator, order, mode, finite=finite, seed=1)


@looped("fmt", rf8sim.format_names())
def test_every_format_as_accumulator_of_itself(fmt):
    for order in ("sequential", "blocked:4"):
        check(fmt, fmt, fmt, order, "nearest-even", finite=True, seed=2)


def certainty(monkeypatch):
    """What the kernel of blocks says of each of its calls from here on."""
    certain, kernel = [], products._kernels.accumulate_blocks

    def recorded(*arguments):
        certain.append(kernel(*arguments))
        return certain[-1]

    monkeypatch.setattr(products._kernels, "accumulate_blocks", recorded)
    return certain


@pytest.mark.parametrize(("accumulator", "mode"), [
    *itertools.product(("float32", "e8m13"), MODES), ("float16", "nearest-even"), ("e4m3", "stochastic"),
])  # fmt: skip
def test_blocks_of_products_of_many_bits(accumulator, mode, monkeypatch):
    """Their sums are no integers of float64: errors of sums are summed beside them, if these have no error."""
    certain = certainty(monkeypatch)
    for fmt_a, fmt_b in (("float16", "float16"), ("bfloat16", "float16")):
        for order in ("blocked:3", "blocked:4"):
            check(fmt_a, fmt_b, accumulator, order, mode, finite=True)
    assert any(certain)


@pytest.mark.parametrize("order", ["sequential", "blocked:3", "pairwise"])
def test_a_signalling_nan_is_a_nan(order):
    x = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0]], np.float32)
    x.view(np.uint32)[0, 1] = 0x7F800001
    codes = rf8sim.encode(np.ones((3, 2)), "rf8")
    got = rf8sim.matmul(x, codes, ("float32", "rf8"), accumulator=rf8sim.Accumulation("float32", order=order))
    assert np.array_equal(got, [[np.nan, np.nan], [6.0, 6.0]], equal_nan=True)


FAR_APART = {
    "errors of errors": ([2.0**100, 2.0**40, -(2.0**-20), 2.0**-80, -(2.0**100), 2.0**-90, -(2.0**40), 1.0], False),
    "above a tie": ([1.0, 2.0**-24, 2.0**-70, 0.0, 0.0, 0.0, 0.0, 0.0], True),
    "below a tie": ([1.0, 2.0**-24, -(2.0**-70), 0.0, 0.0, 0.0, 0.0, 0.0], True),
    "below a number": ([1.0, -(2.0**-70), 0.0, 0.0, 0.0, 0.0, -1.0, 2.0**-80], True),
}


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "stochastic"])
@pytest.mark.parametrize("case", FAR_APART)
def test_blocks_of_products_far_apart(case, mode, monkeypatch):
    """What is left of a sum decides; where it has an error itself, the long accumulator does."""
    certain, (terms, is_certain) = certainty(monkeypatch), FAR_APART[case]
    a = rf8sim.encode(np.array([terms, np.negative(terms)]), "bfloat16")
    b = rf8sim.encode(np.ones((8, 3)), "bfloat16")
    chosen = rf8sim.Accumulation("float32", order="blocked:6", rounding=mode)
    got = rf8sim.matmul(a, b, "bfloat16", accumulator=chosen)
    x, y = numbers(a, "bfloat16"), numbers(b, "bfloat16")
    oracle.same(got, oracle.matmul(x, y, "float32", "blocked:6", mode, "saturate", Fraction(1), 0))
    assert certain == [is_certain]


def test_a_format_too_dense_for_cells():
    """Values that need a search: the kernels' other way to find a code."""
    check("rf8", "rf8", "quantile(8,0.7)", "sequential", "nearest-even")
    check("rf8", "rf8", "quantile(8,0.7)", "pairwise", "stochastic")


@pytest.mark.parametrize("option", ["", ":wrap"])
@pytest.mark.parametrize("order", ORDERS)
def test_integers(order, option):
    for fmt_a, fmt_b in (("int8", "int8"), ("rf8", "int8"), ("rf8", "rf8"), ("e4m3", "int8"), ("rf8", "e5m2")):
        for width in (2, 8, 15, 24, 41, 53):
            for finite in (True, False):
                check(fmt_a, fmt_b, f"int:{width}{option}", order, "nearest-even", finite=finite, seed=width)


@pytest.mark.parametrize("overflow", ["saturate", "propagate", "ieee", "infinity", "nan"])
def test_overflow_of_a_format(overflow):
    for order in ORDERS:
        check("e5m2", "e5m2", "e4m3", order, "nearest-even", overflow=overflow, seed=3, finite=False)
        check("e5m2", "e5m2", "e5m2", order, "toward-zero", overflow=overflow, seed=4)


@pytest.mark.parametrize("pair", PAIRS)
def test_exact(pair):
    for seed, finite in itertools.product(range(4), (True, False)):
        check(*pair, "exact", "sequential", "nearest-even", seed=seed, finite=finite, shape=(3, 50, 4))


@pytest.mark.parametrize("order", ["sequential", "pairwise", "blocked:1", "blocked:2"])
@pytest.mark.parametrize(("accumulator", "left", "right"), [
    ("bfloat16", 1.0, 1 + 2.0**-8), ("float16", 1.0, 1 + 2.0**-11), ("tf32", 1.0, 1 + 2.0**-11),
    ("float32", 17 / 16, 1 + 2.0**-20),
])  # fmt: skip
def test_a_tie_is_decided_by_what_float64_cannot_hold(accumulator, left, right, order):
    """A product on the middle between two numbers, and a sum 70 octaves below: float64 loses it, and goes to even."""
    a = rf8sim.encode(np.full((1, 2), left), "rf8")
    for tail in (2.0**-70, -(2.0**-70)):
        x = np.array([[tail], [right]], np.float32)
        expected = oracle.matmul(numbers(a, "rf8"), x.astype(np.float64), accumulator, order)
        oracle.same(
            rf8sim.matmul(a, x, ("rf8", "float32"), accumulator=rf8sim.Accumulation(accumulator, order=order)), expected
        )


@given(st.data())
def test_anything(data):
    fmt_a, fmt_b = data.draw(st.sampled_from(PAIRS))
    accumulator = data.draw(st.sampled_from(("exact", *FLOATS, "rf8", "e5m2")))
    order = data.draw(st.one_of(st.sampled_from(ORDERS), st.integers(1, 20).map("blocked:{}".format)))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(0, 24), st.integers(1, 10)))
    mode, seed = data.draw(st.sampled_from(MODES)), data.draw(st.integers(0, 2**64 - 1))
    check(fmt_a, fmt_b, accumulator, order, mode, seed=seed, finite=data.draw(st.booleans()), shape=shape)


# ---------------------------------------------------------------- against others' arithmetic


def scalar_loop(a: np.ndarray, b: np.ndarray, dtype: type) -> np.ndarray:
    """Products of few digits are exact in the type; its own addition rounds once."""
    out = np.zeros((a.shape[0], b.shape[1]), dtype)
    for i, j in np.ndindex(*out.shape):
        total = dtype(0)
        for k in range(a.shape[1]):
            total = dtype(total + dtype(a[i, k] * b[k, j]))
        out[i, j] = total
    return out.astype(np.float64)


@pytest.mark.parametrize("fmt", ["rf8", "e4m3fn", "int8"])
def test_float32_against_numpy_scalars(fmt):
    rng = np.random.default_rng(5)
    a, b = draw(rng, fmt, (6, 300), True), draw(rng, fmt, (300, 4), True)
    expected = scalar_loop(numbers(a, fmt), numbers(b, fmt), np.float32)
    assert len(np.unique(expected)) > 12
    oracle.same(rf8sim.matmul(a, b, fmt, accumulator="float32"), expected)


def test_float32_against_numpy_scalars_where_sums_round():
    """Sums that need more than 24 digits: the case that the plain float32 kernel must get right."""
    rng = np.random.default_rng(6)
    a, b = draw(rng, "e5m2", (6, 300), True), draw(rng, "e5m2", (300, 4), True)
    x, y = numbers(a, "e5m2"), numbers(b, "e5m2")
    expected = scalar_loop(x, y, np.float32)
    assert (expected != x @ y).any()
    oracle.same(rf8sim.matmul(a, b, "e5m2", accumulator="float32"), expected)


@pytest.mark.parametrize(("accumulator", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_narrow_floats_against_scalars(accumulator, dtype):
    """Operands whose products are numbers of the type, so that its scalar addition is the same machine."""
    rng = np.random.default_rng(7)
    a = rng.choice(rf8sim.encode(2.0 ** np.arange(-7, 1), "rf8"), (5, 400))
    b = draw(rng, "e3m4", (400, 3), True)
    x, y = numbers(a, "rf8"), numbers(b, "e3m4")
    assert np.array_equal(y.astype(dtype).astype(np.float64), y)
    expected = scalar_loop(x, y, dtype)
    assert (expected != x @ y).all()
    oracle.same(rf8sim.matmul(a, b, ("rf8", "e3m4"), accumulator=accumulator), expected)


@pytest.mark.parametrize(("accumulator", "dtype"), [
    ("float32", np.float32), ("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16),
])  # fmt: skip
def test_rounding_is_the_casts(accumulator, dtype):
    """One product of 1 and a float32 number is a cast: every pattern's neighbourhood, subnormals, overflow."""
    rng = np.random.default_rng(8)
    x = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    edges = np.array([0.0, 65504, 65519.996, 65520, 2.0**-24, 2.0**-25, 3 * 2.0**-26, 2.0**-14, 2.0**-133, 2.0**-134])
    x = np.concatenate([x[~np.isnan(x)], edges.astype(np.float32), -edges.astype(np.float32)])
    one = rf8sim.encode(np.ones((1, 1)), "rf8")
    with np.errstate(over="ignore"):
        expected = x.astype(dtype).astype(np.float64)[None]
    got = rf8sim.matmul(one, x[None], ("rf8", "float32"), accumulator=accumulator)
    expected[expected == 0] = 0.0  # +0 + -0 is +0
    tiny = (got == 0) & (x[None] < 0)
    got[tiny] = 0.0
    oracle.same(got, expected)


# ---------------------------------------------------------------- exact sums


def integers(codes: np.ndarray, fmt: str) -> np.ndarray:
    scaled = rf8sim.decode(codes, fmt, dtype=np.float64) / float(oracle.unit_of(rf8sim.get_format(fmt).values))
    return np.array([int(v) for v in scaled.ravel()], dtype=object).reshape(codes.shape)


@pytest.mark.parametrize("fmt", ["rf8", "e4m3fn", "e5m2", "int8", "posit8_es1"])
@pytest.mark.parametrize("depth", [1, 2**13 - 1, 2**14 + 3, 2**16])
def test_long_exact_sums_against_integers(fmt, depth):
    rng = np.random.default_rng(depth)
    a, b = draw(rng, fmt, (2, depth), True), draw(rng, fmt, (depth, 2), True)
    # Worst case: the largest magnitudes with one sign, and small odd products everywhere that must not be lost.
    table = rf8sim.get_format(fmt)
    largest = np.uint8(np.flatnonzero(table.values == table.max)[0])
    finite = table.values[np.isfinite(table.values) & (table.values > 0)]
    odd = min(v for v in finite if Fraction(v) / oracle.unit_of(table.values) % 2 == 1)
    a[0], b[:, 0] = largest, largest
    a[0, ::-97] = b[::-97, 0] = np.uint8(np.flatnonzero(table.values == odd)[0])
    whole = integers(a, fmt).dot(integers(b, fmt)) if depth < 2**15 else sum_in_pieces(a, b, fmt)
    scale = oracle.unit_of(table.values) ** 2
    expected = np.vectorize(lambda n: float(n * scale), otypes=[np.float64])(whole)
    oracle.same(rf8sim.matmul(a, b, fmt), expected, fmt)


def sum_in_pieces(a: np.ndarray, b: np.ndarray, fmt: str) -> np.ndarray:
    steps = range(0, a.shape[1], 1 << 13)
    return sum(integers(a[:, k : k + (1 << 13)], fmt).dot(integers(b[k : k + (1 << 13)], fmt)) for k in steps)


def test_an_exact_sum_of_more_than_53_bits_is_rounded_once():
    """2**14 largest products of RF8 and some of the smallest: ties and their neighbours, and results in a format."""
    largest, smallest = rf8sim.encode(np.array([1.5, 2.0**-15 * 0.875]), "rf8")
    for extra in range(1, 12):
        a = np.array([[largest] * 20000 + [smallest] * extra], np.uint8)
        exact = Fraction(9, 4) * 20000 + extra * Fraction(7, 8 * 2**15) ** 2
        assert (exact * 2**38).numerator.bit_length() > 53
        assert rf8sim.matmul(a, a.T, "rf8").item() == float(exact)


WIDE = ("e5m2", "float16", "bfloat16", "posit8_es2", "float32")


def mostly_narrow(rng: np.random.Generator, fmt: str, rows: int, depth: int, bits: int) -> np.ndarray:
    """Rows of numbers of about so many bits, a few of them wider, negative zeros, and one row of zeros."""
    x = np.ldexp(rng.integers(-3, 4, (rows, depth)), rng.integers(0, bits, (rows, depth)) - bits // 2)
    x[::7, ::5] = np.ldexp(1.0, 12)
    x[3::7, 1::5] *= 2.0**-4
    x[1], x[2] = 0.0, -0.0
    return x.astype(np.float32) if fmt == "float32" else rf8sim.encode(x, fmt)


@pytest.mark.parametrize("fmt", WIDE)
@pytest.mark.parametrize("bits", range(10, 28, 2))
def test_exact_sums_of_rows_of_few_bits_and_of_many(fmt, bits):
    """Products of rows and columns of few bits together are left to BLAS as they are: at the limit, and beyond it."""
    rng = np.random.default_rng(bits)
    a, b = mostly_narrow(rng, fmt, 40, 300, bits), mostly_narrow(rng, fmt, 30, 300, bits).T
    x, y = numbers(a, fmt), numbers(b, fmt)
    assert np.isfinite(x).all()
    expected = np.array([[math.fsum(row * column) for column in y.T] for row in x]) + 0.0
    oracle.same(rf8sim.matmul(a, b, fmt), expected, fmt)


def test_only_rows_and_columns_of_many_bits_are_summed_in_slices():
    """54 bits: 22 and 22 and the depth's 10 are too many for float64, 22 and 21 are not."""
    row, column = np.zeros(1000), np.zeros(1000)
    row[:2] = column[1:3] = 1.0, 2.0**21
    for wide, expected in ((2.0**20, 0), (2.0**21, 1)):
        column[2] = wide
        a, b = get_operand(np.float32([row]), "float32"), get_operand(np.float32([column]).T, "float32")
        assert sum(x.size for x in products._wide(a, b)) == expected


@pytest.mark.parametrize("bits", [21, 22, 23])
def test_exact_sums_at_the_limit_of_float64(bits):
    """Odd integers of 21 bits need 52 with a depth of 1000, those of 22 and 23 bits 54 and 56, which BLAS rounds."""
    significands = np.random.default_rng(bits).integers(1 << bits - 1, 1 << bits, (20, 1000)) | 1
    x = significands.astype(np.float32)
    exact = (significands.astype(object) @ significands.T.astype(object)).astype(np.float64)
    oracle.same(rf8sim.matmul(x, x.T, "float32"), exact, "float32")


def test_a_result_is_rounded_from_the_exact_sum_not_from_float64():
    """272 is the middle of two codes of e4m3fn; float64 does not hold 272 + 2**-48."""
    large, small, tiny, minus = rf8sim.encode(np.array([16.0, 4.0, 2.0**-24, -(2.0**-24)]), "posit8_es2")
    for tail in (tiny, minus):
        a, b = np.array([[large, small, tiny]]), np.array([[large], [small], [tail]])
        exact = 272 + (1 if tail == tiny else -1) * Fraction(1, 2**48)
        for mode in ("nearest-even", "nearest-away", "up", "to-odd", "toward-zero"):
            for sign in (1, -1):
                right = b if sign > 0 else rf8sim.negate(b, "posit8_es2")
                got = rf8sim.matmul(a, right, "posit8_es2", result="e4m3fn", rounding=mode)
                assert got.item() == reference.round_value(sign * exact, "e4m3fn", mode)


@pytest.mark.parametrize("mode", ["nearest-even", "toward-zero", "up", "down", "to-odd", "residual"])
def test_results_in_a_format(mode):
    rng = np.random.default_rng(9)
    a, b = draw(rng, "rf8", (4, 9), True), draw(rng, "rf8", (9, 5), True)
    x, y = numbers(a, "rf8"), numbers(b, "rf8")
    got = rf8sim.matmul(a, b, "rf8", result="rf8", rounding=mode)
    for i, j in np.ndindex(4, 5):
        exact = oracle.dot(x[i].tolist(), y[:, j].tolist(), "exact")
        assert got[i, j] == reference.round_value(exact, "rf8", mode)
    option = rf8sim.Rounding(overflow="nan")
    held = rf8sim.matmul(a, b, "rf8", accumulator="bfloat16", result="e4m3fn", rounding=option)
    sums = rf8sim.matmul(a, b, "rf8", accumulator="bfloat16")
    assert np.array_equal(held, rf8sim.encode(sums, "e4m3fn", rounding=option))


# ---------------------------------------------------------------- scales


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("accumulator", ["exact", "float32", "float16", "int:24", "e5m2"])
def test_scales_of_rows_and_columns(accumulator, power):
    rng = np.random.default_rng(10)
    a, b = draw(rng, "rf8", (4, 9), True), draw(rng, "rf8", (9, 5), True)
    scale_a, scale_b = (rng.uniform(0.5, 4, size).astype(np.float32) for size in ((4, 1), (5,)))
    if power:
        scale_a, scale_b = np.exp2(np.round(np.log2(scale_a))), np.exp2(np.round(np.log2(scale_b)))
    plain = rf8sim.matmul(a, b, "rf8", accumulator=accumulator)
    got = rf8sim.matmul(a, b, "rf8", accumulator=accumulator, scales=rf8sim.OperandScales(scale_a, scale_b))
    codes = rf8sim.matmul(
        a, b, "rf8", accumulator=accumulator, result="rf8", scales=rf8sim.OperandScales(scale_a, scale_b)
    )
    for i, j in np.ndindex(4, 5):
        exact = Fraction(float(plain[i, j])) * Fraction(float(scale_a[i, 0])) * Fraction(float(scale_b[j]))
        value = float(exact) if got.dtype == np.float64 else oracle.round_float(exact, "float32", "nearest-even", 0)
        assert got[i, j] == value
        assert codes[i, j] == reference.round_value(exact, "rf8")


@looped("order", ["sequential", "pairwise", "blocked:4", "blocked:2", "blocked:32"])
@looped("accumulator", ["exact", "float32", "float16", "bfloat16", "e5m2"])
@looped("power", [True, False])
@pytest.mark.parametrize("mode", ["nearest-even", "stochastic", "down"])
def test_scales_of_blocks(accumulator, order, power, mode):
    """Each block summed from zero, times its scales, added with one rounding; block 4, a last one of 2."""
    rng = np.random.default_rng(11)
    for fmt, finite in (("rf8", True), ("e5m2", True), ("e4m3", False)):
        a, b = draw(rng, fmt, (3, 10), finite), draw(rng, fmt, (10, 2), finite)
        scale_a, scale_b = (rng.uniform(0.1, 9, size).astype(np.float32) for size in ((3, 3), (3, 2)))
        if power:
            scale_a, scale_b = np.exp2(np.round(np.log2(scale_a))), np.exp2(np.round(np.log2(scale_b)))
        got = rf8sim.matmul(
            a,
            b,
            fmt,
            accumulator=rf8sim.Accumulation(accumulator, order=order, rounding=rf8sim.Rounding(mode, seed=12)),
            scales=rf8sim.OperandScales(scale_a, scale_b, 4),
        )
        x, y = numbers(a, fmt), numbers(b, fmt)
        for i, j in np.ndindex(3, 2):
            scales = [Fraction(float(s)) * Fraction(float(t)) for s, t in zip(scale_a[i], scale_b[:, j], strict=True)]
            with np.errstate(invalid="ignore"):
                expected = blocks(x[i].tolist(), y[:, j].tolist(), scales, accumulator, order, mode, 2 * i + j)
            oracle.same(got[i, j], np.float64(expected), f"{fmt} {accumulator} {order} {mode}")


def blocks(
    a: list[float], b: list[float], scales: list[Fraction], accumulator: str, order: str, mode: str, output: int
) -> float:
    def word(step: int) -> int:
        return oracle.word_of(12, output, step)

    held, step, total = ("exact" if order == "blocked:4" else accumulator), 1, 0.0
    terms = []
    for number, scale in enumerate(scales):
        part = slice(4 * number, 4 * number + 4)
        partial = oracle.dot(a[part], b[part], held, order, mode, word=word, first=step)
        if held != "exact":
            sums = {"sequential": 4, "pairwise": 3, "blocked:2": 2, "blocked:32": 1}[order]
            step += sums
        finite = not isinstance(partial, float) or math.isfinite(partial)
        scaled = Fraction(partial) * scale if finite else partial
        if partial == 0 and isinstance(partial, float):
            scaled = partial
        terms.append(scaled)
        if accumulator != "exact":
            total = oracle.settle([total, scaled], accumulator, mode, "saturate", Fraction(1), word(step))
        step += 1
    if accumulator == "exact":
        special = [t for t in terms if isinstance(t, float) and not math.isfinite(t)]
        return sum(special) if special else float(sum(map(Fraction, terms), Fraction(0)))
    return total


def test_scales_of_quantized_tensors_fit():
    rng = np.random.default_rng(13)
    x, w = rng.normal(size=(8, 64)), rng.normal(size=(64, 6)) * 0.1
    for left, right, block in ((None, None, None), ((1, -1), (-1, 1), None), ((1, 32), (32, 1), 32)):
        a = rf8sim.quantize(x, rf8sim.Scheme("rf8", rf8sim.Scales(left)))
        b = rf8sim.quantize(w, rf8sim.Scheme("e4m3fn", rf8sim.Scales(right)))
        got = rf8sim.matmul(a.codes, b.codes, ("rf8", "e4m3fn"), scales=rf8sim.OperandScales(a.scale, b.scale, block))
        expected = a.dequantize(np.float64) @ b.dequantize(np.float64)
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


# ---------------------------------------------------------------- shapes


@looped("shapes", [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((0, 3), (3, 4)), ((2, 0), (0, 4)),
    ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((4, 2, 0), (0, 3)), ((0,), (0,)),
])  # fmt: skip
@looped("accumulator", ["exact", "float32", "float16", "int:24", "rf8"])
@looped("order", ["sequential", "pairwise", "blocked:2"])
def test_shapes_are_those_of_numpy(shapes, accumulator, order):
    rng = np.random.default_rng(14)
    a, b = (rng.choice(rf8sim.encode([0.0, 0.5, 1.0, -1.0], "rf8"), shape) for shape in shapes)
    expected = numbers(a, "rf8") @ numbers(b, "rf8")
    got = rf8sim.matmul(a, b, "rf8", accumulator=rf8sim.Accumulation(accumulator, order=order))
    assert got.shape == expected.shape
    assert got.dtype == (np.float64 if accumulator in ("exact", "int:24") else np.float32)
    if accumulator != "rf8":  # sums of few small integers are exact everywhere else
        wide = rf8sim.matmul(a, b, "rf8", accumulator=rf8sim.Accumulation(accumulator.replace("24", "48"), order=order))
        assert np.array_equal(wide, expected)
    codes = rf8sim.matmul(a, b, "rf8", result="e4m3fn", accumulator=rf8sim.Accumulation(accumulator, order=order))
    assert codes.shape == expected.shape
    assert codes.dtype == np.uint8


def test_stacks_draw_as_one_flat_array():
    rng = np.random.default_rng(15)
    a, b = draw(rng, "rf8", (3, 2, 11), True), draw(rng, "rf8", (11, 3), True)
    for order in ORDERS:
        drawn = rf8sim.Rounding("stochastic", seed=3)
        options = {"accumulator": rf8sim.Accumulation("bfloat16", order, drawn)}
        expected = np.stack([
            oracle.matmul(numbers(a[n], "rf8"), numbers(b, "rf8"), "bfloat16", order, "stochastic", seed=3, first=6 * n)
            for n in range(3)
        ])  # fmt: skip
        oracle.same(rf8sim.matmul(a, b, "rf8", **options), expected)
        oracle.same(rf8sim.matmul(a, np.stack([b] * 3), "rf8", **options), expected)


def test_dot_and_matvec():
    rng = np.random.default_rng(16)
    a, x = draw(rng, "rf8", (3, 4, 9), True), draw(rng, "rf8", (3, 9), True)
    scale = np.array([[0.5], [2.0], [4.0]], np.float32)
    got = rf8sim.matvec(a, x, "rf8", accumulator="float16", scales=rf8sim.OperandScales(b=scale))
    assert got.shape == (3, 4)
    for n in range(3):
        one = [
            float(rf8sim.dot(row, x[n], "rf8", accumulator="float16", scales=rf8sim.OperandScales(b=scale[n, 0])))
            for row in a[n]
        ]
        assert got[n].tolist() == one


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), ((2, 1), (0, 2))])
def test_conv2d_against_loops(stride, padding):
    rng = np.random.default_rng(17)
    x, w = draw(rng, "int8", (2, 3, 6, 5), True), draw(rng, "rf8", (4, 3, 3, 2), True)
    for accumulator in ("exact", "float16"):
        got = rf8sim.conv2d(x, w, ("int8", "rf8"), stride=stride, padding=padding, accumulator=accumulator)
        (down, across), (top, left) = np.broadcast_to(stride, 2), np.broadcast_to(padding, 2)
        image = np.pad(numbers(x, "int8"), ((0, 0), (0, 0), (top, top), (left, left)))
        assert got.shape == (2, 4, (6 + 2 * top - 3) // down + 1, (5 + 2 * left - 2) // across + 1)
        for n, f, i, j in np.ndindex(*got.shape):
            patch = image[n, :, i * down : i * down + 3, j * across : j * across + 2]
            filters = numbers(w[f], "rf8")
            expected = oracle.dot(patch.ravel().tolist(), filters.ravel().tolist(), accumulator)
            assert got[n, f, i, j] == float(expected)


@pytest.mark.parametrize("accumulator", ["exact", "float32", "float16", "int:30", "e5m2"])
@pytest.mark.parametrize("order", ["sequential", "pairwise", "blocked:16"])
@pytest.mark.parametrize("rounding", ["nearest-even", "stochastic"])
def test_threads_change_nothing(accumulator, order, rounding):
    rng = np.random.default_rng(18)
    for shape in ((150, 130, 90), (1, 64, 30_000), (20_000, 33, 3)):  # each worth as many threads as are asked for
        a, b = draw(rng, "rf8", shape[:2], True), draw(rng, "rf8", shape[1:], True)
        options = {"accumulator": rf8sim.Accumulation(accumulator, order, rounding)}
        one = rf8sim.matmul(a, b, "rf8", threads=1, **options)
        for threads in (2, 7):
            oracle.same(rf8sim.matmul(a, b, "rf8", threads=threads, **options), one)


def test_strides_change_nothing():
    rng = np.random.default_rng(19)
    a, b = draw(rng, "rf8", (30, 20), True), draw(rng, "rf8", (20, 24), True)
    for accumulator in ("exact", "float32", "bfloat16"):
        expected = rf8sim.matmul(a, b, "rf8", accumulator=accumulator)
        turned = rf8sim.matmul(np.asfortranarray(a), b[::-1][::-1].copy("F"), "rf8", accumulator=accumulator)
        oracle.same(turned, expected)


# ---------------------------------------------------------------- weights decoded on the fly


def lanes(codes: np.ndarray, x: np.ndarray, fmt: str) -> np.ndarray:
    """The documented order, in float32 arrays."""
    short = -codes.shape[1] % 32
    products = np.pad(rf8sim.decode(codes, fmt) * x, ((0, 0), (0, short))).reshape(codes.shape[0], -1, 32)
    sums = np.zeros((codes.shape[0], 32), np.float32)
    for k in range(products.shape[1]):
        sums += products[:, k]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


@looped("fmt", [*rf8sim.format_names(), "rf(4,4,12)"])
@looped("depth", [1, 31, 32, 33, 96, 300])
def test_weight_matvec(fmt, depth):
    rng = np.random.default_rng(depth)
    codes, x = draw(rng, fmt, (50, depth), False), rng.normal(size=depth).astype(np.float32)
    codes[:, 0] = np.arange(50) % rf8sim.get_format(fmt).values.size  # zeros, subnormals and what else starts a table
    with np.errstate(invalid="ignore", over="ignore"):
        oracle.same(linalg.weight_matvec(codes, x, fmt), lanes(codes, x, fmt), fmt)


def test_weight_matvec_sees_every_code():
    every = np.arange(256, dtype=np.uint8)
    assert nibble_tables(rf8sim.get_format("rf8")) is not None
    assert nibble_tables(rf8sim.get_format("e4m3fn")) is None
    for place in (0, 7, 8, 15, 16, 31, 33):
        codes, x = np.zeros((256, 34), np.uint8), np.zeros(34, np.float32)
        codes[:, place], x[place] = every, 3.0
        oracle.same(linalg.weight_matvec(codes, x, "rf8"), 3 * rf8sim.decode(every, "rf8") + np.float32(0))


def test_weight_matvec_scales_threads_and_specials():
    rng = np.random.default_rng(20)
    codes, x = draw(rng, "rf8", (3000, 500), True), rng.normal(size=500).astype(np.float32)
    plain, scale = linalg.weight_matvec(codes, x, "rf8", threads=1), rng.uniform(1, 2, (3000, 1)).astype(np.float32)
    for threads in (2, 5):
        got = linalg.weight_matvec(codes, x, "rf8", scale=scale, threads=threads)
        oracle.same(got, plain * scale[:, 0])
    oracle.same(linalg.weight_matvec(np.asfortranarray(codes)[::-1], x, "rf8", scale=0.5), plain[::-1] / 2)
    assert linalg.weight_matvec(np.zeros((3, 0), np.uint8), x[:0], "rf8").tolist() == [0, 0, 0]
    with np.errstate(invalid="ignore"):
        assert np.isnan(linalg.weight_matvec(codes[:1, :2] * 0, np.float32([np.inf, 1]), "rf8")).all()
    for bad, message in (((codes, x[1:]), "shapes"), ((codes[0], x), "shapes")):
        with pytest.raises(ValueError, match=message):
            linalg.weight_matvec(*bad, "rf8")
    with pytest.raises(TypeError, match="convert first"):
        linalg.weight_matvec(codes, x.astype(np.float64), "rf8")
    with pytest.raises(ValueError, match="3000 rows"):
        linalg.weight_matvec(codes, x, "rf8", scale=[1.0, 2.0])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(("options", "message"), [
    ({"accumulator": "flota32"}, "did you mean 'float32'"),
    ({"accumulator": "int"}, "unknown accumulator"),
    ({"accumulator": "int:1"}, "n from 2 to 53"),
    ({"accumulator": "int:24:warp"}, "expected 'int:n'"),
    ({"accumulator": lambda: rf8sim.Accumulation(order="blocked")}, "blocked:K"),
    ({"accumulator": lambda: rf8sim.Accumulation(order="blocked:0")}, "at least 1"),
    ({"accumulator": lambda: rf8sim.Accumulation(order="pairwize")}, "did you mean 'pairwise'"),
    ({"accumulator": lambda: rf8sim.Accumulation("float16", rounding="nearest")}, "did you mean 'nearest-even'"),
    ({"accumulator": lambda: rf8sim.Accumulation("float16", rounding="residual")}, "use 'nearest-even'"),
    ({"accumulator": lambda: rf8sim.Accumulation("e4m3fn", rounding="up/infinity")}, "no infinity"),
    ({"accumulator": lambda: rf8sim.Accumulation("float16", rounding=rf8sim.Rounding("stochastic", bits=8))},
     "by seed and place of a sum: leave out offset, words, bits and variant"),
    ({"result": "rf9"}, "rf8"),
    ({"result": "rf8", "rounding": "odd"}, "to-odd"),
    ({"scales": rf8sim.OperandScales(0.0)}, "scales.a must be positive"),
    ({"scales": rf8sim.OperandScales(b=0.1)}, "finite float32"),
    ({"scales": rf8sim.OperandScales("1")}, "scales.a must be numbers"),
    ({"scales": rf8sim.OperandScales(np.ones((1, 3)))}, "does not broadcast"),
    ({"scales": rf8sim.OperandScales(block_size=0)}, "at least 1"),
    ({"accumulator": "int:24", "scales": rf8sim.OperandScales(block_size=2)}, "block sums are exact"),
    ({"result": "rf8", "rounding": lambda: rf8sim.Rounding(seed=-1)}, "seed"),
    ({"accumulator": "float16", "threads": 0}, "threads"),
])  # fmt: skip
def test_bad_options_are_refused_in_words(options, message):
    a, b = np.zeros((2, 3), np.uint8), np.zeros((3, 600_000 if "threads" in options else 4), np.uint8)
    with pytest.raises((ValueError, TypeError), match=message):
        rf8sim.matmul(a, b, "rf8", **{name: value() if callable(value) else value for name, value in options.items()})


@pytest.mark.parametrize(("shapes", "message"), [
    (((2, 3), (4, 2)), "3 columns of a against 4 rows of b"),
    (((3,), (4,)), "do not match"),
    (((), (4,)), "use multiply"),
    (((2, 2, 3), (5, 3, 4)), "do not broadcast"),
])  # fmt: skip
def test_bad_shapes_are_refused_in_words(shapes, message):
    a, b = (np.zeros(shape, np.uint8) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        rf8sim.matmul(a, b, "rf8")


def test_more_is_refused():
    zero = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="64 bits in units of 2\\*\\*-32"):
        rf8sim.matmul(zero, zero, "e5m2", accumulator="int:32")
    with pytest.raises(TypeError, match="encode the data first"):
        rf8sim.matmul(zero.astype(np.float32), zero, "rf8")
    with pytest.raises(TypeError, match="convert first"):
        rf8sim.matmul(zero, zero.astype(np.float64), ("rf8", "float32"))
    with pytest.raises(ValueError, match="two vectors"):
        rf8sim.dot(zero, zero, "rf8")
    with pytest.raises(ValueError, match="matrices and vectors"):
        rf8sim.matvec(zero[0], zero[0], "rf8")
    with pytest.raises(ValueError, match="no NaN code"):
        rf8sim.matmul(np.full((1, 1), 0x80, np.uint8), zero[:1], "rf8", result="int8")
    images = np.zeros((1, 2, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="of as many channels"):
        rf8sim.conv2d(images, np.zeros((1, 1, 2, 2), np.uint8), "rf8")
    with pytest.raises(ValueError, match="do not fit"):
        rf8sim.conv2d(images, np.zeros((1, 2, 4, 2), np.uint8), "rf8")
    with pytest.raises(ValueError, match="stride"):
        rf8sim.conv2d(images, images, "rf8", stride=0)
    with pytest.raises(ValueError, match="no zero"):
        rf8sim.conv2d(images, images, "e8m0fnu", padding=1)


def test_a_rounding_without_a_result_is_refused():
    x = rf8sim.encode([[1.0, 1.25]], "rf8")
    for rounding in ("up", "nearest-even/nan", rf8sim.Rounding("stochastic", seed=1)):
        for call in (lambda **o: rf8sim.matmul(x, x.T, "rf8", **o), lambda **o: rf8sim.dot(x[0], x[0], "rf8", **o)):
            with pytest.raises(ValueError, match="changes nothing without `result`"):
                call(rounding=rounding, accumulator="float32")
            assert call(rounding=rounding, result="rf8").dtype == np.uint8
    assert rf8sim.matmul(x, x.T, "rf8", rounding="nearest-even").item() == 2.5625


def test_a_grid_is_the_formats():
    for name in rf8sim.format_names():
        fmt = rf8sim.get_format(name)
        grid = get_operand(np.zeros(1, np.uint8), name).grid
        assert Fraction(2) ** grid.unit == oracle.unit_of(fmt.values)
        assert max(abs(fmt.max), abs(fmt.min)) < 2.0 ** (grid.unit + grid.bits)


@pytest.mark.parametrize("accumulator", ["exact", "float32", "float16"])
def test_an_infinite_sum_becomes_what_overflow_says(accumulator):
    """As `add` and `multiply` do; in the accumulator, a float, it is infinite."""
    operands = np.array([[np.inf, 1.0, 1.0], [-np.inf, 1.0, 0.0], [57344.0, 1.0, 0.0]])
    codes = rf8sim.encode(operands, "e5m2", rounding=rf8sim.Rounding(overflow="infinity"))
    ones = rf8sim.encode(np.ones((3, 1)), "e5m2")
    options = {"accumulator": accumulator, "result": "e5m2"}
    found = rf8sim.matmul(codes, ones, "e5m2", **options, rounding="nearest-even/propagate")
    assert rf8sim.decode(found, "e5m2").ravel().tolist() == [np.inf, -np.inf, 57344.0]
    clamped = rf8sim.matmul(codes, ones, "e5m2", **options)
    assert rf8sim.decode(clamped, "e5m2").ravel().tolist() == [57344.0, -57344.0, 57344.0]
    none = rf8sim.matmul(codes, ones, "e5m2", accumulator=accumulator, result="e4m3fn")
    assert rf8sim.decode(none, "e4m3fn").ravel().tolist() == [448.0, -448.0, 448.0]
    found = clamped
    for i in range(2):
        assert rf8sim.dot(codes[i], ones[:, 0], "e5m2", result="e5m2") == found[i, 0]
