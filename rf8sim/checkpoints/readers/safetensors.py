"""Reading safetensors files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...formats.floats import SAFETENSORS_LAYOUTS
from ..errors import CheckpointError
from ..header import has_form
from ..safetensors import DTYPES, Entry, dtype_of
from ..tensor_info import NOT_MEASURED, TensorInfo
from .streams import byte_stream, open_at

__all__ = ["plain_tensor", "read_safetensors"]

_DAMAGED = "not a whole safetensors file (truncated or damaged)"


def _other_kind(path: Path) -> str | None:
    """Return what a file is that is often downloaded in place of the weights."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights: run 'git lfs pull'"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a safetensors file: download the file itself"
    return None


def read_safetensors(path: Path) -> Iterator[TensorInfo]:
    """List a safetensors file: its own library checks it, its header says where each tensor's bytes lie."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{path}: {_other_kind(path) or f'{_DAMAGED}: {error}'}") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    if has_form(header.pop("__metadata__", None) or {}):
        raise CheckpointError(f"{path}: already quantized; run 'rf8sim dequantize' first or pass the original")
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin = 8 + length + entry["data_offsets"][0]
        yield plain_tensor(path, Entry(name, entry["dtype"], tuple(entry["shape"])), begin)


def plain_tensor(path: Path, entry: Entry, offset: int) -> TensorInfo:
    """Return a tensor as it is stored, its bytes beginning at an offset of the file."""
    layout = SAFETENSORS_LAYOUTS.get(entry.dtype)
    measured = layout is not None and layout.dtype is not None
    skipped = None if measured else f"{entry.dtype} {NOT_MEASURED}"
    if entry.dtype not in DTYPES:
        return TensorInfo(entry.name, entry.dtype, entry.shape, path, skipped)
    stream = byte_stream(path, entry.name, dtype_of(entry.dtype), partial(open_at, path, offset))
    return TensorInfo(entry.name, DTYPES[entry.dtype], entry.shape, path, skipped, stream, divisible=True)
