"""The tables that a mode makes of a format: where the boundaries lie and how their first patterns are found."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loops import looped
from oracle_helpers import DTYPES, UNREGISTERED, cases, first_upper, float_above, residual_boundary

from rf8sim.codec.boundaries import Boundary, boundaries
from rf8sim.codec.rounding import Overflow, RoundingMode
from rf8sim.codec.thresholds import step_table
from rf8sim.formats import format_names, get_format
from rf8sim.reference import MODES, OVERFLOWS, ladder

NAMES = [*format_names(), *UNREGISTERED]


def test_every_mode_and_option_has_its_definition_in_the_oracle() -> None:
    assert tuple(mode.value for mode in RoundingMode) == MODES
    assert tuple(option.value for option in Overflow) == OVERFLOWS


@given(
    st.fractions(min_value=0, max_value=1000, max_denominator=2**40),
    st.fractions(min_value=-100, max_value=100, max_denominator=2**40),
    st.booleans(),
    st.integers(-60, 8),
)
def test_ceiling_is_the_first_multiple_that_goes_up(
    rational: Fraction, root: Fraction, inclusive: bool, exponent: int
) -> None:
    """``n * step >= rational + root * sqrt(2)``, by squaring; strictly so where the point itself stays down."""
    step = Fraction(2) ** exponent

    def goes_up(n: int) -> bool:
        # n * step - rational against root * sqrt(2)
        left = n * step - rational
        if root == 0:
            return left >= 0 if inclusive else left > 0
        if left >= 0:
            return root < 0 or left * left > 2 * root * root
        return root < 0 and left * left < 2 * root * root

    n = Boundary(rational, root, inclusive).ceiling(exponent)
    assert goes_up(n)
    assert not goes_up(n - 1)


def test_rf8_residual_boundaries_are_those_of_the_specification() -> None:
    placed = boundaries(get_format("rf8"), RoundingMode.RESIDUAL, False)
    # From 2**-1 on: an octave of section 4, (rational, multiple of sqrt 2) in units of 1/32 of 2**-1.
    octave = [(32, 1), (32, 2), (32, 4), (32, 8), (64, -8), (64, -4), (64, -2)]
    magnitudes = ladder(get_format("rf8"), False)[0]
    first = magnitudes.index(Fraction(1, 2))
    found = [(b.rational * 64, b.root * 64) for b in placed[first : first + 7]]
    assert found == octave
    # The middle below the smallest value, to zero there; the last one leads out of the range.
    assert placed[0] == Boundary(magnitudes[1] / 2, Fraction(0), False)
    assert (placed[-1].rational, placed[-1].root) == (2, Fraction(-1, 4))
    assert len(placed) == 113


@looped(("name", "rounding"), cases(overflow=False))
def test_boundaries_are_those_of_the_second_path(name: str, rounding: str) -> None:
    """Both derive the first float64 that goes up, one from rationals and roots of two, the other by its own rules."""
    fmt = get_format(name)
    for negative in (False, True)[: 1 + fmt.signed]:
        expected = first_upper(fmt, rounding, negative)
        placed = boundaries(fmt, RoundingMode(rounding), negative)
        assert len(placed) == expected.size
        for boundary, first in zip(placed, expected.tolist(), strict=True):
            for x, up in ((first, True), (math.nextafter(first, 0.0), False)):
                left = Fraction(x) - boundary.rational
                if boundary.root == 0:
                    goes_up = left >= 0 if boundary.inclusive else left > 0
                elif left >= 0:
                    goes_up = boundary.root < 0 or left**2 > 2 * boundary.root**2
                else:
                    goes_up = boundary.root < 0 and left**2 < 2 * boundary.root**2
                assert goes_up == up


@pytest.mark.parametrize("dtype", list(DTYPES))
@looped("name", NAMES)
def test_step_tables_are_ascending_and_cover_the_patterns(name: str, dtype: str) -> None:
    fmt = get_format(name)
    table = step_table(fmt, RoundingMode.NEAREST_EVEN, Overflow.SATURATE, dtype)
    assert table.first[0] == 0
    assert np.all(np.diff(table.first.astype(object)) > 0)
    assert int(table.first[-1]) < 1 << (8 * DTYPES[dtype].itemsize)
    assert set(table.result.tolist()) <= set(np.unique(fmt.canonical).tolist()) | {0}


def test_the_helper_s_irrational_boundary_is_bracketed() -> None:
    """`residual_boundary` lies below the exact point by less than 2**-190: shown by squares."""
    magnitudes = ladder(get_format("rf8"), False)[0]
    for low, high in pairwise(magnitudes[1:]):
        found = residual_boundary(low, high)
        assert low < found < high
        base = min(
            (Fraction(2) ** k for k in range(-16, 2)), key=lambda power: max(abs(low - power), abs(high - power))
        )
        half = max(abs(low - base), abs(high - base)) ** 2 / 2
        ends = [(found - base) ** 2, (found + Fraction(1, 2**190) - base) ** 2]
        assert min(ends) < half < max(ends)
        assert float_above(found) > found
