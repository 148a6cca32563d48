"""PyTorch's fake quantization against the codec: the same bits, and a straight-through gradient."""

import ml_dtypes
import numpy as np
import pytest
from loops import looped

import rf8sim
from rf8sim.codec.rounding import Overflow, Rounding, RoundingMode, check_choices
from rf8sim.codec.thresholds import step_table, stochastic_table

torch = pytest.importorskip("torch")
from rf8sim.torch import fake, fake_quantize  # noqa: E402

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


def compare(patterns: np.ndarray, dtype: str, fmt: str, rounding: str, overflow: str) -> None:
    """Compare bits of the adapter's result with the codec's on the given bit patterns."""
    torch_dtype, torch_bits, numpy_dtype, unsigned = DTYPES[dtype]
    x = patterns.astype(unsigned).view(numpy_dtype)
    nan = is_nan(x)
    result = fake_quantize(
        torch.from_numpy(patterns.astype(unsigned).view(f"i{x.dtype.itemsize}")).view(torch_dtype),
        rf8sim.Scheme(fmt, None, rounding, overflow),
    )
    assert result.dtype == torch_dtype
    bits = result.view(torch_bits).numpy().view(unsigned)
    if rf8sim.get_format(fmt).nan is None:
        assert bool(result.isnan().numpy()[nan].all())
        x, bits, nan = x[~nan], bits[~nan], nan[~nan]
    codes = rf8sim.encode(x, fmt, rounding=Rounding(rounding, overflow))
    expected = rf8sim.decode(codes, fmt, dtype=numpy_dtype)
    both_nan = is_nan(expected) & is_nan(bits.view(numpy_dtype))
    wrong = np.flatnonzero((bits != expected.view(unsigned)) & ~both_nan)
    assert wrong.size == 0, (x[wrong[:3]], bits.view(numpy_dtype)[wrong[:3]], expected[wrong[:3]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_16_bit_input(fmt, dtype):
    patterns = np.arange(1 << 16)
    for rounding, overflow in choices(fmt):
        compare(patterns, dtype, fmt, rounding, overflow)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_neighbours_of_every_boundary(fmt, dtype):
    """Each boundary's pattern and those beside it, zeros, extremes, infinities, NaNs, and patterns at random."""
    width = 32 if dtype == "float32" else 64
    top = (1 << width) - 1
    rng = np.random.default_rng(0)
    for rounding, overflow in choices(fmt):
        table = step_table(rf8sim.get_format(fmt), RoundingMode(rounding), Overflow(overflow), dtype)
        first = table.first.astype(object)
        near = [int(p + d) & top for p in first for d in (-1, 0, 1)]
        ends = [0, 1, top >> 1, (top >> 1) + 1, top]
        patterns = np.array(near + ends, dtype=np.uint64)
        compare(patterns, dtype, fmt, rounding, overflow)
    anywhere = rng.integers(0, 1 << 64, 200_000, dtype=np.uint64) >> np.uint64(64 - width)
    compare(anywhere, dtype, fmt, rounding, overflow)


def test_the_comparison_can_fail(monkeypatch):
    """Negative control: one boundary a bit pattern too high is seen."""
    table = fake._steps(rf8sim.get_format("rf8"), RoundingMode.NEAREST_EVEN, Overflow.SATURATE, torch.float16,
                        torch.device("cpu"))  # fmt: skip
    first = table[0].clone()
    first[60] += 1
    monkeypatch.setattr(fake, "_constant_steps", lambda *arguments: (first, table[1]))
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
    ours = fake._stochastic_by(tensor, torch.from_numpy(words.astype(np.int64)), fmt, "saturate")
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


def test_gradient_is_one_inside_and_zero_outside():
    x = torch.tensor([-2.0, -1.5, -1e-9, 0.0, 0.7, 1.5, 1.5000001, float("inf"), float("nan")], requires_grad=True)
    (fake_quantize(x, "rf8/none") * torch.arange(1.0, 10.0)).nansum().backward()
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 0, 0, 0]
    x = torch.tensor([3.0, 4.0, 0.5, 0.7], requires_grad=True)
    fake_quantize(x, "rf8", scale=torch.tensor([2.0, 2.0, 0.25, 0.5])).sum().backward()
    assert x.grad.tolist() == [1, 0, 0, 1]


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
    with pytest.raises(TypeError, match="got list"):
        fake_quantize([1.0], "rf8")


@looped("scheme", [*rf8sim.scheme_names(), "uint4/1x8:float16,max,zero=uint4", "rf8/4x*"])
@pytest.mark.parametrize("shape", [(40,), (6, 70), (3, 5, 40), (4, 3, 5, 5)])
def test_every_scheme_is_that_of_quantize(scheme, shape):
    x = np.random.default_rng(4).standard_t(3, shape).astype(np.float32)
    ours = fake_quantize(torch.from_numpy(x), scheme).numpy()
    np.testing.assert_array_equal(ours, rf8sim.quantize(x, scheme).dequantize())
