"""Plain checkpoints from quantized ones, and the origin that they carry.

A plain file carries in its header the schemes, the scales and the places of exact values of the quantized file that it
came from. They are in no tensor, so the file has the tensors of the original and no others.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .._base.files import check_place, flush, staged
from ..quantization.scaling import Chosen
from ..quantization.scheme import Scheme
from .header import FORM, FileHeader, read_form
from .plan import Recipe
from .quantized import QuantizedCheckpoint, StoredTensor, open_quantized
from .safetensors import SEAL, Entry, Header, Writer, dtype_of, read_header, stored_type
from .scale_arrays import from_array

__all__ = [
    "ORIGIN",
    "OURS",
    "Origin",
    "data_size",
    "dequantize_checkpoint",
    "read_origin",
    "write_dequantized",
    "write_flushed",
]

ORIGIN = "rf8sim_dequantized"
"""The key of the header under which a plain file carries its origin."""

OURS = ("rf8sim", SEAL, ORIGIN, "quantization_config")
"""Keys of a header that are not handed on."""


def dequantize_checkpoint(
    path: str | Path,
    output: str | Path,
    dtype: str | None = None,
    *,
    plain: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> QuantizedCheckpoint:
    """Write the numbers of a quantized checkpoint as a plain one.

    Parameters
    ----------
    path : str or Path
        The quantized checkpoint.
    output : str or Path
        A ``.safetensors`` file, or a folder that does not exist or is empty.
    dtype : str, optional
        ``float32``, ``float16`` or ``bfloat16``; by default the type that each tensor had.
    plain : bool
        Leave out what makes it possible to quantize again to the same bytes.
    progress : callable, optional
        As for `write_quantized`.

    Returns
    -------
    QuantizedCheckpoint
        What was read.

    Raises
    ------
    CheckpointError
        If anything in it is damaged; then nothing is written.
    ValueError
        If the scales do not fit in a header: ``plain`` leaves them out.
    OSError
        If it cannot be written.
    """
    check_place(Path(output))
    checkpoint = open_quantized(path)
    with staged(Path(output)) as (beside, place):
        write_dequantized(checkpoint, Path(output), beside, dtype, plain=plain, progress=progress)
        place()
    return checkpoint


def write_dequantized(
    checkpoint: QuantizedCheckpoint,
    output: Path,
    target: Path,
    dtype: str | None = None,
    *,
    plain: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write the numbers of an open checkpoint to ``target``, in the form that ``output`` asks for by its name."""
    single = output.name.endswith(".safetensors")
    groups: dict[Path, list[Header]] = {}
    if not single:
        target.mkdir()
    for header in checkpoint.headers:
        groups.setdefault(target if single else target / header.path.name, []).append(header)
    total, done = sum(tensor.size for tensor in checkpoint), 0
    placed: dict[str, str] = {}
    for file, headers in groups.items():
        names = [name for header in headers for name in read_form(header.path, header.metadata["rf8sim"]).tensors]
        tensors = [checkpoint[name] for name in names]
        strings = {key: text for header in headers for key, text in header.metadata.items() if key not in OURS}
        if not plain and len(headers) == 1:
            strings[ORIGIN] = msgspec.json.encode(_origin(headers[0], tensors)).decode()
        entries = [_plain_entry(tensor, dtype) for tensor in tensors]
        try:
            writer = Writer(file, entries, len(json.dumps(strings)) + 4096)
        except ValueError as error:
            raise ValueError(f"{error}: the scales do not fit; leave them out with --plain") from None
        with writer:
            for tensor, entry in zip(tensors, entries, strict=True):
                if progress:
                    progress(tensor.name, done, total)
                _write_plain(tensor, entry, writer)
                done += tensor.size
            writer.finish(strings)
        placed |= {entry.name: file.name for entry in entries}
    if not single and len(groups) > 1:
        size = sum(data_size(file) for file in groups)
        index = {"metadata": {"total_size": size}, "weight_map": placed}
        write_flushed(target / checkpoint.path.name, json.dumps(index, indent=2).encode())
    if not single:
        flush(target)


def _plain_entry(tensor: StoredTensor, dtype: str | None) -> Entry:
    if tensor.recipe is None:
        return tensor.entry
    return Entry(tensor.name, stored_type(dtype or tensor.dtype), tensor.shape)


def _write_plain(tensor: StoredTensor, entry: Entry, writer: Writer) -> None:
    if not tensor.size:
        tensor.check()
        writer.put(tensor.name, np.zeros(0, np.uint8))
        return
    writer.begin(tensor.name)
    for piece in tensor.values(None if tensor.recipe is None else dtype_of(entry.dtype)):
        writer.write(piece)


class Origin(msgspec.Struct):
    """The quantized file that a plain one came from.

    Attributes
    ----------
    form : FileHeader
        Its header.
    arrays : dict of str to tuple of str
        Its scales, zero points and places of exact values: safetensors type, shape as text, zlib-compressed bytes in
        base 64.
    """

    form: FileHeader
    arrays: dict[str, tuple[str, list[int], str]]

    def recipe(self, name: str) -> Recipe:
        """Return how a tensor was quantized."""
        own = self.form.tensors[name]
        return Recipe(Scheme.from_json(own.scheme), own.seed, own.entropy)

    def scales(self, name: str) -> Chosen:
        """Return the scales of a tensor."""
        own, scheme = self.form.tensors[name], self.recipe(name).scheme
        shapes = scheme.scale_shapes(tuple(own.shape))
        arrays = [
            from_array(self._array(part), level.format).reshape(shape)
            for part, level, shape in zip(own.scales, scheme.levels, shapes, strict=True)
        ]
        if scheme.scales is None or scheme.scales.zero is None:
            return Chosen(tuple(arrays))
        return Chosen(tuple(arrays), from_array(self._array(own.zero), scheme.scales.zero).reshape(shapes[0]))

    def places(self, name: str) -> NDArray[np.int64] | None:
        """Return the places of exact values of a tensor; None if it has none."""
        part = self.form.tensors[name].exact_index
        return self._array(part).astype(np.int64) if part else None

    def _array(self, part: str) -> NDArray[Any]:
        stored, shape, data = self.arrays[part]
        return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype_of(stored)).reshape(shape)


def read_origin(path: Path, text: str) -> Origin | None:
    """Return the origin of a plain file from the text in its header; None if it is of another version."""
    try:
        origin = msgspec.json.decode(text, type=Origin)
    except msgspec.DecodeError:
        return None
    return origin if origin.form.form == FORM else None


def _origin(header: Header, tensors: Sequence[StoredTensor]) -> Origin:
    form = read_form(header.path, header.metadata["rf8sim"])
    parts = [(tensor, part) for tensor in tensors for part in tensor.header.layout_parts]
    return Origin(form, {part: _packed(tensor.part(part)) for tensor, part in parts})


def _packed(array: NDArray[Any]) -> tuple[str, list[int], str]:
    data = base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()
    return stored_type(array.dtype.newbyteorder("=").name), list(array.shape), data


def data_size(path: Path) -> int:
    """Return the bytes of all tensors of a file."""
    return max((entry.end for entry in read_header(path).entries.values()), default=0)


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and have it on the disk."""
    path.write_bytes(data)
    flush(path)
