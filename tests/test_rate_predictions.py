"""What `ggd` predicts of rounding for rate and distortion, against what `rf8sim.compression` does."""

import numpy as np
import pytest

import ggd
from rf8sim.compression.inputs import InputFactor
from rf8sim.compression.rounding import round_weights


def entropy(counts):
    p = counts[counts > 0] / counts.sum()
    return float(-np.sum(p * np.log2(p)))


@pytest.mark.parametrize("shape", [0.8, 1.0, 2.0])
@pytest.mark.parametrize("price", [0.0, 0.05, 0.1])
def test_rate_and_error_of_rounding_that_counts_bits(shape, price):
    """int8 with a step of 1: 0.5 million weights; the coder stops after some rounds, the prediction does not."""
    density = ggd.GGD.from_std(shape, 1.0)
    weight = density.sample(500_000, seed=1).reshape(500, 1000)
    rounded = round_weights(weight, "int8/tensor", scale=np.float32(1.0), price=price)
    theory = ggd.optimized_rounding(density, 1.0, price).theory
    assert rounded.error / weight.size == pytest.approx(theory.mse, rel=0.02)
    assert entropy(rounded.counts) == pytest.approx(theory.entropy_bits, abs=0.02)
    assert rounded.bits_per_weight == pytest.approx(theory.entropy_bits, abs=0.03)


def test_gain_of_feedback():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2000, 48)) @ generator.normal(size=(48, 48))
    moments = x.T @ x / len(x)
    weight, step = generator.normal(size=(1500, 48)), 0.05
    factor = InputFactor.from_moments(moments, damping=0)
    gain = ggd.feedback_gain(moments, factor.order)
    assert np.allclose(gain.conditional, factor.by_column())
    assert gain.bound == pytest.approx(factor.level)
    fed = round_weights(weight, "int8/tensor", factor, scale=np.float32(step))
    assert fed.error / weight.size == pytest.approx(gain.feedback * step**2 / 12, rel=0.03)
    plain = round_weights(weight, "int8/tensor", scale=np.float32(step))
    error = plain.tensor.dequantize() - weight
    cost = np.einsum("ri,ij,rj->", error, moments, error) / weight.size
    assert cost == pytest.approx(gain.plain * step**2 / 12, rel=0.03)
    assert gain.feedback_db == pytest.approx(10 * np.log10(cost / (fed.error / weight.size)), abs=0.2)
