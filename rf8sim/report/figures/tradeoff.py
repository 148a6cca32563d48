"""The figures of rate against distortion."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...studies.tradeoff import ALL, Point, Tradeoff
from .figure import COLOURS, MARKERS, MUTED, Figure, axes_grid, shortened, styled

__all__ = ["by_kind", "losses"]


def _look(i: int, hollow: bool = False) -> dict[str, Any]:
    """Return a format's mark: more formats than colours have the colours again with other marks."""
    colour, marker = COLOURS[i % len(COLOURS)], MARKERS[(i + 3 * (i // len(COLOURS))) % len(MARKERS)]
    face = "none" if hollow else colour
    return {"linestyle": "none", "color": colour, "marker": marker, "markersize": 7.0, "markerfacecolor": face}


@styled
def by_kind(measured: Tradeoff) -> Figure:
    """Draw SQNR against bits per weight: a panel for all weights, and one for each kind if there are several.

    Parameters
    ----------
    measured : Tradeoff
        The measurements.
    """
    kinds = measured.kinds
    columns = min(2, len(kinds))
    canvas, axes = axes_grid(0.9 + 3.1 * -(-len(kinds) // columns), -(-len(kinds) // columns), columns)
    formats = [point.quantizer for point in measured.of_kind(ALL) if point.step is None]
    for ax, kind in zip(axes, kinds, strict=False):
        points = measured.of_kind(kind)
        uniform = [point for point in points if point.step is not None]
        rates = [point.cost.bits_per_weight for point in points]
        bounds = [b for b in measured.bounds if b.kind == kind and min(rates) - 0.25 <= b.bits <= max(rates) + 0.5]
        bits = [bound.bits for bound in bounds]
        ax.plot(bits, [b.shannon_db for b in bounds], color=MUTED, linestyle="--", label="Shannon bound")
        ax.plot(bits, [b.uniform_db for b in bounds], color=MUTED, linestyle=(0, (1, 1.2)), label="uniform, ideal code")
        complete = [b for b in bounds if b.lloyd_max_db is not None]
        ax.plot(
            [b.bits for b in complete],
            [b.lloyd_max_db or 0.0 for b in complete],
            color=MUTED,
            marker="_",
            markersize=11,
            linestyle="none",
            label="Lloyd-Max, not coded",
        )
        ax.plot(
            [p.cost.bits_per_weight for p in uniform],
            [p.cost.sqnr_db for p in uniform],
            color=MUTED,
            marker=".",
            linestyle="-",
            linewidth=0.8,
            label="uniform, coded",
        )
        for i, name in enumerate(formats):
            [point] = [point for point in points if point.quantizer == name]
            height = [point.cost.sqnr_db]
            ax.plot([point.cost.bits_per_weight], height, label=name, zorder=3, **_look(i))
            ax.plot([point.width], height, zorder=3, **_look(i, hollow=True))
        ax.set_title(shortened(kind, 30) if kind != ALL else "all weights", fontsize=9.5)
        ax.grid(visible=True)
    for ax in axes[len(kinds) :]:
        ax.set_axis_off()
    canvas.supxlabel("bits per weight, everything counted", fontsize=10)
    canvas.supylabel("SQNR in dB", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=4, handletextpad=0.4, columnspacing=1.2)
    return Figure(
        "tradeoff",
        "Rate against distortion",
        "Filled marks are formats with their codes entropy-coded, hollow ones the same without it; the thin line "
        "with points is an entropy-coded uniform quantizer. Every mark counts scales, tables and heads. Dashed is the "
        "Shannon lower bound, dotted the best uniform quantizer with an ideal code, bars the best quantizers of a "
        "number of values without one, all under generalized Gaussians fitted to each tensor.",
        canvas,
    )


@styled
def losses(measured: Tradeoff) -> Figure:
    """Draw what the model loses against bits per weight.

    Parameters
    ----------
    measured : Tradeoff
        Measurements with a model.
    """
    canvas, [ax] = axes_grid(3.8)
    baseline = np.array(measured.baseline)

    def cost(point: Point) -> tuple[float, float]:
        difference = np.array(point.losses) - baseline
        return float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)

    points = [point for point in measured.of_kind(ALL) if point.losses]
    uniform = [point for point in points if point.step is not None]
    ax.plot(
        [p.cost.bits_per_weight for p in uniform],
        [cost(p)[0] for p in uniform],
        color=MUTED,
        marker=".",
        linewidth=0.8,
        label="uniform, coded",
    )
    for i, point in enumerate(point for point in points if point.step is None):
        mean, error = cost(point)
        ax.errorbar([point.cost.bits_per_weight], [mean], yerr=[error], label=point.quantizer, **_look(i))
    ax.set_yscale("symlog", linthresh=0.01)
    ax.axhline(0.0, color=MUTED, linewidth=0.8)
    ax.grid(visible=True)
    ax.set(xlabel="bits per weight, everything counted", ylabel="loss added, nats per token")
    canvas.legend(loc="outside upper center", ncols=5, handletextpad=0.4, columnspacing=1.2)
    return Figure(
        "tradeoff-loss",
        "Loss added at each rate",
        "Loss added by quantizing all matrices of the model, with its standard error over windows; the axis is linear "
        "below 0.01.",
        canvas,
    )
