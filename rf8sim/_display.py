"""What objects show of themselves in a notebook: small tables in HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

__all__ = ["facts"]


def facts(caption: str, rows: Iterable[tuple[str, object]]) -> str:
    """Return a table of two columns, names and values.

    Examples
    --------
    >>> facts("rf8", [("bits", 8)])
    '<table><caption>rf8</caption><tr><th>bits</th><td>8</td></tr></table>'
    """
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>"
