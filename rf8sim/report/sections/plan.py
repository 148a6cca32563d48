"""Sections of a page about a plan: its choices, and their cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from ..._base.display import bits_in_words
from ...studies.planning import Divergence, Planned
from ..tables.table import WORST, Column, Table, worst
from .page import Section

__all__ = ["as_data", "bits", "choices", "overview", "summary", "tensors"]


def choices(planned: Planned) -> Table:
    """List the scheme of each tensor."""
    columns = (
        Column("tensor"), Column("scheme"), Column("weights", "count"), Column("bits/w.", ".3f"),
        Column("SQNR, dB", ".2f"),
    )  # fmt: skip
    rows = [
        (
            choice.name,
            str(choice.recipe.scheme),
            choice.cost.weights,
            choice.cost.bits_per_weight,
            None if math.isnan(choice.cost.sqnr_db) else choice.cost.sqnr_db,
        )
        for choice in planned.choices
    ]
    return Table(f"Plan for {planned.budget.text}", columns, tuple(rows))


def overview(planned: Planned, rows: int | None = WORST) -> Table:
    """Return the table for a terminal: the tensors of lowest SQNR, or all, and the total."""
    table, costs = choices(planned), [choice.cost for choice in planned.choices]
    if len(costs) > 1:
        weights = sum(cost.weights for cost in costs)
        bits = sum(cost.bits_per_weight * cost.weights for cost in costs) / weights
        total = ("all planned", "", weights, bits, planned.sqnr_db)
        table = replace(table, rows=(*table.rows, total), has_total=True)
    quality = [math.inf if math.isnan(cost.sqnr_db) else cost.sqnr_db for cost in costs]
    return worst(table, quality, rows, "tensors of lowest SQNR")


def summary(planned: Planned) -> list[str]:
    """State the cost of the plan, measured again, and how far it is from the best possible.

    Parameters
    ----------
    planned : Planned
        The plan.

    Returns
    -------
    list of str
        Sentences.
    """
    sentences = [
        f"{bits_in_words(planned.bits)}. "
        f"{planned.sqnr_db:.2f} dB SQNR over the planned tensors, {planned.worst_sqnr_db:.2f} dB in the worst of these."
    ]
    schemes = f"the {planned.candidates} candidate schemes per tensor"
    header = f"(file header taken as {planned.bits.get('headers', 0.0):.3f} bits/w.)"
    if planned.divergence is not None:
        sentences += _divergence(planned.divergence, schemes)
    elif planned.below is None:
        sentences.append(
            f"The fewest bits on the convex hull of {schemes}. The loss is measured, so there is no bound for other "
            "plans."
        )
    elif planned.budget.quantity == "bits":
        gap = planned.below - planned.sqnr_db
        sentences.append(
            f"Optimal: no other assignment of {schemes} within the budget has a higher SQNR {header}."
            if gap < 5e-4
            else f"No assignment of {schemes} within the budget has more than {planned.below:.3f} dB {header}."
        )
    else:
        gap = planned.bits_per_weight - planned.below
        sentences.append(
            f"Optimal: no other assignment of {schemes} meets the budget with fewer bits {header}."
            if gap < 5e-5
            else f"No assignment of {schemes} meets the budget with less than {planned.below:.4f} bits/w. {header}."
        )
    if planned.loss is not None and planned.baseline is not None:
        share = 100 * (planned.loss / planned.baseline - 1)
        sentences.append(
            f"The model's loss is {planned.loss:.4f} nats per token, against {planned.baseline:.4f} unquantized "
            f"({share:+.2f} %)."
        )
    return sentences


_MISJUDGED = 1.25  # a ratio from which a sum of parts is no estimate of the sum


def _divergence(divergence: Divergence, schemes: str) -> Iterator[str]:
    """State the measured divergence, and whether the sum of what each tensor does alone misjudges it."""
    yield (
        f"Measured with all planned tensors quantized, on {divergence.tokens:,} predictions: a divergence of "
        f"{divergence.measured:.4g} nats per token. The fewest bits found on the convex hull of {schemes}; there is no "
        "bound for other plans."
    )
    ratio = divergence.measured / divergence.summed if divergence.summed > 0 else math.inf
    alone = (
        f"each tensor alone (measured in {divergence.scheme}, scaled by the squared error) adds up to "
        f"{divergence.summed:.4g}"
    )
    if ratio > _MISJUDGED:
        yield f"The sum misjudges it: {alone}, and together they cost {ratio:.2f} times that."
    elif ratio < 1 / _MISJUDGED:
        yield f"The sum misjudges it: {alone}, and together they cost only {ratio:.2f} times that."
    else:
        yield f"The sum is a fair estimate: {alone}, {ratio:.2f} times which was measured."


def as_data(planned: Planned) -> dict[str, Any]:
    """Return the plan and its cost as plain data for JSON; what is not finite is None."""
    chosen = [
        {
            "tensor": choice.name,
            "scheme": choice.recipe.scheme.text,
            "weights": choice.cost.weights,
            "bits_per_weight": choice.cost.bits_per_weight,
            "sqnr_db": _finite(choice.cost.sqnr_db),
        }
        for choice in planned.choices
    ]
    return {
        "schema": 1,
        "budget": planned.budget.text,
        "bits": dict(planned.bits),
        "bits_per_weight": planned.bits_per_weight,
        "sqnr_db": _finite(planned.sqnr_db),
        "worst_sqnr_db": _finite(planned.worst_sqnr_db),
        "limit": planned.below,
        "loss": planned.loss,
        "baseline": planned.baseline,
        **({} if planned.divergence is None else {"divergence": asdict(planned.divergence)}),
        "candidates": planned.candidates,
        "choices": chosen,
        "kept": list(planned.others),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def tensors(planned: Planned, _: bool) -> Section:
    """Show the choices."""
    return Section("tensors", "Tensor by tensor", (), (choices(planned),))


def bits(planned: Planned, _: bool) -> Section:
    """Show the parts of a file, and name the tensors that stay as they are."""
    columns = (Column("part"), Column("bits/w.", ".4f"))
    rows = (*planned.bits.items(), ("total", planned.bits_per_weight))
    words = ["The bits of the file that 'rf8sim quantize --plan' writes, divided by the number of its weights."]
    if planned.others:
        words.append(f"Tensors that stay unquantized: {', '.join(planned.others)}.")
    return Section("bits", "Size of the file", tuple(words), (Table("Bits per weight", columns, rows, has_total=True),))
