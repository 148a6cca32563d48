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


@_part
def _add_products(sums: Any, x: Any, y: Any, exact: Any, error: Any, out: Any) -> None:
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
        error[j] = (sums[j] - (total - shadow)) + (product - shadow)
        out[j] = total
    bits = out.view(np.int64)
    for j in range(out.size):
        inexact = (error[j] > 0) | (error[j] < 0)  # false for the NaN error of an infinite sum
        step = np.int64(1) if (error[j] > 0) == (bits[j] > 0) else np.int64(-1)
        bits[j] += step if inexact & (bits[j] & np.int64(1) == 0) else np.int64(0)


@_part
def _round_float(x: Any, number: Any, words: Any, scratch: Any, out: Any) -> None:
    """Round float64 to the float of ``number``: precision, smallest exponent, mode, largest, what lies beyond it.

    In units of the last place of the result, ``n = floor + rest``; both are exact, and the mode decides on ``rest``.
    """
    precision, exponent, mode, largest, above, below = number
    unit_bits, inverse_bits, rest, integer = scratch
    bits = x.view(np.int64)
    unit, inverse = unit_bits.view(np.float64), inverse_bits.view(np.float64)
    for j in range(x.size):
        field = (bits[j] >> np.int64(52)) & np.int64(0x7FF)
        place = max(field, exponent + np.int64(1023)) - (precision - np.int64(1))
        unit_bits[j] = place << np.int64(52)
        inverse_bits[j] = (np.int64(2046) - place) << np.int64(52)
    for j in range(x.size):
        n = abs(x[j]) * inverse[j]
        nearest = (n + 4503599627370496.0) - 4503599627370496.0
        floor = nearest - (1.0 if nearest > n else 0.0)
        rest[j] = n - floor
        integer[j] = nearest if mode == 0 else floor
    if (mode == 1) | (mode == 3) | (mode == 4):  # nearest-away, up, down: one loop, since each costs the compiler
        least = 0.5 if mode == 1 else 5e-324
        for j in range(x.size):
            this_way = (mode == 1) | (mode == 3) & (x[j] > 0) | (mode == 4) & (x[j] < 0)
            integer[j] += 1.0 if (rest[j] >= least) & this_way else 0.0
    elif mode == 5:  # to-odd
        for j in range(x.size):
            half = integer[j] * 0.5
            even = (half + 4503599627370496.0) - 4503599627370496.0 == half
            integer[j] += 1.0 if (rest[j] > 0) & even else 0.0
    elif mode == 6:  # stochastic: the carry of a 24-bit adder
        for j in range(x.size):
            carry = np.int64(rest[j] * 16777216.0) + np.int64(words[j] & np.uint32(0xFFFFFF))
            integer[j] += 1.0 if carry >= 16777216 else 0.0
    for j in range(x.size):
        magnitude = integer[j] * unit[j]
        positive = magnitude if magnitude <= largest else above
        negative = -magnitude if magnitude <= largest else below
        rounded = positive if x[j] > 0 else negative
        out[j] = rounded if (abs(x[j]) < np.inf) & (x[j] != 0) else x[j]


@_part
def _round_to_table(x: Any, table: Any, fine: Any, coarse: Any, words: Any, scratch: Any, codes: Any, out: Any) -> None:
    """Round float64 to the values of a format by the tables of the codec; NaN stays NaN."""
    threshold, result, shift, search, values = table
    bits = scratch[0].view(np.uint64)[: x.size]
    pattern = x.view(np.uint64)
    for j in range(x.size):
        bits[j] = pattern[j]
    if search.size:
        for j in range(x.size):
            low, high = 0, search.size
            while low < high:
                middle = (low + high) >> 1
                if search[middle] <= pattern[j]:
                    low = middle + 1
                else:
                    high = middle
            bits[j] = np.uint64(low - 1)
    if words.size:
        cells = threshold, result, shift
        encode_stochastic(x, bits, cells, fine, coarse, (np.uint64(52), np.uint64(0)), words, np.uint64(24), codes)
    else:
        encode_cells(bits, threshold, result, shift, codes)
    for j in range(x.size):
        out[j] = values[codes[j]] if x[j] == x[j] else x[j]


@_part
def _round_integer(x: Any, bounds: Any, wraps: Any, out: Any) -> None:
    """Keep integers between two bounds by saturation, or by wrapping around with a period."""
    low, high, span = bounds
    if wraps:
        for j in range(x.size):
            out[j] = x[j] - span * np.floor((x[j] - low) / span)
    else:
        for j in range(x.size):
            value = x[j] if x[j] < high else high
            out[j] = value if value > low else low


@_part
def _philox_row(key: Any, first: Any, step: Any, buffer: Any, count: Any) -> Any:
    """Return the words of outputs ``first`` and on at one step; counter (block low, block high, step, 0)."""
    skip = np.int64(first % np.uint64(4))
    blocks = (skip + count + 3) // 4
    philox_words(key[0], key[1], first // np.uint64(4), buffer[: 4 * blocks], step)
    return buffer[skip : skip + count]


@_part
def _round_sum(total: Any, rule: Any, first: Any, step: Any, scratch: Any, buffer: Any, codes: Any, out: Any) -> None:
    """Round exact sums into the accumulator."""
    kind, number, bounds, table, fine, coarse, drawn, key = rule
    words = buffer[:0]
    if drawn:
        words = _philox_row(key, first, step, buffer, total.size)
    if kind == 0:
        _round_float(total, number, words, scratch, out)
    elif kind == 1:
        _round_to_table(total, table, fine, coarse, words, scratch, codes, out)
    else:
        _round_integer(total, bounds, kind == 3, out)


@_part
def _scratch() -> Any:
    ints = np.empty((2, _TILE), dtype=np.int64)
    floats = np.empty((4, _TILE), dtype=np.float64)
    return ints, floats, np.empty(_TILE + 4, dtype=np.uint32), np.empty(_TILE, dtype=np.uint16)


@_jit
def accumulate(a: Any, b: Any, sums: Any, exact: Any, rule: Any, first: Any, step: Any) -> None:
    """Add ``a[i, k] * b[k, j]`` to ``sums[i, j]`` for one k after the other, each sum exact and then rounded once.

    ``first`` is the flat index of the first output, whose rows follow one another; ``step`` counts the sums.
    """
    ints, floats, buffer, codes = _scratch()
    rows, columns = sums.shape
    for i in range(rows):
        for start in range(0, columns, _TILE):
            stop = min(start + _TILE, columns)
            size = stop - start
            out = sums[i, start:stop]
            total, error = floats[0, :size], floats[1, :size]
            scratch = ints[0, :size], ints[1, :size], floats[2, :size], floats[3, :size]
            index = first + np.uint64(i * columns + start)
            for k in range(a.shape[1]):
                _add_products(out, a[i, k], b[k, start:stop], exact, error, total)
                _round_sum(total, rule, index, step + np.uint64(k), scratch, buffer, codes[:size], out)


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
        error[j] = (out[j] - (total - shadow)) + (small - shadow)
        out[j] = total + 0.0  # no zero has a sign
    bits = out.view(np.int64)
    for j in range(out.size):
        inexact = (error[j] > 0) | (error[j] < 0)
        step = np.int64(1) if (error[j] > 0) == (bits[j] > 0) else np.int64(-1)
        bits[j] += step if inexact & (bits[j] & np.int64(1) == 0) else np.int64(0)
    return not lost


@_jit
def accumulate_blocks(a: Any, b: Any, sums: Any, block: Any, rule: Any, first: Any, step: Any) -> bool:
    """Add blocks of products to sums, each block with one rounding of the exact sum, as `accumulate` adds products.

    Returns False, with ``sums`` unfinished, if it is not certain that a sum is exact.
    """
    ints, floats, buffer, codes = _scratch()
    rows, columns = sums.shape
    for i in range(rows):
        for start in range(0, columns, _TILE):
            stop = min(start + _TILE, columns)
            size = stop - start
            out = sums[i, start:stop]
            total, error = floats[0, :size], floats[1, :size]
            scratch = ints[0, :size], ints[1, :size], floats[2, :size], floats[3, :size]
            index = first + np.uint64(i * columns + start)
            for number in range(-(-a.shape[1] // block)):
                k = number * block
                if not _add_block(out, a[i, k : k + block], b[k : k + block, start:stop], error, total):
                    return False
                _round_sum(total, rule, index, step + np.uint64(number), scratch, buffer, codes[:size], out)
    return True


@_jit
def accumulate_tree(a: Any, b: Any, sums: Any, exact: Any, rule: Any, first: Any, first_step: Any) -> None:
    """Sum the products by a tree of adders: neighbours first, an odd one out added to zero.

    Sums are counted level by level from ``first_step`` on.
    """
    ints, floats, buffer, codes = _scratch()
    rows, columns = sums.shape
    depth = a.shape[1]
    level = np.zeros(((depth + 1) // 2, _TILE), dtype=np.float64)
    for i in range(rows):
        for start in range(0, columns, _TILE):
            stop = min(start + _TILE, columns)
            size = stop - start
            total, error = floats[0, :size], floats[1, :size]
            scratch = ints[0, :size], ints[1, :size], floats[2, :size], floats[3, :size]
            index = first + np.uint64(i * columns + start)
            step = first_step
            count = (depth + 1) // 2
            for m in range(count):
                row = level[m, :size]
                for j in range(size):
                    row[j] = a[i, 2 * m] * b[2 * m, start + j]
                if 2 * m + 1 < depth:
                    _add_products(row, a[i, 2 * m + 1], b[2 * m + 1, start:stop], exact, error, total)
                else:
                    total[:] = row
                _round_sum(total, rule, index, step, scratch, buffer, codes[:size], row)
                step += np.uint64(1)
            while count > 1:
                half = (count + 1) // 2
                for m in range(half):
                    if 2 * m + 1 < count:
                        _add_products(level[2 * m, :size], 1.0, level[2 * m + 1, :size], exact, error, total)
                    else:
                        total[:] = level[2 * m, :size]
                    _round_sum(total, rule, index, step, scratch, buffer, codes[:size], level[m, :size])
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
