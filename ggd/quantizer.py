"""Theory of a scalar quantizer under a generalized Gaussian: exact error, cell probabilities, entropy."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ggd import _gamma
from ggd.distribution import GGD

__all__ = [
    "cell_integral",
    "cell_probabilities",
    "expected_mse",
    "expected_mse_scaled",
    "expected_mse_stochastic",
    "index_entropy",
    "partial_moment",
]

Array = NDArray[np.float64]

# A half-cell from l to r, both on one side of loc and in units of the scale, is integrated by Gauss-Legendre
# where the density is smooth: r <= ratio * l keeps the singularity (loc) away, and z = u^shape may grow by at
# most a factor e^growth and an amount `fall`, so that exp(-z) is smooth too. The error is below 1e-12.
# Round loc the closed form has no cancellation to speak of. In a tail that begins at z = l^shape it subtracts moments
# of relative error eps z to leave the share 2 / (shape z)^2 of them: an error of about 1e-16 shape^2 z^3.
_RULES = ((1.3, 1.0, 0.7, 6), (2.2, 5.0, 6.0, 20))  # (ratio, growth, fall, nodes), first match wins
_NEGLIGIBLE = 1e-40  # share of the second moment that is 1e-16 of the least error of 65,536 values, and 1e-16 of that
_CANCELLED = 1e5  # shape^2 z^3 from which a tail is integrated by quadrature too


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
    v, b, s = checked_quantizer(values, boundaries, scales)
    # To standard units, one row per scale: x = loc + scale * t.
    t_values = (s[:, None] * v - density.loc) / density.scale
    t_edges = (s[:, None] * b - density.loc) / density.scale
    infinite = np.full((s.size, 1), np.inf)
    left = np.hstack([-infinite, t_edges])
    right = np.hstack([t_edges, infinite])
    near = np.maximum(np.maximum(left, -right), 0.0)
    skip = _negligible(density.shape, near, t_values)
    total = cell_integral(density.shape, left, right, t_values, 2, skip=skip)
    return np.asarray(density.scale**2 * np.sum(total, axis=1))


def _negligible(p: float, near: Array, v: Array) -> NDArray[np.bool_]:
    """Return which cells are so far from the centre that their squared errors change no bit of the sum of all.

    With |v| at most twice the near end l, the squared error (t - v)^2 is at most t^2, and beyond l lies a share
    Q(3 / p, l^p) of the second moment, Q the regularized upper incomplete gamma function.
    """
    reach = float(special.gammainccinv(3.0 / p, _NEGLIGIBLE)) ** (1.0 / p)
    return np.asarray((near > reach) & (np.abs(v) <= 2.0 * near))


def expected_mse_stochastic(density: GGD, values: ArrayLike) -> float:
    """Return the mean squared error of stochastic rounding to a table of values.

    An input between two neighbours becomes the upper one with probability proportional to its distance from the lower
    one; beyond the ends it saturates.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    values : array_like of float, shape (n,)
        Ascending, finite.

    Returns
    -------
    float
        E[(x - output)^2]; relative error below 1e-9.

    Raises
    ------
    ValueError
        If values is empty, not finite or not ascending.

    Examples
    --------
    Twice the error of rounding to nearest, on a fine grid:

    >>> grid = np.arange(-800, 801) / 50
    >>> round(expected_mse_stochastic(GGD(2.0), grid) / expected_mse(GGD(2.0), grid, (grid[1:] + grid[:-1]) / 2), 3)
    2.0
    """
    v = np.asarray(values, dtype=np.float64)
    v, _, _ = checked_quantizer(v, 0.5 * (v[1:] + v[:-1]), [1.0])
    t = (v - density.loc) / density.scale
    low, high = t[:-1], t[1:]
    # Between neighbours the variance of the output is (t - low)(high - t), written about the value nearer the centre.
    near, far = np.where(low + high > 0, low, high), np.where(low + high > 0, high, low)
    inside = (far - near) * cell_integral(density.shape, low, high, near, 1) - cell_integral(
        density.shape, low, high, near, 2
    )
    ends = np.array([[-np.inf, t[0]], [t[-1], np.inf]])
    outside = cell_integral(density.shape, ends[:, 0], ends[:, 1], t[[0, -1]], 2)
    return density.scale**2 * (float(np.sum(inside)) + float(np.sum(outside)))


def cell_probabilities(density: GGD, boundaries: ArrayLike) -> Array:
    """Return the probability of each cell of a quantizer.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    boundaries : array_like of float, shape (n - 1,)
        Ascending.

    Returns
    -------
    ndarray of float64, shape (n,)
        Each to a relative error below 1e-9, however small.

    Raises
    ------
    ValueError
        If the boundaries are not finite and ascending.

    Examples
    --------
    >>> cell_probabilities(GGD(1.0), [-1.0, 1.0]).round(6)
    array([0.18394 , 0.632121, 0.18394 ])
    """
    b = np.asarray(boundaries, dtype=np.float64)
    if b.ndim != 1 or not np.all(np.isfinite(b)) or np.any(np.diff(b) < 0):
        raise ValueError("the boundaries of a quantizer must be finite and ascending")
    edges = np.concatenate([[-np.inf], (b - density.loc) / density.scale, [np.inf]])
    return cell_integral(density.shape, edges[:-1], edges[1:], np.zeros(b.size + 1), 0)


def index_entropy(density: GGD, boundaries: ArrayLike) -> float:
    """Return the entropy of a quantizer's output, in bits: the least mean code length of its codes.

    Parameters
    ----------
    density, boundaries
        As in `cell_probabilities`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `cell_probabilities`.

    Examples
    --------
    >>> round(index_entropy(GGD(0.7), [0.0]), 12)
    1.0
    """
    p = cell_probabilities(density, boundaries)
    p = p[p > 0]
    return float(-np.sum(p * np.log2(p)))


def checked_quantizer(values: ArrayLike, boundaries: ArrayLike, scales: ArrayLike) -> tuple[Array, Array, Array]:
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


def cell_integral(
    p: float, left: Array, right: Array, v: Array, power: int, *, skip: NDArray[np.bool_] | None = None
) -> Array:
    """Return the integral of (t - v)^power times the standard density of shape p over each cell.

    Parameters
    ----------
    p : float
        Shape.
    left, right, v : ndarray of float64
        Of one shape; the ends may be infinite.
    power : int
        0, 1 or 2.
    skip : ndarray of bool, optional
        Cells whose integrals are not needed: they are 0, and every other has the bits that it has without `skip`.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> cell_integral(1.0, np.array([-np.inf]), np.array([np.inf]), np.array([0.5]), 2).round(12)
    array([2.25])
    """
    needed = np.ones(v.shape, dtype=bool) if skip is None else ~skip
    # The density is even, so each cell is a piece right of the centre and the mirror image of a piece left of it.
    right_half = _half_integral(p, np.maximum(left, 0.0), np.maximum(right, 0.0), v, power, needed)
    left_half = _half_integral(p, np.maximum(-right, 0.0), np.maximum(-left, 0.0), -v, power, needed)
    return right_half + (-left_half if power == 1 else left_half)


def _half_integral(
    p: float,
    l: Array,  # noqa: E741
    r: Array,
    v: Array,
    power: int,
    needed: NDArray[np.bool_],
) -> Array:
    """Integrate over [l, r], 0 <= l; zero where l >= r, or where it is not needed."""
    result = np.zeros_like(v)
    todo = l < r
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rise = r**p - l**p
    for ratio, growth, fall, nodes in _RULES:
        use = todo & (r <= min(ratio, np.exp(growth / p)) * l) & (rise <= fall)
        if np.any(use):
            result[use] = _gauss_legendre(p, l[use], r[use], v[use], power, nodes, needed[use])
            todo &= ~use
    with np.errstate(over="ignore", under="ignore"):
        use = todo & (p * p * l ** (3.0 * p) > _CANCELLED) & (power > 0)
    if np.any(use):
        result[use] = _tail(p, l[use], r[use], v[use], power, needed[use])
        todo &= ~use
    todo &= needed
    if np.any(todo):
        result[todo] = _closed_form(p, l[todo], r[todo], v[todo], power)
    return result


# The last bits of a row of a matrix times a vector depend on the number of rows: those not needed stay, as zeros.


def _gauss_legendre(
    p: float,
    l: Array,  # noqa: E741
    r: Array,
    v: Array,
    power: int,
    nodes: int,
    needed: NDArray[np.bool_],
) -> Array:
    x, weight = np.polynomial.legendre.leggauss(nodes)
    half = 0.5 * (r - l)
    middle = 0.5 * (r + l)
    f = np.zeros((l.size, nodes))
    t = middle[needed, None] + half[needed, None] * x
    with np.errstate(under="ignore", over="ignore"):
        f[needed] = (t - v[needed, None]) ** power * np.exp(-(t**p))
    return np.asarray(half * (f @ weight) * GGD(p).pdf(0.0))


def _tail(p: float, l: Array, r: Array, v: Array, power: int, needed: NDArray[np.bool_]) -> Array:  # noqa: E741
    """Integrate over [l, r] where the density falls by orders of magnitude, with t^p = l^p + s."""
    u, weight = _tail_nodes()
    f = np.zeros((l.size, u.size))
    with np.errstate(under="ignore", over="ignore", invalid="ignore"):
        z = l**p
        longest = np.minimum(np.where(np.isinf(r), np.inf, r**p - z), 50.0)  # the rest is 2e-22 of it
        near, start = l[needed, None], z[needed, None]
        s = longest[needed, None] * u
        beyond = np.expm1(np.log1p(s / start) / p)  # t / l - 1
        off = near - v[needed, None] + near * beyond
        # dt = t / (p t^p) ds
        f[needed] = off**power * np.exp(-s) * (near * (1.0 + beyond)) / (p * (start + s))
        result = np.exp(-z) * longest * (f @ weight) * GGD(p).pdf(0.0)
    return np.where(np.isfinite(z) & needed, result, 0.0)


@cache
def _tail_nodes() -> tuple[Array, Array]:
    """Return places on (0, 1), denser towards 0, and their weights."""
    x, weight = np.polynomial.legendre.leggauss(24)
    ends = np.concatenate([[0.0], 0.5 ** np.arange(5, -1, -1)])
    half = 0.5 * np.diff(ends)[:, None]
    return (half * x + 0.5 * (ends[1:] + ends[:-1])[:, None]).ravel(), (half * weight).ravel()


def _closed_form(p: float, l: Array, r: Array, v: Array, power: int) -> Array:  # noqa: E741
    m0 = partial_moment(p, 0, l, r)
    if power == 0:
        return m0
    m1 = partial_moment(p, 1, l, r)
    if power == 1:
        return m1 - v * m0
    return partial_moment(p, 2, l, r) - 2.0 * v * m1 + v * v * m0


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
