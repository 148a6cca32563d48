"""Arrays of other libraries as numpy's, and results as arrays of the library that the input came from."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_numpy", "in_kind", "memory_of"]


def as_numpy(x: Any) -> NDArray[Any]:
    """Return numbers as a numpy array, bit for bit; from another device they are copied.

    Parameters
    ----------
    x : array_like
        What numpy takes; a PyTorch tensor of any device and dtype (bfloat16, float8), with or without gradient; an
        array of CuPy, JAX, or another library that has DLPack or the array API.

    Returns
    -------
    ndarray
        The same numbers; types that numpy does not have are those of ml_dtypes.

    Raises
    ------
    TypeError
        If x is a masked array: what its masked elements stand for is not known here.

    Examples
    --------
    >>> import ml_dtypes, torch
    >>> as_numpy(torch.tensor([1.5, -2.0], dtype=torch.bfloat16, requires_grad=True))
    array([1.5, -2], dtype=bfloat16)
    """
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            "a masked array has elements without a number: pass x.compressed() for the others, or x.filled(value)"
        )
    if isinstance(x, np.ndarray):
        return x
    if _is_tensor(x):
        return _from_torch(x)
    if hasattr(x, "get") and type(x).__module__.partition(".")[0] == "cupy":
        return np.asarray(x.get())  # numpy.asarray(x) would be refused: it hides a copy between devices
    if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        return np.from_dlpack(x, device="cpu")
    return np.asarray(x)


def in_kind(array: NDArray[Any], like: Any) -> NDArray[Any]:
    """Return an array as one of the library, and on the device, of another array; numpy's for what is no array.

    To type checkers all are numpy's.

    Parameters
    ----------
    array : ndarray
        A result.
    like : object
        The input that it came from.

    Returns
    -------
    array
        A PyTorch tensor for a tensor, an array of JAX, CuPy or another library with the array API for such an array.

    Examples
    --------
    >>> import torch
    >>> in_kind(np.arange(3, dtype=np.uint8), torch.zeros(3))
    tensor([0, 1, 2], dtype=torch.uint8)
    >>> in_kind(np.arange(3), [1.0, 2.0, 3.0])
    array([0, 1, 2])
    """
    if isinstance(like, np.ndarray | np.generic):
        return array
    if _is_tensor(like):
        tensor: NDArray[Any] = _to_torch(array).to(like.device)
        return tensor
    if hasattr(like, "__array_namespace__"):
        other: NDArray[Any] = like.__array_namespace__().asarray(array, device=getattr(like, "device", None))
        return other
    return array


def _is_tensor(x: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _from_torch(tensor: Any) -> NDArray[Any]:
    import torch

    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    if name != "bfloat16" and not name.startswith("float8"):
        return np.asarray(tensor.numpy())
    import ml_dtypes

    bits = torch.int16 if name == "bfloat16" else torch.uint8
    return np.asarray(tensor.view(bits).numpy()).view(getattr(ml_dtypes, name))


def _to_torch(array: NDArray[Any]) -> Any:
    import torch

    if array.dtype.name != "bfloat16":
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)


def memory_of(tensor: Any, dtype: Any) -> NDArray[Any]:
    """Return the memory of a PyTorch tensor of the CPU as an array, which keeps the tensor alive.

    ``tensor.numpy()`` would fix the size of the storage for good, which sharded training frees and takes again.

    Parameters
    ----------
    tensor : torch.Tensor
        Of any strides.
    dtype : dtype
        The numpy type of its elements.

    Returns
    -------
    ndarray
        Of the tensor's shape and strides; what is written to it is written to the tensor.

    Examples
    --------
    >>> import torch
    >>> tensor = torch.zeros(2, 2)
    >>> memory_of(tensor.T, np.float32)[0] = 1.0
    >>> tensor.tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    shape = tuple(tensor.shape)
    if not tensor.numel():
        return np.empty(shape, dtype)
    size, strides = tensor.element_size(), tensor.stride()
    reach = 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    buffer: Any = (ctypes.c_ubyte * (reach * size)).from_address(tensor.data_ptr())
    buffer.tensor = tensor  # whose memory it is: the array holds the buffer
    return np.ndarray(shape, dtype, buffer=buffer, strides=tuple(stride * size for stride in strides))
