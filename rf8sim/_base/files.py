"""Writing files so that nobody ever sees half of one; reading JSON that anybody may have written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["check_place", "flush", "goes_to_file", "read_json", "staged", "write_files"]


def read_json(path: Path) -> Any:
    """Return what a file of JSON holds; raise ValueError if it is none, or nested too deeply."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def check_place(path: Path, *, folder: bool = False) -> None:
    """Raise OSError if a file, or a folder of files, cannot be put at a path: asked before the work.

    The folder around it must be there, so that a typing error in a path makes no folders.

    Examples
    --------
    >>> check_place(Path("no/such/folder/file.txt"))
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] there is no folder no/such/folder: make it first: 'no/such/folder/file.txt'
    """
    if _is_special(path):
        return
    inside = _behind_links(path)
    if not (folder and inside.exists()):
        inside = inside.parent
    there = next(place for place in (inside, *inside.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{there} is not a folder", str(path))
    if there != inside:
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {inside}: make it first", str(path))
    if not os.access(inside, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


_FILES = {
    ".bin", ".ckpt", ".csv", ".gguf", ".gz", ".h5", ".html", ".json", ".md", ".npy", ".npz", ".onnx", ".pdf", ".pickle",
    ".pkl", ".png", ".pt", ".pth", ".safetensors", ".svg", ".tar", ".toml", ".txt", ".xml", ".zip",
}  # fmt: skip
"""Endings of files: what is named so was not meant to be a folder."""


def goes_to_file(path: Path, suffixes: Sequence[str], expected: str) -> bool:
    """Return whether output goes to one file of that name, which ends in one of the suffixes, or else to a folder.

    Raises
    ------
    ValueError
        If it ends as another kind of file does and no folder has the name; ``expected`` says in the error what is.

    Examples
    --------
    >>> goes_to_file(Path("q.md"), (".md",), ""), goes_to_file(Path("llama-3.1-8b"), (".md",), "")
    (True, False)
    >>> goes_to_file(Path("q/t.bin"), (".safetensors",), "the output is a .safetensors file or a folder")
    Traceback (most recent call last):
    ValueError: q/t.bin: the output is a .safetensors file or a folder
    """
    if path.is_dir():
        return False
    if path.suffix.lower() in _FILES and path.suffix not in suffixes:
        raise ValueError(f"{path}: {expected}")
    return path.suffix in suffixes


def write_files(contents: Mapping[Path, bytes | Iterable[bytes]]) -> None:
    """Write all files beside their places, then rename them: all are whole, and on failure the old ones stay.

    A process that is killed between two renames leaves some files new and others old, each of them whole. What a link
    points to is replaced, not the link; what is there and is no file (a device, a pipe) is written into.

    Parameters
    ----------
    contents : dict of Path to bytes, or to pieces of them
        What to write where, in this order; missing folders are made.

    Raises
    ------
    OSError
        If a file cannot be written; its ``filename`` is the file or folder asked for.
    """
    for path in [path for path in contents if _is_special(path)]:
        try:
            with path.open("wb") as file:
                file.writelines([data] if isinstance(data := contents[path], bytes) else data)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(path)) from None
    contents = {_behind_links(path): data for path, data in contents.items() if not _is_special(path)}
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    older = {path: path.with_name(f".{path.name}.{os.getpid()}.old") for path in contents} if len(contents) > 1 else {}
    try:
        for path, data in contents.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with beside[path].open("wb") as file:
                    file.writelines([data] if isinstance(data, bytes) else data)
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            except OSError as error:
                raise type(error)(error.errno, error.strerror, str(path)) from None
        for path, aside in older.items():
            if path.exists():
                _keep(path, aside)
        placed: list[Path] = []
        try:
            for path, part in beside.items():
                os.replace(part, path)
                placed.append(path)
        except BaseException:
            for path in placed if older else ():
                if older[path].exists():
                    os.replace(older[path], path)
                else:
                    path.unlink()
            raise
    finally:
        for part in (*beside.values(), *older.values()):
            with contextlib.suppress(OSError):
                part.unlink()


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _behind_links(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _keep(path: Path, aside: Path) -> None:
    """Give a file a second name, or a copy where the file system has no links."""
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except OSError:
        shutil.copy2(path, aside)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Prepare a place beside a file or folder, for what is written in pieces and checked before it is put in place.

    Parameters
    ----------
    path : Path
        What is to be written: a file, or a folder that does not exist or is empty; the folder around it is there.

    Yields
    ------
    beside : Path
        Where to write: a path of the same name in a hidden folder beside ``path``; nothing is there yet.
    place : callable
        Puts what was written in place, in one step that happens or does not: a file replaces the one
        that was there. Without it nothing changes, and what was written is removed.

    Raises
    ------
    OSError
        If it cannot be written; its ``filename`` is the path asked for.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = Path(folder) / "a.txt"
    ...     with staged(out) as (beside, place):
    ...         _ = beside.write_text("whole")
    ...         place()
    ...     out.read_text(), len(list(out.parent.iterdir()))
    ('whole', 1)
    """
    if _is_special(path):
        raise OSError(errno.EINVAL, "it is there and is no file, and what is checked first needs one", str(path))
    path = _behind_links(path)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside = hidden / path.name

    def place() -> None:
        if path.is_dir() and not beside.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.replace(beside, path)
        flush(path.parent)

    try:
        shutil.rmtree(hidden, ignore_errors=True)  # of a process of that number that was killed
        hidden.mkdir()
        yield beside, place
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def flush(path: Path) -> None:
    """Have the operating system write a file, or the names in a folder, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
