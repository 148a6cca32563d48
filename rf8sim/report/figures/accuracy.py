"""Figures of accuracy: by tensor, by layer and kind, against rate, against circuit area."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .figure import COLOURS, MUTED, Curve, Figure, axes_grid, mark_style, shortened, styled

__all__ = ["AreaPoint", "RatePoint", "error_against_area", "heat_map", "rate_quality", "sqnr"]

_STRONGEST = 0.6  # opacity of a cell: ink must stay legible on it


@styled
def sqnr(
    labels: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    name: str,
    title: str,
    description: str,
) -> Figure:
    """Draw one row for each tensor, or other thing, and one mark for each format.

    Parameters
    ----------
    labels : sequence of str
        Names of the tensors, the first at the top.
    values : dict of str to sequence of float or None
        For each format the SQNR of each tensor in dB; None or infinite is not drawn.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = axes_grid(1.1 + 0.24 * len(labels))
    rows = np.arange(len(labels))
    hints = {}
    for i, (fmt, row) in enumerate(values.items()):
        x = [math.nan if v is None or math.isinf(v) else v for v in row]
        ax.plot(x, rows, linestyle="none", label=fmt, alpha=0.9, gid=f"marks-{i}", **mark_style(i, 6.0))
        shown = zip(labels, x, strict=True)
        hints[f"marks-{i}"] = [f"{label}, {fmt}: {v:.2f} dB" for label, v in shown if not math.isnan(v)]
    ax.set_yticks(rows, [shortened(label, 38) for label in labels], fontsize=9)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(visible=True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("SQNR in dB (more is better)")
    canvas.legend(loc="outside upper center", ncols=min(5, len(values)), handletextpad=0.2)
    return Figure(name, title, description, canvas, hints)


@dataclass(frozen=True)
class RatePoint:
    """One mark of `rate_quality`: whose it is, bits per weight after entropy coding, and SQNR in dB."""

    label: str
    bits: float
    sqnr_db: float


@styled
def rate_quality(
    points: Mapping[str, Sequence[RatePoint]],
    totals: Mapping[str, RatePoint],
    bound: tuple[str, Curve] | None,
    levels: Mapping[str, float],
    name: str,
    title: str,
    description: str,
) -> Figure:
    """Draw quality against rate: a small mark for each tensor, a large one for all weights.

    Parameters
    ----------
    points : dict of str to sequence of RatePoint
        By format.
    totals : dict of str to RatePoint
        By format.
    bound : tuple of str and callable, optional
        A limit to draw: its label, and SQNR in dB as a function of bits per weight.
    levels : dict of str to float
        Limits that do not depend on the rate: SQNR in dB by their labels.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = axes_grid(4.4)
    hints = {}
    for i, fmt in enumerate(points):
        few = points[fmt]
        if len(few) > 1:
            bits, quality = [mark.bits for mark in few], [mark.sqnr_db for mark in few]
            ax.plot(bits, quality, linestyle="none", alpha=0.55, gid=f"marks-{i}", **mark_style(i, 4.5))
            hints[f"marks-{i}"] = [_rate_hint(fmt, mark) for mark in few]
        if fmt in totals:
            total = totals[fmt]
            look = mark_style(i, 9.0)
            ax.plot([total.bits], [total.sqnr_db], linestyle="none", label=fmt, gid=f"total-{i}", zorder=3, **look)
            hints[f"total-{i}"] = [_rate_hint(fmt, total)]
    lines = 0
    for label, height in levels.items():
        ax.axhline(height, color=MUTED, linestyle=(0, (1, 1.5)), linewidth=1.2, label=label)
        lines += 1
    if bound is not None:
        x = np.linspace(*ax.get_xlim(), 50)
        ax.plot(x, bound[1](x), color=MUTED, linestyle="--", linewidth=1.2, label=bound[0])
        lines += 1
    ax.grid(visible=True)
    ax.set(xlabel="bits per weight with ideal entropy coding, scales included", ylabel="SQNR in dB")
    columns = min(4, len(totals) + lines)
    canvas.legend(loc="outside upper center", ncols=columns, handletextpad=0.4, columnspacing=1.2)
    return Figure(name, title, description, canvas, hints)


def _rate_hint(fmt: str, mark: RatePoint) -> str:
    return f"{mark.label}, {fmt}: {mark.sqnr_db:.2f} dB at {mark.bits:.3f} bits per weight"


@styled
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

    A legend gives the numbers of some strengths of the colour.

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
    from matplotlib.patches import Patch, Rectangle

    canvas, [ax] = axes_grid(1.35 + 0.42 * len(rows))
    known = [value for row in rows.values() for value in row if value is not None]
    low, high = min(known), max(known)

    def strength(value: float) -> float:
        return 0.05 + (_STRONGEST - 0.05) * ((high - value) / (high - low) if high > low else 0.0)

    hints = {}
    for y, (label, row) in enumerate(rows.items()):
        for x, value in enumerate(row):
            if value is None:
                continue
            gid = f"cell-{y}-{x}"
            style: dict[str, Any] = {"color": COLOURS[0], "alpha": strength(value), "linewidth": 0, "gid": gid}
            ax.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, **style))
            hints[gid] = [f"{label}, {across} {columns[x]}: {value:.2f} {unit}"]
            if len(columns) <= 16:
                ax.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=9)
    levels = [high - i * (high - low) / 4 for i in range(5)] if high > low else [high]
    handles = [Patch(color=COLOURS[0], alpha=strength(level), linewidth=0) for level in levels]
    labels = [f"{level:.1f} {unit}" for level in levels]
    canvas.legend(handles, labels, loc="outside upper center", ncols=len(levels), handlelength=1.6, columnspacing=1.4)
    step = -(-len(columns) // 24)
    ax.set_xticks(range(0, len(columns), step), columns[::step])
    ax.set_yticks(range(len(rows)), [shortened(label, 30) for label in rows])
    ax.set(xlim=(-0.6, len(columns) - 0.4), ylim=(len(rows) - 0.4, -0.6), xlabel=across)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return Figure(name, title, description, canvas, hints)


@dataclass(frozen=True)
class AreaPoint:
    """One mark of `error_against_area`: a block, its gate equivalents, and SQNR in dB."""

    block: str
    gates: float
    sqnr_db: float


@styled
def error_against_area(points: Mapping[str, Sequence[AreaPoint]], name: str, title: str, description: str) -> Figure:
    """Draw SQNR against gates.

    Parameters
    ----------
    points : dict of str to sequence of AreaPoint
        By format.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = axes_grid(3.6)
    hints = {}
    for i, (fmt, few) in enumerate(points.items()):
        x, y = [point.gates for point in few], [point.sqnr_db for point in few]
        ax.plot(x, y, linestyle="none", label=fmt, gid=f"marks-{i}", **mark_style(i, 9.0))
        hints[f"marks-{i}"] = [f"{p.block}, {fmt}: {p.gates:.0f} gates, {p.sqnr_db:.2f} dB" for p in few]
    ax.set_xlim(0, 1.1 * max(point.gates for few in points.values() for point in few))
    ax.set(xlabel="gate equivalents", ylabel="SQNR in dB")
    ax.grid(visible=True)
    canvas.legend(loc="outside upper center", ncols=min(6, len(points)), handletextpad=0.3)
    return Figure(name, title, description, canvas, hints)
