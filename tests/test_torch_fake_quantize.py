"""PyTorch's fake quantization against the codec: the same bits, and a straight-through gradient."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from loops import looped

import rf8sim
from rf8sim.codec.codec import random_words
from rf8sim.codec.rounding import Overflow, Rounding, RoundingMode, check_choices
from rf8sim.codec.thresholds import step_table, stochastic_table
from rf8sim.reference import ladder, round_value

torch = pytest.importorskip("torch")
from torch.utils.checkpoint import checkpoint  # noqa: E402

from rf8sim.torch import fake_quantize, rounding  # noqa: E402
from rf8sim.torch.fake import round_at  # noqa: E402

pytestmark = pytest.mark.torch

FORMATS = ("rf8", "rf8_e3", "rf6", "e4m3fn", "e5m2", "e3m4", "e8m0fnu", "int8", "uint8", "posit8_es1", "lns8", "nf4")
DTYPES = {
    "float16": (torch.float16, torch.int16, np.float16, np.uint16),
    "bfloat16": (torch.bfloat16, torch.int16, ml_dtypes.bfloat16, np.uint16),
    "float32": (torch.float32, torch.int32, np.float32, np.uint32),
    "float64": (torch.float64, torch.int64, np.float64, np.uint64),
}


def choices(name: str) -> list[tuple[str, str]]:
    """All deterministic modes and overflow options that fit a format."""
    found = []
    for mode in RoundingMode:
        for option in Overflow:
            try:
                check_choices(rf8sim.get_format(name), Rounding(mode, option))
            except ValueError:
                continue
            if mode is not RoundingMode.STOCHASTIC:
                found.append((str(mode), str(option)))
    return found


def is_nan(x: np.ndarray) -> np.ndarray:
    """Not `np.isnan` of a wider copy: numpy warns where a signalling NaN is converted."""
    with np.errstate(invalid="ignore"):
        return np.isnan(x.astype(np.float64))


def compare(patterns: np.ndarray, dtype: str, fmt: str, mode: str, overflow: str) -> None:
    """Compare bits of the adapter's results, by the codec and by tables, with the codec's on the given bit patterns."""
    torch_dtype, torch_bits, numpy_dtype, unsigned = DTYPES[dtype]
    x = patterns.astype(unsigned).view(numpy_dtype)
    nan = is_nan(x)
    tensor = torch.from_numpy(patterns.astype(unsigned).view(f"i{x.dtype.itemsize}")).view(torch_dtype)
    scheme = rf8sim.Scheme(fmt, None, mode, overflow)
    by_codec = fake_quantize(tensor, scheme)
    by_tables, inside = rounding.rounded_by_tables(tensor, None, None, None, rounding.key_of(scheme))
    assert torch.equal(rounding.round_blocks(tensor, None, None, None, rounding.key_of(scheme))[1], inside)
    has_nan = rf8sim.get_format(fmt).nan is not None
    x = x if has_nan else x[~nan]
    expected = rf8sim.decode(rf8sim.encode(x, fmt, rounding=Rounding(mode, overflow)), fmt, dtype=numpy_dtype)
    for result in (by_codec, by_tables):
        assert result.dtype == torch_dtype
        bits = result.view(torch_bits).numpy().view(unsigned)
        if not has_nan:
            assert bool(result.isnan().numpy()[nan].all())
            bits = bits[~nan]
        both_nan = is_nan(expected) & is_nan(bits.view(numpy_dtype))
        wrong = np.flatnonzero((bits != expected.view(unsigned)) & ~both_nan)
        assert wrong.size == 0, (x[wrong[:3]], bits.view(numpy_dtype)[wrong[:3]], expected[wrong[:3]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_16_bit_input(fmt, dtype):
    patterns = np.arange(1 << 16)
    for mode, overflow in choices(fmt):
        compare(patterns, dtype, fmt, mode, overflow)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_neighbours_of_every_boundary(fmt, dtype):
    """Each boundary's pattern and those beside it, zeros, extremes, infinities, NaNs, and patterns at random."""
    width = 32 if dtype == "float32" else 64
    top = (1 << width) - 1
    rng = np.random.default_rng(0)
    for mode, overflow in choices(fmt):
        table = step_table(rf8sim.get_format(fmt), RoundingMode(mode), Overflow(overflow), dtype)
        first = table.first.astype(object)
        near = [int(p + d) & top for p in first for d in (-1, 0, 1)]
        ends = [0, 1, top >> 1, (top >> 1) + 1, top]
        patterns = np.array(near + ends, dtype=np.uint64)
        compare(patterns, dtype, fmt, mode, overflow)
    anywhere = rng.integers(0, 1 << 64, 200_000, dtype=np.uint64) >> np.uint64(64 - width)
    compare(anywhere, dtype, fmt, mode, overflow)


def test_the_comparison_can_fail(monkeypatch):
    """Negative control: one boundary a bit pattern too high is seen."""
    cpu = torch.device("cpu")
    first, values = rounding.steps(
        rf8sim.get_format("rf8"), RoundingMode.NEAREST_EVEN, Overflow.SATURATE, torch.float16, cpu
    )
    first = first.clone()
    first[60] += 1
    monkeypatch.setattr(rounding, "steps", lambda *arguments: (first, values))
    with pytest.raises(AssertionError):
        compare(np.arange(1 << 16), "float16", "rf8", "nearest-even", "saturate")


@looped("fmt", ["rf8", "e4m3fn", "int8", "posit8_es1", "lns8"])
@looped("block", ["tensor", "channel", "*x1", "1x32", "16x32", "none"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_scaled_as_quantize(fmt, block, dtype):
    torch_dtype, torch_bits, numpy_dtype, unsigned = DTYPES[dtype]
    x = (np.random.default_rng(1).standard_t(3, (24, 70)) * 0.03).astype(numpy_dtype)
    q = rf8sim.quantize(x, f"{fmt}/{block}")
    tensor = torch.from_numpy(x.view(f"i{x.dtype.itemsize}")).view(torch_dtype)
    ours = fake_quantize(tensor, f"{fmt}/{block}").view(torch_bits).numpy().view(unsigned)
    np.testing.assert_array_equal(ours, q.dequantize(numpy_dtype).view(unsigned))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("fmt", ["rf8", "e4m3fn", "e5m2", "int8", "uint8", "lns8", "posit8_es1", "nf4"])
def test_stochastic_takes_the_codecs_decisions(fmt, dtype):
    """Given the same words, the same neighbours; near the ends of every interval and inside."""
    torch_dtype, torch_bits, numpy_dtype, unsigned = DTYPES[dtype]
    rng = np.random.default_rng(2)
    wide = dtype if dtype in ("float32", "float64") else "float32"
    table = stochastic_table(rf8sim.get_format(fmt), Overflow.SATURATE, wide)
    first = table.steps.first.astype(DTYPES[wide][3])
    near = np.concatenate([(first + first.dtype.type(d)).view(DTYPES[wide][2]) for d in (0, 1, 2)])
    inside = rng.standard_normal(20_000) * rf8sim.get_format(fmt).max / 3
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.concatenate([near, inside]).astype(numpy_dtype)
    x = x[~is_nan(x)]
    words = rng.integers(0, 1 << 32, x.size, dtype=np.uint32)
    words[: x.size // 4] = rng.choice(np.array([0, 1, 2**31, 2**32 - 1], dtype=np.uint32), x.size // 4)
    tensor = torch.from_numpy(x.view(f"i{x.dtype.itemsize}")).view(torch_dtype)
    ours = rounding.stochastic_by(
        tensor, torch.from_numpy(words.astype(np.int64)), rf8sim.get_format(fmt), Overflow.SATURATE
    )
    codes = rf8sim.encode(x, fmt, rounding=Rounding("stochastic", words=words))
    expected = rf8sim.decode(codes, fmt, dtype=numpy_dtype)
    np.testing.assert_array_equal(ours.view(torch_bits).numpy().view(unsigned), expected.view(unsigned))


def test_stochastic_draws_from_the_generator_and_is_unbiased():
    x = torch.full((200_000,), 1.04)

    def draw(seed):
        return fake_quantize(x, "rf8/none@stochastic", generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert sorted(draw(0).unique().tolist()) == [1.0, 1.0625]
    p = 0.04 / 0.0625
    error = float((draw(0).double().mean() - 1.04) / (0.0625 * np.sqrt(p * (1 - p) / x.numel())))
    assert abs(error) < 4


def test_gradient_is_one_inside_and_zero_where_it_overflows():
    """Inside is what does not round beyond the largest value: of RF8 to nearest, up to 1.625, the middle to 1.75."""
    x = torch.tensor([-1.6250001, -1.5, -1e-9, 0.0, 0.7, 1.5, 1.625, 1.6250001, math.inf, math.nan], requires_grad=True)
    (fake_quantize(x, "rf8/none") * torch.arange(1.0, 11.0)).nansum().backward()
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 7, 0, 0, 0]
    x = torch.tensor([3.0, 4.0, 0.5, 0.7], requires_grad=True)
    fake_quantize(x, "rf8", scale=torch.tensor([2.0, 2.0, 0.25, 0.5])).sum().backward()
    assert x.grad.tolist() == [1, 0, 0, 1]
    for fmt, last, first in (
        ("e4m3fn", 464.0, 464.00003), ("int8", 127.49999, 127.5), ("uint8", -0.5, -0.50000006), ("nf4", 1.0, 1.0000001),
        ("e4m3fn@toward-zero", 479.99997, 480.0),
    ):  # fmt: skip
        x = torch.tensor([last, first], requires_grad=True)
        name, _, mode = fmt.partition("@")
        fake_quantize(x, rf8sim.Scheme(name, None, mode or "nearest-even")).sum().backward()
        assert x.grad.tolist() == [1, 0], fmt


@pytest.mark.parametrize("fmt", ["rf8", "e4m3fn", "int8", "e2m1fn"])
def test_the_largest_weight_has_a_gradient(fmt):
    """A scale of amax / max in float32 may put the largest weight a little beyond the largest value."""
    for seed in range(100):
        x = torch.randn(100, generator=torch.Generator().manual_seed(seed))
        scale = x.abs().max() / rf8sim.get_format(fmt).max
        x.requires_grad_()
        fake_quantize(x, fmt, scale=scale).sum().backward()
        assert bool((x.grad == 1).all())


@pytest.mark.parametrize("shape", [(), (6, 1), (6, 8), (6, 2)])
@pytest.mark.parametrize("zero", [False, True])
def test_the_gradient_of_a_scale(shape, zero):
    """LSQ's: the value less the quotient inside, the value where it overflows; of the offset 1 where it overflows."""
    scheme = "uint4/1x4:float32,max,zero=float32" if zero else "int4/1x4"
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 8, generator=generator, dtype=torch.float64) * 6
    scale = (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.3).requires_grad_()
    offset = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() if zero else None
    weights = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    (rounding_at(x, scheme, scale, offset) * weights).sum().backward()
    wide = scale.repeat_interleave(4, 1) if shape == (6, 2) else scale.expand(6, 8)
    shift = torch.zeros(()) if offset is None else offset.repeat_interleave(4, 1) if shape == (6, 2) else offset
    quotient = (x - shift) / wide
    low, high = (-0.5, 15.5) if zero else (-8.5, 7.5)
    value = quotient.round().clamp(low + 0.5, high - 0.5)
    inside = (quotient >= low) & (quotient <= high)
    assert 0 < int(inside.sum()) < x.numel()
    of_scale, of_offset = weights * (value - torch.where(inside, quotient, 0)), weights * ~inside

    def summed(gradient):
        return gradient.reshape(6, 2, 4).sum(2) if shape == (6, 2) else gradient.sum_to_size(shape)

    torch.testing.assert_close(scale.grad, summed(of_scale).detach())
    if zero:
        torch.testing.assert_close(offset.grad, summed(of_offset).detach())


def rounding_at(x, scheme, scale, offset):
    return round_at(x, rounding.key_of(scheme), scale, offset)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.func itself
def test_transforms_of_functions():
    """torch.func's grad, vmap and jvp, of tensors scaled by hand, by choice and not at all."""
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    for scheme, scale in (("rf8/none", None), ("rf8", None), ("int8/channel", None), ("int8", torch.tensor(0.01))):

        def function(z, scheme=scheme, scale=scale):
            return fake_quantize(z, scheme, scale=scale)

        torch.testing.assert_close(torch.func.grad(lambda z: (function(z) * z).sum())(x), torch.autograd.grad(
            (function(y := x.clone().requires_grad_()) * y).sum(), y)[0], rtol=0, atol=0)  # fmt: skip
        each = torch.vmap(function)(x)
        assert torch.equal(each, torch.stack([function(row) for row in x]))
        assert torch.equal(torch.vmap(function, in_dims=1)(x), torch.stack([function(column) for column in x.T]))
        tangent = torch.arange(15.0).reshape(3, 5)
        value, derivative = torch.func.jvp(function, (x,), (tangent,))
        expected = torch.autograd.grad(function(y := x.clone().requires_grad_()).sum(), y)[0] * tangent
        assert torch.equal(value, function(x))
        assert torch.equal(derivative, expected)
    scale = torch.tensor(0.3)
    _, derivative = torch.func.jvp(lambda s: fake_quantize(x, "int4", scale=s), (scale,), (torch.tensor(1.0),))
    slopes = torch.func.jacrev(lambda s: fake_quantize(x, "int4", scale=s))(scale)
    torch.testing.assert_close(derivative, slopes)
    per_sample = torch.vmap(torch.func.grad(lambda z: fake_quantize(z, "rf8", scale=0.5).square().sum()))(x)
    assert per_sample.shape == x.shape


def test_a_seed_is_that_of_quantize():
    x = torch.randn(37, 19, generator=torch.Generator().manual_seed(0))
    for scheme in ("rf8/none@stochastic", "int8/channel@stochastic", "mxfp4@stochastic"):
        ours = fake_quantize(x, scheme, seed=1 << 40 | 3)
        np.testing.assert_array_equal(ours.numpy(), rf8sim.quantize(x.numpy(), scheme, seed=1 << 40 | 3).dequantize())
    words = rounding.words_of(torch.tensor(1 << 40 | 3), 1001, torch.device("cpu"))
    np.testing.assert_array_equal(words.numpy(), random_words(1 << 40 | 3, 1001).astype(np.int64))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exported_is_the_same():
    class Rounded(torch.nn.Module):
        def forward(self, x):
            return fake_quantize(x, "e4m3fn/channel") + fake_quantize(x, "mxfp4")

    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(Rounded(), (x,))
    assert torch.equal(program.module()(x), Rounded()(x))


def in_autocast(function, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return function(x)


def exported(function, x):
    module = torch.nn.Module()
    module.forward = function
    return torch.export.export(module, (x,)).module()(x)


CONTEXTS = {
    "eager": lambda function, x: function(x),
    "compile": lambda function, x: torch.compile(function, fullgraph=True)(x),
    "export": exported,
    "autocast": in_autocast,
    "checkpoint": lambda function, x: checkpoint(function, x, use_reentrant=False),
    "vmap": lambda function, x: torch.vmap(function)(x.reshape(-1, 1)).reshape(-1),
    "grad": lambda function, x: torch.func.grad_and_value(lambda z: (function(z).sum(), function(z)), has_aux=True)(x)[
        1
    ][1],
    "jvp": lambda function, x: torch.func.jvp(function, (x,), (x,))[0],
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_oracles_bits_in_every_context(context):
    """Each value of a format, each middle between two, the floats beside them; mask of the gradient too."""
    for fmt in ("rf8", "e4m3fn", "int8"):
        values, _ = ladder(rf8sim.get_format(fmt), False)
        numbers = [float(value) for value in values] + [float(a + b) / 2 for a, b in itertools.pairwise(values)]
        middle = torch.tensor([*numbers, float(2 * values[-1])])
        ends = (torch.nextafter(middle, torch.tensor(end)) for end in (math.inf, -math.inf))
        x = torch.cat([middle, *ends])
        x = torch.cat([x, -x])
        codes = [round_value(number, fmt) for number in x.tolist()]
        expected = torch.tensor([rf8sim.get_format(fmt).values[code] for code in codes], dtype=torch.float32)
        x.requires_grad_(context in ("eager", "compile", "autocast", "checkpoint"))
        torch.compiler.reset()
        result = CONTEXTS[context](lambda z, fmt=fmt: fake_quantize(z, f"{fmt}/none"), x)
        assert torch.equal(result.detach().view(torch.int32), expected.view(torch.int32)), fmt
        if x.requires_grad:
            (gradient,) = torch.autograd.grad(result.sum(), x)
            low, high = rounding.limits(
                rf8sim.get_format(fmt), RoundingMode.NEAREST_EVEN, Overflow.SATURATE, torch.float32
            )
            assert torch.equal(gradient, ((x >= low) & (x <= high)).float())


def test_any_layout():
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    whole = fake_quantize(x, "rf8/none")
    assert torch.equal(fake_quantize(x.t(), "rf8/none"), whole.t())
    assert torch.equal(fake_quantize(x[:, ::3], "rf8/none"), whole[:, ::3])
    assert fake_quantize(x[0, 0], "rf8").shape == ()
    assert fake_quantize(x[:0], "rf8").shape == (0, 10)
    assert fake_quantize(torch.tensor([-0.0, -1e-9]), "e4m3fn/none").signbit().all()
    assert not fake_quantize(torch.tensor([-0.0, -1e-9]), "rf8/none").signbit().any()


def test_a_format_of_ones_own():
    ternary = rf8sim.Format("ternary", 2, "integer", "-1, 0, 1", np.array([0.0, 1.0, -1.0, np.nan]), beyond=2.0)
    assert fake_quantize(torch.tensor([0.2, -0.9, 7.0]), rf8sim.Scheme(ternary, None)).tolist() == [0.0, -1.0, 1.0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch")  # of PyTorch's own compiler
def test_compiled_is_the_same():
    """One graph, forward and backward, scaled and not, deterministic and stochastic."""

    def both(x):
        coarse = fake_quantize(x, "e4m3fn@toward-zero", scale=x.detach().abs().amax() / 448)
        drawn = fake_quantize(x, "rf8/none@stochastic")
        return fake_quantize(x, "rf8/none@residual") + coarse, drawn

    compiled = torch.compile(both, fullgraph=True)
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    ours, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    result, drawn = compiled(ours)
    expected, _ = both(plain)
    assert torch.equal(result, expected)
    result.sum().backward()
    expected.sum().backward()
    assert torch.equal(ours.grad, plain.grad)
    near = fake_quantize(x, "rf8/none@toward-zero"), fake_quantize(x, "rf8/none@up")
    away = fake_quantize(x, "rf8/none@down")
    assert bool(((drawn == near[0]) | (drawn == near[1]) | (drawn == away)).all())
    assert not torch.equal(drawn, near[0])


def test_what_is_refused():
    with pytest.raises(ValueError, match="did you mean 'rf8'"):
        fake_quantize(torch.ones(2), "rf88")
    with pytest.raises(ValueError, match="RF family only"):
        fake_quantize(torch.ones(2), "int8@residual")
    with pytest.raises(ValueError, match="has no NaN code"):
        fake_quantize(torch.ones(2), "int8@stochastic/nan")
    with pytest.raises(TypeError, match=r"got torch\.int64"):
        fake_quantize(torch.ones(2, dtype=torch.int64), "rf8")
    for scale in (0.0, -1.0, math.inf, math.nan, 0):
        with pytest.raises(ValueError, match="a scale is positive and finite, got"):
            fake_quantize(torch.ones(2), "rf8", scale=scale)
    with pytest.raises(TypeError, match="got list"):
        fake_quantize([1.0], "rf8")


@looped("scheme", [*rf8sim.scheme_names(), "uint4/1x8:float16,max,zero=uint4", "rf8/4x*"])
@pytest.mark.parametrize("shape", [(40,), (6, 70), (3, 5, 40), (4, 3, 5, 5)])
def test_every_scheme_is_that_of_quantize(scheme, shape):
    x = np.random.default_rng(4).standard_t(3, shape).astype(np.float32)
    tensor, expected = torch.from_numpy(x), rf8sim.quantize(x, scheme).dequantize()
    np.testing.assert_array_equal(fake_quantize(tensor, scheme).numpy(), expected)
    key = rounding.key_of(scheme)
    scale = offset = None
    if rf8sim.as_scheme(scheme).scales is not None:
        scale, offset = rounding.choose(tensor, key)
    offset = offset if offset is not None and offset.numel() else None
    by_tables, inside = rounding.rounded_by_tables(tensor, scale, offset, None, key)
    np.testing.assert_array_equal(by_tables.numpy(), expected)
    assert torch.equal(rounding.round_blocks(tensor, scale, offset, None, key)[1], inside)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_tensors_are_those_of_tables(dtype):
    """From 2^18 elements on groups that share a scale are rounded by a loop of their own; NaN and infinities too."""
    x = torch.from_numpy(np.random.default_rng(5).standard_t(2, (512, 1024))).to(dtype)
    x.view(-1)[::9973] = math.nan
    x.view(-1)[1::9973] = math.inf
    schemes = [f"{fmt}/{block}" for fmt in FORMATS for block in ("tensor", "channel")]
    schemes += ["e4m3fn/1x32@toward-zero", "rf8/2x*", "int8/*x1", "mxfp4", "nvfp4", "fp8_128x128", "e4m3fn/1x48"]
    for scheme in (*schemes, "int8@nearest-even", "e5m2/tensor@nearest-even/ieee"):
        key = rounding.key_of(scheme)
        numbers = torch.nan_to_num(x, 0.0, 0.0, 0.0)
        scale, offset = rounding.choose(numbers, key)
        assert offset.numel() == 0
        ours, inside = rounding.round_blocks(x, scale, None, None, key)
        expected, mask = rounding.rounded_by_tables(x, scale, None, None, key)
        assert torch.equal(ours.nan_to_num(12345.0), expected.nan_to_num(12345.0)), scheme
        assert torch.equal(ours.isnan(), expected.isnan()), scheme
        assert torch.equal(ours.signbit() & ~ours.isnan(), expected.signbit() & ~expected.isnan()), scheme
        assert torch.equal(inside, mask), scheme
    odd = x.view(-1)[: 512 * 1024 - 3]
    key = rounding.key_of("int8")
    scale = torch.tensor(0.02, dtype=torch.float64)
    both = rounding.round_blocks(odd, scale, None, None, key), rounding.rounded_by_tables(odd, scale, None, None, key)
    assert torch.equal(both[0][0].nan_to_num(1e9), both[1][0].nan_to_num(1e9))
    assert torch.equal(both[0][1], both[1][1])


def test_large_tensors_on_every_boundary():
    """Numbers on the thresholds of a format and next to them, at scales that are powers of two."""
    scales = torch.tensor([1.0, 0.25, 8.0, 2.0**-20]).repeat(128)[:, None].double()
    for fmt in FORMATS:
        table = step_table(rf8sim.get_format(fmt), RoundingMode.NEAREST_EVEN, Overflow.SATURATE, "float64")
        first = table.first.view(np.float64)
        first = first[np.isfinite(first)]
        near = np.concatenate([first, np.nextafter(first, np.inf), np.nextafter(first, -np.inf)])
        x = torch.from_numpy(np.resize(near, (512, 1031))) * scales
        key = rounding.key_of(f"{fmt}/channel")
        ours, expected = (by(x, scales, None, None, key) for by in (rounding.round_blocks, rounding.rounded_by_tables))
        assert torch.equal(ours[0], expected[0]), fmt
        assert torch.equal(ours[1], expected[1]), fmt
