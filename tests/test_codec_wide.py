"""float32, float64 and integers: every place where a result can change, random patterns, layouts, laws."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from loops import looped
from oracle_helpers import (
    DTYPES,
    UNREGISTERED,
    around,
    cases,
    first_upper,
    modes,
    nans,
    oracle,
    overflows,
    points,
    same_codes,
    specials,
    to_float64,
    vector_round,
)

import rf8sim
from rf8sim.formats import format_names, get_format
from rf8sim.reference import ladder, round_value

NAMES = [*format_names(), *UNREGISTERED]
WIDE = ["float32", "float64"]


# ---------------------------------------------------------------- every place where a result can change


@pytest.mark.parametrize("dtype", WIDE)
@looped(("name", "rounding"), cases(overflow=False))
def test_every_boundary_and_its_neighbours(name: str, rounding: str, dtype: str) -> None:
    """Values, midpoints, irrational boundaries, the overflow edge: the numbers of the dtype about each."""
    fmt = get_format(name)
    x = np.concatenate([around(points(fmt), dtype), specials(dtype)])
    got = rf8sim.encode(x, fmt, rounding=rounding)
    same_codes(got, oracle(x, fmt, rounding), x, fmt, f"{rounding} {dtype}")


@pytest.mark.parametrize("dtype", WIDE)
@looped(("name", "rounding", "overflow"), [case for case in cases() if case[2] != "saturate"])
def test_every_boundary_with_each_overflow_option(name: str, rounding: str, overflow: str, dtype: str) -> None:
    fmt = get_format(name)
    x = np.concatenate([around(points(fmt)[-12:], dtype, ulps=3), specials(dtype)])
    got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow))
    same_codes(got, oracle(x, fmt, rounding, overflow), x, fmt, f"{rounding} {overflow} {dtype}")


@looped(("name", "rounding"), cases(overflow=False))
def test_float64_is_not_first_rounded_to_float32(name: str, rounding: str) -> None:
    """A hair to either side of every boundary: float32 cannot tell the two apart, and a tie is not one."""
    fmt = get_format(name)
    hairs = []
    for negative in (False, True)[: 1 + fmt.signed]:
        edges = first_upper(fmt, rounding, negative)
        for toward in (0.0, math.inf):
            moved = edges
            for _ in range(3):
                hairs.append(-moved if negative else moved)
                moved = np.nextafter(moved, toward)
        hairs += [sign * edges * (1 + shift * 2.0**-40) for shift in (-1, 1) for sign in (1, -1)]
    x = np.concatenate(hairs)
    expected = oracle(x, fmt, rounding)
    same_codes(rf8sim.encode(x, fmt, rounding=rounding), expected, x, fmt, rounding)
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32).astype(np.float64)
    assert np.any(vector_round(narrow, fmt, rounding) != expected), "these inputs must tell the two apart"


@pytest.mark.parametrize("dtype", WIDE)
@looped(("name", "rounding", "overflow"), cases())
def test_random_bit_patterns(name: str, rounding: str, overflow: str, dtype: str) -> None:
    """Seeded patterns: of the whole space, and of the format's own octaves (where most decisions are)."""
    fmt = get_format(name)
    rng = np.random.default_rng(7)
    unsigned = np.dtype(f"u{DTYPES[dtype].itemsize}")
    whole = rng.integers(0, np.iinfo(unsigned).max, 20_000, dtype=unsigned, endpoint=True).view(DTYPES[dtype])
    octaves = rng.uniform(math.log2(fmt.smallest) - 3, math.log2(fmt.max) + 2, 20_000)
    near = (np.exp2(np.minimum(octaves, 127.9)) * rng.choice([-1.0, 1.0], octaves.size)).astype(DTYPES[dtype])
    x = np.concatenate([whole, near])
    x = x if fmt.nan is not None else x[~np.isnan(x)]
    got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow))
    same_codes(got, vector_round(to_float64(x), fmt, rounding, overflow), x, fmt, f"{rounding} {overflow} {dtype}")


def patterns(dtype: str) -> st.SearchStrategy[np.generic]:
    bits = 8 * DTYPES[dtype].itemsize
    unsigned = np.dtype(f"u{bits // 8}")
    return st.integers(0, 2**bits - 1).map(lambda pattern: np.array(pattern, dtype=unsigned).view(DTYPES[dtype])[()])


@settings(max_examples=400)
@given(data=st.data())
def test_any_bit_pattern_in_any_mode(data: st.DataObject) -> None:
    fmt = get_format(data.draw(st.sampled_from(NAMES)))
    x = data.draw(st.one_of(*map(patterns, DTYPES)))
    rounding = data.draw(st.sampled_from(modes(fmt)))
    overflow = data.draw(st.sampled_from(overflows(fmt)))
    if math.isnan(float(x)) and fmt.nan is None:
        with pytest.raises(ValueError, match="NaN"):
            rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow))
    else:
        code = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow))
        assert code == round_value(x, fmt, rounding, overflow)


# ---------------------------------------------------------------- corners by name


@looped("name", NAMES)
def test_largest_float32_saturates(name: str) -> None:
    """It must not overflow on the way: the largest float32 is a finite input and gives the largest value."""
    fmt = get_format(name)
    largest = np.finfo(np.float32).max
    for dtype in WIDE:
        x = np.array([largest, -largest], dtype=dtype)
        for rounding in modes(fmt):
            assert rf8sim.decode(rf8sim.encode(x, fmt, rounding=rounding), fmt, dtype=np.float64).tolist() == [
                fmt.max,
                fmt.min,
            ]


@pytest.mark.parametrize("dtype", list(DTYPES))
@looped("name", [name for name in NAMES if get_format(name).nan is not None])
def test_every_nan_is_the_nan(name: str, dtype: str) -> None:
    fmt = get_format(name)
    x = nans(dtype)
    for rounding in modes(fmt, stochastic=True):
        for overflow in overflows(fmt):
            got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow))
            np.testing.assert_array_equal(got, np.full(x.shape, fmt.nan, dtype=np.uint8))


@pytest.mark.parametrize("dtype", list(DTYPES))
@looped("name", NAMES)
def test_zeros_keep_their_sign_where_there_are_two(name: str, dtype: str) -> None:
    fmt = get_format(name)
    plus = ladder(fmt, False)[1][0]
    minus = plus if fmt.negative_zero is None else fmt.negative_zero
    x = np.array([0.0, -0.0]).astype(DTYPES[dtype])
    for rounding in modes(fmt, stochastic=True):
        assert rf8sim.encode(x, fmt, rounding=rounding).tolist() == [plus, minus]


@looped("name", [name for name in NAMES if get_format(name).signed])
def test_negative_underflow(name: str) -> None:
    fmt = get_format(name)
    zero = fmt.zero if fmt.negative_zero is None else fmt.negative_zero
    tiny = np.array([-5e-324, -1e-300, -fmt.smallest / 1024])
    for rounding in ("toward-zero", "up"):
        assert rf8sim.encode(tiny, fmt, rounding=rounding).tolist() == [zero] * 3
    lowest = ladder(fmt, True)[1][1]
    assert rf8sim.encode(tiny, fmt, rounding="down").tolist() == [lowest] * 3
    nearest = lowest if fmt.family == "posit" else zero
    assert rf8sim.encode(tiny, fmt).tolist() == [nearest] * 3


@pytest.mark.parametrize("dtype", list(DTYPES))
@looped("name", [name for name in NAMES if not get_format(name).signed])
def test_unsigned_formats_take_a_negative_input_as_out_of_range(name: str, dtype: str) -> None:
    fmt = get_format(name)
    x = np.array([-1e-5, -1.0, -100.0, -np.inf]).astype(DTYPES[dtype])
    for rounding in modes(fmt, stochastic=True):
        lowest = int(np.flatnonzero(fmt.values == fmt.min)[0])
        assert rf8sim.encode(x, fmt, rounding=rounding).tolist() == [lowest] * 4
        if fmt.nan is not None:
            assert rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, "nan")).tolist() == [fmt.nan] * 4


def test_a_format_without_zero_gives_its_smallest_value() -> None:
    x = np.array([0.0, -0.0, 5e-324, 1e-300, 2.0**-128, np.nextafter(2.0**-127, 0), 2.0**-127])
    for rounding in modes(get_format("e8m0fnu"), stochastic=True):
        for overflow in ("saturate", "nan"):
            assert rf8sim.encode(x, "e8m0fnu", rounding=rf8sim.Rounding(rounding, overflow)).tolist() == [0] * 7


@pytest.mark.parametrize(
    ("x", "rounding", "overflow", "code"),
    [
        (1.625, "nearest-even", "nan", 0x7F),  # the midpoint of 1.5 and the 1.75 beyond: rank 112 is even
        (1.625, "nearest-away", "nan", 0x80),
        (np.nextafter(1.625, 2), "nearest-even", "nan", 0x80),
        (np.nextafter(1.75, 0), "toward-zero", "nan", 0x7F),
        (1.75, "toward-zero", "nan", 0x80),
        (-1.75, "up", "nan", 0x80),
        (np.nextafter(1.5, 2), "up", "nan", 0x80),
        (np.nextafter(1.5, 2), "to-odd", "nan", 0x80),
        (1.646446609406726, "residual", "nan", 0x7F),  # 2 - sqrt(2)/4 lies between this float64 and the next
        (1.6464466094067262, "residual", "nan", 0x80),
        (1e300, "down", "nan", 0x80),
        (1e300, "down", "saturate", 0x7F),
        (-np.inf, "up", "saturate", 0xFF),
        (np.inf, "toward-zero", "nan", 0x80),
    ],
)
def test_rf8_overflow_edge(x: float, rounding: str, overflow: str, code: int) -> None:
    assert rf8sim.encode(x, "rf8", rounding=rf8sim.Rounding(rounding, overflow)) == code


@pytest.mark.parametrize(
    ("x", "rounding", "overflow", "code"),
    [
        (61440.0, "nearest-even", "ieee", 0x7C),  # halfway to 65536, ties to even: IEEE 754 section 7.4
        (np.nextafter(61440.0, 0), "nearest-even", "ieee", 0x7B),
        (1e30, "toward-zero", "ieee", 0x7B),
        (1e30, "down", "ieee", 0x7B),
        (1e30, "up", "ieee", 0x7C),
        (-1e30, "up", "ieee", 0xFB),
        (-1e30, "down", "ieee", 0xFC),
        (np.inf, "toward-zero", "ieee", 0x7C),
        (-np.inf, "up", "ieee", 0xFC),
        (1e30, "toward-zero", "nan", 0x7E),
        (60000.0, "toward-zero", "nan", 0x7B),
        (1e30, "to-odd", "ieee", 0x7C),
        (60000.0, "to-odd", "ieee", 0x7B),
        (1e30, "toward-zero", "infinity", 0x7C),
        (1e30, "toward-zero", "propagate", 0x7B),
        (np.inf, "toward-zero", "propagate", 0x7C),
        (np.inf, "toward-zero", "saturate", 0x7B),
    ],
)
def test_e5m2_overflow_edge(x: float, rounding: str, overflow: str, code: int) -> None:
    assert rf8sim.encode(x, "e5m2", rounding=rf8sim.Rounding(rounding, overflow)) == code


# ---------------------------------------------------------------- integers


INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def some_integers(dtype: str, fmt: rf8sim.Format) -> np.ndarray:
    info = np.iinfo(dtype)
    wanted = {info.min, info.min + 1, info.max, info.max - 1, -1, 0, 1, 2, 3, *range(-300, 300)}
    wanted |= {s * (2**k + d) for k in range(64) for d in (-1, 0, 1) for s in (1, -1)}
    for point in points(fmt):
        wanted |= {s * (math.floor(point) + d) for d in (-1, 0, 1, 2) for s in (1, -1)}
    return np.array(sorted(n for n in wanted if info.min <= n <= info.max), dtype=dtype)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
@looped(("name", "rounding"), cases(overflow=False))
def test_wide_integers(name: str, rounding: str, dtype: str) -> None:
    fmt = get_format(name)
    x = some_integers(dtype, fmt)
    same_codes(rf8sim.encode(x, fmt, rounding=rounding), oracle(x, fmt, rounding), x, fmt, f"{rounding} {dtype}")
    # The other options differ at the edge alone: the integers nearest to it and the extreme ones.
    nearest = np.argsort([abs(abs(n) - fmt.max) for n in x.tolist()])[:40]
    edge = x[np.unique(np.concatenate([nearest, [0, 1, x.size - 2, x.size - 1]]))]
    for overflow in overflows(fmt)[1:]:
        got = rf8sim.encode(edge, fmt, rounding=rf8sim.Rounding(rounding, overflow))
        same_codes(got, oracle(edge, fmt, rounding, overflow), edge, fmt, f"{rounding} {overflow} {dtype}")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@looped("name", NAMES)
def test_every_small_integer(name: str, dtype: str) -> None:
    fmt = get_format(name)
    x = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    for rounding in modes(fmt):
        for overflow in overflows(fmt):
            expected = vector_round(x.astype(np.float64), fmt, rounding, overflow)
            got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow))
            same_codes(got, expected, x, fmt, f"{rounding} {overflow} {dtype}")


def test_integers_that_float64_cannot_hold() -> None:
    """2**53 + 1 and its kin lie above a boundary that their float64 lies on."""
    x = np.array([2**53 - 1, 2**53, 2**53 + 1, 2**60 + 1, 2**62 + 2**61, 2**62 + 2**61 + 1], dtype=np.int64)
    expected = [127 + 53, 127 + 53, 127 + 54, 127 + 61, 127 + 63, 127 + 63]
    assert rf8sim.encode(x, "e8m0fnu", rounding="up").tolist() == expected
    tie = [round_value(int(n), "e8m0fnu", "nearest-even") for n in x]
    assert rf8sim.encode(x, "e8m0fnu").tolist() == tie
    top = np.array([2**64 - 1, 2**63, 2**63 + 2**62, 2**63 + 2**62 - 1], dtype=np.uint64)
    assert rf8sim.encode(top, "e8m0fnu", rounding="toward-zero").tolist() == [127 + 63] * 4
    assert rf8sim.encode(top, "e8m0fnu").tolist() == [191, 190, round_value(2**63 + 2**62, "e8m0fnu"), 190]


def test_python_numbers_and_lists() -> None:
    assert rf8sim.encode(1, "rf8") == 0x7B
    assert rf8sim.encode([1, -1], "rf8").tolist() == [0x7B, 0xFB]
    assert rf8sim.encode([[0.5, 1.5]], "rf8").shape == (1, 2)
    assert rf8sim.encode(2.0, "rf8", rounding=rf8sim.Rounding(overflow="nan")).dtype == np.uint8


# ---------------------------------------------------------------- layouts


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of the same numbers as the C-contiguous two-dimensional `x`, laid out otherwise."""
    wide = np.zeros((x.shape[0], 2 * x.shape[1]), dtype=x.dtype)
    wide[:, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    raw = np.zeros(x.nbytes + 1, dtype=np.uint8)
    raw[1:] = x.reshape(-1).view(np.uint8)
    found = {
        "strided": wide[:, ::2],
        "Fortran": np.asfortranarray(x),
        "reversed": np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
        "transposed": np.ascontiguousarray(x.T).T,
        "read-only": read_only,
        "unaligned": raw[1:].view(x.dtype).reshape(x.shape),
    }
    if x.dtype != ml_dtypes.bfloat16:
        found["big-endian"] = x.astype(x.dtype.newbyteorder(">"))
    return found


@pytest.mark.parametrize("rounding", ["nearest-even", "residual", "stochastic"])
@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS])
def test_layout_does_not_matter(dtype: str, rounding: str) -> None:
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=(6, 35)) * (20 if dtype in INTEGERS else 1)
    x = np.abs(numbers).astype(DTYPES.get(dtype, dtype))
    before = x.copy()
    expected = rf8sim.encode(x, "rf8", rounding=rounding)
    assert len(np.unique(expected)) >= 2
    for what, y in layouts(x).items():
        assert y.tolist() == x.tolist(), what
        np.testing.assert_array_equal(rf8sim.encode(y, "rf8", rounding=rounding), expected, err_msg=what)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("rounding", ["nearest-even", "stochastic"])
@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "uint8"])
def test_shapes(dtype: str, rounding: str) -> None:
    kind = DTYPES.get(dtype, np.dtype(dtype))
    for shape in [(), (0,), (1,), (3, 0, 2), (2, 3, 4), (1, 1, 1, 1)]:
        x = np.ones(shape, dtype=kind)
        codes = rf8sim.encode(x, "rf8", rounding=rounding)
        assert codes.shape == shape
        assert codes.dtype == np.uint8
        assert np.all(codes == 0x7B)
        values = rf8sim.decode(codes, "rf8")
        assert values.shape == shape
        assert np.all(values == 1)
        assert rf8sim.canonical(codes, "rf8").shape == shape


@pytest.mark.parametrize("rounding", ["nearest-even", "stochastic"])
@pytest.mark.parametrize("dtype", [*DTYPES, "int16", "int64"])
def test_out(dtype: str, rounding: str) -> None:
    x = np.linspace(-2, 2, 24).reshape(4, 6).astype(DTYPES.get(dtype, dtype))
    expected = rf8sim.encode(x, "rf8", rounding=rounding)
    wide = np.full((4, 12), 77, dtype=np.uint8)
    for out in (np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8, order="F"), wide[:, ::2]):
        assert rf8sim.encode(x, "rf8", rounding=rounding, out=out) is out
        np.testing.assert_array_equal(out, expected)
    assert np.all(wide[:, 1::2] == 77)
    values = np.zeros((4, 6), dtype=np.float32, order="F")
    assert rf8sim.decode(expected, "rf8", out=values) is values
    np.testing.assert_array_equal(values, rf8sim.decode(expected, "rf8"))


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_threads_do_not_matter(dtype: str) -> None:
    x = np.random.default_rng(5).normal(size=1_000_003).astype(DTYPES[dtype])
    expected = rf8sim.encode(x, "rf8", rounding="residual", threads=1)
    np.testing.assert_array_equal(rf8sim.encode(x, "rf8", rounding="residual", threads=3), expected)
    np.testing.assert_array_equal(rf8sim.encode(x, "rf8", rounding="residual"), expected)
    some = slice(None, None, 997)
    same_codes(expected[some], oracle(x[some], get_format("rf8"), "residual"), x[some], get_format("rf8"))
    np.testing.assert_array_equal(rf8sim.decode(expected, "rf8", threads=3), rf8sim.decode(expected, "rf8", threads=1))


# ---------------------------------------------------------------- laws


@looped("name", NAMES)
def test_decode(name: str) -> None:
    fmt = get_format(name)
    codes = np.arange(fmt.values.size).astype(np.uint8)
    for dtype in ("float32", "float64"):
        values = rf8sim.decode(codes, fmt, dtype=dtype)
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, fmt.values)
        np.testing.assert_array_equal(np.signbit(values), np.signbit(fmt.values.astype(dtype)))
    assert rf8sim.decode(codes, fmt).dtype == np.float32
    for dtype in ("float16", "bfloat16"):
        with np.errstate(over="ignore"):
            rounded = fmt.values.astype(DTYPES[dtype])
        values = rf8sim.decode(codes, fmt, dtype=DTYPES[dtype])
        assert values.dtype == DTYPES[dtype]
        np.testing.assert_array_equal(to_float64(values), to_float64(rounded))


@looped("name", NAMES)
def test_round_trip_gives_the_canonical_code(name: str) -> None:
    fmt = get_format(name)
    codes = np.arange(fmt.values.size).astype(np.uint8)
    canonical = rf8sim.canonical(codes, fmt)
    np.testing.assert_array_equal(canonical, fmt.canonical)
    for dtype in WIDE:
        x = rf8sim.decode(codes, fmt, dtype=dtype)
        for rounding in modes(fmt, stochastic=True):
            for overflow in overflows(fmt):
                here = np.isfinite(x) | np.isnan(x) | (overflow in ("infinity", "ieee", "propagate"))
                got = rf8sim.encode(x[here], fmt, rounding=rf8sim.Rounding(rounding, overflow))
                same_codes(got, canonical[here], x[here], fmt, f"{rounding} {overflow}")


@looped(("name", "rounding"), cases(overflow=False))
def test_monotone_idempotent_and_symmetric(name: str, rounding: str) -> None:
    fmt = get_format(name)
    x = np.sort(to_float64(around(points(fmt), "float32")))
    y = rf8sim.decode(rf8sim.encode(x, fmt, rounding=rounding), fmt, dtype=np.float64)
    assert np.all(np.diff(y) >= 0)
    again = rf8sim.decode(rf8sim.encode(y, fmt, rounding=rounding), fmt, dtype=np.float64)
    np.testing.assert_array_equal(again, y)
    if fmt.signed and np.array_equal(fmt.sides[0].magnitudes, fmt.sides[1].magnitudes):
        mirrored = {"up": "down", "down": "up"}.get(rounding, rounding)
        np.testing.assert_array_equal(
            rf8sim.decode(rf8sim.encode(-x, fmt, rounding=mirrored), fmt, dtype=np.float64), -y
        )


@looped(("name", "rounding"), cases(overflow=False))
def test_error_is_within_half_a_gap_or_one(name: str, rounding: str) -> None:
    """Half the gap between the neighbours for the nearest modes (posits apart), one gap for the rest."""
    fmt = get_format(name)
    values = np.unique(fmt.values[np.isfinite(fmt.values)])
    rng = np.random.default_rng(11)
    x = np.concatenate([rng.uniform(low, high, 8) for low, high in pairwise(values)])
    upper = np.searchsorted(values, x, side="right").clip(1, values.size - 1)
    gap = values[upper] - values[upper - 1]
    y = rf8sim.decode(rf8sim.encode(x, fmt, rounding=rounding), fmt, dtype=np.float64)
    nearest = rounding.startswith("nearest") and fmt.nearest_boundaries is None
    exact = [abs(Fraction(a) - Fraction(b)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    limit = [Fraction(g) / (2 if nearest else 1) for g in gap.tolist()]
    assert all(error <= bound for error, bound in zip(exact, limit, strict=True))
    directed = {"up": y >= x, "down": y <= x, "toward-zero": np.abs(y) <= np.abs(x)}
    if rounding in directed:
        assert np.all(directed[rounding])
    if rounding == "to-odd":
        inexact = y != x
        assert np.all(fmt.rank[rf8sim.encode(y, fmt)][inexact] % 2 == 1)


@given(st.floats(allow_nan=False, width=64))
@example(1.6464466094067263)
@example(-0.0)
def test_nearest_is_nearest(x: float) -> None:
    """By definition, with no neighbour looked up: no value of the format is nearer."""
    values = [Fraction(v) for v in np.unique(get_format("rf8").values[np.arange(256) != 0x80]).tolist()]
    y = Fraction(float(rf8sim.decode(rf8sim.encode(x, "rf8"), "rf8", dtype=np.float64)))
    if math.isinf(x):
        assert y == Fraction(math.copysign(1.5, x))
    else:
        assert abs(Fraction(x) - y) == min(abs(Fraction(x) - v) for v in values)
