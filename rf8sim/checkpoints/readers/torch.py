"""Reading PyTorch's files, with ``weights_only``: nothing in them is run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from ..tensor_info import NOT_MEASURED, TensorInfo

if TYPE_CHECKING:
    import torch

__all__ = ["read_torch"]


_MODEL = ("model", "state_dict", "model_state_dict", "module", "net", "network", "weights")
"""What training loops call the entry with the weights."""

_TRAINING = ("rng", "optim", "sched", "scaler")
"""What the names of entries with a training loop's state contain."""


def read_torch(path: Path) -> Iterator[TensorInfo | str]:
    """Read a PyTorch checkpoint, mapped from the file; tensors inside dicts and lists get dotted names.

    Of a training checkpoint (the weights beside an optimizer's state, an epoch ...) the model's part is read, by the
    names that the model gives it, and a sentence names what is left out.
    """
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f"{path}: this kind of file needs PyTorch: pip install torch, or install rf8sim[torch], or convert it to "
            "safetensors"
        ) from None
    import pickle
    import warnings

    try:
        with warnings.catch_warnings():  # PyTorch warns of old pickle protocols; failures are reported below
            warnings.simplefilter("ignore")
            # Only files in the zip format of PyTorch 1.6 and later can be mapped; an older one is read at once.
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: not a file of weights alone: it is damaged, or holds Python objects that would run "
            "code (never done here): save model.state_dict() instead"
        ) from None
    except OSError:
        raise
    except Exception as error:  # what a damaged pickle can raise in PyTorch's reader has no end
        if "TorchScript" in str(error):
            message = "a TorchScript archive, which holds code: save model.state_dict() instead"
            raise CheckpointError(f"{path}: {message}") from None
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a whole PyTorch file (truncated or damaged): {first}") from None
    model, left_out = _model_part(loaded)
    if left_out:
        names = ", ".join(map(repr, left_out[:5])) + (", ..." if len(left_out) > 5 else "")
        yield f"{path.name} is a training checkpoint: its model is read; left out: {names}"
    seen: dict[object, str] = {}
    for name, tensor in _torch_leaves(model, ""):
        yield _torch_tensor(path, name or path.stem, tensor, seen)


def _model_part(loaded: object) -> tuple[object, list[str]]:
    """Return the weights of a training checkpoint, and the names of its other entries with tensors."""
    if not isinstance(loaded, dict) or len(loaded) < 2:
        return loaded, []
    tensors = {str(key): value for key, value in loaded.items() if next(_torch_leaves(value, ""), None) is not None}
    left_out = [key for key, value in tensors.items() if _is_training_state(key, value)]
    parts = {key: value for key, value in tensors.items() if key not in left_out}
    if len(parts) == 1 and isinstance(part := next(iter(parts.values())), dict) and next(iter(parts)) in _MODEL:
        return part, left_out
    return (parts, left_out) if parts and left_out else (loaded, [])


def _is_training_state(key: str, value: object) -> bool:
    """Return whether an entry is an optimizer's state (PyTorch: ``state`` and ``param_groups``), or named as such."""
    import torch

    if isinstance(value, dict) and {"state", "param_groups"} <= value.keys():
        return True
    if isinstance(value, list | tuple) and value and all(_is_training_state("", entry) for entry in value):
        return True
    of_weights = isinstance(value, torch.Tensor) and value.is_floating_point()
    return not of_weights and any(word in key.lower() for word in _TRAINING)


def _torch_leaves(node: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over the tensors of nested dicts, lists and tuples; other objects in them are no weights."""
    import torch

    if isinstance(node, torch.Tensor):
        yield name, node
    elif isinstance(node, Mapping | list | tuple):
        entries = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, value in entries:
            yield from _torch_leaves(value, f"{name}.{key}" if name else str(key))


def _torch_tensor(path: Path, name: str, tensor: torch.Tensor, seen: dict[object, str]) -> TensorInfo:
    """Describe one PyTorch tensor; a second name of the same memory (tied weights) is skipped."""
    import ml_dtypes
    import torch

    dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    scalar = getattr(ml_dtypes, dtype, None) or getattr(np, dtype.replace("bool", "bool_"), None)
    if tensor.device.type == "meta":
        return TensorInfo(name, dtype, shape, path, "a meta tensor: its numbers are not in the file")
    if tensor.layout != torch.strided or scalar is None:
        what = dtype if tensor.layout == torch.strided else str(tensor.layout).removeprefix("torch.")
        return TensorInfo(name, dtype, shape, path, f"{what} {NOT_MEASURED}")
    numpy_dtype = np.dtype(scalar)
    skipped = None if tensor.is_floating_point() else f"{dtype} {NOT_MEASURED}"
    storage = (tensor.data_ptr(), shape, tensor.stride(), dtype)
    first = seen.setdefault(storage, name) if tensor.numel() and skipped is None else name
    if first != name:
        skipped = f"the same memory as {first!r}"
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        flat = tensor.detach().reshape(-1).view(bits)
        position = skip
        for size in sizes:
            yield flat[position : position + size].numpy().copy().view(numpy_dtype)
            position += size

    return TensorInfo(name, dtype, shape, path, skipped, stream, divisible=tensor.is_contiguous())
