"""The command that writes hardware sources: hdl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ._common import app, as_json, print_table

if TYPE_CHECKING:
    from ..hardware.sources.area import Area, Subject
    from ..report.tables.table import Table

__all__ = ["area_summary", "hdl"]


def area_summary(areas: Sequence[tuple[Subject, dict[str, Area]]], liberty: Path) -> Table:
    """Return blocks as rows and formats side by side: gate equivalents, logic depth, cells."""
    from ..report.tables.table import Column, Table

    formats = list(dict.fromkeys(fmt for _, row in areas for fmt in row))
    columns = [Column("block")]
    for title, kind in (("gates", ".0f"), ("depth", "count"), ("cells", "count")):
        columns += [Column(f"{title} {fmt}", kind) for fmt in formats]
    columns.append(Column("gates rf8 / e4m3fn", ".2f"))
    rows = []
    for subject, row in areas:
        cells: list[Any] = [subject.title]
        for attribute in ("gates", "depth", "cells"):
            cells += [getattr(row[fmt], attribute) if fmt in row else None for fmt in formats]
        rows.append((*cells, row["rf8"].gates / row["e4m3fn"].gates))
    caption = f"Gate equivalents (two-input NANDs), cells on the longest path, cells; {liberty.name}, no wires"
    return Table(caption, tuple(columns), tuple(rows))


@app.command(
    short_help="Write synthesizable SystemVerilog of RF8 with its testbenches, packages and C headers.",
    epilog="Examples: rf8sim hdl -o rf8_hdl -f rf8 -f e4m3fn && make -C rf8_hdl test; rf8sim hdl --area",
)
def hdl(
    output: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads it at run time)
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the sources: new, empty, or written by hdl."),
    ] = None,
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="A format of 1 to 16 bits to write as packages and ROM decoders in SystemVerilog and VHDL, and as a C "
            "header; repeatable. Default: rf8.",
        ),
    ] = None,
    area: Annotated[
        bool, typer.Option("--area", help="Print what the blocks cost in gates, synthesized by Yosys (a minute).")
    ] = False,
    dot: Annotated[
        bool, typer.Option("--dot", help="With --area: dot products of 16 in RF8, E4M3, MXFP8, INT8, MXFP4 (minutes).")
    ] = False,
    liberty: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Library of cells for --area; default: Debian's qflow-tech-osu018."),
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the table of --area as JSON, which 'rf8sim report --area' reads.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Write RF8 hardware that is proved against this library, or say what it costs in silicon.

    The folder needs nothing else: decoder, encoders, multipliers and accumulators in SystemVerilog, those of E4M3 and
    INT8 to compare, vectors, a self-checking testbench, a cocotb bench, packages, C headers, a Makefile, a README.
    """
    if output is None and not area:
        raise ValueError("say where to write, with --output DIR, or ask for --area")
    if formats and output is None:
        raise ValueError("--format changes nothing without --output: --area compares the blocks of RF8, E4M3 and INT8")
    if dot and not area:
        raise ValueError("--dot is for --area")
    if liberty is not None and not area:
        raise ValueError("--liberty is for --area")
    if json_ and (not area or (output is not None and not quiet)):
        raise ValueError("--json is for --area, and prints nothing else: leave out --output, or give --quiet")
    if output is not None:
        from ..hardware.sources.hdl import write_hdl

        write_hdl(output, formats or ["rf8"])
        if not quiet:
            print(f"wrote {output}: read {Path(output) / 'README.md'}, then make -C {output} test")
    if area:
        from ..hardware.sources.area import WAYS, area_table, dot_subjects, find_liberty, subjects
        from ..report.tables.listings import as_records

        areas = area_table(liberty, dot_subjects(), WAYS[:1]) if dot else area_table(liberty, subjects())
        table = area_summary(areas, find_liberty(liberty))
        if json_:
            print(as_json({"caption": table.caption, "blocks": as_records(table)}))
        else:
            print_table(table)
