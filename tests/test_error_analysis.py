"""The parts of a product's error, and the bound that no accumulator may pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import rf8sim
from rf8sim.arithmetic.error_analysis import accumulation_bound, matmul_error, unit_roundoff

ACCUMULATORS = ("float32", "float16", "bfloat16", "tf32", "rf8", "e4m3fn", "e5m2", "e3m4", "posit8_es1", "lns8", "int8")
MODES = ("nearest-even", "nearest-away", "toward-zero", "up", "down", "to-odd", "stochastic")


def numbers(codes: np.ndarray, fmt: str) -> np.ndarray:
    return rf8sim.decode(codes, fmt, dtype=np.float64)


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
@pytest.mark.parametrize("rounding", [*MODES, "residual"])
def test_unit_roundoff_bounds_every_rounding(accumulator, rounding):
    """Of numbers everywhere in range; and it is attained up to a hair, so it is no larger than it must be."""
    if rounding == "residual" and accumulator != "rf8":
        rounding = "nearest-even"
    rng = np.random.default_rng(0)
    held = rf8sim.get_format(accumulator) if accumulator in rf8sim.format_names() else None
    if held is not None:
        grid = np.sort(held.values[np.isfinite(held.values)])
        spread = np.linspace(0, 1, 257)[None]
        x = (grid[:-1, None] * (1 - spread) + grid[1:, None] * spread).ravel().astype(np.float32)
        x = x[(x >= grid[0]) & (x <= grid[-1])]
    else:
        x = np.concatenate([rng.normal(size=20_000) * 2.0 ** rng.integers(-30, 10, 20_000), 2.0 ** np.arange(-150, 10)])
        x = np.concatenate([x, (1 + 2.0**-12) * (1 + np.arange(4096) / 2048)]).astype(np.float32)
    one = rf8sim.encode(np.ones((1, 1)), "rf8")
    got = rf8sim.matmul(
        one, x[None], ("rf8", "float32"), accumulator=rf8sim.Accumulation(accumulator, rounding=rounding)
    )[0]
    error, size = np.abs(got.astype(np.float64) - x), np.abs(x.astype(np.float64))
    unit, eta = unit_roundoff(accumulator, rounding)
    assert np.all(error <= np.maximum(unit * size, eta))
    if accumulator != "float32":  # float32 inputs are exact in it
        normal = unit * size > eta
        assert np.max(error[normal] / size[normal]) > unit * (0.6 if accumulator == "int8" else 0.9)


@given(st.data())
def test_no_error_passes_the_bound(data):
    accumulator = data.draw(st.sampled_from(ACCUMULATORS[:8]))
    order = data.draw(
        st.one_of(st.sampled_from(["sequential", "pairwise"]), st.integers(1, 40).map("blocked:{}".format))
    )
    mode = data.draw(st.sampled_from(MODES))
    depth = data.draw(st.sampled_from([1, 2, 3, 7, 16, 33, 100, 257]))
    fmt = data.draw(st.sampled_from(["rf8", "e4m3fn", "e5m2", "e3m4"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scale = 2.0 ** data.draw(st.integers(-8, 2))
    bias = data.draw(st.sampled_from([0.0, 1.0]))
    a, b = (rf8sim.encode((rng.normal(size=shape) + bias) * scale, fmt) for shape in ((4, depth), (depth, 4)))
    summed = rf8sim.Accumulation(accumulator, order, mode)
    got = rf8sim.matmul(a, b, fmt, accumulator=summed).astype(np.float64)
    x, y = numbers(a, fmt), numbers(b, fmt)
    bound = accumulation_bound(np.abs(x) @ np.abs(y), depth, summed)
    error = np.abs(got - rf8sim.matmul(a, b, fmt))
    assert np.all((error <= bound) | np.isinf(bound))


@given(st.integers(1, 300), st.sampled_from(["float16", "bfloat16"]))
@example(300, "float16")
def test_a_bound_that_ignored_the_length_would_be_passed(depth, accumulator):
    """Negative control: the worst sum comes within a factor of the bound, and beyond that of one rounding."""
    unit, _ = unit_roundoff(accumulator, "toward-zero")
    x = np.full(depth, np.float32(unit * (1 - 2.0**-10)), np.float32)  # each is lost beside 1
    x[0] = 1.0
    ones = rf8sim.encode(np.ones((1, depth)), "rf8")
    summed = rf8sim.Accumulation(accumulator, rounding="toward-zero")
    got = rf8sim.matmul(ones, x, ("rf8", "float32"), accumulator=summed).item()
    exact = float(np.sum(x, dtype=np.float64))
    bound = accumulation_bound(exact, depth, summed).item()
    assert (depth - 1) * unit * 0.99 <= abs(got - exact) <= bound
    if depth > 8 and depth * unit < 0.5:
        assert abs(got - exact) > 0.1 * bound
        assert abs(got - exact) > 4 * unit * exact


ENGINE_ORDERS = (
    "aligned:13:32", "aligned:9", "aligned:7:5:nearest", "aligned:10:6:odd:apart", "aligned:9:6:then=12",
    "aligned:9:6:then=9:split", "aligned:14:16:exact=4", "aligned:20:1", "pairwise:4", "pairwise:8:flush",
)  # fmt: skip


@given(st.data())
def test_no_error_of_an_engine_passes_the_bound(data):
    order = data.draw(st.sampled_from(ENGINE_ORDERS))
    layout = data.draw(st.sampled_from(["e8m13", "float32", "e8m7"])) if order.startswith("aligned") else "float32"
    mode = (
        data.draw(st.sampled_from(["toward-zero", "nearest-even", "to-odd"])) if layout != "float32" else "nearest-even"
    )
    depth = data.draw(st.sampled_from([1, 2, 7, 16, 33, 100, 257]))
    fmt = data.draw(st.sampled_from(["rf8", "e4m3fn", "e5m2", "int8"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scale, bias = 2.0 ** data.draw(st.integers(-14, 2)), data.draw(st.sampled_from([0.0, 1.0]))
    a, b = (((rng.normal(size=shape) + bias) * scale).astype(np.float32) for shape in ((4, depth), (depth, 4)))
    machine = rf8sim.Accumulation(layout, order, mode)
    error = matmul_error(a, b, f"{fmt}/none", accumulator=machine)
    assert np.all(np.abs(error.accumulation) <= error.bound)


@given(st.integers(2, 16), st.integers(8, 14))
@example(16, 13)
def test_the_bound_of_aligned_sums_is_nearly_reached(block, fraction):
    """Negative control: beside a 1 every product is cut away, in each step all but the running sum."""
    depth = 16 * block
    x = np.full(depth, np.float32(2.0**-fraction * (1 - 2.0**-10)), np.float32)
    x[:block] = 0
    x[0] = 1.0
    ones = rf8sim.encode(np.ones((1, depth)), "rf8")
    machine = rf8sim.Accumulation("float32", f"aligned:{fraction}:{block}", "toward-zero")
    got = rf8sim.matmul(ones, x, ("rf8", "float32"), accumulator=machine).item()
    exact = float(np.sum(x, dtype=np.float64))
    bound = accumulation_bound(exact, depth, machine).item()
    assert got == 1.0
    assert exact - got <= bound
    if depth * 2.0**-fraction < 0.1:
        assert exact - got > 0.5 * bound


def test_bounds_of_engines():
    """Fewer bits, a larger bound; on real lengths a finite one; none where the steps may err by all there is."""
    names = ("aligned:30:16", "blackwell-fp16", "ampere-fp16", "volta-fp16")
    bounds = [accumulation_bound(1.0, 4096, name).item() for name in names]
    assert bounds == sorted(bounds)
    assert bounds[1] == pytest.approx(256 * (17 * 2.0**-25 + 2.0**-23), rel=1e-3)
    assert accumulation_bound(1.0, 1024, "hopper-fp8").item() == pytest.approx(
        32 * 34 * 2.0**-13 / (1 - 32 * 34 * 2.0**-13), rel=1e-3
    )
    assert accumulation_bound(1.0, 32768, "hopper-fp8").item() == np.inf
    assert accumulation_bound(2.0**127, 4096, "blackwell-fp8").item() < accumulation_bound(2.0**128, 64, "hopper-fp16")


def test_bounds_of_orders():
    """More roundings, a larger bound; nothing rounds in exact sums; none where a sum may overflow."""
    orders = ("pairwise", "blocked:64", "blocked:16", "sequential")
    bounds = [accumulation_bound(1.0, 1024, rf8sim.Accumulation("float16", order)).item() for order in orders]
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(10 * 2.0**-11, rel=0.02)
    assert bounds[-1] == pytest.approx(2 * 1024 * 2.0**-11 / (2 - 1024 * 2.0**-10), rel=1e-3)
    assert accumulation_bound(1.0, 1024, "exact").item() == 0
    assert accumulation_bound(1e6, 4, "float16").item() == np.inf
    assert accumulation_bound(1.0, 4096, "bfloat16").item() == np.inf
    assert accumulation_bound(1.0, 4, "int:24").item() == np.inf
    assert accumulation_bound(np.zeros((2, 0)), 0, "float16").shape == (2, 0)


@pytest.mark.parametrize("scaling", ["tensor", "channel"])
def test_the_parts_add_up(scaling):
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((12, 200), (200, 9)))
    error = matmul_error(a, b, f"rf8/{scaling}", scheme_b=f"int8/{scaling}", accumulator="float16", result="e4m3fn")
    left = rf8sim.quantize(a, f"rf8/{scaling}")
    right = rf8sim.quantize(b, "int8" if scaling == "tensor" else "int8/*x1")
    held = rf8sim.matmul(
        left.codes,
        right.codes,
        ("rf8", "int8"),
        accumulator="float16",
        scales=rf8sim.OperandScales(left.scale, right.scale),
    )
    final = rf8sim.quantize(held, "e4m3fn").dequantize(np.float64)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(error.exact, exact, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(error.exact + error.total, final, rtol=1e-6, atol=1e-6)
    ideal = left.dequantize(np.float64) @ right.dequantize(np.float64)
    np.testing.assert_allclose(error.inputs, ideal - exact, atol=1e-11)
    assert np.all(np.abs(error.accumulation) <= error.bound)
    parts = error.relative()
    assert 0 < parts["accumulation"] < parts["inputs"] < parts["total"] < 0.2
    assert 0.01 < parts["output"] < 0.05
    none = matmul_error(a, b, "rf8", accumulator="exact")
    assert not none.accumulation.any()
    assert not none.output.any()


def test_bounds_of_negative_scales():
    """A rule that maps the extreme element to the lowest value may choose a negative scale: bounds stay bounds."""
    rng = np.random.default_rng(2)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((12, 200), (200, 9)))
    error = matmul_error(a, b, "int8/channel:float16,signed", accumulator="float16")
    assert np.all(np.abs(error.accumulation) <= error.bound)


def test_what_is_refused():
    with pytest.raises(ValueError, match="one scale for the tensor or the channel, got rf8/1x32"):
        matmul_error(np.ones((1, 1)), np.ones((1, 1)), "rf8/1x32")
    with pytest.raises(ValueError, match="unknown accumulator"):
        unit_roundoff("float8")
