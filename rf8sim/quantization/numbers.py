"""Numbers that a scale or a zero point is stored in: a float layout or a format of the registry."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base.checks import choose
from ..formats import Format, format_names, get_format, get_layout
from ..formats.floats import ARRAY_LAYOUTS

__all__ = ["is_stored", "number_bits", "number_dtype", "number_format", "number_range", "stored_number"]

_LAYOUTS = tuple(ARRAY_LAYOUTS)


def number_bits(name: str) -> int:
    """Return the width of a number of a layout or a format; raise ValueError if there is neither of that name."""
    fmt = number_format(name)
    return get_layout(name).bits if fmt is None else fmt.bits


def number_format(name: str) -> Format | None:
    """Return the format of a name, or None for a float layout that arrays have."""
    if name in _LAYOUTS:
        return None
    try:
        return get_format(name)
    except ValueError:
        choose("scale format", name, [*_LAYOUTS, *format_names()])  # suggests the nearest of both
        raise


def number_dtype(name: str) -> np.dtype[Any] | None:
    """Return the numpy dtype of a layout, or None for a format."""
    return get_layout(name).dtype if name in _LAYOUTS else None


@cache
def number_range(name: str) -> tuple[float, float]:
    """Return the smallest positive and the largest value that a name stores."""
    fmt = number_format(name)
    if fmt is not None:
        return fmt.smallest, fmt.max
    return get_layout(name).smallest_subnormal, get_layout(name).max


def stored_number(x: ArrayLike, name: str, rounding: str = "nearest-even") -> NDArray[np.float64]:
    """Round positive numbers to a layout or format, into its range: 0 is never stored.

    Parameters
    ----------
    x : array_like of float64
        Positive numbers; negative ones are rounded as magnitudes and keep their sign.
    name : str
        A float layout or a format.
    rounding : str
        ``nearest-even``, ``toward-zero`` or ``up`` (away from zero).

    Returns
    -------
    ndarray of float64
        Of the same shape.

    Examples
    --------
    >>> stored_number([0.3, 1e-60], "float16").tolist(), float(stored_number(0.3, "e8m0fnu", "up"))
    ([0.300048828125, 5.960464477539063e-08], 0.5)
    """
    values = np.asarray(x, dtype=np.float64)
    smallest, largest = number_range(name)
    clipped = np.clip(np.abs(values), smallest, largest)
    fmt, dtype = number_format(name), number_dtype(name)
    if fmt is not None:
        from ..codec.codec import decode, encode  # brings numba, which schemes do without

        rounded: NDArray[np.float64] = decode(encode(clipped, fmt, rounding=rounding), fmt, dtype=np.float64)
    else:
        assert dtype is not None
        nearest = clipped.astype(dtype)
        rounded = nearest.astype(np.float64)
        if rounding != "nearest-even":
            wrong = rounded < clipped if rounding == "up" else rounded > clipped
            with np.errstate(over="ignore", under="ignore"):
                beside = np.nextafter(nearest, dtype.type(np.inf if rounding == "up" else 0)).astype(np.float64)
            rounded = np.where(wrong, beside, rounded)
    return np.where(np.signbit(values), -rounded, rounded)


def is_stored(x: ArrayLike, name: str) -> NDArray[np.bool_]:
    """Return which numbers a layout or format stores exactly; 0, NaN and infinities are none of them."""
    values = np.asarray(x, dtype=np.float64)
    usual = np.isfinite(values) & (values != 0)
    stored: NDArray[np.bool_] = usual & (stored_number(np.where(usual, values, 1.0), name) == values)
    return stored
