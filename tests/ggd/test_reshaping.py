"""Weights moved onto another generalized Gaussian's quantiles."""

import numpy as np
import pytest
from scipy import stats

import ggd
from ggd.reshaping import METHODS, deepshape

X = ggd.GGD(1.3, 0.02).sample(50_000, seed=3).astype(np.float32).reshape(250, 200)


@pytest.mark.parametrize("method", METHODS)
def test_identity_when_the_target_is_the_fit(method):
    assert np.array_equal(deepshape(X, method=method), X)


def test_curve_tends_to_the_identity():
    """Not by a special case alone: a factor near 1 moves weights a little."""
    moved = deepshape(X, shape_factor=1 + 1e-6, method="curve")
    np.testing.assert_allclose(moved, X, rtol=2e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("shape_factor", "std_factor"), [(0.6, 1.0), (1.0, 0.5), (1.5, 2.0)])
def test_result_follows_the_target(method, shape_factor, std_factor):
    fit = ggd.fit(X)
    moved = deepshape(X, shape_factor=shape_factor, std_factor=std_factor, method=method)
    assert moved.dtype == np.float32
    assert moved.shape == X.shape
    target = ggd.GGD.from_std(fit.shape * shape_factor, ggd.GGD(fit.shape, fit.scale).std * std_factor)
    distance = stats.kstest(moved.ravel(), target.cdf).statistic
    assert distance < {"ranks": 0.012, "curve": 0.012, "source": 0.006}[method]
    same = stats.spearmanr(moved.ravel(), X.ravel()).statistic
    assert same > 0.99999
    if method != "source":
        assert np.array_equal(np.sign(moved), np.sign(X))
        order = np.argsort(np.abs(X.ravel()), kind="stable")
        assert (np.diff(np.abs(moved.ravel()[order])) >= 0).all()


def test_magnitudes_by_ranks_are_the_quantiles():
    moved = np.sort(np.abs(deepshape(X.astype(np.float64), shape_factor=0.5).ravel()))
    fit = ggd.fit(X)
    target = ggd.GGD.from_std(0.5 * fit.shape, ggd.GGD(fit.shape, fit.scale).std)
    share = (np.arange(X.size) + 0.5) / X.size
    np.testing.assert_allclose(moved, target.ppf(0.5 + 0.5 * share), rtol=1e-9)


def test_zeros_stay_and_ties_keep_their_order():
    x = np.array([0.0, 1.0, -1.0, 1.0, 2.0, 0.0, *(0.5 * np.random.default_rng(0).laplace(size=300)).tolist()])
    moved = deepshape(x, shape_factor=0.5)
    assert moved[0] == moved[5] == 0
    assert 0 < moved[1] < -moved[2] < moved[3] < moved[4]
    assert np.array_equal(deepshape(x, shape_factor=0.5), moved)
    curve = deepshape(x, shape_factor=0.5, method="curve")
    assert curve[1] == -curve[2] == curve[3]


def test_what_is_refused():
    with pytest.raises(ValueError, match="unknown method 'rank'"):
        deepshape(X, method="rank")
    with pytest.raises(ValueError, match="std_factor is positive"):
        deepshape(X, std_factor=0.0)
    with pytest.raises(ValueError, match="must be finite"):
        deepshape(np.array([1.0, np.nan]), std_factor=0.5)
    with pytest.raises(ValueError, match="too few distinct"):
        deepshape(np.ones(100), std_factor=0.5)
    with pytest.raises(ValueError, match="floating-point"):
        deepshape(np.ones(100, dtype=int), std_factor=0.5)
    with pytest.raises(ValueError, match="at least 2 bins"):
        deepshape(X, std_factor=0.5, method="source", bins=1)
    assert not deepshape(np.zeros(5), std_factor=0.5).any()
