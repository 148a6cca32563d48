"""What commands print of checkpoints with many tensors: the worst rows and totals, and every row when asked."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from rf8sim.__main__ import main

COUNT = 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of tensors that get worse from one to the next: ever more weights are far outliers."""
    folder = tmp_path_factory.mktemp("terminal")
    generator = np.random.default_rng(3)
    tensors = {}
    for number in range(COUNT):
        weights = generator.standard_normal((48, 64))
        weights.reshape(-1)[:number] = 3.0 ** (number + 2)
        tensors[f"layer{number:02}.weight"] = weights.astype(np.float32)
    np.savez(folder / "many.npz", **tensors)
    np.savez(folder / "few.npz", **dict(list(tensors.items())[:3]))
    assert (
        main(["quantize", str(folder / "many.npz"), "-o", str(folder / "q.safetensors"), "-f", "int8/tensor", "-q"])
        == 0
    )
    return folder


def listed(capsys, *arguments, code=0):
    """Run a command; return the tensors in the first column in order, and all that it printed."""
    assert main([str(argument) for argument in arguments]) == code
    text = capsys.readouterr().out
    return re.findall(r"^\s*(layer\d\d)\.weight\s", text, re.MULTILINE), text


COMMANDS = {
    "fit": lambda folder, out: ["fit", folder / "many.npz", "-q"],
    "quantize": lambda folder, out: ["quantize", folder / "many.npz", "-o", out, "-f", "int8/tensor"],
    "check": lambda folder, out: ["check", folder / "q.safetensors", "--against", folder / "many.npz"],
    "plan": lambda folder, out: ["plan", folder / "many.npz", "--budget", "bits<=9", "-f", "int8/tensor"],
}
TOTALS = {"fit": "all together", "quantize": "all quantized", "check": "all quantized", "plan": "all planned"}


@pytest.mark.parametrize("name", COMMANDS)
def test_worst_rows_and_totals(capsys, monkeypatch, folder, tmp_path, name):
    monkeypatch.setenv("COLUMNS", "250")
    command = COMMANDS[name](folder, tmp_path / "out.safetensors")
    shown, text = listed(capsys, *command)
    assert len(shown) == 10
    assert "(--all: 4 more)" in text
    assert TOTALS[name] in text
    everything, text = listed(capsys, *command, "--all")
    assert everything == [f"layer{number:02}" for number in range(COUNT)]
    assert "more)" not in text
    assert TOTALS[name] in text
    three, text = listed(capsys, *command, "--worst", "3")
    assert three == shown[:3]
    assert "The 3 tensors" in text
    assert "(--all: 11 more)" in text
    if name != "fit":
        ratios = [float(line.split()[-1]) for line in text.splitlines() if line.strip().startswith("layer")]
        assert len(ratios) == 3
        assert ratios == sorted(ratios)


def test_a_few_rows_are_all_shown_in_order(capsys, monkeypatch, folder):
    monkeypatch.setenv("COLUMNS", "250")
    shown, text = listed(capsys, "fit", folder / "few.npz", "-q")
    assert shown == ["layer00", "layer01", "layer02"]
    assert "Fits by tensor" in text


def test_files_keep_every_row(capsys, folder, tmp_path):
    page = tmp_path / "page"
    assert main(["fit", str(folder / "many.npz"), "-q", "--report", str(page), "--worst", "2"]) == 0
    capsys.readouterr()
    for file in page.iterdir():
        if file.suffix in (".md", ".html", ".json"):
            text = file.read_text()
            assert all(f"layer{number:02}.weight" in text for number in range(COUNT)), file
    _, text = listed(capsys, "fit", folder / "many.npz", "-q", "--csv", "--worst", "2")
    assert text.count("\nlayer") == COUNT
    _, text = listed(capsys, "check", folder / "q.safetensors", "--against", folder / "many.npz", "--json")
    assert len(json.loads(text)["tensors"]) == COUNT


def test_the_total_is_that_of_all_tensors(capsys, monkeypatch, folder):
    monkeypatch.setenv("COLUMNS", "250")
    command = ["check", folder / "q.safetensors", "--against", folder / "many.npz"]
    _, text = listed(capsys, *command, "--worst", "1")
    _, data = listed(capsys, *command, "--json")
    tensors = json.loads(data)["tensors"]
    signal, noise = (sum(tensor[key] for tensor in tensors) for key in ("signal", "noise"))
    assert f"{10 * np.log10(signal / noise):.2f}" in re.search(r"all quantized.*", text)[0]
