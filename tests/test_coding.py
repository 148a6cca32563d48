"""Entropy coders: exact round trips, the stated size, blocks that stand alone, and every damage found and named."""

import os
import subprocess
import sys
import types
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from loops import looped

import rf8sim
from rf8sim.entropy import blobs, zstd
from rf8sim.entropy.code_lengths import code_lengths
from rf8sim.entropy.coders import make_decoder, make_encoder
from rf8sim.entropy.coding import (
    CODERS,
    BlobError,
    MissingLibraryError,
    compress,
    decompress,
    inspect,
    stored_bits,
)  # fmt: skip

NAMES = {"rans": "rans", "huffman": "huffman", "eg": "exp-golomb"}


def weights(size: int, fmt: str = "rf8", shape: float = 1.0) -> np.ndarray:
    import ggd

    return rf8sim.quantize(ggd.GGD(shape, 0.02).sample(size, seed=1), fmt).codes


def skewed(size: int, share: float) -> np.ndarray:
    return (np.random.default_rng(3).random(size) < share).astype(np.uint8) * np.uint8(200)


CASES = {
    "empty": np.zeros(0, np.uint8),
    "one zero": np.zeros(1, np.uint8),
    "one code": np.array([255], np.uint8),
    "the same code": np.full(5000, 17, np.uint8),
    "two codes": np.array([0, 255], np.uint8),
    "three codes": np.array([3, 1, 2], np.uint8),
    "all codes once": np.arange(256, dtype=np.uint8),
    "uniform": np.random.default_rng(0).integers(0, 256, 20_000).astype(np.uint8),
    "all codes, one often": np.concatenate([np.arange(256, dtype=np.uint8), np.zeros(100_000, np.uint8)]),
    "rare ones": skewed(100_000, 0.001),
    "RF8 weights": weights(70_001),
    "E3M4 weights": weights(70_002, "e3m4"),
    "6-bit weights": weights(70_003, "rf6"),
    "a matrix": weights(6000).reshape(60, 100),
}
BLOCKS = (1, 2, 3, 5, 1000, 4096, 1 << 16)


@looped("coder", CODERS)
@looped("case", CASES)
def test_round_trip(case, coder):
    codes = CASES[case]
    for block_size in BLOCKS:
        if codes.size / block_size > 10_000:
            continue
        blob = compress(codes, coder, block_size=block_size)
        assert np.array_equal(decompress(blob), codes.ravel()), block_size
        assert inspect(blob).damaged == ()


@pytest.mark.parametrize("coder", CODERS)
@given(
    codes=arrays.arrays(np.uint8, st.integers(0, 400), elements=st.one_of(st.integers(0, 255), st.integers(0, 3))),
    block_size=st.integers(1, 500),
)
@example(codes=np.repeat(np.uint8(7), 13), block_size=4)
def test_round_trip_of_anything(coder, codes, block_size):
    # A short array is stored raw, which would hide the coders.
    for data in (codes, np.tile(codes, 12)):
        assert np.array_equal(decompress(compress(data, coder, block_size=block_size)), data)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("parameter", range(16))
def test_round_trip_with_every_parameter(coder, parameter):
    codes = weights(30_000)
    enough = {"rans": parameter >= 8, "huffman": parameter >= 8, "eg": parameter <= 8, "zstd": parameter >= 1}[coder]
    if not enough:
        with pytest.raises(ValueError, match=rf"{parameter}$"):
            compress(codes, coder, parameter=parameter)
        return
    blob = compress(codes, coder, parameter=parameter)
    assert np.array_equal(decompress(blob), codes)
    if len(blob) < codes.size:
        assert inspect(blob).coder == coder


def test_the_longest_exp_golomb_code():
    """All 256 codes with k = 0: the last takes 17 bits, and two of them in a row more than a word."""
    generator = np.random.default_rng(0)
    common = np.repeat(np.array([0, 255, 255], np.uint8)[None], 3000, axis=0).ravel()
    common = np.where(generator.random(common.size) < 0.7, np.uint8(0), common)
    codes = np.concatenate([np.arange(256, dtype=np.uint8), common])
    blob = compress(codes, "eg", parameter=0, order=range(256))
    assert inspect(blob).coder == "eg"
    assert np.array_equal(decompress(blob), codes)


@pytest.mark.parametrize("coder", CODERS)
def test_bytes_do_not_depend_on_threads(coder):
    codes = np.tile(weights(300_000), 4)
    blobs = {compress(codes, coder, threads=threads) for threads in (1, 2, 3, None)}
    assert len(blobs) == 1
    blob = blobs.pop()
    for threads in (1, 2, 5):
        assert np.array_equal(decompress(blob, threads=threads), codes)


@pytest.mark.parametrize(
    ("coder", "size", "checksum"),
    [("rans", 36_933, 0x5812BA9F), ("huffman", 37_164, 0x81B3482B), ("eg", 41_393, 0x29423BF7)],
)
def test_bytes_of_version_1(coder, size, checksum):
    """Blobs that were written stay readable: the bytes are those of the first version, which the decoder reads."""
    codes = (np.arange(50_000, dtype=np.uint64) ** 2 % 1009 % 61).astype(np.uint8)
    blob = compress(codes, coder, block_size=9000)
    assert (len(blob), zlib.crc32(blob)) == (size, checksum)
    assert np.array_equal(decompress(blob), codes)


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["rf8", "e4m3fn", "e3m4", "int8", "nf4"])
@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0])
def test_rans_is_within_a_fifth_of_a_percent_of_the_entropy(fmt, shape):
    """Everything counted: table, states, index and checksums."""
    codes = weights(1_000_000, fmt, shape)
    entropy = code_lengths(np.bincount(codes), "entropy").bits_per_symbol
    found = inspect(compress(codes))
    assert found.coder == "rans"
    assert entropy < found.bits_per_symbol < 1.002 * entropy


@pytest.mark.parametrize("share", [0.2, 0.01, 0.001])
def test_rans_of_sparse_codes(share):
    """Below one bit a code, where a prefix code cannot go."""
    codes = skewed(1_000_000, share)
    entropy = code_lengths(np.bincount(codes), "entropy").payload_bits
    blob = compress(codes)
    assert 8 * len(blob) < 1.002 * entropy + 8 * 64 + 200 * inspect(blob).blocks
    assert len(compress(codes, "huffman")) > codes.size / 8


@looped("coder", NAMES)
@looped("case", CASES)
def test_the_size_is_known_beforehand(coder, case):
    codes = CASES[case].ravel()
    for block_size in (1000, 1 << 16):
        blob = compress(codes, coder, block_size=block_size)
        lengths = code_lengths(np.bincount(codes, minlength=256), NAMES[coder])
        assert abs(len(blob) - stored_bits(lengths, block_size) / 8) <= 16 * max(1, inspect(blob).blocks)
        if inspect(blob).coder == coder and codes.size:
            assert inspect(blob).table_bytes == -(-lengths.table_bits // 8)
        if inspect(blob).coder == "huffman":
            words = inspect(blob).payload_bytes - 12 * inspect(blob).blocks
            assert 0 <= 8 * words - lengths.payload_bits < 128 * inspect(blob).blocks


@pytest.mark.parametrize("coder", CODERS)
def test_what_does_not_shrink_is_stored_as_it_is(coder):
    codes = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)
    blob = compress(codes, coder)
    assert inspect(blob).coder == "raw"
    assert len(blob) == codes.size + 36


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coder", CODERS)
def test_every_damaged_byte_is_found_and_named(coder):
    codes = np.tile(np.arange(8, dtype=np.uint8), 200)[:1501]
    blob = compress(codes, coder, block_size=500)
    assert inspect(blob).coder == coder
    head = len(blob) - inspect(blob).payload_bytes
    spans = np.cumsum([0, *(int.from_bytes(blob[i : i + 4], "little") for i in range(head - 36, head - 4, 8))])
    for place in range(len(blob)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(blob)
            damaged[place] ^= flip
            with pytest.raises(BlobError) as caught:
                decompress(damaged)
            if place < head:
                assert caught.value.blocks == ()
                with pytest.raises(BlobError):
                    decompress(damaged, on_damage="fill")
                continue
            block = int(np.searchsorted(spans, place - head, side="right")) - 1
            assert caught.value.blocks == inspect(damaged).damaged == (block,)
            assert f"block {block} of 4 is damaged (codes {500 * block} to {min(500 * block + 499, 1500)})" in str(
                caught.value
            )
            saved = decompress(damaged, on_damage="fill", fill=77)
            expected = codes.copy()
            expected[500 * block : 500 * (block + 1)] = 77
            assert np.array_equal(saved, expected)


@pytest.mark.parametrize("coder", CODERS)
def test_every_truncation_is_found(coder):
    codes = np.tile(np.arange(8, dtype=np.uint8), 200)
    blob = compress(codes, coder, block_size=500)
    head = len(blob) - inspect(blob).payload_bytes
    for size in range(len(blob)):
        with pytest.raises(BlobError):
            decompress(blob[:size])
        if size >= head:
            kept = decompress(blob[:size], on_damage="fill", fill=99)
            whole = 4 - len(inspect(blob[:size]).damaged)
            assert np.array_equal(kept[: 500 * whole], codes[: 500 * whole])
            assert np.all(kept[500 * whole :] == 99)
    with pytest.raises(BlobError, match="goes on for 1 bytes"):
        decompress(blob + b"\0")


def test_several_damaged_blocks_are_all_listed():
    codes = np.tile(np.arange(8, dtype=np.uint8), 1000)
    blob = bytearray(compress(codes, block_size=1000))
    size = inspect(blob).payload_bytes
    blob[len(blob) - size] ^= 1
    blob[-1] ^= 1
    with pytest.raises(BlobError, match=r"block 0 and 1 more of 8 are damaged \(codes 0 to 999 first\)") as caught:
        decompress(blob)
    assert caught.value.blocks == (0, 7)


def reseal(blob: bytearray) -> bytearray:
    """Make all checksums right again: damage that only the decoders can see."""
    found = blobs._HEAD.unpack(bytes(blob[:24]))
    index = 24 + found[7]
    blocks = -(-found[5] // found[6])
    place = index + 8 * blocks + 4
    for block in range(blocks):
        size = int.from_bytes(blob[index + 8 * block : index + 8 * block + 4], "little")
        blob[index + 8 * block + 4 : index + 8 * block + 8] = zlib.crc32(blob[place : place + size]).to_bytes(
            4, "little"
        )
        place += size
    blob[index + 8 * blocks : index + 8 * blocks + 4] = zlib.crc32(blob[: index + 8 * blocks]).to_bytes(4, "little")
    return blob


@pytest.mark.parametrize("coder", CODERS)
def test_no_bytes_make_a_decoder_fail_otherwise(coder):
    """Forged blobs, with every checksum right: an error or some codes, never a crash or a read beyond the end."""
    generator = np.random.default_rng(5)
    codes = weights(3000)
    blob = compress(codes, coder, block_size=1000)
    assert inspect(blob).coder == coder
    assert np.array_equal(decompress(reseal(bytearray(blob))), codes)
    refused = 0
    for _ in range(600):
        forged = bytearray(blob)
        for place in generator.integers(6, len(blob), generator.integers(1, 4)):
            if not 8 <= place < 24:  # sizes: that is memory, not decoding
                forged[place] = generator.integers(256)
        try:
            reseal(forged)
        except Exception:  # an index that leads out of the blob
            continue
        try:
            assert decompress(forged).size == codes.size
        except BlobError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("state", range(4))
def test_each_state_must_end_where_it_began(state):
    """A checksum that collides leaves the states: every one of them is looked at."""
    codes = np.random.default_rng(2).integers(0, 3, 8).astype(np.uint8)
    lengths = code_lengths(np.array([5, 2, 1]), "rans", parameter=3)
    table, encode = make_encoder("rans", lengths)
    decode, part = make_decoder("rans", 3, table), np.frombuffer(encode(codes), np.uint8)
    out = np.empty(8, np.uint8)
    assert decode([part], [out]) == [True]
    assert np.array_equal(out, codes)
    for bit in range(40):
        place = 4 * state + bit // 8 if bit < 32 else 16 + state
        damaged = part.copy()
        damaged[place] ^= 1 << bit % 8
        assert decode([damaged], [out]) == [False], bit
        assert decode([part, damaged], [out, out.copy()]) == [True, False], bit
        assert decode([damaged, part], [out.copy(), out]) == [False, True], bit


# --- zstd -------------------------------------------------------------------------------------------------------------


def test_without_a_library_zstd_is_refused_in_words(monkeypatch):
    codes = weights(3000)
    blob, wide = compress(codes, "zstd"), compress(codes.astype(np.uint16) * 3, "zstd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    zstd.library.cache_clear()
    try:
        for call in (lambda: compress(codes, "zstd"), lambda: decompress(blob), lambda: decompress(wide)):
            with pytest.raises(MissingLibraryError, match=r"needs the package zstandard: pip install 'rf8sim\[zstd\]'"):
                call()
        assert inspect(blob).coder == "zstd"
        assert inspect(wide).planes == ("zstd", "zstd")
        assert np.array_equal(decompress(compress(codes)), codes)
    finally:
        zstd.library.cache_clear()


def pythons_zstd() -> types.SimpleNamespace:
    """What `compression.zstd` of Python 3.14 has, made of the package zstandard."""
    import zstandard

    class Decompressor:
        def __init__(self) -> None:
            self.eof, self.unused_data = False, b""

        def decompress(self, data: bytes, max_length: int = -1) -> bytes:
            decoder = zstandard.ZstdDecompressor().decompressobj()
            decoded = decoder.decompress(data)
            self.eof, self.unused_data = decoder.eof, decoder.unused_data
            return decoded[:max_length]

    return types.SimpleNamespace(
        compress=lambda data, level: zstandard.ZstdCompressor(level=level).compress(data),
        ZstdDecompressor=Decompressor,
        ZstdError=zstandard.ZstdError,
    )


@looped("of", ["the package", "Python"])
def test_frames_of_zstd_have_the_size_that_they_must_have(of):
    import zstandard

    library = zstd._of_package(zstandard) if of == "the package" else zstd._of_python(pythons_zstd())
    data = weights(5000).tobytes()
    frame = library.compress(data, 1)
    assert library.decompress(frame, len(data)) == data
    for size in (0, 1, len(data) - 1, len(data) + 1):
        assert library.decompress(frame, size) is None
    for cut in range(0, len(frame), 97):
        assert library.decompress(frame[:cut], len(data)) is None
    assert library.decompress(frame + b"x", len(data)) is None
    assert library.decompress(frame + frame, len(data)) is None
    assert library.decompress(library.compress(bytes(1 << 24), 1), 100) is None
    undeclared = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    assert library.decompress(undeclared, len(data)) in (None, data)


def test_no_size_of_zstd_follows_from_counts():
    from rf8sim.studies.rate_distortion import coded_bits

    with pytest.raises(ValueError, match="coder 'zstd' makes is known only of a file: compare none, rans, huffman, eg"):
        coded_bits(np.array([3, 2, 1]), "zstd")


def test_a_table_of_zstd_is_refused():
    with pytest.raises(ValueError, match="zstd has none"):
        make_decoder("zstd", 1, b"x")


FORGERIES = """
import numpy as np
from rf8sim.entropy.coders import CODERS, make_decoder, make_encoder
from rf8sim.entropy.code_lengths import code_lengths
generator = np.random.default_rng(1)
codes = np.minimum(generator.geometric(0.3, 60), 9).astype(np.uint8)
counts = np.bincount(codes, minlength=10)
for coder, code in zip(CODERS, ("rans", "huffman", "exp-golomb")):
    lengths = code_lengths(counts, code)
    table, encode = make_encoder(coder, lengths)
    decode, part = make_decoder(coder, lengths.parameter, table), np.frombuffer(encode(codes), np.uint8)
    assert decode([part], [np.empty(60, np.uint8)]) == [True]
    for _ in range(300):
        forged = part.copy()
        forged[generator.integers(part.size, size=3)] = generator.integers(256, size=3)
        for size in {forged.size, int(generator.integers(forged.size + 1)) & ~3, forged.size - 4}:
            out, other = np.empty(int(generator.integers(200)), np.uint8), np.empty(60, np.uint8)
            decode([forged[:size]], [out])
            assert decode([forged[:size], part], [out, other])[1] and decode([part, forged[:size]], [other, out])[0]
            assert np.array_equal(other, codes)
print("inside")
"""


def test_no_decoder_reads_beyond_its_words():
    """The same loops without the compiler, where numpy checks every index, on forged and shortened blocks."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", FORGERIES], capture_output=True, text=True, env=environment)
    assert run.stdout == "inside\n", run.stderr


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "options", "error", "message"),
    [
        ([0.5], {}, TypeError, "codes are unsigned 8-bit integers, got dtype float64"),
        ([65536], {}, ValueError, "codes of any format run from 0 to 65535, got 65536 to 65536"),
        ([-1], {}, ValueError, "run from 0 to 255, got -1 to -1"),
        ([1], {"coder": "rams"}, ValueError, "unknown coder 'rams': did you mean 'rans'?"),
        ([1], {"block_size": 0}, ValueError, "block_size must be an integer from 1"),
        ([1], {"order": [1]}, ValueError, "`order` is only supported by coder 'eg', not by 'rans'"),
        ([1, 2], {"coder": "eg", "order": [1]}, ValueError, "an order names every symbol that occurs, each once"),
        ([1, 2], {"coder": "eg", "order": [1, 2, 1]}, ValueError, "each once"),
        ([1], {"coder": "zstd", "parameter": 20}, ValueError, "levels of zstd are from 1 to 19, got 20"),
        ([1], {"coder": "zstd", "order": [1]}, ValueError, "`order` is only supported by coder 'eg', not by 'zstd'"),
        ([1], {"threads": 0}, ValueError, "threads must be an integer of at least 1, got 0"),
    ],
)
def test_bad_input_of_compress(codes, options, error, message):
    with pytest.raises(error, match=message.replace("?", r"\?")):
        compress(codes, **options)


@pytest.mark.parametrize(
    ("blob", "options", "error", "message"),
    [
        (b"", {}, BlobError, "expected it to begin with b'RF8Z', got b'' of 0 bytes"),
        (b"PK\3\4" + bytes(100), {}, BlobError, "not a blob"),
        ("text", {}, TypeError, "a blob is bytes, got str"),
        (np.zeros(9), {}, TypeError, "a blob is bytes, got an array of float64"),
        (compress([1]), {"on_damage": "skip"}, ValueError, "unknown on_damage 'skip'"),
        (compress([1]), {"fill": 256}, ValueError, "fill must be an integer from 0 to 255, got 256"),
        (compress([1])[:4] + b"\7" + compress([1])[5:], {}, BlobError, "of version 7"),
    ],
)
def test_bad_input_of_decompress(blob, options, error, message):
    with pytest.raises(error, match=message):
        decompress(blob, **options)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda blob: np.frombuffer(blob, np.uint8)])
def test_blobs_of_every_type(kind):
    assert decompress(kind(compress([5, 6, 7]))).tolist() == [5, 6, 7]


def test_an_order_is_kept():
    """Exp-Golomb over the order of values, as the literature does, costs more than over the order of counts."""
    from rf8sim.entropy.code_lengths import zigzag_order

    codes = weights(200_000)
    order = zigzag_order(rf8sim.get_format("rf8").values).tolist()
    by_value, by_count = (compress(codes, "eg", order=given) for given in (order, None))
    assert np.array_equal(decompress(by_value), codes)
    assert len(by_count) < len(by_value)
