"""An 8-bit logarithmic number system: every magnitude is a power of 2**(1/steps)."""

from __future__ import annotations

import numpy as np

from .base import Format

__all__ = ["logarithmic_format"]


def logarithmic_format(steps: int = 8, name: str = "lns8") -> Format:
    """Make an 8-bit logarithmic format, code ``s LLLLLLL``.

    The magnitude of field L is ``2**((L - 127) / steps)`` rounded to float32, code 0 is zero and 0x80 is NaN, so that
    the largest value is 1 and, with 8 steps, the format spans nearly the octaves of RF8.

    Parameters
    ----------
    steps : int
        Values per octave.
    name : str
        The format's name.

    Returns
    -------
    Format
        The format; its scales are powers of two.

    Examples
    --------
    >>> logarithmic_format().values[[0x7F, 0x77]].tolist()
    [1.0, 0.5]
    """
    field = np.arange(129)
    magnitude = np.exp2((field - 127) / steps).astype(np.float32).astype(np.float64)
    magnitude[0] = 0.0
    negative = -magnitude[:128]
    negative[0] = np.nan
    return Format(
        name=name,
        bits=8,
        family="logarithmic",
        description=f"logarithmic: sign and a 7-bit logarithm, {steps} values an octave",
        values=np.concatenate([magnitude[:128], negative]),
        beyond=float(magnitude[128]),
    )
