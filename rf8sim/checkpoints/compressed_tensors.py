"""The configuration that lets the library compressed-tensors read a checkpoint in float8, where its form allows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..quantization.blocks import Block
from .plan import Recipe

__all__ = ["quantization_config"]


def quantization_config(
    recipes: Mapping[str, Recipe | None], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any] | None:
    """Return the ``quantization_config`` of a model's ``config.json``.

    Parameters
    ----------
    recipes : dict of str to Recipe or None
        The recipe of each tensor of two axes or more; None for one that stayed as it was.
    shapes : dict of str to tuple of int
        Their shapes.

    Returns
    -------
    dict or None
        The config, of the form ``float-quantized``: E4M3 weights of linear layers, float32 scales that multiply (of a
        ``tensor``, a ``channel``, a ``group`` of a row, or a ``block`` of rows and columns), activations as they are.
        None where the library expects something else than what the file has: other formats, several schemes, no scales,
        other scales, entropy coding, tensors that are not the weights of linear layers, rows that are not whole blocks.

    Examples
    --------
    >>> shapes = {"up.weight": (256, 128), "embed.weight": (256, 128)}
    >>> config = quantization_config({"up.weight": Recipe("e4m3fn/channel"), "embed.weight": None}, shapes)
    >>> config["format"], config["config_groups"]["group_0"]["weights"]["strategy"], config["ignore"]
    ('float-quantized', 'channel', ['embed'])
    >>> config = quantization_config({"up.weight": Recipe("fp8_128x128")}, shapes)
    >>> config["config_groups"]["group_0"]["weights"]["block_structure"]
    [128, 128]
    >>> quantization_config({"up.weight": Recipe("rf8/channel")}, shapes) is None
    True
    """
    done = {name: recipe for name, recipe in recipes.items() if recipe is not None}
    blocks = {recipe.scheme.scales.block for recipe in done.values() if recipe.scheme.scales is not None}
    if len(blocks) != 1 or not all(map(_multiplies, done.values())):
        return None
    [block] = blocks
    weights = _strategy(block)
    if weights is None or not all(_fits(name, shapes[name], block) for name in done):
        return None
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": [
            name.removesuffix(".weight")
            for name, recipe in recipes.items()
            if recipe is None and name.endswith(".weight")
        ],
    }


def _strategy(block: Block) -> dict[str, Any] | None:
    """Return how weights with scales of a block are described; None if they cannot be."""
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
    if block is None or block == (1, -1):
        return {**weights, "strategy": "tensor" if block is None else "channel", "group_size": None}
    if len(block) != 2 or -1 in block:
        return None
    if block[0] == 1:
        return {**weights, "strategy": "group", "group_size": block[1]}
    return {**weights, "strategy": "block", "group_size": None, "block_structure": list(block)}


def _fits(name: str, shape: tuple[int, ...], block: Block) -> bool:
    """Whether a tensor is the weight of a linear layer whose rows are made of whole blocks."""
    divides = block is None or block[-1] == -1 or shape[-1] % block[-1] == 0
    return name.endswith(".weight") and len(shape) == 2 and divides


def _multiplies(recipe: Recipe) -> bool:
    """Whether the weights are E4M3 codes times float32 scales, as a file holds them."""
    scales = recipe.scheme.scales
    plain = recipe.scheme.format.name == "e4m3fn" and recipe.entropy == "none"
    return plain and scales is not None and scales.format == "float32" and scales.outer is None
