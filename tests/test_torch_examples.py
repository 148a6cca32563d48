"""The examples of training run, and say what they should."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        cwd=EXAMPLES.parent,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # models so small that threads only wait for each other
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_with_a_prior():
    script = EXAMPLES / "train_with_a_prior.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60
    output = run(str(script), "--steps", "30", "--lam", "0.3")
    found = re.findall(r"loss (\S+) nats per byte, (\S+) bits per weight, (\S+) bytes", output)
    (loss, bits, size), (loss_with, bits_with, size_with) = [
        (float(a), float(b), int(c.replace(",", ""))) for a, b, c in found
    ]
    assert 2 < loss < 5
    assert 2 < loss_with < 5
    assert bits_with < 0.9 * bits
    assert size_with < 0.9 * size
