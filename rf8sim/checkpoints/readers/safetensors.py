"""Reading safetensors files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...formats.floats import SAFETENSORS_LAYOUTS
from ..errors import CheckpointError
from ..safetensors import DTYPES, dtype_of
from ..tensor_info import NOT_MEASURED, TensorInfo
from .streams import byte_stream, open_at

__all__ = ["read_safetensors"]


def read_safetensors(path: Path) -> Iterator[TensorInfo]:
    """List a safetensors file: its own library checks it, its header says where each tensor's bytes lie."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file (truncated or damaged): {error}") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, dict[str, Any]] = json.loads(file.read(length))
    if "rf8sim" in header.pop("__metadata__", {}):
        raise CheckpointError(f"{path}: already quantized; run 'rf8sim dequantize' first or pass the original")
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        stored, shape = entry["dtype"], tuple(entry["shape"])
        layout = SAFETENSORS_LAYOUTS.get(stored)
        measured = layout is not None and layout.dtype is not None
        skipped = None if measured else f"{stored} {NOT_MEASURED}"
        if stored not in DTYPES:
            yield TensorInfo(name, stored, shape, path, skipped)
            continue
        opener = partial(open_at, path, 8 + length + entry["data_offsets"][0])
        stream = byte_stream(path, name, dtype_of(stored), opener)
        yield TensorInfo(name, DTYPES[stored], shape, path, skipped, stream, divisible=True)
