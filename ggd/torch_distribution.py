"""The generalized Gaussian as a `torch.distributions.Distribution`, with gradients in its parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.distributions.utils import broadcast_all

__all__ = ["GeneralizedGaussian"]


class GeneralizedGaussian(Distribution):
    """The distribution of density ``shape / (2 scale Gamma(1/shape)) exp(-|(x - loc) / scale|^shape)``.

    Parameters
    ----------
    shape : float or Tensor
        Positive: 1 is Laplace, 2 Gaussian of standard deviation ``scale / sqrt(2)``.
    scale : float or Tensor
        Positive.
    loc : float or Tensor
        The mean.
    validate_args : bool, optional
        As for every distribution of PyTorch.

    Notes
    -----
    `rsample` is differentiable in all three: a power of a gamma variate, whose gradient is PyTorch's implicit one.

    Examples
    --------
    >>> prior = GeneralizedGaussian(torch.tensor(0.8, requires_grad=True), 1.0)
    >>> round(prior.log_prob(torch.tensor(0.5)).item(), 4)
    -1.3924
    >>> prior.rsample((3,)).shape
    torch.Size([3])
    """

    arg_constraints = {  # noqa: RUF012
        "shape": constraints.positive, "scale": constraints.positive, "loc": constraints.real
    }  # fmt: skip
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        shape: float | Tensor,
        scale: float | Tensor,
        loc: float | Tensor = 0.0,
        validate_args: bool | None = None,
    ) -> None:
        self.shape, self.scale, self.loc = broadcast_all(shape, scale, loc)
        super().__init__(self.shape.shape, validate_args=validate_args)  # type: ignore[no-untyped-call, unused-ignore]

    def expand(self, batch_shape: Any, _instance: Any = None) -> GeneralizedGaussian:
        """Return the distribution with its parameters expanded to a batch shape."""
        new = self._get_checked_instance(GeneralizedGaussian, _instance)  # type: ignore[no-untyped-call, unused-ignore]
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name).expand(batch_shape))
        Distribution.__init__(new, torch.Size(batch_shape), validate_args=False)  # type: ignore[no-untyped-call, unused-ignore]
        new._validate_args = self._validate_args
        result: GeneralizedGaussian = new
        return result

    @property
    def mean(self) -> Tensor:
        """The mean, which is the median and the mode too."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The mode."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """``scale^2 Gamma(3/shape) / Gamma(1/shape)``."""
        return self.scale.square() * (torch.lgamma(3 / self.shape) - torch.lgamma(1 / self.shape)).exp()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return samples with gradients in the parameters."""
        size = self._extended_shape(torch.Size(sample_shape))
        shape = self.shape.expand(size)
        magnitude = torch._standard_gamma(1 / shape) ** (1 / shape)
        sign = torch.where(torch.rand_like(magnitude) < 0.5, -1.0, 1.0).to(magnitude.dtype)
        return self.loc + self.scale * sign.detach() * magnitude

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the logarithm of the density."""
        if self._validate_args:
            self._validate_sample(value)  # type: ignore[no-untyped-call, unused-ignore]
        z = ((value - self.loc) / self.scale).abs()
        positive = z > 0  # the gradient of 0^shape in the shape is 0, and that in the value is taken as 0
        power = torch.where(positive, torch.where(positive, z, torch.ones_like(z)) ** self.shape, torch.zeros_like(z))
        return self._log_peak() - power

    def _log_peak(self) -> Tensor:
        return self.shape.log() - (2 * self.scale).log() - torch.lgamma(1 / self.shape)

    def cdf(self, value: Tensor) -> Tensor:
        """Return the distribution function; it has a gradient in the value alone."""
        z = (value - self.loc) / self.scale
        inside = torch.special.gammainc(1 / self.shape.detach(), z.abs() ** self.shape)
        result: Tensor = 0.5 + 0.5 * torch.sign(z) * inside
        return result

    def entropy(self) -> Tensor:
        """Return the differential entropy in nats."""
        return 1 / self.shape - self._log_peak()


@register_kl(GeneralizedGaussian, GeneralizedGaussian)  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _divergence(p: GeneralizedGaussian, q: GeneralizedGaussian) -> Tensor:
    """Return the divergence of two generalized Gaussians about one mean; others have no closed form."""
    if not bool((p.loc == q.loc).all()):
        raise NotImplementedError("the divergence of generalized Gaussians about different means has no closed form")
    moment = torch.lgamma((q.shape + 1) / p.shape) - torch.lgamma(1 / p.shape)
    return p._log_peak() - q._log_peak() - 1 / p.shape + (p.scale / q.scale) ** q.shape * moment.exp()
