"""8-bit integers. Symmetric and affine use come from the scale, not from the format."""

from __future__ import annotations

import numpy as np

from .base import Format

__all__ = ["integer_format"]


def integer_format(*, signed: bool) -> Format:
    """Make int8 (two's complement) or uint8.

    Parameters
    ----------
    signed : bool
        Whether the codes are two's complement.

    Returns
    -------
    Format
        ``int8`` or ``uint8``.

    Examples
    --------
    >>> integer_format(signed=True).values[[0x7F, 0x80, 0xFF]].tolist()
    [127.0, -128.0, -1.0]
    """
    codes = np.arange(256, dtype=np.uint8)
    return Format(
        name="int8" if signed else "uint8",
        bits=8,
        family="integer",
        description="8-bit integer, two's complement" if signed else "8-bit integer, unsigned",
        values=(codes.view(np.int8) if signed else codes).astype(np.float64),
        beyond=128.0 if signed else 256.0,
        beyond_negative=129.0 if signed else None,
        subnormals_below=0.0,
    )
