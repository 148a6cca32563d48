"""Rounding of exact results to floating-point layouts of any width, which are no tables of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import Flags
from ...codec.rounding import Overflow, Rounding, RoundingMode
from ...formats import FloatLayout

__all__ = ["WIDEST_EXPONENT", "WIDEST_MANTISSA", "Rounded", "check_layout_rounding", "parts", "round_to_layout"]

Array = NDArray[np.float64]
Booleans = NDArray[np.bool_]

WIDEST_EXPONENT, WIDEST_MANTISSA = 10, 50
"""The widest fields of a layout that float64 numbers rounded to odd are rounded to as the exact numbers are."""


class Rounded(NamedTuple):
    """Rounded numbers.

    Attributes
    ----------
    patterns : ndarray of unsigned integers
        Bit patterns.
    flags : ndarray of int64
        IEEE 754's exceptions of the rounding.
    ties : ndarray of bool
        Where a number lies halfway between two neighbours.
    """

    patterns: NDArray[np.unsignedinteger[Any]]
    flags: NDArray[np.int64]
    ties: Booleans


_UPPER: dict[str, Callable[[NDArray[np.int64], Array, Booleans], Booleans]] = {
    RoundingMode.NEAREST_EVEN: lambda low, rest, negative: (rest > 0.5) | ((rest == 0.5) & (low & 1 == 1)),
    RoundingMode.NEAREST_AWAY: lambda low, rest, negative: rest >= 0.5,
    RoundingMode.TOWARD_ZERO: lambda low, rest, negative: np.zeros(rest.shape, np.bool_),
    RoundingMode.UP: lambda low, rest, negative: (rest > 0) & ~negative,
    RoundingMode.DOWN: lambda low, rest, negative: (rest > 0) & negative,
    RoundingMode.TO_ODD: lambda low, rest, negative: (rest > 0) & (low & 1 == 0),
}
"""For each mode, from a significand, the fraction of a unit beyond it and the sign: whether the next one is taken."""


def check_layout_rounding(layout: FloatLayout, rounding: Rounding) -> None:
    """Raise ValueError if numbers cannot be rounded to a layout in a mode.

    Examples
    --------
    >>> from rf8sim.formats import get_layout
    >>> check_layout_rounding(get_layout("float32"), Rounding("residual"))
    Traceback (most recent call last):
    ...
    ValueError: rounding 'residual' is not for a result in float32: use 'nearest-even'
    """
    if rounding.mode not in _UPPER and not rounding.stochastic:
        raise ValueError(f"rounding {str(rounding.mode)!r} is not for a result in {layout.name}: use 'nearest-even'")
    if layout.exponent_bits > WIDEST_EXPONENT or layout.mantissa_bits > WIDEST_MANTISSA:
        raise ValueError(
            f"results are not rounded to {layout.name}: at most {WIDEST_EXPONENT} exponent and {WIDEST_MANTISSA} "
            "mantissa bits are decided"
        )


def round_to_layout(values: Array, layout: FloatLayout, rounding: Rounding, *, tiny_after: bool = False) -> Rounded:
    """Round numbers to the patterns of a layout with IEEE 754's infinities and subnormals.

    Parameters
    ----------
    values : ndarray of float64
        The numbers; those of more than 53 bits rounded to odd, which decides for all layouts that
        `check_layout_rounding` takes: float64 has their values and midpoints, with a last bit of 0.
    layout : FloatLayout
        The layout.
    rounding : Rounding
        Not ``residual``; of ``stochastic`` both neighbours are rounded to by other modes (`layout_draws`).
    tiny_after : bool
        Whether a number is tiny if it is below the smallest normal number after it was rounded as though the exponent
        had no bound, rather than before (IEEE 754-2019, 7.5).

    Returns
    -------
    Rounded
        Of the same shape.

    Examples
    --------
    >>> from rf8sim.formats import get_layout
    >>> rounded = round_to_layout(np.array([1 / 3, 1e39, -0.0]), get_layout("float32"), Rounding(overflow="ieee"))
    >>> [hex(pattern) for pattern in rounded.patterns.tolist()], rounded.flags.tolist()
    (['0x3eaaaaab', '0x7f800000', '0x80000000'], [1, 5, 0])
    """
    nan, negative, infinite = np.isnan(values), np.signbit(values), np.isinf(values)
    magnitude = np.where(nan | infinite, 0.0, np.abs(values))
    exponent = np.where(magnitude == 0, layout.emin, np.frexp(magnitude)[1].astype(np.int64) - 1)
    exponent = np.maximum(exponent, layout.emin)
    low, rest = parts(magnitude, exponent, layout)
    upper = _UPPER[rounding.mode](low, rest, negative)
    # The hidden bit of a normal number adds one to the field, and so does a carry into the next binade.
    pattern = ((exponent - layout.emin) << layout.mantissa_bits) + low + upper
    overflown = infinite | (pattern > layout.largest_pattern)
    beyond = _beyond(layout, rounding, negative, infinite)
    pattern = np.where(overflown, beyond, pattern)
    overflown &= ~(infinite & (pattern == layout.infinity))
    inexact = overflown | (rest != 0)
    below = magnitude < layout.smallest_normal
    if tiny_after:
        # As though the exponent had no bound, a number below has one bit more.
        fine = np.minimum(exponent, layout.emin - 1)
        significand, further = parts(np.where(below, magnitude, 0.0), fine, layout)
        significand = significand + _UPPER[rounding.mode](significand, further, negative)
        below &= significand < 1 << (layout.mantissa_bits + 1)
    flags = np.where(inexact, Flags.INEXACT, 0) | np.where(overflown, Flags.OVERFLOW, 0)
    flags |= np.where(inexact & ~overflown & below, Flags.UNDERFLOW, 0)
    assert layout.nan is not None
    is_nan = pattern == layout.nan
    pattern = np.where(nan, layout.nan, np.where(negative & ~is_nan, pattern | layout.sign_mask, pattern))
    return Rounded(
        pattern.astype(layout.pattern_dtype),
        np.where(nan, 0, flags).astype(np.int64),
        (rest == 0.5) & ~nan & ~infinite,
    )


def parts(magnitude: Array, exponent: NDArray[np.int64], layout: FloatLayout) -> tuple[NDArray[np.int64], Array]:
    """Return magnitudes in units of the last place at an exponent: whole units, and the fraction of one."""
    scaled = np.ldexp(magnitude, layout.mantissa_bits - exponent)
    integers = np.floor(scaled)
    return integers.astype(np.int64), scaled - integers


def _beyond(layout: FloatLayout, rounding: Rounding, negative: Booleans, infinite: Booleans) -> NDArray[np.int64]:
    """Return the patterns, without sign, of what lies beyond the largest number."""
    largest, infinity, nan = layout.largest_pattern, layout.infinity, layout.nan
    match rounding.overflow:
        case Overflow.SATURATE:
            return np.full(negative.shape, largest)
        case Overflow.NAN:
            return np.full(negative.shape, nan)
        case Overflow.INFINITY:
            return np.full(negative.shape, infinity)
        case Overflow.PROPAGATE:
            return np.where(infinite, infinity, largest)
    inward = np.full(negative.shape, rounding.mode == RoundingMode.TOWARD_ZERO)
    inward |= negative if rounding.mode == RoundingMode.UP else np.zeros_like(negative)
    inward |= ~negative if rounding.mode == RoundingMode.DOWN else np.zeros_like(negative)
    return np.where(inward & ~infinite, largest, infinity)
