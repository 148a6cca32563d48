"""What objects show in a notebook, and figures in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

__all__ = ["bits_in_words", "facts"]


def facts(caption: str, rows: Iterable[tuple[str, object]]) -> str:
    """Return a table of two columns, names and values.

    Examples
    --------
    >>> facts("rf8", [("bits", 8)])
    '<table><caption>rf8</caption><tr><th>bits</th><td>8</td></tr></table>'
    """
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>"


def bits_in_words(parts: Mapping[str, float]) -> str:
    """Say how many bits a weight takes, and for what.

    Parameters
    ----------
    parts : dict of str to float
        Bits per weight by what they are for.

    Examples
    --------
    >>> bits_in_words({"codes": 7.53, "scales": 0.0, "kept tensors": 1.929, "headers": 0.26})
    '9.719 bits per weight, everything counted: codes 7.530, kept tensors 1.929, headers 0.260'
    """
    listed = ", ".join(f"{name} {bits:.3f}" for name, bits in parts.items() if bits)
    return f"{sum(parts.values()):.3f} bits per weight, everything counted: {listed or 'nothing'}"
