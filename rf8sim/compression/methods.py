"""Ways of rounding that are compared at one price of a bit, and what came of them for a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..checkpoints.requirements import Requirement
from ..quantization.records import to_builtins
from .inputs import InputFactor
from .rounding import RoundedWeights, round_weights
from .steps import column_steps, row_steps, step_at, tensor_step

__all__ = ["BEST", "METHODS", "Compression", "Method", "Point", "TensorSize", "round_by", "search_price"]

_LEAST = 0.1  # of the mean importance of outputs: a calibration shows some of them too rarely


class Method(NamedTuple):
    """A way of rounding.

    Attributes
    ----------
    feedback : bool
        Whether later columns make up for what earlier ones are off by.
    lengths : bool
        Whether the bits of a code count.
    steps : str
        What has a step: the ``tensor``, or each of its ``columns`` or ``rows``, which are inputs and outputs.
    summary : str
        For people.
    """

    feedback: bool
    lengths: bool
    steps: str
    summary: str


METHODS: dict[str, Method] = {
    "nearest": Method(False, False, "tensor", "the nearest multiple of one step for each tensor"),
    "lengths": Method(False, True, "tensor", "the same, bits of the codes counted (RDOQ, as DeepCABAC)"),
    "column steps": Method(False, True, "columns", "the same, with a step for each input from its energy"),
    "feedback": Method(True, False, "tensor", "later columns make up for earlier ones (GPTQ)"),
    "feedback, lengths": Method(True, True, "tensor", "both in one loop"),
    "feedback, lengths, column steps": Method(True, True, "columns", "and a step for each input (WaterSIC)"),
    "feedback, lengths, row steps": Method(True, True, "rows", "and a step for each output from what its errors cost"),
}
"""The ways, by name; all with steps and prices from one worth of a bit, by what is known of inputs and outputs."""

BEST = "feedback, lengths, row steps"
"""What a model is compressed with."""


def round_by(
    method: Method,
    weight: NDArray[Any],
    inputs: InputFactor,
    importance: NDArray[np.float64],
    price: float,
    threads: int | None = None,
) -> RoundedWeights:
    """Round a weight in one of these ways.

    Parameters
    ----------
    method : Method
        The way.
    weight : ndarray, shape (outputs, inputs)
        The weight.
    inputs : InputFactor
        Of its inputs. Steps are the same with feedback and without.
    importance : ndarray, shape (outputs,)
        What a squared error of each output costs; those below a tenth of the mean count as that.
    price : float
        What a bit is worth.
    threads : int, optional
        At most this many.

    Examples
    --------
    >>> weight = np.random.default_rng(0).normal(size=(64, 32))
    >>> factor = InputFactor.from_moments(np.eye(32) + 0.9)
    >>> rounded = [round_by(method, weight, factor, np.ones(64), 0.01) for method in METHODS.values()]
    >>> [one.bits for one in rounded][3] >= [one.bits for one in rounded][4]
    True
    """
    costs = np.maximum(importance, _LEAST * float(importance.mean()))
    step = step_at(price, inputs, costs)
    used = inputs if method.feedback else inputs.alone()
    if method.steps == "columns":
        scheme, scale = column_steps(weight, step * np.sqrt(inputs.level / used.by_column()))
    elif method.steps == "rows":
        scheme, scale = row_steps(weight, step * np.sqrt(np.exp(np.log(costs).mean()) / costs))
    else:
        scheme, scale = tensor_step(weight, step)
    return round_weights(
        weight, scheme, used, price=price if method.lengths else 0.0, importance=costs, scale=scale, threads=threads
    )


class Point(msgspec.Struct, frozen=True):
    """A model rounded in one way.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    price : float
        What a bit was worth.
    bits_per_weight : float
        Of the rounded matrices: codes with tables and heads, and scales.
    distortion : float
        The divergence in nats per prediction; or of embeddings, the share of their power that the error has.
    standard_error : float
        Of the distortion, over windows or batches; NaN of one alone.
    """

    method: str
    price: float
    bits_per_weight: float
    distortion: float
    standard_error: float = math.nan


class TensorSize(msgspec.Struct, frozen=True):
    """One rounded matrix: its name, its shape, how it is stored, its bits."""

    name: str
    shape: tuple[int, ...]
    scheme: str
    bits_per_weight: float


class Compression(msgspec.Struct, frozen=True):
    """A model compressed to a budget.

    Attributes
    ----------
    model, data : str
        The model and the text.
    task : str
        ``next-token`` or ``outputs``.
    budget : str
        As it was given.
    selected : Point
        What keeps the budget on the text that it was chosen on.
    chosen : Point
        The same, which is what was written, on held-out text.
    points : tuple of Point
        All that was measured on held-out text.
    tensors : tuple of TensorSize
        The matrices.
    calibrated, selected_on, judged : int
        Predictions, or samples, that it was calibrated with, those that it was chosen on, and the held-out ones.
    kept : tuple of str
        Matrices that nothing entered, which stay as they are.
    """

    model: str
    data: str
    task: str
    budget: str
    selected: Point
    chosen: Point
    points: tuple[Point, ...]
    tensors: tuple[TensorSize, ...]
    calibrated: int
    selected_on: int
    judged: int
    kept: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """Weights in all matrices."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    def bits_at(self, method: str, distortion: float) -> float | None:
        """Return the bits per weight of a way at a distortion, between two that were measured; None outside them."""
        curve = sorted((math.log(p.distortion), p.bits_per_weight) for p in self.points if p.method == method)
        at = math.log(distortion)
        if not curve or not curve[0][0] - 1e-9 <= at <= curve[-1][0] + 1e-9:
            return None
        return float(np.interp(at, [height for height, _ in curve], [bits for _, bits in curve]))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        data: dict[str, Any] = to_builtins(self)
        return data


_TOLERANCE = 0.03  # of the distortion, as a logarithm: 0.02 bits
_STEPS = 9


def search_price(measure: Callable[[float], Point], budget: Requirement, first: float) -> Point:
    """Return the point that keeps a budget and is nearest to it: the distortion grows with the price of a bit.

    Parameters
    ----------
    measure : callable
        From a price to a point.
    budget : Requirement
        ``kl<=`` or ``sqnr>=``, the fewest bits that keep it; ``bits<=``, the least distortion within it.
    first : float
        A guess.

    Raises
    ------
    ValueError
        If no price that was tried keeps it.

    Examples
    --------
    >>> from rf8sim.checkpoints.requirements import parse_requirement
    >>> theory = lambda price: Point("nearest", price, 3 - 0.5 * math.log2(price), price / 10)
    >>> point = search_price(theory, parse_requirement("kl<=0.02"), 1.0)
    >>> 0.0194 < point.distortion <= 0.02
    True
    """
    by_bits = budget.quantity == "bits"
    worth = 2 * math.log(2)  # a bit makes that of the logarithm of the distortion

    def excess(point: Point) -> float:
        """Say by how much the logarithm of the distortion is beyond the budget, or how far bits are within it."""
        if by_bits:
            return (budget.value - point.bits_per_weight) * worth
        bound = 10 ** (-budget.value / 10) if budget.quantity == "sqnr" else budget.value
        return math.log(max(point.distortion, 1e-300) / bound)

    kept: Point | None = None
    low, high = -math.inf, math.inf
    tried: list[tuple[float, float]] = []
    at = math.log(first)
    for _ in range(_STEPS):
        point = measure(math.exp(at))
        beyond = excess(point)
        tried.append((at, beyond))
        low, high = (max(low, at), high) if beyond <= 0 else (low, min(high, at))
        if (beyond >= 0) if by_bits else (beyond <= 0):
            better = kept is None or (point.bits_per_weight > kept.bits_per_weight) == by_bits
            kept = point if better else kept
            if abs(beyond) <= _TOLERANCE:
                break
        aim = _TOLERANCE / 2 if by_bits else -_TOLERANCE / 2
        slope = 1.0
        if len(tried) > 1 and tried[-1][0] != tried[-2][0]:
            slope = min(max((tried[-1][1] - tried[-2][1]) / (tried[-1][0] - tried[-2][0]), 0.3), 3.0)
        at += min(max((aim - beyond) / slope, -4.0), 4.0)
        if not low < at < high:
            at = (low + high) / 2
    if kept is None:
        raise ValueError(f"budget {budget.text!r}: no step that was tried keeps it: ask for less")
    return kept
