"""Loading quantized checkpoints: checked, and with the original's tensor in place of one that is damaged."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .checkpoint import CheckpointError, TensorInfo, open_checkpoint
from .manifest import refuse_other
from .quantized import open_quantized

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
        the index or a file is damaged or missing, all are. It is checked before anything is read.
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
        If something is damaged and there is no fallback, or if the fallback is not the checkpoint that was quantized
        (`rf8sim.checkpoints.manifest.refuse_other`).

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
    original = None if fallback is None else open_checkpoint(fallback)
    try:
        checkpoint = open_quantized(path)
    except CheckpointError as error:
        if original is None:
            raise
        refuse_other(original, Path(path))
        warnings.warn(f"{error}: all tensors are taken from {fallback}", DamageWarning, stacklevel=2)
        return {tensor.name: _original(np.dtype(dtype), tensor) for tensor in original}
    if original is not None:
        refuse_other(original, checkpoint.path, checkpoint)
    tensors: dict[str, NDArray[Any]] = {}
    for tensor in checkpoint:
        try:
            tensors[tensor.name] = _loaded(tensor.dequantize(), np.dtype(dtype)) if tensor.recipe is None else (
                tensor.dequantize(dtype))  # fmt: skip
        except CheckpointError as error:
            if original is None:
                raise
            warnings.warn(f"{error}: it is taken from {fallback}", DamageWarning, stacklevel=2)
            [info] = (info for info in original if info.name == tensor.name)
            tensors[tensor.name] = _original(np.dtype(dtype), info)
    return tensors


def _loaded(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return array.astype(dtype) if array.dtype.kind not in "iub" else array


def _original(dtype: np.dtype[Any], tensor: TensorInfo) -> NDArray[Any]:
    pieces = list(tensor.stored())
    flat = np.concatenate(pieces) if pieces else np.zeros(0, dtype)
    return _loaded(flat, dtype).reshape(tensor.shape)
