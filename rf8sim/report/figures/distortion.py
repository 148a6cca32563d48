"""The figure of a quantized checkpoint compared with its original."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...studies.distortion import TensorDistortion
from .figure import MUTED, Figure, axes_grid, mark_style, shortened, styled

__all__ = ["sqnr_of_tensors"]

_CURVES = 8  # ways of storing with a colour and a marker of their own


@styled
def sqnr_of_tensors(tensors: Sequence[TensorDistortion], least: float | None = None) -> Figure:
    """Draw the SQNR of each tensor in the order of the original, a colour for each way of storing.

    Parameters
    ----------
    tensors : sequence of TensorDistortion
        All of them, at least one with a finite SQNR; others have no mark.
    least : float, optional
        A bound in dB, drawn as a line.
    """
    from matplotlib.ticker import MaxNLocator

    canvas, [ax] = axes_grid(3.6)
    ways = list(dict.fromkeys(tensor.stored_as for tensor in tensors if math.isfinite(tensor.sqnr_db)))
    hints = {}
    for i, way in enumerate(ways):
        marks = [(x, t) for x, t in enumerate(tensors) if t.stored_as == way and math.isfinite(t.sqnr_db)]
        places, values = [x for x, _ in marks], [t.sqnr_db for _, t in marks]
        label = shortened(way, 48) if i < _CURVES else "_"
        ax.plot(places, values, gid=f"way-{i}", linestyle="none", label=label, **mark_style(i, 4.5))
        hints[f"way-{i}"] = [f"{t.name}: {t.sqnr_db:.2f} dB, {t.bits_per_weight:.2f} bits per weight" for _, t in marks]
    if least is not None:
        ax.axhline(least, color=MUTED, linestyle="--", linewidth=1.0)
    ax.grid(visible=True, axis="y")
    ax.set_xlim(-1, len(tensors))
    ax.set_xlabel("tensors, in the order of the original")
    ax.set_ylabel("SQNR in dB")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    canvas.legend(loc="outside upper center", ncols=2, handletextpad=0.2, columnspacing=1.2)
    bound = "" if least is None else " The dashed line is the least SQNR that is required."
    return Figure(
        "distortion",
        "SQNR of each tensor",
        f"A mark for each tensor that changed; tensors of one kind that lie apart from the others stand out.{bound}",
        canvas,
        hints,
    )
