"""Expected error of a quantizer against partial moments in 50 digits, and against samples."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest

from ggd import GGD, expected_mse, expected_mse_scaled
from ggd.quantizer import cell_integral, partial_moment


def exact_mse(d: GGD, values, boundaries) -> mp.mpf:
    with mp.workdps(50):
        p, s, loc = mp.mpf(d.shape), mp.mpf(d.scale), mp.mpf(d.loc)
        a = 1 / p

        def moment(k: int, t: mp.mpf) -> mp.mpf:
            """Integral of u^k times the standard density from 0 to t."""
            z = abs(t) ** p
            whole = mp.gamma((k + 1) * a)
            half = (whole if z > 1500 else mp.gammainc((k + 1) * a, 0, z)) / (2 * mp.gamma(a))
            return half if t >= 0 else (-1) ** (k + 1) * half

        edges = [-mp.inf, *((mp.mpf(float(b)) - loc) / s for b in boundaries), mp.inf]
        moments = [[moment(k, t) for k in range(3)] for t in edges]
        total = mp.mpf(0)
        for i, value in enumerate(values):
            v = (mp.mpf(float(value)) - loc) / s
            m0, m1, m2 = (moments[i + 1][k] - moments[i][k] for k in range(3))
            total += m2 - 2 * v * m1 + v * v * m0
        return total * s * s


def tables():
    octave = np.concatenate([[0.0], np.outer(2.0 ** np.arange(-9, 1), [1.0, 1.25, 1.5, 1.75]).ravel()])
    floats = np.concatenate([-octave[:0:-1], octave])
    fine = np.concatenate([[0.0], np.outer(2.0 ** np.arange(-4, 1), 1 + np.arange(16) / 16).ravel()])
    return {
        "float": floats,
        "fine": np.concatenate([-fine[:0:-1], fine]),
        "integer": np.arange(-127.0, 128.0, 3.0) / 127.0,
        "unsigned": np.arange(0.0, 64.0) / 64.0,
        "powers": 2.0 ** np.arange(-20.0, 5.0),
        "one": np.array([0.3]),
    }


@pytest.mark.parametrize("shape", [0.05, 0.3, 0.5, 1.0, 2.0, 4.0, 10.0, 30.0, 100.0])
@pytest.mark.parametrize("name", tables())
def test_matches_fifty_digits(name, shape):
    values = tables()[name]
    boundaries = (values[1:] + values[:-1]) / 2
    for scale, loc in ((1e-3, 0.0), (0.05, 0.0), (0.9, 0.0), (30.0, 0.0), (0.05, 0.021), (0.9, -0.4)):
        d = GGD(shape, scale, loc)
        exact = exact_mse(d, values, boundaries)
        assert abs(expected_mse(d, values, boundaries) / exact - 1) < 1e-9, (scale, loc)


@pytest.mark.parametrize("shape", [0.05, 0.5, 1.0, 2.0, 30.0])
@pytest.mark.parametrize("order", [0, 0.5, 1, 2])
def test_partial_moments_keep_their_accuracy_in_the_tail_and_round_the_centre(shape, order):
    with mp.workdps(50):
        p = mp.mpf(shape)
        for z in (1e-6, 1e-2, 1.0, 10.0, 40.0, 300.0):
            left = z ** (1 / shape)
            for right in (0.0, 2.5 * left, np.inf):
                low, high = sorted((left, right))
                ends = [mp.mpf(low) ** p, mp.inf if high == np.inf else mp.mpf(high) ** p]
                exact = mp.gammainc((order + 1) / p, *ends) / (2 * mp.gamma(1 / p))
                found = partial_moment(shape, order, np.array(low), np.array(high))
                assert exact < 1e-300 or abs(found / exact - 1) < 1e-11


@pytest.mark.parametrize("shape", [0.5, 2.0, 30.0])
def test_boundaries_that_are_not_midpoints_and_empty_cells(shape):
    values = np.array([-2.0, -0.5, 0.0, 0.25, 0.5, 3.0])
    boundaries = np.array([-0.5, -0.5, 0.25, 0.25, 0.9])
    d = GGD(shape, 0.7)
    assert expected_mse(d, values, boundaries) == pytest.approx(
        float(exact_mse(d, values, boundaries)), rel=1e-11, abs=0.0
    )


def test_scaling_is_the_same_as_scaling_the_table():
    values = tables()["float"]
    boundaries = (values[1:] + values[:-1]) / 2
    scales = np.geomspace(1e-3, 1e3, 13)
    d = GGD(0.8, 0.02, 0.003)
    together = expected_mse_scaled(d, values, boundaries, scales)
    alone = [expected_mse(d, s * values, s * boundaries) for s in scales]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_known_values():
    assert expected_mse(GGD.from_std(2.0, 2.0, 5.0), [5.0], []) == pytest.approx(4.0, rel=1e-13)
    # A uniform quantizer of fine steps under a smooth density: step^2 / 12.
    step = 1e-2
    values = np.arange(-2000, 2001) * step
    mse = expected_mse(GGD(2.0), values, values[:-1] + step / 2)
    assert mse == pytest.approx(step**2 / 12, rel=1e-8)


def test_matches_samples():
    values = tables()["integer"]
    boundaries = (values[1:] + values[:-1]) / 2
    d = GGD(0.9, 0.1)
    x = d.sample(400_000, seed=5)
    error = (x - values[np.searchsorted(boundaries, x)]) ** 2
    noise = error.std() / np.sqrt(x.size)
    assert abs(error.mean() - expected_mse(d, values, boundaries)) < 5 * noise


@pytest.mark.parametrize(
    ("values", "boundaries", "scales", "words"),
    [
        ([], [], [1.0], "n values and n - 1"),
        ([1.0, 2.0], [], [1.0], "n values and n - 1"),
        ([[1.0]], [], [1.0], "n values and n - 1"),
        ([2.0, 1.0], [1.5], [1.0], "values .* ascending"),
        ([1.0, 2.0, 3.0], [2.5, 1.5], [1.0], "boundaries .* ascending"),
        ([1.0, np.inf], [2.0], [1.0], "values .* finite"),
        ([1.0, 2.0], [np.nan], [1.0], "boundaries .* finite"),
        ([1.0], [], [0.0], "scales"),
        ([1.0], [], 1.0, "scales"),
    ],
)
def test_bad_input(values, boundaries, scales, words):
    with pytest.raises(ValueError, match=words):
        expected_mse_scaled(GGD(1.0), values, boundaries, scales)


@pytest.mark.parametrize("reach", [3.0, math.inf])
@pytest.mark.parametrize("z", [2.3, 22.0, 316.0])
@pytest.mark.parametrize("p", [0.5, 2.5, 20.0, 100.0])
def test_the_square_in_a_tail_does_not_cancel(p, z, reach):
    """Of the tail beyond the last value, which begins at t^p = z, the share 2 / (p z)^2 of its power is the error."""
    end = z ** (1.0 / p)
    found = cell_integral(p, np.array([end]), np.array([reach * end]), np.array([end]), 2)[0]
    with mp.workdps(30):
        a, left = 1 / mp.mpf(p), mp.mpf(end)
        start, stop = left**p, mp.inf if reach == math.inf else mp.mpf(reach * end) ** p
        cuts = [start, *(c for k in range(-4, 8) if (c := start + mp.mpf(2) ** k) < stop), stop]
        exact = mp.quad(lambda u: (u**a - left) ** 2 * mp.exp(start - u) * u ** (a - 1), cuts)
        exact *= mp.exp(-start) / (2 * mp.gamma(a))
    assert found == pytest.approx(float(exact), rel=1e-10, abs=0.0)


# --- cells that are left out --------------------------------------------------------------------------------


def _tables():
    """Tables of every kind of spacing, with boundaries between the values."""
    rng = np.random.default_rng(0)
    octaves = 2.0 ** np.arange(-12, 13)
    fine = np.unique(np.outer(octaves, 1 + np.arange(4) / 4))
    for positive in (octaves, fine, np.arange(1, 200) / 8, np.cumsum(rng.exponential(size=60)), rng.random(9) ** -3):
        values = np.sort(np.concatenate([-positive, [0.0], positive]))
        yield values, (values[1:] + values[:-1]) / 2
        yield values, values[:-1] + rng.random(values.size - 1) * np.diff(values)


@pytest.mark.parametrize("loc", [0.0, -30.0])
@pytest.mark.parametrize("shape", [0.05, 0.5, 1.0, 2.0, 8.0, 100.0])
def test_cells_that_are_left_out_change_no_bit(shape, loc, monkeypatch):
    scales = np.geomspace(1e-4, 1e4, 60)
    density = GGD.from_std(shape, 1.0, loc)
    tables = list(_tables())
    fast = [expected_mse_scaled(density, values, boundaries, scales) for values, boundaries in tables]
    monkeypatch.setattr("ggd.quantizer._negligible", lambda p, near, v: np.zeros(v.shape, bool))
    for (values, boundaries), errors in zip(tables, fast, strict=True):
        np.testing.assert_array_equal(expected_mse_scaled(density, values, boundaries, scales), errors)


def test_most_cells_of_a_wide_table_are_left_out(monkeypatch):
    skipped = []

    def count(*arguments, skip):
        skipped.append(float(skip.mean()))
        return cell_integral(*arguments)

    monkeypatch.setattr("ggd.quantizer.cell_integral", count)
    values = np.concatenate([-(2.0 ** np.arange(20.0, -21, -1)), [0.0], 2.0 ** np.arange(-20.0, 21)])
    expected_mse_scaled(GGD(2.0), values, (values[1:] + values[:-1]) / 2, 2.0 ** np.arange(0.0, 20))
    assert skipped[0] > 0.6


def test_a_value_far_beyond_its_cell_counts():
    """Beyond l = 10 lies 2e-45 of a Gaussian: times the square of 1e26 that is no small error."""
    error = expected_mse(GGD(2.0), [0.0, 1e26], [10.0])
    assert error == pytest.approx(0.5 + 0.5 * float(mp.erfc(10)) * 1e52, rel=1e-9)
