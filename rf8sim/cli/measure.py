"""Commands that measure: report, fit and evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ._common import (
    All,
    Checkpoints,
    Exclude,
    Include,
    PageReport,
    Scheduler,
    Threads,
    Workers,
    Worst,
    app,
    as_json,
    cluster,
    given_command,
    page_place,
    print_page,
    progress_bar,
)

if TYPE_CHECKING:
    from ggd.survey import Survey

    from ..quantization.scheme import Scheme
    from ..report.sections.page import Page
    from ..studies.experiment import Experiment, Settings, SkippedTensor

__all__ = ["evaluate", "fit", "report"]

_EVALUATED = ["rf8", "e4m3fn", "e5m2", "e3m4", "int8"]
_ENGINES = (  # as `rf8sim.arithmetic.accumulation.ENGINES` has them, which no help page loads
    "volta-fp16, turing-fp16, ampere-fp16, ampere-tf32, ada-fp16, ada-tf32, ada-fp8, hopper-fp16, hopper-tf32, "
    "hopper-fp8, blackwell-fp16, blackwell-tf32, blackwell-fp8, blackwell-mxfp8, blackwell-mxfp4, blackwell-nvfp4, "
    "cdna1-fp16, cdna1-bf16, cdna2-fp16, cdna2-bf16, cdna2-bf16-1k, cdna3-fp16, cdna3-xf32, cdna3-fp8, riscv-bf16, "
    "riscv-fp8"
)


def _measure(checkpoints: Sequence[Path], settings: Settings, quiet: bool, **how: Any) -> Experiment:
    from ..studies.measuring import run

    with progress_bar(quiet) as progress:
        return run(checkpoints, settings, progress=progress, **how)


def _survey(
    checkpoints: Sequence[Path], settings: Settings, quiet: bool, **how: Any
) -> tuple[Survey, tuple[SkippedTensor, ...]]:
    from ..studies.measuring import survey

    with progress_bar(quiet) as progress:
        return survey(checkpoints, settings, progress=progress, **how)


@app.command(
    short_help="Report accuracy and size of ways to store a checkpoint's weights.",
    epilog="Examples: rf8sim report model.safetensors -o report; "
    "rf8sim report model.safetensors -o report -f rf8 -f mxfp4 -f nvfp4 -f int8/channel; "
    "rf8sim report model.safetensors -o report -f 'e4m3fn/1x32:e8m0fnu,floor' -f rf8/channel@residual",
)
def report(
    checkpoints: Checkpoints,
    output: Annotated[Path, page_place("--output", "-o")],
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--format",
            "-f",
            metavar="SCHEME",
            help="How weights are stored (repeatable): a format, with one scale per output channel as 'rf8sim "
            "quantize' has it; a named scheme such as mxfp4; or a text form such as int8/tensor, which is measured "
            "faster. See 'rf8sim formats'.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of stochastic rounding.")] = 0,
    include: Include = None,
    exclude: Exclude = None,
    evaluation: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--evaluation", metavar="FILE", help="Show the results of an evaluate.json of 'rf8sim evaluate'."),
    ] = None,
    area: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--area", metavar="FILE", help="Plot error against circuit area (JSON from `rf8sim hdl --area --json`)."
        ),
    ] = None,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures in the page.")] = True,
    hashes: Annotated[bool, typer.Option("--hash/--no-hash", help="State the SHA-256 of the files read.")] = True,
    threads: Threads = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Report accuracy and size of each scheme on the weights of checkpoints: report.html, report.md, report.json."""
    import msgspec

    from ..checkpoints.plan import by_channel
    from ..report.sections.area import read_area
    from ..report.sections.contents import Contents, command, hash_inputs, read_evaluation
    from ..studies.experiment import Settings

    settings = Settings(seed=seed, include=tuple(include or ()), exclude=tuple(exclude or ()))
    if formats:
        schemes = tuple(dict.fromkeys(map(by_channel, formats)))  # an older msgspec checks nothing on replacing
        settings = msgspec.structs.replace(settings, schemes=schemes)
    evaluated = read_evaluation(evaluation) if evaluation else None
    areas = read_area(area) if area else None
    where = cluster(scheduler, workers)
    kept = output.absolute().with_name(f".{output.name}.measured")  # measurements of a run that was killed
    experiment = _measure(checkpoints, settings, quiet, threads=threads, cluster=where, journal=kept)

    from ..report.render import write_page
    from ..report.sections.pages import REPORT

    inputs = hash_inputs(checkpoints) if hashes else ()
    flags = ["--no-figures"] * (not figures) + ["--no-hash"] * (not hashes)
    made_by = command(checkpoints, settings, evaluation, area, flags)
    drawn = figures and output.suffix != ".json"
    page = REPORT.page(Contents(experiment, made_by, inputs, evaluated, areas), figures=drawn)
    written = write_page(page, output)
    if not quiet:
        skipped = (f"Not measured: {tensor.name!r}: {tensor.reason}." for tensor in experiment.skipped[:5])
        print_page(page, (*skipped, *map(str, written)))


@app.command(
    short_help="Fit a generalized Gaussian and alternatives; report the best family.",
    epilog="Examples: rf8sim fit model.safetensors --include '*.weight'; "
    "rf8sim fit model.safetensors --family student-t --csv > fits.csv; rf8sim fit model.safetensors --report fit.md",
)
def fit(
    context: typer.Context,
    checkpoints: Checkpoints,
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--family",
            metavar="NAME",
            help="A family for a column of the table; repeatable. By default gaussian and laplace.",
        ),
    ] = None,
    include: Include = None,
    exclude: Exclude = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every number of each tensor.")] = False,
    figures: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--figures", metavar="DIR", help="Write the figures to a folder as .svg files."),
    ] = None,
    report: PageReport = None,
    worst: Worst = 10,
    all_: All = False,
    threads: Threads = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Fit a generalized Gaussian and alternatives to each tensor and to all together; report the best family."""
    from ggd.families import family_names

    from .._base.checks import choose
    from ..report.render import write_figures, write_page
    from ..report.sections.fit import Fits
    from ..report.sections.pages import FIT
    from ..report.tables import fit as fit_tables
    from ..report.tables import listings
    from ..studies.experiment import Settings

    if csv and json_:
        raise ValueError("--csv and --json exclude each other: give one")
    for name in families or ():
        choose("family", name, family_names())
    settings = Settings((), include=tuple(include or ()), exclude=tuple(exclude or ()))
    where = cluster(scheduler, workers)
    surveyed, skipped = _survey(checkpoints, settings, quiet, threads=threads, cluster=where)
    drawn = figures is not None or (report is not None and report.suffix != ".json")
    fits = Fits(surveyed, skipped, tuple(families or fit_tables.RIVALS), None if all_ else worst)
    page = FIT.page(fits, given_command(context), figures=drawn)
    written = [] if figures is None else write_figures(page.figures, figures)
    written += [] if report is None else write_page(page, report)
    if json_:
        print(as_json({"verdict": list(page.verdict), **page.data}))
    elif csv:
        print(listings.as_csv(fit_tables.everything(surveyed)), end="")
    else:
        notes = [f"{len(skipped)} not fitted: {skipped[0].name!r}: {skipped[0].reason}."] if skipped else []
        print_page(page, (*notes, *map(str, written)))


@app.command(
    short_help="Run a model in low precision: loss, agreement, layers.",
    epilog="Examples: rf8sim evaluate examples/lm/model.safetensors --format rf8 --format e4m3fn; "
    "rf8sim evaluate examples/lm/model.safetensors -f rf8/channel -f mxfp4 --activations int8/channel,max; "
    "rf8sim evaluate model.gguf --text book.txt -f rf8 -f mxfp4 --layers mxfp4 -o report; "
    "rf8sim evaluate llama_folder --text book.txt -f rf8 --activations int8_channel --cache e4m3fn/channel,max",
)
def evaluate(
    context_: typer.Context,
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A model as in examples/lm, its config.json beside it; with --text a Hugging Face folder or a .gguf "
            "file, which transformers opens.",
        ),
    ],
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--format",
            "-f",
            metavar="SCHEME",
            help="How weights are stored (repeatable): a format (one scale for each matrix), a named scheme such as "
            "mxfp4, or a text form such as int8/channel.",
        ),
    ] = None,
    activations: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="SCHEME",
            help="How activations are rounded (repeatable): a scheme (int8/channel,max has one scale for each token), "
            "'same' as the weights, or 'none' for float32 (default).",
        ),
    ] = None,
    accumulator: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="exact (default), float32, bfloat16, tf32, e8m13, ..., int:n, a format, aligned:F:K, or a matrix "
            f"engine, which says order and rounding too (repeatable). Engines: {_ENGINES}.",
        ),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Order of sums: sequential, pairwise, pairwise:K, blocked:K (K products), aligned:F:K."
        ),
    ] = "sequential",
    accumulator_rounding: Annotated[
        str, typer.Option(metavar="NAME", help="Rounding of the accumulator: nearest-even, toward-zero, stochastic ...")
    ] = "nearest-even",
    shift: Annotated[
        str,
        typer.Option(metavar="N", help="Divide products by 2**shift before they are summed: a number, or auto."),
    ] = "auto",
    tokens: Annotated[
        int, typer.Option(min=0, metavar="N", help="Predictions to make, in whole windows; 0 for all.")
    ] = 2048,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Held-out bytes; by default validation.bin in the checkpoint's folder."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of stochastic rounding.")] = 0,
    text: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="UTF-8 text to run any model on: loss, perplexity, divergence; embeddings of an encoder. Then "
            "--format may be float32 (rounds nothing), and --accumulator is PyTorch's float32 unless given.",
        ),
    ] = None,
    cache: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="SCHEME", help="With --text: how keys and values are rounded, or 'none' (default; repeatable)."
        ),
    ] = None,
    layers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="SCHEME", help="With --text: also round each layer alone by this scheme, to see which to keep."
        ),
    ] = None,
    layer_windows: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=1,
            metavar="N",
            help="With --text: windows for --layers and static scales (default: 1; 16 paragraphs of an encoder).",
        ),
    ] = None,
    context: Annotated[int, typer.Option(min=2, metavar="N", help="With --text: tokens of a window.")] = 512,
    include: Include = None,
    exclude: Exclude = None,
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, metavar="N", help="With --text: PyTorch's threads, on which last digits depend."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        page_place("--output", "-o"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors, and JSON if asked.")] = False,
) -> None:
    """Run a model in low precision, in every combination of the options, and report what it costs.

    Without --text: the language model of examples/lm, every product in a stated datapath.
    With --text: any model that transformers opens, by PyTorch.
    """
    from ..report.sections.pages import EVALUATE, EVALUATE_MODEL
    from ._model_evaluation import TextOptions, evaluate_text, needs_text, read_precisions

    only_text = {
        "--cache": cache, "--layers": layers, "--layer-windows": layer_windows, "--include": include,
        "--exclude": exclude, "--threads": threads,
    }  # fmt: skip
    not_text = {
        "--data": data, "--order": order != "sequential", "--shift": shift != "auto", "--seed": seed,
        "--accumulator-rounding": accumulator_rounding != "nearest-even",
    }  # fmt: skip
    unused = next((name for name, value in (only_text if text is None else not_text).items() if value), None)
    if unused is not None:
        raise ValueError(f"{unused} is {'only for' if text is None else 'not for'} a model run with --text")
    if text is None and needs_text(checkpoint):
        raise ValueError(f"{checkpoint}: a model of transformers runs on a text of yours: give it with --text FILE")
    made_by = given_command(context_)
    if text is not None:
        precisions = read_precisions(
            formats or _EVALUATED, activations or ["none"], cache or ["none"], accumulator or [""], _same
        )
        options = TextOptions(text, tokens, context, layers, layer_windows, include or (), exclude or (), threads)
        journal = None if output is None else output.absolute().with_name(f".{output.name}.evaluated")
        outputs = evaluate_text(checkpoint, precisions, options, journal, quiet)
        _show(EVALUATE_MODEL.page(outputs, made_by), output, json_, quiet)
        if journal is not None:
            journal.unlink(missing_ok=True)
        return
    from itertools import product

    from ..models.datapath import Datapath
    from ..models.evaluation import evaluate as run
    from ..models.transformer import load_model, read_windows
    from ..quantization.scheme import as_scheme
    from ..report.sections.evaluation import Evaluated

    if shift != "auto" and not shift.lstrip("-").isdecimal():
        raise ValueError(f"--shift must be a whole number or 'auto', got {shift!r}")
    paths: dict[Datapath, None] = {}
    for inputs, name, accumulates in product(activations or ["none"], formats or _EVALUATED, accumulator or ["exact"]):
        weights = as_scheme(name)
        rounded = {"none": None, "same": _same(weights)}[inputs] if inputs in ("none", "same") else as_scheme(inputs)
        path = Datapath(
            weights=weights,
            activations=rounded,
            accumulator=accumulates,
            order=order,
            accumulator_rounding=accumulator_rounding,
            shift=None if shift == "auto" else int(shift),
            seed=seed,
        )
        path.check()
        paths[path] = None
    model = load_model(checkpoint)
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    windows = read_windows(data or folder / "validation.bin", model, tokens or None)
    with progress_bar(quiet) as progress:
        results = run(model, windows, list(paths), progress)
    source = data.name if data else "validation.bin"
    _show(EVALUATE.page(Evaluated(tuple(results), source), made_by), output, json_, quiet)


def _show(page: Page, output: Path | None, json_: bool, quiet: bool) -> None:
    """Write a page and print it."""
    from ..report.render import write_page

    written = [] if output is None else write_page(page, output)
    if json_:
        print(as_json(page.record()))
    elif not quiet:
        print_page(page, map(str, written))


def _same(weights: Scheme) -> Scheme:
    """Return the scheme of activations rounded as the weights are; scales of tokens fit their largest magnitude."""
    if weights.scales is None or weights.scales.block != (1, -1):
        return weights
    return replace(weights, scales=replace(weights.scales, rule="max"))
