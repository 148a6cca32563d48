"""Lossless coding of numbers as they are: every pattern of bits comes back, NaN and negative zeros included.

The exponents of weights are far from uniform and their mantissas nearly uniform, so a number is cut into bytes of which
each plane has a code of its own. A float is first rotated by a bit to the left: its sign goes to the end and its first
byte is the exponent (of bfloat16 and float32), which takes 2 to 3 bits; the other bytes are stored as they are where no
coder makes them shorter. Where nothing is known of the numbers, as of bytes, there is one plane.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._base.checks import choose
from .blobs import BlobError, as_bytes, read_front
from .code_lengths import MAX_PRECISION, CodeLengths, code_lengths, rans_lengths
from .coders import Bytes, count_symbols
from .coding import coded, decompress, stored_bits

__all__ = ["BYTES", "CODERS", "LEAST_GAIN", "Cut", "compress_patterns", "decompress_patterns"]

CODERS = ("rans", "huffman")

LEAST_GAIN = 0.02
"""A plane is coded if that saves so much of it. Mantissas of weights save 1 %, and would take most of the time."""

_SIZE = struct.Struct("<Q")  # bytes of the blob of a plane, before it


class Cut(NamedTuple):
    """How numbers are cut into planes.

    Attributes
    ----------
    planes : int
        Bytes of a number: 1, 2, 4 or 8.
    rotation : int
        By how many bits its pattern is rotated to the left first: 1 for floats, whose sign then comes last.
    """

    planes: int
    rotation: int

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The dtype of patterns."""
        return np.dtype(f"<u{self.planes}")


BYTES = Cut(1, 0)
"""The cut of bytes, and of numbers of 8 bits: their sign, exponent and mantissa are coded together."""


def compress_patterns(data: Bytes, cut: Cut = BYTES, coder: str = "rans", *, threads: int | None = None) -> bytes:
    """Code numbers without loss, NaN of any payload included.

    Parameters
    ----------
    data : ndarray of uint8, shape (n,)
        Their bytes, little-endian.
    cut : Cut
        How they are cut into planes.
    coder : str
        ``rans`` or ``huffman``.
    threads : int, optional
        At most this many. The bytes do not depend on it.

    Returns
    -------
    bytes
        A blob of each plane, the highest bytes first, each after its size (8 bytes).

    Raises
    ------
    ValueError
        If the bytes are no multiple of those of a number, or the coder is another.

    Examples
    --------
    >>> weights = np.random.default_rng(0).laplace(size=100_000).astype(np.float16)
    >>> packed = compress_patterns(weights.view(np.uint8), Cut(2, 1))
    >>> data = decompress_patterns(packed, weights.nbytes, Cut(2, 1))
    >>> bool(np.array_equal(data, weights.view(np.uint8))), len(packed) < 0.87 * weights.nbytes
    (True, True)
    """
    if data.size % cut.planes:
        raise ValueError(f"{data.size} bytes are no numbers of {cut.planes} bytes each")
    choose("coder", coder, CODERS)
    blobs = [coded(plane, coder, _code(plane, coder), threads=threads) for plane in _split(data, cut)]
    return b"".join(part for blob in blobs for part in (_SIZE.pack(len(blob)), blob))


def _code(plane: Bytes, coder: str) -> CodeLengths | None:
    """Return the code of a plane, None if it would save too little."""
    counts, most = count_symbols(plane), (1.0 - LEAST_GAIN) * 8 * plane.size
    if code_lengths(counts, "entropy").payload_bits >= most:
        return None
    lengths = code_lengths(counts, "huffman") if coder == "huffman" else _rans_lengths(counts)
    return lengths if stored_bits(lengths) < most else None


def _rans_lengths(counts: NDArray[np.int64]) -> CodeLengths:
    """Return lengths of rANS at once: frequencies as fine as their number deserves, rounded, not searched."""
    from .._kernels.entropy import share_units

    used = np.flatnonzero(counts)
    total = int(counts.sum())
    bits = min(max((used.size - 1).bit_length() + 1, total.bit_length() - 2), MAX_PRECISION)
    frequencies = np.maximum(np.rint(counts[used] * ((1 << bits) / total)).astype(np.int64), 1)
    share_units(counts[used], frequencies, (1 << bits) - int(frequencies.sum()))
    return rans_lengths(counts, frequencies, bits)


def _split(data: Bytes, cut: Cut) -> Iterator[Bytes]:
    if cut.planes == 1:
        yield data
        return
    from .._kernels.patterns import split_bytes  # here, since it loads numba

    patterns = np.ascontiguousarray(data).view(cut.dtype)
    planes = np.empty((cut.planes, patterns.size), np.uint8)
    split_bytes(patterns.astype(cut.dtype.newbyteorder("="), copy=False), np.uint64(cut.rotation), planes)
    yield from planes


def decompress_patterns(
    packed: bytes | bytearray | memoryview | Bytes, size: int, cut: Cut = BYTES, *, threads: int | None = None
) -> Bytes:
    """Decode what `compress_patterns` wrote, and check it.

    Parameters
    ----------
    packed : bytes-like
        All of it.
    size : int
        Bytes that it decodes to.
    cut : Cut
        That of the coding.
    threads : int, optional
        At most this many.

    Returns
    -------
    ndarray of uint8, shape (size,)

    Raises
    ------
    BlobError
        If it is damaged, cut short, or of another size.

    Examples
    --------
    >>> decompress_patterns(compress_patterns(np.arange(5, dtype=np.uint8)), 5).tolist()
    [0, 1, 2, 3, 4]
    """
    data, count = as_bytes(packed), size // cut.planes
    planes, at = [], 0
    for _ in range(cut.planes):
        head = data[at : at + _SIZE.size].tobytes()
        length = _SIZE.unpack(head)[0] if len(head) == _SIZE.size else 0
        blob = data[at + _SIZE.size :][:length]
        at += _SIZE.size + length
        front = read_front(blob)
        if front.count != count or front.dtype != np.uint8:  # before there is memory for what a forged head asks for
            raise BlobError(f"a plane of {front.count} codes, and {count} bytes were expected: restore it")
        planes.append(decompress(blob, threads=threads))
    if at != data.size:
        raise BlobError(f"planes of {at} bytes where there are {data.size}: restore it")
    if cut.planes == 1:
        return planes[0].view(np.uint8)
    from .._kernels.patterns import join_bytes

    patterns = np.empty(count, cut.dtype.newbyteorder("="))
    join_bytes(tuple(planes), np.uint64(cut.rotation), patterns)
    return patterns.astype(cut.dtype, copy=False).view(np.uint8)
