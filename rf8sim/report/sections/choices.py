"""The sections of a report about what else could be chosen: the rounding mode, the scaling, the scale rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from ...studies.experiment import ChoiceRecord, Experiment
from ..figures import accuracy
from ..figures.figure import Figure
from ..tables.table import Column, Table
from .contents import Contents
from .page import Section

__all__ = ["rounding", "scaling"]

_Label = Callable[[ChoiceRecord], str]


def rounding(contents: Contents, with_figures: bool) -> Section | None:
    """Compare the rounding modes on the sample."""
    experiment, asked = contents.experiment, contents.experiment.settings
    some = _held(experiment, scaling=asked.scaling, scale_rule=asked.scale_rule)
    if not some:
        return None
    words = (
        f"{_sample(experiment)} Scales are those of the report: {asked.scaling}, {asked.scale_rule}"
        + (", which finds each mode the scale that is best for it." if asked.scale_rule == "mse" else "."),
        *_best(some, "rounding", lambda choice: choice.rounding, asked.rounding),
        "Nearest modes have the least error by construction; what speaks for another is hardware (toward-zero is "
        "truncation), or that errors average out (stochastic).",
    )
    table = _table("SQNR by rounding mode, dB", "rounding", some, lambda choice: choice.rounding)
    drawn = tuple(_figure(some, lambda choice: choice.rounding, "rounding", "SQNR by rounding mode"))
    return Section("rounding", "Rounding modes", words, (table,), drawn if with_figures else ())


def scaling(contents: Contents, with_figures: bool) -> Section | None:
    """Compare scalings, and rules by which a scale is chosen, on the sample."""
    experiment, asked = contents.experiment, contents.experiment.settings
    by_scaling = _held(experiment, rounding=asked.rounding, scale_rule=asked.scale_rule)
    if not by_scaling:
        return None
    by_rule = _held(experiment, rounding=asked.rounding, scaling=asked.scaling)
    blocks = f"blocks of {asked.block_size}"
    words = (
        f"{_sample(experiment)} Rounding is {asked.rounding}; channels lie along axis 0, blocks are {blocks} along the "
        "rows. A format whose values repeat every octave and whose scales are powers of two gains nothing from finer "
        "scales but range.",
        *_best(by_scaling, "scaling", lambda choice: choice.scaling, asked.scaling),
    )
    shown = [_table("SQNR by scaling, dB", "scaling", by_scaling, lambda choice: choice.scaling), _bits(by_scaling)]
    if asked.scaling != "none":
        shown.append(_table("SQNR by scale rule, dB", "scale rule", by_rule, lambda choice: choice.scale_rule))
    drawn = tuple(_figure(by_scaling, lambda choice: choice.scaling, "scaling", "SQNR by scaling"))
    return Section("scaling", "Scalings", words, tuple(shown), drawn if with_figures else ())


def _sample(experiment: Experiment) -> str:
    names = experiment.choices[0].tensors
    weights = experiment.choices[0].record.error.count
    return (
        f"Measured on a sample: the first rows of {', '.join(names)}, the largest tensor of each kind, "
        f"{weights:,} weights together."
    )


def _held(experiment: Experiment, **held: str) -> list[ChoiceRecord]:
    """Return the choices in which the given things are as asked for."""
    return [
        choice for choice in experiment.choices if all(getattr(choice, name) == value for name, value in held.items())
    ]


def _formats(some: Sequence[ChoiceRecord]) -> list[str]:
    return list(dict.fromkeys(choice.record.format for choice in some))


def _grid(some: Sequence[ChoiceRecord], label: _Label) -> dict[str, dict[str, ChoiceRecord]]:
    """Arrange choices by label and format."""
    grid: dict[str, dict[str, ChoiceRecord]] = {}
    for choice in some:
        grid.setdefault(label(choice), {})[choice.record.format] = choice
    return grid


def _table(caption: str, head: str, some: Sequence[ChoiceRecord], label: _Label) -> Table:
    names = _formats(some)
    rows = tuple(
        (name, *(own[fmt].record.sqnr_db if fmt in own else None for fmt in names))
        for name, own in _grid(some, label).items()
    )
    return Table(caption, (Column(head), *(Column(name, ".2f") for name in names)), rows)


def _bits(some: Sequence[ChoiceRecord]) -> Table:
    names = _formats(some)
    rows = tuple(
        (scaling, *(own[fmt].record.bits_per_weight for fmt in names))
        for scaling, own in _grid(some, lambda choice: choice.scaling).items()
    )
    columns = (Column("scaling"), *(Column(name, ".3f") for name in names))
    return Table("Stored bits per weight by scaling, scales included", columns, rows)


def _best(some: Sequence[ChoiceRecord], what: str, label: _Label, asked: str) -> Iterable[str]:
    """Say for which formats another choice than the one asked for is better, and by how much."""
    gains = []
    for fmt in _formats(some):
        known = [
            (choice.record.sqnr_db, label(choice))
            for choice in some
            if choice.record.format == fmt and choice.record.sqnr_db is not None
        ]
        own = next((db for db, name in known if name == asked), None)
        if known and own is not None:
            best, name = max(known)
            if best > own + 0.1 and math.isfinite(best):
                gains.append(f"{fmt} {best - own:.1f} dB with {name}")
    if gains:
        yield f"Another {what} than {asked} is better for: {', '.join(gains)}."
    else:
        yield f"No other {what} is better than {asked} by more than 0.1 dB."


def _figure(some: Sequence[ChoiceRecord], label: _Label, name: str, title: str) -> Iterable[Figure]:
    grid = _grid(some, label)
    values = {fmt: [own[fmt].record.sqnr_db if fmt in own else None for own in grid.values()] for fmt in _formats(some)}
    if any(value is not None and math.isfinite(value) for row in values.values() for value in row):
        yield accuracy.sqnr(list(grid), values, name, title, "A mark for each format, on the sample; right is better.")
