"""What is recorded beside a quantized checkpoint: every check with its figure, every tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from ..quantization.records import ExtendedFloat, Record, convert, to_builtins
from .checkpoint import Checkpoint
from .comparison import Comparison, original_sha256
from .errors import CheckpointError
from .quantized import QuantizedCheckpoint
from .safetensors import NO_SEAL, SEAL, seal, seal_of
from .tasks import file_sha256

__all__ = ["VERSION", "Check", "Manifest", "RefusedError", "check_manifest", "manifest_path", "refuse_other"]

VERSION = 2
"""The version of a manifest's form, which a reader must know."""


class Check(Record, frozen=True):
    """One check.

    Attributes
    ----------
    name : str
        What was checked.
    passed : bool
        Whether it passed.
    sentence : str
        The result, with its figure.
    figure, bound : float or None
        What was measured and its bound, where these are finite numbers.
    """

    name: str
    passed: bool
    sentence: str
    figure: float | None = None
    bound: float | None = None


class Manifest(Record, frozen=True):
    """What is recorded beside a quantized checkpoint.

    Attributes
    ----------
    output, source : str
        Names of the files or folders.
    version : str
        That of rf8sim.
    seals : dict of str to str
        Of the files written, so that the manifest is known to be theirs.
    sources : dict of str to str
        SHA-256 of the original's files.
    bits : dict of str to float
        Bits per weight, everything counted, by what they are for.
    checks : tuple of Check
        Every check.
    tensors : tuple of Comparison
        Each tensor beside its original.
    protection : str
        Which weights are kept exactly, in words; empty if none.
    gain : dict of str to tuple of float
        What protection gained: figures without it and with it.
    manifest : int
        `VERSION`.
    """

    output: str
    source: str
    version: str
    seals: dict[str, str]
    sources: dict[str, str]
    bits: dict[str, float]
    checks: tuple[Check, ...]
    tensors: tuple[Comparison, ...]
    protection: str = ""
    gain: dict[str, tuple[ExtendedFloat, ExtendedFloat]] = msgspec.field(default_factory=dict)
    manifest: int = VERSION
    derived = ("bits_per_weight",)

    @property
    def bits_per_weight(self) -> float:
        """All `bits`."""
        return sum(self.bits.values())

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; figures that are not finite are null."""
        data: dict[str, Any] = to_builtins(self)
        return data

    def to_bytes(self) -> bytes:
        """Return the file's contents: JSON with a seal."""
        data = {**self.to_json(), SEAL: NO_SEAL}
        return seal(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False).encode())


def manifest_path(output: Path) -> Path:
    """Return where the manifest of a file or folder lies."""
    single = output.name.endswith((".safetensors", ".gguf"))
    return output.with_name(output.name + ".manifest.json") if single else output / "manifest.json"


def check_manifest(checkpoint: QuantizedCheckpoint) -> list[str]:
    """Return, in a sentence each, what is wrong with the manifest of a checkpoint; nothing if there is none.

    Parameters
    ----------
    checkpoint : QuantizedCheckpoint
        The checkpoint.

    Returns
    -------
    list of str
        A sentence if the manifest is damaged or that of another file.
    """
    try:
        path, manifest = _read(checkpoint.path)
    except CheckpointError as error:
        return [str(error)]
    if manifest is not None and manifest.seals != checkpoint.seals:
        return [f"{path}: is the manifest of another file than {checkpoint.path.name}"]
    return []


def _read(path: Path) -> tuple[Path, Manifest | None]:
    """Return the place and the contents of the manifest of a file, index or folder: None if there is none."""
    for place in (manifest_path(path), *([path.parent / "manifest.json"] if path.is_file() else [])):
        if not place.is_file():
            continue
        raw = place.read_bytes()
        if SEAL.encode() not in raw:
            if place.name == "manifest.json":  # somebody else's
                continue
            raise CheckpointError(f"{place}: this manifest is damaged: it has no seal")
        if seal_of(raw) is None:
            raise CheckpointError(f"{place}: this manifest is damaged: its seal does not match")
        return place, _parsed(place, raw)
    return manifest_path(path), None


def _parsed(place: Path, raw: bytes) -> Manifest:
    try:
        data = msgspec.json.decode(raw)
        if isinstance(data, dict) and data.get("manifest") != VERSION:
            raise ValueError(f"it is of form {data.get('manifest')}, this version reads form {VERSION}")
        return convert(data, Manifest)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{place}: this manifest is damaged: {error}") from None


def refuse_other(source: Checkpoint, path: Path, checkpoint: QuantizedCheckpoint | None = None) -> None:
    """Refuse a checkpoint that is not the one that another was quantized from.

    It is if its files have the SHA-256 that header or manifest recorded, or if its tensors have those of the manifest:
    then it was saved anew. If nothing is recorded, it is taken for it.

    Parameters
    ----------
    source : Checkpoint
        What may be the original.
    path : Path
        The quantized checkpoint.
    checkpoint : QuantizedCheckpoint, optional
        It, where it could be opened.

    Raises
    ------
    CheckpointError
        If it is another.
    """
    try:
        place, manifest = _read(path)
    except CheckpointError:
        place, manifest = manifest_path(path), None
    if manifest is not None and checkpoint is not None and manifest.seals != checkpoint.seals:
        manifest = None
    known = set() if manifest is None else {*manifest.sources.values()}
    if checkpoint is not None:
        known |= {digest for form in checkpoint.forms for digest in form.source.values()}
    if not known or all(file_sha256(file) in known for file in dict.fromkeys(tensor.source for tensor in source)):
        return
    other = f"{source.path}: is not the checkpoint that {path} was quantized from"
    if manifest is None or not manifest.tensors:
        raise CheckpointError(
            f"{other}: its SHA-256 is not the one recorded. If only the file was saved anew, {place.name} tells by its "
            "tensors, and is not there"
        )
    tensors = {tensor.name: tensor for tensor in source}
    for recorded in manifest.tensors:
        if recorded.name not in tensors:
            raise CheckpointError(f"{other}: it has no tensor {recorded.name!r}")
        if original_sha256(tensors[recorded.name]) != recorded.original_sha256:
            raise CheckpointError(f"{other}: its tensor {recorded.name!r} holds other numbers")


class RefusedError(RuntimeError):
    """A checkpoint that was not put in place because a check failed.

    Attributes
    ----------
    manifest : Manifest
        All checks, those that passed too.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        failed = "; ".join(check.sentence for check in manifest.checks if not check.passed)
        super().__init__(f"{manifest.output}: not written: {failed}")
