"""The loop that compares numbers with their codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def row_errors(
    x: Any, codes: Any, values: Any, low: Any, high: Any, grid: Any, block: Any, finite_only: Any,
    sums: Any, counts: Any, code_counts: Any,
) -> None:  # fmt: skip
    """Add up the error of each row, element after element, so that cutting rows into pieces changes no bit.

    ``grid`` is scales and offsets, float64: each has a row for each row of ``x`` or one for all, and a column for each
    ``block`` elements of a row; a value of 8 bits times a scale of float32 is exact in float64. ``sums``: squares of x,
    squared error, relative error, largest relative error. ``counts``: finite elements, nonzero ones, those with a
    relative error, underflows, overflows. Elements that are not finite, themselves or as coded, count as overflows or
    as nothing; with ``finite_only`` those not finite themselves are passed over.
    """
    scale, offset = grid
    for i in range(x.shape[0]):
        scale_row = i if scale.shape[0] > 1 else 0
        square, error, relative, largest = sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3]
        finite, nonzero, related, under, over = counts[i, 0], counts[i, 1], counts[i, 2], counts[i, 3], counts[i, 4]
        for start in range(0, x.shape[1], block):
            factor, shift = scale[scale_row, start // block], offset[scale_row, start // block]
            top, bottom = high * factor + shift, low * factor + shift
            if factor < 0:
                top, bottom = bottom, top
            for j in range(start, min(start + block, x.shape[1])):
                value, code = np.float64(x[i, j]), codes[i, j]
                if finite_only and not np.isfinite(value):
                    continue
                code_counts[code] += 1
                over += value > top or value < bottom
                result = values[code] * factor + shift
                if not (np.isfinite(value) and np.isfinite(result)):
                    continue
                off = abs(value - result)
                finite += 1
                square += value * value
                error += off * off
                if value != 0:
                    nonzero += 1
                    if result == 0:
                        under += 1
                    else:
                        related += 1
                        ratio = off / abs(value)
                        relative += ratio
                        largest = max(largest, ratio)
        sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3] = square, error, relative, largest
        counts[i, 0], counts[i, 1], counts[i, 2], counts[i, 3], counts[i, 4] = finite, nonzero, related, under, over
