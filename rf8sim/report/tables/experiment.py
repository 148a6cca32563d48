"""The tables of what was measured on a checkpoint."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable
from typing import Any

from ...studies.experiment import Experiment, SchemeRecord, TensorRecord
from .table import MOST_ROWS, Column, Table

__all__ = [
    "STORED", "brief", "details", "fits", "format_values", "in_order", "label", "largest", "not_finite",
    "representative", "role", "settings", "skipped",
    "sqnr_by_tensor", "summary", "with_bits",
]  # fmt: skip


def label(experiment: Experiment, tensor: TensorRecord) -> str:
    """Return a tensor's name, with its checkpoint's where there are several."""
    return f"{tensor.checkpoint}: {tensor.name}" if len(experiment.checkpoints) > 1 else tensor.name


def in_order(tensors: Iterable[TensorRecord]) -> list[TensorRecord]:
    """Return tensors in the order of their names, numbers in them by value: layer 2 before layer 10."""
    return sorted(tensors, key=lambda tensor: (tensor.checkpoint, _natural(tensor.name)))


def _natural(name: str) -> list[str | int]:
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def role(name: str) -> str:
    """Return what a tensor is in its layer: its name behind the layer's number, other numbers replaced by a star.

    Examples
    --------
    >>> role("model.layers.12.mlp.experts.3.w1.weight"), role("lm_head.weight"), role("blk.3.ffn_down.weight")
    ('mlp.experts.*.w*.weight', 'lm_head.weight', 'ffn_down.weight')
    """
    behind = re.sub(r"^(?:|.*?[._])[0-9]+[._](?=.)", "", name, count=1)
    return re.sub(r"[0-9]+", "*", behind) if behind != name else name


def largest(experiment: Experiment, count: int) -> list[TensorRecord]:
    """Return the tensors with the most weights, in the order of their names."""
    return in_order(sorted(experiment.tensors, key=lambda tensor: -tensor.count)[:count])


def representative(experiment: Experiment, count: int) -> list[TensorRecord]:
    """Return tensors of as many roles as there is room for: the largest of each, then the next of each, and so on."""
    places: dict[str, int] = {}
    turns: list[tuple[int, int, TensorRecord]] = []
    for tensor in sorted(experiment.tensors, key=lambda tensor: -tensor.count):
        name = role(tensor.name)
        turns.append((places.get(name, 0), len(turns), tensor))
        places[name] = places.get(name, 0) + 1
    return in_order(tensor for _, _, tensor in sorted(turns, key=lambda turn: turn[:2])[:count])


STORED = Column("stored, bits/w.", ".3f")
"""The column that stands beside the name of a scheme."""

_SQNR = Column("SQNR, dB", ".2f")
_COSTS = (
    Column("mean rel. error, %", "percent"),
    Column("max rel. error, %", "percent"),
    Column("underflow, %", "percent"),
    Column("overflow, %", "percent"),
    Column("entropy, bits", ".3f"),
    Column("coded, bits/w.", ".3f"),
)


def _costs(record: SchemeRecord) -> tuple[float | None, ...]:
    return (
        record.mean_relative_error,
        record.max_relative_error,
        record.underflow_share,
        record.overflow_share,
        record.entropy_bits,
        record.coded_bits_per_weight,
    )


def with_bits(record: SchemeRecord) -> str:
    """Return the name of a scheme with its stored bits per weight, scales and zero points included."""
    bits = record.bits_per_weight
    return record.name if bits is None else f"{record.name} ({bits:.3f} bits)"


def summary(experiment: Experiment) -> Table:
    """Compare the schemes over all weights."""
    rows = []
    for record in experiment.total.schemes:
        sqnrs = (tensor.scheme(record.name).sqnr_db for tensor in experiment.tensors)
        by_tensor = [value for value in sqnrs if value is not None]
        median = statistics.median(by_tensor) if by_tensor else None
        worst = min(by_tensor, default=None)
        rows.append((record.name, record.bits_per_weight, record.sqnr_db, median, worst, *_costs(record)))
    columns = (
        Column("scheme"),
        STORED,
        _SQNR,
        Column("median, dB", ".2f"),
        Column("worst, dB", ".2f"),
        *_COSTS,
    )
    return Table("All measured weights", columns, tuple(rows))


def brief(experiment: Experiment) -> Table:
    """Return the part of `summary` that fits a terminal."""
    table = summary(experiment)
    kept = [0, 1, 2, 3, 4, 5, 7, 9, 10]
    columns = tuple(table.columns[i] for i in kept)
    return Table(table.caption, columns, tuple(tuple(row[i] for i in kept) for row in table.rows))


_RIVALS = ("gaussian", "laplace")


def fits(experiment: Experiment) -> Table:
    """List the fit of each tensor and of all together, with what the rival families cost beside it."""
    records = [*experiment.tensors, experiment.total]
    rivals = [name for name in _RIVALS if any(r.fit and name in r.fit.bits for r in records)]

    def row(name: str, tensor: TensorRecord) -> tuple[Any, ...]:
        zeros = tensor.zeros / tensor.count if tensor.count else None
        head = (name, " × ".join(map(str, tensor.shape)), tensor.count, zeros, tensor.rms, tensor.largest)
        fit = tensor.fit
        if fit is None:
            return (*head, None, None, None, *(None for _ in rivals), "–", "no", tensor.fit_doubt)
        ggd_bits = fit.bits.get("ggd", math.nan)
        excess = (_existing(fit.bits.get(rival, math.nan) - ggd_bits) for rival in rivals)
        best = fit.family or "–"
        trusted = "no" if tensor.fit_doubt else "yes"
        return (*head, fit.shape, fit.shape_error, fit.scale, *excess, best, trusted, tensor.fit_doubt)

    rows = [row(label(experiment, tensor), tensor) for tensor in in_order(experiment.tensors)]
    if len(rows) > 1:
        rows.append(row("all together", experiment.total))
    columns = (
        Column("tensor"),
        Column("size"),
        Column("weights", "count"),
        Column("zero, %", "percent"),
        Column("RMS", ".3g"),
        Column("largest", ".3g"),
        Column("GGD shape", ".3f"),
        Column("std. error", ".3f"),
        Column("GGD scale", ".3g"),
        *(Column(f"{rival}, + bits/w.", ".4f") for rival in rivals),
        Column("best"),
        Column("trusted"),
        Column("remark", "note"),
    )
    with_total = len(rows) > len(experiment.tensors)
    return Table("Fits by tensor", columns, tuple(rows), folded=len(rows) > MOST_ROWS, has_total=with_total)


def _existing(value: float) -> float | None:
    return None if math.isnan(value) else value


def sqnr_by_tensor(experiment: Experiment) -> Table:
    """List the SQNR of every tensor in every scheme."""
    names = experiment.settings.names
    rows = tuple(
        (label(experiment, tensor), tensor.count, *(tensor.scheme(name).sqnr_db for name in names))
        for tensor in in_order(experiment.tensors)
    )
    columns = (
        Column("tensor"),
        Column("weights", "count"),
        *(Column(f"{with_bits(experiment.total.scheme(name))}, dB", ".2f") for name in names),
    )
    return Table("SQNR by tensor", columns, rows, folded=len(rows) > MOST_ROWS)


def details(experiment: Experiment, name: str) -> Table:
    """List everything about one scheme, tensor by tensor."""
    rows = []
    for tensor in in_order(experiment.tensors):
        record = tensor.scheme(name)
        rows.append((label(experiment, tensor), tensor.count, record.bits_per_weight, record.sqnr_db, *_costs(record)))
    columns = (Column("tensor"), Column("weights", "count"), STORED, _SQNR, *_COSTS)
    return Table(f"{name} by tensor", columns, tuple(rows), folded=True)


def format_values(experiment: Experiment) -> Table:
    """List what values the formats have."""
    columns = (
        Column("format"),
        Column("bits", "count"),
        Column("values", "count"),
        Column("largest", ".6g"),
        Column("smallest positive", ".6g"),
        Column("octaves", ".1f"),
        Column("description", "note"),
    )
    formats = dict.fromkeys(scheme.format for scheme in experiment.settings.schemes)
    rows = tuple((f.name, f.bits, f.count, f.max, f.smallest, f.octaves, f.description) for f in formats)
    return Table("The formats, unscaled", columns, rows)


def settings(experiment: Experiment) -> Table:
    """List what was asked, and the versions that the numbers depend on."""
    asked = experiment.settings
    rows = [
        ("checkpoints", ", ".join(experiment.checkpoints)),
        ("schemes", ", ".join(asked.names)),
        ("in full", ", ".join(scheme.text for scheme in asked.schemes)),
        *([("seed", str(asked.seed))] if any(s.rounding == "stochastic" for s in asked.schemes) else []),
        *((name, ", ".join(value)) for name in ("include", "exclude") if (value := getattr(asked, name))),
        *experiment.versions.items(),
    ]
    return Table("Settings and versions", (Column("what"), Column("value", "note")), tuple(rows))


def quantized(experiment: Experiment) -> Table:
    """List how the weights that were quantized already are stored, and what that takes."""
    ways: dict[str, list[TensorRecord]] = {}
    for tensor in experiment.tensors:
        if tensor.stored_as:
            ways.setdefault(tensor.stored_as, []).append(tensor)
    rows = []
    for words, tensors in ways.items():
        count = sum(tensor.count for tensor in tensors)
        bits = sum(tensor.stored_bits * tensor.count for tensor in tensors) / max(count, 1)
        rows.append((words, len(tensors), count, bits))
    columns = (Column("stored as", "note"), Column("tensors", "count"), Column("weights", "count"), STORED)
    return Table("Weights that were quantized already: their numbers are codes times scales", columns, tuple(rows))


def not_finite(experiment: Experiment) -> Table:
    """List the tensors with NaN or infinities."""
    odd = [tensor for tensor in experiment.tensors if tensor.nans or tensor.infinities]
    rows = tuple((label(experiment, tensor), tensor.nans, tensor.infinities) for tensor in odd)
    columns = (Column("tensor"), Column("NaN", "count"), Column("infinite", "count"))
    return Table("Tensors with NaN or infinities (these values are left out)", columns, rows)


def skipped(experiment: Experiment) -> Table:
    """List the tensors that were not measured."""
    rows = tuple(
        (tensor.name, tensor.checkpoint, tensor.dtype, " × ".join(map(str, tensor.shape)), tensor.reason)
        for tensor in experiment.skipped
    )
    columns = (Column("tensor"), Column("checkpoint"), Column("type"), Column("size"), Column("why", "note"))
    return Table("Tensors not measured", columns, rows, folded=len(rows) > MOST_ROWS)
