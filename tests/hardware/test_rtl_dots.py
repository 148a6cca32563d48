"""Dot products in simulation: against the library, with faults put in, each seen."""

import math
import shutil

import numpy as np
import pytest
from simulation import assert_seen

import rf8sim
from rf8sim.hardware.sources.dot_blocks import OPERANDS, dot_blocks

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog (iverilog)"),
]
BLOCKS = {block.name: block for block in dot_blocks()}
EXACT = [name for name, block in BLOCKS.items() if block.module == "dot_product"]
ALIGNED = [name for name, block in BLOCKS.items() if block.module == "mxfp8_dot"]
FORMATS = ("rf8", "e4m3fn", "int8", "e2m1fn")


def unpacked(signal, bits):
    """Return codes by vector and lane, from the words of the file."""
    digits = [
        "".join(f"{word:016x}" for word in np.atleast_1d(row).tolist())[-signal.digits :] for row in signal.patterns
    ]
    step = bits // 4
    lanes = [[int(text[i : i + step], 16) for i in range(0, len(text), step)][::-1] for text in digits]
    return np.array(lanes, np.uint8)


def signed(signal):
    shift = np.uint64(64 - signal.bits)
    return (signal.patterns << shift).view(np.int64) >> np.int64(64 - signal.bits)


@pytest.mark.parametrize("name", EXACT)
def test_expected_sums_are_the_librarys(name):
    block = BLOCKS[name]
    first = block.parameters["WEIGHT"]
    second = 2 if block.parameters["INT8"] else first
    a, b = (
        unpacked(block.inputs[port], OPERANDS[number].bits) for port, number in zip("ab", (first, second), strict=True)
    )
    assert a.shape == b.shape == (block.count, 16)
    fraction = {0: 19, 1: 9, 2: 0, 3: 1}
    unit = -fraction[first] - fraction[second]
    scales = [block.inputs[port].patterns.astype(np.uint8) for port in ("scale_a", "scale_b")]
    powers = [rf8sim.decode(scale, "e8m0fnu") for scale in scales]
    sums, exponents, nan = (
        signed(block.outputs["sum"]),
        signed(block.outputs["exponent"]),
        block.outputs["nan"].patterns,
    )
    for row in range(block.count):
        exact = rf8sim.dot(a[row], b[row], (FORMATS[first], FORMATS[second]))
        power = float(powers[0][row]) * float(powers[1][row]) if block.parameters["SCALED"] else 1.0
        assert nan[row] == (math.isnan(exact) or math.isnan(power))
        if not nan[row]:
            assert math.ldexp(int(sums[row]), unit) == exact
            assert 2.0 ** int(exponents[row]) == power
    assert not nan.all()
    products = np.outer(OPERANDS[first].units, OPERANDS[second].units)
    finite = products[np.ix_(~OPERANDS[first].nan, ~OPERANDS[second].nan)]
    assert {16 * finite.max(), 16 * finite.min()} <= set(sums.tolist())


@pytest.mark.parametrize("name", ALIGNED)
def test_expected_aligned_sums_are_the_librarys(name):
    """Against the kernel of `rf8sim.dot` in order ``aligned``, which takes a running sum."""
    from rf8sim._kernels.aligned import sum_aligned

    block = BLOCKS[name]
    lanes, fraction = block.parameters["LANES"], block.parameters["FRACTION"]
    a, b = (unpacked(block.inputs[port], 8) for port in "ab")
    scales = np.array([block.inputs[port].patterns for port in ("scale_a", "scale_b")]).astype(int)
    c = block.inputs["c"].patterns.astype(np.uint32).view(np.float32)
    answers = block.outputs["result"].patterns.astype(np.uint32)
    values = rf8sim.get_format("e4m3fn").values
    compared = seen = 0
    for row in range(block.count):
        if (scales[:, row] == 255).any():
            assert answers[row] == 0x7FC00000
            continue
        exponents, terms = [], []
        for codes, scale in ((a[row], scales[0, row]), (b[row], scales[1, row])):
            x = values[codes]
            exponent = np.maximum(np.frexp(np.where(np.isfinite(x), x, 1.0))[1] - 1, -6) + scale - 127
            exponents.append(np.where(x == 0, -1000, exponent).astype(np.int16))
            terms.append(np.ldexp(x, scale - 127))
        sums = np.array([[np.float64(c[row])]])
        number = np.int64(24), np.int64(-126), np.int64(0), float(np.finfo(np.float32).max)
        left = terms[0][None], exponents[0][None]
        right = np.ascontiguousarray(terms[1][:, None]), np.ascontiguousarray(exponents[1][:, None])
        sum_aligned(left, right, (np.int64(fraction), np.int64(lanes), ()), number, sums)
        wanted = sums.astype(np.float32)[0, 0]
        if np.isnan(wanted):
            assert answers[row] == 0x7FC00000
        else:
            assert answers[row] == wanted.view(np.uint32), row
            seen += bool(np.isfinite(wanted) and wanted)
        compared += 1
    assert compared > 80
    assert seen > 40


def test_the_unit_is_the_engine_of_the_library():
    """Blocks of 32 in sequence, the sum of one the running sum of the next, are ``aligned:F:32`` of `rf8sim.dot`."""
    from rf8sim.hardware.sources.dot_blocks import aligned_sums

    rng = np.random.default_rng(5)
    for fraction in (13, 25):
        for _ in range(20):
            a, b = rng.integers(0, 0x7E, (2, 128), np.uint8) | rng.integers(0, 2, (2, 128), np.uint8) << 7
            total = np.zeros(1, np.float32)
            for start in range(0, 128, 32):
                x, y = (rf8sim.decode(codes[start : start + 32], "e4m3fn")[None] for codes in (a, b))
                total = aligned_sums(x.astype(float), y.astype(float), np.zeros(1, np.int64), total, fraction)
                total = total.view(np.float32)
            assert total[0] == rf8sim.dot(a, b, "e4m3fn", accumulator=f"aligned:{fraction}:32")


FAULTS = {
    "a lane left out": ("rf8_int8_dot_1", "dot_product.sv", "totals[GROUPS-1]", "totals[GROUPS-2]"),
    "carries of negative products lost": ("e4m3_dot_1", "dot_product.sv", "rests[lane]};", "1'b0};"),
    "NaN of a lane lost": ("rf8_int8_dot_2", "dot_product.sv", "nan_scale || nans != 0", "nan_scale"),
    "NaN of a scale lost": ("mx_e2m1_dot_2", "dot_product.sv", "|| scale_b == 8'hff", ""),
    "bias of a scale counted once": ("mx_e4m3_dot_2", "dot_product.sv", "10'd254", "10'd127"),
    "a register too many": ("rf8_int8_dot_2", "dot_product.sv", ".ON(STAGES >= 3)", ".ON(STAGES >= 2)"),
    "subnormal of E2M1 taken as normal": ("e2m1_int8_dot_1", "e2m1_decode.sv", "code[2:1] != 2'd0", "1'b1"),
    "one fraction bit fewer": (
        "mxfp8_dot_32_25_0", "mxfp8_dot.sv", "full >> distance[5:0];",
        "full >> distance[5:0] & ~{{(TERM-2){1'b0}}, 1'b1};",
    ),
    "rounded instead of cut off": (
        "mxfp8_dot_32_25_0", "mxfp8_dot.sv", "{negative, rounded}", "{negative, rounded + {30'd0, padded[WIDTH-1]}}",
    ),
    "c not among the exponents": ("mxfp8_dot_32_25_0", "mxfp8_dot.sv", "any && product_top > c_exponent", "any"),
    "products of zero among the exponents": (
        "mxfp8_dot_32_25_0", "mxfp8_dot.sv", "there[lane] = significands[lane*8+:8] != 8'd0", "there[lane] = 1'b1",
    ),
    "scale added twice": ("mxfp8_dot_32_25_0", "mxfp8_dot.sv", "({3'd0, scale_b})", "({2'd0, scale_b, 1'b0})"),
    "c joins after the sum is cut": ("mxfp8_dot_32_13_0", "mxfp8_dot.sv", "sums[LANES].thr", "sums[LANES-1].thr"),
    "subnormal results flushed": ("mxfp8_dot_16_23_4", "mxfp8_dot.sv", "small_significand[22:0]}", "23'd0}"),
    "negative terms cut down": (
        "mxfp8_dot_32_13_0", "mxfp8_dot.sv", "c_sign_1, signs_1, top_1", "c_sign_1, {LANES{1'b0}}, top_1",
    ),
    "beyond float32 not infinite": ("mxfp8_dot_32_25_0", "mxfp8_dot.sv", "12'sd255 ?", "12'sd300 ?"),
    "NaN of c lost": ("mxfp8_dot_32_25_0", "mxfp8_dot.sv", "(c[30:0] > 31'h7f800000)", "1'b0"),
    "a stage too few": ("mxfp8_dot_32_25_3", "mxfp8_dot.sv", ".ON(STAGES >= 3)", ".ON(STAGES >= 4)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_block_is_seen(tmp_path, fault):
    block, *change = FAULTS[fault]
    assert_seen(tmp_path, BLOCKS[block], tuple(change))
