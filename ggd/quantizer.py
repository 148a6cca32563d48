"""Theory of a scalar quantizer under a generalized Gaussian: its exact mean squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ggd import _gamma
from ggd.distribution import GGD

__all__ = ["expected_mse", "expected_mse_scaled"]

Array = NDArray[np.float64]

# A half-cell from l to r, both on one side of loc and in units of the scale, is integrated by Gauss-Legendre
# where the density is smooth: r <= ratio * l keeps the singularity (loc) away, and z = u^shape may grow by at
# most a factor e^growth and an amount `fall`, so that exp(-z) is smooth too. The error is below 1e-12.
# Everywhere else (round loc, in the tails) the closed form has no cancellation to speak of.
_RULES = ((1.3, 1.0, 0.7, 6), (2.2, 5.0, 6.0, 20))  # (ratio, growth, fall, nodes), first match wins


def expected_mse(density: GGD, values: ArrayLike, boundaries: ArrayLike) -> float:
    """Return the mean squared error of a scalar quantizer under a density.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    values : array_like of float, shape (n,)
        Values of the quantizer, ascending, finite.
    boundaries : array_like of float, shape (n - 1,)
        Ascending; ``values[i]`` is the output for inputs between ``boundaries[i - 1]`` and ``boundaries[i]``.
        The first and last value take everything below and above, so the overload error is included.

    Returns
    -------
    float
        E[(x - output)^2], in the squared unit of the data; relative error below 1e-9.

    Raises
    ------
    ValueError
        If the lengths do not match, something is not finite, or an array is not ascending.

    Examples
    --------
    The 1-bit quantizer of a Gaussian, whose error is 1 - 2/pi:

    >>> from ggd import GGD
    >>> best = (2 / np.pi) ** 0.5
    >>> round(expected_mse(GGD.from_std(2.0, 1.0), [-best, best], [0.0]), 9)
    0.363380228
    """
    return float(expected_mse_scaled(density, values, boundaries, [1.0])[0])


def expected_mse_scaled(density: GGD, values: ArrayLike, boundaries: ArrayLike, scales: ArrayLike) -> Array:
    """Return `expected_mse` of the quantizer multiplied by each of several scales.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    values, boundaries : array_like of float, shapes (n,) and (n - 1,)
        As in `expected_mse`, for scale 1.
    scales : array_like of float, shape (m,)
        Positive; the quantizer's values and boundaries are multiplied by each.

    Returns
    -------
    ndarray of float64, shape (m,)

    Raises
    ------
    ValueError
        As `expected_mse`, or if a scale is not positive and finite.

    Examples
    --------
    >>> from ggd import GGD
    >>> expected_mse_scaled(GGD(1.0), [-1.0, 1.0], [0.0], [0.5, 1.0, 2.0])
    array([1.25, 1.  , 2.  ])
    """
    v, b, s = _checked(values, boundaries, scales)
    # To standard units, one row per scale: x = loc + scale * t.
    t_values = (s[:, None] * v - density.loc) / density.scale
    t_edges = (s[:, None] * b - density.loc) / density.scale
    infinite = np.full((s.size, 1), np.inf)
    left = np.hstack([-infinite, t_edges])
    right = np.hstack([t_edges, infinite])
    # The density is even, so each cell is a piece right of the centre and the mirror image of a piece left of
    # it.
    total = _half_error(density.shape, np.maximum(left, 0.0), np.maximum(right, 0.0), t_values)
    total += _half_error(density.shape, np.maximum(-right, 0.0), np.maximum(-left, 0.0), -t_values)
    return np.asarray(density.scale**2 * np.sum(total, axis=1))


def _checked(values: ArrayLike, boundaries: ArrayLike, scales: ArrayLike) -> tuple[Array, Array, Array]:
    v = np.asarray(values, dtype=np.float64)
    b = np.asarray(boundaries, dtype=np.float64)
    s = np.asarray(scales, dtype=np.float64)
    if v.ndim != 1 or v.size == 0 or b.shape != (v.size - 1,):
        raise ValueError(
            f"a quantizer has n values and n - 1 boundaries, got shapes {v.shape} and {b.shape}: "
            "give one-dimensional arrays of those lengths"
        )
    for name, array in (("values", v), ("boundaries", b)):
        if not np.all(np.isfinite(array)) or np.any(np.diff(array) < 0):
            raise ValueError(f"the {name} of a quantizer must be finite and ascending")
    if s.ndim != 1 or not np.all(np.isfinite(s) & (s > 0)):
        raise ValueError("the scales must be a one-dimensional array of positive finite numbers")
    return v, b, s


def _half_error(p: float, l: Array, r: Array, v: Array) -> Array:  # noqa: E741
    """Integrate (t - v)^2 times the standard density of shape p over [l, r], 0 <= l; zero where l >= r."""
    result = np.zeros_like(v)
    todo = l < r
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rise = r**p - l**p
    for ratio, growth, fall, nodes in _RULES:
        use = todo & (r <= min(ratio, np.exp(growth / p)) * l) & (rise <= fall)
        if np.any(use):
            result[use] = _gauss_legendre(p, l[use], r[use], v[use], nodes)
            todo &= ~use
    if np.any(todo):
        result[todo] = _closed_form(p, l[todo], r[todo], v[todo])
    return result


def _gauss_legendre(p: float, l: Array, r: Array, v: Array, nodes: int) -> Array:  # noqa: E741
    x, weight = np.polynomial.legendre.leggauss(nodes)
    half = 0.5 * (r - l)
    middle = 0.5 * (r + l)
    t = middle[:, None] + half[:, None] * x
    with np.errstate(under="ignore", over="ignore"):
        f = (t - v[:, None]) ** 2 * np.exp(-(t**p))
    return np.asarray(half * (f @ weight) * GGD(p).pdf(0.0))


def _closed_form(p: float, l: Array, r: Array, v: Array) -> Array:  # noqa: E741
    m0, m1, m2 = (partial_moment(p, k, l, r) for k in range(3))
    return np.asarray(m2 - 2.0 * v * m1 + v * v * m0)


def partial_moment(p: float, k: float, l: Array, r: Array) -> Array:  # noqa: E741
    """Return the integral of t^k times the standard density of shape p over [l, r], 0 <= l <= r.

    Parameters
    ----------
    p : float
        Shape.
    k : float
        Order, above -1.
    l, r : ndarray of float64
        Ends of the intervals; r may be ``inf``.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> round(float(partial_moment(1.0, 1, np.array(0.0), np.array(np.inf))), 12)
    0.5
    """
    lower_l, lower_r = _gamma.lower(k + 1.0, p, l), _gamma.lower(k + 1.0, p, r)
    # The difference of the smaller of the two tails keeps its relative accuracy.
    upper = _gamma.upper(k + 1.0, p, l) - _gamma.upper(k + 1.0, p, r)
    return np.asarray(0.5 * GGD(p).abs_moment(k) * np.where(lower_l > 0.5, upper, lower_r - lower_l))
