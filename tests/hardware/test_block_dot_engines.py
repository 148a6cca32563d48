"""Blocks with scales in the accumulators of matrix engines: the answers of vectors are those of `rf8sim.matmul`."""

import numpy as np
import pytest

import rf8sim
from rf8sim.hardware.vectors.vectors import vectors

UNITS = [
    ("e4m3fn", "e8m0fnu", "blackwell-mxfp8", 32),
    ("e5m2", "e8m0fnu", "blackwell-mxfp8", 4),
    ("e2m1fn", "e4m3fn", "blackwell-nvfp4", 16),
    ("e2m1fn", "e8m0fnu", "blackwell-mxfp4", 32),
    ("e4m3fn", "e8m0fnu", "hopper-fp8", 8),
]


@pytest.mark.parametrize(("fmt", "scale", "engine", "lanes"), UNITS)
def test_a_block_is_summed_by_its_engine(fmt, scale, engine, lanes):
    asked = vectors(f"block_dot:{lanes}", fmt, scale=scale, accumulator=engine, result="float32", n=300)
    a, b, *scales = asked.operands
    values = [rf8sim.decode(codes, scale, dtype=np.float64) for codes in scales]
    chosen = np.flatnonzero(np.isfinite(values[0]) & np.isfinite(values[1]) & (values[0] > 0) & (values[1] > 0))
    chosen = np.append(chosen[:: max(len(chosen) // 200, 1)], chosen[-50:])
    got = asked.results.view(np.float32)
    assert len(chosen) > 200
    for number in chosen:
        by_block = rf8sim.OperandScales(*(value[number].reshape(1, 1) for value in values), lanes, scale)
        wanted = rf8sim.matmul(a[number][None], b[number][:, None], fmt, accumulator=engine, scales=by_block).item()
        assert got[number] == np.float32(wanted) or (np.isnan(got[number]) and np.isnan(wanted)), number


def test_the_accumulator_matters():
    """Hopper keeps 13 bits below the largest product: other answers than exact sums have."""
    engine, exact = (
        vectors("block_dot:8", "e4m3fn", scale="e8m0fnu", result="float32", n=300, **options)
        for options in ({"accumulator": "hopper-fp8"}, {})
    )
    answers = exact.model.compute(engine.operands)[0].results
    assert 0.2 < np.mean(answers != engine.results) < 0.8


def test_scales_of_two_formats_are_not_aligned():
    with pytest.raises(ValueError, match="aligns scales of one format"):
        vectors("block_dot:4", "e4m3fn", scale=("e4m3fn", "e8m0fnu"), accumulator="hopper-fp8")


def test_zero_and_negative_scales():
    """A scale of zero gives +0, a negative one the opposite sum."""
    model = vectors(
        "block_dot:16", "e2m1fn", scale="e4m3fn", accumulator="blackwell-nvfp4", result="float32", n=0
    ).model
    ones = np.full((3, 16), int(rf8sim.encode(1.0, "e2m1fn")), np.uint8)
    scales = rf8sim.encode([0.0, -2.0, 2.0], "e4m3fn")
    plain = rf8sim.encode([-1.0, 1.0, 1.0], "e4m3fn")
    results = model.compute([ones, ones, scales, plain])[0].results.view(np.float32)
    assert results.tolist() == [0.0, -32.0, 32.0]
    assert not np.signbit(results[0])
