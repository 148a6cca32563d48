"""Posits (Gustafson and Yonemoto 2017; Posit Standard 2022, which fixes es = 2) and bounded posits of 3 to 16 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._base.checks import are_integers
from .base import Format

__all__ = ["bounded_posit_format", "posit_format"]


def posit_format(exponent_size: int, bits: int = 8) -> Format:
    """Make a posit of given width and exponent size.

    A posit is sign, regime (a run of equal bits), up to ``exponent_size`` exponent bits and a fraction; a negative
    posit is the two's complement of its magnitude, and the sign bit alone is NaR ("not a real"), the format's NaN.
    The nearest modes round as the standard says: at the posit with one bit more between two neighbours.

    Parameters
    ----------
    exponent_size : int
        Number of exponent bits, 0 to 5, so that values stay in 2**-500 to 2**500.
    bits : int
        Width, 3 to 16.

    Returns
    -------
    Format
        Named ``posit8_es0`` and so on.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> posit_format(2).max == 2.0**24, posit_format(1).smallest == 2.0**-12
    (True, True)
    >>> posit_format(1, 16).values[0x5001]
    np.float64(2.00048828125)
    """
    _check("posit", bits, exponent_size)
    return _tapered(
        f"posit{bits}_es{exponent_size}",
        f"{bits}-bit posit with {exponent_size} exponent bits; NaR is its NaN",
        bits,
        exponent_size,
        bits,
    )


def bounded_posit_format(bits: int, exponent_size: int = 5, regime_size: int = 6) -> Format:
    """Make a b-posit: a posit whose regime has a bounded length (Jonnalagadda, Thotli, Gustafson, arXiv 2603.01615).

    A run of ``regime_size`` equal bits ends the regime without a bit of the other kind, so its value runs from
    ``-regime_size`` to ``regime_size - 1``. With the paper's sizes, 6 and 5, the format spans 2**-192 to 2**192 at any
    width above 12. All else is as for posits, the boundaries of the nearest modes included.

    Parameters
    ----------
    bits : int
        Width, 3 to 16.
    exponent_size : int
        Number of exponent bits, 0 to 5.
    regime_size : int
        The longest regime, from 2; from ``bits - 1`` on it is the posit's.

    Returns
    -------
    Format
        Named ``bposit(bits,exponent_size,regime_size)``.

    Examples
    --------
    >>> fmt = bounded_posit_format(16)
    >>> fmt.smallest / 2.0**-192, fmt.max / 2.0**192
    (1.0625, 0.96875)
    """
    _check("b-posit", bits, exponent_size)
    if not are_integers(regime_size) or regime_size < 2:
        raise ValueError(f"the regime of a b-posit has at least 2 bits, got {regime_size!r}")
    return _tapered(
        f"bposit({bits},{exponent_size},{regime_size})",
        f"{bits}-bit posit with {exponent_size} exponent bits and a regime of at most {regime_size}; NaR is its NaN",
        bits,
        exponent_size,
        regime_size,
    )


def _check(kind: str, bits: int, exponent_size: int) -> None:
    if not are_integers(bits, exponent_size) or not 3 <= bits <= 16 or not 0 <= exponent_size <= 5:
        raise ValueError(f"a {kind} has 3 to 16 bits and 0 to 5 exponent bits, got {bits!r} and {exponent_size!r}")


def _tapered(name: str, description: str, bits: int, exponent_size: int, regime_size: int) -> Format:
    """Return the format: zero, the positive values, NaR and the negative ones, and the boundaries between them."""
    positive = _magnitudes(np.arange(1 << (bits - 1)), bits, exponent_size, regime_size)
    # The standard's boundaries: appending a one to a posit's bits gives the value between it and its successor.
    appended = 2 * np.arange((1 << (bits - 1)) - 1) + 1
    return Format(
        name=name,
        bits=bits,
        family="posit",
        description=description,
        values=np.concatenate([positive, [np.nan], -positive[:0:-1]]),
        nearest_boundaries=tuple(_magnitudes(appended, bits + 1, exponent_size, regime_size).tolist()),
        subnormals_below=0.0,
    )


def _magnitudes(codes: NDArray[np.int64], bits: int, exponent_size: int, regime_size: int) -> NDArray[np.float64]:
    """Return the values of positive codes, read field by field."""
    width = bits - 1
    ones = codes >> (width - 1) == 1
    # The leading run: of zeros in the bits, or in their complement.
    run = width - np.frexp(np.where(ones, ~codes & ((1 << width) - 1), codes).astype(np.float64))[1].astype(np.int64)
    run = np.minimum(run, regime_size)
    rest = width - np.where(run < regime_size, np.minimum(run + 1, width), run)  # bits after the regime
    regime = np.where(ones, run - 1, -run)
    tail = codes & ((1 << rest) - 1)
    exponent_width = np.minimum(exponent_size, rest)
    fraction_width = rest - exponent_width
    # Exponent bits cut off at the right are zeros.
    exponent = (tail >> fraction_width) << (exponent_size - exponent_width)
    significand = (1 << fraction_width) + (tail & ((1 << fraction_width) - 1))
    values = np.ldexp(significand.astype(np.float64), (regime << exponent_size) + exponent - fraction_width)
    return np.where(codes == 0, 0.0, values)
