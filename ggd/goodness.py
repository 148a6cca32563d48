"""How well a density describes the data, in bits: the code length that a histogram of the data would save."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ggd._cells import Cells

__all__ = ["corners", "equal_cells", "limit", "misfit", "smoothed"]

Array = NDArray[np.float64]

_BAD = 0.1  # bits per value; a density that loses more does not describe the data
_MOST = 64  # cells
_FULL = 100  # values expected in a cell, where that leaves eight of them


def corners(cells: Cells) -> tuple[Array, Array]:
    """Return places and the share of nonzero values up to each, linear in between."""
    above = np.cumsum(cells.counts) / cells.counts.sum()
    below = np.concatenate([[0.0], above[:-1]])
    return np.stack([cells.left, cells.right], 1).ravel(), np.stack([below, above], 1).ravel()


def smoothed(cells: Cells) -> tuple[Array, Array]:
    """Return the same, but with values on a grid spread half way to their neighbours.

    A density says nothing of a grid: it is to be compared with the shares of its neighbourhoods.
    """
    place, share = corners(cells)
    left, right = place[::2].copy(), place[1::2].copy()
    on_grid = np.abs(cells.mean) == np.minimum(np.abs(left), np.abs(right))
    left[on_grid] = right[on_grid] = cells.mean[on_grid]
    middle = 0.5 * (right[:-1] + left[1:])
    right[:-1] = np.where(on_grid[:-1], middle, right[:-1])
    left[1:] = np.where(on_grid[1:], middle, left[1:])
    return np.stack([left, right], 1).ravel(), share


def equal_cells(shape: float, scale: float, n: int) -> Array:
    """Return the inner ends of cells that are equally probable under a generalized Gaussian about zero.

    Parameters
    ----------
    shape, scale : float
        Of the density.
    n : int
        Number of values; it sets the number of cells, from 8 to 64.

    Returns
    -------
    ndarray of float64, shape (cells - 1,)
        Ascending.

    Examples
    --------
    >>> equal_cells(1.0, 1.0, 100).round(3)
    array([-1.386, -0.693, -0.288,  0.   ,  0.288,  0.693,  1.386])
    """
    half = _cell_count(n) // 2
    right = scale * special.gammaincinv(1.0 / shape, np.arange(1, half) / half) ** (1.0 / shape)
    return np.concatenate([-right[::-1], [0.0], right])


def misfit(steps: tuple[Array, Array], ends: Array, below: Array, n: int) -> float:
    """Return how many bits per value a histogram of the data saves against a density.

    Parameters
    ----------
    steps : tuple of ndarray
        Of `smoothed`.
    ends : ndarray of float64, shape (cells - 1,)
        Inner ends of the histogram's cells.
    below : ndarray of float64, shape (cells - 1,)
        The density's distribution function there.
    n : int
        Number of values.

    Returns
    -------
    float
        The divergence of the data's shares of the cells from the density's, less what it is by chance, (cells - 1) /
        (2 n ln 2); 0 if it is less. A lower bound of what the density loses against the data's own (finer cells
        would save more).

    Examples
    --------
    Values that all lie in one of 64 cells of equal probability:

    >>> ends = equal_cells(1.0, 1.0, 10**6)
    >>> uniform_on = (np.array([0.0, 1e-9]), np.array([0.0, 1.0]))
    >>> round(misfit(uniform_on, ends, np.arange(1, 64) / 64, 10**6), 2)
    6.0
    """
    share = np.diff(np.interp(ends, *steps), prepend=0.0, append=1.0)
    probability = np.diff(below, prepend=0.0, append=1.0)
    bits = float(np.sum(special.rel_entr(share, probability))) / math.log(2.0)
    return max(bits - _chance(ends.size + 1, n), 0.0)


def _chance(cells: int, n: int) -> float:
    """Return the bits per value that a histogram of so many cells saves on data of the density itself."""
    return (cells - 1) / (2.0 * n * math.log(2.0))


def limit(n: int) -> float:
    """Return the misfit, in bits per value, above which a density does not describe n values.

    Parameters
    ----------
    n : int
        Number of values.

    Returns
    -------
    float
        0.1, or five times what is by chance if that is more.

    Examples
    --------
    >>> limit(10**6), round(limit(100), 2)
    (0.1, 0.25)
    """
    return max(_BAD, 5.0 * _chance(_cell_count(n), n))


def _cell_count(n: int) -> int:
    """Return the number of cells for n values: even, from 8 to 64."""
    return min(max(n // _FULL, 8), _MOST) // 2 * 2
