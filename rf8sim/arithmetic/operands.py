"""The operands of a matrix product: codes with the values of their format, or numbers, and what their values allow."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base.checks import as_codes
from ..codec.codec import whole_table
from ..formats import Format, get_format, get_layout
from ..formats.floats import ARRAY_LAYOUTS
from .accumulators import Accumulator

__all__ = [
    "FLOAT32_DTYPES", "SLICE_BITS", "Grid", "Operand", "as_operand", "exponents_of", "get_operand", "grid_of",
    "nibble_tables", "table_of",
]  # fmt: skip

Array = NDArray[np.float64]

_FLOAT32 = "float32"
_NO_EXPONENT = -1000  # of a zero: a product with one has less than any other
_SMALLEST_NORMAL = 2.0**-126  # of float32 numbers

FLOAT32_DTYPES = frozenset(name for name, layout in ARRAY_LAYOUTS.items() if layout.exact_in(get_layout(_FLOAT32)))
"""Names of the dtypes whose numbers are float32 numbers."""

SLICE_BITS = 20
"""Bits of a slice of a value: 2**13 products of two slices sum exactly in float64."""


class Grid(NamedTuple):
    """Of a set of numbers: all are multiples of ``2**unit``, below ``2**(unit + bits)``, with that many digits."""

    unit: int
    bits: int
    digits: int

    def slices(self, values: Array) -> list[Array]:
        """Cut numbers into parts of at most 20 bits that sum to them; the highest part first."""
        count = max(-(-self.bits // SLICE_BITS), 1)
        width = -(-self.bits // count)
        parts, rest = [], values
        for place in range(count - 1, 0, -1):
            step = math.ldexp(1.0, self.unit + place * width)
            parts.append(np.trunc(rest / step) * step)
            rest = rest - parts[-1]
        return [*parts, rest]


def _grid(values: Array) -> Grid:
    fraction, exponent = np.frexp(np.abs(values[np.isfinite(values) & (values != 0)]))
    if not fraction.size:
        return Grid(0, 1, 1)
    integer = (fraction * 2.0**53).astype(np.int64)
    zeros = np.bitwise_count((integer & -integer) - 1).astype(np.int64)
    digits = 53 - zeros
    unit = int((exponent - digits).min())
    return Grid(unit, int(exponent.max()) - unit, int(digits.max()))


def grid_of(accumulator: Accumulator) -> tuple[int, int]:
    """Of the values of a float or a format: all are multiples of ``2**unit``, below ``2**(unit + bits)``."""
    if accumulator.floating is not None:
        unit = accumulator.floating.emin - accumulator.floating.mantissa_bits
        return unit, accumulator.floating.emax + 1 - unit
    assert accumulator.format is not None
    return table_of(accumulator.format)[1][:2]


class Operand(NamedTuple):
    """A matrix (or a stack of them): codes and the values of their format, or float32 numbers."""

    data: NDArray[Any]
    table: Array | None
    grid: Grid
    parts: tuple[Array, ...]
    format: Format | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data."""
        return self.data.shape

    def along(self, start: int, stop: int, axis: int) -> Operand:
        """Return a slice along an axis."""
        return self._replace(data=self.data[:, start:stop] if axis else self.data[start:stop])

    def values(self) -> Array:
        """Return the numbers."""
        return self.data.astype(np.float64) if self.table is None else self.table[self.data]

    def exponents(self) -> NDArray[np.int16]:
        """Return the exponents that an adder of products sees: a subnormal's is that of the smallest normal number."""
        if self.format is not None:
            exponents: NDArray[np.int16] = _exponents(self.format)[self.data]
            return exponents
        return exponents_of(self.data.astype(np.float64), _SMALLEST_NORMAL)

    @property
    def smallest_normal(self) -> float:
        """Return the smallest magnitude that is not subnormal; a format without any has its smallest."""
        return _SMALLEST_NORMAL if self.format is None else self.format.subnormals_below or self.format.smallest

    def slices(self) -> list[Array]:
        """Return the finite values cut into parts whose products sum exactly in float64; zero parts left out."""
        parts = self.grid.slices(self.finite()) if self.table is None else [part[self.data] for part in self.parts]
        return [part for part in parts if part.any()] or parts[:1]

    def finite(self) -> Array:
        """Return the numbers, zero in the place of those that are not finite."""
        values = self.data.astype(np.float64) if self.table is None else self.table
        values = np.where(np.isfinite(values), values, 0.0)
        return values if self.table is None else values[self.data]

    def bits_along(self, axis: int) -> NDArray[np.int64]:
        """Return the bits of all finite values of each row (``axis`` 1) or column (0) as integers of one unit."""
        top, unit = _digits(self.values()) if self.format is None else _digits_of(self.format)
        if self.format is not None:
            top, unit = top[self.data], unit[self.data]
        highest, lowest = top.max(axis=axis), unit.min(axis=axis)
        bits: NDArray[np.int64] = np.maximum(highest.astype(np.int64) - lowest, 0)
        return bits

    def signs(self) -> Array | None:
        """Return the signs of finite values and the other values as they are; None if all are finite.

        Sums of products of these are not finite where IEEE arithmetic's are not: infinity times zero is NaN.
        """
        finite = np.isfinite(self.data if self.table is None else self.table)
        if finite.all() or (self.table is not None and finite[self.data].all()):
            return None
        values = self.values()
        return np.where(np.isfinite(values), np.sign(values), values)


def _digits(values: Array) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the exponents above the first digits of numbers and those of their last digits; none of zero and NaN."""
    some = np.isfinite(values) & (values != 0)
    fraction, exponent = np.frexp(np.abs(np.where(some, values, 1.0)))
    integer = (fraction * 2.0**53).astype(np.int64)
    last = np.bitwise_count((integer & -integer) - 1).astype(np.int64) + exponent - 53
    top, unit = np.where(some, exponent, _NO_EXPONENT), np.where(some, last, -_NO_EXPONENT)
    return top.astype(np.int16), unit.astype(np.int16)


@lru_cache(maxsize=64)
def _digits_of(fmt: Format) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    return _digits(whole_table(fmt.values))


def exponents_of(values: Array, smallest_normal: float) -> NDArray[np.int16]:
    """Return exponents of numbers, at least that of the smallest normal one; that of zero is below any other.

    Examples
    --------
    >>> exponents_of(np.array([6.0, 2.0**-20, 0.0]), 2.0**-6).tolist()
    [2, -6, -1000]
    """
    finite = np.where(np.isfinite(values), values, 1.0)
    exponent = np.frexp(np.maximum(np.abs(finite), smallest_normal))[1] - 1
    return np.where(values == 0, _NO_EXPONENT, exponent).astype(np.int16)


@lru_cache(maxsize=64)
def _exponents(fmt: Format) -> NDArray[np.int16]:
    return exponents_of(whole_table(fmt.values), fmt.subnormals_below or fmt.smallest)


@lru_cache(maxsize=64)
def table_of(fmt: Format) -> tuple[Array, Grid, tuple[Array, ...]]:
    """Return the values of a format's codes, their grid, and their slices."""
    values = whole_table(fmt.values)
    grid = _grid(values)
    return values, grid, tuple(grid.slices(np.where(np.isfinite(values), values, 0.0)))


@lru_cache(maxsize=64)
def nibble_tables(fmt: Format) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Return lower and upper bytes by which `matvec_nibbles` decodes a format; None if it cannot.

    It can if code 0 is zero, 0x80 the only NaN, and the upper half of each other value's float32 pattern is a number
    that the lower four bits of the code choose, plus the next three bits at bit 8, plus the sign.
    """
    if fmt.bits != 8:
        return None
    pattern = fmt.values.astype(np.float32).view(np.uint32)
    code = np.arange(256, dtype=np.uint32)
    chosen = (pattern >> 16)[0x10:0x20] - (1 << 8)
    made = ((chosen[code & 15] + ((code >> 4 & 7) << 8)) | (code & 0x80) << 8) << 16
    ordinary = (code != 0) & (code != 0x80)
    if fmt.nan != 0x80 or pattern[0] != 0 or not np.array_equal(made[ordinary], pattern[ordinary]):
        return None
    return np.tile(chosen.astype(np.uint8), 2), np.tile((chosen >> 8).astype(np.uint8), 2)


def get_operand(x: ArrayLike, fmt: str | Format) -> Operand:
    """Return codes of a format, or numbers for ``"float32"``, as an operand.

    Raises
    ------
    ValueError
        If the format is unknown or a code is out of range.
    TypeError
        If the codes are not integers, or the numbers not float32, float16 or bfloat16.
    """
    if isinstance(fmt, str) and fmt == _FLOAT32:
        array = np.asarray(x)
        if array.dtype.name not in FLOAT32_DTYPES:
            raise TypeError(f"format 'float32' expects float32 numbers, got dtype {array.dtype.name}: convert first")
        with np.errstate(invalid="ignore"):  # signalling NaNs, which become quiet: casts of them warn
            data = array.astype(np.float32)
        data[np.isnan(data)] = np.nan
        return Operand(data, None, _grid(data.astype(np.float64)), ())
    fmt = get_format(fmt)
    table, grid, parts = table_of(fmt)
    return Operand(as_codes(x, fmt.bits, fmt.name), table, grid, parts, fmt)


def as_operand(values: Array) -> Operand:
    """Return float64 numbers as an operand."""
    return Operand(values, None, _grid(values), ())
