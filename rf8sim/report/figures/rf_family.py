"""The figure of the RF family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...studies.rf_family import Member
from .figure import INK, MUTED, Figure, axes_grid, styled

__all__ = ["sqnr_by_parameters"]


@styled
def sqnr_by_parameters(members: Sequence[Member]) -> Figure:
    """Draw SQNR over exponent bits and depth, a panel for each shape."""
    shapes = list(dict.fromkeys(member.shape for member in members))
    ps, depths = (sorted({getattr(member, name) for member in members}) for name in ("p", "depth"))
    canvas, axes = axes_grid(2.9, 1, len(shapes), sharey=True)
    lowest, highest = (limit(member.sqnr_db for member in members) for limit in (min, max))
    for ax, shape in zip(axes, shapes, strict=True):
        grid = np.full((len(depths), len(ps)), np.nan)
        for member in (member for member in members if member.shape == shape):
            row, column = depths.index(member.depth), ps.index(member.p)
            grid[row, column] = member.sqnr_db
            light = member.sqnr_db > (lowest + highest) / 2
            text = f"{member.sqnr_db:.1f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if light else INK)
        ax.imshow(grid, origin="lower", aspect="auto", cmap="Blues", vmin=lowest - 5, vmax=highest)
        ax.set_xticks(range(len(ps)), [str(p) for p in ps])
        ax.set_yticks(range(len(depths)), [str(depth) for depth in depths])
        ax.set_title(f"shape {shape:g}", fontsize=9.5, color=MUTED)
        ax.tick_params(length=0)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
    axes[0].set_ylabel("depth")
    canvas.supxlabel("exponent bits p", fontsize=10)
    return Figure(
        "rf_family",
        "SQNR of RF(p, depth) on generalized Gaussian weights, dB",
        "Each cell is a format of 2 + p + log2(depth) bits at its best scale, a panel for each shape of the weights "
        "(2 is Gaussian, 1 Laplace, below that heavier tails). Cells that are left out need more than 8 bits.",
        canvas,
    )
