"""Quantized checkpoints on disk: safetensors files of codes and scales that say what they are. Reading and checking.

What is stored, tensor by tensor, is described in ``docs/checkpoints.md``; in short:

* codes under the tensor's own name: U8, or F8_E4M3 and F8_E5M2 for the formats of these types;
* its scales beside them: ``NAME.scale``, int8 exponents of two for RF formats and float32 for others, or
  ``NAME_scale``, float32, beside float8 tensors, as the library compressed-tensors names them. Of shape ``(1,)`` for a
  tensor, ``(rows, 1)`` for channels, ``(rows, blocks)`` for blocks;
* exact values that stand in place of decoded ones: ``NAME.exact_index`` (places in the flat tensor) and ``NAME.exact``;
* in the header the key ``rf8sim``: each format's table of values, each tensor's recipe, a SHA-256 of the bytes of each;
  and a seal over the header itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..formats import Format, get_format
from ..quantization.scaling import QuantizedTensor
from .checkpoint import CHUNK_ELEMENTS, CheckpointError
from .plan import Recipe
from .safetensors import DTYPES, SEAL, Entry, Header, dtype_of, read_header, seal_of, stored_type

__all__ = [
    "FLOAT8", "FORM", "QuantizedCheckpoint", "StoredTensor", "UnreadableError", "find_damage", "open_quantized",
]  # fmt: skip

FORM = 1
"""The version of the form, which a reader must know."""

FLOAT8 = {"e4m3fn": "F8_E4M3", "e5m2": "F8_E5M2"}
"""Formats whose codes are stored in a type that other tools read."""


class UnreadableError(CheckpointError):
    """There is no quantized checkpoint to read: nothing is there, or it is plain, or of another form. No damage."""


_PLAIN = "a plain checkpoint, not one that rf8sim quantized: 'rf8sim quantize' makes such a one of it"
_RECIPE = tuple(field.name for field in fields(Recipe))


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a quantized checkpoint.

    Attributes
    ----------
    name : str
        Its name.
    shape : tuple of int
        Its shape.
    dtype : str
        The type it had before, in numpy's words.
    recipe : Recipe or None
        How it was quantized; None for one that stayed as it was.
    kept : str
        Why it stayed as it was; empty for a quantized one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    recipe: Recipe | None
    kept: str
    _header: Header = field(repr=False)
    _said: Mapping[str, Any] = field(repr=False)  # the tensor's own part of the metadata
    _digests: Mapping[str, str] = field(repr=False)
    _format: Format | None = field(repr=False, default=None)

    @property
    def format(self) -> Format:
        """The format of the codes, from the table of values in the file."""
        assert self._format is not None, f"{self.name!r} is not quantized"
        return self._format

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape as a matrix: axis 0 by all the rest; a tensor of fewer than two axes is one row."""
        if len(self.shape) < 2:
            return 1, self.size
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def parts(self) -> list[str]:
        """Names in the file of what the tensor is made of: itself, its scales, its exact values."""
        return [self.name, *(self._said[key] for key in ("scale", "exact_index", "exact") if key in self._said)]

    @property
    def layout_parts(self) -> list[str]:
        """Of `parts` those that say where codes belong: the scales and the places of exact values."""
        return [self._said[key] for key in ("scale", "exact_index") if key in self._said]

    @property
    def entry(self) -> Entry:
        """Where the tensor's own bytes lie in its file, and their type."""
        return self._header.entries[self.name]

    @property
    def bits_per_weight(self) -> float:
        """Stored bits for each element, scales and exact values included, the header not."""
        return 8 * sum(nbytes for _, nbytes in self.stored_bytes()) / max(self.size, 1)

    def stored_bytes(self) -> Iterator[tuple[str, int]]:
        """Yield the bytes of each of `parts`, and what they are for."""
        own = "codes" if self.recipe else "kept tensors"
        for part in self.parts:
            entry, scale = self._header.entries[part], part == self._said.get("scale")
            yield own if part == self.name else "scales" if scale else "exact values", entry.end - entry.begin

    def pieces(self, elements: int = CHUNK_ELEMENTS) -> Iterator[tuple[int, QuantizedTensor]]:
        """Read a quantized tensor as a matrix, whole rows at a time.

        Parameters
        ----------
        elements : int
            The most elements in a piece, unless one row has more.

        Yields
        ------
        row : int
            The first row.
        rows : QuantizedTensor
            The rows. Exact values are not in them: see `exact`.

        Raises
        ------
        CheckpointError
            If the bytes are not those that were written: at the latest after the last piece.
        """
        assert self.recipe is not None, f"{self.name!r} is not quantized"
        rows, columns = self.matrix_shape
        scale = self._scale()
        step = max(1, elements // max(columns, 1))
        for row, codes in self._codes(rows, columns, step):
            own = scale if scale.ndim == 0 or scale.shape[0] != rows else scale[row : row + len(codes)]
            kind = self.recipe.scaling
            axis = 1 if kind == "block" else 0
            yield (
                row,
                QuantizedTensor(codes, own, self.format, kind, axis, self.recipe.block_size, self.recipe.rounding),
            )

    def read(self) -> QuantizedTensor:
        """Read a quantized tensor whole.

        Returns
        -------
        QuantizedTensor
            Of the tensor's shape if it has two axes, else of that of the matrix. Exact values are not in it.

        Raises
        ------
        CheckpointError
            If it is damaged.
        """
        [(_, whole)] = self.pieces(max(self.size, 1))
        return whole

    def exact(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Read the exact values: their places in the flat tensor, ascending, and the values.

        Raises
        ------
        CheckpointError
            If they are damaged.
        """
        if "exact" not in self._said:
            return np.zeros(0, np.int64), np.zeros(0, dtype_of(stored_type(self.dtype)))
        places = self.part(self._said["exact_index"]).astype(np.int64)
        values = self.part(self._said["exact"])
        if places.shape != values.shape or not (places[:1] >= 0).all() or not (places[-1:] < self.size).all():
            raise self._damaged("has exact values at places that it does not have")
        if not (np.diff(places) > 0).all():
            raise self._damaged("has exact values that are not in order")
        return places, values

    def values(self, dtype: DTypeLike | None = None, elements: int = CHUNK_ELEMENTS) -> Iterator[NDArray[Any]]:
        """Read the tensor's numbers, flat, whole rows at a time: decoded, exact ones in their places.

        Parameters
        ----------
        dtype : dtype, optional
            Of the result; by default the type that the tensor had before.
        elements : int
            The most elements in a piece, unless one row has more.

        Yields
        ------
        ndarray
            The pieces in order.

        Raises
        ------
        CheckpointError
            If the tensor is damaged: at the latest after the last piece.
        """
        if self.recipe is None:
            flat = self.part(self.name).reshape(-1)
            yield flat if dtype is None else flat.astype(dtype)
            return
        places, values = self.exact()
        kind = dtype_of(stored_type(self.dtype)) if dtype is None else np.dtype(dtype)
        columns = self.matrix_shape[1]
        largest, nans = 0.0, 0
        for row, piece in self.pieces(elements):
            decoded = piece.dequantize(np.float64).reshape(-1)
            finite = np.abs(decoded[~np.isnan(decoded)])
            largest, nans = max(largest, float(finite.max(initial=0.0))), nans + decoded.size - finite.size
            with np.errstate(over="ignore"):
                flat = decoded.astype(kind)
                first, last = np.searchsorted(places, [row * columns, row * columns + flat.size])
                flat[places[first:last] - row * columns] = values[first:last].astype(kind)
            yield flat
        said = self._said["largest"], self._said["nans"]
        if (largest, nans) != said:
            raise self._damaged(
                f"decodes to numbers up to {largest:.6g} with {nans} NaN, where up to {said[0]:.6g} with {said[1]} NaN "
                "were written"
            )

    def dequantize(self, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return the tensor's numbers: those that stayed as they were, or decoded ones.

        Parameters
        ----------
        dtype : dtype, optional
            Of the result; by default the type that the tensor had before.

        Returns
        -------
        ndarray
            Of the tensor's shape.

        Raises
        ------
        CheckpointError
            If the tensor is damaged.
        """
        return np.concatenate([*self.values(dtype, max(self.size, 1))]).reshape(self.shape)

    def check(self) -> None:
        """Read the tensor whole and raise CheckpointError if anything is not as it was written."""
        for _ in self.values():
            pass

    # --- bytes --------------------------------------------------------------------------------------------

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._header.path}: tensor {self.name!r} is damaged: it {what}")

    def part(self, part: str) -> NDArray[Any]:
        """Read one of `parts` whole, as it is stored; CheckpointError if its bytes are not those that were written."""
        try:
            found = self._header.read(part)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self._header.path}: tensor {part!r} cannot be read: {error}") from None
        if hashlib.sha256(found.reshape(-1).view(np.uint8).data).hexdigest() != self._digests[part]:
            raise CheckpointError(f"{self._header.path}: tensor {part!r} is damaged: its checksum does not match")
        return found

    def _scale(self) -> NDArray[np.float32]:
        if "scale" not in self._said:
            return np.ones((), np.float32)
        stored = self.part(self._said["scale"])
        scale = np.ldexp(np.float32(1), stored) if stored.dtype == np.int8 else stored.astype(np.float32)
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise self._damaged("has scales that are not positive finite numbers")
        assert self.recipe is not None
        return scale.reshape(()) if self.recipe.scaling == "tensor" else scale

    def _codes(self, rows: int, columns: int, step: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        assert self.recipe is not None
        if self.recipe.entropy != "none":
            from ..entropy.coding import decompress

            try:
                codes = decompress(self.part(self.name).tobytes()).reshape(rows, columns)
            except ValueError as error:
                if isinstance(error, CheckpointError):
                    raise
                raise self._damaged(f"cannot be decoded: {error}") from None
            self._check_codes(codes)
            yield from ((row, codes[row : row + step]) for row in range(0, rows, step))
            return
        digest = hashlib.sha256()
        with self._header.open_at(self.name) as file:
            for row in range(0, max(rows, 1), step):
                count = max(min(step, rows - row), 0) * columns
                data = file.read(count)
                digest.update(data)
                if len(data) < count:
                    raise self._damaged("ends early")
                codes = np.frombuffer(data, np.uint8).reshape(-1, columns)
                self._check_codes(codes)
                yield row, codes
        if digest.hexdigest() != self._digests[self.name]:
            raise self._damaged("holds codes whose checksum does not match")

    def _check_codes(self, codes: NDArray[np.uint8]) -> None:
        if self.format.bits < 8 and codes.max(initial=0) >> self.format.bits:
            raise self._damaged(f"holds codes that {self.format.name} does not have")


# --- files --------------------------------------------------------------------------------------------------


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
    def forms(self) -> list[dict[str, Any]]:
        """What each file says of itself, under the key ``rf8sim`` of its metadata."""
        return [json.loads(header.metadata["rf8sim"]) for header in self.headers]

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
        header, own = _open_file(file)
        seals[file.name] = str(seal_of(header.raw))
        if expected.get(file.name, seals[file.name]) != seals[file.name]:
            raise CheckpointError(f"{file}: is not the file that {path.name} was written with")
        headers.append(header)
        tensors |= own
    stored = {name: header.path.name for header in headers for name in header.entries}
    if placed is not None and placed != stored:
        wrong = sorted(placed.items() ^ stored.items())[0][0]
        raise CheckpointError(f"{path}: says another place of tensor {wrong!r} than the files beside it")
    return QuantizedCheckpoint(path, tensors, tuple(headers), seals)


def find_damage(path: str | Path) -> list[str]:
    """Read a quantized checkpoint whole and say, in a sentence each, what is damaged.

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
    found = []
    for tensor in checkpoint:
        try:
            tensor.check()
        except CheckpointError as error:
            found.append(str(error))
    return found


def _the_file(path: Path) -> Path:
    if path.is_dir():
        for pattern in ("*.safetensors.index.json", "*.safetensors"):
            found = sorted(path.glob(pattern))
            if len(found) > 1:
                raise UnreadableError(f"{path}: holds {len(found)} files {pattern}: name one")
            if found:
                return found[0]
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
        raise UnreadableError(f"{path}: is {_PLAIN}")
    if seal_of(raw) is None:
        raise CheckpointError(f"{path}: this index is damaged: its seal does not match")
    index = json.loads(raw)
    expected = index["metadata"]["rf8sim_files"]
    files = [path.parent / name for name in expected]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{path}: names the file {file.name!r}, which is missing: put it beside the index")
    return files, index["weight_map"], expected


def _open_file(path: Path) -> tuple[Header, dict[str, StoredTensor]]:
    try:
        header = read_header(path)
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if "rf8sim" not in header.metadata and (SEAL not in header.metadata or seal_of(header.raw)):
        raise UnreadableError(f"{path}: is {_PLAIN}")
    if seal_of(header.raw) is None:
        raise CheckpointError(f"{path}: its header is damaged: its seal does not match")
    form = json.loads(header.metadata["rf8sim"])
    if form.get("form") != FORM:
        raise UnreadableError(f"{path}: is of form {form.get('form')}, this version reads form {FORM}: update rf8sim")
    formats = {name: _format(path, name, said) for name, said in form["formats"].items()}
    tensors = {}
    for name, said in form["tensors"].items():
        recipe = None if "kept" in said else Recipe(**{key: said[key] for key in _RECIPE})
        shape = tuple(said["shape"]) if recipe else header.entries[name].shape
        stored = header.entries[name].dtype
        dtype = said["dtype"] if recipe else DTYPES.get(stored, stored)
        own = formats[recipe.format] if recipe else None
        tensors[name] = StoredTensor(
            name, shape, dtype, recipe, said.get("kept", ""), header, said, form["sha256"], own
        )
    return header, tensors


def _format(path: Path, name: str, said: Mapping[str, Any]) -> Format:
    """Return the format of a table of values: the one of that name, or one that can be decoded only."""
    values = np.array(said["values"], dtype=np.float64)
    try:
        known = get_format(name)
    except ValueError:
        return Format(name, said["bits"], said["family"], f"from {path.name}", values,
                      power_of_two_scale=said["power_of_two_scale"])  # fmt: skip
    if not np.array_equal(known.values, values, equal_nan=True):
        raise UnreadableError(f"{path}: its format {name!r} has other values than the format of that name here")
    return known
