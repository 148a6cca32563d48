"""What enters the layers of a model: summarized on calibration data, and rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ggd

from ..models.datapath import Products, is_static
from ..models.outputs import LayerInputs
from ..models.precision import Precision
from ..quantization.scaling import Chosen, scales_from_histogram
from ..quantization.scheme import Scheme
from ..quantization.tensor import quantize
from .matrices import Matrices, as_floats

__all__ = ["InputSummaries", "layers_with_inputs", "rounded_layers", "rounded_rows"]

_OUTLIER = 6.0  # times the median over channels of their largest magnitudes
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)


def layers_with_inputs(matrices: Matrices) -> list[tuple[str, nn.Module]]:
    """Return the modules that multiply a matrix with what enters them, with their names, each once."""
    owners = (owner for item in matrices.items for owner in item.modules)
    return [(name, module) for name, module in dict(owners).items() if not isinstance(module, _TABLES)]


def _rows(module: nn.Module, x: Tensor) -> Any:
    """Return an input as an array of shape (tokens or pixels, channels)."""
    moved = x.movedim(1, -1) if isinstance(module, _CONVOLUTIONS) and x.ndim > 2 else x
    return as_floats(moved.reshape(-1, moved.shape[-1]))


def _input(arguments: Sequence[Any]) -> Tensor | None:
    first = arguments[0] if arguments else None
    return first if isinstance(first, Tensor) and first.is_floating_point() and first.ndim > 0 else None


class InputSummaries:
    """What enters each layer, in one pass: a histogram of magnitudes, and the largest magnitude of each channel."""

    def __init__(self) -> None:
        self.histograms: dict[str, ggd.MagnitudeHistogram] = {}
        self.largest: dict[str, Any] = {}

    @contextmanager
    def recording(self, layers: Sequence[tuple[str, nn.Module]]) -> Iterator[None]:
        """Add what enters layers while a model runs."""
        with ExitStack() as stack:
            for name, module in layers:
                handle = module.register_forward_pre_hook(self._hook(name))
                stack.callback(handle.remove)
            yield

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def record(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            x = _input(arguments)
            if x is not None and x.numel():
                rows = _rows(module, x)
                self.histograms.setdefault(name, ggd.MagnitudeHistogram()).update(rows)
                largest = np.abs(rows).max(axis=0)
                before = self.largest.get(name)
                self.largest[name] = largest if before is None else np.maximum(before, largest)

        return record

    def scale(self, name: str, scheme: Scheme) -> Chosen | None:
        """Return the static scale of a layer's inputs, if the scheme has one for the tensor."""
        return scales_from_histogram(self.histograms[name], scheme) if is_static(scheme) else None

    def records(self) -> tuple[LayerInputs, ...]:
        """Fit a generalized Gaussian to each and name its outliers."""
        return tuple(self._record(name) for name in self.histograms)

    def _record(self, name: str) -> LayerInputs:
        histogram, largest = self.histograms[name], np.nan_to_num(self.largest[name].astype(np.float64))
        fit = ggd.fit(histogram)
        median = float(np.median(largest))
        known = fit.shape == fit.shape
        return LayerInputs(
            name=name,
            count=histogram.count,
            zero_share=1 - histogram.nonzero_count / max(histogram.count, 1),
            rms=histogram.abs_moment(2) ** 0.5 if histogram.count else 0.0,
            largest=histogram.abs_max,
            shape=float(fit.shape) if known else None,
            scale=float(fit.scale) if known else None,
            trusted=fit.trusted,
            channels=largest.size,
            outlier=int(largest.argmax()),
            outlier_ratio=float(largest.max() / median) if median else float("inf"),
            outliers=int(np.count_nonzero(largest > _OUTLIER * median)),
        )


def rounded_rows(rows: Any, scheme: Scheme, scale: Chosen | None = None) -> Any:
    """Round rows of activations by a scheme; NaN throughout if one of them is not finite, so that nothing is hidden.

    Examples
    --------
    >>> from rf8sim import as_scheme
    >>> rounded_rows(np.array([[1.0, 0.3], [100.0, 30.0]], np.float32), as_scheme("int2/channel,max")).tolist()
    [[1.0, 0.0], [100.0, 0.0]]
    """
    if not np.isfinite(rows).all():
        return np.full_like(rows, np.nan)
    return quantize(rows, scheme, scale=scale).dequantize(rows.dtype)


def _like(rows: Any, module: nn.Module, x: Tensor) -> Tensor:
    """Return rows in the shape, dtype and place of an input."""
    values = torch.from_numpy(rows)
    if isinstance(module, _CONVOLUTIONS) and x.ndim > 2:
        return values.reshape(x.movedim(1, -1).shape).movedim(-1, 1).contiguous().to(x)
    return values.reshape(x.shape).to(x)


class _Rounding:
    """Rounds what enters layers; layers that are given the same tensor one after the other share its rounding."""

    def __init__(self, scheme: Scheme, summaries: InputSummaries) -> None:
        self.scheme, self.summaries = scheme, summaries
        self.last: tuple[Tensor, Tensor] | None = None

    def hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        static = is_static(self.scheme)
        scale = self.summaries.scale(name, self.scheme) if name in self.summaries.histograms else None

        def enter(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
            x = _input(arguments)
            if x is None:
                return None
            if static and scale is None:
                raise ValueError(f"layer {name!r} was not called on the calibration data: give more of it")
            if self.last is None or self.last[0] is not x or static:
                self.last = (x, _like(rounded_rows(_rows(module, x), self.scheme, scale), module, x))
            return (self.last[1], *arguments[1:])

        return enter


@contextmanager
def rounded_layers(
    matrices: Matrices,
    precision: Precision,
    summaries: InputSummaries,
    indices: Sequence[int] | None = None,
) -> Iterator[None]:
    """Round weights, what enters layers, and sums, while a model runs.

    Parameters
    ----------
    matrices : Matrices
        The model's.
    precision : Precision
        How; its ``cache`` is not of layers.
    summaries : InputSummaries
        Of calibration data, for static scales and shifts of accumulators.
    indices : sequence of int, optional
        The matrices that are rounded, by default all.
    """
    layers = dict(layers_with_inputs(matrices))
    if indices is not None:
        names = {name for index in indices for name, _ in matrices.items[index].modules}
        layers = {name: module for name, module in layers.items() if name in names}
    with ExitStack() as stack:
        products = _products(matrices, precision, summaries, layers) if precision.accumulator else {}
        stack.enter_context(matrices.rounded(precision.weights, indices))
        if precision.activations is not None:
            rounding = _Rounding(precision.activations, summaries)
            for name, module in layers.items():
                if name not in products:  # which round what enters them themselves
                    stack.callback(module.register_forward_pre_hook(rounding.hook(name)).remove)
        for name, hook in products.items():
            stack.callback(layers[name].register_forward_hook(hook).remove)
        yield


def _products(
    matrices: Matrices, precision: Precision, summaries: InputSummaries, layers: Mapping[str, nn.Module]
) -> dict[str, Any]:
    """Return hooks that put the sums of a stated accumulator in place of the outputs of Linear layers."""
    assert precision.weights is not None
    quantized = {}
    for index, item in enumerate(matrices.items):
        for name, module in item.modules:
            if name in layers and isinstance(module, nn.Linear) and name in summaries.histograms:
                quantized[f"{name}.weight"] = matrices.quantized(index, precision.weights)
    names = [name.removesuffix(".weight") for name in quantized]
    if not names:
        raise ValueError("the accumulator is for torch.nn.Linear, and the model has none that is called by itself")
    products = Products(names, precision.datapath(), quantized, summaries.histograms)

    def hook(name: str) -> Any:
        def summed(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            rows = _rows(module, arguments[0]).astype(np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                sums = torch.from_numpy(products(name, rows)).to(output).reshape(output.shape)
            bias = module._parameters.get("bias")
            return sums if bias is None else sums + bias

        return summed

    return {name: hook(name) for name in names}
