"""Writing a GGUF file from a GGUF file: what a plan quantizes in llama.cpp's blocks, everything else as it was.

Codes and scales are those of `rf8sim.quantize`, as `report` and `evaluate` measure them. They are llama.cpp's, bit for
bit, where its rule gives the same: it divides by a scale in float32 that is then rounded to float16, and rounds halves
away from zero; here elements are divided by the scale that is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._base.files import flush
from .checkpoint import CHUNK_ELEMENTS, Checkpoint, open_checkpoint
from .comparison import Comparison
from .errors import CheckpointError
from .gguf_blocks import BLOCK, BLOCK_TYPES, BlockType, block_type, blocks_of
from .gguf_header import ALIGNMENT, Placed, header, integer
from .pieces import quantized_pieces
from .plan import Plan, Recipe
from .readers.gguf import GgufPart, Place, gguf_parts
from .tasks import check_patterns, file_sha256
from .tensor_info import TensorInfo

__all__ = ["GgufFile", "check_source", "compare_gguf", "write_gguf"]

Progress = Callable[[str, int, int], None]

_FILE_TYPE, _VERSION = "general.file_type", "general.quantization_version"
_ALL_F32, _MOSTLY_F16, _GUESSED = 0, 1, 1024
_BLOCKS_VERSION = 2  # GGML_QNT_VERSION, of the blocks written here


@dataclass(frozen=True)
class _Item:
    """What a tensor becomes: blocks of a type if it has a recipe, else the bytes that it has."""

    info: TensorInfo
    place: Place
    nbytes: int
    recipe: Recipe | None
    kind: BlockType | None
    reason: str

    @property
    def placed(self) -> Placed:
        """Its line in the table of tensors."""
        number, nbytes = self.place.kind, self.nbytes
        if self.kind is not None:
            number, nbytes = self.kind.number, self.info.size // BLOCK * self.kind.size
        return Placed(self.place.name, self.place.shape, number, nbytes)


@dataclass(frozen=True)
class GgufFile:
    """A file that was written.

    Attributes
    ----------
    path : Path
        Where it is.
    items : tuple
        What became of each tensor.
    digests : dict of str to str
        SHA-256 of the numbers that each quantized tensor stands for, as float32.
    """

    path: Path
    items: tuple[_Item, ...]
    digests: Mapping[str, str]

    @property
    def seals(self) -> dict[str, str]:
        """SHA-256 of the file, by its name."""
        return {self.path.name: file_sha256(self.path)}

    @property
    def bits(self) -> dict[str, float]:
        """Stored bits for each element of all tensors, by what they are for: all bytes of the file."""
        stored = {"blocks": 0, "kept tensors": 0}
        for item in self.items:
            stored["blocks" if item.recipe else "kept tensors"] += item.placed.nbytes
        stored["header and padding"] = self.path.stat().st_size - sum(stored.values())
        size = max(sum(item.info.size for item in self.items), 1)
        return {name: 8 * nbytes / size for name, nbytes in stored.items()}

    @property
    def bits_per_weight(self) -> float:
        """All `bits`."""
        return sum(self.bits.values())


def check_source(source: Checkpoint, output: Path) -> None:
    """Refuse to write GGUF from a checkpoint that is none.

    Raises
    ------
    ValueError
        With what to do.
    """
    if source.path.suffix.lower() != ".gguf":
        raise ValueError(
            f"{output}: GGUF is written from GGUF, whose metadata and tokenizer it needs: convert the model with "
            "llama.cpp (convert_hf_to_gguf.py --outtype f32) and quantize that"
        )


# --- what each tensor becomes -----------------------------------------------------------------------------------------


def _items(source: Checkpoint, parts: Sequence[GgufPart], plan: Plan) -> list[_Item]:
    plan.check()
    check_patterns(plan, [info.name for info in source])
    if plan.kept_dtype != "own":
        raise ValueError("--kept-dtype is not for GGUF: tensors that stay are carried over byte for byte")
    infos = {info.name: info for info in source}
    return [_item(infos[place.name], place, nbytes, plan) for place, nbytes in _sized(parts)]


def _sized(parts: Sequence[GgufPart]) -> Iterator[tuple[Place, int]]:
    """Yield the tensors of all parts with their bytes."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    for part in parts:
        for place in part.tensors:
            try:
                block, size = GGML_QUANT_SIZES[GGMLQuantizationType(place.kind)]
            except (ValueError, KeyError):
                raise CheckpointError(
                    f"{part.path}: tensor {place.name!r} is of type {place.kind}, which the package gguf does not know"
                ) from None
            yield place, int(np.prod(place.shape, dtype=np.int64)) // block * size


def _item(info: TensorInfo, place: Place, nbytes: int, plan: Plan) -> _Item:
    choice = info.skipped or plan.choose(info.name, info.shape)
    if isinstance(choice, str):
        return _Item(info, place, nbytes, None, None, choice)
    recipe = choice.for_tensor(info.name, info.shape)
    kind = block_type(recipe.scheme)
    if kind is None:
        raise ValueError(f"{info.name!r}: GGUF has no type for {recipe.scheme}: use {', '.join(BLOCK_TYPES)}")
    if recipe.entropy != "none":
        raise ValueError(f"{info.name!r}: GGUF has no entropy-coded tensors: leave out the coder {recipe.entropy}")
    if info.shape[-1] % BLOCK:
        raise ValueError(
            f"{info.name!r}: its rows of {info.shape[-1]} are no whole blocks of {BLOCK}: "
            f"keep it (--keep {info.name!r})"
        )
    return _Item(info, place, nbytes, recipe, kind, "")


def _metadata(parts: Sequence[GgufPart], items: Sequence[_Item]) -> dict[str, bytes]:
    """Return the metadata of the new file: the source's, but for what is stored and in how many files."""
    metadata = {key: value for part in reversed(parts) for key, value in part.metadata.items()}
    first = {key: value for key, value in parts[0].metadata.items() if not key.startswith("split.")}
    metadata = first | {k: v for k, v in metadata.items() if k not in first and not k.startswith("split.")}
    counts: dict[int, int] = {}
    for item in items:
        if item.kind is not None:
            counts[item.kind.file_type] = counts.get(item.kind.file_type, 0) + item.info.size
    if counts:
        metadata[_FILE_TYPE] = integer(max(counts, key=lambda kind: counts[kind]))
        metadata[_VERSION] = integer(_BLOCKS_VERSION)
    return metadata


# --- writing ----------------------------------------------------------------------------------------------------------


def write_gguf(
    source: Checkpoint, target: Path, plan: Plan | None = None, progress: Progress | None = None
) -> GgufFile:
    """Quantize a GGUF file as a plan says, into one file.

    Parameters
    ----------
    source : Checkpoint
        A GGUF file, or all parts of a split model.
    target : Path
        Where to write it; nothing is there.
    plan : Plan, optional
        What each tensor gets; by default the defaults of `Plan`, with ``q8_0``.
    progress : callable, optional
        Called with a tensor's name, the elements done and the elements in all.

    Returns
    -------
    GgufFile
        What was written.

    Raises
    ------
    ValueError
        If a scheme has no type in GGUF, or a tensor's rows are no whole blocks.
    OSError
        If the file cannot be written.
    """
    parts = gguf_parts(source.path)
    items = _items(source, parts, plan or Plan(Recipe("q8_0")))
    alignment, digests = parts[0].alignment, {}
    metadata = _metadata(parts, items)
    if alignment != 32 and ALIGNMENT not in metadata:
        metadata[ALIGNMENT] = integer(alignment)
    total, done = sum(item.info.size for item in items), 0
    with target.open("xb") as file:
        file.write(header(metadata, [item.placed for item in items], alignment))
        for item in items:
            if progress:
                progress(item.info.name, done, total)
            if item.recipe is None:
                _copy(item, file)
            else:
                digests[item.info.name] = _write_blocks(item.info, item.recipe, file)
            file.write(bytes(-file.tell() % alignment))
            done += item.info.size
    flush(target)
    return GgufFile(target, tuple(items), digests)


def _raw(path: Path, offset: int, nbytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while nbytes:
            data = file.read(min(nbytes, 4 * CHUNK_ELEMENTS))
            if not data:
                raise CheckpointError(f"{path}: ends in the middle of a tensor")
            yield data
            nbytes -= len(data)


def _copy(item: _Item, file: IO[bytes]) -> None:
    for data in _raw(item.info.source, item.place.offset, item.nbytes):
        file.write(data)


def _write_blocks(info: TensorInfo, recipe: Recipe, file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in quantized_pieces(info, recipe):
        file.write(np.ascontiguousarray(blocks_of(piece)).data)
        digest.update(_numbers(piece.dequantize(np.float32)).data)
    return digest.hexdigest()


def _numbers(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return numbers as bytes, zeros without a sign."""
    flat = np.ascontiguousarray(values, "<f4").reshape(-1) + np.float32(0)
    bytes_: NDArray[np.uint8] = flat.view(np.uint8)
    return bytes_


# --- reading back -----------------------------------------------------------------------------------------------------


def compare_gguf(written: GgufFile, progress: Progress | None = None) -> tuple[tuple[Comparison, ...], list[str]]:
    """Read a file back, by gguf's own decoder, and compare it with its source.

    Parameters
    ----------
    written : GgufFile
        From `write_gguf`.
    progress : callable, optional
        As there.

    Returns
    -------
    compared : tuple of Comparison
        Each tensor beside its original.
    damage : list of str
        In a sentence each, what is not what was written.
    """
    stored = {info.name: info for info in open_checkpoint(written.path)}
    [part] = gguf_parts(written.path)
    places = {place.name: place for place in part.tensors}
    total, done = sum(item.info.size for item in written.items), 0
    compared, damage = [], []
    for item in written.items:
        name = item.info.name
        if progress:
            progress(name, done, total)
        done += item.info.size
        before = item.place
        if places[name].shape != before.shape:
            damage.append(f"tensor {name!r} was written in another shape")
            continue
        if item.recipe is None:
            old = _digest(_raw(item.info.source, before.offset, item.nbytes))
            differing = int(_digest(_raw(written.path, places[name].offset, item.nbytes)) != old)
            bits = 8 * item.nbytes / max(item.info.size, 1)
            compared.append(Comparison(name, None, item.info.size, bits, 0.0, 0.0, differing, old, item.reason))
            continue
        one, digest = _compared(item, stored[name])
        compared.append(one)
        if digest != written.digests[name]:
            damage.append(f"tensor {name!r}: gguf decodes other numbers than were quantized")
    return tuple(compared), damage


def _digest(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _compared(item: _Item, stored: TensorInfo) -> tuple[Comparison, str]:
    signal = noise = 0.0
    differing, original, numbers = 0, hashlib.sha256(), hashlib.sha256()
    for before, after in zip(item.info.stored(), stored.stored(), strict=True):
        original.update(np.ascontiguousarray(before, before.dtype.newbyteorder("<")).view(np.uint8).data)
        numbers.update(_numbers(after).data)
        old, new = before.astype(np.float64), after.astype(np.float64)
        finite = np.isfinite(old)
        both = finite & np.isfinite(new)
        differing += int(np.count_nonzero(finite != np.isfinite(new)))
        signal += float(np.sum(np.square(old[both])))
        noise += float(np.sum(np.square(old[both] - new[both])))
    assert item.recipe is not None
    assert item.kind is not None
    bits = 8 * item.kind.size / BLOCK
    scheme, size = str(item.recipe.scheme), item.info.size
    digest = original.hexdigest()
    return Comparison(item.info.name, scheme, size, bits, signal, noise, differing, digest), numbers.hexdigest()
