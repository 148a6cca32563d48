"""Streams into an accumulator, and dot products with an addend, by rational arithmetic written out step by step."""

import io
import math
from fractions import Fraction

import engine_model
import linalg_oracle
import numpy as np
import pytest
from test_aligned import MODELS

import rf8sim
from rf8sim import Accumulation, reference
from rf8sim.arithmetic.accumulation import as_accumulation
from rf8sim.arithmetic.accumulators import get_accumulator
from rf8sim.formats import get_format, get_layout
from rf8sim.hardware.golden.golden import golden
from rf8sim.hardware.golden.ports import unsigned
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.verify import verify

SMALLEST = {"e8m13": 2.0**-126, "float32": 2.0**-126, "tf32": 2.0**-126}


def smallest_exponents(model):
    """The exponents of the smallest normal numbers of both factors."""
    exponents = []
    for port in model.operands:
        if port.name in ("a", "b"):
            fmt = getattr(port.kind, "format", None)
            low = port.kind.layout.smallest_normal if fmt is None else fmt.subnormals_below or fmt.smallest
            exponents.append(reference.floor_log2(Fraction(low)))
    return tuple(exponents)


def steps_of(accumulator, model, block):
    """From a running sum, some products' factors and the scales to the next running sum, in rational arithmetic."""
    if accumulator in MODELS:
        spec, smallest = MODELS[accumulator][0], smallest_exponents(model)
        return lambda total, x, y, scales: engine_model.dot(x, y, smallest, spec, scales, max(len(x), 1), total)
    chosen = as_accumulation(accumulator)
    kind, order, mode = get_accumulator(chosen.accumulator).name, chosen.order, chosen.rounding.mode
    units = [
        linalg_oracle.unit_of(
            port.kind.format.values if hasattr(port.kind, "format") else port.kind.layout.values(np.arange(4))
        )
        for port in model.operands
        if port.name in ("a", "b")
    ]  # fmt: skip

    def settle(terms):
        return linalg_oracle.settle(terms, kind, mode, chosen.rounding.overflow, units[0] * units[1], 0)

    def step(total, x, y, scales):
        assert scales is None
        total = settle([total])
        products = [u * v for u, v in zip(x, y, strict=True)]
        if order.name == "pairwise":
            tree = linalg_oracle.dot(x, y, kind, "pairwise", mode, chosen.rounding.overflow, units[0] * units[1])
            return settle([total, tree])
        size = order.block if order.name == "blocked" and block > 1 else 1
        for first in range(0, len(products), size):
            total = settle([total, *products[first : first + size]])
        return total

    return step


def drawn(model, count, seed):
    """Any finite operands and some special ones; second factors and addends are often small."""
    rng = np.random.default_rng(seed)
    operands = []
    for port in model.operands:
        shape = (count, port.lanes) if port.lanes > 1 else (count,)
        if port.name == "clear":
            operands.append((rng.random(count) < 0.12).astype(np.uint8))
            continue
        patterns = rng.integers(0, 1 << port.kind.bits, shape, dtype=np.uint64).astype(unsigned(port.kind.bits))
        values = port.kind.values(patterns)
        layout = getattr(port.kind, "layout", None)
        if layout is not None:
            near = rng.integers(layout.bias - 14, layout.bias + 10, shape).astype(np.uint64) << np.uint64(
                layout.mantissa_bits
            )
            near |= patterns & np.uint64(layout.mantissa_mask | layout.sign_mask)
            patterns = np.where(rng.random(shape) < 0.1, patterns, near).astype(patterns.dtype)
        elif hasattr(port.kind, "format"):
            rare = rng.random(shape) < 0.02
            finite = np.flatnonzero(np.isfinite(port.kind.format.values))
            patterns = np.where(np.isfinite(values) | rare, patterns, rng.choice(finite, shape)).astype(patterns.dtype)
        operands.append(patterns)
    return operands


def same(got, wanted):
    return (math.isnan(got) and math.isnan(wanted)) or got == wanted


STREAMS = [
    ("e4m3fn", "float32"), ("e5m2", "e8m13"), ("rf8", "bfloat16"), ("int8", "int:16"), ("int8", "int:14:wrap"),
    ("rf8", "rf8"), ("e5m2", "e5m2"), ("e4m3fn", "hopper-fp8"), ("e5m2", "ada-fp8"), ("float16", "hopper-fp16"),
    ("bfloat16", "cdna2-bf16"), ("bfloat16", "cdna3-fp16"), ("e5m2fnuz", "cdna3-fp8"), ("e5m2", "riscv-fp8"),
    ("e2m1fn", "blackwell-mxfp4"), ("e4m3fn", Accumulation("float16", order="blocked:4", rounding="toward-zero")),
]  # fmt: skip


@pytest.mark.parametrize(("fmt", "accumulator"), STREAMS, ids=str)
def test_a_stream_is_summed_step_by_step(fmt, accumulator):
    model = golden("accumulate", fmt, accumulator=accumulator)
    operands = drawn(model, 700, 3)
    step = steps_of(accumulator, model, 1)
    first, state = model.compute([x[:311] for x in operands])
    second, _ = model.compute([x[311:] for x in operands], state)
    got = np.concatenate([first.results, second.results])
    numbers = model.result.kind.values(got)
    clear, a, b = model.read(operands)
    total, invalid, nan = 0.0, False, False
    integer = get_accumulator(as_accumulation(accumulator).accumulator).integer is not None
    flags = np.concatenate([first.flags, second.flags])
    for row in range(len(got)):
        if clear[row]:
            total, nan = 0.0, False
        total = step(total, [float(a[row])], [float(b[row])], None)
        nan |= math.isnan(a[row]) or math.isnan(b[row])
        invalid = math.isnan(total) and not nan
        wanted = 0.0 if integer and not math.isfinite(total) else total
        if math.isinf(total) and not np.isinf(numbers).any():
            wanted = math.copysign(getattr(model.into, "max", math.inf), total)
        assert same(float(numbers[row]), wanted), (row, total)
        assert bool(flags[row] & 16) == invalid or integer, row


ADDENDS = [
    ("dot:5", ("e4m3fn", "e5m2", "float32"), "hopper-fp8"),
    ("dot:40", ("e4m3fn", "e4m3fn", "float32"), "hopper-fp8"),
    ("dot:9", ("float16", "float16", "float32"), "volta-fp16"),
    ("dot:7", ("float16", "float16", "float16"), "cdna2-fp16"),
    ("dot:18", ("e4m3fnuz", "e5m2fnuz", "float32"), "cdna3-fp8"),
    ("dot:9", ("bfloat16", "bfloat16", "float32"), "cdna3-fp16"),
    ("dot:9", ("e5m2", "e5m2", "float32"), "riscv-fp8"),
    ("dot:20", ("e2m1fn", "e2m1fn", "float32"), "blackwell-mxfp4"),
    ("dot:6", ("rf8", "rf8", "bfloat16"), Accumulation("float16", order="pairwise")),
    ("dot:6", ("rf8", "rf8", "float32"), Accumulation("bfloat16", order="blocked:4")),
    ("dot:3", ("int8", "int8", "int32"), "int:20"),
    ("fma", ("e4m3fn", "e4m3fn", "float32"), "aligned:13:32:e8m13"),
    ("dot:4", ("e4m3fn", "e4m3fn", "rf8"), "rf8"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "fmt", "accumulator"), ADDENDS, ids=str)
def test_an_addend_is_the_running_sum(operation, fmt, accumulator):
    model = golden(operation, fmt, accumulator=accumulator)
    operands = drawn(model, 150, 5)
    name = "hopper-fp8" if accumulator == "aligned:13:32:e8m13" else accumulator
    step = steps_of(name, model, 2)
    got = model.result.kind.values(model.compute(operands)[0].results)
    a, b, c = (
        x if x.ndim == 2 or port.name == "c" else x[:, None]
        for port, x in zip(model.operands, model.read(operands), strict=True)
    )
    for row in range(len(got)):
        wanted = step(float(c[row]), a[row].tolist(), b[row].tolist(), None)
        if not same(float(got[row]), wanted):
            assert model.into is not None
            assert abs(wanted) > model.into.max, row


@pytest.mark.parametrize(
    ("fmt", "scale", "engine", "lanes"),
    [("e4m3fn", "e8m0fnu", "blackwell-mxfp8", 32), ("e2m1fn", "e4m3fn", "blackwell-nvfp4", 16),
     ("e5m2fnuz", "e8m0fnu", "cdna3-fp8", 8), ("e4m3fn", "e8m0fnu", "hopper-fp8", 8)],
)  # fmt: skip
def test_an_addend_joins_scaled_blocks(fmt, scale, engine, lanes):
    model = golden(f"block_dot:{lanes}", (fmt, fmt, "float32"), scale=scale, accumulator=engine)
    a, b, scale_a, scale_b, c = drawn(model, 120, 6)
    for x in (scale_a, scale_b):  # near one, and positive
        near = rf8sim.encode(2.0 ** np.random.default_rng(int(x[0])).integers(-5, 4, x.size), scale)
        x[...] = near
    got = model.result.kind.values(model.compute([a, b, scale_a, scale_b, c])[0].results)
    x, y, left, right, start = model.read([a, b, scale_a, scale_b, c])
    smallest, spec = smallest_exponents(model), MODELS[engine][0]
    for row in range(len(got)):
        scales = ([float(left[row])], [float(right[row])])
        wanted = engine_model.dot(x[row].tolist(), y[row].tolist(), smallest, spec, scales, lanes, float(start[row]))
        assert same(float(got[row]), wanted), row


def test_an_addend_of_a_scaled_sum_is_added_last():
    """Not aligned: the block is summed from zero, scaled exactly, and added to c with one rounding."""
    model = golden("block_dot:4", ("e4m3fn", "e4m3fn", "float32"), accumulator="float32")
    a, b, scale_a, scale_b, c = drawn(model, 200, 8)
    scale_a, scale_b = (scale % 20 + 117 for scale in (scale_a, scale_b))
    got = model.compute([a, b, scale_a, scale_b, c])[0].results.view(np.float32)
    for row, value in enumerate(got.tolist()):
        total = float(rf8sim.dot(a[row], b[row], "e4m3fn", accumulator="float32"))
        start = float(c.view(np.float32)[row])
        if not math.isfinite(total + start):
            assert not math.isfinite(value)
            continue
        exact = Fraction(start) + Fraction(total) * Fraction(2) ** (int(scale_a[row]) + int(scale_b[row]) - 254)
        assert value == linalg_oracle.settle([exact], "float32", "nearest-even", "saturate", Fraction(1), 0), row


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("accumulate", {"fmt": "e4m3fn", "accumulator": "float32"}),
        ("accumulate", {"fmt": "rf8", "result": "float32"}),
        ("accumulate", {"fmt": "int8", "accumulator": "int:20"}),
        ("accumulate", {"fmt": "e4m3fn", "accumulator": "hopper-fp8", "result": "bfloat16"}),
        ("dot:4", {"fmt": ("e4m3fn", "e4m3fn", "float32"), "accumulator": "hopper-fp8"}),
        ("block_dot:4", {"fmt": ("e4m3fn", "e4m3fn", "float32"), "accumulator": "blackwell-mxfp8"}),
    ],
    ids=str,
)  # fmt: skip
def test_a_verdict_of_such_sums_sees_one_wrong_bit(operation, options):
    asked = vectors(operation, n=200, **options)
    lines = b"".join(asked.text(flags=False)).splitlines()
    assert verify(asked, io.BytesIO(b"\n".join(lines) + b"\n")).passed
    *operands, result = lines[-150].split()
    lines[-150] = b" ".join([*operands, b"%0*X" % (len(result), int(result, 16) ^ 1)])
    verdict = verify(asked, io.BytesIO(b"\n".join(lines) + b"\n"))
    assert (verdict.passed, verdict.wrong_results) == (False, 1)


def test_what_cannot_be_summed_is_refused():
    for message, operation, options in (
        ("sums a tree, and a stream has no last product", "accumulate",
         {"fmt": "rf8", "accumulator": Accumulation("float32", order="pairwise")}),
        ("must be whole in them", "dot:4", {"fmt": ("int8", "int8", "float32"), "accumulator": "int:24"}),
        ("rounds stochastically", "accumulate",
         {"fmt": "rf8", "accumulator": Accumulation("float16", rounding="stochastic")}),
        ("integers of up to", "accumulate", {"fmt": "float16", "accumulator": "int:24"}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            golden(operation, **options)


def test_a_result_of_an_accumulator_is_its_own_float():
    assert golden("accumulate", "e4m3fn", accumulator="hopper-fp8").result.kind.name == "e8m13"
    assert golden("accumulate", "int8", accumulator="int:24").result.kind.name == "fixed:24.0"
    assert golden("accumulate", "rf8", accumulator="int:40").result.kind.name == "fixed:2.38"
    assert get_layout("e8m13").precision == 14
    assert get_format("bfloat16").bits == 16
