"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["check_folder", "write_files"]


def check_folder(folder: Path) -> None:
    """Raise OSError if files cannot be put into a folder, or it cannot be made: asked before the work."""
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{existing} is not a folder", str(folder))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write all files beside their places, then rename them: all are whole, and on failure the old ones stay.

    Parameters
    ----------
    contents : dict of Path to bytes
        What to write where; missing folders are made.

    Raises
    ------
    OSError
        If a file cannot be written; its ``filename`` is the file or folder asked for.
    """
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, data in contents.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                beside[path].write_bytes(data)
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            except OSError as error:
                raise type(error)(error.errno, error.strerror, str(path)) from None
        for path, part in beside.items():
            os.replace(part, path)
    finally:
        for part in beside.values():
            with contextlib.suppress(OSError):
                part.unlink()
