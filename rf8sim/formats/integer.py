"""Integers. Symmetric and affine use come from the scale and its zero point, not from the format."""

from __future__ import annotations

import numpy as np

from .base import Format

__all__ = ["integer_format"]


def integer_format(bits: int = 8, *, signed: bool = True) -> Format:
    """Make an integer format: two's complement or unsigned.

    Parameters
    ----------
    bits : int
        Width, 2 to 8 for signed and 1 to 8 for unsigned integers.
    signed : bool
        Whether the codes are two's complement.

    Returns
    -------
    Format
        ``int8``, ``uint4``, ...

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
    if isinstance(bits, bool) or not isinstance(bits, int) or not least <= bits <= 8:
        raise ValueError(f"an integer format has {least} to 8 bits, got {bits!r}")
    codes = np.arange(1 << bits, dtype=np.int64)
    half = 1 << (bits - 1)
    return Format(
        name=f"{'int' if signed else 'uint'}{bits}",
        bits=bits,
        family="integer",
        description=f"{bits}-bit integer, two's complement" if signed else f"{bits}-bit integer, unsigned",
        values=np.where(signed & (codes >= half), codes - 2 * half, codes).astype(np.float64),
        beyond=float(half if signed else 2 * half),
        beyond_negative=float(half + 1) if signed else None,
        subnormals_below=0.0,
    )
