"""The small floating-point formats: those of ml_dtypes, decoded by ml_dtypes itself, and IEEE P3109's binary8."""

from __future__ import annotations

import math
import re

import ml_dtypes
import numpy as np

from .base import Format

__all__ = ["ML_DTYPES", "ml_dtypes_format", "p3109_format"]

ML_DTYPES = {
    "e4m3fn": "OCP E4M3: no infinity, one NaN a sign",
    "e4m3": "IEEE-style E4M3 with infinities",
    "e4m3fnuz": "E4M3 of AMD and Graphcore: no negative zero, one NaN",
    "e4m3b11fnuz": "E4M3 with bias 11: no negative zero, one NaN",
    "e5m2": "OCP E5M2: IEEE-style, with infinities",
    "e5m2fnuz": "E5M2 of AMD and Graphcore: no negative zero, one NaN",
    "e3m4": "IEEE-style E3M4 with infinities",
    "e8m0fnu": "OCP E8M0: unsigned powers of two, the scale of MX blocks",
    "e2m3fn": "OCP MX E2M3: 6 bits, no NaN, no infinity",
    "e3m2fn": "OCP MX E3M2: 6 bits, no NaN, no infinity",
    "e2m1fn": "OCP MX E2M1: 4 bits, no NaN, no infinity",
}
"""The formats taken from ml_dtypes (its ``float8_*``, ``float6_*``, ``float4_*`` types), with a line for people."""


def ml_dtypes_format(name: str) -> Format:
    """Make a format from the ml_dtypes type of that name.

    Parameters
    ----------
    name : str
        A key of `ML_DTYPES`.

    Returns
    -------
    Format
        Its table is what ml_dtypes decodes each code to, and its NaN the code that ml_dtypes makes of NaN.

    Examples
    --------
    >>> ml_dtypes_format("e4m3fn").max
    448.0
    """
    exponent, mantissa = (int(digits) for digits in re.findall(r"\d+", name)[:2])
    unsigned = name.endswith("fnu")
    bits = exponent + mantissa + (0 if unsigned else 1)
    dtype = getattr(ml_dtypes, f"float{bits}_{name}")
    values = np.arange(1 << bits, dtype=np.uint8).view(dtype).astype(np.float64)
    with np.errstate(invalid="ignore"):
        nan = int(np.array([np.nan], dtype=np.float64).astype(dtype).view(np.uint8)[0])
    largest = float(np.max(values[np.isfinite(values)]))
    return Format(
        name=name,
        bits=bits,
        family="minifloat",
        description=ML_DTYPES[name],
        values=values,
        beyond=_next_float(largest, mantissa),
        nan=nan if np.isnan(values[nan]) else None,
        subnormals_below=float(ml_dtypes.finfo(dtype).smallest_normal),  # type: ignore[no-untyped-call]
    )


def p3109_format(precision: int) -> Format:
    """Make IEEE P3109's binary8 of a given precision (interim report, 2024): one zero, one NaN, infinities.

    The exponent field has 8 - precision bits, the bias is ``2**(7 - precision)``; code 0x80 is NaN, 0x7F and 0xFF are
    the infinities, and the rest follows IEEE 754 with subnormals.

    Parameters
    ----------
    precision : int
        Significand bits, the hidden one included: 3, 4 or 5.

    Returns
    -------
    Format
        Named ``binary8p3`` and so on.

    Examples
    --------
    >>> p3109_format(4).max
    224.0
    """
    trailing, bias = precision - 1, 1 << (7 - precision)
    code = np.arange(128)
    exponent, fraction = code >> trailing, code & ((1 << trailing) - 1)
    significand = np.where(exponent > 0, fraction + (1 << trailing), fraction).astype(np.float64)
    magnitude = np.ldexp(significand, np.maximum(exponent, 1) - bias - trailing)
    magnitude[0x7F] = math.inf
    negative = -magnitude
    negative[0] = math.nan
    return Format(
        name=f"binary8p{precision}",
        bits=8,
        family="minifloat",
        description=f"IEEE P3109 binary8, precision {precision}: one zero, one NaN, infinities",
        values=np.concatenate([magnitude, negative]),
        beyond=_next_float(float(magnitude[0x7E]), trailing),
        subnormals_below=math.ldexp(1.0, 1 - bias),
    )


def _next_float(value: float, trailing_bits: int) -> float:
    """Return the next value of a float grid with that many trailing significand bits and unbounded exponents."""
    return value + math.ldexp(1.0, math.frexp(value)[1] - 1 - trailing_bits)
