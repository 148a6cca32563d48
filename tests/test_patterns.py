"""Numbers coded without loss: whatever their bits, they come back, and what is damaged is refused."""

import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rf8sim.entropy.blobs import BlobError
from rf8sim.entropy.coding import decompress, inspect
from rf8sim.entropy.patterns import BYTES, Cut, compress_patterns, decompress_patterns

CUTS = [BYTES, *(Cut(planes, rotation) for planes in (2, 4, 8) for rotation in (0, 1))]
EDGES = {
    np.float16: [0.0, -0.0, np.inf, -np.inf, np.nan, 6e-8, 65504.0],
    ml_dtypes.bfloat16: [0.0, -0.0, np.inf, -np.inf, np.nan, 9.2e-41, 3.38e38],
    np.float32: [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38],
    np.float64: [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7e308],
}


def blobs(packed: bytes) -> list[bytes]:
    parts = []
    while packed:
        size = int.from_bytes(packed[:8], "little")
        parts.append(packed[8 : 8 + size])
        packed = packed[8 + size :]
    return parts


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("coder", ["rans", "huffman"])
@given(data=st.binary(max_size=300), repeats=st.integers(1, 40))
def test_any_bytes_come_back(cut, coder, data, repeats):
    data = np.frombuffer(data * repeats, np.uint8)
    data = data[: data.size // cut.planes * cut.planes]
    packed = compress_patterns(data, cut, coder)
    assert decompress_patterns(packed, data.size, cut).tobytes() == data.tobytes()


@pytest.mark.parametrize("dtype", EDGES)
def test_special_numbers_and_every_payload_of_nan_come_back(dtype):
    numbers = np.tile(np.array(EDGES[dtype]).astype(dtype), 3000)
    patterns = numbers.view(f"u{numbers.itemsize}")
    all_of_16_bits = np.arange(1 << 16, dtype=np.uint64) << np.uint64(8 * numbers.itemsize - 16)
    patterns = np.concatenate([patterns, all_of_16_bits.astype(patterns.dtype)])
    data, cut = patterns.view(np.uint8), Cut(numbers.itemsize, 1)
    packed = compress_patterns(data, cut)
    assert np.array_equal(decompress_patterns(packed, data.size, cut), data)


@pytest.mark.parametrize(("dtype", "planes"), [(ml_dtypes.bfloat16, 2), (np.float32, 4)])
def test_the_first_plane_is_the_exponent(dtype, planes):
    weights = np.random.default_rng(0).normal(size=50_000).astype(dtype)
    patterns = weights.view(f"u{planes}")
    packed = blobs(compress_patterns(weights.view(np.uint8), Cut(planes, 1)))
    exponents = (patterns >> (8 * planes - 9)) & 0xFF
    assert np.array_equal(decompress(packed[0]), exponents)
    assert len(packed) == planes
    assert inspect(packed[0]).coder == "rans"
    assert inspect(packed[0]).bits_per_symbol < 3
    assert inspect(packed[-1]).coder == "raw"


def test_bfloat16_in_float32_takes_next_to_nothing_more():
    """A checkpoint that was widened: its low bytes are zero."""
    narrow = np.random.default_rng(0).normal(size=200_000).astype(ml_dtypes.bfloat16)
    wide = narrow.astype(np.float32)
    sizes = [len(compress_patterns(x.view(np.uint8), Cut(x.itemsize, 1))) for x in (narrow, wide)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_bytes_do_not_depend_on_threads():
    data = np.random.default_rng(0).normal(size=1_500_000).astype(np.float32).view(np.uint8)
    assert len({compress_patterns(data, Cut(4, 1), threads=threads) for threads in (1, 2, None)}) == 1


def test_bytes_of_the_first_version():
    """What was packed stays readable."""
    data = (np.arange(40_000, dtype=np.uint64) ** 2 % 1009 % 61).astype(np.float16).view(np.uint8)
    packed = compress_patterns(data, Cut(2, 1))
    assert (len(packed), zlib.crc32(packed)) == (32161, 0x854FDE3F)


def test_every_damaged_byte_is_refused():
    data = np.random.default_rng(0).normal(size=400).astype(np.float32).view(np.uint8)
    cut = Cut(4, 1)
    packed = compress_patterns(data, cut)
    for at in range(len(packed)):
        wrong = bytearray(packed)
        wrong[at] ^= 1 << at % 8
        with pytest.raises(BlobError):
            decompress_patterns(wrong, data.size, cut)
    for size in range(0, len(packed), 37):
        with pytest.raises(BlobError):
            decompress_patterns(packed[:size], data.size, cut)
    with pytest.raises(BlobError):
        decompress_patterns(packed + b"\0", data.size, cut)
    with pytest.raises(BlobError, match="400 codes, and 401 bytes"):
        decompress_patterns(packed, data.size + 4, cut)


def test_bytes_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="6 bytes are no numbers of 4 bytes"):
        compress_patterns(np.zeros(6, np.uint8), Cut(4, 1))
