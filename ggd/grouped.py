"""Maximum likelihood from data known only up to intervals: counts on a quantization grid, and censored tails."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from ggd import _gamma
from ggd.distribution import GGD
from ggd.result import LARGEST_ERROR, SHAPE_RANGE, FitResult, StandardErrors, no_fit

__all__ = ["fit_grouped"]

Array = NDArray[np.float64]


def fit_grouped(edges: ArrayLike, counts: ArrayLike, *, loc: float = 0.0) -> FitResult:
    """Fit a generalized Gaussian to counts in intervals, by the likelihood of the intervals.

    For data on a quantization grid this is the likelihood to use: the density at the grid's values is not, and zero
    is a value like any other (its interval has a probability).

    Parameters
    ----------
    edges : array_like of float, shape (k + 1,)
        Ends of the intervals, strictly ascending; the first and last may be infinite.
    counts : array_like of int, shape (k,)
        Number of values in each interval, not negative.
    loc : float
        The centre.

    Returns
    -------
    FitResult
        With ``method="grouped"``; ``loglik`` is the mean log probability of a value's interval, in nats. Counts that
        determine no shape give NaN parameters and the reason, as `ggd.fit` does.

    Raises
    ------
    ValueError
        If the arrays do not match, the edges do not ascend, a count is negative, or all are zero.

    Examples
    --------
    >>> x = GGD(1.2, 0.02).sample(100_000, seed=0)
    >>> codes = np.clip(np.rint(x / 0.01), -7, 7)
    >>> edges = 0.01 * np.concatenate([[-np.inf], np.arange(-6.5, 7.0), [np.inf]])
    >>> result = fit_grouped(edges, np.bincount((codes + 7).astype(int), minlength=15))
    >>> result.trusted, bool(abs(result.shape - 1.2) < 5 * result.stderr.shape)
    (True, True)
    """
    e, n = np.asarray(edges, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if n.ndim != 1 or e.shape != (n.size + 1,):
        raise ValueError(f"k counts lie between k + 1 edges, got shapes {n.shape} and {e.shape}")
    if not np.all(np.diff(e) > 0) or not math.isfinite(loc):
        raise ValueError("the edges must be strictly ascending and the centre finite")
    if not np.all((n >= 0) & np.isfinite(n)) or n.sum() == 0:
        raise ValueError("the counts must not be negative, and at least one must be positive")
    left, right, n = e[:-1][n > 0] - loc, e[1:][n > 0] - loc, n[n > 0]
    total = int(n.sum())
    # Only what a symmetric density can tell apart counts: intervals that mirror each other are one.
    distinct = len({(max(-r, l), max(r, -l)) for l, r in zip(left.tolist(), right.tolist(), strict=True)})  # noqa: E741
    if distinct < 3:
        return no_fit(loc, "grouped", total, 0, f"counts in {distinct} intervals of magnitude determine no shape")
    ends = np.abs(np.concatenate([left, right]))
    unit = float(np.exp(np.average(np.log(ends[np.isfinite(ends) & (ends > 0)]))))

    def loglik(p: float, scale: float) -> float:
        return float(np.dot(n, _log_probability(p, left / (unit * scale), right / (unit * scale)))) / total

    return _maximize(loglik, unit, loc, "grouped", total, 0)


def _log_probability(p: float, left: Array, right: Array) -> Array:
    """Return the log probability of [left, right] under the standard density of shape p."""
    # By symmetry an interval is on the right of the centre or has it inside.
    near, far = np.where(right <= 0, -right, left), np.where(right <= 0, -left, right)
    one_side = near >= 0
    a, b = np.where(one_side, near, 0.0), np.where(one_side, far, 0.0)
    log_a = _gamma.log_upper(1.0, p, a)
    log_b = np.where(np.isinf(b), -np.inf, _gamma.log_upper(1.0, p, np.where(np.isinf(b), 0.0, b)))
    with np.errstate(divide="ignore", invalid="ignore"):
        # log(Q(a) - Q(b)); near the centre both logs are small and keep their relative accuracy.
        tail = log_a + np.log(-np.expm1(log_b - log_a))
        across = np.log(_gamma.lower(1.0, p, np.maximum(-left, 0)) + _gamma.lower(1.0, p, np.maximum(right, 0)))
    result = np.where(one_side, tail, across) - math.log(2.0)
    return np.where(np.isnan(result), -np.inf, result)


class Censored(NamedTuple):
    """Magnitudes in a common unit, those above a limit known only by their number."""

    log: Array
    counts: Array
    spread: Array
    limit: float
    above: int
    unit: float


def fit_censored(data: Censored, loc: float, n: int, zeros: int) -> FitResult:
    """Fit by the likelihood in which a magnitude above the limit says only that.

    Parameters
    ----------
    data : Censored
        Magnitudes about the centre.
    loc : float
        The centre, for the record.
    n, zeros : int
        Number of nonzero values and of zeros, for the record.

    Returns
    -------
    FitResult

    Examples
    --------
    See `ggd.fit`, whose option ``censor`` calls this.
    """
    inside = float(data.counts.sum())

    def loglik(p: float, scale: float) -> float:
        t = data.log - math.log(scale)
        power = np.exp(p * t) * (1.0 + 0.5 * p * (p - 1.0) * data.spread)
        value = -inside * GGD(p, scale)._log_norm - float(np.dot(data.counts, power))
        return (value + data.above * float(_gamma.log_upper(1.0, p, data.limit / scale))) / (inside + data.above)

    return _maximize(loglik, data.unit, loc, "censored", n, zeros)


def _maximize(
    loglik: Callable[[float, float], float], unit: float, loc: float, method: str, n: int, zeros: int
) -> FitResult:
    """Maximize a mean log-likelihood over shape and scale, with standard errors from its curvature.

    The search is over the logarithms of the shape and of the mean magnitude, which are all but uncorrelated.
    """

    def scale_of(theta: Array) -> float:
        a = math.exp(-theta[0])
        return math.exp(theta[1] + math.lgamma(1.0 + a) - math.lgamma(1.0 + 2.0 * a) + math.log(2.0))

    low, high = (math.log(end) for end in SHAPE_RANGE)

    def loss(theta: Array) -> float:
        if not low <= theta[0] <= high or abs(theta[1]) > 60.0:
            return math.inf
        return -loglik(math.exp(theta[0]), scale_of(theta))

    start = min((np.array([math.log(p), m]) for p in (0.3, 1.0, 3.0) for m in (-3.0, -1.5, 0.0, 1.5)), key=loss)
    options = {"xatol": 1e-9, "fatol": 1e-15, "maxfev": 4000, "initial_simplex": start + 0.2 * np.eye(3, 2, -1)}
    optimum = optimize.minimize(loss, start, method="Nelder-Mead", options=options)
    theta = np.asarray(optimum.x)
    if not math.isfinite(optimum.fun) or min(theta[0] - low, high - theta[0]) < 1e-3:
        end = f"above {SHAPE_RANGE[1]:g}" if theta[0] > 0 else f"below {SHAPE_RANGE[0]:g}"
        return no_fit(loc, method, n, zeros, f"the best shape is {end}: the values are not of this family")
    shape, scale = math.exp(theta[0]), unit * scale_of(theta)
    covariance = _inverse_curvature(loss, theta) / n
    step = 1e-4
    gradient = np.array([math.log(scale_of(theta + d) / scale_of(theta - d)) / (2 * step) for d in step * np.eye(2)])
    variances = covariance[0, 0], float(gradient @ covariance @ gradient)
    if not (np.all(np.isfinite(variances)) and min(variances) > 0):
        return no_fit(loc, method, n, zeros, "the likelihood has no curvature at its maximum: too few values")
    errors = StandardErrors(shape * math.sqrt(variances[0]), scale * math.sqrt(variances[1]))
    few = errors.shape > LARGEST_ERROR * shape
    reason = f"too few values ({n}): the standard error of the shape is {errors.shape:.2g}" if few else ""
    value = -float(optimum.fun) - (math.log(unit) if method == "censored" else 0.0)
    return FitResult(shape, scale, loc, errors, value, method, n, zeros, not reason, reason)


def _inverse_curvature(loss: Callable[[Array], float], theta: Array) -> Array:
    h = 1e-3 * np.eye(2)
    second = np.array(
        [
            [(loss(theta + a + b) - loss(theta + a - b) - loss(theta - a + b) + loss(theta - a - b)) / 4e-6 for a in h]
            for b in h
        ]
    )
    return np.asarray(np.linalg.pinv(second))
