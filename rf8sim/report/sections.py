"""The sections of a report, as plain data. A new one is one function here that returns a `Section`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import ggd

from ..experiment import Experiment, TensorRecord
from ..formats import get_format
from . import figures, tables
from .figures import Figure
from .tables import MOST_ROWS, Table
from .verdict import verdict

__all__ = ["SECTIONS", "Section", "sections"]


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


def sections(experiment: Experiment, *, with_figures: bool = True) -> list[Section]:
    """Return the sections of a report, in order.

    Parameters
    ----------
    experiment : Experiment
        What was measured.
    with_figures : bool
        Whether figures are drawn.
    """
    return [make(experiment, with_figures) for make in SECTIONS]


def _verdict(experiment: Experiment, _: bool) -> Section:
    return Section("verdict", "Verdict", tuple(verdict(experiment)))


def _formats(experiment: Experiment, with_figures: bool) -> Section:
    words = (
        "SQNR over all weights is dominated by the tensors with large weights, so the median and the worst "
        "tensor stand beside it. Relative errors are those of the weights that do not become zero; "
        "underflow is the share of the weights that do, overflow the share beyond the range of the format."
    )
    drawn = tuple(_rate_figure(experiment)) if with_figures else ()
    return Section("formats", "Formats over all weights", (words,), (tables.summary(experiment),), drawn)


def _rate_figure(experiment: Experiment) -> Iterable[Figure]:
    points: dict[str, list[figures.RatePoint]] = {name: [] for name in experiment.settings.formats}
    fitted = [tensor for tensor in experiment.tensors if tensor.fit is not None and not tensor.fit_doubt]
    for tensor in fitted or experiment.tensors:
        for record in tensor.formats:
            rate, quality = record.coded_bits_per_weight, record.sqnr_db
            if rate is not None and quality is not None and math.isfinite(quality):
                points[record.format].append(figures.RatePoint(rate, quality))
    if not any(points.values()):
        return
    shapes = [tensor.fit.shape for tensor in fitted if tensor.fit is not None]
    bound = None
    if shapes:
        shape = statistics.median(shapes)
        bound = f"Shannon bound, shape {shape:.2f}", _shannon_bound(shape)
    yield figures.rate_quality(
        points,
        bound,
        "rate",
        "Quality against rate",
        "A small mark for each tensor and format, a large one at each format's medians. Across: bits per "
        "weight after ideal entropy coding, scales included; upward: SQNR. Up and to the left is better."
        + (_BOUND_WORDS if bound else ""),
    )


_BOUND_WORDS = (
    " On a generalized Gaussian of the median shape no code crosses the dashed line; tensors to which none "
    "could be fitted are left out."
)


def _shannon_bound(shape: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the SQNR in dB that bounds a rate R: ``D >= 2**(2 h - 2 R) / (2 pi e)``, h the entropy."""
    density = ggd.GGD(shape=shape, scale=1.0)
    decibels = 20 * math.log10(2)
    offset = 10 * math.log10(2 * math.pi * math.e * density.var) - decibels * density.entropy_bits
    return lambda rate: offset + decibels * rate


def _distribution(experiment: Experiment, with_figures: bool) -> Section:
    words = (
        "The generalized Gaussian (GGD) has density proportional to exp(-|w/scale|^shape): shape 2 is "
        "Gaussian, 1 Laplace, smaller is heavier-tailed. The columns of the rival families say how many "
        "bits per weight each costs more than it. Zeros are counted apart, not fitted."
    )
    drawn = tuple(_density_figures(experiment)) if with_figures else ()
    return Section("distribution", "Distribution of the weights", (words,), (tables.fits(experiment),), drawn)


def _density_figures(experiment: Experiment) -> Iterable[Figure]:
    if experiment.total.bins:
        yield figures.densities(
            [_panel("all", experiment.total)],
            "density",
            "All weights and fitted densities",
            "Histogram of the magnitudes of the nonzero weights in quarter octaves, and the densities "
            "fitted to them. Both axes are logarithmic, so that the tails can be compared.",
        )
    some = [tensor for tensor in _largest(experiment, 6) if tensor.bins]
    if len(experiment.tensors) > 1 and some:
        yield figures.densities(
            [_panel(tables.label(experiment, tensor), tensor) for tensor in some],
            "densities",
            "The largest tensors one by one",
            f"The same for the {len(some)} tensors with the most weights.",
        )


def _panel(title: str, tensor: TensorRecord) -> figures.Density:
    # Like the fit, the rivals describe the weights that are not zero.
    nonzero = sum(tensor.bins)
    finite = nonzero + tensor.zeros
    densities = {
        "generalized Gaussian": ggd.GGD(shape=tensor.fit.shape, scale=tensor.fit.scale) if tensor.fit else None,
        "Laplace": ggd.GGD(shape=1.0, scale=tensor.mean_magnitude * finite / nonzero),
        "Gaussian": ggd.GGD(shape=2.0, scale=tensor.rms * math.sqrt(2 * finite / nonzero)),
    }
    return figures.Density(
        title,
        tensor.first_bin,
        tensor.bins,
        {name: _folded(d) for name, d in densities.items() if d is not None},
    )


def _folded(density: ggd.GGD) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the density of the magnitude."""
    return lambda x: np.asarray(2 * density.pdf(x))


def _tensors(experiment: Experiment, with_figures: bool) -> Section:
    names = experiment.settings.formats
    shown = (tables.sqnr_by_tensor(experiment), *(tables.details(experiment, name) for name in names))
    drawn = tuple(_sqnr_figure(experiment)) if with_figures else ()
    return Section("tensors", "Tensor by tensor", (), shown, drawn)


def _sqnr_figure(experiment: Experiment) -> Iterable[Figure]:
    some = _largest(experiment, MOST_ROWS)
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


def _values(experiment: Experiment, with_figures: bool) -> Section:
    drawn = tuple(_values_figure(experiment)) if with_figures else ()
    return Section(
        "values", "Values of the formats and the data", (), (tables.format_values(experiment),), drawn
    )  # fmt: skip


def _values_figure(experiment: Experiment) -> Iterable[Figure]:
    for tensor in _largest(experiment, 1):
        if not tensor.bins or not tensor.formats:
            return
        several = any(record.smallest_scale != record.largest_scale for record in tensor.formats)
        yield figures.value_density(
            [get_format(record.format) for record in tensor.formats],
            [math.sqrt(record.smallest_scale * record.largest_scale) for record in tensor.formats],
            (tensor.first_bin, tensor.bins),
            "value-density",
            f"Where the values of each format lie over {tables.label(experiment, tensor)}",
            "Above, the weights by their magnitude. Below, a line for each positive value of each format, "
            f"times {'the middle of its scales' if several else 'its scale'} in that tensor. A format is "
            "accurate where its lines are close, and wasteful where there are no weights.",
        )


def _about(experiment: Experiment, _: bool) -> Section:
    words = (
        "SQNR is 10 log10(Σ w² / Σ (w - ŵ)²) in dB, where ŵ is the weight after quantization and back. The "
        "entropy of the codes is the least that a coder of single codes needs. Stored bits per weight are "
        "those of the code and its share of the scales: 8 bits for a scale that is a power of two, 32 for "
        "another.",
        "Channels lie along axis 0 and blocks along all other axes together; a vector is one channel.",
    )
    optional = (tables.not_finite(experiment), tables.skipped(experiment))
    shown = (tables.settings(experiment), *(table for table in optional if table.rows))
    return Section("about", "How this was measured", words, shown)


def _largest(experiment: Experiment, count: int) -> list[TensorRecord]:
    """Return the tensors with the most weights, in their usual order."""
    order = sorted(range(len(experiment.tensors)), key=lambda i: (-experiment.tensors[i].count, i))
    return [experiment.tensors[i] for i in sorted(order[:count])]


SECTIONS: tuple[Callable[[Experiment, bool], Section], ...] = (
    _verdict, _formats, _distribution, _tensors, _values, _about,
)  # fmt: skip
