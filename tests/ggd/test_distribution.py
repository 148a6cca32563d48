"""The distribution against an mpmath oracle of 50 digits, and against scipy where scipy is right."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import scipy
from scipy import integrate, stats

from ggd import GGD

SHAPES = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0, 10.0, 30.0, 100.0)
PROBABILITIES = np.concatenate(
    [
        10.0 ** -np.arange(300.0, 0.0, -13.0),
        [1e-8, 1e-3, 0.1, 0.2, 0.249, 0.251, 0.3, 0.4, 0.45, 0.49, 0.4999, 0.5 - 1e-9, 0.5 + 1e-12],
        [0.6, 0.75, 0.9, 0.999, 1 - 1e-8, 1 - 1e-12, 1 - 1e-15],
    ]
)


@pytest.fixture(autouse=True)
def _fifty_digits():
    with mp.workdps(50):
        yield


def exact_below(shape: float, t: float) -> mp.mpf:
    """P(T <= t) of the standard distribution."""
    a = 1 / mp.mpf(shape)
    half = mp.gammainc(a, abs(mp.mpf(t)) ** mp.mpf(shape), mp.inf, regularized=True) / 2
    return half if t < 0 else 1 - half


def exact_pdf(shape: float, t: float) -> mp.mpf:
    p = mp.mpf(shape)
    return p / (2 * mp.gamma(1 / p)) * mp.exp(-(abs(mp.mpf(t)) ** p))


@pytest.mark.parametrize("shape", SHAPES)
def test_quantile_and_distribution_function_match_fifty_digits(shape):
    d = GGD(shape)
    for q, x in zip(PROBABILITIES, d.ppf(PROBABILITIES), strict=True):
        below = exact_below(shape, x)
        assert abs((below - mp.mpf(float(q))) / exact_pdf(shape, x) / x) < 1e-12, q
        assert abs(d.cdf(x) / below - 1) < 1e-12, q
        assert abs(d.sf(-x) / below - 1) < 1e-12, q
        assert abs(d.logcdf(x) / mp.log(below) - 1) < 1e-12, q
        assert abs(d.logsf(-x) / mp.log(below) - 1) < 1e-12, q
        density = exact_pdf(shape, x)
        assert abs(d.logpdf(x) / mp.log(density) - 1) < 1e-12, q
        assert density < 1e-300 or abs(d.pdf(x) / density - 1) < 1e-12, q
        assert d.isf(q) == pytest.approx(-x, rel=1e-14)  # an array is computed in lanes, a number is not
    np.testing.assert_array_equal(d.isf(PROBABILITIES), -d.ppf(PROBABILITIES))


@pytest.mark.parametrize("shape", SHAPES)
def test_logs_of_the_tails_go_on_where_the_tails_underflow(shape):
    for z in (500.0, 570.0, 580.0, 1e3, 1e5, 1e12):
        t = z ** (1 / shape)
        exact = mp.log(exact_below(shape, -t))
        assert abs(GGD(shape).logcdf(-t) / exact - 1) < 1e-12
        assert GGD(shape).logcdf(-t) == GGD(shape).logsf(t)


def test_the_tail_where_scipy_is_minus_infinity():
    assert GGD(0.5).logcdf(-1e6) == pytest.approx(-993.7843924012448, rel=1e-14)


@pytest.mark.parametrize("shape", [10.0, 30.0, 100.0])
def test_the_middle_of_a_flat_density_is_not_lost_to_underflow(shape):
    for t in (1e-12, 1e-6, 1e-3, 0.01, 0.3):
        exact = exact_below(shape, t) - mp.mpf(1) / 2
        assert abs((mp.mpf(GGD(shape).cdf(t)) - mp.mpf(1) / 2) / exact - 1) < max(1e-12, 2e-16 / t)
        assert GGD(shape).ppf(GGD(shape).cdf(t)) == pytest.approx(t, rel=max(1e-12, 4e-16 / t), abs=0.0)


@pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 15),
    reason="before 1.15 scipy's own logarithms of these tails are off, and its moments come from quadrature",
)
@pytest.mark.parametrize("shape", [0.3, 0.5, 1.0, 1.5, 2.0, 4.0])
def test_agrees_with_scipy(shape):
    x = np.linspace(-3.0, 4.0, 57)
    ours, theirs = GGD(shape, 0.7, 0.25), stats.gennorm(shape, 0.25, 0.7)
    for name in ("pdf", "logpdf", "cdf", "sf", "logcdf", "logsf"):
        expected = getattr(theirs, name)(x)
        right = np.isfinite(expected)  # scipy's logs of tails end early
        assert right.sum() > 40
        np.testing.assert_allclose(getattr(ours, name)(x)[right], expected[right], rtol=1e-11, err_msg=name)
    q = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(ours.ppf(q), theirs.ppf(q), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.isf(q), theirs.isf(q), rtol=1e-9, atol=1e-12)
    mean, var, _, kurtosis = theirs.stats("mvsk")
    assert (ours.mean, ours.var, ours.std) == pytest.approx((mean, var, math.sqrt(var)), rel=1e-12)
    assert ours.kurtosis == pytest.approx(kurtosis, rel=1e-10, abs=1e-10)
    assert ours.entropy() == pytest.approx(theirs.entropy(), rel=1e-12)
    assert ours.entropy_bits == pytest.approx(theirs.entropy() / math.log(2), rel=1e-12)
    for k in range(6):
        assert ours.moment(k) == pytest.approx(theirs.moment(k), rel=1e-9, abs=0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_and_entropy_match_fifty_digits(shape):
    p, s = mp.mpf(shape), mp.mpf(0.02)
    d = GGD(shape, 0.02, -1.5)
    for k in (-0.5, 0.5, 1.0, 2.0, 3.7):
        exact = s**k * mp.gamma((k + 1) / p) / mp.gamma(1 / p)
        assert abs(d.abs_moment(k) / exact - 1) < 1e-12
    exact = 1 / p + mp.log(2 * s * mp.gamma(1 + 1 / p))
    assert abs(d.entropy() - exact) < 1e-13 * max(1, abs(exact))
    assert GGD.from_std(shape, 3.0).std == pytest.approx(3.0, rel=1e-13)


def test_moment_of_order_zero_and_of_a_fractional_order_by_quadrature():
    d = GGD(0.7, 2.0)
    assert d.moment(0) == 1.0
    value, _ = integrate.quad(lambda x: 2 * x**0.3 * d.pdf(x), 0, np.inf)
    assert d.abs_moment(0.3) == pytest.approx(value, rel=1e-7)


def test_shapes_of_results():
    d = GGD(1.3)
    for name in ("pdf", "logpdf", "cdf", "sf", "logcdf", "logsf", "ppf", "isf"):
        function = getattr(d, name)
        assert isinstance(function(0.25), float)
        assert function(np.full((2, 3), 0.25)).shape == (2, 3)
        assert function([]).shape == (0,)
        assert math.isnan(function(math.nan))


def test_ends():
    d = GGD(0.8, 2.0, 1.0)
    assert d.ppf([0.0, 0.5, 1.0]).tolist() == [-math.inf, 1.0, math.inf]
    assert d.isf([0.0, 1.0]).tolist() == [math.inf, -math.inf]
    assert d.cdf([-math.inf, 1.0, math.inf]).tolist() == [0.0, 0.5, 1.0]
    assert d.logsf(math.inf) == -math.inf
    assert d.pdf(math.inf) == 0.0
    assert np.isnan(d.ppf([-0.1, 1.1])).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0,), "positive finite shape"),
        ((-1.0,), "positive finite shape"),
        ((math.nan,), "positive finite shape"),
        ((1.0, 0.0), "positive finite scale"),
        ((1.0, math.inf), "positive finite scale"),
        ((1.0, 1.0, math.nan), "finite loc"),
    ],
)
def test_bad_parameters(arguments, words):
    with pytest.raises(ValueError, match=words):
        GGD(*arguments)


def test_bad_orders():
    with pytest.raises(ValueError, match="above -1"):
        GGD(1.0).abs_moment(-1.0)
    with pytest.raises(ValueError, match="nonnegative integer"):
        GGD(1.0).moment(-1)
    with pytest.raises(ValueError, match="nonnegative integer"):
        GGD(1.0).moment(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
def test_fisher_information_is_the_covariance_of_the_scores(shape):
    with mp.workdps(40):
        p, s = mp.mpf(shape), mp.mpf(0.7)
        a = 1 / p

        def mean(g):  # over z = |t|^p, a Gamma(a) variable
            ends = [0, a / 10, a, a + 5, a + 20, a + 80, mp.inf]
            return mp.quad(lambda z: g(z) * z ** (a - 1) * mp.exp(-z), ends) / mp.gamma(a)

        scores = (lambda z: a + a**2 * mp.psi(0, a) - a * z * mp.log(z), lambda z: (p * z - 1) / s)
        found = GGD(shape, 0.7, 3.0).fisher_information()
        if shape <= 4:  # beyond, z^(a - 1) is too steep at 0 for the oracle's quadrature
            for i, j in ((0, 0), (0, 1), (1, 1)):
                exact = mean(lambda z, i=i, j=j: scores[i](z) * scores[j](z))
                assert abs(found[i, j] / exact - 1) < 1e-9
        exact = (p / s) ** 2 * mp.gamma(2 - a) / mp.gamma(a) if shape > 0.5 else mp.inf
        assert found[2, 2] == pytest.approx(float(exact), rel=1e-12)
    np.testing.assert_array_equal(found, found.T)
    # The bound stated by the inverse, for the shape with the scale unknown.
    trigamma = float(mp.psi(1, 1 + 1 / mp.mpf(shape)))
    bound = shape**3 / ((1 + 1 / shape) * trigamma - 1)
    assert np.linalg.inv(found[:2, :2])[0, 0] == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("shape", [0.3, 0.8, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(
    "other", [(0.3, 1.0, 0.0), (0.9, 0.2, 0.5), (2.0, 0.7, 0.0), (2.0, 0.7, -2.0), (4.0, 3.0, 0.4)]
)
def test_divergence_by_quadrature(shape, other):
    d, e = GGD(shape, 0.6), GGD(*other)
    with mp.workdps(30):
        p, q = mp.mpf(shape), mp.mpf(e.shape)
        s, r, m = mp.mpf(d.scale), mp.mpf(e.scale), mp.mpf(e.loc)

        def value(z, sign):  # z = |x / s|^p
            x = sign * s * z ** (1 / p)
            weight = z ** (1 / p - 1) * mp.exp(-z) / (2 * mp.gamma(1 / p))
            logs = (
                mp.log(p / (2 * s * mp.gamma(1 / p)))
                - z
                - mp.log(q / (2 * r * mp.gamma(1 / q)))
                + abs((x - m) / r) ** q
            )
            return weight * logs

        kink = abs(m / s) ** p
        ends = sorted({mp.mpf(0), kink, kink / 100, mp.mpf("1e-8"), mp.mpf("0.01"), 1, 5, 20, 60, 150, mp.mpf(400)})
        exact = sum(mp.quad(lambda z, sign=sign: value(z, sign), ends) for sign in (1, -1))
        assert d.kl(e) == pytest.approx(float(exact), rel=1e-7, abs=0.0)


def test_divergence_is_zero_only_from_itself():
    for shape in SHAPES:
        d = GGD(shape, 0.3, 1.0)
        assert d.kl(d) == pytest.approx(0.0, abs=1e-13)
        assert d.kl(GGD(shape * 1.01, 0.3, 1.0)) > 0
        assert d.kl(GGD(shape, 0.3, 1.0 + 0.01 * d.std)) > 0
        near = GGD(shape * 1.001, 0.3 * 1.002, 1.0)
        step = np.array([near.shape - shape, near.scale - 0.3])
        quadratic = 0.5 * step @ d.fisher_information()[:2, :2] @ step
        assert d.kl(near) == pytest.approx(quadratic, rel=0.1, abs=0.0)
