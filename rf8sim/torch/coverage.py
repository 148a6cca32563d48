"""Which parameters of which modules are matrices that are rounded, and what of a model is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from ggd.torch_shards import is_sharded

__all__ = [
    "Coverage",
    "FilterFn",
    "chosen_parameters",
    "is_matrix_module",
    "multiplies_inside",
    "plain_name",
    "takes_inputs",
]

FilterFn = Callable[[nn.Module, str], bool]

_WEIGHT = (
    nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d,
    nn.ConvTranspose3d, nn.Embedding, nn.EmbeddingBag,
)  # fmt: skip
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_TABLES = (nn.Embedding, nn.EmbeddingBag)


def _is_transposed_linear(module: nn.Module) -> bool:
    """Return whether a module is transformers' Conv1D, a linear layer whose weight is (inputs, outputs)."""
    return any(cls.__name__ == "Conv1D" for cls in type(module).__mro__) and hasattr(module, "nf")


def is_matrix_module(module: nn.Module) -> bool:
    """Return whether a module is of a kind whose matrices are rounded."""
    known = isinstance(module, (*_WEIGHT, *_RECURRENT, nn.MultiheadAttention))
    return known or _is_transposed_linear(module)


def takes_inputs(module: nn.Module) -> bool:
    """Return whether what a module is called with is what its matrix is multiplied by."""
    return (isinstance(module, _WEIGHT) and not isinstance(module, (*_TABLES, nn.Bilinear))) or _is_transposed_linear(
        module
    )


def parameters_of(module: nn.Module) -> list[str]:
    """Return the names of the matrices of a module; of one of an unknown kind ``weight``.

    Examples
    --------
    >>> parameters_of(nn.GRU(3, 4)), parameters_of(nn.MultiheadAttention(8, 2, kdim=4))
    (['weight_ih_l0', 'weight_hh_l0'], ['q_proj_weight', 'k_proj_weight', 'v_proj_weight'])
    """
    if isinstance(module, nn.MultiheadAttention):
        return [name for name in _PROJECTIONS if getattr(module, name) is not None]
    if isinstance(module, _RECURRENT):
        names = [*module._parameters, *getattr(module, "parametrizations", ())]
        return [name for name in names if name.startswith("weight_")]
    return ["weight"]


def multiplies_inside(module: nn.Module) -> bool:
    """Return whether a module's matrices are multiplied inside a function, and not by calling it with their inputs.

    One is the output projection of MultiheadAttention, a linear layer that is never called.
    """
    return isinstance(module, (nn.MultiheadAttention, *_RECURRENT, nn.modules.linear.NonDynamicallyQuantizableLinear))


class Left(NamedTuple):
    """A parameter that is not rounded.

    Attributes
    ----------
    name : str
        Its plain name.
    shape : tuple of int
        Its shape.
    reason : str
        Why.
    """

    name: str
    shape: tuple[int, ...]
    reason: str


class Coverage(NamedTuple):
    """What of a model is rounded and what is left.

    Attributes
    ----------
    rounded : dict of str
        The scheme of each rounded parameter, by its plain name.
    left : tuple of Left
        The others.
    weights : tuple of int
        How many weights are rounded, and how many there are.

    Examples
    --------
    >>> import rf8sim.torch
    >>> model = rf8sim.torch.quantize_(nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4)))
    >>> print(rf8sim.torch.coverage(model))
    rounded: 32 of 44 weights in 1 of 4 parameters (rf8)
    left as they are:
      0.bias (4,): a vector
      1.weight (4,): a vector
      1.bias (4,): a vector
    """

    rounded: dict[str, str]
    left: tuple[Left, ...]
    weights: tuple[int, int]

    def __str__(self) -> str:
        some, every = self.weights
        schemes = ", ".join(dict.fromkeys(self.rounded.values())) or "no scheme"
        count = len(self.rounded) + len(self.left)
        lines = [f"rounded: {some:,} of {every:,} weights in {len(self.rounded)} of {count} parameters ({schemes})"]
        if self.left:
            lines += ["left as they are:", *(f"  {left.name} {left.shape}: {left.reason}" for left in self.left)]
        return "\n".join(lines)


def reason_left(module: nn.Module, parameter: Any) -> str:
    """Return why a parameter is not rounded."""
    if parameter.ndim < 2:
        return "a vector"
    if is_matrix_module(module):
        return "not chosen"
    return f"of {type(module).__name__}, whose matrices are not known: choose it with filter_fn if it has a 'weight'"


def chosen_parameters(model: nn.Module, filter_fn: FilterFn | None) -> list[tuple[str, nn.Module, str]]:
    """Return the names of modules, the modules, and the names of their parameters that are to be rounded.

    Raises
    ------
    ValueError
        If none is chosen, or one cannot be rounded.
    """
    chosen = [
        (name, module, leaf)
        for name, module in model.named_modules()
        if (filter_fn(module, name) if filter_fn else is_matrix_module(module))
        for leaf in parameters_of(module)
    ]
    if not chosen:
        raise ValueError("no module of the model was chosen to be quantized: check filter_fn")
    return chosen


def check_parameter(name: str, module: nn.Module, leaf: str) -> None:
    """Refuse a parameter that cannot be rounded, with a sentence that says why."""
    where = f"module {name or '(the model itself)'!r}"
    old_norm = any(type(hook).__name__ in ("WeightNorm", "SpectralNorm") for hook in module._forward_pre_hooks.values())
    if parametrize.is_parametrized(module, leaf) or old_norm:
        raise ValueError(
            f"the {leaf} of {where} is parametrized (weight_norm, spectral_norm, ...) and computed in each pass: "
            "remove the parametrization first, or leave the module out with filter_fn"
        )
    if is_sharded(getattr(module, leaf, None)):
        raise ValueError(f"the {leaf} of {where} is sharded already: call quantize_ first and fully_shard afterwards")
    if not isinstance(getattr(module, leaf, None), nn.Parameter):
        raise ValueError(f"{where} has no {leaf} to quantize: leave it out with filter_fn")


def plain_name(name: str, hidden: str = "input_quantizer") -> str | None:
    """Return the name that an entry of a state dict has in the model that is not quantized; None if it has none.

    Examples
    --------
    >>> plain_name("0.parametrizations.weight.original"), plain_name("0.parametrizations.weight.0.scale")
    ('0.weight', None)
    """
    head, parametrized, tail = f".{name}".partition(".parametrizations.")
    if parametrized:
        leaf, _, entry = tail.partition(".")
        return f"{head}.{leaf}"[1:] if entry == "original" else None
    return None if f".{hidden}." in f".{name}" else name
