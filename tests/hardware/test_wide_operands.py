"""Operands that are floats without a table: classes of vectors, verdicts, SoftFloat, sums of matrix engines."""

import io
import math
from itertools import pairwise

import engine_model
import numpy as np
import pytest
from test_accumulators import drawn, same, smallest_exponents
from test_aligned import MODELS

from rf8sim.hardware.golden.golden import golden
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.verify import verify

SUBNORMAL = {"float32": 2.0**-126, "e8m13": 2.0**-126, "tf32": 2.0**-126, "bfloat16": 2.0**-126, "e4m3fn": 2.0**-6}

UNITS = [
    ("add", "float32", None), ("subtract", ("tf32", "float32"), "float32"), ("multiply", "float32", "bfloat16"),
    ("multiply", ("e4m3fn", "float32"), "float32"), ("divide", "float32", None), ("sqrt", "float32", None),
    ("minimum", "tf32", None), ("compare", ("float32", "e8m13"), None), ("fma", "float32", None),
    ("dot:4", "tf32", "float32"), ("block_dot:4", "tf32", "float32"), ("accumulate", "tf32", "float32"),
    ("add", "bfloat16", "float32"), ("multiply", "bfloat16", "float32"), ("add", "float16", "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "fmt", "result"), UNITS, ids=str)
def test_a_verdict_sees_one_wrong_bit_of_wide_operands(operation, fmt, result):
    asked = vectors(operation, fmt, result=result, n=200)
    lines = b"".join(asked.text(flags=False)).splitlines()
    assert verify(asked, io.BytesIO(b"\n".join(lines) + b"\n")).passed
    *operands, answer = lines[-150].split()
    lines[-150] = b" ".join([*operands, b"%0*X" % (len(answer), int(answer, 16) ^ 1)])
    verdict = verify(asked, io.BytesIO(b"\n".join(lines) + b"\n"))
    assert (verdict.passed, verdict.wrong_results) == (False, 1)


RESULTS = [
    ("add", "float32", "float32"), ("subtract", "float32", "bfloat16"), ("multiply", "float32", "float32"),
    ("multiply", "bfloat16", "float32"), ("add", "float16", "float32"), ("add", ("float16", "e4m3fn"), "float32"),
    ("divide", "float32", "float32"), ("multiply", "float16", "e8m13"), ("subtract", "bfloat16", "tf32"),
    ("divide", "bfloat16", "float32"), ("multiply", "float32", "e4m3fn"), ("fma", "tf32", "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "fmt", "result"), RESULTS, ids=str)
def test_ties_are_ties_and_every_class_is_there(operation, fmt, result):
    asked = vectors(operation, fmt, result=result, n=0)
    start, by_name = 0, {}
    for name, size in asked.classes.items():
        by_name[name] = [column[start : start + size] for column in asked.operands]
        start += size
    ties = asked.model.compute(by_name["ties"])[0]
    assert ties.ties.all()
    assert len(ties.ties) > 400
    beside = asked.model.compute(by_name["near ties"])[0]
    assert len(beside.ties) > 400
    assert np.mean(beside.ties) < 0.7
    assert np.mean(beside.flags & 1) > 0.2
    if operation == "fma":
        return
    kind = asked.model.result.kind
    limit = SUBNORMAL[result]
    values = np.abs(kind.values(ties.results))
    if operation in ("multiply", "divide"):  # in the subnormal numbers too
        reached = np.mean((values < limit) & (values > 0))
        assert reached > 0.1 or fmt == "float16", reached
    if "float16" not in fmt:
        beyond = asked.model.compute(by_name["overflow"])[0]
        assert 0.02 < np.mean((beyond.flags & 4) != 0) < 0.98
        below = np.abs(kind.values(asked.model.compute(by_name["underflow"])[0].results))
        assert np.mean(below < limit) > 0.02
    if "carries" in by_name:
        carried = np.abs(kind.values(asked.model.compute(by_name["carries"])[0].results))
        power = np.frexp(carried)[0] == 0.5
        assert 0.03 < np.mean(power) < 0.9
    again = vectors(operation, fmt, result=result, n=20, seed=3)
    np.testing.assert_array_equal(again.results, vectors(operation, fmt, result=result, n=20, seed=3).results)


SOFTFLOAT = {"nearest-even": "NEAR_EVEN", "nearest-away": "NEAR_MAX_MAG", "toward-zero": "MIN_MAG", "up": "MAX",
             "down": "MIN"}  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "name"),
    [("add", "add"), ("subtract", "sub"), ("multiply", "mul"), ("divide", "div"), ("sqrt", "sqrt"), ("fma", "mul_add")],
)  # fmt: skip
def test_softfloat_agrees_on_float32_operands(operation, name):
    """Vectors of every class, with flags, in the modes that its Python package has."""
    softfloat = pytest.importorskip("softfloatpy")
    function = getattr(softfloat, f"f32_{name}")
    softfloat.set_tininess_mode(softfloat.TininessMode.AFTER_ROUNDING)
    asked = vectors(operation, "float32", n=300)
    starts = np.cumsum([0, *asked.classes.values()])
    chosen = np.unique(np.concatenate([np.linspace(a, b - 1, 60).astype(int) for a, b in pairwise(starts)]))
    operands = [column[chosen] for column in asked.operands]
    for mode, other in SOFTFLOAT.items():
        softfloat.set_rounding_mode(getattr(softfloat.RoundingMode, other))
        model = golden(operation, "float32", rounding=f"{mode}/ieee", tininess="after", signalling="invalid")
        answers, _ = model.compute(operands)
        nan = model.result.kind.is_nan(answers.results)
        for row, numbers in enumerate(zip(*(column.tolist() for column in operands), strict=True)):
            softfloat.set_exception_flags(0)
            value = function(*(softfloat.Float32.from_bytes(x.to_bytes(4, "big")) for x in numbers))
            got, flags = int.from_bytes(value.to_bytes(), "big"), int(softfloat.get_exception_flags())
            right = (int(answers.results[row]), int(answers.flags[row]))
            assert math.isnan(np.uint32(got).view(np.float32)) if nan[row] else right[0] == got, (mode, row, numbers)
            assert right[1] == flags, (mode, row, numbers)


@pytest.mark.parametrize("engine", ["ampere-tf32", "hopper-tf32", "blackwell-tf32", "cdna3-xf32"])
@pytest.mark.parametrize("lanes", [1, 9])
def test_engines_of_tf32_sum_tf32_operands(engine, lanes):
    operation = f"dot:{lanes}" if lanes > 1 else "fma"
    model = golden(operation, ("tf32", "tf32", "float32"), accumulator=engine)
    operands = drawn(model, 100, 4)
    got = model.result.kind.values(model.compute(operands)[0].results)
    a, b, c = (x.reshape(len(x), -1) for x in model.read(operands))
    for row in range(len(got)):
        wanted = engine_model.dot(
            a[row].tolist(), b[row].tolist(), smallest_exponents(model), MODELS[engine][0], start=float(c[row, 0])
        )
        assert same(float(got[row]), wanted), row


def test_operands_that_are_too_wide_are_refused():
    for message, operation, fmt in (
        ("not float64", "add", "float64"), ("not fixed:32.0", "multiply", "int32"),
        ("at most 9 exponent", "sqrt", "e10m20"), ("unknown format", "decode", "float32"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            golden(operation, fmt)
