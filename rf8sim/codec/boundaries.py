"""Boundaries: where a rounding mode sends a magnitude up to the next value of a format.

A rounding mode is a rule that places one boundary between each pair of neighbouring magnitudes of a side. To add a
mode, add a member to `rf8sim.codec.rounding.RoundingMode` and its rule to ``_RULES`` here. Nothing here rounds: a
boundary is a rational plus a rational multiple of sqrt(2), and what lies at or above it is found in integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..formats import FloatLayout, Format
from .rounding import RoundingMode

__all__ = ["BEYOND", "Boundaries", "Boundary", "boundaries", "place"]

Array = NDArray[np.float64]

BEYOND = np.uint64((1 << 64) - 1)
"""What stands for an integer that 64 bits do not hold; no boundary of a format lies so near to 2**64."""


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


class Boundaries(NamedTuple):
    """The points ``point + rest + root * sqrt(2)`` of a side, ascending, each exact.

    Attributes
    ----------
    point, rest : ndarray of float64
        A rational as the nearest float64 and what is left of it, which is zero unless it needs more than 53 bits.
    root : ndarray of float64
        A signed power of two, or zero. Then ``point`` is a power of two and ``rest`` is zero.
    inclusive : ndarray of bool
        Whether the point itself goes up.
    """

    point: Array
    rest: Array
    root: Array
    inclusive: NDArray[np.bool_]

    @property
    def nearest(self) -> Array:
        """The points as float64."""
        return self.point + self.root * math.sqrt(2)

    def exactly(self) -> tuple[Boundary, ...]:
        """Return each as a `Boundary`, which takes some microseconds."""
        return tuple(
            Boundary(Fraction(point) + Fraction(rest), Fraction(root), bool(inclusive))
            for point, rest, root, inclusive in zip(*(column.tolist() for column in self), strict=True)
        )

    def ceilings(self, unit: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the smallest integers n such that ``n * 2**unit`` goes up; `BEYOND` for those from 2**64 on."""
        scaled = np.ldexp(self.point, -unit)
        inside = np.ldexp(self.nearest, -unit) < 2.0**64
        whole = np.ceil(np.where(inside, scaled, 0.0))
        # What is not whole in float64 lies strictly between two integers, and `rest` does not reach either of them.
        further = (whole == scaled) & ((self.rest > 0) | ((self.rest == 0) & ~self.inclusive))
        surd = (self.root != 0) & inside
        steps = whole.astype(np.uint64) + (further & ~surd).astype(np.uint64)
        if surd.any():
            steps[surd] = _with_roots(scaled[surd], self.root[surd], unit[surd])
        return np.where(inside, steps, BEYOND)

    def patterns(self, layout: FloatLayout) -> NDArray[np.uint64]:
        """Return the first bit patterns (sign clear) whose values go up; at most that of infinity."""
        with np.errstate(over="ignore"):
            exponent = np.frexp(self.nearest)[1].astype(np.int64) - 1
        # A boundary below the smallest number: the one next to zero goes up, as it does at that number's exponent.
        unit = np.maximum(exponent, layout.emin) - layout.mantissa_bits
        field = (unit + layout.mantissa_bits - layout.emin).astype(np.uint64)
        # The encoding of steps * 2**unit is this sum, also where a carry reaches the next binade.
        first = (field << np.uint64(layout.mantissa_bits)) + self.ceilings(unit)
        first = np.where(exponent > layout.emax, np.uint64(layout.infinity), first)
        at_zero = (self.point == 0) & (self.root == 0)  # everything above zero goes up, however small
        first = np.where(at_zero, (~self.inclusive).astype(np.uint64), first)
        capped: NDArray[np.uint64] = np.minimum(first, np.uint64(layout.infinity))
        return capped


def _with_roots(scaled: Array, root: Array, unit: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the ceilings of ``2**i + 2**j * sqrt(2)``, or of their difference, where j < i."""
    exponent = np.frexp(root)[1].astype(np.int64) - 1 - unit
    length, index = np.unique(exponent, return_inverse=True)
    floors = [math.isqrt(2 << 2 * n) if n >= 0 else 0 for n in length.tolist()]
    floor = np.array(floors, dtype=np.uint64)[index]
    base = np.maximum(scaled, 1.0).astype(np.uint64)  # below a unit, the sum is below it too
    added = np.where(scaled < 1, base, base + floor + np.uint64(1))
    return np.where((root > 0) | (scaled < 1), added, base - floor)


class Gaps(NamedTuple):
    """Neighbouring magnitudes of a side, as a rule sees them."""

    lower: Array
    upper: Array
    upper_rank: NDArray[np.int64]
    negative: bool
    ties_away: bool


def _at(point: Array, inclusive: bool | NDArray[np.bool_]) -> Boundaries:
    zero = np.zeros(point.size)
    return Boundaries(point, zero, zero, np.broadcast_to(np.asarray(inclusive), point.shape))


def _midpoint(gaps: Gaps, inclusive: bool | NDArray[np.bool_]) -> Boundaries:
    total = gaps.lower + gaps.upper
    rest = gaps.lower - (total - gaps.upper)  # exact, since the upper one is at least as large (Dekker)
    return _at(total / 2, inclusive)._replace(rest=rest / 2)


def _nearest_even(gaps: Gaps) -> Boundaries:
    return _midpoint(gaps, (gaps.upper_rank % 2 == 0) | gaps.ties_away)


def _nearest_away(gaps: Gaps) -> Boundaries:
    return _midpoint(gaps, True)


def _toward_zero(gaps: Gaps) -> Boundaries:
    return _at(gaps.upper, True)


def _away_from_zero(gaps: Gaps) -> Boundaries:
    return _at(gaps.lower, False)


def _up(gaps: Gaps) -> Boundaries:
    return _toward_zero(gaps) if gaps.negative else _away_from_zero(gaps)


def _down(gaps: Gaps) -> Boundaries:
    return _away_from_zero(gaps) if gaps.negative else _toward_zero(gaps)


def _to_odd(gaps: Gaps) -> Boundaries:
    odd = gaps.upper_rank % 2 == 1
    return _at(np.where(odd, gaps.lower, gaps.upper), ~odd)


def _residual(gaps: Gaps) -> Boundaries:
    """Place the boundary of the source's two-step rule (arXiv 2506.00486 v3; section 4 of the specification).

    Both neighbours are ``c + s * 2**-j`` for one power of two c, or c itself. The second step rounds the logarithm of
    the residual, so the boundary lies at the geometric mean of the two residuals; the last step, from the residual
    2**-j to none, at ``2**-j / sqrt(2)``. Below the smallest value it is the midpoint.
    """
    lower, upper = gaps.lower, gaps.upper
    # The power of two nearest to both on the logarithmic scale: 1.5 and what follows belong to the next one.
    fraction, exponent = np.frexp(lower)
    centre = np.ldexp(0.5, exponent + (fraction >= 0.75))
    inner, outer = (
        np.minimum(abs(lower - centre), abs(upper - centre)),
        np.maximum(abs(lower - centre), abs(upper - centre)),
    )
    # sqrt(inner * outer) with outer = 2 * inner; or outer / sqrt(2).
    root = np.where(inner > 0, inner, outer / 2)
    first = lower == 0
    point = np.where(first, upper / 2, centre)
    return _at(point, False)._replace(root=np.where(first, 0.0, np.where(upper > centre, root, -root)))


_RULES: dict[RoundingMode, Callable[[Gaps], Boundaries]] = {
    RoundingMode.NEAREST_EVEN: _nearest_even,
    RoundingMode.NEAREST_AWAY: _nearest_away,
    RoundingMode.TOWARD_ZERO: _toward_zero,
    RoundingMode.UP: _up,
    RoundingMode.DOWN: _down,
    RoundingMode.TO_ODD: _to_odd,
    RoundingMode.RESIDUAL: _residual,
    # The neighbour below is found by truncation; the random word decides (see `thresholds.stochastic_table`).
    RoundingMode.STOCHASTIC: _toward_zero,
}
_NEAREST = (RoundingMode.NEAREST_EVEN, RoundingMode.NEAREST_AWAY)


@lru_cache(maxsize=256)
def place(fmt: Format, mode: RoundingMode, negative: bool) -> Boundaries:
    """Return where each magnitude of a side goes up to the next, the overflow boundary last if there is one.

    Parameters
    ----------
    fmt : Format
        The format.
    mode : RoundingMode
        The mode; for ``stochastic`` the boundaries of truncation.
    negative : bool
        Which side. Below the zero of an unsigned format the grid goes on by one step, as above it.

    Returns
    -------
    Boundaries
        One for each rank but the first; one more if the grid goes on beyond the largest value.

    Examples
    --------
    >>> import rf8sim
    >>> from rf8sim import RoundingMode
    >>> float(place(rf8sim.get_format("rf8"), RoundingMode.NEAREST_EVEN, False).point[-1])
    1.625
    """
    side = fmt.sides[negative]
    grid = np.append(side.magnitudes, side.beyond) if math.isfinite(side.beyond) else side.magnitudes
    if negative and not fmt.signed and fmt.zero is not None:
        grid = fmt.sides[0].magnitudes[:2]
    gaps = Gaps(grid[:-1], grid[1:], np.arange(1, grid.size), negative, fmt.ties_away)
    placed = _RULES[mode](gaps)
    if fmt.nearest_boundaries is not None and mode in _NEAREST:
        given = np.array(fmt.nearest_boundaries, dtype=np.float64)
        if given.size != grid.size - 1:
            raise ValueError(
                f"format {fmt.name!r}: {grid.size - 1} boundaries of the nearest modes expected, got {given.size}"
            )
        given[0] = 0.0  # no nonzero number is rounded to zero
        inclusive = placed.inclusive.copy()
        inclusive[0] = False
        placed = _at(given, inclusive)
    for column in placed:
        column.flags.writeable = False
    return placed


@lru_cache(maxsize=256)
def boundaries(fmt: Format, mode: RoundingMode, negative: bool) -> tuple[Boundary, ...]:
    """Return the same, each as an exact number.

    Examples
    --------
    >>> import rf8sim
    >>> from rf8sim import RoundingMode
    >>> boundaries(rf8sim.get_format("rf8"), RoundingMode.NEAREST_EVEN, False)[-1]
    Boundary(rational=Fraction(13, 8), root=Fraction(0, 1), inclusive=False)
    """
    return place(fmt, mode, negative).exactly()
