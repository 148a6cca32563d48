"""Exact numbers and their logarithms to base 2."""

from __future__ import annotations

from fractions import Fraction
from typing import SupportsFloat

import numpy as np

__all__ = ["exact", "floor_log2", "nearest_exponent", "power_of_two"]


def exact(x: SupportsFloat) -> Fraction:
    """Return the exact real value of a finite scalar.

    Parameters
    ----------
    x : int, float, Fraction or numpy scalar
        Of any integer or floating type, ``ml_dtypes.bfloat16`` included.

    Returns
    -------
    Fraction
        The value; -0 is 0.

    Raises
    ------
    ValueError, OverflowError
        If `x` is NaN or infinite.

    Examples
    --------
    >>> exact(0.375), exact(np.float16(-2.5)), exact(np.uint64(2**64 - 1)) == 2**64 - 1
    (Fraction(3, 8), Fraction(-5, 2), True)
    """
    if isinstance(x, Fraction):
        return x
    if isinstance(x, (int, np.integer)):
        return Fraction(int(x))
    if isinstance(x, np.floating):
        return Fraction(*x.as_integer_ratio())
    return Fraction(float(x))


def power_of_two(k: int) -> Fraction:
    """Return ``2**k`` for any integer k.

    Examples
    --------
    >>> power_of_two(-3)
    Fraction(1, 8)
    """
    return Fraction(1 << k) if k >= 0 else Fraction(1, 1 << -k)


def floor_log2(x: Fraction) -> int:
    """Return the largest k with ``2**k <= x``, for positive `x`.

    Examples
    --------
    >>> floor_log2(Fraction(1, 3)), floor_log2(Fraction(8)), floor_log2(Fraction(8) - Fraction(1, 10**30))
    (-2, 3, 2)
    """
    k = x.numerator.bit_length() - x.denominator.bit_length()
    # 2**k <= x, in integers
    return k if x.denominator << max(k, 0) <= x.numerator << max(-k, 0) else k - 1


def nearest_exponent(x: Fraction) -> int:
    """Return the integer nearest ``log2(abs(x))``, for nonzero `x`.

    k is that integer when ``2**(k - 1/2) < |x| < 2**(k + 1/2)``, that is ``2**(2k-1) < x**2 < 2**(2k+1)``. No
    rational x**2 is an odd power of two, so there are no ties.

    Examples
    --------
    >>> [nearest_exponent(Fraction(n, 100)) for n in (141, 142, -12)]
    [0, 1, -3]
    """
    return (floor_log2(x * x) + 1) // 2
