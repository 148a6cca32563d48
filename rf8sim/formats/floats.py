"""The table of binary floating-point layouts: what a float is, one line of data each.

A layout says how many exponent and mantissa bits a float has, where its exponents are centred and which patterns are
not numbers. Everything else (widths, ranges, masks, the pattern of infinity, the dtypes that hold it) is derived here
and nowhere else. A layout is no table of values, so it may be wide: it describes inputs, accumulators and results. The
codes that weights are stored in are a `Format`.

To add a float, add a line to ``_TABLE``. ``e{E}m{M}`` is IEEE 754's way with any E and M, without a line.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .._base.checks import suggestion

__all__ = [
    "ARRAY_LAYOUTS", "SAFETENSORS_LAYOUTS", "FloatLayout", "Specials", "get_layout", "layout_names", "layouts",
    "magnitude_values",
]  # fmt: skip

_WIDEST_EXPONENT, _WIDEST_MANTISSA = 11, 52  # float64 holds every number


class Specials(StrEnum):
    """Which patterns are infinities and NaN.

    Examples
    --------
    >>> get_layout("e4m3fn").specials
    <Specials.ALL_ONES_NAN: 'all-ones-nan'>
    """

    IEEE = "ieee"
    """An exponent field of ones: infinity if the mantissa is zero, else NaN."""
    ALL_ONES_NAN = "all-ones-nan"
    """No infinity; NaN is all ones, exponent and mantissa (OCP E4M3, E8M0)."""
    NEGATIVE_ZERO_NAN = "negative-zero-nan"
    """No infinity and no negative zero: its pattern is the NaN (the ``fnuz`` types)."""
    P3109 = "p3109"
    """IEEE P3109: infinity is all ones, exponent and mantissa; NaN is where negative zero would be."""
    NONE = "none"
    """Every pattern is a number (OCP's types of 6 and 4 bits)."""


@dataclass(frozen=True)
class FloatLayout:
    """A binary floating-point layout: sign, exponent field, mantissa field, from the highest bit down.

    Parameters
    ----------
    name : str
        Lower-case name.
    exponent_bits : int
        Width of the exponent field, 1 to 11.
    mantissa_bits : int
        Width of the mantissa field, the hidden bit not counted, 0 to 52.
    extra_bias : int
        What the bias has beyond IEEE 754's ``2**(exponent_bits - 1) - 1``.
    specials : Specials
        Which patterns are infinities and NaN.
    signed : bool
        Whether there is a sign bit.
    subnormals : bool
        Whether an exponent field of zero means zero and subnormals. Without, it is one more binade, and there is no
        zero (E8M0).
    safetensors_name : str or None
        The dtype in a safetensors header.

    Raises
    ------
    ValueError
        If a width is out of range, or the mantissa too narrow for infinity and NaN.

    Examples
    --------
    >>> tf32 = get_layout("tf32")
    >>> tf32.bits, tf32.precision, tf32.emax, tf32.emin, tf32.max == get_layout("float32").max
    (19, 11, 127, -126, False)
    >>> half = FloatLayout("half", 5, 10)
    >>> half.max, half.smallest_normal == 2.0**-14, hex(half.infinity)
    (65504.0, True, '0x7c00')
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    extra_bias: int = 0
    specials: Specials = Specials.IEEE
    signed: bool = True
    subnormals: bool = True
    safetensors_name: str | None = None

    def __post_init__(self) -> None:
        ieee = self.specials is Specials.IEEE
        exponents, mantissas = range(1 + ieee, _WIDEST_EXPONENT + 1), range(ieee, _WIDEST_MANTISSA + 1)
        if self.exponent_bits not in exponents or self.mantissa_bits not in mantissas:
            raise ValueError(
                f"float layout {self.name!r}: expected {exponents[0]} to {exponents[-1]} exponent bits and "
                f"{mantissas[0]} to {mantissas[-1]} mantissa bits"
            )

    # --- widths and exponents

    @property
    def bits(self) -> int:
        """Width of a pattern."""
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def precision(self) -> int:
        """Bits of a significand, the hidden one counted."""
        return self.mantissa_bits + 1

    @property
    def bias(self) -> int:
        """What the exponent field of 1.0 holds."""
        return (1 << (self.exponent_bits - 1)) - 1 + self.extra_bias

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        return self.subnormals - self.bias

    @property
    def emax(self) -> int:
        """Exponent of the largest finite number."""
        return (self.largest_pattern >> self.mantissa_bits) - self.bias

    # --- patterns

    @property
    def sign_mask(self) -> int:
        """Pattern of the sign bit; 0 without one."""
        return self.signed << (self.bits - 1)

    @property
    def magnitude_mask(self) -> int:
        """Pattern of all other bits."""
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def mantissa_mask(self) -> int:
        """Pattern of the mantissa field."""
        return (1 << self.mantissa_bits) - 1

    @property
    def has_infinity(self) -> bool:
        """Whether there are infinities."""
        return self.specials in (Specials.IEEE, Specials.P3109)

    @property
    def infinity(self) -> int:
        """Pattern of positive infinity; ValueError without one."""
        if not self.has_infinity:
            raise ValueError(f"float layout {self.name!r} has no infinity")
        return self.magnitude_mask - (self.mantissa_mask if self.specials is Specials.IEEE else 0)

    @property
    def nan(self) -> int | None:
        """Pattern of the quiet NaN; None without one."""
        if self.specials is Specials.IEEE:
            return self.infinity | 1 << (self.mantissa_bits - 1)
        if self.specials is Specials.ALL_ONES_NAN:
            return self.magnitude_mask
        return None if self.specials is Specials.NONE else self.sign_mask

    @property
    def largest_pattern(self) -> int:
        """Pattern of the largest finite number."""
        if self.has_infinity:
            return self.infinity - 1
        return self.magnitude_mask - (self.specials is Specials.ALL_ONES_NAN)

    # --- values

    @cached_property
    def max(self) -> float:
        """The largest finite number."""
        significand = (1 << self.mantissa_bits) + (self.largest_pattern & self.mantissa_mask)
        return math.ldexp(significand, self.emax - self.mantissa_bits)

    @property
    def smallest_normal(self) -> float:
        """The smallest positive normal number."""
        return math.ldexp(1.0, self.emin)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive number: of a layout without subnormals the smallest normal one."""
        return math.ldexp(1.0, self.emin - self.mantissa_bits * self.subnormals)

    def values(self, patterns: NDArray[Any]) -> NDArray[np.float64]:
        """Return the numbers that patterns stand for, exactly.

        Parameters
        ----------
        patterns : ndarray of integers
            Patterns of at most `bits` bits; higher bits are ignored.

        Returns
        -------
        ndarray of float64
            Of the same shape.

        Examples
        --------
        >>> get_layout("e8m13").values(np.array([0x0FE000, 0x1FE000, 0x2FE001])).tolist()
        [1.0, inf, -1.0001220703125]
        """
        raw = np.asarray(patterns).astype(np.uint64)
        magnitude = (raw & np.uint64(self.magnitude_mask)).astype(np.int64)
        value = magnitude_values(
            magnitude, self.mantissa_bits, self.bias, self.largest_pattern, subnormals=self.subnormals
        )
        if self.has_infinity:
            value[magnitude == self.infinity] = np.inf
        negative = raw & np.uint64(self.sign_mask) != 0
        value = np.where(negative, -value, value)
        if self.specials in (Specials.NEGATIVE_ZERO_NAN, Specials.P3109):
            value[negative & (magnitude == 0)] = np.nan
        return value

    def exact_in(self, other: FloatLayout) -> bool:
        """Return whether every finite number of this layout is one of the other.

        Examples
        --------
        >>> get_layout("tf32").exact_in(get_layout("float32")), get_layout("tf32").exact_in(get_layout("float16"))
        (True, False)
        """
        return (
            self.mantissa_bits <= other.mantissa_bits
            and self.max <= other.max
            and self.smallest_subnormal >= other.smallest_subnormal
        )

    # --- the dtypes that hold it

    @cached_property
    def pattern_dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The narrowest numpy dtype of unsigned integers that holds a pattern."""
        return np.dtype(next(f"u{size}" for size in (1, 2, 4, 8) if self.bits <= 8 * size))

    @property
    def dtype_name(self) -> str | None:
        """What numpy or ml_dtypes calls the dtype of these numbers; None if neither has it."""
        name = self.name if self.name.startswith(("float", "bfloat")) else f"float{self.bits}_{self.name}"
        return name if hasattr(np, name) or hasattr(ml_dtypes, name) else None

    @cached_property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of numpy or ml_dtypes; None if neither has it."""
        name = self.dtype_name
        return None if name is None else np.dtype(getattr(np, name, None) or getattr(ml_dtypes, name))

    @property
    def torch_name(self) -> str | None:
        """The name of PyTorch's dtype, such as ``float16``; None if it has none. It has those that safetensors has."""
        return None if self.safetensors_name is None else self.dtype_name


def magnitude_values(
    patterns: NDArray[np.int64],
    mantissa_bits: int,
    bias: int,
    largest: int,
    *,
    subnormals: bool = True,
    zero: bool = False,
) -> NDArray[np.float64]:
    """Return what an exponent field and the mantissa field below it stand for, NaN above the largest pattern.

    Parameters
    ----------
    patterns : ndarray of int64
        Patterns without their sign.
    mantissa_bits, bias : int
        Width of the mantissa field, and what the exponent field of 1.0 holds.
    largest : int
        The pattern of the largest finite number.
    subnormals : bool
        Whether an exponent field of zero means zero and subnormals. Without, it is one more binade.
    zero : bool
        Whether pattern 0 is zero there.

    Examples
    --------
    >>> magnitude_values(np.array([0, 1, 2, 3]), 1, 1, 2).tolist()
    [0.0, 0.5, 1.0, nan]
    """
    field, mantissa = patterns >> mantissa_bits, patterns & ((1 << mantissa_bits) - 1)
    hidden = field > 0 if subnormals else (patterns > 0) | (not zero)
    significand = mantissa + hidden * (1 << mantissa_bits)
    exponent = np.maximum(field, int(subnormals)) - bias - mantissa_bits
    # A field of ones may stand for no finite number: float64 has none of that size.
    finite = patterns <= largest
    value: NDArray[np.float64] = np.ldexp(significand.astype(np.float64), np.where(finite, exponent, 0))
    value[~finite] = np.nan
    return value


_TABLE = (
    FloatLayout("float64", 11, 52, safetensors_name="F64"),
    FloatLayout("float32", 8, 23, safetensors_name="F32"),
    FloatLayout("tf32", 8, 10),
    FloatLayout("bfloat16", 8, 7, safetensors_name="BF16"),
    FloatLayout("float16", 5, 10, safetensors_name="F16"),
    FloatLayout("e5m2", 5, 2, safetensors_name="F8_E5M2"),
    FloatLayout("e5m2fnuz", 5, 2, 1, Specials.NEGATIVE_ZERO_NAN, safetensors_name="F8_E5M2FNUZ"),
    FloatLayout("e4m3", 4, 3),
    FloatLayout("e4m3fn", 4, 3, 0, Specials.ALL_ONES_NAN, safetensors_name="F8_E4M3"),
    FloatLayout("e4m3fnuz", 4, 3, 1, Specials.NEGATIVE_ZERO_NAN, safetensors_name="F8_E4M3FNUZ"),
    FloatLayout("e4m3b11fnuz", 4, 3, 4, Specials.NEGATIVE_ZERO_NAN),
    FloatLayout("e3m4", 3, 4),
    FloatLayout("e8m0fnu", 8, 0, 0, Specials.ALL_ONES_NAN, False, False, "F8_E8M0"),
    FloatLayout("binary8p3se", 5, 2, 1, Specials.P3109),
    FloatLayout("binary8p4se", 4, 3, 1, Specials.P3109),
    FloatLayout("binary8p5se", 3, 4, 1, Specials.P3109),
    FloatLayout("e2m3fn", 2, 3, 0, Specials.NONE),
    FloatLayout("e3m2fn", 3, 2, 0, Specials.NONE),
    FloatLayout("e2m1fn", 2, 1, 0, Specials.NONE),
)
_BY_NAME = {layout.name: layout for layout in _TABLE}
_ALIASES = {f"binary8p{precision}": f"binary8p{precision}se" for precision in (3, 4, 5)}

ARRAY_LAYOUTS = {layout.name: layout for layout in _TABLE if layout.bits >= 16 and layout.dtype is not None}
"""By name, the layouts of the arrays that are encoded as they are: those of 16 bits and more that have a dtype."""

SAFETENSORS_LAYOUTS = {layout.safetensors_name: layout for layout in _TABLE if layout.safetensors_name is not None}
"""By the dtype in a safetensors header, the layouts that it may name."""


def layouts() -> tuple[FloatLayout, ...]:
    """Return every layout that has a name of its own, the widest first."""
    return _TABLE


def layout_names() -> list[str]:
    """Return the names of these layouts; ``e{E}m{M}`` names are not among them.

    Examples
    --------
    >>> layout_names()[:5]
    ['float64', 'float32', 'tf32', 'bfloat16', 'float16']
    """
    return list(_BY_NAME)


def get_layout(name: str | FloatLayout) -> FloatLayout:
    """Look a float layout up by name.

    Parameters
    ----------
    name : str or FloatLayout
        A name of `layout_names`; ``e{E}m{M}`` with E exponent bits from 2 to 11 and M mantissa bits from 1 to 52, of
        IEEE 754's bias, infinities and NaN; or a layout, which is returned as it is.

    Returns
    -------
    FloatLayout
        The layout. ``e8m10`` and ``tf32`` are one and the same.

    Raises
    ------
    ValueError
        If there is no such layout; the nearest name is suggested.
    TypeError
        If it is no name.

    Examples
    --------
    >>> layout = get_layout("e8m13")
    >>> layout.bits, layout.bias, layout.precision, get_layout("e5m10").name
    (22, 127, 14, 'float16')
    >>> get_layout("bf16")
    Traceback (most recent call last):
    ...
    ValueError: unknown float layout 'bf16': did you mean 'bfloat16'? expected float64, float32, tf32, ...
    """
    if isinstance(name, FloatLayout):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a float layout is given by its name, not as {type(name).__name__}")
    return _BY_NAME.get(_ALIASES.get(name, name)) or _parsed(name)


@lru_cache(maxsize=256)
def _parsed(name: str) -> FloatLayout:
    """Make the layout of a name such as ``e8m13``, or return the line of the table that is the same."""
    widths = re.fullmatch(r"e(0|[1-9]\d?)m(0|[1-9]\d?)", name)
    if widths is None:
        raise ValueError(
            f"unknown float layout {name!r}: {suggestion(name, _BY_NAME)}expected {', '.join(list(_BY_NAME)[:5])}, an "
            "8-bit float, or e{E}m{M} with E exponent and M mantissa bits, such as e8m13"
        )
    layout = FloatLayout(name, int(widths[1]), int(widths[2]))
    same = (row for row in _TABLE if _numbers(row) == _numbers(layout))
    return next(same, layout)


def _numbers(layout: FloatLayout) -> tuple[object, ...]:
    """Return what makes two layouts the same floats."""
    return layout.exponent_bits, layout.mantissa_bits, layout.extra_bias, layout.specials
