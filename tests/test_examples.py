"""The example checkpoint: a real one, as documented, and trained again by its script."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

LM = Path(__file__).parents[1] / "examples" / "lm"
sys.path.insert(0, str(LM))

import corpus  # noqa: E402
import numpy_model  # noqa: E402

MATRICES = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.up": (4, 1), "mlp.down": (1, 4)}


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads((LM / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def weights() -> dict:
    return numpy_model.load(LM / "model.safetensors")[0]


@pytest.fixture(scope="module")
def windows(config) -> np.ndarray:
    return corpus.read_windows(LM / "validation.bin", config["model"]["context"] + 1)


def test_size_of_the_file():
    assert 2_000_000 < (LM / "model.safetensors").stat().st_size < 8_000_000


def test_shapes_follow_the_config(config, weights):
    size = config["model"]
    width = size["width"]
    expected = {
        "embed.weight": (size["vocabulary"], width),
        "positions.weight": (size["context"], width),
        "norm.weight": (width,),
        "head.weight": (size["vocabulary"], width),
    }
    for layer in range(size["layers"]):
        expected |= {f"blocks.{layer}.{name}.weight": (width,) for name in ("norm1", "norm2")}
        expected |= {
            f"blocks.{layer}.{name}.weight": (rows * width, columns * width)
            for name, (rows, columns) in MATRICES.items()
        }
    assert {name: tensor.shape for name, tensor in weights.items()} == expected
    assert {str(tensor.dtype) for tensor in weights.values()} == {"float32"}
    assert sum(tensor.size for tensor in weights.values()) == size["parameters"]


def test_metadata_is_the_config(config):
    from safetensors import safe_open

    with safe_open(LM / "model.safetensors", framework="numpy") as file:
        assert {key: json.loads(value) for key, value in file.metadata().items()} == config


def test_validation_set_is_the_recorded_one(config, windows):
    import hashlib

    assert len(windows) == config["validation"]["windows"] == corpus.WINDOWS
    assert hashlib.sha256(windows.tobytes()).hexdigest() == config["validation"]["sha256"]


def test_loss_is_the_documented_one(config, weights, windows):
    loss = numpy_model.evaluate(weights, config["model"], windows)
    assert loss == pytest.approx(config["validation"]["nats_per_byte"], abs=1e-4)
    assert loss / math.log(2) == pytest.approx(config["validation"]["bits_per_byte"], abs=2e-4)
    with (LM / "loss.csv").open(encoding="utf-8") as file:
        assert float(list(csv.DictReader(file))[-1]["validation"]) == pytest.approx(loss, abs=1e-4)
    readme = (LM.parent / "README.md").read_text(encoding="utf-8")
    assert f"{config['validation']['nats_per_byte']:.3f} nats" in readme
    assert f"{config['validation']['bits_per_byte']:.3f} bits" in readme


def test_shuffled_weights_know_nothing(config, weights, windows):
    """The same numbers in another order lose everything: the loss above is not the architecture's."""
    rng = np.random.default_rng(0)
    shuffled = {name: rng.permutation(tensor.ravel()).reshape(tensor.shape) for name, tensor in weights.items()}
    few = windows[::16]
    assert numpy_model.evaluate(weights, config["model"], few) < 2
    assert numpy_model.evaluate(shuffled, config["model"], few) > 4


def test_causal(config, weights, windows):
    """A byte changes no logits before it, and changes those from it on."""
    tokens = windows[:1, :-1].astype(np.int64)
    changed = tokens.copy()
    changed[0, 64] = (changed[0, 64] + 1) % 256
    before, after = (numpy_model.forward(weights, config["model"], each) for each in (tokens, changed))
    np.testing.assert_allclose(before[:, :64], after[:, :64], atol=1e-4)
    assert np.abs(before[:, 64:] - after[:, 64:]).max() > 0.1


def test_matmul_of_the_caller_sees_every_matrix(config, weights, windows):
    shapes = []

    def matmul(x, w):
        shapes.append(w.shape)
        return x @ w

    numpy_model.evaluate(weights, config["model"], windows[:1], matmul)
    width, layers = config["model"]["width"], config["model"]["layers"]
    per_layer = [(columns * width, rows * width) for rows, columns in MATRICES.values()]
    assert shapes == per_layer * layers + [(width, config["model"]["vocabulary"])]


def test_held_out_files_are_not_trained_on(tmp_path):
    for index in range(60):
        (tmp_path / f"module{index:02}.py").write_text(f"value = {index}\n")
    (tmp_path / "_sysconfigdata_x.py").write_text("machine = 1\n")
    (tmp_path / "json" / "tests").mkdir(parents=True)
    (tmp_path / "json" / "tests" / "test_x.py").write_text("test = 1\n")
    train, held_out, record = corpus.read(tmp_path)
    parts = [set(part.tobytes().split(corpus.END_OF_FILE)) - {b""} for part in (train, held_out)]
    assert [len(part) for part in parts] == record["files"]
    assert parts[0] | parts[1] == {f"value = {index}\n".encode() for index in range(60)}
    assert parts[1]
    assert not parts[0] & parts[1]


@pytest.mark.slow
def test_losses_by_format_are_the_documented_ones():
    """Two rows of the table in the README, made again by the script that it names."""
    script = LM.parent / "loss_by_format.py"
    run = subprocess.run(
        [sys.executable, str(script), "rf8", "e5m2"], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(LM.parents[1])},
    )  # fmt: skip
    readme = (LM.parent / "README.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| (\w+) \| [\d.]* ?\| ([\d.]+) \|", readme, flags=re.MULTILINE))
    measured = dict(re.findall(r"^(\w+) .*?(\d\.\d{5})\b", run.stdout, flags=re.MULTILINE))
    assert list(measured) == ["float32", "rf8", "e5m2"]
    for name, loss in measured.items():
        assert float(loss) == pytest.approx(float(documented[name]), abs=2e-5)


@pytest.mark.torch
def test_torch_gives_the_same_logits(config, weights, windows):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import model

    sizes = {key: value for key, value in config["model"].items() if key != "parameters"}
    network = model.LanguageModel(model.Config(**sizes))
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
    tokens = windows[:8, :-1].astype(np.int64)
    with torch.no_grad():
        expected = network(torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(numpy_model.forward(weights, config["model"], tokens), expected, atol=1e-4)
    assert model.evaluate(network, windows[:64]) == pytest.approx(
        numpy_model.evaluate(weights, config["model"], windows[:64]), abs=1e-5
    )


@pytest.mark.torch
@pytest.mark.slow
def test_training_again_lowers_the_loss_and_repeats(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    for name in ("first", "second"):
        command = [
            sys.executable,
            str(LM / "train.py"),
            "--quick",
            "--threads",
            "1",
            "--out",
            str(tmp_path / name),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
    with (tmp_path / "first" / "loss.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["validation"]) > 5
    assert float(rows[-1]["validation"]) < 3.5
    first, second = (numpy_model.load(tmp_path / name / "model.safetensors")[0] for name in ("first", "second"))
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, second[name])
