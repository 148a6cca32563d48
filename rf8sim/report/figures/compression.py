"""The figure of a model's distortion against its rate, by the way of rounding."""

from __future__ import annotations

import math

from ...compression.methods import METHODS, Compression
from .figure import Figure, axes_grid, mark_style, styled

__all__ = ["frontier"]


@styled
def frontier(compressed: Compression) -> Figure:
    """Draw the distortion of the outputs against the bits per weight.

    Parameters
    ----------
    compressed : Compression
        The measurements.
    """
    canvas, axes = axes_grid(4.2)
    with_decibels = compressed.task == "outputs"
    for i, name in enumerate(METHODS):
        points = sorted((p for p in compressed.points if p.method == name), key=lambda p: p.bits_per_weight)
        if points:
            heights = [-10 * math.log10(p.distortion) if with_decibels else p.distortion for p in points]
            axes[0].plot([p.bits_per_weight for p in points], heights, label=name, linewidth=1.0, **mark_style(i, 5))
    axes[0].grid(visible=True)
    axes[0].set_xlabel("bits per weight, coded, tables and scales counted")
    axes[0].set_ylabel("SQNR of the outputs in dB" if with_decibels else "divergence, nats per token")
    if not with_decibels:
        axes[0].set_yscale("log")
    canvas.legend(loc="outside upper center", ncols=3, handletextpad=0.4, columnspacing=1.2)
    return Figure(
        "compress",
        "Distortion against rate",
        "Each mark is the model at one worth of a bit, all matrices rounded in that way, measured on held-out text.",
        canvas,
    )
