"""What rounding that counts bits gains, predicted: dead zones, rate-distortion optimized rounding, error feedback."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ggd.distribution import GGD
from ggd.theory import QuantizerTheory, quantizer_theory

__all__ = ["FeedbackGain", "OptimizedRounding", "dead_zone", "feedback_gain", "optimized_rounding"]

Array = NDArray[np.float64]

_MOST_LEVELS = 100_000
_STEPS = 10_000


def dead_zone(density: GGD, step: float, rounding: float = 0.5) -> QuantizerTheory:
    """Return error and rate of a quantizer with a dead zone: index sign(x) floor(|x| / step + rounding), times step.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    step : float
        Positive.
    rounding : float
        Above 0 and at most 1: 1/2 is rounding to nearest; less of it sends more to zero and to the smaller index, as
        video coders do (1/3 and 1/6 are usual). The zone of zeros is 2 (1 - rounding) steps wide.

    Returns
    -------
    QuantizerTheory

    Raises
    ------
    ValueError
        If a number is out of range, or the step so small that more than a hundred thousand levels matter.

    Examples
    --------
    A wider zone gives up quality for bits:

    >>> for rounding in (1 / 2, 1 / 3):
    ...     theory = dead_zone(GGD.from_std(1.0, 1.0), 1.0, rounding)
    ...     print(round(theory.entropy_bits, 3), round(theory.sqnr_db, 2), round(theory.probabilities.max(), 3))
    2.014 11.04 0.507
    1.766 9.97 0.61
    """
    if not 0 < rounding <= 1:
        raise ValueError(f"rounding is above 0 and at most 1, got {rounding!r}")
    values = _multiples(density, step)
    index = np.round(values / step)
    inner = np.where(index[1:] > 0, index[1:] - rounding, index[:-1] + rounding)
    return quantizer_theory(density, values, inner * step)


def _multiples(density: GGD, step: float) -> Array:
    """Return the multiples of a step that an input may come near."""
    if not (step > 0 and math.isfinite(step)):
        raise ValueError(f"a step is positive and finite, got {step!r}")
    reach = density.scale * float(GGD(density.shape).isf(1e-18))  # beyond, neither error nor entropy matters
    low, high = math.floor((density.loc - reach) / step), math.ceil((density.loc + reach) / step)
    if high - low > _MOST_LEVELS:
        raise ValueError(f"a step of {step!r} needs {high - low} levels, of which there may be {_MOST_LEVELS}")
    index: Array = np.arange(min(low, 0), max(high, 0) + 1).astype(np.float64)
    return index * step


@dataclass(frozen=True, eq=False)
class OptimizedRounding:
    """A quantizer whose thresholds count bits.

    Attributes
    ----------
    theory : QuantizerTheory
        Its error and its rate.
    values : ndarray of float64, shape (n,)
        The outputs that are left.
    boundaries : ndarray of float64, shape (n - 1,)
        Its thresholds.
    lengths : ndarray of float64, shape (n,)
        Bits of the code of each value, ``-log2`` of its probability.
    """

    theory: QuantizerTheory
    values: Array
    boundaries: Array
    lengths: Array


def optimized_rounding(density: GGD, step: float, price: float) -> OptimizedRounding:
    """Return what rate-distortion optimized rounding to multiples of a step comes to.

    Of all multiples the one with the least squared error plus ``price`` times the length of its code is chosen, and
    lengths are those of the choices. That is the entropy-constrained quantizer of Chou, Lookabaugh and Gray (1989) with
    its values held. Between neighbours the threshold moves from the middle to the value of the longer code by ``price``
    times the difference of lengths over twice the step. Repeated from rounding to nearest on; no round raises the cost.

    Parameters
    ----------
    density : GGD
        Distribution of the input.
    step : float
        Positive.
    price : float
        Squared error that a bit is worth; 0 counts no bits.

    Returns
    -------
    OptimizedRounding
        A point that no further round changes: a minimum near rounding to nearest, which need not be the least of all.

    Raises
    ------
    ValueError
        If a number is out of range, or the step too small, as in `dead_zone`.

    Examples
    --------
    At the same error, a smaller step whose bits are counted takes fewer bits than rounding to nearest:

    >>> density = GGD.from_std(1.0, 1.0)
    >>> nearest, optimized = dead_zone(density, 1.048), optimized_rounding(density, 1.0, 0.1).theory
    >>> round(nearest.mse, 3), round(optimized.mse, 3), round(nearest.entropy_bits - optimized.entropy_bits, 3)
    (0.086, 0.086, 0.075)
    """
    if not (price >= 0 and math.isfinite(price)):
        raise ValueError(f"price is a squared error per bit of at least 0, got {price!r}")
    values = _multiples(density, step)
    boundaries = 0.5 * (values[1:] + values[:-1])
    theory = quantizer_theory(density, values, boundaries)
    cost = math.inf
    for _ in range(_STEPS):
        now = theory.mse + price * theory.entropy_bits
        if not now < cost * (1.0 - 1e-12):
            break
        cost = now
        kept = theory.probabilities > 0
        values, lengths = values[kept], -np.log2(theory.probabilities[kept])
        left, boundaries = _cheapest(values, price * lengths)
        values = values[left]
        theory = quantizer_theory(density, values, boundaries)
    some = theory.probabilities > 0
    with np.errstate(divide="ignore"):
        lengths = np.where(some, -np.log2(theory.probabilities), np.inf)
    return OptimizedRounding(theory, values, boundaries, lengths)


def _cheapest(values: Array, extra: Array) -> tuple[list[int], Array]:
    """Return which values are ever the cheapest, squared error and what each costs besides, and where they change."""
    kept: list[int] = []
    ends: list[float] = []
    for i, (value, more) in enumerate(zip(values.tolist(), extra.tolist(), strict=True)):
        while kept:
            last = kept[-1]
            end = 0.5 * (values[last] + value) + 0.5 * (more - extra[last]) / (value - values[last])
            if ends and end <= ends[-1]:  # the last is nowhere the cheapest
                kept.pop()
                ends.pop()
                continue
            ends.append(float(end))
            break
        kept.append(i)
    return kept, np.array(ends)


@dataclass(frozen=True, eq=False)
class FeedbackGain:
    """What handing errors on to later columns gains at high rate: all costs are of errors of one variance.

    Attributes
    ----------
    conditional : ndarray of float64, shape (n,)
        Variance of each input given all that are rounded after it, in the order of the columns: what an error there
        costs once those make up for it.
    plain : float
        Mean second moment of the inputs: the cost without feedback.
    feedback : float
        Arithmetic mean of ``conditional``: the cost with it, one step for all columns.
    bound : float
        Geometric mean of ``conditional``, the n-th root of the determinant in any order: the cost with feedback
        and steps that go as the inverse root of ``conditional``, at the same rate.
    """

    conditional: Array
    plain: float
    feedback: float
    bound: float

    @property
    def feedback_db(self) -> float:
        """Gain of feedback at one step for all columns, in dB."""
        return 10.0 * math.log10(self.plain / self.feedback)

    @property
    def steps_db(self) -> float:
        """Gain of a step for each column beyond that, in dB: arithmetic over geometric mean of what errors cost."""
        return 10.0 * math.log10(self.feedback / self.bound)

    @property
    def bits(self) -> float:
        """Bits a weight that both save at the same error: half the binary logarithm of their gain."""
        return 0.5 * math.log2(self.plain / self.bound)


def feedback_gain(moments: ArrayLike, order: ArrayLike | None = None) -> FeedbackGain:
    """Return what error feedback gains when a layer's weights are rounded column by column, as GPTQ does.

    An error e of a row of weights costs ``e H e`` with H the second moments of the inputs. If the columns after one
    make up for its error as well as they can, it costs its square times the variance of that input given the later
    ones. Where steps are small, errors have the variance step**2 / 12 and are independent of each other.

    Parameters
    ----------
    moments : array_like, shape (n, n)
        Second moments of the inputs, symmetric and positive definite: add a share of the mean of the diagonal to it if
        they are of few samples.
    order : array_like of int, shape (n,), optional
        The columns in the order in which they are rounded; by default from the first.

    Returns
    -------
    FeedbackGain

    Raises
    ------
    ValueError
        If the moments have no such shape or are not positive definite, or the order does not name each column once.

    Examples
    --------
    Two inputs with a correlation of 0.8: the first column's errors cost 0.36 of what they did.

    >>> gain = feedback_gain([[1.0, 0.8], [0.8, 1.0]])
    >>> gain.conditional.round(6), round(gain.feedback_db, 3), round(gain.steps_db, 3), round(gain.bits, 3)
    (array([0.36, 1.  ]), 1.675, 0.544, 0.368)
    """
    array = np.asarray(moments, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise ValueError(f"second moments have the shape (n, n), got {array.shape}")
    count = array.shape[0]
    columns = np.arange(count) if order is None else np.asarray(order)
    if not np.array_equal(np.sort(columns), np.arange(count)):
        raise ValueError(f"an order names each of {count} columns once")
    backward = columns[::-1]
    try:
        if not (np.isfinite(array).all() and np.allclose(array, array.T)):
            raise np.linalg.LinAlgError
        lower = np.linalg.cholesky(array[np.ix_(backward, backward)])
    except np.linalg.LinAlgError:
        raise ValueError("second moments are symmetric and positive definite: add to the diagonal") from None
    conditional = np.empty(count)
    conditional[backward] = np.diagonal(lower) ** 2
    bound = float(np.exp(np.mean(np.log(conditional))))
    return FeedbackGain(conditional, float(np.mean(np.diagonal(array))), float(conditional.mean()), bound)
