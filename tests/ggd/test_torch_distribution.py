"""The distribution of PyTorch against ggd's own, and its gradients against differences."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

import ggd

torch = pytest.importorskip("torch")
from torch.distributions import Laplace, Normal, kl_divergence  # noqa: E402

from ggd.torch import GeneralizedGaussian  # noqa: E402

pytestmark = pytest.mark.torch

PARAMETERS = [(0.4, 0.3, 0.0), (0.8, 2.0, 0.5), (1.0, 1.0, -1.0), (2.0, 0.7, 0.0), (5.0, 1.3, 0.2)]


def double(*numbers):
    return [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in numbers]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_it_is_the_distribution_of_ggd(parameters):
    ours, theirs = GeneralizedGaussian(*double(*parameters)), ggd.GGD(*parameters)
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    np.testing.assert_allclose(ours.log_prob(x).detach(), theirs.logpdf(x.numpy()), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.cdf(x).detach(), theirs.cdf(x.numpy()), rtol=1e-9, atol=1e-12)
    entropy = stats.gennorm.entropy(parameters[0], scale=parameters[1])
    assert float(ours.entropy().detach()) == pytest.approx(float(entropy), rel=1e-10)
    variance = stats.gennorm.var(parameters[0], scale=parameters[1])
    assert float(ours.variance.detach()) == pytest.approx(float(variance), rel=1e-10)
    assert float(ours.mean.detach()) == parameters[2] == float(ours.mode.detach())


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_gradients_of_log_prob(parameters):
    x = torch.tensor([-1.7, 0.3, 2.1], dtype=torch.float64, requires_grad=True)
    inputs = (*double(*parameters), x)
    assert torch.autograd.gradcheck(lambda a, b, c, x: GeneralizedGaussian(a, b, c).log_prob(x), inputs)
    assert torch.autograd.gradcheck(lambda a, b, c: GeneralizedGaussian(a, b, c).entropy(), inputs[:3])
    shape, scale, loc = double(0.5, 1.0, 0.0)
    GeneralizedGaussian(shape, scale, loc).log_prob(torch.zeros(2, dtype=torch.float64)).sum().backward()
    assert all(bool(parameter.grad.isfinite()) for parameter in (shape, scale, loc))


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_samples_and_their_gradients(parameters):
    """The mean of |x - loc|^r of samples, and its gradients, against the moment's formula."""
    torch.manual_seed(0)
    shape, scale, loc = double(*parameters)
    samples = GeneralizedGaussian(shape, scale, loc).rsample((200_000,))
    test = stats.kstest(samples.detach().numpy()[:20_000], ggd.GGD(*parameters).cdf)
    assert test.pvalue > 1e-4
    (samples - loc).abs().mean().backward()

    def mean(p, s):
        return s * math.exp(math.lgamma(2 / p) - math.lgamma(1 / p))

    p, s, _ = parameters
    assert float(scale.grad) == pytest.approx(mean(p, 1.0), rel=0.03)
    assert float(shape.grad) == pytest.approx((mean(p + 1e-4, s) - mean(p - 1e-4, s)) / 2e-4, rel=0.06)


def test_divergences():
    for a in PARAMETERS:
        for b in PARAMETERS[1:]:
            p, q = GeneralizedGaussian(*double(*a[:2])), GeneralizedGaussian(*double(*b[:2]))
            first, second = ggd.GGD(*a[:2]), ggd.GGD(*b[:2])
            numeric, _ = integrate.quad(
                lambda x, p=first, q=second: 2 * p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), 0, np.inf, limit=400
            )
            assert float(kl_divergence(p, q).detach()) == pytest.approx(numeric, rel=1e-5, abs=1e-8)
    with pytest.raises(NotImplementedError, match="different means"):
        kl_divergence(GeneralizedGaussian(1.0, 1.0), GeneralizedGaussian(1.0, 1.0, 0.5))


def test_it_is_a_distribution_of_pytorch():
    batch = GeneralizedGaussian(torch.tensor([1.0, 2.0]), torch.tensor([[1.0], [2.0], [0.5]]))
    assert batch.batch_shape == (3, 2)
    assert batch.sample((5,)).shape == (5, 3, 2)
    assert batch.expand((4, 3, 2)).rsample().shape == (4, 3, 2)
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(GeneralizedGaussian(1.0, 0.7).log_prob(x), Laplace(0.0, 0.7).log_prob(x))
    torch.testing.assert_close(GeneralizedGaussian(2.0, 2**0.5).log_prob(x), Normal(0.0, 1.0).log_prob(x))
    with pytest.raises(ValueError, match="shape"):
        GeneralizedGaussian(-1.0, 1.0)
