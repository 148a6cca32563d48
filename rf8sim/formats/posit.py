"""8-bit posits (Gustafson and Yonemoto 2017; Posit Standard 2022, which fixes es = 2)."""

from __future__ import annotations

import math

import numpy as np

from .base import Format

__all__ = ["posit_format"]


def posit_format(exponent_size: int, bits: int = 8) -> Format:
    """Make a posit of given width and exponent size.

    A posit is sign, regime (a run of equal bits), up to ``exponent_size`` exponent bits and a fraction; a negative
    posit is the two's complement of its magnitude, and the sign bit alone is NaR ("not a real"), the format's NaN.
    The nearest modes round as the standard says: at the posit with one bit more between two neighbours.

    Parameters
    ----------
    exponent_size : int
        Number of exponent bits, 0 to 2.
    bits : int
        Width, 3 to 8.

    Returns
    -------
    Format
        Named ``posit8_es0`` and so on.

    Examples
    --------
    >>> posit_format(2).max == 2.0**24, posit_format(1).smallest == 2.0**-12
    (True, True)
    """
    positive = [_posit_value(code, bits, exponent_size) for code in range(1 << (bits - 1))]
    # The standard's boundaries: appending a one to a posit's bits gives the value between it and its successor.
    between = [_posit_value(2 * code + 1, bits + 1, exponent_size) for code in range((1 << (bits - 1)) - 1)]
    negative = [-value for value in positive[:0:-1]]
    return Format(
        name=f"posit{bits}_es{exponent_size}",
        bits=bits,
        family="posit",
        description=f"{bits}-bit posit with {exponent_size} exponent bits; NaR is its NaN",
        values=np.array([*positive, math.nan, *negative]),
        nearest_boundaries=tuple(between),
        subnormals_below=0.0,
    )


def _posit_value(code: int, bits: int, exponent_size: int) -> float:
    """Return the value of a positive posit code, read field by field."""
    if code == 0:
        return 0.0
    body = f"{code:0{bits - 1}b}"
    run = len(body) - len(body.lstrip(body[0]))
    regime = run - 1 if body[0] == "1" else -run
    rest = body[run + 1 :]
    # Exponent bits cut off at the right are zeros.
    exponent = int(rest[:exponent_size].ljust(exponent_size, "0") or "0", 2)
    fraction = rest[exponent_size:]
    significand = int("1" + fraction, 2)
    return math.ldexp(significand, (regime << exponent_size) + exponent - len(fraction))
