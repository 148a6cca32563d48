"""Rival densities against scipy, fitted families against the truth, and the choice among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from ggd import GGD, MagnitudeHistogram, compare_estimators, fit, select
from ggd.families import SMALLEST_EFFECT, family_names
from ggd.rivals import AsymmetricGGD, Logistic, SpikeAndSlab, StudentT

X = np.concatenate([-np.geomspace(1e-3, 30, 40)[::-1], [0.0], np.geomspace(1e-3, 30, 40)])


def mixture(name):
    return lambda x: 0.3 * getattr(stats.norm, name)(x, scale=0.1) + 0.7 * getattr(stats.norm, name)(x, scale=2.0)


@pytest.mark.parametrize(
    ("density", "pdf", "cdf"),
    [
        (Logistic(0.7), stats.logistic(scale=0.7).pdf, stats.logistic(scale=0.7).cdf),
        (StudentT(2.5, 0.7), stats.t(2.5, scale=0.7).pdf, stats.t(2.5, scale=0.7).cdf),
        (SpikeAndSlab(0.3, 0.1, 2.0), mixture("pdf"), mixture("cdf")),
        (AsymmetricGGD(1.3, 0.7, 0.7), stats.gennorm(1.3, scale=0.7).pdf, stats.gennorm(1.3, scale=0.7).cdf),
    ],
)
def test_rivals_agree_with_scipy(density, pdf, cdf):
    np.testing.assert_allclose(density.logpdf(X), np.log(pdf(X)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(density.cdf(X), cdf(X), rtol=1e-10, atol=1e-15)


def test_asymmetric_density_is_one_and_has_that_distribution_function():
    d = AsymmetricGGD(0.8, 0.5, 2.0)
    for end in (-3.0, -0.2, 0.0, 0.4, 5.0):
        area, _ = integrate.quad(lambda x: math.exp(d.logpdf(np.array(x))), -np.inf, min(end, 0.0), epsabs=1e-12)
        if end > 0:
            area += integrate.quad(lambda x: math.exp(d.logpdf(np.array(x))), 0.0, end, epsabs=1e-12)[0]
        assert float(d.cdf(np.array(end))) == pytest.approx(area, abs=1e-8)
    assert float(d.cdf(np.array(np.inf))) == pytest.approx(1.0)


def samples() -> dict[str, tuple[np.ndarray, dict[str, float]]]:
    rng, n = np.random.default_rng(1), 200_000
    spiky = np.where(rng.random(n) < 0.7, 0.1, 1.0) * rng.standard_normal(n)
    right = np.abs(GGD(0.8).sample(n, seed=2))
    sided = np.where(rng.random(n) < 0.2, -0.5 * right, 2.0 * right)
    return {
        "gaussian": (rng.standard_normal(n) * 3.0, {"scale": 3.0 * math.sqrt(2.0)}),
        "laplace": (rng.laplace(size=n), {"scale": 1.0}),
        "logistic": (rng.logistic(size=n), {"scale": 1.0}),
        "ggd": (GGD(0.6, 0.02).sample(n, seed=3), {"shape": 0.6, "scale": 0.02}),
        "student-t": (rng.standard_t(3.0, n), {"df": 3.0, "scale": 1.0}),
        "asymmetric-ggd": (sided, {"shape": 0.8, "left": 0.5, "right": 2.0}),
        "spike-and-slab": (spiky, {"spike_share": 0.7, "spike": 0.1, "slab": 1.0}),
    }


@pytest.mark.parametrize("name", family_names())
def test_the_family_of_the_data_is_found_with_its_parameters(name):
    x, truth = samples()[name]
    choice = select(x)
    assert choice.chosen == name
    assert choice.verdict.startswith(name)
    assert choice[name].lost <= choice.threshold
    assert set(choice[name].parameters) == set(truth)
    assert choice[name].parameters == pytest.approx(truth, rel=0.05)
    assert choice[name].ks < 2.0 / math.sqrt(x.size)
    assert choice[name].wasserstein < 0.01
    assert np.all(np.diff([f.bits for f in choice.fits]) > -1e-10)
    assert min(f.lost for f in choice.fits) == 0.0


def test_code_length_is_that_of_the_raw_data_at_the_most_likely_parameters():
    x = samples()["ggd"][0][:20_000]
    choice = select(x)
    unit = np.std(x)
    for name, law, start in (("logistic", stats.logistic, [0.5]), ("student-t", stats.t, [2.0, 0.5])):

        def loss(theta, law=law):
            return -np.mean(law.logpdf(x / unit, *np.exp(theta[:-1]), scale=np.exp(theta[-1])))

        best = optimize.minimize(loss, np.log(start), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}).fun
        assert choice[name].bits == pytest.approx(best / math.log(2) + math.log2(unit), abs=1e-5)
    assert choice["ggd"].bits == pytest.approx(-fit(x).loglik / math.log(2), abs=1e-6)
    assert choice["asymmetric-ggd"].bits <= choice["ggd"].bits + 1e-9


def test_distances_to_a_known_density():
    x = GGD(2.0, math.sqrt(2.0)).sample(50_000, seed=4).astype(np.float32)
    choice = select(x)
    scale = choice["laplace"].parameters["scale"]
    exact = stats.kstest(x, stats.laplace(scale=scale).cdf).statistic
    assert choice["laplace"].ks == pytest.approx(exact, abs=0.003)
    ordered = np.sort(x.astype(np.float64))
    quantiles = stats.laplace(scale=scale).ppf((np.arange(x.size) + 0.5) / x.size)
    exact = np.mean(np.abs(ordered - quantiles)) / np.sqrt(np.mean(ordered**2))
    assert choice["laplace"].wasserstein == pytest.approx(exact, rel=0.02)


def test_effect_decides_and_not_significance():
    few = select(np.random.default_rng(0).standard_normal(60))
    assert few.chosen == "gaussian"
    assert few.verdict.startswith("indistinguishable")
    assert few.threshold == 5 * few.noise_floor > SMALLEST_EFFECT
    assert few.noise_floor == pytest.approx(3 / (2 * 60 * math.log(2)))  # three parameters fitted to 60 values
    # The shape is many standard errors from 2 here, and costs a Gaussian less than 1e-3 bits.
    x = GGD(1.95).sample(400_000, seed=5)
    assert abs(fit(x).shape - 2.0) > 5 * fit(x).stderr.shape
    choice = select(x)
    assert (choice.chosen, choice.threshold) == ("gaussian", SMALLEST_EFFECT)


def test_pooling_gaussians_of_spread_scales_looks_heavy_tailed():
    rng = np.random.default_rng(6)
    tensors = [
        MagnitudeHistogram.from_array(rng.standard_normal(5000) * scale) for scale in np.exp(rng.standard_normal(60))
    ]
    pooled = MagnitudeHistogram()
    for tensor in tensors:
        pooled |= tensor
    assert all(abs(fit(tensor).shape - 2.0) < 0.4 for tensor in tensors)
    assert fit(pooled).shape < 1.0
    assert select(pooled).chosen != "gaussian"


@pytest.mark.parametrize(
    ("x", "words"),
    [(np.zeros(5), "all 5 values are zero"), ([1.0, 2.0], "too few distinct")],
)
def test_no_family(x, words):
    choice = select(x)
    assert choice.chosen is None
    assert words in choice.verdict
    assert [f.name for f in choice.fits] == list(family_names())
    assert all(math.isnan(f.bits) for f in choice.fits)
    assert all(math.isnan(v) for v in compare_estimators(x).z.values())


def test_uniform_data_are_the_generalized_gaussian_of_largest_shape():
    x = np.random.default_rng(8).uniform(-3.0, 3.0, 50_000)
    choice = select(x)
    assert math.isnan(fit(x).shape)
    assert choice.chosen == "ggd"
    assert "as if uniform" in choice.verdict
    assert choice["ggd"].parameters["shape"] == 100.0
    # The code length of the uniform density is log2 6; shape 100 rounds its corners, which costs little.
    assert choice["ggd"].bits == pytest.approx(math.log2(6.0), abs=0.05)
    assert choice["gaussian"].lost > 0.1
    assert all(math.isfinite(value) for f in choice.fits for value in (f.bits, f.ks, f.wasserstein))
    assert "uniform" not in select(GGD(20.0).sample(50_000, seed=1)).verdict


def test_tails_too_heavy_for_the_range_have_an_answer():
    x = np.sign(np.linspace(-1, 1, 10_000)) * np.exp(np.linspace(-80, 80, 10_000))
    choice = select(x)
    assert math.isnan(fit(x).shape)
    assert choice["ggd"].parameters["shape"] == 0.05
    assert "heavier than" in choice.verdict
    assert choice.chosen is not None
    assert choice["gaussian"].lost > 1.0


def test_values_of_one_sign():
    choice = select(np.random.default_rng(7).exponential(size=20_000))
    assert choice.chosen == "asymmetric-ggd"
    assert choice["ggd"].lost == pytest.approx(1.0, abs=0.01)  # the sign is one bit


def test_estimators_agree_on_true_data_and_split_otherwise():
    for shape in (0.5, 1.0, 2.0):
        agreement = compare_estimators(GGD(shape).sample(200_000, seed=8))
        assert set(agreement.fits) == {"ml", "moments", "half-moments"}
        assert max(map(abs, agreement.z.values())) < 5
        assert max(map(abs, agreement.relative.values())) < 0.05
    split = compare_estimators(samples()["student-t"][0])
    assert max(map(abs, split.z.values())) > 10
