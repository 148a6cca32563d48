"""More figures of a report: a heat map, shapes by layer, how finely a format divides each octave, error and area."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...formats import Format
from .figures import _GRID, _INK, _MUTED, COLOURS, Figure, _canvas, _mark, _styled, bin_edges

__all__ = ["AreaPoint", "ShapePoint", "error_against_area", "heat_map", "shapes", "values_per_octave"]

_STRONGEST = 0.6  # opacity of a cell: ink must stay legible on it


@_styled
def heat_map(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[float | None]],
    name: str,
    title: str,
    description: str,
    across: str,
    unit: str,
) -> Figure:
    """Draw numbers as cells that are the darker the lower the number; the number itself stands in them if it fits.

    Parameters
    ----------
    columns : sequence of str
        Their labels.
    rows : dict of str to sequence of float or None
        By label a number for each column; None leaves the cell empty.
    name, title, description : str
        As in `Figure`.
    across, unit : str
        What the columns are, and the unit of the numbers.
    """
    from matplotlib.patches import Rectangle

    canvas, [ax] = _canvas(0.9 + 0.42 * len(rows))
    known = [value for row in rows.values() for value in row if value is not None]
    low, high = min(known), max(known)
    hints = {}
    for y, (label, row) in enumerate(rows.items()):
        for x, value in enumerate(row):
            if value is None:
                continue
            strength = 0.05 + (_STRONGEST - 0.05) * ((high - value) / (high - low) if high > low else 0.0)
            gid = f"cell-{y}-{x}"
            cell = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=COLOURS[0], alpha=strength, linewidth=0, gid=gid)
            ax.add_patch(cell)
            hints[gid] = [f"{label}, {across} {columns[x]}: {value:.2f} {unit}"]
            if len(columns) <= 16:
                ax.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=9)
    step = -(-len(columns) // 24)
    ax.set_xticks(range(0, len(columns), step), columns[::step])
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlim=(-0.6, len(columns) - 0.4), ylim=(len(rows) - 0.4, -0.6), xlabel=across)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return Figure(name, title, description, canvas, hints)


@dataclass(frozen=True)
class ShapePoint:
    """One mark of `shapes`: a tensor, the number of its layer (None if it has none), and the fitted shape."""

    label: str
    layer: int | None
    shape: float


@_styled
def shapes(points: Mapping[str, Sequence[ShapePoint]], name: str, title: str, description: str) -> Figure:
    """Draw fitted shapes by layer, the kinds of tensors told apart; those outside the layers stand at the right.

    Parameters
    ----------
    points : dict of str to sequence of ShapePoint
        By kind.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = _canvas(3.4)
    layers = [point.layer for few in points.values() for point in few if point.layer is not None]
    aside = max(layers, default=-1) + 1
    # Kinds stand side by side within a layer, so that marks of the same shape do not hide each other.
    apart = min(0.12, 0.6 / len(points))
    hints = {}
    for i, (kind, few) in enumerate(points.items()):
        shift = apart * (i - (len(points) - 1) / 2)
        x = [(aside if point.layer is None else point.layer) + shift for point in few]
        ax.plot(x, [point.shape for point in few], linestyle="none", label=kind, gid=f"marks-{i}", **_mark(i, 6.0))
        hints[f"marks-{i}"] = [f"{point.label} ({kind}): shape {point.shape:.3f}" for point in few]
    for value, law in ((1.0, "Laplace"), (2.0, "Gaussian")):
        ax.axhline(value, color=_MUTED, linestyle="--", linewidth=0.9)
        ax.annotate(law, (1.0, value), xycoords=("axes fraction", "data"), xytext=(2, 2), textcoords="offset points",
                    ha="right", fontsize=9)  # fmt: skip
    present = [*sorted(set(layers)), *([aside] if any(p.layer is None for few in points.values() for p in few) else [])]
    ticks = present[:: -(-len(present) // 24)]
    ax.set_xticks(ticks, ["none" if tick == aside else str(tick) for tick in ticks])
    ax.set(xlim=(present[0] - 0.6, present[-1] + 0.6), xlabel="layer", ylabel="shape")
    ax.grid(visible=True, axis="y")
    canvas.legend(loc="outside upper center", ncols=min(6, len(points)), handletextpad=0.2)
    return Figure(name, title, description, canvas, hints)


@_styled
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
    canvas, [ax] = _canvas(3.6)
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
        ax.plot(x, best, color=_INK, linestyle="--", linewidth=1.3, label="best for the fit")
    shares = counts / np.diff(edges)
    ax.stairs(0.95 * tallest * shares / shares.max(), edges, fill=True, color=_GRID, zorder=0, label="weights")
    ax.set(xlim=(low, high), ylim=(0, 1.05 * tallest), xlabel="magnitude", ylabel="values per octave")
    ax.set_xticks(steps[:: -(-len(steps) // 13)])
    ax.xaxis.set_major_formatter(lambda x, _: f"$2^{{{x:.0f}}}$")
    ax.grid(visible=True, axis="y")
    canvas.legend(loc="outside upper center", ncols=min(7, len(formats) + 2), handletextpad=0.4, columnspacing=1.2)
    return Figure(name, title, description, canvas)


@dataclass(frozen=True)
class AreaPoint:
    """One mark of `error_against_area`: a block, its gate equivalents, and SQNR in dB."""

    block: str
    gates: float
    sqnr_db: float


@_styled
def error_against_area(points: Mapping[str, Sequence[AreaPoint]], name: str, title: str, description: str) -> Figure:
    """Draw SQNR against gates.

    Parameters
    ----------
    points : dict of str to sequence of AreaPoint
        By format.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = _canvas(3.6)
    hints = {}
    for i, (fmt, few) in enumerate(points.items()):
        x, y = [point.gates for point in few], [point.sqnr_db for point in few]
        ax.plot(x, y, linestyle="none", label=fmt, gid=f"marks-{i}", **_mark(i, 9.0))
        hints[f"marks-{i}"] = [f"{p.block}, {fmt}: {p.gates:.0f} gates, {p.sqnr_db:.2f} dB" for p in few]
    ax.set_xlim(0, 1.1 * max(point.gates for few in points.values() for point in few))
    ax.set(xlabel="gate equivalents", ylabel="SQNR in dB")
    ax.grid(visible=True)
    canvas.legend(loc="outside upper center", ncols=min(6, len(points)), handletextpad=0.3)
    return Figure(name, title, description, canvas, hints)
