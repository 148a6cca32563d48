"""Derivatives against differences, and that no nearby parameters are likelier."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest

from ggd import GGD, MagnitudeHistogram, _gamma, rival_fits
from ggd.rival_fits import Sample

RNG = np.random.default_rng(3)
DATA = {
    "heavy": RNG.standard_t(2.5, 3000),
    "gaussian": RNG.standard_normal(3000),
    "light": GGD(4.0).sample(3000, seed=1),
    "mixture": np.where(RNG.random(3000) < 0.3, 0.1, 1.0) * RNG.standard_normal(3000),
    "few": RNG.standard_normal(40),
}
FITS = (rival_fits.fit_logistic, rival_fits.fit_student, rival_fits.fit_spike_and_slab)


def sample_of(x: np.ndarray) -> Sample:
    cells = MagnitudeHistogram.from_array(x / np.sqrt(np.mean(x**2))).cells()
    return Sample(cells.mean, cells.counts / cells.counts.sum())


@pytest.mark.parametrize("fit", FITS)
def test_derivatives_are_those_of_the_likelihood(fit, monkeypatch):
    heights = []

    def captured(likelihood, sample, starts, tried=1):
        heights.append(likelihood(sample))
        return np.array(starts[0])

    monkeypatch.setattr(rival_fits, "_climbed", captured)
    density = fit(sample_of(DATA["mixture"]))
    size = len(vars(density))
    for theta in np.random.default_rng(4).uniform(-1.5, 1.5, (5, size)):
        here, d = heights[0](theta), 1e-5
        for i, step in enumerate(d * np.eye(size)):
            above, below = heights[0](theta + step), heights[0](theta - step)
            assert here.gradient[i] == pytest.approx((above.value - below.value) / (2 * d), rel=1e-6, abs=1e-8)
            slopes = (above.gradient - below.gradient) / (2 * d)
            np.testing.assert_allclose(here.hessian[i], slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("fit", FITS)
def test_no_nearby_parameters_are_likelier(fit, name):
    sample = sample_of(DATA[name])
    density = fit(sample)

    def mean_log(density):
        return float(sample.weight @ density.logpdf(sample.x))

    best = mean_log(density)
    for field, value in vars(density).items():
        for factor in (0.9, 0.999, 0.99999, 1.00001, 1.001, 1.1):
            if field == "spike_share" and value * factor >= 1.0:
                continue
            assert mean_log(replace(density, **{field: value * factor})) <= best + 1e-14


def test_a_student_of_gaussian_data_is_as_likely_as_the_gaussian():
    sample = sample_of(DATA["light"])
    student = rival_fits.fit_student(sample)
    rms = math.sqrt(sample.weight @ sample.x**2)
    gaussian = float(sample.weight @ GGD.from_std(2.0, rms).logpdf(sample.x))
    assert student.df > 1e9
    assert float(sample.weight @ student.logpdf(sample.x)) == pytest.approx(gaussian, abs=1e-9)


@pytest.mark.parametrize("x", [1e-3, 0.5, 3.0, 29.9, 30.1, 1e3, 1e8, 1e15])
def test_half_step_has_all_digits(x):
    def ratio(log):
        y = mpmath.exp(log)
        return mpmath.loggamma(y + 0.5) - mpmath.loggamma(y) - log / 2

    with mpmath.workdps(60):
        exact = [float(mpmath.diff(ratio, mpmath.log(x), order)) for order in range(3)]
    np.testing.assert_allclose(_gamma.half_step(x), exact, rtol=1e-11 if x > 30.0 else 1e-9, atol=1e-14)
