"""Sums of products in float32 in simulation: against the library, the rational oracle, and with faults put in."""

import itertools
import math
import shutil
from fractions import Fraction

import numpy as np
import pytest
from simulation import assert_seen

import rf8sim
from rf8sim.hardware.sources.fma_blocks import fma_blocks

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog (iverilog)"),
]
BLOCKS = {block.name: block for block in fma_blocks()}
NAMES = ("e4m3fn", "e5m2")


def nearest_float32(x):
    """Round a fraction to float32, ties to even, by the definition; return the magnitude's pattern."""
    x = abs(x)
    exponent = max(x.numerator.bit_length() - x.denominator.bit_length(), -126)
    while exponent > -126 and x < Fraction(2) ** exponent:
        exponent -= 1
    while x >= Fraction(2) ** (exponent + 1):
        exponent += 1
    units = x / Fraction(2) ** (exponent - 23)
    integer = units.numerator // units.denominator
    rest = units - integer
    integer += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and integer % 2)
    return min((exponent + 126 << 23) + integer, 0x7F800000)


@pytest.mark.parametrize("name", ["float8_fma_e4m3fn", "float8_fma_e4m3fn_e5m2", "float8_fma_e5m2", "float32_add"])
def test_expected_sums_are_the_exact_ones_rounded_once(name):
    block = BLOCKS[name]
    ports = [signal.patterns for signal in block.inputs.values()]
    some = slice(None, None, 17)
    if name == "float32_add":
        terms = [patterns[some].astype(np.uint32).view(np.float32).tolist() for patterns in ports]
    else:
        formats = [rf8sim.get_format(NAMES[block.parameters[choice]]) for choice in ("A_E5M2", "B_E5M2")]
        a, b = (fmt.values[codes[some].astype(int)] for fmt, codes in zip(formats, ports, strict=False))
        with np.errstate(invalid="ignore"):
            terms = [(a * b).tolist(), ports[2][some].astype(np.uint32).view(np.float32).tolist()]
    [answers] = block.outputs.values()
    finite = cancelled = tied = 0
    for first, second, answer in zip(*terms, answers.patterns[some].tolist(), strict=True):
        if not (math.isfinite(first) and math.isfinite(second)):
            wanted = np.float32(first + second)
            assert answer == (0x7FC00000 if np.isnan(wanted) else int(wanted.view(np.uint32)))
            continue
        exact = Fraction(first) + Fraction(second)
        assert answer & 0x7FFFFFFF == nearest_float32(exact)
        if exact:
            assert answer >> 31 == (exact < 0)
        else:
            assert answer >> 31 == (math.copysign(1, first) < 0 and math.copysign(1, second) < 0)
        finite += 1
        cancelled += exact == 0 != first
        value = float(np.uint32(answer).view(np.float32)) if answer < 0x7F800000 else 0.0
        if value and Fraction(value) != exact:
            tied += abs(Fraction(value) - exact) == Fraction(2) ** (max(answer >> 23 & 255, 1) - 151)
    assert min(finite, cancelled, tied) > 10


@pytest.mark.parametrize("name", NAMES)
def test_running_sums_are_the_librarys(name):
    """Against `rf8sim.dot` with a float32 accumulator."""
    block = BLOCKS[f"float8_mac_{name}"]
    clear, valid, a, b = (signal.patterns.astype(np.uint8) for signal in block.inputs.values())
    sums = block.outputs["sum"].patterns.astype(np.uint32).view(np.float32)
    starts = [*np.flatnonzero(clear), clear.size]
    compared = 0
    for start, stop in itertools.pairwise(starts):
        taken = valid[start:stop].astype(bool)
        if taken.any():
            result = rf8sim.dot(a[start:stop][taken], b[start:stop][taken], name, accumulator="float32")
            np.testing.assert_array_equal(np.float32(result), sums[stop - 1])
            compared += not np.isnan(result)
    assert compared > 20


FAULTS = {
    "ties away from zero": ("float32_add", "float32_add.sv", "(placed[4] || placed", "(1'b1 || placed"),
    "truncated": ("float8_fma_e4m3fn", "float32_add.sv", "round_up = placed[3]", "round_up = 1'b0"),
    "sticky bits lost": ("float8_fma_e4m3fn", "float32_add.sv", "|| shifted[26:0] != 27'd0", ""),
    "negative zero of a sum that cancels": ("float8_fma_e5m2", "float32_add.sv", "a[31] && b[31]", "a[31] || b[31]"),
    "subnormal sums normalized": ("float32_add", "float32_add.sv", "low ? exponent[4:0] : zeros", "zeros"),
    "subnormal operands flushed": ("float32_add", "float32_add.sv", "upper[22:0]", "upper[22:0] & {23{upper_normal}}"),
    "no infinity beyond": ("float32_add", "float32_add.sv", ">= 9'd255", ">= 9'd256"),
    "infinity times zero not NaN": ("float8_fma_e5m2", "float8_fma.sv", "(infinite_a && b_zero)", "1'b0"),
    "infinities that cancel not NaN": ("float8_fma_e5m2", "float8_fma.sv", "product_sign != c[31]", "1'b0"),
    "bias of E5M2 one off": ("float8_fma_e4m3fn_e5m2", "float8_fma.sv", "(B_E5M2 != 0 ? 17", "(B_E5M2 != 0 ? 16"),
    "product not normalized": ("float8_fma_e4m3fn", "float8_fma.sv", "- {5'd0, shift}", "- 8'd0"),
    "clear forgets the product": ("float8_mac_e4m3fn", "float8_mac.sv", "if (valid) sum", "if (valid && !clear) sum"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_block_is_seen(tmp_path, fault):
    block, *change = FAULTS[fault]
    assert_seen(tmp_path, BLOCKS[block], tuple(change))
