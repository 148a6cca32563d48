"""The summary is exact, mergeable, and the same whatever the order, the chunks or the type of the values."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

import ggd
from ggd import GGD, MagnitudeHistogram, _counting

from_array = MagnitudeHistogram.from_array
patterns = st.lists(st.integers(0, 2**32 - 1), max_size=60).map(lambda bits: np.array(bits, np.uint32).view(np.float32))


def special_patterns() -> np.ndarray:
    """Every sign and exponent with the fractions at both ends, and the neighbours of cell ends."""
    top = np.arange(0, 65536, 64, dtype=np.uint32) << np.uint32(16)
    bits = np.concatenate([top + np.uint32(low) for low in (0, 1, 0x7FFF, 0xFFFF)])
    return bits.view(np.float32)


def assert_matches(h: MagnitudeHistogram, x: np.ndarray) -> None:
    """Compare with plain Python on every value."""
    values = [float(v) for v in x.ravel()]
    finite = [v for v in values if math.isfinite(v)]
    assert h.size == len(values)
    assert h.count == len(finite)
    assert h.nan_count == sum(math.isnan(v) for v in values)
    assert h.inf_count == sum(math.isinf(v) for v in values)
    assert h.zero_count == sum(v == 0 for v in finite)
    assert h.abs_sum_exact == sum((abs(Fraction(v)) for v in finite), Fraction(0))
    assert h.sum_exact == sum((Fraction(v) for v in finite), Fraction(0))
    assert h.abs_sum == float(h.abs_sum_exact)
    if finite:
        assert (h.min, h.max) == (min(finite), max(finite))
        assert h.abs_max == max(map(abs, finite))
        assert h.mean == float(sum(map(Fraction, finite), Fraction(0)) / len(finite))
    else:
        assert math.isnan(h.min)
        assert math.isnan(h.max)
        assert math.isnan(h.mean)
    keys = [int(np.float32(v).view(np.uint32)) >> 16 for v in finite if v]
    assert dict(zip(h.keys.tolist(), h.counts.tolist(), strict=True)) == {k: keys.count(k) for k in set(keys)}


@given(patterns)
def test_any_float32_patterns_against_plain_python(x):
    assert_matches(from_array(x), x)


def test_every_exponent_and_cell_end():
    x = special_patterns()
    assert_matches(from_array(x), x)


@given(patterns, patterns)
def test_merge_equals_whole(x, y):
    whole = from_array(np.concatenate([x, y]))
    assert from_array(x) | from_array(y) == whole == from_array(y) | from_array(x)
    h = from_array(x)
    h |= from_array(y)
    assert h == whole
    h = from_array(x)
    h.update(y)
    assert h == whole


@given(patterns, st.randoms(use_true_random=False))
def test_order_does_not_matter(x, random):
    order = list(range(x.size))
    random.shuffle(order)
    assert from_array(x[order]) == from_array(x)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4095, 4096, 4097, 100_001])
def test_chunks_and_layout_do_not_matter(size):
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    whole = from_array(x)
    assert whole.count == size
    assert whole.abs_sum_exact == sum(map(Fraction, np.abs(x).tolist()), Fraction(0))
    for chunk in (1000, 4096, 33_333):
        h = MagnitudeHistogram()
        for start in range(0, size, chunk):
            h.update(x[start : start + chunk])
        assert h == whole
    assert from_array(np.repeat(x, 2)[::2]) == whole
    assert from_array(x.astype(">f4")) == whole
    assert from_array(x.astype(np.float64)) == whole


def test_packed_counters_do_not_overflow():
    # More equal values than the packed counters could take without a flush, all low bits set.
    x = np.full((1 << 25) + 5, np.uint32(0x3F80FFFF), dtype=np.uint32).view(np.float32)
    h = from_array(x)
    assert (h.counts.tolist(), h.low_sums.tolist()) == ([x.size], [x.size * 0xFFFF])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_16_bit_pattern(dtype):
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    h = from_array(np.concatenate([x, x[::3], x[:1]]))
    wide = np.concatenate([x, x[::3], x[:1]]).astype(np.float32)
    assert h == from_array(wide)
    assert h.nan_count > 0
    assert h.inf_count > 0


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers(dtype):
    info = np.iinfo(dtype)
    x = np.array([info.min, info.min // 2, 0, 1, 2, 3, info.max // 3, info.max], dtype=dtype)
    h = from_array(x)
    assert h.count == 8
    assert (h.min, h.max) == (float(x.min()), float(x.max()))
    rounded = [Fraction(float(np.float32(float(v)))) for v in x.tolist()]
    assert h.sum_exact == sum(rounded, Fraction(0))


def test_float64_beyond_the_range_of_float32_is_clamped_and_counted():
    x = np.array([1e300, -1e200, 1e-300, -1e-310, 0.0, 1.0, np.nan, -np.inf, 3.4028235e38, 1e-45])
    h = from_array(x)
    assert (h.clamped_high, h.clamped_low) == (2, 2)
    assert (h.count, h.zero_count, h.nan_count, h.inf_count) == (8, 1, 1, 1)
    assert (h.min, h.max) == (-1e200, 1e300)
    assert h.keys.tolist() == [0x0000, 0x3F80, 0x7F7F, 0x8000, 0xFF7F]
    assert h.counts.tolist() == [2, 1, 2, 1, 1]


def test_float64_is_rounded_to_float32_and_keeps_its_extremes():
    """Values that differ from their float32, halfway cases and subnormals among them, over several blocks and types."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal(20_000) * np.exp(rng.uniform(-95, 85, 20_000))
    x = np.concatenate([x, np.float64(np.float32(1.0)) + 2.0**-24 * np.arange(-3, 4), [-0.0, 0.0, 2e-45, -3e-42]])
    rng.shuffle(x)
    for part in (x, np.sort(x), -np.sort(x), x[x > 0], x[:1], x[::-3]):
        h, narrow = from_array(part), from_array(part.astype(np.float32))
        assert (h.min, h.max) == (part.min(), part.max())
        narrow.min, narrow.max = h.min, h.max
        assert h == narrow
    assert from_array(np.array([-0.0])).to_dict()["min"] == 0.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int32])
def test_threads_do_not_matter(dtype):
    x = (100 * np.random.default_rng(6).standard_normal(1_300_001)).astype(dtype)
    one = from_array(x)
    assert one.count == x.size
    for threads in (2, 3, 5):
        assert from_array(x, threads=threads) == one
    with pytest.raises(ValueError, match="at least one thread"):
        from_array(x, threads=0)


@pytest.mark.parametrize("late", [False, True])
def test_float64_extremes_that_round_to_the_same_float32(late):
    x = np.zeros(20_000)
    order = slice(None) if late else slice(None, None, -1)
    x[[5, 15_000]] = np.array([2.0 + 2.0**-30, 2.0 + 2.0**-29])[order]
    x[[6, 15_001]] = -x[[5, 15_000]]
    h = from_array(x)
    assert (h.min, h.max) == (-2.0 - 2.0**-29, 2.0 + 2.0**-29)


def test_float64_below_the_range_of_float32_alone_is_clamped():
    h = from_array(np.array([1.0, 1e-60, -1e-60, 0.0, -2.0]))
    assert (h.clamped_low, h.zero_count, h.nonzero_count, h.min) == (2, 1, 4, -2.0)


@pytest.mark.parametrize("x", [[True], [1j], ["a"], [object()]])
def test_refuses_what_is_not_a_number(x):
    h = from_array([1.0])
    with pytest.raises(ValueError, match=r"a histogram takes .* got"):
        h.update(x)
    assert h == from_array([1.0])


@given(patterns)
def test_json_and_npz_round_trip(tmp_path, x):
    h = from_array(x)
    assert MagnitudeHistogram.from_dict(json.loads(json.dumps(h.to_dict(), allow_nan=False))) == h
    h.save(tmp_path / "h.npz")
    assert MagnitudeHistogram.load(tmp_path / "h.npz") == h
    assert [path.name for path in tmp_path.iterdir()] == ["h.npz"]


def test_damaged_stores_are_refused(tmp_path):
    good = from_array([1.0, 2.0, 3.0]).to_dict()
    for change in (
        {"format": "other"},
        {"keys": good["keys"][::-1]},
        {"keys": good["keys"][:-1]},
        {"keys": [0x7F80, 0x7F81, 0x7F82]},
        {"keys": [1, 2, 70000]},
        {"counts": [0, 1, 1]},
        {"low_sums": [-1, 0, 0]},
        {"low_sums": [65536, 0, 0]},
        {"zero_count": None},
    ):
        with pytest.raises(ValueError, match="not a stored histogram"):
            MagnitudeHistogram.from_dict({**good, **change})
    with pytest.raises(ValueError, match="not a stored histogram"):
        MagnitudeHistogram.from_dict({key: value for key, value in good.items() if key != "counts"})
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match="not a stored histogram"):
        MagnitudeHistogram.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="not a stored histogram"):
        MagnitudeHistogram.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        MagnitudeHistogram.load(tmp_path / "none.npz")


@pytest.mark.parametrize("shape", [0.3, 1.0, 2.0, 5.0])
def test_moments(shape):
    x = GGD(shape, 0.02).sample(50_000, seed=1).astype(np.float32)
    x[::10] = 0
    h, wide = from_array(x), x.astype(np.float64)
    for p in (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0):
        terms = np.abs(wide) ** p
        # The spread within a cell is modelled; the noise of that falls with the number of values that matter.
        effective = terms.sum() ** 2 / (terms**2).sum()
        assert h.abs_moment(p) == pytest.approx(terms.mean(), rel=1e-5 * p * abs(p - 1) / effective**0.5 + 1e-10)
    assert h.var == pytest.approx(wide.var(), rel=1e-6)
    assert h.std == pytest.approx(wide.std(), rel=1e-6)


def test_moments_are_exact_on_a_bfloat16_grid():
    x = GGD(0.7).sample(20_000, seed=2).astype(ml_dtypes.bfloat16)
    wide = x.astype(np.float64)
    h = from_array(x)
    for p in (0.3, 1.0, 2.0, 5.0):
        assert h.abs_moment(p) == pytest.approx(np.mean(np.abs(wide) ** p), rel=1e-14)


def test_worst_case_error_of_a_moment_within_a_cell():
    ends = np.array([0x3F800000, 0x3F80FFFF], np.uint32).view(np.float32)
    h, wide = from_array(np.repeat(ends, 1000)), ends.astype(np.float64)
    for p in (0.5, 2.0, 3.0):
        error = abs(h.abs_moment(p) / np.mean(wide**p) - 1)
        assert error < 6e-6 * p * abs(p - 1)


def test_ecdf_and_quantile():
    x = np.concatenate([GGD(0.8).sample(20_001, seed=3).astype(np.float32), np.zeros(999, np.float32)])
    h, ordered = from_array(x), np.sort(x).astype(np.float64)
    cells = h.cells()
    # Exact just outside each cell.
    for ends in (cells.left[cells.mean > 0], cells.right[cells.mean < 0]):
        expected = np.searchsorted(ordered, ends, side="left" if ends[0] > 0 else "right") / x.size
        inside = np.isin(ends, ordered)
        np.testing.assert_allclose(h.ecdf(ends)[~inside], expected[~inside], atol=1e-15)
    assert h.ecdf(0.0) == np.mean(x <= 0)
    assert h.ecdf([-np.inf, np.inf]).tolist() == [0.0, 1.0]
    assert np.isnan(h.ecdf(np.nan))
    q = np.linspace(0, 1, 1001)
    exact = np.quantile(ordered, q, method="inverted_cdf")
    np.testing.assert_allclose(h.quantile(q), exact, rtol=2**-7, atol=0)
    assert (h.quantile(0.0), h.quantile(1.0)) == (ordered[0], ordered[-1])
    assert np.all(np.diff(h.quantile(q)) >= 0)
    with pytest.raises(ValueError, match="from 0 to 1"):
        h.quantile(1.5)


def test_ecdf_of_a_grid_is_exact():
    x = GGD(1.0).sample(3000, seed=4).astype(ml_dtypes.bfloat16)
    wide = np.sort(x.astype(np.float64))
    places = np.unique(wide)
    np.testing.assert_array_equal(from_array(x).ecdf(places), np.searchsorted(wide, places, side="right") / x.size)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_ks(dtype):
    d = GGD(0.8)
    for shape in (0.8, 2.0):
        x = GGD(shape).sample(50_000, seed=6).astype(dtype)
        ordered, number = np.unique(x.astype(np.float64), return_counts=True)
        above = np.cumsum(number) / x.size
        f = d.cdf(ordered)
        exact = max(np.max(np.abs(above - f)), np.max(np.abs(above - number / x.size - f)))
        h = from_array(x)
        if dtype is np.float32:
            assert exact - 0.003 < h.ks(d) <= exact
        else:
            assert h.ks(d) == pytest.approx(exact, abs=1e-12)


def test_nothing_in_it():
    h = from_array(np.array([np.nan, np.inf]))
    assert h.count == 0
    assert h.size == 2
    for value in (h.mean, h.var, h.std, h.abs_moment(1.0), h.ecdf(0.0), h.quantile(0.5), h.ks(GGD(1.0))):
        assert math.isnan(value)
    assert h.abs_sum == 0.0
    with pytest.raises(ValueError, match="positive"):
        h.abs_moment(0.0)


def test_compares_and_shows():
    h = from_array([1.0])
    assert h != from_array([2.0])
    assert h != 1
    assert repr(h) == "MagnitudeHistogram(count=1, cells=1, min=1.0, max=1.0)"
    with pytest.raises(TypeError):
        h | 1
    with pytest.raises(TypeError):
        hash(h)


def test_import_is_light():
    heavy = ("numba", "scipy", "numpy", "matplotlib", "rf8sim")
    code = f"import sys, ggd; print(*[name for name in {heavy} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == ""


def test_names_are_listed_and_unknown_ones_refused():
    assert all(hasattr(ggd, name) for name in ggd.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(ggd, "nothing")  # noqa: B009


def raw_wasserstein(x: np.ndarray, d: GGD) -> float:
    """The area between the step function of the sorted data and the distribution function, by exact integrals.

    The integral of the distribution function from a to b is [t F(t)] less the integral of t times the density. Where
    F crosses the step inside an interval, the interval is cut there.
    """
    x = np.sort(x.astype(np.float64))
    step = np.arange(x.size + 1) / x.size
    crossing = np.append(-np.inf, np.append(np.asarray(d.ppf(step[1:-1])), np.inf))
    left, right = np.append(-np.inf, x), np.append(x, np.inf)
    cut = np.clip(crossing, left, right)

    def moment(a, b):  # of (t - loc) below b, in units of nothing: both tails vanish
        return integrate_first(d, a, b)

    total = 0.0
    for a, b, level in ((left, cut, step), (cut, right, step)):
        with np.errstate(invalid="ignore"):
            # The area of level - F over [a, b]: b (level - F(b)) - a (level - F(a)) + integral of t f.
            at_b = np.where(np.isinf(b), 0.0, b * (level - np.asarray(d.cdf(b))))
            at_a = np.where(np.isinf(a), 0.0, a * (level - np.asarray(d.cdf(a))))
        total += float(np.sum(np.abs(at_b - at_a + moment(a, b))))
    return total


def integrate_first(d: GGD, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integral of t times the density: minus a regularized incomplete gamma function of |t|^p."""

    def tail(t):
        z = np.abs((t - d.loc) / d.scale) ** d.shape
        return (
            special.gammaincc(2.0 / d.shape, z) * d.scale * special.gamma(2 / d.shape) / special.gamma(1 / d.shape) / 2
        )

    return tail(a) - tail(b) + d.loc * (np.asarray(d.cdf(b)) - np.asarray(d.cdf(a)))


@pytest.mark.parametrize(
    "rival", [GGD(1.0), GGD(2.0, 0.9), GGD(0.5, 0.3), GGD(4.0, 1e-3), GGD(1.0, 50.0), GGD(1.5, 1.0, 0.3)]
)
@pytest.mark.parametrize("kind", ["smooth", "zeros", "few", "huge"])
def test_wasserstein_is_the_area_of_the_raw_data(kind, rival):
    x = {
        "smooth": GGD(1.1).sample(20_000, seed=1),
        "zeros": np.concatenate([GGD(0.6, 0.1, 0.2).sample(5_000, seed=2), np.zeros(3_000)]),
        "few": np.array([-3.0, 0.004, 7.0, 1000.0]),
        "huge": np.array([-1e30, 1.0, 2.0]),
    }[kind].astype(np.float32)
    exact = raw_wasserstein(x, rival)
    found = MagnitudeHistogram.from_array(x).wasserstein(rival)
    stated = np.mean(np.abs(x.astype(np.float64))) / 128
    assert abs(found - exact) < stated + 2e-5 * exact
    if kind in ("smooth", "zeros"):
        assert found == pytest.approx(exact, rel=2e-3, abs=3e-6)


def test_wasserstein_knows_its_limits():
    assert math.isnan(MagnitudeHistogram().wasserstein(GGD(1.0)))
    x = GGD(0.8, 0.02).sample(4000, seed=3)
    one, twice = (MagnitudeHistogram.from_array(x * unit).wasserstein(GGD(1.3, 0.02 * unit)) for unit in (1.0, 2.0))
    assert twice == pytest.approx(2 * one, rel=1e-12)
    order = GGD(0.8, 0.02)
    assert MagnitudeHistogram.from_array(x).wasserstein(order) < 0.1 * one
    # scipy's distance between two samples, the second dense enough to stand for the distribution
    quantiles = np.asarray(order.ppf((np.arange(400_000) + 0.5) / 400_000))
    assert MagnitudeHistogram.from_array(x).wasserstein(order) == pytest.approx(
        stats.wasserstein_distance(x, quantiles), rel=0.02
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "int64"])
def test_few_values_are_counted_as_many_are(dtype):
    """Few values are sorted by numpy, many counted by a compiled loop: pieces of one array go either way."""
    rng = np.random.default_rng(7)
    if dtype in ("bfloat16", "float16"):
        x = rng.permutation(np.arange(1 << 16, dtype=np.uint16)).view(np.dtype(dtype))  # every pattern
    elif dtype == "float32":
        x = rng.integers(0, 1 << 32, 1 << 16, dtype=np.uint32).view(np.float32)
        x[:4000] = rng.choice(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 1.5], np.float32), 4000)
    elif dtype == "float64":
        x = rng.standard_normal(1 << 16) * 10.0 ** rng.integers(-60, 60, 1 << 16)
        x[:9] = 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-300, -1e300, 1.0 + 1e-12, 5e-46
    else:
        x = rng.integers(-(10**9), 10**9, 1 << 16)
    assert x.size > _counting._FEW
    many = MagnitudeHistogram.from_array(x)
    for step in (_counting._FEW, 1000, 17):
        few = MagnitudeHistogram()
        for start in range(0, x.size, step):
            few.update(x[start : start + step])
        assert few == many
    assert MagnitudeHistogram.from_array(x[:0]) == MagnitudeHistogram()
