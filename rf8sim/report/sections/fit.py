"""Sections of a page about fits: whether the weights follow a generalized Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ggd.findings import verdict
from ggd.groups import MOST_GROUPS, SMALLEST_GROUP
from ggd.survey import Survey

from ...quantization.records import to_builtins
from ...studies.experiment import SkippedTensor
from ..figures import fit as figures
from ..tables import fit as tables
from ..tables.table import WORST, Column, Table, worst
from .page import Section

__all__ = [
    "Fits", "answer", "as_data", "by_tensor", "channels", "estimators", "families", "kinds", "not_fitted", "overview",
    "pooling",
]  # fmt: skip


@dataclass(frozen=True)
class Fits:
    """The fits of a checkpoint.

    Attributes
    ----------
    survey : ggd.survey.Survey
        The fits, tensor by tensor and pooled.
    skipped : tuple of SkippedTensor
        Tensors that were not fitted, with the reasons.
    families : sequence of str
        The families that the first table compares with the generalized Gaussian.
    rows : int or None
        Tensors on a terminal, the worst fits first; None for all.
    """

    survey: Survey
    skipped: tuple[SkippedTensor, ...] = ()
    families: Sequence[str] = tables.RIVALS
    rows: int | None = WORST


def answer(fits: Fits) -> list[str]:
    """Answer in sentences."""
    return verdict(fits.survey)


def as_data(fits: Fits) -> dict[str, Any]:
    """Return the fits as plain data for JSON."""
    return {**fits.survey.to_json(), "skipped": to_builtins(fits.skipped)}


def overview(fits: Fits) -> Table:
    """Return the table for a terminal: the tensors with the worst fits, or all, and what is pooled."""
    entries = fits.survey.tensors
    quality = [
        -entry.fit.misfit if entry.fit.trusted and math.isfinite(entry.fit.misfit) else -math.inf for entry in entries
    ]
    return worst(_everything(fits), quality, fits.rows, "tensors that fit worst")


def _everything(fits: Fits) -> Table:
    return tables.tensors(fits.survey, fits.families)


def by_tensor(fits: Fits, with_figures: bool) -> Section:
    """Show the fit of each tensor."""
    words = (
        "The generalized Gaussian has density proportional to exp(-|w/scale|^shape), centred on zero. It is fitted by "
        "maximum likelihood to the weights that are not zero.",
    )
    terms = (
        (
            "+ bits/w.",
            "how many more bits per weight an ideal coder would need with another family (negative: fewer)",
        ),
        (
            "best",
            "the family of fewest parameters within max(1e-3, 5 p / (2 n ln 2)) bits per weight of the most likely "
            "one: five times what fitting to noise gains, with n weights and p, the most parameters of a family",
        ),
        (tables.BY_GROUPS, "of groups of channels (blocks of axis 0), each fitted by itself"),
        (
            tables.EQUAL_CHANNELS,
            "the shape after each channel (an entry of axis 0) was divided by its root mean square",
        ),
    )
    drawn = figures.of_tensors(fits.survey) if with_figures else ()
    return Section("tensors", "Tensor by tensor", words, (_everything(fits),), tuple(drawn), terms=terms)


def families(fits: Fits, _: bool) -> Section:
    """Compare the families over all tensors."""
    return Section("families", "Families", (), (tables.families(fits.survey),))


def kinds(fits: Fits, with_figures: bool) -> Section:
    """Compare kinds of tensors and layers."""
    drawn = figures.of_kinds(fits.survey) if with_figures else ()
    return Section("kinds", "Kinds of tensors, and depth", (), (tables.by_kind(fits.survey),), tuple(drawn))


def pooling(fits: Fits, _: bool) -> Section | None:
    """Show how pooling tensors changes the shape."""
    if len(fits.survey.tensors) < 2:
        return None
    words = (
        "Gaussians of different scales, pooled, have heavy tails although each of them has light ones, so a low shape "
        "of all weights together does not describe the tensors. The same holds for a tensor and its channels. Dividing "
        "a channel of n weights by its root mean square shortens tails a little by itself: of a Gaussian the kurtosis "
        "falls from 3 to 3 n / (n + 2).",
    )
    return Section("pooling", "Pooling tensors", words, (tables.levels(fits.survey),))


def channels(fits: Fits, with_figures: bool) -> Section | None:
    """Compare the fit of each tensor with those of its groups of channels."""
    table = tables.groups(fits.survey)
    if not table.rows:
        return None
    words = (
        f"A tensor pools its channels. Here they are in groups of neighbours, at most {MOST_GROUPS} of at least "
        f"{SMALLEST_GROUP:,} weights, each fitted by itself: in a fused projection a group is part of one projection, "
        "often one head.",
    )
    terms = (
        (
            "separate fits save",
            "how many bits per weight an ideal coder would save with a fit for each group instead of one for all",
        ),
        ("by scale alone", "the same with one shape for all and a scale for each group"),
        ("differ", "the groups save more than max(1e-3 bits, five times what so many fits gain by chance)"),
    )
    drawn = figures.of_groups(fits.survey) if with_figures else ()
    return Section("groups", "Channels of a tensor", words, (table,), tuple(drawn), terms=terms)


def estimators(fits: Fits, with_figures: bool) -> Section:
    """Compare three estimators of the shape."""
    words = (
        "Three estimators of the shape are compared: maximum likelihood, the ratio E[w²] / E[|w|]², and "
        "E|w| / E[√|w|]². On generalized Gaussian data they agree within their errors; where they do not, the family "
        "is not the right one.",
    )
    terms = (("disagree", "they differ by more than 2 % and by more than five standard errors"),)
    drawn = figures.of_estimators(fits.survey) if with_figures else ()
    table = tables.estimators(fits.survey)
    return Section("estimators", "Do the estimators agree?", words, (table,), tuple(drawn), terms=terms)


def not_fitted(fits: Fits, _: bool) -> Section | None:
    """List the tensors that were not fitted."""
    if not fits.skipped:
        return None
    columns = (Column("tensor"), Column("checkpoint"), Column("reason", "note"))
    rows = tuple((tensor.name, tensor.checkpoint, tensor.reason) for tensor in fits.skipped)
    return Section("skipped", "Tensors not fitted", (), (Table("Tensors not fitted", columns, rows),))
