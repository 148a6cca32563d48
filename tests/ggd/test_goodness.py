"""Data that no generalized Gaussian describes are named, and data of the family are not."""

import math

import ml_dtypes
import numpy as np
import pytest
from scipy import integrate, stats

import ggd
from ggd import GGD, fit, goodness, select
from ggd.findings import verdict
from ggd.survey import summarize, survey


def bimodal(n, apart=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(n) + rng.choice([-apart, apart], n)


@pytest.mark.parametrize("n", [30, 300, 3000, 100_000])
@pytest.mark.parametrize("shape", [0.1, 0.3, 1.0, 2.0, 8.0])
def test_the_family_fits_itself(shape, n):
    fits = [fit(GGD(shape, 0.02).sample(n, seed=[n, k])) for k in range(40)]
    misfits = np.array([result.misfit for result in fits if not math.isnan(result.misfit)])
    assert misfits.size > 10
    assert np.all(misfits < goodness.limit(n))
    # What is left after the expected value is taken off is half a chi-square's spread.
    cells = goodness.equal_cells(shape, 1.0, n).size + 1
    assert misfits.mean() < 2.0 * math.sqrt(2 * cells) / (2 * n * math.log(2))


def test_the_misfit_is_close_to_the_divergence():
    """Of two clusters from the best generalized Gaussian; cells lose little of it, and never exceed it."""
    x = bimodal(1_000_000)
    result = fit(x)

    def bits(v):
        density = 0.5 * (stats.norm.pdf(v, -3) + stats.norm.pdf(v, 3))
        return density * (math.log2(density) - result.distribution.logpdf(v) / math.log(2)) if density else 0.0

    whole = 2 * integrate.quad(bits, 0, 9, limit=500)[0]
    assert 0.85 * whole < result.misfit < whole + 1e-3


SAMPLES = {
    "two clusters": lambda: bimodal(100_000),
    "one sign": lambda: np.random.default_rng(1).exponential(size=100_000),
    "a spike": lambda: np.random.default_rng(2).standard_normal(100_000) * np.where(np.arange(100_000) % 2, 1.0, 1e-3),
    "plus and minus one": lambda: np.where(np.arange(10_000) % 2, 1.0, -1.0) * (1 + 0.01 * bimodal(10_000)),
    "about one": lambda: 1 + 0.1 * np.random.default_rng(3).standard_normal(128),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_not_described_is_not_trusted(name):
    x = SAMPLES[name]()
    result = fit(x)
    assert not result.trusted
    said = "describes the values: a histogram saves", "density is low near the centre", "do not lie about the centre 0"
    assert any(words in result.reason for words in said)
    assert ("do not lie about" in result.reason) == (name in ("one sign", "about one"))
    chosen = select(x)
    undescribed = "none of them describes the values" in chosen.verdict
    assert undescribed == (name not in ("one sign", "a spike"))  # half-densities and a spike are among the families
    assert (chosen[chosen.chosen].misfit > goodness.limit(x.size)) == undescribed
    found = survey([summarize(name, x)])
    assert result.reason in "\n".join(verdict(found))
    assert found.tensors[0].to_json()["fit"]["centre"] == 0.0


def test_a_centre_found_is_named_and_fits():
    x = SAMPLES["about one"]()
    assert f"about the centre 0: their mean is {x.mean():.3g}; in Python: ggd.fit(w, loc='free')" in fit(x).reason
    result = fit(x, loc="free")
    assert result.loc == pytest.approx(1.0, abs=0.05)
    assert result.trusted, result.reason
    assert f"about the centre 3: their mean is {x.mean():.3g}" in fit(x, loc=3.0).reason


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.int8]
)
def test_a_grid_alone_is_no_misfit(dtype):
    x = (GGD.from_std(1.5, 20.0).sample(100_000, seed=0)).astype(dtype).astype(np.float32)
    assert fit(x).misfit < 0.02


def test_nothing_to_say():
    assert math.isnan(fit(np.zeros(5)).misfit)
    assert math.isnan(fit(bimodal(10_000), censor=0.1).misfit)
    assert math.isnan(ggd.fit_grouped([-2.0, -1.0, 0.0, 1.0, 3.0, 9.0], [1, 5, 7, 4, 2]).misfit)


# --- tails that a fit does not have -----------------------------------------------------------------------------------


def test_one_value_far_out_is_named():
    """A single value of 30 deviations in 100,000 moves the shape by ten standard errors."""
    x = np.random.default_rng(0).normal(size=100_000)
    clean = ggd.fit(x)
    x[0] = 30.0
    fit = ggd.fit(x)
    assert clean.trusted
    assert clean.shape - fit.shape > 9 * clean.stderr.shape
    assert not fit.trusted
    assert fit.reason == (
        "the tail is heavier than this fit's: the largest of 100,000 values, 30, is 4 times as large as any that it "
        "allows; in Python: ggd.fit(w, censor=2e-05)"
    )
    censored = ggd.fit(x, censor=2e-5)
    assert censored.trusted
    assert abs(censored.shape - clean.shape) < clean.stderr.shape


@pytest.mark.parametrize("seed", range(3))
def test_a_heavier_tail_is_not_trusted(seed):
    """Student's t: the largest value lies far beyond what the generalized Gaussian allows for."""
    x = np.random.default_rng(seed).standard_t(3, size=100_000)
    fit = ggd.fit(x)
    assert np.abs(x).max() > 4 * fit.distribution.isf(0.5 / x.size)
    assert not fit.trusted
    assert "heavier than this fit's" in fit.reason or "lie beyond what this fit predicts" in fit.reason


@pytest.mark.parametrize("shape", [0.3, 0.5, 1.0, 2.0, 6.0])
def test_samples_of_the_family_keep_their_trust(shape):
    for seed in range(20):
        assert ggd.fit(ggd.GGD(shape).sample(20_000, seed=seed)).trusted, (shape, seed)
