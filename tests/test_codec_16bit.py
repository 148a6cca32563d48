"""All 65,536 float16 and bfloat16 inputs, in every format, deterministic mode and overflow option."""

from __future__ import annotations

import numpy as np
import pytest
from loops import looped
from oracle_helpers import (
    UNREGISTERED,
    all_patterns,
    cases,
    modes,
    oracle,
    overflows,
    same_codes,
    to_float64,
    vector_round,
)

import rf8sim
from rf8sim.formats import format_names, get_format

NAMES = [*format_names(), *UNREGISTERED]
TYPES = ["float16", "bfloat16"]


def inputs(fmt: rf8sim.Format, dtype: str) -> np.ndarray:
    """All patterns; without NaN for a format that has none (that it is refused is another test)."""
    x = all_patterns(dtype)
    return x if fmt.nan is not None else x[~np.isnan(to_float64(x))]


@pytest.mark.parametrize("dtype", TYPES)
@looped(("name", "rounding", "overflow"), cases())
def test_every_16_bit_input(name: str, rounding: str, overflow: str, dtype: str) -> None:
    fmt = get_format(name)
    x = inputs(fmt, dtype)
    got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow))
    same_codes(got, vector_round(to_float64(x), fmt, rounding, overflow), x, fmt, f"{rounding} {overflow} {dtype}")


@pytest.mark.parametrize("dtype", TYPES)
@looped(("name", "rounding"), cases(overflow=False))
def test_expected_codes_are_the_oracle_s(name: str, rounding: str, dtype: str) -> None:
    """The arrays that the test above expects are the Fraction oracle's at both ends of every run of one code.

    The oracle is monotone within a sign (the exhaustive tests below prove it on all inputs), so nothing can
    differ inside a run. Of the other overflow options the runs are looked at that saturating does not have.
    """
    fmt = get_format(name)
    x = inputs(fmt, dtype)
    values = to_float64(x)
    saturated = vector_round(values, fmt, rounding)
    sample = np.random.default_rng(1).integers(0, x.size, 50)
    for overflow in overflows(fmt):
        expected = vector_round(values, fmt, rounding, overflow)
        new = (expected != saturated) if overflow != "saturate" else np.ones(x.size, dtype=bool)
        steps = np.flatnonzero((np.diff(expected) != 0) & (new[1:] | new[:-1]))
        ends = np.unique(np.concatenate([[0, x.size - 1], steps, steps + 1, sample]))
        same_codes(expected[ends], oracle(x[ends], fmt, rounding, overflow), x[ends], fmt, f"second path, {overflow}")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rounding", modes(get_format("rf8")))
def test_rf8_directly(rounding: str, dtype: str) -> None:
    """RF8 without a second path between: every input through int and Fraction."""
    fmt = get_format("rf8")
    x = inputs(fmt, dtype)
    check_directly(x, fmt, rounding, "saturate")
    check_directly(x[decided(to_float64(x), fmt, "nan")], fmt, rounding, "nan")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "rf8"])
def test_every_format_directly(name: str, dtype: str) -> None:
    """Every other format likewise, where the oracle has something to decide; elsewhere a seeded few.

    All inputs are compared with the second path above, and that with the oracle at both ends of every run of codes.
    What is left to show here is that the oracle has no step inside a run. It can have one only between the values that
    it compares an input with, so all inputs are looked at from a quarter of the smallest value to four times the
    largest; `ladder` gives it nothing to compare with outside. It reads the overflow option where a magnitude is above
    the largest value, or has a sign that the format does not, and nowhere else: there all inputs are looked at again.

    An input is compared in three ways: with the values, on which alone the modes without a boundary depend; with the
    boundary of the nearest modes, which part at that number only, an end of a run; and by the residual rule. One mode
    of each kind sees every input, the others a seeded few, beside all ends of runs above.
    """
    fmt = get_format(name)
    x = inputs(fmt, dtype)
    few = np.random.default_rng(3).random(x.size) < 1 / 32
    for overflow in overflows(fmt):
        here = decided(to_float64(x), fmt, overflow)
        for rounding in modes(fmt):
            every = rounding in ("nearest-even", "up", "residual")
            check_directly(x[here | few if every else few], fmt, rounding, overflow)


def decided(values: np.ndarray, fmt: rf8sim.Format, overflow: str) -> np.ndarray:
    """Where the oracle decides something that another case has not shown."""
    finite = fmt.values[np.isfinite(fmt.values) & (fmt.values != 0)]
    magnitudes = np.abs(values)
    ends = [abs(finite).min(), abs(finite).max()]
    ends += [one for one in (fmt.beyond, fmt.beyond_negative) if one is not None and np.isfinite(one)]
    here = (magnitudes >= ends[0] / 4) & (magnitudes <= 4 * max(ends))
    if overflow != "saturate":
        least = min(finite.max(), -finite.min()) if fmt.signed else finite.max()
        here &= (magnitudes >= least) | ((values < 0) & (not fmt.signed))
    return here | (magnitudes == 0) | np.isinf(values)


def check_directly(x: np.ndarray, fmt: rf8sim.Format, rounding: str, overflow: str) -> None:
    expected = oracle(x, fmt, rounding, overflow)
    same_codes(rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow)), expected, x, fmt, rounding)
    # The oracle itself never goes back: an input of larger magnitude has a code of at least that rank.
    values = to_float64(x)
    rank = np.where(np.isinf(fmt.values), 1000, fmt.rank.astype(int))
    for negative in (False, True) if fmt.signed else (False,):
        order = np.argsort(np.abs(values[(np.signbit(values) == negative) & ~np.isnan(values)]))
        codes = expected[(np.signbit(values) == negative) & ~np.isnan(values)][order]
        ranks = np.where(codes == fmt.nan, 1000, rank[codes]) if overflow in ("nan", "ieee") else rank[codes]
        assert np.all(np.diff(ranks) >= 0)
