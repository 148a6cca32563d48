"""Thresholds: the exact tables that one rounding mode makes of one format, from where `boundaries` places it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..formats import FloatLayout, Format, Side, get_layout
from ..formats.floats import ARRAY_LAYOUTS
from .boundaries import BEYOND, Boundaries, place
from .rounding import Overflow, RoundingMode

__all__ = [
    "SIGNIFICAND", "CellTable", "SearchTable", "StepTable", "StochasticTable", "cell_table", "float32_decides",
    "full_table", "integer_codes", "overflow_code", "overflow_start", "search_table", "step_table", "stochastic_table",
]  # fmt: skip


class StepTable(NamedTuple):
    """A monotone step function of the bit pattern: from ``first[i]`` on, the result is ``result[i]``.

    Attributes
    ----------
    first : ndarray of uint64
        Ascending bit patterns, the sign bit included; ``first[0]`` is 0.
    result : ndarray of int64
        A code, or for stochastic rounding the number of an interval.
    """

    first: NDArray[np.uint64]
    result: NDArray[np.int64]


SIGNIFICAND = 52
"""Bits behind the first one of a significand, those of float32 with zeros below."""

_POINT = SIGNIFICAND - 32  # the right shift of a significand of 1.0 that leaves the fraction of 1 in 32 bits
_NO_SHIFT = 255


class CellTable(NamedTuple):
    """The step function cut in cells of equal bit patterns above ``shift``, at most one step inside each.

    Attributes
    ----------
    threshold : ndarray of uint32 or uint64, shape (cells,)
        The first pattern of the cell that gets the second result.
    result : ndarray of uint8, uint16 or uint32, shape (2 * cells,)
        Two results a cell: below its threshold, and from it on.
    shift : uint32 or uint64
        A pattern's cell is the pattern shifted right by this.
    """

    threshold: NDArray[Any]
    result: NDArray[Any]
    shift: Any


class SearchTable(NamedTuple):
    """A step function and where each cell of bit patterns starts in it; the rest is binary search.

    Attributes
    ----------
    first, result : ndarray
        Those of a `StepTable`.
    start : ndarray of int64, shape (cells + 1,)
        How many steps lie before each cell.
    shift : uint64
        A pattern's cell is the pattern shifted right by this.
    """

    first: NDArray[np.uint64]
    result: NDArray[Any]
    start: NDArray[np.int64]
    shift: np.uint64


class StochasticTable(NamedTuple):
    """Intervals between neighbours, for stochastic rounding.

    Attributes
    ----------
    cells : CellTable or None
        From a bit pattern to the number of its interval; None if the format's values are too close for one.
    steps : StepTable
        The same, as steps.
    lower, gap : ndarray of float64
        An interval's lower magnitude, and its width; width 0 where nothing is drawn.
    inverse : ndarray of float64
        One over the width, rounded; 0 where nothing is drawn, NaN where float64 has not all digits of it.
    codes : ndarray of uint32
        ``lower code | upper code << 16``.
    drop : ndarray of uint8, shape (cells,)
        In a cell that lies in one interval, if its width is a power of two that divides its lower end: the right shift
        of a significand of 53 bits that leaves in the low 32 bits how much of the way to the upper neighbour is gone.
        255 in any other cell.
    cell_codes : ndarray of uint8 or uint16, shape (2 * cells,)
        Lower and upper code of such a cell.
    """

    cells: CellTable | None
    steps: StepTable
    lower: NDArray[np.float64]
    gap: NDArray[np.float64]
    inverse: NDArray[np.float64]
    codes: NDArray[np.uint32]
    drop: NDArray[np.uint8]
    cell_codes: NDArray[Any]


def _side_steps(
    fmt: Format, mode: RoundingMode, overflow: Overflow, negative: bool, patterns: Callable[[Boundaries], Any]
) -> StepTable:
    """Return first patterns and codes of the steps that the finite inputs of one side take, in order."""
    codes = fmt.sides[negative].codes.astype(np.int64)
    over = overflow_code(fmt, overflow, negative, mode)
    zero = np.zeros(1, np.uint64)
    if negative and not fmt.signed:
        below = patterns(place(fmt, mode, True)) if rounds_below_zero(fmt, overflow) else np.ones(1, np.uint64)
        outside = over != codes[0]
        return StepTable(np.append(zero, below)[: 1 + outside], np.append(codes, over)[: 1 + outside])
    placed = place(fmt, mode, negative)
    first = np.append(zero, patterns(placed))
    if placed.point.size < codes.size:
        return StepTable(first, codes)
    return StepTable(first, np.append(codes, over))


def rounds_below_zero(fmt: Format, overflow: Overflow) -> bool:
    """Return whether an unsigned format rounds a negative number before it is out of range, so that it may be zero.

    That is P3109's order, and IEEE 754's. For the other options every negative number is out of range.
    """
    return overflow == Overflow.IEEE and fmt.zero is not None


def overflow_code(fmt: Format, overflow: Overflow, negative: bool, mode: RoundingMode | None) -> int:
    """Return the code of a number beyond the largest value of a side.

    Parameters
    ----------
    fmt : Format
        The format. Below zero an unsigned one has no value but its smallest.
    overflow : Overflow
        The overflow option.
    negative : bool
        Which side.
    mode : RoundingMode or None
        The mode of a finite number; None for an infinity.

    Returns
    -------
    int
        The code.
    """
    side: Side = fmt.sides[negative]
    largest, infinity = int(side.codes[-1]), side.infinity
    if overflow == Overflow.NAN:
        assert fmt.nan is not None
        return fmt.nan
    if overflow == Overflow.SATURATE or (overflow == Overflow.PROPAGATE and mode is not None):
        return largest
    if overflow != Overflow.IEEE:
        return largest if infinity is None else infinity  # an unsigned format has none below zero
    p3109 = fmt.family == "p3109"
    inward = mode in (RoundingMode.TOWARD_ZERO, RoundingMode.UP if negative else RoundingMode.DOWN)
    # P3109's interim report v4.0, section 4.7.5: the largest value of an unsigned format is even.
    if inward or (p3109 and not fmt.signed and not negative and mode == RoundingMode.TO_ODD):
        return largest
    if infinity is not None:
        return infinity
    if p3109 and (fmt.signed or not negative):  # SatNone of a finite format
        return largest
    return largest if fmt.nan is None else fmt.nan


def _collapse(first: NDArray[np.uint64], result: NDArray[np.int64]) -> StepTable:
    """Of several steps at one pattern the last one counts."""
    order = np.argsort(first, kind="stable")
    first, result = first[order], result[order]
    last = np.append(first[1:] != first[:-1], True)
    return StepTable(first[last], result[last])


@lru_cache(maxsize=512)
def overflow_start(fmt: Format, mode: RoundingMode, negative: bool, overflow: Overflow = Overflow.SATURATE) -> float:
    """Return the smallest float64 magnitude that rounds beyond the largest value of a side; inf if only inf does."""
    if negative and not fmt.signed and not rounds_below_zero(fmt, overflow):
        return math.ulp(0.0)
    placed = place(fmt, mode, negative)
    if placed.point.size < fmt.sides[negative].codes.size:
        return math.inf
    return float(placed.patterns(get_layout("float64"))[-1:].view(np.float64)[0])


@lru_cache(maxsize=512)
def step_table(fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: str) -> StepTable:
    """Derive, exactly, the step function from the bit patterns of a dtype to codes.

    Parameters
    ----------
    fmt : Format
        The format.
    mode : RoundingMode
        Any mode but ``stochastic``.
    overflow : Overflow
        The overflow option.
    dtype : str
        ``float16``, ``bfloat16``, ``float32``, ``float64``; or ``+integer`` and ``-integer``, whose patterns are the
        magnitudes of integers of one sign.

    Returns
    -------
    StepTable
        The steps, those of NaN and infinities included.

    Examples
    --------
    >>> import rf8sim
    >>> rf8 = rf8sim.get_format("rf8")
    >>> table = step_table(rf8, RoundingMode.NEAREST_EVEN, Overflow.SATURATE, "float32")
    >>> hex(table.first[1]), table.result[:2]
    ('0x37600001', array([0, 1]))
    """
    if dtype.endswith("integer"):
        steps = _side_steps(fmt, mode, overflow, dtype[0] == "-", _first_integers)
        kept = steps.first != BEYOND
        return _collapse(steps.first[kept], steps.result[kept])
    layout = get_layout(dtype)
    first: list[NDArray[np.uint64]] = []
    result: list[NDArray[np.int64]] = []
    for negative in (False, True):
        side = _side_steps(fmt, mode, overflow, negative, lambda placed: placed.patterns(layout))
        # Formats without NaN never meet one: such input is refused before.
        specials = np.array([layout.infinity, layout.infinity + 1], dtype=np.uint64)
        codes = np.array([overflow_code(fmt, overflow, negative, None), fmt.nan if fmt.nan is not None else 0])
        sign = np.uint64(negative * layout.sign_mask)
        first += [side.first + sign, specials + sign]
        result += [side.result, codes]
    return _collapse(np.concatenate(first), np.concatenate(result))


def _first_integers(placed: Boundaries) -> NDArray[np.uint64]:
    return placed.ceilings(np.zeros(placed.point.size, dtype=np.int64))


def _cells(steps: StepTable, width: int, widest: int, dtype: type[np.unsignedinteger[Any]]) -> CellTable | None:
    """Cut a step function in the fewest cells of at most ``2**widest`` patterns and one step inside each.

    None if that takes over 2**20 cells.
    """
    # Two steps share a cell if they differ below `shift` only; the first may lie at its start.
    apart = steps.first[:-1] ^ steps.first[1:]
    for shift in range(widest, width - 21, -1):
        inside = (steps.first & np.uint64((1 << shift) - 1)) != 0
        if not (inside[:-1] & (apart >> np.uint64(shift) == 0)).any():
            break
    else:
        return None
    cell = steps.first >> np.uint64(shift)
    cells = 1 << (width - shift)
    # The step in force at a cell's start is the last one at or before it; each is so for a run of cells.
    first_cell = (cell + inside).astype(np.int64)
    result = np.repeat(steps.result.astype(dtype), 2 * np.diff(first_cell, append=cells))
    unsigned = np.uint32 if width == 32 else np.uint64
    threshold: NDArray[Any] = np.left_shift(np.arange(cells, dtype=unsigned), unsigned(shift))
    inner = cell[inside].astype(np.int64)
    threshold[inner] = steps.first[inside]
    result[2 * inner + 1] = steps.result[inside]
    return CellTable(threshold, result, unsigned(shift))


@lru_cache(maxsize=256)
def cell_table(fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: str) -> CellTable | None:
    """Return the cell table of ``float32`` or ``float64``; None if the format's values are too close for one."""
    layout = get_layout(dtype)
    return _cells(step_table(fmt, mode, overflow, dtype), layout.bits, layout.mantissa_bits, fmt.code_dtype.type)


@lru_cache(maxsize=64)
def float32_decides(fmt: Format, mode: RoundingMode) -> bool:
    """Return whether a number rounded to odd in float32 is then rounded as itself: no threshold is an odd pattern."""
    for negative in (False, True)[: 1 + fmt.signed]:
        placed = place(fmt, mode, negative)
        with np.errstate(over="ignore"):
            single = placed.point.astype(np.float32)
        even = single.view(np.uint32) & 1 == 0
        if not ((placed.rest == 0) & (placed.root == 0) & (single == placed.point) & even).all():
            return False
    return cell_table(fmt, mode, Overflow.SATURATE, "float32") is not None


@lru_cache(maxsize=64)
def search_table(fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: str) -> SearchTable:
    """Return the steps of ``float32`` or ``float64`` with an index: for values too close for a cell table."""
    steps = step_table(fmt, mode, overflow, dtype)
    shift = get_layout(dtype).bits - 16
    cells = np.arange(1 << 16, dtype=np.uint64) << np.uint64(shift)
    start = np.append(np.searchsorted(steps.first, cells), steps.first.size)
    return SearchTable(steps.first, steps.result.astype(fmt.code_dtype), start, np.uint64(shift))


@lru_cache(maxsize=256)
def full_table(fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: str) -> NDArray[Any]:
    """Return the code of every bit pattern of an 8- or 16-bit dtype, float or integer."""
    if dtype in ARRAY_LAYOUTS:
        steps = step_table(fmt, mode, overflow, dtype)
        patterns = np.arange(1 << 16, dtype=np.uint64)
        return steps.result[np.searchsorted(steps.first, patterns, side="right") - 1].astype(fmt.code_dtype)
    every = np.arange(1 << (8 * np.dtype(dtype).itemsize), dtype=f"u{np.dtype(dtype).itemsize}").view(dtype)
    return integer_codes(fmt, mode, overflow, every)


def integer_codes(fmt: Format, mode: RoundingMode, overflow: Overflow, x: NDArray[Any]) -> NDArray[Any]:
    """Return the codes of an integer array of any width by binary search among integer steps."""
    wide = x.astype(np.int64 if x.dtype.kind == "i" else np.uint64)
    negative = wide < 0
    magnitude = np.where(negative, np.uint64(0) - wide.view(np.uint64), wide.view(np.uint64))
    codes = np.empty(x.shape, dtype=fmt.code_dtype)
    for dtype, where in (("+integer", ~negative), ("-integer", negative)):
        steps = step_table(fmt, mode, overflow, dtype)
        codes[where] = steps.result[np.searchsorted(steps.first, magnitude[where], side="right") - 1]
    return codes


class _Intervals(NamedTuple):
    """First patterns, lower magnitudes, widths, and the codes of both ends, in the order of the patterns."""

    first: NDArray[np.uint64]
    lower: NDArray[np.float64]
    gap: NDArray[np.float64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


def _constant(first: Any, code: Any) -> _Intervals:
    """Return intervals in which nothing is drawn."""
    first, code = np.atleast_1d(np.asarray(first, dtype=np.uint64)), np.atleast_1d(np.asarray(code, dtype=np.int64))
    zero = np.zeros(first.size)
    return _Intervals(first, zero, zero, code, code)


def _joined(parts: Iterable[_Intervals]) -> _Intervals:
    return _Intervals(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _intervals(fmt: Format, overflow: Overflow, negative: bool, layout: FloatLayout) -> _Intervals:
    """Return the intervals between the neighbours of one side, those of overflow, infinity and NaN last."""
    side = fmt.sides[negative]
    over, smallest = overflow_code(fmt, overflow, negative, RoundingMode.STOCHASTIC), int(side.codes[0])
    infinite = overflow_code(fmt, overflow, negative, None)
    specials = _constant([layout.infinity, layout.infinity + 1], [infinite, fmt.nan or 0])
    if negative and not fmt.signed:
        if not rounds_below_zero(fmt, overflow):  # every negative number is out of range
            return _joined([_constant([0, 1], [smallest, over]), specials])
        first, step = place(fmt, RoundingMode.STOCHASTIC, True).patterns(layout), fmt.sides[0].magnitudes[1:2]
        zero = np.zeros(1)
        drawn = _Intervals(np.zeros(1, np.uint64), zero, step, side.codes.astype(np.int64), np.array([over]))
        return _joined([drawn, _constant(first, over), specials])
    placed = place(fmt, RoundingMode.STOCHASTIC, negative)
    magnitudes, codes = side.magnitudes, side.codes.astype(np.int64)
    start = Boundaries(magnitudes[:1], np.zeros(1), np.zeros(1), np.ones(1, dtype=np.bool_))
    first = np.append(start.patterns(layout), placed.patterns(layout))
    goes_on = first.size > codes.size
    upper, high = np.append(magnitudes[1:], side.beyond), np.append(codes[1:], over)
    if not goes_on:  # above the largest value there is nothing to draw
        upper[-1], high[-1] = magnitudes[-1], codes[-1]
    drawn = _Intervals(first[: codes.size], magnitudes, upper - magnitudes, codes, high)
    below = _constant(0, smallest)  # below the smallest value of a format without zero
    return _joined([below, drawn, *([_constant(first[-1], over)] if goes_on else []), specials])


def _shifts(cells: CellTable, lower: NDArray[np.float64], gap: NDArray[np.float64], layout: FloatLayout) -> Any:
    """Return ``drop`` of a `StochasticTable`: cells have at most the patterns of one exponent."""
    number = cells.result[::2]
    before = np.arange(number.size) >> (layout.mantissa_bits - int(cells.shift)) & (
        layout.infinity >> layout.mantissa_bits
    )
    drawn = gap > 0
    fraction, exponent = np.frexp(np.where(drawn, gap, 1.0))
    with np.errstate(all="ignore"):
        divides = (fraction == 0.5) & (np.fmod(lower, np.where(drawn, gap, 1.0)) == 0)
    shift = (exponent - layout.emin + _POINT)[number] - before
    # Subnormal inputs have no first bit, but are shifted out.
    exact = divides[number] & (shift >= 0) & ((before > 0) | (shift > SIGNIFICAND))
    shift = np.where(drawn[number], np.where(exact, np.minimum(shift, 63), _NO_SHIFT), 0)
    return np.where(number == cells.result[1::2], shift, _NO_SHIFT).astype(np.uint8)


@lru_cache(maxsize=64)
def stochastic_table(fmt: Format, overflow: Overflow, dtype: str) -> StochasticTable:
    """Return the intervals of stochastic rounding for ``float32`` or ``float64`` (section 5 of the specification)."""
    layout = get_layout(dtype)
    negative = _intervals(fmt, overflow, True, layout)
    negative = negative._replace(first=negative.first + np.uint64(layout.sign_mask))
    first, lower, gap, low, high = _joined([_intervals(fmt, overflow, False, layout), negative])
    steps = _collapse(first, np.arange(first.size))
    codes = (low | high << 16).astype(np.uint32)

    inverse = np.where(gap > 0, np.nan, 0.0)
    np.divide(1.0, gap, out=inverse, where=(gap > 2.0**-1000) & (gap < 2.0**1000))

    # In units in the last place an interval is as long as its bit patterns are many, if it lies in one binade.
    length = np.ones(first.size, dtype=np.uint64)
    length[steps.result] = np.diff(steps.first, append=np.uint64(2 * layout.sign_mask - 1))
    last = first + length - np.uint64(1)
    binade = np.uint64(layout.mantissa_bits)
    even = (first >> binade == last >> binade) & (length & length - np.uint64(1) == 0)
    even &= first & length - np.uint64(1) == 0
    exponent = np.bitwise_count(length - np.uint64(1)).astype(np.int64)
    # Cells as small as the shortest such interval, so that each of these is made of whole cells.
    widest = int(exponent[even & (gap > 0)].min(initial=layout.mantissa_bits))
    kind = np.uint16 if first.size <= 1 << 16 else np.uint32
    cells = _cells(steps, layout.bits, widest, kind) or _cells(steps, layout.bits, layout.mantissa_bits, kind)
    if cells is None:
        none = np.full(steps.first.size, _NO_SHIFT, np.uint8)
        return StochasticTable(None, steps, lower, gap, inverse, codes, none, low.astype(fmt.code_dtype))
    number = cells.result[::2]
    drop = _shifts(cells, lower, gap, layout)
    cell_codes = np.stack([low[number], high[number]], axis=1).astype(fmt.code_dtype).ravel()
    return StochasticTable(cells, steps, lower, gap, inverse, codes, drop, cell_codes)
