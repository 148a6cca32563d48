"""What the wires of a design carry: codes of a format, floating-point or fixed-point numbers, plain bits."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.codec import whole_table
from ...formats import FloatLayout, Format, get_format, get_layout
from ...formats.floats import ARRAY_LAYOUTS
from ...reference import Number

__all__ = [
    "EXHAUSTIVE_BITS",
    "Bits",
    "Codes",
    "Fixed",
    "Float",
    "Kind",
    "Patterns",
    "Port",
    "Relation",
    "get_kind",
    "unsigned",
]

Patterns = NDArray[np.unsignedinteger[Any]]
"""Bit patterns, one a vector; of an operand of several lanes, of shape (vectors, lanes)."""

_WIDEST_LAYOUT = 32  # bits of a float that has no dtype

EXHAUSTIVE_BITS = 16
"""Operands of at most so many bits together are asked in all combinations."""


def unsigned(bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the narrowest unsigned dtype of at least that many bits, at most 64."""
    return np.dtype(next(f"u{size}" for size in (1, 2, 4, 8) if bits <= 8 * size))


@dataclass(frozen=True)
class Kind:
    """How the bits of one lane are read; its kinds are below.

    Attributes
    ----------
    name : str
        As the command line and manifests write it.
    bits : int
        Width.
    """

    name: str
    bits: int

    def values(self, patterns: Patterns) -> NDArray[np.float64]:
        """Return the numbers that patterns stand for; rounded to odd if they need more than 53 bits."""
        return patterns.astype(np.float64)

    def number(self, pattern: int) -> Number:
        """Return what one pattern stands for, exactly."""
        value = float(self.values(np.array([pattern], unsigned(self.bits)))[0])
        return Fraction(value) if math.isfinite(value) and value != 0 else value

    def is_nan(self, patterns: Patterns) -> NDArray[np.bool_]:
        """Say which patterns are not numbers."""
        return np.isnan(self.values(patterns))


@dataclass(frozen=True)
class Codes(Kind):
    """Codes of a format."""

    format: Format

    def values(self, patterns: Patterns) -> NDArray[np.float64]:
        """Look the values up."""
        values: NDArray[np.float64] = whole_table(self.format.values)[patterns]
        return values


@dataclass(frozen=True)
class Float(Kind):
    """Patterns of a binary floating-point layout."""

    layout: FloatLayout

    def values(self, patterns: Patterns) -> NDArray[np.float64]:
        """Widen."""
        if self.layout.dtype is None:
            return self.layout.values(patterns)
        with np.errstate(invalid="ignore"):  # a signalling NaN
            values: NDArray[np.float64] = np.ascontiguousarray(patterns).view(self.layout.dtype).astype(np.float64)
        return values

    def patterns(self, values: NDArray[np.float64]) -> Patterns:
        """Return the patterns of numbers, NaN the quiet one; raise ValueError if one is not a number of this type."""
        dtype = self.layout.dtype
        if dtype is None:
            raise ValueError(f"{self.name} is a result that is rounded: decode into float32 or float64")
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = np.where(np.isnan(values), np.nan, values).astype(dtype)
            same = (narrow.astype(np.float64) == values) | np.isnan(values)
        if not same.all():
            value = float(values[~same].flat[0])
            wider = "float64" if self.bits >= 32 else "float32"
            raise ValueError(f"{value!r} is not a {self.name} number: choose a wider result, such as {wider}")
        return narrow.view(unsigned(self.bits))


@dataclass(frozen=True)
class Fixed(Kind):
    """Fixed point in two's complement: ``integer`` bits, the sign's included, and ``fraction`` bits.

    ``fixed:2.19`` is VHDL's ``sfixed(1 downto -19)``, ``ufixed:2.19`` its ``ufixed``.
    """

    fraction: int
    signed: bool

    def integers(self, patterns: Patterns) -> NDArray[np.int64]:
        """Return the patterns as integers in units of the last place; those of 64 unsigned bits wrap around."""
        raw = patterns.astype(np.uint64)
        if self.signed:
            up = np.uint64(64 - self.bits)
            return (raw << up).view(np.int64) >> np.int64(64 - self.bits)
        return raw.view(np.int64)

    def values(self, patterns: Patterns) -> NDArray[np.float64]:
        """Scale the integers."""
        integers = self.integers(patterns)
        negative = (integers < 0) & self.signed
        magnitude = np.where(negative, -integers, integers).view(np.uint64)
        # Of more than 53 bits the lowest say only whether they are zero: that is rounding to odd.
        length = np.frexp((magnitude >> np.uint64(11)).astype(np.float64))[1] + 11
        cut = np.maximum(length - 53, 0).astype(np.uint64)
        kept = magnitude >> cut
        odd = np.where(magnitude >> np.uint64(53) == 0, magnitude, (kept | (kept << cut != magnitude)) << cut)
        values: NDArray[np.float64] = np.ldexp(np.where(negative, -1.0, 1.0) * odd.astype(np.float64), -self.fraction)
        return values

    def number(self, pattern: int) -> Number:
        """Return what one pattern stands for, exactly."""
        integer = pattern - (1 << self.bits) if self.signed and pattern >> (self.bits - 1) else pattern
        return Fraction(integer) / 2**self.fraction if integer else 0.0

    def patterns(self, values: NDArray[np.float64]) -> Patterns:
        """Return the patterns of finite numbers; raise ValueError if one is too large or too fine."""
        scaled = np.ldexp(values, self.fraction)
        low, high = (-(2.0 ** (self.bits - 1)), 2.0 ** (self.bits - 1)) if self.signed else (0.0, 2.0**self.bits)
        bad = (scaled != np.rint(scaled)) | (scaled < low) | (scaled >= high)
        if bad.any():
            raise ValueError(f"{float(values[bad].flat[0])!r} is not a number of {self.name}: choose more bits")
        if not self.signed:
            return scaled.astype(np.uint64).astype(unsigned(self.bits))
        return self.wrapped(scaled.astype(np.int64))

    def wrapped(self, integers: NDArray[np.int64]) -> Patterns:
        """Return the patterns of integers in units of the last place, modulo 2**bits."""
        mask = np.uint64((1 << self.bits) - 1)
        return (integers.view(np.uint64) & mask).astype(unsigned(self.bits))


@dataclass(frozen=True)
class Bits(Kind):
    """Plain bits: a random word, a control signal."""


@dataclass(frozen=True)
class Relation(Kind):
    """How two numbers compare, one bit each: less 1, equal 2, greater 4, unordered 8."""

    def patterns(self, order: NDArray[Any]) -> Patterns:
        """Return the patterns of -1 (less), 0 (equal), 1 (greater) and 2 (unordered)."""
        return (np.uint8(1) << (order + 1).astype(np.uint8)).astype(np.uint8)

    def words(self, pattern: int) -> str:
        """Return the names of the bits that are set."""
        names = ("less", "equal", "greater", "unordered")
        return " and ".join(name for bit, name in enumerate(names) if pattern >> bit & 1) or "nothing"


@dataclass(frozen=True)
class Port:
    """An operand or a result: its name, what each lane carries, and how many lanes there are.

    Lane 0 is in the least significant bits, as in SystemVerilog's ``[lanes-1:0][bits-1:0]``.
    """

    name: str
    kind: Kind
    lanes: int = 1

    @property
    def bits(self) -> int:
        """Width of all lanes."""
        return self.kind.bits * self.lanes

    @property
    def digits(self) -> int:
        """Hexadecimal digits of a field: enough for all bits."""
        return -(-self.bits // 4)


def _layout(name: str) -> FloatLayout | None:
    """Return the layout of a float that is no format of at most 16 bits, or that arrays have; None if it is neither."""
    if name in ARRAY_LAYOUTS:
        return ARRAY_LAYOUTS[name]
    if name != "tf32" and re.fullmatch(r"e\d+m\d+", name) is None:
        return None
    try:
        layout = get_layout(name)
    except ValueError:
        return None
    return layout if 16 < layout.bits <= _WIDEST_LAYOUT else None


def get_kind(name: str | Format) -> Kind:
    """Return the kind of a name.

    Parameters
    ----------
    name : str or Format
        A format; ``float16``, ``bfloat16``, ``float32``, ``float64``, ``tf32``, or ``e{E}m{M}`` of 17 to 32 bits;
        ``fixed:I.F`` or ``ufixed:I.F`` with I integer bits (the sign's included) and F fraction bits, at most 64;
        ``int32`` and other integers of more than 16 bits, which are ``fixed:32.0``.

    Returns
    -------
    Kind
        The kind.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> get_kind("fixed:2.19").bits, get_kind("bfloat16").bits, get_kind("rf8").name
    (21, 16, 'rf8')
    >>> get_kind("tf32").bits, get_kind("e8m13").bits, get_kind("int32").name
    (19, 22, 'fixed:32.0')
    >>> float(get_kind("fixed:2.2").values(np.array([0xF], np.uint8))[0])
    -0.25
    """
    if isinstance(name, str):
        layout = _layout(name)
        if layout is not None:
            return Float(layout.name, layout.bits, layout)
        integer = re.fullmatch(r"(u?)int(\d+)", name)
        if integer is not None and 16 < int(integer[2]) <= 64:
            name = f"{integer[1]}fixed:{integer[2]}.0"
        if name.split(":")[0] in ("fixed", "ufixed"):
            match = re.fullmatch(r"u?fixed:(\d+)\.(\d+)", name)
            width = sum(map(int, match.groups())) if match else 0
            if match is None or not 1 <= width <= 64:
                raise ValueError(
                    f"fixed point is written fixed:I.F or ufixed:I.F, I integer and F fraction bits, 1 to 64 together, "
                    f"such as fixed:2.19; got {name!r}"
                )
            return Fixed(name, width, int(match[2]), name[0] != "u")
    fmt = get_format(name)
    return Codes(fmt.name, fmt.bits, fmt)
