"""The tutorials' commands are run as they stand, one after the other, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs").glob("tutorial_*.md"))
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def script(page):
    """Return the commands of a page; bash -e lets a command pass that fails after all where ``!`` stands before it."""
    text = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    return re.sub(r"^! (.*)$", r"if \1; then echo 'what must fail did not' >&2; exit 1; fi", text, flags=re.MULTILINE)


def needs(page):
    return [pytest.mark.torch] if "import torch" in script(page) else []


@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(page, marks=needs(page), id=page.stem) for page in TUTORIALS])
def test_commands(page, tmp_path):
    if needs(page):
        pytest.importorskip("torch", reason="PyTorch is not installed")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, command in {"rf8sim": f"{sys.executable} -m rf8sim", "python": sys.executable}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tools / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-eux", "-o", "pipefail", "-c", script(page)],
        cwd=work, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_there_is_one_for_each_kind_of_user():
    assert [page.stem for page in TUTORIALS] == ["tutorial_checkpoint", "tutorial_hardware", "tutorial_training"]
