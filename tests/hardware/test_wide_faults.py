"""Faults of units with wide results and block scales: each named, and none told of a right design."""

import numpy as np
import pytest
import wide_designs

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


UNITS = {
    "fma": ("fma", ("e4m3fn", "e4m3fn", "float32"), {"result": "float32"}),
    "dot": ("dot:2", ("e4m3fn", "e4m3fn", "float32"), {"result": "float32"}),
    "engine": ("dot:8", "e4m3fn", {"accumulator": "aligned:13:4"}),
}
FUSED = {
    "sticky lost": "truncated to 25 bits",
    "truncates": "rounds toward-zero",
    "away": "rounds nearest-away",
    "carry of rounding lost": "rounding carry lost, exponent kept",
    "subnormal results flushed": "subnormal results flushed",
    "rounded to bfloat16 first": "through a register of bfloat16",
    "c left out": "c left out",
    "c subtracted": "c subtracted",
    "c flushed": "subnormals flushed of c",
    "shifted out": "aligned to the largest term, cut off at 24 bits",
    "aligned to the product": "aligned to the product, cut off at 16 bits",
    "carry lost": "carry lost 1 bit above the largest term",
}
SUMS = {"c first": "c first in sums of float32", "c last": "c after the sum", "sticky lost": "truncated to 25 bits"}
ENGINES = {
    "normalized": ("aligned to the wrong term: normalized", None),
    "first": ("aligned to the wrong term: first", None),
    "products": ("aligned to the wrong term: products", None),
    "": ("carry lost 2 bits above the largest exponent", 2),
}


@pytest.fixture(scope="module")
def units():
    return {name: vectors(operation, fmt, n=300, **options) for name, (operation, fmt, options) in UNITS.items()}


def patterns(asked, design):
    return design(*asked.operands).astype(asked.results.dtype)


@pytest.mark.parametrize(
    ("unit", "design"),
    [("fma", wide_designs.fma()), ("dot", wide_designs.dot()), ("engine", wide_designs.dot("", 13, 4))],
)
def test_designs_without_a_fault_are_right(units, unit, design):
    """Else a fault of theirs would be one of two."""
    assert np.array_equal(patterns(units[unit], design), units[unit].results)


@pytest.mark.parametrize("fault", FUSED)
def test_faults_of_a_fused_unit(units, fault):
    assert FUSED[fault] in named(units["fma"], patterns(units["fma"], wide_designs.fma(fault)))


@pytest.mark.parametrize("fault", SUMS)
def test_faults_of_a_sum_with_an_addend(units, fault):
    assert SUMS[fault] in named(units["dot"], patterns(units["dot"], wide_designs.dot(fault)))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ENGINES)
def test_faults_of_an_engine(units, fault):
    name, bits = ENGINES[fault]
    assert name in named(units["engine"], patterns(units["engine"], wide_designs.dot(fault, 13, 4, bits)))
