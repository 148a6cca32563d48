"""Rate-constrained training: weights shrunk after each step of an optimizer, as a generalized Gaussian prior asks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from ggd import prior
from ggd.torch_shards import local_part, summed
from ggd.torch_steps import descend, drawn, shrink

__all__ = ["FilterFn", "RateConstraint", "choose", "constrained_parameters", "gg_penalty"]

FilterFn = Callable[[nn.Module, str], bool]
UPDATES = ("proximal", "explicit", "source")
POOLS = ("tensor", "matrices", "model")


def choose(what: str, name: str, choices: tuple[str, ...]) -> None:
    """Refuse a name that is no choice."""
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}: choose {', '.join(choices)}")


def gg_penalty(weight: Tensor, shape: float, *, eps: float = 1e-8) -> Tensor:
    """Return the sum of ``(|w| + eps)^shape``, to be added to a loss where its gradient is wanted there.

    `RateConstraint` needs no such term, and an optimizer that divides gradients by their size, as Adam does, distorts
    it.

    Parameters
    ----------
    weight : Tensor
        Weights.
    shape : float
        Shape of the prior.
    eps : float
        In the unit of the weights.

    Returns
    -------
    Tensor
        A scalar.

    Examples
    --------
    >>> round(float(gg_penalty(torch.tensor([4.0, -9.0]), 0.5)), 4)
    5.0
    """
    return torch.as_tensor(prior.penalty(weight, shape, eps=eps, xp=torch)).sum()


class RateConstraint:
    r"""Shrink weights after each step of an optimizer as a generalized Gaussian prior asks.

    The objective is ``loss + lam * sum |w|^shape``, the rate of the weights in the unit of the loss, up to scale; the
    shape is that of the weights as they are, estimated anew now and then. ``lam`` is for each weight: its effect on a
    weight does not depend on how many others there are. (The source divides by their number N, so that its lambda is
    N times this one.)

    Parameters
    ----------
    params : nn.Module, or iterable of Tensor or of (name, Tensor)
        What is constrained. Of a model: parameters of at least two dimensions that belong to no norm; biases are not.
    lam : float
        Weight of the penalty, not negative. 0 changes nothing.
    update : str
        ``proximal``: the proximal operator of the penalty, at shape 1 the soft threshold, that makes zeros that stay;
        ``explicit``: the gradient step ``w -= lam shape sign(w) (|w| + eps)^(shape - 1)``, which steps over zero;
        ``source``: that step with the constants that the source published (arXiv 2504.16968): eps 1, which makes it
        nearly an L1 step; one shape for all parameters, from the ratio ``n sum w^2 / (sum |w|)^2`` on a grid of 0.01
        from 0.1 to 3; no learning rate. Its lambda is ``lam`` times the number of weights.
    shape : float, optional
        A fixed shape, 1 for L1 and 2 for L2; by default it is estimated, from half moments, zeros left out.
    per : str, optional
        What an estimate is of: each ``tensor`` (the default but of ``source``); all ``matrices`` (parameters of two
        dimensions) together and the others each; the ``model``.
    normalize : bool
        Penalize ``|w / scale|^shape``, nats of the prior itself, with the scale estimated beside the shape: tensors of
        any scale are shrunk at the same rate relative to their size.
    every : int
        Steps between estimates.
    shape_range : tuple of float, optional
        Estimates are kept inside; by default from 0.3 to 2, of ``source`` from 0.1 to 3.
    eps : float, optional
        In the unit of the weights; of the explicit step, by default 1e-8, of ``source`` 1.
    scale_by_lr : bool, optional
        Multiply each step by the current learning rate of the parameter's group, so that the balance with the loss does
        not change with it. The default but of ``source``.
    warmup : int
        Steps over which ``lam`` rises linearly from 0.
    until : int, optional
        Step from which on nothing is constrained, for plain fine-tuning at the end.
    filter_fn : callable, optional
        ``filter_fn(module, name)`` chooses the parameters of a model by their full name and the module that owns them,
        instead of the rule above.

    Notes
    -----
    PyTorch keeps no state of hooks: save `state_dict` beside the optimizer's. Every number a step needs comes from the
    weights themselves, so replicas with the same weights take the same steps.

    Raises
    ------
    ValueError
        If an option is unknown or out of range, or nothing is chosen.

    Examples
    --------
    >>> layer = nn.Linear(4, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[0.5, -0.5, 0.01, 0.0]]))
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> handle = RateConstraint(layer, lam=1.0, shape=1.0).attach(optimizer)
    >>> layer.weight.grad = torch.zeros(1, 4)
    >>> optimizer.step()
    >>> layer.weight.data
    tensor([[ 0.4000, -0.4000,  0.0000,  0.0000]])
    """

    def __init__(
        self,
        params: nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]],
        lam: float,
        *,
        update: str = "proximal",
        shape: float | None = None,
        per: str | None = None,
        normalize: bool = False,
        every: int = 100,
        shape_range: tuple[float, float] | None = None,
        eps: float | None = None,
        scale_by_lr: bool | None = None,
        warmup: int = 0,
        until: int | None = None,
        filter_fn: FilterFn | None = None,
    ) -> None:
        choose("update", update, UPDATES)
        published = update == "source"
        per = per if per is not None else "model" if published else "tensor"
        eps = eps if eps is not None else 1.0 if published else 1e-8
        shape_range = shape_range if shape_range is not None else (0.1, 3.0) if published else (0.3, 2.0)
        choose("pool", per, POOLS)
        if not 0.0 <= lam < math.inf:
            raise ValueError(f"lam is finite and not negative, got {lam!r}")
        if shape is not None and not 0.0 < shape < math.inf:
            raise ValueError(f"a fixed shape is positive and finite, got {shape!r}")
        if not 0.0 < shape_range[0] <= shape_range[1] < math.inf:
            raise ValueError(f"shape_range is two ascending positive numbers, got {shape_range!r}")
        if every < 1 or warmup < 0 or (until is not None and until < 0):
            raise ValueError("every is at least 1, warmup and until are not negative")
        if not 0.0 <= eps < math.inf:
            raise ValueError(f"eps is finite and not negative, got {eps!r}")
        self.lam, self.update, self.shape, self.per, self.normalize = lam, update, shape, per, normalize
        self.every, self.shape_range, self.eps = every, shape_range, eps
        self.scale_by_lr = not published if scale_by_lr is None else scale_by_lr
        self.warmup, self.until = warmup, until
        self.params = constrained_parameters(params, filter_fn)
        self.steps = 0
        self.shapes: dict[str, float] = {}
        self.scales: dict[str, float] = {}

    def attach(self, optimizer: torch.optim.Optimizer) -> Any:
        """Run after each step of an optimizer.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            One that holds every constrained parameter; also inside a wrapper that has it as ``optimizer``, such as
            accelerate's, which may skip steps.

        Returns
        -------
        RemovableHandle
            Its ``remove()`` ends the constraint.

        Raises
        ------
        ValueError
            If the optimizer lacks a parameter.
        """
        optimizer = _inner(optimizer)
        self._rates(optimizer)
        return optimizer.register_step_post_hook(lambda optimizer, *_: self.step(optimizer))

    def factor(self) -> float:
        """Return what ``lam`` is multiplied by at the current step, by the schedule."""
        if self.until is not None and self.steps >= self.until:
            return 0.0
        return min(1.0, (self.steps + 1) / self.warmup) if self.warmup else 1.0

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Shrink the weights once. `attach` calls it; a loop without hooks can."""
        lam = self.lam * self.factor()
        if lam:
            if self.steps % self.every == 0 or not self.shapes:
                self._estimate()
            for index, (name, rate) in enumerate(zip(self.params, self._rates(_inner(optimizer)), strict=True)):
                self._shrink(name, lam * rate, index)
        self.steps += 1

    def _rates(self, optimizer: torch.optim.Optimizer) -> list[float]:
        rates = {param: float(group["lr"]) for group in optimizer.param_groups for param in group["params"]}
        missing = [name for name, param in self.params.items() if param not in rates]
        if missing:
            raise ValueError(f"the optimizer does not hold {missing[0]!r}, which is to be constrained")
        return [rates[param] if self.scale_by_lr else 1.0 for param in self.params.values()]

    def _shrink(self, name: str, step: float, index: int) -> None:
        param, shape = self.params[name], self.shapes[name]
        if self.normalize:
            if not self.scales[name] > 0.0:
                return
            step /= self.scales[name] ** shape
        weight = local_part(param.detach())
        narrow = weight.dtype in (torch.float16, torch.bfloat16)
        wide = weight.float() if narrow else weight
        shrunk = shrink(wide, step, shape) if self.update == "proximal" else descend(wide, step, shape, self.eps)
        # Steps below half a unit in the last place would be lost for good: they are taken with their probability.
        weight.copy_(drawn(shrunk, param, self.steps << 20 | index) if narrow else shrunk)
        increment_version(param)

    def _estimate(self) -> None:
        """Estimate shapes and scales: each tensor is read once, on its device, and the host waits once for all."""
        published = self.update == "source"
        device = next(iter(self.params.values())).device
        sums = [summed(_moments(local_part(param), squares=published), param) for param in self.params.values()]
        stacked = torch.stack([of_tensor.to(device) for of_tensor in sums])
        moments = dict(zip(self.params, np.asarray(stacked.cpu().double()), strict=True))
        pools: dict[str, list[str]] = {}
        for name, param in self.params.items():
            pool = {"tensor": name, "matrices": "matrices" if param.ndim == 2 else name, "model": "model"}[self.per]
            pools.setdefault(pool, []).append(name)
        for names in pools.values():
            count, total, half, squares = np.sum([moments[name] for name in names], axis=0).tolist()
            mean = total / count if count else 0.0
            if self.shape is not None:
                shape = self.shape
            elif published and mean > 0.0 and math.isfinite(squares):
                every = sum(self.params[name].numel() for name in names)
                shape = min(max(_shape_on_grid(every * squares / total**2), self.shape_range[0]), self.shape_range[1])
            elif mean > 0.0 and math.isfinite(mean):
                from_ratio = prior.shape_from_ratio(mean / (half / count) ** 2)
                shape = min(max(from_ratio, self.shape_range[0]), self.shape_range[1])
            else:  # nothing to estimate from: all zeros, or a training that has gone astray
                shape = self.shapes.get(names[0], min(max(1.0, self.shape_range[0]), self.shape_range[1]))
            scale = prior.scale_from_mean(mean, shape) if math.isfinite(mean) else 0.0
            self.shapes |= dict.fromkeys(names, shape)
            self.scales |= dict.fromkeys(names, scale)

    def state_dict(self) -> dict[str, Any]:
        """Return the steps taken and the estimates in force, as plain numbers."""
        return {"steps": self.steps, "shapes": dict(self.shapes), "scales": dict(self.scales)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of another constraint, on parameters of the same names.

        Raises
        ------
        ValueError
            If the state is of other parameters.
        """
        if set(state) != {"steps", "shapes", "scales"}:
            raise ValueError(f"this is not the state of a RateConstraint: it holds {', '.join(map(str, state))}")
        for kind in ("shapes", "scales"):
            if state[kind] and set(state[kind]) != set(self.params):
                odd = sorted(set(state[kind]) ^ set(self.params))
                raise ValueError(f"the state is of other parameters than these: {odd[0]!r} is not in both")
        self.steps = int(state["steps"])
        self.shapes, self.scales = dict(state["shapes"]), dict(state["scales"])


def _moments(weight: Tensor, *, squares: bool) -> Tensor:
    """Return the number of nonzero weights and the sums of their magnitudes, of the roots and, or 0, of the squares."""
    magnitude = weight.detach().abs()
    wide = torch.float32 if weight.device.type == "mps" else torch.float64
    count = torch.count_nonzero(magnitude).to(wide)
    second = magnitude.to(wide).square().sum() if squares else torch.zeros_like(count)
    return torch.stack([count, magnitude.sum(dtype=wide), magnitude.sqrt().sum(dtype=wide), second])


def _shape_on_grid(ratio: float) -> float:
    """Return the shape, of 0.10, 0.11, ..., 3.00, whose ratio ``E w^2 / (E |w|)^2`` is nearest to a given one.

    Examples
    --------
    >>> _shape_on_grid(2.0), round(_shape_on_grid(math.pi / 2), 2)
    (1.0, 2.0)
    """
    shapes = [step / 100 for step in range(10, 301)]
    ratios = [math.exp(math.lgamma(1 / p) + math.lgamma(3 / p) - 2 * math.lgamma(2 / p)) for p in shapes]
    return shapes[min(range(len(shapes)), key=lambda index: abs(ratios[index] - ratio))]


def _inner(optimizer: Any) -> Any:
    """Return the optimizer inside wrappers."""
    while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def constrained_parameters(
    params: nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]], filter_fn: FilterFn | None
) -> dict[str, Tensor]:
    """Return what is to be constrained by name, of a model as `RateConstraint` says.

    Raises
    ------
    ValueError
        If there is nothing, or something that is no floating-point tensor.
    """
    if isinstance(params, nn.Module):
        model = params.module if isinstance(params, nn.parallel.DistributedDataParallel) else params
        chosen = {}
        for name, param in model.named_parameters():
            plain = re.sub(r"(^|\.)parametrizations\.(\w+)\.original$", r"\1\2", name)
            owner = model.get_submodule(plain.rpartition(".")[0])
            of_norm = param.ndim < 2 or "Norm" in type(owner).__name__
            if (filter_fn(owner, plain) if filter_fn else not of_norm) and param.requires_grad:
                chosen[plain] = param
    else:
        listed: list[Any] = list(params)
        if listed and isinstance(listed[0], tuple):
            chosen = dict(listed)
        else:
            chosen = {str(index): param for index, param in enumerate(listed)}
    if not chosen:
        raise ValueError("there is no parameter to constrain: of a model, those of two or more dimensions are")
    for name, param in chosen.items():
        if not isinstance(param, Tensor) or not param.is_floating_point():
            raise ValueError(f"parameter {name!r} is no tensor of floating-point numbers")
    return chosen
