"""The section of a report about where the errors sit: tensors, channels, layers."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable

from ggd.survey import depth_of, kind_of

from ...studies.experiment import Experiment, SchemeRecord, TensorRecord
from ..figures import accuracy
from ..figures.figure import Figure
from ..tables import experiment as tables
from ..tables.table import Column, Table
from .contents import Contents
from .page import Section

__all__ = ["errors"]

_MOST = 3


def errors(contents: Contents, with_figures: bool) -> Section | None:
    """Show where the errors sit."""
    experiment = contents.experiment
    if not experiment.settings.names:
        return None
    words = (
        f"The worst {_MOST} tensors of each format, with their share of the squared error of all; a tensor with a low "
        "SQNR and a small share may still matter to the model. Channels are the outputs, those of "
        "stacked experts numbered one expert after the other.",
    )
    optional = (_worst_tensors(experiment), _worst_channels(experiment))
    drawn = tuple(_heat_map(experiment)) if with_figures else ()
    return Section("errors", "Where the errors sit", words, tuple(t for t in optional if t.rows), drawn)


def _known(tensor: TensorRecord, name: str) -> float | None:
    value = tensor.scheme(name).sqnr_db
    return value if value is not None and math.isfinite(value) else None


def _worst_tensors(experiment: Experiment) -> Table:
    rows = []
    for name in experiment.settings.names:
        total = experiment.total.scheme(name).error.sum_squared_error
        known = [tensor for tensor in experiment.tensors if _known(tensor, name) is not None]
        for tensor in sorted(known, key=lambda tensor: _known(tensor, name) or 0.0)[:_MOST]:
            record = tensor.scheme(name)
            share = record.error.sum_squared_error / total if 0 < total < math.inf else None
            count = experiment.total.count
            where = tables.label(experiment, tensor)
            rows.append((name, record.bits_per_weight, where, record.sqnr_db, share, tensor.count / count))
    columns = (
        Column("scheme"), tables.STORED, Column("tensor"), Column("SQNR, dB", ".2f"),
        Column("share of error, %", "percent"), Column("share of weights, %", "percent"),
    )  # fmt: skip
    return Table("Worst tensors by format", columns, tuple(rows))


def _worst_channels(experiment: Experiment) -> Table:
    rows = []
    for name in experiment.settings.names:
        channels = [
            (channel, tensor)
            for tensor in experiment.tensors
            for channel in tensor.channels
            if str(channel.scheme) == name
        ]
        channels.sort(key=lambda pair: pair[0].worst_db)
        for channel, tensor in channels[:_MOST]:
            where = tables.label(experiment, tensor)
            bits = tensor.scheme(name).bits_per_weight
            rows.append((name, bits, where, channel.worst, channel.worst_db, channel.median_db, channel.worst_rms))
    columns = (
        Column("scheme"), tables.STORED, Column("tensor"), Column("worst channel", "count"), Column("SQNR, dB", ".2f"),
        Column("median channel, dB", ".2f"), Column("RMS / tensor's", ".3g"),
    )  # fmt: skip
    return Table("Worst channels by format", columns, tuple(rows))


def _heat_map(experiment: Experiment) -> Iterable[Figure]:
    name = experiment.settings.names[0]
    cells: dict[str, dict[int | None, list[SchemeRecord]]] = {}
    for tensor in experiment.tensors:
        if _known(tensor, name) is not None:
            of_kind = cells.setdefault(kind_of(tensor.name), {})
            of_kind.setdefault(depth_of(tensor.name), []).append(tensor.scheme(name))
    layers = sorted({layer for row in cells.values() for layer in row if layer is not None})
    columns: list[int | None] = [*layers, *([None] if any(None in row for row in cells.values()) else [])]
    if not cells or len(columns) < 2:
        return
    rows = {
        kind: [
            functools.reduce(operator.or_, records).sqnr_db if (records := row.get(column)) else None
            for column in columns
        ]
        for kind, row in cells.items()
    }
    yield accuracy.heat_map(
        ["none" if column is None else str(column) for column in columns],
        rows,
        "heat-map",
        f"SQNR of {name} by layer and kind",
        f"SQNR of {name} (the first --format) in dB, of all tensors of a kind in a layer together; the stronger the "
        "colour, the larger the error. Layers and kinds are read off the tensors' names.",
        "layer",
        "dB",
    )
