"""Models saved as quantized checkpoints, and loaded from them."""

from __future__ import annotations

import tempfile
from collections.abc import Container
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import open_checkpoint
from ..checkpoints.guard import quantize_checkpoint
from ..checkpoints.plan import Plan, Rule
from ..checkpoints.quantized import open_quantized
from ..checkpoints.safetensors import is_one_file
from .coverage import plain_name
from .models import quantized_schemes, rounded_weights

if TYPE_CHECKING:
    from ..checkpoints.manifest import Manifest

__all__ = ["load_quantized", "save_quantized"]

_Model = TypeVar("_Model", bound=nn.Module)


def save_quantized(model: nn.Module, path: str | Path, plan: Plan | None = None, **options: Any) -> Manifest:
    """Write a model as a quantized checkpoint, as `rf8sim quantize` does its file.

    The weights of a model of `quantize_` are written with the codes and the scales that they have, one that several
    modules share once. By a plan, or with ``protection``, scales are chosen again: where the rounded weights lie on the
    grid of the new scale, as with powers of two, no weight changes.

    Parameters
    ----------
    model : nn.Module
        The model.
    path : str or Path
        A ``.safetensors`` file or a new folder. A model of transformers saves its configuration in a folder:
        ``from_pretrained`` opens those of schemes that `rf8sim.checkpoints.compressed_tensors` can tell it of, and
        stops at others.
    plan : Plan, optional
        What each tensor gets, by its plain name. By default the scheme of `quantize_` for the weights that it chose and
        no other; for a plain model RF8 with a scale for each channel, and norms, embeddings and biases as they are.
    **options
        As for `rf8sim.checkpoints.guard.quantize_checkpoint`: ``protection``, ``require``, ``evaluate``.

    Returns
    -------
    Manifest
        What was checked.

    Raises
    ------
    ValueError, OSError
        As `rf8sim.checkpoints.guard.quantize_checkpoint`; and if transformers saves the weights of a model in a folder
        under other names than the model has.

    Examples
    --------
    >>> model = nn.Linear(64, 32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_quantized(model, f"{folder}/model.safetensors")
    ...     other = load_quantized(nn.Linear(64, 32), f"{folder}/model.safetensors")
    >>> float((other.weight - model.weight).detach().abs().max()) < 0.01, bool((other.bias == model.bias).all())
    (True, True)
    """
    from safetensors.torch import save_file

    schemes = quantized_schemes(model)
    tensors: dict[str, Tensor] = {}
    repeated = {name for names in _tied(model) for name in names[1:]}
    for name, value in model.state_dict().items():
        plain = plain_name(name)
        if plain is not None and plain not in repeated:
            owner, _, leaf = plain.rpartition(".")
            stored = getattr(model.get_submodule(owner), leaf) if plain in schemes else value
            tensors[plain] = stored.detach().cpu().clone().contiguous()
    rounded = None
    if plan is None and options.get("protection") is None:
        rounded = {name: weight for name, weight in rounded_weights(model) if name in tensors}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model"
        if hasattr(model, "save_pretrained") and not is_one_file(Path(path)):
            _save_folder(model, tensors, source)
        else:
            source = source.with_suffix(".safetensors")
            save_file(tensors, source)
        return quantize_checkpoint(source, path, plan or _plan_of(model, tensors), rounded=rounded, **options)


def _save_folder(model: Any, tensors: dict[str, Tensor], folder: Path) -> None:
    """Save a model of transformers with its configuration, under the names that its weights have here."""
    model.save_pretrained(folder, state_dict=tensors)
    missing = sorted(set(tensors) - {tensor.name for tensor in open_checkpoint(folder)})
    if missing:
        raise ValueError(
            f"transformers saves a {type(model).__name__} under other names than the model's, such as {missing[0]!r}: "
            "name a .safetensors file"
        )


def _tied(model: nn.Module) -> list[list[str]]:
    """Return the plain names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(plain_name(name) or name)
    return [names_of_one for names_of_one in names.values() if len(names_of_one) > 1]


def _plan_of(model: nn.Module, names: Container[str]) -> Plan | None:
    """Return the plan that stores the weights of a quantized model by their schemes; None for a plain model."""
    schemes = quantized_schemes(model)
    stored = tuple(Rule(escape(name), {"scheme": scheme}) for name, scheme in schemes.items() if name in names)
    return Plan(rules=(*stored, Rule("*", keep=True))) if stored else None


def load_quantized(model: _Model, path: str | Path) -> _Model:
    """Load the dequantized weights of a quantized checkpoint into a model, in place.

    Parameters
    ----------
    model : nn.Module
        A plain model with parameters of the checkpoint's names and shapes. Of the names of a weight that several
        modules share, the checkpoint needs one.
    path : str or Path
        As for `rf8sim.checkpoints.quantized.open_quantized`.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        If the checkpoint cannot be read, or is of another model.
    """
    state = {}
    for tensor in open_quantized(path):
        values = tensor.dequantize(np.float64 if tensor.dtype == "float64" else np.float32)
        state[tensor.name] = torch.from_numpy(np.ascontiguousarray(values)).reshape(tensor.shape)
    for names in _tied(model):
        stored = next((state[name] for name in names if name in state), None)
        state |= {} if stored is None else {name: state.get(name, stored) for name in names}
    missing = sorted(set(state) ^ set(model.state_dict()))
    if missing:
        raise ValueError(f"{path} is of another model: {missing[0]!r} is not in both")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} is of another model: {str(error).splitlines()[-1].strip()}") from None
    return model
