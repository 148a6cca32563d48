"""Arithmetic (section 7): exact results, and one rounding of them with IEEE 754's flags."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from ..formats import Format, get_format
from .rationals import exact
from .rounding import Gap, beyond, ladder, round_value, rounds_to_zero, takes_upper

__all__ = [
    "Number", "add", "divide", "maximum", "minimum", "multiply", "number", "overflows", "round_with_flags", "sqrt",
]  # fmt: skip

Number = Fraction | float
"""A Fraction for what is finite and not zero; a float for zeros, infinities and NaN, which a Fraction does not have."""


def number(code: int, fmt: str | Format) -> Number:
    """Return what a code stands for.

    Examples
    --------
    >>> number(0x7F, "rf8"), number(0x80, "rf8"), number(0x80, "e4m3fn")
    (Fraction(3, 2), nan, -0.0)
    """
    value = float(get_format(fmt).values[code])
    return Fraction(value) if math.isfinite(value) and value != 0 else value


def _like(x: Number) -> float:
    """Return a float of the same kind and sign: 1 or -1 for what is finite and not zero."""
    return math.copysign(1.0, x) if isinstance(x, Fraction) else x


def add(x: Number, y: Number, rounding: str = "nearest-even") -> Number:
    """Return ``x + y``; a sum that cancels is +0, and -0 in the mode ``down`` (IEEE 754-2019, 6.3).

    Examples
    --------
    >>> add(Fraction(1, 2), Fraction(1, 4)), add(Fraction(1), Fraction(-1)), add(0.0, -0.0, "down")
    (Fraction(3, 4), 0.0, -0.0)
    """
    if math.isfinite(x) and x == -y:
        if math.copysign(1.0, x) == math.copysign(1.0, y):  # two zeros
            return x
        return -0.0 if rounding == "down" else 0.0
    if x == 0 or y == 0:
        return y if x == 0 else x
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x + y
    return _like(x) + _like(y)


def multiply(x: Number, y: Number) -> Number:
    """Return ``x * y``.

    Examples
    --------
    >>> multiply(Fraction(1, 2), Fraction(-3, 2)), multiply(Fraction(-1), 0.0), multiply(math.inf, 0.0)
    (Fraction(-3, 4), -0.0, nan)
    """
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x * y
    return _like(x) * _like(y)


def divide(x: Number, y: Number) -> Number:
    """Return ``x / y``: infinite for a nonzero number over zero, NaN for 0 / 0.

    Of formats without infinity, and in IEEE P3109, a number over zero is NaN: see `Format.divides_by_zero`.

    Examples
    --------
    >>> divide(Fraction(1), Fraction(-3)), divide(Fraction(1), -0.0), divide(0.0, 0.0)
    (Fraction(-1, 3), -inf, nan)
    """
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x / y
    if y != 0:
        return _like(x) / _like(y)
    return math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, math.copysign(1.0, _like(x)) * _like(y))


def sqrt(x: Number) -> Number:
    """Return the square root; an irrational one with its bits beyond ``2**-300`` cut off and replaced by one half.

    Examples
    --------
    >>> sqrt(Fraction(9, 4)), sqrt(-0.0), sqrt(Fraction(-1)), float(sqrt(Fraction(2)))
    (Fraction(3, 2), -0.0, nan, 1.4142135623730951)
    """
    if not isinstance(x, Fraction):
        return math.nan if x < 0 else x
    if x < 0:
        return math.nan
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    if root * root == x:
        return root
    return (math.isqrt((x.numerator << 600) // x.denominator) + Fraction(1, 2)) / (1 << 300)


def minimum(x: Number, y: Number) -> Number:
    """Return the smaller; NaN if either is NaN; -0 is below +0 (IEEE 754-2019, 9.6).

    Examples
    --------
    >>> minimum(Fraction(1), 0.0), minimum(0.0, -0.0), minimum(Fraction(1), math.nan)
    (0.0, -0.0, nan)
    """
    if math.isnan(x) or math.isnan(y):
        return math.nan
    return min(x, y, key=lambda one: (one, math.copysign(1.0, _like(one))))


def maximum(x: Number, y: Number) -> Number:
    """Return the larger; NaN if either is NaN; +0 is above -0.

    Examples
    --------
    >>> maximum(Fraction(1), 0.0), maximum(-0.0, 0.0)
    (Fraction(1, 1), 0.0)
    """
    if math.isnan(x) or math.isnan(y):
        return math.nan
    return max(x, y, key=lambda one: (one, math.copysign(1.0, _like(one))))


def overflows(
    x: Number,
    fmt: str | Format,
    rounding: str = "nearest-even",
    word: int | None = None,
    random_bits: int = 32,
    overflow: str = "saturate",
    variant: str = "A",
) -> bool:
    """Say whether a number is rounded beyond the largest value, were the grid to go on; not to be called with NaN.

    The other arguments are those of `round_value`. An infinity overflows where it does not stay one. A negative number
    does in every unsigned format, unless it rounds to zero as IEEE 754 and P3109 do.

    Examples
    --------
    >>> [overflows(Fraction(x, 8), "rf8", "nearest-even") for x in (12, 13, 14)], overflows(-1.0, "uint8")
    ([False, False, True], True)
    """
    fmt = get_format(fmt)
    if math.isinf(x):
        return bool(fmt.values[round_value(x, fmt, rounding, overflow, word, random_bits, variant)] != x)
    if x < 0 and not fmt.signed:
        return overflow != "ieee" or not rounds_to_zero(abs(exact(x)), fmt, rounding, word, random_bits, variant)
    m, negative = abs(exact(x)), x < 0
    magnitudes, _ = ladder(fmt, negative)
    high = beyond(fmt, negative)
    if m <= magnitudes[-1] or high is None:
        return False
    last = len(magnitudes) - 1
    low = magnitudes[last]
    return m >= high or takes_upper(m, Gap(last, low, high, negative), fmt, rounding, word, random_bits, variant)


def round_with_flags(
    x: Number, fmt: str | Format, rounding: str = "nearest-even", overflow: str = "saturate",
    word: int | None = None, random_bits: int = 32, variant: str = "A",
) -> tuple[int, int]:  # fmt: skip
    """Round an exact result, and return the code with the flags of rounding: inexact 1, underflow 2, overflow 4.

    The arguments are those of `round_value`.

    Examples
    --------
    >>> round_with_flags(Fraction(1, 3), "rf8"), round_with_flags(Fraction(9, 4), "rf8")
    ((110, 1), (127, 5))
    """
    fmt = get_format(fmt)
    if math.isnan(x):
        return round_value(math.nan, fmt), 0
    code = round_value(x, fmt, rounding, overflow, word, random_bits, variant)
    if overflows(x, fmt, rounding, word, random_bits, overflow, variant):
        return code, 1 | 4
    if _numbers(fmt)[code] == x:
        return code, 0
    return code, 1 | (2 if abs(exact(x)) < _tiny(fmt) else 0)


@lru_cache(maxsize=256)
def _numbers(fmt: Format) -> tuple[Number, ...]:
    """Return what each code stands for."""
    return tuple(number(code, fmt) for code in range(fmt.values.size))


@lru_cache(maxsize=256)
def _tiny(fmt: Format) -> Fraction:
    """Return below which magnitude an inexact result has underflowed."""
    return Fraction(fmt.smallest if fmt.subnormals_below is None else fmt.subnormals_below)
