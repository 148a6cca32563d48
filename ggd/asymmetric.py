"""Fitting the asymmetric generalized Gaussian: one shape, and a scale for each side of the mode."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from ggd import goodness
from ggd.estimate import fit
from ggd.histogram import MagnitudeHistogram
from ggd.result import LARGEST_ERROR, SHAPE_RANGE
from ggd.rivals import AsymmetricGGD

__all__ = ["AsymmetricErrors", "AsymmetricFit", "fit_asymmetric", "likeliest"]

Array = NDArray[np.float64]


class AsymmetricErrors(NamedTuple):
    """Standard errors of an asymmetric fit, from the Fisher information."""

    shape: float
    left: float
    right: float


@dataclass(frozen=True)
class AsymmetricFit:
    """A fitted asymmetric generalized Gaussian, and whether to believe it.

    Attributes
    ----------
    shape, left, right : float
        Parameters; NaN where the data determine none.
    stderr : AsymmetricErrors
        Their standard errors for independent data.
    loglik : float
        Mean log density per nonzero value, in nats.
    n, zeros : int
        Number of values the fit rests on, finite and not zero; and of exact zeros, which are left out.
    trusted : bool
        Whether the fit can be used without a second look.
    reason : str
        Why not, in one sentence; empty for a trusted fit.
    misfit : float
        As of `FitResult`: bits per value that a histogram saves; above 0.1 the fit does not describe the data.

    Examples
    --------
    >>> result = fit_asymmetric(np.linspace(-1.0, 3.0, 7) ** 3)
    >>> result.trusted, result.reason
    (False, 'too few distinct magnitudes to determine a shape: 5 among 7 nonzero values')
    """

    shape: float
    left: float
    right: float
    stderr: AsymmetricErrors
    loglik: float
    n: int
    zeros: int
    trusted: bool
    reason: str = ""
    misfit: float = math.nan

    @property
    def distribution(self) -> AsymmetricGGD:
        """The fitted distribution.

        Raises
        ------
        ValueError
            If there is no fit.
        """
        if math.isnan(self.shape):
            raise ValueError(f"there is no fitted distribution: {self.reason}")
        return AsymmetricGGD(self.shape, self.left, self.right)

    @property
    def asymmetry(self) -> float:
        """The logarithm of right over left in its standard errors: beyond +-5 no symmetric density will do."""
        if math.isnan(self.shape):
            return math.nan
        below, above = self.left / (self.left + self.right), self.right / (self.left + self.right)
        information = _information(self.shape, below, above)
        contrast = np.array([0.0, -1.0, 1.0])
        error = math.sqrt(float(contrast @ np.linalg.inv(information) @ contrast) / self.n)
        return math.log(self.right / self.left) / error


def fit_asymmetric(x: ArrayLike | MagnitudeHistogram) -> AsymmetricFit:
    """Fit an asymmetric generalized Gaussian with its mode at zero, by maximum likelihood.

    Its density is proportional to exp(-(|x| / left)^shape) below zero and exp(-(x / right)^shape) above, so the share
    left / (left + right) of the values is below. As in `ggd.fit`, exact zeros are left out.

    Parameters
    ----------
    x : array_like or MagnitudeHistogram
        Data of any shape, or its summary. Of data with another mode pass the differences from it.

    Returns
    -------
    AsymmetricFit
        With NaN parameters and the reason where the symmetric fit has none, or all values are on one side.

    Raises
    ------
    ValueError
        If x is empty or not numeric.

    Examples
    --------
    >>> from ggd import GGD
    >>> x = np.abs(GGD(1.5).sample(200_000, seed=0))
    >>> x[:50_000] *= -1.0 / 3.0  # left 1/3, right 1: a quarter of the values is below
    >>> result = fit_asymmetric(x)
    >>> errors = [(result.shape - 1.5) / result.stderr.shape, (result.left - 1 / 3) / result.stderr.left]
    >>> result.trusted, max(map(abs, errors)) < 5, result.asymmetry > 100
    (True, True, True)
    """
    histogram = x if isinstance(x, MagnitudeHistogram) else MagnitudeHistogram.from_array(x)
    symmetric = fit(histogram)
    n, zeros = symmetric.n, symmetric.zeros
    nothing = AsymmetricErrors(math.nan, math.nan, math.nan)

    def no_fit(reason: str) -> AsymmetricFit:
        return AsymmetricFit(math.nan, math.nan, math.nan, nothing, math.nan, n, zeros, False, reason)

    if math.isnan(symmetric.shape):
        return no_fit(symmetric.reason)
    cells = histogram.cells()
    below = cells.mean < 0
    if np.all(below) or not np.any(below):
        return no_fit("all values are on one side of zero: the other side has no scale")
    magnitude = np.abs(cells.mean)
    unit = float(np.dot(cells.counts, magnitude)) / n
    log, weight = np.log(magnitude / unit), cells.counts / n

    def power_means(p: float) -> tuple[float, float]:
        power = weight * np.exp(p * log) * (1.0 + 0.5 * p * (p - 1.0) * cells.spread)
        return float(power[below].sum()), float(power[~below].sum())

    ends = [math.log(end) for end in SHAPE_RANGE]
    log_p = _best(lambda log_p: -_profile(math.exp(log_p), *power_means(math.exp(log_p))), *ends)
    if min(log_p - ends[0], ends[1] - log_p) < 1e-3:
        return no_fit(f"the best shape is beyond {math.exp(log_p):.3g}: the values are not of this family")
    p = math.exp(log_p)
    member = likeliest(p, *power_means(p))
    left, right = unit * member.left, unit * member.right
    variances = np.diag(np.linalg.inv(_information(p, left / (left + right), right / (left + right)))) / n
    relative = np.sqrt(variances)
    errors = AsymmetricErrors(float(relative[0]), float(left * relative[1]), float(right * relative[2]))
    ends_of_cells = goodness.equal_cells(p, 0.5 * (left + right), n)
    misfit = goodness.misfit(
        goodness.smoothed(cells), ends_of_cells, AsymmetricGGD(p, left, right).cdf(ends_of_cells), n
    )
    loglik = _profile(p, *power_means(p)) - math.log(unit)
    reason = ""
    if misfit > goodness.limit(n):
        reason = f"no member of this family describes the values: a histogram saves {misfit:.2g} bits per value"
    elif errors.shape > LARGEST_ERROR * p:
        reason = f"too few values ({n}): the standard error of the shape is {errors.shape:.2g}"
    return AsymmetricFit(p, left, right, errors, loglik, n, zeros, not reason, reason, misfit)


def likeliest(p: float, low: float, high: float) -> AsymmetricGGD:
    """Return the member of a shape that is likeliest for given power means.

    Where the likelihood is stationary, left^(p+1) = p low (left + right), and the same on the right.

    Parameters
    ----------
    p : float
        The shape.
    low, high : float
        Sums of |x|^p over the values below and above zero, divided by the number of all values.

    Returns
    -------
    AsymmetricGGD

    Examples
    --------
    >>> member = likeliest(1.0, 0.5, 0.5)
    >>> round(member.left, 12), round(member.right, 12)
    (1.0, 1.0)
    """
    low, high = max(low, 1e-12 * high), max(high, 1e-12 * low)  # of one sign: a half-density, with a side too small
    u, v = low ** (1.0 / (p + 1.0)), high ** (1.0 / (p + 1.0))
    unit = (p * (u + v)) ** (1.0 / p)
    return AsymmetricGGD(p, u * unit, v * unit)


def _profile(p: float, low: float, high: float) -> float:
    """Return the mean log-likelihood at the best scales: log p - log Gamma(1/p) - log(left + right) - 1/p."""
    member = likeliest(p, low, high)
    return math.log(p) - math.lgamma(1.0 / p) - math.log(member.left + member.right) - 1.0 / p


def _best(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function is least, to about 1e-8: the lowest of a grid, then parabolas about it."""
    grid = np.linspace(low, high, 24)
    values = [loss(float(place)) for place in grid]
    i = int(np.argmin(values))
    ends = grid[max(i - 1, 0)], grid[min(i + 1, grid.size - 1)]
    return float(optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9}).x)


def _information(p: float, below: float, above: float) -> Array:
    """Return the Fisher information of (shape, log left, log right), per value.

    With z = |t|^p ~ Gamma(1/p) on either side, the scores of the scales are p z - (share of the side) on their own side
    and -(share) on the other; that of the shape is the symmetric one.
    """
    a = 1.0 / p
    inside = (1.0 + a) * float(special.polygamma(1, 1.0 + a)) - 1.0
    cross = -a * (1.0 + float(special.digamma(1.0 + a)))
    first = inside / p**3 + cross**2 / p
    return np.array(
        [
            [first, below * cross, above * cross],
            [below * cross, below * (p + 1.0) - below**2, -below * above],
            [above * cross, -below * above, above * (p + 1.0) - above**2],
        ]
    )
