"""Sums as matrix engines take them, against a plain rational model of what is published of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_model import Spec, dot, smallest_exponent
from loops import looped

import rf8sim
from rf8sim import Accumulation, OperandScales, get_format
from rf8sim.arithmetic.accumulation import ENGINES, as_accumulation
from rf8sim.arithmetic.orders import get_order
from rf8sim.formats import Format, get_layout

FLOAT32, E8M13 = get_layout("float32"), get_layout("e8m13")

WITH, LATE = ("with", FLOAT32, "toward-zero"), ("late", FLOAT32, "nearest-even")
APART, TREE = ("apart", FLOAT32, "to-odd"), ("tree", FLOAT32, "nearest-even")
MODELS = {  # a second statement of every engine, from its source
    "volta-fp16": (Spec(*WITH, 4, 23), ["float16"]), "turing-fp16": (Spec(*WITH, 8, 24), ["float16"]),
    "ampere-fp16": (Spec(*WITH, 8, 24), ["float16", "bfloat16"]), "ampere-tf32": (Spec(*WITH, 4, 24), ["e8m7"]),
    "ada-fp16": (Spec(*WITH, 8, 24), ["bfloat16"]), "ada-tf32": (Spec(*WITH, 4, 24), ["bfloat16"]),
    "ada-fp8": (Spec("with", E8M13, "toward-zero", 16, 13), ["e4m3fn", "e5m2"]),
    "hopper-fp16": (Spec(*WITH, 16, 25), ["float16", "bfloat16"]), "hopper-tf32": (Spec(*WITH, 8, 25), ["bfloat16"]),
    "hopper-fp8": (Spec("with", E8M13, "toward-zero", 32, 13), ["e4m3fn", "e5m2"]),
    "blackwell-fp16": (Spec(*WITH, 16, 25), ["bfloat16"]), "blackwell-tf32": (Spec(*WITH, 8, 25), ["bfloat16"]),
    "blackwell-fp8": (Spec(*WITH, 32, 25), ["e4m3fn", "e5m2"]), "blackwell-mxfp8": (Spec(*WITH, 32, 25), ["e5m2"]),
    "blackwell-mxfp4": (Spec("grouped", *WITH[1:], 64, 35, group=16), ["e2m1fn"]),
    "blackwell-nvfp4": (Spec("grouped", *WITH[1:], 64, 35, group=16), ["e2m1fn"]),
    "cdna2-fp16": (Spec(*TREE, 4, flush=True), ["float16"]), "cdna2-bf16": (Spec(*TREE, 2, flush=True), ["bfloat16"]),
    "cdna2-bf16-1k": (Spec(*TREE, 4, flush=True), ["bfloat16"]),
    "cdna3-fp16": (Spec(*LATE, 8, 24, kept=31), ["float16", "bfloat16"]),
    "cdna3-xf32": (Spec(*LATE, 4, 24, kept=31), ["bfloat16"]),
    "cdna3-fp8": (Spec(*LATE, 16, 24, kept=31, split=True), ["e4m3fnuz", "e5m2fnuz"]),
    "riscv-bf16": (Spec(*APART, 16, 27, "to-odd"), ["bfloat16"]),
    "riscv-fp8": (Spec(*APART, 32, 28, "to-odd"), ["e4m3fn", "e5m2"]),
}  # fmt: skip
"""cdna1, exact sums of 4 and of 2, is an order that is tested in test_linalg.py."""

CASES = [(engine, name) for engine, (_, names) in MODELS.items() for name in names if name != "e8m7"]


def operands(fmt: Format, kind: str, rows: int, depth: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes with zeros in places; rows and columns of small numbers; columns that cancel rows to zero."""
    rng = np.random.default_rng(8)
    finite = np.flatnonzero(np.isfinite(fmt.values))
    choice = np.arange(fmt.values.size) if kind == "any code" else finite
    size = np.abs(np.nan_to_num(fmt.values[finite], posinf=0, neginf=0))
    small = finite[size <= np.sort(size)[size.size // 2]]
    a, b = rng.choice(choice, (rows, depth)), rng.choice(choice, (depth, columns))
    if kind == "spread":
        a, b = (rf8sim.encode(rng.normal(size=x.shape) * 2.0 ** rng.integers(-4, 4, x.shape), fmt) for x in (a, b))
    a[:3], b[:, :3] = rng.choice(small, (3, depth)), rng.choice(small, (depth, 3))
    a[3, ::2] = b[::3, 4] = fmt.zero
    a[4], b[:, 5] = fmt.zero, fmt.zero
    if fmt.signed:  # a[5] times b[:, 6] cancels in pairs
        pairs = depth // 2
        a[5, 0 : 2 * pairs : 2] = a[5, 1::2]
        b[0 : 2 * pairs : 2, 6] = rf8sim.negate(b[1::2, 6], fmt)
    return a.astype(fmt.code_dtype), b.astype(fmt.code_dtype)


def assert_as_modelled(got: np.ndarray, wanted: list[list[float]]) -> None:
    np.testing.assert_array_equal(got, np.array(wanted, got.dtype))
    assert not np.signbit(got[got == 0]).any()


@looped(("engine", "name"), CASES)
@pytest.mark.parametrize("kind", ["spread", "any number", "any code"])
def test_every_output_of_an_engine_is_the_models(engine: str, name: str, kind: str) -> None:
    fmt, spec = get_format(name), MODELS[engine][0]
    a, b = operands(fmt, kind, 6, max(2 * spec.block + 3, 20), 7)
    got = rf8sim.matmul(a, b, fmt, accumulator=engine)
    smallest = smallest_exponent(fmt)
    x, y = fmt.values[a].tolist(), fmt.values[b].T.tolist()
    wanted = [[dot(row, column, (smallest, smallest), spec) for column in y] for row in x]
    np.testing.assert_array_equal(got, np.array(wanted, got.dtype))
    np.testing.assert_array_equal(rf8sim.matmul(a, b, fmt, accumulator=engine, threads=1), got)
    if spec.style != "tree":
        assert not np.signbit(got[got == 0]).any()


def test_every_engine_has_a_model() -> None:
    assert set(ENGINES) == {*MODELS, "cdna1-fp16", "cdna1-bf16"}


OTHERS = [
    ("float16", "aligned:23:4", "float16", "nearest-even"), ("rf8", "aligned:10:7", "e8m10", "nearest-even"),
    ("e4m3fn", "aligned:6:5:nearest", "e5m7", "toward-zero"), ("posit8_es2", "aligned:40:3", "float32", "toward-zero"),
    ("e5m2", "aligned:9", "e8m13", "to-odd"), ("e3m4", "aligned:8:3:odd", "e5m10", "nearest-even"),
    ("e4m3fn", "aligned:9:6:then=12", "e6m9", "nearest-even"), ("rf8", "aligned:12:5:apart", "e8m9", "toward-zero"),
    ("e5m2", "aligned:10:6:then=10:split", "bfloat16", "to-odd"), ("int8", "aligned:12:8:exact=4", "e6m9", "to-odd"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "order", "layout", "rounding"), OTHERS)
@pytest.mark.parametrize("kind", ["any number", "any code"])
def test_other_orders_and_accumulators(name: str, order: str, layout: str, rounding: str, kind: str) -> None:
    fmt, plan = get_format(name), get_order(order)
    style = "late" if plan.then else "apart" if plan.apart else "grouped" if plan.exact > 1 else "with"
    spec = Spec(style, get_layout(layout), rounding, plan.block or 30, plan.fraction, plan.cut, plan.exact, plan.then,
                plan.split)  # fmt: skip
    a, b = operands(fmt, kind, 6, 30, 7)
    got = rf8sim.matmul(a, b, fmt, accumulator=Accumulation(layout, order=order, rounding=rounding))
    smallest = smallest_exponent(fmt)
    x, y = fmt.values[a].tolist(), fmt.values[b].T.tolist()
    assert_as_modelled(got, [[dot(row, column, (smallest, smallest), spec) for column in y] for row in x])


@pytest.mark.parametrize(("engine", "name", "scale_name", "block_size"), [
    ("blackwell-mxfp8", "e4m3fn", "e8m0fnu", 32), ("blackwell-mxfp8", "e5m2", "e8m0fnu", 32),
    ("blackwell-mxfp4", "e2m1fn", "e8m0fnu", 32), ("blackwell-nvfp4", "e2m1fn", "e4m3fn", 16),
    ("hopper-fp8", "e4m3fn", "float32", 20), ("cdna3-fp8", "e4m3fnuz", "e8m0fnu", 32),
    ("riscv-fp8", "e4m3fn", "e4m3fn", 8),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["spread", "any code"])
def test_block_scales_join_the_products(engine: str, name: str, scale_name: str, block_size: int, kind: str) -> None:
    fmt, spec, rng = get_format(name), MODELS[engine][0], np.random.default_rng(3)
    depth = 160 if spec.block == 64 else 80
    a, b = operands(fmt, kind, 6, depth, 7)
    blocks = -(-depth // block_size)
    if scale_name == "float32":
        scales = [(rng.integers(1, 64, shape) / 16).astype(np.float32) for shape in ((6, blocks), (blocks, 7))]
    else:
        middle = int(rf8sim.encode(1.0, scale_name))
        codes = [rng.integers(middle - 30, middle + 20, shape).astype(np.uint8) for shape in ((6, blocks), (blocks, 7))]
        scales = [rf8sim.decode(code, scale_name) for code in codes]
    got = rf8sim.matmul(a, b, fmt, accumulator=engine, scales=OperandScales(*scales, block_size=block_size))
    smallest = smallest_exponent(fmt)
    x, y = fmt.values[a].tolist(), fmt.values[b].T.tolist()
    of_rows, of_columns = scales[0].tolist(), scales[1].T.tolist()
    wanted = [
        [
            dot(row, column, (smallest, smallest), spec, (p, q), block_size)
            for column, q in zip(y, of_columns, strict=True)
        ]
        for row, p in zip(x, of_rows, strict=True)
    ]
    assert_as_modelled(got, wanted)


def test_subnormal_scales_count_with_the_smallest_normal_exponent() -> None:
    """3 * 2**-9 is subnormal in E4M3: its exponent -8 counts as -6, and two bits below 2**-12 cut 9 / 2**16."""
    ones = np.full((1, 64), rf8sim.encode(0.5, "e2m1fn"), np.uint8)
    scales = np.full((1, 4), 2.0**-9 * 3, np.float32)
    plain = OperandScales(scales, scales.T, block_size=16)
    stored = OperandScales(scales, scales.T, block_size=16, format="e4m3fn")
    assert plain.smallest == -1000
    assert stored.smallest == -6
    narrow = Accumulation("float32", order="aligned:2:64:exact=16", rounding="toward-zero")
    got = [rf8sim.matmul(ones, ones.T, "e2m1fn", scales=given, accumulator=narrow).item() for given in (plain, stored)]
    assert got == [4 * 9 * 2.0**-16, 4 * 8 * 2.0**-16]


def test_a_running_sum_that_is_larger_cuts_the_products() -> None:
    """2**13 and ones: 13 bits below the exponent 13 is 1, and beyond 2**14 it is 2."""
    code = int(rf8sim.encode(1.0, "e4m3fn"))
    for count, wanted in ((2**14, 2.0**14), (2**14 + 64, 2.0**14)):
        x = np.full(count, code, np.uint8)
        assert rf8sim.dot(x, x, "e4m3fn", accumulator="aligned:13:1:e8m13") == wanted
    assert rf8sim.dot(x, x, "e4m3fn", accumulator="float32") == 2**14 + 64


def test_a_negative_sum_far_below_the_products_counts_as_one_unit_or_none() -> None:
    """CDNA3, FP8: -1 beside 2**25 is cut to minus one unit of 2, beside 2**26 it is dropped; 1 is cut to nothing."""
    for product, first, wanted in ((2.0**25, -1.0, 2.0**25 - 2), (2.0**26, -1.0, 2.0**26), (2.0**25, 1.0, 2.0**25)):
        a = rf8sim.encode([first, *[0.0] * 15, 2.0**14], "e5m2fnuz")
        b = rf8sim.encode([1.0, *[0.0] * 15, product / 2.0**14], "e5m2fnuz")
        assert rf8sim.dot(a, b, "e5m2fnuz", accumulator="cdna3-fp8") == wanted
        if first < 0:  # without the even and odd products apart, it is cut beside both
            both = rf8sim.dot(a, b, "e5m2fnuz", accumulator=Accumulation("float32", order="aligned:24:16:then=31"))
            assert both == product - (2 if product == 2.0**25 else 4)


def test_bits_of_the_products_beyond_the_last_are_cut_down() -> None:
    """CDNA3: beside 1.5, -(2**-24 + 2**-40) is cut to more than half a place of float32, the positive one to half."""
    for sign, wanted in ((-1.0, 1.5 - 2.0**-23), (1.0, 1.5)):
        a = rf8sim.encode([1.5, *[0.0] * 7, sign * 2.0**-12, sign * 2.0**-20], "float16")
        b = rf8sim.encode([1.0, *[0.0] * 7, 2.0**-12, 2.0**-20], "float16")
        assert rf8sim.dot(a, b, "float16", accumulator="cdna3-fp16") == wanted


def test_a_zero_product_cuts_no_other() -> None:
    """0 * 2**120 has no exponent: bits of 2**-40 stay beside it, in bfloat16."""
    a = rf8sim.encode([0.0, 2.0**-20], "bfloat16")
    b = rf8sim.encode([2.0**120, 2.0**-20], "bfloat16")
    for engine in ("hopper-fp16", "cdna3-fp16", "riscv-bf16"):
        assert rf8sim.dot(a, b, "bfloat16", accumulator=engine) == 2.0**-40


def test_sums_to_odd_keep_the_side_of_an_exact_sum() -> None:
    """RISC-V: 1 - 2**-60 and 1 + 2**-60 are the float32 numbers beside 1, whose last bits are odd."""
    for sign, wanted in ((-1.0, 1 - 2.0**-24), (1.0, 1 + 2.0**-23)):
        a, b = (rf8sim.encode([1.0, *[0.0] * 15, x], "bfloat16") for x in (sign * 2.0**-30, 2.0**-30))
        assert rf8sim.dot(a, b, "bfloat16", accumulator="riscv-bf16") == wanted


def test_subnormal_products_and_sums_count_as_zero() -> None:
    """CDNA2: 2**-140, and 1.5 * 2**-126 - 2**-126 in a tree, and in two."""
    for x, y in (([2.0**-70], [2.0**-70]), ([1.5, -1.0], [2.0**-126] * 2), ([1.5, 0.0, -1.0], [2.0**-126] * 3)):
        a, b = rf8sim.encode(x, "bfloat16"), rf8sim.encode(y, "bfloat16")
        plain = Accumulation("float32", order="pairwise:2")
        assert rf8sim.dot(a, b, "bfloat16", accumulator=plain) in (2.0**-140, 2.0**-127)
        assert rf8sim.dot(a, b, "bfloat16", accumulator="cdna2-bf16") == 0


def test_the_example_of_the_paper() -> None:
    """arXiv 2511.10909: 2**23 and products of -2**23, -0.5, -0.25, -0.125 make -0.875, or what these engines make."""
    first, second = [-(2.0**13), -0.5, -0.25, -0.125], [2.0**10, 1.0, 1.0, 1.0]
    wanted = {"volta-fp16": 0.0, "turing-fp16": -0.5, "ampere-fp16": -0.5, "hopper-fp16": -0.75, "cdna3-fp16": -0.5,
              "blackwell-fp16": -0.75, "cdna1-fp16": -0.875, "cdna2-fp16": 0.0, "cdna2-bf16": -0.375, "ada-fp8": 0.0,
              "hopper-fp8": 0.0, "blackwell-fp8": -0.75, "blackwell-mxfp8": -0.75, "cdna3-fp8": -1.0}  # fmt: skip
    for engine, value in wanted.items():
        block = max(get_order(ENGINES[engine].order).block, 4)
        a = np.concatenate([[2.0**13], np.zeros(block - 1), first, np.zeros(block - 4)])
        b = np.concatenate([[2.0**10], np.zeros(block - 1), second, np.zeros(block - 4)])
        name = "e5m2" if engine.endswith("fp8") else "float16"
        x, y = (rf8sim.encode(v, name) for v in (a, b))
        assert rf8sim.dot(x, y, name, accumulator=engine) == value, engine


def test_names_of_engines() -> None:
    assert as_accumulation("hopper-fp8") == Accumulation("e8m13", order="aligned:13:32", rounding="toward-zero")
    assert as_accumulation("aligned:25:16") == ENGINES["hopper-fp16"]
    assert as_accumulation("aligned:24:8:then=31:bfloat16").order.then == 31
    assert as_accumulation("aligned:24:8:then=31:bfloat16").accumulator.name == "bfloat16"
    for engine in ENGINES.values():
        assert get_order(str(engine.order)) == engine.order
    with pytest.raises(ValueError, match="did you mean 'hopper-fp8'") as refusal:
        rf8sim.dot(np.uint8([1]), np.uint8([1]), "rf8", accumulator="hoper-fp8")
    assert all(name in str(refusal.value) for name in ("float32", "aligned:F:K", *ENGINES))


def test_the_page_lists_every_engine() -> None:
    page = (Path(__file__).parents[1] / "docs" / "accumulators.md").read_text(encoding="utf-8")
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:5]] for line in page.splitlines() if "| `" in line]
    listed = {name: tuple(row) for name, *row in rows if name in ENGINES}
    assert listed == {
        name: (engine.accumulator.name, str(engine.order), str(engine.rounding)) for name, engine in ENGINES.items()
    }


def test_without_a_block_all_products_are_aligned_at_once() -> None:
    rng = np.random.default_rng(0)
    x, y = (rf8sim.encode(rng.normal(size=300) * 8, "e5m2") for _ in range(2))
    one_step = rf8sim.dot(x, y, "e5m2", accumulator="aligned:9:300")
    assert rf8sim.dot(x, y, "e5m2", accumulator="aligned:9") == one_step
    assert rf8sim.dot(x, y, "e5m2", accumulator="aligned:9:150") != one_step
    assert rf8sim.dot(x[:0], y[:0], "e5m2", accumulator="aligned:9") == 0


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
    ({"order": "aligned:25:0"}, "expected 'aligned:F' or 'aligned:F:K'"),
    ({"order": "aligned:60:4"}, "from 1 to 40 fraction bits"), ({"order": "aligned:40:4096"}, "below 50 together"),
    ({"order": "aligned:24:8:nearest:odd"}, "then any of nearest, odd"),
    ({"order": "aligned:24:8:then=20"}, "keeps B bits, at least F"),
    ({"order": "aligned:24:8:split"}, "goes with then"),
    ({"order": "aligned:35:40:exact=16"}, "K is a multiple of G"), ({"order": "pairwise:3"}, "a power of two from 2"),
    ({"order": "aligned:13:32", "accumulator": "rf8"}, "in a float"),
    ({"order": "aligned:13:32", "rounding": "up"}, "'toward-zero' or 'to-odd', not 'up'"),
    ({"order": "aligned:13:32", "products": "float16"}, "leave out `products`"),
    ({"order": "pairwise:4", "accumulator": "float16"}, "rounds its sums to float32"),
])  # fmt: skip
def test_refusals(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Accumulation(**{"accumulator": "float32", **options})


def test_sums_too_wide_are_refused() -> None:
    x = rf8sim.encode(np.ones((1, 64)), "bfloat16")
    with pytest.raises(ValueError, match="53 are summed exactly"):
        rf8sim.matmul(x, x.T, "bfloat16", accumulator="blackwell-nvfp4")
    row = rf8sim.encode(np.ones((1, 64)), "e2m1fn")
    scales = OperandScales(np.ones((1, 8)), np.ones((8, 1)), block_size=8)
    with pytest.raises(ValueError, match="block_size must be a multiple of 16, got 8"):
        rf8sim.matmul(row, row.T, "e2m1fn", scales=scales, accumulator="blackwell-nvfp4")
