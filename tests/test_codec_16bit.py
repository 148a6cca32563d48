"""All 65,536 float16 and bfloat16 inputs, in every format, deterministic mode and overflow option."""

from __future__ import annotations

import numpy as np
import pytest
from oracle_helpers import all_patterns, cases, oracle, overflows, same_codes, to_float64, vector_round

import rf8sim
from rf8sim.formats import get_format

TYPES = ["float16", "bfloat16"]


def inputs(fmt: rf8sim.Format, dtype: str) -> np.ndarray:
    """All patterns; without NaN for a format that has none (that it is refused is another test)."""
    x = all_patterns(dtype)
    return x if fmt.nan is not None else x[~np.isnan(to_float64(x))]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("name", "rounding", "overflow"), cases())
def test_every_16_bit_input(name: str, rounding: str, overflow: str, dtype: str) -> None:
    fmt = get_format(name)
    x = inputs(fmt, dtype)
    got = rf8sim.encode(x, fmt, rounding=rounding, overflow=overflow)
    same_codes(got, vector_round(to_float64(x), fmt, rounding, overflow), x, fmt, f"{rounding} {overflow} {dtype}")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("name", "rounding"), cases(overflow=False))
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
@pytest.mark.parametrize(("name", "rounding", "overflow"), cases(names=("rf8",)))
def test_rf8_directly(name: str, rounding: str, overflow: str, dtype: str) -> None:
    """RF8 without a second path between: every input through int and Fraction."""
    check_directly(name, rounding, overflow, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("name", "rounding", "overflow"), [case for case in cases() if case[0] != "rf8"])
def test_every_format_directly(name: str, rounding: str, overflow: str, dtype: str) -> None:
    check_directly(name, rounding, overflow, dtype)


def check_directly(name: str, rounding: str, overflow: str, dtype: str) -> None:
    fmt = get_format(name)
    x = inputs(fmt, dtype)
    expected = oracle(x, fmt, rounding, overflow)
    same_codes(rf8sim.encode(x, fmt, rounding=rounding, overflow=overflow), expected, x, fmt, rounding)
    # The oracle itself never goes back: an input of larger magnitude has a code of at least that rank.
    values = to_float64(x)
    rank = np.where(np.isinf(fmt.values), 1000, fmt.rank.astype(int))
    for negative in (False, True) if fmt.signed else (False,):
        order = np.argsort(np.abs(values[(np.signbit(values) == negative) & ~np.isnan(values)]))
        codes = expected[(np.signbit(values) == negative) & ~np.isnan(values)][order]
        ranks = np.where(codes == fmt.nan, 1000, rank[codes]) if overflow == "nan" else rank[codes]
        assert np.all(np.diff(ranks) >= 0)
