"""Numbers and tables as C has them, and the first functions that every header has."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["ENCODE", "c_number", "rows"]

ENCODE = """\
static inline {code} {prefix}_encode(double x, int rounding, int overflow) {{
    uint64_t pattern, mantissa;
    int negative, exponent;
    memcpy(&pattern, &x, sizeof pattern);
    negative = (int)(pattern >> 63);
    exponent = (int)(pattern >> 52 & 0x7ff);
    mantissa = pattern & 0xfffffffffffffu;
    if (exponent == 0x7ff) return mantissa ? {nan_code} : {prefix}_infinite[overflow][negative];
    if (exponent == 0) {{
        if (mantissa == 0) return {prefix}_ladder[negative][0];
        for (exponent = 1; !(mantissa >> 52); exponent--) mantissa <<= 1;
    }}
    return {prefix}_place(negative, exponent - 1023, (mantissa | 1ull << 52) << 11, rounding, overflow);
}}

/* x * 2^-fraction. */
static inline {code} {prefix}_encode_fixed(int64_t x, int fraction, int rounding, int overflow) {{
    int negative = x < 0, octave = 63 - fraction;
    uint64_t magnitude = negative ? 0 - (uint64_t)x : (uint64_t)x;
    if (magnitude == 0) return {prefix}_ladder[0][0];
    for (; !(magnitude >> 63); octave--) magnitude <<= 1;
    return {prefix}_place(negative, octave, magnitude, rounding, overflow);
}}

/* The product of two codes, rounded once: the product of their values is exact as a double. */
static inline {code} {prefix}_multiply({code} a, {code} b, int rounding, int overflow) {{
    return {prefix}_encode({prefix}_decode(a) * {prefix}_decode(b), rounding, overflow);
}}
"""
"""A header's first functions: codes of doubles, fixed point and products. ``_place`` and tables stand before."""


def rows(elements: Sequence[str]) -> str:
    """Join elements by commas in lines of at most 112 characters."""
    lines, line = [], ""
    for element in elements:
        if len(line) + len(element) > 110:
            lines.append(line)
            line = ""
        line += ("" if not line else " ") + element + ","
    return "\n".join(f"    {row}" for row in [*lines, line]).rstrip(",")


def c_number(value: float, suffix: str = "") -> str:
    """Return a constant; ``suffix`` is ``f`` for a float.

    Examples
    --------
    >>> c_number(0.5, "f"), c_number(-math.inf), c_number(2.0)
    ('0.5f', '-INFINITY', '2.0')
    """
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "-INFINITY" if value < 0 else "INFINITY"
    return repr(value) + suffix
