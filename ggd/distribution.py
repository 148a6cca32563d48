"""The generalized Gaussian distribution (scipy's ``gennorm``), accurate in the centre and in the tails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy import special

from ggd import _gamma

__all__ = ["GGD"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GGD:
    r"""Generalized Gaussian with density shape / (2 scale Gamma(1/shape)) exp(-\|(x - loc)/scale\|^shape).

    Shape 1 is Laplace, 2 is Gaussian (with standard deviation ``scale / sqrt(2)``); as the shape grows it
    tends to the uniform density on ``loc +- scale``. The parameters are those of ``scipy.stats.gennorm(shape,
    loc, scale)``. Any positive shape is accepted; the accuracies stated are tested for shapes from 0.05 to
    100.

    Parameters
    ----------
    shape : float
        Positive and finite.
    scale : float
        Positive and finite, in the unit of the data.
    loc : float
        Centre of symmetry; finite, in the unit of the data.

    Raises
    ------
    ValueError
        If a parameter is not finite, or shape or scale is not positive.

    Examples
    --------
    >>> d = GGD(shape=0.5)
    >>> round(d.logcdf(-1e6), 2)
    -993.78
    >>> d.ppf(0.5)
    0.0
    """

    shape: float
    scale: float = 1.0
    loc: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shape", "scale", "loc"):
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)
            if not math.isfinite(value) or (name != "loc" and value <= 0.0):
                kind = "finite" if name == "loc" else "positive finite"
                raise ValueError(f"GGD needs a {kind} {name}, got {value!r}")

    @classmethod
    def from_std(cls, shape: float, std: float, loc: float = 0.0) -> GGD:
        """Return the distribution of that shape with standard deviation `std`.

        Parameters
        ----------
        shape, std, loc : float
            Shape and standard deviation are positive and finite.

        Returns
        -------
        GGD

        Raises
        ------
        ValueError
            As the constructor.

        Examples
        --------
        >>> round(GGD.from_std(0.7, 0.02).std, 12)
        0.02
        """
        return cls(shape, float(std) / cls(shape).std, loc)

    # Density and distribution function. Each takes and returns an array, or a float for a scalar.

    def _standard(self, x: ArrayLike) -> Array:
        return (np.asarray(x, dtype=np.float64) - self.loc) / self.scale

    def pdf(self, x: ArrayLike) -> Any:
        """Return the density at x.

        Parameters
        ----------
        x : array_like

        Returns
        -------
        float or ndarray of float64
            In units of 1/x.

        Examples
        --------
        >>> GGD(1.0).pdf(0.0)
        0.5
        """
        return _plain(np.exp(self.logpdf(x)))

    def logpdf(self, x: ArrayLike) -> Any:
        """Return the natural logarithm of the density at x.

        Parameters
        ----------
        x : array_like

        Returns
        -------
        float or ndarray of float64

        Examples
        --------
        >>> round(GGD(2.0).logpdf(1.0), 6)
        -1.572365
        """
        with np.errstate(over="ignore", under="ignore"):
            return _plain(-(np.abs(self._standard(x)) ** self.shape) - self._log_norm)

    @property
    def _log_norm(self) -> float:
        """Logarithm of 1 / pdf(loc)."""
        return math.log(2.0 * self.scale) + math.lgamma(1.0 + 1.0 / self.shape)

    def cdf(self, x: ArrayLike) -> Any:
        """Return the probability of a value at most x; relative error below 1e-12 in both tails.

        Parameters
        ----------
        x : array_like

        Returns
        -------
        float or ndarray of float64

        Examples
        --------
        >>> GGD(1.0).cdf([-1.0, 0.0])
        array([0.18393972, 0.5       ])
        """
        return _plain(self._below(self._standard(x)))

    def sf(self, x: ArrayLike) -> Any:
        """Return the probability of a value above x, with the accuracy of `cdf`.

        Parameters
        ----------
        x : array_like

        Returns
        -------
        float or ndarray of float64

        Examples
        --------
        >>> GGD(1.0).sf(700.0) == GGD(1.0).cdf(-700.0)
        True
        """
        return _plain(self._below(-self._standard(x)))

    def _below(self, t: Array) -> Array:
        u = np.abs(t)
        half = np.where(t < 0, 0.5 * _gamma.upper(1.0, self.shape, u), 0.5 + 0.5 * _gamma.lower(1.0, self.shape, u))
        return np.where(np.isnan(t), np.nan, half)

    def logcdf(self, x: ArrayLike) -> Any:
        """Return the logarithm of `cdf`, finite far beyond where `cdf` underflows.

        Parameters
        ----------
        x : array_like

        Returns
        -------
        float or ndarray of float64

        Examples
        --------
        >>> round(GGD(2.0).logcdf(-100.0), 4)
        -10005.8707
        """
        return _plain(self._log_below(self._standard(x)))

    def logsf(self, x: ArrayLike) -> Any:
        """Return the logarithm of `sf`, finite far beyond where `sf` underflows.

        Parameters
        ----------
        x : array_like

        Returns
        -------
        float or ndarray of float64

        Examples
        --------
        >>> GGD(0.5).logsf(1e6) == GGD(0.5).logcdf(-1e6)
        True
        """
        return _plain(self._log_below(-self._standard(x)))

    def _log_below(self, t: Array) -> Array:
        u = np.abs(t)
        left = _gamma.log_upper(1.0, self.shape, np.where(t < 0, u, 0.0)) - math.log(2.0)
        right = np.log1p(-0.5 * _gamma.upper(1.0, self.shape, np.where(t < 0, 0.0, u)))
        return np.where(np.isnan(t), np.nan, np.where(t < 0, left, right))

    def ppf(self, q: ArrayLike) -> Any:
        """Return the quantile: the x with ``cdf(x) == q``.

        Parameters
        ----------
        q : array_like
            Probabilities; outside [0, 1] the result is NaN.

        Returns
        -------
        float or ndarray of float64
            Relative error of ``x - loc`` below 1e-12 for q from 1e-300.

        Examples
        --------
        >>> round(GGD(1.0).ppf(1e-300), 9)
        -690.082380718
        """
        return _plain(self.loc + self.scale * self._quantile(np.asarray(q, dtype=np.float64)))

    def isf(self, q: ArrayLike) -> Any:
        """Return the x with ``sf(x) == q``, with the accuracy of `ppf`.

        Parameters
        ----------
        q : array_like
            Probabilities; outside [0, 1] the result is NaN.

        Returns
        -------
        float or ndarray of float64

        Examples
        --------
        >>> GGD(1.0).isf(0.25) == -GGD(1.0).ppf(0.25)
        True
        """
        return _plain(self.loc - self.scale * self._quantile(np.asarray(q, dtype=np.float64)))

    def _quantile(self, q: Array) -> Array:
        valid = (q >= 0.0) & (q <= 1.0)
        q = np.where(valid, q, 0.5)
        # 2q and 1 - 2q (or 2 - 2q, 2q - 1) are exact on the side where each is the smaller one.
        tail = 2.0 * np.minimum(q, 1.0 - q)
        centre = np.abs(2.0 * q - 1.0)
        outer = tail < 0.5
        u = np.where(
            outer,
            _gamma.inverse(self.shape, np.where(outer, tail, 0.5), tail=True),
            _gamma.inverse(self.shape, np.where(outer, 0.5, centre), tail=False),
        )
        return np.where(valid, np.where(q < 0.5, -u, u), np.nan)

    # Moments.

    def abs_moment(self, p: float) -> float:
        r"""Return the absolute central moment of any order, E\|x - loc\|^p.

        Parameters
        ----------
        p : float
            Order, above -1.

        Returns
        -------
        float
            scale^p Gamma((p + 1)/shape) / Gamma(1/shape); ``inf`` where that overflows.

        Raises
        ------
        ValueError
            If the order is -1 or less, where the moment does not exist.

        Examples
        --------
        >>> round(GGD(2.0).abs_moment(2), 12), round(GGD(1.0).abs_moment(0.5), 6)
        (0.5, 0.886227)
        """
        if not p > -1.0:
            raise ValueError(f"the absolute moment of order {p!r} does not exist: give an order above -1")
        a = 1.0 / self.shape
        # Gamma(x) = Gamma(1 + x) / x keeps the logarithms small for large shapes.
        log_ratio = math.lgamma(1.0 + (p + 1.0) * a) - math.lgamma(1.0 + a) + p * math.log(self.scale)
        return math.exp(log_ratio) / (p + 1.0) if log_ratio < 709.0 else math.inf

    def moment(self, k: int) -> float:
        """Return the raw moment E[x^k].

        Parameters
        ----------
        k : int
            Nonnegative order.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If k is negative or not an integer.

        Examples
        --------
        >>> GGD(2.0, loc=3.0).moment(1), round(GGD(2.0, loc=3.0).moment(2), 12)
        (3.0, 9.5)
        """
        if k != int(k) or k < 0:
            raise ValueError(f"a raw moment has a nonnegative integer order, got {k!r}; use abs_moment for others")
        k = int(k)
        return math.fsum(math.comb(k, j) * self.loc ** (k - j) * self.abs_moment(j) for j in range(0, k + 1, 2))

    @property
    def mean(self) -> float:
        """Mean, equal to `loc`."""
        return self.loc

    @property
    def var(self) -> float:
        """Variance, scale^2 Gamma(3/shape) / Gamma(1/shape)."""
        return self.abs_moment(2.0)

    @property
    def std(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.var)

    @property
    def kurtosis(self) -> float:
        """Excess kurtosis, as scipy's: 0 for a Gaussian, 3 for Laplace."""
        unit = GGD(self.shape)
        return unit.abs_moment(4.0) / unit.abs_moment(2.0) ** 2 - 3.0

    def entropy(self, base: float | None = None) -> float:
        """Return the differential entropy, 1/shape + log(2 scale Gamma(1 + 1/shape)).

        Parameters
        ----------
        base : float, optional
            Base of the logarithm: e (nats) by default, 2 for bits.

        Returns
        -------
        float

        Examples
        --------
        >>> round(GGD(1.0).entropy(), 6), round(GGD(1.0).entropy(base=2), 6)
        (1.693147, 2.442695)
        """
        nats = 1.0 / self.shape + self._log_norm
        return nats if base is None else nats / math.log(base)

    @property
    def entropy_bits(self) -> float:
        """Differential entropy in bits."""
        return self.entropy(base=2.0)

    # Information.

    def fisher_information(self) -> Array:
        """Return the Fisher information of one value about (shape, scale, loc).

        Returns
        -------
        ndarray of float64, shape (3, 3)
            The inverse over n bounds the covariance of unbiased estimates from n values (Cramer-Rao). By symmetry the
            centre is apart from the others; its information is infinite for shapes up to 1/2.

        Examples
        --------
        >>> GGD(2.0, 2.0**0.5).fisher_information()[1:, 1:].round(12) + 0.0  # a Gaussian of unit variance
        array([[1., 0.],
               [0., 1.]])
        """
        p, a, s = self.shape, 1.0 / self.shape, self.scale
        # The scores are a + a^2 psi(a) - a z log z and (p z - 1) / s, with z = |t|^p a Gamma(a) variable; by
        # z Gamma(a) = a Gamma(1 + a) and psi(a) = psi(1 + a) - p everything is in digammas of 1 + a.
        psi, psi1 = float(special.digamma(1.0 + a)), float(special.polygamma(1, 1.0 + a))
        of_shape = a**3 * ((1.0 + psi) ** 2 + (1.0 + a) * psi1 - 1.0)
        cross = -a * (1.0 + psi) / s
        of_loc = (p / s) ** 2 * math.exp(math.lgamma(2.0 - a) - math.lgamma(a)) if p > 0.5 else math.inf
        return np.array([[of_shape, cross, 0.0], [cross, p / s**2, 0.0], [0.0, 0.0, of_loc]])

    def kl(self, other: GGD) -> float:
        """Return the Kullback-Leibler divergence from this distribution to another, in nats.

        Parameters
        ----------
        other : GGD
            The distribution used in place of this one.

        Returns
        -------
        float
            What a code made for `other` loses on values of this one; divided by log 2, in bits per value. Where the
            centres differ, by quadrature.

        Examples
        --------
        >>> GGD(0.7).kl(GGD(0.7)), round(GGD.from_std(2.0, 1.0).kl(GGD.from_std(2.0, 1.0, 3.0)), 9)
        (0.0, 4.5)
        """
        ratio, offset = self.scale / other.scale, (self.loc - other.loc) / other.scale
        if offset == 0.0:
            power = GGD(self.shape, ratio).abs_moment(other.shape)
        else:
            power = _mean_power(self.shape, ratio, offset, other.shape)
        return max(other._log_norm - self._log_norm - 1.0 / self.shape + power, 0.0)

    def sample(
        self,
        size: int | tuple[int, ...] | None = None,
        *,
        seed: int | Sequence[int] | np.random.Generator = 0,
        dtype: DTypeLike = np.float64,
        out: NDArray[Any] | None = None,
        threads: int = 1,
    ) -> NDArray[Any]:
        """Return independent samples, the same for any number of threads.

        The values of a larger sample begin with those of a smaller one of the same seed.

        Parameters
        ----------
        size : int or tuple of int, optional
            Shape of the result; by default that of `out`.
        seed : int, sequence of int or numpy.random.Generator
            The same integers give the same samples; a Generator gives two words as the seed, and moves on.
        dtype : dtype
            A floating-point type; values are drawn in float64 and rounded to it.
        out : ndarray, optional
            Array to fill instead.
        threads : int
            Threads to use.

        Returns
        -------
        ndarray
            `out` if given.

        Raises
        ------
        ValueError
            If the shape parameter is outside 0.05 to 1000, there is neither size nor out, or they do not match.

        Examples
        --------
        >>> GGD(0.8, 0.02).sample((2, 3), seed=1).shape
        (2, 3)
        """
        from ggd.sampling import sample

        return sample(self.shape, self.scale, self.loc, size, seed=seed, dtype=dtype, out=out, threads=threads)


def _plain(x: Array) -> Any:
    """Return an array as it is and a zero-dimensional one as a float."""
    return float(x) if np.ndim(x) == 0 else np.asarray(x)


def _mean_power(p: float, ratio: float, offset: float, order: float) -> float:
    r"""Return E\|ratio t + offset\|^order for a standard t of shape p, by quadrature over each half."""
    from scipy import integrate

    # In the variable z = |t|^k the density is smooth: k = p for heavy tails (a Gamma density), 1 for light ones.
    k = min(p, 1.0)
    log_norm = math.lgamma(1.0 + 1.0 / p) + math.log(2.0 * k)
    kink = (abs(offset) / ratio) ** k  # where the half on the other side meets the other centre
    ends = [float(u) ** k for u in np.asarray(GGD(p).isf([0.4, 0.25, 0.1, 1e-3, 1e-6, 1e-12, 1e-50, 1e-280]))]
    ends = sorted({0.0, *ends, *([kink] if kink < ends[-1] else [])})
    total = 0.0
    for sign in (1.0, -1.0):

        def value(z: float, sign: float = sign) -> float:
            u = z ** (1.0 / k)
            density = math.exp(-(u**p) - log_norm) * (z ** (1.0 / k - 1.0) if k < 1.0 else 1.0)
            return float(abs(sign * ratio * u + offset) ** order * density)

        for left, right in pairwise(ends):
            total += integrate.quad(value, left, right, epsabs=0.0, epsrel=1e-10, limit=200)[0]
    return total
