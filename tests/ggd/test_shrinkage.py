"""The proximal operator by its table, against the solved equation and the minimum itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggd._kernels import shrink_float32
from ggd.prior import shrink
from ggd.shrinkage import LARGEST_SHAPE, shrink_table

SHAPES = (0.1, 0.3, 0.5, 0.8, 0.95, 0.999, 1.001, 1.01, 1.1, 1.5, 1.8, LARGEST_SHAPE)


def by_table(x: np.ndarray, step: float, shape: float) -> np.ndarray:
    table, result = shrink_table(shape), x.copy()
    shrink_float32(
        result, table.unit(step), shape, table.threshold, table.last, table.first_cell, table.coefficients,
        table.inexact,
    )  # fmt: skip
    return result


def weights() -> np.ndarray:
    rng = np.random.default_rng(0)
    spread = 10.0 ** rng.uniform(-12, 4, 30_000) * rng.choice([-1, 1], 30_000)
    return np.concatenate([rng.laplace(0, 0.02, 30_000), spread, [0.0, -0.0]]).astype(np.float32)


def wrong(result: np.ndarray, exact: np.ndarray, unit: float) -> np.ndarray:
    """Return which results are further off than half a unit in the last place and what the table allows."""
    allowed = 0.6 * np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64) + 2.0**-39 * unit
    return ~(np.abs(result - exact) <= allowed + 2.0**-26 * np.abs(exact))


def test_every_shape_and_step():
    x = weights()
    for shape in SHAPES:
        for step in (1e-9, 1e-6, 1e-3, 0.1):
            exact = np.asarray(shrink(x.astype(np.float64), step, shape))
            result = by_table(x, step, shape)
            unit = shrink_table(shape).unit(step)
            bad = wrong(result, exact, unit)
            assert not bad.any(), (shape, step, x[bad][:3], result[bad][:3], exact[bad][:3])
            if shape < 1:
                assert np.array_equal(result == 0, exact == 0), (shape, step)
            assert np.array_equal(np.signbit(result), np.signbit(x)), (shape, step)


def test_a_wrong_cell_is_seen():
    x, table = weights(), shrink_table(0.8)
    damaged = table.coefficients.copy()
    damaged[40, 1] *= 1.001
    result, unit = x.copy(), table.unit(1e-3)
    shrink_float32(result, unit, 0.8, table.threshold, table.last, table.first_cell, damaged, table.inexact)
    assert wrong(result, np.asarray(shrink(x.astype(np.float64), 1e-3, 0.8)), unit).any()


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.15, 1.9).filter(lambda shape: abs(shape - 1) > 1e-3),
    st.floats(-8, 0).map(lambda e: 10.0**e),
    st.floats(-10, 10, width=32),
)
def test_it_minimizes(shape, step, w):
    u = float(by_table(np.array([w], np.float32), step, shape)[0])

    def objective(v):
        return (v - w) ** 2 / 2 + step * np.abs(v) ** shape

    others = np.concatenate([np.linspace(-abs(w), abs(w), 2001), [0.0]])
    slack = 1e-6 * max(w * w, 1e-12) + 1e-12
    assert objective(u) <= objective(others).min() + slack


def test_what_is_not_finite():
    result = by_table(np.array([np.nan, np.inf, -np.inf], np.float32), 0.1, 0.5)
    assert np.isnan(result[0])
    assert result[1:].tolist() == [np.inf, -np.inf]


def test_shapes_without_a_table_are_refused():
    for shape in (0.0, 1.0, 1.99, 2.0, float("nan")):
        with pytest.raises(ValueError, match="there is a table for shapes above 0"):
            shrink_table(shape)


@pytest.mark.torch
def test_operations_of_pytorch_give_the_same():
    """The way of other devices, on the CPU: also where the cubic of a cell is not exact enough."""
    torch = pytest.importorskip("torch")
    from ggd.torch_steps import _shrink_by_gather

    x = weights()
    for shape in SHAPES:
        for step in (1e-6, 1e-3, 0.1):
            table = shrink_table(shape)
            result = _shrink_by_gather(torch.from_numpy(x), table, table.unit(step)).numpy()
            expected = by_table(x, step, shape)
            close = np.isclose(result, expected, rtol=3e-7, atol=2.0**-30 * table.unit(step) + 1e-44)
            assert close.all(), (shape, step, x[~close][:3], result[~close][:3], expected[~close][:3])
            assert np.array_equal(np.signbit(result), np.signbit(x))


@pytest.mark.torch
def test_the_adapter_takes_the_table_in_place_and_on_any_number_of_threads():
    torch = pytest.importorskip("torch")
    from ggd.torch_steps import shrink as shrink_tensor

    x = np.random.default_rng(1).laplace(0, 0.02, 700_001).astype(np.float32)
    expected = by_table(x, 1e-3, 0.7)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            tensor = torch.from_numpy(x.copy())
            assert shrink_tensor(tensor, 1e-3, 0.7) is tensor
            assert np.array_equal(tensor.numpy(), expected)
    finally:
        torch.set_num_threads(threads)
    strided = torch.from_numpy(x.copy())[::2]
    assert np.allclose(shrink_tensor(strided, 1e-3, 0.7).numpy(), expected[::2], rtol=3e-7, atol=1e-12)
