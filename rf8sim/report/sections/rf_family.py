"""Sections of a page about the RF family: accuracy and size over exponent bits, depth and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...studies.rf_family import Member
from ..figures.rf_family import sqnr_by_parameters
from ..tables.table import Column, Table
from .page import Section

__all__ = ["as_data", "limit", "members", "method", "table", "verdict"]


def table(members: Sequence[Member]) -> Table:
    """List the members, one row each, with a column for each shape."""
    shapes = list(dict.fromkeys(member.shape for member in members))
    columns = [Column("p"), Column("depth"), Column("bits")]
    columns += [Column(f"SQNR at shape {shape:g}, dB", ".2f") for shape in shapes]
    columns += [Column(f"entropy at shape {shape:g}, bits", ".2f") for shape in (shapes[0], shapes[-1])]
    columns += [Column(f"underflow at shape {shapes[0]:g}, %", "percent")]
    rows = []
    for key in dict.fromkeys((member.p, member.depth, member.bits) for member in members):
        by_shape = {member.shape: member for member in members if (member.p, member.depth, member.bits) == key}
        sqnr = [by_shape[shape].sqnr_db for shape in shapes]
        entropy = [by_shape[shape].entropy_bits for shape in (shapes[0], shapes[-1])]
        rows.append((*map(str, key), *sqnr, *entropy, by_shape[shapes[0]].underflow))
    return Table("Members of the RF family", tuple(columns), tuple(rows))


def as_data(members: Sequence[Member]) -> dict[str, Any]:
    """Return the members as plain data for JSON."""
    return {"schema": 1, "members": [asdict(member) for member in members]}


def verdict(members: Sequence[Member]) -> list[str]:
    """Name the best member of each width for each shape of the weights."""
    sentences = []
    for shape in dict.fromkeys(member.shape for member in members):
        of_shape = [member for member in members if member.shape == shape]
        best = {
            bits: max((m for m in of_shape if m.bits == bits), key=lambda m: m.sqnr_db)
            for bits in {m.bits for m in of_shape}
        }
        listed = ", ".join(
            f"{bits} bits RF({m.p}, {m.depth}) {m.sqnr_db:.1f} dB" for bits, m in sorted(best.items(), reverse=True)
        )
        sentences.append(f"Shape {shape:g}: {listed}.")
    return sentences


def members(measured: Sequence[Member], with_figures: bool) -> Section:
    """Show every member."""
    drawn = (sqnr_by_parameters(measured),) if with_figures else ()
    return Section("members", "Every RF(p, depth)", (), (table(measured),), drawn)


def limit(measured: Sequence[Member], _: bool) -> Section:
    """Say why the accuracy has a limit."""
    words = (
        "Beyond depth 4, the values that depth adds lie next to powers of two, where steps were fine already. The "
        "widest gaps, a quarter of a power of two on either side of 1.5, stay, so the SQNR does not exceed "
        f"{max(member.sqnr_db for member in measured):.1f} dB. One more exponent bit doubles the range in octaves, and "
        "adds nothing once underflow is rare.",
    )
    return Section("limit", "The limit of the family", words)


def method(_found: Sequence[Member], _: bool) -> Section:
    """Say how it was computed."""
    words = (
        "The verdict names the best format of each width, for weights that follow a generalized Gaussian (shape 2 is "
        "Gaussian, 1 Laplace). All numbers come from theory, without data: error, entropy and underflow of rounding to "
        "nearest under the density (ggd.quantizer_theory), at the scale of least error (ggd.best_scale).",
    )
    return Section("method", "How it was computed", words)
