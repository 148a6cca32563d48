"""Sums, products and quotients of codes, rounded once, for formats too wide for a table of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_TILE = 512  # results that are computed side by side, so that everything stays in the first cache
_LARGEST, _INFINITY, _NAN = np.int64(0x7F7FFFFF), np.int64(0x7F800000), np.int64(0x7FC00000)
_REBIAS = np.int64((1023 - 127) << 23)
_SUBNORMAL = 2.0**149  # float32's smallest number, the other way up


@njit(nogil=True, cache=True)
def _round_tile(total: Any, pattern: Any, cells: Any, out: Any) -> int:
    """Round float64 numbers to odd in float32 and then by the cells; return the number of NaN."""
    threshold, result, shift = cells
    bits = total.view(np.int64)
    nans = 0
    for j in range(total.size):
        magnitude = bits[j] & np.int64(0x7FFFFFFFFFFFFFFF)
        normal = (magnitude >> np.int64(29)) - _REBIAS
        normal |= np.int64((magnitude & np.int64(0x1FFFFFFF)) != 0)
        small = min(abs(total[j]), 1.0) * _SUBNORMAL if abs(total[j]) < 2.0**-126 else 0.0
        floor = np.int64(small)
        subnormal = floor | np.int64(np.float64(floor) != small)
        finite = subnormal if abs(total[j]) < 2.0**-126 else min(normal, _LARGEST)
        special = _INFINITY if total[j] == total[j] else _NAN
        word = finite if abs(total[j]) < np.inf else special
        pattern[j] = np.uint32(word | ((bits[j] >> np.int64(32)) & np.int64(0x80000000)))
    for j in range(total.size):
        word = pattern[j]
        cell = np.uint64(word >> shift)
        code = result[cell + cell + np.uint64(word >= threshold[cell])]
        nans += int(word & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000))
        out[j] = code
    return nans


@njit(nogil=True, cache=True)
def multiply_add(codes: Any, values: Any, sign: Any, cells: Any, out: Any) -> int:
    """``out = round(a * b + c)`` for codes of three formats; return the number of NaN.

    The product is exact; the sum is rounded to odd in float64 (Knuth's TwoSum says on which side it lies), then to odd
    in float32, and the cells of the codec's float32 table do the rest. That is one rounding if every threshold is an
    even float32 pattern. ``sign`` is -1 where a sum that cancels is -0, else 1.
    """
    a, b, c = codes
    x, y, z = values
    total, error = np.empty(_TILE), np.empty(_TILE)
    bits = total.view(np.int64)
    pattern = np.empty(_TILE, np.uint32)
    nans = 0
    for start in range(0, out.size, _TILE):
        size = min(_TILE, out.size - start)
        for j in range(size):
            product = sign * (x[a[start + j]] * y[b[start + j]])
            addend = sign * z[c[start + j]]
            s = product + addend
            shadow = s - product
            error[j] = (product - (s - shadow)) + (addend - shadow)
            total[j] = sign * s
            error[j] *= sign
        for j in range(size):
            inexact = (error[j] > 0) | (error[j] < 0)  # false for the NaN error of an infinite sum
            step = np.int64(1) if (error[j] > 0) == (bits[j] > 0) else np.int64(-1)
            bits[j] += step if inexact & (bits[j] & np.int64(1) == 0) else np.int64(0)
        nans += _round_tile(total[:size], pattern, cells, out[start : start + size])
    return nans


@njit(nogil=True, cache=True, error_model="numpy")
def divide(codes: Any, values: Any, zero_divides: bool, cells: Any, out: Any) -> int:
    """``out = round(a / b)`` for codes of two formats; return the number of NaN.

    Values have at most 24 significant bits. A quotient n / m differs from every k of at most 25 bits that it is not by
    more than 2**-50 of it, since n - k * m is 1 or more in its last place. So the quotient rounded to 53 bits lies on
    the same side of each k, and to round that to odd in float32 is to round the exact quotient to odd.
    ``zero_divides`` says that x / 0 is infinite; else it is NaN for finite x.
    """
    a, b = codes
    x, y = values
    total, pattern = np.empty(_TILE), np.empty(_TILE, np.uint32)
    nans = 0
    for start in range(0, out.size, _TILE):
        size = min(_TILE, out.size - start)
        for j in range(size):
            total[j] = x[a[start + j]] / y[b[start + j]]
        if not zero_divides:
            for j in range(size):
                infinite = (y[b[start + j]] == 0) & (abs(x[a[start + j]]) < np.inf)
                total[j] = np.nan if infinite else total[j]
        nans += _round_tile(total[:size], pattern, cells, out[start : start + size])
    return nans
