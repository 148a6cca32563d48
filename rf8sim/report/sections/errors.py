"""The section of a report about where the errors sit: tensors, channels, layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ggd.survey import depth_of, kind_of, kind_title

from ...studies.experiment import Experiment, TensorRecord
from ..figures import accuracy
from ..figures.figure import Figure
from ..tables import experiment as tables
from ..tables.table import Column, Table
from .contents import Contents
from .defaults import quantized
from .page import Section

__all__ = ["errors"]

_MOST = 3


def errors(contents: Contents, with_figures: bool) -> Section | None:
    """Show where the errors sit."""
    experiment = contents.experiment
    if not experiment.settings.names:
        return None
    words = (
        f"Of the tensors that are quantized by default the worst {_MOST} of each format, with their share of the "
        "squared error of all; a tensor with a low SQNR and a small share may still matter to the model. Channels are "
        "the outputs, those of stacked experts numbered one expert after the other.",
    )
    experiment = quantized(experiment)
    optional = (_worst_tensors(experiment), _worst_channels(experiment))
    drawn = tuple(_maps(experiment)) if with_figures else ()
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


_MOST_COLUMNS, _MOST_ROLES = 60, 24


def _maps(experiment: Experiment) -> Iterable[Figure]:
    """Draw the layers by scheme, and by tensor the scheme that varies most between them."""
    layers = sorted({depth for tensor in experiment.tensors if (depth := depth_of(tensor.name)) is not None})
    if len(layers) < 2:
        return
    runs = _runs(layers)
    names = experiment.settings.names
    by_scheme = {name: _row(experiment.tensors, name, runs) for name in names}
    headings = [str(run[0]) for run in runs]
    across = "layer" if len(runs[0]) == 1 else f"layer, the first of {len(runs[0])}"
    if any(value is not None for row in by_scheme.values() for value in row):
        yield accuracy.heat_map(
            headings,
            by_scheme,
            "layers",
            "SQNR by layer and scheme",
            "SQNR in dB of the quantized tensors of a layer together; the stronger the colour, the larger the error. "
            "Layers are the first number in the tensors' names.",
            across,
            "dB",
        )
    groups: dict[str, list[TensorRecord]] = {}
    for tensor in tables.in_order(experiment.tensors):
        groups.setdefault(tables.role(tensor.name), []).append(tensor)
    if len(groups) > _MOST_ROLES:
        groups = {}
        for tensor in tables.in_order(experiment.tensors):
            groups.setdefault(kind_title(kind_of(tensor.name)), []).append(tensor)
    several: list[list[int | None]] = (
        [*runs, [None]] if any(depth_of(tensor.name) is None for tensor in experiment.tensors) else runs
    )
    maps = {name: {role: _row(group, name, several) for role, group in groups.items()} for name in names}
    spread = {name: _spread(rows) for name, rows in maps.items()}
    name = max(names, key=lambda each: spread[each])
    if spread[name] > 0.0:
        yield accuracy.heat_map(
            [*headings, *(["none"] if len(several) > len(runs) else [])],
            maps[name],
            "heat-map",
            f"SQNR of {name} by layer and tensor",
            f"SQNR in dB of {name}, the scheme that varies most between tensors; the stronger the colour, the larger "
            "the error. Rows are what the tensors' names have behind the number of the layer.",
            across,
            "dB",
        )


def _runs(layers: list[int]) -> list[list[int | None]]:
    """Put layers together where there are more than a figure has columns."""
    step = -(-len(layers) // _MOST_COLUMNS)
    return [list(layers[i : i + step]) for i in range(0, len(layers), step)]


def _row(tensors: Iterable[TensorRecord], name: str, runs: list[list[int | None]]) -> list[float | None]:
    """Return the SQNR of a scheme over the tensors of each run of layers together."""
    place = {layer: i for i, run in enumerate(runs) for layer in run}
    sums = [[0.0, 0.0] for _ in runs]
    for tensor in tensors:
        at = place.get(depth_of(tensor.name))
        if at is not None and _known(tensor, name) is not None:
            error = tensor.scheme(name).error
            sums[at][0] += error.sum_squares
            sums[at][1] += error.sum_squared_error
    return [10 * math.log10(signal / noise) if noise > 0 else None for signal, noise in sums]


def _spread(rows: Mapping[str, Sequence[float | None]]) -> float:
    known = [value for row in rows.values() for value in row if value is not None]
    return max(known) - min(known) if known else 0.0
