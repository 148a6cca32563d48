"""Every kind of file gives back what was written, and every bad file one clear sentence."""

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from rf8sim.checkpoints.checkpoint import CHUNK_ELEMENTS, CheckpointError, open_checkpoint


def whole(tensor, elements=CHUNK_ELEMENTS, multiple=1):
    """Put a tensor together from its chunks, checking that every element comes exactly once."""
    rows, columns = tensor.matrix_shape
    out, seen = None, np.zeros((rows, columns), dtype=int)
    for chunk in tensor.chunks(elements, multiple):
        assert chunk.values.flags.c_contiguous
        assert chunk.values.flags.writeable
        assert chunk.values.dtype.isnative
        assert chunk.values.size <= max(elements, multiple) or chunk.values.shape[0] == 1
        if out is None:
            out = np.zeros((rows, columns), dtype=chunk.values.dtype)
        height, width = chunk.values.shape
        place = np.s_[chunk.row : chunk.row + height, chunk.column : chunk.column + width]
        out[place] = chunk.values
        seen[place] += 1
    assert np.all(seen == 1)
    return out.reshape(tensor.shape)


def arrays():
    rng = np.random.default_rng(1)
    return {
        "layer.weight": rng.standard_normal((7, 5)).astype(np.float32),
        "layer.bias": rng.standard_normal(7).astype(np.float16),
        "conv": rng.standard_normal((3, 2, 2, 3)),
        "scalar": np.array(2.5, dtype=np.float32),
    }


def same(tensor, expected, **how):
    got = whole(tensor, **how)
    assert got.dtype == expected.dtype
    assert got.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.fixture(params=["npz", "npz-compressed", "safetensors"])
def every_file(request, tmp_path):
    path = tmp_path / f"model.{request.param.split('-')[0]}"
    save = {"npz": np.savez, "npz-compressed": np.savez_compressed}.get(request.param)
    if save:
        save(path, **arrays())
    else:
        save_file(arrays(), path)
    return path


@pytest.mark.parametrize("elements", [1, 2, 5, 6, 12, 10**6])
def test_round_trip_whatever_the_chunk(every_file, elements):
    checkpoint = open_checkpoint(every_file)
    assert {tensor.name: tensor.shape for tensor in checkpoint} == {k: v.shape for k, v in arrays().items()}
    for tensor in checkpoint:
        assert tensor.source == every_file
        same(tensor, arrays()[tensor.name], elements=elements)


def test_a_long_row_is_cut_at_multiples(tmp_path):
    data = np.arange(2 * 100, dtype=np.float32).reshape(2, 100)
    np.save(tmp_path / "w.npy", data)
    [tensor] = open_checkpoint(tmp_path / "w.npy")
    columns = [(chunk.row, chunk.column) for chunk in tensor.chunks(elements=50, multiple=16)]
    assert columns == [(row, column) for row in (0, 1) for column in (0, 48, 96)]
    same(tensor, data, elements=50, multiple=16)
    same(tensor, data, elements=1, multiple=16)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<f2"])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_numpy_orders(tmp_path, order, dtype, kind):
    data = np.asarray(np.random.default_rng(0).standard_normal((4, 3, 5)), dtype=dtype, order=order)
    path = tmp_path / f"w.{kind}"
    np.save(path, data) if kind == "npy" else np.savez_compressed(path, w=data)
    [tensor] = open_checkpoint(path)
    assert tensor.name == "w"
    for elements in (4, 15, 10**6):
        same(tensor, data.astype(data.dtype.newbyteorder("=")), elements=elements)


def test_small_float_types_of_safetensors(tmp_path):
    words = np.arange(512, dtype=np.uint16) * 97
    bytes_ = np.arange(256, dtype=np.uint8)
    types = {"BF16": (ml_dtypes.bfloat16, words), "F8_E4M3": (ml_dtypes.float8_e4m3fn, bytes_)}
    types["F8_E5M2"] = (ml_dtypes.float8_e5m2, bytes_)
    header, body = {}, b""
    for name, (_, raw) in types.items():
        offsets = [len(body), len(body) + raw.nbytes]
        header[name] = {"dtype": name, "shape": [2, raw.size // 2], "data_offsets": offsets}
        body += raw.tobytes()
    write_safetensors(tmp_path / "m.safetensors", header, body)
    for tensor in open_checkpoint(tmp_path / "m.safetensors"):
        dtype, raw = types[tensor.name]
        same(tensor, raw.view(dtype).reshape(2, -1), elements=100)


def write_safetensors(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def test_what_is_not_a_float_is_listed_with_the_reason(tmp_path):
    tensors = {"ids": np.arange(3), "mask": np.ones(2, bool), "w": np.ones(2, np.float32)}
    save_file(tensors, tmp_path / "m.safetensors")
    others = {
        "o": np.array([{}], dtype=object),
        "c": np.ones(2, complex),
        "b": np.ones(2, ml_dtypes.bfloat16),
    }
    np.savez(tmp_path / "m.npz", **tensors, **others)
    reasons = {tensor.name: tensor.skipped for tensor in open_checkpoint(tmp_path / "m.safetensors")}
    assert reasons["w"] is None
    assert "I64 is not a floating-point type" in reasons["ids"]
    assert "BOOL" in reasons["mask"]
    reasons = {tensor.name: tensor.skipped for tensor in open_checkpoint(tmp_path / "m.npz")}
    assert reasons["w"] is None
    assert "int64" in reasons["ids"]
    assert "complex128" in reasons["c"]
    assert "pickle" in reasons["o"]
    assert "bfloat16" in reasons["b"]
    skipped = next(tensor for tensor in open_checkpoint(tmp_path / "m.npz") if tensor.name == "ids")
    with pytest.raises(CheckpointError, match="'ids' is not read: int64"):
        next(skipped.chunks())


def test_tensors_without_elements(tmp_path):
    np.savez(tmp_path / "m.npz", a=np.zeros((0, 3)), b=np.zeros((3, 0)), c=np.zeros(0, np.float32))
    for tensor in open_checkpoint(tmp_path / "m.npz"):
        assert tensor.size == 0
        assert list(tensor.chunks()) == []


# --- several files ------------------------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path):
    shards = {"a.safetensors": ["layer.weight", "layer.bias"], "b.safetensors": ["conv", "scalar"]}
    for shard, names in shards.items():
        save_file({name: arrays()[name] for name in names}, tmp_path / shard)
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path


@pytest.mark.parametrize("given", ["model.safetensors.index.json", ""])
def test_sharded(sharded, given):
    checkpoint = open_checkpoint(sharded / given)
    assert {tensor.source.name for tensor in checkpoint} == {"a.safetensors", "b.safetensors"}
    assert {tensor.name for tensor in checkpoint} == set(arrays())
    for tensor in checkpoint:
        same(tensor, arrays()[tensor.name])


def test_sharded_lacking_a_file(sharded):
    (sharded / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names the file 'b\.safetensors', which is missing"):
        open_checkpoint(sharded)


def test_sharded_lacking_a_tensor(sharded):
    save_file({"conv": arrays()["conv"]}, sharded / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"b\.safetensors: lacks the tensor 'scalar'"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": [1]}}', "\x00\xff"])
def test_bad_index(tmp_path, text):
    (tmp_path / "m.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="not an index of a checkpoint"):
        open_checkpoint(tmp_path / "m.index.json")


@pytest.mark.parametrize("shard", ["../x.safetensors", "/x.safetensors", 3])
def test_index_that_leaves_its_folder(tmp_path, shard):
    (tmp_path / "m.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(CheckpointError, match="not a file beside the index"):
        open_checkpoint(tmp_path / "m.index.json")


def test_folder_of_one_file_and_of_two(tmp_path):
    with pytest.raises(CheckpointError, match="this folder holds no checkpoint"):
        open_checkpoint(tmp_path)
    save_file(arrays(), tmp_path / "a.safetensors")
    assert len(open_checkpoint(tmp_path)) == 4
    save_file(arrays(), tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"holds 2 files \*\.safetensors \(a\.safetensors, b\."):
        open_checkpoint(tmp_path)


# --- bad files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.safetensors", "m.npz", "m.npy", "m.pt", "m.index.json", "folder"])
def test_missing(tmp_path, name):
    with pytest.raises(CheckpointError, match="no such file or folder"):
        open_checkpoint(tmp_path / name)


def test_unknown_suffix(tmp_path):
    (tmp_path / "m.weights").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"unknown kind of file: expected one of \.safetensors"):
        open_checkpoint(tmp_path / "m.weights")


def test_truncated_anywhere(every_file):
    data = every_file.read_bytes()
    for keep in (0, 1, 7, 40, len(data) // 2, len(data) - 1):
        every_file.write_bytes(data[:keep])
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            open_checkpoint(every_file)


def test_truncated_npy(tmp_path):
    np.save(tmp_path / "w.npy", np.ones(100))
    data = (tmp_path / "w.npy").read_bytes()
    for keep in (0, 5, 20, 130, len(data) - 1):
        (tmp_path / "w.npy").write_bytes(data[:keep])
        with pytest.raises(CheckpointError, match="damaged"):
            open_checkpoint(tmp_path / "w.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bit_in_an_archive(tmp_path, save):
    path = tmp_path / "m.npz"
    save(path, w=np.random.default_rng(0).standard_normal(1000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    [tensor] = open_checkpoint(path)
    with pytest.raises(CheckpointError, match="'w' cannot be read"):
        whole(tensor)


def test_file_that_shrinks_after_it_was_opened(tmp_path):
    np.save(tmp_path / "w.npy", np.ones(100))
    [tensor] = open_checkpoint(tmp_path / "w.npy")
    (tmp_path / "w.npy").write_bytes((tmp_path / "w.npy").read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="ends in the middle of tensor 'w'"):
        whole(tensor)


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]}},
        {"w": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [4, 20]}},
        {"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"w": 3},
    ],
)
def test_inconsistent_safetensors(tmp_path, header):
    write_safetensors(tmp_path / "m.safetensors", header, bytes(16))
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        open_checkpoint(tmp_path / "m.safetensors")


def test_empty_checkpoints(tmp_path):
    save_file({}, tmp_path / "m.safetensors")
    np.savez(tmp_path / "m.npz")
    for name in ("m.safetensors", "m.npz"):
        with pytest.raises(CheckpointError, match="holds no tensors"):
            open_checkpoint(tmp_path / name)


class Bomb:
    """Leaves a trace if a pickle of it is ever loaded."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle ran code')",)


def test_object_npy_is_refused(tmp_path):
    np.save(tmp_path / "w.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="never loaded"):
        open_checkpoint(tmp_path / "w.npy")


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
@pytest.mark.parametrize("name", ["x", "Ω"])
def test_records_are_refused(tmp_path, name):
    np.save(tmp_path / "w.npy", np.ones(2, dtype=[(name, "f4")]))
    with pytest.raises(CheckpointError, match="records, not numbers"):
        open_checkpoint(tmp_path / "w.npy")


def test_archive_with_something_else_in_it(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones(2))
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr("w.npy", buffer.getvalue())
    assert [tensor.name for tensor in open_checkpoint(tmp_path / "m.npz")] == ["w"]
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("w.npy", "hello")
    with pytest.raises(CheckpointError, match="'w' is not a NumPy array"):
        open_checkpoint(tmp_path / "m.npz")


def test_unreadable(tmp_path, monkeypatch):
    path = tmp_path / "w.npy"
    np.save(path, np.ones(2))

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(CheckpointError, match=r"w\.npy: cannot be read: Permission denied"):
        open_checkpoint(path)


# --- PyTorch ------------------------------------------------------------------------------------------------


def test_pytorch_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "m.pt").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match=r"install rf8sim\[torch\]"):
        open_checkpoint(tmp_path / "m.pt")


@pytest.mark.torch
class TestTorch:
    @pytest.mark.parametrize("zip_format", [True, False])
    def test_round_trip(self, tmp_path, zip_format):
        torch = pytest.importorskip("torch")
        weight = torch.randn(6, 4)
        state = {
            "epoch": 3,
            "model": {
                "w": weight, "tied": weight, "t": weight.t(), "b": weight.bfloat16(), "h": weight.half(),
                "ids": torch.arange(3), "s": weight.to_sparse(),
                "p": torch.nn.Parameter(weight.double()), "none": torch.zeros(0, 3),
            },
            "slots": [weight + 1],
        }  # fmt: skip
        if zip_format:  # PyTorch's own reader of the old format does not know float8
            state["model"]["f8"] = weight.to(torch.float8_e4m3fn)
        torch.save(state, tmp_path / "m.pt", _use_new_zipfile_serialization=zip_format)
        tensors = {tensor.name: tensor for tensor in open_checkpoint(tmp_path / "m.pt")}
        expected = weight.numpy()
        for elements in (3, 8, 10**6):
            same(tensors["model.w"], expected, elements=elements)
            same(tensors["model.t"], expected.T, elements=elements)
            same(tensors["model.b"], expected.astype(ml_dtypes.bfloat16), elements=elements)
            same(tensors["model.h"], expected.astype(np.float16), elements=elements)
            if zip_format:
                raw = weight.to(torch.float8_e4m3fn).view(torch.uint8).numpy()
                same(tensors["model.f8"], raw.view(ml_dtypes.float8_e4m3fn), elements=elements)
            same(tensors["model.p"], expected.astype(np.float64), elements=elements)
            same(tensors["slots.0"], expected + 1, elements=elements)
        assert tensors["model.tied"].skipped == "the same memory as 'model.w'"
        assert "int64" in tensors["model.ids"].skipped
        assert "sparse_coo" in tensors["model.s"].skipped
        assert list(tensors["model.none"].chunks()) == []
        assert "epoch" not in tensors

    def test_single_tensor(self, tmp_path):
        torch = pytest.importorskip("torch")
        torch.save(torch.ones(2), tmp_path / "m.bin")
        assert [tensor.name for tensor in open_checkpoint(tmp_path / "m.bin")] == ["m"]

    def test_code_is_never_run(self, tmp_path):
        torch = pytest.importorskip("torch")
        torch.save({"w": torch.ones(2), "bomb": Bomb()}, tmp_path / "m.pt")
        (tmp_path / "m.bin").write_bytes(pickle.dumps(Bomb()))
        for name in ("m.pt", "m.bin"):
            with pytest.raises(CheckpointError, match="run code"):
                open_checkpoint(tmp_path / name)

    def test_damaged(self, tmp_path):
        torch = pytest.importorskip("torch")
        torch.save({"w": torch.ones(2000)}, tmp_path / "m.pt")
        data = (tmp_path / "m.pt").read_bytes()
        for keep in (0, 3, 100, len(data) // 2, len(data) - 1):
            (tmp_path / "m.pt").write_bytes(data[:keep])
            with pytest.raises(CheckpointError, match="damaged"):
                open_checkpoint(tmp_path / "m.pt")

    def test_no_tensors(self, tmp_path):
        torch = pytest.importorskip("torch")
        torch.save({"epoch": 3}, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match="holds no tensors"):
            open_checkpoint(tmp_path / "m.pt")


# --- memory -------------------------------------------------------------------------------------------------

_READ_ALL = """
import resource, sys
from rf8sim.checkpoints.checkpoint import open_checkpoint
open_checkpoint(sys.argv[2])
total = 0
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
for warm in open_checkpoint(sys.argv[2]):
    for chunk in warm.chunks(): pass
before = peak()
for tensor in open_checkpoint(sys.argv[1]):
    for chunk in tensor.chunks():
        total += chunk.values.size
print(total, peak() - before)
"""


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    size, small = 100 << 20, np.zeros(CHUNK_ELEMENTS, np.float32)
    big, warm = tmp_path / f"big.{kind}", tmp_path / f"warm.{kind}"
    if kind == "safetensors":
        header = {"w": {"dtype": "F32", "shape": [1024, size // 1024], "data_offsets": [0, 4 * size]}}
        write_safetensors(big, header, b"")
        with big.open("r+b") as file:
            file.truncate(file.seek(0, 2) + 4 * size)  # sparse: 400 MB that take no room
        save_file({"w": small}, warm)
    else:
        with zipfile.ZipFile(big, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("w.npy", "w") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (size // 4,)}
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(size // 4 // CHUNK_ELEMENTS):
                file.write(small.tobytes())
        size //= 4
        np.savez_compressed(warm, w=small)
    command = [sys.executable, "-c", _READ_ALL, big, warm]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    total, growth_kib = map(int, done.stdout.split())
    assert total == size
    assert growth_kib < 24 << 10  # a few chunks of 4 MiB


@pytest.mark.parametrize("name", ["a.npz", "c.npy", "f.npy", "s.safetensors"])
def test_some_rows_are_those_of_the_whole(tmp_path, name):
    values = np.random.default_rng(8).normal(size=(9, 5)).astype(np.float32)
    np.savez_compressed(tmp_path / "a.npz", w=values)
    np.save(tmp_path / "c.npy", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    save_file({"v": values[::-1].copy(), "w": values}, tmp_path / "s.safetensors")
    *_, tensor = open_checkpoint(tmp_path / name)
    for rows in (range(9), range(4), range(3, 8), range(8, 9)):
        for elements in (3, 5, 11, 100):
            chunks = list(tensor.chunks(elements, rows=rows))
            assert chunks[0].row == rows.start
            assert np.array_equal(np.concatenate([c.values.ravel() for c in chunks]), values[rows].ravel())
    assert tensor.divisible == (name in ("c.npy", "s.safetensors"))
