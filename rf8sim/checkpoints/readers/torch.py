"""Reading PyTorch's files, with ``weights_only``: nothing in them is run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from ..tensor_info import NOT_MEASURED, TensorInfo

if TYPE_CHECKING:
    import torch

__all__ = ["read_torch"]


def read_torch(path: Path) -> Iterator[TensorInfo]:
    """Read a PyTorch checkpoint, mapped from the file; tensors inside dicts and lists get dotted names."""
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
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a whole PyTorch file (truncated or damaged): {first}") from None
    seen: dict[object, str] = {}
    for name, tensor in _torch_leaves(loaded, ""):
        yield _torch_tensor(path, name or path.stem, tensor, seen)


def _torch_leaves(node: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over the tensors of nested dicts, lists and tuples; other objects in them are no weights."""
    import torch

    if isinstance(node, torch.Tensor):
        yield name, node
    elif isinstance(node, dict | list | tuple):
        entries = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in entries:
            yield from _torch_leaves(value, f"{name}.{key}" if name else str(key))


def _torch_tensor(path: Path, name: str, tensor: torch.Tensor, seen: dict[object, str]) -> TensorInfo:
    """Describe one PyTorch tensor; a second name of the same memory (tied weights) is skipped."""
    import ml_dtypes
    import torch

    dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    scalar = getattr(ml_dtypes, dtype, None) or getattr(np, dtype.replace("bool", "bool_"), None)
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
