"""The tables of a survey of fits (`ggd.survey`), for the terminal, for CSV and for the report."""

from __future__ import annotations

import functools
import math
import operator
import statistics
from collections.abc import Sequence
from typing import Any

import ggd
from ggd.families import family_names
from ggd.groups import Groups
from ggd.survey import Entry, Survey, kind_title

from .table import MOST_ROWS, Column, Table

__all__ = [
    "BY_GROUPS",
    "EQUAL_CHANNELS",
    "RIVALS",
    "by_kind",
    "estimators",
    "everything",
    "families",
    "groups",
    "levels",
    "tensors",
]

BY_GROUPS, EQUAL_CHANNELS = "shape by channel group, min / median / max", "shape, channels scaled to equal RMS"
RIVALS = ("gaussian", "laplace")
"""The families that a table compares with the generalized Gaussian, if no others are asked for."""


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _all(survey: Survey) -> tuple[Entry, ...]:
    """Return the tensors, and what is pooled if that is more than one."""
    return (*survey.tensors, *survey.levels) if len(survey.tensors) > 1 else survey.tensors


def tensors(survey: Survey, rivals: Sequence[str] = RIVALS) -> Table:
    """List the fit of each tensor and of all together, and the bits per weight that rivals cost more.

    Parameters
    ----------
    survey : Survey
        The fits.
    rivals : sequence of str
        Names of families.

    Returns
    -------
    Table
        The shape by channel group is the lowest, median and highest of the groups of channels. Without a fitted shape
        the rivals have no number: they are compared with the generalized Gaussian.
    """
    columns = (
        Column("tensor"), Column("size"), Column("weights", "count"), Column("zero, %", "percent"),
        Column("RMS", ".3g"), Column("GGD shape", ".3f"), Column("std. error", ".3f"), Column(BY_GROUPS),
        Column(EQUAL_CHANNELS, ".3f"), *(Column(f"{rival}, + bits/w.", ".4f") for rival in rivals),
        Column("best"), Column("trusted"), Column("remark"),
    )  # fmt: skip
    rows = tuple(
        (
            entry.name,
            " × ".join(map(str, entry.shape)),
            entry.histogram.size,
            _number(entry.fit.zero_share),
            entry.rms,
            _number(entry.fit.shape),
            _number(entry.fit.stderr.shape),
            "–" if entry.groups is None or not entry.groups.shapes else _spread(entry.groups),
            None if entry.channels is None else _number(entry.channels.shape),
            *(_number(entry.excess(rival)) if math.isfinite(entry.fit.shape) else None for rival in rivals),
            entry.selection.chosen or "–",
            "yes" if entry.fit.trusted else "no",
            entry.fit.reason,
        )
        for entry in _all(survey)
    )
    return Table("Fits by tensor", columns, rows, folded=len(rows) > MOST_ROWS)


def _spread(groups: Groups) -> str:
    return " / ".join(f"{shape:.2f}" for shape in groups.spread)


def everything(survey: Survey) -> Table:
    """List all that is known of each tensor and of all together, for CSV."""
    names = family_names()
    head = (
        "tensor", "kind", "depth", "size", "weights", "zeros", "nans", "infinities", "mean", "rms", "largest",
        "shape", "shape_error", "scale", "misfit_bits", "trusted", "remark", "chosen", "finding", "threshold_bits",
        "shape_moments", "shape_half_moments", "z_moments", "z_half_moments", "shape_equal_channels",
        "groups", "shape_groups_lowest", "shape_groups_median", "shape_groups_highest", "groups_saved_bits",
        "groups_saved_by_scale_bits", "groups_differ",
    )  # fmt: skip
    columns = (*head, *(f"{name}_excess_bits" for name in names), *(f"{name}_ks" for name in names))

    def row(entry: Entry) -> tuple[Any, ...]:
        fit, h, agreement = entry.fit, entry.histogram, entry.agreement
        numbers = (h.mean, entry.rms, h.abs_max, fit.shape, fit.stderr.shape, fit.scale, fit.misfit)
        methods = ("moments", "half-moments")
        estimates = [agreement.fits[method].shape for method in methods] + [agreement.z[method] for method in methods]
        pooled = any(entry is level for level in survey.levels)
        return (
            entry.name, None if pooled else entry.kind, None if pooled else entry.depth,
            "x".join(map(str, entry.shape)), h.size, h.zero_count, h.nan_count, h.inf_count,
            *map(_number, numbers), fit.trusted, fit.reason, entry.selection.chosen, entry.finding,
            _number(entry.selection.threshold), *map(_number, estimates),
            None if entry.channels is None else _number(entry.channels.shape), *_groups(entry.groups),
            *(_number(entry.excess(name)) for name in names), *(_number(entry.selection[name].ks) for name in names),
        )  # fmt: skip

    return Table("Fits", tuple(Column(name) for name in columns), tuple(row(entry) for entry in _all(survey)))


def _groups(groups: Groups | None) -> tuple[Any, ...]:
    if groups is None:
        return (None,) * 7
    numbers = (*groups.spread, groups.saved, groups.saved_by_scale)
    return (len(groups.fits), *map(_number, numbers), groups.differ)


def groups(survey: Survey) -> Table:
    """List what the fit of each tensor hides of its groups of channels, those it hides most of first."""
    columns = (
        Column("tensor"), Column("groups", "count"), Column("trusted fits", "count"),
        Column("shape of the tensor", ".3f"), Column("lowest", ".3f"), Column("median", ".3f"),
        Column("highest", ".3f"), Column("smallest RMS", ".3g"), Column("largest RMS", ".3g"),
        Column("separate fits save, bits/w.", ".4f"), Column("by scale alone", ".4f"),
        Column("verdict"),
    )  # fmt: skip
    parted = [(entry, entry.groups) for entry in survey.tensors if entry.groups is not None and entry.groups.shapes]
    parted.sort(key=lambda pair: -pair[1].saved)
    rows = [
        (
            entry.name,
            len(groups.fits),
            groups.trusted,
            _number(entry.fit.shape),
            *map(_number, groups.spread),
            min(groups.rms),
            max(groups.rms),
            _number(groups.saved),
            _number(groups.saved_by_scale),
            "differ" if groups.differ else "alike",
        )
        for entry, groups in parted
    ]
    return Table("Fits by groups of channels", columns, tuple(rows), folded=len(rows) > MOST_ROWS)


def families(survey: Survey) -> Table:
    """Compare the families over the tensors with a trusted fit: what each loses, and where it is best."""
    fitted = [entry for entry in survey.tensors if entry.fit.trusted]
    weights = sum(entry.fit.n for entry in fitted)
    columns = (
        Column("family"), Column("parameters", "count"), Column("mean loss, bits/w.", ".4f"),
        Column("largest loss", ".4f"), Column("in tensor"), Column("best or tied in", "count"),
        Column("simplest of those in", "count"),
    )  # fmt: skip
    rows = []
    for name in family_names() if fitted else ():
        losses = [entry.selection[name].lost for entry in fitted]
        worst = max(range(len(fitted)), key=lambda i: losses[i])
        mean = sum(entry.fit.n * lost for entry, lost in zip(fitted, losses, strict=True)) / weights
        close = sum(lost <= entry.selection.threshold for entry, lost in zip(fitted, losses, strict=True))
        chosen = sum(entry.selection.chosen == name for entry in fitted)
        free = len(fitted[0].selection[name].parameters)
        rows.append((name, free, mean, losses[worst], fitted[worst].name, close, chosen))
    return Table(f"Families over the {len(fitted)} tensors with a trusted fit", columns, tuple(rows))


def by_kind(survey: Survey) -> Table:
    """Compare the kinds of tensors: shapes one by one and pooled, and what rivals cost, averaged over the weights."""
    columns = (
        Column("kind"), Column("tensors", "count"), Column("trusted fits", "count"), Column("weights", "count"),
        Column("lowest shape", ".3f"), Column("median", ".3f"), Column("highest", ".3f"),
        Column("pooled", ".3f"), Column("pooled at equal RMS", ".3f"), Column("median, channels at equal RMS", ".3f"),
        *(Column(f"{rival}, + bits/w.", ".4f") for rival in RIVALS),
    )  # fmt: skip
    rows = []
    for kind in survey.kinds:
        entries = survey.of_kind(kind)
        trusted = [entry for entry in entries if entry.fit.trusted]
        shapes = [entry.fit.shape for entry in trusted]
        channels = [entry.channels.shape for entry in trusted if entry.channels is not None and entry.channels.trusted]
        together: list[float | None] = [None, None]
        if trusted:
            alike = (entry.histogram.scaled(1.0 / entry.rms) for entry in trusted)
            parts = ((entry.histogram for entry in trusted), alike)
            together = [_number(ggd.fit(functools.reduce(operator.or_, part)).shape) for part in parts]
        spread = (min(shapes), statistics.median(shapes), max(shapes)) if shapes else (None, None, None)
        count = sum(entry.histogram.size for entry in entries)
        within = statistics.median(channels) if channels else None
        weights = sum(entry.fit.n for entry in trusted)
        gains = (sum(e.fit.n * e.excess(rival) for e in trusted) / weights if weights else None for rival in RIVALS)
        rows.append((kind_title(kind), len(entries), len(trusted), count, *spread, *together, within, *gains))
    return Table("Shapes by kind of tensor, as read from its name (trusted fits)", columns, tuple(rows))


def levels(survey: Survey) -> Table:
    """Show what pooling does to the shape: all as they are, tensors alike, channels alike."""
    columns = (
        Column("pooled weights"), Column("GGD shape", ".3f"), Column("gaussian, + bits/w.", ".4f"),
        Column("laplace, + bits/w.", ".4f"), Column("best"), Column("GGD, + bits/w.", ".4f"),
    )  # fmt: skip
    rows = tuple(
        (
            entry.name,
            _number(entry.fit.shape),
            *(_number(entry.excess(rival)) for rival in RIVALS),
            entry.selection.chosen or "–",
            _number(entry.selection["ggd"].lost),
        )
        for entry in survey.levels
    )
    return Table("Shape of pooled weights", columns, rows)


def estimators(survey: Survey) -> Table:
    """List what the three estimators of the shape say of each tensor, and by how many standard errors they differ."""
    columns = (
        Column("tensor"), Column("maximum likelihood", ".3f"), Column("moments", ".3f"), Column("std. errors", "+.1f"),
        Column("half-moments", ".3f"), Column("std. errors", "+.1f"), Column("verdict"),
    )  # fmt: skip
    rows = []
    for entry in survey.tensors:
        if not entry.fit.trusted:
            continue
        fits, z = entry.agreement.fits, entry.agreement.z
        shown = [_number(v) for m in ("moments", "half-moments") for v in (fits[m].shape, z[m])]
        rows.append((entry.name, fits["ml"].shape, *shown, "disagree" if entry.estimators_split else "agree"))
    return Table("Three estimators of the shape", columns, tuple(rows), folded=len(rows) > MOST_ROWS)
