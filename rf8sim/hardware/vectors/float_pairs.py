"""Classes of vectors of operands that are floats without a table, and of wide results of two operands.

Numbers are aimed at by float64 arithmetic, which every machine rounds alike; that a vector of the class ties is one is
checked with the golden model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...codec.codec import random_words
from ...formats import FloatLayout
from ..golden.golden import Golden
from ..golden.ports import Codes, Float, Kind, Patterns, Port, unsigned
from ..golden.summing import grid
from .code_sets import walking_ones
from .kind_sets import any_patterns, corner_patterns, finite_patterns, moved, nearest_patterns, negated, short_odds
from .targets import COMPARING, FACTORS, are_ties, evenly, solved, targets

__all__ = ["float_pairs", "layout_points", "rounding_classes"]

Array = NDArray[np.float64]
Columns = tuple[NDArray[Any], ...]
Kinds = tuple[Kind, Kind]

_SAMPLED = {1: 1 << 11, 2: 1 << 15}
_AIMED = {1: 1 << 9, 2: 1 << 13}
_TAILS = np.array([1.0, -1.0, 2.0 - 2.0**-30, -1.5, 1.75])


def layout_points(layout: FloatLayout) -> Array:
    """Return magnitudes where rounding to a layout may go wrong: at each exponent a few numbers and midpoints."""
    fields = np.arange((layout.largest_pattern >> layout.mantissa_bits) + 1, dtype=np.int64) << layout.mantissa_bits
    tails = np.unique([0, 1, layout.mantissa_mask // 2, layout.mantissa_mask - 1, layout.mantissa_mask])
    patterns = (fields[:, None] + tails).ravel()
    values = layout.values(patterns)
    unit = np.ldexp(1.0, np.maximum(patterns >> layout.mantissa_bits, 1) - layout.bias - layout.mantissa_bits)
    return np.concatenate([values, values + unit / 2])


class _Grid(NamedTuple):
    """Of a rounded result: its precision, the exponent of its smallest normal number, its largest number."""

    precision: int
    emin: int
    largest: float


def _result(model: Golden) -> _Grid:
    kind = model.result.kind
    if isinstance(kind, Float):
        return _Grid(kind.layout.precision, kind.layout.emin, kind.layout.max)
    assert isinstance(kind, Codes)
    fmt = kind.format
    lowest = int(np.frexp(fmt.subnormals_below or fmt.smallest)[1]) - 1
    return _Grid(grid(kind).digits, lowest, max(abs(fmt.max), abs(fmt.min)))


def float_pairs(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    """Yield the structured classes of one or two operands of which one is a float without a table."""
    if len(ports) == 1:
        yield from _roots(model, ports[0].kind, level)
        return
    kinds = ports[0].kind, ports[1].kind
    yield "corners", _meshed(*(corner_patterns(kind, level) for kind in kinds))
    yield "walking ones", _meshed(*(walking_ones(kind.bits) for kind in kinds))
    yield "alignments", _alignments(model, kinds)
    first = [finite_patterns(kind, any_patterns(kind, 60 + k, _SAMPLED[level])) for k, kind in enumerate(kinds)]
    values = kinds[0].values(first[0])
    name, aim = "results near one", 1.0
    if model.operation in ("add", "subtract", *COMPARING):
        name, aim = ("equal and neighbours" if model.operation in COMPARING else "cancellation"), 0.0
    other = solved(model.operation, np.full(values.size, aim), values, first=True)
    yield name, _stacked([(first[0], nearest_patterns(kinds[1], other, by)) for by in range(-level, level + 1)])
    yield "any numbers", (first[0], first[1])
    if model.operation in COMPARING:
        yield "opposite signs", (first[0], nearest_patterns(kinds[1], -values))
    elif model.rounds:
        yield from rounding_classes(model, ports, level)


def rounding_classes(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    """Yield classes where results are hard to round: ties, boundaries, carries, the ends of the range, subnormals."""
    kinds = ports[0].kind, ports[1].kind
    made = {"add": _sums, "subtract": _sums, "multiply": _products, "divide": _quotients}[model.operation]
    candidates = made(model, kinds, level)
    columns = _distinct([np.concatenate(column) for column in zip(*candidates, strict=True)])
    ties = are_ties(model, ports, _typed(ports, columns))
    chosen = np.flatnonzero(ties)
    chosen = chosen[evenly(chosen.size, 4 * _AIMED[level])]
    columns = tuple(column[chosen] for column in columns)
    if chosen.size:
        yield "ties", columns
        typed = _typed(ports, columns)
        rows = [(moved(kinds[0], typed[0], by), typed[1]) for by in (-1, 1)]
        yield "near ties", _distinct(_stacked([*rows, *((typed[0], moved(kinds[1], typed[1], by)) for by in (-1, 1))]))
    points = _points(model, kinds, level)
    for name, aimed in points.items():
        if aimed.size:
            yield name, _aimed(model, kinds, aimed)
    small = [_subnormals(kind) for kind in kinds]
    ordinary = [finite_patterns(kind, any_patterns(kind, 70 + k, 64)) for k, kind in enumerate(kinds)]
    if all(part.size for part in small):
        pairs = (small[0], small[1]), (small[0], ordinary[1]), (ordinary[0], small[1])
        yield "subnormal operands", _stacked([_meshed(*pair) for pair in pairs])


def _meshed(a: NDArray[Any], b: NDArray[Any]) -> Columns:
    first, second = np.meshgrid(a, b, indexing="ij")
    return first.ravel().astype(np.uint64), second.ravel().astype(np.uint64)


def _stacked(rows: Sequence[Columns]) -> Columns:
    return tuple(np.concatenate([part.astype(np.uint64) for part in column]) for column in zip(*rows, strict=True))


def _typed(ports: Sequence[Port], columns: Columns) -> list[Patterns]:
    return [column.astype(unsigned(port.kind.bits)) for port, column in zip(ports, columns, strict=True)]


def _distinct(columns: Sequence[NDArray[Any]]) -> Columns:
    """Return the different pairs of patterns of at most 32 bits."""
    key = np.unique(columns[0].astype(np.uint64) << np.uint64(32) | columns[1].astype(np.uint64))
    return key >> np.uint64(32), key & np.uint64(0xFFFFFFFF)


def _exponents(kind: Kind) -> tuple[int, int]:
    """Return the exponents of the smallest and the largest number of a kind."""
    numbers = grid(kind)
    return numbers.unit, numbers.unit + numbers.bits - 1


def _alignments(model: Golden, kinds: Kinds) -> Columns:
    """Return numbers at every distance of exponents, on to where either is but a sticky bit, of both signs."""
    kind = model.result.kind
    places = grid(kind).digits if isinstance(kind, (Codes, Float)) else kind.bits
    reach = max(places, *(grid(each).digits for each in kinds)) + 4
    distances = np.arange(-reach, reach + 1)
    bases = np.array([0.0, 1.0, -3.0, 6.0])
    shift, base = (part.ravel() for part in np.meshgrid(distances, bases, indexing="ij"))
    rows = []
    for turn in range(2 * _TAILS.size):
        left = np.ldexp(_TAILS[turn % _TAILS.size], base.astype(np.int64))
        right = np.ldexp(_TAILS[(turn * 2 + 1) % _TAILS.size] * (-1.0) ** turn, (base + shift).astype(np.int64))
        rows.append((nearest_patterns(kinds[0], left), nearest_patterns(kinds[1], right)))
    return _stacked(rows)


def _spread(seed: int, size: int, low: Any, high: Any) -> NDArray[np.int64]:
    """Return integers between two bounds, both included, that may differ: always the same ones."""
    width = np.maximum(np.asarray(high, np.int64) - low + 1, 1)
    spread: NDArray[np.int64] = low + random_words(seed, size).astype(np.int64) % width
    return spread


def _sums(model: Golden, kinds: Kinds, level: int) -> list[Columns]:
    """Return operands of which one is an odd number of halves of the last place of the result."""
    result, size = _result(model), 4 * _AIMED[level]
    rows: list[Columns] = []
    for turn in range(4):
        first = turn % 2 == 0
        mine, other = kinds if first else kinds[::-1]
        low, high = _exponents(mine)
        lowest, highest = _exponents(other)
        top = min(high, int(np.frexp(result.largest)[1]) - 1, highest + result.precision)
        bottom = max(low, result.emin - 2, lowest)
        if top < bottom:
            continue
        exponent = _spread(80 + turn, size, bottom, top)
        exponent[: size // 8] = np.clip(result.emin, bottom, top)
        half = np.maximum(exponent, result.emin) - result.precision
        # A number of the result's own digits, and an odd number of halves.
        whole = np.ldexp(short_odds(84 + turn, _spread(88 + turn, size, 1, result.precision)), half + 1)
        whole = np.where(np.arange(size) % 4 == 0, np.ldexp(1.0, exponent), whole + np.ldexp(1.0, exponent))
        odd = short_odds(92 + turn, _spread(96 + turn, size, 1, min(grid(other).digits, result.precision)))
        halves = np.ldexp(odd * np.where(np.arange(size) % 2, 1.0, -1.0), half)
        a = np.where(np.arange(size) // 2 % 2, whole, -whole)
        codes = nearest_patterns(mine, a)
        exact = nearest_patterns(other, halves)
        if model.operation == "subtract":
            codes, exact = (codes, negated(other, exact)) if first else (codes, exact)
        rows.append((codes, exact) if first else (exact, codes))
    return rows


def _half_places(model: Golden, seed: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many digits a number halfway has, and the exponent of its last bit: every second is subnormal."""
    result = _result(model)
    lowest = result.emin - result.precision
    top = int(np.frexp(result.largest)[1]) - 1 - result.precision
    subnormal = np.arange(size) % 2 == 1
    digits = np.where(subnormal, _spread(seed, size, 1, result.precision), result.precision + 1)
    return digits, np.where(subnormal, lowest, _spread(seed + 1, size, lowest, max(top, lowest)))


def _products(model: Golden, kinds: Kinds, level: int) -> list[Columns]:
    """Return factors of so many digits together as a number halfway between two results has."""
    size = 16 * _AIMED[level]
    digits, last = _half_places(model, 100, size)
    (low, high), (other_low, other_high) = map(_exponents, kinds)
    precision = [grid(kind).digits for kind in kinds]
    i = _spread(102, size, np.maximum(digits - precision[1], 1), np.minimum(digits, precision[0]))
    i = np.minimum(i, precision[0])
    j = np.clip(digits - i + np.arange(size) // 2 % 2, 1, precision[1])
    place = _spread(103, size, np.maximum(low, last - other_high + j - 1), np.minimum(high - i + 1, last - other_low))
    first, second = short_odds(104, i), short_odds(105, j)
    signs = np.where(np.arange(size) // 4 % 2, 1.0, -1.0)
    return [
        (nearest_patterns(kinds[0], np.ldexp(first * signs, place)),
         nearest_patterns(kinds[1], np.ldexp(second, last - place)))
    ]  # fmt: skip


def _quotients(model: Golden, kinds: Kinds, level: int) -> list[Columns]:
    """Return a number halfway between two results, times one of few digits, and that."""
    size = 16 * _AIMED[level]
    digits, last = _half_places(model, 110, size)
    (low, high), (other_low, other_high) = map(_exponents, kinds)
    room = grid(kinds[0]).digits
    digits = np.where(np.arange(size) % 2 == 1, np.minimum(digits, room - 1), digits)
    j = np.clip(_spread(112, size, 1, room - digits), 1, grid(kinds[1]).digits)
    lowest, highest = np.maximum(other_low, low - last), np.minimum(other_high - j + 1, high - digits - j - last)
    place = _spread(113, size, lowest, highest)
    quotient, divisor = np.ldexp(short_odds(114, digits), last), np.ldexp(short_odds(115, j), place)
    signs = np.where(np.arange(size) // 4 % 2, 1.0, -1.0)
    with np.errstate(all="ignore"):
        return [(nearest_patterns(kinds[0], quotient * divisor * signs), nearest_patterns(kinds[1], divisor))]


def _points(model: Golden, kinds: Kinds, level: int) -> dict[str, Array]:
    """Return results to aim at, by what is hard about them."""
    kind = model.result.kind
    if isinstance(kind, Codes):
        aimed = targets(kind.format, _AIMED[level] // 2)
        return {"boundaries": np.append(aimed.ties, aimed.values), "overflow": aimed.overflow,
                "underflow": aimed.underflow}  # fmt: skip
    assert isinstance(kind, Float)
    layout, points = kind.layout, layout_points(kind.layout)
    (low, high), (other_low, other_high) = map(_exponents, kinds)
    reach = {
        "multiply": (low + other_low, high + other_high + 1), "divide": (low - other_high, high - other_low),
    }.get(model.operation, (min(low, other_low), max(high, other_high) + 1))  # fmt: skip
    smallest, largest = np.ldexp(1.0, reach[0]), np.ldexp(1.0, min(reach[1], 1000))
    inside = points[(points >= smallest) & (points <= largest)]
    inside = inside[evenly(inside.size, _AIMED[level])]
    powers = np.ldexp(1.0, np.arange(max(layout.emin, reach[0]), min(layout.emax, reach[1]) + 1))
    powers = powers[evenly(powers.size, _AIMED[level] // 2)]
    unit = np.ldexp(1.0, layout.emax - layout.mantissa_bits)
    beyond = layout.max + unit * np.array([-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0**layout.mantissa_bits])
    tiny, normal = layout.smallest_subnormal, layout.smallest_normal
    below = np.array([tiny / 4, tiny / 2, 0.75 * tiny, tiny, 1.5 * tiny, normal - tiny, normal - tiny / 2,
                      normal - tiny / 4, normal, normal + tiny])  # fmt: skip
    overflow = np.repeat(beyond[beyond <= largest], 24)
    underflow = np.repeat(below[below >= smallest], 24)
    both = {"boundaries": inside, "carries": powers, "overflow": overflow, "underflow": underflow}
    return {name: np.concatenate([values, -values]) for name, values in both.items()}


def _aimed(model: Golden, kinds: Kinds, points: Array) -> Columns:
    """Return operands whose result is as near to points as the other operand allows."""
    spread = FACTORS[np.arange(points.size) * 3 % FACTORS.size]
    rows: list[Columns] = []
    for first in (True, False):
        mine, other = kinds if first else kinds[::-1]
        match model.operation:
            case "add" | "subtract":
                base = np.concatenate([points * spread, np.ldexp(points, -2)])
            case "multiply":
                base = np.concatenate(
                    [np.sqrt(np.abs(points)) * spread, np.ldexp(spread, np.arange(points.size) % 60 - 30)]
                )
            case _:
                base = np.concatenate([spread, np.ldexp(spread, np.arange(points.size) % 60 - 30)])
        aim = np.tile(points, 2)
        known = nearest_patterns(mine, base)
        solution = solved(model.operation, aim, mine.values(known), first=first)
        for by in (-1, 0, 1):
            found = nearest_patterns(other, np.where(np.isfinite(solution), solution, 0.0), by)
            rows.append((known, found) if first else (found, known))
    return _distinct(_stacked(rows))


def _subnormals(kind: Kind) -> NDArray[Any]:
    """Return some subnormal numbers of both signs."""
    if isinstance(kind, Float):
        bits, sign = kind.layout.mantissa_bits, kind.layout.sign_mask
        tails = [1 << bit for bit in range(0, bits, 3)] + [(1 << bit) - 1 for bit in range(1, bits + 1, 3)]
        return np.unique(np.array([s | tail for s in (0, sign) for tail in tails], np.uint64))
    assert isinstance(kind, Codes)
    fmt = kind.format
    if not fmt.subnormals_below:
        return np.zeros(0, np.uint64)
    codes = np.flatnonzero((np.abs(fmt.values) < fmt.subnormals_below) & (fmt.values != 0)).astype(np.uint64)
    return codes[evenly(codes.size, 32)]


def _roots(model: Golden, kind: Kind, level: int) -> Iterator[tuple[str, Columns]]:
    """Yield classes of a square root: squares of results and of what lies halfway, their neighbours, every exponent."""
    assert isinstance(kind, Float)
    layout = kind.layout
    yield "corners", (corner_patterns(kind, 2),)
    yield "walking ones", (walking_ones(kind.bits),)
    fields = np.arange((layout.infinity >> layout.mantissa_bits) + 1, dtype=np.uint64) << np.uint64(
        layout.mantissa_bits
    )
    tails = np.array([0, 1, layout.mantissa_mask // 2, layout.mantissa_mask - 1, layout.mantissa_mask], np.uint64)
    yield "exponents", ((fields[:, None] | tails).ravel(),)
    result = _result(model)
    size = 8 * _AIMED[level]
    low, high = _exponents(kind)
    rows = []
    for digits in (result.precision + 1, result.precision, max(result.precision // 2, 1)):
        odd = short_odds(120 + digits, np.full(size, digits))
        rows.append(np.ldexp(odd, _spread(121 + digits, size, low // 2, (high - 2 * digits) // 2)))
    squares = np.concatenate([root * root for root in rows])
    near = [nearest_patterns(kind, squares, by).astype(np.uint64) for by in range(-level, level + 1)]
    yield "squares and neighbours", (np.unique(np.concatenate(near)),)
    yield "any numbers", (any_patterns(kind, 122, size) & np.uint64(layout.magnitude_mask),)
