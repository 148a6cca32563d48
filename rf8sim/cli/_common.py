"""What the commands share: options, the progress bar, tables on the terminal."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer
from typer.core import TyperCommand

from ..checkpoints.containers import HELP

if TYPE_CHECKING:
    from rich.console import Console

    from ..report.sections.page import Page
    from ..report.tables.table import Table
    from ..studies.scheduling import Cluster

__all__ = [
    "Checkpoints",
    "Command",
    "Exclude",
    "Include",
    "PageReport",
    "Scheduler",
    "Threads",
    "Workers",
    "app",
    "as_json",
    "cluster",
    "given_command",
    "page_place",
    "plain",
    "print_page",
    "print_table",
    "progress_bar",
    "terminal",
]

app = typer.Typer(
    name="rf8sim",
    help="Simulate RF8 and other number formats of 1 to 16 bits, and judge them on real weights.",
    epilog="Example: rf8sim report model.safetensors -o report",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Command(TyperCommand):
    """What every command of the app is: before it runs, the places that its options name to write to are looked at."""

    _WRITTEN = ("--output", "--figures", "--figure", "--report", "--junit")

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raise ValueError if what it is to write has no place."""
        for parameter in self.params:
            path = ctx.params.get(parameter.name)
            if isinstance(path, str | Path) and parameter.opts[0] in self._WRITTEN:  # an older typer gives text
                kind = getattr(parameter, "metavar", None)
                folder = kind == "DIR" or (kind == "PAGE" and not _names_page(Path(path)))
                _check_output(parameter.opts[0], Path(path), folder, optional=not parameter.required)
                if kind == "PAGE":
                    _check_page(Path(path))
        return super().invoke(ctx)

    def get_help(self, ctx: Any) -> str:
        """Return the help, in which an argument has its name alone: neither braces nor the type in Python's words."""
        text = re.sub(r"\{([A-Z][A-Z_.]*)\}", r"\1", super().get_help(ctx))
        return re.sub(r"(?<=[A-Z]) <[\w\[\]]+>", lambda found: " " * len(found[0]), text)


def _names_page(path: Path) -> bool:
    from ..report.render import SUFFIXES

    return path.suffix in SUFFIXES and not path.is_dir()


def _check_page(path: Path) -> None:
    from ..report.render import is_file

    is_file(path)  # refuses what is named as another kind of file


def _check_output(option: str, path: Path, folder: bool, optional: bool) -> None:
    from .._base.files import check_place

    if str(path) == "-":
        other = f", or leave {option} out" if optional else ""
        raise ValueError(f"{option} - is not taken for standard output: name a {'folder' if folder else 'file'}{other}")
    try:
        check_place(path, folder=folder)
    except OSError as error:
        raise ValueError(f"{option} {path}: cannot be written: {error.strerror}") from None


def terminal() -> Console:
    """Return a console for standard output; into a pipe or file, tables are as wide as they need."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 240, highlight=False, soft_wrap=False)


_WIDEST_TITLE = 20


def print_table(table: Table, widths: Sequence[int] = ()) -> None:
    """Print a report's table on the terminal, its columns at least as wide as given."""
    import rich.box
    import rich.table

    from ..report.tables.table import WORDS, cell

    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=table.caption, title_justify="left", title_style="bold")
    for column, width in zip_longest(table.columns, widths):
        side: Literal["left", "right"] = "left" if column.kind in WORDS else "right"
        title = textwrap.fill(column.title, _WIDEST_TITLE)  # so that words, not names of tensors, are broken
        shown.add_column(title, justify=side, overflow="fold", min_width=width)
    for row in table.rows:
        shown.add_row(*(plain(cell(value, column.kind)) for value, column in zip(row, table.columns, strict=True)))
    terminal().print(shown)


def print_page(page: Page, notes: Iterable[str] = ()) -> None:
    """Print a page's table, if it has rows, and its verdict on the terminal, and sentences besides."""
    if page.brief.rows:
        print_table(page.brief)
    for line in (*page.verdict, *notes):
        terminal().print(plain(line))


def plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on the terminal, moved by calls with a tensor's name, the elements done and those in all."""
    if quiet or not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def progress(name: str, done: int, total: int) -> None:
            bar.update(task, description=name[-40:].rjust(40), completed=done, total=total)

        yield progress


Checkpoints = Annotated[
    list[Path],
    typer.Argument(
        metavar="CHECKPOINT",
        help=HELP,
    ),
]
Include = Annotated[
    Optional[list[str]],  # noqa: UP045  (typer reads it at run time)
    typer.Option(
        "--include",
        metavar="PATTERN",
        help="Measure only tensors whose name matches, e.g. '*.weight'; repeatable.",
    ),
]
Exclude = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="Leave out tensors whose name matches, e.g. '*norm*'; repeatable.",
    ),
]


def page_place(*names: str) -> Any:
    """Return an option that names where a page is written: a folder for all three kinds of files, or one file."""
    return typer.Option(
        *names,
        metavar="PAGE",
        help="Where to write the page: a folder, for HTML, Markdown and JSON; or one file, which ends in .html, .md or "
        ".json. Figures of Markdown are .svg files beside it.",
    )


Worst = Annotated[int, typer.Option("--worst", min=0, metavar="N", help="Tensors to list, the worst first.")]
All = Annotated[bool, typer.Option("--all", help="List all tensors.")]
PageReport = Annotated[Optional[Path], page_place("--report")]  # noqa: UP045
Threads = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--threads", min=1, metavar="N", help="Tensors processed in parallel (default: number of CPUs)."),
]
Workers = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--workers", min=1, metavar="N", help="Work in N processes of Dask distributed instead of threads."),
]
Scheduler = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--scheduler", metavar="ADDRESS", help="Work on a Dask cluster, e.g. tcp://host:8786."),
]


def cluster(scheduler: str | None, workers: int | None) -> Cluster | None:
    """Return where to work instead of in threads of this process; None if nothing was asked for.

    Raises
    ------
    ValueError
        If both are given.
    """
    from ..studies.scheduling import Cluster

    if scheduler is not None and workers is not None:
        raise ValueError("--scheduler and --workers exclude each other: a scheduler has its own workers")
    return None if scheduler is None and workers is None else Cluster(scheduler, workers)


def given_command(context: typer.Context) -> str:
    """Return the command as it was given, without what changes no result and without the folders of absolute paths."""
    words = ["rf8sim", str(context.info_name)]
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        value = context.params.get(str(parameter.name))
        same = parameter.name in ("threads", "workers", "scheduler", "worst") or isinstance(value, bool)
        if source is None or source.name != "COMMANDLINE" or same:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            shown = (item.name if item.is_absolute() else item.as_posix()) if isinstance(item, Path) else str(item)
            words += [shown] if parameter.param_type_name == "argument" else [parameter.opts[0], shown]
    return shlex.join(words)


def as_json(data: Any) -> str:
    """Return data as the text of a JSON file; refuse NaN and infinity, which JSON has not."""
    import json

    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
