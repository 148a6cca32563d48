"""The command that compares two reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._common import app, as_json, plain, print_table, terminal

__all__ = ["compare"]

_Before = typer.Argument(metavar="BEFORE", help="A report.json of 'rf8sim report', or its folder.")
_After = typer.Argument(metavar="AFTER", help="Another, such as that after a change.")


@app.command(
    short_help="Compare two reports; exit with status 1 on a regression.",
    epilog="Examples: rf8sim compare before/report.json after/report.json; "
    "rf8sim compare before after --sqnr 1 --csv > changes.csv",
)
def compare(
    before: Annotated[Path, _Before],
    after: Annotated[Path, _After],
    sqnr: Annotated[
        float, typer.Option(min=0, metavar="DB", help="Loss of SQNR that counts as a regression, in dB.")
    ] = 0.5,
    bits: Annotated[
        float, typer.Option(min=0, metavar="BITS", help="Increase of entropy-coded bits per weight that counts.")
    ] = 0.05,
    percent: Annotated[
        float,
        typer.Option(min=0, metavar="PERCENT", help="Increase of weights rounded to zero or out of range that counts."),
    ] = 0.1,
    json_: Annotated[bool, typer.Option("--json", help="Print every number of both as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print every number of both as CSV.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing: see the exit status.")] = False,
) -> None:
    """Compare two reports: of two checkpoints, or of one before and after a change.

    The exit status is 0 if nothing got worse by more than the thresholds, 1 if something did or a tensor is missing,
    2 if a report cannot be read.
    """
    from ..report.pages import comparison
    from ..report.tables import listings

    if csv and json_:
        raise ValueError("--csv and --json exclude each other: give one")
    thresholds = comparison.Thresholds(sqnr, bits, percent / 100)
    found = comparison.compare(comparison.read_report(before), comparison.read_report(after), thresholds)
    if json_:
        print(as_json({"thresholds": {"sqnr_db": sqnr, "bits": bits, "percent": percent}, **found.to_json()}))
    elif csv:
        print(listings.as_csv(found.table(everything=True)), end="")
    elif not quiet:
        print_table(found.table())
        for line in found.summary():
            terminal().print(plain(line))
    if found.failed:
        raise typer.Exit(1)
