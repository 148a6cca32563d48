"""Files as tools and training loops leave them: read as what they mean, or refused in one sentence."""

import io
import json
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rf8sim.checkpoints.checkpoint import CheckpointError, open_checkpoint
from rf8sim.checkpoints.errors import CheckpointWarning
from rf8sim.cli import main

WEIGHT = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)


def names(path):
    return [tensor.name for tensor in open_checkpoint(path)]


def numbers(path):
    return {
        tensor.name: np.concatenate([chunk.values.ravel() for chunk in tensor.chunks()]).reshape(tensor.shape)
        for tensor in open_checkpoint(path)
    }


def by_hand(path, header):
    """Write a safetensors file of one 2 x 2 tensor with this header."""
    text = json.dumps({**header, "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + np.arange(4, dtype="<f4").tobytes())
    return path


@pytest.mark.parametrize("metadata", [None, {"rf8sim": "notes about rf8sim"}, {"rf8sim": '{"notes": 1}'}])
def test_strings_of_somebody_in_the_header(tmp_path, metadata, capsys):
    path = by_hand(tmp_path / "m.safetensors", {"__metadata__": metadata})
    assert numbers(path)["a"].tolist() == [[0, 1], [2, 3]]
    assert main(["quantize", str(path), "-o", str(tmp_path / "q.safetensors"), "-q"]) == 0
    assert main(["check", str(tmp_path / "q.safetensors"), "--against", str(path)]) == 0
    assert main(["check", str(path)]) == 2
    assert "not a quantized checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "run 'git lfs pull'"),
        (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
        (b"", "truncated or damaged"),
    ],
)
def test_what_is_downloaded_in_place_of_weights(tmp_path, data, message):
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "m.safetensors")


# --- several files ------------------------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path):
    save_file({"a": WEIGHT, "b": WEIGHT}, tmp_path / "one.safetensors")
    save_file({"c": WEIGHT}, tmp_path / "two.safetensors")
    weight_map = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return tmp_path


def test_a_byte_order_mark(sharded):
    index = sharded / "model.safetensors.index.json"
    index.write_text(index.read_text(), encoding="utf-8-sig")
    (sharded / "config.json").write_text('{"quantization_config": {}}', encoding="utf-8-sig")
    assert names(sharded) == ["a", "b", "c"]
    assert main(["quantize", str(sharded), "-o", str(sharded.parent / "out"), "-q"]) == 0


def test_a_file_that_the_index_does_not_name(sharded):
    save_file({"d": WEIGHT}, sharded / "consolidated.safetensors")
    with pytest.warns(CheckpointWarning, match=r"does not name consolidated\.safetensors, which is not read"):
        checkpoint = open_checkpoint(sharded)
    assert [tensor.name for tensor in checkpoint] == ["a", "b", "c"]
    assert len(checkpoint.notes) == 1


def test_a_tensor_in_two_files(sharded):
    save_file({"c": WEIGHT, "b": WEIGHT + 1}, sharded / "two.safetensors")
    with pytest.warns(CheckpointWarning, match=r"two\.safetensors: its tensor 'b' is left out.* in 'one\.safetensors'"):
        checkpoint = open_checkpoint(sharded)
    [tensor] = (tensor for tensor in checkpoint if tensor.name == "b")
    assert next(tensor.chunks()).values.tolist() == WEIGHT.tolist()
    for shard in ("one", "two"):  # in both, and not in the index: which one is meant cannot be known
        save_file({**load_file(sharded / f"{shard}.safetensors"), "e": WEIGHT}, sharded / f"{shard}.safetensors")
    with pytest.raises(CheckpointError, match="has 2 tensors named 'e'"):
        open_checkpoint(sharded)


def test_what_a_trainer_leaves_is_no_weight_file(tmp_path):
    np.save(tmp_path / "w.npy", WEIGHT)
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"):
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == ["w"]


# --- NumPy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(b"'descr'", b"{descr'"), (b"(7, 5)", b"(7, 5("), (b"<f4", b"<zz")])
def test_damaged_npy_header(tmp_path, old, new):
    file = io.BytesIO()
    np.save(file, WEIGHT)
    (tmp_path / "w.npy").write_bytes(file.getvalue().replace(old, new))
    with pytest.raises(CheckpointError, match=r"w\.npy: 'w' is not a NumPy array, or is damaged"):
        open_checkpoint(tmp_path / "w.npy")


def test_members_of_one_name(tmp_path):
    file = io.BytesIO()
    np.save(file, WEIGHT)
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("w.npy", file.getvalue())
        archive.writestr("w.npy", file.getvalue())
    with pytest.raises(CheckpointError, match=r"m\.npz: has 2 tensors named 'w'"):
        open_checkpoint(tmp_path / "m.npz")


def test_a_member_whose_name_is_no_text(tmp_path):
    file = io.BytesIO()
    np.savez(file, wé=WEIGHT)
    (tmp_path / "m.npz").write_bytes(file.getvalue().replace("wé".encode(), b"w\xff\xfe"))
    with pytest.raises(CheckpointError, match=r"not a whole \.npz archive"):
        open_checkpoint(tmp_path / "m.npz")


# --- PyTorch ------------------------------------------------------------------------------------------------


@pytest.mark.torch
class TestTorch:
    @pytest.fixture
    def training(self):
        import torch

        model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64))
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.randn(8, 64)).pow(2).mean().backward()
        optimizer.step()
        return model, optimizer

    @pytest.mark.parametrize(("model_key", "optimizer_key"), [
        ("model", "optimizer"), ("state_dict", "optimizer_states"), ("model_state_dict", "moments"),
    ])  # fmt: skip
    def test_training_checkpoint(self, tmp_path, training, capsys, model_key, optimizer_key):
        import torch

        model, optimizer = training
        state = optimizer.state_dict() if optimizer_key != "optimizer_states" else [optimizer.state_dict()]
        state = {model_key: model.state_dict(), optimizer_key: state, "epoch": 3, "rng": torch.get_rng_state()}
        path = tmp_path / "m.pt"
        torch.save(state, path)
        with pytest.warns(CheckpointWarning, match=f"its model is read; left out: '{optimizer_key}', 'rng'"):
            assert names(path) == ["0.weight", "0.bias", "2.weight", "2.bias"]
        report = ["report", str(path), "-o", str(tmp_path / "r"), "-f", "rf8", "--no-figures", "-q"]
        assert main(report) == 0
        assert main(["quantize", str(path), "-o", str(tmp_path / "q.safetensors")]) == 0
        stderr = capsys.readouterr().err
        assert stderr.count("m.pt is a training checkpoint") == 2  # once for each command
        assert "left out" in (tmp_path / "r/report.md").read_text()
        assert json.loads((tmp_path / "r/report.json").read_text())["notes"][0].startswith("m.pt is a training")
        assert not [name for name in load_file(tmp_path / "q.safetensors") if "exp_avg" in name or "rng" in name]

    def test_parts_of_a_model_are_all_read(self, tmp_path, training):
        import torch

        state = training[0].state_dict()
        torch.save({"encoder": state, "decoder": state, "optimizer": training[1].state_dict()}, tmp_path / "m.pt")
        with pytest.warns(CheckpointWarning, match="left out: 'optimizer'"):
            assert {name.split(".")[0] for name in names(tmp_path / "m.pt")} == {"encoder", "decoder"}
        torch.save({"optimizer": training[1].state_dict(), "epoch": 1}, tmp_path / "o.pt")
        assert all("exp_avg" in name or name.endswith("step") for name in names(tmp_path / "o.pt"))  # all there is

    def test_weights_named_like_training_state(self, tmp_path):
        import torch

        torch.save({"optimal_scaler.weight": torch.ones(2, 2), "w": torch.ones(2)}, tmp_path / "m.pt")
        assert names(tmp_path / "m.pt") == ["optimal_scaler.weight", "w"]

    def test_names_that_collide(self, tmp_path):
        import torch

        torch.save({"a.b": torch.ones(2, 2), "a": {"b": torch.ones(2, 2)}}, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match=r"has 2 tensors named 'a\.b'"):
            open_checkpoint(tmp_path / "m.pt")

    def test_meta_tensor(self, tmp_path):
        import torch

        torch.save({"w": torch.ones(2, 2), "m": torch.empty(4, 4, device="meta")}, tmp_path / "m.pt")
        by_name = {tensor.name: tensor for tensor in open_checkpoint(tmp_path / "m.pt")}
        assert by_name["w"].skipped is None
        assert by_name["m"].skipped == "a meta tensor: its numbers are not in the file"

    def test_torchscript(self, tmp_path, training):
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(training[0]).save(str(tmp_path / "m.pt"))
        with pytest.raises(CheckpointError, match=r"a TorchScript archive.*save model\.state_dict"):
            open_checkpoint(tmp_path / "m.pt")

    def test_what_safetensors_has_no_type_for(self, tmp_path, capsys):
        import torch

        torch.save({"w": torch.ones(4, 4), "c": torch.ones(4, 4).to_sparse_coo()}, tmp_path / "m.pt")
        assert main(["quantize", str(tmp_path / "m.pt"), "-o", str(tmp_path / "q.safetensors")]) == 2
        assert "tensor 'c' cannot be carried over" in capsys.readouterr().err

    @pytest.mark.parametrize("zip_format", [True, False])
    def test_damaged_in_any_byte(self, tmp_path, zip_format):
        """One byte in eleven is replaced: a file that is read or refused, and nothing else."""
        import torch

        torch.save({"w": torch.from_numpy(WEIGHT)}, tmp_path / "m.pt", _use_new_zipfile_serialization=zip_format)
        data, refused = (tmp_path / "m.pt").read_bytes(), 0
        for place in range(0, len(data), 11):
            (tmp_path / "m.pt").write_bytes(data[:place] + bytes([data[place] ^ 0x2A]) + data[place + 1 :])
            try:
                numbers(tmp_path / "m.pt")
            except CheckpointError:
                refused += 1
        assert refused > 10


def test_notes_of_library_calls_are_warnings(sharded):
    save_file({"d": WEIGHT}, sharded / "more.safetensors")
    code = "import sys, rf8sim\nfrom rf8sim.checkpoints.checkpoint import open_checkpoint\nopen_checkpoint(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, str(sharded)], capture_output=True, text=True, check=True)
    assert "CheckpointWarning" in run.stderr
