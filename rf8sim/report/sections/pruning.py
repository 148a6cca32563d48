"""Sections of a page about pruning: accuracy against sparsity."""

from __future__ import annotations

import math

from ...models.evaluation import paired
from ...studies.pruning import Pruned, Sparsity, underflow
from ..figures.pruning import quality_against_sparsity
from ..tables.table import Column, Table
from .page import Section

__all__ = ["method", "quality", "results", "verdict"]


def results(sparsity: Sparsity) -> Table:
    """List all results."""
    columns = [
        Column("pruned"), Column("scope"), Column("scheme"), Column("zeros, %", "percent"),
        Column("bits/w., coded", ".3f"), Column("SQNR, dB", ".2f"),
    ]  # fmt: skip
    columns += [Column("loss added", "+.5f"), Column("std. error", ".5f")] if sparsity.baseline else []
    rows = []
    for result in sparsity.results:
        sqnr = result.cost.sqnr_db
        row = [result.pattern, result.scope, result.scheme, result.sparsity, result.cost.bits_per_weight]
        row += [None if math.isnan(sqnr) else sqnr]
        row += (
            [v if math.isfinite(v) else None for v in paired(sparsity.baseline, result.losses)]
            if sparsity.baseline
            else []
        )
        rows.append(tuple(row))
    return Table("Pruned and quantized", tuple(columns), tuple(rows))


def _added(sparsity: Sparsity, result: Pruned) -> float:
    return paired(sparsity.baseline, result.losses)[0]


def verdict(sparsity: Sparsity) -> list[str]:
    """State in sentences what pruning costs and saves.

    Parameters
    ----------
    sparsity : Sparsity
        The measurements.

    Returns
    -------
    list of str
        Sentences.
    """
    sentences = []
    for fmt, share in underflow(sparsity.results):
        sentences.append(f"Without pruning, {fmt} rounds {100 * share:.3g} % of the weights to zero (underflow).")
    formats = [fmt for fmt in dict.fromkeys(result.scheme for result in sparsity.results) if fmt != "float32"]
    for fmt in formats[:1]:
        of_scheme = [result for result in sparsity.results if result.scheme == fmt]
        none = next((result for result in of_scheme if result.pattern == "0%"), None)
        if none is not None and sparsity.baseline:
            fine = [
                r for r in of_scheme if _added(sparsity, r) <= _added(sparsity, none) + 0.01 * _mean(sparsity.baseline)
            ]
            most = max(fine, key=lambda result: result.sparsity)
            sentences.append(
                f"In {fmt}, at most {100 * most.sparsity:.0f} % of the weights can be pruned within 1 % of the loss "
                f"without pruning (pattern {most.pattern}, {most.scope}), at "
                f"{most.cost.bits_per_weight:.2f} bits per weight instead of {none.cost.bits_per_weight:.2f}."
            )
        cut = [result for result in of_scheme if result.pattern == "80%" and sparsity.baseline]
        if cut:
            best = min(cut, key=lambda result: _added(sparsity, result))
            sentences.append(
                f"With 80 % pruned (scope {best.scope}, the better one) and no retraining, {fmt} takes "
                f"{best.cost.bits_per_weight:.2f} bits per weight and the loss rises by {_added(sparsity, best):.3f} "
                f"from {_mean(sparsity.baseline):.3f} nats per token. The literature reports that models trained "
                "under a rate constraint keep their accuracy at this sparsity; run this command on such a checkpoint "
                "to test it."
            )
    return sentences


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def quality(sparsity: Sparsity, with_figures: bool) -> Section:
    """Show all results."""
    drawn = (quality_against_sparsity(sparsity),) if with_figures else ()
    return Section("quality", "Quality by pattern", (), (results(sparsity),), drawn)


def method(sparsity: Sparsity, _: bool) -> Section:
    """Say how it was measured."""
    words = (
        f"The {len(sparsity.tensors)} tensors of {sparsity.checkpoint} that have two or more axes lose their weights "
        "of least magnitude. The rest is quantized (a bare format name means one scale for each tensor, of least "
        "error). SQNR compares with the weights before pruning.",
        f"Bits are those of a file with {sparsity.entropy} codes, everything counted; a frequent code such as that of "
        "zero is short. For float32 they are 32 bits for each weight left, and the entropy of the positions.",
    )
    terms = (
        ("tensor", "the same share of each tensor"),
        ("global", "one threshold for all tensors"),
        ("n:m", "all but n of each m neighbours in a row"),
    )
    return Section("method", "How it was measured", words, terms=terms)
