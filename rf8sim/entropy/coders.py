"""The coders of single blocks, and their tables: how a blob of `rf8sim.entropy.coding` is made of bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .code_lengths import MAX_PRECISION, CodeLengths
from .prefix_codes import canonical_codes, exp_golomb_best, exp_golomb_lengths
from .zstd import library

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "CODERS", "NUMBERS", "STREAMS", "Bytes", "Codes", "Decode", "Encode", "count_symbols", "decode_raw", "encode_raw",
    "expected_bits", "make_decoder", "make_encoder", "one_by_one",
]  # fmt: skip

CODERS = ("rans", "huffman", "eg", "zstd")

NUMBERS = {"raw": 0, "rans": 1, "huffman": 2, "eg": 3, "planes": 4, "zstd": 5}
"""How blobs name what codes, or planes of them, are stored by: as they are, by a coder, in two planes."""

STREAMS = 4
"""States of rANS, or streams of a prefix code: so many symbols are at work at once."""

_RANS_LOW = 1 << 24
_LONGEST = 17  # bits of a prefix code for 256 symbols: Exp-Golomb of order 0

Bytes: TypeAlias = NDArray[np.uint8]
Codes: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
Encode: TypeAlias = Callable[[Any], bytes]
DecodeOne: TypeAlias = Callable[[Bytes, Any], bool]
"""Decodes bytes into an array of the right size; returns whether all went well."""
Decode: TypeAlias = Callable[[Sequence[Bytes], Sequence[Any]], list[bool]]
"""Decodes one block or two."""


def one_by_one(decode: DecodeOne) -> Decode:
    """Return what decodes each block alone."""
    return lambda parts, outs: [decode(part, out) for part, out in zip(parts, outs, strict=True)]


def count_symbols(symbols: Codes) -> NDArray[np.int64]:
    """Return how often each of 256 codes of 8 bits occurs, or of 65,536 codes of 16 bits."""
    counts = np.zeros((4, 1 << 8 * symbols.itemsize), dtype=np.int64)
    _kernels().count_symbols(symbols, counts)
    total: NDArray[np.int64] = counts.sum(axis=0)
    return total


def _kernels() -> ModuleType:
    from .._kernels import entropy as _kernels_coding  # here, since it loads numba

    return _kernels_coding


def expected_bits(lengths: CodeLengths, blocks: int) -> float:
    """Return the bits of a table and of all blocks, without heads, that are expected for codes of these lengths."""
    each = 0
    if lengths.code == "rans":
        each = (40 - 8) * STREAMS  # a state is 40 bits, of which 0 to 16 are of the codes
    elif lengths.code in ("huffman", "exp-golomb"):
        each = 32 * (STREAMS - 1)  # where streams end
        each += 16 * STREAMS if lengths.payload_bits else 0  # the rest of their last words
    return 8 * -(-lengths.table_bits // 8) + lengths.payload_bits + each * blocks


def make_encoder(coder: str, lengths: CodeLengths) -> tuple[bytes, Encode]:
    """Return the table that a decoder needs, and what encodes a block."""
    assert lengths.parameter is not None
    if coder == "zstd":
        return b"", _zstd_encoder(lengths.parameter)
    parameter, bits, used = lengths.parameter, _Bits(), np.flatnonzero(lengths.counts)
    if coder == "eg":
        # By length, then by symbol: codes of one length cost the same.
        order = used[np.lexsort((used, lengths.lengths[used]))]
        return order.astype(np.uint8).tobytes(), _prefix_encoder(*_exp_golomb_codes(order, parameter))
    bits.put_used(used)
    if coder == "huffman":
        by_code = np.zeros(256, dtype=np.int64)
        by_code[used] = lengths.lengths[used].astype(np.int64)
        for symbol in used:
            bits.put(int(by_code[symbol]), 4)
        return bits.bytes(), _prefix_encoder(canonical_codes(by_code), by_code)
    frequencies = np.zeros(256, dtype=np.int64)
    frequencies[used] = np.rint(np.exp2(parameter - lengths.lengths[used])).astype(np.int64)
    bits.put_exp_golomb(frequencies[used] - 1)
    return bits.bytes(), _rans_encoder(frequencies, parameter)


def make_decoder(coder: str, parameter: int, table: bytes) -> Decode:
    """Return what decodes blocks; raise ValueError if no encoder makes such a table."""
    if coder == "zstd":
        if table:
            raise ValueError("zstd has none")
        return _zstd_decoder()
    if coder == "eg":
        order = np.frombuffer(table, dtype=np.uint8)
        if np.unique(order).size != order.size or not order.size:
            raise ValueError("codes repeat or are missing")
        return _prefix_decoder(*_exp_golomb_codes(order, parameter))
    bits, by_code = _Bits(table), np.zeros(256, dtype=np.int64)
    used = bits.take_used()
    if coder == "huffman":
        by_code[used] = [bits.take(4) for _ in used]
        if len(used) > 1 and int(by_code[used].min()) < 1:
            raise ValueError("a code has no bits")
        return _prefix_decoder(canonical_codes(by_code), by_code, used[0] if len(used) == 1 else None)
    by_code[used] = np.add(bits.take_exp_golomb(len(used)), 1)
    if not 1 <= parameter <= MAX_PRECISION or int(by_code.sum()) != 1 << parameter:
        raise ValueError("frequencies do not sum up")
    return _rans_decoder(by_code, parameter)


def _zstd_encoder(level: int) -> Encode:
    compress = library().compress
    return lambda symbols: compress(symbols.data, level)


def _zstd_decoder() -> Decode:
    decompress = library().decompress

    def decode(part: Bytes, out: Bytes) -> bool:
        data = decompress(part.data, out.size)
        if data is None:
            return False
        out[:] = np.frombuffer(data, dtype=np.uint8)
        return True

    return one_by_one(decode)


def encode_raw(symbols: Bytes) -> bytes:
    """Encode a block as it is."""
    return symbols.tobytes()


def _copy_raw(part: Bytes, out: Bytes) -> bool:
    if part.size != out.size:
        return False
    out[:] = part
    return True


decode_raw = one_by_one(_copy_raw)
"""Decodes blocks that are as they are."""


def _rans_encoder(frequencies: NDArray[np.int64], bits: int) -> Encode:
    starts, inverse = np.cumsum(frequencies) - frequencies, np.nextafter(1.0 / np.maximum(frequencies, 1), 2.0)
    table = (starts.astype(np.uint64) << np.uint64(16)) | frequencies.astype(np.uint64)
    precision, kernel = np.uint64(bits), _kernels().rans_encode

    def encode(symbols: Bytes) -> bytes:
        words, states = np.empty(symbols.size + 1, np.uint16), np.full(STREAMS, _RANS_LOW, dtype=np.uint64)
        at = kernel(symbols, table, inverse, precision, words, states)
        low, high = states.astype("<u4"), (states >> np.uint64(32)).astype(np.uint8)
        return low.tobytes() + high.tobytes() + words[at:].astype("<u2", copy=False).tobytes()

    return encode


def _rans_decoder(frequencies: NDArray[np.int64], bits: int) -> Decode:
    slots = np.repeat(np.arange(256, dtype=np.uint8), frequencies)
    table = np.concatenate([frequencies, np.cumsum(frequencies) - frequencies]).astype(np.uint64)
    precision, kernels, start, head = np.uint64(bits), _kernels(), np.uint64(0), 5 * STREAMS

    def states(part: Bytes) -> NDArray[np.uint64]:
        low = np.frombuffer(part[: 4 * STREAMS].tobytes(), dtype="<u4").astype(np.uint64)
        return low | (part[4 * STREAMS : head].astype(np.uint64) << np.uint64(32))

    def decode_one(part: Bytes, out: Bytes) -> bool:
        if part.size < head or part.size % 2:
            return False
        return bool(kernels.rans_decode(part[head:], start, states(part), slots, table, precision, out, start))

    def decode(parts: Sequence[Bytes], outs: Sequence[Bytes]) -> list[bool]:
        if len(parts) != 2 or any(part.size < head or part.size % 2 for part in parts):
            return one_by_one(decode_one)(parts, outs)
        pair = [argument for part in parts for argument in (part[head:], states(part))]
        return list(kernels.rans_decode_two(*pair, slots, table, precision, tuple(outs)))

    return decode


def _exp_golomb_codes(order: NDArray[np.integer], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the codes and lengths of 256 symbols: rank + 2**k in binary, after one 0 for each bit beyond k + 1."""
    codes, lengths = np.zeros(256, dtype=np.int64), np.zeros(256, dtype=np.int64)
    rank = np.arange(order.size)
    lengths[order] = exp_golomb_lengths(rank, k)  # refuses what is no order
    codes[order] = rank + (1 << k)
    return codes, lengths


def _reversed_bits(codes: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return codes with their first bit lowest."""
    turned = np.zeros_like(codes)
    for bit in range(_LONGEST):
        turned |= ((codes >> bit) & 1) << np.maximum(lengths - 1 - bit, 0) * (bit < lengths)
    return turned


def _prefix_encoder(codes: NDArray[np.int64], lengths: NDArray[np.int64]) -> Encode:
    entries = ((_reversed_bits(codes, lengths) << 8) | lengths).astype(np.uint64)
    longest, kernel = int(lengths.max()), _kernels().prefix_encode

    def encode(symbols: Bytes) -> bytes:
        quarter = symbols.size // STREAMS
        parts, ends = [], []
        for stream in range(STREAMS):
            last = stream == STREAMS - 1
            part = symbols[stream * quarter :] if last else symbols[stream * quarter : (stream + 1) * quarter]
            words = np.empty(part.size * longest // 32 + 1, dtype=np.uint32)
            parts.append(words[: kernel(part, entries, words)].astype("<u4", copy=False).tobytes())
            ends.append(sum(map(len, parts)) // 4)
        return np.array(ends[:-1], dtype="<u4").tobytes() + b"".join(parts)

    return encode


def _prefix_decoder(codes: NDArray[np.int64], lengths: NDArray[np.int64], only: int | None = None) -> Decode:
    longest = int(lengths.max())
    table = np.full(1 << longest, 0xFF, dtype=np.uint16)
    turned = _reversed_bits(codes, lengths)
    for symbol in np.flatnonzero(lengths):
        table[turned[symbol] :: 1 << int(lengths[symbol])] = (symbol << 8) | lengths[symbol]
    if only is not None:  # a single symbol, whose code is empty
        table[:] = only << 8
    mask, kernel = np.uint64((1 << longest) - 1), _kernels().prefix_decode

    def decode(part: Bytes, out: Bytes) -> bool:
        return bool(kernel(part, table, mask, out))

    return one_by_one(decode)


class _Bits:
    """The bits of a table, the first the highest of its byte."""

    def __init__(self, data: bytes = b"") -> None:
        self.text, self.at = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else "", 0

    def bytes(self) -> bytes:
        padded = self.text + "0" * (-len(self.text) % 8)
        return int("1" + padded, 2).to_bytes(len(padded) // 8 + 1, "big")[1:]

    def put(self, number: int, bits: int) -> None:
        self.text += f"{number:0{bits}b}" if bits else ""

    def take(self, bits: int) -> int:
        if self.at + bits > len(self.text):
            raise ValueError("it ends early")
        self.at += bits
        return int(self.text[self.at - bits : self.at], 2) if bits else 0

    def put_used(self, used: NDArray[np.intp]) -> None:
        """Write the last symbol that occurs in 8 bits, then a bit for each symbol up to it."""
        self.put(int(used[-1]), 8)
        marks = np.zeros(int(used[-1]) + 1, dtype=np.int64)
        marks[used] = 1
        self.text += "".join(map(str, marks))

    def take_used(self) -> list[int]:
        count = self.take(8) + 1
        self.take(count)
        return [symbol for symbol, bit in enumerate(self.text[self.at - count : self.at]) if bit == "1"]

    def put_exp_golomb(self, numbers: NDArray[np.int64]) -> None:
        """Write the order k of least total in 4 bits, then each number."""
        k, _ = exp_golomb_best(numbers)
        self.put(k, 4)
        for n in numbers.tolist():
            self.put(n + (1 << k), 2 * ((n >> k) + 1).bit_length() - 1 + k)

    def take_exp_golomb(self, count: int) -> list[int]:
        k, numbers = self.take(4), []
        for _ in range(count):
            zeros = self.text.find("1", self.at) - self.at
            if zeros < 0:
                raise ValueError("it ends early")
            self.at += zeros
            numbers.append(self.take(zeros + 1 + k) - (1 << k))
        return numbers
