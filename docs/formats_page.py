"""Make the page on which formats are looked at and compared in a browser, from the registry that the library has.

python docs/formats_page.py -o site/formats [--format my.csv ...]

It writes `index.html` and a file of data for each format: its values by code, and for each rounding mode the steps
from float64 bit patterns to codes, which are the codec's own. The page computes nothing but where a number lies among
them, so it rounds as the library does.
"""

from __future__ import annotations

import argparse
import html
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

import rf8sim
from rf8sim.codec.rounding import Overflow, RoundingMode, fits
from rf8sim.codec.thresholds import step_table
from rf8sim.formats import Format

MODES = tuple(mode for mode in RoundingMode if mode != RoundingMode.STOCHASTIC)
PAGE = Path(__file__).with_suffix(".html")
MOST_BITS = 8
"""Formats of more bits have no place on a line."""


def shown(value: float) -> str:
    """Return a number as short as it can be read back; what JSON has no word for as text."""
    return repr(value) if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")


def steps(fmt: Format, mode: RoundingMode) -> list[list[Any]]:
    """Return first patterns of float64, as hexadecimal digits, and codes."""
    table = step_table(fmt, mode, Overflow.SATURATE, "float64")
    return [[f"{int(first):x}" for first in table.first], table.result.tolist()]


def data(fmt: Format) -> dict[str, Any]:
    """Return all that the page needs of a format."""
    finite = fmt.values[np.isfinite(fmt.values)]
    positive = finite[finite > 0]
    return {
        "name": fmt.name,
        "bits": fmt.bits,
        "family": fmt.family,
        "description": fmt.description,
        "values": [shown(value) for value in fmt.values.tolist()],
        "largest": shown(float(finite.max())),
        "smallest": shown(float(positive.min())),
        "octaves": round(math.log2(float(positive.max() / positive.min())), 1),
        "distinct": int(np.unique(finite).size),
        "modes": {str(mode): steps(fmt, mode) for mode in MODES if fits(fmt, str(mode))},
    }


def write(folder: Path, formats: list[Format]) -> list[Path]:
    """Write the page and the data; return the files."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    written, rows, options = [], [], []
    for fmt in formats:
        record = data(fmt)
        path = folder / "data" / f"{fmt.name}.js"
        path.write_text(f"loaded({json.dumps(record)});\n", encoding="utf-8")
        written.append(path)
        cells = (record["distinct"], record["smallest"], record["largest"], record["octaves"], fmt.description)
        name, kind = html.escape(fmt.name), html.escape(fmt.family)
        rows.append(
            f'<tr><th scope="row"><a href="#a={name}">{name}</a></th><td>{kind}</td><td>{fmt.bits}</td>'
            + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
            + "</tr>"
        )
        options.append(f'<option value="{name}">{name}</option>')
    text = PAGE.read_text(encoding="utf-8")
    for place, content in (("ROWS", rows), ("OPTIONS", options)):
        text = text.replace(f"<!-- {place} -->", "\n".join(content))
    (folder / "index.html").write_text(text, encoding="utf-8")
    return [folder / "index.html", *written]


def registered() -> list[Format]:
    """Return the registered formats that have a place on a line."""
    formats = [rf8sim.get_format(name) for name in rf8sim.format_names()]
    return [fmt for fmt in formats if fmt.bits <= MOST_BITS]


def main() -> None:
    """Write the page from the command line."""
    parser = argparse.ArgumentParser(description="Make the page on which formats are compared.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="The folder; it is made.")
    parser.add_argument("-f", "--format", action="append", default=[], help="A further format: a text form or a file.")
    arguments = parser.parse_args()
    further = [rf8sim.get_format(text) for text in arguments.format]
    print(f"{len(write(arguments.output, registered() + further))} files in {arguments.output}")


if __name__ == "__main__":
    main()
