"""Sections of a page about a model compressed to a budget."""

from __future__ import annotations

import math

from ...compression.methods import BEST, METHODS, Compression, Point
from ..figures.compression import frontier
from ..tables.table import Column, Table
from .page import Section

__all__ = ["curves", "method", "overview", "tensors", "verdict"]


def _level(compressed: Compression, point: Point) -> str:
    """Return the distortion of a point in words, with its standard error where it has one."""
    level, error = _height(point, compressed.task == "outputs")
    if compressed.task == "outputs":
        return f"an SQNR of the outputs of {level:.2f}{'' if error is None else f' ± {error:.2f}'} dB"
    return f"a divergence of {level:.4g}{'' if error is None else f' ± {error:.2g}'} nats per token"


def _height(point: Point, decibels: bool) -> tuple[float, float | None]:
    """Return the distortion, or the SQNR that it is, with its standard error if there is one."""
    level = -10 * math.log10(point.distortion) if decibels else point.distortion
    if not math.isfinite(point.standard_error):
        return level, None
    return level, 10 / math.log(10) * point.standard_error / point.distortion if decibels else point.standard_error


def verdict(compressed: Compression) -> list[str]:
    """State in sentences what the model takes, and what each way of rounding would."""
    chosen, units = compressed.chosen, "samples" if compressed.task == "outputs" else "predictions"
    sentences = [
        f"{compressed.model} takes {chosen.bits_per_weight:.3f} bits per weight in its {len(compressed.tensors)} "
        f"matrices ({compressed.weights:,} weights) at {_level(compressed, chosen)}, measured on "
        f"{compressed.judged:,} held-out {units} of {compressed.data}.",
        f"The budget {compressed.budget} was kept on {compressed.selected_on:,} other {units}, at "
        f"{_level(compressed, compressed.selected)}.",
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
        Column("±", ".2f") if decibels else Column("±", ".5f"),
    )
    order = list(METHODS)
    points = sorted(compressed.points, key=lambda p: (order.index(p.method), p.price))
    rows = [(p.method, p.price, p.bits_per_weight, *_height(p, decibels)) for p in points]
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
        "the text's first half, sums up second moments of what enters each layer of the model as it is, and "
        "squared gradients of what leaves it for outputs drawn from its own predictions. One worth of a bit for all "
        "matrices then makes the step of each and the price of its bits. It is searched until the model with all "
        "matrices rounded keeps the budget on the third quarter. All else is measured on the last, which nothing was "
        "chosen on, with standard errors over its windows or samples.",
        "Bits are those of the codes, coded by rANS with tables, heads and checksums, and of the scales. Biases, norms "
        "and the file's header are not matrices: they are in the manifest of the file.",
    )
    terms = tuple((name, way.summary) for name, way in METHODS.items())
    return Section("method", "How it was measured", words, terms=terms)
