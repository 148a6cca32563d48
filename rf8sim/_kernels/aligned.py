"""Sums of products that are shifted to the largest exponent and cut there, as matrix engines take them.

Values are float64, exponents those that an adder of products sees, far below any other for a zero. A mode is a number:
0 toward zero, 1 to nearest even, 2 to odd. That in which terms are cut is a tuple of that length, for which each kernel
is compiled without branches. All terms of a block and their sum are whole numbers below 2**53 in units of the last place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_LOWEST = np.int64(-600)  # below the exponent of every product that is not zero
_FARTHEST = np.int64(-200)  # a shift that leaves nothing of a sum but its sign
_TILE = 256  # outputs that are summed side by side


@njit(nogil=True, cache=True)
def sum_aligned(a: Any, b: Any, plan: Any, number: Any, sums: Any) -> None:
    """Add blocks of products to sums, in place: the sum is one of the terms that are aligned.

    ``a`` and ``b`` are values and exponents, ``(rows, depth)`` and ``(depth, columns)``. ``plan`` is the fraction bits,
    the products of a block, and the mode in which terms are cut. ``number`` says what a sum is rounded to: precision,
    smallest exponent, mode, largest value.
    """
    (x, ex), (y, ey) = a, b
    fraction, block, mode = plan
    precision, emin, rounding, largest = number
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
                    total[j] = _cut(out[j] * scale[j], mode)
                    special[j] = out[j] * 0.0
                for k in range(first, last):
                    value, row = x[i, k], y[k, start : start + size]
                    for j in range(size):
                        product = value * row[j]
                        total[j] += _cut(product * scale[j], mode)
                        special[j] += product * 0.0
                for j in range(size):
                    finite = _rounded(total[j] * _power_of_two(top[j] - fraction), precision, emin, rounding, largest)
                    total[j] = out[j]
                    out[j] = finite
                for j in range(size):
                    if special[j] != 0.0:  # an infinity or NaN among the terms
                        out[j] = total[j]
                        for k in range(first, last):
                            out[j] += x[i, k] * y[k, start + j]


@njit(nogil=True, cache=True)
def sum_groups(a: Any, b: Any, plan: Any, number: Any, sums: Any) -> None:
    """Add blocks of groups of products to sums, in place, as `sum_aligned` adds products.

    Exponents are those of groups, ``(rows, groups)`` and ``(groups, columns)``; ``plan`` has the products of a group
    besides, which are summed without an error.
    """
    (x, ex), (y, ey) = a, b
    fraction, block, mode, group = plan
    precision, emin, rounding, largest = number
    rows, columns = sums.shape
    depth = x.shape[1]
    top = np.empty(_TILE, np.int64)
    scale, total, part = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    scale_bits = scale.view(np.int64)
    for i in range(rows):
        for start in range(0, columns, _TILE):
            size = min(_TILE, columns - start)
            out = sums[i, start : start + size]
            for first in range(0, depth, block):
                last = min(first + block, depth)
                for j in range(size):
                    top[j] = _exponent(out[j], emin)
                for k in range(first, last, group):
                    e, row = ex[i, k // group], ey[k // group, start : start + size]
                    for j in range(size):
                        top[j] = max(top[j], np.int64(e) + np.int64(row[j]))
                for j in range(size):
                    scale_bits[j] = (np.int64(1023) + fraction - top[j]) << np.int64(52)
                    total[j] = _cut(out[j] * scale[j], mode)
                for g in range(first, last, group):
                    for j in range(size):
                        part[j] = 0.0
                    for k in range(g, min(g + group, last)):
                        value, row = x[i, k], y[k, start : start + size]
                        for j in range(size):
                            part[j] += value * row[j]
                    for j in range(size):
                        total[j] += _cut(part[j] * scale[j], mode)
                for j in range(size):
                    finite = _rounded(total[j] * _power_of_two(top[j] - fraction), precision, emin, rounding, largest)
                    part[j] = out[j]
                    out[j] = finite
                for j in range(size):
                    if total[j] * 0.0 != 0.0:  # an infinity or NaN among the terms
                        out[j] = part[j]
                        for k in range(first, last):
                            out[j] += x[i, k] * y[k, start + j]


@njit(nogil=True, cache=True)
def sum_late(a: Any, b: Any, plan: Any, number: Any, sums: Any) -> None:
    """Add blocks of products to sums, in place: the products are aligned without the sum, which joins theirs.

    As `sum_aligned`; ``plan`` has besides how many bits the sum of the products keeps where the running sum joins it,
    or 0 where it is rounded as a sum is and then added with another rounding, and how many streams of products, each in
    turn, are aligned apart.
    """
    (x, ex), (y, ey) = a, b
    fraction, block, mode, kept, streams = plan
    precision, emin, rounding, largest = number
    rows, columns = sums.shape
    depth = x.shape[1]
    top, first_top = np.empty(_TILE, np.int64), np.empty(_TILE, np.int64)
    scale, total, first_total, special = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    scale_bits = scale.view(np.int64)
    # A product beyond the range of a sum is infinite where it is added to one without rounding.
    reach = _power_of_two(np.int64(1023) - _exponent(largest, emin)) if kept else 1.0
    for i in range(rows):
        for start in range(0, columns, _TILE):
            size = min(_TILE, columns - start)
            out = sums[i, start : start + size]
            for first in range(0, depth, block):
                last = min(first + block, depth)
                special[:] = 0.0
                for stream in range(streams):
                    top[:] = _LOWEST
                    total[:] = 0.0
                    for k in range(first + stream, last, streams):
                        e, row = ex[i, k], ey[k, start : start + size]
                        for j in range(size):
                            top[j] = max(top[j], np.int64(e) + np.int64(row[j]))
                    for j in range(size):
                        scale_bits[j] = (np.int64(1023) + fraction - top[j]) << np.int64(52)
                    for k in range(first + stream, last, streams):
                        value, row = x[i, k], y[k, start : start + size]
                        for j in range(size):
                            product = value * row[j]
                            total[j] += _cut(product * scale[j], mode)
                            special[j] += product * reach * 0.0
                    if stream == 0 and streams == 2:
                        first_top[:], first_total[:] = top, total
                if streams == 2:
                    for j in range(size):
                        e = max(top[j], first_top[j])
                        even = np.floor(_shifted(first_total[j], first_top[j] - e))
                        total[j] = even + np.floor(_shifted(total[j], top[j] - e))
                        top[j] = e
                if kept:
                    for j in range(size):
                        running = out[j]
                        joined = _joined(total[j], top[j], running, emin, (fraction, kept, streams))
                        out[j] = _rounded(joined, precision, emin, rounding, largest)
                        total[j] = running
                else:
                    for j in range(size):
                        unit, running = _power_of_two(top[j] - fraction), out[j]
                        joined = _rounded(total[j] * unit, precision, emin, rounding, largest)
                        out[j] = _rounded(_sum_to_odd(joined, running), precision, emin, rounding, largest)
                        total[j] = running
                for j in range(size):
                    if special[j] != 0.0:  # an infinity or NaN among the products
                        out[j] = total[j]
                        for k in range(first, last):
                            product = x[i, k] * y[k, start + j]
                            out[j] += product if product * reach * 0.0 == 0.0 else product * np.inf


@njit(nogil=True, cache=True)
def sum_trees(a: Any, b: Any, block: Any, smallest: Any, sums: Any) -> None:
    """Add trees of products to sums, in place; each product and each sum is rounded to float32.

    ``a`` and ``b`` hold values, ``(rows, depth)`` and ``(depth, columns)``; ``block`` is the products of a tree;
    magnitudes below ``smallest`` count as zero.
    """
    (x,), (y,) = a, b
    rows, columns = sums.shape
    depth = x.shape[1]
    terms = np.empty((block, _TILE), np.float32)
    for i in range(rows):
        for start in range(0, columns, _TILE):
            size = min(_TILE, columns - start)
            out = sums[i, start : start + size]
            for first in range(0, depth, block):
                for k in range(block):
                    term = terms[k]
                    if first + k < depth:
                        value, row = x[i, first + k], y[first + k, start : start + size]
                        for j in range(size):
                            term[j] = _flushed(np.float32(value * row[j]), smallest)
                    else:
                        term[:] = np.float32(0.0)
                width = block
                while width > 1:
                    width //= 2
                    for k in range(width):
                        term, left, right = terms[k], terms[2 * k], terms[2 * k + 1]
                        for j in range(size):
                            term[j] = _flushed(left[j] + right[j], smallest)
                term = terms[0]
                for j in range(size):
                    out[j] = _flushed(np.float32(out[j]) + term[j], smallest)


@njit(inline="always")
def _cut(x: Any, mode: Any) -> Any:
    size = abs(x)
    rounded = (size + 4503599627370496.0) - 4503599627370496.0
    if len(mode) != 1:
        rounded -= 1.0 if rounded > size else 0.0
    if len(mode) == 2:
        rounded += 1.0 if rounded < size and np.floor(rounded * 0.5) * 2.0 == rounded else 0.0
    return rounded if x > 0 else -rounded


@njit(inline="always")
def _power_of_two(exponent: Any) -> Any:
    return np.int64((np.int64(1023) + exponent) << np.int64(52)).view(np.float64)


@njit(inline="always")
def _shifted(x: Any, places: Any) -> Any:
    return x * _power_of_two(max(places, _FARTHEST))


@njit(inline="always")
def _exponent(x: Any, emin: Any) -> Any:
    field = (np.float64(x).view(np.int64) >> np.int64(52)) & np.int64(0x7FF)
    return max(field - np.int64(1023), np.int64(emin))


@njit(inline="always")
def _joined(products: Any, exponent: Any, running: Any, emin: Any, plan: Any) -> Any:
    fraction, kept, streams = plan
    at = _exponent(running, emin)
    top = max(exponent, at)
    cut_sum = np.floor(_shifted(running, fraction - top))
    cut_sum = 0.0 if streams == 2 and at < top - fraction - 1 else cut_sum
    cut_products = np.floor(_shifted(products, kept - fraction + exponent - top))
    return (cut_products + cut_sum * _power_of_two(kept - fraction)) * _power_of_two(top - kept)


@njit(inline="always")
def _sum_to_odd(x: Any, y: Any) -> Any:
    """Add two numbers and round to odd (Boldo and Melquiond, IEEE Trans. Computers 57, 2008)."""
    total = x + y
    part = total - x
    error = (x - (total - part)) + (y - part)
    bits = np.float64(total).view(np.int64)
    if error != 0.0 and total * 0.0 == 0.0 and bits & np.int64(1) == 0:
        bits += np.int64(1) if (error > 0) == (total > 0) else np.int64(-1)
        return np.int64(bits).view(np.float64)
    return total


@njit(inline="always")
def _rounded(x: Any, precision: Any, emin: Any, mode: Any, largest: Any) -> Any:
    field = (np.float64(x).view(np.int64) >> np.int64(52)) & np.int64(0x7FF)
    place = max(field - np.int64(1023), np.int64(emin)) - (np.int64(precision) - np.int64(1))
    digits = abs(x * _power_of_two(-place))
    whole = np.floor(digits)
    if mode == 1:
        whole = (digits + 4503599627370496.0) - 4503599627370496.0
    elif mode == 2:
        whole += 1.0 if whole < digits and np.floor(whole * 0.5) * 2.0 == whole else 0.0
    magnitude = whole * _power_of_two(place)
    magnitude = magnitude if magnitude <= largest else np.inf
    return magnitude if x > 0 else (-magnitude if x < 0 else x * 0.0 + 0.0)


@njit(inline="always")
def _flushed(x: Any, smallest: Any) -> Any:
    return x * np.float32(0.0) if abs(x) < smallest else x
