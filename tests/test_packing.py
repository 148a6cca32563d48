"""Packed codes: a stream of bits along each row, as other tools lay it out, and as many bytes as a scheme says."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.numpy import save_file

import rf8sim
from rf8sim.checkpoints.packing import pack, packed_bytes, packed_columns, packed_shape, unpack
from rf8sim.checkpoints.plan import Plan, Recipe
from rf8sim.checkpoints.quantized import find_damage, open_quantized

widths = st.integers(1, 16)
SHAPES = {
    "vector": (768,), "matrix": (256, 384), "experts": (2, 128, 256), "convolution": (8, 16, 4, 4),
    "odd_vector": (7,), "odd": (6, 71), "odd_experts": (3, 9, 21), "odd_convolution": (5, 3, 3, 5), "conv1d": (4, 3, 5),
}  # fmt: skip


@st.composite
def codes(draw):
    """Draw a matrix of codes and their width."""
    bits = draw(widths)
    shape = draw(st.tuples(st.integers(0, 9), st.integers(0, 40)))
    return draw(arrays(np.uint8 if bits <= 8 else np.uint16, shape, elements=st.integers(0, 2**bits - 1))), bits


# --- the layout -------------------------------------------------------------------------------------------------------


@given(codes())
def test_packed_codes_come_back(drawn):
    matrix, bits = drawn
    packed = pack(matrix, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (len(matrix), packed_columns(matrix.shape[1], bits))
    unpacked = unpack(packed, matrix.shape[1], bits)
    assert unpacked.dtype == matrix.dtype
    np.testing.assert_array_equal(unpacked, matrix)


@given(codes())
def test_code_i_of_a_row_is_in_bits_i_n_to_i_n_plus_n(drawn):
    """By the definition: a row of bytes is one integer, the first byte lowest."""
    matrix, bits = drawn
    for row, packed in zip(matrix, pack(matrix, bits), strict=True):
        stream = int.from_bytes(packed.tobytes(), "little")
        assert [stream >> i * bits & (1 << bits) - 1 for i in range(row.size)] == row.tolist()
        assert stream >> row.size * bits == 0, "the bits that fill the last byte are zeros"


@given(st.lists(st.integers(1, 7), min_size=0, max_size=4).map(tuple), widths)
def test_shape_of_the_bytes(shape, bits):
    stored = packed_shape(shape, bits)
    rows = math.prod(shape[:-1]) if len(shape) < 4 else shape[0]
    columns = math.prod(shape) // rows
    assert (
        packed_bytes(shape, bits)
        == math.prod(stored) * (2 if bits == 16 else 1)
        == rows * packed_columns(columns, bits)
    )
    if bits not in (8, 16) and shape:
        assert stored[-1] == packed_columns(columns, bits)


def test_known_bytes():
    """The first of two codes of 4 bits is in the low half; four codes of 6 bits take three bytes."""
    assert pack(np.array([[0x1, 0x2, 0xE, 0xF]], np.uint8), 4).tolist() == [[0x21, 0xFE]]
    word = 0b000001 | 0b000010 << 6 | 0b100000 << 12 | 0b111111 << 18
    assert pack(np.array([[1, 2, 32, 63]], np.uint8), 6).tolist() == [list(word.to_bytes(3, "little"))]
    assert pack(np.array([[0x123, 0xABC, 0xFFF]], np.uint16), 12).tolist() == [[0x23, 0xC1, 0xAB, 0xFF, 0x0F]]
    assert pack(np.array([[0x1234, 0xABCD]], np.uint16), 16).tolist() == [[0x34, 0x12, 0xCD, 0xAB]]
    assert pack(np.array([[1, 0, 1, 1, 0, 0, 0, 1, 1]], np.uint8), 1).tolist() == [[0b10001101, 1]]


@pytest.mark.torch
def test_four_bits_are_packed_as_in_torchao():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernels = pytest.importorskip("torchao.prototype.mx_formats.kernels", reason="torchao is not installed")
    x = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    quantized = rf8sim.encode(x, "e2m1fn")
    theirs = kernels.pack_uint4(kernels.f32_to_f4_unpacked(torch.from_numpy(x)))
    np.testing.assert_array_equal(pack(quantized, 4), theirs.numpy())
    np.testing.assert_array_equal(unpack(theirs.numpy(), 64, 4), kernels.unpack_uint4(theirs).numpy())


# --- files ------------------------------------------------------------------------------------------------------------


def tensors():
    rng = np.random.default_rng(0)
    return {name: rng.laplace(scale=0.1, size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def stored_scheme(name, scheme):
    """Return the scheme that a tensor gets: channels of a convolution of one dimension are its outputs."""
    if name != "conv1d" or scheme.scales is None or scheme.scales.block != (1, -1):
        return scheme
    return replace(scheme, scales=replace(scheme.scales, block=(1, -1, -1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("packing")
    save_file(tensors(), place / "m.safetensors")
    return place


SCHEMES = [
    *rf8sim.scheme_names(),
    "int12/channel",
    "float16/tensor,max",
    "bfloat16/none",
    "posit16_es2/1x32:e8m0fnu,max",
    "takum12/none",
    "int16/1x64",
    "rf8/channel",
    "rf6/none",
    "int4/1x*x*x*",
    "int4/2x3x4",
    "uint4/tensor",
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_has_the_bytes_and_the_numbers_of_its_scheme(folder, scheme):
    """Every named scheme on one to four axes: the bits of the file are those of `Scheme.bits_per_weight`."""
    path, chosen = folder / "q.safetensors", rf8sim.as_scheme(scheme)
    rf8sim.quantize_checkpoint(folder / "m.safetensors", path, Plan(Recipe(chosen), kept=()))
    assert find_damage(path) == []
    opened, loaded = open_quantized(path), rf8sim.load_quantized(path)
    for name, tensor in tensors().items():
        stored, own = opened[name], stored_scheme(name, chosen)
        assert stored.scheme == own
        quantized = rf8sim.quantize(tensor, own)
        np.testing.assert_array_equal(stored.read().codes, quantized.codes)
        np.testing.assert_array_equal(loaded[name], quantized.dequantize())
        rows, columns = stored.matrix_shape
        padding = (8 * packed_columns(columns, own.format.bits) - columns * own.format.bits) * rows
        bits = stored.bits_per_weight * stored.size
        assert bits == pytest.approx(own.bits_per_weight(tensor.shape) * stored.size + padding)
        if not name.startswith(("odd", "conv1d")):
            assert stored.bits_per_weight == own.bits_per_weight(tensor.shape)


@pytest.mark.parametrize(
    ("scheme", "types"),
    [
        ("nvfp4", {"": "U8", ".scale": "F8_E4M3", ".scale_outer": "F32"}),
        ("mxfp8_e4m3", {"": "F8_E4M3", ".scale": "U8"}),
        ("fp8_128x128", {"": "F8_E4M3", "_scale": "F32"}),
        ("e5m2/1x32:float16,max,nearest-even", {"": "F8_E5M2", ".scale": "F16"}),
        ("int8/channel:bfloat16,max", {"": "U8", ".scale": "BF16"}),
        ("float16/channel:float16,max", {"": "F16", ".scale": "F16"}),
        ("bfloat16/none", {"": "BF16"}),
        ("posit16_es2/none", {"": "U16"}),
        ("int12/channel", {"": "U8", ".scale": "F32"}),
        ("int8/channel:posit16_es2,max", {"": "U8", ".scale": "U16"}),
        ("int8/channel:takum12,max", {"": "U8", ".scale": "U16"}),
        ("q4_1", {"": "U8", ".scale": "F16", ".zero": "F16"}),
        ("uint4/1x32:float16,max,zero=uint8", {"": "U8", ".scale": "F16", ".zero": "U8"}),
    ],
)
def test_arrays_have_the_types_of_their_formats(folder, scheme, types):
    path = folder / "t.safetensors"
    rf8sim.quantize_checkpoint(folder / "m.safetensors", path, Plan(Recipe(scheme), kept=()))
    with safe_open(path, framework="numpy") as file:
        names = [name for name in file.keys() if name.startswith("matrix")]  # noqa: SIM118
        found = {name.removeprefix("matrix"): file.get_slice(name).get_dtype() for name in names}
    assert found == types


@pytest.mark.torch
def test_pytorch_multiplies_nvfp4_as_it_is_stored(folder):
    """The scales are E4M3 numbers, not codes, to a reader of the file."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file

    path = folder / "n.safetensors"
    rf8sim.quantize_checkpoint(folder / "m.safetensors", path, Plan(Recipe("nvfp4"), kept=()))
    read = load_file(path)
    values = torch.tensor(rf8sim.get_format("e2m1fn").values, dtype=torch.float32)
    packed = read["matrix"]
    decoded = values[torch.stack([packed & 15, packed >> 4], dim=-1).reshape(256, 384).long()]
    scale = read["matrix.scale"].to(torch.float32) * read["matrix.scale_outer"]
    weights = decoded * scale.repeat_interleave(16, dim=1)
    np.testing.assert_array_equal(weights.numpy(), rf8sim.load_quantized(path)["matrix"])
