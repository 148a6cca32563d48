"""Maximum likelihood of the rival densities, by Newton's method with exact derivatives of the mean log-likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ggd import _gamma
from ggd.rivals import Logistic, SpikeAndSlab, StudentT

__all__ = ["Sample", "fit_logistic", "fit_spike_and_slab", "fit_student"]

Array = NDArray[np.float64]

_RANGE = 50.0  # logarithms of parameters stay within this
_ROUGH_GAIN, _LEAST_GAIN = 1e-6, 1e-13  # nats per value, of the last step on coarse data and on all
_TRIED = 5  # starts of the mixture, whose likelihood has several maxima for few values


class Sample(NamedTuple):
    """Nonzero values as weighted points, in units of their root mean square."""

    x: Array
    weight: Array  # sums to 1

    def coarser(self) -> Sample:
        """Merge values that agree in sign, exponent and three bits: enough to find the start of a search."""
        fraction, exponent = np.frexp(np.abs(self.x))
        key = np.sign(self.x) * (exponent * 8.0 + np.floor(16.0 * fraction - 8.0) + 1e5)
        _, place = np.unique(key, return_inverse=True)
        weight = np.bincount(place, self.weight).astype(np.float64)
        return Sample(np.bincount(place, self.weight * self.x) / weight, weight)


class _Height(NamedTuple):
    """The mean log-likelihood, its gradient and its second derivatives at a point."""

    value: float
    gradient: Array
    hessian: Array


_Likelihood = Callable[[Array], _Height]


def _climbed(
    likelihood: Callable[[Sample], _Likelihood], sample: Sample, starts: Sequence[Sequence[float]], tried: int = 1
) -> Array:
    """Return the most likely parameters: from the best of the starts on coarse data, then on all from the best top."""
    coarse = likelihood(sample.coarser())
    best = sorted((np.array(start) for start in starts), key=lambda theta: -coarse(theta).value)[:tried]
    tops = [_top(coarse, theta, _ROUGH_GAIN) for theta in best]
    top = max(tops, key=lambda theta: coarse(theta).value)
    return _top(likelihood(sample), top, _LEAST_GAIN)


def _top(likelihood: _Likelihood, theta: Array, least_gain: float) -> Array:
    """Climb to where the likelihood is stationary: Newton's steps along the axes of the curvature, always uphill.

    ``least_gain``: nats per value below which a step is the last.
    """
    here = likelihood(theta)
    for _ in range(200):
        curvature, axes = np.linalg.eigh(here.hessian)
        step = axes @ np.clip(axes.T @ here.gradient / np.maximum(np.abs(curvature), 1e-30), -1.0, 1.0)
        gain = float(here.gradient @ step)
        there, new = here, theta
        for _ in range(60):
            new = np.clip(theta + step, -_RANGE, _RANGE)
            there = likelihood(new)
            if there.value > here.value or gain < least_gain:
                break
            step, gain = 0.25 * step, 0.25 * gain
        if not there.value > here.value:
            break
        theta, here = new, there
        if gain < least_gain:
            break
    return theta


def fit_logistic(sample: Sample) -> Logistic:
    """Fit the scale; the likelihood is concave in its logarithm."""

    def likelihood(part: Sample) -> _Likelihood:
        magnitude = np.abs(part.x)

        def height(theta: Array) -> _Height:
            t = magnitude * math.exp(-theta[0])
            rise = np.tanh(0.5 * t)
            value = -float(part.weight @ (t + 2.0 * np.log1p(np.exp(-t)))) - theta[0]
            slope = float(part.weight @ (t * rise))
            bend = slope + 0.5 * float(part.weight @ (t * t * (1.0 - rise * rise)))
            return _Height(value, np.array([slope - 1.0]), np.array([[-bend]]))

        return height

    (log_scale,) = _climbed(likelihood, sample, [[-0.6]])
    return Logistic(math.exp(log_scale))


def fit_student(sample: Sample) -> StudentT:
    """Fit the degrees of freedom and the scale."""

    def likelihood(part: Sample) -> _Likelihood:
        square = part.x * part.x

        def height(theta: Array) -> _Height:
            df = math.exp(theta[0])
            z = square * (math.exp(-2.0 * theta[1]) / df)
            share = z / (1.0 + z)
            log, first = float(part.weight @ np.log1p(z)), float(part.weight @ share)
            second = first - float(part.weight @ (share * share))
            norm, norm_slope, norm_bend = _gamma.half_step(0.5 * df)
            value = norm - 0.5 * math.log(2.0 * math.pi) - theta[1] - 0.5 * (df + 1.0) * log
            by_df = norm_slope - 0.5 * df * log + 0.5 * (df + 1.0) * first
            by_df_twice = norm_bend - 0.5 * df * log + df * first - 0.5 * (df + 1.0) * second
            by_both = df * first - (df + 1.0) * second
            return _Height(
                value,
                np.array([by_df, (df + 1.0) * first - 1.0]),
                np.array([[by_df_twice, by_both], [by_both, -2.0 * (df + 1.0) * second]]),
            )

        return height

    starts = [[df, scale] for df in (-0.5, 1.0, 3.0) for scale in (-4.0, -1.0, 0.0)]
    log_df, log_scale = _climbed(likelihood, sample, starts)
    return StudentT(math.exp(log_df), math.exp(log_scale))


def fit_spike_and_slab(sample: Sample) -> SpikeAndSlab:
    """Fit the share of the spike, as its log odds, and both standard deviations; the spike is the narrower part."""

    def likelihood(part: Sample) -> _Likelihood:
        square = part.x * part.x
        powers = np.stack([np.ones_like(square), square, square * square])
        total = float(part.weight @ square)

        def height(theta: Array) -> _Height:
            odds, log_spike, log_slab = theta
            share = float(special.expit(odds))
            e1, e2 = math.exp(-2.0 * log_spike), math.exp(-2.0 * log_slab)
            spike = (special.log_expit(odds) - log_spike) - (0.5 * e1) * square
            slab = (special.log_expit(-odds) - log_slab) - (0.5 * e2) * square
            log = np.logaddexp(spike, slab)
            from_spike = np.exp(spike - log)
            near = part.weight * from_spike
            count, near_square, _ = powers @ near
            k0, k1, k2 = powers @ (near * (1.0 - from_spike))
            far_square = total - near_square
            # Each part's second derivatives, and the spread of the two parts' gradients about their mean.
            by_spike, by_slab = e1 * k1 - k0, k0 - e2 * k1
            mixed = e1 * k1 - e1 * e2 * k2 - k0 + e2 * k1
            by_spike_twice = e1 * e1 * k2 - 2.0 * e1 * (k1 + near_square) + k0
            by_slab_twice = e2 * e2 * k2 - 2.0 * e2 * (k1 + far_square) + k0
            hessian = np.array(
                [
                    [k0 - share * (1.0 - share), by_spike, by_slab],
                    [by_spike, by_spike_twice, mixed],
                    [by_slab, mixed, by_slab_twice],
                ]
            )
            gradient = [count - share, e1 * near_square - count, e2 * far_square - (1.0 - count)]
            value = float(part.weight @ log) - 0.5 * math.log(2.0 * math.pi)
            return _Height(value, np.array(gradient), hessian)

        return height

    starts = [
        [odds, slab - math.log1p(math.exp(ratio)), slab]
        for odds in (-1.5, 1.5)
        for slab in (0.1, 0.7)
        for ratio in (0.0, 2.0, 4.0)
    ]
    odds, spike, slab = _climbed(likelihood, sample, starts, _TRIED)
    if spike > slab:
        odds, spike, slab = -odds, slab, spike
    share = min(max(float(special.expit(odds)), 1e-12), 1.0 - 1e-12)
    return SpikeAndSlab(share, math.exp(spike), math.exp(slab))
