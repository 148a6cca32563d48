"""The command that compares two reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ._common import PageReport, app, as_json, given_command, print_page

__all__ = ["compare"]

_Before = typer.Argument(metavar="BEFORE", help="A report.json of 'rf8sim report', or its folder.")
_After = typer.Argument(metavar="AFTER", help="Another, such as that after a change.")


@app.command(
    short_help="Compare two reports; exit with status 1 on a regression.",
    epilog="Examples: rf8sim compare before/report.json after/report.json; "
    "rf8sim compare before after --sqnr 1 --csv > changes.csv",
)
def compare(
    context: typer.Context,
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
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--format", "-f", metavar="FILE", help="A .csv or .json file of a format that the reports name; repeatable."
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print every number of both as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print every number of both as CSV.")] = False,
    report: PageReport = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing: see the exit status.")] = False,
) -> None:
    """Compare two reports: of two checkpoints, or of one before and after a change.

    The exit status is 0 if nothing got worse by more than the thresholds, 1 if something did or a tensor is missing,
    2 if a report cannot be read.
    """
    from ..formats import get_format
    from ..report.render import write_page
    from ..report.sections import comparison
    from ..report.sections.pages import COMPARE
    from ..report.tables import listings

    if csv and json_:
        raise ValueError("--csv and --json exclude each other: give one")
    for file in formats or ():
        get_format(file)
    thresholds = comparison.Thresholds(sqnr, bits, percent / 100)
    changes = comparison.compare(comparison.read_report(before), comparison.read_report(after), thresholds)
    page = COMPARE.page(changes, given_command(context))
    written = [] if report is None else write_page(page, report)
    if json_:
        print(as_json({"verdict": list(page.verdict), **page.data}))
    elif csv:
        print(listings.as_csv(changes.table(everything=True)), end="")
    elif not quiet:
        print_page(page, map(str, written))
    if changes.failed:
        raise typer.Exit(1)
