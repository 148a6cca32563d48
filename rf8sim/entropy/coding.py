"""Entropy coding of codes: rANS, Huffman, Exp-Golomb and zstd, in blocks that are decoded one without another.

Codes of weights come one like another, without repeats to find, so their order holds nothing and a code of single
symbols takes nearly all there is to gain. Codes of 9 to 16 bits are coded in two planes (`planes`). A blob describes
itself: a head, the table of the code, an index of the blocks (size and CRC-32 each), a CRC-32 of all that, and the
blocks. `docs/compression.md` gives it byte for byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .._base.checks import as_codes, as_integer, choose
from .._base.threads import in_pieces
from .blobs import Blob, BlobError, as_bytes, damage_of, framed, head_bytes, read_front
from .code_lengths import CodeLengths, code_lengths, without_lengths
from .coders import CODERS, Bytes, Codes, Encode, count_symbols, encode_raw, expected_bits, make_encoder
from .planes import expected_plane_bits, make_plane_encoder
from .zstd import LEVEL, LEVELS, MissingLibraryError

__all__ = [
    "BLOCK_SIZE", "CODERS", "Blob", "BlobError", "MissingLibraryError", "coded", "compress", "decompress",
    "inspect", "stored_bits",
]  # fmt: skip

BLOCK_SIZE = 1 << 17
"""Symbols in a block: what one damaged byte can cost."""

_CODES = {"rans": "rans", "huffman": "huffman", "eg": "exp-golomb"}


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
    codes : array_like of uint8 or uint16
        Codes of any format, in any shape; they are coded in C order and the shape is not kept. Codes of ``uint16`` are
        coded in two planes, high bits and low bits. Other integers are taken as ``uint8`` if all are below 256.
    coder : str
        ``rans`` (within 0.2% of the entropy on weights in 8 bits), ``huffman``, ``eg`` (Exp-Golomb, as in the
        literature) or ``zstd`` (it needs the extra ``zstd``). Codes, or planes, that would not become
        shorter are stored as they are.
    parameter : int, optional
        Bits of the frequencies of rANS, the longest Huffman code, k of Exp-Golomb or the level of zstd, 1 to 19; by
        default what is best for the codes, as `code_lengths` finds it, and level 1.
    order : sequence of int, optional
        For ``eg`` and codes of ``uint8``: all codes that occur, the cheapest first; by default by falling count.
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
        If an option is unknown or out of range, codes are not from 0 to 65535, or nothing installed knows ``zstd``.
    TypeError
        If codes are not whole numbers.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.minimum(np.random.default_rng(0).geometric(0.2, size=100_000), 255).astype(np.uint8)
    >>> blob = compress(codes)
    >>> len(blob), bool(np.array_equal(decompress(blob), codes))
    (45181, True)
    >>> wide = np.random.default_rng(0).normal(size=100_000).astype(np.float16).view(np.uint16)
    >>> blob = compress(wide)
    >>> inspect(blob).planes, 8 * len(blob) / wide.size < 13.7, bool(np.array_equal(decompress(blob), wide))
    (('rans', 'raw'), True, True)
    """
    choose("coder", coder, CODERS)
    symbols = _as_symbols(codes)
    block_size = as_integer("block_size", block_size, 1, (1 << 31) - 1)
    parameter = None if parameter is None else as_integer("parameter", parameter, 0, 255)
    if order is not None and coder != "eg":
        raise ValueError(f"`order` is only supported by coder 'eg', not by {coder!r}")
    counts = count_symbols(symbols)
    if coder == "zstd":
        level = LEVEL if parameter is None else parameter
        if level not in LEVELS:
            raise ValueError(f"levels of zstd are from {LEVELS[0]} to {LEVELS[-1]}, got {level}")
        lengths = without_lengths(counts, "zstd", level)
    else:
        lengths = code_lengths(counts, _CODES[coder], parameter=parameter, order=order)
    gains = coder == "zstd" or stored_bits(lengths, block_size) < _raw_bits(symbols.size, block_size)
    chosen = lengths if gains or lengths.planes else None
    return coded(symbols, coder, chosen, block_size=block_size, threads=threads)


def coded(
    symbols: Codes, coder: str, lengths: CodeLengths | None, *, block_size: int = BLOCK_SIZE, threads: int | None = None
) -> bytes:
    """Return the blob of codes in a code that was chosen.

    Parameters
    ----------
    symbols : ndarray of uint8 or uint16, shape (n,)
        The codes, contiguous.
    coder : str
        As for `compress`.
    lengths : CodeLengths or None
        Of a code for these codes; None to store them as they are.
    block_size, threads
        As for `compress`.

    Examples
    --------
    >>> import numpy as np
    >>> inspect(coded(np.zeros(100, np.uint8), "rans", None)).coder
    'raw'
    """
    blocks = -(-symbols.size // block_size)
    encode: Encode = encode_raw
    kind, parameter, table = "raw", 0, b""
    if lengths is not None and lengths.planes:
        kind, parameter = "planes", lengths.low_bits
        table, encode = make_plane_encoder(coder, lengths, blocks)
    elif lengths is not None:
        table, encode = make_encoder(coder, lengths)
        kind, parameter = coder, lengths.parameter or 0
    parts: list[bytes] = [b""] * blocks

    def work(start: int, stop: int) -> None:
        for block in range(start, stop):
            parts[block] = encode(symbols[block * block_size : (block + 1) * block_size])

    in_pieces(work, blocks, threads, weight=min(block_size, max(symbols.size, 1)))
    if kind == "zstd" and sum(map(len, parts)) >= symbols.size:  # here alone the size is known only now
        kind, parameter, encode = "raw", 0, encode_raw
        work(0, blocks)
    return framed(kind, parameter, symbols.size, block_size, table, parts)


def decompress(
    blob: bytes | bytearray | memoryview | Bytes,
    *,
    on_damage: Literal["raise", "fill"] = "raise",
    fill: int = 0,
    threads: int | None = None,
) -> Codes:
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
    ndarray of uint8 or uint16, shape (count,)
        The codes, of the dtype that was compressed.

    Raises
    ------
    BlobError
        If the blob is damaged, cut short or no blob at all. It names the damaged blocks.
    MissingLibraryError
        A ValueError: if the blob was written by zstd, and nothing installed knows it.

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
    rf8sim.entropy.blobs.BlobError: block 3 of 4 is damaged (codes 1500 to 1999): restore it, or decode the rest with
    on_damage='fill'
    >>> decompress(blob, on_damage="fill", fill=255)[[0, 1499, 1500, 1999]].tolist()
    [0, 2, 255, 255]
    """
    choose("on_damage", on_damage, ("raise", "fill"))
    data = as_bytes(blob)
    front = read_front(data)
    out: Codes = np.empty(front.count, dtype=front.dtype)
    most = (1 << 8 * out.itemsize) - 1
    fill = as_integer("fill", fill, 0, most)
    decode = front.decoder()
    intact = np.zeros(front.blocks, dtype=bool)

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, 2):
            pair = range(first, min(first + 2, stop))
            parts = {block: front.payload(data, block) for block in pair}
            sound = [block for block in pair if zlib.crc32(parts[block].data) == front.checksums[block]]
            intact[sound] = decode([parts[block] for block in sound], [out[front.span(block)] for block in sound])
            for block in pair:
                if not intact[block]:
                    out[front.span(block)] = fill

    in_pieces(work, front.blocks, threads, weight=min(front.block_size, max(front.count, 1)))
    if on_damage == "raise" and not intact.all():
        raise damage_of(front, np.flatnonzero(~intact).tolist())
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
    data = as_bytes(blob)
    front = read_front(data)
    sums = (zlib.crc32(front.payload(data, block).data) for block in range(front.blocks))
    damaged = tuple(block for block, crc in enumerate(sums) if crc != front.checksums[block])
    return Blob(
        coder=front.coder,
        parameter=front.parameter,
        count=front.count,
        block_size=front.block_size,
        blocks=front.blocks,
        head_bytes=head_bytes(front.blocks),
        table_bytes=len(front.table),
        payload_bytes=int(front.offsets[-1] - front.offsets[0]),
        damaged=damaged,
        planes=front.planes(),
    )


def stored_bits(lengths: CodeLengths, block_size: int = BLOCK_SIZE) -> float:
    """Return the bits of a blob with these code lengths: codes, table, heads, and what each block adds.

    Parameters
    ----------
    lengths : CodeLengths
        Of ``rans``, ``huffman`` or ``exp-golomb``; for others the codes and the table are counted alike. What zstd
        takes has no model: it is the length of the blob.
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
    heads = 8 * head_bytes(blocks)
    if lengths.planes:
        return heads + expected_plane_bits(lengths, blocks)
    return min(heads + expected_bits(lengths, blocks), _raw_bits(count, block_size))


def _as_symbols(codes: ArrayLike) -> Codes:
    """Return codes flat, as uint8 or uint16."""
    array = np.asarray(codes)
    wide = array.dtype.kind in "iu" and array.dtype != np.uint8
    wide = wide and (array.dtype == np.uint16 or int(array.max(initial=0)) > 255)
    symbols: Codes = np.ascontiguousarray(as_codes(array, 16 if wide else 8, "any format")).reshape(-1)
    return symbols


def _raw_bits(count: int, block_size: int) -> float:
    return 8.0 * (head_bytes(-(-count // block_size)) + count)
