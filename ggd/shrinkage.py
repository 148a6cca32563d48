"""The proximal operator of a prior as a table: one multiplication, one cell, one cubic for each weight.

In the unit ``t = (step shape)^(1 / (2 - shape))`` the operator of every step is one function of the shape alone: the u
with ``u + u^(shape - 1) = s``. Its cells are the exponent and the top 5 bits of the mantissa of s; in each it is the
cubic of its values and slopes at both ends, checked in the middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ggd.prior import shrink, shrink_threshold

__all__ = ["CELL_SHIFT", "LARGEST_SHAPE", "ShrinkTable", "shrink_table"]

CELL_SHIFT = 47
"""Low bits of a float64 pattern that do not choose the cell."""

_RELATIVE, _ABSOLUTE = 2.0**-26, 2.0**-40  # of a float32 result, and in the unit of the table
_SMALLEST = 2.0**-40  # below it u is less than 2^-40, where the shape is above 1

LARGEST_SHAPE = 1.94
"""Nearer to 2 the table would have more cells than float64 has exponents."""


@dataclass(frozen=True)
class ShrinkTable:
    """The operator of one shape, in its unit.

    Attributes
    ----------
    shape : float
        Above 0, at most `LARGEST_SHAPE`, not 1.
    threshold : float
        Magnitudes up to it become zero.
    last : float
        From here on a float32 number does not change.
    first_cell : int
        The pattern of the first cell's lower end, shifted by `CELL_SHIFT`.
    coefficients : NDArray
        float64, (cells, 4): of 1, f, f^2 and f^3, f the place within the cell, from 0 to below 1.
    inexact : NDArray
        bool, (cells,): cells whose cubic is not exact enough for float32, which are solved instead.
    """

    shape: float
    threshold: float
    last: float
    first_cell: int
    coefficients: NDArray[np.float64]
    inexact: NDArray[np.bool_]

    def unit(self, step: float) -> float:
        """Return the t of a step, in the unit of the weights; 0 if it underflows."""
        return float((step * self.shape) ** (1.0 / (2.0 - self.shape)))


@lru_cache(maxsize=512)
def shrink_table(shape: float) -> ShrinkTable:
    """Return the table of a shape.

    Parameters
    ----------
    shape : float
        Above 0, at most `LARGEST_SHAPE`, not 1: there the operator is a soft threshold.

    Returns
    -------
    ShrinkTable

    Raises
    ------
    ValueError
        If there is none of this shape.

    Examples
    --------
    >>> table = shrink_table(0.5)
    >>> round(table.unit(0.1), 3), round(table.threshold * table.unit(0.1), 4)
    (0.136, 0.3232)
    >>> len(table.inexact), int(table.inexact.sum())  # near the jump
    (515, 8)
    """
    if not 0.0 < shape <= LARGEST_SHAPE or shape == 1.0:
        raise ValueError(f"there is a table for shapes above 0, up to {LARGEST_SHAPE}, but not 1: got {shape!r}")
    step = 1.0 / shape  # whose unit is 1
    threshold = shrink_threshold(step, shape)
    last = 2.0 ** (26.0 / (2.0 - shape))
    low, high = (int(np.float64(s).view(np.int64)) >> CELL_SHIFT for s in (max(threshold, _SMALLEST), last))
    patterns = np.arange(low, high + 2, dtype=np.int64) << CELL_SHIFT
    ends = patterns.view(np.float64)
    middles = (patterns[:-1] + (1 << (CELL_SHIFT - 1))).view(np.float64)
    values = _solved(ends, shape)
    with np.errstate(over="ignore"):  # where u underflows, its slope is 0
        slopes = 1.0 / (1.0 + (shape - 1.0) * values ** (shape - 2.0))
    width = np.diff(ends)
    left, right, a, b = values[:-1], values[1:], slopes[:-1] * width, slopes[1:] * width
    rise = right - left
    coefficients = np.stack([left, a, 3.0 * rise - 2.0 * a - b, a + b - 2.0 * rise], axis=1)
    at_middle = coefficients @ np.array([1.0, 0.5, 0.25, 0.125])
    exact = _solved(middles, shape)
    inexact = ~(np.abs(at_middle - exact) <= np.maximum(_RELATIVE * exact, _ABSOLUTE))
    return ShrinkTable(shape, threshold, last, low, coefficients, inexact)


def _solved(s: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """Return the positive root u of ``u + u^(shape - 1) = s``, the larger one; of an s without one, that of the jump.

    Only the first cell's lower end can have none: the jump, and with it the threshold, lies within.
    """
    jump = (2.0 * (1.0 - shape) / shape) ** (1.0 / (2.0 - shape)) if shape < 1.0 else 0.0
    roots = np.asarray(shrink(s, 1.0 / shape, shape))
    return np.where(roots > 0.0, roots, np.maximum(jump, math.ulp(0.0)))
