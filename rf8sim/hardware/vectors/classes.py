"""Which vectors a design is asked: all of them where that is possible, and else those where faults live.

Structured classes are small arrays; random vectors are made by number, from the counter-based generator of
`rf8sim.random_words`, so that any piece of them can be made by itself. Integers decide everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.boundaries import boundaries
from ...codec.codec import random_words
from ...codec.rounding import RoundingMode
from ...codec.thresholds import step_table
from ...formats import Format
from ..golden.golden import Golden, all_operands
from ..golden.ports import EXHAUSTIVE_BITS, Bits, Codes, Fixed, Float, Patterns, Port, unsigned

__all__ = ["LEVELS", "core_codes", "random_count", "random_operands", "structured"]

LEVELS = (1, 2)
"""How thorough: 1 takes seconds on a simulator, 2 minutes."""

Operands = tuple[Patterns, ...]

_RANDOM = {1: 1 << 14, 2: 1 << 20}
_STREAM = {1: 1 << 10, 2: 1 << 15}  # products in the longest sum
_DETERMINISTIC = [mode for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC]


def random_count(model: Golden, level: int) -> int:
    """Return how many random vectors a level has by default."""
    return 0 if model.exhaustive else _RANDOM[level]


def structured(model: Golden, level: int) -> Iterator[tuple[str, Operands]]:
    """Yield the structured classes: a name, and its operands."""
    if model.exhaustive:
        yield "exhaustive", all_operands(model.operands)
        return
    asked = model.operands[:-1] if model.stochastic else model.operands
    for name, operands in _CLASSES.get(model.operation, _few_bits)(model, asked, level):
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


def _numbers(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Operands]]:
    kind, into = ports[0].kind, model.into
    assert into is not None
    if ports[0].bits <= EXHAUSTIVE_BITS:
        yield "exhaustive", all_operands(ports)
        return
    spread = np.arange(-level * level, level * level + 1)
    width = kind.bits
    dtype = unsigned(width)
    modes = [mode for mode in _DETERMINISTIC if into.depth is not None or mode is not RoundingMode.RESIDUAL]
    top, one = (1 << width) - 1, 1
    if isinstance(kind, Float):
        fraction, infinity = kind.layout.mantissa_bits, kind.layout.infinity
        first = {int(step) for mode in modes for step in step_table(into, mode, _SATURATE, kind.name).first}
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
        points = {
            (-1 if negative else 1) * boundary.ceiling(-kind.fraction)
            for negative in (False, True)[: 1 + kind.signed]
            for mode in modes
            for boundary in boundaries(into, mode, negative)
        }
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if kind.signed else (0, top)
        near = {point + int(ulp) for point in (*points, 0, low, high) for ulp in spread}
        inside = sorted(value & top for value in near if low <= value <= high)
        yield "thresholds", (np.array(inside, dtype),)
    ones = [one << place for place in range(width)]
    if level > 1:
        ones += [high | low for high in ones for low in ones if low < high]
    walking = sorted({*ones, *(top ^ value for value in ones), *(top >> place for place in range(width))})
    yield "walking ones", (np.array(walking, dtype),)


_SATURATE: Any = "saturate"


# --- codes ------------------------------------------------------------------------------------------------------------


def core_codes(fmt: Format) -> NDArray[np.uint8]:
    """Return the codes where faults live: zeros, NaN, infinities, extremes, one, the ends of octaves, aliases."""
    values, codes = fmt.values, np.arange(1 << fmt.bits)
    finite = np.isfinite(values)
    wanted = [codes[~finite][:4], codes[values == 0], codes[np.abs(values) == 1], codes[fmt.canonical != codes][[0, -1]]
              if np.any(fmt.canonical != codes) else codes[:0]]  # fmt: skip
    for side in fmt.sides:
        places = {0, 1, 2, side.codes.size - 2, side.codes.size - 1, side.codes.size // 2, side.codes.size // 3}
        wanted.append(side.codes[[place for place in sorted(places) if 0 <= place < side.codes.size]].astype(np.int64))
    if fmt.subnormals_below:
        wanted.append(codes[np.abs(values) == fmt.subnormals_below])
    return np.unique(np.concatenate(wanted)).astype(np.uint8)


def _format_of(port: Port) -> Format:
    assert isinstance(port.kind, Codes)
    return port.kind.format


def _few_bits(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Operands]]:
    yield "exhaustive", all_operands(ports)


def _fused(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Operands]]:
    """Three codes: the core of each, sums that cancel, and sums halfway between two values."""
    formats = [_format_of(port) for port in ports]
    grids = np.meshgrid(*map(core_codes, formats), indexing="ij")
    yield "core", tuple(grid.ravel() for grid in grids)
    pairs = np.array([extremes[:3] for extremes in map(_extremes, formats[:2])], dtype=np.uint8)
    every = np.arange(1 << ports[2].bits, dtype=np.uint8)
    yield "every c", (*(np.repeat(codes, every.size) for codes in pairs), np.tile(every, pairs.shape[1]))
    a, b = all_operands(ports[:2])
    with np.errstate(invalid="ignore"):
        products = formats[0].values[a] * formats[1].values[b]
    third = formats[2]
    opposite = [_nearest(third, -products), _nearest(third, -products, 1)][:level]
    for codes in opposite:
        keep = np.isfinite(products)
        yield "cancellation", (a[keep], b[keep], codes[keep])
    finite = np.flatnonzero(np.isfinite(products) & (products != 0))
    order = finite[np.argsort(products[finite], kind="stable")]
    sorted_products = products[order]
    picked: list[tuple[int, int]] = []
    for side in third.sides:
        for code, low, high in zip(side.codes, side.magnitudes, side.magnitudes[1:], strict=False):
            for half in ((high - low) / 2, (low - high) / 2):
                place = int(np.searchsorted(sorted_products, half))
                picked += [
                    (int(order[near]), int(code))
                    for near in range(place - 2 * level, place + 2 * level + 1)
                    if 0 <= near < order.size
                ]
    index, codes = np.array(picked, dtype=np.int64).T
    yield "ties", (a[index], b[index], codes.astype(np.uint8))


def _nearest(fmt: Format, values: NDArray[np.float64], further: int = 0) -> NDArray[np.uint8]:
    """Return the code of the largest finite value not above each number, or one some places further up."""
    finite = np.unique(fmt.canonical)
    finite = finite[np.isfinite(fmt.values[finite])]
    order = finite[np.argsort(fmt.values[finite], kind="stable")]
    place = np.searchsorted(fmt.values[order], np.nan_to_num(values), side="right") - 1 + further
    nearest: NDArray[np.uint8] = order[np.clip(place, 0, order.size - 1)]
    return nearest


def _extremes(fmt: Format) -> tuple[int, int, int, int]:
    """Return the codes of zero (or what is nearest), the smallest, the largest and the lowest value."""
    values = np.where(np.isfinite(fmt.values), fmt.values, 0.0)
    zero = fmt.zero if fmt.zero is not None else int(fmt.sides[0].codes[0])
    smallest = int(np.flatnonzero(fmt.values == fmt.smallest)[0])
    return zero, smallest, int(fmt.canonical[np.argmax(values)]), int(fmt.canonical[np.argmin(values)])


def _sums(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Operands]]:
    """Dot products: one lane alone, specials in each lane, the largest sums, sums that cancel."""
    (fa, fb), lanes = map(_format_of, ports), ports[0].lanes
    (zero, small, large, low), (zero_b, small_b, large_b, low_b) = _extremes(fa), _extremes(fb)
    eye = np.eye(lanes, dtype=bool)
    rows = [(x, y) for x in (small, large, low) for y in (small_b, large_b, low_b)]
    yield "one lane", _shaped(ports, [
        (np.where(eye, x, zero), np.where(eye, y, zero_b)) for x, y in rows
    ])  # fmt: skip
    special_a, special_b = (np.flatnonzero(~np.isfinite(fmt.values)) for fmt in (fa, fb))
    ones = np.full((lanes, lanes), small), np.full((lanes, lanes), small_b)
    pairs = [(np.where(eye, code, ones[0]), ones[1]) for code in special_a]
    pairs += [(ones[0], np.where(eye, code, ones[1])) for code in special_b]
    pairs += [(np.where(eye, x, zero), np.where(eye, y, zero_b)) for x in special_a for y in special_b]
    if pairs:
        yield "specials", _shaped(ports, pairs)
    alternate = np.where(np.arange(lanes)[None] % 2, low, large)
    upto = np.tril(np.ones((lanes, lanes), dtype=bool))
    extremes = [(np.full((1, lanes), x), np.full((1, lanes), y)) for x, y in rows]
    extremes += [(np.where(upto, x, zero), np.where(upto, y, zero_b)) for x, y in rows]
    extremes += [(alternate, np.full((1, lanes), large_b)), (alternate, np.full((1, lanes), small_b))]
    yield "extremes", _shaped(ports, extremes)
    size = 2000 * level
    a, b = (_look_up(core_codes(fmt), _bytes(seed, size * lanes)) for seed, fmt in ((2, fa), (3, fb)))
    yield "core", _shaped(ports, [(a.reshape(size, lanes), b.reshape(size, lanes))])
    if lanes > 1:
        # Pairs of lanes cancel but for what is last.
        a, b = (_bytes(seed, size * lanes).reshape(size, lanes) for seed in (4, 5))
        a, b = (_finite(fmt)[array] for fmt, array in ((fa, a), (fb, b)))
        half = lanes // 2
        a[:, half : 2 * half] = _negated(fa)[a[:, :half]]
        b[:, half : 2 * half] = b[:, :half]
        a[:, -1] = _finite(fa)[_bytes(6, size)]
        yield "cancellation", _shaped(ports, [(a, b)])


def _shaped(ports: Sequence[Port], rows: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> Operands:
    columns = [np.concatenate(list(column)).astype(np.uint8) for column in zip(*rows, strict=True)]
    return tuple(column if port.lanes > 1 else column[:, 0] for port, column in zip(ports, columns, strict=True))


def _stream(model: Golden, ports: Sequence[Port], level: int) -> Iterator[tuple[str, Operands]]:
    """Streams into an accumulator: sums of one product, long ones, cancellation, specials; each starts with clear."""
    fa, fb = (_format_of(port) for port in ports[1:3])
    (_, small, large, low), (_, small_b, large_b, _) = _extremes(fa), _extremes(fb)
    grids = [grid.ravel() for grid in np.meshgrid(core_codes(fa), core_codes(fb), indexing="ij")]
    yield "one product", _streamed(np.ones(grids[0].size), *grids)
    length = _STREAM[level]
    start = np.arange(length) == 0
    for name, x, y in (("largest", large, large_b), ("lowest", low, large_b), ("smallest", small, small_b)):
        yield f"{name} sums", _streamed(start, np.full(length, x), np.full(length, y))
    there_and_back = np.arange(length) < length // 2
    yield "cancellation", _streamed(start, np.where(there_and_back, large, low), np.full(length, large_b))
    beside = np.tile([large, small, low], length // 3)
    second = np.tile([large_b, small_b, large_b], length // 3)
    yield "small beside large", _streamed(np.arange(beside.size) % 30 == 0, beside, second)
    ordinary = np.full(4, large)
    for fmt, is_first in ((fa, True), (fb, False)):
        for code in np.flatnonzero(~np.isfinite(fmt.values))[:8]:
            special = np.array([large, code, large, small])
            pair = (special, ordinary * 0 + large_b) if is_first else (ordinary, np.array([large_b, code, large_b, 1]))
            yield "specials", _streamed(np.arange(4) == 0, *pair)


def _streamed(clear: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> Operands:
    return clear.astype(np.uint8), a.astype(np.uint8), b.astype(np.uint8)


_CLASSES: dict[str, Callable[[Golden, Sequence[Port], int], Iterator[tuple[str, Operands]]]] = {
    "encode": _numbers,
    "fma": _fused,
    "dot": _sums,
    "accumulate": _stream,
}


# --- random vectors ---------------------------------------------------------------------------------------------------


def _bytes(seed: int, size: int) -> NDArray[np.uint8]:
    return random_words(seed, -(-size // 4)).astype("<u4").view(np.uint8)[:size]


def _look_up(table: NDArray[np.uint8], index: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return table[index % table.size]


def _finite(fmt: Format) -> NDArray[np.uint8]:
    """Map each byte to a code, one of a finite value."""
    codes = np.arange(256) % (1 << fmt.bits)
    finite = np.flatnonzero(np.isfinite(fmt.values))
    return np.where(np.isfinite(fmt.values[codes]), codes, finite[codes % finite.size]).astype(np.uint8)


def _negated(fmt: Format) -> NDArray[np.uint8]:
    """Map each code to that of the opposite value, or to itself."""
    place = {value: code for code, value in reversed(list(enumerate(fmt.values.tolist())))}
    return np.array([place.get(-value, code) for code, value in enumerate(fmt.values.tolist())], dtype=np.uint8)


def _shrunk(fmt: Format) -> NDArray[np.uint8]:
    """Return four maps from codes to codes: of the same rank, of 3/4, 1/2 and 1/4 of it."""
    maps = np.tile(np.arange(1 << fmt.bits, dtype=np.uint8), (4, 1))
    for side in fmt.sides:
        ranks = np.arange(side.codes.size)
        for quarter in range(1, 4):
            maps[quarter, side.codes] = side.codes[ranks * (4 - quarter) // 4]
    return maps


def _words_for(port: Port) -> int:
    if isinstance(port.kind, Codes):
        return -(-port.lanes // 4)
    return 1 if isinstance(port.kind, Bits) else 2 if port.bits <= 32 else 3


def random_operands(model: Golden, seed: int, start: int, stop: int) -> Operands:
    """Return the random vectors of numbers ``start`` to ``stop``.

    Codes are uniform; in sums specials come in one vector of 64, and second factors are often small, so that not all
    sums are NaN or beyond the range. Floats are uniform patterns or numbers of the format's range, of few digits or
    many, so that ties and thresholds are met.
    """
    counts = [_words_for(port) for port in model.operands]
    each = 1 + sum(counts)
    words = random_words(seed, (stop - start) * each, start * each).reshape(stop - start, each)
    control, place = words[:, 0], 1
    operands: list[Patterns] = []
    sums = model.operation in ("dot", "accumulate")
    for port, count in zip(model.operands, counts, strict=True):
        part = words[:, place : place + count]
        place += count
        if isinstance(port.kind, Codes):
            operands.append(_random_codes(port, part, control, sums))
        elif isinstance(port.kind, Bits):
            mask = np.uint32((1 << port.bits) - 1)
            rare = port.name == "clear"
            operands.append((part[:, 0] % 32 == 0 if rare else part[:, 0] & mask).astype(unsigned(port.bits)))
        elif isinstance(port.kind, Float):
            operands.append(_random_floats(model, port.kind, part, control))
        else:
            operands.append(_random_fixed(port, part, control))
    return tuple(operands)


def _random_codes(port: Port, words: NDArray[np.uint32], control: NDArray[np.uint32], sums: bool) -> Patterns:
    fmt = _format_of(port)
    codes = np.ascontiguousarray(words).astype("<u4").view(np.uint8)[:, : port.lanes] & np.uint8((1 << fmt.bits) - 1)
    if sums:
        ordinary = _finite(fmt)[codes]
        if port.name == "b":
            ordinary = _shrunk(fmt)[(control >> 8 & 3)[:, None], ordinary]
        codes = np.where((control % 64 == 0)[:, None], codes, ordinary)
    return codes if port.lanes > 1 else codes[:, 0]


def _random_floats(model: Golden, kind: Float, words: NDArray[np.uint32], control: NDArray[np.uint32]) -> Patterns:
    uniform = words[:, 0].astype(np.uint64)
    if kind.bits == 64:
        uniform = uniform << np.uint64(32) | words[:, 1]
    uniform &= np.uint64((1 << kind.bits) - 1)
    layout = kind.layout
    fraction = layout.mantissa_bits
    into = model.into
    assert into is not None
    bounds = np.frexp([into.smallest / 8, into.max * 4])[1] + layout.bias - 1
    lowest = max(int(bounds[0]), 0)
    span = min(int(bounds[1]), layout.largest_pattern >> fraction) - lowest + 1
    field = np.uint64(lowest) + (words[:, -1] >> np.uint32(8)).astype(np.uint64) % np.uint64(max(span, 1))
    digits = (words[:, -1] & np.uint32(0xFF)).astype(np.uint64) % np.uint64(fraction + 1)
    tail = uniform & np.uint64(layout.mantissa_mask)
    tail = tail >> digits << digits
    sign = uniform & np.uint64(layout.sign_mask)
    near = sign | field << np.uint64(fraction) | tail
    return np.where(control % 4 == 0, uniform, near).astype(unsigned(kind.bits))


def _random_fixed(port: Port, words: NDArray[np.uint32], control: NDArray[np.uint32]) -> Patterns:
    raw = words[:, 0].astype(np.uint64)
    if port.bits > 32:
        raw = raw << np.uint64(32) | words[:, 1]
    mask = np.uint64((1 << port.bits) - 1)
    raw &= mask
    # A number of any length: shifted down with its sign, the low digits sometimes cleared.
    shift = (words[:, -1] & np.uint32(0xFF)).astype(np.uint64) % np.uint64(port.bits)
    zeros = (words[:, -1] >> np.uint32(8)).astype(np.uint64) % np.uint64(port.bits)
    up = np.uint64(64 - port.bits)
    assert isinstance(port.kind, Fixed)
    signed = port.kind.signed
    down = ((raw << up).view(np.int64) >> (up + shift).astype(np.int64)).view(np.uint64) if signed else raw >> shift
    short = np.where(control % 2 == 0, down >> zeros << zeros, down)
    return np.where(control % 4 == 3, raw, short & mask).astype(unsigned(port.bits))
