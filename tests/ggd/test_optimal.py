"""Best quantizers satisfy the conditions of optimality and reach known values; bounds bound."""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, optimize

from ggd import (
    GGD,
    best_scale,
    cell_probabilities,
    entropy_coded_uniform,
    expected_mse,
    expected_mse_stochastic,
    index_entropy,
    lloyd_max,
    panter_dite,
    shannon_lower_bound,
)

SHAPES = [0.05, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0, 20.0, 100.0]
TABLE = np.concatenate([-(2.0 ** np.arange(3, -9, -0.5)), [0.0], 2.0 ** np.arange(-8.5, 3.5, 0.5)])


def decibels(mse: float) -> float:
    return -10 * math.log10(mse)


@pytest.mark.parametrize(
    ("shape", "known", "tolerance"),
    [
        (0.3, 37.10, 0.05),
        (0.5, 39.12, 0.05),
        (0.8, 40.88, 0.05),
        (1.0, 41.67, 0.005),
        (1.5, 43.00, 0.005),
        (2.0, 43.85, 0.005),
    ],
)
def test_known_values_of_256_levels(shape, known, tolerance):
    assert decibels(lloyd_max(GGD.from_std(shape, 1.0), 256).mse) == pytest.approx(known, abs=tolerance)


@pytest.mark.parametrize(
    ("levels", "values", "mse"),
    [
        (2, [0.7980], 0.3634),
        (3, [0, 1.224], 0.1902),
        (4, [0.4528, 1.510], 0.1175),
        (5, [0, 0.7646, 1.724], 0.07994),
        (8, [0.2451, 0.7560, 1.344, 2.152], 0.03454),
    ],
)
def test_the_table_of_max_1960_for_a_gaussian(levels, values, mse):
    best = lloyd_max(GGD.from_std(2.0, 1.0), levels)
    np.testing.assert_allclose(best.values[levels // 2 :], values, atol=6e-4)
    assert best.mse == pytest.approx(mse, abs=6e-5)


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 15, 16, 255, 256])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_value_is_the_mean_of_its_cell(shape, levels):
    d = GGD.from_std(shape, 0.02, 0.3)
    best = lloyd_max(d, levels)
    assert best.values.shape == (levels,)
    np.testing.assert_allclose(best.values + best.values[::-1], 0.6, rtol=1e-12, atol=1e-15 * best.values[-1])
    np.testing.assert_array_equal(best.boundaries, (best.values[1:] + best.values[:-1]) / 2)
    assert best.mse == expected_mse(d, best.values, best.boundaries)
    # The means by another quadrature, in the variable that makes the density exponential.
    t = (best.values - d.loc) / d.scale
    edges = [-math.inf, *((best.boundaries - d.loc) / d.scale), math.inf]
    for i in range(levels // 2, levels, max(1, levels // 16)):
        left, right = (abs(e) ** shape for e in edges[i : i + 2])
        if edges[i] < 0 < edges[i + 1]:
            continue

        def moment(k, left=left, right=right):
            power = (k + 1) / shape
            top = min(right, left + 745.0)
            with mp.workdps(30):
                return float(mp.gammainc(power, left, top if top < right else right))

        assert t[i] == pytest.approx(moment(1) / moment(0), rel=1e-9)


@pytest.mark.parametrize("shape", [0.3, 1.0, 3.0])
def test_nothing_near_is_better(shape):
    d = GGD(shape)
    best = lloyd_max(d, 12)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-1):
        for _ in range(10):
            values = np.sort(best.values * (1 + size * rng.standard_normal(12)))
            assert expected_mse(d, values, (values[1:] + values[:-1]) / 2) > best.mse


@pytest.mark.parametrize("shape", SHAPES)
def test_bounds(shape):
    d = GGD(shape, 0.7)
    width, _ = integrate.quad(lambda z: z ** (1 / shape - 1) * math.exp(-z / 3) / shape, 0, np.inf)
    exact = (2 * width) ** 3 / (2 * 0.7 * math.gamma(1 + 1 / shape)) * 0.7**3 / (12 * 100**2)
    assert panter_dite(d, 100) == pytest.approx(exact, rel=1e-6, abs=0.0)
    assert lloyd_max(d, 2048).mse == pytest.approx(panter_dite(d, 2048), rel=0.01, abs=0.0)
    for levels in (2, 16, 256):
        best = lloyd_max(d, levels)
        assert best.mse > shannon_lower_bound(d, index_entropy(d, best.boundaries))
        assert best.mse > shannon_lower_bound(d, math.log2(levels))


@pytest.mark.parametrize("shape", [0.3, 0.5, 1.0, 2.0, 10.0])
def test_entropy_coded_uniform_quantizer(shape):
    d = GGD.from_std(shape, 1.0)
    step = 1e-3 if shape > 0.4 else 1e-5
    if shape >= 1.0:
        mse, bits = entropy_coded_uniform(d, step)
        assert mse == pytest.approx(step**2 / 12, rel=1e-4)
        assert bits == pytest.approx(d.entropy_bits - math.log2(step), abs=1e-3)
    mse, bits = entropy_coded_uniform(d, 0.2)
    assert mse > shannon_lower_bound(d, bits)
    mse, bits = entropy_coded_uniform(d, 1e6)
    assert mse == pytest.approx(1.0)
    assert bits == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="positive"):
        entropy_coded_uniform(d, 0.0)
    with pytest.raises(ValueError, match="levels"):
        entropy_coded_uniform(d, 1e-12)


@pytest.mark.parametrize("shape", [0.05, 0.5, 1.0, 2.0, 10.0, 100.0])
@pytest.mark.parametrize(("scale", "loc"), [(0.02, 0.0), (0.7, 0.1), (30.0, 0.0)])
def test_cells_and_stochastic_rounding_match_fifty_digits(shape, scale, loc):
    d = GGD(shape, scale, loc)
    boundaries = (TABLE[1:] + TABLE[:-1]) / 2
    with mp.workdps(50):
        p = mp.mpf(shape)

        def moment(k, x):
            t = (mp.mpf(float(x)) - mp.mpf(loc)) / mp.mpf(scale)
            z, whole = abs(t) ** p, mp.gamma((k + 1) / p)
            half = (whole if z > 1500 else mp.gammainc((k + 1) / p, 0, z)) / (2 * mp.gamma(1 / p))
            return half if t >= 0 else (-1) ** (k + 1) * half

        def tail(x):
            z = abs((mp.mpf(float(x)) - mp.mpf(loc)) / mp.mpf(scale)) ** p
            return mp.gammainc(1 / p, z, mp.inf) / (2 * mp.gamma(1 / p)) if z < 1e6 else mp.mpf(0)

        found = cell_probabilities(d, boundaries)
        assert found.sum() == pytest.approx(1.0, rel=1e-12)
        for i, (a, b) in enumerate(pairwise(boundaries), start=1):
            far = min(abs(a - loc), abs(b - loc)) > scale
            exact = abs(tail(a) - tail(b)) if far and (a - loc) * (b - loc) > 0 else moment(0, b) - moment(0, a)
            assert exact < 1e-280 or abs(found[i] / exact - 1) < 1e-9
        entropy = -sum(float(q) * math.log2(q) for q in found if q > 0)
        assert index_entropy(d, boundaries) == pytest.approx(entropy, rel=1e-12)

        total, s, m = mp.mpf(0), mp.mpf(scale), mp.mpf(loc)
        ends = [mp.mpf(float(v)) for v in TABLE]
        powers = [[moment(k, v) for k in range(3)] for v in TABLE]
        for i in range(len(TABLE) - 1):
            a, b = ((e - m) / s for e in ends[i : i + 2])
            m0, m1, m2 = (powers[i + 1][k] - powers[i][k] for k in range(3))
            total += -m2 + (a + b) * m1 - a * b * m0
        whole = [mp.gamma((k + 1) / p) / (2 * mp.gamma(1 / p)) for k in range(3)]
        for i, sign in ((0, -1), (-1, 1)):
            v = (ends[i] - m) / s
            # From the outermost value to the end of the line on its side.
            m0, m1, m2 = (sign ** (k + 1) * whole[k] - powers[i][k] for k in range(3))
            m0, m1, m2 = (sign * part for part in (m0, m1, m2))
            total += m2 - 2 * v * m1 + v * v * m0
        assert abs(expected_mse_stochastic(d, TABLE) / (total * s * s) - 1) < 1e-9


def test_stochastic_rounding_matches_samples():
    d = GGD(0.8, 0.5)
    x = d.sample(400_000, seed=1)
    inside = np.clip(x, TABLE[0], TABLE[-1])
    i = np.clip(np.searchsorted(TABLE, inside, side="right") - 1, 0, TABLE.size - 2)
    share = (inside - TABLE[i]) / (TABLE[i + 1] - TABLE[i])
    y = np.where(np.random.default_rng(2).random(x.size) < share, TABLE[i + 1], TABLE[i])
    error = (x - y) ** 2
    assert abs(error.mean() - expected_mse_stochastic(d, TABLE)) < 5 * error.std() / math.sqrt(x.size)


@pytest.mark.parametrize("shape", [0.3, 1.0, 2.0])
def test_best_scale(shape):
    d = GGD(shape, 0.02)
    integers = np.arange(-127.0, 128.0)
    for values in (integers, TABLE):
        boundaries = (values[1:] + values[:-1]) / 2
        best = best_scale(d, values, boundaries)
        assert best.mse == pytest.approx(expected_mse(d, best.scale * values, best.scale * boundaries), rel=1e-12)
        assert best.mse <= best.losses.min()
        assert best.scales.shape == best.losses.shape == (200,)
        for scale in np.geomspace(best.scales[0], best.scales[-1], 997):
            assert expected_mse(d, scale * values, scale * boundaries) >= best.mse * (1 - 1e-9)
    with pytest.raises(ValueError, match="zeros"):
        best_scale(d, [0.0], [])


def test_four_levels_by_a_general_optimizer():
    d = GGD(0.7)

    def loss(logs):
        v = np.cumsum(np.exp(logs))
        values = np.concatenate([-v[::-1], v])
        return expected_mse(d, values, (values[1:] + values[:-1]) / 2)

    found = optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    assert lloyd_max(d, 4).mse == pytest.approx(found.fun, rel=1e-9, abs=0.0)


@pytest.mark.parametrize("levels", [0, -1, 1.5, 65537])
def test_bad_levels(levels):
    with pytest.raises(ValueError, match="from 1 to 65536 levels"):
        lloyd_max(GGD(1.0), levels)


@pytest.mark.parametrize("boundaries", [[1.0, 0.0], [np.nan], [[0.0]]])
def test_bad_boundaries(boundaries):
    with pytest.raises(ValueError, match="finite and ascending"):
        cell_probabilities(GGD(1.0), boundaries)


@pytest.mark.parametrize(
    ("shape", "levels", "gain"), [(0.5, 2, 0.33), (0.3, 2, 0.75), (0.8, 6, 0.01), (1.0, 4, 0.0), (2.0, 4, 0.0)]
)
def test_an_asymmetric_quantizer_is_better_where_it_says_so(shape, levels, gain):
    """One value near the peak, and one less on a side: found by a search that knows nothing of symmetry."""
    density = GGD.from_std(shape, 1.0)

    def error(values):
        values = np.sort(values)
        return expected_mse(density, values, 0.5 * (values[1:] + values[:-1]))

    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 20_000, "maxfev": 20_000}
    start = lloyd_max(density, levels + 1).values[1:]
    least = optimize.minimize(error, start, method="Nelder-Mead", options=options).fun
    assert 10 * math.log10(lloyd_max(density, levels).mse / least) == pytest.approx(gain, abs=0.006)
