"""A quantized checkpoint beside its original: what each tensor lost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..quantization.records import Count, ExtendedFloat, Record
from .checkpoint import CHUNK_ELEMENTS, Checkpoint, CheckpointError, TensorInfo
from .quantized import QuantizedCheckpoint
from .safetensors import read_header
from .stored import StoredTensor

__all__ = ["Comparison", "compare", "decibels", "original_sha256"]


class Comparison(Record, frozen=True):
    """A tensor beside its original.

    Attributes
    ----------
    name : str
        Its name.
    scheme : str or None
        How it is stored; None for a tensor that stayed as it was.
    elements : int
        How many it has.
    bits_per_weight : float
        Stored bits for each element.
    signal, noise : float
        Sums of squares of the original, and of what differs, over finite elements.
    differing : int
        Elements that are finite in one and not in the other; 1 for a tensor that should have stayed and did not.
    original_sha256 : str
        SHA-256 of the original's bytes, as `original_sha256` gives it.
    reason : str
        Why it stayed as it was, or was quantized anew though it came from a quantized one.
    """

    name: str
    scheme: str | None
    elements: Count
    bits_per_weight: float
    signal: ExtendedFloat
    noise: ExtendedFloat
    differing: Count
    original_sha256: str
    reason: str = ""
    derived = ("sqnr_db",)

    @property
    def sqnr_db(self) -> ExtendedFloat:
        """Signal to quantization noise in dB; infinite, null in JSON, without noise or without signal."""
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
    """Return the SHA-256 of a tensor's bytes as safetensors has them, read from a file of any format."""
    digest = hashlib.sha256()
    for piece in _bytes(info):
        digest.update(piece.data)
    return digest.hexdigest()


def _compared(info: TensorInfo, stored: StoredTensor) -> Comparison:
    signal = noise = 0.0
    differing, digest = 0, hashlib.sha256()
    if stored.recipe is None:
        for data in _bytes(info):
            digest.update(data.data)
        kept = stored.part(stored.name).reshape(-1).view(np.uint8)
        differing = int(hashlib.sha256(kept.data).digest() != digest.digest())
    else:
        pieces = stored.scheme.row_pieces(info.shape, CHUNK_ELEMENTS) or [range(info.matrix_shape[0])]
        for chunk, values in zip(info.row_chunks(pieces), stored.values(np.float64), strict=True):
            digest.update(_little_endian(chunk.values).data)
            original = chunk.values.reshape(-1).astype(np.float64)
            finite = np.isfinite(original)
            both = finite & np.isfinite(values)
            differing += int(np.count_nonzero(finite != np.isfinite(values)))
            signal += float(np.sum(np.square(original[both])))
            noise += float(np.sum(np.square(original[both] - values[both])))
    return Comparison(
        name=info.name,
        scheme=str(stored.scheme) if stored.recipe else None,
        elements=info.size,
        bits_per_weight=stored.bits_per_weight,
        signal=signal,
        noise=noise,
        differing=differing,
        original_sha256=digest.hexdigest(),
    )


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
