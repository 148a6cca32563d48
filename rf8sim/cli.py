"""The command line. Each command imports what it needs when it runs, so that help is immediate."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import typer

from . import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from ggd.survey import Survey

    from .experiment import Experiment, Settings, SkippedTensor
    from .report.tables import Table

__all__ = ["app", "main"]

app = typer.Typer(
    name="rf8sim",
    help="Simulate RF8 and other 8-bit number formats, and judge them on real weights.",
    epilog="Example: rf8sim report model.safetensors -o report",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_EVALUATED = ["rf8", "e4m3fn", "e5m2", "e3m4", "int8"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        0 if all went well, 2 if the input is bad, 1 if the work failed, 130 if it was interrupted.
    """
    # typer carries its own copy of click, or uses click's: the base of its errors is found by its name.
    bases = typer.BadParameter.__mro__
    usage_error = cast("type[Exception]", next(base for base in bases if base.__name__ == "ClickException"))
    try:
        code = app(None if arguments is None else list(arguments), prog_name="rf8sim", standalone_mode=False)
        sys.stdout.flush()
        return _fail("interrupted", 130) if code == 130 else code if isinstance(code, int) else 0
    except usage_error as error:
        context = cast("Any", error).ctx
        command = context.command_path if context is not None else "rf8sim"
        return _fail(f"{cast('Any', error).format_message().rstrip('.')}; see {command} --help", 2)
    except ValueError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # the reader of a pipe went away: nothing is wrong
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except OSError as error:
        return _fail(f"{error.filename}: cannot be written: {error.strerror}" if error.filename else str(error), 1)
    except (KeyboardInterrupt, typer.Abort):  # which of these an interrupt becomes depends on the version of typer
        return _fail("interrupted", 130)


def _fail(message: str, code: int) -> int:
    print(f"rf8sim: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rf8sim {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


# --- output -------------------------------------------------------------------------------------------------


def _console() -> Console:
    """Return a console for standard output; into a pipe or file, tables are as wide as they need."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 240, highlight=False, soft_wrap=False)


def _print_table(table: Table) -> None:
    """Print a report's table on the terminal."""
    import rich.box
    import rich.table

    from .report.tables import cell

    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=table.caption, title_justify="left", title_style="bold")
    for column in table.columns:
        shown.add_column(column.title, justify="left" if column.kind == "text" else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(_plain(cell(value, column.kind)) for value, column in zip(row, table.columns, strict=True)))
    _console().print(shown)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on the terminal, moved by calls with a tensor's name, the elements done and those in all."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("reading", total=None)

        def progress(name: str, done: int, total: int) -> None:
            bar.update(task, description=name[-40:].rjust(40), completed=done, total=total)

        yield progress


def _measure(checkpoints: Sequence[Path], settings: Settings, quiet: bool) -> Experiment:
    from .measuring import run

    with _progress(quiet) as progress:
        return run(checkpoints, settings, progress=progress)


def _survey(checkpoints: Sequence[Path], settings: Settings, quiet: bool) -> tuple[Survey, tuple[SkippedTensor, ...]]:
    from .measuring import survey

    with _progress(quiet) as progress:
        return survey(checkpoints, settings, progress=progress)


_Checkpoints = Annotated[
    list[Path],
    typer.Argument(
        metavar="CHECKPOINT",
        help="A .safetensors, .npz, .npy, .pt, .pth or .bin file, an .index.json, or a folder with one.",
    ),
]
_Include = Annotated[
    Optional[list[str]],  # noqa: UP045  (typer reads it at run time)
    typer.Option(
        "--include",
        metavar="PATTERN",
        help="Measure only tensors whose name matches, e.g. '*.weight'; repeatable.",
    ),
]
_Exclude = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="Leave out tensors whose name matches, e.g. '*norm*'; repeatable.",
    ),
]


def _given(context: typer.Context) -> str:
    """Return the command as it was given, without what changes nothing and without the folders of absolute paths."""
    words = ["rf8sim", str(context.info_name)]
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        value = context.params.get(str(parameter.name))
        if source is None or source.name != "COMMANDLINE" or isinstance(value, bool):
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            shown = (item.name if item.is_absolute() else item.as_posix()) if isinstance(item, Path) else str(item)
            words += [shown] if parameter.param_type_name == "argument" else [parameter.opts[0], shown]
    return " ".join(words)


# --- commands -----------------------------------------------------------------------------------------------


@app.command(epilog="Example: rf8sim report model.safetensors -o report --format rf8 --format e4m3fn --scaling channel")
def report(
    checkpoints: _Checkpoints,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the report.")],
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--format", "-f", metavar="NAME", help="A format to measure; repeatable. See 'rf8sim formats'."),
    ] = None,
    rounding: Annotated[
        str,
        typer.Option(
            help="nearest-even, nearest-away, toward-zero, up, down, to-odd, stochastic, or residual (RF formats only)."
        ),
    ] = "nearest-even",
    scaling: Annotated[str, typer.Option(help="One scale for each: tensor, channel, block, or none.")] = "tensor",
    scale_rule: Annotated[str, typer.Option(help="How a scale is chosen: max, mse or ggd.")] = "mse",
    block_size: Annotated[int, typer.Option(min=1, help="Elements in a block, with --scaling block.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of stochastic rounding.")] = 0,
    include: _Include = None,
    exclude: _Exclude = None,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures in the page.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Say what each format costs on the weights of checkpoints: report.html, report.md and report.json."""
    from ._files import check_folder
    from .experiment import Settings

    chosen = {"formats": tuple(dict.fromkeys(formats))} if formats else {}
    if rounding == "residual" and not formats:  # the mode of the RF family, so its formats
        chosen = {"formats": ("rf8", "rf8_e3", "rf6")}
    settings = Settings(
        **chosen,
        scaling=scaling,
        scale_rule=scale_rule,
        rounding=rounding,
        block_size=block_size,
        seed=seed,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
    )
    settings.check()
    check_folder(output)
    experiment = _measure(checkpoints, settings, quiet)

    from .report.render import write_report
    from .report.tables import brief
    from .report.verdict import verdict

    written = write_report(experiment, output, figures=figures)
    if not quiet:
        console = _console()
        for sentence in verdict(experiment):
            console.print(_plain(sentence))
        for tensor in experiment.skipped[:5]:
            console.print(_plain(f"Not measured: {tensor.name!r}: {tensor.reason}."))
        _print_table(brief(experiment))
        console.print(_plain("\n".join(str(path) for path in written)))


@app.command(
    epilog="Examples: rf8sim fit model.safetensors --include '*.weight'; "
    "rf8sim fit model.safetensors --family student-t --csv > fits.csv; rf8sim fit model.safetensors --report fit.md"
)
def fit(
    checkpoints: _Checkpoints,
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--family",
            metavar="NAME",
            help="A family for a column of the table; repeatable. By default gaussian and laplace.",
        ),
    ] = None,
    include: _Include = None,
    exclude: _Exclude = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with all that is known of each tensor.")] = False,
    figures: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--figures", metavar="DIR", help="Draw the figures to a folder, as .svg files."),
    ] = None,
    report: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--report", metavar="FILE", help="Write a page, a .md file, with its figures beside it."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Fit the generalized Gaussian and its rivals to each tensor and to all together, and say which it is."""
    from ggd.families import family_names
    from ggd.findings import verdict

    from ._checks import choose
    from ._files import check_folder
    from .experiment import Settings
    from .report import fit_report, fit_tables, listings

    if csv and json_:
        raise ValueError("--csv and --json exclude each other: give one")
    for name in families or ():
        choose("family", name, family_names())
    if report is not None:
        fit_report.check_page(report)
        check_folder(report.parent)
    if figures is not None:
        check_folder(figures)
    settings = Settings(formats=(), include=tuple(include or ()), exclude=tuple(exclude or ()))
    found, skipped = _survey(checkpoints, settings, quiet)
    written = [] if figures is None else fit_report.write_figures(found, figures)
    if report is not None:
        patterns = [f"--{o} '{p}'" for o in ("include", "exclude") for p in getattr(settings, o)]
        written += fit_report.write_fit_report(found, report, fit_report.command(checkpoints, report, patterns))
    if json_:
        print(_json({"verdict": verdict(found), **found.to_json(), "skipped": [asdict(tensor) for tensor in skipped]}))
    elif csv:
        print(listings.as_csv(fit_tables.everything(found)), end="")
    else:
        console = _console()
        _print_table(fit_tables.tensors(found, families or fit_tables.RIVALS))
        left = [f"{len(skipped)} not fitted: {skipped[0].name!r}: {skipped[0].reason}."] if skipped else []
        for line in (*verdict(found), *left, *map(str, written)):
            console.print(_plain(line))


@app.command(
    epilog="Examples: rf8sim evaluate examples/lm/model.safetensors --format rf8 --format e4m3fn; "
    "rf8sim evaluate examples/lm/model.safetensors -f rf8 --activations int8 --accumulator int:24 --scaling channel"
)
def evaluate(
    context: typer.Context,
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="A model as in examples/lm, its config.json beside it."),
    ],
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--format", "-f", metavar="NAME", help="Format of the weights; repeatable, as are the next four."),
    ] = None,
    activations: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="NAME", help="Format of the activations: a name, 'same', or 'none' for float32 (default)."
        ),
    ] = None,
    accumulator: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME", help="exact (default), float32, float16, bfloat16, tf32, int:n or a format."),
    ] = None,
    scaling: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME", help="tensor (default), or channel: a scale per output, and per token."),
    ] = None,
    rounding: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME", help="Rounding to the formats; residual is left out where it is not defined."),
    ] = None,
    order: Annotated[str, typer.Option(help="Order of sums: sequential, pairwise or blocked:k.")] = "sequential",
    accumulator_rounding: Annotated[str, typer.Option(help="Rounding of the accumulator.")] = "nearest-even",
    shift: Annotated[
        str, typer.Option(help="Divide products by 2**shift before they are summed: a number, or auto.")
    ] = "auto",
    scale_rule: Annotated[str, typer.Option(help="How a scale is chosen: max, mse or ggd.")] = "mse",
    tokens: Annotated[int, typer.Option(min=0, help="Predictions to make, in whole windows; 0 for all.")] = 2048,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Held-out bytes; by default validation.bin beside the checkpoint."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of stochastic rounding.")] = 0,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="DIR", help="Folder for evaluate.md and evaluate.json."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors, and JSON if asked.")] = False,
) -> None:
    """Run a language model in low precision, every combination of what is given, and say what it costs."""
    from itertools import product

    from ._files import check_folder
    from .evaluation import Datapath
    from .evaluation import evaluate as run
    from .formats import get_format
    from .report import evaluation_report
    from .transformer import load_model, read_windows

    if shift != "auto" and not shift.lstrip("-").isdecimal():
        raise ValueError(f"--shift must be a whole number or 'auto', got {shift!r}")
    paths: dict[Datapath, None] = {}
    grid = product(scaling or ["tensor"], activations or ["none"], formats or _EVALUATED, accumulator or ["exact"])
    for scales, inputs, name, held in grid:
        given = rounding or ["nearest-even"]
        for mode in [mode for mode in given if mode != "residual" or get_format(name).depth is not None] or given:
            path = Datapath(
                format=name,
                activations={"none": None, "same": name}.get(inputs, inputs),
                accumulator=held,
                order=order,
                scaling=scales,
                scale_rule=scale_rule,
                rounding=mode,
                accumulator_rounding=accumulator_rounding,
                shift=None if shift == "auto" else int(shift),
                seed=seed,
            )
            path.check()
            paths[path] = None
    if output is not None:
        check_folder(output)
    model = load_model(checkpoint)
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    windows = read_windows(data or folder / "validation.bin", model, tokens or None)
    with _progress(quiet) as progress:
        results = run(model, windows, list(paths), progress)
    source, made_by = (data.name if data else "validation.bin"), _given(context)
    written = [] if output is None else evaluation_report.write_evaluation(results, output, source, made_by)
    if json_:
        print(_json(evaluation_report.as_json(results, source, made_by)))
    elif not quiet:
        _print_table(evaluation_report.everything(results))
        for line in (*evaluation_report.verdict(results), *map(str, written)):
            _console().print(_plain(line))


@app.command(
    "formats",
    epilog="Examples: rf8sim formats; rf8sim formats rf8 --csv; rf8sim formats rf8 e4m3fn --figure rf8.svg",
)
def list_formats(
    names: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="NAME", help="One format for its code table, several to compare; all if none."),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    figure: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--figure", metavar="FILE", help="Draw the values of the formats to an .svg, .png or .pdf file."),
    ] = None,
) -> None:
    """List the number formats, or the codes of one of them."""
    from .formats import format_names, get_format
    from .report import listings

    if csv and json_:
        raise ValueError("--csv and --json exclude each other: give one")
    chosen = [get_format(name) for name in names or format_names()]
    if figure is not None:
        from .report.figures import value_density

        value_density(chosen).save(figure)
        return
    table = listings.codes(chosen[0]) if names and len(chosen) == 1 else listings.overview(chosen)
    if csv:
        print(listings.as_csv(table), end="")
    elif json_:
        print(_json(listings.as_records(table)))
    else:
        _print_table(table)


def _json(data: Any) -> str:
    import json

    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
