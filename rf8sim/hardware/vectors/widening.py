"""Classes of vectors for results and addends that are no codes of 16 bits, and for products with scales.

Everything is aimed at by float64 arithmetic, which every machine rounds alike, and what a class claims is then checked
with the golden model where it matters: a vector of the class ties is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.codec import random_words
from ..golden.golden import Golden, all_operands
from ..golden.ports import EXHAUSTIVE_BITS, Codes, Float, Kind, Port, unsigned
from .kind_sets import (
    any_patterns,
    core_patterns,
    ends,
    finite_patterns,
    moved,
    nearest_patterns,
    special_numbers,
    special_patterns,
)
from .targets import are_ties, digits, evenly

__all__ = ["wide_addends", "wide_sums", "with_scales"]

Array = NDArray[np.float64]
Columns = tuple[NDArray[Any], ...]

_FACTORS = {1: 1 << 10, 2: 1 << 14}  # pairs of factors that an addend is aimed at


# --- a * b + c --------------------------------------------------------------------------------------------------------


def wide_addends(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    """Yield structured classes of ``a * b + c`` with an addend or a result that is no code."""
    kinds, kind = [port.kind for port in ports[:2]], ports[2].kind
    cores = [core_patterns(each).astype(np.uint64) for each in kinds]
    yield "core", tuple(grid.ravel() for grid in np.meshgrid(*cores, special_patterns(kind), indexing="ij"))
    few = [np.union1d(special_numbers(each), ends(each)).astype(np.uint64) for each in kinds]
    yield "specials", tuple(grid.ravel() for grid in np.meshgrid(*few, special_patterns(kind), indexing="ij"))
    a, b = _factors(ports, level)
    products = kinds[0].values(a) * kinds[1].values(b)
    rows = [(a, b, nearest_patterns(kind, -products, by)) for by in range(-level, level + 1)]
    yield "cancellation", _stacked(rows)
    yield "alignments", _aligned(model, kind, a, b, products)
    yield "carries", _carries(kind, a, b, products)
    yield from _ties(model, ports, (a, b), products)


def _factors(ports: Sequence[Port], level: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return finite factors whose product is not zero: all, or as many as the level asks."""
    first, second = (port.kind for port in ports[:2])
    if first.bits + second.bits <= EXHAUSTIVE_BITS:
        a, b = all_operands(ports[:2])
    else:
        a, b = (finite_patterns(kind, any_patterns(kind, 30 + k, 1 << 15)) for k, kind in enumerate((first, second)))
    with np.errstate(invalid="ignore"):
        products = first.values(a) * second.values(b)
    usual = np.flatnonzero(np.isfinite(products) & (products != 0))
    usual = usual[np.argsort(np.abs(products[usual]), kind="stable")]
    usual = usual[evenly(usual.size, _FACTORS[level])]
    return a[usual], b[usual]


def _stacked(rows: Sequence[Columns]) -> Columns:
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def _places(model: Golden) -> int:
    """Return how many binary places a sum spans before an operand is but a sticky bit."""
    kind = model.result.kind
    if isinstance(kind, Codes):
        return int(digits(kind.format).max())
    return kind.layout.precision if isinstance(kind, Float) else kind.bits


def _aligned(model: Golden, kind: Kind, a: NDArray[Any], b: NDArray[Any], products: Array) -> Columns:
    """Return addends at every distance of exponents from the product, on to where either is but a sticky bit."""
    reach = _places(model) + 4
    distances = np.arange(-reach, reach + 1)
    picked = evenly(products.size, 16)
    shift, place = (grid.ravel() for grid in np.meshgrid(distances, picked, indexing="ij"))
    base = np.ldexp(1.0, np.frexp(products[place])[1] - 1 + shift)
    tails = np.array([1.0, -1.0, 2.0 - 2.0**-30, -1.5])
    addends = base * tails[np.arange(base.size) % tails.size]
    return a[place], b[place], nearest_patterns(kind, addends)


def _carries(kind: Kind, a: NDArray[Any], b: NDArray[Any], products: Array) -> Columns:
    """Return addends a little below a power of two, which the product carries over, or takes back below it."""
    power = np.ldexp(1.0, np.frexp(products)[1] + np.arange(products.size) % 8)
    below = nearest_patterns(kind, np.copysign(power, products), -1)
    above = nearest_patterns(kind, np.copysign(power, -products))
    return _stacked([(a, b, below), (a, b, above)])


def _ties(model: Golden, ports: Sequence[Port], factors: Columns, products: Array) -> Iterator[tuple[str, Columns]]:
    """Yield sums halfway between two results, and those a place of a factor beside them."""
    if not model.rounds:
        return
    kind, places = ports[2].kind, _places(model)
    unit = np.ldexp(1.0, _lowest(products) + 1)  # the last bit of the product is half a unit of the sum's last place
    rows: list[Columns] = []
    for seed in range(4):
        further = random_words(50 + seed, products.size).astype(np.float64) % 2.0 ** (places - 1)
        addend = unit * (2.0 ** (places - 1) + (further if seed else 0))
        rows += [(*factors, nearest_patterns(kind, sign * addend)) for sign in (1.0, -1.0)]
    columns = _stacked(rows)
    ties = are_ties(model, ports, columns)
    a, b, c = (column[ties] for column in columns)
    yield "ties", (a, b, c)
    yield "near ties", _stacked([(a, moved(ports[1].kind, b, by), c) for by in (-1, 1)])


def _lowest(values: Array) -> NDArray[np.int64]:
    """Return the exponent of the last bit that is set."""
    fraction, exponent = np.frexp(values)
    integer = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    lowest: NDArray[np.int64] = exponent - 53 + np.bitwise_count((integer & -integer) - 1).astype(np.int64)
    return lowest


# --- sums of several products -----------------------------------------------------------------------------------------


def wide_sums(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    """Yield classes of two products of a sum, or of a product and the addend; the other lanes are zero."""
    place = {port.name: port for port in ports}
    lanes = tuple(Port(name, place[name].kind) for name in "ab")
    zeros = tuple(ends(port.kind)[0] for port in lanes)
    if "c" in place:
        single = (*lanes, Port("c", place["c"].kind))
        for name, (a, b, c) in wide_addends(model.changed(operation="fma", operands=single), single, level):
            columns = tuple(_laned([column], ports[0].lanes, zero) for column, zero in zip((a, b), zeros, strict=True))
            yield f"{name} with c", _extended(ports, columns, c)
    if ports[0].lanes < 2:
        return
    a, b = _factors(lanes, level)
    products = lanes[0].kind.values(a) * lanes[1].kind.values(b)
    some = evenly(products.size, 96 * level)
    first, second = (grid.ravel() for grid in np.meshgrid(some, some, indexing="ij"))
    yield "two products", _extended(ports, _pair(ports, (a, b), zeros, first, second))
    first, second = _halfway(products, _places(model))
    columns = _extended(ports, _pair(ports, (a, b), zeros, first, second))
    if model.rounds and first.size:
        ties = are_ties(model, ports, columns)
        yield "ties", tuple(column[ties] for column in columns)


def _halfway(products: Array, places: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of products of which the last bit of the second is half a unit of the first one's last place."""
    lowest, exponent = _lowest(products), np.frexp(products)[1] - 1
    order = np.argsort(exponent, kind="stable")
    start = np.searchsorted(exponent[order], lowest + places)
    stop = np.searchsorted(exponent[order], lowest + places, side="right")
    second = np.flatnonzero(stop > start)
    turns = [order[start[second] + (second * 7 + turn) % (stop - start)[second]] for turn in range(4)]
    first, second = np.concatenate(turns), np.tile(second, 4)
    keep = lowest[first] > lowest[second]
    return first[keep], second[keep]


def _laned(values: Sequence[NDArray[Any]], lanes: int, zero: int) -> NDArray[Any]:
    """Put values into lanes that move from vector to vector, zeros into the others."""
    size = values[0].size
    if lanes == 1:
        return values[0]
    columns = np.full((size, lanes), zero, dtype=np.int64)
    for turn, column in enumerate(values):
        columns[np.arange(size), (np.arange(size) + turn) % lanes] = column
    return columns


def _pair(
    ports: Sequence[Port], factors: Columns, zeros: tuple[int, ...], first: NDArray[Any], second: NDArray[Any]
) -> Columns:
    lanes = ports[0].lanes
    return tuple(_laned([x[first], x[second]], lanes, zero) for x, zero in zip(factors, zeros, strict=True))


def _extended(ports: Sequence[Port], columns: Columns, addend: NDArray[Any] | None = None) -> Columns:
    """Add scales of 1 and an addend, by default 0, to two operands."""
    size = len(columns[0])
    for port in ports[2:]:
        neutral = np.full(size, 0.0 if port.name == "c" else 1.0)
        given = addend is not None and port.name == "c"
        columns = (*columns, addend if given and addend is not None else nearest_patterns(port.kind, neutral))
    return tuple(column.astype(unsigned(port.kind.bits)) for column, port in zip(columns, ports, strict=True))


def with_scales(ports: Sequence[Port], columns: Columns) -> Columns:
    """Add scales and an addend to the vectors of two operands: scales of 1, and every few vectors others."""
    size = len(columns[0])
    extra: list[NDArray[Any]] = []
    for place, port in enumerate(ports[2:]):
        special = special_patterns(port.kind)
        if port.name == "c":
            usual = np.zeros(size, np.uint64)
        else:
            powers = np.ldexp(1.0, (np.arange(size) * (3 + place)) % 7 - 3)
            usual = nearest_patterns(port.kind, powers).astype(np.uint64)
        turn = np.arange(size) // (place + 1)
        extra.append(np.where(turn % 4 == 3, special[turn // 4 % special.size], usual))
    return (*columns, *extra)
