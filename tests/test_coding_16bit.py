"""Entropy coders on codes of 9 to 16 bits: two planes, exact round trips, the stated size, every damage refused."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_coding import NAMES, reseal

import rf8sim
from rf8sim.entropy.blobs import BlobError
from rf8sim.entropy.code_lengths import code_lengths
from rf8sim.entropy.coding import CODERS, compress, decompress, inspect, stored_bits
from rf8sim.entropy.planes import make_plane_decoder, make_plane_encoder
from rf8sim.formats import format_names

WIDE = [name for name in format_names(16) if rf8sim.get_format(name).bits > 8]


def weights(size: int, fmt: str, shape: float = 1.0) -> np.ndarray:
    import ggd

    return rf8sim.quantize(ggd.GGD(shape, 0.02).sample(size, seed=1), fmt).codes


ALL = np.arange(65536, dtype=np.uint16)
CASES = {
    "empty": ALL[:0],
    "one zero": ALL[:1],
    "one code": ALL[-1:],
    "the same code": np.full(5000, 0x1234, np.uint16),
    "the same low code": np.full(5000, 3, np.uint16),
    "all codes": ALL,
    "all codes, one often": np.concatenate([ALL, np.full(300_000, 0xBEEF, np.uint16)]),
    "uniform": np.random.default_rng(0).integers(0, 65536, 20_000).astype(np.uint16),
    "9 bits, uniform": np.random.default_rng(0).integers(0, 512, 20_000).astype(np.uint16),
    "below 256": np.random.default_rng(0).integers(0, 8, 20_000).astype(np.uint16),
    "high byte alone": (np.random.default_rng(0).integers(0, 8, 20_000) << 8).astype(np.uint16),
    "a matrix": weights(6000, "float16").reshape(60, 100),
    **{name: weights(30_001, name) for name in ("bfloat16", "int12", "posit16_es2", "takum16")},
}


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("case", CASES)
def test_round_trip_and_size(case, coder):
    codes = CASES[case]
    for block_size in (7, 1000, 4096, 1 << 17):
        if codes.size / block_size > 10_000:
            continue
        blob = compress(codes, coder, block_size=block_size)
        decoded, found = decompress(blob), inspect(blob)
        assert decoded.dtype == np.uint16
        assert np.array_equal(decoded, codes.ravel()), block_size
        assert (found.coder, found.damaged, found.count) == ("planes", (), codes.size)
        assert set(found.planes) <= {"raw", coder}
        assert len(blob) <= 2 * codes.size + 40 + (12 + 32) * found.blocks, "never much longer than as they are"
        if coder == "zstd":
            continue
        expected = stored_bits(code_lengths(np.bincount(codes.ravel(), minlength=65536), NAMES[coder]), block_size)
        assert abs(len(blob) - expected / 8) <= 32 * max(1, found.blocks)
        if found.planes == ("raw", "raw"):
            assert 8 * len(blob) == expected


@pytest.mark.parametrize("coder", CODERS)
@given(
    codes=arrays.arrays(
        np.uint16, st.integers(0, 200), elements=st.one_of(st.integers(0, 65535), st.integers(0, 3), st.just(0xFF00))
    ),
    bits=st.integers(9, 16),
    block_size=st.integers(1, 500),
)
def test_round_trip_of_anything(coder, codes, bits, block_size):
    # A short array is stored raw, which would hide the coders.
    for data in (codes >> np.uint16(16 - bits), np.tile(codes >> np.uint16(16 - bits), 15)):
        assert np.array_equal(decompress(compress(data, coder, block_size=block_size)), data)


@pytest.mark.parametrize("name", WIDE)
def test_every_code_of_every_format(name):
    codes = np.arange(1 << rf8sim.get_format(name).bits, dtype=np.uint16)
    assert np.array_equal(decompress(compress(codes)), codes)
    sample = weights(20_000, name)
    blob = compress(sample)
    assert np.array_equal(decompress(blob), sample)
    assert 8 * len(blob) < rf8sim.get_format(name).bits * sample.size + 4000


def test_integers_of_another_dtype_have_the_dtype_that_they_need():
    assert decompress(compress([1, 255])).dtype == np.uint8
    assert decompress(compress([1, 256])).dtype == np.uint16
    assert decompress(compress(np.array([1, 2], np.uint16))).dtype == np.uint16
    assert decompress(compress(np.zeros(0, np.uint16))).dtype == np.uint16


@pytest.mark.parametrize("name", ["float16", "bfloat16", "int12", "posit16_es2"])
def test_planes_are_near_the_entropy_of_a_known_distribution(name):
    """Of many more weights than codes. The code's low bits are nearly uniform, so little is lost by the planes."""
    codes = weights(4_000_000, name)
    entropy = code_lengths(np.bincount(codes, minlength=65536), "entropy").bits_per_symbol
    found = inspect(compress(codes))
    assert found.planes[0] == "rans"
    assert entropy < found.bits_per_symbol < 1.03 * entropy


@pytest.mark.parametrize("coder", CODERS)
def test_bytes_do_not_depend_on_threads(coder):
    codes = np.tile(weights(150_000, "bfloat16"), 4)
    blobs = {compress(codes, coder, threads=threads) for threads in (1, 2, 3, None)}
    assert len(blobs) == 1
    blob = blobs.pop()
    for threads in (1, 2, 5):
        assert np.array_equal(decompress(blob, threads=threads), codes)


def test_an_order_is_refused():
    with pytest.raises(ValueError, match="an order is of at most 256 symbols"):
        compress(np.array([1, 300], np.uint16), "eg", order=[1, 300])


# --- damage -----------------------------------------------------------------------------------------------------------


def small(coder: str) -> tuple[np.ndarray, bytes]:
    codes = (np.tile(np.arange(8, dtype=np.uint16), 60)[:301] * np.uint16(0x0511)).astype(np.uint16)
    blob = compress(codes, coder, block_size=100)
    assert inspect(blob).planes == (coder, coder)
    return codes, blob


@pytest.mark.parametrize("coder", CODERS)
def test_every_damaged_byte_is_found_and_named(coder):
    codes, blob = small(coder)
    head = len(blob) - inspect(blob).payload_bytes
    spans = np.cumsum([0, *(int.from_bytes(blob[i : i + 4], "little") for i in range(head - 36, head - 4, 8))])
    for place in range(len(blob)):
        for flip in (1, 0x80):
            damaged = bytearray(blob)
            damaged[place] ^= flip
            with pytest.raises(BlobError) as caught:
                decompress(damaged)
            if place < head:
                assert caught.value.blocks == ()
                with pytest.raises(BlobError):
                    inspect(damaged)
                continue
            block = int(np.searchsorted(spans, place - head, side="right")) - 1
            assert caught.value.blocks == inspect(damaged).damaged == (block,)
            expected = codes.copy()
            expected[100 * block : 100 * (block + 1)] = 0x7777
            assert np.array_equal(decompress(damaged, on_damage="fill", fill=0x7777), expected)


@pytest.mark.parametrize("coder", CODERS)
def test_every_truncation_is_found(coder):
    codes, blob = small(coder)
    head = len(blob) - inspect(blob).payload_bytes
    for size in range(len(blob)):
        with pytest.raises(BlobError):
            decompress(blob[:size])
        if size >= head:
            kept = decompress(blob[:size], on_damage="fill", fill=65535)
            intact = 100 * (4 - len(inspect(blob[:size]).damaged))
            assert np.array_equal(kept[:intact], codes[:intact])
            assert np.all(kept[intact:] == 65535)
    with pytest.raises(BlobError, match="goes on for 1 bytes"):
        decompress(blob + b"\0")


@pytest.mark.parametrize("name", ["bfloat16", "int12"])
@pytest.mark.parametrize("coder", CODERS)
def test_no_bytes_make_a_decoder_fail_otherwise(coder, name):
    """Forged blobs, with every checksum right: an error or some codes, never a crash or a read beyond the end."""
    generator = np.random.default_rng(5)
    codes = weights(3000, name)
    blob = compress(codes, coder, block_size=1000)
    assert coder in inspect(blob).planes
    assert np.array_equal(decompress(reseal(bytearray(blob))), codes)
    refused = 0
    for _ in range(600):
        forged = bytearray(blob)
        for place in generator.integers(5, len(blob), generator.integers(1, 4)):
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
        try:
            inspect(forged)
        except BlobError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("low_bits", [0, 9, 255])
def test_a_low_plane_has_1_to_8_bits(low_bits):
    _, blob = small("rans")
    forged = bytearray(blob)
    forged[6] = low_bits
    with pytest.raises(
        BlobError, match=f"invalid code table: .* 'planes' .low planes have 1 to 8 bits, not {low_bits}"
    ):
        decompress(reseal(forged))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: b"", "it ends early"),
        (lambda table: table[:5], "it ends early"),
        (lambda table: table[:-1], "ends early"),
        (lambda table: table + b"\0", "it goes on after its end"),
        (lambda table: b"\4" + table[1:], "it has an unknown coder"),
        (lambda table: table[:5] + b"\x7f" + table[6:], "ends early"),
        (lambda table: b"\1\0" + table[2:], "frequencies do not sum up"),
    ],
)
def test_tables_that_no_encoder_makes(change, message):
    codes, _ = small("rans")
    lengths = code_lengths(np.bincount(codes, minlength=65536), "rans")
    table, _ = make_plane_encoder("rans", lengths, 4)
    make_plane_decoder(lengths.low_bits, table)
    with pytest.raises(ValueError, match=message):
        make_plane_decoder(lengths.low_bits, change(table))


def test_low_codes_beyond_their_plane_are_damage():
    """A raw low plane of 4 bits with a byte of 5: its block is refused, though its checksum is right."""
    counts = np.bincount([0x010, 0x023, 0x031], minlength=65536)
    lengths = code_lengths(counts, "rans")
    table, encode = make_plane_encoder("rans", lengths, 1)
    decode, out = make_plane_decoder(lengths.low_bits, table), np.empty(3, np.uint16)
    part = np.frombuffer(encode(np.array([0x010, 0x023, 0x031], np.uint16)), np.uint8).copy()
    assert decode([part], [out]) == [True]
    assert out.tolist() == [0x010, 0x023, 0x031]
    assert lengths.low_bits < 8
    part[-1] |= 1 << lengths.low_bits
    assert decode([part], [out]) == [False]


@pytest.mark.parametrize("size", range(5))
def test_parts_of_planes_that_are_too_short(size):
    lengths = code_lengths(np.bincount([1, 300, 70], minlength=65536), "rans")
    table, encode = make_plane_encoder("rans", lengths, 1)
    part = np.frombuffer(encode(np.array([1, 300, 70], np.uint16)), np.uint8)
    assert make_plane_decoder(lengths.low_bits, table)([part[:size]], [np.empty(3, np.uint16)]) == [False]


FORGERIES = """
import numpy as np
from rf8sim.entropy.coders import CODERS
from rf8sim.entropy.code_lengths import code_lengths
from rf8sim.entropy.planes import make_plane_decoder, make_plane_encoder
generator = np.random.default_rng(1)
codes = np.minimum(generator.geometric(0.02, 400), 900).astype(np.uint16) * np.uint16(17)
counts = np.bincount(codes, minlength=65536)
for coder, code in zip(CODERS, ("rans", "huffman", "exp-golomb")):
    lengths = code_lengths(counts, code)
    table, encode = make_plane_encoder(coder, lengths, 1)
    decode, part = make_plane_decoder(lengths.low_bits, table), np.frombuffer(encode(codes), np.uint8)
    assert decode([part], [np.empty(400, np.uint16)]) == [True]
    for _ in range(100):
        forged = part.copy()
        forged[generator.integers(part.size, size=3)] = generator.integers(256, size=3)
        for size in {forged.size, int(generator.integers(forged.size + 1)), forged.size - 4}:
            outs = [np.empty(int(generator.integers(500)), np.uint16) for _ in range(2)]
            decode([forged[:size]] * 2, outs)
print("inside")
"""


def test_no_decoder_reads_beyond_its_words():
    """The same loops without the compiler, where numpy checks every index, on forged and shortened blocks."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", FORGERIES], capture_output=True, text=True, env=environment)
    assert run.stdout == "inside\n", run.stderr


def test_a_fill_is_a_code():
    with pytest.raises(ValueError, match="fill must be an integer from 0 to 65535, got 65536"):
        decompress(compress([300]), fill=65536)
