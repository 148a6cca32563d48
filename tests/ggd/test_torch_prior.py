"""The PyTorch adapter of ggd: initialization, rate-constrained training, reshaping of models."""

import copy
import math

import numpy as np
import pytest
from scipy import special, stats

import ggd
from ggd import prior

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from ggd.torch import RateConstraint, deepshape_, gg_init_, gg_normal_, gg_penalty  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The models are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int) -> "torch.Generator":
    return torch.Generator().manual_seed(seed)


def make_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.LayerNorm(20), nn.Linear(20, 3))


def batches(count: int, seed: int = 0) -> list:
    generator = seeded(seed)
    target = torch.randn(12, 3, generator=generator)
    found = []
    for _ in range(count):
        x = torch.randn(16, 12, generator=generator)
        found.append((x, torch.tanh(x @ target)))
    return found


def train(model, data, optimizer, after=lambda: None) -> None:
    for x, y in data:
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
        after()


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# --- initialization ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 150 * 3), ("fan_out", 200 * 3), ("source", 200)])
def test_samples_are_of_the_distribution_and_the_fan(shape, mode, fan):
    tensor = torch.empty(200, 150, 3)
    assert gg_normal_(tensor, shape, gain=1.5, mode=mode, generator=seeded(0)) is tensor
    expected = ggd.GGD.from_std(shape, 1.5 / math.sqrt(fan))
    assert stats.kstest(tensor.flatten().double().numpy(), expected.cdf).pvalue > 1e-3
    wrong = ggd.GGD.from_std(shape * 1.1, 1.5 / math.sqrt(fan))
    assert stats.kstest(tensor.flatten().double().numpy(), wrong.cdf).pvalue < 1e-3  # the test can tell


def test_fans_are_those_of_torch():
    """At shape 2 the deviation is that of kaiming_normal_ with the same gain."""
    for size in ((400, 300), (64, 32, 3, 3)):
        for mode in ("fan_in", "fan_out"):
            ours = gg_normal_(torch.empty(size), 2.0, math.sqrt(2), mode, seeded(1)).std()
            theirs = nn.init.kaiming_normal_(torch.empty(size), mode=mode, nonlinearity="relu", generator=seeded(2))
            assert float(ours / theirs.std()) == pytest.approx(1, abs=0.03)


def test_generators_and_devices():
    one, two = (gg_normal_(torch.empty(5, 4), 0.8, generator=seeded(s)) for s in (0, 0))
    assert torch.equal(one, two)
    assert not torch.equal(one, gg_normal_(torch.empty(5, 4), 0.8, generator=seeded(1)))
    torch.manual_seed(3)
    a = gg_normal_(torch.empty(5, 4))
    torch.manual_seed(3)
    assert torch.equal(a, gg_normal_(torch.empty(5, 4)))
    assert gg_normal_(torch.empty(5, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert gg_normal_(torch.empty(5, 4, device="meta")).is_meta
    leaf = nn.Parameter(torch.empty(5, 4))
    gg_normal_(leaf)
    assert leaf.requires_grad
    assert leaf.grad_fn is None


def test_layers_by_their_true_fans():
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(500, 300),
            "conv": nn.Conv2d(64, 128, 3, groups=4),
            "embed": nn.Embedding(1000, 64, padding_idx=0),
            "norm": nn.LayerNorm(16),
            "transposed": nn.ConvTranspose2d(8, 8, 3),
        }
    )
    before = copy.deepcopy(model.state_dict())
    gg_init_(model, shape=0.8, generator=seeded(0))
    after = model.state_dict()
    for name, std in (("linear", 500**-0.5), ("conv", (16 * 9) ** -0.5), ("embed", 1.0)):
        assert float(after[f"{name}.weight"].std()) == pytest.approx(std, rel=0.03), name
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"linear.weight", "conv.weight", "embed.weight"}
    assert not after["embed.weight"][0].any()
    gg_init_(model, mode="fan_out", generator=seeded(0))
    assert float(after["embed.weight"].std()) == pytest.approx(64**-0.5, rel=0.03)
    gg_init_(model, mode="source", filter_fn=lambda module, name: name != "linear")
    assert (after["conv.weight"] == 1).all()
    assert float(after["embed.weight"].std()) == pytest.approx(1000**-0.5, rel=0.03)
    assert float(after["linear.weight"].std()) == pytest.approx(300**-0.5, rel=0.05)


def test_current_deviation_is_kept():
    model = make_model()
    nn.init.normal_(model[0].weight, std=0.37)
    rms = [float(model[i].weight.detach().square().mean().sqrt()) for i in (0, 3)]
    gg_init_(model, shape=0.5, mode="current", generator=seeded(5))
    for i, old in zip((0, 3), rms, strict=True):
        assert float(model[i].weight.detach().square().mean().sqrt()) == pytest.approx(old, rel=0.35)
    wide = gg_normal_(torch.full((600, 600), 0.02), 0.5, mode="current")
    assert float(wide.std()) == pytest.approx(0.02, rel=0.02)


def test_shared_weights_are_filled_once_as_those_of_the_linear_layer():
    model = nn.ModuleDict({"embed": nn.Embedding(300, 200), "head": nn.Linear(200, 300, bias=False)})
    model["head"].weight = model["embed"].weight
    gg_init_(model, generator=seeded(0))
    assert float(model["embed"].weight.detach().std()) == pytest.approx(200**-0.5, rel=0.03)


# --- the penalty ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.5, 0.8, 1.0, 1.5, 2.0])
def test_gradcheck_of_the_penalty(shape):
    w = (torch.randn(6, 4, dtype=torch.float64, generator=seeded(0)).abs() + 0.1) * 0.3
    w[::2] *= -1
    w.requires_grad_()
    assert torch.autograd.gradcheck(lambda w: gg_penalty(w, shape, eps=1e-3), (w,))
    gg_penalty(w, shape, eps=1e-3).backward()
    expected = prior.penalty_gradient(w.detach().numpy(), shape, eps=1e-3)
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [0.4, 0.7, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_numpys(shape, dtype):
    w = torch.randn(500, dtype=dtype, generator=seeded(0)) * 0.1
    ours = prior.shrink(w, 0.01, shape, xp=torch)
    theirs = prior.shrink(w.numpy(), 0.01, shape)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12 if dtype is torch.float64 else 2e-6, atol=0)


# --- rate-constrained training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["proximal", "explicit"])
@pytest.mark.parametrize("normalize", [False, True])
def test_one_step_by_hand(update, normalize):
    """After the optimizer's own step, shapes and scales by ggd's half-moment fit, the step by its formula."""
    model = make_model()
    gg_init_(model, shape=0.9, generator=seeded(1))
    plain = copy.deepcopy(model)
    data = batches(1)
    train(plain, data, torch.optim.SGD(plain.parameters(), lr=0.1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constraint = RateConstraint(model, 0.02, update=update, normalize=normalize, shape_range=(0.1, 9.0), eps=1e-6)
    constraint.attach(optimizer)
    train(model, data, optimizer)
    assert list(constraint.shapes) == ["0.weight", "3.weight"]
    for name, param in model.named_parameters():
        before = plain.get_parameter(name).detach().numpy()
        if name not in constraint.shapes:
            assert np.array_equal(param.detach().numpy(), before)
            continue
        found = ggd.fit(before, "half-moments")
        assert constraint.shapes[name] == pytest.approx(found.shape, rel=1e-4)
        assert constraint.scales[name] == pytest.approx(found.scale, rel=1e-3)
        step = 0.1 * 0.02
        if normalize:
            step /= found.scale**found.shape
        if update == "explicit":
            expected = before - step * prior.penalty_gradient(before, found.shape, eps=1e-6)
        else:
            expected = prior.shrink(before, step, found.shape)
        np.testing.assert_allclose(param.detach().numpy(), expected, rtol=2e-3, atol=1e-7)
        assert not np.allclose(param.detach().numpy(), before, rtol=1e-3)


def test_what_is_constrained():
    model = nn.ModuleDict({"norm": nn.LayerNorm((4, 5)), "conv": nn.Conv1d(2, 3, 4), "embed": nn.Embedding(6, 7)})
    assert list(RateConstraint(model, 1.0).params) == ["conv.weight", "embed.weight"]
    chosen = RateConstraint(model, 1.0, filter_fn=lambda module, name: name == "norm.weight")
    assert list(chosen.params) == ["norm.weight"]
    model["conv"].requires_grad_(False)
    assert list(RateConstraint(model, 1.0).params) == ["embed.weight"]
    named = RateConstraint(model.named_parameters(), 1.0)
    assert list(named.params) == [name for name, _ in model.named_parameters()]


def test_pools():
    model = make_model()
    gg_init_(model, shape=0.5, filter_fn=lambda module, name: name == "0", generator=seeded(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    shapes = {}
    for per in ("tensor", "matrices", "model"):
        constraint = RateConstraint(model, 1e-9, per=per, shape_range=(0.1, 9.0))
        constraint.step(optimizer)
        shapes[per] = constraint.shapes
    assert shapes["tensor"]["0.weight"] < 0.8 < 1.5 < shapes["tensor"]["3.weight"]
    assert shapes["matrices"] == shapes["model"]
    assert len(set(shapes["model"].values())) == 1
    joined = np.concatenate([model[i].weight.detach().numpy().ravel() for i in (0, 3)])
    assert shapes["model"]["0.weight"] == pytest.approx(ggd.fit(joined, "half-moments").shape, rel=1e-3)


@pytest.mark.parametrize("update", ["proximal", "explicit"])
def test_lam_zero_changes_nothing(update):
    plain, constrained = make_model(), make_model()
    data = batches(20)
    train(plain, data, torch.optim.AdamW(plain.parameters(), lr=1e-2))
    optimizer = torch.optim.AdamW(constrained.parameters(), lr=1e-2)
    RateConstraint(constrained, 0.0, update=update).attach(optimizer)
    train(constrained, data, optimizer)
    assert same(plain, constrained)


def test_lam_is_for_each_weight():
    """The same weights ten times over shrink by the same."""
    small = torch.randn(8, 8, generator=seeded(0)) * 0.1
    large = nn.Parameter(small.repeat(10, 1))
    small = nn.Parameter(small)
    for tensor in (small, large):
        RateConstraint([tensor], 0.1).step(torch.optim.SGD([tensor], lr=0.1))
    assert torch.equal(small, large[:8])


def test_zeros_stay_under_the_proximal_update_alone():
    for update, some in (("proximal", True), ("explicit", False)):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        RateConstraint(model, 0.3, update=update, shape=1.0).attach(optimizer)
        train(model, batches(150), optimizer)
        share = float((model[0].weight == 0).float().mean())
        assert (share > 0.2) is some


def test_learning_rate_scales_the_step():
    for scaled in (True, False):
        weight = nn.Parameter(torch.full((2, 2), 0.5))
        groups = [{"params": [weight], "lr": 0.25}]
        RateConstraint([weight], 0.1, shape=1.0, scale_by_lr=scaled).step(torch.optim.SGD(groups, lr=1.0))
        assert float(weight.detach()[0, 0]) == pytest.approx(0.475 if scaled else 0.4)


def test_schedule():
    weight = nn.Parameter(torch.full((2, 2), 10.0))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    constraint = RateConstraint([weight], 1.0, shape=1.0, warmup=4, until=6)
    seen = []
    for _ in range(8):
        before = float(weight.detach()[0, 0])
        constraint.step(optimizer)
        seen.append(round(before - float(weight.detach()[0, 0]), 6))
    assert seen == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.0, 0.0]


def test_shapes_are_estimated_every_so_often():
    weight = nn.Parameter(gg_normal_(torch.empty(100, 100), 0.6, generator=seeded(0)))
    optimizer = torch.optim.SGD([weight], lr=1e-9)
    constraint = RateConstraint([weight], 1.0, every=3)
    seen = []
    for step in range(7):
        constraint.step(optimizer)
        seen.append(constraint.shapes["0"])
        if step == 3:
            gg_normal_(weight, 1.5, generator=seeded(1))
    assert seen[0] == seen[1] == seen[2]
    assert seen[3] == seen[4] == seen[5] == pytest.approx(seen[0], rel=1e-4)
    assert seen[0] == pytest.approx(0.6, abs=0.05)
    assert seen[6] == pytest.approx(1.5, abs=0.1)


def test_resumed_training_is_the_uninterrupted_one():
    data = batches(24)

    def start():
        model = make_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        constraint = RateConstraint(model, 0.1, every=5, warmup=10, shape_range=(0.1, 9.0))
        constraint.attach(optimizer)
        return model, optimizer, constraint

    whole, optimizer, _ = start()
    train(whole, data, optimizer)
    first, optimizer, constraint = start()
    train(first, data[:13], optimizer)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict(), constraint.state_dict()))
    resumed, optimizer, constraint = start()
    for part, state in zip((resumed, optimizer, constraint), saved, strict=True):
        part.load_state_dict(state)
    train(resumed, data[13:], optimizer)
    assert same(whole, resumed)

    for lost in ("steps", "shapes"):  # all of the state matters
        forgetful, optimizer, constraint = start()
        for part, state in zip((forgetful, optimizer, constraint), saved, strict=True):
            part.load_state_dict(state | {lost: {"steps": 0, "shapes": {}}[lost]} if part is constraint else state)
        train(forgetful, data[13:], optimizer)
        assert not same(whole, forgetful), lost


def test_hook_is_removed():
    plain, constrained = make_model(), make_model()
    data = batches(5)
    train(plain, data, torch.optim.SGD(plain.parameters(), lr=0.1))
    optimizer = torch.optim.SGD(constrained.parameters(), lr=0.1)
    RateConstraint(constrained, 1.0).attach(optimizer).remove()
    train(constrained, data, optimizer)
    assert same(plain, constrained)


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for halves in (False, True):
        model = make_model()
        parallel = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.AdamW(parallel.parameters(), lr=1e-2)
        constraint = RateConstraint(parallel, 0.5, every=5)
        constraint.attach(optimizer)
        data = [(x[rank::2], y[rank::2]) if halves else (x, y) for x, y in batches(12)]
        train(parallel, data, optimizer)
        torch.save({"model": model.state_dict(), "shapes": constraint.shapes}, f"{folder}/{rank}_{halves}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory):
    """A folder with what each of two processes ends with, given the same batches and given half of each."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(_worker, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.filterwarnings("ignore")  # of process groups on one machine
def test_two_processes_are_one(trained_by_two, halves):
    """Both ranks end with the same bits. With the same batch on both, the mean gradient is exact: those of one process.

    With half a batch each, gradients are summed in another order: equal within rounding.
    """
    one, two = (torch.load(trained_by_two / f"{rank}_{halves}.pt") for rank in (0, 1))
    assert one["shapes"] == two["shapes"]
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])
    single = make_model()
    optimizer = torch.optim.AdamW(single.parameters(), lr=1e-2)
    RateConstraint(single, 0.5, every=5).attach(optimizer)
    train(single, batches(12), optimizer)
    for name, value in single.state_dict().items():
        if halves:
            torch.testing.assert_close(one["model"][name], value, rtol=1e-3, atol=1e-4)
        else:
            assert torch.equal(one["model"][name], value), name


def test_half_precision_rounds_once():
    weight = nn.Parameter(torch.full((4, 4), 1.0, dtype=torch.bfloat16))
    RateConstraint([weight], 1.0, shape=1.0).step(torch.optim.SGD([weight], lr=0.25))
    assert weight.dtype == torch.bfloat16
    assert (weight == 0.75).all()


def test_weights_that_determine_no_shape():
    for values in (torch.zeros(3, 3), torch.full((3, 3), float("nan")), torch.ones(3, 3)):
        weight = nn.Parameter(values)
        constraint = RateConstraint([weight], 1.0, normalize=True)
        constraint.step(torch.optim.SGD([weight], lr=0.1))
        assert 0.3 <= constraint.shapes["0"] <= 2.0
        assert torch.isnan(weight).any() == torch.isnan(values).any()


def test_fewer_bits_at_hardly_any_loss():
    """What it is for: on a task with weights to spare, the code of the constrained model is much shorter."""
    from collections import Counter

    results = {}
    for lam in (0.0, 0.1):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        RateConstraint(model, lam).attach(optimizer)
        data = batches(400)
        train(model, data, optimizer)
        with torch.no_grad():
            loss = float(torch.stack([(model(x) - y).square().mean() for x, y in batches(20)]).mean())
        counts = np.array(list(Counter((model[0].weight.detach() / 0.02).round().int().flatten().tolist()).values()))
        share = counts / counts.sum()
        results[lam] = loss, float(-(share * np.log2(share)).sum())
    assert results[0.1][1] < 0.5 * results[0.0][1]
    assert results[0.1][0] < results[0.0][0] + 0.02


# --- reshaping --------------------------------------------------------------------------------------------------------


def test_deepshape_is_numpys():
    model = make_model()
    gg_init_(model, shape=1.5, generator=seeded(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert deepshape_(model) is model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for method in ("ranks", "curve", "source"):
        model.load_state_dict(before)
        deepshape_(model, shape_factor=0.7, std_factor=0.9, method=method)
        for name, value in model.state_dict().items():
            if name in ("0.weight", "3.weight"):
                wide = before[name].double().numpy()
                expected = ggd.deepshape(wide, shape_factor=0.7, std_factor=0.9, method=method).astype(np.float32)
                assert np.array_equal(value.numpy(), expected)
            else:
                assert torch.equal(value, before[name])


def test_deepshape_of_all_tensors_as_one():
    model = make_model()
    before = torch.cat([model[i].weight.detach().flatten() for i in (0, 3)]).double().numpy()
    deepshape_(model, shape_factor=0.7, per="model")
    after = torch.cat([model[i].weight.detach().flatten() for i in (0, 3)]).numpy()
    assert np.array_equal(after, ggd.deepshape(before, shape_factor=0.7).astype(np.float32))


# --- what users are told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "lam is finite"),
        ({"lam": 1.0, "update": "prox"}, "unknown update 'prox': choose proximal, explicit, source"),
        ({"lam": 1.0, "per": "layer"}, "unknown pool"),
        ({"lam": 1.0, "shape": 0.0}, "fixed shape is positive"),
        ({"lam": 1.0, "shape_range": (2.0, 1.0)}, "shape_range"),
        ({"lam": 1.0, "every": 0}, "every is at least 1"),
        ({"lam": 1.0, "eps": -1.0}, "eps is finite"),
    ],
)
def test_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RateConstraint(make_model(), **options)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="no parameter to constrain"):
        RateConstraint(nn.LayerNorm(3), 1.0)
    model = make_model()
    with pytest.raises(ValueError, match=r"does not hold '0\.weight'"):
        RateConstraint(model, 1.0).attach(torch.optim.SGD(model[3].parameters(), lr=1.0))
    constraint = RateConstraint(model, 1.0)
    with pytest.raises(ValueError, match="not the state of a RateConstraint"):
        constraint.load_state_dict({"lam": 1})
    with pytest.raises(ValueError, match=r"'3\.weight' is not in both"):
        constraint.load_state_dict({"steps": 1, "shapes": {"0.weight": 1.0}, "scales": {"0.weight": 1.0}})
    with pytest.raises(ValueError, match="no fans"):
        gg_normal_(torch.empty(3))
    with pytest.raises(ValueError, match="unknown mode 'fan'"):
        gg_init_(model, mode="fan")
    with pytest.raises(ValueError, match="no tensor of floating-point"):
        RateConstraint([torch.ones(2, dtype=torch.int64)], 1.0)


def test_the_step_as_published():
    """w - lambda shape / n sign(w) (|w| + 1)^(shape - 1), the shape off a grid by n sum w^2 / (sum |w|)^2 of all."""
    values = [[0.5, -0.2], [0.0, 1.0]], [[-0.05, 0.3]]
    params = [nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in values]
    weights = np.array([0.5, -0.2, 0.0, 1.0, -0.05, 0.3])
    ratio = 6 * np.sum(weights**2) / np.sum(np.abs(weights)) ** 2
    assert ratio == pytest.approx(6 * 1.3825 / 2.05**2)
    grid = np.arange(10, 301) / 100
    ratios = special.gamma(1 / grid) * special.gamma(3 / grid) / special.gamma(2 / grid) ** 2
    shape = grid[np.argmin(np.abs(ratios - ratio))]
    assert 0.95 < shape < 1.1
    rate = 0.4
    expected = weights - rate * shape / 6 * np.sign(weights) * (np.abs(weights) + 1) ** (shape - 1)
    optimizer = torch.optim.SGD(params, lr=1e-3)
    constraint = RateConstraint(params, rate / 6, update="source")
    constraint.attach(optimizer)
    for param in params:
        param.grad = torch.zeros_like(param)
    optimizer.step()
    assert set(constraint.shapes.values()) == {shape}
    ours = torch.cat([param.detach().ravel() for param in params]).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-14)


@pytest.mark.parametrize("options", [{"update": u, "shape": s} for u in ("proximal", "explicit", "source")
                                     for s in (None, 0.5, 1.0, 2.0)])  # fmt: skip
def test_a_diverged_weight_stays_diverged(options):
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data.copy_(torch.tensor([[math.nan, 0.5, -0.25]]))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    RateConstraint(layer, 0.5, **options).attach(optimizer)
    layer.weight.grad = torch.zeros(1, 3)
    optimizer.step()
    assert layer.weight.isnan().tolist()[0][0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_steps_on_narrow_weights_are_taken_on_average(dtype):
    """A step of 1e-5 on 0.1, less than half an ulp, moves weights by it on average, and alike on every replica."""
    layers = [nn.Linear(200, 100, bias=False, dtype=dtype) for _ in range(2)]
    for layer in layers:
        layer.weight.data.fill_(0.1)
        layer.weight.data[0] = 0.0
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        RateConstraint(layer, 1e-5, shape=1.0).attach(optimizer)
        before = float(layer.weight[1:].detach().double().mean())
        for _ in range(100):
            optimizer.step()
    moved = before - float(layers[0].weight[1:].detach().double().mean())
    assert moved == pytest.approx(1e-3, rel=0.05)
    assert torch.equal(*(layer.weight for layer in layers))
    assert bool((layers[0].weight[0] == 0).all())


def test_rounding_at_random_takes_neighbours_of_every_number():
    from ggd.torch_steps import drawn as draw

    for dtype in (torch.bfloat16, torch.float16):
        numbers = torch.cat([torch.randn(4000), torch.randn(4000) * 1e-7, torch.tensor([0.0, -0.0, 65000.0])])
        spacing = 2 * torch.finfo(dtype).eps * numbers.abs() + 2.0**-24
        drawn = torch.stack([draw(numbers, numbers.to(dtype), seed).float() for seed in range(200)])
        assert bool(((drawn - numbers).abs() <= spacing).all())
        exact = numbers.to(dtype).float() == numbers
        assert bool((drawn[:, exact] == numbers[exact]).all())
        assert all(len(column.unique()) <= 2 for column in drawn.T[:500])
        error = (drawn.double().mean(0) - numbers) / (spacing / 200**0.5)
        assert float(error.abs().max()) < 4
        assert abs(float(error.mean())) < 0.05


def test_names_are_those_of_the_plain_model():
    """A constraint made before a model is parametrized passes its state to one made after, and filters see layers."""
    from torch.nn.utils import parametrize

    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    constraint = RateConstraint(model, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constraint.step(optimizer)
    parametrize.register_parametrization(model[0], "weight", nn.Identity())
    owners = []

    def chosen(module, name):
        owners.append((type(module).__name__, name))
        return name.endswith("0.weight")

    after = RateConstraint(model, 1.0, filter_fn=chosen)
    after.load_state_dict(constraint.state_dict())
    assert list(after.shapes) == ["0.weight"]
    assert ("ParametrizedLinear", "0.weight") in owners
    assert list(RateConstraint(model, 1.0).params) == ["0.weight"]


def test_an_optimizer_in_a_wrapper():
    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer = optimizer

        @property
        def param_groups(self):
            return self.optimizer.param_groups

        @param_groups.setter
        def param_groups(self, groups):
            self.optimizer.param_groups = groups

        def step(self, closure=None):
            self.optimizer.step(closure)

    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data.fill_(0.5)
    layer.weight.grad = torch.zeros(1, 2)
    optimizer = Wrapper(torch.optim.SGD(layer.parameters(), lr=0.1))
    RateConstraint(layer, 1.0, shape=1.0).attach(optimizer)
    optimizer.step()
    assert layer.weight.tolist() == [[pytest.approx(0.4)] * 2]


def test_accelerates_optimizer():
    accelerate = pytest.importorskip("accelerate")
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data.fill_(0.5)
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(layer, torch.optim.SGD(layer.parameters(), lr=0.1))
    RateConstraint(model, 1.0, shape=1.0).attach(optimizer)
    accelerator.backward(model(torch.zeros(1, 2)).sum())
    optimizer.step()
    assert layer.weight.tolist() == [[pytest.approx(0.4)] * 2]


def test_transformers_linear_layer_is_initialized_by_its_fans():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    layer = conv1d(50, 2000)  # 2,000 inputs
    gg_init_(layer, shape=1.0, generator=torch.Generator().manual_seed(0))
    assert float(layer.weight.detach().std()) == pytest.approx(2000**-0.5, rel=0.02)
    gg_init_(layer, shape=1.0, mode="fan_out", generator=torch.Generator().manual_seed(0))
    assert float(layer.weight.detach().std()) == pytest.approx(50**-0.5, rel=0.02)
    with pytest.raises(ValueError, match="LayerNorm has no Linear, Conv, Embedding or EmbeddingBag layer"):
        gg_init_(nn.LayerNorm(3))


def test_the_memory_of_a_tensor_outlives_its_name():
    """An array over the memory of a tensor that nothing else holds, and of one with strides."""
    import gc
    import weakref

    from ggd.arrays import memory_of

    tensor = torch.arange(12.0).reshape(3, 4)
    reference = weakref.ref(tensor)
    array = memory_of(tensor, np.float32)[1:]
    del tensor
    gc.collect()
    assert reference() is not None
    assert array.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    del array
    gc.collect()
    assert reference() is None
    grid = torch.arange(24.0).reshape(2, 3, 4)
    for view in (grid[:, 1:, ::2], grid.permute(2, 0, 1), grid[0].T, grid[:0], grid[1, 2, 3]):
        assert np.array_equal(memory_of(view, np.float32), view.numpy())
