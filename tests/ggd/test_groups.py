"""Channels in groups: where they lie, that pieces do not matter, and what one fit for all hides."""

import math

import numpy as np
import pytest
from scipy import stats

import ggd
from ggd.findings import verdict
from ggd.groups import MOST_GROUPS, SMALLEST_GROUP, fit_groups, group_bounds
from ggd.survey import TensorSummary, summarize, survey


@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((), 0),
        ((100_000,), 0),
        ((1, 100_000), 0),
        ((100, 81), 0),
        ((2, 4096), 2),
        ((100, 82), 2),
        ((5, 100_000), 5),
        ((4096, 64), 16),
        ((128, 3, 3, 256), 16),
        ((0, 5), 0),
    ],
)
def test_groups_are_whole_channels_and_large_enough(shape, groups):
    bounds = group_bounds(shape)
    assert max(bounds.size - 1, 0) == groups <= MOST_GROUPS
    if groups:
        each = math.prod(shape[1:])
        assert (bounds[0], bounds[-1]) == (0, math.prod(shape))
        assert not np.any(bounds % each)
        channels = np.diff(bounds) // each
        assert channels.max() - channels.min() <= 1
        assert np.diff(bounds).mean() >= SMALLEST_GROUP


def striped(rows=37, columns=1200, dtype=np.float32):
    rng = np.random.default_rng(0)
    return (rng.standard_normal((rows, columns)) * np.geomspace(1e-3, 1, rows)[:, None]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_pieces_do_not_matter(dtype):
    x = striped(dtype=dtype)
    whole = summarize("w", x)
    bounds = group_bounds(x.shape)
    assert len(whole.groups) == bounds.size - 1 == 10
    for group, start, end in zip(whole.groups, bounds[:-1], bounds[1:], strict=True):
        assert group == ggd.MagnitudeHistogram.from_array(x.ravel()[start:end])
    assert whole.values == ggd.MagnitudeHistogram.from_array(x)
    rows, parts = TensorSummary("w", x.shape), TensorSummary("w", x.shape)
    for start in range(0, 37, 5):
        rows.add(x[start : start + 5])
    for row in x:
        for start in range(0, 1200, 700):
            parts.add(row[None, start : start + 700])
    for other in (rows, parts):
        assert (other.groups, other.values) == (whole.groups, whole.values)


def test_what_is_saved_is_the_difference_of_the_likelihoods_of_the_data():
    x = striped()
    groups = survey([summarize("w", x)]).tensors[0].groups
    parts = [
        x.ravel()[a:b].astype(np.float64) for a, b in zip(*(group_bounds(x.shape)[i:] for i in (0, 1)), strict=False)
    ]
    whole = ggd.fit(x)
    bits = -np.mean(stats.gennorm.logpdf(x, whole.shape, scale=whole.scale)) / math.log(2)
    own, by_scale = 0.0, 0.0
    for part, fitted in zip(parts, groups.fits, strict=True):
        assert fitted == ggd.fit(part)
        own -= stats.gennorm.logpdf(part, fitted.shape, scale=fitted.scale).sum()
        scale = (whole.shape * np.mean(np.abs(part) ** whole.shape)) ** (1 / whole.shape)
        by_scale -= stats.gennorm.logpdf(part, whole.shape, scale=scale).sum()
    unit = x.size * math.log(2)
    assert groups.saved == pytest.approx(bits - own / unit, rel=1e-5)
    assert groups.saved_by_scale == pytest.approx(bits - by_scale / unit, rel=1e-5)
    assert 0 < groups.saved_by_scale < groups.saved
    assert groups.rms == pytest.approx([np.sqrt(np.mean(part**2)) for part in parts], rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0])
def test_groups_that_are_alike_are_not_told_apart(shape, seed):
    x = ggd.GGD(shape, 0.02).sample((64, 1024), seed=seed)
    [entry] = (found := survey([summarize("w", x)])).tensors
    assert len(entry.groups.fits) == 16
    lowest, middle, highest = entry.groups.spread
    assert lowest < entry.fit.shape < highest
    assert abs(middle / shape - 1) < 0.1
    assert not entry.groups.differ
    assert entry.groups.threshold == pytest.approx(5 * 2 * 15 / (2 * x.size * math.log(2)), rel=1e-12)
    # What 16 fits gain by chance is 15 parameters' worth of scale, and 15 of shape: half a nat each, all in all.
    assert 0 < entry.groups.saved < 30 / (2 * x.size * math.log(2)) * 2.5
    assert any("no tensor's groups differ" in line for line in verdict(found))


def test_pooling_hides_groups_of_other_scales_and_of_other_shapes():
    scales = np.repeat(np.exp(np.linspace(-1.5, 1.5, 16)), 8)[:, None]
    gaussians = np.random.default_rng(1).standard_normal((128, 512)) * scales
    halves = np.concatenate([ggd.GGD.from_std(p, 1.0).sample((64, 512), seed=int(10 * p)) for p in (0.6, 2.0)])
    found = survey([summarize("scales", gaussians), summarize("shapes", halves)])
    by_scale, by_shape = (entry.groups for entry in found.tensors)
    assert found.tensors[0].fit.shape < 1.3 < 1.8 < by_scale.spread[0] < by_scale.spread[2] < 2.2
    assert by_scale.differ
    assert by_scale.saved_by_scale > 0.5 * by_scale.saved
    assert by_shape.spread[0] == pytest.approx(0.6, abs=0.1)
    assert by_shape.spread[2] == pytest.approx(2.0, abs=0.2)
    assert by_shape.differ
    assert by_shape.saved_by_scale < 0.3 * by_shape.saved  # at equal RMS, and one shape for both
    text = "\n".join(verdict(found))
    assert "differ in 2 of them" in text
    assert "below that of every group in scales:" in text


def test_a_group_not_to_trust_is_shown():
    x = np.random.default_rng(4).standard_normal((8, 4096))
    x[3] += np.where(np.arange(4096) % 2, 3.0, -3.0)
    groups = survey([summarize("w", x)]).tensors[0].groups
    assert (len(groups.shapes), groups.trusted) == (8, 7)
    assert groups.spread[2] == groups.fits[3].shape > 4


def test_groups_without_a_fit():
    x = np.zeros((8, 4096))
    x[0] = np.random.default_rng(0).standard_normal(4096)
    groups = survey([summarize("w", x)]).tensors[0].groups
    assert (len(groups.fits), len(groups.shapes), groups.trusted) == (8, 1, 1)
    assert groups.saved == pytest.approx(0.0, abs=1e-9)
    assert not groups.differ
    nothing = survey([summarize("w", np.zeros((8, 4096)))]).tensors[0]
    assert all(map(math.isnan, (*nothing.groups.spread, nothing.groups.saved)))
    assert not nothing.groups.differ
    assert fit_groups([], ggd.fit(x)) is None
    assert nothing.to_json()["groups"]["shapes"] == [None] * 8
