"""Arithmetic of a C header: add, subtract, divide, fma, dot products and stochastic rounding, in integers alone.

A sum is exact: two's complement, in words of 32 bits that hold every product of two values and 2**31 of them. What is
rounded is its magnitude, by the leading 64 bits with the last one set if anything follows (rounding to odd), which
decides at every threshold of 63 bits. Thresholds of more bits, or irrational ones, have a table of the bits after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ...codec.boundaries import Boundary, boundaries
from ...codec.rounding import Overflow, RoundingMode
from ...codec.thresholds import overflow_code
from ...formats import Format
from ...formats.base import PRECISION
from .c_templates import DIVIDE, DRAW, DRAW_FAR, FAR, OPEN, SUMS

__all__ = ["c_arithmetic", "first_above", "sum_words"]

_HEADROOM = 31  # a sum holds 2**31 products
_ABOVE_ZERO = (-32767, 0)  # the threshold of every magnitude but zero


def first_above(boundary: Boundary) -> tuple[int, int]:
    """Return the octave and the 64-bit significand of the first number that goes up.

    Examples
    --------
    >>> octave, significand = first_above(Boundary(Fraction(3), Fraction(0), True))
    >>> octave, significand / 2**63
    (1, 1.5)
    """
    if not boundary.rational and not boundary.root:
        return _ABOVE_ZERO
    far = 2000  # 2**-2000 is below every boundary
    octave = boundary.ceiling(-far).bit_length() - 1 - far
    significand = boundary.ceiling(octave - 63)
    # Rounding up may reach the next octave, or the estimate of the octave have rounded up to it.
    while significand < 1 << 63:
        octave -= 1
        significand = boundary.ceiling(octave - 63)
    while significand >= 1 << 64:
        octave += 1
        significand = boundary.ceiling(octave - 63)
    return (octave, significand)


def _octaves(fmt: Format) -> tuple[int, int]:
    """Return the octaves of the smallest and of the largest magnitude that is not zero."""
    finite = np.abs(fmt.values[np.isfinite(fmt.values) & (fmt.values != 0)])
    return math.frexp(finite.min())[1] - 1, math.frexp(finite.max())[1] - 1


def sum_words(fmt: Format) -> tuple[int, int]:
    """Return how many words of 32 bits a sum has, and the exponent of its unit.

    Examples
    --------
    >>> import rf8sim
    >>> sum_words(rf8sim.get_format("rf8"))
    (4, -78)
    """
    smallest, largest = _octaves(fmt)
    last = smallest - PRECISION + 1  # of a significand of PRECISION bits
    unit = min(2 * last, last - 36)  # fine enough for a value cut off 36 bits below, too
    top = max(2 * (largest + 1), largest + 1) + _HEADROOM + 1
    words = max(4, -(-(top - unit) // 32))
    if fmt.depth is not None:  # so many bits keep a quotient apart from an irrational threshold
        words = max(words, -(-(4 * fmt.depth + 16) // 32) + 2)
    return words, unit


def c_arithmetic(
    fmt: Format, prefix: str, modes: Sequence[RoundingMode], options: Sequence[Overflow], computed: bool
) -> str:
    """Return the functions, which follow those of `c_tables.ENCODE`.

    Parameters
    ----------
    fmt : Format
        The format.
    prefix : str
        What names begin with.
    modes, options : sequence of RoundingMode, sequence of Overflow
        In the order of the header's constants.
    computed : bool
        Whether the header computes its thresholds, all of which have at most 54 bits.
    """
    words, unit = sum_words(fmt)
    wide = [] if computed else _open_rows(fmt, modes, words - 2)
    far = _steps_far(fmt)
    text = SUMS.replace("OPEN_TABLE", OPEN.replace("ROWS", ",\n".join(wide)) if wide else "")
    text = text.replace("OPEN_CALL", _OPEN_CALL if wide else "significand |= 1;")
    text += DIVIDE + DRAW.replace("FAR_TABLE", FAR if far else "").replace("FAR_CALL", DRAW_FAR if far else "")
    pairs = ", ".join(
        "{" + ", ".join(_hex(fmt, overflow_code(fmt, option, sign, RoundingMode.STOCHASTIC)) for sign in (False, True))
        + "}" for option in options
    )  # fmt: skip
    nan = _hex(fmt, fmt.nan) if fmt.nan is not None else f"{prefix}_ladder[0][0]"
    fields = {
        "WORDS": str(words),
        "TAIL": str(words - 2),
        "UNIT": f"({unit})",
        "COUNT_OPEN": str(len(wide)),
        "OPTIONS": str(len(options)),
        "DRAWN_BEYOND": pairs,
        "NEXT": ", ".join(f"{_pattern(side.beyond):#x}u" for side in fmt.sides),
        "NAN_CODE": nan,
        "BY_ZERO": f"{prefix}_infinite[overflow][negative]" if fmt.divides_by_zero else nan,
        "BELOW_ZERO": "" if fmt.signed else "    if (negative) return NAME_drawn_beyond[overflow][1];\n",
        "GUARD": prefix.upper(),
        "CODE": f"uint{8 * fmt.code_dtype.itemsize}_t",
        "NAME": prefix,
    }
    for token, value in fields.items():
        text = text.replace(token, value)
    return text


_OPEN_CALL = "significand = NAME_decide(words, top, zeros, octave, significand, rounding, negative);"


def _hex(fmt: Format, code: int) -> str:
    return f"0x{code:0{2 * fmt.code_dtype.itemsize}x}"


def _pattern(value: float) -> int:
    return int(np.array(abs(value)).view(np.uint64))


def _open_rows(fmt: Format, modes: Sequence[RoundingMode], tail: int) -> list[str]:
    """Return the rows of thresholds that 63 bits do not hold: sorted by mode, sign and size."""
    rows = []
    for index, mode in enumerate(modes):
        for negative in (False, True)[: 1 + fmt.signed]:
            for boundary in boundaries(fmt, mode, negative):
                octave, above = first_above(boundary)
                if (octave, above) == _ABOVE_ZERO or (not boundary.root and _has_63_bits(boundary.rational, octave)):
                    continue
                if above == 1 << 63:  # what lies below it is in the octave before
                    octave, above = octave - 1, 1 << 64
                last = boundary.ceiling(octave - 63 - 32 * tail) - ((above - 1) << 32 * tail) - 1
                digits = ", ".join(f"{last >> 32 * place & 0xFFFFFFFF:#x}u" for place in reversed(range(tail)))
                rows.append(f"    {{{index}, {int(negative)}, {octave}, {above - 1:#x}u, {{{digits}}}}}")
    return rows


def _has_63_bits(rational: Fraction, octave: int) -> bool:
    return (rational * Fraction(2) ** (62 - octave)).denominator == 1


def _steps_far(fmt: Format) -> bool:
    """Return whether neighbours are so far apart that 64 bits do not hold the difference of their significands."""
    for side in fmt.sides:
        magnitudes = [*side.magnitudes[side.magnitudes > 0].tolist()]
        if math.isfinite(side.beyond):
            magnitudes.append(abs(side.beyond))
        exponents = np.frexp(np.array(magnitudes))[1]
        if np.any(np.diff(exponents) > 10):
            return True
    return False
