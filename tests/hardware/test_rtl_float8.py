"""The E4M3 and E5M2 blocks in simulation and proof, and faults put in, each seen."""

import shutil
import subprocess

import numpy as np
import pytest
from simulation import assert_seen, lay_out

import rf8sim
from rf8sim import reference
from rf8sim.hardware.sources.float8_blocks import ENCODER_PROOFS, float8_blocks, float32_thresholds, prove_encoder

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog (iverilog)"),
]
BLOCKS = {block.name: block for block in float8_blocks()}


@pytest.mark.parametrize(("name", "mode"), ENCODER_PROOFS)
def test_thresholds_are_the_first_floats_of_their_codes(name, mode):
    first = float32_thresholds(name, mode)
    fmt = rf8sim.get_format(name)
    assert first.size == fmt.sides[0].codes.size - 1
    for rank, pattern in enumerate(first.tolist(), 1):
        below, at = np.array([pattern - 1, pattern], np.uint32).view(np.float32).tolist()
        assert reference.round_value(below, name, mode) == rank - 1
        assert reference.round_value(at, name, mode) == rank


def test_expected_codes_are_the_oracles():
    for block in BLOCKS.values():
        if block.module != "float32_to_float8" or "random" in block.inputs:
            continue
        name = ("e4m3fn", "e5m2")[block.parameters["E5M2"]]
        mode = ("nearest-even", "toward-zero")[block.parameters["ROUNDING"]]
        option = ("saturate", "propagate", "ieee", "infinity", "nan")[block.parameters["OVERFLOW"]]
        numbers = block.inputs["x"].patterns.astype(np.uint32).view(np.float32)
        some = slice(None, None, max(1, numbers.size // 300))
        oracle = [reference.round_value(float(x), name, mode, option) for x in numbers[some]]
        assert block.outputs["code"].patterns[some].tolist() == oracle


FAULTS = {
    "ties away from zero": ("float32_to_e4m3fn_nearest_even", "float8_round.sv", "(rest || kept[0])", "1'b1"),
    "sticky bits lost": ("e4m3fn_encode_sticky", "float8_round.sv", "rest = sticky ||", "rest ="),
    "subnormals one place off": (
        "e5m2_encode_nearest_even", "float8_round.sv", "below[5:0];", "below[5:0] + 6'd1;",
    ),
    "the largest value overflows": (
        "float32_to_e5m2_nearest_even_ieee", "float8_round.sv", "beyond = rounded > {", "beyond = rounded >= {",
    ),
    "infinity saturates": (
        "float32_to_e5m2_nearest_even_propagate", "float8_round.sv", "OVERFLOW == 0 ?", "OVERFLOW <= 1 ?",
    ),
    "overflow toward zero is infinite": (
        "float32_to_e5m2_toward_zero_ieee", "float8_round.sv", "(OVERFLOW == 2 && ROUNDING != 1)", "OVERFLOW == 2",
    ),
    "E4M3 saturates at 480": ("float32_to_e4m3fn_nearest_even", "float8_round.sv", "7'h7b : 7'h7e", "7'h7b : 7'h7f"),
    "random bits inverted": (
        "float32_to_e4m3fn_stochastic", "float8_round.sv", "+ {1'b0, random[K-1:0]}", "+ {1'b0, ~random[K-1:0]}",
    ),
    "an infinity called NaN": ("e5m2_decode", "e5m2_unpack.sv", "&& code[1:0] != 2'd0", ""),
    "subnormals taken as normal": ("e5m2_decode", "e5m2_unpack.sv", "code[6:2] != 5'd0", "1'b1"),
    "float32 bias one off": ("float32_to_e4m3fn_toward_zero", "float32_to_float8.sv", "10'sd127", "10'sd126"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_block_is_seen(tmp_path, fault):
    block, *change = FAULTS[fault]
    assert_seen(tmp_path, BLOCKS[block], tuple(change))


@pytest.mark.skipif(shutil.which("yosys") is None, reason="needs Yosys (yosys)")
@pytest.mark.parametrize(("name", "mode"), ENCODER_PROOFS)
def test_the_encoder_is_proved_and_a_fault_disproved(tmp_path, name, mode):
    lay_out(tmp_path, [])
    script = prove_encoder(name, mode)
    assert prove(tmp_path, script) == (0, True)
    at = f"31'h{int(float32_thresholds(name, mode)[50]):08x}"
    assert script.count(at) == 1
    assert prove(tmp_path, script.replace(at, f"31'h{int(at[4:], 16) + 1:08x}"))[0] != 0


def prove(folder, script):
    (folder / "proof.ys").write_text(script)
    done = subprocess.run(["yosys", "-p", "script proof.ys"], cwd=folder, capture_output=True, text=True)
    return done.returncode, "SAT proof finished - no model found: SUCCESS!" in done.stdout
