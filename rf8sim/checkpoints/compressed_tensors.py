"""The configuration by which transformers and compressed-tensors read quantized weights, where their forms allow it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..quantization.blocks import Block
from .layouts import layout_of
from .plan import Recipe

__all__ = ["Recipes", "Shapes", "misread", "quantization_config"]

Recipes = Mapping[str, Recipe | None]
Shapes = Mapping[str, tuple[int, ...]]


def quantization_config(recipes: Recipes, shapes: Shapes) -> dict[str, Any] | None:
    """Return the ``quantization_config`` of a model's ``config.json``.

    Parameters
    ----------
    recipes : dict of str to Recipe or None
        The recipe of each tensor; None for one that stayed as it was.
    shapes : dict of str to tuple of int
        Their shapes.

    Returns
    -------
    dict or None
        The config of the library compressed-tensors: weights in one of its forms, activations as they are. ``ignore``
        names the modules whose weights stayed as they were, and the heads that share a weight with another module.
        ``dequantize`` has transformers decode every weight when it loads the model: also of convolutions, of routers
        and of single experts. None where `misread` says why, and where no weight has a scale.

    Examples
    --------
    >>> shapes = {"up.weight": (256, 128), "embed.weight": (256, 128)}
    >>> config = quantization_config({"up.weight": Recipe("e4m3fn/channel"), "embed.weight": None}, shapes)
    >>> config["format"], config["config_groups"]["group_0"]["weights"]["strategy"], config["ignore"]
    ('float-quantized', 'channel', ['embed', 'lm_head'])
    >>> config = quantization_config({"up.weight": Recipe("fp8_128x128")}, shapes)
    >>> config["config_groups"]["group_0"]["weights"]["block_structure"]
    [128, 128]
    >>> quantization_config({"up.weight": Recipe("rf8/channel")}, shapes) is None
    True
    """
    scaled = dict(_scaled(recipes))
    if not scaled or misread(recipes, shapes) is not None:
        return None
    name, recipe = next(iter(scaled.items()))
    form = layout_of(name, recipe, shapes[name]).form
    assert recipe.scheme.scales is not None
    weights = {**_elements(form), "symmetric": True, "dynamic": False, **_strategy(form, recipe.scheme.scales.block)}
    activations = {"input_activations": None, "output_activations": None}
    group = {"targets": ["Linear"], "weights": weights, "format": form, **activations}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": [*_unscaled_modules(recipes, shapes), *_tied_heads(recipes)],
        "dequantize": True,
    }


def misread(recipes: Recipes, shapes: Shapes) -> str | None:
    """Return why transformers and compressed-tensors would misread quantized tensors; None if they would not.

    Parameters
    ----------
    recipes, shapes
        As for `quantization_config`.

    Returns
    -------
    str or None
        A sentence that names a tensor.

    Examples
    --------
    >>> misread({"up.weight": Recipe("rf8")}, {"up.weight": (256, 128)})
    "'up.weight' is stored as rf8/channel, which they do not have"
    """
    forms: dict[tuple[str, Block], str] = {}
    for name, recipe in recipes.items():
        if recipe is not None and recipe.scheme.scales is None and not _is_plain(recipe):
            return f"{name!r} is stored as {recipe.scheme}, which they do not have"
    for name, recipe in _scaled(recipes):
        reason = _unread(name, recipe, shapes[name])
        if reason:
            return f"{name!r} {reason}"
        assert recipe.scheme.scales is not None
        block = recipe.scheme.scales.block
        shared: Block = (1, -1) if block is not None and -1 in block else block  # a channel, of any number of axes
        forms.setdefault((layout_of(name, recipe, shapes[name]).form, shared), name)
    if len(forms) > 1:
        first, second = list(forms.values())[:2]
        return f"{first!r} and {second!r} have different schemes: they decode all weights by one"
    return None


def _is_plain(recipe: Recipe) -> bool:
    """Whether a tensor is stored as ordinary numbers of another type."""
    return recipe.scheme.format.name in ("float16", "bfloat16") and recipe.scheme.scales is None and (
        recipe.entropy == "none")  # fmt: skip


def _scaled(recipes: Recipes) -> Iterator[tuple[str, Recipe]]:
    """Yield the tensors that are made of codes and scales."""
    for name, recipe in recipes.items():
        if recipe is not None and recipe.scheme.scales is not None:
            yield name, recipe


def _unread(name: str, recipe: Recipe, shape: tuple[int, ...]) -> str:
    """Return why one tensor with scales is misread; empty if it is not."""
    scales = recipe.scheme.scales
    assert scales is not None
    form = layout_of(name, recipe, shape).form
    if not form:
        coder = "" if recipe.entropy == "none" else f", coded by {recipe.entropy}"
        return f"is stored as {recipe.scheme}{coder}, which they do not have"
    if not name.endswith(".weight"):
        return "is not named as the weight of a layer (.weight)"
    if len(shape) < 2:
        return "has one axis"
    by_row = scales.block is None or scales.block == (1, -1)
    if len(shape) > 2:
        reads = scales.block is None or scales.block == (1, *[-1] * (len(shape) - 1)) or (by_row and len(shape) > 3)
        return "" if reads else f"has {len(shape)} axes, and scales of {scales.block_text}"
    if _EXPERT.search(name) and not (form == "float-quantized" and by_row):
        return f"is one expert of several, which they stack before they decode {form}"
    if not by_row and (
        len(scales.block or ()) != 2 or -1 in (scales.block or ()) or shape[1] % (scales.block or (1, 1))[1]
    ):
        return f"has scales of {scales.block_text}, which do not divide its {shape[1]} columns"
    return ""


_EXPERT = re.compile(r"\.experts\.\d+\.")


def _elements(form: str) -> dict[str, Any]:
    """Return how codes of a form are described."""
    return {"num_bits": 4 if "fp4" in form else 8, "type": "int" if form == "int-quantized" else "float"}


def _strategy(form: str, block: Block) -> dict[str, Any]:
    """Return how scales of a block are described."""
    if block is None or -1 in block:
        return {"strategy": "tensor" if block is None else "channel", "group_size": None}
    if block[0] == 1:
        grouped = {"strategy": "group", "group_size": block[1]}
        if form == "nvfp4-pack-quantized":
            return {**grouped, "strategy": "tensor_group", "scale_dtype": "torch.float8_e4m3fn"}
        return {**grouped, "scale_dtype": "torch.uint8"} if form.startswith("mxfp") else grouped
    return {"strategy": "block", "group_size": None, "block_structure": list(block)}


def _unscaled_modules(recipes: Recipes, shapes: Shapes) -> Iterator[str]:
    """Yield the modules whose weights of two axes or more have no scales."""
    for name, recipe in recipes.items():
        unscaled = recipe is None or recipe.scheme.scales is None
        if unscaled and len(shapes[name]) > 1 and name.endswith(".weight"):
            yield name.removesuffix(".weight")


_TIED_HEADS = {
    "lm_head": "",
    "cls.predictions.decoder": "cls.predictions.",
    "lm_head.decoder": "lm_head.",
    "predictions.decoder": "predictions.",
    "vocab_projector": "vocab_transform.",
    "generator_lm_head": "generator_predictions.",
    "proj_out": "model.decoder.",
}
"""Heads of transformers' models that may share the weight of an embedding, and what other tensors of such a model begin
with."""


def _tied_heads(recipes: Recipes) -> Iterator[str]:
    """Yield the heads that a model may have though the checkpoint has no weight of theirs: it is an embedding's."""
    for head, beginning in _TIED_HEADS.items():
        if f"{head}.weight" not in recipes and any(name.startswith(beginning) for name in recipes):
            yield head
