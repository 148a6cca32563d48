"""Classes of vectors of fused multiply-add whose factors have more than 16 bits together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats import Format
from ..golden.golden import Golden
from ..golden.ports import Port
from .code_sets import (
    any_codes,
    core_codes,
    corner_codes,
    extremes,
    finite_codes,
    format_of,
    nearest_codes,
    special_codes,
)
from .targets import FACTORS, Targets, alignments, are_ties, distinct, edges, evenly, neighbours, targets

__all__ = ["wide_fused"]

Array = NDArray[np.float64]
Codes = NDArray[Any]
Formats = Sequence[Format]
Triple = tuple[Codes, Codes, Codes]

_AIMED = {1: 1 << 9, 2: 1 << 13}
_RANDOM = {1: 1 << 11, 2: 1 << 15}
_EDGES = {1: 1 << 6, 2: 1 << 9}


def wide_fused(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, tuple[Codes, ...]]]:
    """Yield structured classes of ``a * b + c``."""
    formats = [format_of(port) for port in ports]
    first, second, third = formats
    yield "core", tuple(grid.ravel() for grid in np.meshgrid(*map(core_codes, formats), indexing="ij"))
    few = [np.union1d(special_codes(fmt), [*extremes(fmt), nearest_codes(fmt, np.ones(1))[0]]) for fmt in formats]
    yield "specials", tuple(grid.ravel() for grid in np.meshgrid(*few, indexing="ij"))
    yield "every c", _every_c(formats, level)
    yield "alignments", _alignments(formats, level)
    a, b = _factors(formats, level)
    products = first.values[a] * second.values[b]
    moved = [(a, b, nearest_codes(third, -products, by)) for by in range(1 - level, level + 1)]
    yield "cancellation", _joined(moved)
    assert model.into is not None
    aimed = targets(model.into, _AIMED[level])
    ties = _ties(model, ports, formats, aimed)
    some = evenly(ties[0].size, 8 * _AIMED[level])
    ties = (ties[0][some], ties[1][some], ties[2][some])
    yield "ties", ties
    yield "near ties", _beside(formats, ties)
    every = np.append(aimed.ties, aimed.values)
    added = nearest_codes(third, every * FACTORS[np.arange(every.size) % FACTORS.size])
    yield "boundaries", _joined(_aimed(formats, every, added))
    known = edges(third, _EDGES[level])
    known = known[np.isfinite(third.values[known])]
    for name, limits in (("overflow", aimed.overflow), ("underflow", aimed.underflow)):
        point, code = (grid.ravel() for grid in np.meshgrid(limits, known, indexing="ij"))
        yield name, _joined(_aimed(formats, point, code))


def _joined(rows: Sequence[tuple[Codes, ...]]) -> tuple[Codes, ...]:
    return distinct([np.concatenate(column) for column in zip(*rows, strict=True)])


def _alignments(formats: Formats, level: int) -> tuple[Codes, ...]:
    """Return operands of which the first or the second is every distance from c, and the other one near 1."""
    rows: list[Triple] = []
    near_one = np.array([1.0, 1.9999, -1.0, 0.75, -1.5])
    for place in range(2):
        moving, c = alignments(formats[place], formats[2], level)
        other = nearest_codes(formats[1 - place], near_one)[np.arange(moving.size) % near_one.size]
        rows.append((moving, other, c) if place == 0 else (other, moving, c))
    return _joined(rows)


def _every_c(formats: Formats, level: int) -> tuple[Codes, ...]:
    """Return every c with factors of zero, and, if there are not too many, with the smallest and the largest."""
    every = np.arange(1 << formats[2].bits)
    count = 3 if level > 1 or formats[2].bits <= 8 else 1
    factors = [np.repeat(extremes(fmt)[:count], every.size) for fmt in formats[:2]]
    return (*factors, np.tile(every, count))


def _beside(formats: Formats, triple: Triple) -> tuple[Codes, ...]:
    """Return operands of which one is a place higher or lower."""
    rows = []
    for moving in range(3):
        for by in (-1, 1):
            columns = list(triple)
            columns[moving] = neighbours(formats[moving], columns[moving], by)
            rows.append(tuple(columns))
    return _joined(rows)


def _factors(formats: Formats, level: int) -> tuple[Codes, Codes]:
    """Return finite factors: corners with corners, and any."""
    corners = [corner_codes(fmt) for fmt in formats[:2]]
    kept = [codes[np.isfinite(fmt.values[codes])] for fmt, codes in zip(formats[:2], corners, strict=True)]
    mesh = [grid.ravel() for grid in np.meshgrid(*kept, indexing="ij")]
    drawn = [finite_codes(fmt)[any_codes(fmt, 20 + k, _RANDOM[level])] for k, fmt in enumerate(formats[:2])]
    a, b = (np.append(corner, some) for corner, some in zip(mesh, drawn, strict=True))
    return a, b


def _aimed(formats: Formats, points: Array, c: Codes) -> list[Triple]:
    """Return factors with which ``a * b + c`` is as near to points as b allows."""
    first, second, third = formats
    products = points - third.values[c]
    spread = FACTORS[np.arange(points.size) * 5 % FACTORS.size]
    a = nearest_codes(first, np.sqrt(np.abs(products)) * spread)
    with np.errstate(all="ignore"):
        b = products / first.values[a]
    return [(a, nearest_codes(second, b, by), c) for by in (-1, 0, 1)]


def _ties(model: Golden, ports: Sequence[Port], formats: Formats, aimed: Targets) -> Triple:
    """Return operands whose result lies where the nearest modes must choose: a value plus half the way to the next."""
    first, second, third = formats
    scales = np.ldexp(1.0, np.arange(-6, 7))
    rows: list[Triple] = []
    for place, times in enumerate((1.0, -1.0, 3.0, -5.0, 15.0, -33.0)):
        products = aimed.halves * times
        b = nearest_codes(second, scales[(np.arange(products.size) + 5 * place) % scales.size] * (-1.0) ** place)
        with np.errstate(all="ignore"):
            a = nearest_codes(first, products / second.values[b])
        rows.append((a, b, nearest_codes(third, aimed.ties - products)))
    a, b, c = (np.concatenate(column) for column in zip(*rows, strict=True))
    keep = are_ties(model, ports, (a, b, c))
    a, b, c = distinct((a[keep], b[keep], c[keep]))
    return a, b, c
