"""Every numba function of this package: loops over contiguous arrays, integers where sums must be exact."""

from __future__ import annotations

import numba as nb
import numpy as np

__all__ = ["count_cells", "count_patterns"]

_jit = nb.njit(cache=True, nogil=True, error_model="numpy")

_BLOCK = 1 << 12  # elements whose extremes are found while they are in the nearest cache
_FLUSH = 1 << 23  # elements a packed counter takes: 2**23 * 65535 < 2**40, and 2**23 < 2**24


@_jit
def count_cells(bits, counts, low_sums, found):  # type: ignore[no-untyped-def]
    """Add float32 patterns to the cells of their top 16 bits.

    Parameters
    ----------
    bits : ndarray of uint32, shape (n,)
        float32 values as bit patterns.
    counts, low_sums : ndarray of int64, shape (65536,)
        Updated: number of values in each cell and the sum of their low 16 bits.
    found : ndarray of int64, shape (6,)
        Updated: smallest and largest finite value as ordered integers (the pattern of a positive value; for a
        negative one, all but its sign bit flipped), the number of zeros +0, of zeros -0, and of
        infinities, and the bitwise or of all finite values' low bits.
    """
    # One packed counter a cell: the count above bit 40, the sum of the low bits below. Two tables take turns,
    # so that equal neighbours do not wait for each other's store.
    even = np.zeros(65536, np.uint64)
    odd = np.zeros(65536, np.uint64)
    n = bits.size
    start = 0
    while start < n:
        stop = min(n, start + _FLUSH)
        for first in range(start, stop, _BLOCK):
            last = min(stop, first + _BLOCK)
            smallest = np.int32(2147483647)
            largest = np.int32(-2147483648)
            plus = np.int32(0)
            minus = np.int32(0)
            infinities = np.int32(0)
            low = np.int32(0)
            for i in range(first, last):
                b = np.int32(bits[i])
                magnitude = np.int32(b & np.int32(0x7FFFFFFF))
                ordered = np.int32(b ^ np.int32((b >> np.int32(31)) & np.int32(0x7FFFFFFF)))
                finite = magnitude < np.int32(0x7F800000)
                smallest = min(smallest, ordered if finite else np.int32(2147483647))
                largest = max(largest, ordered if finite else np.int32(-2147483648))
                plus += np.int32(b == np.int32(0))
                minus += np.int32(b == np.int32(-2147483648))
                low |= (b & np.int32(0xFFFF)) if finite else np.int32(0)
                infinities += np.int32(magnitude == np.int32(0x7F800000))
            found[0] = min(found[0], np.int64(smallest))
            found[1] = max(found[1], np.int64(largest))
            found[2] += np.int64(plus)
            found[3] += np.int64(minus)
            found[4] += np.int64(infinities)
            found[5] |= np.int64(low)
            pairs = (last - first) // 2
            for j in range(pairs):
                a = bits[first + 2 * j]
                c = bits[first + 2 * j + 1]
                even[a >> np.uint32(16)] += (np.uint64(1) << np.uint64(40)) | np.uint64(a & np.uint32(0xFFFF))
                odd[c >> np.uint32(16)] += (np.uint64(1) << np.uint64(40)) | np.uint64(c & np.uint32(0xFFFF))
            if (last - first) % 2:
                a = bits[last - 1]
                even[a >> np.uint32(16)] += (np.uint64(1) << np.uint64(40)) | np.uint64(a & np.uint32(0xFFFF))
        for k in range(65536):
            counts[k] += np.int64(even[k] >> np.uint64(40)) + np.int64(odd[k] >> np.uint64(40))
            low_sums[k] += np.int64(even[k] & np.uint64(0xFFFFFFFFFF)) + np.int64(
                odd[k] & np.uint64(0xFFFFFFFFFF)
            )
            even[k] = np.uint64(0)
            odd[k] = np.uint64(0)
        start = stop


@_jit
def count_patterns(bits, counts):  # type: ignore[no-untyped-def]
    """Count 16-bit patterns.

    Parameters
    ----------
    bits : ndarray of uint16, shape (n,)
        Patterns.
    counts : ndarray of int64, shape (65536,)
        Updated.
    """
    even = np.zeros(65536, np.int64)
    for i in range(bits.size // 2):
        counts[bits[2 * i]] += 1
        even[bits[2 * i + 1]] += 1
    if bits.size % 2:
        counts[bits[bits.size - 1]] += 1
    for k in range(65536):
        counts[k] += even[k]
