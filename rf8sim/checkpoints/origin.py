"""The quantized file that a plain one was dequantized from, carried in the header of the plain file.

Its schemes, scales and places of exact values are in no tensor, so a plain file has the tensors of the original and no
others. Quantized again, it gives the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..quantization.records import Count, convert
from ..quantization.scaling import Chosen
from .arrays import from_array, tensor_arrays
from .errors import CheckpointError
from .header import FORM, FileHeader, TensorHeader, formats_of, recipe_of
from .plan import Recipe
from .safetensors import SEAL, Entry, dtype_of, stored_type

__all__ = ["ORIGIN", "OURS", "Origin", "origin_text", "packed_array", "read_origin"]

ORIGIN = "rf8sim_dequantized"
"""The key of the header under which a plain file carries its origin."""

OURS = ("rf8sim", SEAL, ORIGIN, "quantization_config")
"""Keys of a header that are not handed on."""


class Origin(msgspec.Struct):
    """The quantized file that a plain one came from.

    Attributes
    ----------
    form : FileHeader
        Its header.
    arrays : dict of str to tuple
        Its scales, zero points and places of exact values: safetensors type, shape, and zlib-compressed bytes in base
        64.
    """

    form: FileHeader
    arrays: dict[str, tuple[str, list[Count], str]]

    def recipe(self, name: str) -> Recipe:
        """Return how a tensor was quantized; raise CheckpointError if its header is damaged."""
        return recipe_of(_PLACE, name, self.form.tensors[name], formats_of(_PLACE, self.form))

    def tensor_arrays(self, name: str) -> tuple[TensorHeader, list[Entry]]:
        """Return the header and the arrays of a tensor, as `tensor_arrays`; raise CheckpointError if it has no such."""
        header = self.form.tensors[name]
        shape, kept = tuple(header.shape), (header.protected, header.kept_in)
        try:
            return tensor_arrays(name, self.recipe(name), shape, header.dtype, *kept)
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{_PLACE}: the header of {name!r} is damaged: {error}") from None

    def scales(self, name: str) -> Chosen:
        """Return the scales of a tensor; raise CheckpointError if they are damaged."""
        header, scheme = self.form.tensors[name], self.recipe(name).scheme
        shapes = scheme.scale_shapes(tuple(header.shape))
        try:
            arrays = [
                from_array(self._array(part), level.format).reshape(shape)
                for part, level, shape in zip(header.scales, scheme.levels, shapes, strict=True)
            ]
            if header.outer_divides:
                arrays[1] = np.float32(1) / arrays[1]
            if scheme.scales is None or scheme.scales.zero is None:
                return Chosen(tuple(arrays))
            return Chosen(tuple(arrays), from_array(self._array(header.zero), scheme.scales.zero).reshape(shapes[0]))
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{_PLACE}: the scales of {name!r} are damaged: {error}") from None

    def places(self, name: str) -> NDArray[np.int64] | None:
        """Return the places of exact values of a tensor, None if it has none; raise CheckpointError if damaged."""
        header = self.form.tensors[name]
        if not header.protected:
            return None
        places = self._array(header.exact_index).astype(np.int64).reshape(-1)
        inside = places.size == header.protected and places[0] >= 0 and places[-1] < math.prod(header.shape)
        if not inside or (np.diff(places) <= 0).any():
            raise CheckpointError(f"{_PLACE}: the places of exact values of {name!r} are damaged")
        return places

    def _array(self, part: str) -> NDArray[Any]:
        try:
            stored, shape, data = self.arrays[part]
            return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype_of(stored)).reshape(shape)
        except (KeyError, ValueError, zlib.error, binascii.Error):
            raise CheckpointError(f"{_PLACE}: array {part!r} is missing or damaged") from None


_PLACE = f"key {ORIGIN!r} of the header"


def read_origin(path: Path, text: str) -> Origin | None:
    """Return the origin of a plain file from the text in its header; None if it is of another version.

    Raises
    ------
    CheckpointError
        If it is damaged; the message names the field.
    """
    try:
        data = msgspec.json.decode(text)
        form = data.get("form") if isinstance(data, dict) else None
        if isinstance(form, dict) and form.get("form") != FORM:
            return None
        return convert(data, Origin)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: {_PLACE} is damaged: {error}; without it: 'rf8sim dequantize --plain'"
        ) from None


def origin_text(origin: Origin) -> str:
    """Return the text of an origin, for a header."""
    return msgspec.json.encode(origin).decode()


def packed_array(array: NDArray[Any]) -> tuple[str, list[int], str]:
    """Return an array as an origin holds it."""
    data = base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()
    return stored_type(array.dtype.newbyteorder("=").name), list(array.shape), data
