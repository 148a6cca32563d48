"""Quantized checkpoints on disk: safetensors files of codes and scales. Reading and checking.

What is stored, tensor by tensor, is described in ``docs/checkpoints.md``; in short:

* codes under the tensor's own name, packed unless they have 8 or 16 bits (`packing`): U8, of 16 bits U16, or F8_E4M3,
  F8_E5M2, F16 and BF16 for the formats of these types;
* its scales: ``NAME.scale``, the outer ones ``NAME.scale_outer``, zero points ``NAME.zero``, floats in their own type,
  codes as U8 or U16. Where the library compressed-tensors has a form for codes and scales, by its names (`layouts`). Of
  `Scheme.scale_shapes`, one for the tensor as ``(1,)``;
* exact values that stand in place of decoded ones: ``NAME.exact_index`` (places in the flat tensor) and ``NAME.exact``;
* in the header the key ``rf8sim`` (`header`): each format's table of values, each tensor's scheme, a SHA-256 of the
  bytes of each array; and a seal over the header itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .arrays import tensor_arrays
from .errors import CheckpointError, UnreadableError
from .header import FileHeader, TensorHeader, formats_of, has_form, read_form, read_index, recipe_of
from .plan import Recipe
from .safetensors import DTYPES, SEAL, Header, read_header, seal_of
from .stored import StoredTensor

__all__ = ["QuantizedCheckpoint", "find_damage", "open_quantized"]

_PLAIN = "not a quantized checkpoint; create one with 'rf8sim quantize CHECKPOINT -o OUT'"


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """A quantized checkpoint that is open: a mapping of names to `StoredTensor`. No file is held open.

    Attributes
    ----------
    path : Path
        Its file or index.
    tensors : dict of str to StoredTensor
        The tensors, in the order of the files.
    headers : tuple of Header
        The header of each file.
    seals : dict of str to str
        The seal of each file: two checkpoints with the same are the same.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    headers: tuple[Header, ...] = field(repr=False)
    seals: Mapping[str, str]

    def __iter__(self) -> Iterator[StoredTensor]:
        return iter(self.tensors.values())

    def __getitem__(self, name: str) -> StoredTensor:
        return self.tensors[name]

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def forms(self) -> list[FileHeader]:
        """The header of each file, under the key ``rf8sim`` of its metadata."""
        return [read_form(header.path, header.metadata["rf8sim"]) for header in self.headers]

    @property
    def bits(self) -> dict[str, float]:
        """Stored bits for each element of all tensors, by what they are for: all bytes of all files."""
        stored = dict.fromkeys(("codes", "scales", "exact values", "kept tensors"), 0)
        for tensor in self:
            for kind, nbytes in tensor.stored_bytes():
                stored[kind] += nbytes
        stored["headers"] = sum(len(header.raw) for header in self.headers)
        size = max(sum(tensor.size for tensor in self), 1)
        return {kind: 8 * nbytes / size for kind, nbytes in stored.items()}

    @property
    def bits_per_weight(self) -> float:
        """Stored bits for each element of all tensors, everything counted, headers too."""
        return sum(self.bits.values())


def open_quantized(path: str | Path) -> QuantizedCheckpoint:
    """Open a quantized checkpoint: read and check headers; no codes are read yet.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors`` file that `rf8sim quantize` wrote, the ``.index.json`` of several, or a folder with one.

    Returns
    -------
    QuantizedCheckpoint
        Its tensors.

    Raises
    ------
    UnreadableError
        If there is none of these.
    CheckpointError
        If its header or index is damaged, or a file of several is missing; the message names it.
    """
    path = _the_file(Path(path))
    if path.name.endswith(".index.json"):
        files, placed, expected = _read_index(path)
    else:
        files, placed, expected = [path], None, {}
    tensors: dict[str, StoredTensor] = {}
    headers, seals = [], {}
    for file in files:
        header, tensors_of_file = _open_file(file)
        seals[file.name] = str(seal_of(header.raw))
        if expected.get(file.name, seals[file.name]) != seals[file.name]:
            raise CheckpointError(f"{file}: is not the file that {path.name} was written with")
        headers.append(header)
        tensors |= tensors_of_file
    stored = {name: header.path.name for header in headers for name in header.entries}
    if placed is not None and placed != stored:
        wrong = sorted(placed.items() ^ stored.items())[0][0]
        raise CheckpointError(f"{path}: says another place of tensor {wrong!r} than the files beside it")
    return QuantizedCheckpoint(path, tensors, tuple(headers), seals)


def find_damage(path: str | Path) -> list[str]:
    """Read all of a quantized checkpoint and return, in a sentence each, what is damaged.

    Parameters
    ----------
    path : str or Path
        As for `open_quantized`.

    Returns
    -------
    list of str
        A sentence for each damaged file or tensor, which it names; none if all is as it was written.

    Raises
    ------
    UnreadableError
        If there is no quantized checkpoint.
    """
    try:
        checkpoint = open_quantized(path)
    except UnreadableError:
        raise
    except CheckpointError as error:
        return [str(error)]
    damage = []
    for tensor in checkpoint:
        try:
            tensor.check()
        except CheckpointError as error:
            damage.append(str(error))
    return damage


def _the_file(path: Path) -> Path:
    if path.is_dir():
        for pattern in ("*.safetensors.index.json", "*.safetensors"):
            files = sorted(path.glob(pattern))
            if len(files) > 1:
                raise UnreadableError(f"{path}: holds {len(files)} files {pattern}: name one")
            if files:
                return files[0]
        raise UnreadableError(f"{path}: this folder holds no quantized checkpoint (a .safetensors file or its index)")
    if not path.exists():
        raise UnreadableError(f"{path}: no such file or folder: name what 'rf8sim quantize' wrote")
    if not path.name.endswith((".safetensors", ".index.json")):
        raise UnreadableError(f"{path}: a quantized checkpoint is a .safetensors file or the .index.json of several")
    return path


def _read_index(path: Path) -> tuple[list[Path], dict[str, str], dict[str, str]]:
    """Return the files of an index, the place of each tensor, and the seal of each file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror}") from None
    if SEAL.encode() not in raw and b"rf8sim_files" not in raw:
        raise UnreadableError(f"{path}: {_PLAIN}")
    if seal_of(raw) is None:
        raise CheckpointError(f"{path}: this index is damaged: its seal does not match")
    index = read_index(path, raw)
    expected = index.metadata.rf8sim_files
    for name in expected:
        if Path(name).name != name:
            raise CheckpointError(f"{path}: names {name!r}, which is not a file beside the index")
        if not (path.parent / name).is_file():
            raise CheckpointError(f"{path}: names the file {name!r}, which is missing: put it beside the index")
    return [path.parent / name for name in expected], index.weight_map, expected


def _open_file(path: Path) -> tuple[Header, dict[str, StoredTensor]]:
    try:
        header = read_header(path)
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if not has_form(header.metadata) and (SEAL not in header.metadata or seal_of(header.raw)):
        raise UnreadableError(f"{path}: {_PLAIN}")
    if seal_of(header.raw) is None:
        raise CheckpointError(f"{path}: its header is damaged: its seal does not match")
    if not has_form(header.metadata):
        raise CheckpointError(f"{path}: its header is damaged: it has no key 'rf8sim'")
    form = read_form(path, header.metadata["rf8sim"])
    formats = formats_of(path, form)
    tensors = {}
    for name, described in form.tensors.items():
        arrays = (described.codes or name, *described.parts)
        missing = [part for part in arrays if part not in header.entries or part not in form.sha256]
        if missing:
            raise CheckpointError(f"{path}: its header is damaged: it names {missing[0]!r}, which is not there")
        if described.kept:
            entry = header.entries[name]
            recipe, shape, dtype = None, entry.shape, DTYPES.get(entry.dtype, entry.dtype)
        else:
            recipe, shape, dtype = recipe_of(path, name, described, formats), tuple(described.shape), described.dtype
            _check_arrays(header, name, described, recipe)
        tensors[name] = StoredTensor(name, shape, dtype, recipe, described, header, form.sha256)
    return header, tensors


def _check_arrays(file: Header, name: str, header: TensorHeader, recipe: Recipe) -> None:
    """Refuse a tensor whose arrays are not those of its scheme and shape."""
    where = f"{file.path}: its header is damaged: field 'tensors': {name!r}"
    try:
        shape, kept = tuple(header.shape), (header.protected, header.kept_in)
        usual, expected = tensor_arrays(name, recipe, shape, header.dtype, *kept)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None
    if (header.codes, header.outer_divides) != (usual.codes, usual.outer_divides):
        raise CheckpointError(f"{where}: field 'codes' or 'outer_divides' is not that of its scheme")
    parts = [header.codes or name, *header.parts]
    if len(parts) != len(expected):
        raise CheckpointError(f"{where}: is made of {len(parts)} arrays, where its scheme has {len(expected)}")
    for part, entry in zip(parts, expected, strict=True):
        array = file.entries[part]
        fits = len(array.shape) == 1 if entry.shape == (-1,) else array.shape == entry.shape
        if array.dtype != entry.dtype or not fits:
            raise CheckpointError(
                f"{where}: array {part!r} is {array.dtype} of shape {array.shape}, where {entry.dtype} of shape "
                f"{entry.shape} is expected"
            )
