"""What a dot product of 16 costs in RF8, E4M3, MXFP8, INT8 and MXFP4, beside the error of each on real weights.

python benchmarks/area_dot.py [--liberty FILE] [--save reports/area_dot.md]
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from rf8sim.hardware.sources.area import WAYS, Area, area_table, dot_subjects, find_liberty
from rf8sim.report.render import markdown_table
from rf8sim.report.tables.table import Column, Table
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import run

CHECKPOINT = Path(__file__).parents[1] / "examples" / "lm" / "model.safetensors"
SCHEMES = {
    "rf8": "rf8/channel", "e4m3fn": "e4m3fn/channel", "mxfp8": "mxfp8_e4m3", "int8": "int8/channel", "mxfp4": "mxfp4"
}  # fmt: skip
LABELS = {"rf8": "RF8", "e4m3fn": "E4M3", "mxfp8": "MXFP8", "int8": "INT8", "mxfp4": "MXFP4"}
SUM_BITS = {"rf8": (32, 45), "e4m3fn": (30, 41), "mxfp8": (30, 41), "int8": (20, 20), "mxfp4": (16, 13)}


def errors() -> dict[str, tuple[float, float]]:
    """Return SQNR in dB and bits per weight of each format on all weights of the example."""
    records = run([CHECKPOINT], Settings(tuple(SCHEMES.values()))).total.schemes
    return {name: (record.sqnr_db, record.bits_per_weight) for name, record in zip(SCHEMES, records, strict=True)}


def summary(mixed: dict[str, Area], same: dict[str, Area], sqnr: dict[str, tuple[float, float]]) -> Table:
    """Return a row for each format."""
    columns = [
        Column("format"), Column("weights"), Column("SQNR, dB", ".1f"), Column("bits/weight", ".2f"),
        Column("gates, x INT8", ".0f"), Column("/ RF8", ".2f"), Column("depth", "count"), Column("sum, bits", "count"),
        Column("gates, both", ".0f"), Column("/ RF8", ".2f"), Column("depth", "count"), Column("sum, bits", "count"),
    ]  # fmt: skip
    rows = []
    for name, (error, bits) in sqnr.items():
        first, second = mixed[name], same[name]
        rows.append((
            LABELS[name], SCHEMES[name], error, bits, first.gates, first.gates / mixed["rf8"].gates, first.depth,
            SUM_BITS[name][0], second.gates, second.gates / same["rf8"].gates, second.depth, SUM_BITS[name][1],
        ))  # fmt: skip
    return Table("Dot products of 16, gate equivalents", tuple(columns), tuple(rows))


def change(first: Area, second: Area) -> str:
    """Say in words how much larger or smaller the first one is."""
    share = first.gates / second.gates - 1
    return f"{abs(share):.0%} {'larger' if share > 0 else 'smaller'} than"


def findings(mixed: dict[str, Area], same: dict[str, Area], sqnr: dict[str, tuple[float, float]]) -> list[str]:
    """Return what the numbers say, in sentences made of them."""
    others = [name for name in SCHEMES if name != "rf8"]

    def against(areas: dict[str, Area]) -> str:
        return ", ".join(f"{change(areas['rf8'], areas[name])} {LABELS[name]}'s" for name in others)

    errors = ", ".join(f"{sqnr['rf8'][0] - sqnr[name][0]:+.1f} dB against {LABELS[name]}" for name in others)
    return [
        f"* RF8 weights times INT8 activations: the dot product is {against(mixed)}.",
        f"* Both operands in the format: RF8's is {against(same)}.",
        f"* SQNR of the weights in RF8: {errors}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--liberty", type=Path, help="library of cells; default: Debian's qflow-tech-osu018")
    parser.add_argument("--save", type=Path, default=Path("reports/area_dot.md"))
    arguments = parser.parse_args()

    library = find_liberty(arguments.liberty)
    sqnr = errors()
    (_, mixed), (_, same) = area_table(library, dot_subjects(), WAYS[:1])
    version = subprocess.run(["yosys", "-V"], capture_output=True, text=True, check=True).stdout.split(" (")[0].strip()
    lines = [
        "# What RF8 buys in a dot product of 16", "",
        f"Command: `python benchmarks/area_dot.py`. {version}, {library.name}. The module is `dot_product` of "
        "`rf8sim hdl`, checked over its vectors in every format; `rf8sim hdl --area --dot` prints the areas.", "",
        "## What it says", "",
        *findings(mixed, same, sqnr), "",
        "## Gates and error", "",
        "Gate equivalents (two-input NANDs) of 16 multipliers and the exact sum of their products, without registers; "
        "cells on the longest path; bits of the sum.", "",
        markdown_table(summary(mixed, same, sqnr)), "",
        "## Limits", "",
        "* The sum is exact and in fixed point. With one scale a tensor or channel (RF8, E4M3, INT8) sums of many "
        "blocks go into one integer. With a scale a block (MXFP8, MXFP4) each block's sum comes with an exponent, and "
        "what shifts it and adds it to a float is not counted here.",
        "* MX blocks have 32 elements: a dot product of 16 is half a block. In the first column their like is MXINT8.",
        "* Many designs cut products of E4M3 off after alignment (`mxfp8_dot`) rather than keep all 41 bits: smaller, "
        "and no longer exact.",
        "* An academic library of 0.18 um with few cells: ratios carry over to other libraries roughly, gates do not. "
        f"No wires, no timing constraint; mapped for area by one way through Yosys (`{WAYS[0]}`). Products of E4M3 and "
        "INT8 are as Yosys builds them from `*`, without Booth recoding.",
        f"* The error is that of the example's weights ({CHECKPOINT.parent.name}/{CHECKPOINT.name}, all tensors), "
        "nearest-even; activations are not in it. Error of weights is not loss of a model: see "
        "[the evaluation](evaluate.md).", "",
    ]  # fmt: skip
    text = "\n".join(lines)
    arguments.save.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
