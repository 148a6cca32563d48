"""Exact sums of many float64 terms, rounded once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

_jit = njit(nogil=True, cache=True)


@_jit
def sum_terms(terms: Any, odd: Any, out: Any) -> None:
    """Sum finite float64 numbers down the first axis exactly and round once: to nearest even, or to odd.

    The sum is held in digits of 32 bits (Kulisch's long accumulator), as many as the terms need.
    """
    lowest, highest = 2000, -2000
    for t in range(terms.shape[0]):
        for j in range(out.size):
            fraction, exponent = math.frexp(terms[t, j])
            if fraction != 0.0:
                lowest, highest = min(lowest, exponent - 53), max(highest, exponent)
    if highest < lowest:
        lowest = highest = 0
    digits = np.zeros((highest - lowest) // 32 + 4, dtype=np.int64)
    low32, one = np.int64(0xFFFFFFFF), np.int64(1)
    for j in range(out.size):
        digits[:] = 0
        for t in range(terms.shape[0]):
            fraction, exponent = math.frexp(terms[t, j])
            if fraction == 0.0:
                continue
            shift = exponent - 53 - lowest
            magnitude = np.int64(abs(fraction) * 9007199254740992.0)
            sign = one if fraction > 0 else -one
            place, inside = shift // 32, np.int64(shift % 32)
            head = magnitude >> np.int64(32)
            tail = (magnitude & low32) << inside
            head = (head << inside) + (tail >> np.int64(32))
            digits[place] += sign * (tail & low32)
            digits[place + 1] += sign * (head & low32)
            digits[place + 2] += sign * (head >> np.int64(32))
        for place in range(digits.size - 1):
            digits[place + 1] += digits[place] >> np.int64(32)
            digits[place] &= low32
        negative = digits[-1] < 0
        if negative:
            for place in range(digits.size):
                digits[place] = -digits[place]
            for place in range(digits.size - 1):
                digits[place + 1] += digits[place] >> np.int64(32)
                digits[place] &= low32
        top = digits.size - 1
        while top > 0 and digits[top] == 0:
            top -= 1
        length = 0
        while digits[top] >> np.int64(length):
            length += 1
        # 62 bits from the leading one on; then one bit says whether anything lies below.
        leading = np.int64(0)
        taken, place = 0, top
        sticky = False
        while place >= 0:
            width = length if place == top else 32
            use = min(width, 62 - taken)
            leading = (leading << np.int64(use)) | (digits[place] >> np.int64(width - use))
            sticky |= (digits[place] & ((one << np.int64(width - use)) - one)) != 0
            taken += use
            place -= 1
        exponent = 32 * top + length - taken + lowest
        cut = np.int64(max(taken - 53, 0) if odd else 0)
        kept = leading >> cut
        sticky |= (kept << cut) != leading
        value = math.ldexp(np.float64(kept | np.int64(sticky)), exponent + int(cut))
        out[j] = -value if negative else value
