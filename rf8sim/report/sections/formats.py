"""The section of a report about formats over all weights: accuracy, size, how far from the limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import ggd

from ...studies.experiment import TensorRecord
from ..figures import accuracy, distributions
from ..figures.figure import Figure
from ..tables import experiment as tables
from ..tables.table import Column, Table
from . import limits
from .contents import Contents
from .defaults import quantized
from .page import Section
from .weights import largest

__all__ = ["formats", "overview"]

_MOST_MARKS = 150


_QUANTIZED = "Tensors that are quantized by default"


def overview(contents: Contents) -> Table:
    """Compare the formats on a terminal, over the tensors that are quantized by default."""
    experiment = quantized(contents.experiment)
    table = tables.brief(experiment)
    return table if experiment is contents.experiment else replace(table, caption=_QUANTIZED)


def formats(contents: Contents, with_figures: bool) -> Section:
    """Compare the formats over all weights."""
    words = (
        "SQNR over all weights is dominated by the tensors with large weights, so the median and the worst "
        "tensor are given too. Relative errors leave out the weights that are rounded to zero; underflow is "
        "the share of these, overflow the share beyond the range of the format. The largest relative error is that of "
        "one weight, usually one just above half the smallest value: it shows where the range of a format ends, and is "
        "at most 100 % with rounding to nearest. Coded bits per weight are the entropy of the pooled codes plus "
        "the bits of the scales.",
    )
    everything = contents.experiment
    experiment = quantized(everything)
    contents = replace(contents, experiment=experiment)
    shown = [tables.summary(experiment)]
    if experiment is not everything:
        shown = [
            replace(shown[0], caption=_QUANTIZED),
            replace(
                tables.summary(everything), caption="All tensors, with those that are kept by default", folded=True
            ),
        ]
    table = _limits_table(contents)
    if table.rows:
        shown.append(table)
    shown.append(tables.format_values(experiment))
    drawn = (*_rate_figure(contents), *_values_figures(contents)) if with_figures else ()
    return Section("formats", "Formats", words, tuple(shown), tuple(drawn))


def _limits_table(contents: Contents) -> Table:
    columns = (
        Column("scheme"), tables.STORED, Column("tensors", "count"), Column("SQNR, dB", ".2f"),
        Column("coded, bits/w.", ".3f"),
        Column("max. SQNR at this rate, dB", ".2f"), Column("gap, dB", ".2f"),
        Column("min. rate at this SQNR, bits", ".3f"), Column("gap, bits", ".3f"),
    )  # fmt: skip
    rows = tuple(
        (
            limit.scheme, contents.experiment.total.scheme(limit.scheme).bits_per_weight, limit.tensors, limit.sqnr_db,
            limit.bits, limit.bound_db, limit.bound_db - limit.sqnr_db, limit.least_bits, limit.bits - limit.least_bits,
        )
        for limit in limits.limits(contents.experiment)
    )  # fmt: skip
    return Table("Gap to the limits: the Shannon bounds of the tensors' fits, added up", columns, rows)


def _rate_figure(contents: Contents) -> Iterable[Figure]:
    experiment = contents.experiment
    names = experiment.settings.names
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
        sizes = sorted({scheme.format.bits for scheme in experiment.settings.schemes})
        levels = {f"Lloyd-Max, {1 << bits} values": limits.lloyd_max_db(shape, 1 << bits) for bits in sizes}
        words = (
            " The lines are limits for one generalized Gaussian of the median shape: dashed, that of any code at all "
            "(Shannon); dotted, that of any table of so many values with one scale (Lloyd-Max). Marks may cross them: "
            "a tensor of another shape has other limits, scales for channels or blocks fit parts of a tensor more "
            "closely, and all weights together are a mixture whose parts have scales of their own. The table of limits "
            "compares each tensor with its own."
        )
    few = f" (the {len(shown)} largest with a trusted fit)" if len(experiment.tensors) > len(shown) else ""
    yield accuracy.rate_quality(
        points,
        totals,
        bound,
        levels,
        "rate",
        "Quality against rate",
        f"A small mark for each tensor and format{few}, a large one for all weights, as in the table. x: bits per "
        f"weight after ideal entropy coding, scales included; y: SQNR. Up and to the left is better.{words}",
    )


def _rate_point(label: str, tensor: TensorRecord, name: str) -> Iterable[accuracy.RatePoint]:
    record = tensor.scheme(name)
    rate, quality = record.coded_bits_per_weight, record.sqnr_db
    if rate is not None and quality is not None and math.isfinite(quality):
        yield accuracy.RatePoint(label, rate, quality)


def _values_figures(contents: Contents) -> Iterable[Figure]:
    experiment = contents.experiment
    for tensor in largest(experiment, 1):
        if not tensor.bins or not tensor.schemes:
            return
        where = tables.label(experiment, tensor)
        several = any(record.smallest_scale != record.largest_scale for record in tensor.schemes)
        by_format = {record.scheme.format: record for record in reversed(tensor.schemes)}
        formats = [*reversed(by_format)]
        scales = [math.sqrt(by_format[fmt].smallest_scale * by_format[fmt].largest_scale) for fmt in formats]
        middle = "the geometric mean of the tensor's smallest and largest scale"
        scaled = f"multiplied by {middle if several else 'the scale of the tensor'}"
        yield distributions.value_density(
            formats,
            scales,
            (tensor.first_bin, tensor.bins),
            "value-density",
            f"Where the values of each format lie over {where}",
            f"Top: the weights by magnitude. Bottom: a line for each positive value of each format, {scaled}. A "
            "format is accurate where its lines are close, and wasteful where there are no weights.",
        )
        ideal = _best_density(tensor, max(fmt.count for fmt in formats))
        yield distributions.values_per_octave(
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
