"""One tensor of a quantized checkpoint, read and checked a piece at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..formats import Format
from ..quantization.blocks import matrix_shape, scale_rows
from ..quantization.scaling import Chosen
from ..quantization.scheme import Scheme
from ..quantization.tensor import QuantizedTensor
from .arrays import from_array
from .checkpoint import CHUNK_ELEMENTS
from .errors import CheckpointError
from .header import TensorHeader
from .layouts import divided
from .packing import packed_columns, unpack
from .plan import Recipe
from .safetensors import Entry, Header, dtype_of, stored_type

__all__ = ["StoredTensor"]


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
    def codes_name(self) -> str:
        """Name in the file of the array of its codes, or of the tensor that stayed as it was."""
        return self.header.codes or self.name

    @property
    def parts(self) -> list[str]:
        """Names in the file of what the tensor is made of: codes or itself, its scales, its exact values."""
        return [self.codes_name, *self.header.parts]

    @property
    def entry(self) -> Entry:
        """Where the tensor's own bytes lie in its file, and their type."""
        return self._file.entries[self.codes_name]

    @property
    def bits_per_weight(self) -> float:
        """Stored bits for each element, scales and exact values included, the header not."""
        return 8 * sum(nbytes for _, nbytes in self.stored_bytes()) / max(self.size, 1)

    def stored_bytes(self) -> Iterator[tuple[str, int]]:
        """Yield the bytes of each of `parts`, and what they are for."""
        purposes = dict.fromkeys([*self.header.scales, self.header.zero], "scales")
        purposes[self.codes_name] = "codes" if self.recipe else "kept tensors"
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
            yield 0, self._as_read(QuantizedTensor(codes.reshape(self.shape), scales.scales, scheme, scales.zero))
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
            yield piece.start, self._as_read(QuantizedTensor(codes, part.scales, scheme, part.zero))

    def _as_read(self, piece: QuantizedTensor) -> QuantizedTensor:
        return divided(piece) if self.header.outer_divides else piece

    def read(self) -> QuantizedTensor:
        """Read a quantized tensor whole, by the scheme that it has.

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
        shapes = scheme.scale_shapes(self.shape)
        for depth, (name, level, shape) in enumerate(zip(self.header.scales, scheme.levels, shapes, strict=True)):
            scale = self._numbers(name, level.format)
            if not (np.isfinite(scale) & ((scale > 0) | ((level.rule == "signed") & (scale < 0)))).all():
                raise self._damaged("has scales that are not positive finite numbers")
            scale = np.float32(1) / scale if depth and self.header.outer_divides else scale
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

    def _codes(self, rows: int, columns: int, ranges: list[range]) -> Iterator[NDArray[Any]]:
        assert self.recipe is not None
        if self.recipe.entropy != "none":
            from ..entropy.coding import MissingLibraryError, decompress

            try:
                codes = decompress(self.part(self.codes_name).tobytes()).reshape(rows, columns)
            except MissingLibraryError as error:
                raise CheckpointError(f"{self._file.path}: tensor {self.name!r}: {error}") from None
            except ValueError as error:
                if isinstance(error, CheckpointError):
                    raise
                raise self._damaged(f"cannot be decoded: {error}") from None
            self._check_codes(codes)
            yield from (codes[piece.start : piece.stop] for piece in ranges)
            return
        digest, bits = hashlib.sha256(), self.scheme.format.bits
        width = packed_columns(columns, bits)
        with self._file.open_at(self.codes_name) as file:
            for piece in ranges:
                data = file.read(len(piece) * width)
                digest.update(data)
                if len(data) < len(piece) * width:
                    raise self._damaged("ends early")
                packed = np.frombuffer(data, np.uint8).reshape(len(piece), width)
                unused = 8 * width - columns * bits
                if unused and (packed[:, -1] >> 8 - unused).any():
                    raise self._damaged("has bits set after the last code of a row")
                yield unpack(packed, columns, bits)
        if digest.hexdigest() != self._digests[self.codes_name]:
            raise self._damaged("holds codes whose checksum does not match")

    def _check_codes(self, codes: NDArray[Any]) -> None:
        fmt = self.scheme.format
        if codes.dtype != fmt.code_dtype or int(codes.max(initial=0)) >> fmt.bits:
            raise self._damaged(f"holds codes that {fmt.name} does not have")
