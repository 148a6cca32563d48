"""Rate against distortion: the tables, the answer in words, and the page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..._base.files import write_files
from ...entropy.code_lengths import MAX_LENGTH
from ...models.evaluation import paired
from ...studies.tradeoff import ALL, CODE_COLUMNS, Point, Tradeoff
from ..figures import tradeoff as tradeoff_figures
from ..render import markdown_table
from ..tables.tables import Column, Table

__all__ = ["codes", "points", "verdict", "write_tradeoff"]


def points(found: Tradeoff, kind: str = ALL) -> Table:
    """List the quantizers on all weights, or on a kind of them."""
    columns = [
        Column("quantizer"), Column("bits/w., as it is", ".3f"), Column("entropy", ".3f"),
        Column("bits/w., coded", ".3f"), Column("SQNR, dB", ".2f"), Column("to uniform coded, dB", "+.2f"),
    ]  # fmt: skip
    with_loss = kind == ALL and bool(found.baseline)
    columns += [Column("loss added", "+.5f"), Column("std. error", ".5f")] if with_loss else []
    rows = []
    for point in found.of_kind(kind):
        cost = point.cost
        row = [point.label, point.width, cost.entropy_per_weight, cost.bits_per_weight]
        sqnr = None if math.isnan(cost.sqnr_db) else cost.sqnr_db
        row += [sqnr, _beside_uniform(found, point)]
        row += [_existing(value) for value in paired(found.baseline, point.losses)] if with_loss else []
        rows.append(tuple(row))
    return Table("All weights" if kind == ALL else kind, tuple(columns), tuple(rows))


def _existing(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _beside_uniform(found: Tradeoff, point: Point) -> float | None:
    """Return a format's SQNR less that of the uniform quantizer at the same rate, read between the points measured."""
    uniform = sorted((p.cost.bits_per_weight, p.cost.sqnr_db) for p in found.of_kind(point.kind) if p.step is not None)
    bits = point.cost.bits_per_weight
    if point.step is not None or len(uniform) < 2 or not math.isfinite(point.cost.sqnr_db):
        return None
    rates, heights = ([pair[i] for pair in uniform] for i in (0, 1))
    if bits < rates[0]:
        return None
    if bits > rates[-1]:  # 6.02 dB a bit
        return point.cost.sqnr_db - heights[-1] - 20 * math.log10(2) * (bits - rates[-1])
    return point.cost.sqnr_db - float(np.interp(bits, rates, heights))


def codes(found: Tradeoff) -> Table:
    """Compare the codes for the codes of each format."""
    columns = (Column("format"), *(Column(name, ".3f") for name in CODE_COLUMNS))
    return Table(
        "Bits per weight of each code, tables included", columns, tuple((c.format, *c.bits) for c in found.codes)
    )


def verdict(found: Tradeoff) -> list[str]:
    """Say in words how formats and codes compare.

    Parameters
    ----------
    found : Tradeoff
        The measurements.

    Returns
    -------
    list of str
        Sentences.
    """
    formats = [point for point in found.of_kind(ALL) if point.step is None]
    said = []
    gaps = {p.quantizer: gap for p in formats if (gap := _beside_uniform(found, p)) is not None}
    if gaps:
        ranked = ", ".join(f"{name} {gaps[name]:+.1f} dB" for name in sorted(gaps, key=lambda name: -gaps[name]))
        said.append(
            f"With all codes entropy-coded, beside a uniform quantizer of the same rate: {ranked}. A uniform quantizer "
            "with an entropy coder is the best scalar quantizer at these rates, so a format with finer steps near "
            "zero pays for them; what it buys is range and cheap arithmetic, not rate."
        )
    saved = {p.quantizer: p.width - p.cost.bits_per_weight for p in formats}
    if saved:
        best, least = max(saved, key=lambda name: saved[name]), min(saved, key=lambda name: saved[name])
        said.append(
            f"Entropy coding saves from {saved[least]:.2f} ({least}) to {saved[best]:.2f} bits per weight ({best})."
        )
    for costs in found.codes[:1]:
        bits = dict(zip(CODE_COLUMNS, costs.bits, strict=True))
        over = {name: 100 * (bits[name] / bits["entropy"] - 1) for name in CODE_COLUMNS}
        said.append(
            f"Over the entropy of {costs.format}'s codes, tables included: rANS {over['rANS']:.2f} %, Huffman "
            f"{over['Huffman']:.2f} %, Exp-Golomb with the best k {over['Exp-Golomb, best k']:.1f} %, with k = 0 "
            f"{over['Exp-Golomb, k = 0']:.0f} %, with k = 0 and symbols in the order of values "
            f"{over['Exp-Golomb of values, k = 0']:.0f} %."
        )
    if found.baseline:
        within = [p.quantizer for p in formats if abs(paired(found.baseline, p.losses)[0]) <= 0.01]
        if within:
            said.append(f"The model's loss changes by at most 0.01 nats per token with {', '.join(within)}.")
    return said


def write_tradeoff(found: Tradeoff, folder: Path, made_by: str, figures: bool = True) -> list[Path]:
    """Write ``tradeoff.md``, ``tradeoff.json`` and the figures to a folder.

    Parameters
    ----------
    found : Tradeoff
        The measurements.
    folder : Path
        Made if it is missing.
    made_by : str
        The command, which the page states.
    figures : bool
        Whether to draw.

    Returns
    -------
    list of Path
        The files written: all, or none on failure.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    drawn = [tradeoff_figures.by_kind(found)] if figures else []
    drawn += [tradeoff_figures.losses(found)] if figures and found.baseline else []
    page = "\n\n".join(_page(found, made_by, [(f.name, f.title, f.description) for f in drawn])) + "\n"
    data = {"made_by": made_by, "verdict": verdict(found), **found.to_json()}
    contents = {
        folder / "tradeoff.md": page.encode(),
        folder / "tradeoff.json": (json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        **{folder / f"{figure.name}.svg": figure.file("svg") for figure in drawn},
    }
    write_files(contents)
    return list(contents)


def _page(found: Tradeoff, made_by: str, drawn: list[tuple[str, str, str]]) -> Iterator[str]:
    recipe = found.recipe
    yield "# Rate against distortion"
    yield f"Made by `{made_by}`; the same command gives the same page, but for last digits of losses elsewhere."
    yield "## The answer"
    yield "\n".join(f"* {sentence}" for sentence in verdict(found))
    for name, title, description in drawn:
        yield f"![{title}]({name}.svg)\n\n*{title}.* {description}"
    yield "## How it was measured"
    yield (
        f"The {len(found.tensors)} tensors of two axes or more of {found.checkpoint}, each coded by itself. Formats "
        f"have {recipe.scaling} scaling by rule {recipe.scale_rule}, rounding {recipe.rounding}. *Bits as it is* are "
        f"the width of a code and the scales; *coded* are those of a file with {recipe.entropy} codes: scales, tables, "
        "heads and checksums counted. *Entropy* is that of the codes alone in each tensor, a bound. The uniform "
        "quantizers have a step that is a multiple of each tensor's root mean square, and 8-bit indices that saturate. "
        "Bounds are under the generalized Gaussian fitted to each tensor (shape to two digits), as if its weights were "
        "independent, with bits shared among tensors as is best; a tensor whose channels differ can do better than "
        "its fit says. *To uniform coded* is the SQNR beside the uniform quantizers measured, interpolated to the same "
        "coded rate, and beyond the finest of them continued by 6.02 dB a bit."
    )
    for kind in found.kinds:
        yield f"## {'All weights' if kind == ALL else f'Kind: {kind}'}"
        yield markdown_table(points(found, kind))
    yield "## What each code costs"
    yield (
        "For the same codes, the mean length of each code and its table, without heads of blocks. Huffman codes have "
        f"at most {MAX_LENGTH} bits. Exp-Golomb and Golomb-Rice code the rank of a code, by falling count in the "
        "tensor (which the table lists), or by value, as the literature does (0, +1, -1, +2 and so on, which needs no "
        "table)."
    )
    yield markdown_table(codes(found))
