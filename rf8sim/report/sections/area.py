"""The section of a report about error against hardware area, from a table that `rf8sim hdl --area --json` printed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._base.files import read_json
from ..figures import accuracy
from ..figures.figure import Figure
from ..tables.experiment import with_bits
from ..tables.table import Column, Table
from .contents import Contents
from .page import Section

__all__ = ["area", "read_area"]

_UNIT = "MAC"  # the blocks that are drawn: what an array of multipliers is made of


def read_area(path: Path) -> dict[str, Any]:
    """Read a table of areas.

    Raises
    ------
    ValueError
        If the file is not one.
    """
    try:
        data: dict[str, Any] = read_json(path)
        known = [_gates(block) for block in data["blocks"] if isinstance(block["block"], str)]
        if not (isinstance(data["caption"], str) and known and all(known)):
            raise KeyError("blocks")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: --area takes what 'rf8sim hdl --area --json' prints") from None
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        raise ValueError(f"{path}: not what 'rf8sim hdl --area --json' prints") from None
    return data


def _gates(block: Mapping[str, Any]) -> dict[str, float]:
    """Return the gates of a block by format."""
    titles = {title.removeprefix("gates "): value for title, value in block.items() if title.startswith("gates ")}
    return {name: float(value) for name, value in titles.items() if "/" not in name and value is not None}


def area(contents: Contents, with_figures: bool) -> Section | None:
    """Plot the error of the formats against the gates of their blocks."""
    if contents.area is None:
        return None
    experiment = contents.experiment
    blocks = {block["block"]: _gates(block) for block in contents.area["blocks"]}
    formats = {str(scheme): scheme.format.name for scheme in experiment.settings.schemes}
    names = [name for name, fmt in formats.items() if any(fmt in gates for gates in blocks.values())]
    if not names:
        return None
    heads = [with_bits(experiment.total.scheme(name)) for name in names]
    columns = (Column("block"), *(Column(f"{head}, gates", ".0f") for head in heads))
    rows = tuple((block, *(gates.get(formats[name]) for name in names)) for block, gates in blocks.items())
    quality = {name: experiment.total.scheme(name).sqnr_db for name in names}
    points = {
        name: [
            accuracy.AreaPoint(block, gates[formats[name]], sqnr)
            for block, gates in blocks.items()
            if block.startswith(_UNIT) and formats[name] in gates and sqnr is not None and math.isfinite(sqnr)
        ]
        for name, sqnr in quality.items()
    }
    words = (
        f"{contents.area['caption']}. Formats without blocks of their own are not shown. The error is that of the "
        "weights of this report; that of a model is less simple.",
    )
    drawn: tuple[Figure, ...] = ()
    if with_figures and any(points.values()):
        drawn = (
            accuracy.error_against_area(
                points,
                "area",
                "Error against area",
                "SQNR over all weights against the gate equivalents of a multiply-accumulate unit with an exact sum; a "
                "mark for each unit. Up and to the left is better.",
            ),
        )
    return Section("area", "Error against hardware area", words, (Table("Gate equivalents", columns, rows),), drawn)
