"""Fits of the centre, of censored and of grouped data."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from ggd import GGD, MagnitudeHistogram, fit, fit_grouped
from ggd.grouped import _log_probability


@pytest.mark.parametrize("shape", [0.1, 0.3, 0.8, 1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("loc", [0.0, -3.0, 1e4])
def test_free_centre(shape, loc):
    d = GGD(shape, 0.7, loc)
    x = d.sample(50_000, seed=21)
    result = fit(x, loc="free")
    assert result.trusted
    assert abs(result.loc - loc) < 5 * result.stderr.loc
    assert abs(result.shape - shape) < 5 * result.stderr.shape
    assert abs(result.scale - 0.7) < 5 * result.stderr.scale


@pytest.mark.parametrize("shape", [1.5, 2.0, 3.0])
def test_free_centre_is_the_most_likely_one(shape):
    x = GGD(shape, 0.7, 2.0).sample(20_000, seed=22)
    result = fit(x, loc="free")

    def loglik(p, loc, scale):
        return np.mean(stats.gennorm.logpdf(x, p, loc, scale))

    best = loglik(result.shape, result.loc, result.scale)
    assert result.loglik == pytest.approx(best, abs=1e-6)
    for i, error in ((0, result.stderr.shape), (1, result.stderr.loc), (2, result.stderr.scale)):
        for sign in (-1, 1):
            moved = np.array([result.shape, result.loc, result.scale])
            moved[i] += sign * 0.1 * error
            # A tenth of a standard error off costs about 0.005 / n in mean log-likelihood, or more where
            # shape and scale are correlated.
            assert best - loglik(*moved) > 0.002 / x.size


def test_error_of_a_free_centre_is_that_of_repeated_samples():
    for shape in (0.8, 1.5, 3.0):
        d, n = GGD(shape, 0.3, 1.0), 2000
        results = [fit(d.sample(n, seed=seed), loc="free") for seed in range(100)]
        assert np.std([r.loc for r in results], ddof=1) == pytest.approx(results[0].stderr.loc, rel=0.3)


def test_free_centre_leaves_zeros_out():
    x = GGD(1.5, 0.1, 4.0).sample(20_000, seed=23)
    plain, spiked = fit(x, loc="free"), fit(np.append(x, np.zeros(30_000)), loc="free")
    assert (spiked.n, spiked.zeros) == (20_000, 30_000)
    assert (spiked.shape, spiked.loc) == (plain.shape, plain.loc)
    assert fit(np.zeros(5), loc="free").reason == "all 5 values are zero"
    assert math.isnan(fit(np.full(100, 3.0), loc="free").shape)
    with pytest.raises(ValueError, match="pass the data"):
        fit(MagnitudeHistogram.from_array(x), loc="free")
    with pytest.raises(ValueError, match="empty"):
        fit([], loc="free")
    with pytest.raises(ValueError, match="got str"):
        fit(["a"], loc="free")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5])
@pytest.mark.parametrize("shape", [0.4, 1.0, 2.0])
def test_censored_fit_recovers_and_its_errors_hold(shape, share):
    d = GGD(shape, 0.02)
    result = fit(d.sample(100_000, seed=24), censor=share)
    assert result.method == "censored"
    assert result.trusted
    assert abs(result.shape - shape) < 5 * result.stderr.shape
    assert abs(result.scale - 0.02) < 5 * result.stderr.scale
    n = 4000
    results = [fit(d.sample(n, seed=seed), censor=share) for seed in range(60)]
    for name in ("shape", "scale"):
        spread = np.std([getattr(r, name) for r in results], ddof=1)
        expected = getattr(result.stderr, name) * math.sqrt(100_000 / n)
        assert 0.7 < spread / expected < 1.6


def test_censoring_almost_nothing_is_the_plain_fit():
    x = GGD(0.7, 5.0).sample(20_000, seed=25)
    plain, censored = fit(x), fit(x, censor=1e-9)
    assert censored.shape == pytest.approx(plain.shape, rel=2e-3)
    assert censored.stderr.shape == pytest.approx(plain.stderr.shape, rel=0.02)
    assert censored.loglik == pytest.approx(plain.loglik, abs=2e-3)


def test_outliers_have_no_say_when_censored():
    x = np.append(np.random.default_rng(0).standard_normal(100_000), np.full(5, 1000.0))
    assert fit(x).shape < 1.0
    result = fit(x, censor=0.001)
    assert abs(result.shape - 2.0) < 5 * result.stderr.shape


def grouped(d: GGD, n: int, step: float, levels: int, seed: int):
    x = d.sample(n, seed=seed)
    codes = np.clip(np.rint(x / step), -levels, levels).astype(int) + levels
    edges = step * np.concatenate([[-np.inf], np.arange(-levels + 0.5, levels), [np.inf]])
    return edges, np.bincount(codes, minlength=2 * levels + 1)


@pytest.mark.parametrize("shape", [0.4, 0.8, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("step", [0.05, 0.7])
def test_grouped_fit_recovers_where_the_density_of_the_grid_values_misleads(shape, step):
    d = GGD.from_std(shape, 1.0, 0.1)
    result = fit_grouped(*grouped(d, 200_000, step, 60, seed=26), loc=0.1)
    assert result.trusted
    assert (result.method, result.n, result.loc) == ("grouped", 200_000, 0.1)
    assert abs(result.shape - shape) < 5 * result.stderr.shape
    assert abs(result.scale - d.scale) < 5 * result.stderr.scale


def test_error_of_a_grouped_fit_is_that_of_repeated_samples():
    d = GGD.from_std(1.0, 1.0)
    results = [fit_grouped(*grouped(d, 4000, 0.5, 20, seed=seed)) for seed in range(60)]
    for name in ("shape", "scale"):
        spread = np.std([getattr(r, name) for r in results], ddof=1)
        assert spread == pytest.approx(getattr(results[0].stderr, name), rel=0.3)


def test_grouped_likelihood_is_that_of_the_intervals():
    d = GGD(0.8, 0.5)
    edges, counts = grouped(d, 50_000, 0.2, 30, seed=27)
    result = fit_grouped(edges, counts)
    exact = np.diff(stats.gennorm.cdf(edges, result.shape, 0, result.scale))
    inside = (counts > 0) & (exact > 1e-9)  # differences of scipy's cdf lose the far tail
    left_out = counts[(counts > 0) & ~inside].sum() / counts.sum()
    assert left_out < 1e-3
    assert result.loglik == pytest.approx(np.dot(counts[inside], np.log(exact[inside])) / counts.sum(), abs=0.02)


@pytest.mark.parametrize("shape", [0.05, 0.5, 1.0, 2.0, 20.0])
def test_log_probability_of_an_interval_wherever_it_lies(shape):
    with mp.workdps(250):  # 1 less the tails is as small as 1e-180
        p = mp.mpf(shape)

        def upper(t):
            return mp.gammainc(1 / p, mp.mpf(t) ** p, mp.inf, regularized=True) / 2

        for z in (1e-8, 1e-2, 0.5, 3.0, 30.0, 900.0):
            t = z ** (1 / shape)
            for left, right in ((t, 1.01 * t), (t, np.inf), (0.0, t), (-t, 2 * t), (-np.inf, 0.5 * t), (-1.3 * t, -t)):
                outside = [0 if np.isinf(end) else upper(abs(end)) for end in (left, right)]
                exact = 1 - sum(outside) if left <= 0 <= right else abs(outside[0] - outside[1])
                found = _log_probability(shape, np.array([left]), np.array([right]))[0]
                assert found == pytest.approx(float(mp.log(exact)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("edges", "counts", "words"),
    [
        ([0.0, 1.0], [1, 2], "k counts lie between"),
        ([0.0, 0.0, 1.0], [1, 2], "ascending"),
        ([0.0, np.nan, 1.0], [1, 2], "ascending"),
        ([0.0, 1.0, 2.0], [1, -2], "not be negative"),
        ([0.0, 1.0, 2.0], [0, 0], "at least one"),
    ],
)
def test_bad_groups(edges, counts, words):
    with pytest.raises(ValueError, match=words):
        fit_grouped(edges, counts)


def test_groups_that_determine_nothing():
    result = fit_grouped([-np.inf, -1.0, 1.0, np.inf], [10, 30, 10])
    assert math.isnan(result.shape)
    assert "determine no shape" in result.reason
    # All the same count in intervals of the same length: uniform.
    result = fit_grouped(np.arange(-5.0, 6.0), np.full(10, 10_000))
    assert math.isnan(result.shape)


@pytest.mark.parametrize("options", [{"censor": 1.0}, {"censor": -0.1}, {"censor": 0.1, "method": "moments"}])
def test_bad_censoring(options):
    with pytest.raises(ValueError, match="censor is a share"):
        fit([1.0, 2.0], **options)
