"""The transformer of ``examples/lm``, with the products of weights and activations left to the caller.

Pre-norm blocks with RMSNorm, causal attention, a GELU of the tanh form, learned positions, no biases.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._base.files import read_json
from ..checkpoints.checkpoint import CheckpointError, open_checkpoint

__all__ = ["Model", "Product", "forward", "load_model", "read_windows"]

Array = NDArray[np.float32]
Product = Callable[[str, Array], Array]
"""Applies the matrix of a name to activations of shape (rows, inputs): returns (rows, outputs)."""

_SIZES = {"vocabulary": int, "context": int, "width": int, "layers": int, "heads": int, "epsilon": float}
_SHAPES = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.up": (4, 1), "mlp.down": (1, 4)}


@dataclass(frozen=True)
class Model:
    """A transformer: its sizes and its weights.

    Attributes
    ----------
    name : str
        What to call it: the file's name.
    vocabulary, context, width, layers, heads : int
        Tokens there are, tokens it sees, numbers that stand for a token, blocks, attention heads.
    epsilon : float
        Added to the mean square in norms.
    weights : dict of str to ndarray of float32
        Matrices, of shape (outputs, inputs), and vectors, named as in ``examples/README.md``.
    """

    name: str
    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    epsilon: float
    weights: Mapping[str, Array] = dataclasses.field(repr=False)

    @property
    def products(self) -> list[str]:
        """Names of the matrices that are applied to activations, in the order of their use."""
        blocks = [f"blocks.{layer}.{name}" for layer in range(self.layers) for name in _SHAPES]
        return [*blocks, "head"]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all weights."""
        shapes: dict[str, tuple[int, ...]] = {
            "embed.weight": (self.vocabulary, self.width),
            "positions.weight": (self.context, self.width),
        }
        for layer in range(self.layers):
            shapes |= {f"blocks.{layer}.{name}.weight": (self.width,) for name in ("norm1", "norm2")}
            for name, (outputs, inputs) in _SHAPES.items():
                shapes[f"blocks.{layer}.{name}.weight"] = (outputs * self.width, inputs * self.width)
        return shapes | {"norm.weight": (self.width,), "head.weight": (self.vocabulary, self.width)}


def load_model(path: str | Path, config: str | Path | None = None) -> Model:
    """Read a model from its checkpoint and its ``config.json``.

    Parameters
    ----------
    path : str or Path
        The checkpoint: any file that `open_checkpoint` reads. The config's object ``model`` has the
        sizes: ``vocabulary``, ``context``, ``width``, ``layers``, ``heads``, ``epsilon``.
    config : str or Path, optional
        The config; by default the one beside the checkpoint.

    Returns
    -------
    Model
        The model.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or the checkpoint is not one of this architecture.

    Examples
    --------
    >>> model = load_model("examples/lm/model.safetensors")
    >>> model.layers, model.width, model.weights["head.weight"].shape
    (4, 128, (256, 128))
    """
    checkpoint = open_checkpoint(path)
    sizes = _read_sizes(checkpoint.path.parent / "config.json" if config is None else Path(config))
    model = Model(checkpoint.path.name, **sizes, weights={})
    stored = {tensor.name: tensor for tensor in checkpoint}
    weights = {}
    for name, shape in model.shapes.items():
        expects = "evaluate runs the transformer of examples/lm with the sizes of its config.json"
        if name not in stored:
            raise CheckpointError(f"{checkpoint.path}: has no tensor {name!r}: {expects}")
        tensor = stored[name]
        if tensor.shape != shape:
            raise CheckpointError(f"{checkpoint.path}: {name!r} has shape {tensor.shape}, not {shape}: {expects}")
        [chunk] = tensor.chunks(elements=tensor.size)
        weights[name] = chunk.values.reshape(shape).astype(np.float32)
        if not np.isfinite(weights[name]).all():
            raise CheckpointError(
                f"{checkpoint.path}: {name!r} holds NaN or infinities, so the model has no loss: repair it first"
            )
    return dataclasses.replace(model, weights=weights)


def _read_sizes(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}: the sizes of the model are read from this file, which belongs "
            "beside the checkpoint, as does validation.bin with the text (see examples/lm)"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON: {error}") from None
    sizes = config.get("model") if isinstance(config, dict) else None
    if not isinstance(sizes, dict):
        raise CheckpointError(f"{path}: has no object 'model' with the sizes {', '.join(_SIZES)}")
    for name in _SIZES:
        value = sizes.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**31:
            raise CheckpointError(f"{path}: 'model' must have a positive number {name!r}, got {value!r}")
    read = {name: kind(sizes[name]) for name, kind in _SIZES.items()}
    if read["width"] % read["heads"]:
        raise CheckpointError(f"{path}: width {read['width']} is not a multiple of heads {read['heads']}")
    return read


def read_windows(path: str | Path, model: Model, tokens: int | None = None) -> NDArray[np.uint8]:
    """Read windows of held-out bytes: each one byte longer than what the model sees.

    Parameters
    ----------
    path : str or Path
        A file of windows one after the other, such as ``examples/lm/validation.bin``.
    model : Model
        Whose context and vocabulary they must fit.
    tokens : int, optional
        How many predictions to have at least; by default all. Windows are taken whole, evenly spaced over the file.

    Returns
    -------
    ndarray of uint8, shape (windows, context + 1)
        The windows.

    Raises
    ------
    ValueError
        If the file is missing, holds no whole windows or bytes that the model does not know, or has too few.

    Examples
    --------
    >>> model = load_model("examples/lm/model.safetensors")
    >>> read_windows("examples/lm/validation.bin", model, tokens=1000).shape
    (8, 129)
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(f"{path}: data cannot be read: {error.strerror}: name a file of held-out bytes") from None
    length = model.context + 1
    if not data.size or data.size % length:
        raise ValueError(f"{path}: expected windows of {length} bytes one after the other, got {data.size} bytes")
    if int(data.max()) >= model.vocabulary:
        raise ValueError(f"{path}: has byte {data.max()}, the model knows {model.vocabulary}")
    windows = data.reshape(-1, length)
    if tokens is None:
        return windows
    if not 1 <= tokens <= len(windows) * model.context:
        raise ValueError(f"tokens must be 1 to {len(windows) * model.context}, all that {path} has, got {tokens}")
    count = -(-tokens // model.context)
    return windows[np.arange(count) * len(windows) // count]


def forward(model: Model, tokens: NDArray[Any], product: Product, weights: Mapping[str, Array] | None = None) -> Array:
    """Run the model.

    Parameters
    ----------
    model : Model
        The model.
    tokens : ndarray of int, shape (batch, length)
        What it reads; length up to its context.
    product : callable
        ``product(name, x)`` applies the matrix of that name: from activations of shape (rows, inputs), float32, to
        (rows, outputs), float32.
    weights : dict, optional
        Tables and norms to use in place of the model's.

    Returns
    -------
    ndarray of float32, shape (batch, length, vocabulary)
        Logits of the next token.

    Examples
    --------
    >>> model = load_model("examples/lm/model.safetensors")
    >>> text = np.frombuffer(b"impor", np.uint8)[None]
    >>> logits = forward(model, text, lambda name, x: x @ model.weights[f"{name}.weight"].T)
    >>> chr(logits[0, -1].argmax())
    't'
    """
    tensors = model.weights if weights is None else weights
    batch, length = tokens.shape

    def norm(x: Array, name: str) -> Array:
        scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(model.epsilon))
        scaled: Array = x * scale * tensors[f"{name}.weight"]
        return scaled

    def linear(x: Array, name: str) -> Array:
        return product(name, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)

    future = np.triu(np.full((length, length), -np.inf, dtype=np.float32), 1)
    x: Array = tensors["embed.weight"][tokens] + tensors["positions.weight"][:length]
    for layer in range(model.layers):
        block = f"blocks.{layer}"
        split = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").reshape(batch, length, 3, model.heads, -1)
        query, key, value = split.transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-1, -2) / np.float32(np.sqrt(query.shape[-1])) + future
        mixed = (_softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + linear(mixed, f"{block}.attn.proj")
        x = x + linear(_gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.up")), f"{block}.mlp.down")
    return linear(norm(x, "norm"), "head")


def _gelu(x: Array) -> Array:
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    curved: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return curved


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = e / e.sum(axis=-1, keepdims=True)
    return shares
