"""Sums of products that are shifted to the largest exponent and cut there, as matrix engines take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_TILE = 256  # outputs that are summed side by side
_ZERO = np.int64(-126)  # the exponent that a zero counts with


@njit(nogil=True, cache=True)
def sum_aligned(a: Any, b: Any, plan: Any, number: Any, sums: Any) -> None:
    """Add blocks of products to sums, in place.

    ``a`` and ``b`` are values and exponents, ``(rows, depth)`` and ``(depth, columns)``. ``plan`` is the fraction bits,
    the products of a block, and whether terms are rounded to nearest even rather than cut off. ``number`` says what a
    sum is rounded to: precision, smallest exponent, whether to nearest even rather than toward zero, largest value. All
    terms of a block and their sum are whole numbers below 2**53 in units of the last place.
    """
    (x, ex), (y, ey) = a, b
    fraction, block, nearest = plan
    precision, emin, to_nearest, largest = number
    rows, columns = sums.shape
    depth = x.shape[1]
    top = np.empty(_TILE, np.int64)
    scale, total, special = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    scale_bits = scale.view(np.int64)
    for i in range(rows):
        for start in range(0, columns, _TILE):
            size = min(_TILE, columns - start)
            out = sums[i, start : start + size]
            for first in range(0, depth, block):
                last = min(first + block, depth)
                for j in range(size):
                    top[j] = _exponent(out[j], emin)
                for k in range(first, last):
                    e, row = ex[i, k], ey[k, start : start + size]
                    for j in range(size):
                        top[j] = max(top[j], np.int64(e) + np.int64(row[j]))
                for j in range(size):
                    scale_bits[j] = (np.int64(1023) + fraction - top[j]) << np.int64(52)
                    total[j] = _cut(out[j] * scale[j], nearest)
                    special[j] = out[j] * 0.0
                for k in range(first, last):
                    value, row = x[i, k], y[k, start : start + size]
                    for j in range(size):
                        product = value * row[j]
                        total[j] += _cut(product * scale[j], nearest)
                        special[j] += product * 0.0
                for j in range(size):
                    if special[j] == 0.0:
                        scale_bits[j] = (np.int64(1023) + top[j] - fraction) << np.int64(52)
                        out[j] = _rounded(total[j] * scale[j], precision, emin, to_nearest, largest)
                    else:  # an infinity or NaN among the terms
                        exceptional = out[j]
                        for k in range(first, last):
                            exceptional += x[i, k] * y[k, start + j]
                        out[j] = exceptional


@njit(inline="always")
def _cut(x: Any, nearest: Any) -> Any:
    rounded = (abs(x) + 4503599627370496.0) - 4503599627370496.0
    if not nearest:
        rounded -= 1.0 if rounded > abs(x) else 0.0
    return rounded if x > 0 else -rounded


@njit(inline="always")
def _exponent(x: Any, emin: Any) -> Any:
    field = (np.float64(x).view(np.int64) >> np.int64(52)) & np.int64(0x7FF)
    return _ZERO if x == 0 else max(field - np.int64(1023), np.int64(emin))


@njit(inline="always")
def _rounded(x: Any, precision: Any, emin: Any, nearest: Any, largest: Any) -> Any:
    field = (np.float64(x).view(np.int64) >> np.int64(52)) & np.int64(0x7FF)
    place = max(field - np.int64(1023), np.int64(emin)) - (np.int64(precision) - np.int64(1))
    unit = np.int64((np.int64(1023) + place) << np.int64(52)).view(np.float64)
    magnitude = abs(_cut(x / unit, nearest)) * unit
    magnitude = magnitude if magnitude <= largest else np.inf
    return magnitude if x > 0 else (-magnitude if x < 0 else 0.0)
