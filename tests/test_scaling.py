"""Scaled tensors: which scale is chosen, what is encoded with it, and what comes back."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loops import looped

import rf8sim
from rf8sim import Scales, Scheme, reference
from rf8sim.quantization.blocks import expand
from rf8sim.quantization.scaling import choose_scales, scales_from_histogram

RULES = ("max", "mse", "ggd")
BLOCKS = {"tensor": None, "column": (-1, 1), "blocks": (1, 4)}
FORMATS = ["rf8", "rf6", "e4m3fn", "e2m1fn", "int8", "posit8_es1", "lns8", "nf4"]
RNG = np.random.default_rng(20)


def weights(shape, rng=None):
    rng = rng or np.random.default_rng(1)
    return (rng.laplace(size=shape) * 0.02).astype(np.float32)


def scheme(fmt, block=None, rule="max", rounding="nearest-even"):
    return Scheme(fmt, "none" if block == "none" else Scales(block, rule=rule), rounding)


def in_octaves(fmt):
    return scheme(fmt).scales.format == "e8m0fnu"


def squared_error(x, q):
    return float(np.sum((np.asarray(x, np.float64) - q.dequantize(np.float64)) ** 2))


@looped("name", rf8sim.format_names())
@pytest.mark.parametrize("block", BLOCKS)
def test_rule_max_uses_the_range_and_never_leaves_it(name, block):
    fmt = rf8sim.get_format(name)
    x = np.abs(weights((7, 30)))
    q = rf8sim.quantize(x, scheme(fmt, BLOCKS[block]))
    quotient = x.astype(np.float64) / expand(q.scale, BLOCKS[block], x.shape)
    assert quotient.max() <= fmt.max
    groups = {"tensor": quotient.reshape(1, -1), "column": quotient.T, "blocks": quotient[:, :28].reshape(-1, 4)}[block]
    tight = fmt.max / 2 if in_octaves(fmt) else fmt.max * (1 - 2.0**-22)
    if q.scale.min() >= np.finfo(np.float32).smallest_normal:  # e8m0fnu reaches so far that its scales are subnormal
        assert np.all(groups.max(axis=1) >= tight)
    else:
        assert name in ("e8m0fnu", "e8m0_even")


@looped("block", [*BLOCKS, "none"])
@looped(
    ("name", "mode"),
    [
        *((name, mode) for name in FORMATS for mode in ("nearest-even", "to-odd")),
        ("rf8", "residual"),
        ("rf6", "residual"),
    ],
)
def test_codes_are_the_exactly_rounded_quotients(name, block, mode):
    fmt = rf8sim.get_format(name)
    x = weights((5, 11))
    x[0, :3] = [0.0, -0.0, 2.0]
    sizes = BLOCKS.get(block, "none")
    q = rf8sim.quantize(x, scheme(fmt, sizes, rounding=mode))
    scale = np.broadcast_to(q.scale if block == "none" else expand(q.scale, sizes, x.shape), x.shape)
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
    q = rf8sim.quantize(x, f"{name}/channel")
    values = rf8sim.decode(q.codes, name, dtype=np.float64)
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16):
        expected = (values * q.scale).astype(dtype)
        assert np.array_equal(q.dequantize(dtype).astype(np.float64), expected.astype(np.float64))


def test_scales_of_rf_formats_are_powers_of_two():
    for factor in (1e-38, 1e-3, 1.0, 1e30):
        q = rf8sim.quantize(weights((4, 9)).astype(np.float64) * factor, "rf8/channel")
        assert q.exponents.dtype == np.int8
        assert np.array_equal(np.ldexp(np.float32(1), q.exponents.astype(np.int32)), q.scale)
    with pytest.raises(ValueError, match="not powers of two"):
        _ = rf8sim.quantize([1.0], "int8").exponents


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["channel", "block"])
def test_every_group_is_quantized_by_itself(axis, kind):
    x = weights((4, 6, 10))
    sizes = [1 if (i == axis) == (kind == "channel") else -1 for i in range(3)]
    if kind == "block":
        sizes = [4 if i == axis else 1 for i in range(3)]
    q = rf8sim.quantize(x, Scheme("e4m3fn", Scales(tuple(sizes), rule="max")))
    moved, codes, scale = (np.moveaxis(a, axis, 0) for a in (x, q.codes, q.scale))
    if kind == "channel":
        for i in range(moved.shape[0]):
            alone = rf8sim.quantize(moved[i], scheme("e4m3fn"))
            assert np.array_equal(alone.codes, codes[i])
            assert (alone.scale == scale[i]).all()
        return
    for index in np.ndindex(moved.shape[1:]):
        for block in range(scale.shape[0]):
            part = (slice(4 * block, 4 * block + 4), *index)
            alone = rf8sim.quantize(moved[part], scheme("e4m3fn"))
            assert np.array_equal(alone.codes, codes[part])
            assert alone.scale == scale[(block, *index)]


def test_bits_per_weight_counts_the_scales():
    x = weights((64, 64))
    assert rf8sim.quantize(x, "rf8/1x32").bits_per_weight == 8 + 8 / 32
    assert rf8sim.quantize(x, "e4m3fn/channel").bits_per_weight == 8 + 32 / 64
    assert rf8sim.quantize(x, "e2m1fn/none").bits_per_weight == 4


@pytest.mark.parametrize("block", [*BLOCKS, "none"])
def test_pieces_and_threads_make_the_same_stochastic_codes(block):
    x = weights((1200, 700))
    drawn = scheme("rf8", BLOCKS.get(block, "none"), rounding="stochastic")
    whole = rf8sim.quantize(x, drawn, seed=7, threads=1)
    assert np.array_equal(rf8sim.quantize(x, drawn, seed=7, threads=3).codes, whole.codes)
    if block in ("tensor", "none"):
        scale = {"scale": whole.scale} if block == "tensor" else {}
        rest = rf8sim.quantize(x[501:], drawn, seed=7, offset=501 * 700, **scale)
        assert np.array_equal(rest.codes, whole.codes[501:])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("block", [(1, -1), (1, 128)])
def test_rule_mse_beats_every_scale_of_its_search(name, block):
    """No scale at a quarter of an octave (powers of two: an octave) from that of rule `max` has a smaller error."""
    fmt = rf8sim.get_format(name)
    x = weights((3, 256))
    q = rf8sim.quantize(x, scheme(fmt, block, "mse"))
    top = choose_scales(x, scheme(fmt, block)).scales[0]
    groups = x if block == (1, -1) else x.reshape(-1, 128)
    octaves = np.arange(-8, fmt.octaves / 2) if in_octaves(fmt) else np.arange(-32, 2 * fmt.octaves) / 4
    for group, scale, largest in zip(groups, q.scale.reshape(-1), top.reshape(-1), strict=True):
        others = [rf8sim.quantize(group, fmt, scale=np.float32(largest * 2.0**octave)) for octave in octaves]
        mine = squared_error(group, rf8sim.quantize(group, fmt, scale=scale))
        assert mine <= min(squared_error(group, other) for other in others) * (1 + 1e-12)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("name", [
    "e4m3fn/channel", "rf8/channel", "int8/channel@up", "e5m10/channel,mse", "e4m3fn", "e4m3fn/*x1", "e4m3fn/1x520",
])  # fmt: skip
@pytest.mark.parametrize("shape", [(5, 1500), (520, 520), (3, 4, 513), (4, 3, 13, 13)])
def test_numbers_of_16_bits_get_the_scales_they_get_in_float32(name, dtype, shape):
    """Equal numbers of long channels are counted, not looked at one by one."""
    x = weights(shape).astype(dtype)
    if len(shape) == 2:
        x *= np.linspace(1, 30, shape[0], dtype=np.float32).astype(dtype)[:, None]
        x[0], x[1, 3], x[1, 4], x[2, :400] = 0, np.inf, np.nan, -0.0
    chosen, expected = choose_scales(x, name), choose_scales(x.astype(np.float32), name)
    assert np.array_equal(chosen.scales[0], expected.scales[0])


@pytest.mark.parametrize("name", FORMATS)
def test_rule_mse_on_the_summary_is_near_the_best_scale_of_the_data(name):
    """Within 1% of the least error of 25 scales an octave, each measured on the data themselves."""
    fmt = rf8sim.get_format(name)
    x = weights(1 << 16)
    octaves = np.arange(-4, fmt.octaves / 2 + 1, 1 if in_octaves(fmt) else 1 / 25)
    grid = choose_scales(x, scheme(fmt)).scales[0] * 2.0**octaves
    best = min(squared_error(x, rf8sim.quantize(x, fmt, scale=np.float32(scale))) for scale in grid)
    assert squared_error(x, rf8sim.quantize(x, scheme(fmt, rule="mse"))) <= 1.01 * best


@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e3m4", "int8", "posit8_es1", "nf8"])
def test_rule_ggd_does_as_well_on_new_data_as_rule_mse(name):
    """The expected error is what rule `ggd` minimizes, so the judge is a sample that chose neither scale."""
    rng = np.random.default_rng(5)
    old, new = (
        (rng.standard_gamma(1 / 0.8, size) ** (1 / 0.8) * rng.choice([-1, 1], size)).astype(np.float32)
        for size in (1 << 16, 1 << 20)
    )
    by_data, by_density = (choose_scales(old, scheme(name, rule=rule)).scales[0] for rule in ("mse", "ggd"))
    errors = [squared_error(new, rf8sim.quantize(new, name, scale=scale)) for scale in (by_density, by_data)]
    assert errors[0] <= 1.02 * errors[1]


def test_the_summary_chooses_as_the_data_do():
    import ggd

    x = weights(50_000)
    histogram = ggd.MagnitudeHistogram.from_array(x)
    for rule in (*RULES, "signed"):
        for name in ("rf8", "e4m3fn", "int8") if rule != "signed" else ("int8",):
            stored = scheme(name, rule=rule)
            assert scales_from_histogram(histogram, stored) == choose_scales(x, stored)


@looped("rule", RULES)
@looped("name", ["rf8", "e4m3fn", "int8", "nf4", "uint8", "e8m0fnu"])
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
@looped("block", [None, "channel", (1, 3), "none"])
def test_odd_tensors_pass(rule, name, x, block):
    q = rf8sim.quantize(x, scheme(name, block, rule))
    assert q.codes.shape == x.shape
    assert np.all(np.isfinite(q.scale) & (q.scale > 0))
    assert np.all(np.isfinite(q.dequantize(np.float64)))
    if not np.any(x) and name not in ("e8m0fnu",):
        assert not np.any(q.dequantize())


def test_infinities_do_not_choose_the_scale():
    x = np.array([0.5, -0.25, np.inf], np.float32)
    q = rf8sim.quantize(x, "rf8/tensor,max")
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
    block=st.one_of(st.sampled_from([None, (1, -1), (-1, 1)]), st.integers(1, 5).map(lambda size: (1, size))),
)
def test_int8_error_is_at_most_half_a_step(x, block):
    q = rf8sim.quantize(x, scheme("int8", block))
    scale = expand(q.scale, block, x.shape)
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
            stored = Scheme(fmt, "tensor:float32", rounding)
            expected = rf8sim.quantize(x.astype(np.float64), stored, scale=scale)
            found = rf8sim.quantize(x, stored, scale=scale, threads=2)
        np.testing.assert_array_equal(found.codes, expected.codes)
        assert found.scale == expected.scale


def test_nan_among_16_bit_elements_is_named():
    x = np.ones((300, 300), np.float16)
    x[7, 5] = np.nan
    with pytest.raises(ValueError, match=r"\(7, 5\)|index 2105"):
        rf8sim.quantize(x, "int8", scale=np.float32(1))


@pytest.mark.parametrize(("fmt", "least"), [("e4m3fn", 31), ("e5m2", 25), ("rf8", 28)])
def test_expected_scales_do_not_clip_heavy_tails_for_nothing(fmt, least):
    """Of scales that are expected to do nearly as well the rule takes that of the largest magnitude."""
    x = np.random.default_rng(0).standard_t(2.5, size=100_000).astype(np.float32)
    for scheme in (f"{fmt}/tensor,ggd", f"{fmt}/tensor,max"):
        error = rf8sim.quantize(x, scheme).dequantize(np.float64) - x
        assert 10 * np.log10(np.sum(np.square(x, dtype=np.float64)) / np.sum(np.square(error))) > least
    # Where clipping pays, it clips.
    normal = np.random.default_rng(0).normal(size=100_000)
    by = {rule: rf8sim.quantize(normal, f"int4/tensor,{rule}") for rule in ("ggd", "max")}
    assert float(by["ggd"].scale) < 0.8 * float(by["max"].scale)


def test_what_a_scale_rounds_is_what_the_docstring_says():
    """Of integers beyond 2**53 and of quotients that underflow, a decision may change; without a scale none does."""
    above_a_tie = np.array([201 * 2**49 + 1])  # 100.5 times the scale, and one more
    assert rf8sim.decode(rf8sim.quantize(above_a_tie, "int8", scale=2.0**50).codes, "int8").tolist() == [100]
    assert rf8sim.decode(rf8sim.quantize(above_a_tie + 2**10, "int8", scale=2.0**50).codes, "int8").tolist() == [101]
    posit = rf8sim.quantize(np.array([2**53 + 1, 3 * 2**52 + 1]), "bfloat16/none").codes
    assert rf8sim.decode(posit, "bfloat16").tolist() == [2.0**53, 3 * 2.0**52]
    tie = np.array([257 * 2**54 + 1])  # of bfloat16: up, which float64 would round to even
    assert rf8sim.decode(rf8sim.quantize(tie, "bfloat16/none").codes, "bfloat16").tolist() == [258 * 2.0**54]
