"""Thresholds: where a rounding mode sends a number up, and the exact tables that one mode makes of one format.

A rounding mode is a rule that places one boundary between each pair of neighbouring magnitudes of a side. To add a
mode, add a member to `rf8sim.codec.rounding.RoundingMode` and its rule to ``_RULES`` here. Nothing here rounds: a
boundary is a rational plus a rational multiple of sqrt(2), and its first bit pattern is found in integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..formats import FloatLayout, Format, Side, get_layout
from ..formats.floats import ARRAY_LAYOUTS
from .rounding import Overflow, RoundingMode

__all__ = [
    "Boundary", "CellTable", "StepTable", "StochasticTable", "boundaries", "cell_table", "full_table", "integer_codes",
    "overflow_start", "step_table", "stochastic_table",
]  # fmt: skip


class Boundary(NamedTuple):
    """The point ``rational + root * sqrt(2)`` from which a magnitude goes to the upper neighbour.

    ``inclusive`` says whether the point itself does.
    """

    rational: Fraction
    root: Fraction
    inclusive: bool

    def ceiling(self, exponent: int) -> int:
        """Return the smallest integer n such that ``n * 2**exponent`` goes up."""
        scale = Fraction(2) ** -exponent
        rational, root = self.rational * scale, self.root * scale
        denominator = rational.denominator * root.denominator
        scaled = rational.numerator * root.denominator
        square = 2 * (root.numerator * rational.denominator) ** 2
        if not square:
            floor, exact = divmod(scaled, denominator)
            return floor + (1 if exact or not self.inclusive else 0)
        # floor((whole +- sqrt(square)) / denominator), whose square root is irrational.
        surd = math.isqrt(square) if root > 0 else -math.isqrt(square) - 1
        return (scaled + surd) // denominator + 1


class Gap(NamedTuple):
    """Two neighbouring magnitudes of a side, as a rule sees them."""

    lower: Fraction
    upper: Fraction
    upper_rank: int
    negative: bool
    depth: int | None


_ZERO = Fraction(0)


def _nearest_even(gap: Gap) -> Boundary:
    return Boundary((gap.lower + gap.upper) / 2, _ZERO, gap.upper_rank % 2 == 0)


def _nearest_away(gap: Gap) -> Boundary:
    return Boundary((gap.lower + gap.upper) / 2, _ZERO, True)


def _toward_zero(gap: Gap) -> Boundary:
    return Boundary(gap.upper, _ZERO, True)


def _away_from_zero(gap: Gap) -> Boundary:
    return Boundary(gap.lower, _ZERO, False)


def _up(gap: Gap) -> Boundary:
    return _toward_zero(gap) if gap.negative else _away_from_zero(gap)


def _down(gap: Gap) -> Boundary:
    return _away_from_zero(gap) if gap.negative else _toward_zero(gap)


def _to_odd(gap: Gap) -> Boundary:
    return _away_from_zero(gap) if gap.upper_rank % 2 else _toward_zero(gap)


def _residual(gap: Gap) -> Boundary:
    """Place the boundary of the source's two-step rule (arXiv 2506.00486 v3; section 4 of the specification).

    Both neighbours are ``c + s * 2**-j`` for one power of two c, or c itself. The second step rounds the logarithm of
    the residual, so the boundary lies at the geometric mean of the two residuals; the last step, from the residual
    2**-j to none, at ``2**-j / sqrt(2)``. Below the smallest value it is the midpoint.
    """
    lower, upper = gap.lower, gap.upper
    if lower == 0:
        return Boundary(upper / 2, _ZERO, False)
    # The power of two nearest to both on the logarithmic scale: 1.5 and what follows belong to the next one.
    centre = Fraction(2) ** (lower.numerator.bit_length() - lower.denominator.bit_length())
    centre = centre if centre <= lower else centre / 2
    if lower >= centre * Fraction(3, 2):
        centre *= 2
    inner, outer = sorted((abs(lower - centre), abs(upper - centre)))
    # sqrt(inner * outer) with outer = 2 * inner; or outer / sqrt(2).
    root = inner if inner else outer / 2
    return Boundary(centre, root if upper > centre else -root, False)


_RULES: dict[RoundingMode, Callable[[Gap], Boundary]] = {
    RoundingMode.NEAREST_EVEN: _nearest_even,
    RoundingMode.NEAREST_AWAY: _nearest_away,
    RoundingMode.TOWARD_ZERO: _toward_zero,
    RoundingMode.UP: _up,
    RoundingMode.DOWN: _down,
    RoundingMode.TO_ODD: _to_odd,
    RoundingMode.RESIDUAL: _residual,
    # The neighbour below is found by truncation; the random word decides (see `stochastic_table`).
    RoundingMode.STOCHASTIC: _toward_zero,
}
_NEAREST = (RoundingMode.NEAREST_EVEN, RoundingMode.NEAREST_AWAY)


@lru_cache(maxsize=256)
def boundaries(fmt: Format, mode: RoundingMode, negative: bool) -> tuple[Boundary, ...]:
    """Return where each magnitude of a side goes up to the next, the overflow boundary last if there is one.

    Parameters
    ----------
    fmt : Format
        The format.
    mode : RoundingMode
        The mode; for ``stochastic`` the boundaries of truncation.
    negative : bool
        Which side.

    Returns
    -------
    tuple of Boundary
        One for each rank but the first; one more if the grid goes on beyond the largest value.

    Examples
    --------
    >>> import rf8sim
    >>> from rf8sim import RoundingMode
    >>> boundaries(rf8sim.get_format("rf8"), RoundingMode.NEAREST_EVEN, False)[-1]
    Boundary(rational=Fraction(13, 8), root=Fraction(0, 1), inclusive=False)
    """
    side = fmt.sides[negative]
    grid = [Fraction(value) for value in side.magnitudes.tolist()]
    if math.isfinite(side.beyond):
        grid.append(Fraction(side.beyond))
    rule = _RULES[mode]
    placed = [rule(Gap(grid[rank - 1], grid[rank], rank, negative, fmt.depth)) for rank in range(1, len(grid))]
    if fmt.nearest_boundaries is not None and mode in _NEAREST:
        given = [Fraction(value) for value in fmt.nearest_boundaries]
        placed = [boundary._replace(rational=point) for boundary, point in zip(placed, given, strict=True)]
        placed[0] = Boundary(_ZERO, _ZERO, False)
    return tuple(placed)


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


class CellTable(NamedTuple):
    """The step function cut in cells of equal bit patterns above ``shift``, at most one step inside each.

    Attributes
    ----------
    threshold : ndarray of uint32 or uint64, shape (cells,)
        The first pattern of the cell that gets the second result.
    result : ndarray of uint8 or uint16, shape (2 * cells,)
        Two results a cell: below its threshold, and from it on.
    shift : uint32 or uint64
        A pattern's cell is the pattern shifted right by this.
    """

    threshold: NDArray[Any]
    result: NDArray[Any]
    shift: Any


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
    codes : ndarray of uint16
        ``lower code | upper code << 8``.
    drop : ndarray of uint8, shape (cells,)
        In a cell that lies in one interval of 2**g units in the last place: the left shift that leaves of a bit pattern
        its low g bits, the fraction of the way to the upper neighbour. 255 in any other cell.
    cell_codes : ndarray of uint8, shape (2 * cells,)
        Lower and upper code of such a cell.
    """

    cells: CellTable | None
    steps: StepTable
    lower: NDArray[np.float64]
    gap: NDArray[np.float64]
    codes: NDArray[np.uint16]
    drop: NDArray[np.uint8]
    cell_codes: NDArray[np.uint8]


def _first_pattern(layout: FloatLayout, boundary: Boundary) -> int:
    """Return the first bit pattern (sign clear) whose value goes up; at most that of infinity."""
    if not boundary.rational and not boundary.root:  # everything above zero goes up, however small
        return 0 if boundary.inclusive else 1
    far = 200  # 2**-200 is below every boundary of a format whose values are float32
    octave = boundary.ceiling(-far).bit_length() - 1 - far
    if octave > layout.emax:
        return layout.infinity
    exponent = max(octave, layout.emin) - layout.mantissa_bits
    steps = boundary.ceiling(exponent)
    # The encoding of steps * 2**exponent is this sum, also where a carry reaches the next binade.
    field = exponent + layout.mantissa_bits - layout.emin
    return min((field << layout.mantissa_bits) + steps, layout.infinity)


def _side_steps(
    fmt: Format, mode: RoundingMode, overflow: Overflow, negative: bool, first_pattern: Callable[[Boundary], int]
) -> list[tuple[int, int]]:
    """Return ``(first pattern, code)`` of the steps that the finite inputs of one side take."""
    side = fmt.sides[negative]
    codes = side.codes.tolist()
    placed = boundaries(fmt, mode, negative)
    steps = [(0, codes[0])]
    steps += [(first_pattern(boundary), code) for boundary, code in zip(placed, codes[1:], strict=False)]
    over = _overflow_code(fmt, overflow, negative)
    if negative and not fmt.signed:
        # Every negative number is out of range.
        return [*steps, (1, over)] if overflow is Overflow.NAN else steps
    if len(placed) == len(codes):
        truncating = mode in (RoundingMode.TOWARD_ZERO, RoundingMode.UP if negative else RoundingMode.DOWN)
        if not (overflow is Overflow.INFINITY and truncating):
            steps.append((first_pattern(placed[-1]), over))
    return steps


def _overflow_code(fmt: Format, overflow: Overflow, negative: bool) -> int:
    side: Side = fmt.sides[negative]
    if overflow is Overflow.NAN:
        assert fmt.nan is not None
        return fmt.nan
    if overflow is Overflow.INFINITY:
        assert side.infinity is not None
        return side.infinity
    return int(side.codes[-1])


def _collapse(steps: list[tuple[int, int]]) -> StepTable:
    """Of several steps at one pattern the last one counts; none is taken beyond 64 bits."""
    last = dict(steps)
    first = sorted(pattern for pattern in last if pattern < 1 << 64)
    return StepTable(np.array(first, dtype=np.uint64), np.array([last[pattern] for pattern in first], dtype=np.int64))


def overflow_start(fmt: Format, mode: RoundingMode, negative: bool) -> float:
    """Return the smallest float64 magnitude that rounds beyond the largest value of a side; inf if none does."""
    placed = boundaries(fmt, mode, negative)
    if len(placed) < fmt.sides[negative].codes.size:
        return math.inf
    return float(np.uint64(_first_pattern(get_layout("float64"), placed[-1])).view(np.float64))


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
        return _collapse(_side_steps(fmt, mode, overflow, dtype[0] == "-", lambda boundary: boundary.ceiling(0)))
    layout = get_layout(dtype)
    steps = []
    for negative in (False, True):
        # Formats without NaN never meet one: such input is refused before.
        specials = [
            (layout.infinity, _overflow_code(fmt, overflow, negative)),
            (layout.infinity + 1, fmt.nan if fmt.nan is not None else 0),
        ]
        side = [*_side_steps(fmt, mode, overflow, negative, partial(_first_pattern, layout)), *specials]
        steps += [(first + negative * layout.sign_mask, code) for first, code in side]
    return _collapse(steps)


def _cells(steps: StepTable, width: int, widest: int, dtype: type[np.unsignedinteger[Any]]) -> CellTable | None:
    """Cut a step function in the fewest cells of at most ``2**widest`` patterns and one step inside each.

    None if that takes over 2**20 cells.
    """
    for shift in range(widest, width - 21, -1):
        inside = (steps.first & np.uint64((1 << shift) - 1)) != 0
        cell = steps.first >> np.uint64(shift)
        if np.unique(cell[inside]).size == np.count_nonzero(inside):
            break
    else:
        return None
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
    return _cells(step_table(fmt, mode, overflow, dtype), layout.bits, layout.mantissa_bits, np.uint8)


@lru_cache(maxsize=256)
def full_table(fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: str) -> NDArray[np.uint8]:
    """Return the code of every bit pattern of an 8- or 16-bit dtype, float or integer."""
    if dtype in ARRAY_LAYOUTS:
        steps = step_table(fmt, mode, overflow, dtype)
        patterns = np.arange(1 << 16, dtype=np.uint64)
        return steps.result[np.searchsorted(steps.first, patterns, side="right") - 1].astype(np.uint8)
    every = np.arange(1 << (8 * np.dtype(dtype).itemsize), dtype=f"u{np.dtype(dtype).itemsize}").view(dtype)
    return integer_codes(fmt, mode, overflow, every)


def integer_codes(fmt: Format, mode: RoundingMode, overflow: Overflow, x: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the codes of an integer array of any width by binary search among integer steps."""
    wide = x.astype(np.int64 if x.dtype.kind == "i" else np.uint64)
    negative = wide < 0
    magnitude = np.where(negative, np.uint64(0) - wide.view(np.uint64), wide.view(np.uint64))
    codes = np.empty(x.shape, dtype=np.uint8)
    for dtype, where in (("+integer", ~negative), ("-integer", negative)):
        steps = step_table(fmt, mode, overflow, dtype)
        codes[where] = steps.result[np.searchsorted(steps.first, magnitude[where], side="right") - 1]
    return codes


class _Interval(NamedTuple):
    first: int
    lower: float
    gap: float
    code: int
    upper_code: int


def _intervals(fmt: Format, overflow: Overflow, negative: bool, layout: FloatLayout) -> list[_Interval]:
    """Return the intervals between the neighbours of one side, those of overflow, infinity and NaN last."""
    side = fmt.sides[negative]
    over = _overflow_code(fmt, overflow, negative)
    constant = [_Interval(layout.infinity, 0.0, 0.0, over, over)]
    constant.append(_Interval(layout.infinity + 1, 0.0, 0.0, *2 * (fmt.nan or 0,)))
    smallest = int(side.codes[0])
    if negative and not fmt.signed:  # every negative number is out of range
        return [_Interval(0, 0.0, 0.0, smallest, smallest), _Interval(1, 0.0, 0.0, over, over), *constant]
    grid, codes = [*side.magnitudes.tolist(), side.beyond], [*side.codes.tolist(), over]
    placed = boundaries(fmt, RoundingMode.STOCHASTIC, negative)
    points = (Boundary(Fraction(grid[0]), _ZERO, True), *placed)
    firsts = [_first_pattern(layout, point) for point in points]
    intervals = [_Interval(0, 0.0, 0.0, smallest, smallest)]  # below the smallest value of a format without zero
    for rank, first in enumerate(firsts[: side.codes.size]):
        gap = grid[rank + 1] - grid[rank]
        drawn = math.isfinite(gap)
        intervals.append(
            _Interval(first, grid[rank], gap if drawn else 0.0, codes[rank], codes[rank + 1 if drawn else rank])
        )
    if len(firsts) > side.codes.size:
        intervals.append(_Interval(firsts[-1], 0.0, 0.0, over, over))
    return intervals + constant


@lru_cache(maxsize=64)
def stochastic_table(fmt: Format, overflow: Overflow, dtype: str) -> StochasticTable:
    """Return the intervals of stochastic rounding for ``float32`` or ``float64`` (section 5 of the specification)."""
    layout = get_layout(dtype)
    intervals = _intervals(fmt, overflow, False, layout)
    negative = _intervals(fmt, overflow, True, layout)
    intervals += [interval._replace(first=interval.first + layout.sign_mask) for interval in negative]
    steps = _collapse([(interval.first, number) for number, interval in enumerate(intervals)])
    lower, gap, low, high = (np.array(column) for column in list(zip(*intervals, strict=True))[1:])
    codes = (low | high << 8).astype(np.uint16)

    # In units in the last place an interval is as long as its bit patterns are many, if it lies in one binade.
    length = np.ones(len(intervals), dtype=np.uint64)
    length[steps.result] = np.diff(steps.first, append=np.uint64(2 * layout.sign_mask - 1))
    first = np.array([interval.first for interval in intervals], dtype=np.uint64)
    last = first + length - np.uint64(1)
    binade = np.uint64(layout.mantissa_bits)
    even = (first >> binade == last >> binade) & (length & length - np.uint64(1) == 0)
    even &= first & length - np.uint64(1) == 0
    exponent = np.bitwise_count(length - np.uint64(1)).astype(np.int64)
    # Cells as small as the shortest such interval, so that each of these is made of whole cells.
    widest = int(exponent[even & (gap > 0)].min(initial=layout.mantissa_bits))
    cells = _cells(steps, layout.bits, widest, np.uint16) or _cells(steps, layout.bits, layout.mantissa_bits, np.uint16)
    if cells is None:
        return StochasticTable(
            None, steps, lower, gap, codes, np.full(steps.first.size, 255, np.uint8), low.astype(np.uint8)
        )
    number = cells.result[::2]
    left = np.where(gap == 0, 0, np.where(even, layout.bits - exponent, 255))
    drop = np.where(number == cells.result[1::2], left[number], 255).astype(np.uint8)
    cell_codes = np.stack([low[number], high[number]], axis=1).astype(np.uint8).ravel()
    return StochasticTable(cells, steps, lower, gap, codes, drop, cell_codes)
