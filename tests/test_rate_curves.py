"""Curves of rate against quality, compared with cases worked by hand."""

import math

import numpy as np
import pytest

from rf8sim.studies.rate_curves import bd_rate, frontier, rate_at

REFERENCE = ([2.0, 4.0, 8.0], [0.5, 0.7, 0.8])


def test_a_case_by_hand():
    """Log2 rates 1 to 3 over qualities 0 to 2 against a curve at 0 to 1 over 0 to 2, cut at quality 1 to 2."""
    reference = ([2.0, 8.0], [0.0, 2.0])  # log2 rate is 1 + q
    other = ([2.0, 4.0], [1.0, 3.0])  # log2 rate is 1 + (q - 1) / 2
    # Over q in [1, 2] the difference is (q - 1) / 2 - q, from -1 to -3/2: its mean is -5/4.
    found = bd_rate(reference, other)
    assert found.change == pytest.approx(2.0**-1.25 - 1, rel=1e-12)
    assert (found.low, found.high, found.coverage) == (1.0, 2.0, 0.5)


def test_a_corner_between_the_ends_counts():
    """The mean of a difference with a corner is not that of its ends."""
    found = bd_rate(([1.0, 1.0 + 1e-12], [0.0, 4.0]), ([1.0, 16.0, 16.0 + 1e-9], [0.0, 1.0, 4.0]))
    # log2: rises from 0 to 4 over [0, 1], then stays: (2 + 3 * 4) / 4 = 3.5
    assert found.change == pytest.approx(2.0**3.5 - 1, rel=1e-6)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.3, 4.0])
def test_a_curve_at_a_multiple_of_the_rate(factor):
    found = bd_rate(REFERENCE, ([factor * rate for rate in REFERENCE[0]], REFERENCE[1]))
    assert found.change == pytest.approx(factor - 1, abs=1e-12)
    assert found.coverage == 1.0


def test_the_same_curve_in_any_order_differs_by_nothing():
    rng = np.random.default_rng(0)
    rate, quality = rng.uniform(1, 5, 9), rng.uniform(0, 1, 9)
    order = rng.permutation(9)
    assert bd_rate((rate, quality), (rate[order], quality[order])).change == 0.0


def test_the_other_way_round_is_the_reciprocal():
    other = ([1.5, 3.0, 9.0], [0.4, 0.72, 0.9])
    there, back = bd_rate(REFERENCE, other), bd_rate(other, REFERENCE)
    assert (1 + there.change) * (1 + back.change) == pytest.approx(1.0, rel=1e-12)


def test_nothing_is_gained_by_points_that_are_worse():
    worse = ([*REFERENCE[0], 6.0, 9.0], [*REFERENCE[1], 0.1, 0.79])
    assert bd_rate(REFERENCE, worse).change == 0.0


def test_better_quality_at_the_same_rate_is_less_rate():
    assert bd_rate(REFERENCE, (REFERENCE[0], [0.55, 0.75, 0.85])).change < -0.1
    assert bd_rate(REFERENCE, (REFERENCE[0], [0.45, 0.65, 0.75])).change > 0.1


def test_curves_without_a_common_quality_are_not_compared():
    """The control: a curve that is never so good, however cheap, has no change and no coverage."""
    found = bd_rate(REFERENCE, ([0.01, 0.02], [0.1, 0.4]))
    assert math.isnan(found.change)
    assert (found.coverage, found.missed) == (0.0, 1.0)
    better = bd_rate(REFERENCE, ([1.0, 2.0], [0.9, 0.95]))
    assert math.isnan(better.change)
    assert (better.coverage, better.missed) == (0.0, 0.0)


def test_what_is_missed_lies_above_the_curve_and_not_below():
    short_of_the_best = bd_rate(REFERENCE, ([2.0, 4.0], [0.5, 0.7]))
    without_the_worst = bd_rate(REFERENCE, ([4.0, 8.0], [0.7, 0.8]))
    assert short_of_the_best.missed == pytest.approx(1 / 3, rel=1e-12)
    assert short_of_the_best.coverage == pytest.approx(2 / 3, rel=1e-12)
    assert (without_the_worst.missed, without_the_worst.coverage) == pytest.approx((0.0, 1 / 3), rel=1e-12)


def test_only_qualities_near_the_best_count():
    cheap_when_bad = ([0.1, 4.0, 8.0], [0.5, 0.7, 0.8])
    assert bd_rate(REFERENCE, cheap_when_bad).change < -0.5
    assert bd_rate(REFERENCE, cheap_when_bad, within=0.1).change == pytest.approx(0.0, abs=1e-12)


def test_frontier():
    rate, quality = frontier([3, 1, 2, 2], [0.5, 0.2, 0.4, 0.6])
    assert (rate.tolist(), quality.tolist()) == ([1.0, 2.0], [0.2, 0.6])


@pytest.mark.parametrize(
    ("rate", "quality", "word"),
    [
        ([], [], "at least one"),
        ([1.0], [1.0, 2.0], "as many"),
        ([0.0], [1.0], "positive"),
        ([1.0], [math.nan], "finite"),
        ([math.inf], [1.0], "finite"),
    ],
)
def test_what_is_no_curve_is_refused(rate, quality, word):
    with pytest.raises(ValueError, match=word):
        bd_rate((rate, quality), REFERENCE)


def test_a_range_of_nothing_is_refused():
    with pytest.raises(ValueError, match="range of quality is positive"):
        bd_rate(REFERENCE, REFERENCE, within=0.0)


def test_the_rate_at_a_quality():
    assert rate_at(REFERENCE, 0.7) == pytest.approx(4.0, rel=1e-12)
    assert rate_at(REFERENCE, 0.75) == pytest.approx(2.0**2.5, rel=1e-12)
    assert rate_at(REFERENCE, 0.1) == pytest.approx(2.0, rel=1e-12)
    assert rate_at(REFERENCE, 0.8001) == math.inf
