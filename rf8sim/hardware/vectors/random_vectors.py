"""Random vectors, made by number from the counter-based generator of `rf8sim.random_words`.

Any piece of them can be made by itself. Integers decide everything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...codec.codec import random_words
from ..golden.golden import Golden
from ..golden.model import LONG
from ..golden.ports import Bits, Codes, Fixed, Float, Patterns, Port, unsigned
from .code_sets import finite_codes, format_of, nearest_codes, shrunk_codes

__all__ = ["random_count", "random_operands"]

_RANDOM = {1: 1 << 14, 2: 1 << 20}
_REACH = 20  # exponents of most floats that meet, about 0


def random_count(model: Golden, level: int) -> int:
    """Return how many random vectors a level has by default."""
    return 0 if model.exhaustive else _RANDOM[level]


def _words_for(port: Port) -> int:
    if isinstance(port.kind, Codes):
        return -(-port.lanes * port.kind.format.code_dtype.itemsize // 4)
    if isinstance(port.kind, Float) and port.lanes > 1:
        return 2 * port.lanes
    return 1 if isinstance(port.kind, Bits) else 2 if port.bits <= 32 else 3


def random_operands(model: Golden, seed: int, start: int, stop: int) -> tuple[Patterns, ...]:
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
    sums = model.operation in (*LONG, "accumulate")
    for port, count in zip(model.operands, counts, strict=True):
        part = words[:, place : place + count]
        place += count
        if port.name.startswith("scale"):
            operands.append(_random_scales(port, part, control))
        elif isinstance(port.kind, Codes):
            operands.append(_random_codes(port, part, control, sums))
        elif isinstance(port.kind, Bits):
            mask = np.uint32((1 << port.bits) - 1)
            rare = port.name == "clear"
            operands.append((part[:, 0] % 32 == 0 if rare else part[:, 0] & mask).astype(unsigned(port.bits)))
        elif isinstance(port.kind, Float):
            lanes = [_random_floats(model, port.kind, part[:, 2 * lane :], control) for lane in range(port.lanes)]
            operands.append(lanes[0] if port.lanes == 1 else np.stack(lanes, axis=1))
        else:
            operands.append(_random_fixed(port, part, control))
    return tuple(operands)


def _random_codes(port: Port, words: NDArray[np.uint32], control: NDArray[np.uint32], sums: bool) -> Patterns:
    fmt = format_of(port)
    dtype = fmt.code_dtype
    drawn = np.ascontiguousarray(words).astype("<u4").view(dtype.newbyteorder("<"))[:, : port.lanes]
    codes = (drawn & dtype.type((1 << fmt.bits) - 1)).astype(dtype)
    if sums:
        ordinary = finite_codes(fmt)[codes]
        if port.name == "b":
            ordinary = shrunk_codes(fmt)[(control >> 8 & 3)[:, None], ordinary]
        codes = np.where((control % 64 == 0)[:, None], codes, ordinary)
    patterns: Patterns = codes if port.lanes > 1 else codes[:, 0]
    return patterns


def _random_scales(port: Port, words: NDArray[np.uint32], control: NDArray[np.uint32]) -> Patterns:
    """Draw scales of any size in one vector of four, and near 1 in the others, so that sums stay in range."""
    fmt = format_of(port)
    uniform = (words[:, 0] & np.uint32((1 << fmt.bits) - 1)).astype(fmt.code_dtype)
    near = nearest_codes(fmt, np.ldexp(1.0, (words[:, 0] >> np.uint32(16)).astype(np.int64) % 17 - 8))
    patterns: Patterns = np.where(control % 4 == 0, uniform, near)
    return patterns


def _bounds(model: Golden) -> NDArray[np.int64]:
    """Return the exponents between which a float operand lies in most vectors: those that the result tells apart."""
    kind, formats = model.result.kind, model.formats
    low, high = 0.0, 0.0
    if any(port.name in ("a", "b") and isinstance(port.kind, Float) for port in model.operands):
        return _moderate(model)
    if len(formats) > 1:
        low, high = formats[0].smallest * formats[1].smallest, formats[0].max * formats[1].max
    elif isinstance(kind, Codes):
        low, high = kind.format.smallest, kind.format.max
    elif isinstance(kind, Float):
        low, high = kind.layout.smallest_subnormal, kind.layout.max
    bounds: NDArray[np.int64] = np.frexp([low / 8, high * 4])[1].astype(np.int64)
    return bounds


def _moderate(model: Golden) -> NDArray[np.int64]:
    """Return exponents between which float factors and addends meet: those of a narrow result, or about 0."""
    if model.operation == "convert" or not isinstance(model.result.kind, Codes):
        reach = _REACH
    else:
        fmt = model.result.kind.format
        reach = min(int(np.frexp(fmt.max)[1]) - int(np.frexp(fmt.smallest)[1]), 2 * _REACH) // 2 + 4
    return np.array([-reach, reach], np.int64)


def _random_floats(model: Golden, kind: Float, words: NDArray[np.uint32], control: NDArray[np.uint32]) -> Patterns:
    uniform = words[:, 0].astype(np.uint64)
    if kind.bits == 64:
        uniform = uniform << np.uint64(32) | words[:, 1]
    uniform &= np.uint64((1 << kind.bits) - 1)
    layout = kind.layout
    fraction = layout.mantissa_bits
    bounds = _bounds(model) + layout.bias - 1
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
