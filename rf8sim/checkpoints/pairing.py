"""Which tensor of a quantized checkpoint stands for which of the original: by names that are certain, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .gguf_names import REORDERED, gguf_name, head_rows, is_gguf_name
from .model_config import model_config
from .tensor_info import TensorInfo

__all__ = ["Pair", "Pairing", "Unpaired", "pair_tensors"]

_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that torch.compile, FSDP and checkpointing put in."""

_HEADS = ("lm_head.weight", "output.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "token_embd.weight")

_NO_CONFIG = "no config.json says what model it is: put the model's beside the original"

_Tensors = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Pair:
    """A tensor of the original, and the one that it became.

    Attributes
    ----------
    original, quantized : TensorInfo
        Of one shape.
    head_rows : int
        Rows of a head, where llama.cpp changed the order of rows; else 0.
    original_is_gguf : bool
        Which of the two has llama.cpp's order then.
    tied : bool
        Whether one of the files has the embedding alone, to which the output layer is tied.
    """

    original: TensorInfo
    quantized: TensorInfo
    head_rows: int = 0
    original_is_gguf: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Unpaired:
    """A tensor that is not compared.

    Attributes
    ----------
    name : str
        Its name.
    reason : str
        Why.
    matters : bool
        Whether the comparison is incomplete without it: it is a weight of the original.
    """

    name: str
    reason: str
    matters: bool


@dataclass(frozen=True)
class Pairing:
    """The pairs in the order of the original, what is in no pair, and in sentences how names were mapped."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]
    notes: tuple[str, ...]


@dataclass
class _Names:
    """Names of the original with those in the quantized checkpoint."""

    paired: dict[str, str]
    from_gguf: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    doubt: str = ""

    def left(self, first: _Tensors, second: _Tensors) -> tuple[list[str], list[str]]:
        taken = set(self.paired.values())
        return [name for name in first if name not in self.paired], [name for name in second if name not in taken]


def pair_tensors(original: Checkpoint, quantized: Checkpoint) -> Pairing:
    """Find the tensor of a quantized checkpoint for each of the original.

    Names are the same; or the same without one prefix that all others have, or without what torch.compile and FSDP put
    in; or GGUF's names of a model whose converter is known. A file without an output layer uses its embedding.

    Parameters
    ----------
    original, quantized : Checkpoint
        The two.

    Returns
    -------
    Pairing
        Tensors whose names leave a doubt, or whose shapes differ, are in no pair.
    """
    config = {**_config(quantized.path), **_config(original.path)}
    first, second = _by_name(original), _by_name(quantized)
    names = _names(first, second, config)
    tied = _tied_pair(first, second, names, (_config(original.path), _config(quantized.path)))
    candidates = [(name, names.paired[name], False) for name in first if name in names.paired]
    candidates += [] if tied is None else [(*tied, True)]
    pairs, unpaired = [], []
    for name, other, is_tied in candidates:
        rows: int | None = 0
        if name in names.from_gguf:
            rows = head_rows(_gguf_of(name, other), (first[name].shape or (1,))[0], config)
        reason = _obstacle(first[name], second[other], rows)
        if reason is None:
            pairs.append(Pair(first[name], second[other], rows or 0, is_gguf_name(name), is_tied))
            continue
        matters = first[name].skipped is None or second[other].skipped is None
        unpaired.append(Unpaired(name, reason, matters))
    unpaired += _alone(first, second, candidates, names.doubt)
    notes = [*names.notes]
    if tied is not None:
        notes.append(f"{tied[0]!r} of the original is compared with {tied[1]!r}, to which it is tied.")
    return Pairing(tuple(pairs), tuple(unpaired), tuple(notes))


def _config(path: Path) -> dict[str, Any]:
    """Return a model's ``config.json`` beside a checkpoint, with that of its text part if it has several parts."""
    config = model_config(path)
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, dict) else config


def _by_name(checkpoint: Checkpoint) -> dict[str, TensorInfo]:
    """Return the tensors of a checkpoint; a second name of the same memory is none."""
    return {info.name: info for info in checkpoint if not (info.skipped or "").startswith("the same memory")}


def _names(first: _Tensors, second: _Tensors, config: Mapping[str, Any]) -> _Names:
    names = _Names({name: name for name in first if name in second})
    _without_wrappers(names, *names.left(first, second))
    left, right = names.left(first, second)
    if any(map(is_gguf_name, left)) != any(map(is_gguf_name, right)):
        _gguf(names, left, right, config.get("model_type"))
    else:
        _without_prefix(names, first, second)
    return names


def _without_wrappers(names: _Names, left: list[str], right: list[str]) -> None:
    def bare(name: str) -> str:
        return ".".join(part for part in name.split(".") if part not in _WRAPPERS)

    by_bare = {bare(name): name for name in right}
    counts = Counter(map(bare, left)) + Counter(map(bare, right))
    names.paired |= {name: by_bare[bare(name)] for name in left if bare(name) in by_bare and counts[bare(name)] == 2}


def _without_prefix(names: _Names, first: _Tensors, second: _Tensors) -> None:
    """Pair names that differ by one prefix, if one alone pairs most of them, and all of these have the same shapes."""
    left, right = names.left(first, second)
    choices: dict[tuple[str, bool], list[tuple[str, str]]] = {}
    for longer, shorter, added in ((right, set(left), True), (left, set(right), False)):
        for name in longer:
            parts = name.split(".")
            for cut in range(1, len(parts)):
                prefix, rest = ".".join(parts[:cut]), ".".join(parts[cut:])
                if rest in shorter:
                    choices.setdefault((prefix, added), []).append((rest, name) if added else (name, rest))
    most = max(map(len, choices.values()), default=0)
    best = [(key, pairs) for key, pairs in choices.items() if len(pairs) == most]
    if len(best) != 1:
        return
    [((prefix, added), pairs)] = best
    if all(first[name].shape == second[other].shape for name, other in pairs):
        names.paired |= dict(pairs)
        which = "quantized checkpoint" if added else "original"
        names.notes.append(f"{len(pairs)} names begin with '{prefix}.' in the {which} alone.")


def _gguf(names: _Names, left: list[str], right: list[str], model_type: object) -> None:
    if model_type not in REORDERED:
        what = _NO_CONFIG if model_type is None else f"of model_type {model_type!r} it"
        names.doubt = (
            f"one of the two has GGUF's names, and {what}"
            f"{'' if model_type is None else ' is not known how llama.cpp stores it'}"
        )
        return
    by_gguf = {gguf_name(name): name for name in (right if any(map(is_gguf_name, left)) else left)}
    swapped = any(map(is_gguf_name, left))
    pairs = {by_gguf[name]: name for name in (left if swapped else right) if name in by_gguf}
    found = {other: name for name, other in pairs.items()} if swapped else pairs
    names.paired |= found
    names.from_gguf |= set(found)
    names.notes.append(f"{len(found)} tensors have GGUF's names in one of the two.")


def _gguf_of(name: str, other: str) -> str:
    return name if is_gguf_name(name) else other


def _tied_pair(
    first: _Tensors, second: _Tensors, names: _Names, configs: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> tuple[str, str] | None:
    """Return an output layer that one file alone has, and the other's embedding, in the order of the files."""

    def only(tensors: _Tensors, ends: tuple[str, ...]) -> str | None:
        named = [name for name in tensors if name.endswith(ends) and (name in ends or "." in name)]
        return named[0] if len(named) == 1 else None

    heads = only(first, _HEADS), only(second, _HEADS)
    embeddings = only(first, _EMBEDDINGS), only(second, _EMBEDDINGS)
    if None in embeddings or (heads[0] is None) == (heads[1] is None):
        return None
    lacks = 0 if heads[0] is None else 1
    if configs[lacks].get("tie_word_embeddings") is False:
        return None
    name, other = heads[0] or embeddings[0], heads[1] or embeddings[1]
    assert name is not None
    assert other is not None
    return (name, other) if first[name].shape == second[other].shape else None


def _obstacle(first: TensorInfo, second: TensorInfo, rows: int | None) -> str | None:
    """Say why two tensors cannot be compared; None if they can."""
    if first.skipped or second.skipped:
        return first.skipped or second.skipped
    if first.shape != second.shape:
        return f"shape {first.shape} in the original, {second.shape} in the quantized checkpoint"
    if rows is None:
        return "llama.cpp reorders its rows, and no config.json says how many heads there are"
    return None


def _alone(
    first: _Tensors, second: _Tensors, candidates: list[tuple[str, str, bool]], doubt: str
) -> Iterator[Unpaired]:
    firsts, seconds = {name for name, _, _ in candidates}, {other for _, other, _ in candidates}
    for name, info in first.items():
        if name not in firsts:
            reason = info.skipped or "not in the quantized checkpoint" + (f": {doubt}" if doubt else "")
            yield Unpaired(name, reason, info.skipped is None)
    for name, info in second.items():
        if name not in seconds:
            yield Unpaired(name, info.skipped or "not in the original", False)
