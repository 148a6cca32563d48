"""Tables of quantiles: codes that a given generalized Gaussian would use about equally often (NF4 and its kin)."""

from __future__ import annotations

import numpy as np

from .base import Format

__all__ = ["quantile_format"]


def quantile_format(bits: int, shape: float, name: str | None = None) -> Format:
    """Make a quantile table for a generalized Gaussian, after the construction of NF4 in QLoRA (arXiv 2305.14314).

    With n = 2**(bits-1): n + 1 evenly spaced probabilities from 1/2 to 1 - delta give the non-negative side, n from
    delta to 1/2 the negative side, zero once, all divided by the largest; delta = (1/(4n) + 1/(4n - 2)) / 2. At 4 bits
    this is QLoRA's delta, and with shape 2 its published table. The values are rounded to float32.

    Parameters
    ----------
    bits : int
        Width, 2 to 8.
    shape : float
        Shape of the generalized Gaussian (2 Gaussian, 1 Laplace).
    name : str, optional
        By default ``quantile(bits,shape)``.

    Returns
    -------
    Format
        A format whose codes are in the order of their values, with neither NaN nor infinity.

    Raises
    ------
    ValueError
        If bits or shape is out of range.

    Examples
    --------
    >>> quantile_format(4, 2.0).values[[0, 7, 8, 15]].round(4).tolist()
    [-1.0, 0.0, 0.0796, 1.0]
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"a quantile table has 2 to 8 bits, got {bits}")
    if not 0.05 <= shape <= 100:
        raise ValueError(f"the shape of the generalized Gaussian must be from 0.05 to 100, got {shape}")
    from ggd import GGD

    half = 1 << (bits - 1)
    delta = 0.5 * (1 / (4 * half) + 1 / (4 * half - 2))
    density = GGD(shape=shape)
    positive = np.asarray(density.ppf(np.linspace(0.5, 1 - delta, half + 1)[1:]))
    negative = np.asarray(density.ppf(np.linspace(delta, 0.5, half)[:-1]))
    values = np.concatenate([negative, [0.0], positive]) / positive[-1]
    return Format(
        name=name or f"quantile({bits},{shape:g})",
        bits=bits,
        family="quantile",
        description=f"quantiles of the generalized Gaussian of shape {shape:g}, in order",
        values=values.astype(np.float32).astype(np.float64),
    )
