"""The command that compares: a quantized checkpoint with its original, or two reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ._common import (
    Exclude,
    Include,
    PageReport,
    Threads,
    app,
    as_json,
    given_command,
    print_page,
    progress_bar,
)

if TYPE_CHECKING:
    from ..report.sections.page import Page
    from ..report.tables.table import Table

__all__ = ["compare"]

_Original = typer.Argument(
    metavar="ORIGINAL", help="A checkpoint: a file, an index or a folder. Or a report.json of 'rf8sim report'."
)
_Quantized = typer.Argument(
    metavar="QUANTIZED", help="The same weights, quantized by any tool, or a report.json after a change."
)

_OF_REPORTS = ("sqnr", "bits", "percent", "formats")
_OF_CHECKPOINTS = (
    "min_sqnr", "min_cosine", "min_model_sqnr", "max_bits", "worst", "everything", "include", "exclude", "threads",
)  # fmt: skip


@app.command(
    short_help="Compare a quantized checkpoint with its original, or two reports.",
    epilog="Examples: rf8sim compare model/ model-fp8/ --min-sqnr 30; "
    "rf8sim compare model.safetensors model-q4_k_m.gguf --all; "
    "rf8sim compare model/ model-awq/ --exclude '*norm*' --min-cosine 0.99 --report awq.html; "
    "rf8sim compare before/report.json after/report.json --sqnr 1 --csv > changes.csv",
)
def compare(
    context: typer.Context,
    original: Annotated[Path, _Original],
    quantized: Annotated[Path, _Quantized],
    min_sqnr: Annotated[
        Optional[float],  # noqa: UP045  (typer reads it at run time)
        typer.Option(metavar="DB", help="Least SQNR of each tensor that changed, in dB."),
    ] = None,
    min_cosine: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=-1, max=1, metavar="COSINE", help="Least cosine of each tensor that changed."),
    ] = None,
    min_model_sqnr: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="DB", help="Least SQNR of all weights together, in dB."),
    ] = None,
    max_bits: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, metavar="BITS", help="Most stored bits per weight, scales included."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, metavar="N", help="Tensors to list, lowest SQNR first.")] = 10,
    everything: Annotated[bool, typer.Option("--all", help="List all tensors.")] = False,
    include: Include = None,
    exclude: Exclude = None,
    sqnr: Annotated[
        float, typer.Option(min=0, metavar="DB", help="Of reports: loss of SQNR that counts as a regression, in dB.")
    ] = 0.5,
    bits: Annotated[
        float,
        typer.Option(min=0, metavar="BITS", help="Of reports: increase of entropy-coded bits per weight that counts."),
    ] = 0.05,
    percent: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="PERCENT",
            help="Of reports: increase of weights rounded to zero or out of range that counts.",
        ),
    ] = 0.1,
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--format",
            "-f",
            metavar="FILE",
            help="A .csv or .json file of a format that the reports name; repeatable.",
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print every number as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print every number as CSV.")] = False,
    report: PageReport = None,
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing: see the exit status.")] = False,
) -> None:
    """Compare a quantized checkpoint with its original: SQNR, cosine, errors and bits of each tensor.

    Either may be plain or quantized by any tool that rf8sim reads. The exit status is 1 if a bound is broken or a
    weight of ORIGINAL has no certain counterpart (leave it out with --exclude), 2 if one cannot be read.

    Two reports of 'rf8sim report' are compared number by number. The exit status is 1 if something got worse by more
    than the thresholds or a tensor is missing.
    """
    if csv and json_:
        raise ValueError("--csv and --json exclude each other: give one")
    if _is_report(original) or _is_report(quantized):
        _refuse(context, _OF_CHECKPOINTS, "checkpoints, not of reports")
        page, table, failed = _reports(context, original, quantized, (sqnr, bits, percent), formats or ())
    else:
        _refuse(context, _OF_REPORTS, "reports, not of checkpoints")
        how = {"include": tuple(include or ()), "exclude": tuple(exclude or ()), "threads": threads}
        bounds = {"sqnr": min_sqnr, "cosine": min_cosine, "model_sqnr": min_model_sqnr, "bits": max_bits}
        rows = None if everything else worst
        page, table, failed = _checkpoints(context, (original, quantized), bounds, rows, quiet, how)
    _write(page, table, report, json_=json_, csv=csv, quiet=quiet)
    if failed:
        raise typer.Exit(1)


def _is_report(path: Path) -> bool:
    if path.is_dir():
        return (path / "report.json").exists()
    return path.suffix == ".json" and not path.name.endswith(".index.json")


def _refuse(context: typer.Context, names: Sequence[str], what: str) -> None:
    """Refuse options that were given and are those of the other kind of comparison."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"{parameter.opts[0]} is an option of the comparison of {what}")


def _reports(
    context: typer.Context, before: Path, after: Path, limits: tuple[float, float, float], formats: Sequence[str]
) -> tuple[Page, Table, bool]:
    from ..formats import get_format
    from ..report.sections import comparison
    from ..report.sections.pages import COMPARE

    for file in formats:
        get_format(file)
    sqnr, bits, percent = limits
    thresholds = comparison.Thresholds(sqnr, bits, percent / 100)
    changes = comparison.compare(comparison.read_report(before), comparison.read_report(after), thresholds)
    return COMPARE.page(changes, given_command(context)), changes.table(everything=True), changes.failed


def _checkpoints(
    context: typer.Context,
    paths: tuple[Path, Path],
    bounds: dict[str, float | None],
    rows: int | None,
    quiet: bool,
    how: dict[str, Any],
) -> tuple[Page, Table, bool]:
    from ..report.sections import distortion
    from ..report.sections.pages import COMPARE_CHECKPOINTS
    from ..studies.distortion import compare_checkpoints

    limits = distortion.Bounds(**bounds)
    limits.check()
    with progress_bar(quiet) as progress:
        measured = compare_checkpoints(*paths, progress=progress, **how)
    compared = distortion.Compared(measured, limits, rows)
    page = COMPARE_CHECKPOINTS.page(compared, given_command(context))
    return page, distortion.everything(measured), compared.failed


def _write(page: Page, table: Table, report: Path | None, *, json_: bool, csv: bool, quiet: bool) -> None:
    from ..report.render import write_page
    from ..report.tables import listings

    written = [] if report is None else write_page(page, report)
    if json_:
        print(as_json({"verdict": list(page.verdict), **page.data}))
    elif csv:
        print(listings.as_csv(table), end="")
    elif not quiet:
        print_page(page, map(str, written))
