"""The command that says what is installed."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np

import rf8sim
from rf8sim.cli import main
from rf8sim.cli.doctor import PACKAGES, PROGRAMS, REQUIRED


def test_the_versions_are_those_that_run(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["numpy"] == np.__version__
    assert found["rf8sim"] == rf8sim.__version__
    assert {part.name for part in (*PACKAGES, *PROGRAMS)} == found["optional"].keys()


def test_every_dependency_is_listed():
    project = tomllib.loads((Path(rf8sim.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    needed = {line.split(">")[0] for line in project["dependencies"]}
    assert needed == set(REQUIRED)


def test_what_is_missing_says_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in PROGRAMS:
        assert f"no: {part.install}" in out
        assert part.needed_for in out
