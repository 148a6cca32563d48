"""What a number format is: a name and the exact value of each of its codes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._base import display as _display

__all__ = ["PRECISION", "REACH", "Format", "Side"]

PRECISION = 24
"""Significant bits of a value: the product of two has at most 48."""
REACH = 500
"""The largest magnitude of a binary exponent: products of two values neither overflow nor lose bits in float64."""


class Side(NamedTuple):
    """The values of one sign, as rounding sees them.

    Attributes
    ----------
    magnitudes : ndarray of float64
        Ascending magnitudes of the finite values of that sign, zero first where the format has one.
        A magnitude's place in this array is its *rank* (section 2 of the RF8 specification); the rank decides ties.
    codes : ndarray of uint8 or uint16
        The canonical code of each magnitude.
    beyond : float
        The next magnitude of the unbounded grid, ``inf`` where there is none (posits, quantile tables).
    infinity : int or None
        The code of the infinity of that sign.
    """

    magnitudes: NDArray[np.float64]
    codes: NDArray[Any]
    beyond: float
    infinity: int | None


@dataclass(frozen=True, eq=False)
class Format:
    """An immutable number format of at most 16 bits: a table from code to value.

    Everything else (ranks, canonical codes, ranges) is derived from the table, so a new format is one table.
    Every finite value is a float64 number of at most `PRECISION` significant bits and of a magnitude from
    2**-`REACH` to 2**`REACH`, so that the product of two values is exact in float64.

    Parameters
    ----------
    name : str
        Lower-case name, as used by every function and command.
    bits : int
        Width of a code, 1 to 16.
    family : str
        The family of the format: ``residual``, ``minifloat``, ``p3109``, ``hifloat``, ``integer``, ``fixed point``,
        ``posit``, ``takum``, ``logarithmic``, ``quantile``, ``user``.
    description : str
        One line for people.
    values : ndarray of float64, shape (2**bits,)
        The value of each code, NaN and infinities included.
    beyond : float
        The next magnitude of the unbounded grid above the largest positive value; it places the overflow threshold.
        ``inf`` if the grid has no continuation.
    beyond_negative : float, optional
        The same for the negative side; by default the same magnitude.
    nan : int, optional
        The canonical NaN code; by default the smallest NaN code of the table.
    nearest_boundaries : tuple of float, optional
        For formats whose standard fixes where the nearest modes round: the boundary between each pair of
        neighbours of the positive side. Such a format never rounds a nonzero value to zero and never
        overflows from a finite input (the Posit Standard 2022, section 4.1).
    subnormals_below : float, optional
        Where the grid ends to be as fine as it should be: an inexact result below this underflows. By default the
        smallest positive value; 0 for formats that have no underflow.
    ties_away : bool
        Whether the mode nearest-even sends a tie to the larger magnitude, as IEEE 754-2019 4.3.1 has it for a
        precision of one digit, where neither neighbour is even.
    depth : int, optional
        Of the RF family: how far apart the two powers of two of a value can be. Rounding `residual` needs it.

    Raises
    ------
    ValueError
        If the table has the wrong length, or a value is out of these bounds.

    Examples
    --------
    >>> import rf8sim
    >>> rf8 = rf8sim.get_format("rf8")
    >>> rf8.max, rf8.smallest, rf8.nan, rf8.zero
    (1.5, 2.6702880859375e-05, 128, 0)
    """

    name: str
    bits: int
    family: str
    description: str
    values: NDArray[np.float64] = field(repr=False)
    beyond: float = math.inf
    beyond_negative: float | None = None
    nan: int | None = None
    nearest_boundaries: tuple[float, ...] | None = field(default=None, repr=False)
    subnormals_below: float | None = None
    ties_away: bool = False
    depth: int | None = None

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        if not 1 <= self.bits <= 16:
            raise ValueError(f"format {self.name!r}: a format has 1 to 16 bits, got {self.bits}")
        if values.shape != (1 << self.bits,):
            raise ValueError(
                f"format {self.name!r}: a format of {self.bits} bits needs a table of {1 << self.bits} values, got "
                f"shape {values.shape}"
            )
        self._check_finite(values[np.isfinite(values)])
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        nans = np.flatnonzero(np.isnan(values))
        if self.nan is None and nans.size:
            object.__setattr__(self, "nan", int(nans[0]))
        elif self.nan is not None and self.nan not in nans:
            raise ValueError(f"format {self.name!r}: code {self.nan} is given as NaN, but its value is not NaN")

    def _check_finite(self, finite: NDArray[np.float64]) -> None:
        if finite.size == 0:
            raise ValueError(f"format {self.name!r}: it needs at least one finite value")
        fraction, exponent = np.frexp(finite[finite != 0])
        wide = np.ldexp(fraction, PRECISION) % 1 != 0
        if wide.any():
            value = float(finite[finite != 0][wide][0])
            raise ValueError(
                f"format {self.name!r}: a value has at most {PRECISION} significant bits, got {value!r}: round the "
                "table to float32"
            )
        if exponent.size and not -REACH < exponent.min() <= exponent.max() <= REACH:
            raise ValueError(
                f"format {self.name!r}: values lie between 2**-{REACH} and 2**{REACH}, got some from 2**"
                f"{int(exponent.min()) - 1} to 2**{int(exponent.max())}: use fewer exponent bits or another bias"
            )

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and self.key == other.key

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What makes two formats the same: the name, the table and the rules of its edges."""
        values = np.where(np.isnan(self.values), np.nan, self.values)  # whichever bits a NaN has
        return (
            self.name, self.bits, values.tobytes(), self.beyond, self.beyond_negative, self.nan,
            self.nearest_boundaries, self.subnormals_below, self.ties_away, self.depth,
        )  # fmt: skip

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """The dtype of codes: uint8 up to 8 bits, uint16 above."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16)

    @cached_property
    def fits_float32(self) -> bool:
        """Whether every finite value is a float32 number, so that decoding to float32 is exact."""
        finite = self.values[np.isfinite(self.values)]
        with np.errstate(over="ignore"):
            return bool(np.array_equal(finite, finite.astype(np.float32).astype(np.float64)))

    @cached_property
    def signed(self) -> bool:
        """Whether any value is negative."""
        return bool(np.any(self.values < 0))

    @cached_property
    def zero(self) -> int | None:
        """The code of zero (of +0 where there are two), or None."""
        codes = np.flatnonzero((self.values == 0) & ~np.signbit(self.values))
        return int(codes[0]) if codes.size else None

    @cached_property
    def negative_zero(self) -> int | None:
        """The code of -0, or None."""
        codes = np.flatnonzero((self.values == 0) & np.signbit(self.values))
        return int(codes[0]) if codes.size else None

    @cached_property
    def canonical(self) -> NDArray[Any]:
        """The canonical code of each code, shape (2**bits,): the smallest code of the same value."""
        patterns = self.values.view(np.uint64)  # so that -0 is not 0
        _, first, index = np.unique(patterns, return_index=True, return_inverse=True)
        codes = first[index].astype(self.code_dtype)
        if self.nan is not None:
            codes[np.isnan(self.values)] = self.nan
        codes.flags.writeable = False
        return codes

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        """The positive and the negative side. An unsigned format's negative side is its smallest value alone."""
        return self._side(False), self._side(True)

    def _side(self, negative: bool) -> Side:
        canonical = np.unique(self.canonical)
        values = self.values[canonical]
        infinite = canonical[np.isinf(values) & (np.signbit(values) == negative)]
        infinity = int(infinite[0]) if infinite.size else None
        if negative and not self.signed:
            lowest = self.lowest_code
            return Side(np.abs(self.values[[lowest]]), np.array([lowest], self.code_dtype), math.inf, None)
        keep = np.isfinite(values) & (values != 0) & (np.signbit(values) == negative)
        magnitudes, codes = np.abs(values[keep]), canonical[keep]
        zero = self.negative_zero if negative and self.negative_zero is not None else self.zero
        if zero is not None:
            magnitudes, codes = np.append(magnitudes, 0.0), np.append(codes, self.code_dtype.type(zero))
        order = np.argsort(magnitudes, kind="stable")
        beyond = self.beyond_negative if negative and self.beyond_negative is not None else self.beyond
        return Side(magnitudes[order], codes[order].astype(self.code_dtype), beyond, infinity)

    @cached_property
    def divides_by_zero(self) -> bool:
        """Whether a number over zero is infinite: not without infinity, nor in IEEE P3109, whose zero has no sign."""
        return self.sides[0].infinity is not None and self.family != "p3109"

    @cached_property
    def lowest_code(self) -> int:
        """The canonical code of the lowest finite value."""
        finite = np.where(np.isfinite(self.values), self.values, np.inf)
        return int(self.canonical[int(np.argmin(finite))])

    @cached_property
    def rank(self) -> NDArray[np.int32]:
        """The rank of each code, shape (2**bits,): its magnitude's place on its side; -1 for NaN and infinities."""
        ranks = np.full(self.values.size, -1, dtype=np.int32)
        for side in self.sides:
            ranks[side.codes] = np.arange(side.codes.size)
        by_code: NDArray[np.int32] = ranks[self.canonical]
        return by_code

    @cached_property
    def max(self) -> float:
        """The largest finite value."""
        return float(np.max(self.values[np.isfinite(self.values)]))

    @cached_property
    def min(self) -> float:
        """The lowest finite value."""
        return float(np.min(self.values[np.isfinite(self.values)]))

    @cached_property
    def smallest(self) -> float:
        """The smallest positive value."""
        return float(np.min(self.values[np.isfinite(self.values) & (self.values > 0)]))

    @cached_property
    def count(self) -> int:
        """The number of different finite values (+0 and -0 are one)."""
        return int(np.unique(self.values[np.isfinite(self.values)]).size)

    @property
    def octaves(self) -> float:
        """Dynamic range in octaves: log2 of the largest over the smallest positive value."""
        return math.log2(self.max / self.smallest)

    def _repr_html_(self) -> str:
        rows = [
            ("bits", self.bits),
            ("family", self.family),
            ("values", self.count),
            ("largest", f"{self.max:g}"),
            ("smallest above zero", f"{self.smallest:g}"),
            ("octaves", f"{self.octaves:.2f}"),
            ("NaN", "none" if self.nan is None else f"{self.nan:#0{2 + (self.bits + 3) // 4}x}"),
        ]
        return _display.facts(f"{self.name}: {self.description}", rows)
