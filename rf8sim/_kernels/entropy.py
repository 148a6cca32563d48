"""The loops of the entropy coders. Streams and tables go in; what they mean is decided in `rf8sim.entropy.coding`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_jit = njit(nogil=True, cache=True)
_inline = njit(nogil=True, cache=True, inline="always")

# Indices are unsigned: a signed one costs a test for each access, since it might count from the end.
_U0, _U1, _U2, _U3, _U4, _U8, _U16, _U32, _U40 = (np.uint64(n) for n in (0, 1, 2, 3, 4, 8, 16, 32, 40))
_BYTE, _WORD = np.uint64(0xFF), np.uint64(0xFFFF)
_LOW = np.uint64(1 << 24)
"""States of rANS run from here to 2**40: far above the frequencies, so that whole states cost next to nothing."""


@_jit
def count_symbols(symbols: Any, counts: Any) -> None:
    """Count into the four rows of ``counts`` in turn, since equal neighbours would wait for each other."""
    for i in range(symbols.size):
        counts[np.uint64(i) & _U3, symbols[i]] += 1


# --- rANS: Duda, arXiv 1311.2540; four states interleaved as Giesen, arXiv 1402.3392 ---------------------------------


@_inline
def _push(x: Any, symbol: Any, table: Any, inverse: Any, bits: Any, words: Any, at: Any) -> Any:
    """Put a symbol on a state, its low word moved below ``at`` first if it would grow too large (without a branch).

    An inverse f' of 1 / f (1 + e) with 0 <= e < 2**-51 gives the exact quotient of x < 2**50: x f' is not below a whole
    quotient, and exceeds x / f by less than 1 / f, rounding included.
    """
    frequency, start = table[symbol] & _WORD, table[symbol] >> _U16
    words[at - _U1] = np.uint16(x & _WORD)
    full = x >= frequency << (_U40 - bits)
    at -= np.uint64(full)
    x = x >> _U16 if full else x
    quotient = np.uint64(np.int64(np.float64(np.int64(x)) * inverse[symbol]))
    return x + start + quotient * ((_U1 << bits) - frequency), at


@_jit
def rans_encode(symbols: Any, table: Any, inverse: Any, bits: Any, words: Any, states: Any) -> Any:
    """Encode from the last symbol to the first into the end of ``words``; return where the words begin.

    ``words`` has one place more than there are symbols; ``table`` is that of `rans_decode`.
    """
    i, at = np.uint64(symbols.size), np.uint64(words.size)
    while i & _U3:
        i -= _U1
        states[i & _U3], at = _push(states[i & _U3], symbols[i], table, inverse, bits, words, at)
    a, b, c, d = states[0], states[1], states[2], states[3]
    while i:
        i -= _U4
        d, at = _push(d, symbols[i + _U3], table, inverse, bits, words, at)
        c, at = _push(c, symbols[i + _U2], table, inverse, bits, words, at)
        b, at = _push(b, symbols[i + _U1], table, inverse, bits, words, at)
        a, at = _push(a, symbols[i], table, inverse, bits, words, at)
    states[0], states[1], states[2], states[3] = a, b, c, d
    return at


@_inline
def _pop(x: Any, slots: Any, table: Any, bits: Any, mask: Any, words: Any, at: Any) -> Any:
    """Take a symbol from a state, which takes a word if it became small (without a branch)."""
    slot = x & mask
    symbol = slots[slot]
    entry = table[symbol]
    x = (entry & _WORD) * (x >> bits) + slot - (entry >> _U16)
    small = x < _LOW
    refilled = (x << _U16) | np.uint64(words[at])
    return refilled if small else x, symbol, at + np.uint64(small)


@_jit
def rans_decode(words: Any, states: Any, slots: Any, table: Any, bits: Any, out: Any) -> Any:
    """Decode; return whether words and states end as they should.

    ``slots`` has the symbol of each slot, ``table`` each symbol's frequency below its start shifted by 16 bits.
    """
    mask = (_U1 << bits) - _U1
    a, b, c, d = states[0], states[1], states[2], states[3]
    i, at, count, size = _U0, _U0, np.uint64(out.size), np.uint64(words.size)
    while i + _U3 < count and at + _U3 < size:
        a, out[i], at = _pop(a, slots, table, bits, mask, words, at)
        b, out[i + _U1], at = _pop(b, slots, table, bits, mask, words, at)
        c, out[i + _U2], at = _pop(c, slots, table, bits, mask, words, at)
        d, out[i + _U3], at = _pop(d, slots, table, bits, mask, words, at)
        i += _U4
    states[0], states[1], states[2], states[3] = a, b, c, d
    while i < count:  # near the end of the words each is asked for
        j = i & _U3
        slot = states[j] & mask
        out[i] = slots[slot]
        entry = table[out[i]]
        states[j] = (entry & _WORD) * (states[j] >> bits) + slot - (entry >> _U16)
        if states[j] < _LOW:
            if at == size:
                return False
            states[j] = (states[j] << _U16) | np.uint64(words[at])
            at += _U1
        i += _U1
    return at == size and states[0] == _LOW and states[1] == _LOW and states[2] == _LOW and states[3] == _LOW


# --- prefix codes: the first bit of a code is the lowest free bit of its word ----------------------------------------


@_jit
def prefix_encode(symbols: Any, codes: Any, words: Any) -> Any:
    """Encode; return how many words were written. ``codes`` has each symbol's code above its length, of 8 bits.

    ``words`` has one place more than the codes may need.
    """
    buffer, count, at = _U0, _U0, _U0
    for i in range(symbols.size):
        entry = codes[symbols[i]]
        buffer |= (entry >> _U8) << count
        count += entry & _BYTE
        words[at] = np.uint32(buffer)
        full = count & _U32  # 32 or 0, as count is below 64
        at += full >> np.uint64(5)
        buffer >>= full
        count -= full
    if count:
        words[at] = np.uint32(buffer)
        at += _U1
    return at


@_inline
def _refill(buffer: Any, count: Any, words: Any, at: Any) -> Any:
    """Take a word if fewer than 32 bits are held (without a branch)."""
    few = count < _U32
    more = buffer | (np.uint64(words[at]) << (count & _U32 - _U1))
    return more if few else buffer, count | _U32, at + np.uint64(few)


@_inline
def _take(buffer: Any, count: Any, table: Any, mask: Any) -> Any:
    entry = np.uint64(table[buffer & mask])
    length = entry & _BYTE
    return buffer >> length, count - length, np.uint8(entry >> _U8)


@_jit
def prefix_decode(words: Any, ends: Any, table: Any, mask: Any, out: Any, quarter: Any) -> Any:
    """Decode four streams that end before ``ends``, each of ``quarter`` symbols, the last of those that are left.

    ``table`` has, for each pattern of the next bits, the symbol above the length of its code, of 8 bits; a length of
    255 is no code. Return whether each stream ends in its last word with nothing but zeros behind the last code.
    """
    i, first = _U0, np.uint64(quarter)
    second, third, count = first + first, first + first + first, np.uint64(out.size)
    ea, eb, ec, ed = np.uint64(ends[0]), np.uint64(ends[1]), np.uint64(ends[2]), np.uint64(ends[3])
    pa, pb, pc, pd = _U0, ea, eb, ec
    a, b, c, d = _U0, _U0, _U0, _U0
    na, nb, nc, nd = _U0, _U0, _U0, _U0
    pairs = first if mask <= _WORD else _U0  # a word holds two codes of at most 16 bits
    while i + _U1 < pairs and pa < ea and pb < eb and pc < ec and pd < ed:
        a, na, pa = _refill(a, na, words, pa)
        b, nb, pb = _refill(b, nb, words, pb)
        c, nc, pc = _refill(c, nc, words, pc)
        d, nd, pd = _refill(d, nd, words, pd)
        a, na, out[i] = _take(a, na, table, mask)
        b, nb, out[first + i] = _take(b, nb, table, mask)
        c, nc, out[second + i] = _take(c, nc, table, mask)
        d, nd, out[third + i] = _take(d, nd, table, mask)
        i += _U1
        a, na, out[i] = _take(a, na, table, mask)
        b, nb, out[first + i] = _take(b, nb, table, mask)
        c, nc, out[second + i] = _take(c, nc, table, mask)
        d, nd, out[third + i] = _take(d, nd, table, mask)
        i += _U1
    good = _rest(words, ea, pa, a, na, table, mask, out, i, first)
    good &= _rest(words, eb, pb, b, nb, table, mask, out, first + i, second)
    good &= _rest(words, ec, pc, c, nc, table, mask, out, second + i, third)
    good &= _rest(words, ed, pd, d, nd, table, mask, out, third + i, count)
    return good


@_jit
def _rest(
    words: Any, end: Any, at: Any, buffer: Any, count: Any, table: Any, mask: Any, out: Any, first: Any, stop: Any
) -> Any:
    i = first
    while i < stop:
        if count < _U32 and at < end:
            buffer |= np.uint64(words[at]) << count
            count += _U32
            at += _U1
        entry = np.uint64(table[buffer & mask])
        length = entry & _BYTE
        if length > count:
            return False
        buffer >>= length
        count -= length
        out[i] = np.uint8(entry >> _U8)
        i += _U1
    return at == end and count < _U32 and buffer == _U0
