"""Encoding and look-ups, and sums rounded into accumulators, which use both: callers and callees share a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

_jit = njit(nogil=True, cache=True)
_NO_ENTRY: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_Part = TypeVar("_Part", bound=Callable[..., Any])


def _part(function: _Part) -> _Part:
    """Compile a part of kernels that is never called from Python: without what unpacks its arguments there."""
    compiled: _Part = njit(nogil=True, cache=True, **_NO_ENTRY)(function)
    return compiled


# Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
_PHILOX_M0, _PHILOX_M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_PHILOX_W0, _PHILOX_W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW32 = np.uint64(0xFFFFFFFF)
_BY32 = np.uint64(32)
_NO_DROP = np.uint64(255)
_ZERO = np.uint64(0)
_NEAR = 2.0**-16  # of a random word's unit; a number of them below 2**33 errs by 2**-19 of it


@_jit
def encode_cells(bits: Any, threshold: Any, result: Any, shift: Any, out: Any) -> None:
    """Look up each bit pattern's cell and take its first or second result."""
    for i in range(bits.size):
        pattern = bits[i]
        cell = np.uint64(pattern >> shift)
        out[i] = result[cell + cell + np.uint64(pattern >= threshold[cell])]


@_jit
def encode_search(bits: Any, table: Any, out: Any) -> None:
    """Find the last step at or below each bit pattern among those of its cell."""
    first, result, start, shift = table
    for i in range(bits.size):
        pattern = np.uint64(bits[i])
        cell = pattern >> shift
        low, high = start[cell], start[cell + np.uint64(1)]
        while low < high:
            middle = (low + high) >> 1
            if first[middle] <= pattern:
                low = middle + 1
            else:
                high = middle
        out[i] = result[low - 1]


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
def look_up_drawn(index: Any, pairs: Any, fraction: Any, words: Any, random_bits: Any, out: Any) -> None:
    """Take the upper half of ``pairs[index]`` where the top bits of the fraction plus the word's low bits carry."""
    mask = np.uint64((np.uint64(1) << random_bits) - np.uint64(1))
    unused = np.uint64(32) - random_bits
    for i in range(index.size):
        entry = index[i]
        carry = ((np.uint64(fraction[entry]) >> unused) + (np.uint64(words[i]) & mask)) >> random_bits
        out[i] = (np.uint64(pairs[entry]) >> (carry << np.uint64(4))) & np.uint64(0xFFFF)


@_jit
def first_above(bits: Any, sign_mask: Any, infinity: Any) -> int:
    """Return the first index whose pattern, sign cleared, is above that of infinity (a NaN); -1 if none is."""
    exists = False
    for i in range(bits.size):
        exists |= (bits[i] & sign_mask) > infinity
    if exists:
        for i in range(bits.size):
            if (bits[i] & sign_mask) > infinity:
                return i
    return -1


@_jit
def philox_words(key0: Any, key1: Any, first_block: Any, out: Any, step: Any = _ZERO) -> None:
    """Fill ``out`` (uint32, a multiple of 4) with the Philox4x32-10 words of counters (block low, high, step, 0)."""
    for j in range(out.size // 4):
        block = first_block + np.uint64(j)
        c0, c1 = block & _LOW32, block >> _BY32
        c2, c3 = np.uint64(step), np.uint64(0)
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
    x: Any, bits: Any, cells: Any, fine: Any, coarse: Any, digits: Any, words: Any, random_bits: Any, out: Any
) -> None:
    """Take the upper neighbour where ``floor(p * 2**k) + word >= 2**k``, k the random bits, decided exactly.

    Where a cell lies in one interval whose width is a power of two that divides its lower end, p is what the number,
    in units of the width, has behind the point. ``drop`` is the right shift that leaves it in the low 32 bits of the
    significand (``digits``: the bits of the mantissa, and how many zeros to put below them), and the decision is the
    carry of an adder. Elsewhere (``drop`` 255) it is ``distance * 2**k >= (c + 1) * gap`` with c the complement of the
    word: by a product with the inverse of the gap, and where that is close with c cut in two, so that both products are
    exact (17 bits times a gap of at most 26), and the difference is exact where its rounding could matter, by Sterbenz'
    lemma.
    """
    threshold, interval, shift = cells
    drop, cell_codes = fine
    lower, gap, inverse, codes = coarse
    mantissa, lift = digits
    hidden = np.uint64(1) << mantissa
    mask = np.uint64((np.uint64(1) << random_bits) - np.uint64(1))
    power = np.float64(np.int64(mask)) + 1.0
    unused = np.uint64(32) - random_bits
    for i in range(x.size):
        pattern = bits[i]
        cell = np.uint64(pattern >> shift)
        left = np.uint64(drop[cell])
        if left != _NO_DROP:
            significand = (np.uint64(pattern) & (hidden - np.uint64(1)) | hidden) << lift
            fraction = ((significand >> left) & _LOW32) >> unused
            carry = (fraction + (np.uint64(words[i]) & mask)) >> random_bits
            out[i] = cell_codes[cell + cell + carry]
        else:
            number = interval[cell + cell + np.uint64(pattern >= threshold[cell])]
            complement = np.uint64(words[i]) & mask ^ mask
            point = np.float64(np.int64(complement)) + 1.0
            distance = (abs(np.float64(x[i])) - lower[number]) * power
            scaled = distance * inverse[number]
            pair = np.uint64(codes[number])
            out[i] = (pair >> (np.uint64(scaled >= point) << np.uint64(4))) & np.uint64(0xFFFF)
            if not abs(scaled - point) >= _NEAR:
                high = np.float64(np.int64(complement >> np.uint64(16))) * 65536.0
                low = np.float64(np.int64(complement & np.uint64(0xFFFF))) + 1.0
                width = gap[number]
                up = (distance - high * width >= low * width) & (width > 0.0)
                out[i] = (pair >> (np.uint64(up) << np.uint64(4))) & np.uint64(0xFFFF)


@_jit
def encode_drawn(
    x: Any, bits: Any, cells: Any, fine: Any, coarse: Any, digits: Any, key: Any, first: Any, random_bits: Any, out: Any
) -> None:
    """Draw the words of the elements from flat index ``first`` on, in pieces that stay in the cache, and use them."""
    piece = 2048
    words = np.empty(piece + 4, dtype=np.uint32)
    skip = np.int64(first % np.uint64(4))  # the words of a block of four that belong to earlier elements
    for start in range(0, x.size, piece):
        stop = min(start + piece, x.size)
        blocks = (skip + stop - start + 3) // 4
        philox_words(key[0], key[1], (first + np.uint64(start)) // np.uint64(4), words[: 4 * blocks])
        drawn = words[skip : skip + stop - start]
        encode_stochastic(
            x[start:stop], bits[start:stop], cells, fine, coarse, digits, drawn, random_bits, out[start:stop]
        )


@_jit
def round_groups(x: Any, scale: Any, cells: Any, values: Any, ends: Any, out: Any, inside: Any) -> None:
    """Round each row of x at its own scale, and say which quotients are between two ends; NaN stays NaN."""
    threshold, result, shift = cells
    low, high = ends
    quotient = np.empty(min(x.shape[1], 2048), dtype=np.float64)
    bits = quotient.view(np.uint64)
    for i in range(x.shape[0]):
        factor = scale[i]
        for start in range(0, x.shape[1], 2048):
            stop = min(start + 2048, x.shape[1])
            for j in range(start, stop):
                quotient[j - start] = np.float64(x[i, j]) / factor
            for j in range(start, stop):
                q = quotient[j - start]
                inside[i, j] = (q >= low) & (q <= high)
            for j in range(start, stop):
                pattern = bits[j - start]
                cell = pattern >> shift
                code = result[cell + cell + np.uint64(pattern >= threshold[cell])]
                q = quotient[j - start]
                out[i, j] = values[code] * factor if q == q else np.nan


# --- accumulators -----------------------------------------------------------------------------------------------------
# What a rule is made of: `rf8sim.arithmetic.accumulators.Rule`.

_TILE = 256  # outputs that are summed side by side, so that everything stays in the first cache
_ROUNDER = 2.0**52  # added and taken away, it rounds a smaller number to an integer, to nearest even
_MANTISSA = np.int64(52)
_BIAS = np.int64(1023)


@_part
def _to_odd(total: Any, error: Any) -> Any:
    """Return the rounded sum ``total`` of error ``error``, rounded to odd instead; an infinite sum has error NaN."""
    bits = np.float64(total).view(np.int64)
    step = np.int64(1) if (error > 0) == (bits > 0) else np.int64(-1)
    inexact = (error > 0) | (error < 0)
    return np.int64(bits + (step if inexact & (bits & np.int64(1) == 0) else np.int64(0))).view(np.float64)


@_part
def _add_products(sums: Any, x: Any, y: Any, exact: Any, out: Any) -> None:
    """``out = sums + x * y``, exact if ``exact`` says that it fits in float64, else rounded to odd.

    The products are exact; the error of the sum is Knuth's TwoSum. Rounded to odd, the last bit says that something was
    cut off, so that rounding once more to at most 51 bits is rounding the exact sum.
    """
    if exact:
        for j in range(out.size):
            out[j] = sums[j] + x * y[j]
        return
    for j in range(out.size):
        product = x * y[j]
        total = sums[j] + product
        shadow = total - sums[j]
        out[j] = _to_odd(total, (sums[j] - (total - shadow)) + (product - shadow))


@_part
def _round_float(x: Any, number: Any, words: Any, out: Any) -> None:
    """Round float64 to a float.

    In units of the last place of the result, ``n = floor + rest``; both are exact, and n goes up where ``rest`` reaches
    the mode's threshold for this sign and parity, or the complement of 24 random bits.
    """
    precision, exponent, largest, above, below, positive, negative = number
    for j in range(x.size):
        field = (np.float64(x[j]).view(np.int64) >> _MANTISSA) & np.int64(0x7FF)
        place = max(field, exponent + _BIAS) - (precision - np.int64(1))
        unit = np.int64(place << _MANTISSA).view(np.float64)
        n = abs(x[j]) * np.int64((_BIAS + _BIAS - place) << _MANTISSA).view(np.float64)
        nearest = (n + _ROUNDER) - _ROUNDER
        floor = nearest - (1.0 if nearest > n else 0.0)
        if words is None:
            half = floor * 0.5
            even = (half + _ROUNDER) - _ROUNDER == half
            if_positive = positive[0] if even else positive[1]
            if_negative = negative[0] if even else negative[1]
            threshold = if_positive if x[j] > 0 else if_negative
        else:
            threshold = np.float64(np.int64(0x1000000) - np.int64(words[j] & np.uint32(0xFFFFFF))) * 2.0**-24
        magnitude = (floor + (1.0 if n - floor >= threshold else 0.0)) * unit
        upper = magnitude if magnitude <= largest else above
        lower = -magnitude if magnitude <= largest else below
        rounded = upper if x[j] > 0 else lower
        out[j] = rounded if (abs(x[j]) < np.inf) & (x[j] != 0) else x[j]


@_part
def _round_to_table(x: Any, table: Any, steps: Any, words: Any, out: Any) -> None:
    """Round float64 to the values of a format by the tables of the codec; NaN stays NaN."""
    threshold, result, shift, search, values = table
    bits = x.view(np.uint64)
    if search.size:
        places = np.empty(x.size, dtype=np.uint64)
        for j in range(x.size):
            low, high = 0, search.size
            while low < high:
                middle = (low + high) >> 1
                if search[middle] <= bits[j]:
                    low = middle + 1
                else:
                    high = middle
            places[j] = np.uint64(low - 1)
        bits = places
    codes = np.empty(x.size, dtype=np.uint16)
    if words is None:
        encode_cells(bits, threshold, result, shift, codes)
    else:
        cells, digits = (threshold, result, shift), (np.uint64(52), np.uint64(0))
        encode_stochastic(x, bits, cells, steps[0], steps[1], digits, words, np.uint64(24), codes)
    for j in range(x.size):
        out[j] = values[codes[j]] if x[j] == x[j] else x[j]


@_part
def _round_integer(x: Any, bounds: Any, out: Any) -> None:
    """Keep integers between two bounds by wrapping around with a period, or by saturation if that is 0."""
    low, high, period = bounds
    if period > 0:
        for j in range(x.size):
            out[j] = x[j] - period * np.floor((x[j] - low) / period)
    else:
        for j in range(x.size):
            value = x[j] if x[j] < high else high
            out[j] = value if value > low else low


@_part
def _philox_row(key: Any, first: Any, step: Any, count: Any) -> Any:
    """Return the words of outputs ``first`` and on at one step; counter (block low, block high, step, 0)."""
    skip = np.int64(first % np.uint64(4))
    words = np.empty((skip + count + 3) // 4 * 4, dtype=np.uint32)
    philox_words(key[0], key[1], first // np.uint64(4), words, step)
    return words[skip : skip + count]


@_part
def _round_drawn(total: Any, words: Any, number: Any, bounds: Any, table: Any, steps: Any, out: Any) -> None:
    """Round exact sums by the one of three rules that is not None: only its loop is compiled."""
    if number is not None:
        _round_float(total, number, words, out)
    if table is not None:
        _round_to_table(total, table, steps, words, out)
    if bounds is not None:
        _round_integer(total, bounds, out)


@_part
def _round_sum(
    total: Any, number: Any, bounds: Any, table: Any, steps: Any, key: Any, first: Any, step: Any, out: Any
) -> None:
    """Round exact sums into the accumulator."""
    if key is None:
        _round_drawn(total, None, number, bounds, table, steps, out)
    else:
        _round_drawn(total, _philox_row(key, first, step, total.size), number, bounds, table, steps, out)


@_jit
def accumulate(a: Any, b: Any, sums: Any, exact: Any, rule: Any, first: Any, step: Any) -> None:
    """Add ``a[i, k] * b[k, j]`` to ``sums[i, j]`` for one k after the other, each sum exact and then rounded once.

    ``first`` is the flat index of the first output, whose rows follow one another; ``step`` counts the sums.
    """
    number, bounds, table, steps, key = rule
    row = np.empty(_TILE, dtype=np.float64)
    rows, columns = sums.shape
    for i in range(rows):
        for start in range(0, columns, _TILE):
            stop = min(start + _TILE, columns)
            out, total = sums[i, start:stop], row[: stop - start]
            index = first + np.uint64(i * columns + start)
            for k in range(a.shape[1]):
                _add_products(out, a[i, k], b[k, start:stop], exact, total)
                _round_sum(total, number, bounds, table, steps, key, index, step + np.uint64(k), out)


@_part
def _add_block(sums: Any, x: Any, y: Any, error: Any, out: Any) -> bool:
    """``out = sums + x @ y`` rounded to odd, for exact products; say whether that is certain.

    Errors of sums (Knuth's TwoSum) are summed beside them; only where such a sum has an error itself it is not.
    """
    for j in range(out.size):
        out[j], error[j] = sums[j], 0.0
    lost = False
    for k in range(x.size):
        for j in range(out.size):
            product = x[k] * y[k, j]
            total = out[j] + product
            shadow = total - out[j]
            small = (out[j] - (total - shadow)) + (product - shadow)
            out[j] = total
            errors = error[j] + small
            shadow = errors - error[j]
            lost |= abs((error[j] - (errors - shadow)) + (small - shadow)) > 0  # false for the NaN of an infinite sum
            error[j] = errors
    for j in range(out.size):
        small = error[j] if abs(out[j]) < np.inf else 0.0
        total = out[j] + small
        shadow = total - out[j]
        rest = (out[j] - (total - shadow)) + (small - shadow)
        out[j] = _to_odd(total + 0.0, rest)  # no zero has a sign
    return not lost


@_jit
def accumulate_blocks(a: Any, b: Any, sums: Any, block: Any, rule: Any, first: Any, step: Any) -> bool:
    """Add blocks of products to sums, each block with one rounding of the exact sum, as `accumulate` adds products.

    Returns False, with ``sums`` unfinished, if it is not certain that a sum is exact.
    """
    number, bounds, table, steps, key = rule
    row, errors = np.empty(_TILE, dtype=np.float64), np.empty(_TILE, dtype=np.float64)
    rows, columns = sums.shape
    for i in range(rows):
        for start in range(0, columns, _TILE):
            stop = min(start + _TILE, columns)
            out, total, error = sums[i, start:stop], row[: stop - start], errors[: stop - start]
            index = first + np.uint64(i * columns + start)
            for place in range(-(-a.shape[1] // block)):
                k = place * block
                if not _add_block(out, a[i, k : k + block], b[k : k + block, start:stop], error, total):
                    return False
                _round_sum(total, number, bounds, table, steps, key, index, step + np.uint64(place), out)
    return True


@_jit
def accumulate_tree(a: Any, b: Any, sums: Any, exact: Any, rule: Any, first: Any, first_step: Any) -> None:
    """Sum the products by a tree of adders: neighbours first, an odd one out added to zero.

    Sums are counted level by level from ``first_step`` on.
    """
    number, bounds, table, steps, key = rule
    rows, columns = sums.shape
    depth = a.shape[1]
    row = np.empty(_TILE, dtype=np.float64)
    level = np.zeros(((depth + 1) // 2, _TILE), dtype=np.float64)
    for i in range(rows):
        for start in range(0, columns, _TILE):
            stop = min(start + _TILE, columns)
            size = stop - start
            total = row[:size]
            index = first + np.uint64(i * columns + start)
            step = first_step
            count = (depth + 1) // 2
            for m in range(count):
                out = level[m, :size]
                for j in range(size):
                    out[j] = a[i, 2 * m] * b[2 * m, start + j]
                if 2 * m + 1 < depth:
                    _add_products(out, a[i, 2 * m + 1], b[2 * m + 1, start:stop], exact, total)
                else:
                    total[:] = out
                _round_sum(total, number, bounds, table, steps, key, index, step, out)
                step += np.uint64(1)
            while count > 1:
                half = (count + 1) // 2
                for m in range(half):
                    if 2 * m + 1 < count:
                        _add_products(level[2 * m, :size], 1.0, level[2 * m + 1, :size], exact, total)
                    else:
                        total[:] = level[2 * m, :size]
                    _round_sum(total, number, bounds, table, steps, key, index, step, level[m, :size])
                    step += np.uint64(1)
                count = half
            sums[i, start:stop] = level[0, :size]


@_jit
def accumulate_float32(a: Any, b: Any, sums: Any) -> None:
    """Add float32 products, which must be exact, to float32 sums, one k after the other."""
    rows, columns = sums.shape
    for start in range(0, columns, 1024):
        stop = min(start + 1024, columns)
        for i in range(rows):
            out = sums[i, start:stop]
            for k in range(a.shape[1]):
                x, y = a[i, k], b[k, start:stop]
                for j in range(out.size):
                    out[j] += x * y[j]
