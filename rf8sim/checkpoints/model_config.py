"""The ``config.json`` of a model, beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
