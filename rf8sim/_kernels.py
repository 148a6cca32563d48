"""Every numba function of this package. Kernels see arrays and integers, never objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_jit = njit(nogil=True, cache=True)

# Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
_PHILOX_M0, _PHILOX_M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_PHILOX_W0, _PHILOX_W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW32 = np.uint64(0xFFFFFFFF)
_BY32 = np.uint64(32)
_NO_DROP = np.uint64(255)


@_jit
def encode_cells(bits: Any, threshold: Any, result: Any, shift: Any, out: Any) -> None:
    """Look up each bit pattern's cell and take its first or second result."""
    for i in range(bits.size):
        pattern = bits[i]
        cell = np.uint64(pattern >> shift)
        out[i] = result[cell + cell + np.uint64(pattern >= threshold[cell])]


@_jit
def look_up(index: Any, table: Any, out: Any) -> None:
    """``out = table[index]`` for a table that covers every index."""
    for i in range(index.size):
        out[i] = table[index[i]]


@_jit
def look_up_pair(a: Any, b: Any, table: Any, out: Any) -> None:
    """``out = table[a, b]`` of a flat 256 x 256 table."""
    for i in range(a.size):
        out[i] = table[(np.uint64(a[i]) << np.uint64(8)) | np.uint64(b[i])]


@_jit
def first_above(bits: Any, sign_mask: Any, infinity: Any) -> int:
    """Return the first index whose pattern, sign cleared, is above that of infinity (a NaN); -1 if none is."""
    found = False
    for i in range(bits.size):
        found |= (bits[i] & sign_mask) > infinity
    if found:
        for i in range(bits.size):
            if (bits[i] & sign_mask) > infinity:
                return i
    return -1


@_jit
def philox_words(key0: Any, key1: Any, first_block: Any, out: Any) -> None:
    """Fill ``out`` (uint32, a multiple of 4) with the Philox4x32-10 words of consecutive counters."""
    for j in range(out.size // 4):
        block = first_block + np.uint64(j)
        c0, c1 = block & _LOW32, block >> _BY32
        c2, c3 = np.uint64(0), np.uint64(0)
        k0, k1 = key0, key1
        for _ in range(10):
            p0, p1 = _PHILOX_M0 * c0, _PHILOX_M1 * c2
            c0 = (p1 >> _BY32) ^ c1 ^ k0
            c1 = p1 & _LOW32
            c2 = (p0 >> _BY32) ^ c3 ^ k1
            c3 = p0 & _LOW32
            k0 = (k0 + _PHILOX_W0) & _LOW32
            k1 = (k1 + _PHILOX_W1) & _LOW32
        out[4 * j] = np.uint32(c0)
        out[4 * j + 1] = np.uint32(c1)
        out[4 * j + 2] = np.uint32(c2)
        out[4 * j + 3] = np.uint32(c3)


@_jit
def encode_stochastic(
    x: Any, bits: Any, cells: Any, fine: Any, coarse: Any, down: Any, words: Any, random_bits: Any, out: Any
) -> None:
    """Take the upper neighbour where ``floor(p * 2**k) + word >= 2**k``, k the random bits, decided exactly.

    Where a cell lies in one interval of 2**g units in the last place, p is the low g bits of the pattern: ``drop``
    moves them to the top of a word, and the decision is the carry of an adder. Elsewhere (``drop`` 255) it is
    ``distance * 2**k >= (c + 1) * gap`` with c the complement of the word. There c is cut in two so that both products
    are exact (17 bits times a gap of at most 26), and the difference is exact where its rounding could matter, by
    Sterbenz' lemma.
    """
    threshold, interval, shift = cells
    drop, cell_codes = fine
    lower, gap, codes = coarse
    mask = np.uint64((np.uint64(1) << random_bits) - np.uint64(1))
    power = np.float64(np.int64(mask)) + 1.0
    unused = np.uint64(32) - random_bits
    for i in range(x.size):
        pattern = bits[i]
        cell = np.uint64(pattern >> shift)
        left = np.uint64(drop[cell])
        if left != _NO_DROP:
            fraction = np.uint64(np.uint32((np.uint64(pattern) << left) >> down)) >> unused
            carry = (fraction + (np.uint64(words[i]) & mask)) >> random_bits
            out[i] = cell_codes[cell + cell + carry]
        else:
            number = interval[cell + cell + np.uint64(pattern >= threshold[cell])]
            complement = np.uint64(words[i]) & mask ^ mask
            high = np.float64(np.int64(complement >> np.uint64(16))) * 65536.0
            low = np.float64(np.int64(complement & np.uint64(0xFFFF))) + 1.0
            width = gap[number]
            distance = (abs(np.float64(x[i])) - lower[number]) * power
            up = (distance - high * width >= low * width) & (width > 0.0)
            out[i] = np.uint8(codes[number] >> 8) if up else np.uint8(codes[number])


@_jit
def encode_drawn(
    x: Any, bits: Any, cells: Any, fine: Any, coarse: Any, down: Any, key: Any, first: Any, random_bits: Any, out: Any
) -> None:
    """Draw the words of the elements from flat index ``first`` on, in pieces that stay in the cache, and use them."""
    piece = 2048
    words = np.empty(piece + 4, dtype=np.uint32)
    skip = np.int64(first % np.uint64(4))  # the words of a block of four that belong to earlier elements
    for start in range(0, x.size, piece):
        stop = min(start + piece, x.size)
        blocks = (skip + stop - start + 3) // 4
        philox_words(key[0], key[1], (first + np.uint64(start)) // np.uint64(4), words[: 4 * blocks])
        encode_stochastic(x[start:stop], bits[start:stop], cells, fine, coarse, down, words[skip : skip + stop - start],
                          random_bits, out[start:stop])  # fmt: skip


@_jit
def error_sums(x: Any, y: Any, scale: Any, low: Any, high: Any, sums: Any, counts: Any) -> None:
    """Add up the error of ``y`` against ``x``, both in units of ``scale``.

    ``sums``: squares of x, squared error, relative error, largest relative error. ``counts``: finite elements, nonzero
    ones, those with a relative error, underflows, overflows. Elements whose x or y is not finite count as nothing else.
    """
    for i in range(x.size):
        value, result = x[i], y[i]
        if not (np.isfinite(value) and np.isfinite(result)):
            counts[4] += value > high or value < low
            continue
        error = abs(value - result)
        counts[0] += 1
        sums[0] += (value * scale[i]) ** 2
        sums[1] += (error * scale[i]) ** 2
        counts[4] += value > high or value < low
        if value != 0:
            counts[1] += 1
            if result == 0:
                counts[3] += 1
            else:
                counts[2] += 1
                relative = error / abs(value)
                sums[2] += relative
                sums[3] = max(sums[3], relative)
