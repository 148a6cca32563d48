"""A quantized checkpoint beside its original: what each tensor lost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import CHUNK_ELEMENTS, Checkpoint, CheckpointError, TensorInfo
from .quantized import QuantizedCheckpoint, StoredTensor
from .safetensors import read_header

__all__ = ["Comparison", "compare", "decibels", "original_sha256"]


@dataclass(frozen=True)
class Comparison:
    """A tensor beside its original.

    Attributes
    ----------
    name : str
        Its name.
    scheme : str
        How it is stored; empty for a tensor that stayed as it was.
    size : int
        Elements.
    bits : float
        Stored bits for each element.
    signal, noise : float
        Sums of squares of the original, and of what differs, over finite elements.
    not_finite : int
        Elements that are finite in one and not in the other.
    original : str
        SHA-256 of the original's bytes, as `original_sha256` gives it.
    """

    name: str
    scheme: str
    size: int
    bits: float
    signal: float
    noise: float
    not_finite: int
    original: str

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


def original_sha256(info: TensorInfo) -> str:
    """Return the SHA-256 of a tensor's bytes as safetensors has them, from whatever file it is read."""
    digest = hashlib.sha256()
    for piece in _bytes(info):
        digest.update(piece.data)
    return digest.hexdigest()


def _compared(info: TensorInfo, stored: StoredTensor) -> Comparison:
    signal = noise = 0.0
    different = 0
    if stored.recipe is None:
        own, before = stored.part(stored.name), b"".join(piece.data for piece in _bytes(info))
        different, digest = int(own.tobytes() != before), hashlib.sha256(before)
    else:
        digest = hashlib.sha256()
        pieces = stored.scheme.row_pieces(info.shape, CHUNK_ELEMENTS) or [range(info.matrix_shape[0])]
        for chunk, values in zip(info.row_chunks(pieces), stored.values(np.float64), strict=True):
            digest.update(_little_endian(chunk.values).data)
            original = chunk.values.reshape(-1).astype(np.float64)
            finite = np.isfinite(original)
            both = finite & np.isfinite(values)
            different += int(np.count_nonzero(finite != np.isfinite(values)))
            signal += float(np.sum(np.square(original[both])))
            noise += float(np.sum(np.square(original[both] - values[both])))
    scheme = str(stored.scheme) if stored.recipe else ""
    bits = stored.bits_per_weight
    return Comparison(info.name, scheme, info.size, bits, signal, noise, different, digest.hexdigest())


def _bytes(info: TensorInfo) -> Iterator[NDArray[np.uint8]]:
    """Read a tensor's bytes as safetensors has them, a piece at a time."""
    if info.source.suffix != ".safetensors":
        yield from (_little_endian(piece) for piece in info.stored())
        return
    header = read_header(info.source)
    with header.open_at(info.name) as file:
        left = header.entries[info.name].end - header.entries[info.name].begin
        while left:
            data = file.read(min(left, 4 * CHUNK_ELEMENTS))
            if not data:
                raise CheckpointError(f"{info.source}: ends in the middle of tensor {info.name!r}")
            yield np.frombuffer(data, np.uint8)
            left -= len(data)


def _little_endian(values: NDArray[Any]) -> NDArray[np.uint8]:
    flat: NDArray[np.uint8] = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    return flat
