"""Samples have the right distribution, down to the tails, and are the same whatever the threads."""

from __future__ import annotations

import math

import ml_dtypes
import numba
import numpy as np
import pytest
from scipy import stats

from ggd import GGD, _kernels
from ggd.sampling import BLOCK, LAYERS, _ziggurat

SHAPES = [0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0, 20.0, 100.0]


# Of shape 0.8, scale 0.02, seed 0: the first, the second, and the first of the second block.
FIRST_VALUES = [
    "0x1.1042d077ee7bep-11",
    "0x1.e7e1fe73a0faep-3",
    "-0x1.000c92ffad68bp-6",
]


@numba.njit
def count(x, edges, counts):
    """Count each number in the cell that begins at the last of 1,023 edges not above it.

    Without a branch it takes a sixth of numpy's search.
    """
    for value in x:
        cell = np.uint64(0)
        for step in (512, 256, 128, 64, 32, 16, 8, 4, 2, 1):
            cell += np.uint64(step) * np.uint64(edges[cell + np.uint64(step - 1)] <= value)
        counts[cell] += 1


def chi_square(d: GGD, n: int, cells: int, seed: int) -> float:
    """Return the p-value of counts in cells of one probability."""
    edges = np.append(d.ppf(np.arange(1, cells) / cells), np.full(1024 - cells, np.inf))
    counts = np.zeros(cells, np.int64)
    for part in range(-(-n // (1 << 22))):
        x = d.sample(min(1 << 22, n - part * (1 << 22)), seed=[seed, part])
        count(x, edges, counts)
    return float(stats.chisquare(counts).pvalue)


@pytest.mark.parametrize("shape", SHAPES)
def test_goodness_of_fit(shape):
    d = GGD(shape, 0.7, 0.3)
    assert chi_square(d, 1_000_000, 400, seed=1) > 1e-4
    # Where it could be wrong and chi-square would not see it: beyond the last layer and at its end.
    x = np.abs(GGD(shape).sample(1_000_000, seed=2))
    tail = _ziggurat(shape)[0][1]
    for end in (0.98 * tail, tail, 1.001 * tail):
        expected = 2 * GGD(shape).sf(end)
        assert stats.binomtest(int((x > end).sum()), x.size, expected).pvalue > 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_tail_beyond_the_layers(shape):
    edges, heights = _ziggurat(shape)
    state = np.random.SeedSequence(3).generate_state(4, np.uint64)
    beyond = np.array([_kernels._outside(state, 0, 0.0, shape, edges, heights) for _ in range(20_000)])
    assert beyond.min() >= edges[1]
    share = GGD(shape).sf(beyond) / GGD(shape).sf(edges[1])
    assert stats.kstest(share, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("shape", [0.05, 0.5, 1.0, 2.0, 100.0])
@pytest.mark.parametrize("layer", [1, 100, 700, LAYERS - 1])
def test_beside_a_layer_the_density_decides(shape, layer):
    edges, heights = _ziggurat(shape)
    state = np.random.SeedSequence(5).generate_state(4, np.uint64)
    for share in (0.2, 0.6, 0.9):
        t = edges[layer + 1] + share * (edges[layer] - edges[layer + 1])
        kept = [_kernels._outside(state, layer, t, shape, edges, heights) == t for _ in range(10_000)]
        probability = (math.exp(-(t**shape)) - heights[layer]) / (heights[layer + 1] - heights[layer])
        assert stats.binomtest(sum(kept), len(kept), probability).pvalue > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_goodness_of_fit_at_length(shape):
    assert chi_square(GGD(shape), 100_000_000, 800, seed=4) > 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_layers_have_one_area_and_end_at_one(shape):
    edges, heights = _ziggurat(shape)
    assert edges.size == heights.size == LAYERS + 1
    assert np.all(np.diff(edges) < 0)
    assert edges[-1] == 0.0
    assert heights[-1] == 1.0
    areas = edges[1:-1] * np.diff(heights[1:])
    base = edges[1] * heights[1] + 2 * GGD(shape).sf(edges[1]) * math.gamma(1 + 1 / shape)
    np.testing.assert_allclose(areas, base, rtol=2e-7)
    assert edges[0] * heights[1] == pytest.approx(base, rel=1e-12)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0])
def test_signs_and_magnitudes_are_independent_and_neighbours_uncorrelated(shape):
    x = GGD(shape).sample(1_000_000, seed=5)
    n, tolerance = x.size, 4.5 / 1000
    assert abs(np.sign(x).mean()) < tolerance
    assert abs(np.corrcoef(np.sign(x), np.sqrt(np.abs(x)))[0, 1]) < tolerance
    for lag in (1, 2, 3, BLOCK):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 5 / math.sqrt(n - lag)
        r = np.argsort(np.argsort(np.abs(x)))
        assert abs(np.corrcoef(r[:-lag], r[lag:])[0, 1]) < 5 / math.sqrt(n - lag)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_do_not_matter(threads):
    d, size = GGD(0.7, 0.02), 5 * BLOCK + 17
    np.testing.assert_array_equal(d.sample(size, seed=6, threads=threads), d.sample(size, seed=6))


def test_a_longer_sample_begins_with_a_shorter_one():
    d = GGD(0.7, 0.02)
    whole = d.sample(2 * BLOCK + 5, seed=7)
    for size in (0, 1, 100, BLOCK, BLOCK + 1):
        np.testing.assert_array_equal(d.sample(size, seed=7), whole[:size])


def test_seeds_and_blocks_differ():
    d = GGD(1.0)
    x = d.sample(2 * BLOCK, seed=8)
    assert not np.isin(x[:BLOCK], x[BLOCK:]).any()
    assert not np.isin(x, d.sample(2 * BLOCK, seed=9)).any()


def test_generator_is_advanced():
    rng, again = np.random.default_rng(10), np.random.default_rng(10)
    d = GGD(1.0)
    first, second = d.sample(5, seed=rng), d.sample(5, seed=rng)
    assert not np.isin(first, second).any()
    np.testing.assert_array_equal(first, d.sample(5, seed=again))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_types_are_the_rounded_doubles(dtype):
    d = GGD(0.7, 0.02, 0.1)
    x = d.sample((30, 40), seed=11, dtype=dtype)
    assert (x.shape, x.dtype) == ((30, 40), np.dtype(dtype))
    np.testing.assert_array_equal(x, d.sample((30, 40), seed=11).astype(dtype))


def test_out():
    d = GGD(0.7)
    expected = d.sample((4, 6), seed=12)
    for out in (np.empty((4, 6)), np.empty((6, 4)).T, np.empty((4, 12))[:, ::2], np.empty((4, 6), ">f8")):
        assert d.sample(out=out, seed=12) is out
        np.testing.assert_array_equal(out, expected)


def test_what_a_seed_means_does_not_change():
    x = GGD(0.8, 0.02).sample(BLOCK + 1, seed=0)
    assert [x[0].hex(), x[1].hex(), x[BLOCK].hex()] == FIRST_VALUES


@pytest.mark.parametrize(
    ("d", "options", "words"),
    [
        (GGD(0.01), {"size": 1}, "shapes from 0.05"),
        (GGD(1e4), {"size": 1}, "shapes from 0.05"),
        (GGD(1.0), {}, "give a size"),
        (GGD(1.0), {"size": 1, "threads": 0}, "at least one thread"),
        (GGD(1.0), {"size": 3, "out": np.empty(4)}, "asks for"),
        (GGD(1.0), {"out": np.empty(4, np.int64)}, "floating-point"),
        (GGD(1.0), {"size": 3, "dtype": np.int8}, "floating-point"),
    ],
)
def test_bad_input(d, options, words):
    with pytest.raises(ValueError, match=words):
        d.sample(**options)
