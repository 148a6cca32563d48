"""Rounding a number to a format: every mode by what it means (sections 1 to 5)."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, SupportsFloat

import numpy as np

from ..formats import Format, get_format
from .rationals import exact, floor_log2, nearest_exponent, power_of_two

__all__ = [
    "MODES", "OVERFLOWS", "Gap", "beyond", "ladder", "out_of_range", "residual_depth", "residual_round",
    "residual_value", "round_value", "rounds_to_zero", "takes_upper",
]  # fmt: skip

MODES = ("nearest-even", "nearest-away", "toward-zero", "up", "down", "to-odd", "residual", "stochastic")
OVERFLOWS = ("saturate", "propagate", "ieee", "infinity", "nan")


def residual_round(x: Fraction, depth: int) -> Fraction:
    """Round `x` by the two-step rule of arXiv 2506.00486 v3 on its unbounded grid (section 4, ``residual``).

    ``e1`` is the integer nearest ``log2|x|``; the sign ``s2`` and the integer ``e2`` likewise from
    ``|x| - 2**e1``. The result has the sign of `x` and the magnitude ``2**e1 + s2 * 2**e2`` if
    ``e1 - e2 <= depth``, else ``2**e1``.

    Parameters
    ----------
    x : Fraction
        Any rational number.
    depth : int
        The largest distance of the two exponents.

    Returns
    -------
    Fraction
        The rounded value; 0 for 0.

    Examples
    --------
    >>> residual_round(Fraction(-11, 8), 4), residual_round(Fraction(1025, 1024), 4)
    (Fraction(-3, 2), Fraction(1, 1))
    """
    if x == 0:
        return x
    e1 = nearest_exponent(x)
    first = power_of_two(e1)
    rest = abs(x) - first
    magnitude = first
    if rest != 0:
        e2 = nearest_exponent(rest)
        if e1 - e2 <= depth:
            second = power_of_two(e2)
            magnitude = first + second if rest > 0 else first - second
    return magnitude if x > 0 else -magnitude


def residual_value(E: int, r: int, p: int, depth: int, bias: int | None = None) -> Fraction:
    """Return the magnitude of the RF(p, depth) code with the fields `E` and `r` (sections 1 to 3).

    Parameters
    ----------
    E, r : int
        The exponent field and the residual field; ``E = r = 0`` is zero.
    p, depth : int
        Width of the exponent field and largest distance of the two powers of two.
    bias : int, optional
        By default ``2**p - 1``.

    Returns
    -------
    Fraction
        ``2**(E - bias) * (1 + sgn(t) * 2**(|t| - depth - 1))`` with ``t = r - (depth - 1)``.

    Examples
    --------
    >>> residual_value(15, 7, 4, 4), residual_value(0, 1, 4, 4) == Fraction(7, 8) / 2**15
    (Fraction(3, 2), True)
    """
    if not (0 <= E < 2**p and 0 <= r < 2 * depth):
        raise ValueError(f"RF({p}, {depth}): E is below {2**p} and r below {2 * depth}, got E = {E}, r = {r}")
    if E == r == 0:
        return Fraction(0)
    if bias is None:
        bias = 2**p - 1
    t = r - (depth - 1)
    m = Fraction(1)
    if t > 0:
        m += power_of_two(t - depth - 1)
    elif t < 0:
        m -= power_of_two(-t - depth - 1)
    return m * power_of_two(E - bias)


@lru_cache(maxsize=256)
def ladder(fmt: Format, negative: bool) -> tuple[tuple[Fraction, ...], tuple[int, ...]]:
    """Return the magnitudes of one sign in ascending order, zero included, and the code of each.

    The place of a magnitude is its rank. Of several codes of one value the smallest is taken, which is the
    canonical one; on the negative side -0 stands for zero where the format has it.

    Examples
    --------
    >>> magnitudes, codes = ladder(get_format("e2m1fn"), True)
    >>> [float(m) for m in magnitudes], codes
    ([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], (8, 9, 10, 11, 12, 13, 14, 15))
    """
    codes: dict[float, int] = {}
    zeros: dict[bool, int] = {}
    for code, value in enumerate(fmt.values.tolist()):
        if not math.isfinite(value):
            continue
        if value == 0:
            zeros.setdefault(math.copysign(1.0, value) < 0, code)
        elif (value < 0) == negative:
            codes.setdefault(abs(value), code)
    if zeros:
        codes[0.0] = zeros.get(negative, zeros[min(zeros)])
    magnitudes = sorted(codes)
    return tuple(map(Fraction, magnitudes)), tuple(codes[m] for m in magnitudes)


@lru_cache(maxsize=256)
def beyond(fmt: Format, negative: bool) -> Fraction | None:
    """Return the magnitude that would follow the largest of one sign, were the grid to go on; None if none would.

    Examples
    --------
    >>> beyond(get_format("e2m1fn"), True), beyond(get_format("posit8_es2"), False)
    (Fraction(8, 1), None)
    """
    following = fmt.beyond_negative if negative and fmt.beyond_negative is not None else fmt.beyond
    return None if math.isinf(following) else Fraction(following)


@lru_cache(maxsize=256)
def residual_depth(fmt: Format) -> int:
    """Return the depth of a residual format, read off its table.

    The step above a power of two is ``2**-depth`` of it.

    Raises
    ------
    ValueError
        If the format is not of the RF family.

    Examples
    --------
    >>> [residual_depth(get_format(name)) for name in ("rf8", "rf8_e3", "rf6")]
    [4, 8, 2]
    """
    if fmt.family != "residual":
        raise ValueError(f"the residual rule is defined for the RF family only, not for {fmt.name!r}")
    magnitudes, _ = ladder(fmt, False)
    for low, high in pairwise(magnitudes[1:]):
        if low == power_of_two(floor_log2(low)):
            return -floor_log2((high - low) / low)
    raise AssertionError("a residual format has a power of two below its largest value")


def round_value(
    x: SupportsFloat,
    fmt: str | Format,
    rounding: str = "nearest-even",
    overflow: str = "saturate",
    word: int | None = None,
    random_bits: int = 32,
    variant: str = "A",
) -> int:
    """Return the code of one number.

    Parameters
    ----------
    x : int, float, Fraction or numpy scalar
        The number; its exact value is what is rounded. NaN and infinities are allowed.
    fmt : str or Format
        The format.
    rounding : str
        ``nearest-even``, ``nearest-away``, ``toward-zero``, ``up``, ``down``, ``to-odd``, ``residual`` or
        ``stochastic``.
    overflow : str
        ``saturate``, ``propagate``, ``ieee``, ``infinity`` or ``nan``: see `out_of_range`.
    word : int, optional
        The random word; needed by ``stochastic`` alone.
    random_bits : int
        How many low bits of the word are used, 1 to 32.
    variant : str
        IEEE P3109's StochasticA, B or C.

    Returns
    -------
    int
        The canonical code.

    Raises
    ------
    ValueError
        If the format has no code that the input or the option asks for, a name is unknown, or ``residual`` is
        asked of a format outside the RF family.

    Examples
    --------
    >>> hex(round_value(1.03125, "rf8")), hex(round_value(1.03125, "rf8", "nearest-away"))
    ('0x7b', '0x7c')
    >>> hex(round_value(-9, "rf8")), hex(round_value(-9, "rf8", overflow="nan"))
    ('0xff', '0x80')
    """
    fmt = get_format(fmt)
    if rounding not in MODES or overflow not in OVERFLOWS or not 1 <= random_bits <= 32 or variant not in "ABC":
        raise ValueError(
            f"no such rounding: {rounding!r}, overflow={overflow!r}, random_bits={random_bits}, variant={variant!r}"
        )
    if rounding == "residual":
        residual_depth(fmt)
    if overflow != "saturate":
        _require(fmt, overflow)
    if not isinstance(x, (int, np.integer, Fraction)):
        if math.isnan(float(x)):
            if fmt.nan is None:
                raise ValueError(f"{fmt.name!r} has no NaN code")
            return fmt.nan
        if math.isinf(float(x)):
            return out_of_range(fmt, float(x), rounding, overflow)
        if float(x) == 0:
            minus = math.copysign(1.0, float(x)) < 0
            return _round_magnitude(Fraction(0), minus, fmt, rounding, overflow, word, random_bits, variant)
    value = exact(x)
    return _round_magnitude(abs(value), value.numerator < 0, fmt, rounding, overflow, word, random_bits, variant)


@lru_cache(maxsize=256)
def _require(fmt: Format, overflow: str) -> None:
    """Raise ValueError if a format has no code that an overflow option asks for."""
    if overflow == "nan" and fmt.nan is None:
        raise ValueError(f"overflow='nan' needs a NaN code; {fmt.name!r} has none")
    has_infinity = bool(np.isinf(fmt.values).any())
    if overflow == "infinity" and not has_infinity:
        raise ValueError(f"overflow='infinity' needs an infinity; {fmt.name!r} has none")
    if overflow == "propagate" and not has_infinity and fmt.family != "p3109":
        raise ValueError(f"overflow='propagate' needs an infinity; {fmt.name!r} has none")
    if overflow == "ieee" and not has_infinity and fmt.nan is None:
        raise ValueError(f"overflow='ieee' needs an infinity or a NaN code; {fmt.name!r} has neither")


def _round_magnitude(
    m: Fraction,
    negative: bool,
    fmt: Format,
    rounding: str,
    overflow: str,
    word: int | None,
    random_bits: int,
    variant: str,
) -> int:
    """Round the number of magnitude `m` and the given sign."""
    if negative and not fmt.signed:
        # An unsigned format: -0 is zero, and everything below it is out of range; but IEEE 754 and P3109 round first.
        if m != 0 and not (overflow == "ieee" and rounds_to_zero(m, fmt, rounding, word, random_bits, variant)):
            return out_of_range(fmt, -m, rounding, overflow)
        return ladder(fmt, False)[1][0]
    magnitudes, codes = ladder(fmt, negative)
    i, equal = _last_not_above(fmt, negative, m)
    if equal or i < 0:
        # A format without zero has nothing to give below its smallest value but that value.
        return codes[max(i, 0)]
    low = magnitudes[i]
    last = len(magnitudes) - 1
    if i < last:
        high = magnitudes[i + 1]
    else:
        next_grid = beyond(fmt, negative)
        if next_grid is None:
            return codes[last]
        high = next_grid
        if m >= high:
            return out_of_range(fmt, -m if negative else m, rounding, overflow)
    if takes_upper(m, Gap(i, low, high, negative), fmt, rounding, word, random_bits, variant):
        if i == last:
            return out_of_range(fmt, -m if negative else m, rounding, overflow)
        return codes[i + 1]
    return codes[i]


def rounds_to_zero(
    m: Fraction, fmt: Format, rounding: str, word: int | None, random_bits: int, variant: str = "A"
) -> bool:
    """Say whether -m is rounded to zero, were there a value below it as far as there is one above."""
    low, high = ladder(fmt, False)[0][:2]
    if low != 0 or m >= high:
        return False
    return not takes_upper(m, Gap(0, low, high, True), fmt, rounding, word, random_bits, variant)


class Gap(NamedTuple):
    """Two neighbouring magnitudes of one sign: the rank of the lower one, and both."""

    rank: int
    low: Fraction
    high: Fraction
    negative: bool


def takes_upper(
    m: Fraction, gap: Gap, fmt: Format, rounding: str, word: int | None, random_bits: int, variant: str = "A"
) -> bool:
    """Say whether a magnitude strictly between two neighbours goes to the upper one."""
    i, low, high, negative = gap
    if rounding in ("nearest-even", "nearest-away"):
        if fmt.nearest_boundaries is not None and low == 0:
            return True  # the Posit Standard: a nonzero value is never rounded to zero
        boundary = _boundaries(fmt, negative and fmt.signed)[i]
        if m != boundary:
            return m > boundary
        return rounding == "nearest-away" or fmt.ties_away or i % 2 == 1
    if rounding == "toward-zero":
        return False
    if rounding == "up":
        return not negative
    if rounding == "down":
        return negative
    if rounding == "to-odd":
        return i % 2 == 0
    if rounding == "residual":
        if low == 0:
            return m > high / 2
        rounded = residual_round(m, residual_depth(fmt))
        if rounded not in (low, high):
            raise ValueError(f"the residual rule rounds {m} to {rounded}, no neighbour of it in {fmt.name!r}")
        return rounded == high
    if word is None:
        raise ValueError("stochastic rounding needs a random word")
    one = 1 << random_bits
    way, r = (m - low) / (high - low) * one, word % one
    if variant == "B":
        return math.floor(2 * way) + 2 * r + 1 >= 2 * one
    if variant == "C":
        return round(way) + r >= one  # Python rounds to nearest, ties to even
    return math.floor(way) + r >= one


def out_of_range(fmt: str | Format, x: Fraction | float, rounding: str, overflow: str) -> int:
    """Return the code of a number, or an infinity, that rounds beyond the largest or lowest value.

    ``saturate`` gives that value. So does ``propagate``, but an infinity stays one. ``ieee`` gives that value to a
    finite number in a mode that rounds it toward zero, else an infinity, else NaN; a finite format of IEEE P3109
    (interim report v4.0, section 4.7.5, SatNone) has the value even then, unless the number is below zero and the
    format unsigned. ``infinity`` gives one always, and ``nan`` NaN.

    Examples
    --------
    >>> [hex(out_of_range("e4m3fn", Fraction(1000), mode, "ieee")) for mode in ("nearest-even", "toward-zero")]
    ['0x7f', '0x7e']
    >>> [hex(out_of_range("binary8p3se", math.inf, "nearest-even", how)) for how in ("saturate", "propagate")]
    ['0x7e', '0x7f']
    """
    fmt = get_format(fmt)
    negative, finite = x < 0, isinstance(x, Fraction) or math.isfinite(x)
    extreme = ladder(fmt, negative)[1][-1] if fmt.signed or not negative else ladder(fmt, False)[1][0]
    infinity = _infinity(fmt, negative)
    if overflow == "nan":
        assert fmt.nan is not None
        return fmt.nan
    if overflow == "saturate":
        return extreme
    if overflow == "propagate":
        return extreme if finite or infinity is None else infinity
    if overflow == "infinity":
        return extreme if infinity is None else infinity
    if finite and (rounding == "toward-zero" or rounding == ("up" if negative else "down")):
        return extreme
    if fmt.family == "p3109":
        if finite and not fmt.signed and not negative and rounding == "to-odd":
            return extreme
        nan_below = negative and not fmt.signed
        return infinity if infinity is not None else _nan(fmt) if nan_below else extreme
    return infinity if infinity is not None else extreme if fmt.nan is None else fmt.nan


@lru_cache(maxsize=256)
def _infinity(fmt: Format, negative: bool) -> int | None:
    """Return the code of an infinity, or None if the format has it not."""
    infinities = np.flatnonzero(fmt.values == (-math.inf if negative else math.inf))
    return int(infinities[0]) if infinities.size else None


def _nan(fmt: Format) -> int:
    assert fmt.nan is not None
    return fmt.nan


def _last_not_above(fmt: Format, negative: bool, m: Fraction) -> tuple[int, bool]:
    """Return the place of the largest magnitude that is at most `m`, by bisection, and whether it is `m`.

    Multiples of 1/d are compared: d m lies below an integer where its whole part does. Without any, the place is -1.
    """
    denominator, multiples = _multiples(fmt, negative)
    multiple, rest = divmod(m.numerator * denominator, m.denominator)
    i = bisect_right(multiples, multiple) - 1
    return i, rest == 0 and i >= 0 and multiples[i] == multiple


@lru_cache(maxsize=256)
def _multiples(fmt: Format, negative: bool) -> tuple[int, tuple[int, ...]]:
    """Return a common denominator of the magnitudes of `ladder`, and their numerators over it."""
    magnitudes, _ = ladder(fmt, negative)
    denominator = math.lcm(*(m.denominator for m in magnitudes))
    return denominator, tuple(int(m * denominator) for m in magnitudes)


@lru_cache(maxsize=256)
def _boundaries(fmt: Format, negative: bool) -> tuple[Fraction, ...]:
    """Return where the nearest modes part the neighbours of `ladder`: halfway, or where the format says."""
    if fmt.nearest_boundaries is not None:
        return tuple(map(Fraction, fmt.nearest_boundaries))
    magnitudes = list(ladder(fmt, negative)[0])
    following = beyond(fmt, negative)
    if following is not None:
        magnitudes.append(following)
    return tuple((low + high) / 2 for low, high in pairwise(magnitudes))
