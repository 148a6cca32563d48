"""The command compare-schemes: which scale mode, block size and scale format suits a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..checkpoints.containers import HELP
from ._common import Exclude, Include, Threads, app, given_command, page_place, print_page, progress_bar

__all__ = ["compare_schemes"]


@app.command(
    "compare-schemes",
    short_help="Compare scale modes, block sizes and scale formats of MX and other block-scaled schemes.",
    epilog="Examples: rf8sim compare-schemes model.safetensors -o schemes; "
    "rf8sim compare-schemes model.safetensors -o schemes -f mxfp8 -f mxfp4 --scale-format e8m0fnu; "
    "rf8sim compare-schemes large/ -o schemes.md -f nvfp4 -f int4 --block 16 --block 32 --every 16 --no-mse",
)
def compare_schemes(
    context: typer.Context,
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help=HELP,
        ),
    ],
    output: Annotated[Path, page_place("--output", "-o")],
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--family",
            "-f",
            metavar="NAME",
            help="mxfp8, mxfp6, mxfp4 (default), mxint8, nvfp4 or int4; repeatable.",
        ),
    ] = None,
    blocks: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--block",
            "-b",
            metavar="SIZE",
            help="Elements of a row that share a scale, or 'channel'; repeatable. By default 16, 32, 64, 128, channel.",
        ),
    ] = None,
    scale_formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--scale-format",
            "-s",
            metavar="NAME",
            help="e8m0fnu, e4m3fn (with a float32 scale for the tensor), float16, bfloat16 or float32; repeatable. By "
            "default those usual in a family.",
        ),
    ] = None,
    mse: Annotated[
        bool, typer.Option("--mse/--no-mse", help="Search scales of least squared error too: most of the time.")
    ] = True,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Measure only every N-th row of each matrix.")] = 1,
    include: Include = None,
    exclude: Exclude = None,
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Measure every scale mode, block size and scale format of families of block-scaled schemes on a checkpoint."""
    from ..report.render import write_page
    from ..report.sections.pages import COMPARE_SCHEMES
    from ..studies.experiment import Settings
    from ..studies.scheme_search import BLOCKS, SearchSpace, search_schemes

    sizes = [int(text) if text.isdecimal() else text for text in blocks or ()]
    space = SearchSpace(tuple(families or ["mxfp4"]), tuple(sizes) or BLOCKS, tuple(scale_formats or ()), mse)
    settings = Settings((), include=tuple(include or ()), exclude=tuple(exclude or ()))
    with progress_bar(quiet) as progress:
        measured = search_schemes(
            checkpoint, space, every=every, wants=settings.wants, threads=threads, progress=progress
        )
    made_by = given_command(context) + ("" if mse else " --no-mse")
    page = COMPARE_SCHEMES.page(measured, made_by, figures=output.suffix != ".json")
    written = write_page(page, output)
    if not quiet:
        print_page(page, map(str, written))
