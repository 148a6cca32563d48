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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ggd.distribution import GGD
from ggd.reshaping import deepshape
from ggd.torch_callbacks import lightning_callback, trainer_callback
from ggd.torch_constraint import FilterFn, RateConstraint, choose, constrained_parameters, gg_penalty
from ggd.torch_distribution import GeneralizedGaussian
from ggd.torch_shards import copy_, gathered
from ggd.torch_signals import ActivationConstraint, GradientConstraint

__all__ = [
    "ActivationConstraint",
    "GeneralizedGaussian",
    "GradientConstraint",
    "RateConstraint",
    "deepshape_",
    "gg_init_",
    "gg_normal_",
    "gg_penalty",
    "lightning_callback",
    "trainer_callback",
]

FANS = ("fan_in", "fan_out", "current", "source")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)


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
    choose("mode", mode, FANS)
    if mode == "current":
        return _fill_(tensor, shape, gain * float(_deviation(tensor)), generator)
    if tensor.ndim < 2:
        raise ValueError(f"a tensor of {tensor.ndim} dimensions has no fans: initialize it another way")
    outputs, inputs, *kernel = tensor.shape
    fan = {"fan_in": inputs * math.prod(kernel), "fan_out": outputs * math.prod(kernel), "source": outputs}[mode]
    return _fill_(tensor, shape, gain / math.sqrt(max(fan, 1)), generator)


def _deviation(tensor: Tensor) -> Tensor:
    """Return the root mean square: the standard deviation about zero."""
    return gathered(tensor.detach()).double().square().mean().sqrt() if tensor.numel() else torch.zeros(())


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
    return copy_(tensor, torch.from_numpy(samples))  # type: ignore[no-any-return]


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
    choose("mode", mode, FANS)
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
    choose("pool", per, ("tensor", "model"))
    params = constrained_parameters(model, filter_fn)
    arrays = {name: gathered(param).cpu().double().numpy() for name, param in params.items()}
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
        copy_(param, torch.from_numpy(moved[name]))
    return model
