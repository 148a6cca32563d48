"""Models compressed to a budget: their matrices rounded for rate and distortion, and judged on other text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from ..checkpoints.requirements import Requirement
from ..compression.inputs import InputFactor
from ..compression.methods import BEST, METHODS, Compression, Point, TensorSize, round_by, search_price
from ..compression.rounding import RoundedWeights
from ..quantization.tensor import QuantizedTensor
from .calibration import Progress, calibrate
from .evaluation import evaluating
from .matrices import FilterFn, Matrices, Spool, as_floats
from .predictions import compare, run_batch, task_of, tensor_of

__all__ = ["CompressedModel", "Judge", "compress_model"]

_FRONTIER = (0.25, 1.0, 4.0)  # times the price that was found, for the curves of a page


@dataclass(frozen=True, eq=False)
class CompressedModel:
    """A model compressed to a budget.

    Attributes
    ----------
    record : Compression
        What was measured.
    tensors : dict of str to QuantizedTensor
        Codes and scales of the matrices, by the names of the model's parameters.
    """

    record: Compression
    tensors: dict[str, QuantizedTensor]


def compress_model(
    model: nn.Module,
    calibration: Sequence[Any],
    selection: Sequence[Any],
    held_out: Sequence[Any],
    budget: Requirement,
    *,
    filter_fn: FilterFn | None = None,
    curves: bool = False,
    progress: Progress | None = None,
) -> CompressedModel:
    """Round the matrices of a model so that they take the fewest bits within a budget.

    One worth of a bit is chosen for all matrices: it makes their steps, by what an error in each does to the model's
    outputs, and the price of the bits in each. It is found by measuring the model on the batches for selection; what is
    reported is measured on the held-out ones, which nothing was chosen on. The model is as it was afterwards.

    In memory are the model and what one matrix needs; originals, second moments and outputs lie in temporary files.

    Parameters
    ----------
    model : nn.Module
        The model, in float32, on the CPU.
    calibration, selection, held_out : sequence
        Batches, as for `evaluate`: of the first the inputs of layers are known, on the second the budget is kept, on
        the last the outputs are compared for the record.
    budget : Requirement
        ``kl<=``, for models that predict tokens; ``sqnr>=``, of the outputs of others; or ``bits<=``.
    filter_fn : callable, optional
        As for `evaluate`: which parameters are rounded.
    curves : bool
        Also measure the other ways of rounding, at three prices.
    progress : callable, optional
        Called with what is at work, what is done and what there is in all.

    Returns
    -------
    CompressedModel
        The record and the codes.

    Raises
    ------
    ValueError
        If the budget is none of these or is not kept, or there are no batches of a kind or no matrices.

    Examples
    --------
    >>> from rf8sim.checkpoints.requirements import parse_requirement
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Embedding(50, 64), nn.Linear(64, 50))
    >>> batches = list(torch.randint(0, 50, (12, 1, 16)))
    >>> result = compress_model(model, batches[:6], batches[6:9], batches[9:], parse_requirement("kl<=0.01"))
    >>> 0.009 < result.record.selected.distortion <= 0.01, sorted(result.tensors)
    (True, ['0.weight', '1.weight'])
    """
    if not (calibration and selection and held_out):
        raise ValueError("there are too few batches: some to calibrate with, others to choose on, others to measure on")
    with ExitStack() as stack:
        matrices = stack.enter_context(Matrices(model, filter_fn))
        judge, test = (stack.enter_context(Judge(model, batches)) for batches in (selection, held_out))
        forms = {("sqnr", ">="), ("bits", "<=")} if judge.task == "outputs" else {("kl", "<="), ("bits", "<=")}
        if (budget.quantity, budget.operator) not in forms:
            example = "'sqnr>=20dB', of its outputs," if judge.task == "outputs" else "'kl<=0.02'"
            raise ValueError(f"budget {budget.text!r}: a model of this kind is held to {example} or to 'bits<=3'")
        search = stack.enter_context(_Search(matrices, judge, calibration, progress))
        selected = search_price(partial(search.measure, BEST, judge), budget, search.first(budget))
        rounded: dict[str, RoundedWeights] = {}
        chosen = search.measure(BEST, test, selected.price, rounded)
        points = [chosen]
        for method, factor in product(METHODS, _FRONTIER) if curves else ():
            if (method, factor) != (BEST, 1.0):
                points.append(search.measure(method, test, factor * selected.price))
        record = Compression(
            model=type(model).__name__,
            data="",
            task=judge.task,
            budget=budget.text,
            selected=selected,
            chosen=chosen,
            points=tuple(points),
            tensors=tuple(
                TensorSize(name, one.tensor.shape, str(one.tensor.scheme), one.bits_per_weight)
                for name, one in rounded.items()
            ),
            calibrated=search.calibrated,
            selected_on=judge.predictions,
            judged=test.predictions,
            kept=tuple(item.name for item in matrices.items if item.name not in rounded),
        )
        return CompressedModel(record, {name: one.tensor for name, one in rounded.items()})


class Judge:
    """The outputs of a model on held-out batches, which those of the rounded model are compared with."""

    def __init__(self, model: nn.Module, batches: Sequence[Any]) -> None:
        self.model, self.batches, self.originals = model, list(batches), Spool()
        self.task, self.predictions, self.signal = "", 0, 0.0
        with torch.no_grad(), evaluating(model):
            for batch in self.batches:
                output = run_batch(model, batch)
                self.task = self.task or task_of(batch, output)
                values = tensor_of(output)
                self.originals.write(as_floats(values))
                compared = compare(batch, values, values, self.task)
                self.predictions += compared.predictions
                self.signal += compared.signal

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.originals.__exit__()

    def distortion(self, progress: Progress) -> tuple[float, float]:
        """Return the mean divergence, or the share of the outputs' power that the error has; and its standard error.

        Windows, or batches of samples, are taken as independent of each other.
        """
        parts: list[tuple[float, float]] = []  # what is summed, and what it is of
        with torch.no_grad(), evaluating(self.model):
            for number, batch in enumerate(self.batches):
                progress("held-out text", number, len(self.batches))
                original = torch.from_numpy(self.originals.read(number))
                compared = compare(batch, original, tensor_of(run_batch(self.model, batch)), self.task)
                if self.task == "outputs":
                    parts.append((math.inf if compared.not_finite else compared.error, compared.signal))
                else:
                    parts += [(divergence, 1.0) for divergence in compared.divergences]
        return _ratio(parts)


def _ratio(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the ratio of two sums over independent parts, and its standard error; NaN of a single part.

    Examples
    --------
    >>> _ratio([(2.0, 1.0), (4.0, 1.0), (3.0, 1.0), (3.0, 1.0)])[0]
    3.0
    """
    numbers, sizes = np.array(parts, dtype=np.float64).T
    value, count = float(numbers.sum()) / max(float(sizes.sum()), 1e-300), len(parts)
    if count < 2 or not math.isfinite(value):
        return value, math.nan
    residuals = numbers - value * sizes
    return value, math.sqrt(float(residuals @ residuals) * count / (count - 1)) / float(sizes.sum())


class _Search:
    """The matrices of a model with what is known of their inputs and outputs, rounded at any price."""

    def __init__(self, matrices: Matrices, judge: Judge, batches: Sequence[Any], progress: Progress | None) -> None:
        self.matrices, self.judge = matrices, judge
        self.progress: Progress = progress or (lambda name, done, total: None)
        self._factors = Spool()
        self._places: dict[str, tuple[int, ...]] = {}
        self.importance = {}
        self._index = {item.name: index for index, item in enumerate(matrices.items)}
        with calibrate(judge.model, matrices, batches, judge.task, progress=progress) as calibration:
            self.names, self.calibrated = calibration.names, calibration.predictions
            for number, name in enumerate(self.names):
                self.progress("second moments", number, len(self.names))
                factor = InputFactor.from_moments(calibration.moments(name))
                parts = (factor.order, factor.weights, factor.feedback)
                self._places[name] = tuple(self._factors.write(part) for part in parts)
                self.importance[name] = calibration.importance(name)
        if not self.names:
            raise ValueError("no Linear layer or embedding of the model was called: nothing can be compressed")
        self.weights = sum(matrices.items[self._index[name]].parameter.numel() for name in self.names)

    def __enter__(self) -> _Search:
        return self

    def __exit__(self, *_: object) -> None:
        self._factors.__exit__()

    def first(self, budget: Requirement) -> float:
        """Return a price to begin with: of the error that half of Fisher's information expects."""
        worth = 2 * math.log(2) / self.weights
        if budget.quantity == "kl":
            return budget.value * worth
        share = 10 ** (-budget.value / 10) if budget.quantity == "sqnr" else 0.02
        each = self.judge.signal / max(self.judge.predictions, 1) if self.judge.task == "outputs" else 1.0
        return share * each * worth

    def rounded(self, method: str, name: str, price: float) -> RoundedWeights:
        """Return a matrix rounded in one of the ways."""
        inputs = InputFactor(*(self._factors.read(place) for place in self._places[name]))
        weight = self.matrices.original(self._index[name])
        try:
            return round_by(METHODS[method], weight, inputs, self.importance[name], price)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def measure(self, method: str, judge: Judge, price: float, kept: dict[str, RoundedWeights] | None = None) -> Point:
        """Round all matrices and compare the model's outputs; put the originals back. Codes go into `kept`."""
        bits = 0.0
        try:
            for number, name in enumerate(self.names):
                self.progress(name, number, len(self.names))
                one = self.rounded(method, name, price)
                bits += one.bits
                if kept is not None:
                    kept[name] = one
                self.matrices.write(self._index[name], one.tensor.dequantize())
            distortion, error = judge.distortion(self.progress)
        finally:
            for name in self.names:
                self.matrices.write(self._index[name], self.matrices.original(self._index[name]))
        return Point(method, price, bits / self.weights, distortion, error)
