"""Writing quantized checkpoints, a piece of a tensor at a time.

Codes and scales are those that `rf8sim.quantize` gives for the whole tensor, however it is cut (`pieces`). A tensor is
held in memory only where its blocks do not lie in rows of its matrix, where weights are protected, and where codes are
entropy-coded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._base.files import flush, read_json
from .._version import __version__
from ..quantization.scaling import Chosen
from ..quantization.tensor import QuantizedTensor
from .arrays import to_array
from .checkpoint import CHUNK_ELEMENTS, Checkpoint, TensorInfo
from .compressed_tensors import quantization_config
from .dequantization import data_size
from .errors import CheckpointError
from .folders import carry_over, codes_name, is_stopping, stored_config, weights_name, write_flushed
from .header import FORM, FileHeader, described, written_form
from .layouts import divided
from .pieces import compressed, packed, quantized_pieces
from .plan import Plan, Recipe
from .protect import Protection
from .safetensors import NO_SEAL, SEAL, Writer, dtype_of, header_room, read_header, seal
from .tasks import Sources, Task, check_names, check_patterns, exact_values, read_sources, task_of

__all__ = ["Written", "header_bytes", "write_quantized"]

_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Written:
    """What became of a tensor.

    Attributes
    ----------
    name : str
        Its name.
    size : int
        Its elements.
    recipe : Recipe or None
        How it was quantized; None if it stayed as it was.
    reason : str
        Why it stayed as it was, or was quantized anew though it came from a quantized one.
    repeated : bool
        Whether codes and scales are those of the quantized tensor that it came from.
    """

    name: str
    size: int
    recipe: Recipe | None
    reason: str = ""
    repeated: bool = False


# --- quantizing ---------------------------------------------------------------------------------------------


def write_quantized(
    source: Checkpoint,
    output: Path,
    target: Path,
    plan: Plan | None = None,
    protection: Protection | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    rounded: Mapping[str, QuantizedTensor] | None = None,
) -> list[Written]:
    """Quantize a checkpoint.

    Parameters
    ----------
    source : Checkpoint
        The checkpoint.
    output : Path
        What it is to be: one file if the name ends in ``.safetensors``, else a folder with as many as the source has.
    target : Path
        Where to write it now; nothing is there. `rf8sim.quantize_checkpoint` checks it and puts it in place.
    plan : Plan, optional
        What each tensor gets; by default what it had before it was dequantized, or else the defaults of `Plan`.
    protection : Protection, optional
        Which weights are kept exactly.
    progress : callable, optional
        Called with a tensor's name, the elements done and the elements in all.
    rounded : mapping of str to QuantizedTensor, optional
        Codes and scales of tensors that were rounded in another way, for which the plan has the same scheme.

    Returns
    -------
    list of Written
        What became of each tensor.

    Raises
    ------
    ValueError
        If an option is unknown, a tensor cannot be encoded, or names clash.
    OSError
        If a file cannot be written.
    """
    if plan is not None:
        plan.check()
        check_patterns(plan, [tensor.name for tensor in source])
    single = output.name.endswith(".safetensors")
    groups = {target: list(source)} if single else _in_folder(source, target)
    total, done = sum(tensor.size for tensor in source), 0
    seals, everything = {}, []
    for file, tensors in groups.items():
        tasks, form, strings, spare = _prepared(tensors, plan, protection, read_sources(tensors))
        with Writer(file, [entry for task in tasks for entry in task.entries], spare) as writer:
            for task in tasks:
                if progress:
                    progress(task.info.name, done, total)
                _write_tensor(task, writer, protection, (rounded or {}).get(task.info.name))
                done += task.info.size
            form.sha256 = {name: writer.digests[name] for name in sorted(writer.digests)}
            strings["rf8sim"] = written_form(form)
            seals[file.name] = writer.finish(strings)
        everything += [(task, file.name) for task in tasks]
    if not single:
        _finish_folder(source, target, seals, everything)
    return [Written(task.info.name, task.info.size, task.recipe, task.reason, task.repeated) for task, _ in everything]


def header_bytes(source: Checkpoint) -> Callable[[Plan], int]:
    """Return a function that counts the bytes of the header, its length included, of the one file that a plan gives.

    Parameters
    ----------
    source : Checkpoint
        The checkpoint.

    Returns
    -------
    callable
        From a plan to the bytes.
    """
    tensors = list(source)
    sources = read_sources(tensors)

    def of(plan: Plan) -> int:
        tasks, _, _, spare = _prepared(tensors, plan, None, sources)
        return 8 + header_room([entry for task in tasks for entry in task.entries], spare)

    return of


def _prepared(
    tensors: Sequence[TensorInfo], plan: Plan | None, protection: Protection | None, sources: Sources
) -> tuple[list[Task], FileHeader, dict[str, str], int]:
    """Return what goes into a file: its tensors in order, its header and strings, and the bytes to leave for them."""
    order = sources.order
    ordered = sorted(tensors, key=lambda tensor: order.get(tensor.name, len(order)))
    tasks = [task_of(tensor, plan, protection, sources) for tensor in ordered]
    check_names(tasks)
    form, strings = _form(tasks, sources)
    room = len(json.dumps(written_form(form))) + len(json.dumps(strings)) + 64 * len(tasks) + 4096
    return tasks, form, strings, room


def _in_folder(source: Checkpoint, target: Path) -> dict[Path, list[TensorInfo]]:
    """Make a folder and return the files to write in it, each with its tensors: as many as the source has."""
    target.mkdir()
    groups: dict[Path, list[TensorInfo]] = {}
    for tensor in source:
        name = tensor.source.name if tensor.source.suffix == ".safetensors" else "model.safetensors"
        groups.setdefault(target / name, []).append(tensor)
    return groups


def _form(tasks: Sequence[Task], sources: Sources) -> tuple[FileHeader, dict[str, str]]:
    """Return the header of a file, checksums still missing, and its other strings."""
    strings = dict(sources.strings)
    config = _config(tasks)
    if config is not None:
        strings["quantization_config"] = json.dumps(config)
    recipes = [task.recipe for task in tasks]
    form = FileHeader(
        form=FORM,
        version=__version__,
        source=sources.files,
        formats={recipe.scheme.format.name: described(recipe.scheme.format) for recipe in recipes if recipe},
        tensors={task.info.name: task.header for task in tasks},
        sha256={entry.name: NO_SEAL for task in tasks for entry in task.entries},
    )
    # Where every tensor of one file is as it was, so are the version and the source.
    if len(sources.origins) == 1 and [*sources.origins[0].form.tensors] == [*form.tensors]:
        before = sources.origins[0].form
        if all(task.repeated or before.tensors[task.info.name] == task.header for task in tasks):
            form.version, form.source = before.version, before.source
    return form, strings


def _config(tasks: Sequence[Task]) -> dict[str, Any] | None:
    if any(task.header.exact for task in tasks):
        return None
    recipes = {task.info.name: task.recipe for task in tasks}
    return quantization_config(recipes, {task.info.name: task.info.shape for task in tasks})


# --- one tensor ---------------------------------------------------------------------------------------------


def _write_tensor(
    task: Task, writer: Writer, protection: Protection | None, rounded: QuantizedTensor | None = None
) -> None:
    name, info = task.info.name, task.info
    if task.recipe is None:
        _copy(task, writer)
        return
    places, values = exact_values(task, protection)
    if task.header.protected:
        index = next(entry for entry in task.entries if entry.name == task.header.exact_index)
        writer.put(index.name, places.astype(dtype_of(index.dtype)))
        writer.put(task.header.exact, values)
    coded = task.recipe.entropy != "none"
    scales, pieces = [], []
    largest, nans = 0.0, 0
    if not coded:
        writer.begin(task.entries[0].name)
    if rounded is not None and (rounded.scheme, rounded.shape) != (task.recipe.scheme, info.shape):
        raise ValueError(f"tensor {name!r}: is rounded as {rounded.scheme}, shape {rounded.shape}, where the plan has "
                         f"{task.recipe.scheme}, shape {info.shape}")  # fmt: skip
    chosen = [rounded] if rounded is not None else quantized_pieces(info, task.recipe, places, task.scales)
    for piece in chosen:
        if coded:
            pieces.append(piece)
        else:
            writer.write(packed(info, piece))
        scales.append(Chosen(piece.scales, piece.zero))
        decoded = np.abs((divided(piece) if task.header.outer_divides else piece).dequantize(np.float64))
        largest = max(largest, float(np.max(decoded, initial=0.0, where=~np.isnan(decoded))))
        nans += int(np.count_nonzero(np.isnan(decoded)))
    if coded:
        writer.put(name, compressed(pieces, task.recipe.entropy))
    _write_scales(task, task.recipe, scales, writer)
    task.header.largest, task.header.nans = largest, nans


def _write_scales(task: Task, recipe: Recipe, pieces: Sequence[Chosen], writer: Writer) -> None:
    """Write the scales of successive pieces of a tensor; those that all pieces share once."""
    for depth, (part, level) in enumerate(zip(task.header.scales, recipe.scheme.levels, strict=True)):
        shared = depth > 0 or level.block is None
        scales = np.concatenate([piece.scales[depth].reshape(-1) for piece in (pieces[:1] if shared else pieces)])
        if depth and task.header.outer_divides:
            scales = np.float32(1) / scales
        writer.put(part, to_array(scales, level.format))
        if depth == 0 and level.zero is not None:
            zeros = [piece.zero.reshape(-1) for piece in (pieces[:1] if shared else pieces) if piece.zero is not None]
            writer.put(task.header.zero, to_array(np.concatenate(zeros), level.zero))


def _copy(task: Task, writer: Writer) -> None:
    """Write a tensor that stays as it is, byte by byte."""
    [entry] = task.entries
    if not task.info.size:
        writer.put(entry.name, np.zeros(0, np.uint8))
        return
    writer.begin(entry.name)
    if task.info.source.suffix == ".safetensors" and task.info.coded is None:
        with read_header(task.info.source).open_at(entry.name) as file:
            left = entry.end - entry.begin
            while left:
                data = file.read(min(left, 4 * CHUNK_ELEMENTS))
                if not data:
                    raise CheckpointError(f"{task.info.source}: ends in the middle of tensor {entry.name!r}")
                writer.write(np.frombuffer(data, np.uint8))
                left -= len(data)
        return
    for piece in task.info.stored():
        writer.write(piece)


# --- folders ------------------------------------------------------------------------------------------------


def _finish_folder(
    source: Checkpoint, target: Path, seals: Mapping[str, str], tasks: Sequence[tuple[Task, str]]
) -> None:
    """Write the index of several files, and what lies beside the weights of the source."""
    folder, recipes = source.path.parent, {task.info.name: task.recipe for task, _ in tasks}
    shapes = {task.info.name: task.info.shape for task, _ in tasks}
    left = next((task.info.name for task, _ in tasks if task.recipe is None and _is_coded(task.info)), "")
    protected = next((task.info.name for task, _ in tasks if task.header.exact), "")
    config = stored_config(folder, recipes, shapes, left, protected)
    named = codes_name if is_stopping(config) else weights_name
    if source.path.name.endswith(".index.json"):
        metadata = read_json(source.path).get("metadata") or {}
        metadata = {key: value for key, value in metadata.items() if key not in ("rf8sim_files", SEAL)}
        metadata["total_size"] = sum(data_size(target / name) for name in seals)
        placed = {entry.name: file for task, file in tasks for entry in task.entries}
        index = {"metadata": {**metadata, "rf8sim_files": seals, SEAL: NO_SEAL}, "weight_map": placed}
        name = source.path.name if source.path.name.endswith(".safetensors.index.json") else _INDEX
        write_flushed(target / named(name), seal(json.dumps(index, indent=2, ensure_ascii=False).encode()))
    else:
        for name in seals:
            (target / name).rename(target / named(name))
    carry_over(folder, target, config)
    flush(target)


def _is_coded(info: TensorInfo) -> bool:
    """Whether a tensor that stays as it is may be codes of another tool."""
    return info.dtype.startswith("float8") or "not recognized" in (info.skipped or "")
