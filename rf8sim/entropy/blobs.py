"""Blobs of entropy-coded codes: the head, the index of the blocks, and what is refused."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .coders import NUMBERS, Bytes, Decode, decode_raw, make_decoder
from .planes import make_plane_decoder, plane_kinds
from .zstd import MissingLibraryError

__all__ = ["Blob", "BlobError", "Front", "as_bytes", "damage_of", "framed", "head_bytes", "read_front"]

_KINDS = {number: kind for kind, number in NUMBERS.items()}
_MAGIC, _VERSION = b"RF8Z", 1
_HEAD = struct.Struct("<4sBBBBQII")  # magic, version, coder, parameter, 0, symbols, block size, bytes of the table
_ENTRY, _CRC = struct.Struct("<II"), struct.Struct("<I")  # size and CRC-32 of a block; CRC-32 of all before the blocks


class BlobError(ValueError):
    """A blob that is not what `compress` wrote.

    Attributes
    ----------
    blocks : tuple of int
        The damaged blocks; empty if it is the head, without which nothing can be decoded.
    """

    def __init__(self, message: str, blocks: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.blocks = tuple(blocks)


@dataclass(frozen=True)
class Blob:
    """What a blob holds.

    Attributes
    ----------
    coder : str
        ``rans``, ``huffman``, ``eg``, ``zstd``, ``raw`` where coding would gain nothing, or ``planes`` for codes of
        `uint16`.
    parameter : int
        Bits of the frequencies of rANS, the longest Huffman code, k of Exp-Golomb, the level of zstd, bits of the low
        plane; 0 for raw.
    count : int
        Symbols.
    block_size : int
        Symbols in each block but the last.
    blocks : int
        How many blocks there are.
    head_bytes, table_bytes, payload_bytes : int
        Bytes of head, index and checksum; of the table; of the blocks.
    damaged : tuple of int
        Blocks whose bytes are missing or do not match their checksum.
    planes : tuple of str
        How the plane of the high bits and that of the low bits are stored, ``raw`` or a coder; empty without planes.
    """

    coder: str
    parameter: int
    count: int
    block_size: int
    blocks: int
    head_bytes: int
    table_bytes: int
    payload_bytes: int
    damaged: tuple[int, ...]
    planes: tuple[str, ...] = ()

    @property
    def bits_per_symbol(self) -> float:
        """Bits for each symbol, of everything; NaN without a symbol."""
        total = self.head_bytes + self.table_bytes + self.payload_bytes
        return 8 * total / self.count if self.count else math.nan


@dataclass(frozen=True, eq=False)
class Front:
    """What comes before the blocks: what a `Blob` has, the table, where blocks begin and end, and their checksums."""

    coder: str
    parameter: int
    count: int
    block_size: int
    blocks: int
    table: bytes
    offsets: NDArray[np.int64]
    checksums: NDArray[np.uint32]

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """The dtype of the codes."""
        return np.dtype(np.uint16) if self.coder == "planes" else np.dtype(np.uint8)

    def span(self, block: int) -> slice:
        """Return which codes are in a block."""
        return slice(block * self.block_size, min((block + 1) * self.block_size, self.count))

    def payload(self, data: Bytes, block: int) -> Bytes:
        """Return the bytes of a block, fewer if the blob is cut short."""
        return data[self.offsets[block] : self.offsets[block + 1]]

    def decoder(self) -> Decode:
        """Return what decodes blocks; raise BlobError for a wrong table, MissingLibraryError without zstd."""
        try:
            if self.coder == "raw" or not self.count:
                return decode_raw
            if self.coder == "planes":
                return make_plane_decoder(self.parameter, self.table)
            return make_decoder(self.coder, self.parameter, self.table)
        except MissingLibraryError:
            raise
        except (ValueError, IndexError) as error:
            raise self._invalid_table(error) from None

    def planes(self) -> tuple[str, ...]:
        """Return how planes are stored; raise BlobError if no encoder makes such a table."""
        try:
            return plane_kinds(self.table) if self.coder == "planes" else ()
        except ValueError as error:
            raise self._invalid_table(error) from None

    def _invalid_table(self, error: Exception) -> BlobError:
        return BlobError(
            f"invalid code table: damaged, or not written by coder {self.coder!r} ({error}): restore the blob"
        )


def head_bytes(blocks: int) -> int:
    """Return the bytes of the head, the index and their checksum."""
    return _HEAD.size + _ENTRY.size * blocks + _CRC.size


def framed(coder: str, parameter: int, count: int, block_size: int, table: bytes, parts: Sequence[bytes]) -> bytes:
    """Return the blob of encoded blocks."""
    front = _HEAD.pack(_MAGIC, _VERSION, NUMBERS[coder], parameter, 0, count, block_size, len(table)) + table
    front += b"".join(_ENTRY.pack(len(part), zlib.crc32(part)) for part in parts)
    return b"".join([front, _CRC.pack(zlib.crc32(front)), *parts])


def as_bytes(blob: bytes | bytearray | memoryview | Bytes) -> Bytes:
    """Return the bytes of a blob as an array; raise TypeError if it is none."""
    if isinstance(blob, np.ndarray):
        if blob.dtype != np.uint8 or blob.ndim != 1:
            raise TypeError(f"a blob is bytes, got an array of {blob.dtype.name} of shape {blob.shape}")
        return np.ascontiguousarray(blob)
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise TypeError(f"a blob is bytes, got {type(blob).__name__}")
    return np.frombuffer(blob, dtype=np.uint8)


def read_front(data: Bytes) -> Front:
    """Return what comes before the blocks; raise BlobError if it is damaged or no blob."""
    if data.size < _HEAD.size or data[:4].tobytes() != _MAGIC:
        raise BlobError(f"not a blob of entropy-coded codes: expected it to begin with {_MAGIC!r}, "
                        f"got {data[:4].tobytes()!r} of {data.size} bytes")  # fmt: skip
    _, version, kind, parameter, zero, count, block_size, table_size = _HEAD.unpack(data[: _HEAD.size].tobytes())
    if version != _VERSION:
        raise BlobError(f"a blob of version {version}: this program reads version {_VERSION}, or its head is damaged")
    blocks = -(-count // block_size) if block_size else 0
    index = _HEAD.size + table_size
    end = index + _ENTRY.size * blocks
    if data.size < end + _CRC.size or _CRC.unpack(data[end : end + _CRC.size].tobytes())[0] != zlib.crc32(
        data[:end].data
    ):
        raise BlobError("the head of the blob is damaged or cut short, so nothing of it can be decoded: restore it")
    entries = np.frombuffer(data[index:end].tobytes(), dtype="<u4").reshape(blocks, 2)
    offsets = end + _CRC.size + np.concatenate([[0], np.cumsum(entries[:, 0], dtype=np.int64)])
    if kind not in _KINDS or zero or not block_size:
        raise BlobError("the head of the blob has a coder or an option that this program does not know")
    if data.size > offsets[-1]:
        raise BlobError(f"the blob goes on for {data.size - offsets[-1]} bytes after its end: give it alone")
    table = data[_HEAD.size : index].tobytes()
    return Front(_KINDS[kind], parameter, count, block_size, blocks, table, offsets, entries[:, 1].copy())


def damage_of(front: Front, damaged: list[int]) -> BlobError:
    """Return the error that names damaged blocks."""
    first = front.span(damaged[0])
    others = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    are = "are" if len(damaged) > 1 else "is"
    return BlobError(
        f"block {damaged[0]}{others} of {front.blocks} {are} damaged (codes {first.start} to {first.stop - 1}"
        f"{' first' if others else ''}): restore it, or decode the rest with on_damage='fill'",
        damaged,
    )
