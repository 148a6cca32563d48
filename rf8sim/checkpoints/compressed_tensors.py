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
        The config, of the form ``float-quantized``: E4M3 codes, scales that multiply (of a tensor, a row, which it
        calls ``channel``, or a block, ``group``), activations as they are. None where something else was done: other
        formats, several layouts, no scales, entropy coding.

    Examples
    --------
    >>> config = quantization_config({"up.weight": Recipe("e4m3fn"), "embed.weight": None})
    >>> config["format"], config["config_groups"]["group_0"]["weights"]["strategy"], config["ignore"]
    ('float-quantized', 'channel', ['embed'])
    >>> quantization_config({"up.weight": Recipe("rf8")}) is None
    True
    """
    done = [recipe for recipe in recipes.values() if recipe is not None]
    layouts = {(r.format, r.entropy, r.scaling, r.block_size if r.scaling == "block" else None) for r in done}
    if len(layouts) != 1:
        return None
    [(fmt, entropy, scaling, block)] = layouts
    if (fmt, entropy) != ("e4m3fn", "none") or scaling == "none":
        return None
    weights = {
        "num_bits": 8,
        "type": "float",
        "symmetric": True,
        "dynamic": False,
        "strategy": "group" if scaling == "block" else scaling,
        "group_size": block,
    }
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
