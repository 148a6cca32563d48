"""Which modules are rounded, what is refused, the names of state dicts, and what stays the same within a step."""

import contextlib
import copy
import inspect
import math
import subprocess
import sys
import warnings

import pytest

import rf8sim

torch = pytest.importorskip("torch")
from test_torch_models import Tied  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from rf8sim.torch import InputQuantize, QuantizeConfig, coverage, dequantize_, quantize_, save_quantized  # noqa: E402

pytestmark = pytest.mark.torch

# Modules with matrices: how they are made, and the inputs of a call.
COVERED = {
    "Linear": (lambda: nn.Linear(6, 4), lambda: (torch.randn(3, 6),)),
    "Bilinear": (lambda: nn.Bilinear(6, 5, 4), lambda: (torch.randn(3, 6), torch.randn(3, 5))),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3), lambda: (torch.randn(2, 4, 9),)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3), lambda: (torch.randn(2, 4, 9, 9),)),
    "Conv3d": (lambda: nn.Conv3d(4, 6, 3), lambda: (torch.randn(2, 4, 5, 5, 5),)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3), lambda: (torch.randn(2, 4, 9),)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3), lambda: (torch.randn(2, 4, 9, 9),)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(4, 6, 3), lambda: (torch.randn(2, 4, 5, 5, 5),)),
    "Embedding": (lambda: nn.Embedding(9, 4), lambda: (torch.tensor([1, 2, 8]),)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(9, 4), lambda: (torch.tensor([[1, 2, 8]]),)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(8, 2), lambda: (torch.randn(5, 3, 8),) * 3),
    "RNN": (lambda: nn.RNN(4, 5, 2), lambda: (torch.randn(6, 3, 4),)),
    "LSTM": (lambda: nn.LSTM(4, 5, 2, bidirectional=True, proj_size=3), lambda: (torch.randn(6, 3, 4),)),
    "GRU": (lambda: nn.GRU(4, 5), lambda: (torch.randn(6, 3, 4),)),
    "RNNCell": (lambda: nn.RNNCell(4, 5), lambda: (torch.randn(3, 4),)),
    "LSTMCell": (lambda: nn.LSTMCell(4, 5), lambda: (torch.randn(3, 4),)),
    "GRUCell": (lambda: nn.GRUCell(4, 5), lambda: (torch.randn(3, 4),)),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        lambda: (torch.randn(3, 5, 8),),
    ),
    "TransformerDecoderLayer": (
        lambda: nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0),
        lambda: (torch.randn(3, 5, 8), torch.randn(4, 5, 8)),
    ),
    "Transformer": (
        lambda: nn.Transformer(8, 2, 1, 1, 16, dropout=0.0),
        lambda: (torch.randn(3, 5, 8), torch.randn(4, 5, 8)),
    ),
    "AdaptiveLogSoftmaxWithLoss": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10]),
        lambda: (torch.randn(4, 8), torch.tensor([1, 7, 12, 19])),
    ),
}
# Modules of vectors, and containers and bases that are not made by themselves.
NOT = {
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d",
    "LayerNorm", "GroupNorm", "RMSNorm", "PReLU", "CrossMapLRN2d",
}  # fmt: skip
ARGUMENTS = {
    "GroupNorm": (2, 4), "PReLU": (), "LayerNorm": (4,), "RMSNorm": (4,), "CrossMapLRN2d": (3,),
}  # fmt: skip


def tensors(result):
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for item in result if item is not None for t in tensors(item)] if isinstance(result, tuple | list) else []


def quiet(module, *inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tensors(module(*inputs))


def test_every_module_of_torch_that_has_a_matrix_is_in_the_table():
    """A kind of module that PyTorch adds must be put in the table, or among those that have vectors only."""
    unknown = []
    for name, cls in vars(nn).items():
        if not inspect.isclass(cls) or not issubclass(cls, nn.Module) or name in COVERED or name.startswith("Lazy"):
            continue
        if name in NOT:
            made = cls(*ARGUMENTS.get(name, (4,)))
            assert all(parameter.ndim < 2 for parameter in made.parameters()), name
            continue
        made = None
        for arguments in ((), (4,)):
            with contextlib.suppress(TypeError, ValueError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = made or cls(*arguments)
        if made is None:
            continue
        unknown += [name for parameter in made.parameters() if parameter.ndim >= 2]
    assert unknown == []


@pytest.mark.parametrize("name", COVERED)
def test_every_matrix_is_rounded(name):
    """The outputs are those of the plain module with dequantized weights; so are training passes and copies."""
    torch.manual_seed(0)
    make, inputs = COVERED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, arguments = make(), inputs()
    plain = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in plain.parameters():
            if parameter.ndim >= 2:
                numbers = rf8sim.quantize(parameter.numpy(), "int4/channel").dequantize()
                parameter.copy_(torch.from_numpy(numbers))
    names, originals = list(module.state_dict()), [p.detach().clone() for p in module.parameters()]
    quantize_(module, QuantizeConfig("int4/channel"))
    matrices = {n for n, p in plain.named_parameters() if p.ndim >= 2}
    assert set(coverage(module).rounded) == matrices
    assert {left.name for left in coverage(module).left} == {n for n, _ in plain.named_parameters()} - matrices
    for training in (True, False):
        plain.train(training), module.train(training)
        for ours, theirs in zip(quiet(module, *arguments), quiet(plain, *arguments), strict=True):
            assert torch.equal(ours, theirs)
    with torch.no_grad():  # where PyTorch may take its fast paths
        for ours, theirs in zip(quiet(module, *arguments), quiet(plain, *arguments), strict=True):
            torch.testing.assert_close(ours, theirs)
    copied = copy.deepcopy(module)
    sum(result.sum() for result in quiet(module, *arguments)).backward()
    some = [p.grad is not None for n, p in module.named_parameters() if ".original" in n]
    assert all(some)
    assert sorted(n for n in module.state_dict() if "parametrizations" not in n) == sorted(names)
    for model, kept in ((module, plain), (copied, None)):
        dequantize_(model, keep="rounded" if kept else "original")
        assert list(model.state_dict()) == names
        expected = [p.detach() for p in kept.parameters()] if kept else originals
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected, strict=True))
        for ours, theirs in zip(quiet(model, *arguments), quiet(kept or model, *arguments), strict=True):
            assert torch.equal(ours, theirs)


def test_transformers_linear_layer():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    layer = quantize_(conv1d(6, 4), QuantizeConfig("int8/channel", inputs="int8"))
    assert list(coverage(layer).rounded) == ["weight"]
    layer(torch.randn(3, 4))
    assert float(layer.input_quantizer.largest) > 0


def test_what_cannot_be_rounded_is_refused():
    for wrap in (nn.utils.weight_norm, parametrizations.weight_norm, nn.utils.spectral_norm):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = wrap(nn.Linear(4, 4))
        with pytest.raises(ValueError, match="is parametrized"):
            quantize_(nn.Sequential(layer))
        assert quantize_(nn.Sequential(layer, nn.Linear(4, 4)), filter_fn=lambda module, name: name == "1")
    for make in (lambda: nn.TransformerEncoderLayer(8, 2, 16), lambda: nn.LSTM(4, 4)):
        with pytest.raises(ValueError, match="inside a function of PyTorch, where inputs cannot be rounded"):
            quantize_(make(), QuantizeConfig("int8", inputs="int8"))
        assert coverage(make()).rounded == {}
    with pytest.raises(ValueError, match=r"'self_attn\.out_proj' multiplies inside a function"):
        quantize_(
            nn.TransformerEncoderLayer(8, 2, 16),
            QuantizeConfig("int8", inputs="int8"),
            filter_fn=lambda module, name: isinstance(module, nn.Linear),
        )
    with pytest.raises(ValueError, match="no module of the model was chosen"):
        quantize_(nn.ReLU())

    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    layer = quantize_(nn.Linear(4, 4))
    parametrize.register_parametrization(layer, "weight", Twice())
    with pytest.raises(ValueError, match=r"module '\(the model itself\)' has another parametrization \(Twice\)"):
        dequantize_(layer)
    assert list(coverage(layer).rounded) == ["weight"]


def test_inputs_are_rounded_on_fast_paths_too():
    """Where PyTorch might compute a layer by one function, the rounding of inputs still runs."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    config = QuantizeConfig("int4/channel", inputs="int2", input_rule="max")
    quantize_(layer, config, filter_fn=lambda module, name: name in ("linear1", "linear2"))
    x = torch.randn(3, 5, 8)
    layer(x)
    layer.eval()
    expected = layer(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    before = copy.deepcopy(layer)
    before.linear1.input_quantizer.largest.zero_()  # does not round
    assert not torch.allclose(before(x), expected)


def test_another_parameter_may_be_parametrized():
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "bias", nn.Identity())
    quantize_(layer, QuantizeConfig("int4"))
    assert "weight" in layer.state_dict()
    assert list(coverage(layer).rounded) == ["weight"]
    dequantize_(layer)
    assert sorted(layer.state_dict()) == ["parametrizations.bias.original", "weight"]
    layer(torch.randn(2, 4))


def test_state_dicts_have_plain_names():
    torch.manual_seed(0)
    model, fresh, plain = (nn.Sequential(nn.Linear(8, 4), nn.LSTM(4, 4), nn.LayerNorm(4)) for _ in range(3))
    names = set(plain.state_dict())
    x = torch.randn(3, 8)
    before = model[0].weight.detach().clone()
    quantize_(model, QuantizeConfig("int4/channel"))
    state = model.state_dict()
    assert names <= set(state)
    assert torch.equal(state["0.weight"], before)
    result = plain.load_state_dict(state, strict=False)
    assert result.missing_keys == []
    assert torch.equal(plain[0].weight, before)
    quantize_(fresh, QuantizeConfig("int4/channel")).load_state_dict(state)
    assert torch.equal(fresh[0](x), model[0](x))
    older = {name.replace("0.weight", "0.parametrizations.weight.original"): value for name, value in state.items()}
    fresh[0].parametrizations.weight.original.data.zero_()
    fresh.load_state_dict(older)  # as it was saved before state dicts had plain names
    assert torch.equal(fresh[0](x), model[0](x))


def test_names_of_a_saved_model(tmp_path):
    from rf8sim.checkpoints.quantized import open_quantized

    torch.manual_seed(0)
    model = quantize_(nn.Sequential(nn.Linear(64, 32), nn.GRU(32, 32)), QuantizeConfig("rf8/channel"))
    save_quantized(model, tmp_path / "model.safetensors")
    stored = {tensor.name: bool(tensor.recipe) for tensor in open_quantized(tmp_path / "model.safetensors")}
    assert {name for name, rounded in stored.items() if rounded} == {"0.weight", "1.weight_ih_l0", "1.weight_hh_l0"}


def test_draws_are_one_for_each_parameter_and_step():
    torch.manual_seed(0)
    model = quantize_(Tied(), QuantizeConfig("int4/tensor@stochastic"))
    index = torch.arange(20)

    def both():
        return model.embed(index), model.head(torch.eye(8)).T

    embedded, head = both()
    assert torch.equal(embedded, head)
    assert torch.equal(both()[0], embedded)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    state = copy.deepcopy(model.state_dict())
    drawn = []
    for _ in range(3):
        optimizer.zero_grad()
        model(index).sum().backward()
        optimizer.step()
        assert torch.equal(*both())
        drawn.append(both()[0].detach())
    assert not torch.equal(drawn[0], drawn[1])
    share = float((drawn[0] != drawn[1]).float().mean())
    assert 0.1 < share < 0.6
    resumed = quantize_(Tied(), QuantizeConfig("int4/tensor@stochastic"))
    resumed.load_state_dict(state)
    optimizer = torch.optim.SGD(resumed.parameters(), lr=1e-9)
    for step in range(3):
        optimizer.zero_grad()
        resumed(index).sum().backward()
        optimizer.step()
        assert torch.equal(resumed.embed(index), drawn[step])
    with torch.no_grad():  # a step by hand
        before = both()[0]
        model.embed.parametrizations.weight.original.add_(0.0)
        assert not torch.equal(both()[0], before)
        assert torch.equal(*both())
    copied = copy.deepcopy(model)
    assert torch.equal(copied.embed(index), model.embed(index))
    torch.optim.SGD(copied.parameters(), lr=0.1).step()
    assert torch.equal(*(copied.embed(index), copied.head(torch.eye(8)).T))


@pytest.mark.parametrize("scheme", ["int4@stochastic", "int4"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_compute_the_same_again(scheme, reentrant):
    """Gradients are those without checkpointing, and running ranges are updated once a step."""

    def gradients(checkpointed):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        quantize_(model, QuantizeConfig(scheme, inputs="int4", input_rule="ema", input_momentum=0.5))
        for step in range(3):
            x = (torch.randn(4, 8, generator=torch.Generator().manual_seed(step)) * (step + 1)).requires_grad_()
            y = checkpoint(model, x, use_reentrant=reentrant) if checkpointed else model(x)
            y.square().sum().backward()
        return [p.grad for p in model.parameters()] + [b for n, b in model.named_buffers() if "largest" in n]

    for ours, theirs in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(ours, theirs)


class Repeated(nn.Module):
    """A layer that is called three times in a pass, with larger inputs each time."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.layer, self.reentrant = nn.Linear(8, 8), reentrant

    def once(self, x):
        return self.layer(x).tanh() * 2

    def forward(self, x):
        for factor in (1, 2, 4):
            x = x * factor
            x = self.once(x) if self.reentrant is None else checkpoint(self.once, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch")  # of PyTorch's own compiler
@pytest.mark.parametrize(("rule", "compiled"), [("max", False), ("ema", False), ("ema", True)])
def test_ranges_of_layers_that_are_called_again(rule, compiled):
    """One range a step, which recomputation sees too: gradients are those without checkpointing."""

    def trained(reentrant):
        torch.manual_seed(0)
        torch._dynamo.reset()
        config = QuantizeConfig("int4@stochastic", inputs="int3", input_rule=rule, input_momentum=0.5)
        model = quantize_(Repeated(reentrant), config)
        optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.1), []
        function = torch.compile(model, backend="aot_eager") if compiled else model
        for step in range(3):
            x = (torch.randn(4, 8, generator=torch.Generator().manual_seed(step)) * (step + 1)).requires_grad_()
            optimizer.zero_grad()
            with torch.compiler.set_stance("fail_on_recompile" if step else "default"):
                function(x).square().sum().backward()
            quantizer = model.layer.input_quantizer
            seen += [x.grad, *(p.grad.clone() for p in model.parameters()), quantizer.largest.clone()]
            optimizer.step()
        return [*seen, model.eval().layer.input_quantizer.largest]

    plain = trained(None)
    for reentrant in (False,) if compiled else (False, True):
        for ours, theirs in zip(trained(reentrant), plain, strict=True):
            assert torch.equal(ours, theirs)


def test_a_range_stays_within_a_step():
    """Calls after the first of a step count from the next one on; steps of another model's optimizer are none."""
    layer, other = (quantize_(nn.Linear(1, 1), QuantizeConfig(inputs="int8", input_rule="max")) for _ in range(2))
    quantizer = layer.input_quantizer
    ours, theirs = (torch.optim.SGD(model.parameters(), lr=0.1) for model in (layer, other))

    def range_after(*largest):
        for number in largest:
            layer(torch.tensor([[float(number)]])).sum().backward()
        return float(quantizer.largest)

    assert range_after(1, 3) == 1
    ours.step()
    assert range_after(2) == 3
    assert range_after(5) == 3
    ours.step()
    assert range_after(2) == 5
    other(torch.ones(1, 1)).sum().backward()
    theirs.step()
    assert range_after(7) == 5
    copied = copy.deepcopy(layer)
    torch.optim.SGD(copied.parameters(), lr=0.1).step()
    assert range_after(7) == 5
    copied(torch.tensor([[8.0]]))
    assert float(copied.input_quantizer.largest) == 8
    state = layer.state_dict()
    assert float(layer.eval().input_quantizer.largest) == 7
    del state["input_quantizer.running"]  # as it was saved before there were two
    assert float(state["input_quantizer.largest"]) == 7
    resumed = quantize_(nn.Linear(1, 1), QuantizeConfig(inputs="int8", input_rule="max"))
    resumed.load_state_dict(state)
    assert float(resumed.input_quantizer.running) == 7
    with torch.no_grad():  # steps by hand
        resumed(torch.tensor([[9.0]]))
        resumed(torch.tensor([[11.0]]))
        assert float(resumed.input_quantizer.largest) == 9
        resumed.parametrizations.weight.original.add_(0.1)
        resumed(torch.tensor([[1.0]]))
        assert float(resumed.input_quantizer.largest) == 11


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch")  # of PyTorch's own compiler
@pytest.mark.parametrize("inputs", [None, "int4"])
def test_compiled_draws_are_those_of_eager(inputs):
    """Of a tied weight, while the other model trains too; gradients but for the order of sums."""
    for seed in range(1 if inputs else 2):
        torch.manual_seed(seed)
        torch._dynamo.reset()
        eager = quantize_(Tied(), QuantizeConfig("int4@stochastic", inputs=inputs))
        copied = copy.deepcopy(eager)
        models = [(model, torch.optim.SGD(model.parameters(), lr=2.0**-9)) for model in (eager, copied)]
        compiled = torch.compile(copied)
        for _ in range(3):
            index, results = torch.randint(0, 20, (5,)), []
            for model, optimizer in models:
                optimizer.zero_grad()
                y = (model if model is eager else compiled)(index)
                y.square().sum().backward()
                results.append((y, next(model.parameters()).grad, model.embed.weight))
                optimizer.step()
            (y, gradient, weight), (y_compiled, gradient_compiled, weight_compiled) = results
            torch.testing.assert_close(y, y_compiled)
            torch.testing.assert_close(gradient, gradient_compiled)
            torch.testing.assert_close(weight, weight_compiled)


@pytest.mark.parametrize("rule", ["max", "ema"])
def test_running_ranges_ignore_what_is_no_range(rule):
    """Infinities, NaN, zeros and empty batches: the range is that of what is finite, and no pass is left unrounded."""
    config = QuantizeConfig(inputs="int8", input_rule=rule, input_momentum=0.5)
    quantizer = InputQuantize(config)
    for odd in (torch.full((3,), math.nan), torch.zeros(0, 4), torch.zeros(2)):
        quantizer(odd)
        assert float(quantizer.largest) == 0
    quantizer(torch.tensor([4.0, math.inf]))
    assert float(quantizer.largest) == 4
    for odd in (torch.full((3,), math.nan), torch.zeros(0, 4), torch.zeros(2), torch.tensor([-math.inf, 0.0])):
        quantizer(odd)
        assert float(quantizer.largest) == 4
    quantizer(torch.tensor([8.0, math.nan, -math.inf]))
    assert float(quantizer.largest) == 4  # of the same step
    quantizer.eval()
    assert float(quantizer.largest) == (8 if rule == "max" else 6)
    result = quantizer.eval()(torch.tensor([0.01, math.inf, math.nan]))
    assert result[:2].tolist() == [0.0, pytest.approx(float(quantizer.largest))]
    assert result[2].isnan()


RANKS = """
import sys, torch, torch.distributed as dist
from torch import nn
from rf8sim.torch import QuantizeConfig, quantize_
rank, file = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=2)
torch.manual_seed(0)
config = QuantizeConfig("int4@stochastic", inputs="int8", input_rule="max", synchronize_inputs=sys.argv[3] == "yes")
model = nn.parallel.DistributedDataParallel(quantize_(nn.Sequential(nn.Linear(4, 4)), config))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(2):
    x = torch.ones(2, 4) * (1 + rank + step)
    model(x).sum().backward()
    optimizer.step()
layer = model.module[0]
print(float(layer.input_quantizer.largest), layer.weight.detach().tolist())
"""


@pytest.mark.parametrize("synchronized", ["yes", "no"])
def test_ranks_round_to_one_grid(tmp_path, synchronized):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    command = [sys.executable, "-W", "ignore", str(script)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), synchronized], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    ours, theirs = (process.communicate(timeout=240)[0].split(" ", 1) for process in processes)
    assert ours[1] == theirs[1]
    assert [ours[0], theirs[0]] == (["3.0", "3.0"] if synchronized == "yes" else ["2.0", "3.0"])
