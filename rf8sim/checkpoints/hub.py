"""A model of Hugging Face by its id: from the cache, or fetched where there is a network."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import CheckpointError

__all__ = ["from_hub", "is_hub_id"]

_ID = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
_BESIDE = ["*.json", "tokenizer*", "*.jinja", "*.txt", "*.py"]
_KINDS = ("*.safetensors", "*.bin")


def is_hub_id(text: str) -> bool:
    """Return whether a text that is no file can be an id: ``organization/name``, perhaps with ``@revision``.

    Examples
    --------
    >>> is_hub_id("HuggingFaceTB/SmolLM2-135M"), is_hub_id("Qwen/Qwen3-8B@main"), is_hub_id("a/b/model.npz")
    (True, True, False)
    """
    return _ID.fullmatch(text) is not None and not text.endswith((".safetensors", ".npz", ".npy", ".gguf", ".onnx"))


def from_hub(text: str) -> Path:
    """Return the folder of a model: the cached one, else one that is fetched.

    Raises
    ------
    CheckpointError
        If the package huggingface_hub is missing, or the model is in no cache and cannot be fetched.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError(
            f"{text}: no such file or folder; for a model of Hugging Face of this name: pip install huggingface_hub"
        ) from None
    match = _ID.fullmatch(text)
    assert match is not None
    reason = "it has no safetensors or PyTorch files (of GGUF, download one file and name that)"
    for offline in (True, False):
        for kind in _KINDS:
            try:
                folder = Path(
                    snapshot_download(
                        match["repository"],
                        revision=match["revision"],
                        allow_patterns=[*_BESIDE, kind],
                        local_files_only=offline,
                        etag_timeout=10,
                    )
                )
            except Exception as error:  # of the network, the server, the cache: each library of it has its own
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                break
            if next(folder.glob(kind), None) is not None:
                return folder
    raise CheckpointError(f"{text}: no such file or folder, and no model of Hugging Face that can be read: {reason}")
