"""The sections of a report, as plain data. A new one is one function here or beside that returns a `Section`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

import ggd

from ...entropy.code_lengths import code_lengths
from ...entropy.coding import stored_bits
from ...formats import get_format
from ...models.evaluation import Evaluation
from ...studies.experiment import Experiment, TensorRecord
from ..figures import charts, figures
from ..figures.figures import Figure
from ..pages import evaluation as evaluation_report
from ..tables import tables
from ..tables.tables import MOST_ROWS, Column, Table
from . import guards, limits
from .area import area
from .choices import rounding, scaling
from .contents import Contents, Section
from .errors import errors
from .verdict import verdict
from .weights import largest, weights

__all__ = ["SECTIONS", "sections"]

_MOST_MARKS = 150


def sections(contents: Contents, *, with_figures: bool = True) -> list[Section]:
    """Return the sections of a report, in order.

    Parameters
    ----------
    contents : Contents
        What was measured, and what belongs to it.
    with_figures : bool
        Whether figures are drawn.
    """
    made = (make(contents, with_figures) for make in SECTIONS)
    return [section for section in made if section is not None]


def _verdict(contents: Contents, _: bool) -> Section:
    return Section("verdict", "Verdict", tuple(verdict(contents.experiment)))


# --- the formats ------------------------------------------------------------------------------------------------------


def _formats(contents: Contents, with_figures: bool) -> Section:
    words = (
        "SQNR over all weights is dominated by the tensors with large weights, so the median and the worst "
        "tensor stand beside it. Relative errors are those of the weights that do not become zero; "
        "underflow is the share of the weights that do, overflow the share beyond the range of the format. "
        "The largest relative error is that of one weight, as a rule of one just above half the smallest value: it "
        "says where a format's range ends and nothing about the rest, and is at most 100 % with rounding to nearest.",
    )
    experiment = contents.experiment
    shown = [tables.summary(experiment)]
    table = _limits_table(contents)
    if table.rows:
        shown.append(table)
    shown.append(tables.format_values(experiment))
    drawn = (*_rate_figure(contents), *_values_figures(contents)) if with_figures else ()
    return Section("formats", "Formats over all weights", words, tuple(shown), tuple(drawn))


def _limits_table(contents: Contents) -> Table:
    columns = (
        Column("format"), Column("tensors", "count"), Column("SQNR, dB", ".2f"), Column("coded, bits/w.", ".3f"),
        Column("most with these bits, dB", ".2f"), Column("below it, dB", ".2f"),
        Column("least bits for this SQNR", ".3f"), Column("above it, bits", ".3f"),
    )  # fmt: skip
    rows = tuple(
        (
            one.format, one.tensors, one.sqnr_db, one.bits, one.bound_db, one.bound_db - one.sqnr_db, one.least_bits,
            one.bits - one.least_bits,
        )
        for one in limits.limits(contents.experiment)
    )  # fmt: skip
    return Table("How far from the limits: the Shannon bounds of the tensors' own fits, added up", columns, rows)


def _rate_figure(contents: Contents) -> Iterable[Figure]:
    experiment = contents.experiment
    names = experiment.settings.formats
    fitted = limits.trusted(experiment)
    chosen = {id(tensor) for tensor in fitted} or {id(tensor) for tensor in experiment.tensors}
    shown = [tensor for tensor in largest(experiment, _MOST_MARKS) if id(tensor) in chosen]
    points = {
        name: [point for tensor in shown for point in _rate_point(tables.label(experiment, tensor), tensor, name)]
        for name in names
    }
    totals = {name: point for name in names for point in _rate_point("all weights", experiment.total, name)}
    if not totals:
        return
    shape = limits.median_shape(experiment)
    bound, levels, words = None, {}, ""
    if shape is not None:
        bound = f"Shannon, shape {shape:.2f}", limits.shannon_db(shape)
        sizes = sorted({get_format(name).bits for name in names})
        levels = {f"Lloyd-Max, {1 << bits} values": limits.lloyd_max_db(shape, 1 << bits) for bits in sizes}
        words = (
            " The lines are limits for one generalized Gaussian of the median shape: dashed, that of any code at all "
            "(Shannon); dotted, that of any table of so many values with one scale (Lloyd-Max). Marks may cross them: "
            "a tensor of another shape has other limits, scales for channels or blocks fit parts of a tensor more "
            "closely, and all weights together are a mixture whose parts have scales of their own. The table of limits "
            "compares each tensor with its own."
        )
    few = f" (the {len(shown)} largest that have a fit to trust)" if len(experiment.tensors) > len(shown) else ""
    yield figures.rate_quality(
        points,
        totals,
        bound,
        levels,
        "rate",
        "Quality against rate",
        f"A small mark for each tensor and format{few}, a large one for all weights, as in the table. Across: bits per "
        f"weight after ideal entropy coding, scales included; upward: SQNR. Up and to the left is better.{words}",
    )


def _rate_point(label: str, tensor: TensorRecord, name: str) -> Iterable[figures.RatePoint]:
    record = tensor.format(name)
    rate, quality = record.coded_bits_per_weight, record.sqnr_db
    if rate is not None and quality is not None and math.isfinite(quality):
        yield figures.RatePoint(label, rate, quality)


def _values_figures(contents: Contents) -> Iterable[Figure]:
    experiment = contents.experiment
    for tensor in largest(experiment, 1):
        if not tensor.bins or not tensor.formats:
            return
        where = tables.label(experiment, tensor)
        several = any(record.smallest_scale != record.largest_scale for record in tensor.formats)
        formats = [get_format(record.format) for record in tensor.formats]
        scales = [math.sqrt(record.smallest_scale * record.largest_scale) for record in tensor.formats]
        scaled = f"times {'the middle of its scales' if several else 'its scale'} in that tensor"
        yield figures.value_density(
            formats,
            scales,
            (tensor.first_bin, tensor.bins),
            "value-density",
            f"Where the values of each format lie over {where}",
            f"Above, the weights by their magnitude. Below, a line for each positive value of each format, {scaled}. A "
            "format is accurate where its lines are close, and wasteful where there are no weights.",
        )
        ideal = _best_density(tensor, max(fmt.count for fmt in formats))
        yield charts.values_per_octave(
            formats,
            scales,
            (tensor.first_bin, tensor.bins),
            ideal,
            "octaves",
            f"How finely each format divides the octaves of {where}",
            f"The positive values of each format in each octave, {scaled}, over the weights (grey, without a scale)."
            + (
                " Dashed: what is best for the density fitted to that tensor, as many values in proportion to the cube "
                "root of the density (Panter and Dite 1951)."
                if ideal
                else ""
            ),
        )


def _best_density(tensor: TensorRecord, count: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
    """Return values per octave of the best quantizer of so many values: its density is that to the power 1/3."""
    if tensor.fit is None or tensor.fit_doubt:
        return None
    shape = tensor.fit.shape
    spread = ggd.GGD(shape=shape, scale=tensor.fit.scale * 3.0 ** (1.0 / shape))  # f^(1/3), normalized
    return lambda x: np.asarray(count * spread.pdf(x) * x * math.log(2.0))


# --- accuracy, compression, guard rails -------------------------------------------------------------------------------


def _accuracy(contents: Contents, _: bool) -> Section | None:
    if contents.evaluation is None:
        return None
    results = [Evaluation.from_json(result) for result in contents.evaluation["results"]]
    table = evaluation_report.everything(results)
    made = f"Made by '{contents.evaluation['made_by']}', on {contents.evaluation['data']}."
    return Section("accuracy", "The model run in low precision", (*contents.evaluation["verdict"][:5], made), (table,))


def _compression(contents: Contents, _: bool) -> Section | None:
    experiment = contents.experiment
    if not experiment.settings.formats:
        return None
    columns = (
        Column("format"), Column("stored, bits/w.", ".3f"), Column("of them scales", ".3f"), Column("entropy", ".3f"),
        *(Column(f"{coder}, bits/w.", ".3f") for coder in _CODERS.values()), Column("saved by rANS, %", "percent"),
        Column("codes that occur", "count"),
    )  # fmt: skip
    rows = []
    for record in experiment.total.formats:
        stored, scales = record.bits_per_weight, record.scale_overhead_bits
        coded: list[float | None] = [None for _ in _CODERS]
        if scales is not None:
            coded = [scales + _coded_bits(experiment, record.format, coder) for coder in _CODERS]
        saved = 1 - coded[0] / stored if stored and coded[0] is not None else None
        used = int(np.count_nonzero(record.error.code_counts))
        rows.append((record.format, stored, scales, record.entropy_bits, *coded, saved, used))
    words = (
        "Codes of weights are worth less than their width: some occur more often than others. The entropy of the codes "
        "of all tensors together is the least that a coder of single codes with one table needs. The columns of coders "
        "are what files take: a table for each tensor, heads and checksums of blocks, and the scales are in them; "
        "a table of its own can bring a tensor below the entropy of all."
        + (f" They are of the {_MOST_CODED} largest tensors." if len(experiment.tensors) > _MOST_CODED else ""),
    )
    return Section("compression", "Compression", words, (Table("Bits per weight", columns, tuple(rows)),))


_CODERS = {"rans": "rANS", "huffman": "Huffman"}
_MOST_CODED = 100  # finding the best table of a tensor takes some hundredths of a second


def _coded_bits(experiment: Experiment, name: str, coder: str) -> float:
    """Return the bits per weight of the codes of all tensors in a format, each coded by itself."""
    counts = [tensor.format(name).error.code_counts for tensor in largest(experiment, _MOST_CODED)]
    bits = sum(stored_bits(code_lengths(own, coder)) for own in counts if own.any())
    return float(bits / max(1, sum(int(own.sum()) for own in counts)))


def _guards(contents: Contents, _: bool) -> Section:
    experiment = contents.experiment
    kept = guards.kept(experiment)
    weights = sum(tensor.count for tensor in kept)
    share = 100 * weights / experiment.total.count
    words = [
        f"Norms, embeddings, biases and vectors stay as they are unless a plan says otherwise: {len(kept)} of "
        f"{len(experiment.tensors)} tensors here, {share:.1f} % of the weights. They are measured all the same.",
        f"Named below are tensors with an SQNR {guards.SENSITIVE_DB:g} dB below the median of their format, with "
        f"{100 * guards.UNDERFLOW:g} % of their weights becoming zero or {100 * guards.OVERFLOW:g} % beyond the range "
        f"(and twice as many as in all tensors), with a channel {guards.CHANNEL_DB:g} dB below the median channel, or "
        "with values that are not finite.",
    ]
    found = guards.concerns(experiment)
    if not found:
        words.append("No tensor is.")
    names = {tables.label(experiment, tensor) for tensor in kept}
    columns = (
        Column("tensor"), Column("weights", "count"), Column("format"), Column("what", "note"), Column("advice"),
        Column("kept by default"),
    )  # fmt: skip
    rows = tuple(
        (one.tensor, one.weights, one.format or "any", one.what, one.advice, "yes" if one.tensor in names else "no")
        for one in found
    )
    shown = (Table("To be looked at", columns, rows, folded=len(rows) > MOST_ROWS),) if rows else ()
    return Section("guards", "Guard rails", tuple(words), shown)


# --- tensor by tensor -------------------------------------------------------------------------------------------------


def _tensors(contents: Contents, with_figures: bool) -> Section:
    experiment = contents.experiment
    names = experiment.settings.formats
    shown = (tables.sqnr_by_tensor(experiment), *(tables.details(experiment, name) for name in names))
    drawn = tuple(_sqnr_figure(contents)) if with_figures else ()
    return Section("tensors", "Tensor by tensor", (), shown, drawn)


def _sqnr_figure(contents: Contents) -> Iterable[Figure]:
    experiment = contents.experiment
    some = largest(experiment, MOST_ROWS)
    values = {name: [tensor.format(name).sqnr_db for tensor in some] for name in experiment.settings.formats}
    if not any(value is not None and math.isfinite(value) for row in values.values() for value in row):
        return
    rest = len(experiment.tensors) - len(some)
    yield figures.sqnr(
        [tables.label(experiment, tensor) for tensor in some],
        values,
        "sqnr",
        "SQNR by tensor and format",
        "A row for each tensor, a mark for each format; further right is more accurate."
        + (f" These are the {len(some)} largest tensors; the table has the other {rest}." if rest else ""),
    )


def _about(contents: Contents, _: bool) -> Section:
    experiment = contents.experiment
    words = [
        "SQNR is 10 log10(Σ w² / Σ (w - ŵ)²) in dB, where ŵ is the weight after quantization and back. The "
        "entropy of the codes is the least that a coder of single codes needs. Stored bits per weight are "
        "those of the code and its share of the scales: 8 bits for a scale that is a power of two, 32 for "
        "another.",
        "Channels lie along axis 0 and blocks along all other axes together; a vector is one channel.",
    ]
    if contents.command:
        words.append(f"The same bytes come again from: {contents.command}")
    columns = (Column("file"), Column("bytes", "count"), Column("SHA-256"))
    files = Table("Files that were read", columns, tuple((f.name, f.bytes, f.sha256) for f in contents.inputs))
    optional = (files, tables.not_finite(experiment), tables.skipped(experiment))
    shown = (tables.settings(experiment), *(table for table in optional if table.rows))
    return Section("about", "How this was measured, and how to do it again", tuple(words), shown)


SECTIONS: tuple[Callable[[Contents, bool], Section | None], ...] = (
    _verdict, weights, _formats, rounding, scaling, area, errors, _accuracy, _compression, _guards, _tensors, _about,
)  # fmt: skip
