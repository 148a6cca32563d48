"""What a table is: raw values, and how each column is written. Pages and the terminal write the same cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["MOST_ROWS", "WORDS", "WORST", "Column", "Table", "cell", "worst"]

WORDS = ("text", "note")
"""Kinds of columns that hold words."""

MOST_ROWS = 40
"""A longer table is folded away, and a figure has at most so many rows."""

WORST = 10
"""Rows of tensors on a terminal, if no other number is asked for."""


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


def worst(table: Table, quality: Sequence[float], count: int | None, caption: str) -> Table:
    """Return the part of a table of tensors that a terminal shows.

    Parameters
    ----------
    table : Table
        A row for each tensor; those behind are totals, which stay.
    quality : sequence of float
        A number for each tensor, the lowest for the worst.
    count : int or None
        At most so many tensors, the worst first; None for all in their own order.
    caption : str
        What these are, such as ``tensors of lowest SQNR``.

    Examples
    --------
    >>> table = Table("SQNR", (Column("tensor"), Column("dB", ".0f")), (("a", 9.0), ("b", 7.0), ("all", 8.0)))
    >>> shown = worst(table, [9.0, 7.0], 1, "tensors of lowest SQNR")
    >>> shown.caption, shown.rows
    ('The 1 tensors of lowest SQNR (--all: 1 more)', (('b', 7.0), ('all', 8.0)))
    """
    hidden = 0 if count is None else max(0, len(quality) - count)
    if not hidden:
        return table
    order = sorted(range(len(quality)), key=lambda row: quality[row])[:count]
    rows = (*(table.rows[row] for row in order), *table.rows[len(quality) :])
    return replace(table, caption=f"The {len(order)} {caption} (--all: {hidden} more)", rows=rows)
