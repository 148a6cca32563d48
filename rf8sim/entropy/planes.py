"""Codes of 9 to 16 bits in two planes of at most 8 bits, the high bits and the low bits, each with a coder of its own.

The high bits of a weight's code, its sign and its exponent, are far from uniform; the low ones are nearly so, and are
stored as they are where no coder makes them shorter. What one plane says of the other is not used.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .code_lengths import CodeLengths
from .coders import NUMBERS, Bytes, Decode, Encode, decode_raw, encode_raw, expected_bits, make_decoder, make_encoder

__all__ = ["expected_plane_bits", "make_plane_decoder", "make_plane_encoder", "plane_kinds"]

_KINDS = {number: kind for kind, number in NUMBERS.items() if kind != "planes"}
_PLANE, _SIZE = struct.Struct("<BBI"), struct.Struct("<I")  # coder, parameter, bytes of the table; bytes of high bits


def expected_plane_bits(lengths: CodeLengths, blocks: int) -> float:
    """Return the bits of both planes, as `make_plane_encoder` stores them: tables, and all in the blocks."""
    planes = sum(min(expected_bits(plane, blocks), 8.0 * int(plane.counts.sum())) for plane in lengths.planes)
    return planes + 8 * (2 * _PLANE.size + _SIZE.size * blocks)


def make_plane_encoder(coder: str, lengths: CodeLengths, blocks: int) -> tuple[bytes, Encode]:
    """Return the tables of both planes, and what encodes a block of codes.

    Parameters
    ----------
    coder : str
        For the planes that it makes shorter; ``zstd``, of which that is not known before, for both.
    lengths : CodeLengths
        Lengths with planes.
    blocks : int
        In how many blocks the codes are cut.
    """
    tables, encoders = b"", []
    for plane in lengths.planes:
        encode: Encode = encode_raw
        kind, parameter, table = 0, 0, b""
        if coder == "zstd" or expected_bits(plane, blocks) < 8 * int(plane.counts.sum()):
            kind, parameter = NUMBERS[coder], plane.parameter or 0
            table, encode = make_encoder(coder, plane)
        tables += _PLANE.pack(kind, parameter, len(table)) + table
        encoders.append(encode)
    shift, mask = np.uint16(lengths.low_bits), np.uint16((1 << lengths.low_bits) - 1)

    def encode_block(codes: NDArray[np.uint16]) -> bytes:
        high = encoders[0]((codes >> shift).astype(np.uint8))
        return _SIZE.pack(len(high)) + high + encoders[1]((codes & mask).astype(np.uint8))

    return tables, encode_block


def plane_kinds(table: bytes) -> tuple[str, str]:
    """Return how the planes are stored; raise ValueError if no encoder makes such a table."""
    (high, _, _), (low, _, _) = _plane_tables(table)
    return high, low


def make_plane_decoder(low_bits: int, table: bytes) -> Decode:
    """Return what decodes blocks; raise ValueError if no encoder makes such a table."""
    if not 1 <= low_bits <= 8:
        raise ValueError(f"low planes have 1 to 8 bits, not {low_bits}")
    high_decoder, low_decoder = (
        decode_raw if kind == "raw" else make_decoder(kind, parameter, part)
        for kind, parameter, part in _plane_tables(table)
    )
    shift = np.uint16(low_bits)

    def decode_blocks(parts: Sequence[Bytes], outs: Sequence[NDArray[np.uint16]]) -> list[bool]:
        high_parts, low_parts = [], []
        for part in parts:
            size = _SIZE.unpack(part[: _SIZE.size].tobytes())[0] if part.size >= _SIZE.size else part.size
            high_parts.append(part[_SIZE.size : _SIZE.size + size])
            low_parts.append(part[_SIZE.size + size :])
        high, low = ([np.empty(out.size, np.uint8) for out in outs] for _ in range(2))
        good = np.logical_and(high_decoder(high_parts, high), low_decoder(low_parts, low))
        for i, out in enumerate(outs):
            if int(low[i].max(initial=0)) >> low_bits:
                good[i] = False
            np.left_shift(high[i], shift, out=out, dtype=np.uint16)
            np.bitwise_or(out, low[i], out=out)
        return [bool(each) for each in good]

    return decode_blocks


def _plane_tables(table: bytes) -> tuple[tuple[str, int, bytes], tuple[str, int, bytes]]:
    """Return the coder, the parameter and the table of each plane."""
    planes, at = [], 0
    for _ in range(2):
        if len(table) < at + _PLANE.size:
            raise ValueError("it ends early")
        kind, parameter, size = _PLANE.unpack_from(table, at)
        at += _PLANE.size
        if kind not in _KINDS or len(table) < at + size:
            raise ValueError("it has an unknown coder or ends early")
        planes.append((_KINDS[kind], parameter, table[at : at + size]))
        at += size
    if at != len(table):
        raise ValueError("it goes on after its end")
    return planes[0], planes[1]
