"""Takums: tapered formats whose range does not depend on their width (Hunhold, arXiv 2404.18603)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._base.checks import are_integers
from .base import Format
from .logarithmic import round_significand

__all__ = ["takum_format"]


def takum_format(bits: int, *, linear: bool = False) -> Format:
    """Make a takum of 3 to 16 bits, logarithmic or linear.

    The code is ``S D RRR C.. M..``: sign, direction, regime, characteristic, mantissa. The regime says how long the
    characteristic is, r = R if D is 1 and else 7 - R; the characteristic is c = 2**r - 1 + C or -2**(r+1) + 1 + C. A
    takum shorter than 12 bits has zeros where bits are missing. A positive takum is ``exp((c + m)/2)``, a linear one
    ``(1 + m) * 2**c``; a negative one is the two's complement of its magnitude; the sign bit alone is NaR, the NaN.
    The values span exp(-127.5) to exp(127.5), linear ones 2**-255 to 2**255: all formats reach beyond float32.

    The nearest modes round as takums do: at the takum with one bit more between two neighbours, never to zero or NaR.

    Parameters
    ----------
    bits : int
        Width, 3 to 16.
    linear : bool
        Whether the mantissa is a fraction and not part of the logarithm. Logarithmic values are irrational: they are
        rounded to 24 significant bits, and the boundaries between them to 48.

    Returns
    -------
    Format
        ``takum8`` or ``takum_linear8`` and so on, the names of libtakum 1.0.

    Raises
    ------
    ValueError
        If the width is out of range.

    Examples
    --------
    >>> takum_format(16, linear=True).values[[0x4000, 0x4400, 0x4800, 0xC000]].tolist()
    [1.0, 1.5, 2.0, -1.0]
    >>> takum_format(8).values[[0x40, 0x48]].tolist()  # 1 and the square root of e
    [1.0, 1.6487212181091309]
    """
    if not are_integers(bits) or not 3 <= bits <= 16:
        raise ValueError(f"a takum has 3 to 16 bits here, got {bits!r}")
    codes = np.arange(1 << (bits - 1))
    magnitudes = _linear if linear else _logarithmic
    positive, between = magnitudes(codes, bits), magnitudes(2 * codes[:-1] + 1, bits + 1)
    positive = round_significand(positive)
    positive[0] = 0.0
    return Format(
        name=f"takum_linear{bits}" if linear else f"takum{bits}",
        bits=bits,
        family="takum",
        description=f"{bits}-bit {'linear' if linear else 'logarithmic'} takum; NaR is its NaN",
        values=np.concatenate([positive, [np.nan], -positive[:0:-1]]),
        nearest_boundaries=tuple(round_significand(between, 48).tolist()),
        subnormals_below=0.0,
    )


def _linear(codes: NDArray[np.int64], bits: int) -> NDArray[np.float64]:
    characteristic, mantissa = _fields(codes, bits)
    return np.ldexp(1.0 + mantissa, characteristic)


def _logarithmic(codes: NDArray[np.int64], bits: int) -> NDArray[np.float64]:
    characteristic, mantissa = _fields(codes, bits)
    return np.exp((characteristic + mantissa) / 2)


def _fields(codes: NDArray[np.int64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the characteristic and the mantissa, from 0 to below 1, of positive codes."""
    width = max(bits, 12)
    codes = codes << (width - bits)
    upward, regime = (codes >> (width - 2)) & 1, (codes >> (width - 5)) & 7
    length = np.where(upward == 1, regime, 7 - regime)
    mantissa_width = width - 5 - length
    tail = codes & ((1 << (width - 5)) - 1)
    start = np.where(upward == 1, (1 << length) - 1, 1 - (2 << length))
    mantissa = tail & ((1 << mantissa_width) - 1)
    return start + (tail >> mantissa_width), np.ldexp(mantissa.astype(np.float64), -mantissa_width)
