"""Every numba function of this package: loops over contiguous arrays, integers where sums must be exact."""

from __future__ import annotations

import numba as nb
import numpy as np

__all__ = ["count_cells", "count_patterns"]

_jit = nb.njit(cache=True, nogil=True, error_model="numpy")

_BLOCK = 1 << 12  # elements whose extremes are found while they are in the nearest cache
_FLUSH = 1 << 24  # elements between flushes; each table counts half: 2**23 * 65535 < 2**40, 2**23 < 2**24
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_MINUS_INFINITY = np.int32(-0x7F800001)  # as an ordered integer


@_jit
def _order(pattern):  # type: ignore[no-untyped-def]
    """Return an int32 that orders float32 patterns as their values; its own inverse."""
    return np.int32(pattern ^ np.int32(np.int32(pattern >> np.int32(31)) & _MAGNITUDE))


@_jit
def _scan_finite(bits, found):  # type: ignore[no-untyped-def]
    """Update the extremes, the number of infinities and the low bits from a block that is not all finite."""
    for b in bits:
        magnitude = np.int32(b & _MAGNITUDE)
        if magnitude < _INFINITY:
            found[0] = min(found[0], np.int64(_order(b)))
            found[1] = max(found[1], np.int64(_order(b)))
            found[2] |= np.int64(b) & 0xFFFF
        elif magnitude == _INFINITY:
            found[3] += 1


@_jit
def count_cells(bits, counts, low_sums, found):  # type: ignore[no-untyped-def]
    """Add float32 patterns to the cells of their top 16 bits.

    Parameters
    ----------
    bits : ndarray of int32, shape (n,)
        float32 values as bit patterns.
    counts, low_sums : ndarray of int64, shape (65536,)
        Updated: number of values in each cell and the sum of their low 16 bits.
    found : ndarray of int64, shape (6,)
        Updated: smallest and largest finite value as ordered integers (the pattern of a positive value; for a
        negative one, all but its sign bit flipped), the bitwise or of all finite values' low bits, and the
        numbers of infinities, of zeros +0 and of zeros -0.
    """
    # One packed counter a cell: the count above bit 40, the sum of the low bits below. Two tables take turns,
    # so that equal neighbours do not wait for each other's store.
    one = np.uint64(1 << 40)
    even = np.zeros(65536, np.uint64)
    odd = np.zeros(65536, np.uint64)
    for start in range(0, bits.size, _FLUSH):
        part = bits[start : start + _FLUSH]
        for first in range(0, part.size, _BLOCK):
            block = part[first : first + _BLOCK]
            smallest = np.int32(2147483647)
            largest = np.int32(-2147483648)
            low = np.int32(0)
            for i in range(block.size):
                b = block[i]
                ordered = np.int32(b ^ np.int32(np.int32(b >> np.int32(31)) & _MAGNITUDE))
                smallest = ordered if ordered < smallest else smallest
                largest = ordered if ordered > largest else largest
                low = np.int32(low | b)
            if largest < _INFINITY and smallest > _MINUS_INFINITY:
                found[0] = min(found[0], np.int64(smallest))
                found[1] = max(found[1], np.int64(largest))
                found[2] |= np.int64(low) & 0xFFFF
            else:
                _scan_finite(block, found)
            for j in range(block.size // 2):
                a = np.uint32(block[2 * j])
                c = np.uint32(block[2 * j + 1])
                even[a >> np.uint32(16)] += one | np.uint64(a & np.uint32(0xFFFF))
                odd[c >> np.uint32(16)] += one | np.uint64(c & np.uint32(0xFFFF))
            if block.size % 2:
                a = np.uint32(block[block.size - 1])
                even[a >> np.uint32(16)] += one | np.uint64(a & np.uint32(0xFFFF))
        for zero in range(2):
            # A cell of the least exponent holds nothing but zeros if its low bits sum to nothing.
            key = 0x8000 * zero
            if ((even[key] | odd[key]) & np.uint64(0xFFFFFFFFFF)) == 0:
                found[4 + zero] += np.int64(even[key] >> np.uint64(40)) + np.int64(odd[key] >> np.uint64(40))
            else:
                found[4 + zero] += np.count_nonzero(part == np.int32(-2147483648 * zero))
        for table in (even, odd):
            for k in range(65536):
                counts[k] += np.int64(table[k] >> np.uint64(40))
                low_sums[k] += np.int64(table[k] & np.uint64(0xFFFFFFFFFF))
                table[k] = np.uint64(0)


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
