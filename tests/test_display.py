"""What formats, tensors and experiments show of themselves in a notebook: tables that are well-formed."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

import rf8sim
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import run


def table(thing):
    """Parse the table; return its caption and its rows by their names."""
    tree = ET.fromstring(thing._repr_html_())
    rows = {row[0].text: row[1].text for row in tree.iter("tr")}
    return tree.find("caption").text, rows


@pytest.mark.parametrize("name", rf8sim.format_names())
def test_a_format(name):
    caption, rows = table(rf8sim.get_format(name))
    assert caption.startswith(f"{name}: ")
    assert rows["bits"] == str(rf8sim.get_format(name).bits)


def test_what_it_says_of_rf8():
    assert table(rf8sim.get_format("rf8"))[1]["largest"] == "1.5"
    assert table(rf8sim.get_format("rf8"))[1]["NaN"] == "0x80"
    assert table(rf8sim.get_format("int8"))[1]["NaN"] == "none"


@pytest.mark.parametrize("scaling", ["tensor", "channel", "1x32", "none"])
def test_a_quantized_tensor(scaling):
    x = np.repeat(np.array([1.0, 0.5], np.float32), 32).reshape(2, 32)
    caption, rows = table(rf8sim.quantize(x, f"rf8/{scaling}"))
    assert "rf8" in caption
    assert rows["shape"] == "2 × 32"
    assert rows["codes in use"].startswith("2 of 256" if scaling in ("tensor", "none") else "1 of 256")
    assert rows["entropy of the codes"] == ("1.000 bits" if scaling in ("tensor", "none") else "0.000 bits")
    table(rf8sim.quantize(np.zeros((0, 3), np.float32), "rf8"))
    table(rf8sim.quantize(np.float32(1), "rf8"))


def test_an_experiment(tmp_path):
    np.save(tmp_path / "a<b.npy", np.random.default_rng(0).normal(size=(40, 50)))
    found = run([tmp_path / "a<b.npy"], Settings(("rf8", "int8")))
    caption, rows = table(found)
    assert caption == "a<b.npy"
    assert rows["int8"].startswith(f"{found.total.scheme('int8').sqnr_db:.2f} dB")
