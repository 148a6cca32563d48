"""The generalized Gaussian as a prior on weights: its penalty, the steps that lower it, and its shape from moments.

A weight w costs, up to a constant, ``|w / scale|^shape`` nats under the prior. Training against that rate shrinks
weights so that they take fewer bits. The steps are written once for numpy and PyTorch: they take the namespace of
their arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggd.result import SHAPE_RANGE

__all__ = ["penalty", "penalty_gradient", "scale_from_mean", "shape_from_ratio", "shrink", "shrink_threshold"]

_STEPS = 12  # of Newton, at most


def penalty(x: Any, shape: float, *, eps: float = 0.0, xp: Any = np) -> Any:
    r"""Return ``(|x| + eps)^shape``, for each weight.

    Parameters
    ----------
    x : array
        Weights.
    shape : float
        Shape of the prior, positive.
    eps : float
        Keeps the gradient finite at zero where the shape is below 1, in the unit of x.
    xp : module
        ``numpy`` or ``torch``.

    Returns
    -------
    array
        Of x's kind.

    Raises
    ------
    ValueError
        If the shape is not positive.

    Examples
    --------
    >>> penalty(np.array([-4.0, 0.0, 9.0]), 0.5).tolist()
    [2.0, 0.0, 3.0]
    """
    _checked(shape)
    return (xp.abs(x) + eps) ** shape


def penalty_gradient(x: Any, shape: float, *, eps: float = 1e-8, xp: Any = np) -> Any:
    r"""Return the derivative of `penalty`, ``shape sign(x) (|x| + eps)^(shape - 1)``; 0 at zero.

    Parameters
    ----------
    x, shape, eps, xp
        As for `penalty`.

    Returns
    -------
    array
        Of x's kind.

    Raises
    ------
    ValueError
        If the shape is not positive.

    Examples
    --------
    >>> penalty_gradient(np.array([-4.0, 0.0, 9.0]), 0.5, eps=0.0).round(6).tolist()
    [-0.25, 0.0, 0.166667]
    """
    _checked(shape)
    magnitude = xp.abs(x) + eps
    if eps == 0.0:
        magnitude = xp.where(magnitude == 0, xp.ones_like(magnitude), magnitude)
    return shape * xp.sign(x) * magnitude ** (shape - 1.0)


def shrink_threshold(step: float, shape: float) -> float:
    """Return the largest magnitude that `shrink` takes to zero.

    For shapes below 1 the result jumps there, from zero to a positive number (Marjanovic and Solo 2012, "On l_q
    optimization and matrix completion"); at shape 1 it is the step; above 1 only zero goes to zero.

    Parameters
    ----------
    step : float
        Not negative.
    shape : float
        Positive.

    Returns
    -------
    float

    Examples
    --------
    >>> shrink_threshold(0.1, 1.0), shrink_threshold(0.1, 2.0), round(shrink_threshold(0.1, 0.5), 4)
    (0.1, 0.0, 0.3232)
    """
    _checked(shape)
    if shape >= 1.0 or step == 0.0:
        return step if shape == 1.0 else 0.0
    jump = (2.0 * step * (1.0 - shape)) ** (1.0 / (2.0 - shape))
    return float(jump + step * shape * jump ** (shape - 1.0))


def shrink(x: Any, step: float, shape: float, *, xp: Any = np) -> Any:
    r"""Return the proximal operator of the penalty: the u that minimizes ``(u - x)^2 / 2 + step |u|^shape``.

    At shape 1 it is the soft threshold ``sign(x) max(|x| - step, 0)``, at shape 2 ``x / (1 + 2 step)``. Elsewhere the
    stationary point is found by Newton's method, from a side on which it cannot overshoot.

    Parameters
    ----------
    x : array
        Weights.
    step : float
        Learning rate times the weight of the penalty; not negative.
    shape : float
        Shape of the prior, positive.
    xp : module
        ``numpy`` or ``torch``.

    Returns
    -------
    array
        Of x's kind; x itself where the step is zero.

    Raises
    ------
    ValueError
        If the shape is not positive or the step is negative or not finite.

    Examples
    --------
    >>> x = np.array([-0.5, 0.05, 2.0])
    >>> shrink(x, 0.1, 1.0).round(3).tolist()
    [-0.4, 0.0, 1.9]
    >>> shrink(x, 0.1, 0.5).round(3).tolist()
    [-0.423, 0.0, 1.964]
    """
    _checked(shape)
    if not 0.0 <= step < math.inf:
        raise ValueError(f"the step of a penalty is finite and not negative, got {step!r}")
    if step == 0.0:
        return x
    if x.ndim == 0:
        return shrink(x.reshape(1), step, shape, xp=xp).reshape(())
    if shape == 1.0 and xp is not np:
        return xp.nn.functional.softshrink(x, step)
    magnitude = xp.abs(x)
    if shape == 1.0:
        return xp.where(magnitude > step, x - xp.sign(x) * step, 0.0 * x)  # NaN stays NaN
    if shape == 2.0:
        return x / (1.0 + 2.0 * step)
    kept = magnitude > shrink_threshold(step, shape)
    one = xp.ones_like(magnitude)
    v = xp.where(kept, magnitude, one)
    power = shape - 1.0
    # The stationary point is u = z v with z + c z^power = 1, 0 < z <= 1; c is kept finite.
    c = xp.exp(math.log(step * shape) + (shape - 2.0) * xp.log(v))
    c = xp.where(kept, xp.where(c < 1e30, c, 1e30 * one), 0.0 * one)
    if shape < 1.0:  # convex in z, and z = 1 is on its right

        def change(z: Any, c: Any) -> Any:
            tail = c * z**power
            return (z + tail - 1.0) / (1.0 + power * tail / z)

        z = _newton(one, c, change, float(xp.finfo(v.dtype).eps))
    else:  # convex in log z; where one of the two terms alone makes 1 is on its right

        def change_of_log(log_z: Any, c: Any) -> Any:
            z, tail = xp.exp(log_z), c * xp.exp(power * log_z)
            return (z + tail - 1.0) / (z + power * tail)

        z = xp.exp(_newton(-xp.log(xp.where(c > 1.0, c, one)) / power, c, change_of_log, float(xp.finfo(v.dtype).eps)))
    return xp.where(kept, xp.sign(x) * v * z, 0.0 * x)


def _newton(z: Any, c: Any, change: Callable[[Any, Any], Any], eps: float) -> Any:
    """Step down to the root: all elements twice, which suffices for most, then those alone that still move."""
    enough = 0.1 * math.sqrt(eps)  # what is wrong after a step is about its square
    for _ in range(2):
        step = change(z, c)
        z = z - step
    moving = step > enough
    some, cs = z[moving], c[moving]
    for _ in range(_STEPS):
        if not len(some):
            break
        step = change(some, cs)
        some = some - step
        if not bool((step > enough).any()):
            break
    z[moving] = some
    return z


def _checked(shape: float) -> None:
    if not 0.0 < shape < math.inf:
        raise ValueError(f"the shape of a prior is positive and finite, got {shape!r}")


@lru_cache(maxsize=1)
def _ratios() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shapes = np.geomspace(*SHAPE_RANGE, 4001)
    ratio = [math.lgamma(2 / p) + math.lgamma(1 / p) - 2 * math.lgamma(1.5 / p) for p in shapes.tolist()]
    return np.array(ratio[::-1]), np.log(shapes[::-1])


def shape_from_ratio(ratio: float) -> float:
    r"""Return the shape at which ``E|x| / E[sqrt|x|]^2`` is a given ratio: the half-moment estimate, from a table.

    Parameters
    ----------
    ratio : float
        The ratio of the data's moments, zeros left out.

    Returns
    -------
    float
        Within 1e-5 of what ``ggd.fit(x, "half-moments")`` finds; the nearest end of its range beyond it; NaN for NaN.

    Examples
    --------
    >>> import ggd
    >>> x = ggd.GGD(0.8).sample(100_000, seed=0)
    >>> ratio = np.abs(x).mean() / np.sqrt(np.abs(x)).mean() ** 2
    >>> abs(shape_from_ratio(ratio) - 0.8) < 0.02
    True
    """
    if math.isnan(ratio):
        return math.nan
    logs, log_shapes = _ratios()
    return math.exp(float(np.interp(math.log(max(ratio, 1.0)), logs, log_shapes)))


def scale_from_mean(mean: float, shape: float) -> float:
    """Return the scale at which a generalized Gaussian has a mean magnitude.

    Parameters
    ----------
    mean : float
        Mean of the magnitudes.
    shape : float
        Its shape, positive.

    Returns
    -------
    float

    Examples
    --------
    >>> scale_from_mean(0.5, 1.0)
    0.5
    """
    _checked(shape)
    return mean * math.exp(math.lgamma(1.0 / shape) - math.lgamma(2.0 / shape))
