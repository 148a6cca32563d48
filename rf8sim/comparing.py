"""A quantized checkpoint beside its original: what each tensor lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ._safetensors import read_header
from .checkpoint import CHUNK_ELEMENTS, Checkpoint, CheckpointError, TensorInfo
from .quantized import QuantizedCheckpoint, StoredTensor

__all__ = ["Comparison", "compare", "decibels"]


@dataclass(frozen=True)
class Comparison:
    """A tensor beside its original.

    Attributes
    ----------
    name : str
        Its name.
    format : str
        The format, or empty for a tensor that stayed as it was.
    size : int
        Elements.
    bits : float
        Stored bits for each element.
    signal, noise : float
        Sums of squares of the original, and of what differs, over finite elements.
    not_finite : int
        Elements that are finite in one and not in the other.
    """

    name: str
    format: str
    size: int
    bits: float
    signal: float
    noise: float
    not_finite: int

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise in dB; inf without noise."""
        return decibels(self.signal, self.noise)


def decibels(signal: float, noise: float) -> float:
    """Return a ratio of sums of squares in dB: inf without noise, else -inf without signal."""
    return math.inf if not noise else -math.inf if not signal else 10 * math.log10(signal / noise)


def compare(
    source: Checkpoint, quantized: QuantizedCheckpoint, progress: Callable[[str, int, int], None] | None = None
) -> Iterator[Comparison]:
    """Compare a quantized checkpoint with the original, tensor by tensor, a piece at a time.

    Parameters
    ----------
    source : Checkpoint
        The original.
    quantized : QuantizedCheckpoint
        The quantized one.
    progress : callable, optional
        Called with a tensor's name, the elements done and the elements in all.

    Yields
    ------
    Comparison
        For each tensor of the original.

    Raises
    ------
    CheckpointError
        If a tensor is missing, of another shape, or damaged.
    """
    total, done = sum(tensor.size for tensor in source), 0
    for info in source:
        if progress:
            progress(info.name, done, total)
        stored = quantized.tensors.get(info.name)
        if stored is None or stored.shape != info.shape:
            what = "no tensor" if stored is None else f"shape {stored.shape}, not {info.shape}, for"
            raise CheckpointError(f"{quantized.path}: has {what} {info.name!r}, which {source.path.name} has")
        yield _compared(info, stored)
        done += info.size


def _compared(info: TensorInfo, stored: StoredTensor) -> Comparison:
    signal = noise = 0.0
    different = 0
    if stored.recipe is None:
        different = int(not _same(info, stored))
    else:
        elements = max(CHUNK_ELEMENTS, stored.matrix_shape[1])
        for chunk, values in zip(info.chunks(elements), stored.values(np.float64, elements), strict=True):
            before = chunk.values.reshape(-1).astype(np.float64)
            finite = np.isfinite(before)
            both = finite & np.isfinite(values)
            different += int(np.count_nonzero(finite != np.isfinite(values)))
            signal += float(np.sum(np.square(before[both])))
            noise += float(np.sum(np.square(before[both] - values[both])))
    format_name = stored.recipe.format if stored.recipe else ""
    return Comparison(info.name, format_name, info.size, stored.bits_per_weight, signal, noise, different)


def _same(info: TensorInfo, stored: StoredTensor) -> bool:
    """Return whether a tensor that stayed as it was has the same bytes."""
    own = stored.part(stored.name).reshape(-1).view(np.uint8)
    if info.source.suffix == ".safetensors":
        before = read_header(info.source).read(info.name)
        return np.array_equal(before.reshape(-1).view(np.uint8), own)
    pieces = [piece.reshape(-1).view(np.uint8) for piece in info.stored()]
    return np.array_equal(np.concatenate(pieces) if pieces else np.zeros(0, np.uint8), own)
