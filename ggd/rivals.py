"""The densities that a generalized Gaussian is compared with, all with their centre or mode at zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ggd import _gamma
from ggd.distribution import GGD

__all__ = ["AsymmetricGGD", "Density", "Logistic", "SpikeAndSlab", "StudentT"]

Array = NDArray[np.float64]


class Density(Protocol):
    """What a family's fitted member can do."""

    def logpdf(self, x: Array) -> Array:
        """Return the natural logarithm of the density."""

    def cdf(self, x: Array) -> Array:
        """Return the probability of a value at most x."""


@dataclass(frozen=True)
class Logistic:
    """Logistic density sech^2(x / (2 scale)) / (4 scale).

    Examples
    --------
    >>> round(float(np.exp(Logistic(2.0).logpdf(np.array(0.0)))), 12)
    0.125
    """

    scale: float

    def logpdf(self, x: Array) -> Array:
        """Return the natural logarithm of the density."""
        t = np.abs(x) / self.scale
        return np.asarray(-t - 2.0 * np.log1p(np.exp(-t)) - math.log(self.scale))

    def cdf(self, x: Array) -> Array:
        """Return the probability of a value at most x."""
        return np.asarray(special.expit(x / self.scale))


@dataclass(frozen=True)
class StudentT:
    """Student's t density with `df` degrees of freedom, times `scale`.

    Examples
    --------
    >>> round(float(np.exp(StudentT(1.0, 1.0).logpdf(np.array(0.0)))) * math.pi, 12)
    1.0
    """

    df: float
    scale: float

    def logpdf(self, x: Array) -> Array:
        """Return the natural logarithm of the density."""
        norm = _gamma.half_step(0.5 * self.df)[0] - 0.5 * math.log(2.0 * math.pi) - math.log(self.scale)
        t = np.abs(x) / (self.scale * math.sqrt(self.df))
        # log(1 + t^2), exact for small t; the square of a large one is beyond the range of doubles
        log = np.where(t < 1.0, np.log1p(np.minimum(t, 1.0) ** 2), 2.0 * np.log(np.hypot(1.0, t)))
        return np.asarray(norm - 0.5 * (self.df + 1.0) * log)

    def cdf(self, x: Array) -> Array:
        """Return the probability of a value at most x."""
        return np.asarray(special.stdtr(self.df, x / self.scale))


@dataclass(frozen=True)
class AsymmetricGGD:
    """Two halves of generalized Gaussians of one shape that meet at the mode with the same density.

    Examples
    --------
    >>> AsymmetricGGD(1.0, 1.0, 3.0).cdf(np.array([0.0, np.inf]))
    array([0.25, 1.  ])
    """

    shape: float
    left: float
    right: float

    def logpdf(self, x: Array) -> Array:
        """Return the natural logarithm of the density."""
        t = np.abs(x) / np.where(x < 0, self.left, self.right)
        return np.asarray(GGD(self.shape, 0.5 * (self.left + self.right)).logpdf(0.0) - t**self.shape)

    def cdf(self, x: Array) -> Array:
        """Return the probability of a value at most x."""
        unit, below = GGD(self.shape), self.left / (self.left + self.right)
        left = 2.0 * below * np.asarray(unit.cdf(np.minimum(x, 0.0) / self.left))
        right = (1.0 - below) * (2.0 * np.asarray(unit.cdf(np.maximum(x, 0.0) / self.right)) - 1.0)
        return left + right


@dataclass(frozen=True)
class SpikeAndSlab:
    """Mixture of two centred Gaussians: a share `spike_share` of standard deviation `spike`, the rest `slab`.

    Examples
    --------
    >>> SpikeAndSlab(0.5, 0.1, 1.0).cdf(np.array([0.0]))
    array([0.5])
    """

    spike_share: float
    spike: float
    slab: float

    def logpdf(self, x: Array) -> Array:
        """Return the natural logarithm of the density."""
        parts = [
            math.log(share / (sigma * math.sqrt(2.0 * math.pi))) - 0.5 * (x / sigma) ** 2
            for share, sigma in ((self.spike_share, self.spike), (1.0 - self.spike_share, self.slab))
        ]
        return np.logaddexp(*parts)

    def cdf(self, x: Array) -> Array:
        """Return the probability of a value at most x."""
        spike, slab = special.ndtr(x / self.spike), special.ndtr(x / self.slab)
        return np.asarray(self.spike_share * spike + (1.0 - self.spike_share) * slab)
