"""How a tensor is stored, as one value: forms, geometry, bits, and the field's block formats bit for bit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import looped

import rf8sim
from rf8sim import Scales, Scheme, as_scheme, reference, scheme_names
from rf8sim.quantization.blocks import expand, grouped, layout, matrix_shape, row_pieces, scale_shape, ungrouped
from rf8sim.quantization.named import NAMED
from rf8sim.quantization.numbers import is_stored, number_range, stored_number
from rf8sim.quantization.rules import RULES
from rf8sim.quantization.scaling import Chosen, choose_scales

FORMATS = ["rf8", "rf(3,4)", "e4m3fn", "e2m1fn", "int8", "int4", "uint4", "posit8_es1", "nf4"]
SHAPES = [(7,), (96,), (6, 70), (5, 128), (3, 5, 40), (6, 3, 5, 5)]
blocks = st.one_of(
    st.none(),
    st.lists(st.one_of(st.just(-1), st.integers(1, 300)), min_size=1, max_size=4).map(tuple),
)


@st.composite
def schemes(draw):
    """Draw any scheme that is one."""
    fmt = draw(st.sampled_from(FORMATS))
    mode = draw(st.sampled_from(["nearest-even", "toward-zero", "stochastic", "up"]))
    overflow = draw(st.sampled_from(["saturate", "nan"])) if rf8sim.get_format(fmt).nan is not None else "saturate"
    if draw(st.booleans()) and fmt in ("int4", "uint4", "int8"):
        zero = draw(st.sampled_from(["uint4", "uint8", "float16", "bfloat16"]))
        return Scheme(
            fmt, Scales(draw(blocks), draw(st.sampled_from(["", "float16"])), "max", zero=zero), mode, overflow
        )
    block, number = draw(blocks), draw(st.sampled_from(["", "float32", "float16", "bfloat16", "e4m3fn", "e8m0fnu"]))
    rules = ["mse", "ggd", "max", *(["floor", "ceil", "rceil", "even"] if number == "e8m0fnu" else [])]
    rule = draw(st.sampled_from(rules))
    rounding = draw(st.sampled_from(["up", "nearest-even", "toward-zero"])) if RULES[rule].rounding is None else "up"
    outer = None
    if block is not None and draw(st.booleans()):
        outer = Scales(draw(st.sampled_from([None, (1, 256)])), draw(st.sampled_from(["", "float16"])), "max")
    scales = draw(st.sampled_from([None, Scales(block, number, rule, rounding, outer)]))
    return Scheme(fmt, scales, mode, overflow)


# --- forms ------------------------------------------------------------------------------------------------------------


@given(schemes())
def test_the_text_form_parses_back(scheme):
    assert as_scheme(scheme.text) == scheme
    assert as_scheme(str(scheme)) == scheme
    assert hash(as_scheme(scheme.text)) == hash(scheme)


@given(schemes())
def test_the_json_form_parses_back(scheme):
    assert Scheme.from_json(json.loads(json.dumps(scheme.to_json()))) == scheme


@given(schemes(), schemes())
def test_different_schemes_have_different_texts(first, second):
    assert (first == second) == (first.text == second.text)


@pytest.mark.parametrize("name", scheme_names())
def test_named_schemes_are_written_in_full(name):
    """The table holds the canonical text, from which the name is found again."""
    scheme = as_scheme(name)
    assert (scheme.text, str(scheme)) == (NAMED[name][0], name)
    assert Scheme.from_json(name) == scheme


def test_a_bare_name_is_one_scale_of_least_error():
    for name in rf8sim.format_names():
        scheme = as_scheme(name)
        assert scheme == Scheme(name) == as_scheme(rf8sim.get_format(name)) == as_scheme(f"{name}/tensor,mse")
        assert (scheme.text, scheme.scales.block, scheme.scales.rule) == (name, None, "mse")
    assert as_scheme("rf8").scales.format == "e8m0fnu"
    assert as_scheme("e4m3fn").scales.format == "float32"


def test_text_forms_by_example():
    assert as_scheme("int8/channel") == Scheme("int8", Scales((1, -1), "float32", "mse"))
    assert as_scheme("rf8/none@residual") == Scheme("rf8", None, "residual")
    assert as_scheme("e4m3fn/128x128:float32,max") == Scheme("e4m3fn", Scales((128, 128), rule="max"))
    assert as_scheme("e2m1fn/16:e4m3fn,max,nearest-even/tensor,max") == as_scheme("nvfp4")
    assert as_scheme("uint4/1x128:float16,max,zero=uint4").scales.zero == "uint4"
    assert as_scheme("rf(3,4)/*x8@toward-zero/nan") == Scheme("rf(3,4)", Scales((-1, 8)), "toward-zero", "nan")
    assert as_scheme("mxfp4@stochastic") == Scheme("e2m1fn", "1x32:e8m0fnu,floor", "stochastic")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rf9", "unknown format or scheme 'rf9': did you mean 'rf8'"),
        ("mxfp9", "did you mean 'mxfp4'"),
        ("mxfp8", "unknown format or scheme 'mxfp8': did you mean 'mxfp8_e4m3' or 'mxfp8_e5m2'"),
        ("fp8", "unknown format or scheme 'fp8': did you mean 'e4m3fn' or 'e5m2'"),
        ("mxfp4/channel", "'mxfp4' is a scheme, which has scales of its own (e2m1fn/1x32:e8m0fnu,floor)"),
        ("rf8/channel:e8m0", "unknown scale format 'e8m0': did you mean 'e8m0fnu'"),
        ("rf8/chanel", "unknown block 'chanel': expected 'tensor', 'channel'"),
        ("rf8/1x0", "at least 1 element"),
        ("rf8/channel,maximum", "unknown scale rule 'maximum'"),
        ("rf8/channel:float33", "did you mean 'float32'"),
        ("int8/channel,zer=uint4", "unknown option of scales 'zer': did you mean 'zero'"),
        ("e4m3fn/channel,floor", "scales that are powers of two"),
        ("e4m3fn/channel:e8m0fnu,floor,nearest-even", "fixes how a scale is rounded"),
        ("e4m3fn/channel,max,zero=uint8", "zero points are for integer formats"),
        ("int4/channel,zero=uint4", "take rule 'max'"),
        ("uint4/channel:float16,signed", "needs negative values"),
        ("int4/channel:e8m0fnu,signed", "scales that can be negative"),
        ("int8@residual", "RF family only"),
        ("int8@nearest", "unknown rounding mode 'nearest'"),
        ("int8/channel@up/nan", "has no NaN code"),
        ("rf8/tensor:float32,max/tensor", "no outer scale"),
        ("rf8/channel/channel,mse", "outer scales take rule 'max'"),
    ],
)
def test_a_wrong_text_is_refused_in_a_sentence(text, message):
    with pytest.raises(ValueError, match=r"\w") as refusal:
        as_scheme(text)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"scales": None}, "needs the field 'format'"),
        ({"format": "rf8", "scale": None}, "unknown field of a scheme 'scale': did you mean 'scales'"),
        ({"format": "rf8", "scales": {"blocks": 3}}, "unknown field of scales 'blocks'"),
        ({"format": "rf8", "scales": {"block": [0, 3]}}, "at least 1 element"),
        ({"format": "rf8", "scales": {"block": "1x32"}}, "unknown block"),
        (3, "a scheme is a text or an object"),
    ],
)
def test_wrong_json_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Scheme.from_json(data)


def test_a_wrong_type_is_refused():
    with pytest.raises(TypeError, match="a scheme is given by its name"):
        as_scheme(8)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_shapes_of_scales_by_example():
    channel, mx, square = (as_scheme(text) for text in ("int8/channel", "mxfp8_e4m3", "fp8_128x128"))
    for shape, expected in {
        (256, 300): ((256, 1), (256, 10), (2, 3)),
        (8, 256, 300): ((8, 256, 1), (8, 256, 10), (8, 2, 3)),
        (64, 16, 3, 3): ((64, 1, 1, 1), (64, 5, 1, 1), (1, 2, 1, 1)),
        (300,): ((1,), (10,), (3,)),
        (): ((), (), ()),
    }.items():
        assert tuple(scheme.scale_shapes(shape)[0] for scheme in (channel, mx, square)) == expected
    assert as_scheme("nvfp4").scale_shapes((64, 100)) == ((64, 7), ())
    assert Scheme("int8", Scales((1, -1, -1))).scale_shapes((3, 16, 3)) == ((3, 1, 1),)
    assert Scheme("int8", Scales((-1, -1))).scale_shapes((8, 64, 48)) == ((8, 1, 1),)
    assert as_scheme("int8").scale_shapes((8, 64)) == ((),)
    assert as_scheme("int8/none").scale_shapes((8, 64)) == ()


@given(blocks, st.lists(st.integers(0, 9), max_size=4).map(tuple))
def test_every_element_lies_in_the_block_of_its_scale(block, shape):
    """An independent count: number the blocks, spread the numbers, and see that each block is one box of its size."""
    block = Scales(block).block
    grid = scale_shape(block, shape)
    numbers = np.arange(math.prod(grid)).reshape(grid)
    full = np.broadcast_to(expand(numbers, block, shape), shape)
    if not full.size:
        return
    view, sizes = layout(block, shape)
    where = np.indices(view).reshape(len(view), -1) // np.array(sizes)[:, None]
    counts = tuple(-(-length // size) for length, size in zip(view, sizes, strict=True))
    assert np.array_equal(full.reshape(-1), np.ravel_multi_index(tuple(where), counts))
    x = np.arange(1, full.size + 1, dtype=float).reshape(shape)
    rows = grouped(x, block)
    for number, row in enumerate(rows):
        assert sorted(row[row > 0]) == sorted(x[full == number])
    assert ungrouped(rows[:, 0], block, shape).shape == grid


@given(blocks, st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), st.integers(1, 400), st.data())
def test_pieces_of_rows_have_the_scales_of_the_tensor(block, shape, elements, data):
    scheme = Scheme("int8", Scales(block, rule="max"))
    pieces = row_pieces(scheme.scales.block, shape, elements)
    if pieces is None or scheme.scales.block is None:
        return
    rows, columns = matrix_shape(shape)
    assert [row for piece in pieces for row in piece] == list(range(rows))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=shape)
    matrix = x.reshape(rows, columns)
    parts = [rf8sim.quantize(matrix[piece.start : piece.stop], scheme) for piece in pieces]
    whole = rf8sim.quantize(x, scheme)
    assert np.array_equal(np.concatenate([part.codes for part in parts]).reshape(shape), whole.codes)
    assert np.array_equal(np.concatenate([part.scale.reshape(-1) for part in parts]), whole.scale.reshape(-1))


# --- bits -------------------------------------------------------------------------------------------------------------


def test_bits_per_weight_of_named_schemes():
    """By hand: element bits, and the bits of a scale over the elements that share it."""
    shape = (4096, 4096)
    own = 32 / 4096**2
    expected = {
        "mxfp8_e4m3": 8.25, "mxfp8_e5m2": 8.25, "mxfp6_e3m2": 6.25, "mxfp6_e2m3": 6.25, "mxfp4": 4.25, "mxint8": 8.25,
        "nvfp4": 4.5 + own, "fp8_128x128": 8 + 32 / 128**2, "int8_channel": 8 + 32 / 4096, "int4_g128": 4.125,
        "nf4_g64": 4.5, "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5.0,
    }  # fmt: skip
    assert {name: as_scheme(name).bits_per_weight(shape) for name in scheme_names()} == expected
    assert as_scheme("rf8/channel").bits_per_weight((64, 32)) == 8.25
    assert as_scheme("rf8/none").bits_per_weight((64, 32)) == 8


@given(schemes(), st.sampled_from(SHAPES))
def test_bits_are_those_of_the_arrays(scheme, shape):
    """Counted on the arrays that quantizing gives."""
    x = np.random.default_rng(0).normal(size=shape)
    if scheme.scales is not None and scheme.scales.rule != "signed":
        scheme = Scheme(scheme.format, replace(scheme.scales, rule="max", rounding="up"))
    q = rf8sim.quantize(np.abs(x) if not scheme.format.signed else x, scheme)
    width = {"float32": 32, "float16": 16, "bfloat16": 16, "e8m0fnu": 8, "e4m3fn": 8, "uint4": 4, "uint8": 8}
    bits = scheme.format.bits * x.size
    for level, scale in zip(scheme.levels, q.scales, strict=True):
        bits += width[level.format] * scale.size + (width[level.zero] * q.zero.size if level.zero else 0)
    assert q.bits_per_weight * x.size == pytest.approx(bits, rel=1e-12)


# --- scales -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "e8m0fnu", "e4m3fn", "rf8"])
@pytest.mark.parametrize("rounding", ["nearest-even", "up", "toward-zero"])
def test_stored_numbers_are_rounded_as_the_oracle_rounds(name, rounding):
    rng = np.random.default_rng(3)
    smallest, largest = number_range(name)
    x = np.exp2(rng.uniform(math.log2(smallest) - 2, math.log2(largest) + 2, 4000).clip(-1000, 1000))
    x = np.concatenate([x, [smallest, largest, smallest / 2, largest * 2, 1.0, 1 + 2.0**-30, 1 - 2.0**-30]])
    stored = stored_number(x, name, rounding)
    assert is_stored(stored, name).all()
    if name in ("float32", "float16", "bfloat16"):
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        with np.errstate(over="ignore", under="ignore"):
            up, down = (np.nextafter(stored.astype(dtype), dtype.type(end)).astype(float) for end in (np.inf, 0))
    else:
        values = np.unique(rf8sim.get_format(name).values[rf8sim.get_format(name).values > 0])
        place = np.searchsorted(values, stored)
        up, down = np.append(values, np.inf)[place + 1], np.append(0.0, values)[place]
    inside = (x >= smallest) & (x <= largest)
    for value, one, above, below in zip(x[inside], stored[inside], up[inside], down[inside], strict=True):
        if rounding == "up":
            assert below < value <= one
        elif rounding == "toward-zero":
            assert one <= value < above
        else:
            assert abs(Fraction(value) - Fraction(one)) <= min(
                abs(Fraction(value) - Fraction(below)),
                abs(Fraction(above) - Fraction(value)) if above < np.inf else 1e300,
            )
    assert (stored[x < smallest] == smallest).all()
    assert (stored[x > largest] == largest).all()


@settings(deadline=None)
@given(schemes(), st.sampled_from(SHAPES), st.integers(0, 999))
def test_a_scale_is_never_above_what_its_rule_allows(scheme, shape, seed):
    """Rounded up, the largest magnitude stays in range, and the next smaller scale would not hold it."""
    if scheme.scales is None or scheme.scales.zero or scheme.scales.outer:
        return
    x = np.random.default_rng(seed).standard_t(3, size=shape) * 10.0 ** (seed % 7 - 3)
    fmt = scheme.format
    x = np.abs(x) if not fmt.signed else x
    stored = Scheme(fmt, Scales(scheme.scales.block, scheme.scales.format, "max"))
    scale = choose_scales(x, stored).scales[0].astype(float).reshape(-1)
    largest = np.abs(grouped(x, stored.scales.block)).max(axis=1)
    smallest, top = number_range(stored.scales.format)
    free = (scale > smallest) & (scale < top)
    assert is_stored(scale, stored.scales.format).all()
    assert (largest <= scale * fmt.max)[scale < top].all()
    smaller = stored_number(scale * (1 - 2.0**-30), stored.scales.format, "toward-zero")
    assert (largest > smaller * fmt.max)[free].all()


def test_a_scale_that_the_scheme_does_not_store_is_refused():
    x = np.ones((2, 2))
    with pytest.raises(ValueError, match=r"stores its scales as e8m0fnu, which has no 0\.3"):
        rf8sim.quantize(x, "rf8", scale=0.3)
    assert rf8sim.quantize(x, "rf8", scale=0.25).scale == 0.25
    assert rf8sim.quantize(x, "int8", scale=np.float32(0.3)).scale == np.float32(0.3)
    assert rf8sim.quantize(x, "int8", scale=0.3).scale == np.float32(0.3), "a Python float is no float64 number"
    with pytest.raises(ValueError, match=r"stores its scales as float32, which has no 0\.3"):
        rf8sim.quantize(x, "int8", scale=np.array(0.3))
    with pytest.raises(ValueError, match=r"have shape \(2, 1\), got \(2,\)"):
        rf8sim.quantize(x, "int8/channel", scale=[1.0, 2.0])
    with pytest.raises(ValueError, match="has 2 levels of scales, got 1"):
        rf8sim.quantize(x, "nvfp4", scale=np.ones((2, 1)))
    with pytest.raises(ValueError, match="zero points: give scales as"):
        rf8sim.quantize(x, "q4_1", scale=np.ones((2, 1)))


@pytest.mark.parametrize("name", scheme_names())
def test_given_scales_are_the_chosen_ones(name):
    x = np.random.default_rng(2).normal(size=(40, 150)).astype(np.float32)
    q = rf8sim.quantize(x, name)
    again = rf8sim.quantize(x, name, scale=choose_scales(x, name))
    assert np.array_equal(q.codes, again.codes)
    assert np.array_equal(q.scale, again.scale)


@looped("name", scheme_names())
@pytest.mark.parametrize("shape", SHAPES)
def test_zero_and_tiny_blocks(name, shape):
    """Zeros stay zeros; blocks so small that a scale underflows keep finite positive scales."""
    x = np.zeros(shape, np.float32)
    assert not rf8sim.quantize(x, name).dequantize().any()
    x.reshape(-1)[::3] = 1e-45
    x.reshape(-1)[-1] = 1.0
    q = rf8sim.quantize(x, name)
    assert np.isfinite(q.dequantize(np.float64)).all()
    assert (q.scale != 0).all()
    assert np.isfinite(q.scale).all()
    assert (q.dequantize()[x == 0] == 0).all()


BOUNDS = {
    "mxfp8_e4m3": (2.0**-4, 2.0**-9), "mxfp8_e5m2": (2.0**-3, 2.0**-16), "mxfp6_e3m2": (2.0**-3, 2.0**-4),
    "mxfp6_e2m3": (2.0**-4, 2.0**-3), "mxfp4": (2.0**-2, 2.0**-1), "fp8_128x128": (2.0**-4, 2.0**-10),
    "int8_channel": (0.0, 0.5), "int4_g128": (0.0, 0.5), "q8_0": (0.0, 0.5), "q4_1": (0.0, 0.5), "q4_0": (0.0, 0.5),
    "nvfp4": (2.0**-2, 2.0**-2), "mxint8": (0.0, 0.5), "nf4_g64": (0.0, 0.155),
}  # fmt: skip
"""For each scheme: the largest relative error of a normal value, and the largest error below, in units of the scale."""


@settings(deadline=None)
@given(st.sampled_from(scheme_names()), st.sampled_from(SHAPES), st.integers(0, 999))
def test_the_error_bound_of_every_named_scheme(name, shape, seed):
    """No element that is in range is off by more than half a step of its format times its scale."""
    x = (np.random.default_rng(seed).standard_t(3, size=shape) * 10.0 ** (seed % 9 - 4)).astype(np.float32)
    q = rf8sim.quantize(x, name)
    scale = np.abs(np.broadcast_to(expand(np.asarray(q.scale, float), q.scheme.scales.block, shape), shape))
    offset = 0.0
    if q.offset is not None:
        offset = np.broadcast_to(expand(q.offset, q.scheme.scales.block, shape), shape)
    fmt, wide = q.format, x.astype(float) - offset
    relative, absolute = BOUNDS[name]
    error = np.abs(x - q.dequantize(np.float64))
    # OCP's floor and the rounding of a scale to few digits may leave the largest elements out of range: there the bound
    # is what saturation costs.
    reach = np.where(wide / scale >= 0, fmt.max, -fmt.min if fmt.signed else 0.0) * scale
    if name == "q4_0":
        reach = np.full(shape, 8.0) * scale
    beyond = np.maximum(np.abs(wide) - reach, 0)
    bound = np.maximum(relative * np.abs(wide), absolute * scale) + beyond
    if name == "q4_0":  # an element opposite to the extreme one reaches 8, where the format ends at 7
        bound = np.maximum(bound, scale)
    assert (error <= bound * (1 + 1e-9)).all()


# --- the field's block formats, bit for bit ---------------------------------------------------------------------------

MODES = {"floor": "FLOOR", "ceil": "CEIL", "rceil": "RCEIL", "even": "EVEN"}


def hard_blocks(seed: int, rows: int = 64) -> np.ndarray:
    """Blocks of every magnitude, with the largest near where an exponent goes up, and powers of two."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(4, size=(rows, 256)).astype(np.float32)
    x *= np.exp2(rng.integers(-60, 60, size=(rows, 1))).astype(np.float32)
    largest = np.abs(x.reshape(rows, 8, 32)).max(axis=2)
    for block in range(8):  # the largest element: just below and at each fraction of an octave
        power = np.exp2(np.floor(np.log2(largest[:, block])))
        fraction = rng.choice(
            [1, 1.25, 1.4375, 1.5, 1.75, 1.8125, 1.875, 1.9375, 1.96875, 1.984375, 2 - 2.0**-23], rows
        )
        x[:, 32 * block] = (power * fraction).astype(np.float32)
        x[:, 32 * block + 1 : 32 * block + 32] = np.clip(
            x[:, 32 * block + 1 : 32 * block + 32], -power[:, None], power[:, None]
        )
    return x


@pytest.mark.torch
@pytest.mark.parametrize("rule", MODES)
@pytest.mark.parametrize("element", ["e4m3fn", "e5m2", "e2m1fn", "e3m2fn", "e2m3fn"])
def test_mx_equals_torchao_in_every_mode(element, rule):
    torch = pytest.importorskip("torch")
    mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
    from torchao.prototype.mx_formats.config import ScaleCalculationMode

    dtype = {
        "e4m3fn": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "e2m1fn": torch.float4_e2m1fn_x2,
        "e3m2fn": "fp6_e3m2", "e2m3fn": "fp6_e2m3",
    }[element]  # fmt: skip
    x = hard_blocks(7)
    scale, data = mx.to_mx(torch.from_numpy(x), dtype, 32, ScaleCalculationMode[MODES[rule]])
    q = rf8sim.quantize(x, Scheme(element, Scales((1, 32), "e8m0fnu", rule)))
    codes = scale.view(torch.uint8).numpy().reshape(q.scale.shape)
    assert np.array_equal(rf8sim.decode(codes, "e8m0fnu"), q.scale)
    raw = data.view(torch.uint8).numpy()
    if element == "e2m1fn":
        raw = np.stack([raw & 15, raw >> 4], axis=-1)
    assert np.array_equal(rf8sim.decode(raw.reshape(x.shape), element), rf8sim.decode(q.codes, element))


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8"])
def test_mx_equals_gfloat_block_by_block(name):
    import gfloat
    from gfloat import formats

    info = {
        "mxfp8_e4m3": formats.format_info_mxfp8_e4m3, "mxfp8_e5m2": formats.format_info_mxfp8_e5m2,
        "mxfp6_e3m2": formats.format_info_mxfp6_e3m2, "mxfp6_e2m3": formats.format_info_mxfp6_e2m3,
        "mxfp4": formats.format_info_mxfp4_e2m1, "mxint8": formats.format_info_mxint8,
    }[name]  # fmt: skip
    x = hard_blocks(11, rows=8)
    y = rf8sim.quantize(x, name).dequantize(np.float64)
    for ours, values in zip(y.reshape(-1, 32), x.astype(float).reshape(-1, 32), strict=True):
        theirs = gfloat.quantize_block(info, values, gfloat.compute_scale_amax)
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4", "mxint8"])
def test_mx_is_ocps_rule_by_hand(name):
    """OCP MX 1.0, section 6.3: the shared exponent is floor(log2 amax) - emax, and elements are rounded by it."""
    scheme = as_scheme(name)
    x = hard_blocks(5, rows=4)
    q = rf8sim.quantize(x, scheme)
    emax = math.floor(math.log2(scheme.format.max))
    for row in range(x.shape[0]):
        for block in range(8):
            values = [Fraction(float(v)) for v in x[row, 32 * block : 32 * block + 32]]
            largest = max(map(abs, values))
            exponent = largest.numerator.bit_length() - largest.denominator.bit_length()
            exponent -= Fraction(2) ** exponent > largest
            assert q.exponents[row, block] == exponent - emax
            scale = Fraction(2) ** (exponent - emax)
            for value, code in zip(values, q.codes[row, 32 * block : 32 * block + 32].tolist(), strict=True):
                if value:
                    assert code == reference.round_value(value / scale, scheme.format, "nearest-even")


def rational_nvfp4(x: np.ndarray) -> np.ndarray:
    """NVFP4 in exact arithmetic, from its definition: a float32 scale for the tensor, an E4M3 one for 16 elements."""
    e4m3, e2m1 = rf8sim.get_format("e4m3fn"), rf8sim.get_format("e2m1fn")
    largest = Fraction(float(np.abs(x).max()))
    outer = Fraction(float(np.float32(float(largest / (448 * 6)))))
    if outer * 448 * 6 < largest:  # rounded up, so that no scale is beyond 448
        outer = Fraction(float(np.nextafter(np.float32(outer), np.float32(np.inf))))
    out = np.empty(x.shape)
    for row, values in enumerate(x.tolist()):
        for start in range(0, len(values), 16):
            exact = [Fraction(value) for value in values[start : start + 16]]
            wanted = max(map(abs, exact)) / 6 / outer
            code = reference.round_value(wanted, e4m3, "nearest-even")
            inner = Fraction(float(max(e4m3.values[code], 2.0**-9)))
            for column, value in enumerate(exact):
                rounded = 0.0
                if value:
                    rounded = e2m1.values[reference.round_value(value / (inner * outer), e2m1, "nearest-even")]
                out[row, start + column] = float(Fraction(float(rounded)) * inner * outer)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_nvfp4_equals_a_rational_oracle(seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_t(3, size=(6, 100)) * 10.0 ** rng.integers(-3, 3, size=(6, 1))).astype(np.float32)
    x[0, :16] *= np.float32(1e-6)
    assert np.array_equal(rf8sim.quantize(x, "nvfp4").dequantize(np.float64), rational_nvfp4(x))


@pytest.mark.torch
def test_nvfp4_equals_torchao():
    """On numbers whose quotients, here exact and there float32, round alike."""
    torch = pytest.importorskip("torch")
    nv = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
    x = np.random.default_rng(1).standard_t(4, size=(64, 256)).astype(np.float32)
    t = torch.from_numpy(x)
    outer = nv.per_tensor_amax_to_scale(t.abs().max())
    scale, data = nv.nvfp4_quantize(t, 16, outer)[:2]
    q = rf8sim.quantize(x, "nvfp4")
    assert q.scales[1] == pytest.approx(float(outer), rel=2.0**-23)
    raw = data.view(torch.uint8).numpy()
    codes = np.stack([raw & 15, raw >> 4], axis=-1).reshape(x.shape)
    assert np.array_equal(scale.float().numpy().reshape(q.scales[0].shape), q.scales[0])
    assert np.array_equal(rf8sim.decode(codes, "e2m1fn"), rf8sim.decode(q.codes, "e2m1fn"))


# --- zero points ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", ["uint4", "uint8", "float16", "float32"])
@pytest.mark.parametrize("fmt", ["uint4", "int4"])
def test_zero_points_cover_the_range_of_a_block(fmt, zero):
    """One-sided and two-sided data: each block's extremes are within half a step (a step where zero is moved in)."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(8, 64)) + np.array([0, 0.5, -0.5, 3, -3, 0, 10, -10])[:, None]
    if fmt == "int4" and zero.startswith("uint"):
        zero = zero.replace("uint", "int")
    scheme = Scheme(fmt, Scales((1, 32), "float32", "max", zero=zero))
    q = rf8sim.quantize(x, scheme)
    integer = zero not in ("float16", "float32")
    assert np.array_equal(q.zero, np.rint(q.zero)) or not integer
    error = np.abs(x - q.dequantize(np.float64))
    scale = np.repeat(q.scale, 32, axis=1)
    slack = 0.5 + (2.0**-10 * np.abs(np.repeat(q.zero, 32, axis=1)) / scale if zero == "float16" else 0.5 * integer)
    assert (error <= slack * scale * (1 + 1e-6)).all()
    if integer:  # zero itself is a value
        none = rf8sim.quantize(np.where(x > 1, 0, x), scheme)
        assert (none.dequantize()[x > 1] == 0).all()


def test_asymmetric_codes_are_gptqs():
    """scale = (max - min) / 15, zero = round(-min / scale), q = clip(round(x / scale + zero)): by hand."""
    x = np.array([[-1.0, -0.5, 0.0, 2.0]])
    q = rf8sim.quantize(x, Scheme("uint4", Scales(4, "float32", "max", zero="uint4")))
    scale = np.float32(3.0 / 15)
    assert q.scale == np.nextafter(scale, np.float32(1)) or q.scale == scale
    assert q.zero.tolist() == [[5.0]]
    assert q.codes.tolist() == [[0, 3, 5, 15]] or q.codes.tolist() == [[0, 2, 5, 15]]


@settings(deadline=None, max_examples=60)
@given(schemes(), st.sampled_from(SHAPES), st.integers(0, 99))
def test_measured_errors_are_those_of_the_numbers(scheme, shape, seed):
    x = np.random.default_rng(seed).standard_t(4, size=shape).astype(np.float32)
    x = np.abs(x) if not scheme.format.signed else x
    if scheme.overflow == "nan":
        scheme = Scheme(scheme.format, scheme.scales, scheme.rounding)
    q = rf8sim.quantize(x, scheme, seed=3)
    error = rf8sim.measure(x, q)
    y = q.dequantize(np.float64)
    assert error.sum_squared_error == pytest.approx(float(np.sum((x - y) ** 2)), rel=1e-9, abs=1e-300)
    assert error.underflow == np.count_nonzero((x != 0) & (y == 0))
    assert error.code_counts.sum() == x.size


@settings(deadline=None, max_examples=40)
@given(schemes(), st.integers(0, 99))
def test_threads_change_nothing(scheme, seed):
    x = np.random.default_rng(seed).normal(size=(700, 900)).astype(np.float32)
    x = np.abs(x) if not scheme.format.signed else x
    if scheme.scales is not None and scheme.scales.rule in ("mse", "ggd"):
        scheme = Scheme(scheme.format, None, scheme.rounding, scheme.overflow)
    one, two = (rf8sim.quantize(x, scheme, seed=seed, threads=threads) for threads in (1, 2))
    assert np.array_equal(one.codes, two.codes)


def test_chosen_is_what_choose_scales_returns():
    chosen = choose_scales(np.ones((2, 40)), "q4_1")
    assert isinstance(chosen, Chosen)
    assert chosen.zero is not None
    assert chosen.zero.shape == (2, 2)


@pytest.mark.parametrize(
    "scheme", ["nvfp4", "int4/1x32:float16,signed/tensor:float32,max", "rf8/1x16:e4m3fn/tensor:float32,max"]
)
def test_blocks_of_zeros_choose_no_outer_scale(scheme):
    """Small numbers beside a block of zeros: the outer scale is that of the numbers, from data and from the summary."""
    from ggd import MagnitudeHistogram
    from rf8sim.quantization.scaling import outer_scales

    x = np.random.default_rng(0).normal(scale=1e-8, size=(4, 64)).astype(np.float32)
    whole = choose_scales(x, scheme).scales[1]
    x[1, :32] = 0
    part = choose_scales(x, scheme).scales[1]
    assert part <= whole
    assert part == outer_scales(MagnitudeHistogram.from_array(x), as_scheme(scheme))
    assert rf8sim.measure(x, rf8sim.quantize(x, scheme)).sqnr_db > 15
    assert choose_scales(np.zeros((4, 64)), scheme).scales[1] == 1
