"""The prior on activations and gradients: against the loss with its term written out; sums that must not be lost."""

import copy

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from ggd.torch import ActivationConstraint, GradientConstraint  # noqa: E402

pytestmark = pytest.mark.torch


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))


def gradients(model: nn.Module) -> list:
    return [parameter.grad.clone() for parameter in model.parameters()]


def batch(seed: int = 0):
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [0.6, 1.0, 1.7])
def test_gradients_are_those_of_the_loss_with_the_penalty(shape):
    model, x = make_model(), batch()
    by_hand = copy.deepcopy(model)
    constraint = ActivationConstraint(model, 0.3, shape=shape, eps=1e-3)
    model(x).square().mean().backward()
    first = by_hand[0](x)
    second = by_hand[2](torch.tanh(first))
    penalty = sum(((a.abs() + 1e-3) ** shape).mean() for a in (first, second))
    (second.square().mean() + 0.3 * penalty).backward()
    for ours, theirs in zip(gradients(model), gradients(by_hand), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    constraint.remove()
    model.zero_grad()
    by_hand.zero_grad()
    model(x).square().mean().backward()
    by_hand(x).square().mean().backward()
    assert all(torch.equal(a, b) for a, b in zip(gradients(model), gradients(by_hand), strict=True))


def test_shapes_are_those_of_the_outputs():
    model = nn.Sequential(nn.Linear(4, 4000, bias=False))
    nn.init.ones_(model[0].weight)
    model[0].weight.data[:] = torch.distributions.Laplace(0.0, 1.0).sample((4000, 1)) * torch.tensor([1.0, 0, 0, 0])
    constraint = ActivationConstraint(model, 1e-3)
    model(torch.ones(1, 4)).sum().backward()
    assert constraint.shapes["0"] == pytest.approx(1.0, abs=0.1)


def test_the_weight_rises_and_recomputation_is_no_pass():
    x = batch()
    results = []
    for recomputed in (False, True):
        model = make_model()
        constraint = ActivationConstraint(model, 0.5, shape=1.0, warmup=4, every=1)
        collected = []
        for _ in range(5):
            model.zero_grad()
            y = checkpoint(model, x, use_reentrant=False) if recomputed else model(x)
            y.square().mean().backward()
            collected.append(model[0].weight.grad.clone())
        results.append(collected)
        assert constraint.state_dict()["passes"] == {"0": 5, "2": 5}
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    free = make_model()
    free(x).square().mean().backward()
    added = [(gradient - free[0].weight.grad).norm() for gradient in results[0]]
    assert [float(a / added[3]) for a in added] == pytest.approx([0.25, 0.5, 0.75, 1, 1], rel=1e-3)


def test_evaluation_and_passes_without_gradients_are_left_alone():
    model, x = make_model(), batch()
    constraint = ActivationConstraint(model, 0.5)
    with torch.no_grad():
        model(x)
    model.eval()
    model(x).sum().backward()
    assert constraint.shapes == {}
    other = make_model().eval()
    other(x).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(gradients(model), gradients(other), strict=True))


def test_what_is_taken_from_gradients_comes_later():
    weight = nn.Parameter(torch.zeros(2000))
    constraint = GradientConstraint([("w", weight)], lam=1.0, shape=1.0)
    total, sent = torch.zeros(2000), torch.zeros(2000)
    for seed in range(5):
        gradient = torch.randn(2000, generator=torch.Generator().manual_seed(seed))
        weight.grad = gradient.clone()
        constraint.step()
        total, sent = total + gradient, sent + weight.grad
        assert constraint.zero_share > 0.3
    assert torch.allclose(sent + constraint.residuals["w"], total, atol=1e-5)
    again = GradientConstraint([("w", weight)], lam=1.0, shape=1.0)
    again.load_state_dict(constraint.state_dict())
    for each in (constraint, again):
        weight.grad = torch.ones(2000)
        each.step()
    assert torch.equal(constraint.residuals["w"], again.residuals["w"])


def test_the_unit_of_the_loss_does_not_matter():
    gradient = torch.randn(3000, generator=torch.Generator().manual_seed(0)) ** 3
    results = []
    for factor in (1.0, 2.0**-10):
        weight = nn.Parameter(torch.zeros(3000))
        weight.grad = gradient * factor
        GradientConstraint([weight], lam=0.5).step()
        results.append(weight.grad / factor)
    assert torch.allclose(*results, rtol=1e-5, atol=1e-7)


def test_feedback_finds_the_minimum_that_shrinking_alone_misses():
    torch.manual_seed(0)
    x = torch.randn(64, 10)
    target = torch.randn(10)
    ends = {}
    for feedback in (True, False):
        weight = nn.Parameter(torch.zeros(10, 1))
        optimizer = torch.optim.SGD([weight], lr=0.05)
        GradientConstraint([weight], lam=1.5, shape=1.0, feedback=feedback).attach(optimizer)
        for _ in range(400):
            optimizer.zero_grad()
            (x @ weight - (x @ target)[:, None]).square().mean().backward()
            optimizer.step()
        ends[feedback] = float((weight[:, 0].detach() - target).abs().max())
    assert ends[True] < 0.02
    assert ends[False] > 5 * ends[True]


def test_what_is_not_finite_stays_out_of_the_residual():
    weight = nn.Parameter(torch.zeros(4))
    constraint = GradientConstraint([weight], lam=0.5)
    weight.grad = torch.tensor([1.0, float("nan"), float("inf"), -2.0])
    constraint.step()
    assert weight.grad[1].isnan()
    assert weight.grad[2].isinf()
    assert bool(constraint.residuals["0"].isfinite().all())


def test_refusals():
    with pytest.raises(ValueError, match="lam is finite and not negative"):
        ActivationConstraint(make_model(), -1.0)
    with pytest.raises(ValueError, match="no layer whose outputs"):
        ActivationConstraint(nn.Tanh(), 1.0)
    with pytest.raises(ValueError, match="every is at least 1"):
        ActivationConstraint(make_model(), 1.0, every=0)
    with pytest.raises(ValueError, match="a fixed shape is positive"):
        GradientConstraint(make_model(), 1.0, shape=0.0)
    with pytest.raises(ValueError, match="of other parameters"):
        GradientConstraint(make_model(), 1.0).load_state_dict({"x": torch.zeros(1)})
