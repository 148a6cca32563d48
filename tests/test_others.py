"""Checkpoints that other tools quantized: each layout read as the numbers it stands for, or refused by name."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

import rf8sim  # noqa: E402
from rf8sim.checkpoints.checkpoint import open_checkpoint  # noqa: E402
from rf8sim.checkpoints.errors import CheckpointError  # noqa: E402
from rf8sim.checkpoints.folders import codes_name  # noqa: E402
from rf8sim.checkpoints.plan import Plan  # noqa: E402
from rf8sim.report.sections.contents import Contents, hash_inputs  # noqa: E402
from rf8sim.report.sections.pages import REPORT  # noqa: E402
from rf8sim.studies.measuring import run  # noqa: E402

pytestmark = pytest.mark.torch

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
GENERATOR = torch.Generator().manual_seed(7)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def codes(low: int, high: int, *shape: int) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=GENERATOR)


def scale_like(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return (0.001 + torch.rand(shape, generator=GENERATOR)).to(dtype)


def words_of(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack along the last axis, one bit after the other, the lowest first."""
    rows = []
    for row in values.reshape(-1, values.shape[-1]).tolist():
        whole = sum(value << place * bits for place, value in enumerate(row))
        rows.append([(whole >> 32 * word & 0xFFFFFFFF) for word in range(-(-len(row) * bits // 32))])
    packed = torch.tensor(rows, dtype=torch.int64)
    return torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32).reshape(*values.shape[:-1], -1)


def e2m1(nibbles: torch.Tensor) -> torch.Tensor:
    return torch.tensor([*E2M1, *(-value for value in E2M1)])[nibbles]


def two_to_a_byte(nibbles: torch.Tensor) -> torch.Tensor:
    return (nibbles[..., 0::2] | nibbles[..., 1::2] << 4).to(torch.uint8)


def repeated(scale: torch.Tensor, shape: tuple[int, ...], *blocks: int) -> torch.Tensor:
    for axis, block in enumerate(blocks):
        scale = scale.repeat_interleave(block, axis)
    return scale[tuple(slice(length) for length in shape)]


def fp8(*shape: int, dtype=torch.float8_e4m3fn) -> torch.Tensor:
    return noise(*shape).mul(20).to(dtype)


@pytest.fixture(autouse=True)
def _same_numbers():
    GENERATOR.manual_seed(7)


# Each layout: a name, the tensors in the file, the weight's name, and its numbers by the layout's own formula.


def deepseek():
    weight, scale = fp8(300, 260), scale_like(3, 3)
    return {"l.weight": weight, "l.weight_scale_inv": scale}, "l.weight", (
        weight.float() * repeated(scale, weight.shape, 128, 128))  # fmt: skip


def deepseek_experts():
    weight, scale = fp8(3, 256, 130), scale_like(3, 2, 2)
    return {"e.gate_up_proj": weight, "e.gate_up_proj_scale_inv": scale}, "e.gate_up_proj", (
        weight.float() * repeated(scale, weight.shape, 1, 128, 128))  # fmt: skip


def float_tensor():
    weight, scale = fp8(12, 40, dtype=torch.float8_e5m2), scale_like(1)
    return {"l.weight": weight, "l.weight_scale": scale, "l.input_scale": scale_like(1)}, "l.weight", (
        weight.float() * scale)  # fmt: skip


def float_channel():
    weight, scale = fp8(12, 40), scale_like(12, 1, dtype=torch.bfloat16)
    return {"l.weight": weight, "l.weight_scale": scale}, "l.weight", weight.float() * scale.float()


def float_groups():
    weight, scale = fp8(6, 96), scale_like(6, 3)
    return {"l.weight": weight, "l.weight_scale": scale}, "l.weight", (
        weight.float() * repeated(scale, weight.shape, 1, 32))  # fmt: skip


def mxfp8():
    weight, exponent = fp8(6, 96), codes(110, 140, 6, 3).to(torch.uint8)
    scale = torch.exp2(exponent.float() - 127)
    return {"l.weight": weight, "l.weight_scale": exponent}, "l.weight", (
        weight.float() * repeated(scale, weight.shape, 1, 32))  # fmt: skip


def int_channel():
    weight, scale, zero = codes(-128, 128, 9, 40).to(torch.int8), scale_like(9, 1), codes(-9, 9, 9, 1).to(torch.int8)
    return {"l.weight": weight, "l.weight_scale": scale, "l.weight_zero_point": zero}, "l.weight", (
        (weight.float() - zero.float()) * scale)  # fmt: skip


def packed_int(bits: int = 4, columns: int = 64, group: int = 32, asymmetric: bool = False):
    shape = (10, columns)
    raw, scale = codes(0, 1 << bits, *shape), scale_like(10, columns // group, dtype=torch.float16)
    zero = (
        codes(0, 1 << bits, 10, columns // group) if asymmetric else torch.full((10, columns // group), 1 << bits - 1)
    )
    tensors = {"l.weight_packed": words_of(raw, bits), "l.weight_scale": scale, "l.weight_shape": torch.tensor(shape)}
    if asymmetric:
        tensors["l.weight_zero_point"] = words_of(zero.T.contiguous(), bits).T.contiguous()
    numbers = (raw - repeated(zero, shape, 1, group)).float() * repeated(scale, shape, 1, group).float()
    return tensors, "l.weight", numbers


def nvfp4(divide: bool = True):
    nibbles, scale, outer = codes(0, 16, 6, 64), fp8(6, 4).abs(), scale_like(1) * 100
    packed = two_to_a_byte(nibbles)
    name = {"l.weight_packed": packed, "l.weight_global_scale": outer}
    if not divide:
        name = {"l.weight": packed, "l.weight_scale_2": outer.reshape(()), "l.input_scale": scale_like()}
    factor = scale.double() / outer.double() if divide else scale.double() * outer.double()
    return {**name, "l.weight_scale": scale}, "l.weight", (
        e2m1(nibbles).double() * repeated(factor, nibbles.shape, 1, 16)).float()  # fmt: skip


def mxfp4():
    nibbles, exponent = codes(0, 16, 6, 96), codes(110, 140, 6, 3).to(torch.uint8)
    scale = torch.exp2(exponent.float() - 127)
    return {"l.weight_packed": two_to_a_byte(nibbles), "l.weight_scale": exponent}, "l.weight", (
        e2m1(nibbles) * repeated(scale, nibbles.shape, 1, 32))  # fmt: skip


def gpt_oss():
    nibbles, exponent = codes(0, 16, 3, 5, 96), codes(110, 140, 3, 5, 3).to(torch.uint8)
    scale = torch.exp2(exponent.float() - 127)
    blocks = two_to_a_byte(nibbles).reshape(3, 5, 3, 16)
    return {"m.gate_up_proj_blocks": blocks, "m.gate_up_proj_scales": exponent}, "m.gate_up_proj", (
        e2m1(nibbles) * repeated(scale, nibbles.shape, 1, 1, 32))  # fmt: skip


def gptq(bits: int = 4, in_order: bool = True):
    inputs, outputs, groups = 64, 32, 2
    raw, zero, scale = codes(0, 1 << bits, inputs, outputs), codes(0, 1 << bits, groups, outputs), (
        scale_like(groups, outputs, dtype=torch.float16))  # fmt: skip
    order = torch.arange(inputs) // 32 if in_order else codes(0, groups, inputs)
    stored = (zero - 1) % (1 << bits)
    tensors = {"l.qweight": words_of(raw.T.contiguous(), bits).T.contiguous(), "l.qzeros": words_of(stored, bits),
               "l.scales": scale, "l.g_idx": order.to(torch.int32)}  # fmt: skip
    return tensors, "l.weight", ((raw - zero[order]).float() * scale[order].float()).T


def awq():
    inputs, outputs, order = 64, 48, [0, 2, 4, 6, 1, 3, 5, 7]
    raw, zero = codes(0, 16, inputs, outputs), codes(0, 16, 2, outputs)
    scale = scale_like(2, outputs, dtype=torch.float16)

    def packed(values: torch.Tensor) -> torch.Tensor:
        return words_of(values.reshape(len(values), -1, 8)[:, :, order], 4).reshape(len(values), -1)

    groups = torch.arange(inputs) // 32
    tensors = {"l.qweight": packed(raw), "l.qzeros": packed(zero), "l.scales": scale}
    return tensors, "l.weight", ((raw - zero[groups]).float() * scale[groups].float()).T


def nf4(nested: bool = False):
    shape, block = (10, 52), 64
    raw = codes(0, 16, 520)
    table, count = torch.sort(noise(16)).values, -(-520 // block)
    state = {"quant_type": "nf4", "blocksize": block, "dtype": "bfloat16", "shape": list(shape)}
    tensors = {"l.weight": (raw[0::2] << 4 | raw[1::2]).to(torch.uint8)[:, None], "l.weight.quant_map": table}
    scale = scale_like(count)
    if nested:
        inner, second, outer = codes(0, 256, count).to(torch.uint8), noise(256), scale_like(-(-count // 4))
        state |= {"nested_blocksize": 4, "nested_dtype": "float32", "nested_offset": 0.25}
        tensors |= {"l.weight.nested_absmax": outer, "l.weight.nested_quant_map": second}
        scale = second[inner.long()] * outer.repeat_interleave(4)[:count] + 0.25
    tensors["l.weight.absmax"] = inner if nested else scale
    written = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    tensors["l.weight.quant_state.bitsandbytes__nf4"] = written
    return tensors, "l.weight", (table[raw] * scale.repeat_interleave(block)[:520]).reshape(shape)


def bnb_int8():
    weight, largest = codes(-127, 128, 9, 40).to(torch.int8), scale_like(9)
    tensors = {"l.weight": weight, "l.SCB": largest, "l.weight_format": torch.tensor(0, dtype=torch.uint8)}
    return tensors, "l.weight", (weight.double() * (largest.double() / 127)[:, None]).float()


def quanto():
    weight, scale = codes(-127, 128, 9, 40).to(torch.int8), scale_like(9, 1)
    tensors = {"l.weight._data": weight, "l.weight._scale": scale, "l.input_scale": scale_like(), "l.output_scale":
               scale_like()}  # fmt: skip
    return tensors, "l.weight", weight.float() * scale


def torchao():
    weight, scale = fp8(12, 40), scale_like(12, 1)
    return {"l._weight_qdata": weight, "l._weight_scale": scale}, "l.weight", weight.float() * scale


LAYOUTS = {
    "DeepSeek": deepseek, "DeepSeek experts": deepseek_experts, "FP8 tensor": float_tensor,
    "FP8 channel": float_channel, "FP8 groups": float_groups, "MXFP8": mxfp8, "INT8": int_channel, "INT4": packed_int,
    "INT4 zero points": lambda: packed_int(asymmetric=True), "INT8 packed": lambda: packed_int(8),
    "INT3 packed": lambda: packed_int(3, 96), "INT4 odd": lambda: packed_int(4, 36, 36), "NVFP4": nvfp4,
    "ModelOpt NVFP4": lambda: nvfp4(divide=False), "MXFP4": mxfp4, "gpt-oss": gpt_oss, "GPTQ": gptq,
    "GPTQ 8 bits": lambda: gptq(8), "GPTQ 3 bits": lambda: gptq(3), "GPTQ reordered": lambda: gptq(4, False),
    "AWQ": awq, "NF4": nf4, "NF4 nested": lambda: nf4(nested=True), "LLM.int8": bnb_int8, "Quanto": quanto,
    "torchao": torchao,
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_the_numbers_it_stands_for(tmp_path, layout):
    tensors, name, numbers = LAYOUTS[layout]()
    save_file({**tensors, "norm.weight": torch.ones(8)}, tmp_path / "model.safetensors")
    found = {tensor.name: tensor for tensor in open_checkpoint(tmp_path)}
    weight = found.pop(name)
    assert weight.shape == tuple(numbers.shape)
    assert weight.skipped is None
    assert weight.coded is not None
    assert set(weight.coded.parts) <= set(tensors)
    bits = 8 * sum(tensors[part].nbytes for part in weight.coded.parts) / numbers.numel()
    assert weight.coded.bits == bits
    got = np.concatenate(list(weight.stored(97)))  # pieces that end inside rows
    np.testing.assert_array_equal(got, numbers.numpy().astype(np.float32).reshape(-1))
    whole = np.concatenate([chunk.values.reshape(-1) for chunk in weight.chunks(rows=range(1, weight.matrix_shape[0]))])
    np.testing.assert_array_equal(whole, got[weight.matrix_shape[1] :])
    assert found.pop("norm.weight").skipped is None
    assert all(tensor.skipped == "a scale of activations" for tensor in found.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_companion_is_never_rounded(tmp_path, layout):
    """Quantizing anew starts from the numbers; what belongs to other things is carried over bit by bit."""
    tensors, name, numbers = LAYOUTS[layout]()
    (tmp_path / "source").mkdir()
    save_file({**tensors, "norm.weight": torch.ones(8)}, tmp_path / "source" / "model.safetensors")
    (tmp_path / "source" / "config.json").write_text(json.dumps({"a": 1, "quantization_config": {"quant_method": "?"}}))
    rf8sim.quantize_checkpoint(tmp_path / "source", tmp_path / "out")
    written = load_file(tmp_path / "out" / codes_name("model.safetensors"))
    [weight] = [tensor for tensor in open_checkpoint(tmp_path / "source") if tensor.name == name]
    assert weight.coded is not None
    for part, tensor in tensors.items():
        if part in weight.coded.parts:
            assert part == name or part not in written or part == f"{name}_scale"
        else:
            assert torch.equal(written[part], tensor)
    back = rf8sim.load_quantized(tmp_path / "out")[name]
    error = np.square(back - numbers.numpy()).sum() / np.square(numbers.numpy()).sum()
    assert back.shape == tuple(numbers.shape)
    assert error < 10**-2.2
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] != "?"  # that of RF8, which stops other tools
    assert config["rf8sim_reason"] == f"{name!r} is stored as rf8/channel, which they do not have"


def test_codes_and_scales_in_different_files(tmp_path):
    tensors, name, numbers = deepseek()
    for number, (part, tensor) in enumerate(tensors.items()):
        save_file({part: tensor}, tmp_path / f"{number}.safetensors")
    index = {"weight_map": {part: f"{number}.safetensors" for number, part in enumerate(tensors)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    [weight] = open_checkpoint(tmp_path)
    assert weight.name == name
    np.testing.assert_array_equal(np.concatenate(list(weight.stored())), numbers.numpy().reshape(-1))


def test_the_config_says_what_shapes_leave_open(tmp_path):
    """Four scales for 96 rows: blocks of 24 by their number, of 30 by the model's config."""
    weight, scale = fp8(96, 32), scale_like(4, 1)
    save_file({"l.weight": weight, "l.weight_scale_inv": scale}, tmp_path / "model.safetensors")
    for block, said in ((24, {}), (30, {"quantization_config": {"weight_block_size": [30, 32]}})):
        (tmp_path / "config.json").write_text(json.dumps(said))
        [tensor] = open_checkpoint(tmp_path)
        wanted = weight.float() * repeated(scale, weight.shape, block, 32)
        np.testing.assert_array_equal(np.concatenate(list(tensor.stored())), wanted.numpy().reshape(-1))


def test_second_form_of_gptq(tmp_path):
    tensors, _, numbers = gptq()
    zero, scale = tensors["l.qzeros"], tensors["l.scales"]
    tensors["l.qzeros"] = words_of((codes_of(zero, 32) + 1) % 16, 4)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"quantization_config": {"checkpoint_format": "gptq_v2"}}')
    [tensor] = open_checkpoint(tmp_path)
    assert scale.dtype == torch.float16
    np.testing.assert_array_equal(np.concatenate(list(tensor.stored())), numbers.numpy().reshape(-1))


def codes_of(words: torch.Tensor, columns: int) -> torch.Tensor:
    return torch.stack([words[:, place // 8].long() >> 4 * (place % 8) & 15 for place in range(columns)], dim=1)


@pytest.mark.parametrize(
    ("tensors", "owner"),
    [
        ({"l.weight": codes(0, 255, 8, 32).to(torch.uint8), "l.weight.scale": scale_like(8)}, "l.weight"),
        ({"l.qweight": codes(0, 99, 8, 32).to(torch.int32), "l.scales": scale_like(3, 5)}, "l.qweight"),
        ({"l.weight": fp8(8, 32), "l.weight_scale": scale_like(5, 7)}, "l.weight"),
        ({"l.weight._data._data": codes(0, 255, 8, 32).to(torch.uint8), "l.weight._scale": scale_like(8, 1),
          "l.weight._shift": scale_like(8, 1)}, "l.weight._data._data"),
    ],
)  # fmt: skip
def test_what_is_not_recognized_is_named_and_not_measured(tmp_path, tensors, owner):
    save_file({**tensors, "norm.weight": noise(64)}, tmp_path / "model.safetensors")
    found = {tensor.name: tensor.skipped or "" for tensor in open_checkpoint(tmp_path)}
    assert "not recognized" in found[owner]
    assert all("not recognized" in found[name] for name in tensors)
    measured = run([tmp_path])
    assert [tensor.name for tensor in measured.tensors] == ["norm.weight"]
    rf8sim.quantize_checkpoint(tmp_path, tmp_path / "out", Plan(kept=()))
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written[name].view(torch.uint8), tensors[name].view(torch.uint8)) for name in tensors)


def test_plain_and_quantized_under_one_name_is_refused(tmp_path):
    tensors, _, _ = gptq()
    save_file({**tensors, "l.weight": noise(32, 64)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"'l\.weight' twice, plain and quantized"):
        open_checkpoint(tmp_path)


def test_plain_float8_and_plain_scales_are_measured_as_ever(tmp_path):
    """A cast to float8 has no scales, and a layer's learned scale belongs to no codes."""
    save_file({"l.weight": fp8(8, 32), "gate.scale": noise(8), "gate.weight": noise(8, 8)}, tmp_path / "m.safetensors")
    assert all(tensor.coded is None and tensor.skipped is None for tensor in open_checkpoint(tmp_path))


@pytest.fixture(scope="module")
def others():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("compressed_tensors.quantization"), pytest.importorskip(
            "compressed_tensors.compressors")  # fmt: skip


PRESETS = {
    "float-quantized": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "int-quantized": {"num_bits": 8, "type": "int", "strategy": "channel"},
    "pack-quantized": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32},
    "nvfp4-pack-quantized": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
}


@pytest.mark.parametrize("form", PRESETS)
def test_compressed_tensors_writes_what_is_read(tmp_path, others, form):
    """The library's own compressor and decompressor, in float32: they may round twice where one rounding is meant."""
    quantization, compressors = others
    args = quantization.QuantizationArgs(**PRESETS[form], symmetric=True)
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=args)
    weight, size = noise(8, 64), PRESETS[form].get("group_size", 64)
    scale = weight.reshape(8, -1, size).abs().amax(-1) / {"float": 448, "int": 127}[args.type]
    state = {"weight": weight, "weight_scale": scale}
    if form.startswith("nvfp4"):
        state |= {"weight_global_scale": torch.tensor([400.0]), "weight_scale": (scale * 400 * 70).to(
            torch.float8_e4m3fn).float()}  # fmt: skip
    compressor = compressors.BaseCompressor.get_value_from_registry(form)
    packed = compressor.compress(state, scheme)
    save_file({f"l.{name}": tensor.contiguous() for name, tensor in packed.items()}, tmp_path / "model.safetensors")
    [tensor] = open_checkpoint(tmp_path)
    wanted = compressor.decompress(packed, scheme)["weight"].float().numpy()
    assert wanted.any()
    np.testing.assert_allclose(np.concatenate(list(tensor.stored())).reshape(8, 64), wanted, rtol=2**-8 if
                               form.startswith("nvfp4") else 2**-22)  # fmt: skip


def test_an_error_names_the_file_of_a_damaged_companion(tmp_path):
    tensors, _, _ = deepseek()
    path = Path(tmp_path / "model.safetensors")
    save_file(tensors, path)
    [tensor] = open_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        list(tensor.stored())


def test_a_report_says_what_was_quantized(tmp_path):
    tensors, name, numbers = deepseek()
    save_file({**tensors, "other.weight": noise(64, 32)}, tmp_path / "model.safetensors")
    experiment = run([tmp_path])
    record = next(tensor for tensor in experiment.tensors if tensor.name == name)
    assert record.rms == pytest.approx(float(numbers.double().square().mean().sqrt()), rel=1e-5)
    assert record.stored_as == "e4m3fn, a float32 scale for 128 x 128"
    assert record.stored_bits == pytest.approx(8 + 32 * 9 / numbers.numel())
    page = REPORT.page(Contents(experiment), figures=False)
    assert "97.44 % quantized already, measured as codes times scales" in " ".join(page.verdict)
    [table] = [table for section in page.sections for table in section.tables if "quantized already" in table.caption]
    assert table.rows == (("e4m3fn, a float32 scale for 128 x 128", 1, numbers.numel(), record.stored_bits),)


def test_inputs_are_all_files(tmp_path):
    """The file that holds the scales alone is an input too."""
    tensors, _, _ = deepseek()
    for number, (part, tensor) in enumerate(tensors.items()):
        save_file({part: tensor}, tmp_path / f"{number}.safetensors")
    index = {"weight_map": {part: f"{number}.safetensors" for number, part in enumerate(tensors)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [file.name.rpartition("/")[2] for file in hash_inputs([tmp_path])] == ["0.safetensors", "1.safetensors"]


@pytest.mark.parametrize(
    ("layout", "part", "value"),
    [
        (gptq, "l.g_idx", torch.full((64,), 99, dtype=torch.int32)),
        (lambda: packed_int(asymmetric=True), "l.weight_zero_point", torch.zeros(1, 1, dtype=torch.int32)),
        (lambda: nf4(nested=True), "l.weight.nested_quant_map", torch.zeros(3)),
    ],
)
def test_companions_that_do_not_fit_are_refused_in_words(tmp_path, layout, part, value):
    tensors, name, _ = layout()
    save_file({**tensors, part: value}, tmp_path / "model.safetensors")
    [tensor] = [tensor for tensor in open_checkpoint(tmp_path) if tensor.name == name]
    with pytest.raises(CheckpointError, match=r"codes and scales of 'l\.weight' do not belong together"):
        list(tensor.stored())


@pytest.mark.parametrize("state", [b"{", b"[]", b'{"shape": 3, "blocksize": 64}', b'{"shape": ["a"], "blocksize": 64}'])
def test_a_description_that_is_none_is_not_recognized(tmp_path, state):
    tensors, name, _ = nf4()
    tensors["l.weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(state), dtype=torch.uint8)
    save_file(tensors, tmp_path / "model.safetensors")
    found = {tensor.name: tensor.skipped or "" for tensor in open_checkpoint(tmp_path)}
    assert "not recognized" in found[name]


def test_an_e8m0_scale_can_be_nan_and_a_product_infinite(tmp_path):
    weight, exponent = torch.full((2, 64), 448.0).to(torch.float8_e4m3fn), torch.tensor([[255, 127], [254, 0]])
    save_file({"l.weight": weight, "l.weight_scale": exponent.to(torch.uint8)}, tmp_path / "model.safetensors")
    [tensor] = open_checkpoint(tmp_path)
    numbers = np.concatenate(list(tensor.stored())).reshape(2, 2, 32)
    assert np.isnan(numbers[0, 0]).all()
    assert (numbers[0, 1] == 448).all()
    assert np.isinf(numbers[1, 0]).all()
    assert (numbers[1, 1] == np.float32(448 * 2.0**-127)).all()
