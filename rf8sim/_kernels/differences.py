"""The loop that compares the numbers of two tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def difference_sums(x: Any, y: Any, sums: Any, counts: Any) -> None:
    """Compare numbers with the ones they became, element after element.

    ``sums``, float64: squares of x, squares of x - y, products x y, squares of y, relative errors, the largest |x - y|,
    the largest |x|. ``counts``: elements that are finite in both, that are finite in one alone, those with a relative
    error, those that became zero, those that are equal. Elements that are finite in neither are in no count.
    """
    square, error, product, energy, relative, largest, top = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    finite, apart, related, under, equal = 0, 0, 0, 0, 0
    for i in range(x.size):
        value, result = np.float64(x[i]), np.float64(y[i])
        size, other = abs(value), abs(result)
        if not (size < np.inf and other < np.inf):
            apart += (size < np.inf) != (other < np.inf)
            continue
        off = abs(value - result)
        finite += 1
        equal += off == 0
        square += size * size
        error += off * off
        product += value * result
        energy += other * other
        largest = off if off > largest else largest
        top = size if size > top else top
        if size > 0:
            if other > 0:
                related += 1
                relative += off / size
            else:
                under += 1
    sums[0], sums[1], sums[2], sums[3] = square, error, product, energy
    sums[4], sums[5], sums[6] = relative, largest, top
    counts[0], counts[1], counts[2], counts[3], counts[4] = finite, apart, related, under, equal
