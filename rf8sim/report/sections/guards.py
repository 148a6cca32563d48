"""The section of a report with guard rails: the tensors to look at before a checkpoint is quantized, and why."""

from __future__ import annotations

from ..tables.experiment import label
from ..tables.table import MOST_ROWS, Column, Table
from .concerns import CHANNEL_DB, OVERFLOW, SENSITIVE_DB, UNDERFLOW, concerns, kept
from .contents import Contents
from .page import Section

__all__ = ["guards"]


def guards(contents: Contents, _: bool) -> Section:
    """List the tensors to check before a checkpoint is quantized."""
    experiment = contents.experiment
    unquantized = kept(experiment)
    weights = sum(tensor.count for tensor in unquantized)
    share = 100 * weights / experiment.total.count
    words = [
        f"Norms, embeddings, biases and vectors stay as they are unless a plan says otherwise: {len(unquantized)} of "
        f"{len(experiment.tensors)} tensors here, {share:.1f} % of the weights. They are measured nevertheless.",
        f"The table names tensors with an SQNR {SENSITIVE_DB:g} dB below the median of their scheme, with "
        f"{100 * UNDERFLOW:g} % of their weights rounded to zero or {100 * OVERFLOW:g} % beyond the range "
        f"(and twice as many as in all tensors), with a channel {CHANNEL_DB:g} dB below the median channel, or "
        "with values that are not finite.",
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
