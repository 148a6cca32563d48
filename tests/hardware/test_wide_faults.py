"""Faults of units with wide results and block scales: each named, and none told of a right design."""

import numpy as np
import pytest

import rf8sim
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.arrays import verify_arrays

E4M3 = rf8sim.get_format("e4m3fn").values


def numbers(asked, place):
    return E4M3[asked.operands[place]]


def in_float32(values, nan=0x7FC00000):
    patterns = values.astype(np.float32).view(np.uint32)
    return np.where(np.isnan(values), np.uint32(nan), patterns)


def named(asked, results):
    verdict = verify_arrays(asked, results)
    assert not verdict.passed
    assert verdict.findings
    assert all(finding.false == 0 for finding in verdict.findings if finding.kind != "unknown")
    return [finding.name for finding in verdict.findings if finding.proved]


def test_truncation_of_a_float32_result():
    """Sums of two products are exact in float64; cutting its 29 lowest bits off truncates to float32."""
    asked = vectors("dot:2", "e4m3fn", result="float32", n=500)
    with np.errstate(invalid="ignore"):
        exact = (numbers(asked, 0) * numbers(asked, 1)).sum(axis=1)
    cut = (exact.view(np.uint64) & np.uint64(0xFFFFFFFFE0000000)).view(np.float64)
    assert "rounds toward-zero" in named(asked, in_float32(cut))


def aligned(a, b, fraction):
    """Return sums of products, each cut toward zero so many bits below the largest exponent of factors together."""
    terms = a * b
    exponents = sum(np.maximum(np.frexp(x)[1] - 1, -6) for x in (a, b))  # subnormals have that of the least normal
    top = np.where(terms == 0, -100, exponents).max(axis=1)
    scaled = np.ldexp(terms, (fraction - top)[:, None])
    return np.ldexp(np.trunc(scaled).sum(axis=1), top - fraction) + 0.0


@pytest.mark.parametrize("fraction", [12, 15])
def test_fraction_bits_of_an_engine(fraction):
    asked = vectors("dot:4", "e4m3fn", accumulator="aligned:13:4", n=500)
    right, wrong = (in_float32(aligned(numbers(asked, 0), numbers(asked, 1), bits)) for bits in (13, fraction))
    assert np.array_equal(right, asked.results)
    assert f"aligned otherwise: aligned:{fraction}:4" in named(asked, wrong)


def test_an_exact_sum_where_an_engine_is_asked():
    asked = vectors("dot:4", "e4m3fn", accumulator="aligned:13:4", n=500)
    with np.errstate(invalid="ignore"):
        exact = (numbers(asked, 0) * numbers(asked, 1)).sum(axis=1)
    assert "sums exactly" in named(asked, in_float32(exact + 0.0))


@pytest.mark.parametrize(("power", "name"), [(0, "scale_a left out"), (2, "scale_a taken twice")])
def test_scales(power, name):
    asked = vectors("block_dot:2", "e4m3fn", result="float32", n=500)
    scales = rf8sim.get_format("e8m0fnu").values
    with np.errstate(all="ignore"):
        first, second = (scales[asked.operands[place]] for place in (2, 3))
        exact = (numbers(asked, 0) * numbers(asked, 1)).sum(axis=1) * np.where(np.isnan(first), first, first**power)
        results = in_float32(exact * second)
    assert name in named(asked, results)


@pytest.mark.parametrize(
    "options",
    [{"result": "float32"}, {"accumulator": "aligned:13:4"}, {"accumulator": "hopper-fp8"}, {"result": "bfloat16"}],
)
def test_a_right_design_passes(options):
    asked = vectors("dot:4", "e4m3fn", n=500, **options)
    verdict = verify_arrays(asked, asked.results)
    assert verdict.passed
    assert not verdict.findings
