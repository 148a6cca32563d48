"""Quanto's codes of 2 and 4 bits: the first rows in the low bits of the bytes, the last in the high ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .parts import Decode, Meaning, Parts, read, read_rows
from .scaled import scale_words

__all__ = ["quanto_packed"]

_WIDEST_GROUP = 128


def quanto_packed(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read codes with a scale and a shift for each row: ``scale * code - shift``, or ``scale * (code - shift)``.

    Codes in groups have the groups as rows, and the file does not say how many make a row of the weight: these are not
    read. A group has 32, 64, 96 or 128 elements.
    """
    codes, scale, shift = parts["codes"], parts["._scale"], parts["._shift"]
    if codes.dtype != "uint8" or len(codes.shape) < 2 or shift.shape != scale.shape or not scale.shape:
        return None
    if scale.dtype not in ("float32", "float16", "bfloat16") or shift.dtype not in (scale.dtype, "int8", "uint8"):
        return None
    count, columns = scale.shape[0], codes.size // codes.shape[0] if codes.shape[0] else 0
    bits = next((bits for bits in (4, 2) if -(-count * bits // 8) == codes.shape[0]), None)
    in_groups = len(codes.shape) == 2 and columns <= _WIDEST_GROUP and columns % 32 == 0
    if bits is None or scale.size != count or in_groups:
        return None
    shape, width, packed_rows = (count, *codes.shape[1:]), bits, codes.shape[0]
    inner = shape[-1]
    each = columns // inner if inner else 0  # rows, the last axis being a row, that share a scale

    def decode() -> Decode:
        factors, shifts = read(scale).reshape(-1), read(shift).reshape(-1)

        def numbers(rows: range) -> NDArray[np.float32]:
            places = np.arange(rows.start, rows.stop)
            first = places // each
            stored = np.concatenate([read_rows(codes, run) for run in _runs(rows, packed_rows * each)])
            drop = (width * (first // packed_rows)).astype(np.uint8)[:, None]
            plain = (stored >> drop & np.uint8((1 << width) - 1)).astype(np.float32)
            factor, offset = (part[first].astype(np.float32)[:, None] for part in (factors, shifts))
            if shift.dtype == scale.dtype:
                return np.asarray(plain * factor - offset, np.float32)
            return np.asarray((plain - offset) * factor, np.float32)

        return numbers

    return Meaning(shape, f"uint{bits}, {scale_words(scale.dtype)} and a shift for each channel", decode)


def _runs(rows: range, count: int) -> Iterator[range]:
    """Yield the rows of the packed codes that hold these rows, which go round them."""
    start = rows.start
    while start < rows.stop:
        first = start % count
        run = range(first, min(count, first + rows.stop - start))
        yield run
        start += len(run)
