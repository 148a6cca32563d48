"""The oracle itself: against the specification's text, the source's rule in high precision, gfloat, definitions."""

from __future__ import annotations

import csv
import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import gfloat.formats
import ml_dtypes
import mpmath
import numpy as np
import pytest
from gfloat import RoundMode, encode_float, round_float
from hypothesis import example, given
from hypothesis import strategies as st
from oracle_helpers import UNREGISTERED, around, modes, overflows, points

from rf8sim.formats import format_names, get_format
from rf8sim.reference import (
    exact,
    floor_log2,
    ladder,
    nearest_exponent,
    power_of_two,
    random_word,
    residual_depth,
    residual_round,
    residual_value,
    round_value,
)

NAMES = [*format_names(), *UNREGISTERED]
rationals = st.fractions(min_value=Fraction(1, 10**9), max_value=10**9)

# sqrt(2) from below and above, 2**-200 apart.
SQRT2_BELOW = Fraction(math.isqrt(2**401), 2**200)
SQRT2_ABOVE = SQRT2_BELOW + power_of_two(-200)
assert SQRT2_BELOW**2 < 2 < SQRT2_ABOVE**2


# ---------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    ("x", "value"),
    [
        (0.1, Fraction(3602879701896397, 36028797018963968)),
        (np.float32(0.1), Fraction(13421773, 134217728)),
        (np.float16(0.1), Fraction(819, 8192)),
        (ml_dtypes.bfloat16(0.1), Fraction(205, 2048)),
        (np.float64(5e-324), Fraction(1, 2**1074)),
        (np.int64(-(2**63)), Fraction(-(2**63))),
        (np.uint64(2**64 - 1), Fraction(2**64 - 1)),
        (2**80 + 1, Fraction(2**80 + 1)),
        (-0.0, Fraction(0)),
        (Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_exact(x: object, value: Fraction) -> None:
    assert exact(x) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("x", [math.nan, math.inf, np.float32("nan"), ml_dtypes.bfloat16("inf")])
def test_exact_refuses_what_is_no_number(x: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        exact(x)


@given(rationals)
@example(Fraction(1))
@example(Fraction(2**60 - 1, 2**60))
def test_logarithms_by_definition(x: Fraction) -> None:
    k = floor_log2(x)
    assert power_of_two(k) <= x < power_of_two(k + 1)
    n = nearest_exponent(x)
    assert nearest_exponent(-x) == n
    # |log2 x - n| < 1/2, squared and doubled: no logarithm.
    assert power_of_two(2 * n - 1) < x * x < power_of_two(2 * n + 1)


def test_residual_values_are_the_published_table() -> None:
    with (Path(__file__).parent / "data" / "rf8_codes.csv").open() as file:
        for row in csv.DictReader(file):
            if row["kind"] != "nan":
                magnitude = residual_value(int(row["E"]), int(row["r"]), 4, 4)
                assert magnitude * 2**19 == int(row["magnitude_times_2^19"])
                assert ladder(get_format("rf8"), row["sign"] == "1")[0][int(row["rank"])] == magnitude


@pytest.mark.parametrize(("E", "r"), [(-1, 0), (16, 0), (0, 8), (0, -1)])
def test_residual_value_refuses_fields_out_of_range(E: int, r: int) -> None:
    with pytest.raises(ValueError, match="RF"):
        residual_value(E, r, 4, 4)


# ---------------------------------------------------------------- the residual rule


@pytest.mark.parametrize("octave", [-15, -7, -1])
@pytest.mark.parametrize("sign", [1, -1])
def test_residual_thresholds_of_the_specification(octave: int, sign: int) -> None:
    """Section 4: 1 + sqrt2/32, ... and 2 (1 - sqrt2/8), ...: just below goes down, just above goes up."""
    values = [Fraction(n, 16) for n in (16, 17, 18, 20, 24, 28, 30, 32)]
    thresholds = [(1, 1, 32), (1, 1, 16), (1, 1, 8), (1, 1, 4), (2, -2, 8), (2, -2, 16), (2, -2, 32)]
    for (whole, root, divisor), (low, high) in zip(thresholds, pairwise(values), strict=True):
        scale = sign * power_of_two(octave)
        ends = sorted(whole + Fraction(root, divisor) * sqrt2 for sqrt2 in (SQRT2_BELOW, SQRT2_ABOVE))
        assert residual_round(ends[0] * scale, 4) == low * scale
        assert residual_round(ends[1] * scale, 4) == high * scale
        # Not the midpoint: section 4 lists both.
        assert not ends[0] <= (low + high) / 2 <= ends[1]


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 8, 16])
def test_residual_is_the_source_s_two_steps_in_high_precision(depth: int) -> None:
    """Transcribed with logarithms to 60 digits. No input comes within 1e-40 of a tie, so the rounding is decided."""
    rng = np.random.default_rng(depth)
    with mpmath.workdps(60):

        def nearest_log2(x: mpmath.mpf) -> int:
            logarithm = mpmath.log(abs(x), 2)
            assert abs(logarithm - mpmath.floor(logarithm) - 0.5) > 1e-40
            return int(mpmath.nint(logarithm))

        def two_steps(x: float) -> mpmath.mpf:
            first = mpmath.sign(x) * mpmath.mpf(2) ** nearest_log2(mpmath.mpf(x))
            rest = mpmath.mpf(x) - first
            if rest == 0:
                return first
            second = mpmath.sign(rest) * mpmath.mpf(2) ** nearest_log2(rest)
            close = nearest_log2(first) - nearest_log2(second) <= depth
            return first + second if close else first

        inputs = np.exp2(rng.uniform(-30, 30, 400)) * rng.choice([-1, 1], 400)
        fmt = get_format("rf8")
        near = [x for x in around(points(fmt), "float64").tolist() if 0 < abs(x) < 4]
        for x in [*inputs.tolist(), *near[:: max(1, len(near) // 600)]]:
            expected = two_steps(x)
            assert (
                mpmath.mpf(residual_round(Fraction(x), depth).numerator)
                == expected * residual_round(Fraction(x), depth).denominator
            )


@given(rationals, st.sampled_from([2, 4, 8, 16]), st.integers(-40, 40))
def test_residual_laws(x: Fraction, depth: int, shift: int) -> None:
    y = residual_round(x, depth)
    assert residual_round(-x, depth) == -y
    assert residual_round(x * power_of_two(shift), depth) == y * power_of_two(shift)
    assert residual_round(y, depth) == y, "a sum of two powers within the depth is its own"


def test_residual_of_zero() -> None:
    assert residual_round(Fraction(0), 4) == 0


@pytest.mark.parametrize(
    ("name", "depth"),
    [("rf8", 4), ("rf8_e3", 8), ("rf6", 2), ("rf(4,4,12)", 4), ("rf(1,2)", 2), ("rf(5,2)", 2), ("rf(2,16)", 16)],
)
def test_depth_is_read_off_the_table(name: str, depth: int) -> None:
    assert residual_depth(get_format(name)) == depth


@pytest.mark.parametrize("name", [name for name in NAMES if get_format(name).family == "residual"])
def test_residual_between_zero_and_the_smallest_value(name: str) -> None:
    fmt = get_format(name)
    middle = Fraction(fmt.smallest) / 2
    assert round_value(middle, fmt, "residual") == 0
    assert round_value(middle * Fraction(1001, 1000), fmt, "residual") == 1
    # The smallest value holds on to the first boundary above it, and to the middle below.
    assert round_value(Fraction(fmt.smallest) * Fraction(1000, 1001), fmt, "residual") == 1


# ---------------------------------------------------------------- definitions, without neighbours


def by_definition(
    x: Fraction, below: Fraction, above: Fraction, ranks: dict[Fraction, int], rounding: str
) -> set[Fraction]:
    """All values of a format that the mode allows for an `x` in its range, of those around it."""
    if x in ranks:
        return {x}
    if rounding == "up":
        return {above}
    if rounding == "down":
        return {below}
    if rounding == "toward-zero":
        return {below if x > 0 else above}
    if rounding == "to-odd":
        return {v for v in (below, above) if ranks[v] % 2 == 1}
    least = min(x - below, above - x)
    tied = {v for v in (below, above) if abs(x - v) == least}
    if len(tied) == 2 and rounding == "nearest-away":
        return {max(tied, key=abs)}
    if len(tied) == 2:
        return {v for v in tied if ranks[v] % 2 == 0}
    return tied


@pytest.mark.parametrize("name", NAMES)
def test_every_mode_by_its_definition(name: str) -> None:
    fmt = get_format(name)
    rng = np.random.default_rng(1)
    numbers = zip(fmt.values.tolist(), fmt.rank.tolist(), strict=True)
    ranks = {Fraction(v): rank for v, rank in numbers if math.isfinite(v)}
    values = sorted(ranks)
    for i in rng.integers(0, len(values) - 1, 25).tolist():
        low, high = values[i], values[i + 1]
        for share in (Fraction(0), Fraction(1, 10**30), Fraction(1, 2), Fraction(int(rng.integers(1, 99)), 99)):
            x = low + (high - low) * share
            around_x = max(v for v in values if v <= x), min(v for v in values if v >= x)  # by looking at every value
            for rounding in modes(fmt):
                if rounding == "residual" or (rounding.startswith("nearest") and fmt.family == "posit"):
                    continue  # their own tests
                code = round_value(x, fmt, rounding)
                assert code == fmt.canonical[code]
                away = fmt.ties_away and rounding == "nearest-even"  # no value of one significant bit is even
                definition = "nearest-away" if away else rounding
                assert Fraction(float(fmt.values[code])) in by_definition(x, *around_x, ranks, definition)


@pytest.mark.parametrize("name", ["posit8_es0", "posit8_es1", "posit8_es2"])
def test_posits_round_at_the_posit_with_one_bit_more(name: str) -> None:
    """Posit Standard 2022, section 4.1: the (n+1)-bit posit between neighbours decides; a tie goes to the even code."""
    fmt = get_format(name)
    assert fmt.nearest_boundaries is not None
    hair = Fraction(1, 10**40)
    for i, boundary in enumerate(map(Fraction, fmt.nearest_boundaries)):
        u, w = Fraction(float(fmt.values[i])), Fraction(float(fmt.values[i + 1]))
        assert u < boundary < w
        below = i if u else i + 1  # a nonzero value is never rounded to zero
        even = below if below % 2 == 0 else i + 1
        if u == 0:
            even = 1
        assert round_value(boundary - hair, fmt) == below
        assert round_value(boundary, fmt) == even
        assert round_value(boundary, fmt, "nearest-away") == i + 1
        assert round_value(boundary + hair, fmt) == i + 1
        # The negative of a posit is its two's complement.
        assert round_value(-boundary, fmt) == 256 - even
    assert round_value(Fraction(10) ** 40, fmt, overflow="nan") == 0x7F, "posits never overflow"
    assert round_value(-(Fraction(1) / 10**40), fmt) == 0xFF


def test_stochastic_is_an_adder_s_carry() -> None:
    """int8, 2 + 5/16: the upper neighbour for exactly 5 of 16 words, those whose sum with 5 carries."""
    x = Fraction(37, 16)
    assert [round_value(x, "int8", "stochastic", word=w, random_bits=4) for w in range(16)] == [2] * 11 + [3] * 5
    assert [round_value(-x, "int8", "stochastic", word=w, random_bits=4) for w in range(16)] == [254] * 11 + [253] * 5
    # With two bits 5/16 is cut to 1/4; words are taken modulo four.
    assert [round_value(x, "int8", "stochastic", word=w, random_bits=2) for w in range(8)] == [2, 2, 2, 3] * 2
    assert round_value(Fraction(2), "int8", "stochastic", word=2**32 - 1) == 2


def test_words_of_four_elements_share_a_block() -> None:
    assert random_word(5, 4) != random_word(5, 0)
    assert random_word(5 + 2**32, 0) != random_word(5, 0)
    assert [f"{random_word(0, i):08x}" for i in range(4)] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


# ---------------------------------------------------------------- a second implementation


GFLOAT = {
    "e4m3fn": gfloat.formats.format_info_ocp_e4m3,
    "e5m2": gfloat.formats.format_info_ocp_e5m2,
    "e2m3fn": gfloat.formats.format_info_ocp_e2m3,
    "e3m2fn": gfloat.formats.format_info_ocp_e3m2,
    "e2m1fn": gfloat.formats.format_info_ocp_e2m1,
    "binary8p3": gfloat.formats.format_info_p3109(8, 3),
    "binary8p4": gfloat.formats.format_info_p3109(8, 4),
    "binary8p5": gfloat.formats.format_info_p3109(8, 5),
}
DIRECTIONS = {
    "nearest-even": RoundMode.TiesToEven,
    "nearest-away": RoundMode.TiesToAway,
    "toward-zero": RoundMode.TowardZero,
    "up": RoundMode.TowardPositive,
    "down": RoundMode.TowardNegative,
}


@pytest.mark.parametrize("rounding", DIRECTIONS)
@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat_agrees(name: str, rounding: str) -> None:
    """On a grid finer than the format, ties included, and beyond its range; saturating and, with infinities, not."""
    fmt, info = get_format(name), GFLOAT[name]
    grid = [float(low + (high - low) * j / 4) for low, high in pairwise(points(fmt)) for j in (0, 1, 2)]
    for overflow, saturates in {"saturate": True, "ieee": False}.items():
        if overflow not in overflows(fmt):
            continue
        for x in [*grid, math.inf, *(-x for x in grid), -math.inf]:
            theirs = encode_float(info, round_float(info, x, DIRECTIONS[rounding], saturates))
            ours = round_value(x, fmt, rounding, overflow)
            assert ours == theirs or np.isnan(fmt.values[[ours, theirs]]).all(), x  # NaN is one value


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("x", "name", "options", "message"),
    [
        (math.nan, "int8", {}, "no NaN code"),
        (1.0, "int8", {"overflow": "nan"}, "needs a NaN code"),
        (1.0, "rf8", {"overflow": "infinity"}, "needs an infinity"),
        (1.0, "e5m2", {"rounding": "residual"}, "RF family"),
        (1.0, "rf8", {"rounding": "nearest"}, "no such rounding"),
        (1.0, "rf8", {"overflow": "wrap"}, "no such rounding"),
        (1.1, "rf8", {"rounding": "stochastic"}, "random word"),
        (1.1, "rf8", {"rounding": "stochastic", "word": 0, "random_bits": 33}, "random_bits"),
    ],
)
def test_bad_input(x: float, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        round_value(x, name, **options)  # type: ignore[arg-type]
