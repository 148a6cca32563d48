"""Commands about bits against quality: tradeoff, prune, plan, rf-family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ..checkpoints.containers import HELP
from ._common import (
    All,
    Exclude,
    Include,
    PageReport,
    Worst,
    app,
    given_command,
    page_place,
    print_page,
    progress_bar,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models.transformer import Model

__all__ = ["plan", "prune", "rf_family", "tradeoff"]

_Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help=HELP,
    ),
]
_Coder = Annotated[str, typer.Option(metavar="NAME", help="Entropy coder of the codes: rans, huffman or eg.")]
_WithModel = Annotated[
    bool,
    typer.Option("--model/--no-model", help="The checkpoint is a model as in examples/lm: measure its loss too."),
]
_Tokens = Annotated[
    int, typer.Option(min=0, metavar="N", help="With --model: predictions to make, in whole windows; 0 for all.")
]
_Data = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        metavar="FILE", help="With --model: held-out bytes; by default validation.bin in the checkpoint's folder."
    ),
]
_Formats = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--format",
        "-f",
        metavar="SCHEME",
        help="A format (one scale per tensor), a named scheme such as mxfp4, or a text form such as int8/channel; "
        "repeatable. See 'rf8sim formats'.",
    ),
]
_Output = Annotated[Path, page_place("--output", "-o")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def _model(checkpoint: Path, wanted: bool, data: Path | None, tokens: int) -> tuple[Model, NDArray[Any]] | None:
    """Load the model of a checkpoint and its held-out windows, if they are wanted."""
    if not wanted:
        return None
    from ..models.transformer import load_model, read_windows

    model = load_model(checkpoint)
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    return model, read_windows(data or folder / "validation.bin", model, tokens or None)


def _command(context: typer.Context, **switches: bool) -> str:
    """Return the command as it was given, with the switches that are on."""
    return " ".join([given_command(context), *(f"--{name.replace('_', '-')}" for name, on in switches.items() if on)])


@app.command(
    short_help="Compare formats and entropy codes in rate and distortion, with bounds.",
    epilog="Examples: rf8sim tradeoff model.safetensors -o tradeoff --format rf8 --format e4m3fn; "
    "rf8sim tradeoff examples/lm/model.safetensors -o tradeoff --model",
)
def tradeoff(
    context: typer.Context,
    checkpoint: _Checkpoint,
    output: _Output,
    formats: _Formats = None,
    coder: _Coder = "rans",
    model: _WithModel = False,
    tokens: _Tokens = 2048,
    data: _Data = None,
    include: Include = None,
    exclude: Exclude = None,
    quiet: _Quiet = False,
) -> None:
    """Measure rate (bits per weight, entropy-coded, everything counted) against distortion on a checkpoint."""
    from ..report.render import write_page
    from ..report.sections.pages import TRADEOFF
    from ..studies.experiment import Settings
    from ..studies.tradeoff import measure_tradeoff

    settings = Settings((), include=tuple(include or ()), exclude=tuple(exclude or ()))
    loaded = _model(checkpoint, model, data, tokens)
    with progress_bar(quiet) as progress:
        measured = measure_tradeoff(
            checkpoint,
            tuple(dict.fromkeys(formats or ())),
            coder,
            wants=settings.wants,
            model=loaded[0] if loaded else None,
            windows=loaded[1] if loaded else None,
            progress=progress,
        )
    page = TRADEOFF.page(measured, _command(context, model=model), figures=output.suffix != ".json")
    written = write_page(page, output)
    if not quiet:
        print_page(page, map(str, written))


@app.command(
    short_help="Measure accuracy and size after pruning by magnitude.",
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
    coder: _Coder = "rans",
    model: _WithModel = False,
    tokens: _Tokens = 2048,
    data: _Data = None,
    include: Include = None,
    exclude: Exclude = None,
    quiet: _Quiet = False,
) -> None:
    """Prune a checkpoint's weights by magnitude, quantize the rest, and report accuracy and size."""
    from ..report.render import write_page
    from ..report.sections.pages import PRUNE
    from ..studies.experiment import Settings
    from ..studies.pruning import SHARES, Pattern, measure_sparsity, parse_pattern

    given = [parse_pattern(text) for text in patterns or ()]
    given = given or [*(Pattern(share=share) for share in SHARES), Pattern(group=(2, 4)), Pattern(group=(1, 4))]
    settings = Settings((), include=tuple(include or ()), exclude=tuple(exclude or ()))
    names = tuple(dict.fromkeys(formats or ["rf8"]))
    loaded = _model(checkpoint, model, data, tokens)
    with progress_bar(quiet) as progress:
        measured = measure_sparsity(
            checkpoint,
            given,
            names,
            coder,
            wants=settings.wants,
            model=loaded,
            progress=progress,
        )
    page = PRUNE.page(measured, _command(context, model=model), figures=output.suffix != ".json")
    written = write_page(page, output)
    if not quiet:
        print_page(page, map(str, written))


@app.command(
    short_help="Choose a scheme for each tensor within a budget.",
    epilog="Examples: rf8sim plan model.safetensors --budget 'sqnr>=25dB' -o plan.toml; "
    "rf8sim plan examples/lm/model.safetensors --budget 'loss<=+1%' -o plan.toml; "
    "rf8sim plan llama_folder --budget 'kl<=0.01' --text book.txt -o plan.toml; "
    "rf8sim quantize model.safetensors --plan plan.toml -o model.quantized.safetensors",
)
def plan(
    context: typer.Context,
    checkpoint: _Checkpoint,
    budget: Annotated[
        str,
        typer.Option(
            metavar="BOUND",
            help="'sqnr>=25dB', 'worst-sqnr>=20dB', 'loss<=+1%' or 'kl<=0.01': the fewest bits that keep it; or "
            "'bits<=6': the best SQNR within it. 'kl' is measured with --text, in nats per token.",
        ),
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FILE", help="The plan, a .toml file for 'rf8sim quantize --plan'."),
    ] = None,
    formats: _Formats = None,
    family: Annotated[
        bool, typer.Option("--rf-family", help="Also consider every RF(p, depth) of 5 to 8 bits.")
    ] = False,
    coder: Annotated[
        str, typer.Option(metavar="NAME", help="How codes are stored: rans, huffman, eg or none.")
    ] = "rans",
    everything: Annotated[
        bool, typer.Option("--everything", help="Plan embeddings and norms too, if they have two axes.")
    ] = False,
    model: _WithModel = False,
    tokens: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="With --model or --text: predictions to make, in whole windows; 0 for all."
        ),
    ] = 2048,
    data: _Data = None,
    text: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="UTF-8 text to run the model on, for a budget of 'kl': a Hugging Face folder that transformers opens.",
        ),
    ] = None,
    window: Annotated[
        int, typer.Option("--context", min=2, metavar="N", help="With --text: tokens of a window.")
    ] = 512,
    report: PageReport = None,
    worst: Worst = 10,
    all_: All = False,
    quiet: _Quiet = False,
) -> None:
    """Choose a scheme for each tensor of a checkpoint: the fewest bits within a bound, measured."""
    from ..checkpoints.plan import KEPT_PATTERNS, write_plan
    from ..checkpoints.requirements import parse_requirement
    from ..report.render import write_page
    from ..report.sections.pages import PLAN
    from ..report.sections.plan import overview
    from ..studies.divergence_plan import plan_divergence
    from ..studies.planning import SCHEMES, measure_menu, plan_checkpoint
    from ..studies.planning import rf_family as members
    from ._model_evaluation import predictions_of

    bound = parse_requirement(budget)
    names = [*(formats or (() if family else SCHEMES))]
    names += [f"{name}/{block}" for name in (members() if family else ()) for block in ("tensor", "channel")]
    kept = () if everything else KEPT_PATTERNS
    if output is not None and output.suffix != ".toml":
        raise ValueError(f"{output}: a plan is a TOML file: expected a name that ends in .toml")
    if (bound.quantity == "kl") != (text is not None):
        raise ValueError("--text FILE and a budget such as 'kl<=0.01' belong together: give both or neither")
    loaded = _model(checkpoint, model or bound.quantity == "loss", data, tokens)
    with progress_bar(quiet) as progress:
        menu = measure_menu(
            checkpoint,
            tuple(dict.fromkeys(names)),
            coder,
            kept=kept,
            progress=progress,
        )
        if text is None:
            planned = plan_checkpoint(
                checkpoint,
                bound,
                menu,
                kept=kept,
                model=loaded[0] if loaded else None,
                windows=loaded[1] if loaded else None,
                progress=progress,
            )
        else:
            names = [matrix.name for matrix in menu.matrices]
            with predictions_of(checkpoint, (text, tokens, window), names, progress) as predictions:
                planned = plan_divergence(checkpoint, bound, menu, predictions, kept=kept)
    page = PLAN.page(planned, _command(context, rf_family=family, everything=everything, model=model))
    written = [] if output is None else [output]
    if output is not None:
        write_plan(output, planned.plan(), "\n".join([f"Made by {page.made_by}", *page.verdict]))
    written += [] if report is None else write_page(page, report)
    if not quiet:
        shown = replace(page, brief=overview(planned, None if all_ else worst))
        print_page(shown, map(str, written))


@app.command(
    "rf-family",
    short_help="Compare RF(p, depth) formats in accuracy and size.",
    epilog="Example: rf8sim rf-family -o rf-family --shape 0.8 --shape 2",
)
def rf_family(
    context: typer.Context,
    output: _Output,
    shapes: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option("--shape", metavar="NUMBER", help="Shape of the weights: 2 is Gaussian, 1 Laplace; repeatable."),
    ] = None,
    quiet: _Quiet = False,
) -> None:
    """Compute the SQNR of every RF(p, depth) of up to 8 bits on generalized Gaussian weights."""
    from ..report.render import write_page
    from ..report.sections.pages import RF_FAMILY
    from ..studies.rf_family import SHAPES, theory

    for shape in shapes or ():
        if not 0.2 <= shape <= 20:
            raise ValueError(f"--shape must be from 0.2 to 20, got {shape:g}")
    members = theory(tuple(dict.fromkeys(shapes or SHAPES)))
    page = RF_FAMILY.page(members, given_command(context), figures=output.suffix != ".json")
    written = write_page(page, output)
    if not quiet:
        print_page(page, map(str, written))
