"""Uniform steps for weights that are entropy-coded, each as a scheme that files know, from what a bit is worth."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..formats import get_format
from ..quantization.scaling import Chosen
from ..quantization.scheme import Scales, Scheme
from .inputs import InputFactor

__all__ = ["column_steps", "row_steps", "step_at", "tensor_step"]

_FORMATS = ("int8", "e3m4", "e4m3fn")
"""Formats whose values are whole multiples of the least: up to 127 of them; up to 32, then in proportion, to 992; up to
16, to 229,376."""

_MARGIN = 4.0  # between the largest step and the largest that their format has


def step_at(price: float, factor: InputFactor, importance: ArrayLike = 1.0) -> float:
    """Return the step at which one more bit for each weight saves as much error as it costs.

    The error of a uniform step is a twelfth of its square, and falls to a quarter with each bit: a bit is worth
    ``2 ln 2`` times the error.

    Parameters
    ----------
    price : float
        What a bit is worth.
    factor : InputFactor
        Of the layer's inputs.
    importance : array_like
        Of its outputs.

    Returns
    -------
    float
        The step.

    Examples
    --------
    >>> round(step_at(2 * np.log(2) / 12, InputFactor.equal(8)), 12)
    1.0
    """
    level = factor.level * float(np.exp(np.log(np.asarray(importance, dtype=np.float64)).mean()))
    return math.sqrt(12 * price / (2 * math.log(2) * level))


def tensor_step(weight: NDArray[np.floating], step: float) -> tuple[Scheme, Chosen]:
    """Return the scheme and the scale of one step for a tensor.

    Multiples of the step are int8; where the weight reaches further, e3m4 or e4m3fn: a few outliers are then coarser,
    and no code needs a second byte.

    Parameters
    ----------
    weight : ndarray
        The weight.
    step : float
        The step; what is stored is the float32 next to it.

    Examples
    --------
    >>> scheme, chosen = tensor_step(np.array([[0.5, -3.0]]), 0.25)
    >>> str(scheme), float(chosen.scales[0]), str(tensor_step(np.array([1.0, -100.0]), 0.25)[0])
    ('int8/tensor,max', 0.25, 'e3m4/tensor,max')
    """
    name, unit = _format_for(float(np.abs(weight).max(initial=0.0)) / step)
    return Scheme(name, Scales(None, "float32", "max")), Chosen((np.asarray(step / unit, np.float32),))


def column_steps(weight: NDArray[np.floating], steps: ArrayLike) -> tuple[Scheme, Chosen]:
    """Return the scheme and the scales of a step for each input of a matrix, of 8 bits each.

    Parameters
    ----------
    weight : ndarray, shape (outputs, inputs)
        The weight.
    steps : array_like, shape (inputs,)
        The steps; what is stored is within a sixteenth of them, and no less than 2**-17 of the largest.

    Examples
    --------
    >>> scheme, chosen = column_steps(np.array([[0.5, -3.0]]), [0.25, 1.0])
    >>> str(scheme), (chosen.scales[0] * chosen.scales[1]).tolist()
    ('int8/*x1:e4m3fn,max/tensor:float32,max', [[0.25, 1.0]])
    """
    return _steps_of(weight, np.asarray(steps, dtype=np.float64)[None], (-1, 1))


def row_steps(weight: NDArray[np.floating], steps: ArrayLike) -> tuple[Scheme, Chosen]:
    """Return the scheme and the scales of a step for each output of a matrix, of 8 bits each.

    Parameters
    ----------
    weight : ndarray, shape (outputs, inputs)
        The weight.
    steps : array_like, shape (outputs,)
        The steps, stored as those of `column_steps`; larger where a row reaches beyond 127 of them, so that all codes
        are int8. A coarser format for one row's outliers would be that of all rows.

    Examples
    --------
    >>> scheme, chosen = row_steps(np.array([[0.5], [-3.0]]), [0.25, 1.0])
    >>> str(scheme), (chosen.scales[0] * chosen.scales[1]).tolist()
    ('int8/channel:e4m3fn,max/tensor:float32,max', [[0.25], [1.0]])
    """
    reach = np.abs(weight).max(axis=1, initial=0.0).astype(np.float64) / 127
    wanted = np.maximum(np.asarray(steps, dtype=np.float64), reach * (1 + 2**-4))  # what is stored may be 2**-4 less
    return _steps_of(weight, wanted[:, None], (1, -1))


def _steps_of(
    weight: NDArray[np.floating], wanted: NDArray[np.float64], block: tuple[int, int]
) -> tuple[Scheme, Chosen]:
    from ..codec.codec import decode, encode

    stored = get_format("e4m3fn")
    outer = np.float32(2.0 ** math.ceil(math.log2(_MARGIN * float(wanted.max()) / stored.max)))
    factors = np.maximum(decode(encode(wanted / float(outer), stored), stored, dtype=np.float64), stored.smallest)
    name, unit = _format_for(float((np.abs(weight) / (factors * float(outer))).max(initial=0.0)))
    scheme = Scheme(name, Scales(block, "e4m3fn", "max", outer=Scales(None, "float32", "max")))
    return scheme, Chosen((factors.astype(np.float32), np.asarray(outer / np.float32(unit), np.float32)))


def _format_for(reach: float) -> tuple[str, float]:
    """Return the format for multiples of a step as large as this, and its least value."""
    formats = {name: get_format(name) for name in _FORMATS}
    name = next((name for name, fmt in formats.items() if reach < fmt.max / fmt.smallest + 0.5), _FORMATS[-1])
    return name, formats[name].smallest
