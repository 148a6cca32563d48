"""Sums aligned to the largest exponent, against a plain rational model of what arXiv 2511.10909 found of machines."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import rf8sim
from rf8sim import Accumulation, get_format
from rf8sim.arithmetic.accumulation import ENGINES, as_accumulation
from rf8sim.formats import Format, get_layout
from rf8sim.reference import floor_log2, power_of_two


def exponent(x: float, smallest: int) -> int:
    """Of a zero -126, of a subnormal the smallest."""
    return -126 if x == 0 else max(floor_log2(abs(Fraction(x))), smallest)


def to_integer(x: Fraction, nearest: bool) -> int:
    return round(x) if nearest else math.trunc(x)


def aligned_sum(
    x: list[float], y: list[float], smallest: int, order: tuple[int, int, bool], layout: str, nearest: bool
) -> float:
    """One output; `smallest` is the smallest exponent of the operands, `nearest` how the sum is kept."""
    fraction, block, cut_nearest = order
    kind, total = get_layout(layout), 0.0
    for first in range(0, len(x), block):
        pairs = list(zip(x[first : first + block], y[first : first + block], strict=True))
        special = [v for v in (total, *(p * q for p, q in pairs)) if not math.isfinite(v)]
        if special:
            total = sum(special)
            continue
        top = max(exponent(total, kind.emin), *(exponent(p, smallest) + exponent(q, smallest) for p, q in pairs))
        unit = power_of_two(top - fraction)
        terms = [Fraction(total), *(Fraction(p) * Fraction(q) for p, q in pairs)]
        exact = sum(to_integer(term / unit, cut_nearest) for term in terms) * unit
        if exact == 0:
            total = 0.0
            continue
        last = power_of_two(max(floor_log2(abs(exact)), kind.emin) - kind.precision + 1)
        kept = to_integer(exact / last, nearest) * last
        total = float(kept) if abs(kept) <= kind.max else math.copysign(math.inf, kept)
    return total


def smallest_exponent(fmt: Format) -> int:
    return floor_log2(Fraction(fmt.subnormals_below or fmt.smallest))


CASES = [
    ("e4m3fn", "aligned:13:32", "e8m13", "toward-zero"), ("e5m2", "aligned:13:4", "e8m13", "toward-zero"),
    ("float16", "aligned:25:16", "float32", "toward-zero"), ("bfloat16", "aligned:24:8", "float32", "toward-zero"),
    ("float16", "aligned:23:4", "float16", "nearest-even"), ("rf8", "aligned:10:7", "e8m10", "nearest-even"),
    ("e4m3fn", "aligned:6:5:nearest", "e5m7", "toward-zero"), ("posit8_es2", "aligned:40:3", "float32", "toward-zero"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "order", "layout", "rounding"), CASES)
@pytest.mark.parametrize("finite", [True, False])
def test_every_output_is_the_models(name: str, order: str, layout: str, rounding: str, finite: bool) -> None:
    fmt, rng = get_format(name), np.random.default_rng(8)
    codes = np.flatnonzero(np.isfinite(fmt.values)) if finite else np.arange(fmt.values.size)
    small = codes[np.abs(np.nan_to_num(fmt.values[codes])) < fmt.max / 16]
    a, b = rng.choice(codes, (9, 70)), rng.choice(codes, (70, 11))
    a[:4], b[:, :5] = rng.choice(small, (4, 70)), rng.choice(small, (70, 5))
    a[5, ::2] = b[::3, 7] = fmt.zero
    a[6], b[:, 8] = fmt.zero, fmt.zero
    accumulation = Accumulation(layout, order=order, rounding=rounding)
    got = rf8sim.matmul(a, b, fmt, accumulator=accumulation)
    _, fraction, block, *option = order.split(":")
    parts = int(fraction), int(block), bool(option)
    x, y = fmt.values[a].tolist(), fmt.values[b].T.tolist()
    wanted = [[aligned_sum(row, column, smallest_exponent(fmt), parts, layout, rounding == "nearest-even")
               for column in y] for row in x]  # fmt: skip
    np.testing.assert_array_equal(got, np.array(wanted, got.dtype))
    np.testing.assert_array_equal(rf8sim.matmul(a, b, fmt, accumulator=accumulation, threads=1), got)


def test_a_running_sum_that_is_larger_cuts_the_products() -> None:
    """2**13 and ones: 13 bits below the exponent 13 is 1, and beyond 2**14 it is 2."""
    code = int(rf8sim.encode(1.0, "e4m3fn"))
    for count, wanted in ((2**14, 2.0**14), (2**14 + 64, 2.0**14)):
        x = np.full(count, code, np.uint8)
        assert rf8sim.dot(x, x, "e4m3fn", accumulator="aligned:13:1:e8m13") == wanted
    assert rf8sim.dot(x, x, "e4m3fn", accumulator="float32") == 2**14 + 64


def test_names_of_engines() -> None:
    assert as_accumulation("hopper-fp8") == Accumulation("e8m13", order="aligned:13:32", rounding="toward-zero")
    assert as_accumulation("aligned:25:16") == ENGINES["hopper-fp16"]
    x = rf8sim.encode(np.linspace(-3, 3, 64), "e4m3fn")
    for name, engine in ENGINES.items():
        assert rf8sim.dot(x, x, "e4m3fn", accumulator=name) == rf8sim.dot(x, x, "e4m3fn", accumulator=engine)


def test_how_far_hopper_is_from_an_exact_sum() -> None:
    """14 bits of a sum of 4096 products, not the 24 of float32: some thousandths, not some tenths of a millionth."""
    rng = np.random.default_rng(0)
    a, b = (rf8sim.encode(rng.normal(0, 1, shape), "e4m3fn") for shape in ((16, 4096), (4096, 16)))
    exact = rf8sim.matmul(a, b, "e4m3fn")
    error = {}
    for name in ("hopper-fp8", "blackwell-fp8", "float32"):
        got = rf8sim.matmul(a, b, "e4m3fn", accumulator=name).astype(np.float64)
        error[name] = float(np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2)))
    assert error["hopper-fp8"] > 1e-3 > 1e-5 > error["blackwell-fp8"] > error["float32"]


@pytest.mark.parametrize(("options", "message"), [
    ({"order": "aligned:25"}, "expected 'aligned:F:K'"), ({"order": "aligned:60:4"}, "from 1 to 40 fraction bits"),
    ({"order": "aligned:40:4096"}, "below 50 together"),
    ({"order": "aligned:13:32", "accumulator": "rf8"}, "in a float"),
    ({"order": "aligned:13:32", "rounding": "up"}, "'nearest-even' or 'toward-zero'"),
    ({"order": "aligned:13:32", "products": "float16"}, "leave out `products`"),
])  # fmt: skip
def test_refusals(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Accumulation(**{"accumulator": "float32", **options})


def test_block_scales_are_refused() -> None:
    row = rf8sim.encode(np.ones((1, 4)), "e4m3fn")
    scales = rf8sim.OperandScales(np.ones((1, 2)), np.ones((2, 1)), block_size=2)
    with pytest.raises(ValueError, match="takes no block scales"):
        rf8sim.matmul(row, row.T, "e4m3fn", scales=scales, accumulator="hopper-fp8")
