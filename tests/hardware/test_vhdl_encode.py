"""The RF8 encoder in VHDL over the vectors of the one in SystemVerilog, and faults in it."""

import importlib.resources
import re
import shutil
import subprocess

import pytest

from rf8sim.hardware.sources.block import vector_lines
from rf8sim.hardware.sources.blocks import blocks
from rf8sim.hardware.sources.vhdl_bench import encoder_bench

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("ghdl") is None, reason="needs GHDL (ghdl)"),
]
SOURCE = (importlib.resources.files("rf8sim.hardware") / "rtl" / "rf8_encode.vhd").read_text()
FAULTS = {
    "ties": ("(octave + index) mod 2 = 0", "(octave + index) mod 2 = 1"),
    "residual": ("LARGEST - root_over(3)", "LARGEST - root_over(4)"),
    "sticky": ("rest := sticky = '1' or ", "rest := "),
    "overflow": ("place > 4));", "place > 5));"),
    "nan": ("if nan = '1' or (", "if ("),
}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Return the folder with the vectors and the testbench, and the blocks."""
    folder = tmp_path_factory.mktemp("encoders")
    (folder / "vectors").mkdir()
    chosen = [block for block in blocks() if block.module == "rf8_encode"]
    for block in chosen:
        lines = vector_lines([*block.inputs.values(), *block.outputs.values()])
        (folder / "vectors" / f"{block.name}.mem").write_bytes(lines)
    return folder, chosen


def run(folder, source):
    """Analyse, elaborate and run the testbench; return the exit status, wrong answers by block, and the output."""
    (folder / "rf8_encode.vhd").write_text(source)
    for step in (["-a", "--std=08", "rf8_encode.vhd", "tb.vhd"], ["-e", "--std=08", "tb_rf8_encode"],
                 ["-r", "--std=08", "tb_rf8_encode"]):  # fmt: skip
        done = subprocess.run(["ghdl", *step], cwd=folder, capture_output=True, text=True)
        printed = done.stdout + done.stderr
        if done.returncode:
            assert step[0] == "-r", printed
    return done.returncode, dict(re.findall(r"(rf8_encode_\w+: \d+) vectors, (\d+) wrong", printed)), printed


def test_the_encoder_answers_all_vectors(encoders):
    folder, chosen = encoders
    (folder / "tb.vhd").write_text(encoder_bench(chosen))
    status, counts, printed = run(folder, SOURCE)
    assert counts == {f"{block.name}: {block.count}": "0" for block in chosen}
    assert "PASSED" in printed
    assert status == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(encoders, fault):
    folder, chosen = encoders
    (folder / "tb.vhd").write_text(encoder_bench([block for block in chosen if block.count < 5000]))
    old, new = FAULTS[fault]
    assert SOURCE.count(old) == 1
    status, counts, printed = run(folder, SOURCE.replace(old, new))
    assert any(int(wrong) for wrong in counts.values())
    assert "PASSED" not in printed
    assert status != 0
