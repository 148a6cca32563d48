"""The section of a report about the weights themselves: which distribution, where, and what hides it."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

import ggd
from ggd.survey import depth_of, kind_of, kind_title

from ...studies.experiment import Experiment, TensorRecord
from ..figures import distributions
from ..figures.distributions import bin_edges
from ..figures.figure import Figure
from ..tables import experiment as tables
from ..tables.experiment import largest
from ..tables.table import Column, Table
from .contents import Contents
from .limits import trusted
from .page import Section

__all__ = ["by_kind", "folded_density", "largest", "weights"]

_MOST_MARKS = 400


def weights(contents: Contents, with_figures: bool) -> Section:
    """Say what the weights are like: the families, shapes by layer and kind, outliers, zeros, pooling."""
    experiment = contents.experiment
    words = (
        "The generalized Gaussian (GGD) has density proportional to exp(-|w/scale|^shape): shape 2 is "
        'Gaussian, 1 Laplace, smaller is heavier-tailed. The columns "+ bits/w." give '
        "how many more bits per weight an ideal coder needs that assumes another family. Zeros are not fitted.",
        *filter(None, (_families(experiment), _pooling(experiment), _extremes(experiment))),
    )
    kinds = by_kind(experiment)
    drawn = tuple(_figures(experiment)) if with_figures else ()
    shown = (kinds, tables.fits(experiment)) if len(kinds.rows) > 1 else (tables.fits(experiment),)
    return Section("distribution", "The weights and their distribution", words, shown, drawn)


def _families(experiment: Experiment) -> str:
    entries = trusted(experiment)
    if not entries:
        return "No tensor has a trusted fit; see the remarks in the table."
    count = Counter(tensor.fit.family for tensor in entries if tensor.fit is not None and tensor.fit.family)
    listed = ", ".join(f"{family} in {number}" for family, number in count.most_common())
    excess = [
        (max(tensor.fit.bits["ggd"] - min(tensor.fit.bits.values()), 0.0), tables.label(experiment, tensor))
        for tensor in entries
        if tensor.fit is not None and "ggd" in tensor.fit.bits
    ]
    lost = ""
    if excess:
        most, name = max(excess)
        mean = statistics.mean(cost for cost, _ in excess)
        lost = (
            " Compared with the best family of each tensor, the generalized Gaussian costs "
            f"{mean:.4f} bits per weight more on average, at most {most:.4f} ({name})."
        )
    return (
        f"The simplest family that is as good as the best within noise, for the {len(entries)} of "
        f"{len(experiment.tensors)} tensors with a trusted fit: {listed}.{lost}"
    )


def _pooling(experiment: Experiment) -> str:
    entries, total = trusted(experiment), experiment.total
    if len(entries) < 2 or total.fit is None:
        return ""
    shapes = [tensor.fit.shape for tensor in entries if tensor.fit is not None]
    median, spread = statistics.median(shapes), [tensor.rms for tensor in entries if tensor.rms > 0]
    apart = max(spread) / min(spread)
    if total.fit.shape < median:
        return (
            f"Pooling changes the shape: all weights together fit shape {total.fit.shape:.2f}, the median tensor "
            f"{median:.2f}, because tensors whose RMS differ (here up to {apart:.1f} times) make a mixture with "
            "heavier tails than any tensor."
        )
    return (
        f"All weights together fit shape {total.fit.shape:.2f}, the median tensor {median:.2f}; the RMS of tensors "
        f"differ up to {apart:.1f} times."
    )


def _extremes(experiment: Experiment) -> str:
    sized = [tensor for tensor in experiment.tensors if tensor.rms > 0]
    if not sized:
        return ""
    far = max(sized, key=lambda tensor: tensor.largest / tensor.rms)
    sentence = (
        f"The largest weight relative to the RMS of its tensor is in {tables.label(experiment, far)}: "
        f"{far.largest / far.rms:.1f} times."
    )
    outliers = [tensor for tensor in experiment.tensors if "outlier" in tensor.fit_doubt]
    if outliers:
        sentence += f" {len(outliers)} tensors have outliers that their fit does not explain (see the remarks)."
    zeros = [tensor for tensor in experiment.tensors if tensor.zeros]
    if zeros:
        most = max(zeros, key=lambda tensor: tensor.zeros / tensor.count)
        share = 100 * most.zeros / most.count
        some = f"{len(zeros)} tensor{'s have' if len(zeros) > 1 else ' has'}"
        sentence += f" {some} zeros; the largest share is in {tables.label(experiment, most)} ({share:.2f} %)."
    return sentence


def by_kind(experiment: Experiment) -> Table:
    """Compare the kinds of tensors: their shapes one by one and pooled.

    Parameters
    ----------
    experiment : Experiment
        What was measured.

    Returns
    -------
    Table
        A row for each kind, as names tell it (`ggd.survey.kind_of`).
    """
    columns = (
        Column("kind"), Column("tensors", "count"), Column("trusted fits", "count"), Column("weights", "count"),
        Column("zero, %", "percent"), Column("lowest shape", ".3f"), Column("median", ".3f"), Column("highest", ".3f"),
        Column("pooled", ".3f"), Column("largest / RMS", ".1f"),
    )  # fmt: skip
    good = {id(tensor) for tensor in trusted(experiment)}
    groups: dict[str, list[TensorRecord]] = {}
    for tensor in experiment.tensors:
        groups.setdefault(kind_of(tensor.name), []).append(tensor)
    rows = []
    for kind, members in groups.items():
        fits = [tensor for tensor in members if id(tensor) in good]
        shapes = [tensor.fit.shape for tensor in fits if tensor.fit is not None]
        spread = (min(shapes), statistics.median(shapes), max(shapes)) if shapes else (None, None, None)
        count = sum(tensor.count for tensor in members)
        far = max((tensor.largest / tensor.rms for tensor in members if tensor.rms > 0), default=None)
        zeros = sum(tensor.zeros for tensor in members) / count
        rows.append((kind_title(kind), len(members), len(fits), count, zeros, *spread, _pooled_shape(fits), far))
    return Table("Shapes by kind of tensor (trusted fits)", columns, tuple(rows))


def _pooled_shape(members: Sequence[TensorRecord]) -> float | None:
    """Fit the members' histograms, added up, in quarter octaves."""
    if not members:
        return None
    first = min(tensor.first_bin for tensor in members)
    last = max(tensor.first_bin + len(tensor.bins) for tensor in members)
    counts = np.zeros(last - first, dtype=np.int64)
    for tensor in members:
        start = tensor.first_bin - first
        counts[start : start + len(tensor.bins)] += tensor.bins
    edges = bin_edges(first, counts.size)
    # As many weights on either side, which the histogram of magnitudes does not tell apart.
    result = ggd.fit_grouped(np.concatenate([-edges[::-1], edges]), np.concatenate([counts[::-1], [0], counts]))
    return result.shape if math.isfinite(result.shape) else None


def _figures(experiment: Experiment) -> Iterable[Figure]:
    yield from _shape_figure(experiment)
    if experiment.total.bins:
        yield distributions.densities(
            [_panel("all", experiment.total)],
            "density",
            "All weights and fitted densities",
            "Histogram of the magnitudes of the nonzero weights in quarter octaves, and the densities "
            "fitted to them. Both axes are logarithmic, so that the tails can be compared.",
        )
    some = [tensor for tensor in tables.representative(experiment, 6) if tensor.bins]
    if len(experiment.tensors) > 1 and some:
        yield distributions.densities(
            [_panel(tables.label(experiment, tensor), tensor) for tensor in some],
            "densities",
            "The largest tensors one by one",
            f"The same for {len(some)} tensors: the largest of each role in a layer.",
        )


def _shape_figure(experiment: Experiment) -> Iterable[Figure]:
    fitted = {id(tensor) for tensor in trusted(experiment)}
    shown = [tensor for tensor in largest(experiment, _MOST_MARKS) if id(tensor) in fitted]
    points: dict[str, list[distributions.ShapePoint]] = {}
    for tensor in shown:
        if tensor.fit is not None:
            point = distributions.ShapePoint(tables.label(experiment, tensor), depth_of(tensor.name), tensor.fit.shape)
            points.setdefault(kind_of(tensor.name), []).append(point)
    if len(shown) > 1:
        yield distributions.shapes(
            points,
            "shapes",
            "Shapes by layer and kind",
            f"The fitted shape of {len(shown)} tensors with a trusted fit"
            + (f", of the {_MOST_MARKS} largest" if len(experiment.tensors) > _MOST_MARKS else "")
            + ", by layer number in the name; below the Laplace line (shape 1), tails are heavier than exponential.",
        )


def _panel(title: str, tensor: TensorRecord) -> distributions.Density:
    # Like the fit, the rivals describe the weights that are not zero.
    nonzero = sum(tensor.bins)
    finite = nonzero + tensor.zeros
    densities = {
        "generalized Gaussian": ggd.GGD(shape=tensor.fit.shape, scale=tensor.fit.scale) if tensor.fit else None,
        "Laplace": ggd.GGD(shape=1.0, scale=tensor.mean_magnitude * finite / nonzero),
        "Gaussian": ggd.GGD(shape=2.0, scale=tensor.rms * math.sqrt(2 * finite / nonzero)),
    }
    return distributions.Density(
        title,
        tensor.first_bin,
        tensor.bins,
        {name: folded_density(d) for name, d in densities.items() if d is not None},
    )


def folded_density(density: ggd.GGD) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the density of the magnitude."""
    return lambda x: np.asarray(2 * density.pdf(x))
