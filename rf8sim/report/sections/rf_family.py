"""The RF family over exponent bits, depth and shape: the table, the figure and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..._base.files import write_files
from ...studies.rf_family import Member
from ..figures.figures import _INK, _MUTED, Figure, _canvas, _styled
from ..render import markdown_table
from ..tables.tables import Column, Table

__all__ = ["figure", "table", "write_rf_family"]


def table(found: Sequence[Member]) -> Table:
    """List the members, one row each, with a column for each shape."""
    shapes = list(dict.fromkeys(member.shape for member in found))
    columns = [Column("p"), Column("depth"), Column("bits")]
    columns += [Column(f"SQNR at shape {shape:g}, dB", ".2f") for shape in shapes]
    columns += [Column(f"entropy at shape {shape:g}, bits", ".2f") for shape in (shapes[0], shapes[-1])]
    columns += [Column(f"underflow at shape {shapes[0]:g}, %", "percent")]
    rows = []
    for key in dict.fromkeys((member.p, member.depth, member.bits) for member in found):
        own = {member.shape: member for member in found if (member.p, member.depth, member.bits) == key}
        sqnr = [own[shape].sqnr_db for shape in shapes]
        entropy = [own[shape].entropy_bits for shape in (shapes[0], shapes[-1])]
        rows.append((*map(str, key), *sqnr, *entropy, own[shapes[0]].underflow))
    return Table("Members of the RF family", tuple(columns), tuple(rows))


@_styled
def figure(found: Sequence[Member]) -> Figure:
    """Draw SQNR over exponent bits and depth, a panel for each shape."""
    shapes = list(dict.fromkeys(member.shape for member in found))
    ps, depths = (sorted({getattr(member, name) for member in found}) for name in ("p", "depth"))
    canvas, axes = _canvas(2.9, 1, len(shapes), sharey=True)
    lowest, highest = (limit(member.sqnr_db for member in found) for limit in (min, max))
    for ax, shape in zip(axes, shapes, strict=True):
        grid = np.full((len(depths), len(ps)), np.nan)
        for member in (member for member in found if member.shape == shape):
            row, column = depths.index(member.depth), ps.index(member.p)
            grid[row, column] = member.sqnr_db
            light = member.sqnr_db > (lowest + highest) / 2
            text = f"{member.sqnr_db:.1f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if light else _INK)
        ax.imshow(grid, origin="lower", aspect="auto", cmap="Blues", vmin=lowest - 5, vmax=highest)
        ax.set_xticks(range(len(ps)), [str(p) for p in ps])
        ax.set_yticks(range(len(depths)), [str(depth) for depth in depths])
        ax.set_title(f"shape {shape:g}", fontsize=9.5, color=_MUTED)
        ax.tick_params(length=0)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
    axes[0].set_ylabel("depth")
    canvas.supxlabel("exponent bits p", fontsize=10)
    return Figure(
        "rf_family",
        "SQNR of RF(p, depth) on generalized Gaussian weights, dB",
        "Each cell is a format of 2 + p + log2(depth) bits at its best scale, a panel for each shape of the weights "
        "(2 is Gaussian, 1 Laplace, below that heavier tails). Cells that are left out need more than 8 bits.",
        canvas,
    )


def verdict(found: Sequence[Member]) -> list[str]:
    """Say which member is best for each shape and width, and where a bit buys nothing."""
    said = []
    for shape in dict.fromkeys(member.shape for member in found):
        own = [member for member in found if member.shape == shape]
        best = {
            bits: max((m for m in own if m.bits == bits), key=lambda m: m.sqnr_db) for bits in {m.bits for m in own}
        }
        listed = ", ".join(
            f"{bits} bits RF({m.p}, {m.depth}) {m.sqnr_db:.1f} dB" for bits, m in sorted(best.items(), reverse=True)
        )
        said.append(f"Shape {shape:g}: {listed}.")
    return said


def write_rf_family(found: Sequence[Member], folder: Path, made_by: str) -> list[Path]:
    """Write ``rf_family.md`` and ``rf_family.svg`` to a folder.

    Parameters
    ----------
    found : sequence of Member
        From `rf8sim.studies.rf_family.theory`.
    folder : Path
        Made if it is missing.
    made_by : str
        The command, which the page states.

    Returns
    -------
    list of Path
        The files written: both, or none on failure.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    drawn = figure(found)
    contents = {
        folder / "rf_family.md": ("\n\n".join(_page(found, made_by, drawn)) + "\n").encode(),
        folder / "rf_family.svg": drawn.file("svg"),
    }
    write_files(contents)
    return list(contents)


def _page(found: Sequence[Member], made_by: str, drawn: Figure) -> Iterator[str]:
    yield "# What exponent bits and depth buy"
    yield f"Made by `{made_by}`; the same command gives the same page."
    yield "## The answer"
    yield "The best of each width, for weights that follow a generalized Gaussian:"
    yield "\n".join(f"* {sentence}" for sentence in verdict(found))
    yield (
        "Beyond depth 4 the values that depth adds lie next to powers of two, where steps were fine already, while the "
        "widest gaps, a quarter of a power of two on either side of 1.5, stay: "
        f"{max(member.sqnr_db for member in found):.1f} dB is where the family ends. One exponent bit more doubles the "
        "range in octaves, and adds nothing once underflow is rare."
    )
    yield f"![{drawn.title}](rf_family.svg)\n\n*{drawn.title}.* {drawn.description}"
    yield "## How it was computed"
    yield (
        "From theory, without data: error, entropy and underflow of rounding to nearest under the density "
        "(`ggd.quantizer_theory`), at the scale of least error (`ggd.best_scale`)."
    )
    yield markdown_table(table(found))
