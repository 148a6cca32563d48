"""The shipped SystemVerilog in simulation: every block over its vectors, and faults put in, each seen and named."""

import io
import math
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from simulation import assert_seen, counts, lay_out, simulate

import rf8sim
from rf8sim import reference
from rf8sim.hardware.sources.blocks import blocks, encoded_fixed, lfsr_words, near_thresholds
from rf8sim.hardware.sources.hdl import write_hdl
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.verify import verify

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog (iverilog)"),
]
BLOCKS = {block.name: block for block in blocks()}


@pytest.mark.slow
def test_every_block_answers_all_its_vectors(tmp_path):
    lay_out(tmp_path, list(BLOCKS.values()))
    status, printed = simulate(tmp_path)
    assert counts(printed) == {name: (block.count, 0) for name, block in BLOCKS.items()}
    assert printed.rstrip().endswith("PASSED")
    assert status == 0


def test_the_vectors_are_exhaustive_where_they_say_so():
    bytes_alone = [block for block in BLOCKS.values() if {signal.bits for signal in block.inputs.values()} == {8}]
    two = [block for block in bytes_alone if set(block.inputs) in ({"a", "b"}, {"weight", "activation"})]
    assert len(two) == 11
    for block in two:
        a, b = (signal.patterns.astype(np.int64) for signal in block.inputs.values())
        assert np.unique(a << 8 | b).size == 1 << 16
    for name in ("rf8_encode_float16", "rf8_encode_float16_residual", "rf8_encode_stochastic_8"):
        inputs = BLOCKS[name].inputs
        signs = np.where(inputs["sign"].patterns, -1.0, 1.0)
        seen = np.copysign(np.ldexp(inputs["magnitude"].patterns.astype(np.float64), -24), signs)
        assert np.unique(seen.astype(np.float16).view(np.uint16)).size == (1 << 16) - (1 << 11)


def test_exact_products_and_sums_are_the_librarys():
    """The models of exact blocks against rf8sim.dot, which shares nothing with them."""
    for name, first, second, unit in (("rf8_mac_12", "rf8", "rf8", -38), ("e4m3_mac_4", "e4m3fn", "e4m3fn", -18),
                                      ("rf8_int8_mac_4", "rf8", "int8", -19)):  # fmt: skip
        block = BLOCKS[name]
        ports = [port for port in block.inputs if port not in ("clear", "valid")]
        clear, valid = (block.inputs[port].patterns.astype(bool) for port in ("clear", "valid"))
        a, b = (block.inputs[port].patterns.astype(np.uint8) for port in ports)
        bits = block.outputs["sum"].bits
        sums = (block.outputs["sum"].patterns << np.uint64(64 - bits)).view(np.int64) >> np.int64(64 - bits)
        starts = np.flatnonzero(clear)
        compared = 0
        for start, stop in zip(starts, [*starts[1:], clear.size], strict=True):
            # the last sum of a run that neither overflows nor meets a NaN
            flagged = block.outputs["overflow"].patterns[start:stop] | block.outputs["nan"].patterns[start:stop]
            length = int(np.argmax(flagged)) if flagged.any() else stop - start
            run = slice(start, start + length)
            taken = valid[run]
            if not taken.any():
                continue
            exact = rf8sim.dot(a[run][taken], b[run][taken], (first, second))
            assert exact == math.ldexp(int(sums[start + length - 1]), unit)
            compared += length
        assert compared > 2500


def test_the_streams_reach_the_worst_sum_that_must_fit_and_go_beyond():
    worst = {
        "rf8_mac_4": 1.5 * 1.5 * 2.0**38,
        "e4m3_mac_4": 448.0**2 * 2.0**18,
        "int8_mac_4": 2.0**14,
        "rf8_int8_mac_4": 1.5 * 128 * 2.0**19,
        "e4m3_int8_mac_4": 448.0 * 128 * 2.0**9,
    }
    for name, largest in worst.items():
        sums, over = BLOCKS[name].outputs["sum"], BLOCKS[name].outputs["overflow"].patterns
        whole = (sums.patterns << np.uint64(64 - sums.bits)).view(np.int64) >> np.int64(64 - sums.bits)
        assert 16 * largest in whole[over == 0]
        assert over.any()
        assert {2 ** (sums.bits - 1) - 1, -(2 ** (sums.bits - 1))} <= set(whole[over == 1].tolist())


@pytest.mark.parametrize("mode", ["nearest-even", "residual"])
@pytest.mark.parametrize(("width", "fraction"), [(40, 38), (64, 62), (64, 40)])
def test_expected_codes_of_wide_numbers_are_the_oracles(mode, width, fraction):
    near = near_thresholds(mode, fraction, width)
    some = near[:: max(1, near.size // 400)]
    oracle = [reference.round_value(Fraction(int(n), 2**fraction), "rf8", mode) for n in some.tolist()]
    assert encoded_fixed(some, fraction, mode).tolist() == oracle


def test_the_root_in_the_source_is_the_square_root_of_two():
    from rf8sim.hardware.sources.hdl import rtl_sources

    assert f"128'h{math.isqrt(2 << 254):x}" in rtl_sources()["rf8_round.sv"]


def test_the_lfsr_has_the_longest_period():
    """x^32 + x^22 + x^2 + x + 1 is primitive: the step has order 2**32 - 1, and no smaller one."""

    def times(first, second):
        return [combine(second, column) for column in first]

    def combine(matrix, vector):
        total = 0
        for i, column in enumerate(matrix):
            total ^= column if vector >> i & 1 else 0
        return total

    step = [int(lfsr_words(1 << i, 2, steps=1)[1]) for i in range(32)]
    identity = [1 << i for i in range(32)]

    def power(exponent):
        result, base = identity, step
        while exponent:
            result = times(result, base) if exponent & 1 else result
            base, exponent = times(base, base), exponent >> 1
        return result

    order = 2**32 - 1
    assert power(order) == identity
    assert all(power(order // prime) != identity for prime in (3, 5, 17, 257, 65537))


# --- faults ---------------------------------------------------------------------------------------------------------

# What is changed in the sources, and what the diagnosis must call it.
MULTIPLIER_FAULTS = {
    "rounds nearest-away": (
        ("rf8_round.sv", "{octave[0] || rest, !octave[0] || rest}", "{1'b1, 1'b1}"),
        ("rf8_round.sv", "(fraction == 5'd24 && rest);", "fraction == 5'd24;"),
    ),
    "ties toward zero": (("rf8_round.sv", "{octave[0] || rest, !octave[0] || rest}", "{rest, rest}"),),
    "rounds residual": (("rf8_round.sv", "if (RESIDUAL != 0) begin", "if (RESIDUAL == 0) begin"),),
    "overflow gives NaN": (("rf8_pack.sv", "(overflow && NAN_OVERFLOW != 0)", "overflow"),),
    "aliases not canonical": (
        ("rf8_pack.sv", "place > 3'd4};", "place > 3'd4 || (place == 3'd4 && octave != 9'sd15)};"),
    ),
    "sign of residual lost of b": (("rf8_product.sv", "subtract = residual < 3'd3", "subtract = 1'b0"),),
    "residual ignored of b": (("rf8_product.sv", "10'd0 : sum", "10'd0 : {1'b0, significand_a, 4'd0}"),),
    "exponent one too large": (("rf8_multiply.sv", "- 9'sd14", "- 9'sd13"),),
    "exponent one too small": (("rf8_multiply.sv", "- 9'sd14", "- 9'sd15"),),
    "NaN read as zero of b": (("rf8_product.sv", "nan = nan_a || b == 8'h80", "nan = nan_a"),),
    "sign of a": (("rf8_product.sv", "sign = sign_a ^ b[7]", "sign = sign_a"),),
    "sign kept on zero": (("rf8_pack.sv", "(zero) code = 8'h00;", "(zero) code = {sign, 7'd0};"),),
}  # fmt: skip


def verdict_on_multiplier(folder):
    answers = (folder / "answers" / "rf8_multiply.mem").read_text().split()
    asked = vectors("multiply", "rf8")
    a, b = (patterns.tolist() for patterns in asked.operands)
    lines = "".join(f"{x:02X} {y:02X} {code.upper()}\n" for x, y, code in zip(a, b, answers, strict=True))
    return verify(asked, io.BytesIO(lines.encode()))


def test_the_multiplier_passes_verification(tmp_path):
    lay_out(tmp_path, [BLOCKS["rf8_multiply"]])
    status, printed = simulate(tmp_path, "+answers")
    assert status == 0, printed
    assert verdict_on_multiplier(tmp_path).passed


@pytest.mark.parametrize("fault", MULTIPLIER_FAULTS)
def test_a_fault_in_the_multiplier_is_seen_and_named(tmp_path, fault):
    lay_out(tmp_path, [BLOCKS["rf8_multiply"]], MULTIPLIER_FAULTS[fault])
    status, printed = simulate(tmp_path, "+answers")
    wrong = counts(printed)["rf8_multiply"][1]
    assert wrong > 0
    assert status != 0
    assert "FAILED" in printed
    verdict = verdict_on_multiplier(tmp_path)
    assert verdict.wrong_results == wrong
    assert fault in [finding.name for finding in verdict.findings if finding.proved]


# Faults that belong to one block, and what the first mismatch must show: (block, file, old text, new text).
BLOCK_FAULTS = {
    "zero decodes as the pattern says": ("rf8_decode", "rf8_unpack.sv", "(exponent == 4'd0) ? 5'd0 : 5'd12", "5'd12"),
    "sum wraps instead of staying": (
        "rf8_mac_4", "exact_accumulator.sv",
        "beyond ? {total[WIDTH], {(WIDTH - 1) {!total[WIDTH]}}} : total",
        "total",
    ),
    "overflow forgotten": ("rf8_mac_4", "exact_accumulator.sv", "beyond || (overflow && !clear)", "beyond"),
    "NaN forgotten": ("rf8_mac_4", "exact_accumulator.sv", "nan_in || (nan && !clear)", "nan_in"),
    "carry of a negative product lost": ("rf8_mac_4", "rf8_mac.sv", ".carry(sign)", ".carry(1'b0)"),
    "weight of -1 loses the residual's sign": (
        "rf8_times_int8", "rf8_times_int8.sv",
        "turned = negative ^ (residual < 3'd3)",
        "turned = residual < 3'd3",
    ),
    "a threshold off by its last place": (
        "rf8_encode_64_62_residual", "rf8_round.sv",
        "T2 = ONE + `RF8_ROOT(3)",
        "T2 = ONE + 256 + `RF8_ROOT(3)",
    ),
    "smallest value from its half on": (
        "rf8_encode_12_21", "rf8_round.sv",
        "(fraction == 5'd24 && rest);",
        "fraction == 5'd24;",
    ),
    "sticky not looked at": ("rf8_encode_sticky", "rf8_round.sv", "rest = sticky ||", "rest ="),
    "random bits reversed in meaning": (
        "rf8_encode_stochastic_3", "rf8_encode_stochastic.sv",
        "{1'b0, share} + {1'b0, random}",
        "{1'b0, share} + {1'b0, ~random}",
    ),
    "the smallest gap taken as 8 units": (
        "rf8_encode_stochastic_3", "rf8_encode_stochastic.sv",
        "(needed << 3) - needed",
        "needed << 3",
    ),
    "an LFSR of another polynomial": ("rf8_encode_lfsr", "lfsr.sv", "32'h80200003", "32'h80200001"),
    "subnormals of E4M3 taken as normal": ("e4m3_decode", "e4m3_unpack.sv", "code[6:3] != 4'd0", "1'b1"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BLOCK_FAULTS)
def test_a_fault_in_a_block_is_seen(tmp_path, fault):
    block, *change = BLOCK_FAULTS[fault]
    assert_seen(tmp_path, BLOCKS[block], tuple(change))


def test_a_wrong_vector_is_seen_and_told(tmp_path):
    lay_out(tmp_path, [BLOCKS["rf8_decode"]])
    path = tmp_path / "vectors" / "rf8_decode.mem"
    lines = path.read_text().split()
    lines[0x7B] = lines[0x7B].replace("80000", "80001")
    path.write_text("\n".join(lines))
    status, printed = simulate(tmp_path)
    assert "rf8_decode: vector 123: inputs 7b, expected 0800010, got 0800000" in printed
    assert counts(printed) == {"rf8_decode": (256, 1)}
    assert status != 0


def test_missing_vectors_are_no_pass(tmp_path):
    lay_out(tmp_path, [BLOCKS["rf8_decode"]])
    path = tmp_path / "vectors" / "rf8_decode.mem"
    path.write_text("".join(f"{line}\n" for line in path.read_text().split()[:200]))
    status, printed = simulate(tmp_path)
    assert counts(printed) == {"rf8_decode": (256, 56)}
    assert status != 0
    path.unlink()
    status, printed = simulate(tmp_path)
    assert counts(printed) == {"rf8_decode": (256, 256)}
    assert status != 0


def test_a_block_that_is_not_there_is_no_pass(tmp_path):
    lay_out(tmp_path, [BLOCKS["rf8_decode"]])
    status, printed = simulate(tmp_path, "+only=rf8_decod")
    assert status != 0
    assert "PASSED" not in printed


@pytest.mark.slow
def test_cocotb_passes_and_sees_a_fault(tmp_path):
    pytest.importorskip("cocotb", reason="needs cocotb 2")
    folder = write_hdl(tmp_path / "hdl")
    run = [sys.executable, "bench/run_cocotb.py"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "PYTEST"))}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
    )
    good = subprocess.run(run, cwd=folder, capture_output=True, text=True, env=environment)
    assert good.returncode == 0, good.stdout[-3000:] + good.stderr[-3000:]
    assert good.stdout.count("PASS=1 FAIL=0") == 2
    source = folder / "rtl" / "rf8_product.sv"
    source.write_text(source.read_text().replace("sign = sign_a ^ b[7]", "sign = sign_a"))
    bad = subprocess.run(run, cwd=folder, capture_output=True, text=True, env=environment)
    assert bad.returncode != 0
    assert "FAIL: " in bad.stdout
    assert "sign" in bad.stdout.partition("Diagnosis:")[2]
