"""The asymmetric fit: what was sampled, the likelihood of the raw data, the stated errors, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from ggd import GGD, MagnitudeHistogram, fit, fit_asymmetric, select
from ggd.families import family_names


def sample(shape, left, right, n, seed):
    """Magnitudes of a generalized Gaussian on sides chosen in proportion to the scales."""
    t = np.abs(GGD(shape).sample(n, seed=[seed, 1]))
    below = np.random.default_rng([seed, 2]).random(n) < left / (left + right)
    return np.where(below, -left * t, right * t)


@pytest.mark.parametrize("shape", [0.3, 0.7, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.02, 0.03), (10.0, 0.5)])
def test_recovers_what_was_sampled(shape, left, right):
    x = sample(shape, left, right, 100_000, 3)
    result = fit_asymmetric(np.append(x, np.zeros(7)))
    assert result.trusted, result.reason
    assert (result.n, result.zeros) == (100_000, 7)
    for found, truth, error in zip(
        (result.shape, result.left, result.right), (shape, left, right), result.stderr, strict=True
    ):
        assert abs(found - truth) < 5 * error
    assert (abs(result.asymmetry) > 5) == (left != right)
    assert (result.asymmetry > 0) == (right > left) or left == right
    assert result.loglik == pytest.approx(np.mean(result.distribution.logpdf(x)), rel=1e-6)
    assert result == fit_asymmetric(MagnitudeHistogram.from_array(np.append(np.zeros(7), x)))


@pytest.mark.parametrize("shape", [0.5, 1.5])
def test_is_the_maximum_of_the_likelihood_of_every_value(shape):
    x = sample(shape, 1.0, 2.0, 20_000, 5).astype(np.float32).astype(np.float64)

    def loss(theta):
        p, left, right = np.exp(theta)
        t = np.abs(x) / np.where(x < 0, left, right)
        return -(math.log(p) - math.lgamma(1 / p) - math.log(left + right) - np.mean(t**p))

    result = fit_asymmetric(x)
    theta = np.log([result.shape, result.left, result.right])
    found = optimize.minimize(
        loss, theta + 0.1, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15, "maxfev": 5000}
    )
    assert theta == pytest.approx(found.x, abs=2e-6)
    # The stated errors are those of the curvature there.
    h = 1e-3 * np.eye(3)
    curvature = [
        [(loss(theta + a + b) - loss(theta + a - b) - loss(theta - a + b) + loss(theta - a - b)) / 4e-6 for a in h]
        for b in h
    ]
    errors = np.sqrt(np.diag(np.linalg.inv(curvature)) / x.size) * np.exp(theta)
    assert tuple(result.stderr) == pytest.approx(errors, rel=0.05)


def test_stated_errors_are_those_of_repeated_samples():
    repeats = [fit_asymmetric(sample(0.8, 1.0, 2.0, 4000, seed)) for seed in range(200)]
    for i, name in enumerate(("shape", "left", "right")):
        spread = np.std([getattr(result, name) for result in repeats], ddof=1)
        # The standard deviation of 200 normal values has relative error 1/sqrt(400) = 5 %.
        assert spread == pytest.approx(np.median([result.stderr[i] for result in repeats]), rel=0.2)
    z = [fit_asymmetric(sample(0.8, 1.0, 1.0, 4000, seed)).asymmetry for seed in range(200)]
    assert np.std(z, ddof=1) == pytest.approx(1.0, rel=0.2)


def test_is_the_symmetric_fit_of_symmetric_data():
    x = np.abs(GGD(0.7, 0.02).sample(20_000, seed=0))
    symmetric, result = fit(x), fit_asymmetric(np.concatenate([x, -x]))
    assert (result.left, result.right) == pytest.approx((symmetric.scale, symmetric.scale), rel=1e-6)
    assert (result.shape, result.loglik) == pytest.approx((symmetric.shape, symmetric.loglik), rel=1e-6)
    assert result.asymmetry == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros(3), "all 3 values are zero"),
        (np.abs(GGD(1.0).sample(100, seed=0)), "on one side of zero"),
        (np.linspace(-1, 1, 10_001), "as if uniform"),
    ],
)
def test_no_answer_is_no_number(x, words):
    result = fit_asymmetric(x)
    assert not result.trusted
    assert words in result.reason
    assert math.isnan(result.shape)
    assert math.isnan(result.asymmetry)
    with pytest.raises(ValueError, match="no fitted distribution"):
        result.distribution  # noqa: B018


def test_numbers_not_to_be_trusted():
    rng = np.random.default_rng(0)
    clusters = rng.standard_normal(50_000) + rng.choice([-3.0, 5.0], 50_000)
    assert "no member of this family describes the values" in fit_asymmetric(clusters).reason
    assert "too few values (15)" in fit_asymmetric(np.linspace(-0.1, 2, 15) ** 3).reason


def test_families_of_choice():
    x = sample(0.8, 1.0, 1.5, 50_000, 0)
    every, some = select(x), select(x, families=("asymmetric-ggd", "laplace", "ggd"))
    assert {fitted.name for fitted in some.fits} == {"ggd", "laplace", "asymmetric-ggd"} < set(family_names())
    assert some.chosen == "asymmetric-ggd"
    for fitted in some.fits:
        assert fitted.bits == every[fitted.name].bits
    result = fit_asymmetric(x)
    assert some["asymmetric-ggd"].parameters == pytest.approx(
        {"shape": result.shape, "left": result.left, "right": result.right}, rel=1e-4
    )
    assert select(x, families="ggd").verdict == "ggd, the only family compared"
    for bad, words in (((), "no family to compare"), (("gaussian", "cauchy"), "unknown family 'cauchy': choose from")):
        with pytest.raises(ValueError, match=words):
            select(x, families=bad)
