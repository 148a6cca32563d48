"""Records of a model judged by its own outputs: its loss, its predictions, its embeddings, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ..quantization.records import Count, ExtendedFloat, Record, convert, to_builtins
from .evaluation import paired
from .precision import Precision

__all__ = ["LayerEffect", "LayerInputs", "ModelOutputs", "OutputQuality", "decibels"]


def decibels(noise: float) -> float:
    """Return the SQNR of an error power relative to the signal's; infinite without error, -inf if it is not finite.

    Examples
    --------
    >>> decibels(0.001), decibels(0.0), decibels(math.inf)
    (30.0, inf, -inf)
    """
    if noise == 0:
        return math.inf
    return -10 * math.log10(noise) + 0.0 if math.isfinite(noise) else -math.inf


class OutputQuality(Record, frozen=True):
    """Outputs of a model in a precision, next to the original's.

    Attributes
    ----------
    precision : Precision
        What was rounded.
    bits_per_weight : float or None
        Stored bits for each element of the rounded matrices, scales included; None if weights are not rounded.
    losses : tuple of float
        Mean loss of each window, nats per token; NaN where it is not finite. Empty for a model without a loss.
    divergences : tuple of float
        Mean Kullback-Leibler divergence of the predictions from the original's in each window, nats per token.
    agreement : float or None
        Share of the predictions whose most likely class is the original's.
    cosines : tuple of float
        Cosine of each embedding with the original's; empty for a model with a loss.
    noise : float
        Squared error of the outputs divided by the original's sum of squares; infinite if an output is not finite.
    not_finite : float
        Share of the outputs that are infinite or NaN.

    Examples
    --------
    >>> quality = OutputQuality(Precision("rf8"), 8.0, (1.5, 2.25), (0.5, 0.25), 0.75, (), 0.01, 0.0)
    >>> quality.loss, quality.divergence, quality.sqnr_db, quality.cosine
    (1.875, 0.375, 20.0, None)
    """

    precision: Precision
    bits_per_weight: float | None
    losses: tuple[ExtendedFloat, ...]
    divergences: tuple[ExtendedFloat, ...]
    agreement: float | None
    cosines: tuple[ExtendedFloat, ...]
    noise: ExtendedFloat
    not_finite: float

    derived: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "divergence", "cosine", "sqnr_db")

    def __post_init__(self) -> None:
        for name in ("losses", "divergences", "cosines"):
            numbers = tuple(number if math.isfinite(number) else math.nan for number in getattr(self, name))
            msgspec.structs.force_setattr(self, name, numbers)
        if math.isnan(self.noise):
            msgspec.structs.force_setattr(self, "noise", math.inf)

    @property
    def loss(self) -> float | None:
        """Mean loss, nats per token; NaN if it is not finite."""
        return _mean(self.losses)

    @property
    def perplexity(self) -> float | None:
        """Exponential of the loss; infinite beyond the range of floats."""
        return None if self.loss is None else perplexity(self.loss)

    @property
    def divergence(self) -> float | None:
        """Mean divergence from the original's predictions, nats per token."""
        return _mean(self.divergences)

    @property
    def cosine(self) -> float | None:
        """Mean cosine with the original's embeddings."""
        return _mean(self.cosines)

    @property
    def sqnr_db(self) -> float:
        """Ratio of the outputs' power to that of their error, in dB."""
        return decibels(self.noise)


def _mean(numbers: tuple[float, ...]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def perplexity(loss: float) -> float:
    """Return the perplexity of a loss in nats per token."""
    return math.exp(loss) if not loss > 700 else math.inf


class LayerEffect(Record, frozen=True):
    """What rounding does at one matrix of a model.

    Attributes
    ----------
    name : str
        The parameter.
    shape : tuple of int
        Its shape.
    effect : float
        With this layer alone rounded: divergence of the predictions, nats per token; for embeddings 1 less the cosine.
    noise_alone : float or None
        Squared error of this layer's output with it alone rounded, divided by the output's sum of squares; None if the
        layer is not called by itself.
    noise_below : float or None
        The same with every layer rounded: what it adds and what reaches it.

    Examples
    --------
    >>> layer = LayerEffect("head.weight", (256, 128), 0.01, 0.001, 0.01)
    >>> layer.weights, layer.alone_db, layer.below_db
    (32768, 30.0, 20.0)
    """

    name: str
    shape: tuple[int, ...]
    effect: ExtendedFloat
    noise_alone: ExtendedFloat | None
    noise_below: ExtendedFloat | None

    derived: ClassVar[tuple[str, ...]] = ("weights", "alone_db", "below_db")

    @property
    def weights(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def alone_db(self) -> float | None:
        """SQNR of the output with this layer alone rounded."""
        return None if self.noise_alone is None else decibels(self.noise_alone)

    @property
    def below_db(self) -> float | None:
        """SQNR of the output with every layer rounded."""
        return None if self.noise_below is None else decibels(self.noise_below)


class LayerInputs(Record, frozen=True):
    """Activations that enter a layer, summarized as weights are.

    Attributes
    ----------
    name : str
        The layer.
    count : int
        Values summarized.
    zero_share : float
        Share of them that are zero.
    rms, largest : float
        Root mean square and largest magnitude.
    shape, scale : float or None
        Of the fitted generalized Gaussian (shape 2 is Gaussian, 1 Laplace); None if the data determine none.
    trusted : bool
        Whether the fit can be used without a second look.
    channels : int
        Length of the last axis.
    outlier : int
        The channel of the largest magnitude.
    outlier_ratio : float
        Its largest magnitude divided by the median over channels of theirs.
    outliers : int
        Channels whose largest magnitude is above 6 times that median.
    """

    name: str
    count: Count
    zero_share: float
    rms: ExtendedFloat
    largest: ExtendedFloat
    shape: float | None
    scale: float | None
    trusted: bool
    channels: Count
    outlier: Count
    outlier_ratio: ExtendedFloat
    outliers: Count


class ModelOutputs(Record, frozen=True):
    """A model judged by its own outputs in several precisions.

    Attributes
    ----------
    model, data : str
        What was run, and on what.
    task : str
        ``next-token``, ``labels`` or ``outputs``.
    tokens, windows : int
        Predictions (embeddings for ``outputs``), and the windows that they come in.
    baseline_losses : tuple of float
        Mean loss of each window of the original, nats per token.
    results : tuple of OutputQuality
        In the order asked for.
    layer_precision : Precision or None
        What `layers` were measured with.
    layer_tokens : int
        Predictions that they were measured on.
    layers : tuple of LayerEffect
        In the model's order.
    inputs : tuple of LayerInputs
        Activations of the original on the calibration data, by layer.
    threads : int
        PyTorch's threads, on which last digits depend.
    notes : tuple of str
        Sentences on what else a reader must know.
    """

    model: str
    data: str
    task: str
    tokens: Count
    windows: Count
    baseline_losses: tuple[ExtendedFloat, ...]
    results: tuple[OutputQuality, ...]
    layer_precision: Precision | None = None
    layer_tokens: Count = 0
    layers: tuple[LayerEffect, ...] = ()
    inputs: tuple[LayerInputs, ...] = ()
    threads: Count = 1
    notes: tuple[str, ...] = ()

    derived: ClassVar[tuple[str, ...]] = ("baseline",)

    @property
    def baseline(self) -> float | None:
        """Loss of the original, nats per token; None without a loss."""
        return _mean(self.baseline_losses)

    def cost(self, result: OutputQuality) -> tuple[float, float] | None:
        """Return what a precision adds to the loss, and its standard error over windows; None without a loss."""
        return paired(self.baseline_losses, result.losses) if result.losses else None

    def sorted_layers(self) -> list[LayerEffect]:
        """Return the layers from the largest effect of its own to the least: those to keep come first."""
        return sorted(self.layers, key=lambda layer: (-layer.effect, layer.name))

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with null for what is not finite."""
        data: dict[str, Any] = to_builtins(self)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelOutputs:
        """Return the record that `to_json` wrote; raise ValueError if it is none."""
        return convert(data, cls)
