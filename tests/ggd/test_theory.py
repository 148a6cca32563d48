"""The theory of a quantizer under every family, against 30 digits of the densities as the textbooks write them."""

from __future__ import annotations

import functools
import math
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from loops import looped

from ggd import GGD, expected_mse, expected_mse_stochastic, index_entropy, quantizer_theory
from ggd.rivals import AsymmetricGGD, Logistic, SpikeAndSlab, StudentT
from ggd.theory import cell_moment


@functools.cache
def exact_density(density):
    """The density in mpmath, and the places where its integrals are to be cut.

    Values are kept, with their precision: integrals of several powers meet at the same points.
    """
    f, cuts = textbook(density)
    values = functools.cache(lambda x, digits: f(x))
    return (lambda x: values(x, mp.mp.dps)), cuts


def textbook(density):
    if isinstance(density, GGD):
        p, s, loc = map(mp.mpf, (density.shape, density.scale, density.loc))
        return (lambda x: p / (2 * s * mp.gamma(1 / p)) * mp.exp(-((abs(x - loc) / s) ** p))), [loc]
    if isinstance(density, AsymmetricGGD):
        p, a, b = map(mp.mpf, (density.shape, density.left, density.right))
        return (lambda x: p / ((a + b) * mp.gamma(1 / p)) * mp.exp(-((abs(x) / (a if x < 0 else b)) ** p))), [mp.mpf(0)]
    if isinstance(density, Logistic):
        s = mp.mpf(density.scale)
        return (lambda x: mp.sech(x / (2 * s)) ** 2 / (4 * s)), [mp.mpf(0)]
    if isinstance(density, StudentT):
        df, s = mp.mpf(density.df), mp.mpf(density.scale)
        norm = mp.gamma((df + 1) / 2) / (mp.sqrt(df * mp.pi) * mp.gamma(df / 2) * s)
        return (lambda x: norm * (1 + (x / s) ** 2 / df) ** (-(df + 1) / 2)), [mp.mpf(0)]
    w, a, b = map(mp.mpf, (density.spike_share, density.spike, density.slab))
    return (lambda x: w * mp.npdf(x, 0, a) + (1 - w) * mp.npdf(x, 0, b)), [mp.mpf(0)]


def exact_moment(density, left, right, v, power, unit):
    """Integral of (x - v)^power times the density from left to right, in pieces of every size about the centre."""
    with mp.workdps(30):
        f, cuts = exact_density(density)
        marks = [cuts[0] + s * unit * mp.mpf(2) ** k for k in range(-12, 13, 2) for s in (-1, 1)]
        l, r = mp.mpf(float(left)), mp.mpf(float(right))  # noqa: E741
        marks += [l + unit * mp.mpf(2) ** k for k in range(-12, 10, 2)] if mp.isfinite(l) else []
        marks += [r - unit * mp.mpf(2) ** k for k in range(-12, 10, 2)] if mp.isfinite(r) else []
        inner = sorted(m for m in [*cuts, *marks] if l < m < r)
        # mp.quad stops at an absolute error, so a cell in the tail is measured by its largest density.
        top = f(min(max(cuts[0], l), r))
        return top * mp.quad(lambda x: (x - mp.mpf(float(v))) ** power * (f(x) / top), [l, *inner, r])


DENSITIES = [
    GGD(0.5, 0.02),
    GGD(2.0, 0.8, 0.1),
    AsymmetricGGD(0.8, 0.3, 1.1),
    AsymmetricGGD(2.5, 1.5, 0.4),
    Logistic(0.05),
    Logistic(3.0),
    StudentT(3.0, 0.1),
    StudentT(2.5, 2.0),
    StudentT(40.0, 0.5),
    SpikeAndSlab(0.7, 0.02, 0.9),
]
TABLE = np.array([-2.0, -1.0, -0.75, -0.25, -0.015625, 0.0, 0.015625, 0.25, 0.5, 0.515625, 1.0, 4.0])


@pytest.mark.slow
@pytest.mark.parametrize("density", DENSITIES, ids=str)
@looped("power", [0, 1, 2])
def test_cell_moments_match_thirty_digits(density, power):
    edges = np.concatenate([[-np.inf], 0.5 * (TABLE[1:] + TABLE[:-1]), [np.inf]])
    left = np.concatenate([edges[:-1], [-np.inf, 4.0, -np.inf, -2.0]])
    right = np.concatenate([edges[1:], [np.inf, np.inf, -2.0, 5.0]])
    v = np.concatenate([TABLE, [0.25, 4.0, -2.0, -2.0]])
    unit = getattr(density, "scale", 0.1)
    for one, found in zip(zip(left, right, v, strict=True), cell_moment(density, left, right, v, power), strict=True):
        exact = exact_moment(density, *one, power, unit)
        # A first moment is a difference: its error is of the size of what is taken away.
        size = exact if power != 1 else exact_moment(density, *one, 0, unit) * unit + abs(exact)
        assert abs(found - exact) <= 1e-9 * abs(size), one


@pytest.mark.slow
@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_the_record_is_made_of_cells(density):
    b = 0.5 * (TABLE[1:] + TABLE[:-1])
    theory = quantizer_theory(density, TABLE, b)
    edges = np.concatenate([[-np.inf], b, [np.inf]])
    unit = getattr(density, "scale", 0.1)
    cells = list(zip(edges[:-1], edges[1:], TABLE, strict=True))
    p = np.array([float(exact_moment(density, *cell, 0, unit)) for cell in cells])
    mse = float(sum(exact_moment(density, *cell, 2, unit) for cell in cells))
    power = float(exact_moment(density, -np.inf, np.inf, 0.0, 2, unit))
    overload = float(sum(exact_moment(density, *c, 0.0, 0, unit) for c in ((-np.inf, -2.0), (4.0, np.inf))))
    np.testing.assert_allclose(theory.probabilities, p, rtol=1e-9, atol=1e-300)
    assert (theory.mse, theory.power, theory.overload) == pytest.approx((mse, power, overload), rel=1e-9, abs=1e-300)
    assert theory.entropy_bits == pytest.approx(-np.sum(p[p > 0] * np.log2(p[p > 0])), rel=1e-9)
    assert theory.underflow == theory.probabilities[5] > 0
    assert theory.sqnr_db == pytest.approx(10 * math.log10(power / mse), abs=1e-8)
    nearest = quantizer_theory(density, TABLE)
    assert (nearest.mse, nearest.entropy_bits) == (theory.mse, theory.entropy_bits)


def test_agrees_with_the_functions_of_the_generalized_gaussian():
    d, b = GGD(0.8, 0.3, 0.05), 0.5 * (TABLE[1:] + TABLE[:-1])
    theory = quantizer_theory(d, TABLE, b)
    assert theory.mse == pytest.approx(expected_mse(d, TABLE, b), rel=1e-12)
    assert theory.entropy_bits == pytest.approx(index_entropy(d, b), rel=1e-12)
    assert quantizer_theory(d, TABLE, "stochastic").mse == pytest.approx(expected_mse_stochastic(d, TABLE), rel=1e-12)


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_stochastic_rounding(density):
    theory = quantizer_theory(density, TABLE, "stochastic")
    assert theory.probabilities.sum() == pytest.approx(1.0, rel=1e-9)
    f, _ = exact_density(density)
    cuts = TABLE.tolist()
    with mp.workdps(20):
        loc = [getattr(density, "loc", 0.0)]
        unit = getattr(density, "scale", 0.05)

        def integral(g, a, b):
            inner = [float(loc[0] + s * unit * 2.0**k) for k in range(-12, 13, 2) for s in (-1, 1)] + loc
            return mp.quad(lambda x: g(x) * f(x), [a, *sorted(m for m in inner if a < m < b), b])

        mse = integral(lambda x: (x + 2) ** 2, -mp.inf, -2.0) + integral(lambda x: (x - 4) ** 2, 4.0, mp.inf)
        for low, high in pairwise(cuts):
            mse += integral(lambda x, low=low, high=high: (x - low) * (high - x), low, high)
        zero = sum(integral(lambda x: 1 - abs(x) / 0.015625, a, b) for a, b in ((-0.015625, 0.0), (0.0, 0.015625)))
    assert theory.mse == pytest.approx(float(mse), rel=1e-9, abs=0.0)
    assert theory.underflow == pytest.approx(float(zero), rel=1e-9, abs=0.0)


def test_densities_without_a_mean_square():
    for df in (1.0, 2.0):
        theory = quantizer_theory(StudentT(df, 1e-3), TABLE)
        assert theory.mse == theory.power == math.inf
        assert math.isnan(theory.sqnr_db)
        assert theory.probabilities.sum() == pytest.approx(1.0, rel=1e-12)
        assert math.isfinite(theory.entropy_bits)
    for df in (2.2, 5.0):  # the variance is df / (df - 2)
        for scale in (1e-12, 1.0, 1e12):
            power = quantizer_theory(StudentT(df, scale), TABLE).power
            assert power == pytest.approx(scale**2 * df / (df - 2.0), rel=1e-9, abs=0.0)


@pytest.mark.parametrize("scale", [1e-9, 0.3, 1e3])
@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_a_density_of_ones_own(shape, scale):
    class Own:
        def logpdf(self, x):
            return np.asarray(GGD(shape, scale).logpdf(x))

        def cdf(self, x):
            raise NotImplementedError

    for boundaries in ("nearest", "stochastic"):
        own, known = (quantizer_theory(density, TABLE, boundaries) for density in (Own(), GGD(shape, scale)))
        np.testing.assert_allclose(own.probabilities, known.probabilities, rtol=1e-9, atol=1e-300)
        for name in ("mse", "power", "entropy_bits", "underflow", "overload"):
            # A probability near 1 is known to some eps, so -p log2 p near 0 to some eps / ln 2, and no better.
            floor = 1e-14 if name == "entropy_bits" else 0.0
            assert getattr(own, name) == pytest.approx(getattr(known, name), rel=1e-9, abs=floor), name


def test_one_value_no_zero_and_bad_input():
    for boundaries in ([], "nearest", "stochastic"):
        theory = quantizer_theory(Logistic(1.0), [0.5], boundaries)
        assert theory.mse == pytest.approx(math.pi**2 / 3 + 0.25, rel=1e-9)
        assert (theory.entropy_bits, theory.underflow) == (pytest.approx(0.0, abs=1e-12), 0.0)
        assert (theory.overload, *theory.probabilities) == pytest.approx((1.0, 1.0))
    with pytest.raises(ValueError, match="boundaries are numbers"):
        quantizer_theory(GGD(1.0), [1.0], "up")
    with pytest.raises(ValueError, match="n values and n - 1"):
        quantizer_theory(GGD(1.0), [1.0, 2.0], [])
    with pytest.raises(ValueError, match="must differ"):
        quantizer_theory(GGD(1.0), [1.0, 1.0], "stochastic")
    with pytest.raises(ValueError, match="ascending"):
        quantizer_theory(GGD(1.0), [2.0, 1.0])
