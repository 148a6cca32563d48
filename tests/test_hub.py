"""Models of Hugging Face by their ids, from a cache that the test makes; no network is used."""

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from rf8sim.checkpoints.checkpoint import CheckpointError, open_checkpoint

pytest.importorskip("huggingface_hub")
COMMIT = "a" * 40


@pytest.fixture
def cache(tmp_path):
    model = tmp_path / "cache" / "models--org--tiny"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    save_file({"w": np.eye(8, dtype=np.float32)}, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text("{}")
    return tmp_path / "cache"


def run(cache, *arguments):
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "rf8sim", *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_a_cached_model(cache, tmp_path):
    for name in ("org/tiny", f"org/tiny@{COMMIT}"):
        out = tmp_path / f"{len(name)}.safetensors"
        done = run(cache, "quantize", name, "-o", str(out), "-f", "int8")
        assert (done.returncode, done.stderr) == (0, "")
        assert out.is_file()


def test_a_model_that_is_not_there(cache):
    done = run(cache, "fit", "org/other")
    assert done.returncode == 2
    assert done.stderr.startswith("rf8sim: error: org/other: no such file or folder, and no model of Hugging Face")
    assert "Traceback" not in done.stderr


def test_a_file_comes_first(tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    np.save(tmp_path / "org" / "tiny.npy", np.eye(2))
    monkeypatch.chdir(tmp_path)
    assert [tensor.name for tensor in open_checkpoint("org/tiny.npy")] == ["tiny"]


def test_the_package_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="pip install huggingface_hub"):
        open_checkpoint("org/tiny")
    with pytest.raises(CheckpointError, match=r"^org/sub/tiny: no such file or folder$"):
        open_checkpoint("org/sub/tiny")
