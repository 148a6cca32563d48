"""The residual float family RF(p, depth): a power of two plus or minus a smaller one.

The number system is that of Wu, Xiong, Wen and Han, arXiv 2506.00486 v3. The source publishes no bit layout, no
zero, no NaN and no exponent range; those are fixed by this project's own specification.
"""

from __future__ import annotations

import numpy as np

from .._base.checks import are_integers
from .base import REACH, Format

__all__ = ["residual_format"]


def residual_format(exponent_bits: int, depth: int, bias: int | None = None, *, name: str | None = None) -> Format:
    """Make RF(exponent_bits, depth), with code ``s E r``: sign, exponent field, residual field.

    A code's magnitude is ``2**(E - bias) * m`` with ``m = 1 + sgn(t) * 2**(|t| - depth - 1)``, ``t = r - depth + 1``;
    code 0 is zero and the code of the sign bit alone is NaN.

    Parameters
    ----------
    exponent_bits : int
        Width p of the exponent field, at least 1.
    depth : int
        The largest distance of the two powers of two, itself a power of two from 2 to 16, so that a value has at most
        17 significant bits; the residual field has log2(depth) + 1 bits. (At depth 1 there is no negative residual and
        so no alias, and the source's two-step rule passes over a value: 0.75 would round to 1.)
    bias : int, optional
        Exponent bias; by default ``2**exponent_bits - 1``, so that the largest exponent is 0.
    name : str, optional
        By default ``rf(p,depth)`` or ``rf(p,depth,bias)``.

    Returns
    -------
    Format
        The format; its scales are powers of two.

    Raises
    ------
    ValueError
        If the code would be wider than 16 bits, a parameter is out of range or a value would leave 2**-500 to 2**500.

    Examples
    --------
    >>> residual_format(4, 4).values[[0x01, 0x7B, 0x7F]].tolist()
    [2.6702880859375e-05, 1.0, 1.5]
    """
    if not are_integers(exponent_bits, depth, 0 if bias is None else bias):
        raise ValueError(f"RF({exponent_bits}, {depth}): p, depth and bias are whole numbers")
    if depth < 2 or depth & (depth - 1) or exponent_bits < 1:
        raise ValueError(
            f"RF({exponent_bits}, {depth}): depth must be a power of two from 2 on, and there must be an exponent bit"
        )
    residual_bits = depth.bit_length()
    bits = 1 + exponent_bits + residual_bits
    if bits > 16 or depth > 16:
        raise ValueError(
            f"RF({exponent_bits}, {depth}) needs {bits} bits; at most 16 bits and depth 16 are supported: reduce "
            "p or depth"
        )
    default_bias = (1 << exponent_bits) - 1
    chosen_bias = default_bias if bias is None else bias
    if not -REACH < -chosen_bias <= default_bias - chosen_bias < REACH:
        raise ValueError(
            f"RF({exponent_bits}, {depth}): with bias {chosen_bias} the exponents run from {-chosen_bias} to "
            f"{default_bias - chosen_bias}, outside {1 - REACH} to {REACH - 1}: choose another bias or a smaller p"
        )

    code = np.arange(1 << (bits - 1))
    exponent, t = code >> residual_bits, (code & (2 * depth - 1)) - (depth - 1)
    # 2**(depth+1) * m is an integer: the significand in units of the last place.
    significand = (2 << depth) + np.sign(t) * (1 << np.abs(t))
    magnitude = np.ldexp(significand.astype(np.float64), exponent - chosen_bias - depth - 1)
    magnitude[0] = 0.0
    negative = -magnitude
    negative[0] = np.nan
    # One octave above the largest exponent, the smallest magnitude that is not an alias of the largest value.
    above = np.ldexp(significand[: 2 * depth].astype(np.float64), (1 << exponent_bits) - chosen_bias - depth - 1)
    parameters = (exponent_bits, depth) if bias is None else (exponent_bits, depth, bias)
    return Format(
        name=name or f"rf({','.join(map(str, parameters))})",
        bits=bits,
        family="residual",
        description=f"residual float RF({exponent_bits}, {depth}), bias {chosen_bias}: two signed powers of two",
        values=np.concatenate([magnitude, negative]),
        beyond=float(above[above > magnitude.max()][0]),
        depth=depth,
    )
