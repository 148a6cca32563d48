"""Entropies of the fields of floats under a generalized Gaussian, against counts of samples and of exact cells."""

import ml_dtypes
import numpy as np
import pytest
from scipy import stats

from ggd import GGD, float_theory

LAYOUTS = {
    "bfloat16": (ml_dtypes.bfloat16, 8, 7, {}),
    "float16": (np.float16, 5, 10, {}),
    "float32": (np.float32, 8, 23, {}),
    "e5m2": (ml_dtypes.float8_e5m2, 5, 2, {}),
    "e4m3fn": (ml_dtypes.float8_e4m3fn, 4, 3, {"specials": 1}),
    "e4m3fnuz": (ml_dtypes.float8_e4m3fnuz, 4, 3, {"specials": 0, "bias": 8}),
}


def entropy(counts):
    """Of the distribution that was sampled: of counts, less what few samples lack (Miller 1955)."""
    counts = counts[counts > 0]
    p = counts / counts.sum()
    return float(-np.sum(p * np.log2(p))) + (counts.size - 1) / (2 * counts.sum() * np.log(2))


def fields(numbers, exponent_width, mantissa_width):
    patterns = numbers.view(f"u{numbers.itemsize}").astype(np.int64)
    exponent = patterns >> mantissa_width & (1 << exponent_width) - 1
    return patterns >> (exponent_width + mantissa_width), exponent, patterns & (1 << mantissa_width) - 1


@pytest.mark.parametrize("shape", [0.4, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("name", LAYOUTS)
def test_entropies_are_those_of_samples(name, shape):
    dtype, exponent_width, mantissa_width, options = LAYOUTS[name]
    density = GGD.from_std(shape, 3.0)
    numbers = density.sample(2_000_000, seed=5).astype(dtype)
    theory = float_theory(density, exponent_width, mantissa_width, **options)
    sign, exponent, mantissa = fields(numbers, exponent_width, mantissa_width)
    counts = np.bincount(exponent, minlength=1 << exponent_width)
    assert theory.exponent_bits == pytest.approx(entropy(counts), abs=0.004)
    assert np.allclose(theory.exponents, counts / counts.sum(), atol=0.002)
    assert theory.sign_bits == pytest.approx(1.0, abs=1e-9)
    assert theory.probabilities.sum() == pytest.approx(1.0, abs=1e-9)
    if mantissa_width <= 10:
        codes = np.bincount((sign << exponent_width | exponent) << mantissa_width | mantissa)
        assert theory.entropy_bits == pytest.approx(entropy(codes), abs=0.005)
    top = min(mantissa_width, 7)
    high = mantissa >> (mantissa_width - top)
    first, second = theory.plane_bits(min(3, mantissa_width))
    kept = min(3, mantissa_width)
    joint = np.bincount(exponent << kept | mantissa >> (mantissa_width - kept))
    assert first == pytest.approx(entropy(joint), abs=0.005)
    if mantissa_width <= 10:
        rest = mantissa & (1 << (mantissa_width - kept)) - 1
        assert second == pytest.approx(entropy(np.bincount(rest << 1 | sign)), abs=0.002)
    else:  # only of the first bits are there samples enough
        given = theory.mantissa_bits - (mantissa_width - top)
        joint = entropy(np.bincount(exponent << top | high)) - entropy(counts)
        assert given == pytest.approx(joint, abs=0.005)


@pytest.mark.parametrize("name", ["bfloat16", "e4m3fn", "e5m2", "float16"])
@pytest.mark.parametrize(("shape", "scale", "loc"), [(2.0, 1e-3, 0.0), (0.7, 50.0, 0.0), (1.0, 0.5, 0.3)])
def test_probabilities_are_those_of_the_distribution_function(name, shape, scale, loc):
    """Every pattern's probability from scipy's distribution function, halfway between values."""
    dtype, exponent_width, mantissa_width, options = LAYOUTS[name]
    density = GGD(shape, scale, loc)
    theory = float_theory(density, exponent_width, mantissa_width, **options)
    patterns = np.arange(1 << (exponent_width + mantissa_width))
    with np.errstate(invalid="ignore"):
        values = patterns.astype(f"u{np.dtype(dtype).itemsize}").view(dtype).astype(np.float64)
    finite = np.isfinite(values)
    values = values[finite]
    ends = np.concatenate([[0.0], 0.5 * (values[1:] + values[:-1]), [np.inf]])
    for sign in (0, 1):
        side = stats.gennorm(shape, loc if sign == 0 else -loc, scale)
        expected = np.where(ends[:-1] > side.median(), side.sf(ends[:-1]) - side.sf(ends[1:]), np.diff(side.cdf(ends)))
        got = theory.probabilities[sign].reshape(-1)[: patterns.size][finite]
        often = np.repeat(theory.exponents > 1e-8, 1 << mantissa_width)[: patterns.size][finite]
        assert np.allclose(got[often], expected[often], rtol=1e-6, atol=1e-14), sign
        assert np.allclose(got[~often], expected[~often], atol=1e-8), sign


def test_a_power_of_two_changes_only_the_place_of_the_exponents():
    """Away from the ends of the range, bfloat16's codes of a scaled tensor are those of the tensor, shifted."""
    one, other = (float_theory(GGD(0.8, scale), 8, 7) for scale in (1.0, 2.0**-20))
    assert one.entropy_bits == pytest.approx(other.entropy_bits, abs=1e-6)
    assert np.allclose(one.exponents[90:140], other.exponents[70:120], atol=1e-9)


def test_entropy_of_a_fine_float_is_that_of_the_density():
    """Entropy of a code is differential entropy less the mean of the logarithm of the step, where steps are small."""
    density = GGD(1.3, 2.0)
    numbers = density.sample(1_000_000, seed=1)
    step = np.exp2(np.floor(np.log2(np.abs(numbers))) - 23)
    theory = float_theory(density, 8, 23)
    assert theory.entropy_bits == pytest.approx(density.entropy_bits - np.mean(np.log2(step)), abs=0.006)


def test_a_density_on_one_side_has_no_sign():
    theory = float_theory(GGD(2.0, 1.0, 50.0), 8, 7)
    assert theory.sign_bits == pytest.approx(0.0, abs=1e-9)


def test_saturation_and_underflow():
    """All that is too large is in the last field of numbers, all that is too small in field 0."""
    large, small = float_theory(GGD(1.0, 1e9), 5, 2), float_theory(GGD(1.0, 1e-9), 4, 3, specials=1)
    assert large.exponents[30] > 0.999
    assert large.exponents[31] == 0
    assert small.probabilities[:, 0, 0].sum() > 0.999


def test_widths_are_checked():
    for widths in ((1, 7), (9, 7), (8, 0), (8, 53)):
        with pytest.raises(ValueError, match="2 to 8 bits of exponent"):
            float_theory(GGD(1.0), *widths)
    for mantissa_width, specials in ((3, 9), (3, -1), (23, 1)):
        with pytest.raises(ValueError, match="patterns are special"):
            float_theory(GGD(1.0), 4, mantissa_width, specials=specials)
    with pytest.raises(ValueError, match="0 to 7 bits"):
        float_theory(GGD(1.0), 8, 7).plane_bits(8)
