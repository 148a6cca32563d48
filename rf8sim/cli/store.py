"""Commands that write and check quantized checkpoints: quantize, dequantize, check."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ..checkpoints.containers import HELP
from ._common import All, Worst, app, as_json, plain, print_table, progress_bar, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..checkpoints.comparison import Comparison
    from ..checkpoints.guard import Evaluate
    from ..checkpoints.manifest import Manifest
    from ..checkpoints.plan import Plan
    from ..checkpoints.protect import Protection
    from ..report.tables.table import Table

__all__ = ["check", "dequantize", "quantize"]

_Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help=HELP,
    ),
]
_Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A .safetensors file, which replaces one of that name; or a new folder, for as many files as the source "
        "has.",
    ),
]
_QuantizedOutput = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A .safetensors file, which replaces one of that name; a new folder, for as many files as the source has; "
        "or, from GGUF, a .gguf file (-f q8_0, q4_0, q4_1 or mxfp4).",
    ),
]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


@app.command(
    short_help="Write a quantized checkpoint, checked before it is put in place.",
    epilog="Examples: rf8sim quantize model.safetensors -o model.rf8.safetensors; "
    "rf8sim quantize folder -o out -f mxfp4 -f '*.down_proj.weight=int8/channel' --keep 'lm_head*'; "
    "rf8sim quantize model-f16.gguf -o model-q8_0.gguf -f q8_0; "
    "rf8sim quantize examples/lm/model.safetensors -o lm.safetensors --require 'sqnr>=25dB' --require 'loss<=+1%'; "
    "rf8sim quantize model.safetensors -o out.safetensors --require 'metric>=-1%' --evaluate 'python test.py {}'",
)
def quantize(
    checkpoint: _Checkpoint,
    output: _QuantizedOutput,
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer reads it at run time)
        typer.Option(
            "--format",
            "-f",
            metavar="[PATTERN=]SCHEME",
            help="How all tensors are stored (default: rf8), or with PATTERN= those whose name matches: a format (one "
            "scale per output channel, as in report; in fit and plan one per tensor: write int8/tensor or int8/channel "
            "to be explicit), a named scheme such as mxfp4, or a text form such as int8/1x64. See 'rf8sim formats'.",
        ),
    ] = None,
    keep: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="PATTERN", help="Keep tensors whose name matches in their own dtype; repeatable."),
    ] = None,
    kept_dtype: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="DTYPE",
            help="Dtype of float32 norms, embeddings and biases, which are kept: own (default), bfloat16 or float16.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Quantize norms, embeddings and biases too; by default they are kept.")
    ] = False,
    plan: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Per-tensor plan (TOML); command-line options override it."),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, metavar="N", help="Seed of stochastic rounding (default: 0)."),
    ] = None,
    entropy: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME", help="Entropy coder of the codes: rans, huffman, eg, zstd or none (default: none)."
        ),
    ] = None,
    protect: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SHARE", help="Keep this share of each tensor's weights unquantized: 1% or 0.01."),
    ] = None,
    protect_in: Annotated[
        str,
        typer.Option(
            metavar="DTYPE",
            help="Dtype of the protected weights: exact (that of the tensor), float16, bfloat16 or float32.",
        ),
    ] = "exact",
    sensitivity: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="File of squared gradients per weight or per column; selects the weights that --protect keeps.",
        ),
    ] = None,
    calibrate: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Calibration data (raw bytes) for a model as in examples/lm; its activations select the weights "
            "that --protect keeps.",
        ),
    ] = None,
    require: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="BOUND",
            help="'sqnr>=25dB', 'worst-sqnr>=20dB', 'bits<=6', 'loss<=+1%' or 'metric>=-1%'; repeatable. "
            "If one is broken, nothing is written and the exit status is 1.",
        ),
    ] = None,
    evaluate: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="COMMAND",
            help="Shell command that evaluates a dequantized checkpoint; {} is replaced by its path (of a folder that "
            "from_pretrained opens, if CHECKPOINT is one); the last number it prints is the metric.",
        ),
    ] = None,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Held-out bytes for the loss; by default validation.bin beside the model."),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=0, metavar="N", help="Predictions for the loss, in whole windows; 0 for all.")
    ] = 2048,
    worst: Worst = 10,
    all_: All = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the manifest instead of a table.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Write a quantized checkpoint; it is read back and compared first, and not written if it breaks a requirement."""
    from ..checkpoints.guard import quantize_checkpoint
    from ..checkpoints.manifest import RefusedError
    from ..checkpoints.plan import Plan
    from ..checkpoints.requirements import parse_requirement

    given = {name: value for name, value in {"seed": seed, "entropy": entropy}.items() if value is not None}
    chosen = _plan(plan, formats or [], keep or [], given, everything)
    if kept_dtype is not None:
        chosen = dataclasses.replace(chosen or Plan(), kept_dtype=kept_dtype)
    requirements = [parse_requirement(text) for text in require or ()]
    for option, value in (("--sensitivity", sensitivity), ("--calibrate", calibrate)):
        if value and not protect:
            raise ValueError(f"{option} needs --protect SHARE, e.g. --protect 1%")
    needs = {text.quantity for text in requirements} & {"loss", "metric"}
    with progress_bar(quiet) as progress:
        protection = _protection(checkpoint, protect, protect_in, sensitivity, calibrate)
        measure: Evaluate | None = None
        if evaluate is not None:
            measure = _command(evaluate, checkpoint, needs)
        elif needs or calibrate is not None:
            measure = _loss(checkpoint, needs, data, tokens, calibrate)
        try:
            manifest = quantize_checkpoint(
                checkpoint, output, chosen,
                protection=protection, require=requirements, evaluate=measure, progress=progress,
            )  # fmt: skip
        except RefusedError as error:
            typer.echo(f"rf8sim: refused: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from None
    if json_:
        print(as_json(manifest.to_json()))
    elif not quiet:
        _show(manifest, output, None if all_ else worst)


def _plan(
    path: Path | None, formats: list[str], keep: list[str], given: dict[str, Any], everything: bool
) -> Plan | None:
    """Return what the options say; None if there are none."""
    from ..checkpoints.plan import Plan, Recipe, Rule, read_plan

    if not (path or formats or keep or given or everything):
        return None
    base = read_plan(path) if path else Plan(Recipe())
    rules = [Rule(pattern, keep=True) for pattern in keep]
    schemes: dict[str, str] = {}
    for text in formats:
        pattern, scheme = _pattern_and_scheme(text)
        if pattern in schemes:
            which = f"for {pattern!r}" if pattern else "without PATTERN="
            another = "another pattern" if pattern else "PATTERN=SCHEME"
            raise ValueError(
                f"--format {which} is given twice ({schemes[pattern]}, {scheme}): quantize writes one checkpoint; give "
                f"one, or {another}"
            )
        schemes[pattern] = scheme
    rules += [Rule(pattern, {"scheme": scheme}) for pattern, scheme in schemes.items() if pattern]
    if "" in schemes:
        given = {**given, "scheme": schemes[""]}
    plan = Plan(dataclasses.replace(base.defaults, **given), (*rules, *base.rules), () if everything else base.kept)
    plan.check()
    return plan


def _pattern_and_scheme(text: str) -> tuple[str, str]:
    """Split ``PATTERN=SCHEME``; the pattern is empty where the text is a scheme, which may have an equals sign too."""
    from ..quantization.scheme import as_scheme

    pattern, equals, scheme = text.partition("=")
    if not equals:
        return "", text
    try:
        as_scheme(text)
    except ValueError:
        return pattern, scheme
    return "", text


def _protection(
    checkpoint: Path, share: str | None, kept_in: str, sensitivity: Path | None, calibrate: Path | None
) -> Protection | None:
    from ..checkpoints.protect import Protection, read_sensitivity
    from ..models.transformer import load_model, read_windows

    if share is None:
        return None
    try:
        number = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"--protect takes a share such as 1% or 0.01, got {share!r}") from None
    if sensitivity is not None and calibrate is not None:
        raise ValueError("--sensitivity and --calibrate exclude each other: give one")
    if sensitivity is not None:
        return Protection(number, kept_in, read_sensitivity(sensitivity), f"the squares in {sensitivity.name}")
    if calibrate is not None:
        model = load_model(checkpoint)
        from ..models.loss import activation_power

        power = activation_power(model, read_windows(calibrate, model)[0::2])
        return Protection(number, kept_in, power, f"error times mean squared activation on {calibrate.name}")
    return Protection(number, kept_in)


def _command(evaluate: str, checkpoint: Path, needs: set[str]) -> Evaluate:
    from ..checkpoints.checkpoint import open_checkpoint
    from ..checkpoints.folders import is_model_folder
    from ..checkpoints.guard import command_metric

    if "loss" in needs:
        raise ValueError("--evaluate measures what 'metric' bounds: write metric in place of loss")
    return command_metric(evaluate, checkpoint if is_model_folder(checkpoint) else open_checkpoint(checkpoint).path)


def _loss(checkpoint: Path, needs: set[str], data: Path | None, tokens: int, calibrate: Path | None) -> Evaluate:
    from ..checkpoints.checkpoint import open_checkpoint
    from ..models.loss import model_loss
    from ..models.transformer import load_model, read_windows

    if "metric" in needs:
        raise ValueError("'metric' is what a command prints: give it with --evaluate 'COMMAND {}'")
    model = load_model(checkpoint)
    data = data or open_checkpoint(checkpoint).path.parent / "validation.bin"
    # The windows that calibrate are never those that judge.
    apart = calibrate is not None and calibrate.exists() and data.exists() and calibrate.samefile(data)
    windows = read_windows(data, model)[1::2] if apart else read_windows(data, model)
    count = min(-(-tokens // model.context) or len(windows), len(windows))
    return model_loss(checkpoint, windows[[index * len(windows) // count for index in range(count)]])


def _show(manifest: Manifest, output: Path, listed_rows: int | None) -> None:
    from .._base.display import bits_in_words
    from ..checkpoints.folders import is_model_folder, why_stopped
    from ..checkpoints.manifest import manifest_path

    narrowed = [row for row in manifest.tensors if row.scheme in ("bfloat16/none", "float16/none")]
    shown_rows = [row for row in manifest.tensors if row.scheme and row not in narrowed]
    if shown_rows:
        print_table(_losses("What each tensor was quantized to", shown_rows, listed_rows))
    out = terminal()
    stored = _dtypes(output)
    listed: dict[tuple[str, str], list[str]] = {}
    for tensor in manifest.tensors:
        if tensor.reason:
            what = "quantized again" if tensor.scheme else f"kept in {stored[tensor.name]}"
            listed.setdefault((what, tensor.reason), []).append(tensor.name)
    for tensor in narrowed:
        listed.setdefault((f"kept in {str(tensor.scheme).partition('/')[0]}", "--kept-dtype"), []).append(tensor.name)
    for (what, reason), names in listed.items():
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        out.print(plain(f"{len(names)} tensor{'s'[: len(names) > 1]} {what} ({reason}): {shown}."))
    for line in () if output.suffix.lower() == ".gguf" else _kept_bits(manifest, stored, narrowed):
        out.print(plain(line))
    for name, (without, with_it) in manifest.gain.items():
        out.print(plain(f"Protected ({manifest.protection}): {name} {without:.5g} without, {with_it:.5g} with."))
    for check in manifest.checks:
        out.print(plain(f"Passed: {check.sentence}."))
    out.print(plain(f"{bits_in_words(manifest.bits)}.\n{output}"))
    out.print(plain(str(manifest_path(output))))
    if is_model_folder(output):
        stopped = why_stopped(output)
        opens = f"transformers opens it: AutoModel.from_pretrained({str(output)!r})."
        out.print(plain(opens if stopped is None else f"Other tools do not open this folder: {stopped}."))


def _dtypes(output: Path) -> dict[str, str]:
    """Return the type that each tensor of a checkpoint written here is stored in."""
    from ..checkpoints.checkpoint import open_checkpoint
    from ..checkpoints.quantized import open_quantized

    if output.suffix.lower() == ".gguf":
        return {t.name: t.coded.words.removeprefix("GGUF ") if t.coded else t.dtype for t in open_checkpoint(output)}
    return {tensor.name: tensor.dtype for tensor in open_quantized(output)}


def _losses(caption: str, compared: Sequence[Comparison], count: int | None) -> Table:
    """Return what tensors lost: those of lowest SQNR, or all, and all that were quantized together."""
    from ..checkpoints.comparison import decibels
    from ..report.tables.table import Column, Table, worst

    columns = (Column("tensor"), Column("scheme"), Column("bits per weight", ".3f"), Column("SQNR, dB", ".2f"))
    rows = [(t.name, t.scheme or "kept", t.bits_per_weight, t.sqnr_db) for t in compared]
    changed = [t for t in compared if t.scheme]
    if len(changed) > 1:
        bits = sum(t.bits_per_weight * t.elements for t in changed) / max(sum(t.elements for t in changed), 1)
        sqnr = decibels(sum(t.signal for t in changed), sum(t.noise for t in changed))
        rows.append(("all quantized", "", bits, sqnr))
    quality = [t.sqnr_db for t in compared]
    return worst(Table(caption, columns, tuple(rows)), quality, count, "tensors of lowest SQNR")


_BITS = {"float32": 32, "float64": 64}


def _kept_bits(manifest: Manifest, stored: Mapping[str, str], narrowed: Sequence[Comparison]) -> Iterator[str]:
    """Yield what a narrower type of kept tensors saves, or would save."""
    from ..checkpoints.comparison import decibels
    from ..checkpoints.plan import Plan

    size, bfloat16 = sum(tensor.elements for tensor in manifest.tensors), Plan(kept_dtype="bfloat16")
    if narrowed:
        saved = sum((_BITS[stored[t.name]] - 16) * t.elements for t in narrowed) / size
        error = decibels(sum(t.signal for t in narrowed), sum(t.noise for t in narrowed))
        yield f"The narrower type of kept tensors saves {saved:.3g} bits per weight; their SQNR is {error:.4g} dB."
    wide = [t for t in manifest.tensors if not t.scheme and bfloat16.narrowed(t.reason, stored[t.name])]
    taken = sum(_BITS[stored[t.name]] * t.elements for t in wide) / max(size, 1)
    saved = taken - sum(16 * t.elements for t in wide) / max(size, 1)
    if saved >= 0.05 * manifest.bits_per_weight:
        yield (
            f"Kept tensors of float32 take {taken:.3g} of {manifest.bits_per_weight:.3g} bits per weight: "
            f"--kept-dtype bfloat16 saves {saved:.3g}."
        )


@app.command(
    short_help="Convert a quantized checkpoint back to floating point.",
    epilog="Examples: rf8sim dequantize model.rf8.safetensors -o plain.safetensors; "
    "rf8sim dequantize folder -o out --dtype bfloat16",
)
def dequantize(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="FILE", help="What 'rf8sim quantize' wrote: a file, an index, or a folder.")
    ],
    output: _Output,
    dtype: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="Dtype to write: float32, bfloat16 or float16; by default that of each tensor of the original.",
        ),
    ] = None,
    bare: Annotated[
        bool,
        typer.Option("--plain", help="Leave out of the header what 'quantize' needs to give the same bytes again."),
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Decode a quantized checkpoint to floating point, as plain safetensors that any tool reads."""
    from .._base.checks import choose
    from ..checkpoints.dequantization import dequantize_checkpoint

    if dtype is not None:
        choose("dtype", dtype, ("float32", "bfloat16", "float16"))
    with progress_bar(quiet) as progress:
        dequantize_checkpoint(checkpoint, output, dtype, plain=bare, progress=progress)
    if not quiet:
        print(output)


@app.command(
    short_help="Verify a quantized or packed checkpoint: every byte, and against its original.",
    epilog="Examples: rf8sim check out.safetensors; rf8sim check out.rf8z; "
    "rf8sim check out.safetensors --against model.safetensors",
)
def check(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="What 'rf8sim quantize' or 'rf8sim pack' wrote: a file, an index, or a folder."
        ),
    ],
    against: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="CHECKPOINT", help="The original: show what each tensor lost."),
    ] = None,
    worst: Worst = 10,
    all_: All = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Verify a quantized or packed checkpoint. The exit status is 1 if anything is damaged, and each damage is named.

    It is 2 if there is no such checkpoint to verify, or if --against is not what it was quantized from.
    """
    from .._base.display import bits_in_words
    from ..checkpoints.checkpoint import open_checkpoint
    from ..checkpoints.comparison import compare
    from ..checkpoints.lossless import is_packed
    from ..checkpoints.manifest import check_manifest, refuse_other
    from ..checkpoints.quantized import find_damage, open_quantized
    from ..quantization.records import to_builtins

    if is_packed(checkpoint):
        if against is not None:
            raise ValueError("--against is for quantized checkpoints: what is packed comes back to the byte")
        _check_packed(checkpoint, json_, quiet)
        return
    source = None if against is None else open_checkpoint(against)
    damage = find_damage(checkpoint)
    if not damage:
        damage = check_manifest(open_quantized(checkpoint))
    _exit_if(damage)
    opened = open_quantized(checkpoint)
    if source is not None:
        refuse_other(source, opened.path, opened)
    with progress_bar(quiet) as progress:
        compared = [] if source is None else list(compare(source, opened, progress))
    if json_:
        print(as_json({"damaged": [], "bits": opened.bits, "tensors": to_builtins(compared)}))
    elif not quiet:
        if compared:
            print_table(_losses("What each tensor lost", compared, None if all_ else worst))
        for t in compared:
            if t.differing:
                what = "elements are finite in one and not in the other" if t.scheme else "is not what it was"
                terminal().print(plain(f"{t.name!r}: {t.differing} {what}."))
        terminal().print(plain(f"{opened.path}: no damage: {len(opened)} tensors, {bits_in_words(opened.bits)}."))


def _check_packed(checkpoint: Path, json_: bool, quiet: bool) -> None:
    from ..checkpoints.lossless import find_packed_damage

    with progress_bar(quiet) as progress:
        damage = find_packed_damage(checkpoint, progress=progress)
    _exit_if(damage)
    if json_:
        print(as_json({"damaged": []}))
    elif not quiet:
        terminal().print(plain(f"{checkpoint}: no damage: it decodes to the bytes of the original."))


def _exit_if(damage: Sequence[str]) -> None:
    """Print what is damaged, and exit with status 1 if anything is."""
    for sentence in damage:
        typer.echo(f"rf8sim: damaged: {' '.join(sentence.split())}", err=True)
    if damage:
        raise typer.Exit(1)
