"""A language model run in low precision: its loss when every weight matrix is applied by a stated datapath.

A `Datapath` says what products of weights and activations are computed in: the format of the weights, that of the
activations if they are quantized too, the scales, the accumulator with its order of summing. All else stays in float32:
the norms, the softmax, attention's two products of activations with activations, the residual sums. The two tables that
are looked up, not multiplied, are quantized as the matrices are.

Scales
------
Weights are stored by their scheme. Where it has one scale for the tensor or for a channel, codes are multiplied and the
scale is applied to the sum; where scales change along the summed axis, or have scales or zero points, the products
are of the numbers that the codes stand for, as float32. An activation scheme with one scale for the tensor has a static
one for each product, chosen by its rule on the summary of what that product gets in the float32 run; any other chooses
its scales on the fly (``int8/channel,max``: one for each token, to fit its largest magnitude).

Shift
-----
Accumulators of small range need products brought into it: they hold products divided by ``2**shift``, an exponent
added, which rounds nothing by itself. By default float16 and 8-bit accumulators get the shift that puts the largest
possible product 6 bits below their largest value, for every format alike; other accumulators get none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.accumulation import Accumulation, OperandScales
from ..arithmetic.accumulators import get_accumulator, get_order, get_rule
from ..arithmetic.linalg import matmul
from ..codec.rounding import Rounding
from ..formats import Format
from ..quantization.scaling import Chosen, scales_from_histogram
from ..quantization.scheme import Scheme, as_scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .transformer import Model, Product, forward

if TYPE_CHECKING:
    from ggd import MagnitudeHistogram

__all__ = ["Datapath", "Evaluation", "evaluate", "paired"]

Array = NDArray[np.float32]

_BATCH = 16  # windows run together; no result depends on it but where an accumulator rounds stochastically
_BY_WINDOW = ("baseline_losses", "losses", "divergences")
_MARGIN = 6  # bits of a narrow accumulator left above the largest product
_NARROW = 2.0**64  # an accumulator that reaches further needs no shift


# --- what it is run in ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Datapath:
    """What products of weights and activations are computed in.

    Attributes
    ----------
    weights : Scheme
        How weights are stored; a text form is read.
    activations : Scheme or None
        How activations are rounded; None leaves them in float32.
    accumulator, order, accumulator_rounding : str
        As ``accumulator``, ``order`` and ``rounding`` of `rf8sim.arithmetic.linalg.matmul`.
    shift : int or None
        Products are divided by ``2**shift`` before they are summed, and the sums multiplied; None chooses it.
    seed : int
        Of stochastic rounding.

    Examples
    --------
    >>> Datapath("rf8", activations="int8", accumulator="int:24").check()
    >>> Datapath("rf8", accumulator="int:24").check()
    Traceback (most recent call last):
    ValueError: accumulator 'int:24' sums integers: give the activations a format too, such as 'int8'
    """

    weights: Scheme
    activations: Scheme | None = None
    accumulator: str = "exact"
    order: str = "sequential"
    accumulator_rounding: str = "nearest-even"
    shift: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", as_scheme(self.weights))
        if self.activations is not None:
            object.__setattr__(self, "activations", as_scheme(self.activations))

    def check(self) -> None:
        """Raise ValueError if an option is unknown or options do not go together."""
        get_order(self.order)
        held = get_accumulator(self.accumulator)
        if not held.exact:
            get_rule(held, Rounding(self.accumulator_rounding, seed=self.seed), 0)
        if held.integer and self.activations is None:
            raise ValueError(
                f"accumulator {self.accumulator!r} sums integers: give the activations a format too, such as 'int8'"
            )
        for scheme in (self.weights, self.activations):
            if held.integer and scheme is not None and not _multiplies(scheme):
                raise ValueError(
                    f"accumulator {self.accumulator!r} sums products of codes: the scales of {scheme} change along the "
                    "sum, take a scheme with one scale for the tensor or the channel"
                )
        if self.shift is not None and abs(self.shift) > 64:
            raise ValueError(f"shift must be -64 to 64, got {self.shift}")

    def to_json(self) -> dict[str, Any]:
        """Return plain data: schemes by their text forms."""
        activations = None if self.activations is None else str(self.activations)
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**own, "weights": str(self.weights), "activations": activations}


def _multiplies(scheme: Scheme) -> bool:
    """Whether a scale is one for the tensor or a channel, which is applied to the sum of products of codes."""
    scales = scheme.scales
    return scales is None or (scales.block in (None, (1, -1)) and scales.outer is None and scales.zero is None)


@lru_cache(maxsize=64)
def _shifted(fmt: Format, shift: int) -> Format:
    """Return a format whose values are divided by ``2**shift``."""
    if not shift:
        return fmt
    return dataclasses.replace(fmt, name=f"{fmt.name} / 2**{shift}", values=np.ldexp(fmt.values, -shift))


class _Machine:
    """A datapath with a model's weights in it."""

    def __init__(
        self,
        model: Model,
        path: Datapath,
        quantized: Mapping[str, QuantizedTensor],
        seen: Mapping[str, MagnitudeHistogram],
    ) -> None:
        self.path = path
        self.operands = {
            name: _operand(quantized[f"{name}.weight"]) for name in model.products if f"{name}.weight" in quantized
        }
        tables = {name: quantized[name].dequantize() for name in ("embed.weight", "positions.weight")}
        self.weights = {**model.weights, **tables}
        self.numbers = {name: number for number, name in enumerate(model.products)}
        self.shifts = {name: self._shift(name, seen[name].abs_max) for name in model.products}
        self.scales: dict[str, Chosen] = {}
        inputs = path.activations
        if inputs is not None and inputs.scales is not None and inputs.scales.block is None:
            self.scales = {name: scales_from_histogram(seen[name], inputs) for name in model.products}
        self.first = 0  # of the tokens at work: their place among all, for stochastic rounding
        self.sums = self.not_finite = 0

    def _shift(self, name: str, largest_input: float) -> int:
        if self.path.shift is not None:
            return self.path.shift
        held = get_accumulator(self.path.accumulator)
        kind = held.floating or held.format
        if kind is None or kind.max >= _NARROW:
            return 0
        inputs = self.path.activations
        reach = inputs.format.max if inputs is not None and _multiplies(inputs) else largest_input
        largest = self.operands[name].largest * reach
        return math.ceil(math.log2(largest / kind.max)) + _MARGIN if largest > 0 else 0

    def __call__(self, name: str, x: Array) -> Array:
        """Apply a matrix."""
        weight, shift = self.operands[name], self.shifts[name]
        if self.path.activations is None:
            inputs = _Operand(np.ldexp(x, -shift), "float32", np.ones((1, 1), np.float32), 0.0)
        else:
            inputs = _operand(self._codes(name, x, self.path.activations))
            if isinstance(inputs.kind, Format):
                inputs = inputs._replace(kind=_shifted(inputs.kind, shift))
            else:
                inputs = inputs._replace(data=np.ldexp(inputs.data, -shift))
        sums = matmul(
            inputs.data,
            weight.data.T,
            (inputs.kind, weight.kind),
            scales=OperandScales(np.ldexp(inputs.scale, shift), weight.scale.T),
            accumulator=Accumulation(
                self.path.accumulator,
                self.path.order,
                Rounding(self.path.accumulator_rounding, seed=self.path.seed + self.numbers[name]),
            ),
        ).astype(np.float32)
        self.sums += sums.size
        self.not_finite += sums.size - int(np.count_nonzero(np.isfinite(sums)))
        return sums

    def _codes(self, name: str, x: Array, scheme: Scheme) -> QuantizedTensor:
        if scheme.format.nan is None:  # after an overflow that made infinities, which is counted
            x = np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf)
        seed, first = self.path.seed + self.numbers[name], self.first * x.shape[1]
        return quantize(x, scheme, seed=seed, offset=first, scale=self.scales.get(name))


class _Operand(NamedTuple):
    """What a product multiplies: codes of a format, or float32 numbers; what the sum is multiplied by; the largest."""

    data: NDArray[Any]
    kind: str | Format
    scale: NDArray[Any]
    largest: float


def _operand(quantized: QuantizedTensor) -> _Operand:
    if _multiplies(quantized.scheme):
        return _Operand(quantized.codes, quantized.format, quantized.scale, quantized.format.max)
    numbers = quantized.dequantize(np.float32)
    return _Operand(numbers, "float32", np.ones((1, 1), np.float32), float(np.abs(numbers).max(initial=0.0)))


# --- what comes of it -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """How a model did in a datapath, beside float32.

    Attributes
    ----------
    model : str
        The model.
    datapath : Datapath
        What it was run in.
    tokens : int
        Predictions made.
    baseline_losses, losses : tuple of float
        Mean loss of each window in float32 and in the datapath, nats per token.
    divergences : tuple of float
        Mean Kullback-Leibler divergence of the predicted distribution from that of float32 in each window, nats per
        token. It sees what the loss on a few tokens does not: predictions that changed for better and worse alike.
    agreement : float
        Share of the predictions whose most likely token is that of float32.
    not_finite : float
        Share of the sums that overflowed into an infinity or came out NaN.
    """

    model: str
    datapath: Datapath
    tokens: int
    baseline_losses: tuple[float, ...]
    losses: tuple[float, ...]
    divergences: tuple[float, ...]
    agreement: float
    not_finite: float

    @cached_property
    def baseline(self) -> float:
        """Loss in float32, nats per token."""
        return math.fsum(self.baseline_losses) / len(self.baseline_losses)

    @cached_property
    def loss(self) -> float:
        """Loss in the datapath, nats per token; NaN if a sum that was not finite made it so."""
        return sum(self.losses) / len(self.losses)

    @property
    def cost(self) -> float:
        """What the datapath adds to the loss, nats per token."""
        return self.loss - self.baseline

    @cached_property
    def error(self) -> float:
        """Standard error of `cost`, from its spread over windows; NaN for a single window."""
        return paired(self.baseline_losses, self.losses)[1]

    @cached_property
    def divergence(self) -> float:
        """Divergence from float32, nats per token."""
        return sum(self.divergences) / len(self.divergences)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with null for what is not finite.

        Examples
        --------
        >>> result = Evaluation("m", Datapath("rf8"), 4, (1.0, 2.0), (1.5, 2.25), (0.5, 0.25), 0.75, 0.0)
        >>> data = result.to_json()
        >>> data["loss"], data["cost"], data["error"]
        (1.875, 0.375, 0.125)
        >>> Evaluation.from_json(data) == result
        True
        """
        derived = {name: _existing(getattr(self, name)) for name in ("baseline", "loss", "cost", "error", "divergence")}
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {name: [_existing(loss) for loss in own[name]] for name in _BY_WINDOW}
        return {**own, "datapath": self.datapath.to_json(), **derived, **lists}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """Return the record that `to_json` wrote."""
        own = {field.name: data[field.name] for field in dataclasses.fields(cls)}
        for name in _BY_WINDOW:
            own[name] = tuple(math.nan if loss is None else loss for loss in own[name])
        return cls(**{**own, "datapath": Datapath(**data["datapath"])})


def _existing(value: float) -> float | None:
    return value if math.isfinite(value) else None


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
    seen: dict[str, MagnitudeHistogram] = {}

    def plain(name: str, x: Array) -> Array:
        summary = MagnitudeHistogram.from_array(x)
        seen[name] = seen[name] | summary if name in seen else summary
        sums: Array = x @ model.weights[f"{name}.weight"].T
        return sums

    def run(label: str, product: Product, weights: Mapping[str, Array] | None) -> Iterator[_Predictions]:
        nonlocal done
        for start in range(0, len(windows), _BATCH):
            if progress:
                progress(label, done, total)
            part = windows[start : start + _BATCH].astype(np.int64)
            if isinstance(product, _Machine):
                product.first = start * model.context
            with np.errstate(over="ignore", invalid="ignore"):
                yield _predictions(forward(model, part[:, :-1], product, weights), part[:, 1:])
            done += len(part)

    baseline = list(run("float32", plain, None))
    results = []
    for path in datapaths:
        key = (path.weights, path.seed)
        if key not in quantized:
            quantized[key] = _quantized(model, path)
        machine = _Machine(model, path, quantized[key], seen)
        losses: list[float] = []
        divergences: list[float] = []
        agreeing = 0
        for own, batch in zip(
            baseline, run(f"{path.weights} {path.accumulator}", machine, machine.weights), strict=True
        ):
            losses += batch.losses.tolist()
            divergences += _divergences(own.logarithms, batch.logarithms).tolist()
            agreeing += int(np.count_nonzero(own.best == batch.best))
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
    """Of a batch of windows: losses of windows, the most likely tokens (-1 for none), logarithms of probabilities."""

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


def _divergences(expected: Array, found: Array) -> NDArray[np.float64]:
    """Return the mean divergence of each window."""
    logarithms = expected.astype(np.float64)
    shares: NDArray[np.float64] = np.sum(np.exp(logarithms) * (logarithms - found), axis=-1).mean(axis=-1)
    return shares
