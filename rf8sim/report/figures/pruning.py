"""The figure of quality against sparsity."""

from __future__ import annotations

from typing import Any

from ...models.evaluation import paired
from ...studies.pruning import Pruned, Sparsity
from .figure import COLOURS, MUTED, Figure, axes_grid, styled

__all__ = ["quality_against_sparsity"]


@styled
def quality_against_sparsity(sparsity: Sparsity) -> Figure:
    """Draw quality against sparsity and against rate.

    Parameters
    ----------
    sparsity : Sparsity
        The measurements.
    """
    canvas, axes = axes_grid(3.9, 1, 2, sharey=True)
    formats = list(dict.fromkeys(result.scheme for result in sparsity.results))
    with_loss = bool(sparsity.baseline)

    def height(result: Pruned) -> float:
        return paired(sparsity.baseline, result.losses)[0] if with_loss else result.cost.sqnr_db

    for i, fmt in enumerate(formats):
        colour = COLOURS[i % len(COLOURS)] if fmt != "float32" else MUTED
        for scope, dashes in (("tensor", "-"), ("global", "--")):
            curve = [r for r in sparsity.results if r.scheme == fmt and r.pattern.endswith("%")]
            curve = [r for r in curve if r.scope == scope or r.pattern == "0%"]
            if len(curve) < 2:
                continue
            look: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": ".", "linewidth": 1.0}
            axes[0].plot([100 * r.sparsity for r in curve], [height(r) for r in curve], label=f"{fmt}, {scope}", **look)
            if fmt != "float32":
                axes[1].plot([r.cost.bits_per_weight for r in curve], [height(r) for r in curve], **look)
        groups = [r for r in sparsity.results if r.scheme == fmt and ":" in r.pattern]
        if groups:
            look = {"color": colour, "linestyle": "none", "marker": "D", "markersize": 5}
            axes[0].plot([100 * r.sparsity for r in groups], [height(r) for r in groups], label=f"{fmt}, n:m", **look)
            if fmt != "float32":
                axes[1].plot([r.cost.bits_per_weight for r in groups], [height(r) for r in groups], **look)
    for ax, title in zip(axes, ("weights that are zero, %", "bits per weight, coded, everything counted"), strict=True):
        ax.grid(visible=True)
        ax.set_xlabel(title)
    axes[0].set_ylabel("loss added, nats per token" if with_loss else "SQNR in dB")
    if with_loss:
        axes[0].set_yscale("symlog", linthresh=0.01)
    canvas.legend(loc="outside upper center", ncols=3, handletextpad=0.4, columnspacing=1.2)
    return Figure(
        "sparsity",
        "Quality against sparsity and rate",
        "Left against the share of weights that are zero, right against the bits that the quantized weights take with "
        "their codes entropy-coded. Solid: the same share of each tensor; dashed: one threshold for all; diamonds: n "
        f"of m kept. {'The axis is linear below 0.01.' if with_loss else ''}".rstrip(),
        canvas,
    )
