"""Tables of quantiles: codes that a given generalized Gaussian would use about equally often (NF4 and its kin)."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .._base.checks import are_integers
from .base import Format

__all__ = ["nf4_format", "quantile_format"]

# The table of NF4 as QLoRA publishes it (arXiv 2305.14314, appendix E). It was computed in float32, so it differs from
# `quantile_format(4, 2)` by up to 2e-7; other tools have it bit for bit.
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def nf4_format() -> Format:
    """Make NF4, QLoRA's 4-bit NormalFloat, from its published table.

    Returns
    -------
    Format
        ``nf4``; its codes are in the order of their values.

    Examples
    --------
    >>> float(abs(nf4_format().values - quantile_format(4, 2.0).values).max()) < 2e-7
    True
    """
    return Format(
        name="nf4",
        bits=4,
        family="quantile",
        description="QLoRA's 4-bit NormalFloat: quantiles of a Gaussian, in order",
        values=np.array(_NF4, dtype=np.float32).astype(np.float64),
    )


def quantile_format(bits: int, shape: float, *, name: str | None = None) -> Format:
    """Make a quantile table for a generalized Gaussian, after the construction of NF4 in QLoRA (arXiv 2305.14314).

    With n = 2**(bits-1): n + 1 evenly spaced probabilities from 1/2 to 1 - delta give the non-negative side, n from
    delta to 1/2 the negative side, zero once, all divided by the largest; delta = (1/(4n) + 1/(4n - 2)) / 2. At 4 bits
    this is QLoRA's delta, and with shape 2 its table up to the rounding of that. The values are rounded to float32.

    Parameters
    ----------
    bits : int
        Width, 2 to 8: at 16 bits the quantiles would take seconds.
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
    if not are_integers(bits) or not 2 <= bits <= 8:
        raise ValueError(f"a quantile table has 2 to 8 bits, got {bits!r}")
    if not isinstance(shape, int | float) or not 0.05 <= shape <= 100:
        raise ValueError(f"the shape of the generalized Gaussian must be from 0.05 to 100, got {shape!r}")
    half = 1 << (bits - 1)
    delta = 0.5 * (1 / (4 * half) + 1 / (4 * half - 2))
    positive = _quantiles(shape, np.linspace(0.5, 1 - delta, half + 1)[1:])
    negative = _quantiles(shape, np.linspace(delta, 0.5, half)[:-1])
    values = np.concatenate([negative, [0.0], positive]) / positive[-1]
    return Format(
        name=name or f"quantile({bits},{shape:g})",
        bits=bits,
        family="quantile",
        description=f"quantiles of the generalized Gaussian of shape {shape:g}, in order",
        values=values.astype(np.float32).astype(np.float64),
    )


def _quantiles(shape: float, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quantiles, but for their scale."""
    if shape == 2:  # the standard library knows the Gaussian: nothing is to be imported
        return np.array([NormalDist().inv_cdf(share) for share in shares.tolist()])
    from ggd import GGD

    return np.asarray(GGD(shape=shape).ppf(shares))
