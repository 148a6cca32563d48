"""The best quantizers and the bounds on all of them: Lloyd-Max, Panter-Dite, Shannon, entropy-coded uniform."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, optimize

from ggd.distribution import GGD
from ggd.quantizer import cell_integral, expected_mse, expected_mse_scaled, index_entropy

__all__ = [
    "BestScale",
    "Quantizer",
    "best_scale",
    "entropy_coded_uniform",
    "lloyd_max",
    "panter_dite",
    "shannon_lower_bound",
]

Array = NDArray[np.float64]


class Quantizer(NamedTuple):
    """A scalar quantizer and its error under the density that it was made for.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
        Ascending outputs.
    boundaries : ndarray of float64, shape (n - 1,)
        Ascending decision thresholds.
    mse : float
        Mean squared error.
    """

    values: Array
    boundaries: Array
    mse: float


def lloyd_max(density: GGD, levels: int) -> Quantizer:
    """Return the symmetric quantizer of least mean squared error with a given number of levels.

    Each value is the mean of its cell and each boundary lies halfway between values (Lloyd 1982, Max 1960). Solved by
    Newton's method from the companding quantizer that is best for many levels (Panter and Dite 1951).

    From shape 1 on no quantizer of as many levels is better. Below, with an even number of levels, one that has a value
    near the peak and one value less on a side is: by 0.33 dB at shape 0.5 with 2 levels, 0.75 dB at shape 0.3, 0.01 dB
    at 0.8 with 6.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    levels : int
        Number of values, 1 to 65536.

    Returns
    -------
    Quantizer
        Symmetric about `loc`.

    Raises
    ------
    ValueError
        If the number of levels is out of range, or no solution is found.

    Examples
    --------
    >>> best = lloyd_max(GGD.from_std(2.0, 1.0), 4)
    >>> best.values.round(4), round(best.mse, 4)
    (array([-1.5104, -0.4528,  0.4528,  1.5104]), 0.1175)
    """
    if levels != int(levels) or not 1 <= levels <= 65536:
        raise ValueError(f"a quantizer has from 1 to 65536 levels, got {levels!r}")
    levels, odd = int(levels), int(levels) % 2
    # Right half, in units of the scale, beside a value at the centre if the number is odd.
    count = levels // 2
    companding = GGD(density.shape, 3.0 ** (1.0 / density.shape))
    v = np.asarray(companding.isf((np.arange(count)[::-1] + 0.5) / levels))
    v = _solve(density.shape, v, odd) if count else v
    values = density.loc + density.scale * np.concatenate([-v[::-1], [0.0] * odd, v])
    boundaries = 0.5 * (values[1:] + values[:-1])
    return Quantizer(values, boundaries, expected_mse(density, values, boundaries))


def _solve(p: float, v: Array, odd: int) -> Array:
    """Find ascending positive values that are the means of their cells."""
    error, slopes = _residual(p, v, odd)
    for _ in range(5000):
        step = linalg.solve_banded((1, 1), slopes, error)
        worst = max(float(np.max(np.abs(error / v))), 1e-12)
        for damping in (1.0, 0.5, 0.25, 0.125):
            new = v - damping * step
            if new[0] > 0 and np.all(np.diff(new) > 0):
                new_error, new_slopes = _residual(p, new, odd)
                if np.max(np.abs(new_error / new)) <= worst:
                    break
        else:
            new = v - error  # Lloyd's own step: slow, but never out of order
            new_error, new_slopes = _residual(p, new, odd)
        change = float(np.max(np.abs(new - v) / new))
        v, error, slopes = new, new_error, new_slopes
        if change < 1e-12:
            return v
    raise ValueError(f"no best quantizer found for shape {p!r} and {v.size} levels a side")


def _residual(p: float, v: Array, odd: int) -> tuple[Array, Array]:
    """Return each value less the mean of its cell, and the derivatives as three diagonals."""
    edges = np.concatenate([[0.5 * v[0] * odd], 0.5 * (v[1:] + v[:-1]), [np.inf]])
    left, right = edges[:-1], edges[1:]
    mass = cell_integral(p, left, right, v, 0)
    mean_off = cell_integral(p, left, right, v, 1) / mass  # mean of the cell less its value
    mean = v + mean_off
    f = np.asarray(GGD(p).pdf(edges))
    by_left = f[:-1] * (mean - left) / mass
    by_right = np.where(np.isinf(right), 0.0, f[1:] * (np.where(np.isinf(right), mean, right) - mean) / mass)
    diagonals = np.zeros((3, v.size))
    diagonals[0, 1:] = -0.5 * by_right[:-1]
    diagonals[1] = 1.0 - 0.5 * (by_left + by_right)
    diagonals[1, 0] += 0.5 * by_left[0] * (1 - odd)  # with an even number the first boundary is fixed at the centre
    diagonals[2, :-1] = -0.5 * by_left[1:]
    return -mean_off, diagonals


def panter_dite(density: GGD, levels: float) -> float:
    """Return the error of the best quantizer as the number of levels grows: (integral of f^(1/3))^3 / (12 levels^2).

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    levels : float
        Number of levels.

    Returns
    -------
    float
        Mean squared error (Panter and Dite 1951).

    Examples
    --------
    >>> round(panter_dite(GGD.from_std(2.0, 1.0), 256) * 256**2, 4)  # sqrt(3) pi / 2
    2.7207
    """
    # f^(1/3) is a generalized Gaussian of scale 3^(1/shape) times the scale, but for its height.
    log_width = math.log(2.0 * density.scale) + math.lgamma(1.0 + 1.0 / density.shape)
    return math.exp(2.0 * log_width + 3.0 * math.log(3.0) / density.shape) / (12.0 * levels**2)


def shannon_lower_bound(density: GGD, bits: float) -> float:
    """Return an error below which no code of that rate comes: 2^(2 (entropy - bits)) / (2 pi e).

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    bits : float
        Rate, in bits per value.

    Returns
    -------
    float
        Mean squared error; attained by no scalar quantizer, and for a Gaussian by vector codes.

    Examples
    --------
    >>> round(shannon_lower_bound(GGD.from_std(2.0, 1.0), 3.0) * 4**3, 12)
    1.0
    """
    return float(2.0 ** (2.0 * (density.entropy_bits - bits)) / (2.0 * math.pi * math.e))


def entropy_coded_uniform(density: GGD, step: float) -> tuple[float, float]:
    """Return the error and rate of rounding to multiples of a step, the indices entropy-coded.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    step : float
        Positive; multiples are counted from zero, wherever the centre.

    Returns
    -------
    mse : float
        Mean squared error.
    bits : float
        Entropy of the index, in bits per value.

    Raises
    ------
    ValueError
        If the step is not positive, or so small that more than ten million levels matter.

    Examples
    --------
    At high rate, 1.53 dB above the Shannon bound:

    >>> d = GGD(1.0)
    >>> mse, bits = entropy_coded_uniform(d, 0.01)
    >>> round(10 * math.log10(mse / shannon_lower_bound(d, bits)), 2)
    1.53
    """
    if not (step > 0 and math.isfinite(step)):
        raise ValueError(f"a step is positive and finite, got {step!r}")
    reach = density.scale * float(GGD(density.shape).isf(1e-18))  # beyond, neither error nor entropy matters
    low, high = math.floor((density.loc - reach) / step), math.ceil((density.loc + reach) / step)
    if high - low > 10_000_000:
        raise ValueError(f"a step of {step!r} needs {high - low} levels: use at least {2e-7 * reach:.2g}")
    index = np.arange(low, high + 1, dtype=np.float64)
    boundaries = (index[:-1] + 0.5) * step
    return expected_mse(density, index * step, boundaries), index_entropy(density, boundaries)


class BestScale(NamedTuple):
    """The scale of least error, and the curve it was found on.

    Attributes
    ----------
    scale, mse : float
        The best scale and its mean squared error.
    scales, losses : ndarray of float64, shape (m,)
        The grid that was searched and the error at each.
    """

    scale: float
    mse: float
    scales: Array
    losses: Array


def best_scale(density: GGD, values: ArrayLike, boundaries: ArrayLike, *, points: int = 200) -> BestScale:
    """Return the scale at which a quantizer, multiplied by it, has the least error under a density.

    The loss of a logarithmic table has a local minimum every octave, so a grid of scales is searched first.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    values, boundaries : array_like of float, shapes (n,) and (n - 1,)
        The quantizer, as in `expected_mse`.
    points : int
        Scales on the grid, from where the largest value is a hundredth of the standard deviation to where the smallest
        magnitude that is not zero is a hundred of them.

    Returns
    -------
    BestScale

    Raises
    ------
    ValueError
        As `expected_mse`, or if all values are zero.

    Examples
    --------
    >>> table = np.array([-1.0, 1.0])
    >>> round(best_scale(GGD(1.0), table, [0.0]).scale, 6)  # E|x|
    1.0
    """
    magnitudes = np.abs(np.asarray(values, dtype=np.float64))
    if not np.any(magnitudes > 0):
        raise ValueError("a table of zeros has no best scale")
    size = abs(density.loc) + density.std
    ends = 0.01 * size / magnitudes.max(), 100.0 * size / magnitudes[magnitudes > 0].min()
    scales = np.geomspace(*ends, points)
    losses = expected_mse_scaled(density, values, boundaries, scales)
    k = int(np.argmin(losses))

    def loss(log_scale: float) -> float:
        return float(expected_mse_scaled(density, values, boundaries, [math.exp(log_scale)])[0])

    bounds = math.log(scales[max(k - 1, 0)]), math.log(scales[min(k + 1, points - 1)])
    optimum = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    scale, mse = (math.exp(optimum.x), float(optimum.fun)) if optimum.fun < losses[k] else (scales[k], losses[k])
    return BestScale(float(scale), float(mse), scales, losses)
