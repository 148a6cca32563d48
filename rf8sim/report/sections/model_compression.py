"""Sections of a page about a model compressed to a budget."""

from __future__ import annotations

import math

from ...compression.methods import BEST, METHODS, Compression
from ..figures.compression import frontier
from ..tables.table import Column, Table
from .page import Section

__all__ = ["curves", "method", "overview", "tensors", "verdict"]


def _level(compressed: Compression, distortion: float) -> str:
    if compressed.task == "outputs":
        return f"an SQNR of the outputs of {-10 * math.log10(distortion):.2f} dB"
    return f"a divergence of {distortion:.4g} nats per token"


def verdict(compressed: Compression) -> list[str]:
    """State in sentences what the model takes, and what each way of rounding would."""
    chosen = compressed.chosen
    sentences = [
        f"{compressed.model} takes {chosen.bits_per_weight:.3f} bits per weight in its {len(compressed.tensors)} "
        f"matrices ({compressed.weights:,} weights) at {_level(compressed, chosen.distortion)}, measured on "
        f"{compressed.judged:,} held-out {'samples' if compressed.task == 'outputs' else 'predictions'} of "
        f"{compressed.data} (budget {compressed.budget})."
    ]
    others = {name: compressed.bits_at(name, chosen.distortion) for name in METHODS if name != BEST}
    bits = {name: number for name, number in others.items() if number is not None}
    if bits:
        listed = ", ".join(f"{name} {number:.3f}" for name, number in bits.items())
        sentences.append(f"Bits per weight at the same distortion, between measured points: {listed}.")
    if "nearest" in bits:
        saved = 100 * (1 - chosen.bits_per_weight / bits["nearest"])
        sentences.append(
            f"That is {saved:.1f} % fewer bits than the nearest multiples of steps that are chosen alike and coded "
            "alike."
        )
    return sentences


def overview(compressed: Compression) -> Table:
    """List what was measured."""
    decibels = compressed.task == "outputs"
    columns = (
        Column("rounding"),
        Column("worth of a bit", ".3g"),
        Column("bits/weight", ".4f"),
        Column("SQNR of outputs, dB", ".2f") if decibels else Column("divergence", ".5f"),
    )
    order = list(METHODS)
    points = sorted(compressed.points, key=lambda p: (order.index(p.method), p.price))
    rows = [
        (p.method, p.price, p.bits_per_weight, -10 * math.log10(p.distortion) if decibels else p.distortion)
        for p in points
    ]
    return Table("Measured on held-out text", columns, tuple(rows))


def curves(compressed: Compression, with_figures: bool) -> Section:
    """Show rate against distortion."""
    drawn = (frontier(compressed),) if with_figures else ()
    return Section("curves", "Rate against distortion", (), (overview(compressed),), drawn)


def tensors(compressed: Compression, _: bool) -> Section:
    """List the matrices."""
    rows = tuple(
        (tensor.name, " x ".join(map(str, tensor.shape)), tensor.scheme, tensor.bits_per_weight)
        for tensor in compressed.tensors
    )
    columns = (Column("matrix"), Column("shape"), Column("scheme"), Column("bits/weight", ".3f"))
    kept = f"Not called on this text, and kept: {', '.join(compressed.kept)}." if compressed.kept else ""
    return Section("tensors", "Matrices", (kept,) if kept else (), (Table("Matrices", columns, rows, folded=True),))


def method(compressed: Compression, _: bool) -> Section:
    """Say how it was measured."""
    words = (
        f"One pass over {compressed.calibrated:,} {'samples' if compressed.task == 'outputs' else 'predictions'}, of "
        "the text's first three quarters, sums up second moments of what enters each layer of the model as it is, and "
        "squared gradients of what leaves it for outputs drawn from its own predictions. One worth of a bit for all "
        "matrices then makes the step of each and the price of its bits. It is searched until the model with all "
        "matrices rounded keeps the budget on the last quarter.",
        "Bits are those of the codes, coded by rANS with tables, heads and checksums, and of the scales. Biases, norms "
        "and the file's header are not matrices: they are in the manifest of the file.",
    )
    terms = tuple((name, way.summary) for name, way in METHODS.items())
    return Section("method", "How it was measured", words, terms=terms)
