"""Which vectors a design is asked: all of them where that is possible, and else those where faults live.

Structured classes are small arrays; those of two and three wide operands are in `pairs` and `fused`, random vectors
are in `random_vectors`. Integers and exact tables decide everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.boundaries import BEYOND, Boundaries, place
from ...codec.codec import random_words
from ...codec.rounding import Overflow, RoundingMode
from ...codec.thresholds import step_table
from ...formats import Format
from ..golden.golden import Golden, all_operands
from ..golden.ports import EXHAUSTIVE_BITS, Codes, Fixed, Float, Kind, Patterns, Port, unsigned
from .code_sets import core_codes, extremes, format_of, nearest_codes
from .float_pairs import float_pairs, layout_points
from .fused import wide_fused
from .kind_sets import (
    any_patterns,
    core_patterns,
    ends,
    finite_patterns,
    nearest_patterns,
    negated,
    special_numbers,
)
from .pairs import wide_pairs
from .targets import alignments
from .widening import wide_addends, wide_sums, with_scales

__all__ = ["LEVELS", "structured"]

LEVELS = (1, 2)
"""How thorough: 1 takes seconds on a simulator, 2 minutes."""

Operands = tuple[Patterns, ...]
Columns = tuple[NDArray[Any], ...]

_STREAM = {1: 1 << 10, 2: 1 << 15}  # products in the longest sum
_DETERMINISTIC = [mode for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC]


def structured(model: Golden, level: int) -> Iterator[tuple[str, Operands]]:
    """Yield the structured classes: a name, and its operands."""
    if model.exhaustive:
        yield "exhaustive", all_operands(model.operands)
        return
    asked = model.operands[:-1] if model.stochastic else model.operands
    for name, columns in _CLASSES.get(model.operation, _pairs)(model, asked, level):
        operands = tuple(
            column.astype(unsigned(port.kind.bits), copy=False) for port, column in zip(asked, columns, strict=True)
        )
        if operands[0].size:
            yield from _with_words(model, name, operands) if model.stochastic else [(name, operands)]


def _with_words(model: Golden, name: str, operands: Operands) -> Iterator[tuple[str, Operands]]:
    """Add random words: any, and for what is drawn the first that rounds up and the last that rounds down."""
    size = len(operands[0])
    mask = np.uint32((1 << model.rounding.bits) - 1)
    dtype = unsigned(model.rounding.bits)
    yield name, (*operands, (random_words(1, size) & mask).astype(dtype))
    drawn, first_up = model.first_word_up(operands)
    part = tuple(patterns[drawn] for patterns in operands)
    for label, words in (("down", first_up - np.uint64(1)), ("up", np.minimum(first_up, mask))):
        if part[0].size:
            yield (
                f"{name}, last word {label}" if label == "down" else f"{name}, first word {label}",
                (
                    *part,
                    words[drawn].astype(dtype),
                ),
            )


# --- numbers that are rounded to codes --------------------------------------------------------------------------------


def _numbers(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    kind = ports[0].kind
    if ports[0].bits <= EXHAUSTIVE_BITS:
        yield "exhaustive", all_operands(ports)
        return
    spread = np.arange(-level * level, level * level + 1)
    width = kind.bits
    dtype = unsigned(width)
    top, one = (1 << width) - 1, 1
    if isinstance(kind, Float):
        fraction, infinity = kind.layout.mantissa_bits, kind.layout.infinity
        first = _float_steps(model, kind)
        near = {(step + int(ulp)) & top for step in first for ulp in spread}
        yield "thresholds", (np.array(sorted(near), dtype),)
        lowest = (1 << fraction) - 1
        tails = sorted({0, 1, 1 << (fraction - 1), lowest - 1, lowest, (1 << (fraction - 1)) - 1})
        fields = np.arange(1 << (width - fraction), dtype=np.uint64) << np.uint64(fraction)
        yield "exponents", ((fields[:, None] | np.array(tails, np.uint64)).ravel().astype(dtype),)
        payloads = (0, 1, 1 << (fraction - 1), (1 << (fraction - 1)) | 1, lowest)
        magnitudes = (0, 1, 2, lowest, lowest + 1, infinity - 1, *(infinity | payload for payload in payloads))
        patterns = [sign | value for sign in (0, one << (width - 1)) for value in magnitudes]
        yield "specials", (np.array(patterns, dtype),)
    else:
        assert isinstance(kind, Fixed)
        points = _fixed_steps(model, kind)
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if kind.signed else (0, top)
        near = {point + int(ulp) for point in (*points, 0, low, high) for ulp in spread}
        inside = sorted(value & top for value in near if low <= value <= high)
        yield "thresholds", (np.array(inside, dtype),)
    ones = [one << bit for bit in range(width)]
    if level > 1:
        ones += [high | low for high in ones for low in ones if low < high]
    walking = sorted({*ones, *(top ^ value for value in ones), *(top >> bit for bit in range(width))})
    yield "walking ones", (np.array(walking, dtype),)


def _modes(into: Format) -> list[RoundingMode]:
    return [mode for mode in _DETERMINISTIC if into.depth is not None or mode is not RoundingMode.RESIDUAL]


def _float_steps(model: Golden, kind: Float) -> set[int]:
    """Return the first patterns of a float that go up, in any mode; of a layout some at each exponent."""
    if model.into is None:
        assert isinstance(model.result.kind, Float)
        return set(nearest_patterns(kind, layout_points(model.result.kind.layout)).tolist())
    into, dtype = model.into, kind.layout.dtype_name
    if dtype is not None:
        tables = (step_table(into, mode, Overflow.SATURATE, dtype) for mode in _modes(into))
        return {int(step) for table in tables for step in table.first}
    placed = (place(into, mode, False).patterns(kind.layout).tolist() for mode in _modes(into))
    return {int(step) for steps in placed for step in steps}


def _fixed_steps(model: Golden, kind: Fixed) -> set[int]:
    """Return the first integers that go up, in any mode; of a layout some at each exponent."""
    signs = (1, -1)[: 1 + kind.signed]
    if model.into is None:
        assert isinstance(model.result.kind, Float)
        scaled = np.ldexp(layout_points(model.result.kind.layout), kind.fraction)
        scaled = scaled[(scaled >= 1) & (scaled < 2.0**63)]
        return {sign * int(step) for sign in signs for step in np.ceil(scaled).tolist()}
    into = model.into
    return {
        sign * step for sign in signs for mode in _modes(into) for step in _steps(kind, place(into, mode, sign < 0))
    }


def _steps(kind: Fixed, placed: Boundaries) -> list[int]:
    """Return the first of the numbers of a kind that go up, in units of the last place."""
    steps = placed.ceilings(np.full(placed.point.size, -kind.fraction))
    steps = np.unique(steps[steps != BEYOND])
    return [int(step) for step in steps]


# --- codes ------------------------------------------------------------------------------------------------------------


def _is_wide(ports: Sequence[Port]) -> bool:
    return sum(port.bits for port in ports) > EXHAUSTIVE_BITS


def _has_floats(ports: Sequence[Port]) -> bool:
    return any(isinstance(port.kind, Float) for port in ports)


def _pairs(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    if _has_floats(ports):
        yield from float_pairs(model, ports, level)
    elif _is_wide(ports):
        yield from wide_pairs(model, ports, level)
    else:
        yield "exhaustive", all_operands(ports)


def _fused(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    """Three codes: the core of each, sums that cancel, and sums halfway between two values."""
    if not all(isinstance(kind, Codes) for kind in (*(port.kind for port in ports), model.result.kind)):
        yield from wide_addends(model, ports, level)
        return
    if _is_wide(ports[:2]):
        yield from wide_fused(model, ports, level)
        return
    formats = [format_of(port) for port in ports]
    grids = np.meshgrid(*map(core_codes, formats), indexing="ij")
    yield "core", tuple(grid.ravel() for grid in grids)
    pairs = np.array([codes[:3] for codes in map(extremes, formats[:2])])
    every = np.arange(1 << ports[2].bits)
    yield "every c", (*(np.repeat(codes, every.size) for codes in pairs), np.tile(every, pairs.shape[1]))
    a, b = all_operands(ports[:2])
    with np.errstate(invalid="ignore"):
        products = formats[0].values[a] * formats[1].values[b]
    third = formats[2]
    opposite = [nearest_codes(third, -products), nearest_codes(third, -products, 1)][:level]
    for codes in opposite:
        keep = np.isfinite(products)
        yield "cancellation", (a[keep], b[keep], codes[keep])
    finite = np.flatnonzero(np.isfinite(products) & (products != 0))
    order = finite[np.argsort(products[finite], kind="stable")]
    sorted_products = products[order]
    picked: list[tuple[int, int]] = []
    for side in third.sides:
        step = 1 if third.bits <= 8 else max(side.codes.size >> (9 + 2 * level), 1)
        sums = zip(side.codes[::step], side.magnitudes[::step], side.magnitudes[1::step], strict=False)
        for code, low, high in sums:
            for half in ((high - low) / 2, (low - high) / 2):
                place = int(np.searchsorted(sorted_products, half))
                picked += [
                    (int(order[near]), int(code))
                    for near in range(place - 2 * level, place + 2 * level + 1)
                    if 0 <= near < order.size
                ]
    index, codes = np.array(picked, dtype=np.int64).T
    yield "ties", (a[index], b[index], codes)


def _apart(kind: Kind, level: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return pairs of numbers of a kind at every distance of exponents, of a float up to twice its precision."""
    if isinstance(kind, Codes):
        return alignments(kind.format, kind.format, level)
    assert isinstance(kind, Float)
    distances = np.arange(-2 * kind.layout.precision, 2 * kind.layout.precision + 1)
    tails = np.array([1.0, -1.0, 2.0 - 2.0**-30, -1.5, 1.75])[: 2 + level]
    shift, first, second = (part.ravel() for part in np.meshgrid(distances, tails, -tails, indexing="ij"))
    return nearest_patterns(kind, first), nearest_patterns(kind, np.ldexp(second, shift.astype(np.int64)))


def _sums(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    """Dot products: one lane alone, specials in each lane, the largest sums, sums that cancel."""
    (ka, kb), lanes = (port.kind for port in ports), ports[0].lanes
    (zero, small, large, low), (zero_b, small_b, large_b, low_b) = ends(ka), ends(kb)
    eye = np.eye(lanes, dtype=bool)
    rows = [(x, y) for x in (small, large, low) for y in (small_b, large_b, low_b)]
    yield "one lane", _shaped(ports, [
        (np.where(eye, x, zero), np.where(eye, y, zero_b)) for x, y in rows
    ])  # fmt: skip
    special_a, special_b = (special_numbers(kind) for kind in (ka, kb))
    ones = np.full((lanes, lanes), small), np.full((lanes, lanes), small_b)
    pairs = [(np.where(eye, code, ones[0]), ones[1]) for code in special_a]
    pairs += [(ones[0], np.where(eye, code, ones[1])) for code in special_b]
    pairs += [(np.where(eye, x, zero), np.where(eye, y, zero_b)) for x in special_a for y in special_b]
    if pairs:
        yield "specials", _shaped(ports, pairs)
    alternate = np.where(np.arange(lanes)[None] % 2, low, large)
    upto = np.tril(np.ones((lanes, lanes), dtype=bool))
    largest = [(np.full((1, lanes), x), np.full((1, lanes), y)) for x, y in rows]
    largest += [(np.where(upto, x, zero), np.where(upto, y, zero_b)) for x, y in rows]
    largest += [(alternate, np.full((1, lanes), large_b)), (alternate, np.full((1, lanes), small_b))]
    yield "extremes", _shaped(ports, largest)
    size = 2000 * level
    a, b = (_look_up(core_patterns(kind), any_patterns(kind, seed, size * lanes)) for seed, kind in ((2, ka), (3, kb)))
    yield "core", _shaped(ports, [(a.reshape(size, lanes), b.reshape(size, lanes))])
    if lanes > 1:
        # Pairs of lanes cancel but for what is last.
        a, b = (
            finite_patterns(kind, any_patterns(kind, seed, size * lanes)).reshape(size, lanes)
            for seed, kind in ((4, ka), (5, kb))
        )
        half = lanes // 2
        a[:, half : 2 * half] = negated(ka, a[:, :half])
        b[:, half : 2 * half] = b[:, :half]
        a[:, -1] = finite_patterns(ka, any_patterns(ka, 6, size))
        yield "cancellation", _shaped(ports, [(a, b)])
        if max(ka.bits, kb.bits) > 8:
            x, y = _apart(ka, level)
            a, b = np.full((x.size, lanes), zero), np.full((x.size, lanes), nearest_patterns(kb, np.ones(1))[0])
            a[:, 0], a[:, -1] = x, y
            yield "alignments", _shaped(ports, [(a, b)])


def _wide_sums(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    """Add scales and an addend to the classes of sums, and the classes of wide results."""
    for name, columns in _sums(model, ports[:2], level):
        yield name, with_scales(ports, columns)
    if len(ports) > 2 or _has_floats(ports) or model.into != format_of(ports[0]) or model.accumulation is not None:
        yield from wide_sums(model, ports, level)


def _shaped(ports: Sequence[Port], rows: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> Columns:
    columns = [np.concatenate(list(column)) for column in zip(*rows, strict=True)]
    return tuple(column if port.lanes > 1 else column[:, 0] for port, column in zip(ports, columns, strict=True))


def _look_up(table: NDArray[Any], index: NDArray[Any]) -> NDArray[Any]:
    elements: NDArray[Any] = table[index % table.size]
    return elements


def _stream(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Columns]]:
    """Streams into an accumulator: sums of one product, long ones, cancellation, specials; each starts with clear.

    Specials come last: what a clear does not take away would hide all that comes after.
    """
    ka, kb = (port.kind for port in ports[1:3])
    (_, small, large, low), (_, small_b, large_b, _) = ends(ka), ends(kb)
    all_a, all_b = (grid.ravel() for grid in np.meshgrid(core_patterns(ka), core_patterns(kb), indexing="ij"))
    all_a, all_b = (x.astype(unsigned(kind.bits)) for x, kind in zip((all_a, all_b), (ka, kb), strict=True))
    finite = np.isfinite(ka.values(all_a)) & np.isfinite(kb.values(all_b))
    yield "one product", (np.ones(np.count_nonzero(finite)), all_a[finite], all_b[finite])
    length = _STREAM[level]
    start = np.arange(length) == 0
    for name, x, y in (("largest", large, large_b), ("lowest", low, large_b), ("smallest", small, small_b)):
        yield f"{name} sums", (start, np.full(length, x), np.full(length, y))
    there_and_back = np.arange(length) < length // 2
    yield "cancellation", (start, np.where(there_and_back, large, low), np.full(length, large_b))
    beside = np.tile([large, small, low], length // 3)
    second = np.tile([large_b, small_b, large_b], length // 3)
    yield "small beside large", (np.arange(beside.size) % 30 == 0, beside, second)
    if max(ka.bits, kb.bits) > 8:
        terms = np.stack(_apart(ka, level), axis=1).ravel()
        beside = np.full(terms.size, nearest_patterns(kb, np.ones(1))[0])
        yield "alignments", (np.arange(terms.size) % 2 == 0, terms, beside)
    if not finite.all():
        yield "specials alone", (np.ones(np.count_nonzero(~finite)), all_a[~finite], all_b[~finite])
    ordinary = np.full(4, large)
    for kind, is_first in ((ka, True), (kb, False)):
        for code in special_numbers(kind)[:8].tolist():
            special = np.array([large, code, large, small])
            pair = (special, ordinary * 0 + large_b) if is_first else (ordinary, np.array([large_b, code, large_b, 1]))
            yield "specials", (np.arange(4) == 0, *pair)


_CLASSES: dict[str, Callable[[Golden, Sequence[Port], int], Iterator[tuple[str, Columns]]]] = {
    "encode": _numbers,
    "fma": _fused,
    "dot": _wide_sums,
    "block_dot": _wide_sums,
    "convert": _numbers,
    "accumulate": _stream,
}
