"""Curves of rate against quality compared as the coding literature does: the mean difference of their log rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BDRate", "bd_rate", "frontier", "rate_at"]


class BDRate(NamedTuple):
    """How much more rate a curve takes than a reference at equal quality.

    Attributes
    ----------
    change : float
        Relative: -0.2 means a fifth less. NaN where the curves share no quality.
    low, high : float
        The range of quality that it is the mean over.
    coverage : float
        That range as a share of the reference's.
    missed : float
        The share of the reference's range that is better than all of the curve: there it is not to be had at any rate.
        What else is not covered lies below the curve's worst point.
    """

    change: float
    low: float
    high: float
    coverage: float
    missed: float


def frontier(rate: ArrayLike, quality: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the points of a curve to which none is preferable, by ascending rate and quality.

    Parameters
    ----------
    rate, quality : array_like, shape (points,)
        Rates are positive; of quality more is better (of a loss give the negative).

    Raises
    ------
    ValueError
        If the two are not of one length, hold no point or numbers that are not finite, or a rate is not positive.

    Examples
    --------
    >>> frontier([4, 1, 2, 3], [0.9, 0.5, 0.8, 0.7])
    (array([1., 2., 4.]), array([0.5, 0.8, 0.9]))
    """
    rates, qualities = np.asarray(rate, np.float64), np.asarray(quality, np.float64)
    if rates.ndim != 1 or rates.shape != qualities.shape or not rates.size:
        raise ValueError("a curve is as many rates as qualities, at least one")
    if not (np.isfinite(rates).all() and np.isfinite(qualities).all() and (rates > 0).all()):
        raise ValueError("rates of a curve are positive and finite, qualities finite")
    kept: list[int] = []
    for i in np.lexsort((-qualities, rates)):
        if not kept or qualities[i] > qualities[kept[-1]]:
            kept.append(int(i))
    return rates[kept], qualities[kept]


def bd_rate(reference: Sequence[ArrayLike], curve: Sequence[ArrayLike], *, within: float = math.inf) -> BDRate:
    """Return the mean relative difference in rate of two curves at equal quality, Bjøntegaard's.

    The logarithm of the rate is taken as a function of quality, linear between the points of `frontier`, and its
    difference is averaged over the qualities that both curves reach.

    Parameters
    ----------
    reference, curve : pair of array_like
        Rates and qualities, in any order.
    within : float
        Qualities further below the reference's best are left out.

    Returns
    -------
    BDRate
        The change and what it is the mean over.

    Raises
    ------
    ValueError
        As `frontier`; or if `within` is not positive.

    References
    ----------
    G. Bjøntegaard, *Calculation of average PSNR differences between RD-curves*, VCEG-M33, 2001.

    Examples
    --------
    >>> bd_rate(([2, 4, 8], [0.5, 0.7, 0.8]), ([1, 2, 4], [0.5, 0.7, 0.8])).change    # half, everywhere
    -0.5
    >>> bd_rate(([2, 4], [0.5, 0.7]), ([1, 3], [0.2, 0.6]))[3:]    # never as good as the upper half
    (0.5, 0.5)
    """
    if not within > 0.0:
        raise ValueError(f"the range of quality is positive, got {within!r}")
    (rates, qualities), (others, reached) = frontier(*reference), frontier(*curve)
    bottom = max(float(qualities[0]), float(qualities[-1]) - within)
    low, high = max(bottom, float(reached[0])), min(float(qualities[-1]), float(reached[-1]))
    span = float(qualities[-1]) - bottom
    missed = min(1.0, (float(qualities[-1]) - high) / span) if span > 0.0 else float(high < qualities[-1])
    if not low < high:
        return BDRate(math.nan, low, high, 0.0, missed)
    # Both are linear between all corners of the two: the trapezoids are exact.
    corners = np.unique(np.concatenate([[low, high], qualities, reached]))
    corners = corners[(corners >= low) & (corners <= high)]
    gap = np.interp(corners, reached, np.log(others)) - np.interp(corners, qualities, np.log(rates))
    mean = float(np.trapezoid(gap, corners)) / (high - low)
    return BDRate(math.expm1(mean), low, high, (high - low) / span, missed)


def rate_at(curve: Sequence[ArrayLike], quality: float) -> float:
    """Return the least rate at which a curve reaches a quality, its logarithm linear between the points of `frontier`.

    Parameters
    ----------
    curve : pair of array_like
        Rates and qualities, in any order.
    quality : float
        At least this; where the cheapest point is better, its rate is returned.

    Returns
    -------
    float
        Infinite if no point is so good.

    Examples
    --------
    >>> rate_at(([2, 8], [0.5, 0.7]), 0.6), rate_at(([2, 8], [0.5, 0.7]), 0.8)
    (4.0, inf)
    """
    rates, qualities = frontier(*curve)
    if quality > qualities[-1]:
        return math.inf
    return float(np.exp2(np.interp(quality, qualities, np.log2(rates))))
