"""Products that are rounded before they are summed, against Fractions; what they are refused with."""

from __future__ import annotations

import itertools
from fractions import Fraction

import linalg_oracle as oracle
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_linalg import draw, numbers

import rf8sim
from rf8sim.arithmetic import products

TYPES = ("float32", "float16", "bfloat16", "tf32", "rf8", "e5m2", "e4m3", "lns8")
MODES = ("nearest-even", "nearest-away", "toward-zero", "up", "down", "to-odd")
ORDERS = ("sequential", "pairwise", "blocked:3")
PAIRS = (("rf8", "rf8"), ("e5m2", "e5m2"), ("rf8", "int8"), ("rf8", "float32"), ("e8m0fnu", "float32"))
ACCUMULATORS = ("exact", "float32", "bfloat16", "e4m3", "int:24", "int:16:wrap")


def unit(held: str) -> Fraction:
    """What an integer accumulator counts in: the smallest value that a product can have."""
    if held in oracle.FLOATS:
        precision, smallest, _ = oracle.FLOATS[held]
        return Fraction(2) ** (smallest - precision + 1)
    return oracle.unit_of(rf8sim.get_format(held).values)


def check(
    fmt_a: str, fmt_b: str, held: str, product_mode: str, accumulator: str, order: str, mode: str = "nearest-even",
    overflow: str = "saturate", seed: int = 0, finite: bool = True,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    a, b = draw(rng, fmt_a, (3, 11), finite), draw(rng, fmt_b, (11, 4), finite)
    got = rf8sim.matmul(
        a,
        b,
        (fmt_a, fmt_b),
        accumulator=rf8sim.Accumulation(
            accumulator,
            order=order,
            rounding=rf8sim.Rounding(mode, overflow, seed=seed),
            products=held,
            product_rounding=rf8sim.Rounding(product_mode, overflow),
        ),
    )
    step = unit(held) if accumulator.startswith("int:") else Fraction(1)
    with np.errstate(invalid="ignore"):
        expected = oracle.matmul(numbers(a, fmt_a), numbers(b, fmt_b), accumulator, order, mode, overflow, step, seed,
                                 held=(held, product_mode))  # fmt: skip
    oracle.same(got, expected, f"{fmt_a} x {fmt_b}, {held} {product_mode}, {accumulator}, {order}, seed {seed}")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("held", TYPES)
def test_every_type_of_product_in_every_accumulator(held: str, order: str) -> None:
    for accumulator, pair in itertools.product(ACCUMULATORS, PAIRS):
        if accumulator.startswith("int:") and held in ("float32", "bfloat16", "tf32", "lns8"):
            continue  # too wide for an integer: refused below
        for finite in (True, False):
            check(*pair, held, "nearest-even", accumulator, order, finite=finite)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("held", [*TYPES[1:6], "rf6"])
def test_every_mode_of_product(held: str, mode: str) -> None:
    for seed, order in enumerate(ORDERS):
        check("rf8", "rf8", held, mode, "float16", order, seed=seed)
        check("rf8", "float32", held, mode, "exact", order, seed=seed, finite=False)
        check("e5m2", "e5m2", held, mode, "bfloat16", order, "stochastic", seed=seed)


def test_residual_rounding_of_products_and_overflow() -> None:
    check("rf8", "rf8", "rf8", "residual", "float32", "sequential")
    for overflow in ("nan", "infinity"):
        check("e5m2", "e5m2", "e5m2", "nearest-even", "float32", "pairwise", overflow=overflow, finite=False)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_anything(data: st.DataObject) -> None:
    check(*data.draw(st.sampled_from(PAIRS)), data.draw(st.sampled_from(TYPES)), data.draw(st.sampled_from(MODES)),
          data.draw(st.sampled_from(ACCUMULATORS[:4])), data.draw(st.sampled_from(ORDERS)),
          data.draw(st.sampled_from((*MODES, "stochastic"))), seed=data.draw(st.integers(0, 2**64 - 1)),
          finite=data.draw(st.booleans()))  # fmt: skip


def test_float16_products_and_sums_are_numpy_s() -> None:
    """A multiplier and an adder of float16: what numpy's scalars do, each of which rounds once."""
    rng = np.random.default_rng(5)
    a, b = draw(rng, "rf8", (4, 60), True), draw(rng, "rf8", (60, 5), True)
    for held, dtype in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        x, y = rf8sim.decode(a, "rf8", dtype=dtype), rf8sim.decode(b, "rf8", dtype=dtype)
        sums = np.zeros((4, 5), dtype)
        for k in range(60):
            sums = sums + x[:, k, None] * y[k]
        got = rf8sim.matmul(a, b, "rf8", accumulator=rf8sim.Accumulation(held, products=held))
        np.testing.assert_array_equal(got, sums.astype(np.float32))
        # Products of two significands of 5 bits are exact in float16.
        assert np.any(got != rf8sim.matmul(a, b, "rf8", accumulator=held)) == (held == "bfloat16")


def test_shapes_panels_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    a, b = draw(rng, "rf8", (2, 5, 33), True), draw(rng, "rf8", (2, 33, 7), True)
    drawn = rf8sim.Rounding("stochastic", seed=3)
    options = {"accumulator": rf8sim.Accumulation("bfloat16", rounding=drawn, products="e4m3fn")}
    whole = rf8sim.matmul(a, b, "rf8", **options)
    monkeypatch.setattr(products, "_PANEL", 33 * 7 * 2)
    oracle.same(rf8sim.matmul(a, b, "rf8", **options), whole)
    oracle.same(rf8sim.matmul(a, b, "rf8", threads=1, **options), whole)
    first = oracle.matmul(numbers(a[1], "rf8"), numbers(b[1], "rf8"), "bfloat16", mode="stochastic", seed=3, first=35,
                          held=("e4m3fn", "nearest-even"))  # fmt: skip
    oracle.same(whole[1], first)
    assert rf8sim.matmul(a[:, :, :0], b[:, :0], "rf8", **options).tolist() == np.zeros((2, 5, 7)).tolist()
    for shape in ((2, 0, 7), (2, 5, 0)):
        none = rf8sim.matmul(a[:, : shape[1]], b[..., : shape[2]], "rf8", **options)
        assert none.shape == shape
    scaled = rf8sim.matmul(a, b, "rf8", scales=rf8sim.OperandScales(2.0), **options)
    np.testing.assert_array_equal(scaled, 2 * whole)
    same = rf8sim.einsum("bij,bjk->bik", a, b, "rf8", **options)
    oracle.same(same, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"products": "float12"}, "unknown products 'float12'"),
        ({"products": "int:8"}, "products are rounded to a float or a format, not to 'int:8'"),
        ({"products": "rf8", "product_rounding": "nearest"}, "unknown rounding mode 'nearest'"),
        ({"products": "rf8", "product_rounding": "stochastic"}, "product_rounding 'stochastic' is not available"),
        ({"products": "float16", "product_rounding": "residual"}, "rounding 'residual' is not for"),
        ({"products": "float32", "accumulator": "int:24"}, "integers of up to 277 bits"),
    ],
)
def test_refusals(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rf8sim.matmul([[1, 2]], [[1], [2]], "rf8", accumulator=rf8sim.Accumulation(**options))


def test_rounded_products_take_no_block_scales() -> None:
    with pytest.raises(ValueError, match="products rounded to 'rf8' take no block scales"):
        rf8sim.matmul([[1, 2]], [[1], [2]], "rf8", accumulator=rf8sim.Accumulation(products="rf8"),
                      scales=rf8sim.OperandScales(block_size=2))  # fmt: skip
