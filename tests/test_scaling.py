"""Scaled tensors: which scale is chosen, what is encoded with it, and what comes back."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rf8sim
from rf8sim import reference
from rf8sim.quantization.scaling import SCALE_RULES, choose_scale, scale_from_histogram

FORMATS = ["rf8", "rf6", "e4m3fn", "e2m1fn", "int8", "posit8_es1", "lns8", "nf4"]
RNG = np.random.default_rng(20)


def weights(shape, rng=None):
    rng = rng or np.random.default_rng(1)
    return (rng.laplace(size=shape) * 0.02).astype(np.float32)


def squared_error(x, q):
    return float(np.sum((np.asarray(x, np.float64) - q.dequantize(np.float64)) ** 2))


@pytest.mark.parametrize("name", rf8sim.format_names())
@pytest.mark.parametrize("scaling", ["tensor", "channel", "block"])
def test_rule_max_uses_the_range_and_never_leaves_it(name, scaling):
    fmt = rf8sim.get_format(name)
    x = np.abs(weights((7, 30)))
    q = rf8sim.quantize(x, fmt, scaling=scaling, axis=1, block_size=4)
    scale = q.scale if scaling != "block" else np.repeat(q.scale, 4, axis=1)[:, :30]
    quotient = x.astype(np.float64) / scale
    assert quotient.max() <= fmt.max
    groups = {"tensor": quotient.reshape(1, -1), "channel": quotient.T, "block": quotient[:, :28].reshape(-1, 4)}[
        scaling
    ]
    tight = fmt.max / 2 if fmt.power_of_two_scale else fmt.max * (1 - 2.0**-22)
    if q.scale.min() >= np.finfo(np.float32).smallest_normal:  # e8m0fnu reaches so far that its scales are subnormal
        assert np.all(groups.max(axis=1) >= tight)
    else:
        assert name == "e8m0fnu"


@pytest.mark.parametrize("scaling", ["tensor", "channel", "block", "none"])
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, mode) for name in FORMATS for mode in ("nearest-even", "to-odd")),
        ("rf8", "residual"),
        ("rf6", "residual"),
    ],
)
def test_codes_are_the_exactly_rounded_quotients(name, scaling, mode):
    fmt = rf8sim.get_format(name)
    x = weights((5, 11))
    x[0, :3] = [0.0, -0.0, 2.0]
    q = rf8sim.quantize(x, fmt, scaling=scaling, axis=1, block_size=4, rounding=mode)
    scale = np.broadcast_to(q.scale, x.shape) if scaling != "block" else np.repeat(q.scale, 4, axis=1)[:, :11]
    for value, one_scale, code in zip(x.ravel(), scale.ravel(), q.codes.ravel(), strict=True):
        exact = Fraction(float(value)) / Fraction(float(one_scale))
        if exact or not np.signbit(value):
            assert code == reference.round_value(exact, fmt, mode), (value, one_scale)


@pytest.mark.parametrize("name", ["e4m3fn", "int8"])
def test_ties_of_a_scaled_tensor_are_ties(name):
    """x = boundary * scale exactly, with a scale that is no power of two: the quotient must come out as the tie."""
    fmt = rf8sim.get_format(name)
    magnitudes = fmt.sides[0].magnitudes
    ties = (magnitudes[:-1] + magnitudes[1:]) / 2
    scale = np.float32(3 * 2.0**-9)
    x = np.concatenate([ties * scale, [fmt.max * scale]]).astype(np.float32)
    assert np.array_equal(x[:-1].astype(np.float64) / scale, ties)
    q = rf8sim.quantize(x, fmt, scale=scale)
    assert [int(c) for c in q.codes[:-1]] == [
        reference.round_value(Fraction(t), fmt, "nearest-even") for t in ties.tolist()
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_dequantize_rounds_the_exact_product_once(name):
    x = weights((6, 10))
    q = rf8sim.quantize(x, name, scaling="channel", axis=0)
    values = rf8sim.decode(q.codes, name, dtype=np.float64)
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16):
        expected = (values * q.scale).astype(dtype)
        assert np.array_equal(q.dequantize(dtype).astype(np.float64), expected.astype(np.float64))


def test_scales_of_rf_formats_are_int8_powers_of_two():
    for factor in (1e-38, 1e-3, 1.0, 1e30):
        q = rf8sim.quantize(weights((4, 9)).astype(np.float64) * factor, "rf8", scaling="channel")
        assert q.exponents.dtype == np.int8
        assert np.array_equal(np.ldexp(np.float32(1), q.exponents.astype(np.int32)), q.scale)
    with pytest.raises(ValueError, match="not powers of two"):
        _ = rf8sim.quantize([1.0], "int8").exponents


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("scaling", ["channel", "block"])
def test_every_group_is_quantized_by_itself(axis, scaling):
    x = weights((4, 6, 10))
    q = rf8sim.quantize(x, "e4m3fn", scaling=scaling, axis=axis, block_size=4)
    moved, codes, scale = (np.moveaxis(a, axis, 0) for a in (x, q.codes, q.scale))
    if scaling == "channel":
        for i in range(moved.shape[0]):
            alone = rf8sim.quantize(moved[i], "e4m3fn")
            assert np.array_equal(alone.codes, codes[i])
            assert alone.scale == scale[i]
        return
    for index in np.ndindex(moved.shape[1:]):
        for block in range(scale.shape[0]):
            part = (slice(4 * block, 4 * block + 4), *index)
            alone = rf8sim.quantize(moved[part], "e4m3fn")
            assert np.array_equal(alone.codes, codes[part])
            assert alone.scale == scale[(block, *index)]


def test_bits_per_weight_counts_the_scales():
    x = weights((64, 64))
    assert rf8sim.quantize(x, "rf8", scaling="block", axis=1, block_size=32).bits_per_weight == 8 + 8 / 32
    assert rf8sim.quantize(x, "e4m3fn", scaling="channel").bits_per_weight == 8 + 32 / 64
    assert rf8sim.quantize(x, "e2m1fn", scaling="none").bits_per_weight == 4


@pytest.mark.parametrize("scaling", ["tensor", "channel", "block", "none"])
def test_pieces_and_threads_make_the_same_stochastic_codes(scaling):
    x = weights((1200, 700))
    options = {"scaling": scaling, "axis": 1, "rounding": "stochastic", "seed": 7}
    whole = rf8sim.quantize(x, "rf8", threads=1, **options)
    assert np.array_equal(rf8sim.quantize(x, "rf8", threads=3, **options).codes, whole.codes)
    if scaling in ("tensor", "none"):
        rest = rf8sim.quantize(x[501:], "rf8", offset=501 * 700, scale=whole.scale, **options)
        assert np.array_equal(rest.codes, whole.codes[501:])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("scaling", ["channel", "block"])
def test_rule_mse_beats_every_scale_of_its_search(name, scaling):
    """No scale at a quarter of an octave (powers of two: an octave) from that of rule `max` has a smaller error."""
    fmt = rf8sim.get_format(name)
    x = weights((3, 256))
    axis = 0 if scaling == "channel" else 1
    q = rf8sim.quantize(x, fmt, scaling=scaling, axis=axis, block_size=128, scale_rule="mse")
    top = choose_scale(x, fmt, scaling=scaling, axis=axis, block_size=128)
    groups = x if scaling == "channel" else x.reshape(-1, 128)
    octaves = np.arange(-8, fmt.octaves / 2) if fmt.power_of_two_scale else np.arange(-32, 2 * fmt.octaves) / 4
    for group, scale, largest in zip(groups, q.scale.reshape(-1), top.reshape(-1), strict=True):
        others = [rf8sim.quantize(group, fmt, scale=np.float32(largest * 2.0**octave)) for octave in octaves]
        mine = squared_error(group, rf8sim.quantize(group, fmt, scale=scale))
        assert mine <= min(squared_error(group, other) for other in others) * (1 + 1e-12)


@pytest.mark.parametrize("name", FORMATS)
def test_rule_mse_on_the_summary_is_near_the_best_scale_of_the_data(name):
    """Within 1% of the least error of 25 scales an octave, each measured on the data themselves."""
    fmt = rf8sim.get_format(name)
    x = weights(1 << 16)
    octaves = np.arange(-4, fmt.octaves / 2 + 1, 1 if fmt.power_of_two_scale else 1 / 25)
    grid = choose_scale(x, fmt) * 2.0**octaves
    best = min(squared_error(x, rf8sim.quantize(x, fmt, scale=np.float32(scale))) for scale in grid)
    assert squared_error(x, rf8sim.quantize(x, fmt, scale_rule="mse")) <= 1.01 * best


@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e3m4", "int8", "posit8_es1", "nf8"])
def test_rule_ggd_does_as_well_on_new_data_as_rule_mse(name):
    """The expected error is what rule `ggd` minimizes, so the judge is a sample that chose neither scale."""
    rng = np.random.default_rng(5)
    old, new = (
        (rng.standard_gamma(1 / 0.8, size) ** (1 / 0.8) * rng.choice([-1, 1], size)).astype(np.float32)
        for size in (1 << 16, 1 << 20)
    )
    by_data, by_density = (choose_scale(old, name, scale_rule=rule) for rule in ("mse", "ggd"))
    errors = [squared_error(new, rf8sim.quantize(new, name, scale=scale)) for scale in (by_density, by_data)]
    assert errors[0] <= 1.02 * errors[1]


def test_the_summary_chooses_as_the_data_do():
    import ggd

    x = weights(50_000)
    histogram = ggd.MagnitudeHistogram.from_array(x)
    for rule in SCALE_RULES:
        for name in ("rf8", "e4m3fn", "int8"):
            assert scale_from_histogram(histogram, name, rule) == choose_scale(x, name, scale_rule=rule)


@pytest.mark.parametrize("rule", SCALE_RULES)
@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "int8", "nf4", "uint8", "e8m0fnu"])
@pytest.mark.parametrize(
    "x",
    [
        np.zeros((3, 4), np.float32),
        np.array([0.3], np.float32),
        np.array(-0.3),
        np.zeros((0, 4), np.float32),
        np.full((2, 3), 1e-45, np.float32),
        np.array([1e300, -1e299, 1e-300]),
        np.array([[3.4e38, -3.4e38], [1.0, 0.0]], np.float32),
        np.array([[1, -2], [3, 4]], np.int64),
    ],
    ids=["zeros", "one", "scalar", "none", "denormal", "huge64", "huge32", "integers"],
)
@pytest.mark.parametrize("scaling", ["tensor", "channel", "block", "none"])
def test_odd_tensors_pass(rule, name, x, scaling):
    if x.ndim == 0 and scaling in ("channel", "block"):
        with pytest.raises(ValueError, match="axis 0 is out of range"):
            rf8sim.quantize(x, name, scaling=scaling)
        return
    q = rf8sim.quantize(x, name, scaling=scaling, block_size=3, scale_rule=rule)
    assert q.codes.shape == x.shape
    assert np.all(np.isfinite(q.scale) & (q.scale > 0))
    assert np.all(np.isfinite(q.dequantize(np.float64)))
    if not np.any(x) and name not in ("e8m0fnu",):
        assert not np.any(q.dequantize())


def test_infinities_do_not_choose_the_scale():
    x = np.array([0.5, -0.25, np.inf], np.float32)
    q = rf8sim.quantize(x, "rf8")
    assert q.scale == 0.5
    assert q.dequantize().tolist() == [0.5, -0.25, 0.75]


def test_nan_is_located_in_the_whole_tensor():
    x = np.zeros((700, 900), np.float32)
    x[650, 3] = np.nan
    with pytest.raises(ValueError, match=r"index \(650, 3\)"):
        rf8sim.quantize(x, "int8")
    assert np.isnan(rf8sim.quantize(x, "rf8").dequantize()[650, 3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scaling": "tenser"}, "did you mean 'tensor'"),
        ({"scale_rule": "msee"}, "did you mean 'mse'"),
        ({"rounding": "nearest"}, "unknown rounding mode"),
        ({"scaling": "channel", "axis": 2}, "axis 2 is out of range for a tensor of 2 dimensions"),
        ({"scaling": "block", "block_size": 0}, "block_size must be at least 1"),
        ({"scale": [1.0, 2.0]}, "shape"),
        ({"scale": -1.0}, "positive finite"),
        ({"scale": np.nan}, "positive finite"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rf8sim.quantize(np.ones((2, 2)), "rf8", **options)


@settings(max_examples=60, deadline=None)
@given(
    x=hnp.arrays(
        np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=st.floats(-(2.0**99), 2.0**99, width=32)
    ),
    scaling=st.sampled_from(["tensor", "channel", "block"]),
    block=st.integers(1, 5),
)
def test_int8_error_is_at_most_half_a_step(x, scaling, block):
    q = rf8sim.quantize(x, "int8", scaling=scaling, axis=x.ndim - 1, block_size=block)
    scale = np.repeat(q.scale, block, axis=-1)[..., : x.shape[-1]] if scaling == "block" else q.scale
    error = np.abs(x.astype(np.float64) - q.dequantize(np.float64))
    assert np.all(np.abs(x) <= 127 * scale.astype(np.float64))
    assert np.all(error <= 0.5 * scale.astype(np.float64) * (1 + 1e-12))


# --- elements of 16 bits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int16])
@pytest.mark.parametrize(
    ("fmt", "rounding"), [("rf8", "residual"), ("rf8", "up"), ("int8", "nearest-even"), ("e5m2", "to-odd")]
)
def test_a_table_of_16_bit_elements_says_what_the_loop_says(dtype, fmt, rounding):
    """All 65,536 patterns, in an array long enough for the table; as float64 the same numbers go through the loop."""
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    if np.dtype(dtype).kind != "i" and rf8sim.get_format(fmt).nan is None:
        with np.errstate(invalid="ignore"):
            every = every[~np.isnan(every)]
    x = np.concatenate([every, every[:1000]]).reshape(2, -1)
    assert x.size > 1 << 16 or fmt == "int8"
    x = np.concatenate([x, x], axis=1)
    for scale in (np.float32(0.0173), np.float32(2.0**-9)):
        with np.errstate(invalid="ignore"):
            expected = rf8sim.quantize(x.astype(np.float64), fmt, scale=scale, rounding=rounding)
            found = rf8sim.quantize(x, fmt, scale=scale, rounding=rounding, threads=2)
        np.testing.assert_array_equal(found.codes, expected.codes)
        assert found.scale == expected.scale


def test_nan_among_16_bit_elements_is_named():
    x = np.ones((300, 300), np.float16)
    x[7, 5] = np.nan
    with pytest.raises(ValueError, match=r"\(7, 5\)|index 2105"):
        rf8sim.quantize(x, "int8", scale=np.float32(1))
