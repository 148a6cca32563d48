"""Loading quantized checkpoints: checked, and with the original's tensor in place of one that is damaged."""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .checkpoint import CheckpointError, TensorInfo, open_checkpoint
from .conversion import file_sha256
from .quantized import QuantizedCheckpoint, open_quantized

__all__ = ["DamageWarning", "load_quantized"]


class DamageWarning(UserWarning):
    """Part of a quantized checkpoint was damaged, and the original's was taken."""


def load_quantized(
    path: str | Path, fallback: str | Path | None = None, dtype: DTypeLike = np.float32
) -> dict[str, NDArray[Any]]:
    """Load the numbers of a quantized checkpoint, checked; where it is damaged, those of the original.

    Parameters
    ----------
    path : str or Path
        The quantized checkpoint.
    fallback : str or Path, optional
        The original. If a tensor fails its checksum or its range check, the original's is taken, and if the header,
        the index or a file is damaged or missing, all are.
    dtype : dtype
        Of floating-point tensors; others stay as they are.

    Returns
    -------
    dict of str to ndarray
        The tensors.

    Warns
    -----
    DamageWarning
        For each tensor or file in whose place the original's was taken.

    Raises
    ------
    CheckpointError
        If something is damaged and there is no fallback, or it is not the file that was quantized.

    Examples
    --------
    >>> import tempfile, rf8sim
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = Path(folder) / "lm.safetensors"
    ...     _ = rf8sim.quantize_checkpoint("examples/lm/model.safetensors", out)
    ...     weights = load_quantized(out, fallback="examples/lm/model.safetensors")
    >>> weights["head.weight"].shape, weights["head.weight"].dtype.name
    ((256, 128), 'float32')
    """
    original = partial(_original, np.dtype(dtype))
    try:
        checkpoint = open_quantized(path)
    except CheckpointError as error:
        if fallback is None:
            raise
        warnings.warn(f"{error}: all tensors are taken from {fallback}", DamageWarning, stacklevel=2)
        return {tensor.name: original(tensor) for tensor in open_checkpoint(fallback)}
    found: dict[str, NDArray[Any]] = {}
    damaged: list[str] = []
    for tensor in checkpoint:
        try:
            found[tensor.name] = _loaded(tensor.dequantize(), np.dtype(dtype)) if tensor.recipe is None else (
                tensor.dequantize(dtype))  # fmt: skip
        except CheckpointError as error:
            if fallback is None:
                raise
            warnings.warn(f"{error}: it is taken from {fallback}", DamageWarning, stacklevel=2)
            damaged.append(tensor.name)
    if damaged:
        assert fallback is not None
        _check_fallback(checkpoint, Path(fallback))
        originals = {tensor.name: tensor for tensor in open_checkpoint(fallback)}
        found |= {name: original(originals[name]) for name in damaged}
    return {tensor.name: found[tensor.name] for tensor in checkpoint}


def _loaded(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return array.astype(dtype) if array.dtype.kind not in "iub" else array


def _original(dtype: np.dtype[Any], tensor: TensorInfo) -> NDArray[Any]:
    pieces = list(tensor.stored())
    flat = np.concatenate(pieces) if pieces else np.zeros(0, dtype)
    return _loaded(flat, dtype).reshape(tensor.shape)


def _check_fallback(checkpoint: QuantizedCheckpoint, fallback: Path) -> None:
    """Raise CheckpointError if the fallback's files are not those that were quantized."""
    known = {digest for header in checkpoint.headers
             for digest in json.loads(header.metadata["rf8sim"])["source"].values()}  # fmt: skip
    for path in dict.fromkeys(tensor.source for tensor in open_checkpoint(fallback)):
        if file_sha256(path) not in known:
            raise CheckpointError(f"{path}: is not the checkpoint that {checkpoint.path} was quantized from")
