"""Models that compute with rounded weights and, if wanted, rounded inputs of their layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ggd.torch_shards import gathered, is_sharded, through_all

from .._base.checks import choose
from ..formats import Format
from ..quantization.scaling import Chosen
from ..quantization.scheme import Scheme, as_scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .coverage import (
    Coverage,
    FilterFn,
    Left,
    check_parameter,
    chosen_parameters,
    is_matrix_module,
    multiplies_inside,
    parameters_of,
    plain_name,
    reason_left,
    takes_inputs,
)
from .draws import Draws
from .fake import choose_for, constant_key, drawn_seed, factors, round_at, scale_for
from .stepping import Stepped

__all__ = [
    "FakeQuantize", "InputQuantize", "QuantizeConfig", "coverage", "dequantize_", "quantize_", "quantized_tensors",
    "update_scales_",
]  # fmt: skip

INPUT = "input_quantizer"
INPUT_RULES = ("max", "ema")


@dataclass(frozen=True)
class QuantizeConfig:
    """How the weights of a model, and if wanted the inputs of its layers, are quantized.

    Parameters
    ----------
    scheme : str, Format or Scheme
        How weights are stored; a bare format name means one scale for each tensor, of least squared error.
    scale : float, optional
        One fixed scale for every weight instead of a chosen one. A grid that stays where it is lets small weights
        underflow to zero while a prior shrinks them; scales that follow the weights do not.
    inputs : str, Format or Scheme, optional
        How the inputs of Linear and Conv layers are rounded, with one scale; by default they stay as they are.
    input_rule : str
        The running scale of the inputs, one for each layer, from the largest magnitude of each batch in training:
        ``ema`` (its exponential moving average) or ``max`` (the largest so far).
    input_momentum : float
        Weight of the newest batch in ``ema``.
    synchronize_inputs : bool
        Take the largest magnitude over all ranks of `torch.distributed`, so that they round to one grid. Every rank
        must then call every layer as often as the others.

    Examples
    --------
    >>> QuantizeConfig("mxfp4", inputs="e4m3fn").inputs
    Scheme('e4m3fn')
    """

    scheme: Scheme
    scale: float | None
    inputs: Scheme | None
    input_rule: str
    input_momentum: float
    synchronize_inputs: bool

    def __init__(
        self,
        scheme: str | Format | Scheme = "rf8",
        *,
        scale: float | None = None,
        inputs: str | Format | Scheme | None = None,
        input_rule: str = "ema",
        input_momentum: float = 0.1,
        synchronize_inputs: bool = False,
    ) -> None:
        stored = as_scheme(scheme)
        rounded = None if inputs is None else as_scheme(inputs)
        choose("input rule", input_rule, INPUT_RULES)
        if rounded is not None and (rounded.scales is None or rounded.scales.block is not None):
            raise ValueError(
                f"inputs have one running scale for each layer: take {rounded.format.name!r}, not {rounded}"
            )
        if scale is not None and not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"a fixed scale must be positive and finite, got {scale!r}")
        if scale is not None and (stored.scales is None or stored.scales.outer or stored.scales.zero):
            raise ValueError(f"a fixed scale is for schemes with one level of scales and no zero point, not {stored}")
        if not 0 < input_momentum <= 1:
            raise ValueError(f"input_momentum is a share above 0 and at most 1, got {input_momentum!r}")
        fields: dict[str, Any] = {"scheme": stored, "scale": scale, "inputs": rounded, "input_rule": input_rule}
        fields |= {"input_momentum": input_momentum, "synchronize_inputs": synchronize_inputs}
        for name, value in fields.items():
            object.__setattr__(self, name, value)


class FakeQuantize(nn.Module):
    """A parametrization that rounds a weight by a scheme, at scales that it keeps.

    Parameters
    ----------
    weight : Tensor
        The weight whose scales are chosen.
    config : QuantizeConfig
        How.

    Examples
    --------
    >>> layer = nn.Linear(8, 4)
    >>> _ = parametrize.register_parametrization(layer, "weight", FakeQuantize(layer.weight, QuantizeConfig("int8")))
    >>> steps = layer.weight / layer.parametrizations.weight[0].scale
    >>> bool((steps - steps.round()).abs().max() < 1e-4)
    True
    """

    scale: Tensor
    outer: Tensor
    zero: Tensor

    def __init__(self, weight: Tensor, config: QuantizeConfig) -> None:
        super().__init__()
        self.config = config
        self.draws = Draws(weight.device) if config.scheme.rounding == "stochastic" else None
        for name, value in self._chosen(weight).items():
            self.register_buffer(name, value)

    def _chosen(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the scales, their outer scales and zero points: those that the scheme has."""
        scheme = self.config.scheme
        if self.config.scale is not None:
            shape = scheme.scale_shapes(tuple(weight.shape))[0]
            chosen = Chosen((np.full(shape, self.config.scale, np.float32),))
        else:
            chosen = choose_for(weight, scheme)
        arrays = dict(zip(("scale", "outer"), chosen.scales, strict=False))
        if chosen.zero is not None:
            arrays["zero"] = chosen.zero
        return {name: torch.from_numpy(np.array(array)).to(weight.device) for name, array in arrays.items()}

    def _stored(self) -> Chosen:
        buffers = dict(self.named_buffers(recurse=False))
        scales = tuple(_numpy(buffers[name]) for name in ("scale", "outer") if name in buffers)
        return Chosen(scales, _numpy(buffers["zero"]) if "zero" in buffers else None)

    def update_(self, weight: Tensor) -> None:
        """Choose the scales again, for the weight as it is now."""
        for name, value in self._chosen(weight).items():
            getattr(self, name).copy_(value)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight as its scheme stores it."""
        return through_all(self._rounded, weight) if is_sharded(weight) else self._rounded(weight)

    def _rounded(self, weight: Tensor) -> Tensor:
        scheme = self.config.scheme
        key = constant_key(scheme)
        seed = None if self.draws is None else self.draws(weight)
        if scheme.scales is None:
            return round_at(weight, key, None, seed=seed)
        levels = (self.scale,) if scheme.scales.outer is None else (self.scale, self.outer)
        zero = None if scheme.scales.zero is None else self.zero
        return round_at(weight, key, *factors(scheme, levels, zero), seed)

    def quantized(self, weight: Tensor) -> QuantizedTensor:
        """Return codes and scales of a weight."""
        scheme = self.config.scheme
        seed = 0 if self.draws is None else int(self.draws(weight))
        return quantize(_numpy(weight), scheme, scale=None if scheme.scales is None else self._stored(), seed=seed)

    def extra_repr(self) -> str:
        """Name the scheme."""
        count = self.scale.numel() if self.config.scheme.scales is not None else 0
        return f"{self.config.scheme}, {count} scales"


class InputQuantize(Stepped):
    """Round what goes into a layer, at a running scale that training updates and evaluation keeps.

    Within a step of an optimizer all calls round at one range, that of the steps before and of the step's first call,
    so that what activation checkpointing computes again is the same. Later calls of a layer count from the next step
    on, or in evaluation. A weight that is changed by hand is a step too, but inside `torch.compile`.

    Parameters
    ----------
    config : QuantizeConfig
        Its ``inputs``, ``input_rule`` and ``input_momentum``.
    device : torch.device, optional
        Where the running scale lives.

    Examples
    --------
    >>> quantizer = InputQuantize(QuantizeConfig(inputs="int8", input_rule="max"))
    >>> _ = quantizer(torch.tensor([1.0, -127.0]))
    >>> quantizer.eval()(torch.tensor([0.4, 0.6, 200.0]))
    tensor([  0.,   1., 127.])
    """

    largest: Tensor
    running: Tensor
    begins: Tensor

    def __init__(self, config: QuantizeConfig, device: torch.device | None = None) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("largest", torch.zeros((), device=device))
        self.register_buffer("running", torch.zeros((), device=device))  # of all calls
        self.register_buffer("begins", torch.ones((), dtype=torch.bool, device=device), persistent=False)

    def advance(self) -> None:
        """Begin another step."""
        self.begins.fill_(True)

    def train(self, mode: bool = True) -> InputQuantize:
        """Set the mode; evaluation takes the range of all calls."""
        if not mode:
            self.largest.copy_(self.running)
            self.advance()
        return super().train(mode)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *arguments: Any) -> None:
        if f"{prefix}largest" in state:  # alone, as files had it that were made before there was another
            state.setdefault(f"{prefix}running", state[f"{prefix}largest"])
        super()._load_from_state_dict(state, prefix, *arguments)  # type: ignore[no-untyped-call, unused-ignore]
        self.advance()

    def _observe(self, x: Tensor) -> None:
        """Take the largest finite magnitude of a batch into the range."""
        self.notice_changes()
        config, before = self.config, self.running
        magnitude = x.detach().abs()
        finite = torch.where(torch.isfinite(magnitude), magnitude, torch.zeros_like(magnitude))
        batch = finite.amax().to(before.dtype)
        if config.synchronize_inputs and dist.is_available() and dist.is_initialized():
            dist.all_reduce(batch, dist.ReduceOp.MAX)
        if config.input_rule == "max":
            after = torch.maximum(before, batch)
        else:
            mean = torch.lerp(before, batch, config.input_momentum)
            after = torch.where(before > 0, torch.where(batch > 0, mean, before), batch)
        self.largest.copy_(torch.where(self.begins | (self.largest == 0), after, self.largest))
        self.running.copy_(after)
        self.begins.fill_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x rounded; without a scale yet, of a layer that has seen no training batch, x as it is."""
        assert self.config.inputs is not None
        if self.training and x.numel() and not _computes_again():
            self._observe(x)
        key = constant_key(self.config.inputs)
        rounded = round_at(x, key, scale_for(self.largest, key), seed=drawn_seed(key))
        return torch.where(self.largest > 0, rounded, x)

    def extra_repr(self) -> str:
        """Name the scheme and the rule."""
        return f"{self.config.inputs}, {self.config.input_rule}"


def _computes_again() -> bool:
    """Return whether this is a backward pass: activation checkpointing computes layers again there."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(module, INPUT)(arguments[0]), *arguments[1:])


# --- names in state dicts: those of the plain model -------------------------------------------------------------------


def _write_plain_names(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for leaf in _quantized_leaves(module):
        hidden = f"{prefix}parametrizations.{leaf}.original"
        if hidden in state:
            state[f"{prefix}{leaf}"] = state.pop(hidden)


def _read_plain_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for leaf in _quantized_leaves(module):
        if f"{prefix}{leaf}" in state:
            state[f"{prefix}parametrizations.{leaf}.original"] = state.pop(f"{prefix}{leaf}")


def _refresh(module: Any, arguments: Any) -> None:
    """Let a recurrent module see its rounded weights: it multiplies by a list that it made of the plain ones."""
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


def _detach(module: Any, arguments: Any, result: Any) -> None:
    """Drop the graph of that list, which would keep a module from being copied."""
    module._flat_weights = [weight.detach() for weight in module._flat_weights]


def _prepare(module: Any, order: tuple[str, ...]) -> None:
    """Note the order of a module's parameters, for its plain state dict, and add the hooks that it needs."""
    module.parametrizations.order = order
    module.register_state_dict_post_hook(_write_plain_names)
    module.register_load_state_dict_pre_hook(_read_plain_names)
    if isinstance(module, nn.RNNBase):
        module.register_forward_pre_hook(_refresh)
        module.register_forward_hook(_detach)


def _remove_hooks(module: nn.Module) -> None:
    added = (_hook, _refresh, _detach, _write_plain_names, _read_plain_names)
    hooks: Any = (
        module._forward_pre_hooks, module._forward_hooks, module._state_dict_hooks, module._load_state_dict_pre_hooks
    )  # fmt: skip
    for of_kind in hooks:
        for handle in [key for key, hook in of_kind.items() if getattr(hook, "hook", hook) in added]:
            del of_kind[handle]


def quantize_(model: nn.Module, config: QuantizeConfig | None = None, filter_fn: FilterFn | None = None) -> nn.Module:
    """Make a model compute with rounded weights, in place, and stay trainable.

    The weights that an optimizer sees are the unrounded ones; gradients pass straight through.

    Parameters
    ----------
    model : nn.Module
        The model.
    config : QuantizeConfig, optional
        By default RF8 with one scale of least squared error for each tensor.
    filter_fn : callable, optional
        ``filter_fn(module, name)`` says whether the matrices of a module are quantized; by default those of Linear,
        Bilinear, Conv, ConvTranspose, Embedding, EmbeddingBag, MultiheadAttention, RNN, LSTM and GRU and their cells,
        and transformers' Conv1D are. `coverage` says what was left. Make the optimizer afterwards, or pass it
        parameters from before: they are the same tensors.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        If no module is chosen, or one has no weight, is quantized already, is parametrized otherwise, or computes where
        inputs cannot be rounded.

    Notes
    -----
    A state dict has the names of the plain model, the unrounded weights under theirs, and the scales beside them.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = quantize_(model, QuantizeConfig("rf8"))
    >>> sorted(dequantize_(model).state_dict())
    ['0.bias', '0.weight', '2.bias', '2.weight']
    """
    config = QuantizeConfig() if config is None else config
    chosen = chosen_parameters(model, filter_fn)
    for name, module, leaf in chosen:
        where = f"module {name or '(the model itself)'!r}"
        if _quantizer(module, leaf) is not None:
            raise ValueError(f"{where} is quantized already: call dequantize_ first")
        check_parameter(name, module, leaf)
        if config.inputs is not None and multiplies_inside(module):
            raise ValueError(
                f"{where} multiplies inside a function of PyTorch, where inputs cannot be rounded: leave it out with "
                "filter_fn, or inputs out of the configuration"
            )
    quantizers: dict[nn.Parameter, FakeQuantize] = {}  # one for each parameter, whichever modules share it
    for _, module, leaf in chosen:
        order = tuple(module._parameters)
        weight = module._parameters[leaf]
        assert weight is not None
        if weight not in quantizers:
            quantizers[weight] = FakeQuantize(weight, config)
        first = not _quantized_leaves(module)
        parametrize.register_parametrization(module, leaf, quantizers[weight])
        owner: Any = module.parametrizations
        if (draws := quantizers[weight].draws) is not None:
            draws.owner = (owner[leaf],)
        if not first:
            continue
        _prepare(module, order)
        if config.inputs is not None and takes_inputs(module):
            quantizer = InputQuantize(config, weight.device)
            quantizer.owner = (owner[leaf],)
            module.add_module(INPUT, quantizer)
            module.register_forward_pre_hook(_hook)
    return model


def coverage(model: nn.Module) -> Coverage:
    """Return what of a model is rounded and what is left, and why: print it.

    Parameters
    ----------
    model : nn.Module
        A model of `quantize_`, or any other.

    Returns
    -------
    Coverage

    Examples
    --------
    >>> print(coverage(quantize_(nn.Linear(8, 4, bias=False), QuantizeConfig("int8/channel"))))
    rounded: 32 of 32 weights in 1 of 1 parameters (int8/channel)
    """
    rounded, left, sizes = {}, [], [0, 0]
    for name, parameter in model.named_parameters():
        plain = plain_name(name) or name
        owner, _, leaf = plain.rpartition(".")
        module = model.get_submodule(owner) if plain_name(name) is not None else model
        quantizer = _quantizer(module, leaf)
        sizes[1] += parameter.numel()
        if quantizer is None:
            left.append(Left(plain, tuple(parameter.shape), reason_left(module, parameter)))
        else:
            rounded[plain] = str(quantizer.config.scheme)
            sizes[0] += parameter.numel()
    return Coverage(rounded, tuple(left), (sizes[0], sizes[1]))


def dequantize_(model: nn.Module, *, keep: str = "rounded") -> nn.Module:
    """Give a model plain weights back, in place, and with them a plain state dict.

    Parameters
    ----------
    model : nn.Module
        A model of `quantize_`; one without quantized modules stays as it is.
    keep : str
        ``rounded``: the weights take the values of the format; ``original``: those from before rounding.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        If ``keep`` is neither.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> before = layer.weight.detach().clone()
    >>> layer = dequantize_(quantize_(layer), keep="original")
    >>> bool((layer.weight == before).all())
    True
    """
    choose("choice of keep", keep, ("rounded", "original"))
    # All are rounded before any changes: a tied weight must not be rounded twice.
    weights = []
    for name, module, leaf in _quantized_parameters(model):
        chain = module.parametrizations[leaf]
        if len(chain) > 1:
            others = ", ".join(type(item).__name__ for item in chain if not isinstance(item, FakeQuantize))
            raise ValueError(
                f"the {leaf} of module {name or '(the model itself)'!r} has another parametrization ({others}): "
                "remove that first"
            )
        if is_sharded(chain.original):
            raise ValueError(
                f"the {leaf} of module {name or '(the model itself)'!r} is sharded over ranks: its rounded weights are "
                "those of quantized_tensors(model), its plain ones those of "
                "torch.distributed.checkpoint.state_dict.get_model_state_dict"
            )
        weights.append((module, leaf, getattr(module, leaf).detach().clone()))
    for module, leaf, rounded in weights:
        original, order = module.parametrizations[leaf].original, module.parametrizations.order
        # A copy of a model shares the class that holds the parametrized property, and PyTorch would delete it there.
        cls, shared = type(module), {"__dict__", "__weakref__"}
        module.__class__ = type(cls.__name__, cls.__bases__, {k: v for k, v in vars(cls).items() if k not in shared})
        parametrize.remove_parametrizations(module, leaf, leave_parametrized=False)
        if keep == "rounded":
            with torch.no_grad():
                original.copy_(rounded)
        if _quantized_leaves(module):
            continue
        parameters = module._parameters
        plain = [name for name in order if name in parameters]
        for name in [*plain, *(name for name in parameters if name not in plain)]:
            parameters[name] = parameters.pop(name)
        if hasattr(module, INPUT):
            delattr(module, INPUT)
        _remove_hooks(module)
        if isinstance(module, nn.RNNBase):
            _refresh(module, None)
    return model


def update_scales_(model: nn.Module) -> nn.Module:
    """Choose the scales of a quantized model again, for its weights as they are now.

    Examples
    --------
    >>> layer = quantize_(nn.Linear(3, 2), QuantizeConfig("int8/tensor,max"))
    >>> quantizer = layer.parametrizations.weight[-1]
    >>> before = quantizer.scale.clone()
    >>> _ = layer.parametrizations.weight.original.data.mul_(2)
    >>> _ = update_scales_(layer)
    >>> bool(quantizer.scale == 2 * before)
    True
    """
    for _, module, leaf in _quantized_parameters(model):
        quantizer = _quantizer(module, leaf)
        assert quantizer is not None
        quantizer.update_(module.parametrizations[leaf].original)
    return model


def _quantizer(module: nn.Module, leaf: str) -> FakeQuantize | None:
    """Return what rounds a parameter of a module."""
    if not parametrize.is_parametrized(module, leaf):
        return None
    chain: Any = module.parametrizations
    return next((item for item in chain[leaf] if isinstance(item, FakeQuantize)), None)


def _quantized_leaves(module: nn.Module) -> list[str]:
    """Return the names of the rounded parameters of a module."""
    chains: Any = getattr(module, "parametrizations", ())
    return [leaf for leaf in chains if _quantizer(module, leaf) is not None]


def _quantized_parameters(model: nn.Module) -> Iterator[tuple[str, Any, str]]:
    """Yield the rounded parameters: the module's name, the module, and the parameter's name in it."""
    for name, module in model.named_modules():
        for leaf in _quantized_leaves(module):
            yield name, module, leaf


def quantized_schemes(model: nn.Module) -> dict[str, Scheme]:
    """Return the scheme of each rounded parameter, by its plain name."""
    schemes = {}
    for name, module, leaf in _quantized_parameters(model):
        quantizer = _quantizer(module, leaf)
        assert quantizer is not None
        schemes[f"{name}.{leaf}".lstrip(".")] = quantizer.config.scheme
    return schemes


def rounded_weights(model: nn.Module) -> Iterator[tuple[str, QuantizedTensor]]:
    """Yield the plain names of the rounded parameters, and their codes and scales."""
    for name, module, leaf in _quantized_parameters(model):
        quantizer = _quantizer(module, leaf)
        assert quantizer is not None
        yield f"{name}.{leaf}".lstrip("."), quantizer.quantized(module.parametrizations[leaf].original)


def _numpy(tensor: Tensor) -> Any:
    """Return a tensor as a numpy array; bfloat16 as the float32 numbers that they are."""
    tensor = gathered(tensor.detach()).cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def quantized_tensors(
    model: nn.Module, config: QuantizeConfig | None = None, filter_fn: FilterFn | None = None
) -> dict[str, QuantizedTensor | Any]:
    """Return codes and scales of the quantized weights of a model, and the other parameters as numpy arrays.

    Parameters
    ----------
    model, config, filter_fn
        As for `model_size`.

    Returns
    -------
    dict
        By the names that the parameters have in the model that is not quantized.

    Examples
    --------
    >>> quantized_tensors(quantize_(nn.Linear(4, 2)))["weight"].shape
    (2, 4)
    """
    return {
        name: _numpy(parameter) if quantized is None else quantized
        for name, parameter, quantized in parameters(model, config, filter_fn)
    }


def parameters(
    model: nn.Module, config: QuantizeConfig | None, filter_fn: FilterFn | None
) -> Iterator[tuple[str, Tensor, QuantizedTensor | None]]:
    """Yield every parameter once, by its plain name, and what it is quantized to."""
    done = {f"{name}.{leaf}".lstrip("."): (module, leaf) for name, module, leaf in _quantized_parameters(model)}
    if done and config is not None:
        raise ValueError("the model is quantized already: leave the config out, or call dequantize_ first")
    for name, parameter in model.named_parameters():
        plain = plain_name(name) or name
        owner, _, leaf = plain.rpartition(".")
        quantized = None
        if plain in done:
            quantizer = _quantizer(*done[plain])
            assert quantizer is not None
            quantized = quantizer.quantized(parameter)
        elif config is not None:
            module = model.get_submodule(owner)
            chosen = filter_fn(module, owner) if filter_fn else is_matrix_module(module)
            if chosen and leaf in parameters_of(module):
                quantized = FakeQuantize(parameter, config).quantized(parameter)
        yield plain, parameter, quantized
