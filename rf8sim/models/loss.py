"""The loss of the example model with other weights: what a way to store them costs in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoints.checkpoint import open_checkpoint
from .transformer import Model, forward, load_model

__all__ = ["activation_power", "model_loss", "window_losses"]

_BATCH = 16


def window_losses(
    model: Model, windows: NDArray[np.uint8], weights: Mapping[str, NDArray[Any]] | None = None
) -> NDArray[np.float64]:
    """Return the model's mean loss on each window, with some of its weights replaced.

    Activations and sums are float32, as in training: it is the weights that are judged.

    Parameters
    ----------
    model : Model
        The model.
    windows : ndarray of uint8, shape (windows, context + 1)
        What it is to predict.
    weights : dict of str to ndarray, optional
        Weights by name, of the shapes of the model's own; the others stay.

    Returns
    -------
    ndarray of float64, shape (windows,)
        In nats per token.

    Examples
    --------
    >>> from rf8sim.models.transformer import load_model, read_windows
    >>> model = load_model("examples/lm/model.safetensors")
    >>> windows = read_windows("examples/lm/validation.bin", model, tokens=256)
    >>> zeros = {"head.weight": np.zeros((256, 128), np.float32)}
    >>> bool(window_losses(model, windows).mean() < 1.5), window_losses(model, windows, zeros).round(4).tolist()
    (True, [5.5452, 5.5452])
    """
    tensors = {**model.weights, **{name: np.asarray(value, np.float32) for name, value in (weights or {}).items()}}
    losses = []
    for start in range(0, len(windows), _BATCH):
        part = windows[start : start + _BATCH].astype(np.int64)
        logits = forward(model, part[:, :-1], lambda name, x: x @ tensors[f"{name}.weight"].T, tensors).astype(
            np.float64
        )
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        losses.append(-np.take_along_axis(logits, part[:, 1:, None], axis=-1)[..., 0].mean(axis=-1))
    return np.concatenate(losses)


def model_loss(source: str | Path, windows: NDArray[np.uint8]) -> Callable[[Path | None], float]:
    """Return what evaluates a plain checkpoint as the weights of the example's transformer: loss in nats per token.

    Parameters
    ----------
    source : str or Path
        The original, as `load_model` reads it, its ``config.json`` beside it.
    windows : ndarray of uint8, shape (windows, context + 1)
        What it is to predict.

    Returns
    -------
    callable
        From a path to the loss; from None to the original's.
    """
    config = open_checkpoint(source).path.parent / "config.json"

    def evaluate(path: Path | None) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(window_losses(load_model(path or source, config), windows).mean())

    return evaluate


def activation_power(model: Model, windows: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Measure the mean squared activation that each column of each matrix of a model is multiplied with.

    Parameters
    ----------
    model : Model
        The model.
    windows : ndarray of uint8, shape (windows, context + 1)
        Calibration data, as `read_windows` reads it; other data than those that judge the result.

    Returns
    -------
    dict of str to ndarray of float64, shape (columns,)
        For the name of each weight matrix.

    Examples
    --------
    >>> from rf8sim.models.transformer import load_model, read_windows
    >>> model = load_model("examples/lm/model.safetensors")
    >>> power = activation_power(model, read_windows("examples/lm/validation.bin", model, tokens=256))
    >>> power["head.weight"].shape, bool((power["head.weight"] > 0).all())
    ((128,), True)
    """
    sums: dict[str, NDArray[np.float64]] = {}
    rows = 0

    def product(name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal rows
        weight = f"{name}.weight"
        power = np.sum(np.square(x, dtype=np.float64), axis=0)
        sums[weight] = sums[weight] + power if weight in sums else power
        rows += len(x) if name == "head" else 0
        applied: NDArray[np.float32] = x @ model.weights[weight].T
        return applied

    for start in range(0, len(windows), 16):
        forward(model, windows[start : start + 16, :-1].astype(np.int64), product)
    return {name: total / rows for name, total in sums.items()}
