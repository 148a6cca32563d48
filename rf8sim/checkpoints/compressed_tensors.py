"""What the library compressed-tensors wants to be told of a checkpoint in float8, where its words can say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plan import Recipe

__all__ = ["quantization_config"]


def quantization_config(recipes: Mapping[str, Recipe | None]) -> dict[str, Any] | None:
    """Return the ``quantization_config`` of a model's ``config.json``.

    Parameters
    ----------
    recipes : dict of str to Recipe or None
        The recipe of each tensor of two axes or more; None for one that stayed as it was.

    Returns
    -------
    dict or None
        The config, of the form ``float-quantized``: E4M3 codes, float32 scales that multiply (of a tensor, a channel, a
        ``group`` of a row, or a ``block`` of rows and columns), activations as they are. None where something else was
        done: other formats, several schemes, no scales, entropy coding.

    Examples
    --------
    >>> config = quantization_config({"up.weight": Recipe("e4m3fn/channel"), "embed.weight": None})
    >>> config["format"], config["config_groups"]["group_0"]["weights"]["strategy"], config["ignore"]
    ('float-quantized', 'channel', ['embed'])
    >>> quantization_config({"up.weight": Recipe("rf8/channel")}) is None
    True
    """
    done = [recipe for recipe in recipes.values() if recipe is not None]
    blocks = {recipe.scheme.scales.block for recipe in done if recipe.scheme.scales is not None}
    if len(blocks) != 1 or not all(map(_multiplies, done)):
        return None
    [block] = blocks
    weights: dict[str, Any] = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
    if block is None or block == (1, -1):
        weights |= {"strategy": "tensor" if block is None else "channel", "group_size": None}
    elif len(block) == 2 and block[0] == 1:
        weights |= {"strategy": "group", "group_size": block[1]}
    elif len(block) == 2 and -1 not in block:
        weights |= {"strategy": "block", "group_size": None, "block_structure": list(block)}
    else:
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


def _multiplies(recipe: Recipe) -> bool:
    """Whether the weights are E4M3 codes times float32 scales, as a file holds them."""
    scales = recipe.scheme.scales
    plain = recipe.scheme.format.name == "e4m3fn" and recipe.entropy == "none"
    return plain and scales is not None and scales.format == "float32" and scales.outer is None
