"""DeepShape: weights moved onto the quantiles of another generalized Gaussian (arXiv 2506.00486 v3).

The source states the aim, that weights of an arbitrary distribution are made to follow a target one after training.
Its steps in detail are inferred here: which quantiles, what becomes of signs, ties and zeros.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ggd.arrays import as_numpy, in_kind
from ggd.distribution import GGD
from ggd.estimate import fit

__all__ = ["METHODS", "deepshape"]

METHODS = ("ranks", "curve", "source")


def deepshape(
    x: ArrayLike,
    *,
    shape_factor: float = 1.0,
    std_factor: float = 1.0,
    method: str = "ranks",
    bins: int = 1000,
    fitted: GGD | None = None,
) -> NDArray[Any]:
    """Move weights onto the quantiles of a target whose shape and deviation are multiples of their fit's.

    Parameters
    ----------
    x : array_like
        float64, float32 or float16 weights of any shape; also as an array of another library (`ggd.arrays.as_numpy`).
    shape_factor, std_factor : float
        The target's shape and standard deviation, as multiples of those of the fit. With both 1 the target is the fit,
        and x is returned as it is.
    method : str
        ``ranks``: the k-th smallest of n magnitudes becomes the target's quantile at ``(k - 1/2) / n``. Signs and
        zeros stay; of equal magnitudes the one that comes first stays the smaller. The result follows the target
        also where x did not.
        ``curve``: a magnitude becomes the target's quantile at the probability that the fit gives it: a smooth curve
        through zero, under which equal weights stay equal. What the fit misses the result misses too.
        ``source``: the histogram of x, of equal bins, is matched to the target's distribution function at their edges,
        linearly inside: histogram specification. Signs near zero can change.
    bins : int
        Of ``source``; at least 2.
    fitted : GGD, optional
        The fit, if it is known, or one of several tensors together.

    Returns
    -------
    ndarray
        Of x's shape, dtype and library.

    Raises
    ------
    ValueError
        If an option is unknown or out of range, x is not finite, or nothing can be fitted to it.

    Examples
    --------
    >>> import ggd
    >>> x = ggd.GGD(1.2, 0.02).sample(100_000, seed=0)
    >>> y = deepshape(x, shape_factor=0.5)
    >>> before, after = ggd.fit(x), ggd.fit(y)
    >>> bool(abs(after.shape / before.shape - 0.5) < 1e-3), bool((np.sign(y) == np.sign(x)).all())
    (True, True)
    """
    data = as_numpy(x)
    if data.dtype.kind != "f":
        raise ValueError(f"weights are floating-point numbers, got {data.dtype.name}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose {', '.join(METHODS)}")
    for name, factor in (("shape_factor", shape_factor), ("std_factor", std_factor)):
        if not 0.0 < factor < math.inf:
            raise ValueError(f"{name} is positive and finite, got {factor!r}")
    if bins < 2:
        raise ValueError(f"a histogram needs at least 2 bins, got {bins}")
    if not np.isfinite(data).all():
        raise ValueError("weights to reshape must be finite: some are NaN or infinite")
    if shape_factor == std_factor == 1.0 or not data.any():
        return in_kind(data.copy(), x)
    if fitted is None:
        estimate = fit(data)
        if math.isnan(estimate.shape):
            raise ValueError(f"no generalized Gaussian fits these weights: {estimate.reason}")
        fitted = GGD(estimate.shape, estimate.scale)
    target = GGD.from_std(fitted.shape * shape_factor, fitted.std * std_factor)
    wide = data.astype(np.float64)
    if method == "source":
        moved = _by_histogram(wide, target, bins)
    else:
        tail = _tail_by_ranks(wide) if method == "ranks" else 2.0 * np.asarray(fitted.sf(np.abs(wide)))
        moved = np.where(wide == 0, wide, np.copysign(_from_tail(target, tail), wide))
    return in_kind(moved.astype(data.dtype), x)


def _tail_by_ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of nonzero magnitudes above each, halfway through its own place; 1 for zeros."""
    tail = np.ones(x.size)
    nonzero = np.flatnonzero(x.ravel())
    order = nonzero[np.argsort(np.abs(x.ravel()[nonzero]), kind="stable")]
    tail[order] = (np.arange(order.size, 0, -1) - 0.5) / order.size
    return tail.reshape(x.shape)


def _from_tail(target: GGD, tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the magnitude that a share of the target's magnitudes exceeds."""
    limits = np.finfo(np.float64)
    return np.asarray(target.isf(0.5 * np.clip(tail, limits.tiny, 1.0)), dtype=np.float64)


def _by_histogram(x: NDArray[np.float64], target: GGD, bins: int) -> NDArray[np.float64]:
    counts, edges = np.histogram(x, bins)
    share = np.concatenate([[0.0], np.cumsum(counts) / x.size])
    half = 0.5 / x.size
    matched = np.asarray(target.ppf(np.clip(share, half, 1.0 - half)), dtype=np.float64)
    return np.asarray(np.interp(x, edges, matched), dtype=np.float64)
