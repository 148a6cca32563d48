"""The cells of a histogram as numbers: their ends, what is in them, and areas between distribution functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells", "area_between", "magnitude_edges"]


class Cells(NamedTuple):
    """The occupied cells of a histogram as numbers, in ascending order of the values in them.

    Attributes
    ----------
    counts : ndarray of int64, shape (k,)
        Number of values in each cell.
    mean : ndarray of float64, shape (k,)
        Signed mean of the values in each cell, exact to double precision.
    left, right : ndarray of float64, shape (k,)
        Ends of each cell; a cell holds values of one sign, magnitudes from the end nearer zero (in it) to the
        other (not in it).
    spread : ndarray of float64, shape (k,)
        Estimated sum over the cell of the squared deviation from its mean, divided by count times mean
        squared: at most 5.1e-6 for normal numbers. Zero for a cell of one value, or whose values are all on
        its end nearer zero.
    """

    counts: NDArray[np.int64]
    mean: NDArray[np.float64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    spread: NDArray[np.float64]


@cache
def magnitude_edges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the near end and the width of each cell of positive values."""
    patterns = np.arange(0x7F81, dtype=np.uint32) << np.uint32(16)
    edges = patterns.view(np.float32).astype(np.float64)
    edges[-1] = 2.0**128  # the pattern of infinity: where the last cell ends
    return edges[:-1], np.diff(edges)


def area_between(
    place: NDArray[np.float64], share: NDArray[np.float64], cdf: Callable[[NDArray[np.float64]], Any]
) -> float:
    """Return the area between a polygon and a distribution function.

    Parameters
    ----------
    place, share : ndarray of float64, shape (k,)
        Corners of the polygon, ascending in both; it is 0 before the first and 1 after the last.
    cdf : callable
        The distribution function, vectorized.

    Returns
    -------
    float
        The distribution function is taken as linear inside cells of a histogram: relative error about 1e-5.

    Examples
    --------
    >>> steps = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    >>> round(area_between(*steps, lambda x: np.clip(x / 2.0, 0.0, 1.0)), 9)
    0.5
    """
    # Both functions ascend, which bounds the gap inside an octave: only octaves that matter get all the cells' ends.
    fine = np.append(magnitude_edges()[0], 2.0**128)
    coarse = np.concatenate([-fine[::-128], fine[128::128]])
    rise, steps = np.asarray(cdf(coarse)), np.interp(coarse, place, share, left=0.0, right=1.0)
    bound = np.diff(coarse) * np.maximum(rise[1:] - steps[:-1], steps[1:] - rise[:-1])
    matters = bound > 1e-9 * bound.sum()
    both = np.concatenate([-fine[::-1], fine[1:]])
    grid = np.setdiff1d(np.append(coarse, both[:-1].reshape(-1, 128)[matters]), place)
    x = np.concatenate([place, grid])
    empirical = np.concatenate([share, np.interp(grid, place, share, left=0.0, right=1.0)])
    order = np.argsort(x, kind="stable")
    return float(np.trapezoid(np.abs(np.asarray(cdf(x)) - empirical)[order], x[order]))
