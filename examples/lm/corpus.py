"""The corpus: the source of Python's standard library, as bytes.

Which files exist depends on the Python that reads them, so a checkpoint's config records the version, the
number of bytes and the SHA-256 of what it was trained on. Which files are held out depends on their names
alone: a file held out under one Python is held out under every other, so ``validation.bin`` stays unseen
wherever the model is trained.

Run as a script, this file writes ``validation.bin`` again::

    python examples/lm/corpus.py examples/lm/validation.bin
"""

import argparse
import hashlib
import platform
import sysconfig
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKAGES = (
    "asyncio", "collections", "concurrent", "ctypes", "dbm", "email", "html", "http", "importlib", "json",
    "logging", "multiprocessing", "re", "sqlite3", "tomllib", "urllib", "wsgiref", "xml", "xmlrpc",
    "zoneinfo",
)  # fmt: skip
END_OF_FILE = b"\0"
HELD_OUT = 20  # one file in 20
WINDOWS = 512  # windows of the validation set


def files(stdlib: Path) -> list[Path]:
    """List the corpus: top-level modules and chosen packages, no tests, nothing made by the local build."""
    found = [*stdlib.glob("*.py"), *(path for name in PACKAGES for path in (stdlib / name).rglob("*.py"))]
    kept = (
        path
        for path in found
        if not path.name.startswith("_sysconfigdata") and not {"test", "tests"} & set(path.relative_to(stdlib).parts)
    )
    return sorted(kept, key=lambda path: path.relative_to(stdlib).as_posix())


def read(stdlib: Path | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, object]]:
    """Read the corpus.

    Returns
    -------
    train, held_out : ndarray of uint8
        The files of each part, one after the other, each closed by a zero byte.
    record : dict
        Python version, files and bytes of each part, SHA-256 of the training part followed by the other.
    """
    stdlib = Path(sysconfig.get_paths()["stdlib"]) if stdlib is None else stdlib
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for path in files(stdlib):
        held_out = zlib.crc32(path.relative_to(stdlib).as_posix().encode()) % HELD_OUT == 0
        parts[held_out].append(path.read_bytes() + END_OF_FILE)
    train, validation = (b"".join(part) for part in parts)
    record: dict[str, object] = {
        "name": "Python standard library source",
        "python": platform.python_version(),
        "files": [len(part) for part in parts],
        "bytes": [len(train), len(validation)],
        "sha256": hashlib.sha256(train + validation).hexdigest(),
    }
    return np.frombuffer(train, np.uint8), np.frombuffer(validation, np.uint8), record


def windows(data: NDArray[np.uint8], count: int, length: int) -> NDArray[np.uint8]:
    """Cut ``count`` windows of ``length`` bytes, evenly spaced, shape (count, length)."""
    starts = np.linspace(0, data.size - length, count).astype(np.int64)
    return data[starts[:, None] + np.arange(length)]


def read_windows(path: Path, length: int) -> NDArray[np.uint8]:
    """Read the windows of a file such as ``validation.bin``, shape (count, length)."""
    return np.fromfile(path, np.uint8).reshape(-1, length)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Write the validation windows: held-out bytes of this Python's library."
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--context", type=int, default=128, help="bytes the model sees; a window is one longer")
    arguments = parser.parse_args()
    windows(read()[1], WINDOWS, arguments.context + 1).tofile(arguments.out)
