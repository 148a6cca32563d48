"""What a table is: raw values, and how each column is written. Pages and the terminal write the same cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["MOST_ROWS", "WORDS", "Column", "Table", "cell"]

WORDS = ("text", "note")
"""Kinds of columns that hold words."""

MOST_ROWS = 40
"""A longer table is folded away, and a figure has at most so many rows."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, and how its cells are written.

    ``kind`` is ``text``, ``note`` (text of many words), ``count``, ``percent`` (of a share) or a format specification
    such as ``.2f``.
    """

    title: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """A table of raw values; None is a number that does not exist, inf one without bound.

    ``folded`` tables are closed at first; the last row of one that ``has_total`` stays last however it is sorted.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    folded: bool = False
    has_total: bool = False


def cell(value: object, kind: str) -> str:
    """Write one cell.

    Examples
    --------
    >>> [cell(0.5, "percent"), cell(1e-9, "percent"), cell(None, ".2f"), cell(1234, "count")]
    ['50.00', '<0.01', '–', '1,234']
    """
    if value is None:
        return "–"
    if kind in WORDS:
        return str(value)
    assert isinstance(value, int | float)
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if kind == "count":
        return f"{value:,}"
    if kind == "percent":
        return "0" if value == 0 else "<0.01" if value < 1e-4 else f"{100 * value:.2f}"
    return format(value, kind)
