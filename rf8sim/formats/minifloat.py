"""The small floating-point formats: those of ml_dtypes, decoded by ml_dtypes itself, and IEEE P3109's binary8."""

from __future__ import annotations

import math

import numpy as np

from .base import Format
from .floats import FloatLayout, get_layout

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
    layout = get_layout(name)
    dtype = layout.dtype
    assert dtype is not None
    values = np.arange(1 << layout.bits, dtype=np.uint8).view(dtype).astype(np.float64)
    with np.errstate(invalid="ignore"):
        nan = int(np.array([np.nan], dtype=np.float64).astype(dtype).view(np.uint8)[0])
    return Format(
        name=name,
        bits=layout.bits,
        family="minifloat",
        description=ML_DTYPES[name],
        values=values,
        beyond=_beyond(layout),
        nan=nan if np.isnan(values[nan]) else None,
        subnormals_below=layout.smallest_normal,
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
    layout = get_layout(f"binary8p{precision}")
    return Format(
        name=layout.name,
        bits=layout.bits,
        family="minifloat",
        description=f"IEEE P3109 binary8, precision {precision}: one zero, one NaN, infinities",
        values=layout.values(np.arange(1 << layout.bits)),
        beyond=_beyond(layout),
        subnormals_below=layout.smallest_normal,
    )


def _beyond(layout: FloatLayout) -> float:
    """Return what would follow the largest value if there were more exponents."""
    return layout.max + math.ldexp(1.0, layout.emax - layout.mantissa_bits)
