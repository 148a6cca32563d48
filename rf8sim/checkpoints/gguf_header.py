"""The header of a GGUF file that is written: metadata, carried over to the byte, and the table of tensors."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["ALIGNMENT", "Placed", "header", "integer", "text"]

ALIGNMENT = "general.alignment"
_UINT32, _STRING = 4, 8
_VERSION = 3


class Placed(NamedTuple):
    """A tensor of a file: its name, its shape as NumPy has it, the number of its type, and its bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    nbytes: int


def integer(value: int) -> bytes:
    """Return an unsigned integer of 32 bits as a value of the metadata.

    Examples
    --------
    >>> integer(7).hex()
    '0400000007000000'
    """
    return struct.pack("<II", _UINT32, value)


def text(value: str) -> bytes:
    """Return a text as a value of the metadata."""
    return struct.pack("<I", _STRING) + _sized(value)


def _sized(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def header(metadata: Mapping[str, bytes], tensors: Sequence[Placed], alignment: int) -> bytes:
    """Return all that comes before the bytes of the tensors, which follow in order, each padded to the alignment.

    Parameters
    ----------
    metadata : dict of str to bytes
        Values as the file has them, the number of their type first.
    tensors : sequence of Placed
        The tensors.
    alignment : int
        A power of two.
    """
    parts = [b"GGUF", struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    parts += [_sized(key) + value for key, value in metadata.items()]
    offset = 0
    for tensor in tensors:
        axes = tensor.shape[::-1]
        parts.append(_sized(tensor.name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, tensor.kind, offset))
        offset += -(-tensor.nbytes // alignment) * alignment
    data = b"".join(parts)
    return data + bytes(-len(data) % alignment)
