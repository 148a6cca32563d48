"""Commands about bits against quality: tradeoff, prune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ._common import Exclude, Include, app, given_command, plain, print_table, progress_bar, terminal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..transformer import Model

__all__ = ["prune", "tradeoff"]

_Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A .safetensors, .npz, .npy, .pt, .pth or .bin file, an .index.json, or a folder with one.",
    ),
]
_Coder = Annotated[str, typer.Option(metavar="NAME", help="Entropy coder of the codes: rans, huffman or eg.")]
_WithModel = Annotated[
    bool,
    typer.Option("--model/--no-model", help="The checkpoint is a model as in examples/lm: measure its loss too."),
]
_Tokens = Annotated[int, typer.Option(min=0, help="With --model: predictions to make, in whole windows; 0 for all.")]
_Data = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="FILE", help="With --model: held-out bytes; by default validation.bin beside the checkpoint."),
]
_Formats = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--format", "-f", metavar="NAME", help="A format; repeatable. See 'rf8sim formats'."),
]
_Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the page, JSON and figures.")]
_Scaling = Annotated[str, typer.Option(help="One scale for each: tensor, channel, block, or none.")]
_Rule = Annotated[str, typer.Option(help="How a scale is chosen: max, mse or ggd.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def _model(checkpoint: Path, wanted: bool, data: Path | None, tokens: int) -> tuple[Model, NDArray[Any]] | None:
    """Load the model of a checkpoint and its held-out windows, if they are wanted."""
    if not wanted:
        return None
    from ..transformer import load_model, read_windows

    model = load_model(checkpoint)
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    return model, read_windows(data or folder / "validation.bin", model, tokens or None)


@app.command(
    short_help="Show bits against quality for every format and code, beside the bounds.",
    epilog="Examples: rf8sim tradeoff model.safetensors -o tradeoff --format rf8 --format e4m3fn; "
    "rf8sim tradeoff examples/lm/model.safetensors -o tradeoff --model",
)
def tradeoff(
    context: typer.Context,
    checkpoint: _Checkpoint,
    output: _Output,
    formats: _Formats = None,
    scaling: _Scaling = "tensor",
    scale_rule: _Rule = "mse",
    block_size: Annotated[int, typer.Option(min=1, help="Elements in a block, with --scaling block.")] = 32,
    coder: _Coder = "rans",
    model: _WithModel = False,
    tokens: _Tokens = 2048,
    data: _Data = None,
    include: Include = None,
    exclude: Exclude = None,
    quiet: _Quiet = False,
) -> None:
    """Measure rate (bits per weight, entropy-coded, everything counted) against distortion on a checkpoint."""
    from .._files import check_folder
    from ..experiment import Settings
    from ..plan_file import Recipe
    from ..report import tradeoff_report
    from ..tradeoff import measure_tradeoff

    settings = Settings(formats=(), include=tuple(include or ()), exclude=tuple(exclude or ()))
    recipe = Recipe(scaling=scaling, scale_rule=scale_rule, block_size=block_size, entropy=coder)
    recipe.check()
    check_folder(output)
    loaded = _model(checkpoint, model, data, tokens)
    with progress_bar(quiet) as progress:
        found = measure_tradeoff(
            checkpoint,
            tuple(dict.fromkeys(formats or ())),
            recipe,
            wants=settings.wants,
            model=loaded[0] if loaded else None,
            windows=loaded[1] if loaded else None,
            progress=progress,
        )
    written = tradeoff_report.write_tradeoff(found, output, given_command(context))
    if not quiet:
        print_table(tradeoff_report.points(found))
        for line in (*tradeoff_report.verdict(found), *map(str, written)):
            terminal().print(plain(line))


@app.command(
    short_help="Show what pruning by magnitude costs and saves.",
    epilog="Examples: rf8sim prune model.safetensors -o sparsity --pattern 50% --pattern 80% --pattern 2:4; "
    "rf8sim prune examples/lm/model.safetensors -o sparsity --format rf8 --model",
)
def prune(
    context: typer.Context,
    checkpoint: _Checkpoint,
    output: _Output,
    patterns: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--pattern",
            "-p",
            metavar="PATTERN",
            help="What to prune: a share such as 80%, a threshold such as '<0.01', or all but n of m neighbours, as "
            "2:4; repeatable. By default shares of 0 to 90 %, 2:4 and 1:4.",
        ),
    ] = None,
    formats: _Formats = None,
    scaling: _Scaling = "tensor",
    scale_rule: _Rule = "mse",
    coder: _Coder = "rans",
    model: _WithModel = False,
    tokens: _Tokens = 2048,
    data: _Data = None,
    include: Include = None,
    exclude: Exclude = None,
    quiet: _Quiet = False,
) -> None:
    """Prune a checkpoint's weights by magnitude, quantize what is left, and say what it costs and saves."""
    from .._files import check_folder
    from ..experiment import Settings
    from ..plan_file import Recipe
    from ..pruning import SHARES, Pattern, measure_sparsity, parse_pattern
    from ..report import sparsity_report

    given = [parse_pattern(text) for text in patterns or ()]
    given = given or [*(Pattern(share=share) for share in SHARES), Pattern(group=(2, 4)), Pattern(group=(1, 4))]
    settings = Settings(formats=(), include=tuple(include or ()), exclude=tuple(exclude or ()))
    names = tuple(dict.fromkeys(formats or ["rf8"]))
    for name in names:
        Recipe(name, scaling=scaling, scale_rule=scale_rule, entropy=coder).check()
    check_folder(output)
    loaded = _model(checkpoint, model, data, tokens)
    with progress_bar(quiet) as progress:
        found = measure_sparsity(
            checkpoint,
            given,
            names,
            Recipe(scaling=scaling, scale_rule=scale_rule, entropy=coder),
            wants=settings.wants,
            model=loaded[0] if loaded else None,
            windows=loaded[1] if loaded else None,
            progress=progress,
        )
    written = sparsity_report.write_sparsity(found, output, given_command(context))
    if not quiet:
        print_table(sparsity_report.results(found))
        for line in (*sparsity_report.verdict(found), *map(str, written)):
            terminal().print(plain(line))
