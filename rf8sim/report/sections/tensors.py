"""The section of a report with every number of every tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..figures import accuracy
from ..figures.figure import Figure
from ..tables import experiment as tables
from ..tables.table import MOST_ROWS
from .contents import Contents
from .page import Section

__all__ = ["tensors"]


def tensors(contents: Contents, with_figures: bool) -> Section:
    """Show everything, tensor by tensor."""
    experiment = contents.experiment
    names = experiment.settings.names
    shown = (tables.sqnr_by_tensor(experiment), *(tables.details(experiment, name) for name in names))
    drawn = tuple(_sqnr_figure(contents)) if with_figures else ()
    return Section("tensors", "Tensor by tensor", (), shown, drawn)


def _sqnr_figure(contents: Contents) -> Iterable[Figure]:
    experiment = contents.experiment
    some = tables.representative(experiment, MOST_ROWS)
    values = {name: [tensor.scheme(name).sqnr_db for tensor in some] for name in experiment.settings.names}
    if not any(value is not None and math.isfinite(value) for row in values.values() for value in row):
        return
    rest = len(experiment.tensors) - len(some)
    yield accuracy.sqnr(
        [tables.label(experiment, tensor) for tensor in some],
        values,
        "sqnr",
        "SQNR by tensor and scheme",
        "A row for each tensor, a mark for each scheme; further right is more accurate."
        + (
            f" These are {len(some)} tensors, the largest of each role in a layer first; the table has all "
            f"{len(experiment.tensors)}."
            if rest
            else ""
        ),
    )
