"""Opening any checkpoint to read its numbers: plain ones, those of other tools, and our own quantized ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import CHUNK_ELEMENTS, Checkpoint, checkpoint_file, open_checkpoint
from .errors import UnreadableError
from .quantized import open_quantized
from .readers.safetensors import plain_tensor
from .stored import StoredTensor
from .tensor_info import Coded, TensorInfo

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
        stored. Codes and scales of `rf8sim quantize` are checked against their checksums while they are read.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    path = checkpoint_file(path)
    try:
        quantized = open_quantized(path)
    except UnreadableError:
        return open_checkpoint(path)
    homes = {name: header for header in quantized.headers for name in header.entries}
    tensors = []
    for stored in quantized:
        header = homes[stored.entry.name]
        kept = stored.recipe is None
        tensors.append(
            plain_tensor(header.path, stored.entry, len(header.raw) + stored.entry.begin)
            if kept
            else _quantized(stored, header.path)
        )
    return Checkpoint(quantized.path, tuple(tensors))


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
