"""What is recorded beside a quantized checkpoint: every check with its figure, every tensor."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, CheckpointError
from .comparison import Comparison, original_sha256
from .conversion import Written, file_sha256
from .quantized import QuantizedCheckpoint
from .safetensors import NO_SEAL, SEAL, seal, seal_of

__all__ = ["Check", "Manifest", "RefusedError", "check_manifest", "manifest_path", "refuse_other"]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    name : str
        What was checked.
    passed : bool
        Whether it passed.
    sentence : str
        What was found, with its figure.
    figure, bound : float or None
        What was measured and what it was held to, where these are numbers.
    """

    name: str
    passed: bool
    sentence: str
    figure: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class Manifest:
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
    written : tuple of Written
        What became of each tensor, and why.
    protection : str
        Which weights are kept exactly, in words; empty if none.
    gain : dict of str to tuple of float
        What protection gained: figures without it and with it.
    """

    output: str
    source: str
    version: str
    seals: Mapping[str, str]
    sources: Mapping[str, str]
    bits: Mapping[str, float]
    checks: tuple[Check, ...]
    tensors: tuple[Comparison, ...]
    written: tuple[Written, ...]
    protection: str = ""
    gain: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def bits_per_weight(self) -> float:
        """All `bits`."""
        return sum(self.bits.values())

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; figures that are not finite are words."""
        reasons = {tensor.name: tensor.reason for tensor in self.written}
        return {
            "manifest": 1,
            "output": self.output,
            "source": self.source,
            "version": self.version,
            "seals": dict(self.seals),
            "sources": dict(self.sources),
            "bits_per_weight": self.bits_per_weight,
            "bits": dict(self.bits),
            "protection": self.protection,
            "gain": {name: [_plain(one) for one in figures] for name, figures in self.gain.items()},
            "checks": [
                {key: _plain(value) for key, value in dataclasses.asdict(check).items()} for check in self.checks
            ],
            "tensors": [
                {
                    "name": tensor.name,
                    "scheme": tensor.scheme or "kept",
                    "elements": tensor.size,
                    "bits_per_weight": tensor.bits,
                    "sqnr_db": _plain(tensor.sqnr_db),
                    "reason": reasons.get(tensor.name, ""),
                    "original_sha256": tensor.original,
                }
                for tensor in self.tensors
            ],
        }

    def to_bytes(self) -> bytes:
        """Return the file's contents: JSON with a seal."""
        data = {**self.to_json(), SEAL: NO_SEAL}
        return seal(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False).encode())


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def manifest_path(output: Path) -> Path:
    """Return where the manifest of a file or folder lies."""
    single = output.name.endswith(".safetensors")
    return output.with_name(output.name + ".manifest.json") if single else output / "manifest.json"


def check_manifest(checkpoint: QuantizedCheckpoint) -> list[str]:
    """Say, in a sentence each, what is wrong with the manifest of a checkpoint; nothing if there is none.

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
        path, recorded = _read(checkpoint.path)
    except CheckpointError as error:
        return [str(error)]
    if recorded and recorded["seals"] != checkpoint.seals:
        return [f"{path}: is the manifest of another file than {checkpoint.path.name}"]
    return []


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the place and the contents of the manifest of a file, index or folder: nothing if there is none."""
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
        recorded: dict[str, Any] = json.loads(raw)
        return place, recorded
    return manifest_path(path), {}


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
        place, recorded = _read(path)
    except CheckpointError:
        place, recorded = manifest_path(path), {}
    known = {*recorded.get("sources", {}).values()}
    if checkpoint is not None:
        if recorded and recorded["seals"] != checkpoint.seals:
            known, recorded = set(), {}
        known |= {digest for form in checkpoint.forms for digest in form.source.values()}
    if not known or all(file_sha256(file) in known for file in dict.fromkeys(tensor.source for tensor in source)):
        return
    other = f"{source.path}: is not the checkpoint that {path} was quantized from"
    tensors = {tensor["name"]: tensor.get("original_sha256") for tensor in recorded.get("tensors", ())}
    if not all(tensors.values()) or not tensors:
        raise CheckpointError(
            f"{other}: its SHA-256 is not the one recorded. If only the file was saved anew, {place.name} tells by its "
            "tensors, and is not there"
        )
    found = {tensor.name: tensor for tensor in source}
    for name, digest in tensors.items():
        if name not in found:
            raise CheckpointError(f"{other}: it has no tensor {name!r}")
        if original_sha256(found[name]) != digest:
            raise CheckpointError(f"{other}: its tensor {name!r} holds other numbers")


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
