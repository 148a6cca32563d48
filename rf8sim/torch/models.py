"""Models that compute with rounded weights and, if wanted, rounded inputs of their layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._base.checks import choose
from ..formats import Format
from ..quantization.scaling import Chosen
from ..quantization.scheme import Scheme, as_scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .fake import choose_for, constant_key, drawn_seed, factors, round_at, scale_for

__all__ = [
    "FakeQuantize", "InputQuantize", "QuantizeConfig", "dequantize_", "quantize_", "quantized_tensors",
    "update_scales_",
]  # fmt: skip

_QUANTIZED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding, nn.EmbeddingBag)
INPUT = "input_quantizer"
INPUT_RULES = ("max", "ema")
FilterFn = Callable[[nn.Module, str], bool]


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

    def __init__(
        self,
        scheme: str | Format | Scheme = "rf8",
        *,
        scale: float | None = None,
        inputs: str | Format | Scheme | None = None,
        input_rule: str = "ema",
        input_momentum: float = 0.1,
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
        fields = {"scheme": stored, "scale": scale, "inputs": rounded, "input_rule": input_rule}
        for name, value in {**fields, "input_momentum": input_momentum}.items():
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
    order: tuple[str, ...] = ("weight",)  # of the layer's parameters before one was parametrized

    def __init__(self, weight: Tensor, config: QuantizeConfig) -> None:
        super().__init__()
        self.config = config
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
        buffers = dict(self.named_buffers())
        scales = tuple(_numpy(buffers[name]) for name in ("scale", "outer") if name in buffers)
        return Chosen(scales, _numpy(buffers["zero"]) if "zero" in buffers else None)

    def update_(self, weight: Tensor) -> None:
        """Choose the scales again, for the weight as it is now."""
        for name, value in self._chosen(weight).items():
            getattr(self, name).copy_(value)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight as its scheme stores it."""
        scheme = self.config.scheme
        key = constant_key(scheme)
        seed = drawn_seed(key)
        if scheme.scales is None:
            return round_at(weight, key, None, seed=seed)
        levels = (self.scale,) if scheme.scales.outer is None else (self.scale, self.outer)
        zero = None if scheme.scales.zero is None else self.zero
        return round_at(weight, key, *factors(scheme, levels, zero), seed)

    def quantized(self, weight: Tensor) -> QuantizedTensor:
        """Return codes and scales of a weight."""
        scheme = self.config.scheme
        return quantize(_numpy(weight), scheme, scale=None if scheme.scales is None else self._stored())

    def extra_repr(self) -> str:
        """Name the scheme."""
        count = self.scale.numel() if self.config.scheme.scales is not None else 0
        return f"{self.config.scheme}, {count} scales"


class InputQuantize(nn.Module):
    """Round what goes into a layer, at a running scale that training updates and evaluation keeps.

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

    def __init__(self, config: QuantizeConfig, device: torch.device | None = None) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("largest", torch.zeros((), device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Return x rounded; without a scale yet, of a layer that has seen no training batch, x as it is."""
        config = self.config
        assert config.inputs is not None
        if self.training:
            batch = x.detach().abs().amax().to(self.largest.dtype)
            if config.input_rule == "ema":
                batch = torch.where(self.largest > 0, torch.lerp(self.largest, batch, config.input_momentum), batch)
            self.largest.copy_(torch.maximum(self.largest, batch) if config.input_rule == "max" else batch)
        key = constant_key(config.inputs)
        rounded = round_at(x, key, scale_for(self.largest, key), seed=drawn_seed(key))
        return torch.where(self.largest > 0, rounded, x)

    def extra_repr(self) -> str:
        """Name the scheme and the rule."""
        return f"{self.config.inputs}, {self.config.input_rule}"


def _hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(module, INPUT)(arguments[0]), *arguments[1:])


def _default_filter(module: nn.Module, name: str) -> bool:
    return isinstance(module, _QUANTIZED)


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
        ``filter_fn(module, name)`` says whether a module's weight is quantized; by default those of Linear, Conv,
        Embedding and EmbeddingBag are. Make the optimizer afterwards, or pass it parameters from before: they are the
        same tensors.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        If no module is chosen, one has no weight, or one is quantized already.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = quantize_(model, QuantizeConfig("rf8"))
    >>> sorted(dequantize_(model).state_dict())
    ['0.bias', '0.weight', '2.bias', '2.weight']
    """
    config = QuantizeConfig() if config is None else config
    chosen = [(name, module) for name, module in model.named_modules() if (filter_fn or _default_filter)(module, name)]
    if not chosen:
        raise ValueError("no module of the model was chosen to be quantized: check filter_fn")
    for name, module in chosen:
        where = f"module {name or '(the model itself)'!r}"
        if _quantizer(module) is not None:
            raise ValueError(f"{where} is quantized already: call dequantize_ first")
        if not isinstance(getattr(module, "weight", None), nn.Parameter):
            raise ValueError(f"{where} has no weight to quantize: leave it out with filter_fn")
    # Tied weights are rounded in every module that uses them, at the same scale.
    for _, module in chosen:
        weight = module.weight
        assert isinstance(weight, nn.Parameter)
        quantizer = FakeQuantize(weight, config)
        quantizer.order = tuple(module._parameters)
        parametrize.register_parametrization(module, "weight", quantizer)
        if config.inputs is not None and not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.add_module(INPUT, InputQuantize(config, weight.device))
            module.register_forward_pre_hook(_hook)
    return model


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
    weights = [(module, module.weight.detach().clone()) for _, module in _quantized_modules(model)]
    for module, rounded in weights:
        original, order = module.parametrizations.weight.original, module.parametrizations.weight[-1].order
        # A copy of a model shares the class that holds the parametrized property, and PyTorch would delete it there.
        cls, shared = type(module), {"__dict__", "__weakref__"}
        module.__class__ = type(cls.__name__, cls.__bases__, {k: v for k, v in vars(cls).items() if k not in shared})
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        if keep == "rounded":
            with torch.no_grad():
                original.copy_(rounded)
        parameters = module._parameters
        for name in [*order, *(name for name in parameters if name not in order)]:
            parameters[name] = parameters.pop(name)
        if hasattr(module, INPUT):
            delattr(module, INPUT)
            hooks = module._forward_pre_hooks
            for key in [key for key, hook in hooks.items() if hook is _hook]:
                del hooks[key]
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
    for _, module in _quantized_modules(model):
        module.parametrizations.weight[-1].update_(module.parametrizations.weight.original)
    return model


def _quantizer(module: nn.Module) -> FakeQuantize | None:
    if not parametrize.is_parametrized(module, "weight"):
        return None
    chain: Any = module.parametrizations
    last = chain.weight[-1]
    return last if isinstance(last, FakeQuantize) else None


def _quantized_modules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if _quantizer(module) is not None:
            yield name, module


def quantized_schemes(model: nn.Module) -> dict[str, Scheme]:
    """Return the scheme of the weight of each quantized module, by the module's name."""
    return {name: module.parametrizations.weight[-1].config.scheme for name, module in _quantized_modules(model)}


def _numpy(tensor: Tensor) -> Any:
    """Return a tensor as a numpy array; bfloat16 as the float32 numbers that they are."""
    tensor = tensor.detach().cpu()
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


def plain_name(name: str) -> str | None:
    """Return the name that an entry of a state dict has in the model that is not quantized; None if it has none."""
    head, parametrized, tail = f".{name}".partition(".parametrizations.weight.")
    if parametrized:
        return f"{head}.weight"[1:] if tail == "original" else None
    return None if f".{INPUT}." in f".{name}" else name


def parameters(
    model: nn.Module, config: QuantizeConfig | None, filter_fn: FilterFn | None
) -> Iterator[tuple[str, Tensor, QuantizedTensor | None]]:
    """Yield every parameter once, by its plain name, and what it is quantized to."""
    done = dict(_quantized_modules(model))
    if done and config is not None:
        raise ValueError("the model is quantized already: leave the config out, or call dequantize_ first")
    chosen = filter_fn or _default_filter
    for name, parameter in model.named_parameters():
        plain = plain_name(name) or name
        owner, _, leaf = plain.rpartition(".")
        quantized = None
        if leaf == "weight" and owner in done:
            quantizer = _quantizer(done[owner])
            assert quantizer is not None
            quantized = quantizer.quantized(parameter)
        elif leaf == "weight" and config is not None and chosen(model.get_submodule(owner), owner):
            quantized = FakeQuantize(parameter, config).quantized(parameter)
        yield plain, parameter, quantized
