"""Writing quantized checkpoints, a piece of a tensor at a time.

Codes and scales are those that `rf8sim.quantize` gives for the whole tensor as a matrix, however it is cut. A tensor is
held whole only where they depend on all of it: a generalized Gaussian fitted for channels or blocks, protected weights,
entropy-coded codes.

A plain checkpoint that came from a quantized one remembers its recipes and scales (`dequantization`); quantized
again it gives the same bytes. Its values lie on the grid, so whatever the rounding mode was, codes are found by the
nearest; they are compared with the remembered checksums, so a tensor that was changed since is quantized anew.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._base.files import flush
from .._version import __version__
from ..formats import Format, get_format
from ..quantization.scaling import QuantizedTensor, quantize, scale_from_histogram
from .checkpoint import CHUNK_ELEMENTS, Checkpoint, CheckpointError, TensorInfo
from .compressed_tensors import quantization_config
from .dequantization import MEMORY, OURS, data_size, unpacked, write_flushed
from .plan import Plan, Recipe
from .protect import Protection
from .quantized import FLOAT8, FORM
from .safetensors import NO_SEAL, SEAL, Entry, Writer, dtype_of, header_room, read_header, seal, stored_type

__all__ = ["Written", "file_sha256", "header_bytes", "write_quantized"]

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


@dataclass
class _Task:
    """A tensor to write: what it is, what it becomes, what is said of it in the header."""

    info: TensorInfo
    recipe: Recipe | None
    said: dict[str, Any]
    entries: list[Entry]
    reason: str = ""
    scale: NDArray[np.float32] | None = None  # known before: that of the quantized tensor it came from
    places: NDArray[np.int64] | None = None
    repeated: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.info.matrix_shape


def write_quantized(
    source: Checkpoint,
    output: Path,
    target: Path,
    plan: Plan | None = None,
    protection: Protection | None = None,
    progress: Callable[[str, int, int], None] | None = None,
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
        _refuse_idle_rules(plan, [tensor.name for tensor in source])
    single = output.name.endswith(".safetensors")
    groups = {target: list(source)} if single else _in_folder(source, target)
    total, done = sum(tensor.size for tensor in source), 0
    seals, everything = {}, []
    for file, tensors in groups.items():
        memories = _memories(tensors)
        tasks, form, strings, spare = _prepared(tensors, plan, protection, memories)
        with Writer(file, [entry for task in tasks for entry in task.entries], spare) as writer:
            for task in tasks:
                if progress:
                    progress(task.info.name, done, total)
                _write_tensor(task, writer, protection)
                done += task.info.size
            form["sha256"] = {name: writer.digests[name] for name in sorted(writer.digests)}
            strings["rf8sim"] = json.dumps(form, separators=(",", ":"), ensure_ascii=False)
            seals[file.name] = writer.finish(strings)
        everything += [(task, file.name) for task in tasks]
    if not single:
        _finish_folder(source, target, seals, everything)
    return [Written(task.info.name, task.info.size, task.recipe, task.reason, task.repeated) for task, _ in everything]


def header_bytes(source: Checkpoint) -> Callable[[Plan], int]:
    """Return what tells how many bytes the header has, its length included, of the one file that a plan gives.

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
    memories = _memories(tensors)

    def of(plan: Plan) -> int:
        tasks, _, _, spare = _prepared(tensors, plan, None, memories)
        return 8 + header_room([entry for task in tasks for entry in task.entries], spare)

    return of


def _prepared(
    tensors: Sequence[TensorInfo], plan: Plan | None, protection: Protection | None, memories: Mapping[str, Any]
) -> tuple[list[_Task], dict[str, Any], dict[str, str], int]:
    """Return what goes into a file: its tensors in order, what it says of itself, and the bytes to leave for that."""
    order = memories["order"]
    ordered = sorted(tensors, key=lambda tensor: order.get(tensor.name, len(order)))
    tasks = [_task(tensor, plan, protection, memories) for tensor in ordered]
    _refuse_clashes(tasks)
    form, strings = _form(tasks, memories)
    return tasks, form, strings, len(json.dumps(json.dumps(form))) + len(json.dumps(strings)) + 64 * len(tasks) + 4096


def _in_folder(source: Checkpoint, target: Path) -> dict[Path, list[TensorInfo]]:
    """Make a folder and return the files to write in it, each with its tensors: as many as the source has."""
    target.mkdir()
    groups: dict[Path, list[TensorInfo]] = {}
    for tensor in source:
        name = tensor.source.name if tensor.source.suffix == ".safetensors" else "model.safetensors"
        groups.setdefault(target / name, []).append(tensor)
    return groups


def _memories(tensors: Sequence[TensorInfo]) -> dict[str, Any]:
    """Return what the files of tensors remember of the quantized checkpoint they came from, and their strings."""
    found: dict[str, Any] = {"strings": {}, "forms": [], "tensors": {}, "files": {}, "order": {}}
    for path in dict.fromkeys(tensor.source for tensor in tensors):
        found["files"][path.name] = file_sha256(path)
        if path.suffix != ".safetensors":
            continue
        header = read_header(path)
        found["strings"] |= {key: text for key, text in header.metadata.items() if key not in OURS}
        if MEMORY in header.metadata:
            memory = json.loads(header.metadata[MEMORY])
            if memory["form"]["form"] == FORM:
                found["forms"].append(memory["form"])
                for name, said in memory["form"]["tensors"].items():
                    found["order"][name] = len(found["order"])
                    found["tensors"][name] = said, memory["form"]["sha256"], memory["arrays"]
    return found


def _task(info: TensorInfo, plan: Plan | None, protection: Protection | None, memories: Mapping[str, Any]) -> _Task:
    said, digests, arrays = memories["tensors"].get(info.name, (None, {}, {}))
    choice: Recipe | str
    if plan is None and said is not None:
        choice = said["kept"] if "kept" in said else _recipe(said)
    else:
        choice = (plan or Plan()).choose(info.name, info.shape)
    if info.skipped is not None:
        choice = info.skipped
    elif not info.size:
        choice = "it has no elements"
    elif info.dtype.startswith("float8"):
        choice = "it is of 8 bits already"
    if isinstance(choice, str):
        return _Task(info, None, {"kept": choice}, [_kept_entry(info)], choice)
    reason = ""
    if said is not None and "kept" not in said and choice == _recipe(said) and protection is None:
        task = _quantized_task(info, choice, said.get("protected", 0), said.get("kept_in", ""))
        if "scale" in said:
            task.scale = unpacked(arrays[said["scale"]])
        if "exact_index" in said:
            task.places = unpacked(arrays[said["exact_index"]]).astype(np.int64)
        task.said["dtype"] = said["dtype"]
        if _repeats(task, digests):
            task.repeated = True
            return task
        reason = "it was changed since it was dequantized: quantized anew"
    if protection is None:
        task = _quantized_task(info, choice, 0, "")
    else:
        task = _quantized_task(info, choice, protection.count(info.size), protection.dtype(info.dtype))
    task.reason = reason
    return task


def _recipe(said: Mapping[str, Any]) -> Recipe:
    return Recipe(**{field.name: said[field.name] for field in dataclasses.fields(Recipe)})


def _kept_entry(info: TensorInfo) -> Entry:
    if info.source.suffix == ".safetensors":
        return read_header(info.source).entries[info.name]
    return Entry(info.name, stored_type(info.dtype), info.shape)


def _quantized_task(info: TensorInfo, recipe: Recipe, protected: int, kept_in: str) -> _Task:
    fmt, name = get_format(recipe.format), info.name
    rows, columns = info.matrix_shape
    float8 = fmt.name in FLOAT8 and recipe.entropy == "none"
    said: dict[str, Any] = {**asdict(recipe), "shape": list(info.shape), "dtype": info.dtype, "repeat": 1}
    entries = [Entry(name, FLOAT8[fmt.name] if float8 else "U8", (-1,) if recipe.entropy != "none" else info.shape)]
    if recipe.scaling != "none":
        said["scale"] = f"{name}_scale" if float8 else f"{name}.scale"
        shape: tuple[int, ...] = (1,)
        if recipe.scaling == "channel":
            shape = (rows, 1)
        elif recipe.scaling == "block":
            shape, said["repeat"] = (rows, -(-columns // recipe.block_size)), recipe.block_size
        entries.append(Entry(said["scale"], "I8" if fmt.power_of_two_scale else "F32", shape))
    if protected:
        said |= {"exact_index": f"{name}.exact_index", "exact": f"{name}.exact"}
        said |= {"protected": protected, "kept_in": kept_in}
        entries.append(Entry(said["exact_index"], "I32" if info.size < 2**31 else "I64", (protected,)))
        entries.append(Entry(said["exact"], stored_type(kept_in), (protected,)))
    # Stand-ins of the longest there can be; the true ones come with the data.
    said |= {"largest": -2.2250738585072014e-308, "nans": info.size}
    return _Task(info, recipe, said, entries)


def _refuse_idle_rules(plan: Plan, names: Sequence[str]) -> None:
    """Refuse a pattern that matches no tensor: what it was to protect would be quantized without a word."""
    for rule in plan.rules:
        if not any(fnmatchcase(name, rule.pattern) for name in names):
            near = difflib.get_close_matches(rule.pattern, names, 1, 0.0)
            raise ValueError(f"the pattern {rule.pattern!r} matches none of the {len(names)} tensors, e.g. {near[0]!r}")


def _refuse_clashes(tasks: Sequence[_Task]) -> None:
    names = [entry.name for task in tasks for entry in task.entries]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
    if twice:
        raise CheckpointError(f"the checkpoint has a tensor named {sorted(twice)[0]!r}, the name of another's scales: "
                              "rename it, or keep the other as it is")  # fmt: skip


def _form(tasks: Sequence[_Task], memories: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the header says under ``rf8sim``, checksums still missing, and its other strings."""
    strings = dict(memories["strings"])
    config = _config(tasks)
    if config is not None:
        strings["quantization_config"] = json.dumps(config)
    formats = {task.recipe.format: _described(get_format(task.recipe.format)) for task in tasks if task.recipe}
    form: dict[str, Any] = {
        "form": FORM,
        "version": __version__,
        "source": memories["files"],
        "formats": formats,
        "tensors": {task.info.name: task.said for task in tasks},
        "sha256": {entry.name: NO_SEAL for task in tasks for entry in task.entries},
    }
    # All as it was, of one file: then so is what is said of its source.
    if len(memories["forms"]) == 1 and [*memories["forms"][0]["tensors"]] == [*form["tensors"]]:
        [before] = memories["forms"]
        if all(task.repeated or before["tensors"][task.info.name] == task.said for task in tasks):
            form |= {key: before[key] for key in ("version", "source")}
    return form, strings


def _described(fmt: Format) -> dict[str, Any]:
    """Return a format as the header has it: the value of each code, and what its family calls its parameters."""
    values = [None if math.isnan(v) else v if math.isfinite(v) else str(v) for v in fmt.values.tolist()]
    said: dict[str, Any] = {"bits": fmt.bits, "family": fmt.family, "power_of_two_scale": fmt.power_of_two_scale}
    if fmt.depth is not None:
        exponent_bits = fmt.bits - 2 - fmt.depth.bit_length() + 1
        said |= {"exponent_bits": exponent_bits, "depth": fmt.depth}
        said["bias"] = 2**exponent_bits - 1 - round(math.log2(fmt.max / 1.5))
    return {**said, "values": values}


def _config(tasks: Sequence[_Task]) -> dict[str, Any] | None:
    recipes = {task.info.name: task.recipe for task in tasks if task.recipe or len(task.info.shape) > 1}
    return None if any("exact" in task.said for task in tasks) else quantization_config(recipes)


# --- one tensor ---------------------------------------------------------------------------------------------


def _write_tensor(task: _Task, writer: Writer, protection: Protection | None) -> None:
    name = task.info.name
    if task.recipe is None:
        _copy(task, writer)
        return
    places, values = _protected(task, protection)
    if task.said.get("protected"):
        index = next(entry for entry in task.entries if entry.name == task.said["exact_index"])
        writer.put(index.name, places.astype(dtype_of(index.dtype)))
        writer.put(task.said["exact"], values)
    scales, blobs = [], []
    largest, nans = 0.0, 0
    if task.recipe.entropy == "none":
        writer.begin(name)
    for piece in _pieces(task, places):
        if task.recipe.entropy == "none":
            writer.write(piece.codes)
        else:
            blobs.append(piece.codes)
        scales.append(piece.scale)
        decoded = np.abs(piece.dequantize(np.float64))
        largest = max(largest, float(np.max(decoded, initial=0.0, where=~np.isnan(decoded))))
        nans += int(np.count_nonzero(np.isnan(decoded)))
    if blobs:
        writer.put(name, _compressed(blobs, task.recipe))
    if "scale" in task.said:
        whole = scales[0].reshape(1) if task.recipe.scaling == "tensor" else np.concatenate(scales)
        power = get_format(task.recipe.format).power_of_two_scale
        writer.put(task.said["scale"], (np.frexp(whole)[1] - 1).astype(np.int8) if power else whole)
    task.said |= {"largest": largest, "nans": nans}


def _copy(task: _Task, writer: Writer) -> None:
    """Write a tensor that stays as it is, byte by byte."""
    [entry] = task.entries
    if not task.info.size:
        writer.put(entry.name, np.zeros(0, np.uint8))
        return
    writer.begin(entry.name)
    if task.info.source.suffix == ".safetensors":
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


def _compressed(codes: Sequence[NDArray[np.uint8]], recipe: Recipe) -> NDArray[np.uint8]:
    from ..entropy.coding import compress

    return np.frombuffer(compress(np.concatenate(codes).reshape(-1), recipe.entropy), np.uint8)


def _protected(task: _Task, protection: Protection | None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the places of exact values and the values, in the type they are kept in."""
    places = np.zeros(0, np.int64) if task.places is None else task.places
    if not task.said.get("protected"):
        return places, np.zeros(0)
    matrix = _whole(task.info)
    if task.places is None:
        assert protection is not None
        assert task.recipe is not None
        places = task.places = _chosen(matrix, task.recipe, task.info.name, protection)
    kind = dtype_of(stored_type(task.said["kept_in"]))
    return places, matrix.reshape(-1)[places].astype(kind)


def _chosen(matrix: NDArray[Any], recipe: Recipe, name: str, protection: Protection) -> NDArray[np.int64]:
    """Choose the elements without which the rest of a tensor is quantized best."""

    def error(values: NDArray[Any]) -> NDArray[np.float64]:
        with np.errstate(over="ignore", invalid="ignore"):
            difference: NDArray[np.float64] = values - _quantized(values, recipe, name).dequantize(np.float64)
        return difference

    def rest(places: NDArray[np.int64]) -> float:
        values = matrix.copy()
        values.reshape(-1)[places] = 0
        cost = protection.cost(name, error(values)).reshape(-1)
        cost[places] = 0
        return float(cost.sum())

    return min(protection.candidates(name, matrix, error(matrix)), key=rest)


def _whole(info: TensorInfo) -> NDArray[Any]:
    [chunk] = info.chunks(info.size)
    return chunk.values


def _quantized(
    matrix: NDArray[Any],
    recipe: Recipe,
    name: str,
    *,
    offset: int = 0,
    scale: NDArray[np.float32] | None = None,
    rounding: str | None = None,
) -> QuantizedTensor:
    try:
        return quantize(
            matrix,
            recipe.format,
            scaling=recipe.scaling,
            axis=1 if recipe.scaling == "block" else 0,
            block_size=recipe.block_size,
            scale_rule=recipe.scale_rule,
            rounding=rounding or recipe.rounding,
            seed=recipe.seed,
            offset=offset,
            scale=scale,
        )
    except ValueError as error:
        raise ValueError(f"tensor {name!r}: {error}") from None


def _pieces(task: _Task, places: NDArray[np.int64]) -> Iterator[QuantizedTensor]:
    """Quantize a tensor, whole rows at a time; exact values count as zeros."""
    info, recipe = task.info, task.recipe
    assert recipe is not None
    columns = task.shape[1]
    scale, rounding = task.scale, None if task.scale is None and not task.repeated else "nearest-even"
    whole = places.size or (recipe.scale_rule == "ggd" and recipe.scaling in ("channel", "block"))
    if whole and scale is None and recipe.scaling != "none":
        matrix = _whole(info)
        matrix.reshape(-1)[places] = 0
        yield _quantized(matrix, recipe, info.name)
        return
    if recipe.scaling == "tensor" and scale is None:
        from ggd import MagnitudeHistogram

        histogram = MagnitudeHistogram()
        for chunk in info.chunks(max(CHUNK_ELEMENTS, columns)):
            histogram.update(chunk.values)
        scale = scale_from_histogram(histogram, recipe.format, recipe.scale_rule, recipe.rounding)
    for chunk in info.chunks(max(CHUNK_ELEMENTS, columns)):
        first = chunk.row * columns
        begin, end = np.searchsorted(places, [first, first + chunk.values.size])
        chunk.values.reshape(-1)[places[begin:end] - first] = 0
        own = scale if scale is None or scale.ndim == 0 else scale[chunk.row : chunk.row + len(chunk.values)]
        yield _quantized(chunk.values, recipe, info.name, offset=first, scale=own, rounding=rounding)


def _repeats(task: _Task, digests: Mapping[str, str]) -> bool:
    """Return whether a dequantized tensor, quantized with the scales it had, gives the bytes it came from."""
    assert task.recipe is not None
    task.repeated = True
    places, values = _protected(task, None)
    digest, blobs = hashlib.sha256(), []
    try:
        for piece in _pieces(task, places):
            if task.recipe.entropy == "none":
                digest.update(np.ascontiguousarray(piece.codes).data)
            else:
                blobs.append(piece.codes)
    except ValueError:  # NaN where the format has none
        return False
    if blobs:
        digest.update(_compressed(blobs, task.recipe).data)
    exact = hashlib.sha256(np.ascontiguousarray(values).view(np.uint8).data).hexdigest()
    return digest.hexdigest() == digests[task.info.name] and ("exact" not in task.said or
                                                              exact == digests[task.said["exact"]])  # fmt: skip


# --- folders ------------------------------------------------------------------------------------------------


def _finish_folder(
    source: Checkpoint, target: Path, seals: Mapping[str, str], tasks: Sequence[tuple[_Task, str]]
) -> None:
    """Write the index of several files, and the source's config.json with what compressed-tensors wants in it."""
    if source.path.name.endswith(".index.json"):
        metadata = json.loads(source.path.read_text(encoding="utf-8")).get("metadata") or {}
        metadata = {key: value for key, value in metadata.items() if key not in ("rf8sim_files", SEAL)}
        metadata["total_size"] = sum(data_size(target / name) for name in seals)
        placed = {entry.name: file for task, file in tasks for entry in task.entries}
        index = {"metadata": {**metadata, "rf8sim_files": seals, SEAL: NO_SEAL}, "weight_map": placed}
        name = source.path.name if source.path.name.endswith(".safetensors.index.json") else _INDEX
        write_flushed(target / name, seal(json.dumps(index, indent=2, ensure_ascii=False).encode()))
    config = source.path.parent / "config.json"
    if config.is_file():
        data, said = config.read_bytes(), _config([task for task, _ in tasks])
        if said is not None:
            whole = {**json.loads(data), "quantization_config": said}
            data = (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode()
        write_flushed(target / "config.json", data)
    flush(target)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
