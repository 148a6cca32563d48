"""The theory of a quantizer and what is measured on samples agree, for every format, within sampling noise."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import rf8sim
from ggd import GGD, best_scale, quantizer_theory
from rf8sim.codec.boundaries import boundaries
from rf8sim.codec.rounding import RoundingMode
from rf8sim.quantization.metrics import measure

N = 1 << 20
# Standard errors within which everything must agree. Some 1500 comparisons of seeded samples: by chance the largest
# of normal deviates would be 3.4.
Z = 5.0
FORMATS = [name for name in rf8sim.format_names() if rf8sim.get_format(name).zero is not None]
SAMPLES = {shape: GGD(shape, 0.02).sample(N, seed=20) for shape in (0.5, 1.0, 2.0)}


def table(fmt: rf8sim.Format) -> tuple[np.ndarray, np.ndarray]:
    """The values of a format, ascending, and its boundaries for nearest-even: zero is one value."""
    positive, negative = fmt.sides
    edges = [
        [float(b.rational) + float(b.root) * math.sqrt(2) for b in boundaries(fmt, RoundingMode.NEAREST_EVEN, side)]
        for side in (False, True)
    ]
    right = edges[0][: positive.magnitudes.size - 1]
    if not fmt.signed:
        return positive.magnitudes, np.array(right)
    left = edges[1][: negative.magnitudes.size - 1]
    values = np.concatenate([-negative.magnitudes[:0:-1], positive.magnitudes])
    return values, np.concatenate([-np.array(left)[::-1], right])


def scales(fmt: rf8sim.Format, d: GGD) -> dict[str, float]:
    """The scale of least error, and one at which the largest value is 1.5 standard deviations: float32 numbers."""
    found = {"best": best_scale(d, *table(fmt)).scale, "overloaded": 1.5 * d.std / fmt.max}
    if rf8sim.Scheme(fmt).scales.format == "e8m0fnu":
        return {name: 2.0 ** round(math.log2(scale)) for name, scale in found.items()}
    return {name: float(np.float32(scale)) for name, scale in found.items()}


def merged(fmt: rf8sim.Format, code_counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Counts by value: the codes of +0 and -0 are two, their value one."""
    used = np.flatnonzero(code_counts)
    counts = np.zeros(values.size, np.int64)
    place = np.searchsorted(values, fmt.values[used])
    assert np.array_equal(values[place], fmt.values[used])  # nothing becomes NaN or infinite
    np.add.at(counts, place, code_counts[used])
    return counts


@pytest.mark.parametrize("rounding", ["nearest-even", "stochastic"])
@pytest.mark.parametrize("shape", SAMPLES)
@pytest.mark.parametrize("name", FORMATS)
def test_theory_is_what_is_measured(name, shape, rounding):
    fmt, d, x = rf8sim.get_format(name), GGD(shape, 0.02), SAMPLES[shape]
    values, edges = table(fmt)
    for scale in scales(fmt, d).values():
        q = rf8sim.quantize(x, rf8sim.Scheme(fmt, rounding=rounding), scale=scale, seed=3)
        error = measure(x, q)
        theory = quantizer_theory(d, scale * values, "stochastic" if rounding == "stochastic" else scale * edges)
        counts = merged(fmt, error.code_counts, values)
        square = (x - q.dequantize(np.float64)) ** 2
        p = theory.probabilities
        with np.errstate(divide="ignore"):
            bits = np.where(p > 0, -np.log2(p), 0.0)
        entropy = dataclasses.replace(error, code_counts=counts).entropy_bits
        # The entropy of counts is less than that of the probabilities by (codes - 1) / (2 n ln 2), to first order.
        entropy += (np.count_nonzero(counts) - 1) / (2 * N * math.log(2))
        z = {
            "mse": (error.mse - theory.mse) / (square.std() / math.sqrt(N)),
            "entropy": (entropy - theory.entropy_bits) / max(math.sqrt(p @ (bits - p @ bits) ** 2 / N), 1e-6),
            "underflow": binomial(error.underflow_share, theory.underflow),
            "overload": binomial(error.overflow_share, theory.overload),
        }
        assert max(map(abs, z.values())) < Z, (scale, z)
        # Every code: chi-square over the values expected at least ten times, the rest as one.
        often = N * p >= 10
        seen, expected = (np.append(a[often], a[~often].sum()) for a in (counts, N * p))
        seen, expected = seen[expected > 0.1], expected[expected > 0.1]
        chi = float(np.sum((seen - expected) ** 2 / expected))
        assert chi - (seen.size - 1) < Z * math.sqrt(2 * seen.size) + Z**2, (scale, chi, seen.size)


def binomial(share: float, p: float) -> float:
    """Deviation of a share from its probability; a probability that is all but nothing leaves one count free."""
    return (share - p) / math.sqrt(max(p * (1 - p), 1.0 / N) / N)


def test_every_format_with_a_zero_is_here():
    assert len(FORMATS) > 20
    assert {"rf8", "e4m3fn", "int8"} <= set(FORMATS)
    without = set(rf8sim.format_names()) - set(FORMATS)
    assert all(rf8sim.get_format(name).zero is None for name in without)
