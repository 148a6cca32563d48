"""Models with rounded weights and inputs: trained, made plain again, counted."""

import copy

import numpy as np
import pytest

import rf8sim

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from rf8sim.torch import (  # noqa: E402
    InputQuantize,
    QuantizeConfig,
    dequantize_,
    load_quantized,
    model_size,
    quantize_,
    quantized_tensors,
    save_quantized,
    update_scales_,
)

pytestmark = pytest.mark.torch


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, index):
        return self.head(self.embed(index))


def make_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.LayerNorm(48), nn.Linear(48, 10))


@pytest.mark.parametrize(
    "scheme",
    [
        *(
            f"{fmt}/{block}"
            for fmt in ("rf8", "e4m3fn", "int8")
            for block in ("tensor", "channel", "*x1", "1x32", "none")
        ),
        *rf8sim.scheme_names(),
        "uint4/1x8:float16,max,zero=uint4",
    ],
)
def test_weights_are_those_of_quantize(scheme):
    model = make_model()
    weight = model[0].weight.detach().numpy().copy()
    expected = rf8sim.quantize(weight, scheme)
    quantize_(model, QuantizeConfig(scheme))
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), expected.dequantize())
    codes = quantized_tensors(model)["0.weight"]
    np.testing.assert_array_equal(codes.codes, expected.codes)
    np.testing.assert_array_equal(codes.scale, expected.scale)
    np.testing.assert_array_equal(model.state_dict()["0.weight"].numpy(), weight)


def test_plain_state_dict_comes_back():
    model = make_model()
    names = list(model.state_dict())
    before = copy.deepcopy(model.state_dict())
    parameters = list(model.parameters())
    x = torch.randn(5, 32)
    quantize_(model, QuantizeConfig("rf8", inputs="int8"))
    model(x)
    rounded = model[3].weight.detach().clone()
    assert not torch.equal(rounded, before["3.weight"])
    dequantize_(model)
    assert list(model.state_dict()) == names
    assert torch.equal(model[3].weight, rounded)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))  # an optimizer still holds them
    fresh = make_model(1)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))

    other = make_model()
    dequantize_(quantize_(other, QuantizeConfig("rf8", inputs="int8")), keep="original")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_copy_is_made_plain_by_itself():
    model = quantize_(make_model())
    copied = dequantize_(copy.deepcopy(model))
    x = torch.randn(4, 32)
    assert torch.equal(copied(x), model(x))
    assert type(copied[0]) is nn.Linear
    assert "0.parametrizations.weight.0.scale" in model.state_dict()
    dequantize_(model)
    assert same_state(model, copied)


def same_state(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_norms_and_biases_are_left_alone():
    model = quantize_(make_model())
    assert sorted(quantized_tensors(model)) == ["0.bias", "0.weight", "2.bias", "2.weight", "3.bias", "3.weight"]
    kinds = {name: type(value) for name, value in quantized_tensors(model).items()}
    assert [name for name, kind in kinds.items() if kind is rf8sim.QuantizedTensor] == ["0.weight", "3.weight"]
    only = quantize_(make_model(), filter_fn=lambda module, name: name == "3")
    assert [t.name for t in model_size(only).tensors if t.scheme == "rf8"] == ["3.weight"]


def test_training_moves_the_unrounded_weights():
    """A step too small to change a code is kept: after enough of them the rounded weight moves."""
    layer = quantize_(nn.Linear(4, 1, bias=False), QuantizeConfig("int8", scale=0.5))
    original = layer.parametrizations.weight.original
    original.data.fill_(0.3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    seen = []
    for _ in range(60):
        optimizer.zero_grad()
        layer(torch.ones(1, 4)).sum().backward()
        seen.append(float(layer.weight.detach()[0, 0]))
        optimizer.step()
    assert seen[0] == 0.5
    assert seen[1] == 0.5
    assert seen[-1] == -0.5
    assert set(seen) == {0.5, 0.0, -0.5}


def test_a_fixed_scale_stays_and_a_chosen_one_is_updated():
    """With a fixed grid shrinking weights underflow; a scale chosen anew follows them."""
    zeros = {}
    for scale in (1.0, None):
        model = make_model()
        quantize_(model, QuantizeConfig("rf8/tensor,max", scale=scale))
        model[0].parametrizations.weight.original.data.mul_(2.0**-12)
        update_scales_(model)
        zeros[scale] = float((model[0].weight == 0).float().mean())
    assert zeros[1.0] > 0.2
    assert zeros[None] == 0


@pytest.mark.parametrize(("rule", "expected"), [("max", 8.0), ("ema", 0.5 * 4.0 + 0.5 * 2.0)])
def test_running_scale_of_inputs(rule, expected):
    quantizer = InputQuantize(QuantizeConfig(inputs="int8", input_rule=rule, input_momentum=0.5))
    x = torch.tensor([0.3, -2.0])
    assert torch.equal(quantizer.eval()(x), x)  # nothing known yet
    quantizer.train()
    for largest in (8.0, 0.0) if rule == "max" else (4.0, 2.0):
        quantizer(torch.tensor([0.1, -largest]))
    frozen = quantizer.eval()(torch.tensor([100.0]))
    assert float(frozen) == pytest.approx(expected)
    assert float(quantizer.largest) == expected


def test_inputs_of_a_model_are_rounded_at_powers_of_two_for_rf8():
    model = quantize_(make_model(), QuantizeConfig("rf8", inputs="rf8", input_rule="max"))
    x = torch.randn(64, 32)
    model(x)
    model.eval()
    state = model.state_dict()
    assert "0.input_quantizer.largest" in state
    largest = float(x.abs().max())
    q = rf8sim.quantize(x.numpy(), "rf8/tensor,max")
    assert float(state["0.input_quantizer.largest"]) == largest
    expected = torch.from_numpy(q.dequantize()) @ model[0].weight.t() + model[0].bias
    torch.testing.assert_close(model[0](x), expected)
    assert torch.equal(model[0].input_quantizer(x), torch.from_numpy(q.dequantize()))


@pytest.mark.parametrize("fmt", ["rf8", "rf6", "e4m3fn", "int8"])
@pytest.mark.parametrize("largest", [1.5, 1.0, 3.0, 0.75, 448.0, 1e-3, 127.0, 0.0])
def test_scale_of_inputs_is_the_codecs_rule_max(fmt, largest):
    from rf8sim.quantization.scaling import choose_scales
    from rf8sim.torch.fake import scale_for

    scheme = rf8sim.as_scheme(f"{fmt}/tensor,max")
    ours = float(scale_for(torch.tensor(largest), scheme))
    theirs = float(choose_scales(np.array([largest], dtype=np.float32), scheme).scales[0])
    if largest == 0:
        assert ours > 0
    elif scheme.scales.format == "e8m0fnu":
        assert ours == theirs
    else:
        assert ours == pytest.approx(theirs, rel=2e-7)


def test_tied_weights_are_rounded_once():
    model = Tied()
    weight = model.embed.weight.detach().numpy().copy()
    expected = rf8sim.quantize(weight, "rf8@up").dequantize()
    quantize_(model, QuantizeConfig("rf8@up"))
    assert len(model_size(model).tensors) == 1
    dequantize_(model)
    assert model.head.weight is model.embed.weight
    np.testing.assert_array_equal(model.head.weight.detach().numpy(), expected)


def test_size_by_hand():
    layer = nn.Linear(64, 4, bias=True)
    values = torch.tensor([0.0] * 128 + [1.0] * 64 + [-1.0] * 32 + [0.5] * 32)
    layer.weight.data.copy_(values.view(4, 64))
    size = model_size(layer, QuantizeConfig("rf8", scale=1.0), code="entropy")
    weight, bias = size.tensors
    assert (weight.name, weight.weights, weight.scheme, weight.fixed, weight.side) == ("weight", 256, "rf8", 8.0, 8)
    assert weight.coded == pytest.approx(1.75)
    assert weight.table == 0
    assert (bias.scheme, bias.fixed, bias.coded, bias.side) == ("float32", 32.0, 32.0, 0)
    assert size.bits(coded=False) == 256 * 8 + 8 + 4 * 32
    assert size.bits() == 256 * 1.75 + 8 + 4 * 32
    assert size.bits_per_weight(coded=False) == size.bits(coded=False) / 260
    huffman = model_size(layer, QuantizeConfig("rf8", scale=1.0), code="huffman").tensors[0]
    assert huffman.coded == 1.75
    assert huffman.table > 0
    channel = model_size(layer, QuantizeConfig("e4m3fn/channel")).tensors[0]
    assert channel.side == 4 * 32


def test_coded_size_is_that_of_the_coder():
    from rf8sim.entropy.coding import compress

    layer = nn.Linear(300, 200, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    config = QuantizeConfig("e4m3fn")
    codes = quantized_tensors(layer, config)["weight"].codes
    claimed = model_size(layer, config)
    assert len(compress(codes)) * 8 == pytest.approx(claimed.bits(), rel=0.01)


def test_half_precision_models():
    for dtype in (torch.bfloat16, torch.float16):
        model = quantize_(make_model().to(dtype), QuantizeConfig("rf8", inputs="e4m3fn"))
        result = model(torch.randn(3, 32, dtype=dtype))
        assert result.dtype == dtype
        result.sum().backward()
        assert model[0].parametrizations.weight.original.grad is not None
        assert {t.name: t.fixed for t in model_size(model).tensors}["0.weight"] == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch")
def test_a_quantized_model_compiles():
    model = quantize_(make_model(), QuantizeConfig("rf8/channel", inputs="rf8"))
    x = torch.randn(16, 32)
    model(x)
    model.eval()
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x))


def test_saved_and_loaded(tmp_path):
    """RF8 weights on their grid come back bit for bit, whatever scales the file's plan chose."""
    from rf8sim.checkpoints.plan import Plan, Recipe

    model = make_model()
    model[2].weight.data.uniform_()
    quantize_(model, QuantizeConfig("rf8", scale=4.0, inputs="int8"))
    x = torch.randn(9, 32)
    model(x)
    for recipe in (Recipe("rf8/channel"), Recipe("rf8/tensor", entropy="rans")):
        path = tmp_path / f"{recipe.entropy}.safetensors"
        save_quantized(model, path, Plan(recipe))
        loaded = load_quantized(make_model(1), path)
        expected = dequantize_(copy.deepcopy(model))
        assert same_state(loaded, expected)
    with pytest.raises(ValueError, match=r"is of another model: '2\.bias' is not in both"):
        load_quantized(nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.ReLU(), nn.Linear(48, 10)), path)
    with pytest.raises(ValueError, match="is of another model: size mismatch"):
        load_quantized(nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.LayerNorm(48), nn.Linear(48, 9)), path)


@pytest.mark.parametrize(
    "scheme",
    ["mxfp4", "rf8@residual", "rf6/2x16", "int4/channel", "e4m3fn@stochastic", "uint4/1x8:float16,max,zero=uint4"],
)
def test_a_saved_model_keeps_its_schemes(tmp_path, scheme):
    """Codes and scales are written as they are: no weight changes."""
    from rf8sim.checkpoints.quantized import open_quantized

    model = quantize_(make_model(), QuantizeConfig(scheme), filter_fn=lambda module, name: name == "3")
    save_quantized(model, tmp_path / "model.safetensors")
    stored = {tensor.name: tensor.recipe for tensor in open_quantized(tmp_path / "model.safetensors")}
    assert {name: recipe.scheme for name, recipe in stored.items() if recipe} == {"3.weight": rf8sim.as_scheme(scheme)}
    loaded = load_quantized(make_model(1), tmp_path / "model.safetensors")
    assert same_state(loaded, dequantize_(model))


def test_what_is_refused():
    with pytest.raises(ValueError, match="no module of the model was chosen"):
        quantize_(nn.LayerNorm(3))
    with pytest.raises(ValueError, match="module '1' has no weight to quantize"):
        quantize_(make_model(), filter_fn=lambda module, name: name == "1")
    model = quantize_(make_model())
    with pytest.raises(ValueError, match="module '0' is quantized already: call dequantize_ first"):
        quantize_(model)
    with pytest.raises(ValueError, match="quantized already: leave the config out"):
        model_size(model, QuantizeConfig())
    with pytest.raises(ValueError, match="unknown code 'zip'"):
        model_size(model, code="zip")
    with pytest.raises(ValueError, match="unknown choice of keep"):
        dequantize_(model, keep="both")
    with pytest.raises(ValueError, match="fixed scale must be positive"):
        QuantizeConfig(scale=-1.0)
    with pytest.raises(ValueError, match="did you mean 'int8'"):
        QuantizeConfig(inputs="int_8")
    with pytest.raises(ValueError, match="unknown input rule"):
        QuantizeConfig(input_rule="percentile")
    with pytest.raises(ValueError, match="one running scale for each layer: take 'int8', not int8/channel"):
        QuantizeConfig(inputs="int8/channel")
    with pytest.raises(ValueError, match="one level of scales and no zero point, not nvfp4"):
        QuantizeConfig("nvfp4", scale=1.0)
    with pytest.raises(ValueError, match="input_momentum"):
        QuantizeConfig(input_momentum=0.0)
