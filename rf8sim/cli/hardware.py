"""Commands for those who build hardware: vectors and verify."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Optional

import typer

from ._common import app, as_json, plain, progress_bar, terminal

if TYPE_CHECKING:
    from ..codec.rounding import Rounding
    from ..hardware.vectors.vectors import VectorSet

__all__ = ["vectors", "verify"]

Operation = Annotated[
    str,
    typer.Argument(
        metavar="OP",
        help="decode, encode, convert, add, subtract, multiply, divide, sqrt, minimum, maximum, compare, fma, dot:n "
        "(n products), block_dot:n (with scales), or accumulate (a stream).",
    ),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format", "-f", metavar="NAME", help="Format, see 'rf8sim formats'; of operands also float32, tf32, e{E}m{M}."
    ),
]
FormatB = Annotated[
    Optional[str],  # noqa: UP045  (typer reads it at run time)
    typer.Option("--format-b", metavar="NAME", help="Format of operand b, if it is another."),
]
FormatC = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--format-c",
        metavar="NAME",
        help="Format of operand c, if it is another: a format, float32, tf32, e{E}m{M}, int32 or fixed:I.F; adds c to "
        "dot:n and block_dot:n.",
    ),
]
Scale = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--scale", metavar="NAME", help="Format of the scales of block_dot:n (default: e8m0fnu)."),
]
Accumulator = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--accumulator",
        metavar="NAME",
        help="What dot:n, block_dot:n, fma and accumulate sum in (default: exact): float32, e8m13, int:24, a format, "
        "aligned:F:K, or a matrix engine such as hopper-fp8.",
    ),
]
Profile = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--profile", metavar="NAME", help="Conventions for overflow, NaN and tininess: riscv, cuda, ocp or p3109."
    ),
]
Tininess = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--tininess", metavar="WHEN", help="Underflow is decided before (default) or after rounding."),
]
Signalling = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--signalling-nan", metavar="RULE", help="Signalling NaN operands are quiet (default) or raise invalid."
    ),
]
Source = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--from",
        metavar="TYPE",
        help="Input type of encode: float32 (default), float16, bfloat16, float64, or fixed:I.F with I integer bits, "
        "the sign included, and F fraction bits.",
    ),
]
Result = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--result",
        metavar="TYPE",
        help="Result type: another format, or float32, tf32, e{E}m{M}, rounded; fixed:I.F for exact results; of decode "
        "float32 (default), float16, bfloat16, float64, exact.",
    ),
]
RoundingMode = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="MODE",
        help="Rounding mode: nearest-even (default), nearest-away, toward-zero, up, down, to-odd, residual (RF "
        "formats), or stochastic, whose random word is the last operand.",
    ),
]
Overflow = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="RULE",
        help="Result on overflow: saturate (default for formats), ieee (as the rounding direction says; default for "
        "float32 and other wide floats), propagate (infinities stay), infinity or nan.",
    ),
]
RandomBits = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, max=32, metavar="N", help="Bits of the random word of stochastic rounding (default: 32)."),
]
Level = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, max=2, metavar="N", help="Test level: 1 (default), or 2 for many more vectors."),
]
Seed = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=0, metavar="N", help="Seed of the random vectors (default: 0)."),
]
Count = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "-n",
        metavar="COUNT",
        min=0,
        help="Random vectors; by default 16384, 2^20 at level 2, 0 when the set is exhaustive.",
    ),
]


_SETTING = (
    "operation", "source", "result", "scale", "accumulator", "profile", "tininess", "signalling", "level", "seed", "n"
)  # fmt: skip
_ROUNDING = ("rounding", "overflow", "random_bits")
_FIELDS = {"random_bits": "bits"}  # options whose names in the library are others


@contextlib.contextmanager
def _own_words(context: typer.Context) -> Iterator[None]:
    """Name the command's options in refusals as they are typed: the library has its own names for them."""
    flags = {str(parameter.name): parameter.opts[0] for parameter in context.command.params}
    flags |= {field: flags[name] for name, field in _FIELDS.items()}
    try:
        yield
    except ValueError as error:
        text = re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[1]), str(error))
        text = re.sub(r"\b(\w+)='([^']*)'", lambda found: f"{flags.get(found[1], found[1])} {found[2]}", text)
        raise ValueError(text) from None


def _asked(context: typer.Context) -> VectorSet:
    """Return the vectors that the options of a command ask for."""
    from ..hardware.golden.options import check_given
    from ..hardware.vectors.vectors import vectors

    given = {name: value for name, value in context.params.items() if value is not None}
    with _own_words(context):
        chosen = {name: given[name] for name in _SETTING if name in given}
        made = vectors(fmt=_formats(given), rounding=_rounding(given), **chosen)
        # An option may name what is the default all the same.
        check_given(made.model, {_FIELDS.get(name, name): given.get(name) for name in _ROUNDING})
        return made


def _formats(given: dict[str, Any]) -> str | tuple[str, ...]:
    """Return the format of all operands, or those of each."""
    from ..hardware.golden.exact import OPERATIONS, SHORT

    operation = given["operation"].partition(":")[0]
    operation = SHORT.get(operation, operation)
    operands: tuple[str, ...] = OPERATIONS[operation].operands if operation in OPERATIONS else ()
    formats = {"a": given["fmt"], "b": given.get("fmt_b"), "c": given.get("fmt_c")}
    if operands and OPERATIONS[operation].addend and formats["c"] is not None:
        operands = (*operands, "c")
    others = [name for name in ("b", "c") if formats[name] is not None]
    for name in others:
        if operands and name not in operands:
            raise ValueError(f"`fmt_{name}` changes nothing: {given['operation']} has no operand {name}; leave it out")
    if not others:
        return str(given["fmt"])
    return tuple(str(formats[name] or given["fmt"]) for name in ("a", "b", "c") if name in operands)


def _rounding(given: dict[str, Any]) -> str | Rounding | None:
    """Return the rounding that the options ask for, overflow left out unless it is given; None if it is the usual."""
    from ..codec.rounding import Rounding
    from ..hardware.golden.conventions import get_profile

    mode, overflow = given.get("rounding"), given.get("overflow")
    if "random_bits" in given:
        usual = get_profile(given["profile"]).overflow if "profile" in given else "saturate"
        return Rounding(mode or "nearest-even", overflow or usual, bits=given["random_bits"])
    if overflow is None:
        return None if mode is None else str(mode)
    return f"{mode or 'nearest-even'}/{overflow}"


@app.command(
    short_help="Write test vectors for a hardware design.",
    epilog="Examples: rf8sim vectors multiply -o mul.tv; rf8sim vectors encode --from float16 --form csv; "
    "rf8sim vectors dot:4 -f e4m3fn --result float32; "
    "rf8sim vectors fma -f e4m3fn --format-c float32 --result float32; "
    "rf8sim vectors block_dot:32 -f e2m1fn --result float32; "
    "rf8sim vectors accumulate -f e4m3fn --accumulator float32; "
    "rf8sim vectors multiply -f float32 --result bfloat16; "
    "rf8sim vectors multiply --inputs-only | ./dut | rf8sim verify multiply",
)
def vectors(
    context: typer.Context,
    operation: Operation,
    fmt: FormatOption = "rf8",
    fmt_b: FormatB = None,
    fmt_c: FormatC = None,
    source: Source = None,
    result: Result = None,
    rounding: RoundingMode = None,
    overflow: Overflow = None,
    random_bits: RandomBits = None,
    scale: Scale = None,
    accumulator: Accumulator = None,
    profile: Profile = None,
    tininess: Tininess = None,
    signalling: Signalling = None,
    level: Level = None,
    seed: Seed = None,
    n: Count = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write, with a manifest beside it; by default standard output.",
        ),
    ] = None,
    form: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="FORM",
            help="Vectors as testfloat (default), tv, mem, csv or json; otherwise taken from the file suffix: "
            ".txt .tv .mem .csv .json.",
        ),
    ] = None,
    flags: Annotated[bool, typer.Option("--flags/--no-flags", help="Write the column of IEEE flags.")] = True,
    inputs_only: Annotated[
        bool, typer.Option("--inputs-only", help="Write the operands alone, without the expected results.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Write test vectors: what a design is asked and what it must answer, the same on every machine."""
    asked = _asked(context)
    if inputs_only and not flags:
        raise ValueError("--no-flags changes nothing: --inputs-only writes operands alone; leave it out")
    if output is not None:
        if inputs_only:
            raise ValueError("--inputs-only is for standard output: leave -o out")
        with _own_words(context):
            written = asked.write(output, form, flags=flags)
        if not quiet:
            terminal().print(plain(f"{len(asked):,} vectors of {asked.model.name}"))
            terminal().print(plain("\n".join(map(str, written))))
        return
    if form == "mem" and not inputs_only:
        raise ValueError("the form mem is two files: give -o FILE, or --inputs-only")
    for piece in asked.text(form or "testfloat", which="in" if inputs_only else "all", flags=flags):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@app.command(
    short_help="Check what a hardware design answered.",
    epilog="Examples: rf8sim vectors multiply --inputs-only | ./dut | rf8sim verify multiply; "
    "rf8sim verify encode answers.txt --from float16 --rounding up --json",
)
def verify(
    context: typer.Context,
    operation: Operation,
    answers: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(
            metavar="FILE", help="Results of the design, in any form of 'vectors'; by default standard input."
        ),
    ] = None,
    fmt: FormatOption = "rf8",
    fmt_b: FormatB = None,
    fmt_c: FormatC = None,
    source: Source = None,
    result: Result = None,
    rounding: RoundingMode = None,
    overflow: Overflow = None,
    random_bits: RandomBits = None,
    scale: Scale = None,
    accumulator: Accumulator = None,
    profile: Profile = None,
    tininess: Tininess = None,
    signalling: Signalling = None,
    level: Level = None,
    seed: Seed = None,
    n: Count = None,
    compare: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="Equality: bits; value, in which aliases are equal; faithful, either neighbour of the exact result; "
            "or ulp:n, at most n ulp apart.",
        ),
    ] = "bits",
    any_nan: Annotated[bool, typer.Option("--any-nan", help="Treat all NaN codes as equal.")] = False,
    flags: Annotated[bool, typer.Option("--flags/--no-flags", help="Compare the flags too.")] = False,
    first: Annotated[int, typer.Option(min=0, metavar="N", help="Number of wrong results to explain.")] = 10,
    allow_text: Annotated[
        bool, typer.Option("--allow-text", help="Skip lines that are not vectors, such as a simulator's messages.")
    ] = False,
    coverage: Annotated[
        bool, typer.Option("--coverage/--no-coverage", help="Print the coverage of operands and results.")
    ] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    junit: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Write JUnit XML too."),
    ] = None,
    coverage_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Write functional coverage too: .xml, .yml or .yaml in the forms of cocotb-coverage.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing: see the exit status.")] = False,
) -> None:
    """Check what a design answered: exit 0 only if every vector came in, in order, with the right answer, else 1."""
    from .._base.files import write_files
    from ..hardware.verdict import text as verdict_text
    from ..hardware.verdict.causes import recorded_setting
    from ..hardware.verdict.comparison import get_comparison
    from ..hardware.verdict.coverage_file import as_coverage, check_suffix
    from ..hardware.verdict.verify import verify as run

    with _own_words(context):
        comparison = get_comparison(compare, any_nan=any_nan, flags=flags)
    if coverage_file is not None:
        check_suffix(coverage_file)
    asked = _asked(context)
    with _opened(answers) as stream, progress_bar(quiet) as progress:
        verdict = run(asked, stream, comparison, first=first, allow_text=allow_text, progress=progress)
    proved = verdict.received == verdict.expected and any(finding.proved for finding in verdict.findings)
    explained = verdict.cause or verdict.had_operands or proved
    if not verdict.passed and not explained and answers is not None:
        verdict.cause = recorded_setting(asked, answers, verdict.evidence)
    files = {} if junit is None else {junit: verdict_text.as_junit(verdict)}
    if coverage_file is not None:
        files[coverage_file] = as_coverage(verdict, coverage_file)
    write_files(files)
    if json_:
        print(as_json(verdict_text.as_data(verdict)))
    elif not quiet:
        for line in verdict_text.as_text(verdict, coverage=coverage):
            print(line)
    if not verdict.passed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None or str(path) == "-":
        if sys.stdin.isatty():
            raise ValueError("nothing to read: give a FILE, or pipe the design's answers in")
        yield sys.stdin.buffer
        return
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    with stream:
        yield stream
