"""A tensor in parts: its channels in a few groups, each fitted by itself, and what the fit of the whole hides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ggd.estimate import fit
from ggd.families import SMALLEST_EFFECT
from ggd.histogram import MagnitudeHistogram
from ggd.result import LARGEST_ERROR, FitResult

__all__ = ["MOST_GROUPS", "SMALLEST_GROUP", "Groups", "fit_groups", "group_bounds"]

MOST_GROUPS = 16
SMALLEST_GROUP = 1 << 12  # values: the standard error of a shape near 2 is then 0.07


def group_bounds(shape: Sequence[int]) -> NDArray[np.int64]:
    """Return where the groups of a tensor's channels begin, counted in elements, and where the last ends.

    A channel is an entry of axis 0. A group is a block of neighbours, since neighbours have something in common: the
    rows of one attention head, or of one part of a fused projection. There are 16 groups of as many channels as divide
    evenly, or fewer, so that a group has 4096 values or more.

    Parameters
    ----------
    shape : sequence of int
        Of the tensor.

    Returns
    -------
    ndarray of int64, shape (groups + 1,)
        Ascending; empty where there are not two groups: few values, one channel, or no channels (fewer than two axes).

    Examples
    --------
    >>> group_bounds((4, 8192))
    array([    0,  8192, 16384, 24576, 32768])
    >>> group_bounds((3, 1000)).size
    0
    """
    if len(shape) < 2:
        return np.empty(0, np.int64)
    channels, size = shape[0], math.prod(shape)
    count = min(MOST_GROUPS, channels, size // SMALLEST_GROUP)
    if count < 2:
        return np.empty(0, np.int64)
    return np.arange(count + 1) * channels // count * (size // channels)


@dataclass(frozen=True)
class Groups:
    """The fits of a tensor's groups of channels, beside that of the whole.

    Attributes
    ----------
    fits : tuple of FitResult
        Of each group, by maximum likelihood, in the order of the channels.
    rms : tuple of float
        Root mean square of the finite values of each.
    saved : float
        Bits per weight that the groups' own fits cost less than the fit of the whole: what pooling them loses. NaN if
        no group has a fit.
    saved_by_scale : float
        The same where each group has a scale of its own and the shape is that of the whole.
    threshold : float
        Bits per weight that are no reason to tell groups apart: the larger of 1e-3 and five times what their fits gain
        by chance on data that are all alike, 2 (groups - 1) / (2 n ln 2).
    """

    fits: tuple[FitResult, ...]
    rms: tuple[float, ...]
    saved: float
    saved_by_scale: float
    threshold: float

    @property
    def shapes(self) -> tuple[float, ...]:
        """The shapes of the groups that have a fit, to be trusted or not: a bad one must not be hidden."""
        return tuple(fit.shape for fit in self.fits if fit.stderr.shape <= LARGEST_ERROR * fit.shape)

    @property
    def trusted(self) -> int:
        """Number of groups whose fit is to be trusted."""
        return sum(fit.trusted for fit in self.fits)

    @property
    def spread(self) -> tuple[float, float, float]:
        """The lowest, median and highest of `shapes`; NaN if there are none."""
        shapes = self.shapes
        return (min(shapes), median(shapes), max(shapes)) if shapes else (math.nan, math.nan, math.nan)

    @property
    def differ(self) -> bool:
        """Whether one fit for all loses more than the threshold."""
        return self.saved > self.threshold


def fit_groups(histograms: Sequence[MagnitudeHistogram], pooled: FitResult) -> Groups | None:
    """Fit each group, and compare with the fit of all of them.

    Parameters
    ----------
    histograms : sequence of MagnitudeHistogram
        Of each group, none empty.
    pooled : FitResult
        The fit of all values.

    Returns
    -------
    Groups or None
        None if there are no groups.

    Examples
    --------
    Two Gaussian halves of different scale: each fits a Gaussian, and the whole does not.

    >>> from ggd import GGD
    >>> halves = [GGD(2.0, scale).sample(50_000, seed=1) for scale in (1.0, 5.0)]
    >>> groups = fit_groups([MagnitudeHistogram.from_array(half) for half in halves], fit(np.concatenate(halves)))
    >>> [round(shape, 1) for shape in groups.spread], groups.differ, groups.saved_by_scale < groups.saved
    ([2.0, 2.0, 2.0], True, True)
    """
    if not histograms:
        return None
    fits = tuple(fit(histogram) for histogram in histograms)
    rms = tuple(math.sqrt(h.abs_moment(2.0)) if h.nonzero_count else 0.0 for h in histograms)
    pairs = [(h, each) for h, each in zip(histograms, fits, strict=True) if not math.isnan(each.shape)]
    n = sum(each.n for _, each in pairs)
    if not n or math.isnan(pooled.shape):
        return Groups(fits, rms, math.nan, math.nan, math.nan)
    unit = n * math.log(2.0)
    together = [_loglik(h, pooled) for h, _ in pairs]
    saved = math.fsum(each.n * (each.loglik - whole_) for (_, each), whole_ in zip(pairs, together, strict=True))
    scaled = [fit(h, shape=pooled.shape).loglik for h, _ in pairs]
    by_scale = math.fsum(
        each.n * (alike - whole_) for (_, each), alike, whole_ in zip(pairs, scaled, together, strict=True)
    )
    threshold = max(SMALLEST_EFFECT, 5.0 * (len(pairs) - 1) / unit)
    return Groups(fits, rms, saved / unit, by_scale / unit, threshold)


def _loglik(histogram: MagnitudeHistogram, fitted: FitResult) -> float:
    """Return the mean log density of the nonzero values under a fit, in nats."""
    cells, p = histogram.cells(), fitted.shape
    power = np.exp(p * (np.log(np.abs(cells.mean)) - math.log(fitted.scale)))
    power *= 1.0 + 0.5 * p * (p - 1.0) * cells.spread
    return float(fitted.distribution.logpdf(0.0)) - float(np.dot(cells.counts, power)) / histogram.nonzero_count
