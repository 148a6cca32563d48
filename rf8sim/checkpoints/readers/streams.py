"""Elements that lie as bytes, in order, in a file or a member of an archive."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from ..tensor_info import Stream

__all__ = ["Opener", "byte_stream", "open_at"]

Opener = Callable[[], IO[bytes]]
"""Opens a file where the bytes begin."""


def byte_stream(path: Path, name: str, dtype: np.dtype[Any], open_at_data: Opener) -> Stream:
    """Return the source of elements that lie as bytes, in order, where ``open_at_data`` opens."""

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        try:
            with open_at_data() as file:
                if skip:
                    file.seek(skip * dtype.itemsize, 1)
                for size in sizes:
                    piece = np.empty(size, dtype=dtype)
                    if file.readinto(piece.view(np.uint8)) < piece.nbytes:  # type: ignore[attr-defined]
                        raise CheckpointError(f"{path}: ends in the middle of tensor {name!r}")
                    yield piece.astype(dtype.newbyteorder("="), copy=False)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise CheckpointError(f"{path}: tensor {name!r} cannot be read: {error}") from None

    return stream


def open_at(path: Path, offset: int) -> IO[bytes]:
    """Open a file at an offset in bytes."""
    file = path.open("rb")
    file.seek(offset)
    return file
