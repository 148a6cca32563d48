"""The PyTorch adapter: generalized Gaussian initialization, rate-constrained training, DeepShape of a model.

The mathematics is `ggd`'s own; nothing else of the project imports this module.

Examples
--------
>>> import torch, ggd.torch
>>> model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
>>> _ = ggd.torch.gg_init_(model, shape=0.8, generator=torch.Generator().manual_seed(0))
>>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
>>> constraint = ggd.torch.RateConstraint(model, lam=0.1)
>>> handle = constraint.attach(optimizer)
>>> model(torch.randn(8, 32)).square().mean().backward()
>>> optimizer.step()
>>> sorted(constraint.shapes)
['0.weight', '2.weight']
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ggd import prior
from ggd.distribution import GGD
from ggd.reshaping import deepshape
from ggd.torch_callbacks import trainer_callback
from ggd.torch_distribution import GeneralizedGaussian

__all__ = [
    "GeneralizedGaussian",
    "RateConstraint",
    "deepshape_",
    "gg_init_",
    "gg_normal_",
    "gg_penalty",
    "trainer_callback",
]

FilterFn = Callable[[nn.Module, str], bool]
FANS = ("fan_in", "fan_out", "current", "source")
UPDATES = ("proximal", "explicit", "source")
POOLS = ("tensor", "matrices", "model")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)


def _choose(what: str, name: str, choices: tuple[str, ...]) -> None:
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}: choose {', '.join(choices)}")


# --- initialization ---------------------------------------------------------------------------------------------------


def gg_normal_(
    tensor: Tensor,
    shape: float = 1.0,
    gain: float = 1.0,
    mode: str = "fan_in",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Fill a tensor with samples of a generalized Gaussian of standard deviation ``gain / sqrt(fan)``.

    The conventions are those of `torch.nn.init.kaiming_normal_`, which shape 2 with the same gain equals in
    distribution. The samples are `ggd.GGD.sample`'s, its seed drawn from the generator: the same on every device.

    Parameters
    ----------
    tensor : Tensor
        A weight: (outputs, inputs, kernel...), of at least 2 dimensions.
    shape : float
        Of the distribution: 1 is Laplace, 2 Gaussian.
    gain : float
        As of `torch.nn.init.calculate_gain`; positive.
    mode : str
        ``fan_in`` (inputs times kernel) or ``fan_out`` (outputs times kernel); ``current``: the standard deviation that
        the tensor has, times the gain; ``source``: ``shape[0]`` is the fan of every layer, as in the source's code.
    generator : torch.Generator, optional
        By default PyTorch's own.

    Returns
    -------
    Tensor
        The tensor.

    Raises
    ------
    ValueError
        If an option is unknown or out of range, or the tensor has no fans.

    Examples
    --------
    >>> w = gg_normal_(torch.empty(1000, 400), shape=0.7, generator=torch.Generator().manual_seed(0))
    >>> abs(float(w.std()) * 20 - 1) < 0.01
    True
    """
    _choose("mode", mode, FANS)
    if mode == "current":
        return _fill_(tensor, shape, gain * float(_deviation(tensor)), generator)
    if tensor.ndim < 2:
        raise ValueError(f"a tensor of {tensor.ndim} dimensions has no fans: initialize it another way")
    outputs, inputs, *kernel = tensor.shape
    fan = {"fan_in": inputs * math.prod(kernel), "fan_out": outputs * math.prod(kernel), "source": outputs}[mode]
    return _fill_(tensor, shape, gain / math.sqrt(max(fan, 1)), generator)


def _deviation(tensor: Tensor) -> Tensor:
    """Return the root mean square: the standard deviation about zero."""
    return tensor.detach().double().square().mean().sqrt() if tensor.numel() else torch.zeros(())


@torch.no_grad()
def _fill_(tensor: Tensor, shape: float, std: float, generator: torch.Generator | None) -> Tensor:
    if not 0.0 <= std < math.inf:
        raise ValueError(f"the standard deviation of weights is finite and not negative, got {std!r}")
    if tensor.is_meta or not tensor.numel():
        return tensor
    if std == 0.0:
        return tensor.zero_()
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(0, 1 << 62, (), generator=generator, device=device))
    samples = GGD.from_std(shape, std).sample(tuple(tensor.shape), seed=seed, dtype=np.float64)
    return tensor.copy_(torch.from_numpy(samples))


def gg_init_(
    model: nn.Module,
    shape: float = 1.0,
    *,
    gain: float = 1.0,
    mode: str = "fan_in",
    filter_fn: FilterFn | None = None,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Initialize the weights of Linear, Conv, Embedding and EmbeddingBag layers, by their true fans.

    transformers' Conv1D is a linear layer whose weight has the inputs first.

    Biases, norms and layers of other kinds (transposed convolutions too) stay as they are. The fan in of an embedding
    is 1, for one row is read at a time, and its fan out the width of a row; the row for padding stays zero. A weight
    shared by several layers is filled once, as that of the Linear or Conv among them.

    Parameters
    ----------
    model : nn.Module
        The model, changed in place.
    shape, gain, mode, generator
        As for `gg_normal_`. ``current`` draws every weight anew at the standard deviation that it has, which keeps
        as the model was initialized. ``source`` is the source's code, for comparison: the fan is ``shape[0]``
        (for an embedding the size of the vocabulary), and convolutions become ones. That the standard deviation is
        ``gain / sqrt(shape[0])`` for any shape is an assumption where the source does not state it.
    filter_fn : callable, optional
        ``filter_fn(module, name)`` chooses among the layers of these kinds.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        As `gg_normal_`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16))
    >>> _ = gg_init_(model, shape=0.8)
    >>> std = float(model[0].weight.detach().std())
    >>> 0.8 < std * math.sqrt(8 * 3 * 3) < 1.2, bool((model[1].weight == 1).all())
    (True, True)
    """
    _choose("mode", mode, FANS)
    done: set[Tensor] = set()
    layers = [
        (name, module) for name, module in model.named_modules() if isinstance(module, _known()) or _turned(module)
    ]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no Linear, Conv, Embedding or EmbeddingBag layer to initialize: give a model "
            "that has one, or use gg_normal_ on a tensor"
        )
    for name, module in sorted(layers, key=lambda layer: isinstance(layer[1], _TABLES)):
        weight = module.weight
        if (filter_fn is not None and not filter_fn(module, name)) or not isinstance(weight, Tensor) or weight in done:
            continue
        done.add(weight)
        if mode == "source" and isinstance(module, _CONVOLUTIONS):
            nn.init.ones_(weight)
        elif isinstance(module, _TABLES):
            fan = {"fan_in": 1, "fan_out": weight.shape[1]}.get(mode)
            if fan is None:
                gg_normal_(weight, shape, gain, mode, generator)
            else:
                _fill_(weight, shape, gain / math.sqrt(fan), generator)
            if module.padding_idx is not None:
                weight.data[module.padding_idx].zero_()
        elif _turned(module) and mode != "source":
            gg_normal_(weight.detach().T, shape, gain, mode, generator)
        else:
            gg_normal_(weight, shape, gain, mode, generator)
    return model


def _turned(module: nn.Module) -> bool:
    """Return whether a module is transformers' Conv1D, a linear layer whose weight is (inputs, outputs)."""
    return any(cls.__name__ == "Conv1D" for cls in type(module).__mro__) and hasattr(module, "nf")


def _known() -> tuple[type[nn.Module], ...]:
    return (nn.Linear, *_CONVOLUTIONS, *_TABLES)


# --- rate-constrained training ----------------------------------------------------------------------------------------


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
        _choose("update", update, UPDATES)
        published = update == "source"
        per = per if per is not None else "model" if published else "tensor"
        eps = eps if eps is not None else 1.0 if published else 1e-8
        shape_range = shape_range if shape_range is not None else (0.1, 3.0) if published else (0.3, 2.0)
        _choose("pool", per, POOLS)
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
        self.params = _named(params, filter_fn)
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
        narrow = param.dtype in (torch.float16, torch.bfloat16)
        weight = param.float() if narrow else param
        if self.update == "proximal":
            shrunk = prior.shrink(weight, step, shape, xp=torch)
        else:
            shrunk = weight - step * prior.penalty_gradient(weight, shape, eps=self.eps, xp=torch)
        # Steps below half a unit in the last place would be lost for good: they are taken with their probability.
        param.copy_(_drawn(shrunk, param.dtype, self.steps << 20 | index) if narrow else shrunk)

    def _estimate(self) -> None:
        """Estimate shapes and scales: each tensor is read once, on its device, and the host waits once for all."""
        published = self.update == "source"
        device = next(iter(self.params.values())).device
        stacked = torch.stack([_moments(param, squares=published).to(device) for param in self.params.values()])
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


def _drawn(numbers: Tensor, dtype: torch.dtype, seed: int) -> Tensor:
    """Round float32 to float16 or bfloat16 up or down at random, without bias; the same for the same seed."""
    nearest = numbers.to(dtype)
    error = numbers - nearest.float()
    away = (error > 0) == (nearest > 0)
    bits = nearest.view(torch.int16)
    neighbour = torch.where(away, bits + 1, bits - 1).view(dtype)
    smallest = torch.ones_like(bits).view(dtype)
    neighbour = torch.where(nearest == 0, torch.copysign(smallest, error.to(dtype)), neighbour)
    generator = torch.Generator(device=numbers.device).manual_seed(seed)
    draws = torch.rand(numbers.shape, generator=generator, device=numbers.device)
    moves = (draws * (neighbour.float() - nearest.float()).abs() < error.abs()) & neighbour.isfinite()
    return torch.where(moves, neighbour, nearest)


def _inner(optimizer: Any) -> Any:
    """Return the optimizer inside wrappers."""
    while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def _named(
    params: nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]], filter_fn: FilterFn | None
) -> dict[str, Tensor]:
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


# --- reshaping --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def deepshape_(
    model: nn.Module,
    *,
    shape_factor: float = 1.0,
    std_factor: float = 1.0,
    per: str = "tensor",
    method: str = "ranks",
    bins: int = 1000,
    filter_fn: FilterFn | None = None,
) -> nn.Module:
    """Move the weights of a model onto the quantiles of another generalized Gaussian, in place.

    Parameters
    ----------
    model : nn.Module
        The model; parameters of at least two dimensions that belong to no norm are reshaped.
    shape_factor, std_factor, method, bins
        As for `ggd.deepshape`.
    per : str
        ``tensor``: each by its own fit; ``model``: all as one, by one fit, as in the source.
    filter_fn : callable, optional
        As for `RateConstraint`.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        As `ggd.deepshape`; the model is then as it was.

    Examples
    --------
    >>> import ggd
    >>> layer = gg_init_(nn.Linear(200, 200), shape=1.5)
    >>> before = ggd.fit(layer.weight.detach().numpy())
    >>> after = ggd.fit(deepshape_(layer, shape_factor=0.5).weight.detach().numpy())
    >>> abs(after.shape / before.shape - 0.5) < 0.01
    True
    """
    _choose("pool", per, ("tensor", "model"))
    params = _named(model, filter_fn)
    arrays = {name: param.cpu().double().numpy() for name, param in params.items()}
    options: dict[str, Any] = {
        "shape_factor": shape_factor, "std_factor": std_factor, "method": method, "bins": bins
    }  # fmt: skip
    if per == "model":
        joined = deepshape(np.concatenate([array.ravel() for array in arrays.values()]), **options)
        pieces = np.split(joined, np.cumsum([array.size for array in arrays.values()])[:-1])
        moved = {name: piece.reshape(arrays[name].shape) for name, piece in zip(arrays, pieces, strict=True)}
    else:
        moved = {name: deepshape(array, **options) for name, array in arrays.items()}
    for name, param in params.items():
        param.copy_(torch.from_numpy(moved[name]))
    return model
