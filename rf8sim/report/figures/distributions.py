"""Figures of how weights, and the values of formats, are distributed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats import Format
from .figure import COLOURS, GRID, INK, MUTED, Curve, Figure, axes_grid, mark_style, shortened, styled

__all__ = [
    "Density", "ShapePoint", "bin_edges", "densities", "shapes", "value_density", "values_per_octave",
]  # fmt: skip


@dataclass(frozen=True)
class Density:
    """One panel of `densities`.

    Attributes
    ----------
    title : str
        Whose weights.
    first_bin : int
        The first bin of the histogram.
    bins : sequence of int
        Histogram of the nonzero magnitudes in quarter octaves, as in `rf8sim.studies.experiment.TensorRecord`.
    curves : dict of str to callable
        Densities of ``|w|`` by name, each a function of an array.
    """

    title: str
    first_bin: int
    bins: Sequence[int]
    curves: Mapping[str, Curve]


def bin_edges(first_bin: int, count: int) -> NDArray[np.float64]:
    """Return the ``count + 1`` edges of quarter-octave bins: edge ``4 e + i`` is ``2**e (1 + i/4)``."""
    index = np.arange(first_bin, first_bin + count + 1)
    return np.asarray(np.ldexp(1 + (index % 4) / 4, index // 4))


@styled
def densities(panels: Sequence[Density], name: str, title: str, description: str) -> Figure:
    """Draw the density of the magnitudes with fitted densities over it, both axes logarithmic.

    Parameters
    ----------
    panels : sequence of Density
        One panel each; a single one is drawn larger.
    name, title, description : str
        As in `Figure`.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    canvas, axes = axes_grid(4.0 if len(panels) == 1 else 0.5 + 2.1 * rows, rows, columns)
    looks = zip(COLOURS, ("-", "--", (0, (1, 1.2)), "-."), strict=False)
    look = dict(zip(dict.fromkeys(c for panel in panels for c in panel.curves), looks, strict=False))
    for ax, panel in zip(axes, panels, strict=False):
        edges, bins = bin_edges(panel.first_bin, len(panel.bins)), np.asarray(panel.bins, dtype=np.float64)
        density = bins / (bins.sum() * np.diff(edges))
        # The plateau toward zero is as wide as the range of the dtype: show what holds all but 1/200 of it.
        first = int(np.searchsorted(np.cumsum(bins), bins.sum() / 200))
        shown = density[first:][bins[first:] > 0]
        ax.stairs(density, edges, fill=True, color=GRID, baseline=shown.min() / 100, label="weights")
        ax.stairs(density, edges, color=MUTED, linewidth=0.8, baseline=None)
        x = np.geomspace(edges[first], edges[-1] * 1.25, 400)
        for curve, pdf in panel.curves.items():
            colour, dashes = look[curve]
            ax.plot(x, pdf(x), color=colour, linestyle=dashes, linewidth=1.6, label=curve)
        ax.set(xscale="log", yscale="log", xlim=(x[0], x[-1]), ylim=(shown.min() / 2, shown.max() * 4))
        ax.grid(visible=True)
        ax.minorticks_off()
        if len(panels) > 1:
            ax.set_title(shortened(panel.title, 30), fontsize=9)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    canvas.supxlabel("magnitude |w|", fontsize=10)
    canvas.supylabel("density of |w|", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return Figure(name, title, description, canvas)


@dataclass(frozen=True)
class ShapePoint:
    """One mark of `shapes`: a tensor, the number of its layer (None if it has none), and the fitted shape."""

    label: str
    layer: int | None
    shape: float


@styled
def shapes(points: Mapping[str, Sequence[ShapePoint]], name: str, title: str, description: str) -> Figure:
    """Draw fitted shapes by layer, with a mark for each kind of tensor; those outside the layers stand at the right.

    Parameters
    ----------
    points : dict of str to sequence of ShapePoint
        By kind.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = axes_grid(3.4)
    layers = [point.layer for few in points.values() for point in few if point.layer is not None]
    aside = max(layers, default=-1) + 1
    # Kinds stand side by side within a layer, so that marks of the same shape do not hide each other.
    apart = min(0.12, 0.6 / len(points))
    hints = {}
    for i, (kind, few) in enumerate(points.items()):
        shift = apart * (i - (len(points) - 1) / 2)
        x = [(aside if point.layer is None else point.layer) + shift for point in few]
        ax.plot(x, [point.shape for point in few], linestyle="none", label=kind, gid=f"marks-{i}", **mark_style(i, 6.0))
        hints[f"marks-{i}"] = [f"{point.label} ({kind}): shape {point.shape:.3f}" for point in few]
    for value, law in ((1.0, "Laplace"), (2.0, "Gaussian")):
        ax.axhline(value, color=MUTED, linestyle="--", linewidth=0.9)
        ax.annotate(law, (1.0, value), xycoords=("axes fraction", "data"), xytext=(2, 2), textcoords="offset points",
                    ha="right", fontsize=9)  # fmt: skip
    present = [*sorted(set(layers)), *([aside] if any(p.layer is None for few in points.values() for p in few) else [])]
    ticks = present[:: -(-len(present) // 24)]
    ax.set_xticks(ticks, ["none" if tick == aside else str(tick) for tick in ticks])
    ax.set(xlim=(present[0] - 0.6, present[-1] + 0.6), xlabel="layer", ylabel="shape")
    ax.grid(visible=True, axis="y")
    canvas.legend(loc="outside upper center", ncols=min(6, len(points)), handletextpad=0.2)
    return Figure(name, title, description, canvas, hints)


@styled
def value_density(
    formats: Sequence[Format],
    scales: Sequence[float] | None = None,
    bins: tuple[int, Sequence[int]] | None = None,
    name: str = "value-density",
    title: str = "The positive values of the formats",
    description: str = "One line for each positive value of each format, on a logarithmic axis.",
) -> Figure:
    """Draw the positive values of formats as lines on one logarithmic axis, over data if there is any.

    Parameters
    ----------
    formats : sequence of Format
        One row each.
    scales : sequence of float, optional
        What each format's values are multiplied by; by default 1.
    bins : tuple of int and sequence of int, optional
        The first bin and the counts of a histogram in quarter octaves, drawn above the rows.
    name, title, description : str
        As in `Figure`.

    Examples
    --------
    >>> import rf8sim
    >>> figure = value_density([rf8sim.get_format("rf8"), rf8sim.get_format("e4m3fn")])
    >>> figure.svg().startswith("<svg role=")
    True
    """
    factors = [1.0] * len(formats) if scales is None else list(scales)
    top = 0.0 if bins is None else 2.6
    canvas, [ax] = axes_grid(0.9 + 0.42 * (len(formats) + top))
    limits: list[float] = []
    least = -math.inf
    for row, (fmt, factor) in enumerate(zip(formats, factors, strict=True)):
        values = fmt.sides[0].magnitudes
        x = np.log2(values[values > 0] * factor)
        limits += [float(x[0]), float(x[-1])]
        # One path with gaps, which is a tenth of the bytes of a line for each value.
        heights = np.tile([row + 0.38, row - 0.38, math.nan], x.size)
        ax.plot(np.repeat(x, 3), heights, color=COLOURS[row % len(COLOURS)], linewidth=0.7)
    ticks, names = [float(row) for row in range(len(formats))], [fmt.name for fmt in formats]
    if bins is not None:
        counts = np.asarray(bins[1], dtype=np.float64)
        edges = np.log2(bin_edges(bins[0], counts.size))
        shares = counts / np.diff(edges)
        first = int(np.searchsorted(np.cumsum(counts), counts.sum() / 1000))
        limits += [float(edges[first]), float(edges[-1])]
        heights = -0.7 - (top - 0.4) * shares / shares.max()
        ax.stairs(heights, edges, baseline=-0.7, fill=True, color=GRID)
        ax.stairs(heights, edges, baseline=-0.7, color=MUTED, linewidth=0.8)
        ticks, names = [*ticks, -0.7 - top / 2], [*names, "weights"]
        least = float(edges[first]) - 4  # a format may reach far below any weight
    ax.set_xlim(max(min(limits), least) - 0.5, max(limits) + 0.5)
    ax.set_ylim(len(formats) - 0.5, -0.6 - top)
    ax.set_yticks(ticks, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=True, axis="x")
    ax.xaxis.set_major_locator(_integer_ticks())
    ax.xaxis.set_major_formatter(lambda x, _: f"$2^{{{x:.0f}}}$")
    ax.set_xlabel("magnitude")
    return Figure(name, title, description, canvas)


def _integer_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=12, integer=True)


@styled
def values_per_octave(
    formats: Sequence[Format],
    scales: Sequence[float],
    bins: tuple[int, Sequence[int]],
    ideal: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None,
    name: str,
    title: str,
    description: str,
) -> Figure:
    """Draw how many positive values each format has in each octave, over the weights.

    Parameters
    ----------
    formats : sequence of Format
        One line each.
    scales : sequence of float
        What each format's values are multiplied by.
    bins : tuple of int and sequence of int
        The first bin and the counts of a histogram in quarter octaves.
    ideal : callable, optional
        Values per octave as a function of the magnitude that would be best.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = axes_grid(3.6)
    counts = np.asarray(bins[1], dtype=np.float64)
    edges = np.log2(bin_edges(bins[0], counts.size))
    first = int(np.searchsorted(np.cumsum(counts), counts.sum() / 1000))
    low, high = np.floor(edges[first]) - 1, np.ceil(edges[-1]) + 1
    steps = np.arange(low, high + 1)
    tallest = 1.0
    for i, (fmt, scale) in enumerate(zip(formats, scales, strict=True)):
        values = fmt.sides[0].magnitudes
        number, _ = np.histogram(np.log2(values[values > 0] * scale), bins=steps)
        tallest = max(tallest, number.max())
        ax.stairs(number, steps, color=COLOURS[i % len(COLOURS)], linewidth=1.5, baseline=None, label=fmt.name)
    if ideal is not None:
        x = np.linspace(low, high, 200)
        best = ideal(np.exp2(x))
        tallest = max(tallest, float(best.max()))
        ax.plot(x, best, color=INK, linestyle="--", linewidth=1.3, label="best for the fit")
    shares = counts / np.diff(edges)
    ax.stairs(0.95 * tallest * shares / shares.max(), edges, fill=True, color=GRID, zorder=0, label="weights")
    ax.set(xlim=(low, high), ylim=(0, 1.05 * tallest), xlabel="magnitude", ylabel="values per octave")
    ax.set_xticks(steps[:: -(-len(steps) // 13)])
    ax.xaxis.set_major_formatter(lambda x, _: f"$2^{{{x:.0f}}}$")
    ax.grid(visible=True, axis="y")
    canvas.legend(loc="outside upper center", ncols=min(7, len(formats) + 2), handletextpad=0.4, columnspacing=1.2)
    return Figure(name, title, description, canvas)
