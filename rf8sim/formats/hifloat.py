"""HiFloat8, the tapered 8-bit float of Huawei's Ascend (Luo et al., arXiv 2409.16626)."""

from __future__ import annotations

import numpy as np

from .base import Format

__all__ = ["hifloat8_format"]

# The prefix code of the dot field, its width, and the exponent bits D that it announces.
_DOTS = ((0b11, 2, 4), (0b10, 2, 3), (0b01, 2, 2), (0b001, 3, 1), (0b0001, 4, 0))


def hifloat8_format() -> Format:
    """Make HiFloat8: sign, dot, exponent and mantissa, the dot field saying how long the exponent is.

    An exponent of D bits is a sign and D - 1 bits below a hidden leading one, so its magnitude is from 2**(D-1) to
    2**D - 1 and an exponent of no bits is 0; the mantissa has what is left of the 8 bits. The dot 0000 announces a
    denormal: ``2**(M - 23)`` for M from 1 to 7. Code 0 is zero, 0x80 NaN, 0x6F and 0xEF are the infinities.

    Returns
    -------
    Format
        ``hifloat8``.

    Examples
    --------
    >>> fmt = hifloat8_format()
    >>> fmt.values[[0x08, 0x0F, 0x10, 0x18, 0x6E, 0x6F]].tolist()
    [1.0, 1.875, 2.0, 0.5, 32768.0, inf]
    >>> fmt.smallest == 2.0**-22, fmt.subnormals_below == 2.0**-15
    (True, True)
    """
    magnitude = np.zeros(128)
    magnitude[1:8] = np.exp2(np.arange(1, 8) - 23.0)
    for dot, width, exponent_bits in _DOTS:
        rest = 7 - width  # bits after the dot
        mantissa_bits = rest - exponent_bits
        tail = np.arange(1 << rest)
        field, mantissa = tail >> mantissa_bits, tail & ((1 << mantissa_bits) - 1)
        half = (1 << exponent_bits) >> 1  # the exponent's hidden one, and the bit of its sign
        exponent = np.where(field & half, -(half + (field & (half - 1))), half + (field & (half - 1))) if half else 0
        magnitude[(dot << rest) + tail] = np.ldexp(1.0 + mantissa / (1 << mantissa_bits), exponent)
    beyond = float(magnitude[0x6F])  # what the code of infinity would stand for
    magnitude[0x6F] = np.inf
    values = np.concatenate([magnitude, -magnitude])
    values[0x80] = np.nan
    return Format(
        name="hifloat8",
        bits=8,
        family="hifloat",
        description="HiFloat8 of Ascend: 3 to 1 mantissa bits by the size of the exponent, infinities, one NaN",
        values=values,
        beyond=beyond,
        subnormals_below=2.0**-15,
    )
