"""Fit a file of weights: ``python -m ggd FILE``."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ggd.survey import Entry, Survey

__all__ = ["main"]

_EXAMPLES = """\
examples:
  python -m ggd model.safetensors
  python -m ggd weights.npz --include '*.weight' --exclude '*norm*'
  python -m ggd weights.npy --json > fit.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit every tensor of files, its groups of channels and all together, and print a table and the verdict.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        0, or 2 if the input is bad.

    Examples
    --------
    >>> import tempfile, ggd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/w.npy", ggd.GGD(0.7).sample(100_000, seed=0))
    ...     main([f"{folder}/w.npy"])
    tensor  size     weights  zero, %    RMS  shape  +- error  by groups  gaussian +  laplace +  best
    ------  -------  -------  -------  -----  -----  --------  ---------  ----------  ---------  ----
    w       100,000  100,000        0  ...
    0
    """
    parser = argparse.ArgumentParser(
        prog="python -m ggd",
        description="Fit the generalized Gaussian and its rivals to every tensor of files of weights.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a .npy, .npz or .safetensors file")
    parser.add_argument("--include", action="append", metavar="PATTERN", help="only tensors whose name matches")
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="leave out tensors whose name matches")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        surveyed = _survey(options.files, options.include or ["*"], options.exclude or [])
    except (ValueError, OSError) as error:
        what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"ggd: error: {' '.join(what.split())}", file=sys.stderr)
        return 2
    from ggd.findings import verdict

    try:
        data = {"verdict": verdict(surveyed), **surveyed.to_json()}
        print(json.dumps(data, indent=1, allow_nan=False) if options.json else _text(surveyed))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe went away: nothing is wrong
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return 0


# --- reading ------------------------------------------------------------------------------------------------


def _survey(files: Sequence[Path], include: Sequence[str], exclude: Sequence[str]) -> Survey:
    from ggd.survey import summarize, survey

    summaries = []
    for file in files:
        for name, load in _tensors(file):
            if not _matches(name, include) or _matches(name, exclude):
                continue
            label = f"{file.name}: {name}" if len(files) > 1 else name
            try:
                x = load()
                if x.size and (x.dtype.kind == "f" or x.dtype.name == "bfloat16"):
                    summaries.append(summarize(label, x))
                    continue
                reason = f"{x.dtype.name} is no floating-point type" if x.size else "it has no elements"
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise ValueError(f"{file}: {name!r} is damaged: {error}") from None
            except (ValueError, TypeError, AttributeError) as error:  # a type that numpy or the histogram has not
                reason = str(error)
            print(f"ggd: {file}: {name!r} is left out: {reason}", file=sys.stderr)
    if not summaries:
        raise ValueError(f"{', '.join(map(str, files))}: no tensor is left to fit")
    return survey(summaries)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _tensors(file: Path) -> Iterator[tuple[str, Callable[[], NDArray[Any]]]]:
    """List the tensors of a file, and how to load each."""
    reader = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors}.get(file.suffix)
    if reader is None:
        raise ValueError(f"{file}: expected a .npy, .npz or .safetensors file; for others use 'rf8sim fit'")
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    yield from reader(file)


def _npy(file: Path) -> Iterator[tuple[str, Callable[[], NDArray[Any]]]]:
    try:
        x = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file}: not a whole .npy file: {error}") from None
    yield file.stem, lambda: x


def _npz(file: Path) -> Iterator[tuple[str, Callable[[], NDArray[Any]]]]:
    try:
        with file.open("rb") as stored, np.load(stored, allow_pickle=False) as archive:  # a damaged file is closed
            yield from ((name, lambda name=name: archive[name]) for name in archive.files)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{file}: not a whole .npz file: {error}") from None


def _safetensors(file: Path) -> Iterator[tuple[str, Callable[[], NDArray[Any]]]]:
    import ml_dtypes  # noqa: F401  (gives numpy the name bfloat16)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as stored:
            yield from ((name, lambda name=name: stored.get_tensor(name)) for name in stored.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file}: not a whole safetensors file: {error}") from None


# --- writing ------------------------------------------------------------------------------------------------

_COLUMNS = (
    "tensor",
    "size",
    "weights",
    "zero, %",
    "RMS",
    "shape",
    "+- error",
    "by groups",
    "gaussian +",
    "laplace +",
    "best",
)


def _rows(surveyed: Survey) -> Iterable[Entry]:
    return (*surveyed.tensors, *surveyed.levels) if len(surveyed.tensors) > 1 else surveyed.tensors


def _text(surveyed: Survey) -> str:
    """Return the table and the verdict as plain text."""
    from ggd.findings import verdict

    rows = [_COLUMNS, *(_row(entry) for entry in _rows(surveyed))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    left = (0, 1, len(_COLUMNS) - 1)
    lines = [
        "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = (
        "by groups: lowest, median and highest shape of groups of channels; gaussian +, laplace +: bits per weight "
        "that they cost more than the generalized Gaussian."
    )
    return "\n".join([*(line.rstrip() for line in lines), "", notes, "", *verdict(surveyed)])


def _row(entry: Entry) -> tuple[str, ...]:
    fit, size = entry.fit, " x ".join(f"{n:,}" for n in entry.shape)
    zeros = 100 * fit.zero_share
    head = (entry.name, size, f"{entry.histogram.size:,}", f"{zeros:.3g}", f"{entry.rms:.3g}")
    if not entry.fitted:
        return (*head, "-", "-", "-", "-", "-", fit.reason)
    costs = (f"{entry.excess(family):.4f}" for family in ("gaussian", "laplace"))
    parts = entry.groups.spread if entry.groups is not None and entry.groups.shapes else ()
    groups = "/".join(f"{shape:.2f}" for shape in parts) or "-"
    return (*head, f"{fit.shape:.3f}", f"{fit.stderr.shape:.3f}", groups, *costs, entry.selection.chosen or fit.reason)


if __name__ == "__main__":
    sys.exit(main())
