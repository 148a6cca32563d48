"""More weights of other tools: torchao, Quanto, packed experts, missing scales, our own without their header."""

import importlib
import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402
from test_others import GENERATOR, codes, fp8, noise, repeated, scale_like, words_of  # noqa: E402

import rf8sim  # noqa: E402
from rf8sim.checkpoints.checkpoint import open_checkpoint  # noqa: E402
from rf8sim.checkpoints.errors import CheckpointError  # noqa: E402
from rf8sim.checkpoints.folders import codes_name  # noqa: E402
from rf8sim.checkpoints.plan import Plan, Recipe  # noqa: E402
from rf8sim.checkpoints.protect import Protection  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _same_numbers():
    GENERATOR.manual_seed(7)


def numbers_of(path, name="l.weight"):
    [tensor] = [tensor for tensor in open_checkpoint(path) if tensor.name == name]
    return np.concatenate(list(tensor.stored(97))).reshape(tensor.shape), tensor


def opened(tmp_path, tensors, config=None):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    return {tensor.name: tensor for tensor in open_checkpoint(tmp_path)}


# torchao


@pytest.fixture(scope="module")
def torchao():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torchao")
        names = "nvfp4_tensor", "mx_tensor"
        modules = [importlib.import_module(f"torchao.prototype.mx_formats.{name}") for name in names]
        support = importlib.import_module("torchao.prototype.safetensors.safetensors_support")
    return (*modules, support.flatten_tensor_state_dict)


SHAPES = {"tiles": (128, 64), "odd": (100, 96), "two tiles": (160, 256)}


@pytest.mark.parametrize("swizzled", [False, True], ids=["rows", "tiles"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["nvfp4", "nvfp4 outer", "mxfp4", "mxfp8", "mxfp8 e5m2"])
def test_torchao_writes_what_is_read(tmp_path, torchao, kind, shape, swizzled):
    nvfp4, mx, flatten = torchao
    weight = noise(*SHAPES[shape])
    if kind.startswith("nvfp4"):
        outer = nvfp4.per_tensor_amax_to_scale(weight.abs().amax()) if "outer" in kind else None
        stored = nvfp4.NVFP4Tensor.to_nvfp4(weight, per_tensor_scale=outer, is_swizzled_scales=swizzled)
    else:
        types = {"mxfp4": torch.float4_e2m1fn_x2, "mxfp8": torch.float8_e4m3fn, "mxfp8 e5m2": torch.float8_e5m2}
        stored = mx.MXTensor.to_mx(weight, types[kind], 32, is_swizzled_scales=swizzled)
    tensors, metadata = flatten({"l.weight": stored})
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    found, tensor = numbers_of(tmp_path)
    assert tensor.skipped is None
    wanted = stored.dequantize(torch.float32).numpy()
    assert wanted.any()
    np.testing.assert_allclose(found, wanted, rtol=2**-22)
    assert len(open_checkpoint(tmp_path)) == 1


def int4_rows(weight, group):
    """As mslk's int4_row_quantize_zp and pack_int4, which Int4Tensor is made by."""
    grouped = weight.reshape(-1, group)
    low, high = grouped.amin(1, keepdim=True), grouped.amax(1, keepdim=True)
    scale = (high - low).clamp(min=1e-6) / 15
    zero = low + scale * 8
    signed = (((grouped - low) / scale).round().clamp(0, 15) - 8).to(torch.int8).reshape(weight.shape)
    packed = (signed[..., ::2] & 15) | signed[..., 1::2] << 4
    by_group = (part.reshape(*weight.shape[:-1], -1).transpose(-1, -2) for part in (scale, zero))
    return packed.to(torch.int8), *(part.contiguous() for part in by_group)


@pytest.mark.parametrize("shape", [(12, 64), (3, 8, 96), (64, 256)])
def test_four_bit_integers_of_torchao(tmp_path, shape):
    weight = noise(*shape)
    packed, scale, zero = int4_rows(weight, 32)
    assert packed.dtype == torch.int8
    tensors = {"l._weight_qdata": packed, "l._weight_scale": scale, "l._weight_zero_point": zero}
    opened(tmp_path, tensors)
    found, tensor = numbers_of(tmp_path)
    assert tensor.coded.words == "int4, a float32 scale and a zero point for 32 of a row"
    signed = torch.stack([packed << 4 >> 4, packed >> 4], -1).reshape(shape).float()
    factor, added = (part.transpose(-1, -2).repeat_interleave(32, -1) for part in (scale, zero))
    np.testing.assert_array_equal(found, (signed * factor + added).numpy())
    assert np.abs(found - weight.numpy()).max() < 0.51 * scale.max().item()


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("l._weight_qdata", {"l._weight_qdata": codes(0, 9, 2, 4, 32, 4).to(torch.int32),
                             "l._weight_scale_and_zero": noise(2, 16, 2).bfloat16()}),
        ("l._weight_qdata", {"l._weight_qdata": codes(0, 9, 16, 8).to(torch.int32), "l._weight_scale": noise(2, 16),
                             "l._weight_zero_point": codes(0, 9, 2, 16).to(torch.int8)}),
        ("l._weight_qdata", {"l._weight_qdata": codes(-8, 8, 16, 32).to(torch.int8), "l._weight_scale": noise(2, 16),
                             "l._weight_zero_point": noise(2, 16), "l._weight_act_pre_scale": noise(64)}),
        ("l._weight_qdata", {"l._weight_qdata": codes(0, 64, 16, 64).to(torch.uint8),  # six bits, of two formats
                             "l._weight_scale": torch.ones(16, 2).to(torch.float8_e8m0fnu)}),
    ],
    ids=["tiles of a GPU", "int32 of an XPU", "scaled inputs", "six bits"],
)  # fmt: skip
def test_of_torchao_what_is_not_read_is_named(tmp_path, name, tensors):
    found = opened(tmp_path, tensors)
    assert "not recognized" in found[name].skipped
    assert all(tensor.skipped and tensor.coded is None for tensor in found.values())


def test_scales_of_activations_of_torchao(tmp_path):
    tensors = {"l._weight_qdata": codes(-9, 9, 16, 32).to(torch.int8), "l._weight_scale": scale_like(16, 1),
               "l._weight_act_quant_scale": noise(1, 1)}  # fmt: skip
    found = opened(tmp_path, tensors)
    assert found["l.weight"].skipped is None
    assert found["l._weight_act_quant_scale"].skipped == "a scale of activations"


# Quanto


def quanto_pack(values, bits):
    """As optimum.quanto's pack_weights: bits of a byte are rows apart."""
    count = -(-len(values) * bits // 8)
    packed = torch.zeros((count, *values.shape[1:]), dtype=torch.uint8)
    for place in range(8 // bits):
        part = values[place * count : (place + 1) * count]
        packed[: len(part)] |= (part << bits * place).to(torch.uint8)
    return packed


@pytest.mark.parametrize("shape", [(9, 200), (16, 40), (8, 3, 5, 5)])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("whole", [False, True], ids=["float shift", "integer shift"])
def test_packed_codes_of_quanto(tmp_path, shape, bits, whole):
    raw = codes(0, 1 << bits, *shape)
    apart = (shape[0], *[1] * (len(shape) - 1))
    scale = scale_like(*apart)
    shift = codes(0, 1 << bits, *apart).to(torch.uint8) if whole else noise(*apart)
    opened(tmp_path, {"l.weight._data._data": quanto_pack(raw, bits), "l.weight._scale": scale,
                      "l.weight._shift": shift, "l.input_scale": scale_like()})  # fmt: skip
    found, tensor = numbers_of(tmp_path)
    wanted = scale * (raw.float() - shift) if whole else scale * raw - shift
    np.testing.assert_array_equal(found, wanted.numpy())
    assert tensor.coded.words.startswith(f"uint{bits}, ")


def test_groups_of_quanto_are_named(tmp_path):
    tensors = {"l.weight._data._data": codes(0, 256, 16, 128).to(torch.uint8), "l.weight._scale": scale_like(32, 1),
               "l.weight._shift": noise(32, 1)}  # fmt: skip
    found = opened(tmp_path, tensors)
    assert found["l.weight._data._data"].skipped == (
        "in groups of Quanto, which is not recognized without the weight's shape: dequantize it there"
    )
    assert all(tensor.skipped for tensor in found.values())


# compressed-tensors


@pytest.mark.parametrize(("bits", "columns", "symmetric"), [(4, 64, True), (4, 64, False), (3, 96, False)])
def test_experts_of_three_axes(tmp_path, bits, columns, symmetric):
    shape, groups = (3, 10, columns), columns // 32
    raw, scale = codes(0, 1 << bits, *shape), scale_like(3, 10, groups, dtype=torch.float16)
    zero = torch.full((3, 10, groups), 1 << bits - 1) if symmetric else codes(0, 1 << bits, 3, 10, groups)
    tensors = {"l.weight_packed": words_of(raw, bits), "l.weight_scale": scale, "l.weight_shape": torch.tensor(shape)}
    if not symmetric:
        packed = [words_of(matrix.T.contiguous(), bits).T for matrix in zero]
        tensors["l.weight_zero_point"] = torch.stack(packed)
    opened(tmp_path, tensors)
    found, tensor = numbers_of(tmp_path)
    wanted = (raw - repeated(zero, shape, 1, 1, 32)).float() * repeated(scale, shape, 1, 1, 32).float()
    np.testing.assert_array_equal(found, wanted.numpy())
    assert tensor.coded.words == f"int{bits}, a float16 scale for 32 of a row"


@pytest.mark.parametrize("symmetric", [True, False])
def test_experts_against_the_library(tmp_path, symmetric):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = pytest.importorskip("compressed_tensors.quantization")
        compressors = pytest.importorskip("compressed_tensors.compressors")
    args = quantization.QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=32, symmetric=symmetric)
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=args)
    compressor = compressors.BaseCompressor.get_value_from_registry("pack-quantized")
    state = {"weight": noise(3, 24, 64), "weight_scale": scale_like(3, 24, 2)}
    if not symmetric:
        state["weight_zero_point"] = codes(-8, 8, 3, 24, 2).to(torch.int8)
    packed = [compressor.compress({k: v[i] for k, v in state.items()}, scheme) for i in range(3)]
    wanted = torch.stack([compressor.decompress(expert, scheme)["weight"] for expert in packed])
    tensors = {
        f"l.{key}": torch.stack([expert[key] for expert in packed]) for key in packed[0] if key != "weight_shape"
    }
    opened(tmp_path, {**tensors, "l.weight_shape": torch.tensor([3, 24, 64])})
    found, _ = numbers_of(tmp_path)
    np.testing.assert_allclose(found, wanted.float().numpy(), rtol=2**-22)


@pytest.mark.parametrize("method", ["fp8", "compressed-tensors", "modelopt"])
def test_scales_that_a_config_promises(tmp_path, method):
    config = {"quantization_config": {"quant_method": method, "ignore": ["head"]}}
    tensors = {"l.weight": fp8(8, 32), "head.weight": fp8(8, 32), "norm.weight": noise(8)}
    found = opened(tmp_path, tensors, config)
    assert found["l.weight"].skipped == (
        f"float8 codes without the scales that config.json promises (quant_method {method!r})"
    )
    assert found["head.weight"].skipped is None
    rf8sim.quantize_checkpoint(tmp_path, tmp_path / "out", Plan(kept=()))
    written = load_file(tmp_path / "out" / codes_name("model.safetensors"))
    assert torch.equal(written["l.weight"].view(torch.uint8), tensors["l.weight"].view(torch.uint8))
    (tmp_path / "config.json").write_text("{}")
    assert all(tensor.skipped is None for tensor in open_checkpoint(tmp_path))


# Our own files, saved again by a tool that drops what it does not know


def saved_again(tmp_path, scheme, protection=None):
    tmp_path.mkdir(exist_ok=True)
    save_file({"l.weight": noise(16, 64)}, tmp_path / "source.safetensors")
    target = tmp_path / "ours.safetensors"
    plan = Plan(Recipe(scheme), kept=())
    rf8sim.quantize_checkpoint(tmp_path / "source.safetensors", target, plan, protection=protection)
    save_file(load_file(target), tmp_path / "model.safetensors")
    return rf8sim.load_quantized(target)["l.weight"]


READ = ("e4m3fn", "e5m2/channel", "int8", "mxfp4", "nvfp4", "mxfp8_e4m3", "fp8_128x128", "float16", "bfloat16/channel",
        "float16/tensor", "bfloat16/1x16")  # fmt: skip
NAMED = (
    "rf8",
    "takum16/channel",
    "int4/channel",
    "e2m3fn/channel",
    "bfloat16/1x16:e4m3fn,max,nearest-even/tensor:float32,max",
)


@pytest.mark.parametrize("protected", [False, True], ids=["plain", "protected"])
@pytest.mark.parametrize("scheme", READ)
def test_our_own_codes_without_their_header(tmp_path, scheme, protected):
    wanted = saved_again(tmp_path, scheme, Protection(0.02) if protected else None)
    assert ("l.weight.exact" in load_file(tmp_path / "model.safetensors")) == protected
    found, tensor = numbers_of(tmp_path / "model.safetensors")
    # of NVFP4 the library divides the scales in float32
    np.testing.assert_allclose(found, wanted.astype(np.float32), rtol=2**-22 if scheme == "nvfp4" else 0)
    assert tensor.coded is not None
    assert len(open_checkpoint(tmp_path / "model.safetensors")) == 1


@pytest.mark.parametrize("scheme", NAMED)
def test_our_own_codes_that_need_their_header_are_named(tmp_path, scheme):
    saved_again(tmp_path, scheme, Protection(0.02))
    found = open_checkpoint(tmp_path / "model.safetensors")
    assert all("not recognized" in (tensor.skipped or "") for tensor in found)


def test_exact_values_out_of_order_are_refused(tmp_path):
    saved_again(tmp_path, "e4m3fn", Protection(0.02))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["l.weight.exact_index"] = tensors["l.weight.exact_index"].flip(0).contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"of 'l\.weight' do not belong together: the places of exact values"):
        numbers_of(tmp_path / "model.safetensors")
