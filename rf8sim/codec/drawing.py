"""What a random word is compared with: IEEE P3109's three variants, and gaps that float64 does not divide exactly.

With N random bits R, a number ``p`` of the way up, and ``t = p * 2**N``, the upper neighbour is taken (interim report
v4.0, section 4.7.4)

* in variant A where ``floor(t) + R >= 2**N``: the carry of an adder;
* in B where ``floor(2 t) + 2 R + 1 >= 2**(N + 1)``: the same with one bit more, the lowest of the word 1;
* in C where ``rint(t) + R >= 2**N``: as B, but for a tie of ``rint`` that goes down, which it does where R is odd.

So B and C are A with other words.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Format
from .rounding import Rounding
from .thresholds import StochasticTable

__all__ = ["adder_words", "has_wide_gaps", "interval_numbers", "mend_wide_gaps", "ties_of_draws", "ties_of_numbers"]

_GAP_BITS = 26  # of a gap that the kernel multiplies exactly
_MARGIN = 2.0**-16  # of a random word's unit; float64 errs by 2**-20 of it

Words = NDArray[np.uint32]


def adder_words(words: Words, rounding: Rounding, ties: NDArray[np.bool_] | None = None) -> tuple[Words, int]:
    """Return words, and how many of their bits to compare, by which variant A decides as the rounding's variant does.

    Parameters
    ----------
    words : ndarray of uint32
        The random words.
    rounding : Rounding
        Its ``variant`` and its ``bits``.
    ties : ndarray of bool, optional
        For variant C, where ``t`` lies halfway between two integers of which R decides.

    Examples
    --------
    >>> adder_words(np.array([5], np.uint32), Rounding("stochastic", bits=2, variant="B"))
    (array([3], dtype=uint32), 3)
    """
    if rounding.variant == "A":
        return words, rounding.bits
    low = words & np.uint32((1 << rounding.bits) - 1)
    down = np.zeros(words.shape, np.bool_) if ties is None else ties & (low & np.uint32(1) == 1)
    return (low << np.uint32(1)) | (~down).astype(np.uint32), rounding.bits + 1


def ties_of_draws(words: Words, bits: int, fraction: Words, inexact: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the fractions of a table of draws, ``floor(p * 2**32)``, lie on the tie that a word decides."""
    twice = fraction.astype(np.uint64) >> np.uint64(31 - bits)
    cut = inexact | (twice << np.uint64(31 - bits) != fraction)
    low = words.astype(np.uint64) & np.uint64((1 << bits) - 1)
    tie: NDArray[np.bool_] = ~cut & (twice + np.uint64(2) * low + np.uint64(1) == np.uint64(1 << (bits + 1)))
    return tie


def interval_numbers(bits: NDArray[Any], table: StochasticTable) -> NDArray[np.int64]:
    """Return the number of the interval that each bit pattern lies in."""
    place = np.searchsorted(table.steps.first, bits.astype(np.uint64), side="right") - 1
    number: NDArray[np.int64] = table.steps.result[place]
    return number


def ties_of_numbers(
    x: NDArray[Any], words: Words, bits: int, table: StochasticTable, number: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return where numbers, in the intervals of these numbers, lie on the tie that a word decides, R being odd."""
    magnitude, lower, gap = np.abs(x.astype(np.float64)), table.lower[number], table.gap[number]
    low = words & np.uint32((1 << bits) - 1)
    decides = (gap > 0) & (low & np.uint32(1) == 1) & np.isfinite(magnitude)
    steps = float(2 << bits)
    with np.errstate(all="ignore"):
        distance = magnitude - lower
        exact = (distance + lower == magnitude) & (magnitude - distance == lower)
        scaled = distance * steps
        tie: NDArray[np.bool_] = decides & exact & (np.fmod(scaled, gap) == 0)
        tie &= scaled / gap + 2.0 * low + 1.0 == steps
    for index in np.flatnonzero(decides & ~exact).tolist():
        way = (Fraction(float(magnitude[index])) - Fraction(float(lower[index]))) / Fraction(float(gap[index]))
        tie[index] = way * (2 << bits) + 2 * int(low[index]) + 1 == 2 << bits
    return tie


def _is_wide(table: StochasticTable) -> NDArray[np.bool_]:
    fraction = np.frexp(table.gap)[0] * 2.0**_GAP_BITS
    wide: NDArray[np.bool_] = (fraction != np.rint(fraction)) | (
        (table.lower > 0) & (table.gap > 2.0**20 * table.lower)
    )
    return wide


def has_wide_gaps(table: StochasticTable) -> bool:
    """Return whether neighbours lie so far apart that the kernel's products of their distance are not exact."""
    return bool(_is_wide(table).any())


def mend_wide_gaps(
    x: NDArray[Any], fmt: Format, rounding: Rounding, words: Words, table: StochasticTable, number: NDArray[np.int64],
    out: NDArray[Any],
) -> None:  # fmt: skip
    """Decide again, as rational numbers, draws in wide intervals where the word lies next to the number.

    ``words`` and the rounding's ``bits`` are those that variant A compares.
    """
    here = np.flatnonzero(_is_wide(table)[number] & np.isfinite(x))
    mask = (1 << rounding.bits) - 1
    with np.errstate(all="ignore"):
        distance = np.abs(x[here].astype(np.float64)) - table.lower[number[here]]
        way = distance / table.gap[number[here]] * (mask + 1)
    near = np.abs(way - (mask + 1 - (words[here].astype(np.int64) & mask))) < _MARGIN
    for index in here[near].tolist():
        value, pair = float(x[index]), int(table.codes[number[index]])
        side, lower = fmt.sides[value < 0], pair & 0xFFFF
        rank = int(fmt.rank[lower])
        low, high = (Fraction(float(v)) for v in [*side.magnitudes, side.beyond][rank : rank + 2])
        exact = (abs(Fraction(value)) - low) / (high - low) * (mask + 1)
        out[index] = pair >> 16 if math.floor(exact) + (int(words[index]) & mask) > mask else lower
