"""The loss of a language model in low precision: every weight matrix applied by a stated datapath.

The transformer of `rf8sim.models.transformer` is run in float32 and in each `rf8sim.models.datapath.Datapath` on the
same windows of held-out text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..quantization.records import Count, ExtendedFloat, Record, convert, to_builtins
from ..quantization.tensor import QuantizedTensor, quantize
from .datapath import Datapath, Machine
from .transformer import Model, Product, forward

if TYPE_CHECKING:
    from ggd import MagnitudeHistogram

__all__ = ["Evaluation", "evaluate", "paired"]

Array = NDArray[np.float32]

_BATCH = 16  # windows run together; no result depends on it but where an accumulator rounds stochastically


class Evaluation(Record, frozen=True):
    """Quality of a model in a datapath, next to float32.

    Attributes
    ----------
    model : str
        The model.
    datapath : Datapath
        What it was run in.
    tokens : int
        Predictions made.
    baseline_losses, losses : tuple of float
        Mean loss of each window in float32 and in the datapath, nats per token; NaN where it is not finite.
    divergences : tuple of float
        Mean Kullback-Leibler divergence of the predicted distribution from that of float32 in each window, nats per
        token. It shows what the loss on a few tokens does not: predictions that changed for better and worse alike.
    agreement : float
        Share of the predictions whose most likely token is that of float32.
    not_finite : float
        Share of the sums that overflowed into an infinity or are NaN.

    Examples
    --------
    >>> result = Evaluation("m", Datapath("rf8"), 4, (1.0, 2.0), (1.5, 2.25), (0.5, 0.25), 0.75, 0.0)
    >>> result.loss, result.cost, result.error
    (1.875, 0.375, 0.125)
    """

    model: str
    datapath: Datapath
    tokens: Count
    baseline_losses: tuple[ExtendedFloat, ...]
    losses: tuple[ExtendedFloat, ...]
    divergences: tuple[ExtendedFloat, ...]
    agreement: float
    not_finite: float

    derived: ClassVar[tuple[str, ...]] = ("baseline", "loss", "cost", "error", "divergence")

    def __post_init__(self) -> None:
        for name in ("baseline_losses", "losses", "divergences"):
            numbers = tuple(number if math.isfinite(number) else math.nan for number in getattr(self, name))
            msgspec.structs.force_setattr(self, name, numbers)

    @property
    def baseline(self) -> float:
        """Loss in float32, nats per token."""
        return math.fsum(self.baseline_losses) / len(self.baseline_losses)

    @property
    def loss(self) -> float:
        """Loss in the datapath, nats per token; NaN if a sum that was not finite made it so."""
        return sum(self.losses) / len(self.losses)

    @property
    def cost(self) -> float:
        """What the datapath adds to the loss, nats per token."""
        return self.loss - self.baseline

    @property
    def error(self) -> float:
        """Standard error of `cost`, from its spread over windows; NaN for a single window."""
        return paired(self.baseline_losses, self.losses)[1]

    @property
    def divergence(self) -> float:
        """Divergence from float32, nats per token."""
        return sum(self.divergences) / len(self.divergences)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with null for what is not finite.

        Examples
        --------
        >>> result = Evaluation("m", Datapath("rf8"), 4, (1.0, 2.0), (1.5, 2.25), (0.5, 0.25), 0.75, 0.0)
        >>> data = result.to_json()
        >>> data["datapath"]["weights"]["format"], data["loss"], Evaluation.from_json(data) == result
        ('rf8', 1.875, True)
        """
        data: dict[str, Any] = to_builtins(self)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """Return the record that `to_json` wrote; raise ValueError if it is none."""
        return convert(data, cls)


def paired(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Return the mean of differences over windows and its standard error.

    Tokens of one window share a text, so windows are what counts as independent.

    Examples
    --------
    >>> paired([1.0, 2.0], [1.5, 2.25])
    (0.375, 0.125)
    """
    difference = np.subtract(after, before)
    count = difference.size
    error = float(difference.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return float(difference.mean()), error


def evaluate(
    model: Model,
    windows: NDArray[np.uint8],
    datapaths: Sequence[Datapath],
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Evaluation]:
    """Run a model in float32 and in datapaths.

    Parameters
    ----------
    model : Model
        The model.
    windows : ndarray of uint8, shape (windows, context + 1)
        What it is to predict.
    datapaths : sequence of Datapath
        What to run it in.
    progress : callable, optional
        Called with what is at work, the windows done and those in all.

    Returns
    -------
    list of Evaluation
        In the order of the datapaths.

    Raises
    ------
    ValueError
        If an option of a datapath is unknown or does not fit, or there are no windows.

    Examples
    --------
    >>> from rf8sim.models.transformer import load_model, read_windows
    >>> model = load_model("examples/lm/model.safetensors")
    >>> windows = read_windows("examples/lm/validation.bin", model, tokens=256)
    >>> rf8, e2m1 = evaluate(model, windows, [Datapath("rf8"), Datapath("e2m1fn")])
    >>> abs(rf8.cost) < 0.05 < e2m1.cost, rf8.agreement > 0.9
    (True, True)
    """
    for path in datapaths:
        path.check()
    if not len(windows):
        raise ValueError("there are no windows to evaluate")
    from ggd import MagnitudeHistogram

    total, done = len(windows) * (1 + len(datapaths)), 0
    quantized: dict[tuple[object, ...], dict[str, QuantizedTensor]] = {}
    inputs: dict[str, MagnitudeHistogram] = {}

    def plain(name: str, x: Array) -> Array:
        summary = MagnitudeHistogram.from_array(x)
        inputs[name] = inputs[name] | summary if name in inputs else summary
        sums: Array = x @ model.weights[f"{name}.weight"].T
        return sums

    def run(label: str, product: Product, weights: Mapping[str, Array] | None) -> Iterator[_Predictions]:
        nonlocal done
        for start in range(0, len(windows), _BATCH):
            if progress:
                progress(label, done, total)
            part = windows[start : start + _BATCH].astype(np.int64)
            if isinstance(product, Machine):
                product.first_token = start * model.context
            with np.errstate(over="ignore", invalid="ignore"):
                yield _predictions(forward(model, part[:, :-1], product, weights), part[:, 1:])
            done += len(part)

    baseline = list(run("float32", plain, None))
    results = []
    for path in datapaths:
        key = (path.weights, path.seed)
        if key not in quantized:
            quantized[key] = _quantized(model, path)
        machine = Machine(model, path, quantized[key], inputs)
        losses: list[float] = []
        divergences: list[float] = []
        agreeing = 0
        batches = run(f"{path.weights} {path.accumulator}", machine, machine.weights)
        for exact, batch in zip(baseline, batches, strict=True):
            losses += batch.losses.tolist()
            divergences += _divergences(exact.logarithms, batch.logarithms).tolist()
            agreeing += int(np.count_nonzero(exact.best == batch.best))
        results.append(
            Evaluation(
                model=model.name,
                datapath=path,
                tokens=len(windows) * model.context,
                baseline_losses=tuple(loss for batch in baseline for loss in batch.losses.tolist()),
                losses=tuple(losses),
                divergences=tuple(divergences),
                agreement=agreeing / (len(windows) * model.context),
                not_finite=machine.not_finite / machine.sums,
            )
        )
    if progress:
        progress("done", total, total)
    return results


def _quantized(model: Model, path: Datapath) -> dict[str, QuantizedTensor]:
    return {
        name: quantize(weight, path.weights, seed=path.seed)
        for name, weight in model.weights.items()
        if weight.ndim == 2
    }


class _Predictions(NamedTuple):
    """Losses of a batch of windows, the most likely tokens (-1 for none) and the logarithms of their probabilities."""

    losses: NDArray[np.float64]
    best: NDArray[Any]
    logarithms: Array


def _predictions(logits: Array, right: NDArray[np.int64]) -> _Predictions:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    losses = -np.take_along_axis(wide, right[..., None], axis=-1)[..., 0].mean(axis=-1)
    best = np.where(np.isfinite(wide).all(axis=-1), wide.argmax(axis=-1), -1)
    return _Predictions(losses, best, wide.astype(np.float32))


def _divergences(expected: Array, actual: Array) -> NDArray[np.float64]:
    """Return the mean divergence of each window."""
    logarithms = expected.astype(np.float64)
    shares: NDArray[np.float64] = np.sum(np.exp(logarithms) * (logarithms - actual), axis=-1).mean(axis=-1)
    return shares
