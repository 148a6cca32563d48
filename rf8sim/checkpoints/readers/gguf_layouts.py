"""Where the bits of GGUF's common block types lie, for one loop that decodes them all.

A number is ``d * scale * value[code]``, for some types less or plus ``d2 * minimum``, each product and the sum rounded
to float32, as gguf's own decoder does. Scales and minima are of groups of elements; a type without them has 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LAYOUTS", "Bits", "BlockLayout", "block_decoder"]


class Bits(NamedTuple):
    """Where the bits of a code lie in a block: those of one byte, and perhaps higher ones in another.

    Attributes
    ----------
    byte, shift : int
        The byte, and the place of the lowest bit in it.
    width : int
        How many bits.
    high_byte, high_shift, high_width : int
        The same of the bits that stand above these.
    """

    byte: int
    shift: int = 0
    width: int = 8
    high_byte: int = 0
    high_shift: int = 0
    high_width: int = 0


@dataclass(frozen=True)
class BlockLayout:
    """A type of GGUF.

    Attributes
    ----------
    size : int
        Elements of a block.
    element : callable
        From the number of an element to its bits.
    d : int
        The byte where the float16 ``d`` begins.
    value : callable
        From an element's code to its value, an integer.
    group : int
        Elements that share a scale; 0 for all.
    scale, minimum : callable or None
        From the number of a group to the bits of its scale and its minimum. None for no scale, or 1.
    scale_value : callable
        From a scale's code to its value.
    d2, sign : int
        The byte where the float16 ``d2`` begins, and whether its product is added (1), subtracted (-1) or absent (0).
    """

    size: int
    element: Callable[[int], Bits]
    d: int = 0
    value: Callable[[int], int] = int
    group: int = 0
    scale: Callable[[int], Bits] | None = None
    minimum: Callable[[int], Bits] | None = None
    scale_value: Callable[[int], int] = int
    d2: int = 0
    sign: int = 0


def _signed(code: int) -> int:
    return code - 256 if code > 127 else code


def _less(offset: int) -> Callable[[int], int]:
    return lambda code: code - offset


def _nonlinear(code: int) -> int:
    return (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)[code & 15]


def _halves(begin: int) -> Callable[[int], Bits]:
    """Return 16 bytes with elements 0 to 15 in their low halves, 16 to 31 in their high ones."""
    return lambda e: Bits(begin + e % 16, 4 * (e // 16), 4)


def _five(high: int) -> Callable[[int], Bits]:
    """Return `_halves` behind four bytes with the fifth bits, one after the other."""
    return lambda e: Bits(high + 4 + e % 16, 4 * (e // 16), 4, high + e // 8, e % 8, 1)


def _k_scale(g: int) -> Bits:
    return Bits(4 + g, 0, 6) if g < 4 else Bits(8 + g, 0, 4, g, 6, 2)


def _k_minimum(g: int) -> Bits:
    return Bits(8 + g, 0, 6) if g < 4 else Bits(8 + g, 4, 4, 4 + g, 6, 2)


LAYOUTS = {
    "Q4_0": BlockLayout(32, _halves(2), value=_less(8)),
    "Q4_1": BlockLayout(32, _halves(4), d2=2, sign=1),
    "Q5_0": BlockLayout(32, _five(2), value=_less(16)),
    "Q5_1": BlockLayout(32, _five(4), d2=2, sign=1),
    "Q8_0": BlockLayout(32, lambda e: Bits(2 + e), value=_signed),
    "IQ4_NL": BlockLayout(32, _halves(2), value=_nonlinear),
    "Q2_K": BlockLayout(
        256, lambda e: Bits(16 + 32 * (e // 128) + e % 32, 2 * (e // 32 % 4), 2), 80, group=16,
        scale=lambda g: Bits(g, 0, 4), minimum=lambda g: Bits(g, 4, 4), d2=82, sign=-1,
    ),
    "Q3_K": BlockLayout(
        256, lambda e: Bits(32 + 32 * (e // 128) + e % 32, 2 * (e // 32 % 4), 2, e % 32, e // 32, 1), 108, _less(4), 16,
        scale=lambda g: Bits(96 + g % 8, 4 * (g // 8), 4, 104 + g % 4, 2 * (g // 4), 2), scale_value=_less(32),
    ),
    "Q4_K": BlockLayout(
        256, lambda e: Bits(16 + 32 * (e // 64) + e % 32, 4 * (e // 32 % 2), 4), group=32,
        scale=_k_scale, minimum=_k_minimum, d2=2, sign=-1,
    ),
    "Q5_K": BlockLayout(
        256, lambda e: Bits(48 + 32 * (e // 64) + e % 32, 4 * (e // 32 % 2), 4, 16 + e % 32, e // 32, 1), group=32,
        scale=_k_scale, minimum=_k_minimum, d2=2, sign=-1,
    ),
    "Q6_K": BlockLayout(
        256, lambda e: Bits(64 * (e // 128) + e % 64, 4 * (e // 64 % 2), 4, 128 + 32 * (e // 128) + e % 32,
                            2 * (e // 32 % 4), 2), 208, _less(32), 16,
        scale=lambda g: Bits(192 + g), scale_value=_signed,
    ),
    "IQ4_XS": BlockLayout(
        256, lambda e: Bits(8 + 16 * (e // 32) + e % 16, 4 * (e // 16 % 2), 4), 0, _nonlinear, 32,
        scale=lambda g: Bits(4 + g // 2, 4 * (g % 2), 4, 2 + g // 4, 2 * (g % 4), 2), scale_value=_less(32),
    ),
}  # fmt: skip
"""The types with a decoder here; gguf's own decodes the others, and blocks with a ``d`` that is not finite."""


@lru_cache
def block_decoder(kind: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float32] | None] | None:
    """Return what decodes blocks of a type, of shape (blocks, bytes), to numbers; None if it has no layout here.

    The callable returns None where a block has an infinite or NaN scale.
    """
    layout = LAYOUTS.get(kind)
    if layout is None:
        return None
    groups = layout.size // (layout.group or layout.size)
    fields = (
        _field([layout.element(e) for e in range(layout.size)]),
        *(_field([Bits(0, 0, 0) if part is None else part(g) for g in range(groups)])
          for part in (layout.scale, layout.minimum)),
    )  # fmt: skip
    first = layout.element(0)
    high_place = next((bits.width for bits in map(layout.scale or layout.element, range(groups)) if bits.high_width), 0)
    masks = np.array(
        [layout.d, layout.d2 if layout.sign else layout.d, layout.sign, (1 << first.width) - 1,
         (1 << first.high_width) - 1, first.width, high_place],
        np.int64,
    )  # fmt: skip
    tables = (
        _table(layout.value),
        _table(layout.scale_value if layout.scale else lambda _: 1),
        _table(int if layout.minimum else lambda _: 1),
    )
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)

    def decode(blocks: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        from ..._kernels.blocks import decode_blocks

        out = np.empty((len(blocks), layout.size), np.float32)
        wrong: int = decode_blocks(np.ascontiguousarray(blocks), wide, fields, masks, tables, out)
        return None if wrong else out

    with np.errstate(invalid="ignore"):
        wide = halves.astype(np.float32)
    return decode


def _field(bits: list[Bits]) -> NDArray[Any]:
    """Return bytes and shifts of codes, and masks, of shape (6, count)."""
    rows = [(b.byte, b.shift, b.high_byte, b.high_shift, (1 << b.width) - 1, (1 << b.high_width) - 1) for b in bits]
    return np.ascontiguousarray(np.array(rows, np.uint8).T)


def _table(value: Callable[[int], int]) -> NDArray[np.float32]:
    return np.array([value(code) for code in range(256)], np.float32)
