"""Numpy's forms of the loops that little work needs: the same bits, and no numba to load.

Each has the name, the arguments and the results of the compiled loop that it stands for, where its use is explained.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "distinct_numbers", "encode_cells", "encode_drawn", "encode_search", "encode_stochastic", "first_above",
    "least_error", "look_up", "look_up_drawn", "look_up_pair", "philox_words", "sum_terms",
]  # fmt: skip

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW16, _LOW32 = np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
_ONE, _BY16, _BY32 = np.uint64(1), np.uint64(16), np.uint64(32)
_NO_DROP = 255
_LOW_DIGIT, _DIGIT = np.int64(0xFFFFFFFF), np.int64(32)


def encode_cells(bits: Any, threshold: Any, result: Any, shift: Any, out: Any) -> None:
    """Look up each bit pattern's cell and take its first or second result."""
    cell = (bits >> bits.dtype.type(shift)).astype(np.intp)
    out[...] = result[2 * cell + (bits >= threshold[cell])]


def encode_search(bits: Any, table: Any, out: Any) -> None:
    """Find the last step at or below each bit pattern."""
    first, result = table[:2]
    out[...] = result[np.searchsorted(first, bits.astype(np.uint64), side="right") - 1]


def look_up(index: Any, table: Any, out: Any) -> None:
    """``out = table[index]`` for a table that covers every index."""
    out[...] = table[index]


def look_up_pair(a: Any, b: Any, table: Any, out: Any) -> None:
    """``out = table[a, b]`` of a flat 256 x 256 table."""
    out[...] = table[np.left_shift(a, 8, dtype=np.uint16) | b]


def look_up_drawn(index: Any, pairs: Any, fraction: Any, words: Any, random_bits: Any, out: Any) -> None:
    """Take the upper half of ``pairs[index]`` where the top bits of the fraction plus the word's low bits carry."""
    carry = _carry(fraction[index].astype(np.uint64), words, np.uint64(random_bits))
    out[...] = (pairs[index].astype(np.uint64) >> carry * _BY16) & _LOW16


def _carry(fraction: NDArray[np.uint64], words: Any, random_bits: np.uint64) -> NDArray[np.uint64]:
    """Return the carry of an adder of so many bits: the top bits of a fraction of 32, and the low bits of a word."""
    mask = (_ONE << random_bits) - _ONE
    carry: NDArray[np.uint64] = ((fraction >> (_BY32 - random_bits)) + (words.astype(np.uint64) & mask)) >> random_bits
    return carry


def first_above(bits: Any, sign_mask: Any, infinity: Any) -> int:
    """Return the first index whose pattern, sign cleared, is above that of infinity (a NaN); -1 if none is."""
    above = (bits & sign_mask) > infinity
    return int(np.argmax(above)) if above.any() else -1


def least_error(x: Any, weights: Any, starts: Any, scales: Any, order: Any, tables: Any, least: Any, best: Any) -> None:
    """Find, for each group of ``x``, the scale of the least squared error."""
    lengths = np.diff(starts)
    if lengths.size > 1 and (lengths != lengths[0]).any():
        for i, (start, stop) in enumerate(itertools.pairwise(starts.tolist())):
            one, bounds = slice(i, i + 1), np.array([start, stop])
            least_error(x, weights, bounds, scales[one], order, tables, least[one], best[one])
        return
    threshold, result, shift, first, step, values = tables
    x = x[starts[0] : starts[-1]].reshape(lengths.size, -1)
    weights = weights[starts[0] : starts[-1]].reshape(lengths.size, -1)
    codes = np.empty(x.shape, dtype=(step if first.size else result).dtype)
    best[...] = -1
    for column in np.sort(order):  # of several with the same error the lowest column
        with np.errstate(all="ignore"):
            bits = (x / scales[:, column, None]).view(np.uint64)
            if first.size:
                encode_search(bits, (first, step), codes)
            else:
                encode_cells(bits, threshold, result, shift, codes)
            squared = np.square(x - values[codes] * scales[:, column, None])
            squared = squared * weights if weights.size else squared
            total = np.add.accumulate(squared, axis=1)[:, -1]  # from element to element, not in pairs
        better = total < least
        least[better], best[better] = total[better], column


def philox_words(key0: Any, key1: Any, first_block: Any, out: Any, step: Any = 0) -> None:
    """Fill ``out`` (uint32, a multiple of 4) with the Philox4x32-10 words of counters (block low, high, step, 0)."""
    block = np.uint64(first_block) + np.arange(out.size // 4, dtype=np.uint64)
    c0, c1 = block & _LOW32, block >> _BY32
    c2, c3 = np.full_like(block, step), np.zeros_like(block)
    k0, k1 = int(key0), int(key1)
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _BY32) ^ c1 ^ np.uint64(k0),
            p1 & _LOW32,
            (p0 >> _BY32) ^ c3 ^ np.uint64(k1),
            p0 & _LOW32,
        )
        k0, k1 = (k0 + int(_W0)) & 0xFFFFFFFF, (k1 + int(_W1)) & 0xFFFFFFFF
    out[...] = np.stack([c0, c1, c2, c3], axis=1).reshape(-1)


def encode_stochastic(
    x: Any, bits: Any, cells: Any, fine: Any, coarse: Any, digits: Any, words: Any, random_bits: Any, out: Any
) -> None:
    """Take the upper neighbour where ``floor(p * 2**k) + word >= 2**k``, k the random bits, decided exactly."""
    threshold, interval, shift = cells
    drop, cell_codes = fine
    cell = (bits >> bits.dtype.type(shift)).astype(np.intp)
    in_one = drop[cell] != _NO_DROP
    here, k = np.flatnonzero(in_one), np.uint64(random_bits)
    if here.size:
        mantissa, lift = digits
        hidden, pattern = _ONE << mantissa, bits[here].astype(np.uint64)
        left = drop[cell[here]].astype(np.uint64)
        fraction = (((pattern & (hidden - _ONE)) | hidden) << lift) >> left & _LOW32
        out[here] = cell_codes[2 * cell[here] + _carry(fraction, words[here], k).astype(np.intp)]
    here = np.flatnonzero(~in_one)
    if here.size:
        number = interval[2 * cell[here] + (bits[here] >= threshold[cell[here]])]
        out[here] = _by_distance(x[here], number, coarse, words[here], k)


def _by_distance(x: Any, number: Any, coarse: Any, words: Any, random_bits: np.uint64) -> Any:
    lower, gap, _, codes = coarse
    mask = (_ONE << random_bits) - _ONE
    complement = words.astype(np.uint64) & mask ^ mask
    high = (complement >> _BY16).astype(np.float64) * 65536.0
    low = (complement & _LOW16).astype(np.float64) + 1.0
    width = gap[number]
    with np.errstate(all="ignore"):
        distance = (np.abs(x.astype(np.float64)) - lower[number]) * (float(mask) + 1.0)
        up = (distance - high * width >= low * width) & (width > 0.0)
    return np.where(up, codes[number] >> np.uint32(16), codes[number] & np.uint32(0xFFFF))


def distinct_numbers(patterns: Any, numbers: Any, x: Any, weights: Any, starts: Any) -> None:
    """Write the distinct patterns of each row as numbers, in the order of their first place, and their counts."""
    starts[0] = 0
    for i, row in enumerate(patterns):
        distinct, first, counts = np.unique(row, return_index=True, return_counts=True)
        order = np.argsort(first)
        starts[i + 1] = starts[i] + distinct.size
        x[starts[i] : starts[i + 1]] = numbers[distinct[order]]
        weights[starts[i] : starts[i + 1]] = counts[order]


def encode_drawn(
    x: Any, bits: Any, cells: Any, fine: Any, coarse: Any, digits: Any, key: Any, first: Any, random_bits: Any, out: Any
) -> None:
    """Draw the words of the elements from flat index ``first`` on, and use them."""
    skip = int(first) % 4
    words = np.empty(-(-(skip + x.size) // 4) * 4, dtype=np.uint32)
    philox_words(key[0], key[1], int(first) // 4, words)
    words = words[skip : skip + x.size]
    encode_stochastic(x, bits, cells, fine, coarse, digits, words, random_bits, out)


def sum_terms(terms: Any, odd: Any, out: Any) -> None:
    """Sum finite float64 numbers down the first axis exactly and round once: to nearest even, or to odd.

    The sum is held in digits of 32 bits (Kulisch's long accumulator), as many as the terms need.
    """
    fraction, exponent = np.frexp(terms)
    some = fraction != 0.0
    lowest = int(exponent[some].min()) - 53 if some.any() else 0
    highest = int(exponent[some].max()) if some.any() else 0
    digits = np.zeros(((highest - lowest) // 32 + 4, out.size), dtype=np.int64)
    magnitude = (np.abs(fraction) * 9007199254740992.0).astype(np.int64)
    shift = np.where(some, exponent - 53 - lowest, 0)
    place, inside = shift // 32, (shift % 32).astype(np.int64)
    sign, columns = np.sign(fraction).astype(np.int64), np.arange(out.size)
    tail = (magnitude & _LOW_DIGIT) << inside
    head = ((magnitude >> _DIGIT) << inside) + (tail >> _DIGIT)
    for t in range(len(terms)):  # each term adds once to a column
        digits[place[t], columns] += sign[t] * (tail[t] & _LOW_DIGIT)
        digits[place[t] + 1, columns] += sign[t] * (head[t] & _LOW_DIGIT)
        digits[place[t] + 2, columns] += sign[t] * (head[t] >> _DIGIT)
    _carry_digits(digits)
    negative = digits[-1] < 0
    digits[:, negative] *= -1
    _carry_digits(digits)
    top = len(digits) - 1 - np.argmax((digits != 0)[::-1], axis=0)
    top = np.where((digits != 0).any(axis=0), top, 0)
    # 62 bits from the leading one on; then one bit says whether anything lies below.
    width = np.frexp(digits[top, columns].astype(np.float64))[1].astype(np.int64)
    leading, taken = np.zeros_like(width), np.zeros_like(width)
    sticky = np.zeros(out.size, dtype=np.bool_)
    for below in range(len(digits)):
        here = top - below >= 0
        digit = np.where(here, digits[np.maximum(top - below, 0), columns], 0)
        length = np.where(here, width if below == 0 else _DIGIT, 0)
        use = np.minimum(length, 62 - taken)
        leading = (leading << use) | (digit >> (length - use))
        sticky |= digit & ((np.int64(1) << (length - use)) - 1) != 0
        taken += use
    cut = np.maximum(taken - 53, 0) if odd else np.zeros_like(taken)
    kept = leading >> cut
    sticky |= kept << cut != leading
    value = np.ldexp((kept | sticky).astype(np.float64), 32 * top + width - taken + lowest + cut)
    out[...] = np.where(negative, -value, value)


def _carry_digits(digits: NDArray[np.int64]) -> None:
    """Leave 32 bits in each digit but the last, which keeps the sign."""
    for place in range(len(digits) - 1):
        digits[place + 1] += digits[place] >> _DIGIT
        digits[place] &= _LOW_DIGIT
