"""What becomes of each tensor of a checkpoint that is quantized: its recipe, its header and its arrays.

A plain checkpoint that was dequantized carries its origin (`origin`): quantized again it gives the same bytes.
The codes are compared with the checksums of the origin, so a tensor that has changed since is quantized anew.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..quantization.scaling import Chosen
from .arrays import tensor_arrays
from .checkpoint import TensorInfo
from .errors import CheckpointError
from .header import TensorHeader
from .origin import ORIGIN, OURS, Origin, read_origin
from .pieces import compressed, packed, protected_places, quantized_pieces, read_matrix
from .plan import Plan, Recipe
from .protect import Protection
from .safetensors import Entry, dtype_of, read_header, stored_type

__all__ = ["Sources", "Task", "check_names", "check_patterns", "exact_values", "file_sha256", "read_sources", "task_of"]


@dataclass
class Task:
    """A tensor to write: what it is, what it becomes, what the header says of it.

    Attributes
    ----------
    info : TensorInfo
        The tensor.
    recipe : Recipe or None
        How it is quantized; None if it stays as it is.
    header : TensorHeader
        Its header.
    entries : list of Entry
        Its arrays, as `tensor_arrays` has them.
    reason : str
        Why it stays as it is, or is quantized anew though it came from a quantized one.
    scales : Chosen or None
        The scales of the quantized tensor that it came from.
    places : ndarray of int64 or None
        Places in the flat tensor of elements that are kept exactly, once they are chosen.
    repeated : bool
        Whether codes and scales are those of the quantized tensor that it came from.
    """

    info: TensorInfo
    recipe: Recipe | None
    header: TensorHeader
    entries: list[Entry]
    reason: str = ""
    scales: Chosen | None = None
    places: NDArray[np.int64] | None = None
    repeated: bool = False


@dataclass
class Sources:
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
        """Return the origin that has a tensor; None if it has none, or stayed as it was."""
        return next((origin for origin in self.origins if name in origin.form.tensors), None)


def read_sources(tensors: Sequence[TensorInfo]) -> Sources:
    """Read the headers of the files of tensors.

    Raises
    ------
    CheckpointError
        If a file carries an origin that is damaged.
    """
    sources = Sources()
    for path in dict.fromkeys(file for tensor in tensors for file in tensor.files):
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


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def task_of(info: TensorInfo, plan: Plan | None, protection: Protection | None, sources: Sources) -> Task:
    """Return what a tensor becomes.

    Parameters
    ----------
    info : TensorInfo
        The tensor.
    plan : Plan or None
        What each tensor gets; None for what it had before it was dequantized, or else the defaults of `Plan`.
    protection : Protection or None
        Which elements are kept exactly.
    sources : Sources
        Of `read_sources`.
    """
    origin = sources.origin_of(info.name)
    choice = _choice(info, plan, origin)
    narrowed = plan.narrowed(choice, info.dtype) if plan is not None and isinstance(choice, str) else None
    if narrowed is not None:
        choice, protection = narrowed, None
    if isinstance(choice, str):
        return Task(info, None, TensorHeader(kept=choice), [_kept_entry(info)], choice)
    reason = ""
    if origin is not None and protection is None:
        task = _as_before(info, choice, origin)
        if task is not None and task.repeated:
            return task
        reason = "" if task is None else "changed since it was dequantized"
    count, kept_in = (0, "") if protection is None else (protection.count(info.size), protection.dtype(info.dtype))
    return _sized(Task(info, choice, *tensor_arrays(info.name, choice, info.shape, info.dtype, count, kept_in), reason))


def _as_before(info: TensorInfo, recipe: Recipe, origin: Origin) -> Task | None:
    """Return a tensor with the scales that it had before it was dequantized; None if it was not stored so."""
    before = origin.form.tensors[info.name]
    if before.kept or recipe != origin.recipe(info.name) or tuple(before.shape) != info.shape:
        return None
    arrays, scales, places = origin.tensor_arrays(info.name), origin.scales(info.name), origin.places(info.name)
    task = _sized(Task(info, recipe, *arrays, scales=scales, places=places))
    task.repeated = _repeats(task, origin.form.sha256)
    return task


def _choice(info: TensorInfo, plan: Plan | None, origin: Origin | None) -> Recipe | str:
    """Return a tensor's recipe, or why it stays as it is."""
    if info.skipped is not None:
        return info.skipped
    if not info.size:
        return "no elements"
    if info.dtype.startswith("float8"):
        return "8 bits already"
    if plan is None and origin is not None:
        return origin.form.tensors[info.name].kept or origin.recipe(info.name)
    choice = (plan or Plan()).choose(info.name, info.shape)
    return choice.for_tensor(info.name, info.shape) if isinstance(choice, Recipe) else choice


def _kept_entry(info: TensorInfo) -> Entry:
    if info.source.suffix == ".safetensors" and info.coded is None:
        return read_header(info.source).entries[info.name]
    try:
        return Entry(info.name, stored_type(info.dtype), info.shape)
    except ValueError as error:
        raise CheckpointError(f"{info.source}: tensor {info.name!r} cannot be carried over: {error}") from None


def _sized(task: Task) -> Task:
    """Give the header the longest figures there can be, so that its room is known; the true ones come with the data."""
    task.header.largest, task.header.nans = -2.2250738585072014e-308, task.info.size
    return task


def exact_values(task: Task, protection: Protection | None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the places of elements that are kept exactly, and their values in the type they are kept in."""
    assert task.recipe is not None
    if not task.header.protected:
        return np.zeros(0, np.int64), np.zeros(0)
    if task.places is None:
        assert protection is not None
        task.places = protected_places(task.info, task.recipe, protection)
    kind = dtype_of(stored_type(task.header.kept_in))
    return task.places, read_matrix(task.info).reshape(-1)[task.places].astype(kind)


def _repeats(task: Task, digests: Mapping[str, str]) -> bool:
    """Return whether a dequantized tensor, quantized with the scales it had, gives the bytes it came from."""
    assert task.recipe is not None
    places, values = exact_values(task, None)
    digest, pieces = hashlib.sha256(), []
    try:
        for piece in quantized_pieces(task.info, task.recipe, places, task.scales):
            if task.recipe.entropy == "none":
                digest.update(np.ascontiguousarray(packed(task.info, piece)).data)
            else:
                pieces.append(piece)
    except ValueError:  # NaN where the format has none
        return False
    if pieces:
        digest.update(compressed(pieces, task.recipe.entropy).data)
    if digest.hexdigest() != digests.get(task.entries[0].name):
        return False
    exact = hashlib.sha256(np.ascontiguousarray(values).view(np.uint8).data).hexdigest()
    return not task.header.exact or exact == digests.get(task.header.exact)


# --- what is refused --------------------------------------------------------------------------------------------------


def check_patterns(plan: Plan, names: Sequence[str]) -> None:
    """Refuse a pattern that matches no tensor: what it was to protect would be quantized without a word."""
    for rule in plan.rules:
        if not any(fnmatchcase(name, rule.pattern) for name in names):
            near = difflib.get_close_matches(rule.pattern, names, 1, 0.0)
            raise ValueError(f"the pattern {rule.pattern!r} matches none of the {len(names)} tensors, e.g. {near[0]!r}")


def check_names(tasks: Sequence[Task]) -> None:
    """Refuse a checkpoint one of whose tensors has the name of another's scales."""
    names = [entry.name for task in tasks for entry in task.entries]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
    if twice:
        raise CheckpointError(f"the checkpoint has a tensor named {sorted(twice)[0]!r}, the name of another's scales: "
                              "rename it, or keep the other as it is")  # fmt: skip
