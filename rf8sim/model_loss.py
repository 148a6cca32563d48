"""The loss of the example model with other weights: what a way to store them costs in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .transformer import Model, forward

__all__ = ["window_losses"]

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
    >>> from rf8sim.transformer import load_model, read_windows
    >>> model = load_model("examples/lm/model.safetensors")
    >>> windows = read_windows("examples/lm/validation.bin", model, tokens=256)
    >>> zeros = {"head.weight": np.zeros((256, 128), np.float32)}
    >>> bool(window_losses(model, windows).mean() < 1.5), window_losses(model, windows, zeros).round(4).tolist()
    (True, [5.5452, 5.5452])
    """
    own = {**model.weights, **{name: np.asarray(value, np.float32) for name, value in (weights or {}).items()}}
    losses = []
    for start in range(0, len(windows), _BATCH):
        part = windows[start : start + _BATCH].astype(np.int64)
        logits = forward(model, part[:, :-1], lambda name, x: x @ own[f"{name}.weight"].T, own).astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        losses.append(-np.take_along_axis(logits, part[:, 1:, None], axis=-1)[..., 0].mean(axis=-1))
    return np.concatenate(losses)
