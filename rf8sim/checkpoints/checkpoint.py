"""Reading weights: one iterable of tensors for every kind of file, in chunks of a bounded size.

A container has a reader of its own in `readers`; the table at the end says which suffix is read by which.
Nothing here runs code from a file: NumPy pickles are refused, PyTorch files are read with ``weights_only``.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .._base.files import read_json
from .containers import unknown_kind
from .errors import CheckpointError, CheckpointWarning
from .hub import from_hub, is_hub_id
from .others.recognition import as_weights, quantization_of
from .readers.gguf import read_gguf
from .readers.numpy import read_npy, read_npz
from .readers.onnx import read_onnx
from .readers.safetensors import read_safetensors
from .readers.torch import read_torch
from .tensor_info import CHUNK_ELEMENTS, Chunk, TensorInfo

__all__ = [
    "CHUNK_ELEMENTS", "Checkpoint", "CheckpointError", "Chunk", "TensorInfo", "checkpoint_file", "open_checkpoint",
]  # fmt: skip

# What a folder is taken for: the first of these patterns that matches anything must match one file.
_FOLDER_PATTERNS = (
    "*.safetensors.index.json", "*.safetensors", "*.bin.index.json", "*.bin", "*.pt", "*.pth",
    "*-00001-of-*.gguf", "*.gguf", "*.onnx", "*.npz", "*.npy",
)  # fmt: skip

# What a training loop leaves beside the weights.
_NOT_WEIGHTS = ("training_args.bin", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one checkpoint, in the order of its files. Iterable; no file is held open.

    Attributes
    ----------
    path : Path
        The file, or the index of several.
    tensors : tuple of TensorInfo
        Its tensors.
    notes : tuple of str
        What is left out: a sentence each.
    """

    path: Path
    tensors: tuple[TensorInfo, ...]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[TensorInfo]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint's table of contents and check that the file is whole; no weights are read yet.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors``, ``.npz`` or ``.npy`` file; with PyTorch installed a ``.pt``, ``.pth`` or ``.bin``
        file, with gguf a ``.gguf`` file (one part of a split model stands for all), with onnx an ``.onnx`` file; the
        ``.index.json`` of a checkpoint in several files; a folder that holds one of these; or, where there is no such
        file, the id of a model of Hugging Face (``org/name``, ``org/name@revision``).

    Returns
    -------
    Checkpoint
        Its tensors. A weight that another tool quantized is one float32 tensor, the numbers that its codes and scales
        stand for (`rf8sim.checkpoints.others.recognition.LAYOUTS`).

    Warns
    -----
    CheckpointWarning
        For each of ``notes``: what is left out, such as the state of an optimizer.

    Raises
    ------
    CheckpointError
        If there is no such file, its kind is unknown, or it is damaged, incomplete or empty.
    """
    path = checkpoint_file(path)
    tensors, notes = _in_file(path)
    for note in notes:
        warnings.warn(note, CheckpointWarning, stacklevel=2)
    return Checkpoint(path, as_weights(tensors, quantization_of(path)), notes)


def checkpoint_file(path: str | Path) -> Path:
    """Return the file of a checkpoint, or the index of several, from what `open_checkpoint` takes.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    path = Path(path)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists() and is_hub_id(path.as_posix()):
        return _in_folder(from_hub(path.as_posix()))
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    return path


def _in_file(path: Path) -> tuple[tuple[TensorInfo, ...], tuple[str, ...]]:
    """Return the tensors of a file as they are stored, and sentences on what is left out."""
    reader = next((read for suffix, read in _READERS.items() if path.name.lower().endswith(suffix)), None)
    if reader is None:
        raise unknown_kind(path)
    try:
        contents = list(reader(path))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    tensors = tuple(item for item in contents if isinstance(item, TensorInfo))
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    name, count = Counter(tensor.name for tensor in tensors).most_common(1)[0]
    if count > 1:
        raise CheckpointError(f"{path}: has {count} tensors named {name!r}: rename or remove all but one")
    return tensors, tuple(item for item in contents if isinstance(item, str))


def _in_folder(folder: Path) -> Path:
    """Return the one file of a folder that is its checkpoint."""
    for pattern in _FOLDER_PATTERNS:
        files = sorted(file for file in folder.glob(pattern) if not any(map(file.match, _NOT_WEIGHTS)))
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
            raise CheckpointError(
                f"{folder}: holds {len(files)} files {pattern} ({names}) and no index: name the files instead"
            )
        if files:
            return files[0]
    patterns = ", ".join(_FOLDER_PATTERNS)
    raise CheckpointError(f"{folder}: this folder holds no checkpoint (looked for {patterns})")


def _read_index(path: Path) -> Iterator[TensorInfo | str]:
    """List a checkpoint in several files by its Hugging Face index (``weight_map``: tensor name to file)."""
    try:
        weight_map = read_json(path)["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{path}: not an index of a checkpoint: expected JSON with a weight_map from tensors to files"
        ) from None
    for shard in shards:
        file = path.parent / str(shard)
        if Path(str(shard)).name != shard:
            raise CheckpointError(f"{path}: names {shard!r}, which is not a file beside the index")
        if not file.is_file():
            raise CheckpointError(f"{path}: names the file {shard!r}, which is missing: put it beside the index")
        contents, notes = _in_file(file)
        tensors = {tensor.name: tensor for tensor in contents}
        yield from notes
        missing = [name for name, owner in weight_map.items() if owner == shard and name not in tensors]
        if missing:
            raise CheckpointError(f"{file}: lacks the tensor {missing[0]!r} that the index places there")
        for name, tensor in tensors.items():
            owner = weight_map.get(name, shard)
            if owner == shard:
                yield tensor
            else:
                yield f"{shard}: its tensor {name!r} is left out: {path.name} places it in {owner!r}"
    suffix = Path(shards[0]).suffix
    others = sorted(file.name for file in path.parent.glob(f"*{suffix}") if file.name not in shards)
    if others and suffix == ".safetensors":
        names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        yield f"{path.name} does not name {names}, which is not read"


_READERS: dict[str, Callable[[Path], Iterator[TensorInfo | str]]] = {
    ".safetensors": read_safetensors,
    ".index.json": _read_index,
    ".npz": read_npz,
    ".npy": read_npy,
    ".pt": read_torch,
    ".pth": read_torch,
    ".bin": read_torch,
    ".gguf": read_gguf,
    ".onnx": read_onnx,
}
