"""ONNX files: initializers of every type, external data, and quantized weights against ONNX's own reference."""

import json
import sys

import ml_dtypes
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from rf8sim.checkpoints.checkpoint import CheckpointError, open_checkpoint  # noqa: E402
from rf8sim.cli import main  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((6, 10)).astype(np.float32)


def model_of(initializers, nodes=(), outputs=()):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "g", [], values, initializer=list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def save(path, model, **options):
    onnx.save(model, str(path), **options)
    return path


def numbers(tensor, elements=7):
    return np.concatenate([chunk.values.ravel() for chunk in tensor.chunks(elements)]).reshape(tensor.shape)


def read(path):
    return {tensor.name: tensor for tensor in open_checkpoint(path)}


@pytest.mark.parametrize("external", [False, True])
def test_types(tmp_path, external):
    arrays = {
        "f32": WEIGHT, "f64": WEIGHT.astype(np.float64), "f16": WEIGHT.astype(np.float16),
        "bf16": WEIGHT.astype(ml_dtypes.bfloat16), "e4m3": WEIGHT.astype(ml_dtypes.float8_e4m3fn),
        "ids": np.arange(4), "four": np.arange(6).astype(ml_dtypes.int4),
    }  # fmt: skip
    model = model_of([numpy_helper.from_array(array, name) for name, array in arrays.items()])
    options = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0} if external else {}
    tensors = read(save(tmp_path / "m.onnx", model, **options))
    for name, array in arrays.items():
        if name in ("ids", "four"):
            assert "not a floating-point type" in tensors[name].skipped
            assert np.array_equal(np.concatenate(list(tensors[name].stored(2))), array)
        else:
            assert numbers(tensors[name]).tobytes() == array.tobytes()
            assert tensors[name].source.name == ("m.data" if external else "m.onnx")
    assert np.array_equal(tensors["f32"].elements(13, 3), WEIGHT.ravel()[13:16])


def test_a_folder_with_one(tmp_path):
    save(tmp_path / "m.onnx", model_of([numpy_helper.from_array(WEIGHT, "w")]))
    assert set(read(tmp_path)) == {"w"}


def test_typed_fields(tmp_path):
    initializers = [helper.make_tensor("w", TensorProto.FLOAT, (2, 3), [1.0, 2, 3, 4, 5, 6])]
    initializers.append(helper.make_tensor("h", TensorProto.FLOAT16, (2,), [0.5, -1.5]))
    tensors = read(save(tmp_path / "m.onnx", model_of(initializers)))
    assert numbers(tensors["w"]).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert numbers(tensors["h"]).tolist() == [0.5, -1.5]


def integers(shape, dtype):
    limits = ml_dtypes.iinfo(dtype)
    return RNG.integers(int(limits.min), int(limits.max) + 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("kind", ["tensor", "axis 0", "axis 1", "axis -1", "blocked"])
@pytest.mark.parametrize("scale_type", [np.float32, np.float16])
def test_dequantized_weights(tmp_path, dtype, kind, scale_type):
    is_float = dtype is ml_dtypes.float8_e4m3fn
    codes = WEIGHT.astype(dtype) if is_float else integers((6, 10), dtype)
    options = (
        {"axis": int(kind[5:])}
        if kind.startswith("axis")
        else {"axis": 1, "block_size": 4}
        if kind == "blocked"
        else {}
    )
    shape = {"tensor": (), "axis 0": (6,), "axis 1": (10,), "axis -1": (10,), "blocked": (6, 3)}[kind]
    scale = RNG.uniform(0.001, 0.1, shape).astype(scale_type)
    parts = {"w": codes, "w_scale": scale} | ({} if is_float else {"w_zero": integers(shape, dtype)})
    parts = {name: np.asarray(array) for name, array in parts.items()}
    node = helper.make_node("DequantizeLinear", list(parts), ["y"], **options)
    other = numpy_helper.from_array(WEIGHT, "bias")
    model = model_of([*(numpy_helper.from_array(a, n) for n, a in parts.items()), other], [node], ["y"])
    [expected] = ReferenceEvaluator(model).run(None, {})
    tensors = read(save(tmp_path / "m.onnx", model))
    assert set(tensors) == {"w", "bias"}
    assert tensors["w"].dtype == "float32"
    assert np.array_equal(numbers(tensors["w"]), expected.astype(np.float32))
    assert "ONNX" in tensors["w"].coded.words
    bits = {"int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "float8_e4m3fn": 8}[np.dtype(dtype).name]
    zero_bits = 0 if is_float else bits
    assert tensors["w"].coded.bits == pytest.approx(bits + scale.size * (8 * scale.itemsize + zero_bits) / codes.size)


def test_weights_of_quantized_operators(tmp_path):
    codes, scale, zero = integers((10, 6), np.int8), RNG.uniform(0.1, 1, 6).astype(np.float32), integers(6, np.int8)
    parts = {"s": np.float32(0.5), "z": np.uint8(3), "w": codes, "ws": scale, "wz": zero}
    inputs = ["x", "s", "z", "w", "ws", "wz", "s", "z"]
    model = model_of(
        [numpy_helper.from_array(np.asarray(array), name) for name, array in parts.items()],
        [helper.make_node("QLinearMatMul", inputs, ["y"])],
    )
    tensors = read(save(tmp_path / "m.onnx", model))
    expected = (codes.astype(np.float32) - zero.astype(np.float32)) * scale
    assert np.array_equal(numbers(tensors["w"]), expected)


def test_what_is_not_recognized_is_named(tmp_path):
    """The names say nothing: what the operator is tells codes and scales from weights."""
    parts = {"7": integers((10, 2, 8), np.uint8), "8": WEIGHT[0], "plain": WEIGHT}
    nodes = [helper.make_node("MatMulNBits", ["x", "7", "8"], ["y"], domain="com.microsoft")]
    path = save(tmp_path / "m.onnx", model_of([numpy_helper.from_array(a, n) for n, a in parts.items()], nodes))
    tensors = read(path)
    assert tensors["plain"].skipped is None
    for name in ("7", "8"):
        assert tensors[name].skipped == "quantized in a way that is not recognized (MatMulNBits of '7')"


def test_bad_files(tmp_path):
    whole = model_of([numpy_helper.from_array(WEIGHT, "w")]).SerializeToString()
    for data in (b"x" * 64, b"", whole[:-30]):
        (tmp_path / "m.onnx").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"m\.onnx: not an? (whole )?ONNX file"):
            open_checkpoint(tmp_path / "m.onnx")
    path = save(tmp_path / "m.onnx", model_of([numpy_helper.from_array(WEIGHT, "w")]), save_as_external_data=True,
                location="m.data", size_threshold=0)  # fmt: skip
    data = (tmp_path / "m.data").read_bytes()
    (tmp_path / "m.data").write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="ends in the middle of tensor 'w'"):
        numbers(read(path)["w"])
    (tmp_path / "m.data").unlink()
    with pytest.raises(CheckpointError, match=r"names the file 'm\.data', which is missing"):
        open_checkpoint(path)
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = "../m.data" if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="not beside the model"):
        open_checkpoint(path)


def test_scales_that_do_not_fit(tmp_path):
    parts = {"w": integers((6, 10), np.int8), "w_scale": WEIGHT[0, :7]}
    node = helper.make_node("DequantizeLinear", list(parts), ["y"])
    path = save(tmp_path / "m.onnx", model_of([numpy_helper.from_array(a, n) for n, a in parts.items()], [node]))
    with pytest.raises(CheckpointError, match="do not belong together"):
        numbers(read(path)["w"])


def test_commands(tmp_path, monkeypatch):
    codes, scale = integers((64, 64), np.int8), RNG.uniform(0.001, 0.01, 64).astype(np.float32)
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"], axis=0)
    model = model_of([numpy_helper.from_array(codes, "w"), numpy_helper.from_array(scale, "s")], [node])
    path = save(tmp_path / "m.onnx", model)
    assert main(["report", str(path), "-o", str(tmp_path / "r.json"), "-f", "rf8", "--no-figures", "-q"]) == 0
    [record] = json.loads((tmp_path / "r.json").read_text())["tensors"]
    expected = codes.astype(np.float64) * scale[:, None].astype(np.float64)
    assert record["rms"] == pytest.approx(np.sqrt((expected**2).mean()), rel=1e-6)
    assert record["stored_as"].startswith("int8 of ONNX")
    assert main(["quantize", str(path), "-o", str(tmp_path / "q.safetensors"), "-q"]) == 0
    assert main(["check", str(tmp_path / "q.safetensors"), "--against", str(path)]) == 0
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CheckpointError, match="pip install onnx"):
        open_checkpoint(path)
