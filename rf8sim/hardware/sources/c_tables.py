"""Numbers and tables as C has them."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["c_number", "rows"]


def rows(elements: Sequence[str]) -> str:
    """Join elements by commas in lines of at most 112 characters."""
    lines, line = [], ""
    for element in elements:
        if len(line) + len(element) > 110:
            lines.append(line)
            line = ""
        line += ("" if not line else " ") + element + ","
    return "\n".join(f"    {row}" for row in [*lines, line]).rstrip(",")


def c_number(value: float, suffix: str = "") -> str:
    """Return a constant; ``suffix`` is ``f`` for a float.

    Examples
    --------
    >>> c_number(0.5, "f"), c_number(-math.inf), c_number(2.0)
    ('0.5f', '-INFINITY', '2.0')
    """
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "-INFINITY" if value < 0 else "INFINITY"
    return repr(value) + suffix
