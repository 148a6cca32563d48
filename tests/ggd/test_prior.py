"""The penalty of the prior, its proximal operator, and shapes from moments."""

import numpy as np
import pytest
from scipy import optimize

import ggd
from ggd import prior

SHAPES = (0.3, 0.5, 0.7, 0.95, 1.0, 1.001, 1.05, 1.3, 1.8, 2.0, 2.5, 4.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [1e-6, 1e-3, 0.1, 3.0])
def test_shrink_minimizes(shape, step):
    """Against a fine search for the minimum, polished: the oracle shares nothing with Newton's method."""
    for x in (-7.0, -1.0, -0.2, 0.011, 1e-3, 0.0):
        v = abs(x)

        def cost(u, v=v):
            return 0.5 * (u - v) ** 2 + step * u**shape

        grid = np.concatenate([[0.0], np.geomspace(1e-12, max(v, 1e-9), 4000)])
        best = grid[np.argmin(cost(grid))]
        found = float(prior.shrink(np.array([x]), step, shape)[0])
        assert np.sign(found) in (0.0, np.sign(x))
        assert cost(abs(found)) <= cost(best) * (1 + 1e-9) + 1e-300
        if found:  # stationary
            slope = abs(found) - v + step * shape * abs(found) ** (shape - 1)
            assert abs(slope) < 1e-9 * max(v, 1)


@pytest.mark.parametrize("shape", [0.3, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("step", [1e-4, 0.05, 2.0])
def test_the_jump(shape, step):
    """At the threshold zero and the jump cost the same; just above it the larger is taken."""
    threshold = prior.shrink_threshold(step, shape)
    below, above = prior.shrink(threshold * np.array([1 - 1e-9, 1 + 1e-9]), step, shape)
    assert below == 0 < above
    assert 0.5 * (above - threshold) ** 2 + step * above**shape == pytest.approx(0.5 * threshold**2, rel=1e-7)


def test_soft_threshold_is_exact():
    x = np.array([-1.0, -0.25, -0.125, 0.0, 0.125, 0.75])
    assert prior.shrink(x, 0.25, 1.0).tolist() == [-0.75, 0.0, 0.0, 0.0, 0.0, 0.5]
    assert prior.shrink(x, 0.0, 1.0) is x


@pytest.mark.parametrize("shape", [0.7, 1.0, 1.5, 2.0])
def test_any_layout(shape):
    x = np.linspace(-1, 1, 24).reshape(2, 3, 4)
    whole = prior.shrink(x, 0.05, shape)
    assert whole.shape == x.shape
    np.testing.assert_allclose(
        prior.shrink(x.transpose(2, 0, 1)[:, :, ::2], 0.05, shape), whole.transpose(2, 0, 1)[:, :, ::2]
    )
    assert float(prior.shrink(x[1, 1, 1], 0.05, shape)) == pytest.approx(whole[1, 1, 1])
    assert prior.shrink(x[:0], 0.05, shape).shape == (0, 3, 4)


def test_float32_is_as_good_as_float64():
    rng = np.random.default_rng(0)
    x = rng.standard_t(2, 20_000) * 0.05
    for shape in SHAPES:
        for step in (1e-5, 1e-3, 0.1):
            wide = prior.shrink(x, step, shape)
            narrow = prior.shrink(x.astype(np.float32), step, shape)
            away = np.abs(np.abs(x) - prior.shrink_threshold(step, shape)) > 1e-5  # from where a jump is decided
            error = np.abs(narrow - wide) / np.abs(x)
            assert narrow.dtype == np.float32
            assert error[away].max() < 4e-6, (shape, step)


def test_gradient_is_the_derivative():
    x = np.array([-2.0, -0.3, 1e-3, 0.7])
    for shape in (0.5, 1.0, 1.7):
        numeric = [
            optimize.approx_fprime([value], lambda u, shape=shape: prior.penalty(u, shape, eps=1e-4)[0], 1e-8)[0]
            for value in x
        ]
        np.testing.assert_allclose(prior.penalty_gradient(x, shape, eps=1e-4), numeric, rtol=1e-4)
    assert prior.penalty_gradient(np.zeros(2), 0.5, eps=0.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0, 1.7, 4.0])
def test_shape_from_ratio_is_the_half_moment_fit(shape):
    x = ggd.GGD(shape, 0.03).sample(50_000, seed=1)
    magnitude = np.abs(x)
    found = prior.shape_from_ratio(magnitude.mean() / np.sqrt(magnitude).mean() ** 2)
    result = ggd.fit(x, "half-moments")
    assert found == pytest.approx(result.shape, rel=1e-4)
    assert prior.scale_from_mean(magnitude.mean(), result.shape) == pytest.approx(
        ggd.GGD(result.shape).scale * magnitude.mean() / float(np.abs(ggd.GGD(result.shape).ppf(UNIFORM)).mean()),
        rel=2e-3,
    )


UNIFORM = (np.arange(200_000) + 0.5) / 200_000


def test_what_is_refused():
    for call in (prior.penalty, prior.penalty_gradient):
        with pytest.raises(ValueError, match="shape of a prior is positive"):
            call(np.ones(1), 0.0)
    with pytest.raises(ValueError, match="step of a penalty"):
        prior.shrink(np.ones(1), -1.0, 1.0)
    assert np.isnan(prior.shape_from_ratio(float("nan")))
