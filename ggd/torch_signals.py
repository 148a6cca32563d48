"""The prior on what flows through a model in training: constraints of activations (ACT) and of gradients (GCT).

From the abstract of arXiv 2506.00486 v4 alone, which names both and gives no formula: activations and gradients are
generalized Gaussian, ACT constrains the first progressively, GCT the second, so that less is sent between workers.
Assumed here: the penalty is that of the weights, ``|x|^shape`` with a shape estimated as training goes; progressive is
a weight that rises linearly; a gradient is shrunk by the penalty's proximal operator, and what was taken from it is
added to the next (error feedback), as methods that compress gradients do.

Examples
--------
>>> import torch, ggd.torch
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> activations = ggd.torch.ActivationConstraint(model, lam=1e-3, warmup=10)
>>> gradients = ggd.torch.GradientConstraint(model, lam=0.5)
>>> handle = gradients.attach(optimizer)
>>> model(torch.randn(4, 8)).square().mean().backward()
>>> optimizer.step()
>>> sorted(activations.shapes), 0.0 < gradients.zero_share < 1.0
(['0', '2'], True)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ggd import prior
from ggd.torch_constraint import FilterFn, constrained_parameters
from ggd.torch_shards import local_part
from ggd.torch_steps import shrink

__all__ = ["ActivationConstraint", "GradientConstraint"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SHAPES = (0.3, 2.0)


def _estimated(values: Tensor) -> tuple[float, float]:
    """Return the shape and the scale of values, from half moments, zeros left out; (1, 0) if there are none."""
    magnitude = values.detach().abs().double().flatten()
    magnitude = magnitude[(magnitude > 0.0) & magnitude.isfinite()]
    if not len(magnitude):
        return 1.0, 0.0
    mean, half = float(magnitude.mean()), float(magnitude.sqrt().mean())
    shape = min(max(prior.shape_from_ratio(mean / half**2), _SHAPES[0]), _SHAPES[1])
    return shape, prior.scale_from_mean(mean, shape)


def _checked(lam: float, shape: float | None) -> None:
    if not 0.0 <= lam < math.inf:
        raise ValueError(f"lam is finite and not negative, got {lam!r}")
    if shape is not None and not 0.0 < shape < math.inf:
        raise ValueError(f"a fixed shape is positive and finite, got {shape!r}")


class _Penalized(torch.autograd.Function):
    """The identity; on the way back the gradient of a penalty is added."""

    @staticmethod
    def forward(values: Tensor, weight: float, shape: float, eps: float) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, ctx.weight, ctx.shape, ctx.eps = inputs
        ctx.save_for_backward(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (values,) = ctx.saved_tensors
        slope = prior.penalty_gradient(values, ctx.shape, eps=ctx.eps, xp=torch)
        return gradient + (ctx.weight * slope).to(gradient.dtype), None, None, None


class ActivationConstraint:
    r"""Add ``lam`` times the mean of ``|a|^shape`` of each layer's outputs to the loss, through their gradients.

    The loss itself needs no term: each output passes its gradient back with that of the penalty added. Evaluation and
    passes without gradients are left alone.

    Parameters
    ----------
    model : nn.Module
        The model.
    lam : float
        Weight of each layer's mean penalty, in the unit of the loss; not negative.
    shape : float, optional
        A fixed shape; by default that of each layer's outputs, from half moments, zeros left out, between 0.3 and 2.
    warmup : int
        Passes over which ``lam`` rises linearly from 0.
    every : int
        Passes between estimates of the shape.
    eps : float
        Keeps gradients finite at zero where the shape is below 1, in the unit of the activations.
    filter_fn : callable, optional
        ``filter_fn(module, name)`` chooses the modules; by default Linear and Conv layers.

    Attributes
    ----------
    shapes : dict
        The shape in force of each layer that has been passed.

    Raises
    ------
    ValueError
        If an option is out of range, or no module is chosen.

    Examples
    --------
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.fill_(1.0)
    >>> constraint = ActivationConstraint(layer, lam=0.5, shape=2.0)
    >>> (0.0 * layer(torch.ones(1, 2))).sum().backward()  # the penalty alone: 0.5 a^2, a = w1 + w2
    >>> [round(slope, 2) for slope in layer.weight.grad[0].tolist()]
    [2.0, 2.0]
    """

    def __init__(
        self,
        model: nn.Module,
        lam: float,
        *,
        shape: float | None = None,
        warmup: int = 0,
        every: int = 100,
        eps: float = 1e-3,
        filter_fn: FilterFn | None = None,
    ) -> None:
        _checked(lam, shape)
        if every < 1 or warmup < 0 or not 0.0 < eps < math.inf:
            raise ValueError("every is at least 1, warmup not negative, eps positive and finite")
        self.lam, self.shape, self.warmup, self.every, self.eps = lam, shape, warmup, every, eps
        self.shapes: dict[str, float] = {}
        self._passes: dict[str, int] = {}
        chosen = [
            (name, module)
            for name, module in model.named_modules()
            if (filter_fn(module, name) if filter_fn else isinstance(module, _LAYERS))
        ]
        if not chosen:
            raise ValueError("there is no layer whose outputs to constrain: filter_fn chooses others than Linear, Conv")
        self._handles = [module.register_forward_hook(self._hook(name)) for name, module in chosen]

    def _hook(self, name: str) -> Any:
        def constrain(module: nn.Module, arguments: Any, output: Any) -> Any:
            trained = module.training and isinstance(output, Tensor) and output.requires_grad and output.numel()
            if not trained or not self.lam:
                return output
            passes = self._passes.get(name, 0)
            again = torch._C._current_graph_task_id() != -1  # activation checkpointing computes it a second time
            if not again:
                if self.shape is not None:
                    self.shapes[name] = self.shape
                elif passes % self.every == 0 or name not in self.shapes:
                    self.shapes[name] = _estimated(output)[0]
                self._passes[name] = passes + 1
            step = passes if again else passes + 1
            factor = min(1.0, step / self.warmup) if self.warmup else 1.0
            weight = self.lam * factor / output.numel()
            return _Penalized.apply(output, weight, self.shapes[name], self.eps)  # type: ignore[no-untyped-call]

        return constrain

    def remove(self) -> None:
        """End the constraint."""
        for handle in self._handles:
            handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return the passes and the shapes in force, as plain numbers."""
        return {"passes": dict(self._passes), "shapes": dict(self.shapes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another constraint of the same layers."""
        self._passes, self.shapes = dict(state["passes"]), dict(state["shapes"])


class GradientConstraint:
    r"""Shrink gradients as a generalized Gaussian prior asks before an optimizer uses them; what is taken comes later.

    Each gradient, with what was taken from it before, goes to the u that minimizes
    ``(u - g)² / 2 + lam scale^2 |u / scale|^shape``, by the gradient's own shape and scale, so that the unit of the
    loss does not matter. Of sharded parameters each rank shrinks its part by an estimate of its own. At shapes up to
    1 small ones become zeros, which cost next to nothing when gradients are coded.

    Parameters
    ----------
    params : nn.Module, or iterable of Tensor or of (name, Tensor)
        Whose gradients; of a model, as `RateConstraint` chooses.
    lam : float
        Weight of the penalty in squared scales; not negative.
    shape : float, optional
        A fixed shape; by default each gradient's own, between 0.3 and 2.
    feedback : bool
        Add what was taken to the next gradient. Without, small gradients are lost for good.
    filter_fn : callable, optional
        As of `RateConstraint`.

    Attributes
    ----------
    zero_share : float
        Share of zeros among the gradients of the last step.

    Raises
    ------
    ValueError
        If an option is out of range, or nothing is chosen.

    Examples
    --------
    >>> weight = nn.Parameter(torch.zeros(4))
    >>> constraint = GradientConstraint([weight], lam=1.0, shape=1.0)
    >>> weight.grad = torch.tensor([4.0, -0.5, 0.5, -3.0])
    >>> constraint.step()
    >>> weight.grad  # the mean magnitude is 2
    tensor([ 2., -0.,  0., -1.])
    """

    def __init__(
        self,
        params: nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]],
        lam: float,
        *,
        shape: float | None = None,
        feedback: bool = True,
        filter_fn: FilterFn | None = None,
    ) -> None:
        _checked(lam, shape)
        self.params = constrained_parameters(params, filter_fn)
        self.lam, self.shape, self.feedback = lam, shape, feedback
        self.residuals: dict[str, Tensor] = {}
        self.zero_share = 0.0

    def attach(self, optimizer: torch.optim.Optimizer) -> Any:
        """Run before each step of an optimizer; the handle's ``remove()`` ends it."""
        return optimizer.register_step_pre_hook(lambda *_: self.step())

    @torch.no_grad()
    def step(self) -> None:
        """Shrink the gradients once. `attach` calls it; a loop without hooks can."""
        zeros = count = 0
        for name, param in self.params.items():
            if param.grad is None or not self.lam:
                continue
            gradient = local_part(param.grad)
            # By the gradient alone: a threshold that grew with what was taken would never let it go.
            estimate, scale = _estimated(gradient)
            wanted = gradient.float() + self.residuals.get(name, 0.0)
            shape = self.shape if self.shape is not None else estimate
            if self.shape is not None and scale > 0.0:
                finite = gradient[gradient.isfinite() & (gradient != 0)]
                scale = prior.scale_from_mean(float(finite.abs().double().mean()), shape)
            sent = shrink(wanted.clone(), self.lam * scale ** (2.0 - shape), shape) if scale > 0.0 else wanted
            if self.feedback:
                self.residuals[name] = torch.where(wanted.isfinite(), wanted - sent, torch.zeros_like(wanted))
            gradient.copy_(sent)
            zeros += int((sent == 0).sum())
            count += sent.numel()
        self.zero_share = zeros / count if count else 0.0

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was taken and not yet given back, by name."""
        return {name: residual.clone() for name, residual in self.residuals.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what another constraint has taken, of parameters of the same names."""
        unknown = set(state) - set(self.params)
        if unknown:
            raise ValueError(f"the state is of other parameters than these: {sorted(unknown)[0]!r}")
        self.residuals = {name: residual.clone() for name, residual in state.items()}
