"""The loops of the entropy coders. Streams and tables go in; what they mean is decided in `rf8sim.entropy.coding`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_jit = njit(nogil=True, cache=True)
_inline = njit(nogil=True, cache=True, inline="always")

# Indices are unsigned: a signed one costs a test for each access, since it might count from the end.
_U0, _U1, _U2, _U3, _U4, _U5, _U6, _U7, _U8 = (np.uint64(n) for n in range(9))
_U12, _U14, _U16, _U24, _U32, _U40, _U63, _U64 = (np.uint64(n) for n in (12, 14, 16, 24, 32, 40, 63, 64))
_BYTE, _WORD = np.uint64(0xFF), np.uint64(0xFFFF)
_LOW = np.uint64(1 << 24)
"""States of rANS run from here to 2**40: far above the frequencies, so that whole states cost next to nothing."""

_STARTS = np.uint64(256)
"""Where starts begin in the table of `rans_decode`."""


@_jit
def count_symbols(symbols: Any, counts: Any) -> None:
    """Count into the four rows of ``counts`` in turn, since equal neighbours would wait for each other."""
    for i in range(symbols.size):
        counts[np.uint64(i) & _U3, symbols[i]] += 1


@_jit
def share_units(counts: Any, frequencies: Any, units: Any) -> None:
    """Give ``units`` more to frequencies, or take as many less, one by one where that saves most or costs least."""
    while units != 0:
        best, best_worth = -1, 0.0
        for i in range(counts.size):
            f = frequencies[i]
            if units < 0 and f < 2:
                continue
            worth = counts[i] * np.log1p(1.0 / f) if units > 0 else -counts[i] * np.log1p(1.0 / (f - 1))
            if best < 0 or worth > best_worth:
                best, best_worth = i, worth
        step = 1 if units > 0 else -1
        frequencies[best] += step
        units -= step


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

    ``words`` has one place more than there are symbols; ``table`` has
    each symbol's frequency below its start shifted by 16 bits.
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
def _pop(x: Any, slots: Any, table: Any, bits: Any, mask: Any, data: Any, at: Any) -> Any:
    """Take a symbol from a state, which takes a word if it became small (without a branch)."""
    slot = x & mask
    symbol = slots[slot]
    x = table[np.uint64(symbol)] * (x >> bits) + (slot - table[_STARTS + np.uint64(symbol)])
    small = x < _LOW
    word = np.uint64(data[at]) | np.uint64(data[at + _U1]) << _U8  # one load, if nothing stands between the two
    refilled = (x << _U16) | word
    return refilled if small else x, symbol, at + (np.uint64(small) << _U1)


@_jit
def rans_decode(data: Any, at: Any, states: Any, slots: Any, table: Any, bits: Any, out: Any, first: Any) -> Any:
    """Decode words of two bytes from byte ``at`` and symbol ``first`` on, which is one of the first state.

    ``slots`` has the symbol of each slot, ``table`` the frequencies of 256 symbols and then where their slots start.
    Return whether words and states end as they should.
    """
    i, count, size, mask = first, np.uint64(out.size), np.uint64(data.size), (_U1 << bits) - _U1
    a, b, c, d = states[0], states[1], states[2], states[3]
    while i + _U3 < count and at + _U8 <= size:
        a, out[i], at = _pop(a, slots, table, bits, mask, data, at)
        b, out[i + _U1], at = _pop(b, slots, table, bits, mask, data, at)
        c, out[i + _U2], at = _pop(c, slots, table, bits, mask, data, at)
        d, out[i + _U3], at = _pop(d, slots, table, bits, mask, data, at)
        i += _U4
    states[0], states[1], states[2], states[3] = a, b, c, d
    while i < count:  # each word must be asked for
        j = i & _U3
        slot = states[j] & mask
        out[i] = slots[slot]
        symbol = np.uint64(out[i])
        states[j] = table[symbol] * (states[j] >> bits) + (slot - table[_STARTS + symbol])
        if states[j] < _LOW:
            if at == size:
                return False
            states[j] = (states[j] << _U16) | np.uint64(data[at]) | np.uint64(data[at + _U1]) << _U8
            at += _U2
        i += _U1
    return at == size and states[0] == _LOW and states[1] == _LOW and states[2] == _LOW and states[3] == _LOW


@_jit
def rans_decode_two(
    data: Any, states: Any, more: Any, others: Any, slots: Any, table: Any, bits: Any, outs: Any
) -> Any:
    """Decode two blocks as `rans_decode` does one, side by side: what one waits for, the other one does not."""
    out, second = outs
    mask = (_U1 << bits) - _U1
    a, b, c, d = states[0], states[1], states[2], states[3]
    e, f, g, h = others[0], others[1], others[2], others[3]
    i, at, to = _U0, _U0, _U0
    count, size, end = np.uint64(min(out.size, second.size)), np.uint64(data.size), np.uint64(more.size)
    while i + _U3 < count and at + _U8 <= size and to + _U8 <= end:
        a, out[i], at = _pop(a, slots, table, bits, mask, data, at)
        e, second[i], to = _pop(e, slots, table, bits, mask, more, to)
        b, out[i + _U1], at = _pop(b, slots, table, bits, mask, data, at)
        f, second[i + _U1], to = _pop(f, slots, table, bits, mask, more, to)
        c, out[i + _U2], at = _pop(c, slots, table, bits, mask, data, at)
        g, second[i + _U2], to = _pop(g, slots, table, bits, mask, more, to)
        d, out[i + _U3], at = _pop(d, slots, table, bits, mask, data, at)
        h, second[i + _U3], to = _pop(h, slots, table, bits, mask, more, to)
        i += _U4
    states[0], states[1], states[2], states[3] = a, b, c, d
    others[0], others[1], others[2], others[3] = e, f, g, h
    good = rans_decode(data, at, states, slots, table, bits, out, i)
    return good, rans_decode(more, to, others, slots, table, bits, second, i)


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
def _number(data: Any, i: Any) -> Any:
    """Return the number of 32 bits from byte ``i`` on."""
    low = np.uint64(data[i]) | np.uint64(data[i + _U1]) << _U8
    return low | np.uint64(data[i + _U2]) << _U16 | np.uint64(data[i + _U3]) << _U24


@_inline
def _bits_from(data: Any, at: Any) -> Any:
    """Return the next 57 bits or more from bit ``at`` on: eight bytes, which compile to one load."""
    i = at >> _U3
    return (_number(data, i) | _number(data, i + _U4) << _U32) >> (at & _U7)


@_inline
def _take(buffer: Any, at: Any, table: Any, mask: Any) -> Any:
    entry = np.uint64(table[buffer & mask])
    return buffer >> (entry & _U63), at + (entry & _BYTE), np.uint8(entry >> _U8)


@_jit
def prefix_decode(data: Any, table: Any, mask: Any, out: Any) -> Any:
    """Decode four streams of 32-bit words, each of a quarter of the symbols, the last of those that are left.

    ``data`` has first, as numbers of 32 bits, the words before the second stream, the third and the fourth. ``table``
    has, for each pattern of the next bits, the symbol above the length of its code, of 8 bits; a length of 255 is no
    code. Return whether each stream ends in its last word with nothing but zeros behind the last code.
    """
    size, i, count = np.uint64(data.size), _U0, np.uint64(out.size)
    if size < _U12 or size & _U3:
        return False
    pa, ed = _U12 << _U3, size << _U3
    ea, eb, ec = (pa + (_number(data, _U0) << _U5), pa + (_number(data, _U4) << _U5), pa + (_number(data, _U8) << _U5))
    if ea > eb or eb > ec or ec > ed:
        return False
    pb, pc, pd = ea, eb, ec
    first = count >> _U2
    second, third = first + first, first + first + first
    fours = first if mask >> _U14 == _U0 else _U0  # four codes have at most 56 bits, else two have
    while i + _U3 < fours and pa + _U64 <= ea and pb + _U64 <= eb and pc + _U64 <= ec and pd + _U64 <= ed:
        a, b, c, d = _bits_from(data, pa), _bits_from(data, pb), _bits_from(data, pc), _bits_from(data, pd)
        a, pa, out[i] = _take(a, pa, table, mask)
        b, pb, out[first + i] = _take(b, pb, table, mask)
        c, pc, out[second + i] = _take(c, pc, table, mask)
        d, pd, out[third + i] = _take(d, pd, table, mask)
        i += _U1
        a, pa, out[i] = _take(a, pa, table, mask)
        b, pb, out[first + i] = _take(b, pb, table, mask)
        c, pc, out[second + i] = _take(c, pc, table, mask)
        d, pd, out[third + i] = _take(d, pd, table, mask)
        i += _U1
        a, pa, out[i] = _take(a, pa, table, mask)
        b, pb, out[first + i] = _take(b, pb, table, mask)
        c, pc, out[second + i] = _take(c, pc, table, mask)
        d, pd, out[third + i] = _take(d, pd, table, mask)
        i += _U1
        a, pa, out[i] = _take(a, pa, table, mask)
        b, pb, out[first + i] = _take(b, pb, table, mask)
        c, pc, out[second + i] = _take(c, pc, table, mask)
        d, pd, out[third + i] = _take(d, pd, table, mask)
        i += _U1
    while i + _U1 < first and pa + _U64 <= ea and pb + _U64 <= eb and pc + _U64 <= ec and pd + _U64 <= ed:
        a, b, c, d = _bits_from(data, pa), _bits_from(data, pb), _bits_from(data, pc), _bits_from(data, pd)
        a, pa, out[i] = _take(a, pa, table, mask)
        b, pb, out[first + i] = _take(b, pb, table, mask)
        c, pc, out[second + i] = _take(c, pc, table, mask)
        d, pd, out[third + i] = _take(d, pd, table, mask)
        i += _U1
        a, pa, out[i] = _take(a, pa, table, mask)
        b, pb, out[first + i] = _take(b, pb, table, mask)
        c, pc, out[second + i] = _take(c, pc, table, mask)
        d, pd, out[third + i] = _take(d, pd, table, mask)
        i += _U1
    good = _prefix_rest(data, ea, pa, table, mask, out, i, first)
    good &= _prefix_rest(data, eb, pb, table, mask, out, first + i, second)
    good &= _prefix_rest(data, ec, pc, table, mask, out, second + i, third)
    good &= _prefix_rest(data, ed, pd, table, mask, out, third + i, count)
    return good


@_inline
def _refill(buffer: Any, count: Any, data: Any, at: Any, end: Any) -> Any:
    """Take bytes up to the stream's end until 32 bits or more are there."""
    while count < _U32 and at < end:
        buffer |= (np.uint64(data[at >> _U3]) >> (at & _U7)) << count
        count += _U8 - (at & _U7)
        at += _U8 - (at & _U7)
    return buffer, count, at


@_jit
def _prefix_rest(data: Any, end: Any, at: Any, table: Any, mask: Any, out: Any, first: Any, stop: Any) -> Any:
    """Decode from bit ``at`` on, where each byte must be asked for; return whether the stream ends as it should."""
    if at > end:
        return False
    i, buffer, count = first, _U0, _U0
    while i < stop:
        buffer, count, at = _refill(buffer, count, data, at, end)
        entry = np.uint64(table[buffer & mask])
        length = entry & _BYTE
        if length > count:
            return False
        buffer >>= length
        count -= length
        out[i] = np.uint8(entry >> _U8)
        i += _U1
    buffer, count, at = _refill(buffer, count, data, at, end)
    return at == end and count < _U32 and buffer == _U0
