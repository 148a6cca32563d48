"""What rounding to odd in float64 leaves open.

A number rounded to odd in 53 bits lies on the same side of a boundary as the number itself if float64 has that
boundary and its last bit is 0 (Boldo and Melquiond, IEEE Transactions on Computers 57, 2008). The boundaries of the
mode ``residual`` are irrational, and a midpoint of neighbours that lie far apart may need more than 53 bits: next to
those the exact number decides. So it does where stochastic rounding compares more bits than 53.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..formats import Format, get_layout
from .boundaries import place
from .rounding import Rounding, RoundingMode, as_rounding

__all__ = ["decides", "is_odd", "next_to_boundary", "undecided"]

_ONE = np.uint64(1)
_SIGN = np.uint64(1 << 63)
_NEXT = 4  # patterns; a product of numbers with a unit error each lies within 3 of the exact product
_DIGITS = 52  # of an even float64 pattern


@lru_cache(maxsize=256)
def _patterns(fmt: Format, mode: RoundingMode, negative: bool) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return where float64 patterns, sign clear, go up, and the odd ones that stand for both sides of a boundary."""
    if negative and not fmt.signed:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    placed = place(fmt, mode, negative)
    first = placed.patterns(get_layout("float64"))
    even = placed.point.view(np.uint64) & _ONE == 0
    inexact = first[(placed.rest != 0) | (placed.root != 0) | ~even]
    around = np.concatenate([inexact, inexact - _ONE])
    return first, np.unique(around[around & _ONE == 1])


@lru_cache(maxsize=64)
def _digits(fmt: Format) -> int:
    """Return how many binary digits a number between two neighbours needs to be cut at their last place."""
    digits = 1
    for side in fmt.sides:
        grid = np.append(side.magnitudes, side.beyond) if math.isfinite(side.beyond) else side.magnitudes
        fraction, exponent = np.frexp(grid)
        integer = (fraction * 2.0**53).astype(np.int64)
        zeros = np.bitwise_count((integer & -integer) - 1).astype(np.int64)
        unit = np.where(grid == 0, exponent.max(initial=0), exponent - 53 + zeros)
        digits = max(digits, int((exponent[1:] - np.minimum(unit[1:], unit[:-1])).max(initial=1)))
    return digits


def decides(fmt: Format, rounding: str | Rounding) -> bool:
    """Return whether rounding to odd in float64, then to a format, is rounding the exact number, for every number.

    Parameters
    ----------
    fmt : Format
        The format.
    rounding : str or Rounding
        Of ``stochastic`` it depends on the ``bits`` that are compared.

    Examples
    --------
    >>> import rf8sim
    >>> rf8 = rf8sim.get_format("rf8")
    >>> [decides(rf8, mode) for mode in ("nearest-even", "stochastic", "residual")]
    [True, True, False]
    """
    chosen = as_rounding(rounding)
    if chosen.stochastic:
        return _digits(fmt) + chosen.bits + (chosen.variant != "A") <= _DIGITS
    return not any(_patterns(fmt, RoundingMode(chosen.mode), negative)[1].size for negative in (False, True))


def is_odd(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which numbers may be inexact: those whose last bit is 1."""
    odd: NDArray[np.bool_] = np.ascontiguousarray(values).view(np.uint64) & _ONE == 1
    return odd.reshape(np.shape(values))


def undecided(values: NDArray[np.float64], fmt: Format, rounding: str | Rounding) -> NDArray[np.bool_]:
    """Return which numbers, rounded to odd in float64, may be rounded to a format otherwise than the exact ones are.

    Parameters
    ----------
    values : ndarray of float64
        Exact numbers, or rounded to odd.
    fmt : Format
        The format that they are to be rounded to.
    rounding : str or Rounding
        How.

    Returns
    -------
    ndarray of bool
        Of the same shape: few are true, and none where float64 decides.

    Examples
    --------
    Between 1 and 17/16 of RF8 the boundary is ``1 + sqrt(2) / 32``:

    >>> import math, rf8sim
    >>> x = np.nextafter(1 + math.sqrt(2) / 32, [0.0, 1.0, 2.0])
    >>> bool(undecided(x, rf8sim.get_format("rf8"), "residual").any())
    True
    """
    chosen = as_rounding(rounding)
    if decides(fmt, chosen):
        return np.zeros(values.shape, dtype=np.bool_)
    odd = is_odd(values) & np.isfinite(values)
    if chosen.stochastic or not odd.any():
        return odd
    bits, odd = np.ascontiguousarray(values).view(np.uint64).reshape(-1), odd.reshape(-1)
    result = np.zeros(values.size, dtype=np.bool_)
    for negative in (False, True):
        here = odd & ((bits & _SIGN != 0) == negative)
        result[here] = np.isin(bits[here] & ~_SIGN, _patterns(fmt, RoundingMode(chosen.mode), negative)[1])
    return result.reshape(values.shape)


def next_to_boundary(values: NDArray[np.float64], fmt: Format, rounding: str | Rounding) -> NDArray[np.bool_]:
    """Return which numbers lie so near to a boundary that an error in the last place may change what they round to.

    Parameters
    ----------
    values, fmt, rounding
        As for `undecided`; of ``stochastic`` all finite numbers are next to one.

    Returns
    -------
    ndarray of bool
        Of the same shape.
    """
    chosen = as_rounding(rounding)
    finite: NDArray[np.bool_] = np.isfinite(values)
    if chosen.stochastic:
        return finite
    bits = np.ascontiguousarray(values).view(np.uint64).reshape(-1)
    result = np.zeros(values.size, dtype=np.bool_)
    for negative in (False, True):
        first = _patterns(fmt, RoundingMode(chosen.mode), negative)[0]
        here = finite.reshape(-1) & ((bits & _SIGN != 0) == negative)
        magnitude = bits[here] & ~_SIGN
        below = np.searchsorted(first, magnitude + np.uint64(_NEXT), side="right")
        result[here] = below > np.searchsorted(first, np.maximum(magnitude, np.uint64(_NEXT)) - np.uint64(_NEXT))
    return result.reshape(values.shape)
