"""Logarithmic number systems: every magnitude is a power of 2**(1/steps)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._base.checks import are_integers
from .base import PRECISION, Format

__all__ = ["lns_format", "logarithmic_format", "round_significand"]


def round_significand(values: NDArray[np.float64], bits: int = PRECISION) -> NDArray[np.float64]:
    """Return the nearest numbers of so many significant bits, ties to even.

    Examples
    --------
    >>> round_significand(np.array([1 / 3]), 4).tolist()
    [0.34375]
    """
    fraction, exponent = np.frexp(values)
    rounded: NDArray[np.float64] = np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits)
    return rounded


def logarithmic_format(steps: int = 8, name: str = "lns8") -> Format:
    """Make an 8-bit logarithmic format, code ``s LLLLLLL``.

    The magnitude of field L is ``2**((L - 127) / steps)`` rounded to float32, code 0 is zero and 0x80 is NaN, so that
    the largest value is 1 and, with 8 steps, the format spans nearly the octaves of RF8.

    Parameters
    ----------
    steps : int
        Values per octave.
    name : str
        The format's name.

    Returns
    -------
    Format
        The format; its scales are powers of two.

    Examples
    --------
    >>> logarithmic_format().values[[0x7F, 0x77]].tolist()
    [1.0, 0.5]
    """
    field = np.arange(129)
    magnitude = np.exp2((field - 127) / steps).astype(np.float32).astype(np.float64)
    magnitude[0] = 0.0
    negative = -magnitude[:128]
    negative[0] = np.nan
    return Format(
        name=name,
        bits=8,
        family="logarithmic",
        description=f"logarithmic: sign and a 7-bit logarithm, {steps} values an octave",
        values=np.concatenate([magnitude[:128], negative]),
        beyond=float(magnitude[128]),
    )


def lns_format(integer_bits: int, fraction_bits: int) -> Format:
    """Make a logarithmic number system: a sign and log2 of the magnitude in fixed point, code ``s L``.

    L is a two's complement integer of ``integer_bits + fraction_bits`` bits in units of ``2**-fraction_bits``, as in
    the European Logarithmic Microprocessor (Coleman et al., IEEE Trans. Computers 57(4), 2008), which has 8 and 23. The
    lowest L stands for no logarithm: it is zero, and with the sign set NaN. The magnitudes 2**L are irrational; they
    are rounded to 24 significant bits.

    Parameters
    ----------
    integer_bits : int
        Bits of the logarithm above its binary point, its sign included: 2 to 9.
    fraction_bits : int
        Bits below it, from 0; with the sign of the number at most 16 bits.

    Returns
    -------
    Format
        Named ``lns(i,f)``.

    Raises
    ------
    ValueError
        If a width is out of range.

    Examples
    --------
    >>> lns_format(4, 3).values[[0x00, 0x08, 0x04, 0x40]].tolist()
    [1.0, 2.0, 1.4142135381698608, 0.0]
    """
    integers = are_integers(integer_bits, fraction_bits)
    width = integer_bits + fraction_bits if integers else 0
    if not integers or not 2 <= integer_bits <= 9 or fraction_bits < 0 or width > 15:
        raise ValueError(
            "a logarithm has 2 to 9 integer bits, its sign included, and with its fraction at most 15 bits, got "
            f"{integer_bits!r} and {fraction_bits!r}"
        )
    field, half = np.arange(1 << width), 1 << (width - 1)
    logarithm = field - 2 * half * (field >= half)
    whole_part, part = logarithm >> fraction_bits, logarithm & ((1 << fraction_bits) - 1)
    magnitude = np.ldexp(round_significand(np.exp2(np.ldexp(part.astype(np.float64), -fraction_bits))), whole_part)
    magnitude[half] = 0.0
    negative = -magnitude
    negative[half] = np.nan
    return Format(
        name=f"lns({integer_bits},{fraction_bits})",
        bits=1 + width,
        family="logarithmic",
        description=f"logarithmic: sign and log2 of {integer_bits} integer and {fraction_bits} fraction bits",
        values=np.concatenate([magnitude, negative]),
        beyond=2.0 ** (1 << (integer_bits - 1)),
    )
