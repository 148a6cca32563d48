"""The matrices of a model, rounded in place and put back: their originals wait in a file, not in memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ggd.arrays import as_numpy

from ..quantization.scheme import Scheme
from ..quantization.tensor import QuantizedTensor, quantize

__all__ = ["Matrices", "Matrix", "Spool", "as_floats", "find_matrices"]

_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding, nn.EmbeddingBag)

FilterFn = Callable[[str, Tensor], bool]


def as_floats(tensor: Tensor) -> Any:
    """Return a tensor as a numpy array of float64 or float32; narrower floats are float32 numbers."""
    array = as_numpy(tensor)
    return np.ascontiguousarray(array, dtype=None if array.dtype == np.float64 else np.float32)


class Spool:
    """Arrays in a temporary file, read back one at a time; closing it removes them.

    Examples
    --------
    >>> with Spool() as spool:
    ...     places = [spool.write(np.arange(n, dtype=np.float32)) for n in (2, 3)]
    ...     spool.read(places[1]).tolist()
    [0.0, 1.0, 2.0]
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._places: list[tuple[int, tuple[int, ...], Any]] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, array: Any) -> int:
        """Append an array; return its number."""
        start = self._file.seek(0, 2)
        self._file.write(_bytes(np.ascontiguousarray(array)))
        self._places.append((start, array.shape, array.dtype))
        return len(self._places) - 1

    def read(self, number: int) -> Any:
        """Return the array of a number, as a copy."""
        start, shape, dtype = self._places[number]
        self._file.seek(start)
        array = np.empty(shape, dtype)
        self._file.readinto(_bytes(array))
        return array


def _bytes(array: Any) -> Any:
    return memoryview(array.reshape(-1)).cast("B") if array.size else bytearray()


class Matrix(NamedTuple):
    """A parameter that is rounded.

    Attributes
    ----------
    name : str
        Its name; that of its first use where weights are tied.
    parameter : Tensor
        The parameter.
    modules : tuple of (str, nn.Module)
        The modules that own it, with their names: several where weights are tied.
    transposed : bool
        Whether its shape is (inputs, outputs): scales of channels are those of outputs.
    """

    name: str
    parameter: Tensor
    modules: tuple[tuple[str, nn.Module], ...]
    transposed: bool


def find_matrices(model: nn.Module, filter_fn: FilterFn | None = None) -> list[Matrix]:
    """List the parameters that are rounded, each once: those of two axes or more, by default of every module."""
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((name, module))
    matrices = []
    for name, parameter in model.named_parameters():
        modules = tuple(owners[id(parameter)])
        if not parameter.is_floating_point() or parameter.ndim < 2 or parameter.numel() == 0:
            continue
        if not any(isinstance(module, _MODULES) for _, module in modules) and not _is_matrix(parameter):
            continue
        if filter_fn is None or filter_fn(name, parameter):
            transposed = any(type(module).__name__ == "Conv1D" and hasattr(module, "nf") for _, module in modules)
            matrices.append(Matrix(name, parameter.data, modules, transposed and parameter.ndim == 2))
    return matrices


def _is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter of another module has rows: stacked experts do, a learned class token has not."""
    return parameter.shape[0] > 1 and parameter.numel() > parameter.shape[0]


class Matrices:
    """The matrices of a model, with their originals in a temporary file.

    Parameters
    ----------
    model : nn.Module
        The model.
    filter_fn : callable, optional
        ``filter_fn(name, parameter)`` says whether a parameter of two axes or more is rounded.

    Raises
    ------
    ValueError
        If there are none, or one is on the meta device.

    Examples
    --------
    >>> layer = nn.Linear(4, 2)
    >>> before = layer.weight.detach().clone()
    >>> with Matrices(layer) as matrices, matrices.rounded("e2m1fn"):
    ...     bool((layer.weight == before).all())
    False
    >>> bool((layer.weight == before).all())
    True
    """

    def __init__(self, model: nn.Module, filter_fn: FilterFn | None = None) -> None:
        self.items = find_matrices(model, filter_fn)
        if not self.items:
            raise ValueError("the model has no matrix to round: check the filter")
        meta = next((item.name for item in self.items if item.parameter.is_meta), None)
        if meta is not None:
            raise ValueError(f"{meta!r} is on the meta device and has no numbers: load the model's weights first")
        self._originals = Spool()
        for item in self.items:
            self._originals.write(as_floats(item.parameter))

    def __enter__(self) -> Matrices:
        return self

    def __exit__(self, *_: object) -> None:
        self._originals.__exit__()

    def original(self, index: int) -> Any:
        """Return the original of a matrix, shape (outputs, inputs) or as the parameter has it."""
        array = self._originals.read(index)
        return np.ascontiguousarray(array.T) if self.items[index].transposed else array

    def quantized(self, index: int, scheme: Scheme) -> QuantizedTensor:
        """Return a matrix as a scheme stores it."""
        try:
            return quantize(self.original(index), scheme)
        except ValueError as error:
            raise ValueError(f"{self.items[index].name}: {error}") from None

    def bits_per_weight(self, scheme: Scheme) -> float:
        """Return the stored bits of all matrices for each of their elements."""
        shapes = [tuple(item.parameter.shape)[:: -1 if item.transposed else 1] for item in self.items]
        sizes = [math.prod(shape) for shape in shapes]
        bits = sum(scheme.bits_per_weight(shape) * size for shape, size in zip(shapes, sizes, strict=True))
        return bits / sum(sizes)

    @contextmanager
    def rounded(self, scheme: Scheme | str | None, indices: Iterable[int] | None = None) -> Iterator[None]:
        """Round the matrices of indices, by default all, one at a time; on leaving put the originals back."""
        from ..quantization.scheme import as_scheme

        if scheme is None:
            yield
            return
        stored = as_scheme(scheme)
        with self.rounded_each(dict.fromkeys(range(len(self.items)) if indices is None else indices, stored)):
            yield

    @contextmanager
    def rounded_each(self, schemes: Mapping[int, Scheme]) -> Iterator[None]:
        """Round matrices, each by a scheme of its own; on leaving put the originals back."""
        try:
            for index, scheme in schemes.items():
                dtype = np.float64 if self.items[index].parameter.dtype is torch.float64 else np.float32
                self.write(index, self.quantized(index, scheme).dequantize(dtype))
            yield
        finally:
            for index in schemes:
                self.write(index, self.original(index))

    def write(self, index: int, numbers: Any) -> None:
        """Put numbers in place of a matrix, of the shape that `original` gives."""
        item = self.items[index]
        values = torch.from_numpy(np.ascontiguousarray(numbers.T if item.transposed else numbers))
        with torch.no_grad():
            item.parameter.copy_(values.reshape(item.parameter.shape))
