"""Commands that code checkpoints without loss: pack, unpack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import All, Worst, app, as_json, plain, print_table, progress_bar, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..checkpoints.lossless import PackedTensor
    from ..report.tables.table import Table

__all__ = ["pack", "unpack"]

_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


@app.command(
    short_help="Code a checkpoint without loss; every byte comes back.",
    epilog="Examples: rf8sim pack model.safetensors -o model.rf8z; rf8sim pack folder -o packed; "
    "rf8sim pack model.safetensors -o model.rf8z --predict",
)
def pack(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A .safetensors file; a folder, of which every such file is packed and every other copied; or an id "
            "of Hugging Face (org/name).",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="A .rf8z file; for a folder a new folder.")
    ],
    coder: Annotated[
        str, typer.Option(metavar="NAME", help="rans, for the smallest file, or huffman, which decodes faster.")
    ] = "rans",
    predict: Annotated[
        bool,
        typer.Option("--predict", help="Fit each tensor's distribution, and list the bits that it predicts."),
    ] = False,
    worst: Worst = 10,
    all_: All = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Write a checkpoint coded without loss; it is decoded and compared with the original before it is put in place."""
    from ..checkpoints.lossless import pack_checkpoint
    from ..quantization.records import to_builtins

    with progress_bar(quiet) as progress:
        report = pack_checkpoint(
            checkpoint, output, coder, predict=predict, progress=progress
        )  # fmt: skip
    if json_:
        print(as_json(to_builtins(report)))
    elif not quiet:
        print_table(_sizes(report.tensors, None if all_ else worst, predict))
        share = f"{100 * report.stored / report.nbytes:.1f} %"
        out = terminal()
        out.print(plain(f"{report.stored:,} bytes, {share} of {report.nbytes:,}; decoded and equal to the byte."))
        out.print(plain(str(output)))


def _sizes(tensors: Sequence[PackedTensor], count: int | None, predicted: bool) -> Table:
    """Return what tensors take, the largest first, and all of one type together."""
    from ..report.tables.table import Column, Table, worst

    columns = [Column("tensor"), Column("type"), Column("bits per number", ".3f"), Column("of its bytes, %", ".1f")]
    if predicted:
        columns += [Column("predicted bits", ".3f"), Column("shape", ".2f")]

    def row(name: str, dtype: str, part: Sequence[PackedTensor]) -> tuple[object, ...]:
        size, nbytes, stored = (sum(getattr(t, what) for t in part) for what in ("size", "nbytes", "stored"))
        cells: list[object] = [name, dtype, 8 * stored / size if size else None]
        cells.append(100 * stored / nbytes if nbytes else None)
        if predicted:
            known = [t for t in part if t.prediction is not None]
            weight = sum(t.size for t in known)
            bits = sum(t.prediction.bits * t.size for t in known if t.prediction) / weight if weight else None
            single = known[0].prediction if len(part) == len(known) == 1 else None
            cells += [bits, single.shape if single else None]
        return tuple(cells)

    rows = [row(t.name, t.dtype, [t]) for t in tensors]
    for dtype in sorted({t.dtype for t in tensors}):
        part = [t for t in tensors if t.dtype == dtype]
        if len(part) > 1:
            rows.append(row(f"all {len(part)} of the type", dtype, part))
    table = Table("What each tensor takes", tuple(columns), tuple(rows))
    return worst(table, [-t.nbytes for t in tensors], count, "tensors of most bytes")


@app.command(
    short_help="Write the original of a packed checkpoint, to the byte.",
    epilog="Examples: rf8sim unpack model.rf8z -o model.safetensors; rf8sim unpack packed -o folder",
)
def unpack(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="FILE", help="What 'rf8sim pack' wrote: a .rf8z file or a folder.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="A .safetensors file; for a folder a new folder.")
    ],
    quiet: _Quiet = False,
) -> None:
    """Write the original of a packed checkpoint; what is damaged is named, and then nothing is written."""
    from ..checkpoints.lossless import unpack_checkpoint

    with progress_bar(quiet) as progress:
        unpack_checkpoint(checkpoint, output, progress=progress)
    if not quiet:
        print(output)
