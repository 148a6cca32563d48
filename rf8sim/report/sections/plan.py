"""A plan for people: the table of its choices, and what it comes to in words."""

from __future__ import annotations

import math

from ..._base.display import bits_in_words
from ...studies.planning import Planned
from .tables import Column, Table

__all__ = ["choices", "summary"]


def choices(found: Planned) -> Table:
    """List what each tensor gets."""
    columns = (
        Column("tensor"), Column("format"), Column("scaling"), Column("weights", "count"), Column("bits/w.", ".3f"),
        Column("SQNR, dB", ".2f"),
    )  # fmt: skip
    rows = [
        (
            choice.name,
            choice.recipe.format,
            choice.recipe.scaling,
            choice.cost.weights,
            choice.cost.bits_per_weight,
            None if math.isnan(choice.cost.sqnr_db) else choice.cost.sqnr_db,
        )
        for choice in found.choices
    ]
    return Table(f"Plan for {found.budget.text}", columns, tuple(rows))


def summary(found: Planned) -> list[str]:
    """Say what the plan comes to, measured again, and how far from the best it can be.

    Parameters
    ----------
    found : Planned
        The plan.

    Returns
    -------
    list of str
        Sentences.
    """
    said = [
        f"{bits_in_words(found.bits)}. "
        f"{found.sqnr_db:.2f} dB SQNR over the planned tensors, {found.worst_sqnr_db:.2f} dB in the worst of them."
    ]
    if found.below is None:
        said.append(
            f"The fewest bits on the convex hull of {found.candidates} candidates a tensor; the loss is measured, so "
            "no bound says what other plans could reach."
        )
    elif found.budget.quantity == "bits":
        gap = found.below - found.sqnr_db
        room = "it is the best" if gap < 5e-4 else f"at most {found.below:.3f} dB is possible"
        said.append(f"Of {found.candidates} candidates a tensor, with a header of this size and this budget, {room}.")
    else:
        gap = found.bits_per_weight - found.below
        room = "it has the fewest bits" if gap < 5e-5 else f"at least {found.below:.4f} bits are needed"
        said.append(f"Of {found.candidates} candidates a tensor, with a header of this size and this budget, {room}.")
    if found.loss is not None and found.baseline is not None:
        share = 100 * (found.loss / found.baseline - 1)
        said.append(
            f"The model's loss is {found.loss:.4f} nats per token, against {found.baseline:.4f} as it is "
            f"({share:+.2f} %)."
        )
    return said
