"""The kinds of files that are read, for help texts and refusals; `rf8sim.checkpoints.checkpoint` has their readers."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from .errors import CheckpointError

__all__ = ["CONVERSIONS", "HELP", "SUFFIXES", "package", "unknown_kind"]

SUFFIXES = (".safetensors", ".index.json", ".npz", ".npy", ".pt", ".pth", ".bin", ".gguf", ".onnx")
"""How the names of files end that are read."""

_TENSORFLOW = "convert it to .npz, e.g. numpy.savez(out, **{w.path: w.numpy() for w in keras_model.weights})"

CONVERSIONS = {
    ".h5": _TENSORFLOW,
    ".hdf5": _TENSORFLOW,
    ".keras": _TENSORFLOW,
    ".msgpack": "load it in Flax and save it with safetensors.flax.save_file",
    ".tflite": "export the float model it was made from: .npz or safetensors",
    ".ckpt": "load it where it was made and save model.state_dict() with safetensors.torch.save_file",
    ".pkl": "load it where it was made and save its arrays with numpy.savez (a pickle runs code, it is never loaded)",
    ".mlmodel": "export the model it was made from: safetensors",
    ".rf8z": "it is packed: write the original with 'rf8sim unpack'",
    ".pdparams": "load it in Paddle and save its arrays with numpy.savez",
}
"""How to convert files that are not read, by how their names end."""

_FILES = [suffix for suffix in SUFFIXES if suffix != ".index.json"]
HELP = (
    f"A {', '.join(_FILES[:-1])} or {_FILES[-1]} file, an .index.json, a folder with one, or an id of Hugging Face "
    "(org/name)."
)
"""What an argument that is a checkpoint may be."""


def unknown_kind(path: Path) -> CheckpointError:
    """Return the refusal of a file whose kind is not read.

    Examples
    --------
    >>> print(unknown_kind(Path("model.msgpack")))
    model.msgpack: .msgpack files are not read: load it in Flax and save it with safetensors.flax.save_file
    """
    for suffix, conversion in CONVERSIONS.items():
        if path.name.lower().endswith(suffix):
            return CheckpointError(f"{path}: {suffix} files are not read: {conversion}")
    return CheckpointError(f"{path}: unknown kind of file: expected one of {', '.join(SUFFIXES)}, or a folder")


def package(name: str, path: Path) -> ModuleType:
    """Import the package that a kind of file needs; raise CheckpointError with the command if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        message = f"{path}: this kind of file needs the package {name}: pip install {name}, or rf8sim[{name}]"
        raise CheckpointError(message) from None
