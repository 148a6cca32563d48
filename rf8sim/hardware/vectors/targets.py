"""Where results lie that are hard to round, and the operand that takes a result there.

Quotients and differences are single float64 operations, which every machine rounds alike; what they give is only where
to look for a code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...codec.boundaries import place
from ...codec.rounding import Rounding, RoundingMode
from ...formats import Format
from ..golden.golden import Golden
from ..golden.ports import Port, unsigned
from .code_sets import corner_codes, nearest_codes, ordered_codes

__all__ = [
    "COMPARING", "FACTORS", "Targets", "alignments", "are_ties", "digits", "distinct", "edges", "evenly", "neighbours",
    "octaves", "solved", "targets",
]  # fmt: skip

Array = NDArray[np.float64]
Codes = NDArray[Any]

COMPARING = ("minimum", "maximum", "compare")
"""Operations that look at the difference of their operands, and round nothing."""

FACTORS = np.array([0.5, -0.75, 1.5, 0.25, -3.0, 0.015625, 1.25, -0.001953125, 1.0625, 0.6, -1.7, 96.0, -0.9, 0.1])
"""How far an operand lies from the result that is aimed at."""


def evenly(size: int, count: int) -> NDArray[np.int64]:
    """Return at most ``count`` places of ``size``, the first and the last among them, evenly spread."""
    if size <= count:
        return np.arange(size)
    return np.arange(count) * (size - 1) // (count - 1)


def distinct(columns: Sequence[Codes]) -> tuple[Codes, ...]:
    """Return the different rows of columns of codes, in ascending order."""
    key = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        key = key << np.uint64(16) | column.astype(np.uint64)
    key = np.unique(key)
    shifts = range(16 * (len(columns) - 1), -1, -16)
    return tuple((key >> np.uint64(shift) & np.uint64(0xFFFF)).astype(np.int64) for shift in shifts)


def solved(operation: str, target: Array, known: Array, *, first: bool) -> Array:
    """Return about the other operand with which the result is ``target``; ``first`` says which one is known."""
    with np.errstate(all="ignore"):
        match operation:
            case "add":
                return target - known
            case "subtract" | "minimum" | "maximum" | "compare":
                return known - target if first else target + known
            case "multiply":
                return target / known
        return known / target if first else target * known


@lru_cache(maxsize=32)
def octaves(fmt: Format) -> tuple[NDArray[np.int64], Codes]:
    """Return the octaves of the positive values, and of each the first, last and middle code, shape (octaves, 3)."""
    order = ordered_codes(fmt)
    order = order[fmt.values[order] > 0]
    exponent = np.frexp(fmt.values[order])[1]
    which, start = np.unique(exponent, return_index=True)
    stop = np.append(start[1:], exponent.size) - 1
    return which, np.stack([order[start], order[stop], order[(start + stop) // 2]], axis=1)


@lru_cache(maxsize=32)
def edges(fmt: Format, count: int) -> Codes:
    """Return codes of every octave, of both signs, thinned to about so many, and the corners."""
    codes = octaves(fmt)[1].ravel()
    codes = codes[evenly(codes.size, count)]
    if fmt.signed:
        codes = np.append(codes, nearest_codes(fmt, -fmt.values[codes]))
    return np.union1d(codes, corner_codes(fmt))


@lru_cache(maxsize=32)
def alignments(first: Format, second: Format, level: int) -> tuple[Codes, Codes]:
    """Return pairs of codes whose octaves are every distance apart, with short and long significands and both signs."""
    (high, a), (low, b) = octaves(first), octaves(second)
    distance = (high[:, None] - low[None, :]).ravel()
    order = np.argsort(distance, kind="stable")
    starts = np.flatnonzero(np.diff(distance[order], prepend=distance[order[0]] - 1))
    sizes = np.diff(starts, append=distance.size)
    each = 3 if level == 1 else 16
    chosen = [order[start + evenly(size, each)] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
    i, j = np.divmod(np.concatenate(chosen), low.size)
    picks = ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (1, 2))
    left = np.concatenate([a[i, x] for x, _ in picks])
    right = np.concatenate([b[j, y] for _, y in picks])
    left, right = np.tile(left, 2), np.append(right, nearest_codes(second, -second.values[right]))
    if level > 1:
        left, right = np.append(left, nearest_codes(first, -first.values[left])), np.tile(right, 2)
    return left, right


class Targets(NamedTuple):
    """Results to aim at, by what is hard about them.

    Attributes
    ----------
    ties, halves : ndarray of float64
        Where the nearest modes must choose, and how far the next value is.
    values : ndarray of float64
        Values, where the other modes must choose.
    overflow, underflow : ndarray of float64
        Where results leave the range, or the normal numbers.
    """

    ties: Array
    halves: Array
    values: Array
    overflow: Array
    underflow: Array


@lru_cache(maxsize=32)  # of all roundings the same
def targets(into: Format, count: int) -> Targets:
    """Return results to aim at, about ``count`` ties and as many values of each sign."""
    kinds: list[list[Array]] = [[], [], [], [], []]
    for negative in (False, True)[: 1 + into.signed]:
        side, sign = into.sides[negative], -1.0 if negative else 1.0
        points = place(into, RoundingMode.NEAREST_EVEN, negative).point
        upper = side.magnitudes[1:]
        inside = points[: upper.size]
        _, first = np.unique(np.frexp(inside)[1], return_index=True)
        ends = np.clip(np.append(first, first - 1), 0, inside.size - 1)
        chosen = np.unique(np.append(evenly(inside.size, count), ends[evenly(ends.size, count)]))
        largest, smallest = side.magnitudes[-1], side.magnitudes[np.argmax(side.magnitudes > 0)]
        below = into.subnormals_below or smallest
        rank = int(np.searchsorted(side.magnitudes, below))
        around = side.magnitudes[max(rank - 2, 0) : rank + 2]
        beyond = [side.beyond, *points[upper.size :]] if math.isfinite(side.beyond) else [2 * largest]
        kinds[0].append(sign * inside[chosen])
        kinds[1].append(upper[chosen] - inside[chosen])
        kinds[2].append(sign * side.magnitudes[evenly(side.magnitudes.size, count)])
        kinds[3].append(sign * np.array([*side.magnitudes[-2:], *beyond]))
        kinds[4].append(sign * np.array([smallest / 2, smallest, 1.5 * smallest, *around]))
    return Targets(*map(np.concatenate, kinds))


def are_ties(model: Golden, ports: Sequence[Port], operands: Sequence[Codes]) -> NDArray[np.bool_]:
    """Say where the exact result lies where the nearest modes must choose."""
    nearest = model.changed(operands=tuple(ports), rounding=Rounding("nearest-even"))
    patterns = [column.astype(unsigned(port.kind.bits)) for port, column in zip(ports, operands, strict=True)]
    ties: NDArray[np.bool_] = nearest.compute(patterns)[0].ties
    return ties


def neighbours(fmt: Format, codes: Codes, by: int) -> Codes:
    """Return the codes of the values some places above."""
    return nearest_codes(fmt, fmt.values[codes], by)


@lru_cache(maxsize=32)
def digits(fmt: Format) -> NDArray[np.int64]:
    """Return how many significant bits the value of each code needs; 0 for zero and what is not finite."""
    finite = np.isfinite(fmt.values) & (fmt.values != 0)
    integers = np.ldexp(np.frexp(np.abs(np.where(finite, fmt.values, 0.5)))[0], 53).astype(np.int64)
    zeros = np.bitwise_count((integers & -integers) - 1).astype(np.int64)
    return np.where(finite, 53 - zeros, 0)
