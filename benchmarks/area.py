"""What RF8, E4M3 and INT8 cost in silicon, beside the error that each makes on the example's weights.

python benchmarks/area.py [--liberty FILE] [--save reports/area.md]

The figure is written beside the page.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from rf8sim.cli.hardware_hdl import area_summary
from rf8sim.hardware.sources.area import GUARD, WAYS, Area, Subject, area_table, find_liberty
from rf8sim.report.render import markdown_table
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import run

CHECKPOINT = Path(__file__).parents[1] / "examples" / "lm" / "model.safetensors"
FORMATS = ("rf8", "e4m3fn", "int8")
LABELS = {"rf8": "RF8", "e4m3fn": "E4M3", "int8": "INT8"}
COLOURS = {"rf8": "#c2410c", "e4m3fn": "#1d4ed8", "int8": "#0f766e"}
PANELS = {
    "weight x INT8 activation": "multiplier, weight x INT8",
    "MAC of weight x INT8": "MAC, weight x INT8",
    "MAC, exact": "MAC, both operands in the format",
}

Found = list[tuple[Subject, dict[str, Area]]]


def errors() -> dict[str, float]:
    """Return the SQNR in dB of each format on all weights of the example: one least-error scale for each channel."""
    settings = Settings(tuple(f"{name}/channel" for name in FORMATS))
    return {record.scheme.format.name: record.sqnr_db for record in run([CHECKPOINT], settings).total.schemes}


def row(found: Found, title: str) -> dict[str, Area]:
    """Return the areas of the subject whose title begins so."""
    return next(areas for subject, areas in found if subject.title.startswith(title))


def draw(found: Found, sqnr: dict[str, float], path: Path) -> None:
    """Draw error against area, a panel for each use."""
    import matplotlib
    from matplotlib.figure import Figure

    options = {"svg.hashsalt": "area", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False,
               "axes.spines.right": False}  # fmt: skip
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(10.5, 3.8), layout="constrained")
        axes = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
        for axis, (title, words) in zip(axes, PANELS.items(), strict=True):
            areas = row(found, title)
            for fmt in FORMATS:
                axis.plot(areas[fmt].gates, sqnr[fmt], "o", markersize=9, color=COLOURS[fmt])
                axis.annotate(LABELS[fmt], (areas[fmt].gates, sqnr[fmt]), (9, -3), textcoords="offset points")
            axis.set(title=words, xlabel="gate equivalents")
            axis.grid(color="#e3e6ea")
            axis.set_axisbelow(True)
        axes[0].set_xlim(0, max(area.gates for title in PANELS for area in row(found, title).values()) * 1.2)
        axes[0].set_ylim(min(sqnr.values()) - 3, max(sqnr.values()) + 3)
        axes[0].set_ylabel("SQNR of the example's weights, dB")
        figure.savefig(path, metadata={"Date": None})


def ratio(areas: dict[str, Area], first: str = "rf8", second: str = "e4m3fn") -> str:
    """Say in words how much larger or smaller one is."""
    share = areas[first].gates / areas[second].gates - 1
    return f"{abs(share):.0%} {'larger' if share > 0 else 'smaller'}" if round(abs(share), 2) else "as large"


def findings(found: Found, sqnr: dict[str, float]) -> list[str]:
    """Return what the numbers say, in sentences made of them."""
    product, mixed = row(found, "product, exact: significand"), row(found, "weight x INT8 activation")
    fixed = row(found, "product, exact: fixed point")
    mac, mixed_mac = row(found, "MAC, exact"), row(found, "MAC of weight x INT8")
    return [
        f"* The exact product of two codes, as significand and exponent, is {ratio(product)} for RF8 than for E4M3; "
        f"shifted to fixed point, as an exact accumulator needs it, {ratio(fixed)} (40 bits against 36).",
        f"* RF8 weight times INT8 activation is {ratio(mixed)} than E4M3 weight times INT8 activation.",
        f"* The multiply-accumulate unit with an exact sum and {GUARD} guard bits: RF8's is {ratio(mac)} than E4M3's "
        f"with both operands in the format, and {ratio(mixed_mac)} with INT8 activations. Its sums are wider: "
        f"{41 + GUARD} bits against {37 + GUARD}, {28 + GUARD} against {26 + GUARD}. INT8's sum of {16 + GUARD} bits "
        "is the narrowest.",
        f"* Against INT8 throughout, RF8 weights with INT8 activations need a multiplier {ratio(mixed, 'rf8', 'int8')} "
        f"and a multiply-accumulate unit {ratio(mixed_mac, 'rf8', 'int8')}.",
        f"* Error on the same weights, SQNR: RF8 {sqnr['rf8']:.1f} dB, E4M3 {sqnr['e4m3fn']:.1f} dB, INT8 "
        f"{sqnr['int8']:.1f} dB.",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--liberty", type=Path, help="library of cells; default: Debian's qflow-tech-osu018")
    parser.add_argument("--save", type=Path, default=Path("reports/area.md"))
    arguments = parser.parse_args()

    library = find_liberty(arguments.liberty)
    found, sqnr = area_table(library), errors()
    version = subprocess.run(["yosys", "-V"], capture_output=True, text=True, check=True).stdout.split(" (")[0].strip()
    arguments.save.parent.mkdir(parents=True, exist_ok=True)
    figure = arguments.save.with_suffix(".svg")
    draw(found, sqnr, figure)
    summary = area_summary(found, library)
    lines = [
        "# Area of RF8, E4M3 and INT8, and the error beside it", "",
        f"Command: `python benchmarks/area.py`. {version}, {library.name}. The sources are those that "
        "`rf8sim hdl` writes, proved over exhaustive vectors; `rf8sim hdl --area` prints the table.", "",
        f"![SQNR against gates of a multiplier and two MAC units, for each format]({figure.name})", "",
        "## What it says", "",
        *findings(found, sqnr), "",
        "## Gates", "",
        f"{summary.caption}. A gate equivalent is the area of the smallest two-input NAND.", "",
        markdown_table(summary), "",
        "## Limits", "",
        "* An academic library of 0.18 um with few cells: ratios carry over to other libraries roughly, gates do not.",
        "* Cells only: no wires, no placement, no clock tree. Wires cost most where a shifter is wide.",
        "* Mapped for area without a timing constraint by ABC's default script; of several ways through Yosys "
        f"({', '.join(f'`{way}`' for way in WAYS)}) the smallest result of each block counts. Depth is the longest "
        "chain of cells and no delay; adders ripple where a timing constraint would make them faster and larger.",
        "* Nothing is pipelined, nothing shared between lanes. In an array, decoders and the conversion of the "
        "result are paid once a row or column.",
        "* Multipliers of E4M3 and INT8 are as Yosys builds them from `*`, without Booth recoding; RF8's is as "
        "written.",
        "* All three accumulate exactly in fixed point. Many designs round the sum of E4M3 to a float: smaller, and no "
        "longer exact; RF8 could do the same.",
        f"* The error is that of the example's weights ({CHECKPOINT.parent.name}/{CHECKPOINT.name}, all tensors), "
        "nearest-even, one least-error scale a channel: see [the report](lm/report.md). Error of weights is not loss "
        "of a model: see [the evaluation](evaluate.md).", "",
    ]  # fmt: skip
    text = "\n".join(lines)
    arguments.save.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
