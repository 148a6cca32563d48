"""Integers and fixed point. Symmetric and affine use come from the scale and its zero point, not from the format."""

from __future__ import annotations

import numpy as np

from .._base.checks import are_integers
from .base import Format

__all__ = ["fixed_point_format", "integer_format"]


def integer_format(bits: int = 8, *, signed: bool = True) -> Format:
    """Make an integer format: two's complement or unsigned.

    Parameters
    ----------
    bits : int
        Width, 2 to 16 for signed and 1 to 16 for unsigned integers.
    signed : bool
        Whether the codes are two's complement.

    Returns
    -------
    Format
        Named ``int8``, ``uint8`` and so on.

    Raises
    ------
    ValueError
        If the width is out of range.

    Examples
    --------
    >>> integer_format().values[[0x7F, 0x80, 0xFF]].tolist()
    [127.0, -128.0, -1.0]
    >>> integer_format(4).values.tolist()[6:10]
    [6.0, 7.0, -8.0, -7.0]
    """
    least = 2 if signed else 1
    if not are_integers(bits) or not least <= bits <= 16:
        raise ValueError(f"an integer format has {least} to 16 bits, got {bits!r}")
    kind = f"{bits}-bit integer, two's complement" if signed else f"{bits}-bit integer, unsigned"
    return _multiples(f"{'int' if signed else 'uint'}{bits}", "integer", kind, bits, 0, signed)


def fixed_point_format(integer_bits: int, fraction_bits: int, *, signed: bool = True) -> Format:
    """Make fixed point: an integer of ``integer_bits + fraction_bits`` bits in units of ``2**-fraction_bits``.

    The sign bit is one of the integer bits, which is Arm's notation: q(1,15) is its Q1.15 (``q15_t``), 16 bits from -1
    to 1 - 2**-15. Texas Instruments does not count the sign and calls the same Q0.15, or Q15.

    Parameters
    ----------
    integer_bits : int
        Bits above the binary point; of a signed format the sign is one of them, so at least 1.
    fraction_bits : int
        Bits below it, from 0.
    signed : bool
        Whether the codes are two's complement.

    Returns
    -------
    Format
        Named ``q(i,f)``, or ``uq(i,f)`` if unsigned.

    Raises
    ------
    ValueError
        If there are too few or too many bits.

    Examples
    --------
    >>> fixed_point_format(1, 15).min, fixed_point_format(4, 4, signed=False).max
    (-1.0, 15.9375)
    """
    integers = are_integers(integer_bits, fraction_bits)
    bits = integer_bits + fraction_bits if integers else 0
    if not integers or integer_bits < signed or fraction_bits < 0 or not 1 + signed <= bits <= 16:
        raise ValueError(
            f"fixed point has {1 + signed} to 16 bits, {'its sign one of the integer bits, ' if signed else ''}got "
            f"{integer_bits!r} integer and {fraction_bits!r} fraction bits"
        )
    kind = f"{'signed' if signed else 'unsigned'} fixed point in units of 2**-{fraction_bits}"
    name = f"{'' if signed else 'u'}q({integer_bits},{fraction_bits})"
    return _multiples(name, "fixed point", kind, bits, fraction_bits, signed)


def _multiples(name: str, family: str, description: str, bits: int, fraction_bits: int, signed: bool) -> Format:
    """Return the format of the integers of a width, divided by a power of two."""
    codes, half, unit = np.arange(1 << bits), 1 << (bits - 1), 2.0**-fraction_bits
    return Format(
        name=name,
        bits=bits,
        family=family,
        description=description,
        values=np.where(signed & (codes >= half), codes - 2 * half, codes) * unit,
        beyond=(half if signed else 2 * half) * unit,
        beyond_negative=(half + 1) * unit if signed else None,
        subnormals_below=0.0,
    )
