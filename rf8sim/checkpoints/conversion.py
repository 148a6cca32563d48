"""Writing quantized checkpoints, a piece of a tensor at a time.

Codes and scales are those that `rf8sim.quantize` gives for the whole tensor as a matrix, however it is cut. A tensor is
held whole only where they depend on all of it: a generalized Gaussian fitted for channels or blocks, protected weights,
entropy-coded codes.

A plain checkpoint that came from a quantized one remembers its recipes and scales (`dequantization`); quantized
again it gives the same bytes. Its values lie on the grid, so whatever the rounding mode was, codes are found by the
nearest; they are compared with the remembered checksums, so a tensor that was changed since is quantized anew.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._base.files import flush
from .._version import __version__
from ..quantization.blocks import matrix_shape, scale_rows
from ..quantization.scaling import Chosen, choose_scales, outer_scales, scales_from_histogram
from ..quantization.scheme import Scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .checkpoint import CHUNK_ELEMENTS, Checkpoint, Chunk, TensorInfo
from .compressed_tensors import quantization_config
from .dequantization import ORIGIN, OURS, Origin, data_size, read_origin, write_flushed
from .errors import CheckpointError
from .header import FORM, FileHeader, TensorHeader, described, written_form
from .packing import pack, packed_shape
from .plan import Plan, Recipe
from .protect import Protection
from .safetensors import NO_SEAL, SEAL, Entry, Writer, dtype_of, header_room, read_header, seal, stored_type
from .scale_arrays import FLOAT8, array_type, to_array

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
    """A tensor to write: what it is, what it becomes, what the header says of it."""

    info: TensorInfo
    recipe: Recipe | None
    header: TensorHeader
    entries: list[Entry]
    reason: str = ""
    scales: Chosen | None = None  # known before: those of the quantized tensor it came from
    places: NDArray[np.int64] | None = None
    repeated: bool = False

    @property
    def scheme(self) -> Scheme:
        """How the tensor is to be stored."""
        assert self.recipe is not None
        return self.recipe.scheme


@dataclass
class _Sources:
    """What the files of the tensors are and, where they were dequantized, what they came from.

    Attributes
    ----------
    files : dict of str to str
        SHA-256 of each.
    strings : dict of str to str
        Strings of their headers that are handed on.
    origins : list of Origin
        Of the files that have one.
    order : dict of str to int
        The place of each tensor in the quantized file.
    """

    files: dict[str, str] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)
    origins: list[Origin] = field(default_factory=list)
    order: dict[str, int] = field(default_factory=dict)

    def origin_of(self, name: str) -> Origin | None:
        """Return the origin that has a tensor."""
        return next((origin for origin in self.origins if name in origin.form.tensors), None)


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
        tasks, form, strings, spare = _prepared(tensors, plan, protection, _sources(tensors))
        with Writer(file, [entry for task in tasks for entry in task.entries], spare) as writer:
            for task in tasks:
                if progress:
                    progress(task.info.name, done, total)
                _write_tensor(task, writer, protection)
                done += task.info.size
            form.sha256 = {name: writer.digests[name] for name in sorted(writer.digests)}
            strings["rf8sim"] = written_form(form)
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
    sources = _sources(tensors)

    def of(plan: Plan) -> int:
        tasks, _, _, spare = _prepared(tensors, plan, None, sources)
        return 8 + header_room([entry for task in tasks for entry in task.entries], spare)

    return of


def _prepared(
    tensors: Sequence[TensorInfo], plan: Plan | None, protection: Protection | None, sources: _Sources
) -> tuple[list[_Task], FileHeader, dict[str, str], int]:
    """Return what goes into a file: its tensors in order, its header and strings, and the bytes to leave for them."""
    order = sources.order
    ordered = sorted(tensors, key=lambda tensor: order.get(tensor.name, len(order)))
    tasks = [_task(tensor, plan, protection, sources) for tensor in ordered]
    _refuse_clashes(tasks)
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


def _sources(tensors: Sequence[TensorInfo]) -> _Sources:
    """Read the headers of the files of tensors."""
    sources = _Sources()
    for path in dict.fromkeys(tensor.source for tensor in tensors):
        sources.files[path.name] = file_sha256(path)
        if path.suffix != ".safetensors":
            continue
        header = read_header(path)
        sources.strings |= {key: text for key, text in header.metadata.items() if key not in OURS}
        origin = read_origin(path, header.metadata[ORIGIN]) if ORIGIN in header.metadata else None
        if origin is not None:
            sources.origins.append(origin)
            for name in origin.form.tensors:
                sources.order[name] = len(sources.order)
    return sources


def _task(info: TensorInfo, plan: Plan | None, protection: Protection | None, sources: _Sources) -> _Task:
    origin = sources.origin_of(info.name)
    before = None if origin is None else origin.form.tensors[info.name]
    choice: Recipe | str
    if plan is None and origin is not None and before is not None:
        choice = before.kept or origin.recipe(info.name)
    else:
        choice = (plan or Plan()).choose(info.name, info.shape)
    if info.skipped is not None:
        choice = info.skipped
    elif not info.size:
        choice = "it has no elements"
    elif info.dtype.startswith("float8"):
        choice = "it is of 8 bits already"
    if isinstance(choice, str):
        return _Task(info, None, TensorHeader(kept=choice), [_kept_entry(info)], choice)
    if len(info.shape) == 3 and "conv" in info.name.lower() and choice.scheme.scales is not None:
        choice = _by_output(choice)
    reason = ""
    if origin is not None and before is not None and not before.kept and protection is None:
        if choice == origin.recipe(info.name):
            task = _quantized_task(info, choice, before.protected, before.kept_in)
            task.scales, task.places = origin.scales(info.name), origin.places(info.name)
            task.header.dtype = before.dtype
            if _repeats(task, origin.form.sha256):
                task.repeated = True
                return task
        reason = "it was changed since it was dequantized: quantized anew" if choice == origin.recipe(info.name) else ""
    if protection is None:
        task = _quantized_task(info, choice, 0, "")
    else:
        task = _quantized_task(info, choice, protection.count(info.size), protection.dtype(info.dtype))
    task.reason = reason
    return task


def _by_output(recipe: Recipe) -> Recipe:
    """Return a recipe whose channels are the outputs of a convolution of one dimension: (out, in, width)."""
    scheme = recipe.scheme
    if scheme.scales is None or scheme.scales.block != (1, -1):
        return recipe
    return replace(recipe, scheme=replace(scheme, scales=replace(scheme.scales, block=(1, -1, -1))))


def _kept_entry(info: TensorInfo) -> Entry:
    if info.source.suffix == ".safetensors":
        return read_header(info.source).entries[info.name]
    return Entry(info.name, stored_type(info.dtype), info.shape)


def _quantized_task(info: TensorInfo, recipe: Recipe, protected: int, kept_in: str) -> _Task:
    scheme, name = recipe.scheme, info.name
    fmt, coded = scheme.format, recipe.entropy != "none"
    float8 = fmt.name in FLOAT8 and not coded
    shape = (-1,) if coded else packed_shape(info.shape, fmt.bits)
    header = TensorHeader(scheme=scheme.to_json(), seed=recipe.seed, entropy=recipe.entropy, shape=list(info.shape),
                          dtype=info.dtype)  # fmt: skip
    entries = [Entry(name, FLOAT8[fmt.name] if float8 else "U8", shape)]
    theirs = float8 and scheme.levels == (scheme.scales,) and scheme.levels[0].format == "float32"
    names = (f"{name}_scale" if theirs else f"{name}.scale", f"{name}.scale_outer")
    for part, level, own in zip(names, scheme.levels, scheme.scale_shapes(info.shape), strict=False):
        header.scales.append(part)
        entries.append(Entry(part, array_type(level.format), own or (1,)))
    if scheme.scales is not None and scheme.scales.zero is not None:
        header.zero = f"{name}.zero"
        entries.append(Entry(header.zero, array_type(scheme.scales.zero), entries[1].shape))
    if protected:
        header.exact_index, header.exact = f"{name}.exact_index", f"{name}.exact"
        header.protected, header.kept_in = protected, kept_in
        entries.append(Entry(header.exact_index, "I32" if info.size < 2**31 else "I64", (protected,)))
        entries.append(Entry(header.exact, stored_type(kept_in), (protected,)))
    # Stand-ins of the longest there can be; the true ones come with the data.
    header.largest, header.nans = -2.2250738585072014e-308, info.size
    return _Task(info, recipe, header, entries)


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


def _form(tasks: Sequence[_Task], sources: _Sources) -> tuple[FileHeader, dict[str, str]]:
    """Return the header of a file, checksums still missing, and its other strings."""
    strings = dict(sources.strings)
    config = _config(tasks)
    if config is not None:
        strings["quantization_config"] = json.dumps(config)
    form = FileHeader(
        form=FORM,
        version=__version__,
        source=sources.files,
        formats={task.scheme.format.name: described(task.scheme.format) for task in tasks if task.recipe},
        tensors={task.info.name: task.header for task in tasks},
        sha256={entry.name: NO_SEAL for task in tasks for entry in task.entries},
    )
    # All as it was, of one file: then so is what is said of its source.
    if len(sources.origins) == 1 and [*sources.origins[0].form.tensors] == [*form.tensors]:
        before = sources.origins[0].form
        if all(task.repeated or before.tensors[task.info.name] == task.header for task in tasks):
            form.version, form.source = before.version, before.source
    return form, strings


def _config(tasks: Sequence[_Task]) -> dict[str, Any] | None:
    recipes = {task.info.name: task.recipe for task in tasks if task.recipe or len(task.info.shape) > 1}
    return None if any(task.header.exact for task in tasks) else quantization_config(recipes)


# --- one tensor ---------------------------------------------------------------------------------------------


def _write_tensor(task: _Task, writer: Writer, protection: Protection | None) -> None:
    name = task.info.name
    if task.recipe is None:
        _copy(task, writer)
        return
    places, values = _protected(task, protection)
    if task.header.protected:
        index = next(entry for entry in task.entries if entry.name == task.header.exact_index)
        writer.put(index.name, places.astype(dtype_of(index.dtype)))
        writer.put(task.header.exact, values)
    coded = task.recipe.entropy != "none"
    pieces, blobs = [], []
    largest, nans = 0.0, 0
    if not coded:
        writer.begin(name)
    for piece in _pieces(task, places):
        if coded:
            blobs.append(piece.codes.reshape(-1))
        else:
            writer.write(_packed(piece.codes, task))
        pieces.append(Chosen(piece.scales, piece.zero))
        decoded = np.abs(piece.dequantize(np.float64))
        largest = max(largest, float(np.max(decoded, initial=0.0, where=~np.isnan(decoded))))
        nans += int(np.count_nonzero(np.isnan(decoded)))
    if blobs:
        writer.put(name, _compressed(blobs, task.recipe))
    _write_scales(task, pieces, writer)
    task.header.largest, task.header.nans = largest, nans


def _write_scales(task: _Task, pieces: Sequence[Chosen], writer: Writer) -> None:
    """Write the scales of successive pieces of a tensor; those that all pieces share once."""
    for depth, (part, level) in enumerate(zip(task.header.scales, task.scheme.levels, strict=True)):
        shared = depth > 0 or level.block is None
        own = [piece.scales[depth].reshape(-1) for piece in (pieces[:1] if shared else pieces)]
        writer.put(part, to_array(np.concatenate(own), level.format))
        if depth == 0 and level.zero is not None:
            zeros = [piece.zero.reshape(-1) for piece in (pieces[:1] if shared else pieces) if piece.zero is not None]
            writer.put(task.header.zero, to_array(np.concatenate(zeros), level.zero))


def _packed(codes: NDArray[np.uint8], task: _Task) -> NDArray[np.uint8]:
    """Return codes as the file has them: rows of the tensor's matrix, whatever shape the codes come in."""
    return pack(codes.reshape(-1, task.info.matrix_shape[1]), task.scheme.format.bits)


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

    return np.frombuffer(compress(np.concatenate(codes), recipe.entropy), np.uint8)


def _protected(task: _Task, protection: Protection | None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the places of exact values and the values, in the type they are kept in."""
    places = np.zeros(0, np.int64) if task.places is None else task.places
    if not task.header.protected:
        return places, np.zeros(0)
    matrix = _matrix(task.info)
    if task.places is None:
        assert protection is not None
        places = task.places = _chosen(matrix, task, protection)
    kind = dtype_of(stored_type(task.header.kept_in))
    return places, matrix.reshape(-1)[places].astype(kind)


def _chosen(matrix: NDArray[Any], task: _Task, protection: Protection) -> NDArray[np.int64]:
    """Choose the elements without which the rest of a tensor is quantized best."""
    name = task.info.name

    def error(values: NDArray[Any]) -> NDArray[np.float64]:
        with np.errstate(over="ignore", invalid="ignore"):
            decoded = _quantized(values.reshape(task.info.shape), task).dequantize(np.float64)
            difference: NDArray[np.float64] = values - decoded.reshape(values.shape)
        return difference

    def rest(places: NDArray[np.int64]) -> float:
        values = matrix.copy()
        values.reshape(-1)[places] = 0
        cost = protection.cost(name, error(values)).reshape(-1)
        cost[places] = 0
        return float(cost.sum())

    return min(protection.candidates(name, matrix, error(matrix)), key=rest)


def _matrix(info: TensorInfo) -> NDArray[Any]:
    """Read a tensor whole, as the matrix of its channels."""
    [chunk] = info.row_chunks([range(info.matrix_shape[0])])
    return chunk.values


def _quantized(
    values: NDArray[Any], task: _Task, *, offset: int = 0, scales: Chosen | None = None, nearest: bool = False
) -> QuantizedTensor:
    assert task.recipe is not None
    scheme = replace(task.scheme, rounding="nearest-even") if nearest else task.scheme
    try:
        piece = quantize(values, scheme, seed=task.recipe.seed, offset=offset, scale=scales)
    except ValueError as error:
        raise ValueError(f"tensor {task.info.name!r}: {error}") from None
    return replace(piece, scheme=task.scheme)


def _pieces(task: _Task, places: NDArray[np.int64]) -> Iterator[QuantizedTensor]:
    """Quantize a tensor, whole rows at a time; exact values count as zeros."""
    info, scheme = task.info, task.scheme
    nearest = task.scales is not None or task.repeated
    ranges = scheme.row_pieces(info.shape, CHUNK_ELEMENTS)
    pooled = scheme.scales is not None and scheme.scales.block is not None and scheme.scales.rule == "ggd"
    if ranges is None:
        matrix = _matrix(info)
        matrix.reshape(-1)[places] = 0
        yield _quantized(matrix.reshape(info.shape), task, scales=task.scales, nearest=nearest)
        return
    known, outer, chunks = task.scales, None, info.row_chunks(ranges)
    if known is None and scheme.scales is not None:
        if places.size or pooled:
            matrix = _matrix(info)
            matrix.reshape(-1)[places] = 0
            known = choose_scales(matrix.reshape(info.shape), scheme)
            chunks = (Chunk(rows.start, 0, matrix[rows.start : rows.stop]) for rows in ranges)
        elif scheme.scales.block is None or scheme.scales.outer is not None:
            known, outer = _from_first_pass(info, scheme)
    columns = info.matrix_shape[1]
    for chunk in chunks:
        first = chunk.row * columns
        begin, end = np.searchsorted(places, [first, first + chunk.values.size])
        chunk.values.reshape(-1)[places[begin:end] - first] = 0
        rows = range(chunk.row, chunk.row + len(chunk.values))
        scales = None if known is None else _scales_of_rows(known, scheme, info.shape, rows)
        if outer is not None:
            scales = choose_scales(chunk.values, scheme, outer=outer)
        yield _quantized(chunk.values, task, offset=first, scales=scales, nearest=nearest)


def _from_first_pass(info: TensorInfo, scheme: Scheme) -> tuple[Chosen | None, NDArray[np.float32] | None]:
    """Return the one scale of a tensor, or its outer scale, from a pass over the data."""
    from ggd import MagnitudeHistogram

    assert scheme.scales is not None
    if scheme.scales.zero is not None:  # the range of the values, which a summary holds exactly
        return choose_scales(_matrix(info), scheme), None
    histogram = MagnitudeHistogram()
    for chunk in info.chunks(max(CHUNK_ELEMENTS, info.matrix_shape[1])):
        histogram.update(chunk.values)
    if scheme.scales.outer is not None:
        return None, outer_scales(histogram, scheme)
    return scales_from_histogram(histogram, scheme), None


def _scales_of_rows(scales: Chosen, scheme: Scheme, shape: tuple[int, ...], rows: range) -> Chosen:
    """Return the scales of a piece of a tensor from those of the tensor."""
    block = None if scheme.scales is None else scheme.scales.block
    if block is None or not shape:
        return scales
    part = scale_rows(block, shape, rows)
    own = scheme.scale_shapes((len(rows), matrix_shape(shape)[1]))[0]
    zero = None if scales.zero is None else scales.zero.reshape(-1, own[1])[part]
    return Chosen((scales.scales[0].reshape(-1, own[1])[part], *scales.scales[1:]), zero)


def _repeats(task: _Task, digests: Mapping[str, str]) -> bool:
    """Return whether a dequantized tensor, quantized with the scales it had, gives the bytes it came from."""
    assert task.recipe is not None
    task.repeated = True
    places, values = _protected(task, None)
    digest, blobs = hashlib.sha256(), []
    try:
        for piece in _pieces(task, places):
            if task.recipe.entropy == "none":
                digest.update(np.ascontiguousarray(_packed(piece.codes, task)).data)
            else:
                blobs.append(piece.codes.reshape(-1))
    except ValueError:  # NaN where the format has none
        return False
    if blobs:
        digest.update(_compressed(blobs, task.recipe).data)
    if digest.hexdigest() != digests[task.info.name]:
        return False
    exact = hashlib.sha256(np.ascontiguousarray(values).view(np.uint8).data).hexdigest()
    return not task.header.exact or exact == digests[task.header.exact]


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
        data, added = config.read_bytes(), _config([task for task, _ in tasks])
        if added is not None:
            data = json.dumps({**json.loads(data), "quantization_config": added}, indent=2, ensure_ascii=False).encode()
            data += b"\n"
        write_flushed(target / "config.json", data)
    flush(target)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
