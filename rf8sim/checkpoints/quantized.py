"""Quantized checkpoints on disk: safetensors files of codes and scales. Reading and checking.

What is stored, tensor by tensor, is described in ``docs/checkpoints.md``; in short:

* codes under the tensor's own name, packed where they have fewer than 8 bits (`packing`): U8, or F8_E4M3 and F8_E5M2
  for the formats of these types;
* its scales: ``NAME.scale``, the outer ones ``NAME.scale_outer``, zero points ``NAME.zero``, floats in their own type,
  codes as U8; ``NAME_scale`` beside float8 tensors with float32 scales, as the library compressed-tensors names them.
  Of `Scheme.scale_shapes`, one for the tensor as ``(1,)``;
* exact values that stand in place of decoded ones: ``NAME.exact_index`` (places in the flat tensor) and ``NAME.exact``;
* in the header the key ``rf8sim`` (`header`): each format's table of values, each tensor's scheme, a SHA-256 of the
  bytes of each array; and a seal over the header itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..formats import Format
from ..quantization.blocks import matrix_shape, scale_rows
from ..quantization.scaling import Chosen
from ..quantization.scheme import Scheme
from ..quantization.tensor import QuantizedTensor
from .checkpoint import CHUNK_ELEMENTS
from .errors import CheckpointError, UnreadableError
from .header import FileHeader, TensorHeader, format_of, read_form, scheme_of
from .packing import packed_columns, unpack
from .plan import Recipe
from .safetensors import DTYPES, SEAL, Entry, Header, dtype_of, read_header, seal_of, stored_type
from .scale_arrays import from_array

__all__ = ["QuantizedCheckpoint", "StoredTensor", "find_damage", "open_quantized"]

_PLAIN = "a plain checkpoint, not one that rf8sim quantized: 'rf8sim quantize' makes such a one of it"


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
    header : TensorHeader
        What the file says of it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    recipe: Recipe | None
    header: TensorHeader = field(repr=False)
    _file: Header = field(repr=False)
    _digests: Mapping[str, str] = field(repr=False)

    @property
    def kept(self) -> str:
        """Why it stayed as it was; empty for a quantized one."""
        return self.header.kept

    @property
    def scheme(self) -> Scheme:
        """How it is stored."""
        assert self.recipe is not None, f"{self.name!r} is not quantized"
        return self.recipe.scheme

    @property
    def format(self) -> Format:
        """The format of the codes, from the table of values in the file."""
        return self.scheme.format

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape as the matrix whose rows are the channels (`rf8sim.quantization.blocks.matrix_shape`)."""
        return matrix_shape(self.shape)

    @property
    def parts(self) -> list[str]:
        """Names in the file of what the tensor is made of: itself, its scales, its exact values."""
        return [self.name, *self.header.parts]

    @property
    def entry(self) -> Entry:
        """Where the tensor's own bytes lie in its file, and their type."""
        return self._file.entries[self.name]

    @property
    def bits_per_weight(self) -> float:
        """Stored bits for each element, scales and exact values included, the header not."""
        return 8 * sum(nbytes for _, nbytes in self.stored_bytes()) / max(self.size, 1)

    def stored_bytes(self) -> Iterator[tuple[str, int]]:
        """Yield the bytes of each of `parts`, and what they are for."""
        purposes = dict.fromkeys([*self.header.scales, self.header.zero], "scales")
        purposes[self.name] = "codes" if self.recipe else "kept tensors"
        for part in self.parts:
            entry = self._file.entries[part]
            yield purposes.get(part, "exact values"), entry.end - entry.begin

    def pieces(self, elements: int = CHUNK_ELEMENTS) -> Iterator[tuple[int, QuantizedTensor]]:
        """Read a quantized tensor as a matrix, whole rows at a time.

        Parameters
        ----------
        elements : int
            The most elements in a piece, unless whole blocks have more.

        Yields
        ------
        row : int
            The first row.
        rows : QuantizedTensor
            The rows; of the tensor's own shape where its blocks do not lie in the matrix. Exact values are not in
            them: see `exact`.

        Raises
        ------
        CheckpointError
            If the bytes are not those that were written: at the latest after the last piece.
        """
        scheme = self.scheme
        rows, columns = self.matrix_shape
        scales = self._scales()
        ranges = scheme.row_pieces(self.shape, elements)
        if ranges is None:
            [codes] = self._codes(rows, columns, [range(rows)])
            yield 0, QuantizedTensor(codes.reshape(self.shape), scales.scales, scheme, scales.zero)
            return
        block = None if scheme.scales is None else scheme.scales.block
        for piece, codes in zip(ranges, self._codes(rows, columns, ranges), strict=True):
            part = scales
            if block is not None and len(self.shape) > 0:
                grid = scheme.scale_shapes(codes.shape)[0]
                chosen = scale_rows(block, self.shape, piece)
                inner = scales.scales[0].reshape(-1, grid[1])[chosen]
                zero = None if scales.zero is None else scales.zero.reshape(-1, grid[1])[chosen]
                part = Chosen((inner, *scales.scales[1:]), zero)
            yield piece.start, QuantizedTensor(codes, part.scales, scheme, part.zero)

    def read(self) -> QuantizedTensor:
        """Read a quantized tensor whole.

        Returns
        -------
        QuantizedTensor
            Of the tensor's shape. Exact values are not in it.

        Raises
        ------
        CheckpointError
            If it is damaged.
        """
        rows, columns = self.matrix_shape
        scales = self._scales()
        [codes] = self._codes(rows, columns, [range(rows)])
        return QuantizedTensor(codes.reshape(self.shape), scales.scales, self.scheme, scales.zero)

    def exact(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Read the exact values: their places in the flat tensor, ascending, and the values.

        Raises
        ------
        CheckpointError
            If they are damaged.
        """
        if not self.header.exact:
            return np.zeros(0, np.int64), np.zeros(0, dtype_of(stored_type(self.dtype)))
        places = self.part(self.header.exact_index).astype(np.int64)
        values = self.part(self.header.exact)
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
            The most elements in a piece, unless whole blocks have more.

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
        if (largest, nans) != (self.header.largest, self.header.nans):
            raise self._damaged(
                f"decodes to numbers up to {largest:.6g} with {nans} NaN, where up to {self.header.largest:.6g} with "
                f"{self.header.nans} NaN were written"
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
        return CheckpointError(f"{self._file.path}: tensor {self.name!r} is damaged: it {what}")

    def part(self, part: str) -> NDArray[Any]:
        """Read one of `parts` whole, as it is stored; CheckpointError if its bytes are not those that were written."""
        try:
            array = self._file.read(part)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self._file.path}: tensor {part!r} cannot be read: {error}") from None
        if hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest() != self._digests[part]:
            raise CheckpointError(f"{self._file.path}: tensor {part!r} is damaged: its checksum does not match")
        return array

    def _scales(self) -> Chosen:
        scheme = self.scheme
        arrays = []
        for name, level, shape in zip(self.header.scales, scheme.levels, scheme.scale_shapes(self.shape), strict=True):
            scale = self._numbers(name, level.format)
            if not (np.isfinite(scale) & ((scale > 0) | ((level.rule == "signed") & (scale < 0)))).all():
                raise self._damaged("has scales that are not positive finite numbers")
            arrays.append(self._shaped(scale, shape))
        if scheme.scales is None or scheme.scales.zero is None:
            return Chosen(tuple(arrays))
        zero = self._numbers(self.header.zero, scheme.scales.zero)
        if not np.isfinite(zero).all():
            raise self._damaged("has zero points that are not finite numbers")
        return Chosen(tuple(arrays), self._shaped(zero, scheme.scale_shapes(self.shape)[0]))

    def _numbers(self, part: str, name: str) -> NDArray[np.float32]:
        try:
            return from_array(self.part(part), name)
        except CheckpointError:
            raise
        except ValueError as error:
            raise self._damaged(f"has scales that cannot be read: {error}") from None

    def _shaped(self, array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        if array.size != math.prod(shape):
            raise self._damaged(f"has {array.size} scales, where {math.prod(shape)} are needed")
        return array.reshape(shape)

    def _codes(self, rows: int, columns: int, ranges: list[range]) -> Iterator[NDArray[np.uint8]]:
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
            yield from (codes[piece.start : piece.stop] for piece in ranges)
            return
        digest, bits = hashlib.sha256(), self.scheme.format.bits
        width = packed_columns(columns, bits)
        with self._file.open_at(self.name) as file:
            for piece in ranges:
                data = file.read(len(piece) * width)
                digest.update(data)
                if len(data) < len(piece) * width:
                    raise self._damaged("ends early")
                codes = unpack(np.frombuffer(data, np.uint8).reshape(len(piece), width), columns, bits)
                self._check_codes(codes)
                yield codes
        if digest.hexdigest() != self._digests[self.name]:
            raise self._damaged("holds codes whose checksum does not match")

    def _check_codes(self, codes: NDArray[np.uint8]) -> None:
        fmt = self.scheme.format
        if fmt.bits < 8 and codes.max(initial=0) >> fmt.bits:
            raise self._damaged(f"holds codes that {fmt.name} does not have")


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
    def forms(self) -> list[FileHeader]:
        """What each file says of itself, under the key ``rf8sim`` of its metadata."""
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
    form = read_form(path, header.metadata["rf8sim"])
    formats = {name: format_of(path, name, described) for name, described in form.formats.items()}
    tensors = {}
    for name, own in form.tensors.items():
        missing = [part for part in (name, *own.parts) if part not in header.entries or part not in form.sha256]
        if missing:
            raise CheckpointError(f"{path}: its header is damaged: it names {missing[0]!r}, which is not there")
        stored = header.entries[name].dtype
        recipe = None if own.kept else Recipe(scheme_of(path, own, formats), own.seed, own.entropy)
        shape = tuple(own.shape) if recipe else header.entries[name].shape
        dtype = own.dtype if recipe else DTYPES.get(stored, stored)
        tensors[name] = StoredTensor(name, shape, dtype, recipe, own, header, form.sha256)
    return header, tensors
