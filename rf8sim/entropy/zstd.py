"""The coder of other people's decoders: zstd (RFC 8878), from the package zstandard or, since 3.14, from Python.

It looks for repeats, of which codes of weights have none, and then codes by Huffman as `rf8sim.entropy.coders` does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

__all__ = ["LEVEL", "LEVELS", "MissingLibraryError", "library"]

LEVEL = 1
"""What is used by default: codes of weights become no shorter by searching longer."""

LEVELS = range(1, 20)


class MissingLibraryError(ValueError):
    """Nothing that is installed knows zstd."""


Buffer: TypeAlias = bytes | memoryview


class Library(NamedTuple):
    """What encodes bytes at a level, and what decodes a frame to so many bytes, or returns None for any other."""

    compress: Callable[[Buffer, int], bytes]
    decompress: Callable[[Buffer, int], bytes | None]


@lru_cache(maxsize=1)
def library() -> Library:
    """Return the installed library; raise MissingLibraryError if there is none."""
    for name, functions in (("zstandard", _of_package), ("compression.zstd", _of_python)):
        try:
            return functions(importlib.import_module(name))
        except ImportError:
            continue
    raise MissingLibraryError("coder 'zstd' needs the package zstandard: pip install 'rf8sim[zstd]', or Python 3.14")


def _of_package(module: Any) -> Library:
    def compress(data: Buffer, level: int) -> bytes:
        frame: bytes = module.ZstdCompressor(level=level).compress(data)
        return frame

    def decompress(frame: Buffer, size: int) -> bytes | None:
        try:
            if module.frame_content_size(frame) != size:  # what a forged frame asks for is not allocated
                return None
            data: bytes = module.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
        except module.ZstdError:
            return None
        return data if len(data) == size else None

    return Library(compress, decompress)


def _of_python(module: Any) -> Library:
    def compress(data: Buffer, level: int) -> bytes:
        frame: bytes = module.compress(data, level)
        return frame

    def decompress(frame: Buffer, size: int) -> bytes | None:
        decoder = module.ZstdDecompressor()
        try:
            data: bytes = decoder.decompress(frame, size + 1)
        except module.ZstdError:
            return None
        return data if len(data) == size and decoder.eof and not decoder.unused_data else None

    return Library(compress, decompress)
