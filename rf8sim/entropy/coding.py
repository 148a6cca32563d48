"""Entropy coding of codes: rANS, canonical Huffman and Exp-Golomb, in blocks that are decoded one without another.

Codes of weights come one like another, without repeats to find, so their order holds nothing and a code of single
symbols takes nearly all there is to gain. A blob describes itself: a head, the table of the code, an index of the
blocks (size and CRC-32 each), a CRC-32 of all that, and the blocks. `docs/compression.md` gives it byte for byte.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base.checks import as_codes, choose
from .._base.threads import in_pieces
from .code_lengths import CodeLengths, code_lengths
from .coders import CODERS, STREAMS, Bytes, Encode, count_symbols, decode_raw, encode_raw, make_decoder, make_encoder

__all__ = ["BLOCK_SIZE", "CODERS", "Blob", "BlobError", "compress", "decompress", "inspect", "stored_bits"]

BLOCK_SIZE = 1 << 17
"""Symbols in a block: what one damaged byte can cost."""

_KINDS = ("raw", *CODERS)
_CODES = {"rans": "rans", "huffman": "huffman", "eg": "exp-golomb"}
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
        ``rans``, ``huffman``, ``eg``, or ``raw`` where coding would gain nothing.
    parameter : int
        Bits of the frequencies of rANS, the longest Huffman code, k of Exp-Golomb; 0 for raw.
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

    @property
    def bits_per_symbol(self) -> float:
        """Bits for each symbol, of everything; NaN without a symbol."""
        total = self.head_bytes + self.table_bytes + self.payload_bytes
        return 8 * total / self.count if self.count else math.nan


# --- what is public ---------------------------------------------------------------------------------------------------


def compress(
    codes: ArrayLike,
    coder: str = "rans",
    *,
    parameter: int | None = None,
    order: Sequence[int] | None = None,
    block_size: int = BLOCK_SIZE,
    threads: int | None = None,
) -> bytes:
    """Code an array of codes without loss.

    Parameters
    ----------
    codes : array_like of uint8
        Codes of any format, in any shape; they are coded in C order and the shape is not kept.
    coder : str
        ``rans`` (within 0.2% of the entropy on weights), ``huffman`` or ``eg`` (Exp-Golomb, as in the literature).
        Codes that would not become shorter are stored as they are.
    parameter : int, optional
        Bits of the frequencies of rANS, the longest Huffman code or k of Exp-Golomb; by default what is best for the
        codes, as `code_lengths` finds it.
    order : sequence of int, optional
        For ``eg``: all codes that occur, the cheapest first; by default by falling count.
    block_size : int
        Codes in a block, from 1 on. Blocks are decoded one without another.
    threads : int, optional
        At most this many. The bytes do not depend on it.

    Returns
    -------
    bytes
        A blob that `decompress` reads.

    Raises
    ------
    ValueError
        If an option is unknown or out of range, or codes are not from 0 to 255.
    TypeError
        If codes are not whole numbers.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.minimum(np.random.default_rng(0).geometric(0.2, size=100_000), 255).astype(np.uint8)
    >>> blob = compress(codes)
    >>> len(blob), bool(np.array_equal(decompress(blob), codes))
    (45181, True)
    """
    choose("coder", coder, CODERS)
    symbols = np.ascontiguousarray(as_codes(codes, 8, "any format")).reshape(-1)
    if not 1 <= block_size < 1 << 31:
        raise ValueError(f"block_size must be from 1 to {(1 << 31) - 1}, got {block_size}")
    if order is not None and coder != "eg":
        raise ValueError(f"`order` is only supported by coder 'eg', not by {coder!r}")
    counts = count_symbols(symbols)
    lengths = code_lengths(counts, _CODES[coder], parameter=parameter, order=order)
    blocks = -(-symbols.size // block_size)
    if stored_bits(lengths, block_size) >= _raw_bits(symbols.size, block_size):
        encode: Encode = encode_raw
        kind, chosen, table = 0, 0, b""
    else:
        table, encode = make_encoder(coder, lengths)
        kind, chosen = _KINDS.index(coder), lengths.parameter or 0
    parts: list[bytes] = [b""] * blocks

    def work(start: int, stop: int) -> None:
        for block in range(start, stop):
            parts[block] = encode(symbols[block * block_size : (block + 1) * block_size])

    in_pieces(work, blocks, threads, weight=min(block_size, max(symbols.size, 1)))
    front = _HEAD.pack(_MAGIC, _VERSION, kind, chosen, 0, symbols.size, block_size, len(table)) + table
    front += b"".join(_ENTRY.pack(len(part), zlib.crc32(part)) for part in parts)
    return b"".join([front, _CRC.pack(zlib.crc32(front)), *parts])


def decompress(
    blob: bytes | bytearray | memoryview | Bytes,
    *,
    on_damage: Literal["raise", "fill"] = "raise",
    fill: int = 0,
    threads: int | None = None,
) -> Bytes:
    """Decode what `compress` wrote, and check it.

    Parameters
    ----------
    blob : bytes-like
        The blob.
    on_damage : str
        ``raise``, or ``fill`` to put ``fill`` in the place of every code of a damaged block; `inspect` lists them.
    fill : int
        A code, such as the format's NaN or zero.
    threads : int, optional
        At most this many.

    Returns
    -------
    ndarray of uint8, shape (count,)
        The codes.

    Raises
    ------
    BlobError
        If the blob is damaged, cut short or no blob at all. It names the damaged blocks.

    Examples
    --------
    A damaged byte costs its block:

    >>> import numpy as np
    >>> codes = np.repeat(np.arange(4, dtype=np.uint8), 500)
    >>> blob = bytearray(compress(codes, block_size=500))
    >>> blob[-1] ^= 1
    >>> decompress(blob)
    Traceback (most recent call last):
    ...
    rf8sim.entropy.coding.BlobError: block 3 of 4 is damaged (codes 1500 to 1999): restore it, or decode the rest with
    on_damage='fill'
    >>> decompress(blob, on_damage="fill", fill=255)[[0, 1499, 1500, 1999]].tolist()
    [0, 2, 255, 255]
    """
    choose("on_damage", on_damage, ("raise", "fill"))
    if not 0 <= fill <= 255:
        raise ValueError(f"fill is a code from 0 to 255, got {fill}")
    data = _as_bytes(blob)
    front = _read_front(data)
    out = np.empty(front.count, dtype=np.uint8)
    try:
        plain = front.coder == "raw" or not front.count
        decode = decode_raw if plain else make_decoder(front.coder, front.parameter, front.table)
    except (ValueError, IndexError) as error:
        raise BlobError(
            f"invalid code table: damaged, or not written by coder {front.coder!r} ({error}): restore the blob"
        ) from None
    intact = np.zeros(front.blocks, dtype=bool)

    def work(start: int, stop: int) -> None:
        for block in range(start, stop):
            part, target = front.payload(data, block), out[front.span(block)]
            intact[block] = zlib.crc32(part.data) == front.checksums[block] and decode(part, target)
            if not intact[block]:
                target[:] = fill

    in_pieces(work, front.blocks, threads, weight=min(front.block_size, max(front.count, 1)))
    if on_damage == "raise" and not intact.all():
        raise _damage(front, np.flatnonzero(~intact).tolist())
    return out


def inspect(blob: bytes | bytearray | memoryview | Bytes) -> Blob:
    """Say what a blob holds, and check every block against its checksum without decoding it.

    Parameters
    ----------
    blob : bytes-like
        The blob.

    Returns
    -------
    Blob

    Raises
    ------
    BlobError
        If the head is damaged, or it is no blob.

    Examples
    --------
    >>> import numpy as np
    >>> found = inspect(compress(np.tile(np.arange(8, dtype=np.uint8), 1000), "huffman"))
    >>> found.coder, found.count, found.blocks, found.payload_bytes, found.damaged
    ('huffman', 8000, 1, 3020, ())
    """
    data = _as_bytes(blob)
    front = _read_front(data)
    sums = (zlib.crc32(front.payload(data, block).data) for block in range(front.blocks))
    damaged = tuple(block for block, crc in enumerate(sums) if crc != front.checksums[block])
    return Blob(
        coder=front.coder,
        parameter=front.parameter,
        count=front.count,
        block_size=front.block_size,
        blocks=front.blocks,
        head_bytes=_HEAD.size + _ENTRY.size * front.blocks + _CRC.size,
        table_bytes=len(front.table),
        payload_bytes=int(front.offsets[-1] - front.offsets[0]),
        damaged=damaged,
    )


def stored_bits(lengths: CodeLengths, block_size: int = BLOCK_SIZE) -> float:
    """Return the bits of a blob with these code lengths: codes, table, heads, and what each block adds.

    Parameters
    ----------
    lengths : CodeLengths
        Of ``rans``, ``huffman`` or ``exp-golomb``; for others the codes and the table are counted alike.
    block_size : int
        Codes in a block.

    Returns
    -------
    float
        Expected bits: a stream ends on average in the middle of its last word, so that a blob is within some tens of
        bits a block of it. What is stored raw is counted as raw.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.minimum(np.random.default_rng(0).geometric(0.2, size=100_000), 255).astype(np.uint8)
    >>> bits = stored_bits(code_lengths(np.bincount(codes), "rans"))
    >>> abs(bits / 8 - len(compress(codes))) < 20
    True
    """
    count = int(lengths.counts.sum())
    blocks = -(-count // block_size)
    each = 8 * _ENTRY.size
    if lengths.code == "rans":
        each += (40 - 8) * STREAMS  # a state is 40 bits, of which 0 to 16 are of the codes
    elif lengths.code in ("huffman", "exp-golomb") and lengths.payload_bits:
        each += 32 * (STREAMS - 1) + 16 * STREAMS  # where streams end, and the rest of their last words
    head = 8 * (_HEAD.size + _CRC.size)
    return min(
        head + 8 * -(-lengths.table_bits // 8) + lengths.payload_bits + each * blocks, _raw_bits(count, block_size)
    )


def _raw_bits(count: int, block_size: int) -> float:
    return 8.0 * (_HEAD.size + _CRC.size + count + _ENTRY.size * -(-count // block_size))


# --- the head ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Front:
    coder: str
    parameter: int
    count: int
    block_size: int
    blocks: int
    table: bytes
    offsets: NDArray[np.int64]
    checksums: NDArray[np.uint32]

    def span(self, block: int) -> slice:
        return slice(block * self.block_size, min((block + 1) * self.block_size, self.count))

    def payload(self, data: Bytes, block: int) -> Bytes:
        return data[self.offsets[block] : self.offsets[block + 1]]


def _as_bytes(blob: bytes | bytearray | memoryview | Bytes) -> Bytes:
    if isinstance(blob, np.ndarray):
        if blob.dtype != np.uint8 or blob.ndim != 1:
            raise TypeError(f"a blob is bytes, got an array of {blob.dtype.name} of shape {blob.shape}")
        return np.ascontiguousarray(blob)
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise TypeError(f"a blob is bytes, got {type(blob).__name__}")
    return np.frombuffer(blob, dtype=np.uint8)


def _read_front(data: Bytes) -> _Front:
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
    if kind >= len(_KINDS) or zero or not block_size:
        raise BlobError("the head of the blob has a coder or an option that this program does not know")
    if data.size > offsets[-1]:
        raise BlobError(f"the blob goes on for {data.size - offsets[-1]} bytes after its end: give it alone")
    table = data[_HEAD.size : index].tobytes()
    return _Front(_KINDS[kind], parameter, count, block_size, blocks, table, offsets, entries[:, 1].copy())


def _damage(front: _Front, damaged: list[int]) -> BlobError:
    first = front.span(damaged[0])
    others = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    are = "are" if len(damaged) > 1 else "is"
    return BlobError(
        f"block {damaged[0]}{others} of {front.blocks} {are} damaged (codes {first.start} to {first.stop - 1}"
        f"{' first' if others else ''}): restore it, or decode the rest with on_damage='fill'",
        damaged,
    )
