"""QArray: every operator against Fractions, every numpy function either exact or refused by name."""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rf8sim
from rf8sim import QArray, reference
from rf8sim.formats import format_names, get_format

ALL = np.arange(256, dtype=np.uint8)


def array(numbers: Any, fmt: str = "rf8", scale: float = 1.0, **options: Any) -> QArray:
    """The array of exactly these numbers."""
    found = QArray(rf8sim.encode(np.asarray(numbers) / scale, fmt), fmt, scale, **options)
    np.testing.assert_array_equal(np.asarray(found), numbers)
    return found


def same(got: QArray, codes: Any, scale: float, like: QArray) -> None:
    assert isinstance(got, QArray)
    np.testing.assert_array_equal(got.codes, codes)
    assert (got.scale, got.format, got.rounding) == (scale, like.format, like.rounding)


# ---------------------------------------------------------------- operators


@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e5m2"])
def test_operators_are_the_operations_on_codes(name: str) -> None:
    options = {"rounding": "toward-zero/nan"}
    a, b = QArray(ALL[:, None], name, 0.5, **options), QArray(ALL[None, :], name, 0.5, **options)
    wanted = {
        operator.add: (rf8sim.add, 0.5), operator.sub: (rf8sim.subtract, 0.5), operator.mul: (rf8sim.multiply, 0.25),
        operator.truediv: (rf8sim.divide, 1.0), np.minimum: (rf8sim.minimum, 0.5), np.maximum: (rf8sim.maximum, 0.5),
    }  # fmt: skip
    for operation, (on_codes, scale) in wanted.items():
        same(operation(a, b), on_codes(a.codes, b.codes, name, **options), scale, a)
    same(-a, rf8sim.negate(a.codes, name, **options), 0.5, a)
    same(abs(a), rf8sim.absolute(a.codes, name, **options), 0.5, a)
    assert +a is a
    quarter = QArray(ALL, name, 0.25, **options)
    same(np.sqrt(quarter), rf8sim.sqrt(ALL, name, **options), 0.5, quarter)


@given(
    name=st.sampled_from(["rf8", "e4m3fn", "int8", "posit8_es1", "lns8"]),
    a=st.integers(0, 255), b=st.integers(0, 255), exponents=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    odd=st.sampled_from([1.0, 3.0, 0.7109375]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_scaled_results_are_the_exact_ones_rounded_once(
    name: str, a: int, b: int, exponents: tuple[int, int], odd: float
) -> None:
    fmt = get_format(name)
    x, y = reference.number(a, fmt), reference.number(b, fmt)
    if not (isinstance(x, Fraction) and isinstance(y, Fraction)):
        return
    scales = odd * 2.0 ** exponents[0], 2.0 ** exponents[1]
    p, q = QArray(a, name, scales[0]), QArray(b, name, scales[1])
    s, t = map(Fraction, scales)
    for got, exact, scale in (
        (p * q, x * s * y * t, s * t),
        (p / q, x * s / (y * t), s / t),
        (p + QArray(b, name, scales[0]), (x + y) * s, s),
    ):
        assert Fraction(got.scale) == scale
        assert int(got.codes) == reference.round_value(exact / scale, fmt)
    assert bool(p < QArray(b, name, scales[1])) == (x * s < y * t)
    assert bool(p == q) == (x * s == y * t)
    into = get_format("rf8")
    assert int(p.convert("rf8", scale=scales[1] * 5).codes) == reference.round_value(x * s / (t * 5), into)


def test_numbers_are_operands_where_the_format_has_them() -> None:
    a = array([1.0, -0.5], scale=2.0)
    np.testing.assert_array_equal(np.asarray(a + 0.5), [1.5, 0.0])
    np.testing.assert_array_equal(np.asarray(0.5 - a), [-0.5, 1.0])
    product = a * 0.5
    assert product.scale == 2.0
    np.testing.assert_array_equal(np.asarray(product), [0.5, -0.25])
    np.testing.assert_array_equal(np.asarray(np.array([0.5, 0.25]) / a), [0.5, -0.5])
    np.testing.assert_array_equal(np.asarray(np.maximum(a, 0)), [1.0, 0.0])
    assert np.isnan(np.asarray(a + np.nan)).all()
    for numbers in (0.3, 100.0, np.inf, [0.5, 0.3]):
        with pytest.raises(ValueError, match=r"is not a value of 'rf8' at scale 2\.0: encode it first"):
            a + numbers
    with pytest.raises(ValueError, match=r"2\.0 is not a value of 'rf8' at scale 1\.0"):
        a * 2.0
    with pytest.raises(ValueError, match="nan is not a value of 'int8'"):
        array([1.0], "int8") + np.nan
    with pytest.raises(TypeError, match="real numbers, got dtype complex128"):
        a + 1j
    with pytest.raises(ValueError, match=r"beyond 2\*\*53"):
        operator.lt(a, 2**60 + 1)
    infinite = QArray([0x7C], "e5m2", rounding="nearest-even/propagate")
    assert np.isinf(np.asarray(infinite + np.inf)).all()
    saturating = QArray([0x7C], "e5m2")  # as every result does, by default
    np.testing.assert_array_equal(np.asarray(saturating + np.inf), [57344.0])


def test_comparisons_are_of_values() -> None:
    a, b = QArray(ALL[:, None], "rf8", 0.5), QArray(ALL[None, :], "e4m3fn", 3.0)
    x, y = get_format("rf8").values[:, None] * 0.5, get_format("e4m3fn").values[None, :] * 3.0
    for compare in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        got = compare(a, b)
        assert type(got) is np.ndarray
        assert got.dtype == np.bool_
        np.testing.assert_array_equal(got, compare(x, y))
        np.testing.assert_array_equal(compare(a, 0.3), compare(x, 0.3))
        np.testing.assert_array_equal(compare(0.3, a), compare(0.3, x))
    assert QArray([0x07], "rf8") == QArray([0x08], "rf8")  # two codes of one value
    assert np.array_equal(array([1.0, 0.5]), [1.0, 0.5])
    assert not np.array_equal(array([1.0, 0.5]), array([1.0, 0.25]))
    for question in (np.isnan, np.isfinite, np.isinf, np.signbit):
        np.testing.assert_array_equal(question(QArray(ALL, "e5m2")), question(get_format("e5m2").values))
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)
    wide = QArray([0x7C], "lns8", float(np.float32(0.1)) ** 2)
    with pytest.raises(ValueError, match="are not exact in float64"):
        operator.lt(wide, 1.0)


def test_matmul_sums_exactly_and_rounds_once() -> None:
    rng = np.random.default_rng(4)
    options = {"rounding": "residual/nan"}
    a = QArray(rng.integers(70, 118, (16, 5), dtype=np.uint8), "rf8", 4.0, **options)
    b = QArray(rng.integers(198, 246, (5, 16), dtype=np.uint8), "rf8", 0.75, **options)
    got = a @ b
    sums = [
        [sum(reference.number(int(x), "rf8") * reference.number(int(y), "rf8") if x and y else 0
             for x, y in zip(row, column, strict=True)) for column in b.codes.T] for row in a.codes
    ]  # fmt: skip
    wanted = [[reference.round_value(total, "rf8", "residual", "nan") for total in row] for row in sums]
    assert wanted != [[reference.round_value(total, "rf8", "nearest-even", "nan") for total in row] for row in sums]
    assert (np.array(wanted) != 0x80).all()
    same(got, wanted, 3.0, a)
    assert (a[0] @ b).shape == (16,)
    assert (a[0] @ b[:, 0]).shape == ()
    same(np.dot(a, b), wanted, 3.0, a)
    assert np.asarray(a @ np.eye(5)).shape == (16, 5)
    np.testing.assert_array_equal(np.asarray(a @ np.eye(5)), np.asarray(a))
    with pytest.raises(ValueError, match="with two formats and result="):
        a @ QArray(b.codes, "int8", rounding="nearest-even")


# ---------------------------------------------------------------- refusals


def test_scales_that_do_not_fit_are_refused_with_advice() -> None:
    a, b = array([1.0]), array([1.0], scale=2.0)
    for operation in (operator.add, operator.sub, np.minimum, np.maximum):
        with pytest.raises(ValueError, match=r"needs one scale, got 1\.0 and 2\.0: convert\(scale=...\) one of them"):
            operation(a, b)
    same(a + b.convert(scale=1.0), rf8sim.encode([1.5], "rf8"), 1.0, a)
    with pytest.raises(ValueError, match=r"scale of numpy\.divide would not be exact"):
        a / QArray([1], "rf8", 3.0)
    with pytest.raises(ValueError, match=r"scale of numpy\.multiply would not be exact"):
        QArray([1], "rf8", 0.1) * QArray([1], "rf8", 0.1)
    for scale in (1e300, 1e-300):
        with pytest.raises(ValueError, match=r"scale of numpy\.multiply would not be exact"):
            QArray([1], "rf8", scale) * QArray([1], "rf8", scale)
    with pytest.raises(ValueError, match=r"scale of numpy\.sqrt would not be exact"):
        np.sqrt(b)
    with pytest.raises(ValueError, match="does not say which format the result has"):
        a + array([1.0], "e4m3fn")
    with pytest.raises(ValueError, match="operands round differently"):
        a + array([1.0], rounding="up")


def test_constructing_is_checked() -> None:
    for scale in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="a scale is a positive number"):
            QArray([1], "rf8", scale)
    with pytest.raises(ValueError, match=r"one scale, got scales of shape \(2,\)"):
        QArray([1, 2], "rf8", np.ones(2))
    with pytest.raises(ValueError, match="does not round stochastically"):
        QArray([1], "rf8", rounding="stochastic")
    with pytest.raises(ValueError, match="has no NaN code"):
        QArray([1], "int8", rounding=rf8sim.Rounding(overflow="nan"))
    with pytest.raises(ValueError, match="codes of e2m1fn run from 0 to 15"):
        QArray([16], "e2m1fn")
    with pytest.raises(TypeError, match="encode the data first"):
        QArray([0.5], "rf8")
    q = rf8sim.quantize(np.array([3.0, -1.0]), "rf8")
    np.testing.assert_array_equal(np.asarray(QArray(q.codes, q.format, q.scale)), q.dequantize(np.float64))


def test_it_is_immutable() -> None:
    codes = rf8sim.encode([1.0, 0.5], "rf8")
    a = QArray(codes, "rf8")
    with pytest.raises(TypeError, match="immutable"):
        a[0] = 1.0
    with pytest.raises(TypeError, match=r"no out=, and no \+="):
        a += a
    with pytest.raises(TypeError, match="no out="):
        np.add(a, a, out=codes)
    with pytest.raises(ValueError, match="read-only"):
        a.codes[0] = 1
    with pytest.raises(AttributeError):
        a.scale = 2.0  # type: ignore[misc]
    assert codes.flags.writeable


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("exp", np.exp), ("sum", np.sum), ("mean", np.mean), ("max", np.max), ("linalg.norm", np.linalg.norm),
        ("remainder", lambda a: a % a), ("floor_divide", lambda a: a // a), ("power", lambda a: a**2),
        ("add.reduce", np.add.reduce), ("add with where", lambda a: np.add(a, a, where=[True, False])),
        ("take", lambda a: np.take(a, a)), ("einsum", lambda a: np.einsum("i,i->", a, a)),
        ("concatenate", lambda a: np.concatenate([a, a], dtype=np.float64)), ("sort", np.sort),
        ("where", lambda a: np.where(a, 1, 2)),
    ],
)  # fmt: skip
def test_everything_else_is_refused_by_name(name: str, call: Any) -> None:
    with pytest.raises(TypeError, match=rf"numpy\.{name} "):
        call(array([1.0, 0.5]))


# ---------------------------------------------------------------- moving elements


def test_functions_that_move_elements_do_as_numpy_does() -> None:
    rng = np.random.default_rng(5)
    a = QArray(rng.integers(0, 128, (2, 3, 4), dtype=np.uint8), "rf8", 0.5)
    b = QArray(rng.integers(0, 128, (2, 3, 4), dtype=np.uint8), "rf8", 0.5)
    numbers = np.asarray(a)
    one = [
        lambda x: x[1], lambda x: x[..., ::2, None], lambda x: x[[1, 0], :2], lambda x: x[x > 0.25], lambda x: x.T,
        lambda x: x.reshape(6, -1), lambda x: x.reshape((4, 6)), lambda x: np.reshape(x, (3, 8), order="F"), np.ravel,
        lambda x: np.transpose(x, (2, 0, 1)), lambda x: np.swapaxes(x, 0, 2), lambda x: np.moveaxis(x, 0, -1),
        lambda x: np.squeeze(x[:1]), lambda x: np.expand_dims(x, 1), lambda x: np.broadcast_to(x, (5, 2, 3, 4)),
        np.flip, lambda x: np.roll(x, 3, axis=1), np.rot90, lambda x: np.repeat(x, 2, axis=0),
        lambda x: np.tile(x, (2, 1)),
        lambda x: np.take(x, [3, 0], axis=-1), lambda x: np.take_along_axis(x, np.array([[[1]], [[0]]]), 2),
        np.atleast_2d, np.copy, lambda x: x[0, 0, 0],
    ]  # fmt: skip
    for move in one:
        wanted = move(numbers)
        got = move(a)
        assert isinstance(got, QArray)
        assert (got.shape, got.ndim, got.size, got.dtype) == (wanted.shape, wanted.ndim, wanted.size, wanted.dtype)
        assert got.scale == 0.5
        np.testing.assert_array_equal(np.asarray(got), wanted)
    for join in (np.concatenate, np.stack, np.vstack, np.hstack, np.dstack):
        np.testing.assert_array_equal(np.asarray(join([a, b])), join([numbers, np.asarray(b)]))
    mixed = np.concatenate([a, np.zeros((1, 3, 4))])
    np.testing.assert_array_equal(np.asarray(mixed), np.concatenate([numbers, np.zeros((1, 3, 4))]))
    parts = np.split(a, 2)
    assert len(parts) == 2
    np.testing.assert_array_equal(np.asarray(parts[1]), numbers[1:])
    chosen = np.where(numbers > 0.25, a, 0.0)
    np.testing.assert_array_equal(np.asarray(chosen), np.where(numbers > 0.25, numbers, 0.0))
    assert (np.shape(a), np.ndim(a), np.size(a), len(a), a.nbytes) == ((2, 3, 4), 3, 24, 2, 24)
    np.testing.assert_array_equal(np.asarray(list(a)[1]), numbers[1])
    with pytest.raises(ValueError, match="needs one scale"):
        np.concatenate([a, QArray(a.codes, "rf8")])


def test_numbers_come_out_exactly() -> None:
    for name in format_names():
        fmt = get_format(name)
        codes = np.arange(1 << fmt.bits, dtype=np.uint8)
        np.testing.assert_array_equal(np.asarray(QArray(codes, name)), fmt.values)
        np.testing.assert_array_equal(np.asarray(QArray(codes, name, 0.25)), fmt.values * 0.25)
    a = array([1.5, 0.25])
    assert np.asarray(a, dtype=np.float32).dtype == np.float32
    assert float(a[0]) == 1.5
    assert bool(a[0])
    with pytest.raises(ValueError, match="cannot avoid a copy"):
        np.array(a, copy=False)
    empty = QArray(np.empty((0, 3), np.uint8), "rf8")
    assert (empty + empty).shape == (0, 3)
    assert np.asarray(empty + 0.5).shape == (0, 3)


def test_convert_rounds_once() -> None:
    a = QArray(ALL, "rf8", 3.0, rounding=rf8sim.Rounding("down", "nan"))
    got = a.convert("e4m3fn", scale=0.5)
    wanted = [
        reference.round_value(x * 6 if isinstance(x, Fraction) else x, "e4m3fn", "down", "nan")
        for x in (reference.number(code, "rf8") for code in range(256))
    ]
    same(got, wanted, 0.5, QArray(ALL, "e4m3fn", 0.5, rounding=rf8sim.Rounding("down", "nan")))
    with pytest.raises(ValueError, match="holds NaN, and format 'int8' has no NaN code"):
        QArray(ALL, "rf8").convert("int8")
    assert QArray(ALL[:128], "rf8").convert("int8").format.name == "int8"


def test_it_shows_itself() -> None:
    a = array([[1.0, -0.5]], scale=2.0)
    assert repr(a) == "QArray([[1.0, -0.5]], format='rf8', scale=2.0)"
    text = a._repr_html_()
    assert text.startswith("<table>")
    assert 'title="0x' in text
    assert ">-0.5<" in text
    for shape in ((), (0,), (3, 0), (2, 3, 4), (20, 20)):
        shown = QArray(np.zeros(shape, np.uint8), "rf8")._repr_html_().count("<td")
        assert shown == {(): 1, (2, 3, 4): 12, (20, 20): 64}.get(shape, 0)
