"""The command line. Each command imports what it needs when it runs, so that help is immediate."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Annotated, Any, TextIO, cast

import typer

from .._version import __version__
from ..checkpoints.errors import CheckpointWarning
from ._common import Command, app

# Each module of commands registers its own in the app; help lists them in this order.
from . import measure, formats, compare, store, pack, compress, compress_model, schemes  # isort: skip  # noqa: F401
from . import hardware, hardware_hdl, doctor  # isort: skip  # noqa: F401

for _registered in app.registered_commands:
    _registered.cls = Command
    if _registered.name is None and _registered.callback is not None:
        _registered.name = _registered.callback.__name__

__all__ = ["app", "main"]


@cache
def _command(name: str) -> Callable[..., Any]:
    """Return the program with the command of that name alone, or with all: typer makes each in some 3 ms."""
    part = copy.copy(app)
    named = [command for command in app.registered_commands if command.name == name]
    part.registered_commands = named or app.registered_commands
    return typer.main.get_command(part)


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
        with _notes_on_checkpoints():
            given = sys.argv[1:] if arguments is None else list(arguments)
            code = _command(given[0] if given else "")(given, prog_name="rf8sim", standalone_mode=False)
        sys.stdout.flush()
        return _fail("interrupted", 130) if code == 130 else code if isinstance(code, int) else 0
    except usage_error as error:
        context = cast("Any", error).ctx
        command = context.command_path if context is not None else "rf8sim"
        return _fail(f"{_plainly(cast('Any', error).format_message())} {command} --help", 2)
    except ValueError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # the reader of a pipe went away: nothing is wrong
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except OSError as error:
        return _fail(f"{error.filename}: cannot be written: {error.strerror}" if error.filename else str(error), 1)
    except (KeyboardInterrupt, typer.Abort):  # which of these an interrupt becomes depends on the version of typer
        return _fail("interrupted", 130)


@contextlib.contextmanager
def _notes_on_checkpoints() -> Iterator[None]:
    """Print each `CheckpointWarning` once, as a sentence, however often a command opens the file."""
    seen: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, CheckpointWarning):
            others(message, category, filename, lineno, file, line)
        elif str(message) not in seen:
            seen.add(str(message))
            print(f"rf8sim: note: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        others = warnings.showwarning
        warnings.simplefilter("always", CheckpointWarning)
        warnings.showwarning = show
        yield


# What typer says of a command line, and how it is said here; its words differ from version to version.
_WORDS = (
    (r"\.? ?\(Possible options?: (.+)\)", r". Did you mean \1?"),
    (r"Input should be a valid integer.*", "expected a whole number"),
    (r"Input should be a valid number.*", "expected a number"),
    (r"Input should be greater than or equal to (\S+)", r"expected \1 or more"),
)


def _plainly(message: str) -> str:
    for theirs, ours in _WORDS:
        message = re.sub(theirs, ours, message)
    return message.rstrip(".") + (" See" if message.endswith("?") else "; see")


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
