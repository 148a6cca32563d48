"""The example model in numpy alone: its forward pass and loss, with the matrix product left to the caller.

::

    from numpy_model import load, evaluate
    weights, config = load("examples/lm/model.safetensors")
    evaluate(weights, config, windows)                       # float32
    evaluate(weights, config, windows, matmul=my_product)    # every weight matrix applied by ``my_product``
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

Array = NDArray[np.float32]


def load(path: str | Path) -> tuple[dict[str, Array], dict[str, float]]:
    """Read the weights, and the sizes of the model from the file's own metadata."""
    with safe_open(path, framework="numpy") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return weights, json.loads(file.metadata()["model"])


def gelu(x: Array) -> Array:
    """GELU by its tanh formula."""
    return 0.5 * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)))


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def forward(
    weights: Mapping[str, Array],
    config: Mapping[str, float],
    tokens: NDArray[np.integer],
    matmul: Callable[[Array, Array], Array] = np.matmul,
) -> Array:
    """Return the logits of the next byte, shape (batch, length, vocabulary); tokens: (batch, length).

    ``matmul(x, w)`` gets activations of shape (rows, inputs) and a weight matrix of shape (inputs, outputs).
    Attention's own two products, of activations with activations, stay in float32.
    """
    batch, length = tokens.shape
    heads = int(config["heads"])

    def norm(x: Array, name: str) -> Array:
        scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(config["epsilon"]))
        return x * scale * weights[f"{name}.weight"]

    def linear(x: Array, name: str) -> Array:
        matrix = weights[f"{name}.weight"].T
        return matmul(x.reshape(-1, x.shape[-1]), matrix).reshape(*x.shape[:-1], matrix.shape[1])

    future = np.triu(np.full((length, length), -np.inf, dtype=np.float32), 1)
    x = weights["embed.weight"][tokens] + weights["positions.weight"][:length]
    for layer in range(int(config["layers"])):
        block = f"blocks.{layer}"
        split = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").reshape(batch, length, 3, heads, -1)
        query, key, value = split.transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-1, -2) / np.float32(np.sqrt(query.shape[-1])) + future
        mixed = (softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + linear(mixed, f"{block}.attn.proj")
        x = x + linear(gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.up")), f"{block}.mlp.down")
    return linear(norm(x, "norm"), "head")


def evaluate(
    weights: Mapping[str, Array],
    config: Mapping[str, float],
    windows: NDArray[np.uint8],
    matmul: Callable[[Array, Array], Array] = np.matmul,
    batch: int = 64,
) -> float:
    """Return the mean loss, nats per byte, on windows of bytes, shape (count, length + 1)."""
    total = 0.0
    for start in range(0, len(windows), batch):
        part = windows[start : start + batch].astype(np.int64)
        logits = forward(weights, config, part[:, :-1], matmul).astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        right = np.take_along_axis(logits, part[:, 1:, None], axis=-1)[..., 0]
        total += float(np.sum(np.log(np.exp(logits).sum(axis=-1)) - right))
    return total / (len(windows) * (windows.shape[1] - 1))
