"""Classes of vectors of two codes that have more than 16 bits together, for add, subtract, multiply and divide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats import Format
from ..golden.golden import Golden
from ..golden.ports import Port
from .code_sets import any_codes, corner_codes, format_of, nearest_codes, ordered_codes, walking_ones
from .float_pairs import rounding_classes
from .targets import (  # fmt: skip
    COMPARING,
    FACTORS,
    Targets,
    alignments,
    are_ties,
    digits,
    distinct,
    edges,
    evenly,
    neighbours,
    solved,
    targets,
)

__all__ = ["wide_pairs"]

Array = NDArray[np.float64]
Codes = NDArray[Any]
Pair = tuple[Codes, Codes]
Formats = tuple[Format, Format]

_AIMED = {1: 1 << 9, 2: 1 << 13}  # results aimed at, of each kind and sign
_SAMPLED = {1: 1 << 12, 2: 1 << 16}  # first operands of sums that cancel
_EDGES = {1: 1 << 6, 2: 1 << 9}  # operands on the way to results out of range
_SHORT = {1: 1 << 6, 2: 1 << 9}  # factors of each two lengths


def wide_pairs(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, tuple[Codes, ...]]]:
    """Yield structured classes of two operands."""
    formats = format_of(ports[0]), format_of(ports[1])
    yield "corners", _meshed(*(corner_codes(fmt, level) for fmt in formats))
    yield "walking ones", _meshed(*(walking_ones(fmt.bits) for fmt in formats))
    yield "alignments", distinct(alignments(*formats, level))
    aim, name = (0.0, "cancellation") if model.operation in ("add", "subtract") else (1.0, "results near one")
    if model.operation in COMPARING:
        aim, name = 0.0, "equal and neighbours"
    codes = ordered_codes(formats[0])
    codes = codes[evenly(codes.size, _SAMPLED[level])]
    close = [
        _aimed(model, formats, np.full(codes.size, aim), formats[0].values[codes], first=True, further=by)
        for by in range(-level, level + 1)
    ]
    yield name, _joined(close)
    if model.operation in COMPARING:
        return
    if model.into is None:
        if model.rounds:
            yield from rounding_classes(model, ports, level)
        return
    aimed = targets(model.into, _AIMED[level])
    ties = _ties(model, ports, formats, aimed, level)
    yield "ties", ties
    yield "near ties", _beside(formats, ties)
    yield "boundaries", _joined(_near_boundaries(model, formats, np.append(aimed.ties, aimed.values)))
    for name, points in (("overflow", aimed.overflow), ("underflow", aimed.underflow)):
        yield name, _joined(_at_edges(model, formats, points, _EDGES[level]))


def _meshed(a: Codes, b: Codes) -> Pair:
    first, second = np.meshgrid(a, b, indexing="ij")
    return first.ravel(), second.ravel()


def _joined(pairs: Sequence[Pair]) -> tuple[Codes, ...]:
    return distinct([np.concatenate(column) for column in zip(*pairs, strict=True)])


def _aimed(model: Golden, formats: Formats, target: Array, known: Array, *, first: bool, further: int) -> Pair:
    """Return the code of one operand, and that of the other with which the result is nearest to a target."""
    mine, other = formats if first else formats[::-1]
    codes = nearest_codes(mine, known)
    solution = nearest_codes(other, solved(model.operation, target, mine.values[codes], first=first), further)
    return (codes, solution) if first else (solution, codes)


def _ties(model: Golden, ports: Sequence[Port], formats: Formats, aimed: Targets, level: int) -> Pair:
    """Return operands whose result lies where the nearest modes must choose."""
    candidates: list[Pair] = []
    if model.operation in ("add", "subtract"):
        for times in (1.0, -1.0, 3.0, -5.0, 9.0, -17.0):
            for first in (True, False):
                known = aimed.halves * times
                candidates.append(_aimed(model, formats, aimed.ties, known, first=first, further=0))
    else:
        candidates += _short_factors(formats, _SHORT[level])
        short = ordered_codes(formats[1])
        short = short[np.isin(digits(formats[1])[short], (1, 2, 3))]
        if short.size:
            for seed in range(4):
                known = formats[1].values[short[any_codes(formats[1], 10 + seed, aimed.ties.size) % short.size]]
                candidates.append(_aimed(model, formats, aimed.ties, known, first=False, further=0))
    a, b = (np.concatenate(column) for column in zip(*candidates, strict=True))
    keep = are_ties(model, ports, (a, b))
    a, b = distinct((a[keep], b[keep]))
    some = evenly(a.size, 8 * _AIMED[level])
    return a[some], b[some]


def _short_factors(formats: Formats, count: int) -> list[Pair]:
    """Return pairs of codes of every two lengths of significands: products of some lie halfway."""
    lengths = [digits(fmt) for fmt in formats]
    by_length = [[np.flatnonzero(length == size) for size in range(1, int(length.max()) + 1)] for length in lengths]
    pairs = []
    for i, first in enumerate(by_length[0]):
        for j, second in enumerate(by_length[1]):
            if first.size and second.size:
                places = [any_codes(fmt, 100 + 64 * i + j + 32 * k, count) for k, fmt in enumerate(formats)]
                pairs.append((first[places[0] % first.size], second[places[1] % second.size]))
    return pairs


def _beside(formats: Formats, pair: Pair) -> tuple[Codes, ...]:
    """Return pairs in which one operand is a place higher or lower."""
    a, b = pair
    moved = [(neighbours(formats[0], a, by), b) for by in (-1, 1)]
    return _joined([*moved, *((a, neighbours(formats[1], b, by)) for by in (-1, 1))])


def _near_boundaries(model: Golden, formats: Formats, points: Array) -> list[Pair]:
    """Return pairs whose results are as near to points as the second operand allows."""
    match model.operation:
        case "add" | "subtract":
            base = points
        case "multiply":
            base = np.sqrt(np.abs(points))
        case _:
            base = np.ones(points.size)
    known = base * FACTORS[np.arange(points.size) % FACTORS.size]
    return [
        _aimed(model, formats, points, known, first=first, further=by) for first in (True, False) for by in (-1, 0, 1)
    ]


def _at_edges(model: Golden, formats: Formats, points: Array, count: int) -> list[Pair]:
    """Return pairs whose results are as near to a few points as one operand allows, from every octave of the other."""
    pairs = []
    for first in (True, False):
        fmt = formats[0] if first else formats[1]
        known = fmt.values[edges(fmt, count)]
        known = known[np.isfinite(known)]
        point, value = (grid.ravel() for grid in np.meshgrid(points, known, indexing="ij"))
        pairs += [_aimed(model, formats, point, value, first=first, further=by) for by in (-1, 0, 1)]
    return pairs
