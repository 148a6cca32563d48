"""The ``config.json`` of a model, beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._base.files import read_json

__all__ = ["model_config"]


def model_config(path: Path) -> dict[str, Any]:
    """Return the ``config.json`` beside a checkpoint; empty if there is none, or it is not an object of JSON.

    Parameters
    ----------
    path : Path
        The file of the checkpoint, or its index.

    Examples
    --------
    >>> model_config(Path("nowhere/model.safetensors"))
    {}
    """
    try:
        config = read_json(path.parent / "config.json")
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
