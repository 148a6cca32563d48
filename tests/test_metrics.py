"""The error measures against plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rf8sim
from rf8sim.quantization.metrics import measure


@pytest.mark.parametrize("scaling", ["tensor", "*x1", "1x16", "8x16", "none"])
@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e2m1fn", "int8"])
def test_against_numpy(name, scaling):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((40, 50)) * np.exp(rng.normal(size=(40, 50)))).astype(np.float32)
    x[0, :4] = [0.0, -0.0, 1e-30, 50.0]
    fmt = rf8sim.get_format(name)
    q = rf8sim.quantize(x, f"{name}/{scaling}")
    error = measure(x, q)
    wide, y = x.astype(np.float64), q.dequantize(np.float64)
    scale = np.repeat(q.scale, 16, axis=1)[:, :50] if scaling.endswith("x16") else q.scale
    scale = np.repeat(scale, 8, axis=0) if scaling == "8x16" else scale
    assert error.count == error.total == x.size
    assert error.nonzero == np.count_nonzero(x)
    assert error.underflow == np.count_nonzero((x != 0) & (y == 0))
    assert error.overflow == np.count_nonzero((wide / scale > fmt.max) | (wide / scale < fmt.min))
    assert error.sqnr_db == pytest.approx(10 * np.log10(np.sum(wide**2) / np.sum((wide - y) ** 2)), rel=1e-12)
    kept = (x != 0) & (y != 0)
    relative = np.abs(wide - y)[kept] / np.abs(wide[kept])
    assert error.relative_count == kept.sum()
    assert error.mean_relative_error == pytest.approx(relative.mean(), rel=1e-12)
    assert error.max_relative_error == pytest.approx(relative.max(), rel=1e-12)
    share = np.unique(q.codes, return_counts=True)[1] / x.size
    assert error.entropy_bits == pytest.approx(-np.sum(share * np.log2(share)), rel=1e-12)


def test_parts_merge_to_the_whole():
    x = np.random.default_rng(0).normal(size=(30, 8))
    q = rf8sim.quantize(x, "rf8")
    parts = [rf8sim.quantize(x[i : i + 10], "rf8", scale=q.scale) for i in (0, 10, 20)]
    merged = measure(x[:10], parts[0]) | measure(x[10:20], parts[1]) | measure(x[20:], parts[2])
    whole = measure(x, q)
    assert np.array_equal(merged.code_counts, whole.code_counts)
    assert (merged.count, merged.underflow, merged.overflow) == (whole.count, whole.underflow, whole.overflow)
    assert merged.sqnr_db == pytest.approx(whole.sqnr_db, rel=1e-12)
    assert merged.max_relative_error == whole.max_relative_error


def test_what_is_not_finite_has_no_error():
    x = np.array([np.nan, np.inf, 1.0, 0.0])
    error = measure(x, rf8sim.quantize(x, "rf8/none"))
    assert (error.count, error.total, error.overflow, error.sum_squared_error) == (2, 4, 1, 0.0)
    assert error.sqnr_db == math.inf


def test_nothing_measured_is_nan():
    error = measure(np.zeros(0), rf8sim.quantize(np.zeros(0), "rf8"))
    assert all(math.isnan(v) for v in (error.sqnr_db, error.mse, error.entropy_bits, error.underflow_share))
    assert math.isnan(measure(np.zeros(3), rf8sim.quantize(np.zeros(3), "rf8")).sqnr_db)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must be the same"):
        measure(np.zeros(3), rf8sim.quantize(np.zeros(4), "rf8"))


def test_what_is_not_a_quantized_tensor_is_refused():
    with pytest.raises(TypeError, match=r"measure compares a tensor with what quantize returns for it .*, got ndarray"):
        rf8sim.measure(np.ones(3), np.ones(3))
