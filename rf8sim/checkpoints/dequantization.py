"""Plain checkpoints from quantized ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .._base.files import check_place, flush, staged
from .folders import carry_over, original_config, weights_name, write_flushed
from .header import read_form
from .origin import ORIGIN, OURS, Origin, origin_text, packed_array
from .quantized import QuantizedCheckpoint, open_quantized
from .safetensors import Entry, Header, Writer, dtype_of, is_one_file, read_header, stored_type
from .stored import StoredTensor

__all__ = ["data_size", "dequantize_checkpoint", "write_dequantized"]


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
        If the output is named as another kind of file, or the scales do not fit in a header: ``plain`` leaves them out.
    OSError
        If it cannot be written.
    """
    is_one_file(Path(output))  # refuses another kind of file
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
        groups.setdefault(target if single else target / weights_name(header.path.name), []).append(header)
    total, done = sum(tensor.size for tensor in checkpoint), 0
    placed: dict[str, str] = {}
    for file, headers in groups.items():
        names = [name for header in headers for name in read_form(header.path, header.metadata["rf8sim"]).tensors]
        tensors = [checkpoint[name] for name in names]
        strings = {key: text for header in headers for key, text in header.metadata.items() if key not in OURS}
        if not plain and len(headers) == 1:
            strings[ORIGIN] = origin_text(_origin(headers[0], tensors))
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
        write_flushed(target / weights_name(checkpoint.path.name), json.dumps(index, indent=2).encode())
    if not single:
        folder = checkpoint.path.parent
        carry_over(folder, target, original_config(folder))
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


def _origin(header: Header, tensors: Sequence[StoredTensor]) -> Origin:
    form = read_form(header.path, header.metadata["rf8sim"])
    return Origin(
        form, {part: packed_array(tensor.part(part)) for tensor in tensors for part in tensor.header.layout_parts}
    )


def data_size(path: Path) -> int:
    """Return the bytes of all tensors of a file."""
    return max((entry.end for entry in read_header(path).entries.values()), default=0)
