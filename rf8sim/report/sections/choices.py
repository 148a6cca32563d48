"""Sections of a report about other choices: rounding mode, block of a scale, scale rule, format of the scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ...quantization.scheme import Scheme
from ...studies.experiment import ChoiceRecord, Experiment
from ..figures import accuracy
from ..figures.figure import Figure
from ..tables.experiment import with_bits
from ..tables.table import Column, Table
from .contents import Contents
from .page import Section

__all__ = ["rounding", "scaling"]


def rounding(contents: Contents, with_figures: bool) -> Section | None:
    """Compare the rounding modes on the sample."""
    experiment = contents.experiment
    some = _varied(experiment, "rounding")
    if not some:
        return None
    words = (
        f"{_sample(experiment)} Everything else is as the scheme says; with rule mse each mode has the scale that is "
        "best for it.",
        *_best(some, "rounding"),
        "Nearest modes have the least error by construction; what speaks for another is hardware (toward-zero is "
        "truncation), or that errors average out (stochastic).",
    )
    table = _table("SQNR by rounding mode, dB", "rounding", some)
    words += tuple(_absent([table]))
    drawn = tuple(_figure(some, "rounding", "rounding", "SQNR by rounding mode"))
    return Section("rounding", "Rounding modes", words, (table,), drawn if with_figures else ())


def scaling(contents: Contents, with_figures: bool) -> Section | None:
    """Compare blocks, rules by which a scale is chosen, and formats of the scales, on the sample."""
    experiment = contents.experiment
    by_block = _varied(experiment, "block")
    if not by_block:
        return None
    words = [
        f"{_sample(experiment)} Everything else is as the scheme says. A format whose values repeat every octave and "
        "whose scales are powers of two gains nothing from finer scales but range.",
        *_best(by_block, "block"),
    ]
    shown = [_table("SQNR by elements that share a scale, dB", "block", by_block), _bits(by_block)]
    for varied, caption in (("rule", "scale rule"), ("scale_format", "format of the scales")):
        other = _varied(experiment, varied)
        if len(_grid(other, varied)) > 1:
            shown.append(_table(f"SQNR by {caption}, dB", varied, other))
            words += _best(other, varied)
    words += _absent(shown)
    drawn = tuple(_figure(by_block, "block", "scaling", "SQNR by elements that share a scale"))
    return Section("scaling", "Scales", tuple(words), tuple(shown), drawn if with_figures else ())


def _sample(experiment: Experiment) -> str:
    names = experiment.choices[0].tensors
    weights = experiment.choices[0].record.error.count
    return (
        f"Measured on a sample: the first rows of {', '.join(names)}, the largest tensor of each kind, "
        f"{weights:,} weights together."
    )


_HEADS = {"rounding": "rounding", "block": "block", "rule": "scale rule", "scale_format": "scale format"}


def _varied(experiment: Experiment, varied: str) -> list[ChoiceRecord]:
    """Return the choices that differ from the schemes asked for in one thing at most, these first."""
    return [choice for choice in experiment.choices if choice.varied in ("none", varied)]


def _value(scheme: Scheme, varied: str) -> str:
    """Return what a scheme has of the thing that is varied."""
    if varied == "rounding":
        return scheme.rounding
    scales = scheme.scales
    if scales is None:
        return "none"
    if varied == "block":
        return scales.block_text
    return scales.rule if varied == "rule" else scales.format


def _grid(some: Sequence[ChoiceRecord], varied: str) -> dict[str, dict[str, ChoiceRecord]]:
    """Arrange choices by what is varied and by the scheme asked for."""
    grid: dict[str, dict[str, ChoiceRecord]] = {}
    for choice in some:
        grid.setdefault(_value(choice.record.scheme, varied), {})[str(choice.base)] = choice
    return grid


def _names(some: Sequence[ChoiceRecord]) -> list[str]:
    return list(dict.fromkeys(str(choice.base) for choice in some))


def _table(caption: str, varied: str, some: Sequence[ChoiceRecord]) -> Table:
    names = _names(some)
    rows = tuple(
        (value, *(by_value[name].record.sqnr_db if name in by_value else None for name in names))
        for value, by_value in _grid(some, varied).items()
    )
    # A rounding mode changes no size; with another block, rule or scale format the bits are those of the row.
    asked = {str(choice.base): choice for choice in some if choice.varied == "none"}
    heads = [with_bits(asked[name].record) if varied == "rounding" else name for name in names]
    return Table(caption, (Column(_HEADS[varied]), *(Column(head, ".2f") for head in heads)), rows)


def _bits(some: Sequence[ChoiceRecord]) -> Table:
    names = _names(some)
    rows = tuple(
        (value, *(by_value[name].record.bits_per_weight if name in by_value else None for name in names))
        for value, by_value in _grid(some, "block").items()
    )
    columns = (Column(_HEADS["block"]), *(Column(name, ".3f") for name in names))
    return Table("Stored bits per weight by elements that share a scale, scales included", columns, rows)


def _best(some: Sequence[ChoiceRecord], varied: str) -> Iterable[str]:
    """Name the schemes for which another choice than the one asked for is better, and by how much."""
    gains = []
    for name in _names(some):
        known = [
            (choice.record.sqnr_db, choice)
            for choice in some
            if str(choice.base) == name and choice.record.sqnr_db is not None
        ]
        asked = next((db for db, choice in known if choice.varied == "none"), None)
        if known and asked is not None:
            best, choice = max(known, key=lambda pair: pair[0])
            if best > asked + 0.1 and math.isfinite(best):
                bits = _other_bits(choice, next(c for _, c in known if c.varied == "none"))
                gains.append(f"{name} +{best - asked:.1f} dB with {_value(choice.record.scheme, varied)}{bits}")
    what = _HEADS[varied]
    if gains:
        yield f"Another {what} is better for: {', '.join(gains)}."
    else:
        yield f"No other {what} is better by more than 0.1 dB."


def _other_bits(choice: ChoiceRecord, asked: ChoiceRecord) -> str:
    """Return what a choice stores instead of what the scheme asked for does, or nothing if that is the same."""
    stored, before = choice.record.bits_per_weight, asked.record.bits_per_weight
    if stored is None or before is None or f"{stored:.3f}" == f"{before:.3f}":
        return ""
    return f" ({stored:.3f} instead of {before:.3f} bits/w.)"


def _absent(shown: Sequence[Table]) -> Iterable[str]:
    """Explain cells without a number, if there are any."""
    if any(cell is None for table in shown for row in table.rows for cell in row):
        yield "A dash stands where a choice does not apply to the scheme."


def _figure(some: Sequence[ChoiceRecord], varied: str, name: str, title: str) -> Iterable[Figure]:
    grid = _grid(some, varied)
    values = {
        scheme: [by_value[scheme].record.sqnr_db if scheme in by_value else None for by_value in grid.values()]
        for scheme in _names(some)
    }
    if any(value is not None and math.isfinite(value) for row in values.values() for value in row):
        yield accuracy.sqnr(list(grid), values, name, title, "A mark for each scheme, on the sample; right is better.")
