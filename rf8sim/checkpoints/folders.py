"""The files beside the weights of a model's folder: carried over, with a ``config.json`` that fits what is stored.

A folder that other tools would misread must stop them. transformers only warns of a ``quant_method`` that it does not
know, and takes a model without ``model_type`` by the folder's name; a ``quantization_config`` that compressed-tensors
cannot parse stops it, whichever class opens the folder, and the message has the words of the field that was wrong.
Without ``architectures`` and with a ``model_type`` that nobody has, other tools stop too. Where the config is given
apart from the folder nothing in it is read, so the weights do not have the name under which weights are looked for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._base.files import flush, read_json
from .compressed_tensors import Recipes, Shapes, misread, quantization_config

__all__ = [
    "carry_over", "codes_name", "is_model_folder", "is_stopping", "original_config", "stored_config", "weights_name",
    "why_stopped", "write_flushed",
]  # fmt: skip

_CARRIED = {
    ".bpe", ".jinja", ".json", ".jsonl", ".md", ".merges", ".model", ".py", ".spm", ".tiktoken", ".txt", ".vocab",
    ".yaml", ".yml",
}  # fmt: skip
_CARRIED_NAMES = ("license", "notice", "use_policy")
_WEIGHTS = {".safetensors", ".bin"}
_SAVED = "rf8sim_original_"
_REASON = "rf8sim_reason"
_CODES = "rf8sim-codes-"
_STOP = "codes of rf8sim, not weights: run 'rf8sim dequantize {folder} -o plain' and open that"


def is_model_folder(path: Path) -> bool:
    """Whether a path is a folder that `from_pretrained` of transformers may open: one with a ``config.json``."""
    return (path / "config.json").is_file()


def carry_over(source: Path, target: Path, config: dict[str, Any] | None = None) -> None:
    """Copy what lies beside the weights: tokenizer, generation config, chat templates, code, the modules of a pipeline.

    Parameters
    ----------
    source : Path
        A model's folder. Without a ``config.json`` in it, nothing is copied: it may be any folder.
    target : Path
        The new folder.
    config : dict, optional
        What its ``config.json`` is to say; by default what the source's says, to the byte.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    """
    if not is_model_folder(source):
        return
    for path in _files_beside(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
        flush(place)
    if config is not None:
        write_flushed(target / "config.json", json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n")


def _files_beside(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, and of those in it, that are carried over: small ones, and weights of modules."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and _is_carried(path):
            yield path
        elif not path.name.startswith(".") and is_model_folder(path):
            for inner in sorted(path.iterdir()):
                if inner.is_file() and (_is_carried(inner) or inner.suffix in _WEIGHTS):
                    yield inner


def _is_carried(path: Path) -> bool:
    name = path.name.lower()
    if name.startswith(".") or name.endswith((".index.json", "manifest.json")):
        return False
    return path.suffix.lower() in _CARRIED or name.startswith(_CARRIED_NAMES)


def stored_config(
    source: Path, recipes: Recipes, shapes: Shapes, left: str = "", protected: str = ""
) -> dict[str, Any] | None:
    """Return what the ``config.json`` beside quantized weights is to say.

    Parameters
    ----------
    source : Path
        The original's folder.
    recipes, shapes
        As for `quantization_config`, of all tensors.
    left : str
        Name of a tensor that may be another tool's codes and stayed as it was; empty if there is none.
    protected : str
        Name of a tensor some elements of which are kept exactly; empty if there is none.

    Returns
    -------
    dict or None
        The original's config with the ``quantization_config`` that others read, or one that stops them. None if there
        is no config, or nothing in it changes.
    """
    original = _read_config(source)
    quantized = any(recipe is not None for recipe in recipes.values())
    if original is None or not quantized:
        return None
    plain = {key: value for key, value in original.items() if key != "quantization_config"}
    reason = misread(recipes, shapes)
    if protected:
        reason = f"{protected!r} has elements that are kept exactly, beside its codes"
    if left and "quantization_config" in original:
        reason = f"{left!r} holds codes that were not recognized, and stayed as it was"
    if reason is None:
        chosen = quantization_config(recipes, shapes)
        return plain if chosen is None else {**plain, "quantization_config": chosen}
    return _stopping(plain, reason)


def _stopping(config: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return a config with which no tool takes codes for weights."""
    # In keys of their own: transformers takes an object with a known model_type for the config of a part.
    saved = {key: config[key] for key in ("architectures", "model_type") if key in config}
    sentence = _STOP.format(folder="FOLDER")
    group = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": sentence}}
    stop = {"quant_method": "compressed-tensors", "format": "dense", "config_groups": {"group_0": group}}
    rest = {key: value for key, value in config.items() if key not in saved}
    renamed = {f"{_SAVED}{key}": value for key, value in saved.items()}
    return {"model_type": sentence, **rest, "quantization_config": stop, _REASON: reason, **renamed}


def is_stopping(config: dict[str, Any] | None) -> bool:
    """Whether a config that `stored_config` returned stops other tools."""
    return config is not None and _REASON in config


def codes_name(name: str) -> str:
    """Return what a weight file or an index is called in a folder that other tools must not open.

    Examples
    --------
    >>> codes_name("model.safetensors"), weights_name("rf8sim-codes-model.safetensors")
    ('rf8sim-codes-model.safetensors', 'model.safetensors')
    """
    return name if name.startswith(_CODES) else _CODES + name


def weights_name(name: str) -> str:
    """Return what a file of `codes_name` is called once it holds weights again."""
    return name.removeprefix(_CODES)


def original_config(folder: Path) -> dict[str, Any] | None:
    """Return what the ``config.json`` in the folder of a quantized checkpoint was before, None if there is none.

    A ``quantization_config`` is left out: the weights that it is of are numbers.
    """
    config = _read_config(folder)
    if config is None:
        return None
    plain = {key: value for key, value in config.items() if key not in ("quantization_config", _REASON)}
    if _REASON in config:
        saved = {key.removeprefix(_SAVED): plain.pop(key) for key in [*plain] if key.startswith(_SAVED)}
        plain = {**saved, **{key: value for key, value in plain.items() if key != "model_type"}}
    return plain


def why_stopped(folder: Path) -> str | None:
    """Return why other tools do not open a folder that `stored_config` made; None if they do, or it has no config."""
    reason = (_read_config(folder) or {}).get(_REASON)
    return None if reason is None else str(reason)


def _read_config(folder: Path) -> dict[str, Any] | None:
    path = folder / "config.json"
    try:
        config = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: is not a model's config: an object was expected")
    return config


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and have it on the disk."""
    path.write_bytes(data)
    flush(path)
