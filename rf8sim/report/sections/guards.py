"""The section of a report with guard rails: the tensors to look at before a checkpoint is quantized, and why."""

from __future__ import annotations

from ..tables.experiment import label
from ..tables.table import MOST_ROWS, Column, Table
from .concerns import CHANNEL_DB, DEVIATIONS, OVERFLOW, SENSITIVE_DB, UNDERFLOW, concerns
from .contents import Contents
from .defaults import kept
from .page import Section

__all__ = ["guards"]


def guards(contents: Contents, _: bool) -> Section:
    """List the tensors to check before a checkpoint is quantized."""
    experiment = contents.experiment
    unquantized = kept(experiment)
    weights = sum(tensor.count for tensor in unquantized)
    share = 100 * weights / experiment.total.count
    words = [
        f"rf8sim quantize keeps {len(unquantized)} of {len(experiment.tensors)} tensors ({share:.1f} % of the weights: "
        "norms, embeddings, biases, vectors) in their own dtype unless --everything or a plan includes them.",
        f"The table lists what is unusual in this model: of the tensors that are quantized, those that lie more than "
        f"{DEVIATIONS:g} robust standard deviations from the median tensor of the scheme, and are at least "
        f"{SENSITIVE_DB:g} dB below it, have a channel {CHANNEL_DB:g} dB below the median channel, or more than "
        f"{100 * UNDERFLOW:g} % of the weights rounded to zero or {100 * OVERFLOW:g} % clipped by a scale that was not "
        "chosen for least error (and twice the overall share); and all tensors with values that are not finite.",
    ]
    listed = concerns(experiment)
    if not listed:
        words.append("No tensor meets these conditions.")
    names = {label(experiment, tensor) for tensor in unquantized}
    columns = (
        Column("tensor"), Column("weights", "count"), Column("scheme"), Column("what", "note"), Column("advice"),
        Column("kept by default"),
    )  # fmt: skip
    rows = tuple(
        (
            item.tensor,
            item.weights,
            item.scheme or "any",
            item.what,
            item.advice,
            "yes" if item.tensor in names else "no",
        )
        for item in listed
    )
    shown = (Table("Tensors to check", columns, rows, folded=len(rows) > MOST_ROWS),) if rows else ()
    return Section("guards", "Guard rails", tuple(words), shown)
