"""Predictions of what rounding for fewer bits gains, against simulations and brute force."""

import numpy as np
import pytest
from scipy import stats

from ggd import GGD, dead_zone, entropy_coded_uniform, feedback_gain, optimized_rounding
from ggd.rates import _cheapest

SHAPES = (0.6, 1.0, 2.0)


def entropy(counts):
    p = counts[counts > 0] / counts.sum()
    return float(-np.sum(p * np.log2(p)))


# --- dead zones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rounding", [1 / 6, 1 / 3, 1 / 2, 0.8, 1.0])
def test_dead_zone_of_samples(shape, rounding):
    density, step = GGD.from_std(shape, 1.0), 0.9
    x = density.sample(1_000_000, seed=2)
    index = np.sign(x) * np.floor(np.abs(x) / step + rounding)
    theory = dead_zone(density, step, rounding)
    assert theory.mse == pytest.approx(np.mean((x - index * step) ** 2), rel=0.006)
    assert theory.entropy_bits == pytest.approx(entropy(np.unique(index, return_counts=True)[1]), abs=0.005)
    assert theory.underflow == pytest.approx(np.mean(index == 0), abs=0.002)


@pytest.mark.parametrize("shape", SHAPES)
def test_dead_zone_of_the_distribution_function(shape):
    density, step, rounding = GGD(shape, 0.7), 0.5, 0.3
    side = stats.gennorm(shape, 0.0, 0.7)
    ends = (np.arange(1, 2000) - rounding) * step
    tail = -np.diff(side.sf(np.append(ends, np.inf)))
    p = np.concatenate([[1.0 - 2.0 * side.sf(ends[0])], tail, tail])
    assert dead_zone(density, step, rounding).entropy_bits == pytest.approx(entropy(p), abs=1e-9)


def test_half_is_rounding_to_nearest():
    density = GGD(0.8, 0.02)
    theory = dead_zone(density, 0.01)
    assert (theory.mse, theory.entropy_bits) == pytest.approx(entropy_coded_uniform(density, 0.01), rel=1e-12)


# --- rounding that counts bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("price", [0.02, 0.1, 0.3])
def test_optimized_rounding_of_samples(shape, price):
    """The same procedure on samples: choose, count, choose again until nothing changes."""
    density, step = GGD.from_std(shape, 1.0), 1.0
    x = np.sort(density.sample(200_000, seed=4))
    values = np.arange(-60, 61) * step
    chosen = np.round(x).astype(int) + 60
    for _ in range(300):
        counts = np.bincount(chosen, minlength=values.size)
        with np.errstate(divide="ignore"):
            lengths = -np.log2(counts / x.size)
        near = np.clip(chosen[:, None] + np.arange(-3, 4), 0, values.size - 1)
        cost = (x[:, None] - values[near]) ** 2 + price * lengths[near]
        before, chosen = chosen, near[np.arange(x.size), np.argmin(cost, axis=1)]
        if np.array_equal(before, chosen):
            break
    theory = optimized_rounding(density, step, price).theory
    assert theory.mse == pytest.approx(np.mean((x - values[chosen]) ** 2), rel=0.02)
    assert theory.entropy_bits == pytest.approx(entropy(np.bincount(chosen)), rel=0.02)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("step", "price"), [(0.5, 0.02), (1.0, 0.1), (2.0, 0.5), (2.0, 0.0)])
def test_no_input_has_a_cheaper_value(shape, step, price):
    density = GGD.from_std(shape, 1.0)
    result = optimized_rounding(density, step, price)
    x = np.random.default_rng(0).uniform(-8, 8, 4000)
    cost = (x[:, None] - result.values) ** 2 + price * result.lengths
    chosen = np.searchsorted(result.boundaries, x)
    assert np.all(cost[np.arange(x.size), chosen] <= cost.min(axis=1) + 1e-4 * step**2)
    plain = dead_zone(density, step)
    assert result.theory.mse + price * result.theory.entropy_bits <= plain.mse + price * plain.entropy_bits + 1e-12
    if price:
        assert result.theory.entropy_bits < plain.entropy_bits
    else:
        assert result.theory.mse == pytest.approx(plain.mse, rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_saves_bits_at_the_same_error(shape):
    """Against rounding to nearest with the step that has this error."""
    from scipy.optimize import brentq

    density = GGD.from_std(shape, 1.0)
    optimized = optimized_rounding(density, 1.0, 0.1).theory
    step = brentq(lambda step: dead_zone(density, step).mse - optimized.mse, 0.5, 3.0)
    assert 0.05 < dead_zone(density, step).entropy_bits - optimized.entropy_bits < 0.12


def test_bits_that_are_dear_leave_one_value():
    result = optimized_rounding(GGD.from_std(1.0, 1.0), 1.0, 50.0)
    assert result.theory.entropy_bits == pytest.approx(0.0, abs=1e-6)
    assert result.theory.mse == pytest.approx(1.0, rel=1e-4)


def test_the_cheapest_of_parabolas():
    """A lower envelope, against the least of all at many places."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        values = np.cumsum(generator.uniform(0.1, 1.0, 12))
        extra = generator.exponential(0.5, 12)
        kept, ends = _cheapest(values, extra)
        x = np.linspace(-3, 15, 2001)
        best = np.argmin((x[:, None] - values) ** 2 + extra, axis=1)
        assert np.array_equal(np.array(kept)[np.searchsorted(ends, x)], best)


# --- feedback ---------------------------------------------------------------------------------------------------------


def moments_of(count, kind, seed=0):
    if kind == "neighbours":
        return 0.9 ** np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(4 * count, count)) @ generator.normal(size=(count, count))
    x *= generator.lognormal(0.0, 0.5, count)
    return x.T @ x / len(x)


def rounded(weights, moments, steps, order):
    """Round column by column; the free columns then take the values that are the best for the errors made."""
    free, fixed = list(order), []
    target, result = weights.copy(), weights.copy()
    for column in order:
        result[:, column] = np.round(target[:, column] / steps[column]) * steps[column]
        free.remove(column)
        fixed.append(column)
        if free:
            error = result[:, fixed] - weights[:, fixed]
            made_up = np.linalg.solve(moments[np.ix_(free, free)], moments[np.ix_(free, fixed)] @ error.T).T
            target[:, free] = weights[:, free] - made_up
    return result


def cost(error, moments):
    return float(np.mean(np.einsum("ri,ij,rj->r", error, moments, error))) / len(moments)


@pytest.mark.parametrize("kind", ["neighbours", "any"])
def test_gains_of_simulated_feedback(kind):
    count, rows, step = 24, 4000, 0.05
    moments = moments_of(count, kind)
    weights = np.random.default_rng(1).normal(size=(rows, count))
    order = np.random.default_rng(2).permutation(count)
    gain = feedback_gain(moments, order)
    unit = step**2 / 12
    plain = np.round(weights / step) * step - weights
    assert cost(plain, moments) == pytest.approx(gain.plain * unit, rel=0.03)
    fed = rounded(weights, moments, np.full(count, step), order) - weights
    assert cost(fed, moments) == pytest.approx(gain.feedback * unit, rel=0.03)
    # Steps by column with the same product: the same rate, and the geometric mean.
    steps = step * np.sqrt(gain.bound / gain.conditional)
    assert np.prod(steps / step) == pytest.approx(1.0)
    apart = rounded(weights, moments, steps, order) - weights
    assert cost(apart, moments) == pytest.approx(gain.bound * unit, rel=0.03)
    saved = 0.5 * np.log2(cost(plain, moments) / cost(apart, moments))
    assert gain.bits == pytest.approx(saved, abs=0.03)
    assert gain.feedback_db + gain.steps_db == pytest.approx(20 * gain.bits * np.log10(2.0))


def test_conditional_variances_are_those_of_the_inverse():
    """Of an input given others: one over its element of the inverse of their moments."""
    moments = moments_of(9, "any")
    gain = feedback_gain(moments)
    for i in range(9):
        assert gain.conditional[i] == pytest.approx(1.0 / np.linalg.inv(moments[i:, i:])[0, 0])
    assert gain.bound == pytest.approx(np.linalg.det(moments) ** (1 / 9))
    for seed in range(3):
        assert feedback_gain(moments, np.random.default_rng(seed).permutation(9)).bound == pytest.approx(gain.bound)


def test_inputs_apart_gain_nothing_from_feedback():
    gain = feedback_gain(np.diag([1.0, 2.0, 4.0]))
    assert (gain.feedback_db, gain.bound) == pytest.approx((0.0, 2.0))
    assert gain.steps_db == pytest.approx(10 * np.log10(7 / 6))


def test_what_is_refused():
    density = GGD(1.0)
    for step in (0.0, -1.0, np.nan, np.inf, 1e-9):
        with pytest.raises(ValueError, match="step"):
            dead_zone(density, step)
    for rounding in (0.0, 1.1, np.nan):
        with pytest.raises(ValueError, match="rounding is above 0"):
            dead_zone(density, 1.0, rounding)
    for price in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="price"):
            optimized_rounding(density, 1.0, price)
    for moments in (np.ones((2, 3)), np.zeros((0, 0))):
        with pytest.raises(ValueError, match="shape"):
            feedback_gain(moments)
    for moments in (np.ones((2, 2)), [[1.0, 0.5], [0.0, 1.0]], [[1.0, np.nan], [np.nan, 1.0]], -np.eye(2)):
        with pytest.raises(ValueError, match="positive definite"):
            feedback_gain(moments)
    for order in ([0, 0], [0], [1, 2]):
        with pytest.raises(ValueError, match="each of 2 columns once"):
            feedback_gain(np.eye(2), order)
