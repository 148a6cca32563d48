"""Theory of a scalar quantizer under any of the densities that `ggd.select` fits, or one of your own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, singledispatch
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ggd.distribution import GGD
from ggd.quantizer import cell_integral, checked_quantizer
from ggd.rivals import AsymmetricGGD, Density, SpikeAndSlab

__all__ = ["QuantizerTheory", "cell_moment", "quantizer_theory"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class QuantizerTheory:
    """What a quantizer does to values of a density.

    Attributes
    ----------
    mse : float
        Mean squared error, in the squared unit of the data; infinite if the density has no second moment.
    power : float
        Mean square of the values.
    entropy_bits : float
        Entropy of the output, in bits: the least mean code length of its codes.
    underflow : float
        Probability of the output 0 for an input that is not; 0 if no value is 0.
    overload : float
        Probability of an input below the lowest or above the largest value.
    probabilities : ndarray of float64, shape (n,)
        Of each value.
    """

    mse: float
    power: float
    entropy_bits: float
    underflow: float
    overload: float
    probabilities: Array

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio in dB; NaN if the density has no second moment."""
        return 10.0 * math.log10(self.power / self.mse) if math.isfinite(self.mse) else math.nan


def quantizer_theory(
    density: Density, values: ArrayLike, boundaries: ArrayLike | Literal["nearest", "stochastic"] = "nearest"
) -> QuantizerTheory:
    """Return the error, rate, underflow and overload of a scalar quantizer under a density.

    Parameters
    ----------
    density : Density
        `GGD`, a family of `ggd.rivals`, or any object with a vectorized ``logpdf`` that is smooth but at 0 and falls
        from there to both sides. It takes closed forms for the generalized Gaussian, the asymmetric one and
        spike-and-slab, whose numbers have a relative error below 1e-9; otherwise double exponential quadrature, with
        an error below 1e-9 for logistic densities and Student's t whose cells are at most 1e9 scales wide. A mean
        square that is not reached by magnitudes of 1e150 is called infinite: that of Student's t with 2.1 degrees of
        freedom or fewer.
    values : array_like of float, shape (n,)
        Values of the quantizer, ascending, finite.
    boundaries : array_like of float, shape (n - 1,), or {"nearest", "stochastic"}
        Ascending; ``values[i]`` is the output between ``boundaries[i - 1]`` and ``boundaries[i]``. Or halfway between
        values; or an input between two values becomes the upper one with probability proportional to its distance from
        the lower. Beyond the ends it saturates.

    Returns
    -------
    QuantizerTheory

    Raises
    ------
    ValueError
        If the lengths do not match, something is not finite, or an array is not ascending.

    Examples
    --------
    The 1-bit quantizer of a Gaussian, whose error is 1 - 2/pi:

    >>> best = (2 / np.pi) ** 0.5
    >>> theory = quantizer_theory(GGD.from_std(2.0, 1.0), [-best, best])
    >>> round(theory.mse, 9), round(theory.sqnr_db, 3), theory.entropy_bits, round(theory.overload, 4)
    (0.363380228, 4.396, 1.0, 0.4249)
    """
    v = np.asarray(values, dtype=np.float64)
    if isinstance(boundaries, str):
        if boundaries not in ("nearest", "stochastic"):
            raise ValueError(f"boundaries are numbers, 'nearest' or 'stochastic', got {boundaries!r}")
        b = 0.5 * v[1:] + 0.5 * v[:-1]
    else:
        b = np.asarray(boundaries, dtype=np.float64)
    v, b, _ = checked_quantizer(v, b, [1.0])
    infinity = np.array([np.inf])
    if isinstance(boundaries, str) and boundaries == "stochastic":
        if np.any(np.diff(v) == 0):
            raise ValueError("the values of a stochastic quantizer must differ")
        mse, probabilities = _stochastic(density, v)
    else:
        left, right = np.concatenate([-infinity, b]), np.concatenate([b, infinity])
        probabilities = cell_moment(density, left, right, v, 0)
        mse = float(np.sum(cell_moment(density, left, right, v, 2)))
    zero = np.zeros(2)
    power = float(np.sum(cell_moment(density, np.array([-np.inf, 0.0]), np.array([0.0, np.inf]), zero, 2)))
    overload = float(np.sum(cell_moment(density, np.append(-infinity, v[-1]), np.append(v[0], infinity), zero, 0)))
    some = probabilities[probabilities > 0]
    entropy = max(float(-np.sum(some * np.log2(some))), 0.0)  # probabilities may add up to 1 and a rounding
    return QuantizerTheory(mse, power, entropy, float(probabilities[v == 0].sum()), overload, probabilities)


def _stochastic(density: Density, v: Array) -> tuple[float, Array]:
    """Return the mean squared error and the probability of each value."""
    low, high = v[:-1], v[1:]
    # Between neighbours the variance of the output is (x - low)(high - x), written about the value nearer the centre.
    near = np.where(low + high > 0, low, high)
    gap, ends = high - low, v[[0, -1]]
    first = cell_moment(density, low, high, near, 1)
    inside = gap * np.abs(first) - cell_moment(density, low, high, near, 2)
    below, above = np.array([-np.inf, v[-1]]), np.array([v[0], np.inf])
    mse = float(np.sum(inside)) + float(np.sum(cell_moment(density, below, above, ends, 2)))
    # The share of a gap that goes to its upper value is the mean of (x - low) / gap, of its lower that of (high - x).
    probabilities = np.zeros(v.size)
    probabilities[1:] += cell_moment(density, low, high, low, 1) / gap
    probabilities[:-1] -= cell_moment(density, low, high, high, 1) / gap
    np.add.at(probabilities, [0, -1], cell_moment(density, below, above, ends, 0))
    return mse, probabilities


@singledispatch
def cell_moment(density: Density, left: Array, right: Array, v: Array, power: int) -> Array:
    """Return the integral of (x - v)^power times a density over each cell.

    Parameters
    ----------
    density : Density
        As in `quantizer_theory`. A closed form for a class of your own is registered with ``cell_moment.register``.
    left, right, v : ndarray of float64, shape (n,)
        Ends of the cells, which may be infinite, and values.
    power : int
        0, 1 or 2.

    Returns
    -------
    ndarray of float64, shape (n,)
        Infinite where the integral does not converge.

    Examples
    --------
    >>> from ggd.rivals import Logistic
    >>> cell_moment(Logistic(1.0), np.array([-np.inf]), np.array([np.inf]), np.array([0.0]), 2).round(9)
    array([3.28986813])
    """
    # Cut at zero, where the density may have a peak; each piece in magnitudes.
    right_half = _half(density, 1.0, np.maximum(left, 0.0), np.maximum(right, 0.0), v, power)
    left_half = _half(density, -1.0, np.maximum(-right, 0.0), np.maximum(-left, 0.0), v, power)
    return right_half + left_half


@cell_moment.register
def _(density: GGD, left: Array, right: Array, v: Array, power: int) -> Array:
    l, r, t = ((end - density.loc) / density.scale for end in (left, right, v))  # noqa: E741
    return density.scale**power * cell_integral(density.shape, l, r, t, power)


@cell_moment.register
def _(density: AsymmetricGGD, left: Array, right: Array, v: Array, power: int) -> Array:
    l, r = np.minimum(left, 0.0), np.minimum(right, 0.0)  # noqa: E741
    below = 2.0 * density.left * cell_moment(GGD(density.shape, density.left), l, r, v, power)
    l, r = np.maximum(left, 0.0), np.maximum(right, 0.0)  # noqa: E741
    above = 2.0 * density.right * cell_moment(GGD(density.shape, density.right), l, r, v, power)
    return np.asarray((below + above) / (density.left + density.right))


@cell_moment.register
def _(density: SpikeAndSlab, left: Array, right: Array, v: Array, power: int) -> Array:
    parts = ((density.spike_share, density.spike), (1.0 - density.spike_share, density.slab))
    terms = [share * cell_moment(GGD.from_std(2.0, sigma), left, right, v, power) for share, sigma in parts]
    return np.asarray(terms[0] + terms[1])


# Double exponential quadrature (Takahasi and Mori 1974): the trapezoidal rule after x = g(t) with weights g'(t) that
# vanish double exponentially, so that neither a layer at an end, nor a long tail, needs care.
_STEP = 1.0 / 256.0


@cache
def _nodes(infinite: bool) -> tuple[Array, Array, Array]:
    """Return places on (0, 1), or (0, inf), their weights, and the distances of the places from 1."""
    t = np.arange(-6.1, 6.1, _STEP)
    s = 0.5 * math.pi * np.sinh(t)
    rate = 0.5 * math.pi * np.cosh(t)
    if infinite:
        return np.exp(s), _STEP * rate * np.exp(s), np.zeros_like(s)
    place, rest = 1.0 / (1.0 + np.exp(-2.0 * s)), 1.0 / (1.0 + np.exp(2.0 * s))
    return place, 2.0 * _STEP * rate * place * rest, rest


def _half(density: Density, sign: float, l: Array, r: Array, v: Array, power: int) -> Array:  # noqa: E741
    """Integrate over magnitudes from l to r, 0 <= l; zero where l >= r."""
    result = np.zeros(v.shape)
    height = math.exp(float(density.logpdf(np.array(0.0))))
    width = 1.0 / height if 0.0 < height < math.inf else 1.0
    for infinite in (False, True):
        use = (l < r) & (np.isinf(r) == infinite)
        if not np.any(use):
            continue
        place, weight, rest = _nodes(infinite)
        near, value = l[use, None], sign * v[use, None]
        unit = np.where(near > 0, near, width) if infinite else r[use, None] - near
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            x = near + unit * place
            # Next to the value, at either end of the cell, the distance from it is not a difference of near numbers.
            off = np.where(value == near, unit * place, x - value)
            off = off if infinite else np.where(value == r[use, None], -unit * rest, off)
            # In logarithms, since squares of large magnitudes are beyond the range of doubles.
            log = np.log(unit * weight) + density.logpdf(sign * x) + (power * np.log(np.abs(off)) if power else 0.0)
            terms = np.where(np.isnan(log), 0.0, np.exp(log)) * np.sign(off) ** (power % 2)
        total = np.sum(terms, axis=1) * sign ** (power % 2)
        if infinite:  # what the largest magnitudes add must be nothing
            total[np.abs(terms[:, -1]) > 1e-12 * np.abs(total)] = np.inf
        result[use] = total
    return result
