"""Opening any checkpoint to read its numbers: plain ones, those of other tools, and our own quantized ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats.floats import SAFETENSORS_LAYOUTS
from .checkpoint import CHUNK_ELEMENTS, Checkpoint, open_checkpoint
from .errors import UnreadableError
from .quantized import open_quantized
from .readers.streams import byte_stream, open_at
from .safetensors import DTYPES, Header, dtype_of
from .stored import StoredTensor
from .tensor_info import NOT_MEASURED, Coded, TensorInfo

__all__ = ["open_any"]


def open_any(path: str | Path) -> Checkpoint:
    """Open a checkpoint to read its numbers, plain or quantized.

    Parameters
    ----------
    path : str or Path
        As for `open_checkpoint`; or what `rf8sim quantize` wrote.

    Returns
    -------
    Checkpoint
        Its tensors; quantized ones are read as the numbers that they stand for, and say in ``coded`` how they are
        stored. Those of `rf8sim quantize` are checked against their checksums while they are read.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    try:
        quantized = open_quantized(path)
    except UnreadableError:
        return open_checkpoint(path)
    homes = {name: header for header in quantized.headers for name in header.entries}
    tensors = []
    for stored in quantized:
        header = homes[stored.entry.name]
        weight = _kept(stored, header) if stored.recipe is None else _quantized(stored, header.path)
        tensors.append(weight)
    return Checkpoint(quantized.path, tuple(tensors))


def _kept(stored: StoredTensor, header: Header) -> TensorInfo:
    layout = SAFETENSORS_LAYOUTS.get(stored.entry.dtype)
    measured = layout is not None and layout.dtype is not None
    skipped = None if measured else f"{stored.dtype} {NOT_MEASURED}"
    if stored.entry.dtype not in DTYPES:
        return TensorInfo(stored.name, stored.dtype, stored.shape, header.path, skipped)
    opener = partial(open_at, header.path, len(header.raw) + stored.entry.begin)
    stream = byte_stream(header.path, stored.name, dtype_of(stored.entry.dtype), opener)
    return TensorInfo(stored.name, stored.dtype, stored.shape, header.path, skipped, stream, divisible=True)


def _quantized(stored: StoredTensor, path: Path) -> TensorInfo:
    def numbers(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        return _cut(stored.values(np.float64), sizes, skip)

    coded = Coded(str(stored.scheme), tuple(stored.parts), stored.bits_per_weight, (path,))
    return TensorInfo(stored.name, "float64", stored.shape, path, None, numbers, coded=coded)


def _cut(pieces: Iterator[NDArray[Any]], sizes: Iterable[int], skip: int) -> Iterator[NDArray[Any]]:
    """Cut successive pieces anew; at the end the last piece is passed, behind which checksums are compared."""
    left = np.zeros(0)

    def take(count: int) -> NDArray[Any]:
        nonlocal left
        parts = []
        while count > left.size:
            parts.append(left)
            count -= left.size
            left = next(pieces)
        parts.append(left[:count])
        left = left[count:]
        return np.concatenate(parts)

    for start in range(0, skip, CHUNK_ELEMENTS):
        take(min(CHUNK_ELEMENTS, skip - start))
    for size in sizes:
        yield take(size)
    for _ in pieces:
        pass
