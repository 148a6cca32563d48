"""The walkthrough of ``examples/validate_a_multiplier``: each command of its page, and what the page says it prints."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "validate_a_multiplier"
PAGE = (EXAMPLE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the example, and programs by the names that a user calls."""
    place = tmp_path_factory.mktemp("example")
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, place)
    (place / "bin").mkdir()
    for name, command in (("rf8sim", f'"{sys.executable}" -m rf8sim'), ("python", f'"{sys.executable}"')):
        (place / "bin" / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (place / "bin" / name).chmod(0o755)
    return place


def steps(block):
    """Each command, and the output that the page shows."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
    assert parts[0] == ""
    return [tuple(part.split("\n", 1)) for part in parts[1:]]


def check(folder, block):
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    for command, shown in steps(block):
        done = subprocess.run(["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.stdout == shown, command
        assert done.stderr == "", command


def test_the_page_has_its_commands():
    assert len(BLOCKS) == 4
    assert sum(len(steps(block)) for block in BLOCKS) == 9


@pytest.mark.parametrize("block", [block for block in BLOCKS if "iverilog" not in block], ids=["find", "repair"])
def test_without_tools(folder, block):
    check(folder, block)


@pytest.mark.hardware
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
@pytest.mark.parametrize("block", [block for block in BLOCKS if "iverilog" in block], ids=["find", "repair"])
def test_with_a_simulator(folder, block):
    if not (folder / "mul.in.mem").exists():
        check(folder, BLOCKS[1])
    check(folder, block)


@pytest.mark.parametrize("page", ["README.md", "docs/hardware.md", "docs/tutorial_hardware.md"])
def test_no_page_gives_a_design_what_it_must_answer(page):
    """A design behind a pipe that gets answers could copy them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    pipes = re.findall(r"^(?:! )?rf8sim vectors [^|\n]*\|", text, flags=re.MULTILINE)
    assert pipes
    assert all("--inputs-only" in pipe for pipe in pipes)


def test_the_fault_is_exactly_that():
    """Products above a midpoint go down to the lower neighbour, as if they were midpoints."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        from multiplier import multiply
    finally:
        sys.path.remove(str(EXAMPLE))
    import rf8sim

    wrong = [
        (a, b) for a in range(256) for b in range(0, 256, 5)
        if multiply(a, b) != int(rf8sim.multiply([a], [b], "rf8")[0])
    ]  # fmt: skip
    values = rf8sim.get_format("rf8").values
    assert wrong
    for a, b in wrong:
        got, right, exact = (
            values[multiply(a, b)],
            values[int(rf8sim.multiply([a], [b], "rf8")[0])],
            values[a] * values[b],
        )
        assert abs(got) < abs(exact) < abs(right)
        assert abs(exact - right) < abs(exact - got)
