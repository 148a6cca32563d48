"""Models that transformers opens, a Hugging Face folder or a GGUF file, with the windows of a text for them."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._base.files import read_json
from ..quantization.scheme import Scheme
from .inputs import rounded_rows
from .matrices import as_floats

__all__ = ["Pretrained", "load_pretrained", "rounded_cache", "set_threads", "windows_of"]

_MISSING = "{what} needs {package}, which is not installed: pip install 'rf8sim[hf]'"
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_SPARE = ("pooler.", "embeddings.position_ids")  # parameters that no output here is made of


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model with its tokenizer.

    Attributes
    ----------
    name : str
        The name of the folder or file.
    model : nn.Module
        In float32, in eval mode.
    tokenizer : object
        That of transformers.
    causal : bool
        Whether it predicts the next token; otherwise it is judged by its embeddings.
    stored : str
        How the file stores the weights, where it is not as floats; empty otherwise.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    causal: bool
    stored: str = ""


def set_threads(count: int) -> None:
    """Let PyTorch compute with so many threads; last digits of its results depend on them."""
    torch.set_num_threads(count)


def load_pretrained(path: str | Path) -> Pretrained:
    """Open a Hugging Face folder or a GGUF file with transformers, from the disk alone, in float32.

    Parameters
    ----------
    path : str or Path
        A folder with ``config.json``, weights and tokenizer, or a ``.gguf`` file.

    Returns
    -------
    Pretrained
        The model.

    Raises
    ------
    ValueError
        If a package is missing, the model cannot be opened, is quantized already, or lacks weights.
    """
    path = Path(path)
    try:
        import transformers
    except ImportError:
        raise ValueError(_MISSING.format(what="a model of your own", package="transformers")) from None
    is_gguf = path.suffix.lower() == ".gguf"
    folder, options = (path.parent, {"gguf_file": path.name}) if is_gguf else (path, {})
    causal = _check_gguf(path) if is_gguf else _check_folder(path)
    kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    bars, level = transformers.utils.logging.is_progress_bar_enabled(), transformers.logging.get_verbosity()
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
        model, info = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ValueError(f"{path}: transformers cannot open it: {' '.join(str(error).split())[:300]}") from None
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(_SPARE))
    if missing or info["mismatched_keys"]:
        raise ValueError(f"{path}: {missing[0] if missing else 'a weight'!r} is not in the file, or of another shape")
    return Pretrained(path.name, model.eval(), tokenizer, causal, _stored(path) if is_gguf else "")


def _check_folder(path: Path) -> bool:
    """Return whether a folder's model predicts the next token."""
    try:
        config = read_json(path / "config.json")
    except (OSError, ValueError):
        config = None
    if not isinstance(config, Mapping) or "model_type" not in config:
        raise ValueError(f"{path}: not a Hugging Face folder (config.json with model_type), nor a .gguf file")
    if "quantization_config" in config:
        raise ValueError(f"{path}: already quantized; run 'rf8sim dequantize' first or pass the original")
    names = config.get("architectures") or []
    return any(str(name).endswith(_CAUSAL) for name in names)


def _check_gguf(path: Path) -> bool:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    for package in ("gguf", "accelerate"):
        try:
            __import__(package)
        except ImportError:
            raise ValueError(_MISSING.format(what="a GGUF file", package=package)) from None
    return "bert" not in _architecture(path)


def _architecture(path: Path) -> str:
    from gguf import GGUFReader

    try:
        field = GGUFReader(path).fields["general.architecture"]
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{path}: not a GGUF file with a model's architecture") from None
    return str(field.contents())


def _stored(path: Path) -> str:
    """Return the types that a GGUF file stores its matrices in, that of the most weights first."""
    from gguf import GGUFReader

    types: Counter[str] = Counter()
    for tensor in GGUFReader(path).tensors:
        if len(tensor.shape) > 1:
            types[tensor.tensor_type.name] += int(tensor.n_elements)
    return ", ".join(name for name, _ in types.most_common())


def windows_of(pretrained: Pretrained, text: str, tokens: int, context: int) -> list[Any]:
    """Cut a text into batches of one window each.

    Parameters
    ----------
    pretrained : Pretrained
        The model.
    text : str
        The text.
    tokens : int
        At most so many tokens, in whole windows; 0 for all.
    context : int
        Tokens of a window. A model of embeddings is given a paragraph (what empty lines separate) at a time, cut there.

    Returns
    -------
    list
        Tensors of shape (1, context), or mappings for a model of embeddings.

    Raises
    ------
    ValueError
        If the text is too short, or the model takes no windows of that length.
    """
    most = getattr(getattr(pretrained.model, "config", None), "max_position_embeddings", None)
    if context < 2 or (isinstance(most, int) and context > most):
        raise ValueError(f"windows of {context} tokens: {pretrained.name} takes 2 to {most or 'any number'}")
    batches = _windows(pretrained, text, context) if pretrained.causal else _paragraphs(pretrained, text, context)
    kept: list[Any] = []
    count = 0
    for batch in batches:
        size = batch.numel() if isinstance(batch, Tensor) else batch["input_ids"].numel()
        if tokens and count + size > tokens:
            break
        kept.append(batch)
        count += size
    if not kept:
        raise ValueError(f"the text has {count} tokens and fills no window: give more text, --tokens or less --context")
    return kept


def _windows(pretrained: Pretrained, text: str, context: int) -> list[Tensor]:
    ids = pretrained.tokenizer(text, verbose=False)["input_ids"]
    first = pretrained.tokenizer.bos_token_id
    begins = first is not None and bool(ids) and ids[0] == first  # then every window begins so
    body = ids[1:] if begins else ids
    step = context - 1 if begins else context
    rows = [body[start : start + step] for start in range(0, len(body) - step + 1, step)]
    return [torch.tensor([[first, *row] if begins else row]) for row in rows]


def _paragraphs(pretrained: Pretrained, text: str, context: int) -> list[dict[str, Tensor]]:
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    options = {"truncation": True, "max_length": context, "return_tensors": "pt"}
    return [dict(pretrained.tokenizer(part, **options)) for part in paragraphs]


def rounded_cache(model: nn.Module, scheme: Scheme) -> dict[str, Any]:
    """Return the arguments that give a model of transformers a cache whose keys and values are rounded as stored.

    A row is what one head keeps of one token; a scheme with one scale for the tensor has one for a layer's keys and one
    for its values. All of a window is attended to as stored, the newest token too.

    Parameters
    ----------
    model : nn.Module
        The model.
    scheme : Scheme
        How they are stored.

    Raises
    ------
    ValueError
        If the model takes no cache.
    """
    from transformers import DynamicCache

    taken = inspect.signature(model.forward).parameters
    name = next((name for name in ("cache", "past_key_values") if name in taken), None)
    if name is None:
        raise ValueError(f"{type(model).__name__} takes no cache of keys and values, so none can be rounded")

    class RoundedCache(DynamicCache):  # type: ignore[misc, unused-ignore]
        def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *rest: Any, **named: Any) -> Any:
            keys, values = (_rounded(states, scheme) for states in (key_states, value_states))
            return super().update(keys, values, layer_idx, *rest, **named)

    return {name: RoundedCache(), "use_cache": True}


def _rounded(states: Tensor, scheme: Scheme) -> Tensor:
    rows = as_floats(states).reshape(-1, states.shape[-1])
    return torch.from_numpy(np.ascontiguousarray(rounded_rows(rows, scheme))).reshape(states.shape).to(states)
