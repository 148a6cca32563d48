"""Sections of a page about rate against distortion."""

from __future__ import annotations

import math

import numpy as np

from ...entropy.code_lengths import MAX_LENGTH
from ...models.evaluation import paired
from ...studies.tradeoff import ALL, CODE_COLUMNS, Point, Tradeoff
from ..figures import tradeoff as figures
from ..tables.table import Column, Table
from .page import Section

__all__ = ["codes", "entropy_codes", "kinds", "method", "points", "totals", "verdict"]


def points(measured: Tradeoff, kind: str = ALL) -> Table:
    """List the quantizers on all weights, or on a kind of them."""
    columns = [
        Column("quantizer"), Column("bits/w., not coded", ".3f"), Column("entropy", ".3f"),
        Column("bits/w., coded", ".3f"), Column("SQNR, dB", ".2f"), Column("to uniform coded, dB", "+.2f"),
    ]  # fmt: skip
    with_loss = kind == ALL and bool(measured.baseline)
    columns += [Column("loss added", "+.5f"), Column("std. error", ".5f")] if with_loss else []
    rows = []
    for point in measured.of_kind(kind):
        cost = point.cost
        row = [point.label, point.width, cost.entropy_per_weight, cost.bits_per_weight]
        sqnr = None if math.isnan(cost.sqnr_db) else cost.sqnr_db
        row += [sqnr, _beside_uniform(measured, point)]
        row += [_existing(value) for value in paired(measured.baseline, point.losses)] if with_loss else []
        rows.append(tuple(row))
    return Table("All weights" if kind == ALL else f"Kind: {kind}", tuple(columns), tuple(rows))


def _existing(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _beside_uniform(measured: Tradeoff, point: Point) -> float | None:
    """Return a format's SQNR less that of the uniform quantizer at the same rate, read between the points measured."""
    uniform = sorted(
        (p.cost.bits_per_weight, p.cost.sqnr_db) for p in measured.of_kind(point.kind) if p.step is not None
    )
    bits = point.cost.bits_per_weight
    if point.step is not None or len(uniform) < 2 or not math.isfinite(point.cost.sqnr_db):
        return None
    rates, heights = ([pair[i] for pair in uniform] for i in (0, 1))
    if bits < rates[0]:
        return None
    if bits > rates[-1]:  # 6.02 dB a bit
        return point.cost.sqnr_db - heights[-1] - 20 * math.log10(2) * (bits - rates[-1])
    return point.cost.sqnr_db - float(np.interp(bits, rates, heights))


def codes(measured: Tradeoff) -> Table:
    """Compare the codes for the codes of each format."""
    columns = (Column("scheme"), *(Column(name, ".3f") for name in CODE_COLUMNS))
    return Table(
        "Bits per weight by entropy code, tables included", columns, tuple((c.scheme, *c.bits) for c in measured.codes)
    )


def verdict(measured: Tradeoff) -> list[str]:
    """Compare formats and entropy codes in sentences.

    Parameters
    ----------
    measured : Tradeoff
        The measurements.

    Returns
    -------
    list of str
        Sentences.
    """
    formats = [point for point in measured.of_kind(ALL) if point.step is None]
    sentences = []
    gaps = {p.quantizer: gap for p in formats if (gap := _beside_uniform(measured, p)) is not None}
    if gaps:
        ranked = ", ".join(f"{name} {gaps[name]:+.1f} dB" for name in sorted(gaps, key=lambda name: -gaps[name]))
        sentences.append(
            f"SQNR with entropy-coded codes, relative to a uniform quantizer of the same rate: {ranked}. "
            + _why_beside_uniform([name for name, gap in gaps.items() if gap > 0.05])
        )
    saved = {p.quantizer: p.width - p.cost.bits_per_weight for p in formats}
    if saved:
        best, least = max(saved, key=lambda name: saved[name]), min(saved, key=lambda name: saved[name])
        sentences.append(
            f"Entropy coding saves from {saved[least]:.2f} ({least}) to {saved[best]:.2f} bits per weight ({best})."
        )
    for costs in measured.codes[:1]:
        bits = dict(zip(CODE_COLUMNS, costs.bits, strict=True))
        over = {name: 100 * (bits[name] / bits["entropy"] - 1) for name in CODE_COLUMNS}
        sentences.append(
            f"Over the entropy of {costs.scheme}'s codes, tables included: rANS {over['rANS']:.2f} %, Huffman "
            f"{over['Huffman']:.2f} %, Exp-Golomb with the best k {over['Exp-Golomb, best k']:.1f} %, with k = 0 "
            f"{over['Exp-Golomb, k = 0']:.0f} %, with k = 0 and symbols in the order of values "
            f"{over['Exp-Golomb of values, k = 0']:.0f} %."
        )
    if measured.baseline:
        within = [p.quantizer for p in formats if abs(paired(measured.baseline, p.losses)[0]) <= 0.01]
        if within:
            sentences.append(f"The model's loss changes by at most 0.01 nats per token with {', '.join(within)}.")
    return sentences


def _why_beside_uniform(above: list[str]) -> str:
    """Explain the signs: none of one scale for a tensor can be above but where weights are not independent."""
    if not above:
        return (
            "A uniform quantizer with an entropy coder is the best scalar quantizer at these rates, so finer steps "
            "near zero cost SQNR; a format with such steps has range and cheap arithmetic instead."
        )
    return (
        f"Above it {'is' if len(above) == 1 else 'are'} {', '.join(above)}: with one step and one code for a tensor a "
        "uniform quantizer is the best at these rates only if its weights are alike throughout, and finer steps where "
        "weights are small, or scales of blocks, follow those that differ."
    )


def totals(measured: Tradeoff, with_figures: bool) -> Section:
    """Show the quantizers on all weights."""
    drawn = [figures.by_kind(measured)] if with_figures else []
    drawn += [figures.losses(measured)] if with_figures and measured.baseline else []
    return Section("totals", "All weights", (), (points(measured),), tuple(drawn))


def kinds(measured: Tradeoff, _: bool) -> Section | None:
    """Show them on each kind of tensor."""
    shown = tuple(points(measured, kind) for kind in measured.kinds if kind != ALL)
    return Section("kinds", "By kind of tensor", (), shown) if shown else None


def entropy_codes(measured: Tradeoff, _: bool) -> Section:
    """Compare the entropy codes."""
    words = (
        "For the same codes, the mean length of each entropy code and its table, without heads of blocks. Huffman "
        f"codes have at most {MAX_LENGTH} bits. Exp-Golomb and Golomb-Rice code the rank of a code, by falling count "
        "in the tensor (which the table lists), or by value, as in the literature (0, +1, -1, +2 and so on, which "
        "needs no table).",
    )
    return Section("codes", "Entropy codes compared", words, (codes(measured),))


def method(measured: Tradeoff, _: bool) -> Section:
    """Say how it was measured."""
    words = (
        f"Each of the {len(measured.tensors)} tensors of {measured.checkpoint} with two or more axes is coded by "
        "itself. Formats have one scale for each tensor, of least error, unless their name says more. The uniform "
        "quantizers have a step that is a multiple of each tensor's root mean square, and indices without bounds: "
        "those beyond 127 are coded as an escape, a sign and an Exp-Golomb code.",
        "Bounds hold under the generalized Gaussian fitted to each tensor (shape to two digits), as if its weights "
        "were independent, with the best allocation of bits to tensors. A tensor whose channels differ can do better "
        "than its fit predicts.",
    )
    terms = (
        ("bits/w., not coded", "the width of a code, and the scales"),
        ("entropy", "that of the codes alone in each tensor: a bound"),
        ("bits/w., coded", f"a file with {measured.entropy} codes: scales, tables, heads and checksums counted"),
        (
            "to uniform coded",
            "SQNR less that of the uniform quantizers, interpolated to the same coded rate; beyond the finest of them "
            "continued by 6.02 dB a bit",
        ),
    )
    return Section("method", "How it was measured", words, terms=terms)
