"""Regularized incomplete gamma functions of a power: P(k/p, u^p) and Q(k/p, u^p), their log and inverse.

The half-moment of order k - 1 of a standard generalized Gaussian of shape p, taken from 0 to u, is
Gamma(k/p) / Gamma(1/p) * P(k/p, u^p); everything exact in this package comes from here. scipy gives P and Q;
added here is what they cannot give: a power u^p that underflows, log Q far in the tail, and the ratio of two complete
gamma functions of large numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["half_step", "inverse", "log_upper", "lower", "upper"]

Array = NDArray[np.float64]

_SMALL = 1e-9  # below this u^p, two terms of the series of P are exact to double precision
_TAIL = 1e-250  # below this Q, the continued fraction is used for its logarithm


def lower(k: float, p: float, u: ArrayLike) -> Array:
    """Return P(k/p, u^p) for u >= 0, with full relative accuracy as u goes to 0.

    Parameters
    ----------
    k, p : float
        Positive; the first parameter of the incomplete gamma function is ``k / p``.
    u : array_like
        Nonnegative.

    Returns
    -------
    ndarray of float64
        Same shape as `u`.

    Examples
    --------
    >>> float(lower(1.0, 100.0, 1e-5)) > 0.0        # u**p is 1e-500, zero in double precision
    True
    """
    u = np.asarray(u, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        z = u**p
    a = k / p
    # DLMF 8.7.1: P(a, z) = z^a / Gamma(1 + a) * (1 - a z / (1 + a) + ...), and z^a = u^k.
    series = u < _SMALL ** (1.0 / p)
    start = np.where(series, u, 0.0)
    with np.errstate(under="ignore"):
        near = start**k * np.exp(-special.gammaln(1.0 + a)) * (1.0 - a / (1.0 + a) * np.where(series, z, 0.0))
    return np.asarray(np.where(series, near, special.gammainc(a, np.where(series, 1.0, z))))


def upper(k: float, p: float, u: ArrayLike) -> Array:
    """Return Q(k/p, u^p) = 1 - P(k/p, u^p) for u >= 0, with full relative accuracy as u grows.

    Parameters
    ----------
    k, p : float
        Positive; the first parameter of the incomplete gamma function is ``k / p``.
    u : array_like
        Nonnegative.

    Returns
    -------
    ndarray of float64
        Same shape as `u`.

    Examples
    --------
    >>> float(upper(1.0, 1.0, 2.0)) == float(np.exp(-2.0))
    True
    """
    u = np.asarray(u, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        z = u**p
    # Where u^p is small, scipy's Q loses nothing, but u^p itself may be lost: there Q = 1 - P.
    series = u < _SMALL ** (1.0 / p)
    return np.asarray(np.where(series, 1.0 - lower(k, p, np.where(series, u, 0.0)), special.gammaincc(k / p, z)))


def log_upper(k: float, p: float, u: ArrayLike) -> Array:
    """Return log Q(k/p, u^p) for u >= 0; finite as long as u^p is.

    Parameters
    ----------
    k, p : float
        Positive; the first parameter of the incomplete gamma function is ``k / p``.
    u : array_like
        Nonnegative.

    Returns
    -------
    ndarray of float64
        Same shape as `u`.

    Examples
    --------
    >>> float(log_upper(1.0, 1.0, 1e5))
    -100000.0
    """
    u = np.asarray(u, dtype=np.float64)
    q = upper(k, p, u)
    tail = q < _TAIL
    with np.errstate(divide="ignore"):
        result = np.where(q > 0.5, np.log1p(-lower(k, p, u)), np.log(q))
    if np.any(tail):
        with np.errstate(over="ignore"):
            z = u[tail] ** p
        a, far = k / p, np.full(z.shape, -np.inf)
        finite = np.isfinite(z)
        z, log_u = z[finite], np.log(u[tail][finite])
        # Q = z^a e^-z / Gamma(a) times the fraction. This far out, with z above 500, 60 terms are more than
        # double precision needs for any a up to a few hundred.
        far[finite] = -z + k * log_u - special.gammaln(a) + np.log(_continued_fraction(a, z))
        result = np.asarray(result)
        result[tail] = far
    return np.asarray(result)


def _continued_fraction(a: float, z: Array, terms: int = 60) -> Array:
    """Return Gamma(a, z) e^z z^-a by its continued fraction (DLMF 8.9.2), evaluated from the far end."""
    fraction = np.zeros_like(z)
    for n in range(terms, 0, -1):
        fraction = n * (n - a) / (z + (2 * n + 1) - a - fraction)
    return np.asarray(1.0 / (z + 1.0 - a - fraction))


def inverse(p: float, small: Array, *, tail: bool) -> Array:
    """Return u with P(1/p, u^p) = small, or Q(1/p, u^p) = small with `tail`.

    scipy's inverse is the start; it is polished by Halley steps in log u against the logarithm of P or Q.

    Parameters
    ----------
    p : float
        Positive shape.
    small : ndarray of float64
        In [0, 1]; accurate where it is at most about a half: ask for the other tail beyond.
    tail : bool
        Which of the two functions is inverted.

    Returns
    -------
    ndarray of float64
        Same shape as `small`; ``inf`` where Q is 0.

    Examples
    --------
    >>> bool(np.isclose(inverse(1.0, np.array(0.5), tail=True), np.log(2.0), rtol=1e-15))
    True
    """
    a = 1.0 / p
    with np.errstate(over="ignore", under="ignore"):
        z = special.gammainccinv(a, small) if tail else special.gammaincinv(a, small)
        u = np.asarray(z**a)
        log_norm = special.gammaln(1.0 + a)
        # Below this z only the first term of P's series counts; z itself underflows where the shape is large.
        u = np.where(z < _SMALL, (1.0 - small if tail else small) * np.exp(min(log_norm, 700.0)), u)
    inside = (u > 0.0) & np.isfinite(u)
    if not np.any(inside):
        return u
    with np.errstate(divide="ignore"):
        goal = np.log(small[inside])
    v = u[inside]
    with np.errstate(over="ignore", under="ignore"):  # a quantile beyond float64 is infinite
        for _ in range(2):
            # log F(v) - goal, F = P or Q; F'(v) = +-exp(-v^p) / Gamma(1 + 1/p).
            value = log_upper(1.0, p, v) if tail else np.log(lower(1.0, p, v))
            power = v**p
            slope = np.exp(np.log(v) - power - log_norm - value)  # |d log F / d log v|
            step = (value - goal) / (-slope if tail else slope)
            v = v * np.exp(-step)
    u = u.copy()
    u[inside] = v
    return u


def half_step(x: float) -> tuple[float, float, float]:
    """Return log(Gamma(x + 1/2) / (Gamma(x) sqrt(x))) and its first two derivatives with respect to log x.

    Parameters
    ----------
    x : float
        Positive.

    Examples
    --------
    A 1 / (8 x) for large x, where the logarithms of the gamma functions leave no digit of it:

    >>> half_step(1e20)[0] == -1e-20 / 8
    True
    """
    if x > 30.0:
        orders, coefficients = np.array([1, 3, 5, 7]), np.array([-1 / 8, 1 / 192, -1 / 640, 17 / 14336])
        terms = coefficients * x**-orders
        return float(terms.sum()), float(terms @ -orders), float(terms @ orders**2)
    first = special.digamma(x + 0.5) - special.digamma(x)
    second = special.zeta(2.0, x + 0.5) - special.zeta(2.0, x)
    value = math.lgamma(x + 0.5) - math.lgamma(x) - 0.5 * math.log(x)
    return value, float(x * first - 0.5), float(x * first + x * x * second)
