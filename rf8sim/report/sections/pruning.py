"""Accuracy against sparsity: the table, the figure, the answer in words, and the page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..._base.files import write_files
from ...models.evaluation import paired
from ...studies.pruning import Pruned, Sparsity, underflow
from ..figures.figures import _MUTED, COLOURS, Figure, _canvas, _styled
from ..render import markdown_table
from ..tables.tables import Column, Table

__all__ = ["figure", "results", "verdict", "write_sparsity"]


def results(found: Sparsity) -> Table:
    """List all results."""
    columns = [
        Column("pruned"), Column("scope"), Column("format"), Column("zeros, %", "percent"),
        Column("bits/w., coded", ".3f"), Column("SQNR, dB", ".2f"),
    ]  # fmt: skip
    columns += [Column("loss added", "+.5f"), Column("std. error", ".5f")] if found.baseline else []
    rows = []
    for result in found.results:
        sqnr = result.cost.sqnr_db
        row = [result.pattern, result.scope, result.format, result.sparsity, result.cost.bits_per_weight]
        row += [None if math.isnan(sqnr) else sqnr]
        row += (
            [v if math.isfinite(v) else None for v in paired(found.baseline, result.losses)] if found.baseline else []
        )
        rows.append(tuple(row))
    return Table("Pruned and quantized", tuple(columns), tuple(rows))


def _added(found: Sparsity, result: Pruned) -> float:
    return paired(found.baseline, result.losses)[0]


def verdict(found: Sparsity) -> list[str]:
    """Say in words what pruning costs and saves.

    Parameters
    ----------
    found : Sparsity
        The measurements.

    Returns
    -------
    list of str
        Sentences.
    """
    said = []
    for fmt, share in underflow(found.results):
        said.append(f"By itself, without pruning, {fmt} makes {100 * share:.3g} % of the weights zero (its underflow).")
    formats = [fmt for fmt in dict.fromkeys(result.format for result in found.results) if fmt != "float32"]
    for fmt in formats[:1]:
        own = [result for result in found.results if result.format == fmt]
        none = next((result for result in own if result.pattern == "0%"), None)
        if none is not None and found.baseline:
            fine = [r for r in own if _added(found, r) <= _added(found, none) + 0.01 * _mean(found.baseline)]
            most = max(fine, key=lambda result: result.sparsity)
            said.append(
                f"In {fmt}, within 1 % of the loss without pruning, the most that can go is "
                f"{100 * most.sparsity:.0f} % (pattern {most.pattern}, {most.scope}), at "
                f"{most.cost.bits_per_weight:.2f} bits per weight instead of {none.cost.bits_per_weight:.2f}."
            )
        cut = [result for result in own if result.pattern == "80%" and found.baseline]
        if cut:
            best = min(cut, key=lambda result: _added(found, result))
            said.append(
                f"With 80 % pruned ({best.scope}, the better) and nothing trained again, {fmt} takes "
                f"{best.cost.bits_per_weight:.2f} bits per weight and the loss rises by {_added(found, best):.3f} from "
                f"{_mean(found.baseline):.3f} nats per token. The literature's claim that rate-constrained training "
                "keeps accuracy there is about models so trained: this command on such a checkpoint tests it."
            )
    return said


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


@_styled
def figure(found: Sparsity) -> Figure:
    """Draw quality against sparsity and against rate.

    Parameters
    ----------
    found : Sparsity
        The measurements.
    """
    canvas, axes = _canvas(3.9, 1, 2, sharey=True)
    formats = list(dict.fromkeys(result.format for result in found.results))
    with_loss = bool(found.baseline)

    def height(result: Pruned) -> float:
        return _added(found, result) if with_loss else result.cost.sqnr_db

    for i, fmt in enumerate(formats):
        colour = COLOURS[i % len(COLOURS)] if fmt != "float32" else _MUTED
        for scope, dashes in (("tensor", "-"), ("global", "--")):
            own = [r for r in found.results if r.format == fmt and r.pattern.endswith("%")]
            own = [r for r in own if r.scope == scope or r.pattern == "0%"]
            if len(own) < 2:
                continue
            look: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": ".", "linewidth": 1.0}
            axes[0].plot([100 * r.sparsity for r in own], [height(r) for r in own], label=f"{fmt}, {scope}", **look)
            if fmt != "float32":
                axes[1].plot([r.cost.bits_per_weight for r in own], [height(r) for r in own], **look)
        groups = [r for r in found.results if r.format == fmt and ":" in r.pattern]
        if groups:
            look = {"color": colour, "linestyle": "none", "marker": "D", "markersize": 5}
            axes[0].plot([100 * r.sparsity for r in groups], [height(r) for r in groups], label=f"{fmt}, n:m", **look)
            if fmt != "float32":
                axes[1].plot([r.cost.bits_per_weight for r in groups], [height(r) for r in groups], **look)
    for ax, title in zip(axes, ("weights that are zero, %", "bits per weight, coded, everything counted"), strict=True):
        ax.grid(visible=True)
        ax.set_xlabel(title)
    axes[0].set_ylabel("loss added, nats per token" if with_loss else "SQNR in dB")
    if with_loss:
        axes[0].set_yscale("symlog", linthresh=0.01)
    canvas.legend(loc="outside upper center", ncols=3, handletextpad=0.4, columnspacing=1.2)
    return Figure(
        "sparsity",
        "Quality against sparsity and rate",
        "Left against the share of weights that are zero, right against the bits that the quantized weights take with "
        "their codes entropy-coded. Solid: the same share of each tensor; dashed: one threshold for all; diamonds: n "
        f"of m kept. {'The axis is linear below 0.01.' if with_loss else ''}".rstrip(),
        canvas,
    )


def write_sparsity(found: Sparsity, folder: Path, made_by: str) -> list[Path]:
    """Write ``sparsity.md``, ``sparsity.json`` and the figure to a folder.

    Parameters
    ----------
    found : Sparsity
        The measurements.
    folder : Path
        Made if it is missing.
    made_by : str
        The command, which the page states.

    Returns
    -------
    list of Path
        The files written: all, or none on failure.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    drawn = figure(found)
    data = {"made_by": made_by, "verdict": verdict(found), **found.to_json()}
    contents = {
        folder / "sparsity.md": ("\n\n".join(_page(found, made_by, drawn)) + "\n").encode(),
        folder / "sparsity.json": (json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        folder / "sparsity.svg": drawn.file("svg"),
    }
    write_files(contents)
    return list(contents)


def _page(found: Sparsity, made_by: str, drawn: Figure) -> Iterator[str]:
    recipe = found.recipe
    yield "# Accuracy against sparsity"
    yield f"Made by `{made_by}`; the same command gives the same page, but for last digits of losses elsewhere."
    yield "## The answer"
    yield "\n".join(f"* {sentence}" for sentence in verdict(found))
    yield f"![{drawn.title}](sparsity.svg)\n\n*{drawn.title}.* {drawn.description}"
    yield "## How it was measured"
    yield (
        f"The {len(found.tensors)} tensors of two axes or more of {found.checkpoint} lose their weights of least "
        "magnitude: a share of each tensor (*tensor*), of all with one threshold (*global*), or all but n of each m "
        f"neighbours in a row (*n:m*). What is left is quantized ({recipe.scaling} scaling by rule "
        f"{recipe.scale_rule}, {recipe.rounding}); SQNR is beside the weights before pruning. Bits are those of a file "
        f"with {recipe.entropy} codes, everything counted; zeros are one more code, and a frequent one is cheap. For "
        "float32, 32 bits for each weight left and the entropy of where they are."
    )
    yield markdown_table(results(found))
