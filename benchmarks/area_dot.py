"""What a dot product of 16 costs in RF8, E4M3, MXFP8, INT8 and MXFP4, and units that round, beside the error of each.

python benchmarks/area_dot.py [--liberty FILE] [--save reports/area_dot.md]
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from accumulators import COLUMNS, ROWS, products

import rf8sim
from rf8sim.arithmetic.linalg import matmul
from rf8sim.hardware.sources.area import WAYS, Area, Subject, area_table, dot_subjects, find_liberty, unit_subjects
from rf8sim.report.render import markdown_table
from rf8sim.report.tables.table import Column, Table
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import run

CHECKPOINT = Path(__file__).parents[1] / "examples" / "lm" / "model.safetensors"
WINDOWS = 8
SCHEMES = {
    "rf8": "rf8/channel", "e4m3fn": "e4m3fn/channel", "mxfp8": "mxfp8_e4m3", "int8": "int8/channel", "mxfp4": "mxfp4"
}  # fmt: skip
INTEGERS = {"mxfp8": "mxint8", "mxfp4": "mxint8"}  # of activations, for weights in MX blocks; else int8/channel
LABELS = {"rf8": "RF8", "e4m3fn": "E4M3", "e5m2": "E5M2", "mxfp8": "MXFP8", "int8": "INT8", "mxfp4": "MXFP4"}
SUM_BITS = {"rf8": (32, 45), "e4m3fn": (30, 41), "mxfp8": (30, 41), "int8": (20, 20), "mxfp4": (16, 13)}

Pair = tuple[np.ndarray, np.ndarray]
Found = list[tuple[Subject, dict[str, Area]]]


def weight_errors(schemes: list[rf8sim.Scheme]) -> list[tuple[float, float]]:
    """Return SQNR in dB and bits per weight of each scheme on all weights of the example."""
    records = run([CHECKPOINT], Settings(tuple(schemes))).total.schemes
    return [(record.sqnr_db, record.bits_per_weight) for record in records]


def layers() -> list[Pair]:
    """Return activations (rows, depth) and weights (columns, depth) of every product that the example makes."""
    pairs = []
    for product in products(WINDOWS):
        rows = product.activations.reshape(-1, product.activations.shape[-1])
        rows = rows[:: max(1, len(rows) // ROWS)][:ROWS]
        pairs.append((np.ascontiguousarray(rows), np.ascontiguousarray(product.weights[:, :COLUMNS].T)))
    return pairs


def decibel(pairs: list[Pair], results: Callable[[np.ndarray, np.ndarray], Pair]) -> float:
    """Return the SQNR in dB of results, which come with what they should be: mean of the layers' relative errors."""
    shares = []
    for pair in pairs:
        result, ideal = results(*pair)
        shares.append(np.sum(np.square(result - ideal)) / np.sum(np.square(ideal)))
    return float(-10 * np.log10(np.mean(shares)))


def stored(weights: str, activations: str) -> Callable[[np.ndarray, np.ndarray], Pair]:
    """Return products of a layer whose operands are stored by schemes, summed exactly."""

    def results(x: np.ndarray, w: np.ndarray) -> Pair:
        left, right = (rf8sim.quantize(*operand).dequantize(np.float64) for operand in ((x, activations), (w, weights)))
        return left @ right.T, x.astype(np.float64) @ w.T.astype(np.float64)

    return results


def summed(scheme: str, machine: rf8sim.Accumulation) -> Callable[[np.ndarray, np.ndarray], Pair]:
    """Return products of stored operands in an accumulator, and the exact ones of the same operands."""

    def results(x: np.ndarray, w: np.ndarray) -> Pair:
        left, right = rf8sim.quantize(x, scheme), rf8sim.quantize(w, scheme)
        codes, scales = (left.codes, right.codes.T), None
        if scheme.startswith("mx"):
            scales = rf8sim.OperandScales(left.scales[0], right.scales[0].T, 32, left.scheme.scales.format)
        ways = (machine, "exact")
        result, ideal = (matmul(*codes, left.format, scales=scales, accumulator=way) for way in ways)
        return result, ideal

    return results


def summary(mixed: dict[str, Area], same: dict[str, Area], error: dict[str, tuple[float, ...]]) -> Table:
    """Return a row for each format."""
    use = [Column("/ RF8", ".2f"), Column("SQNR, dB", ".1f"), Column("depth", "count"), Column("sum, bits", "count")]
    columns = [
        Column("format"), Column("weights"), Column("bits/weight", ".2f"), Column("SQNR of weights, dB", ".1f"),
        Column("gates, x INT8", ".0f"), *use, Column("gates, both", ".0f"), *use,
    ]  # fmt: skip
    rows = []
    for name, scheme in SCHEMES.items():
        cells: list[object] = [LABELS[name], scheme, error[name][1], error[name][0]]
        for place, areas in enumerate((mixed, same)):
            found = areas[name]
            cells += [found.gates, found.gates / areas["rf8"].gates, error[name][2 + place], found.depth]
            cells.append(SUM_BITS[name][place])
        rows.append(tuple(cells))
    return Table("Dot products of 16, gate equivalents", tuple(columns), tuple(rows))


def encoders(found: Found) -> Table:
    """Return a row for each encoder, with the error of weights that it rounds."""
    columns = (Column("encoder"), Column("format"), Column("gates", ".0f"), Column("depth", "count"),
               Column("SQNR of weights, dB", ".1f"))  # fmt: skip
    rows = [(subject.title, fmt, area) for subject, row in found if "to the format" in subject.title
            for fmt, area in row.items()]  # fmt: skip
    schemes = []
    for title, fmt, _ in rows:
        mode = "stochastic" if "stochastic" in title else "nearest-even"
        schemes.append(replace(rf8sim.as_scheme(f"{fmt}/channel"), rounding=mode))
    distinct = list(dict.fromkeys(schemes))
    errors = dict(zip(distinct, (error for error, _ in weight_errors(distinct)), strict=True))
    return Table("Encoders, gate equivalents", columns, tuple(
        (title, LABELS[fmt], area.gates, area.depth, errors[scheme])
        for (title, fmt, area), scheme in zip(rows, schemes, strict=True)
    ))  # fmt: skip


def sums(found: Found, exact: dict[str, Area], pairs: list[Pair]) -> Table:
    """Return a row for each unit that sums products, with the error of its sums alone."""
    columns = (Column("unit"), Column("format"), Column("products", "count"), Column("gates", ".0f"),
               Column("gates/product", ".0f"), Column("depth", "count"),
               Column("SQNR of sums, dB", ".1f"))  # fmt: skip
    rows: list[tuple[object, ...]] = [
        ("dot of 16, exact", LABELS[fmt], 16, area.gates, area.gates / 16, area.depth, None)
        for fmt, area in exact.items()
    ]
    errors: dict[tuple[str, str], float] = {}
    for subject, row in found:
        if "to the format" in subject.title:
            continue
        lanes = int(subject.parameters.get("LANES", 1))
        for fmt, area in row.items():
            order, rounding = "sequential", "nearest-even"
            if lanes > 1:
                order, rounding = f"aligned:{subject.parameters['FRACTION']}:{lanes}", "toward-zero"
            if (fmt, order) not in errors:
                machine = rf8sim.Accumulation("float32", order, rounding=rounding)
                scheme = SCHEMES.get(fmt, f"{fmt}/channel")
                fitting = [pair for pair in pairs if pair[0].shape[1] % 32 == 0]
                errors[fmt, order] = decibel(fitting, summed(scheme, machine))
            rows.append((subject.title, LABELS[fmt], lanes, area.gates, area.gates / lanes, area.depth,
                         errors[fmt, order]))  # fmt: skip
    return Table("Sums, gate equivalents", columns, tuple(rows))


def change(first: Area, second: Area) -> str:
    """Say in words how much larger or smaller the first one is."""
    share = first.gates / second.gates - 1
    return f"{abs(share):.0%} {'larger' if share > 0 else 'smaller'} than"


def findings(mixed: dict[str, Area], same: dict[str, Area], error: dict[str, tuple[float, ...]]) -> list[str]:
    """Return what the numbers say, in sentences made of them."""
    others = [name for name in SCHEMES if name != "rf8"]

    def against(areas: dict[str, Area], place: int) -> str:
        return "; ".join(
            f"{change(areas['rf8'], areas[name])} {LABELS[name]}'s, and its result "
            f"{word(error['rf8'][place] - error[name][place])}"
            for name in others
        )

    errors = ", ".join(f"{error['rf8'][0] - error[name][0]:+.1f} dB against {LABELS[name]}" for name in others)
    return [
        f"* RF8 weights times INT8 activations: the dot product is {against(mixed, 2)}.",
        f"* Both operands in the format: RF8's is {against(same, 3)}.",
        f"* SQNR of the weights in RF8: {errors}.",
    ]


def word(decibels: float) -> str:
    """Say in words how much more or less accurate something is."""
    return f"{abs(decibels):.1f} dB {'better' if decibels > 0 else 'worse'}"


def unit_findings(found: Found, table: Table) -> list[str]:
    """Return what the units that round cost beside the exact sum."""
    rows = {(str(row[0]), str(row[1])): row for row in table.rows}
    exact, cut = rows["dot of 16, exact", "E4M3"], rows["dot of 16 + float32, 13 bits", "MXFP8"]
    wide, fma = rows["dot of 16 + float32, 25 bits", "MXFP8"], rows["product + float32 to float32 (fma)", "E4M3"]
    rf8 = rows["dot of 16, exact", "RF8"]
    return [
        "* Cut off 13 bits below the largest exponent and added to a float32 number, a dot product of 16 E4M3 products "
        f"takes {cut[3]:.0f} gates, its exact sum without the float {exact[3]:.0f}; with 25 bits {wide[3]:.0f}. RF8's "
        f"exact one takes {rf8[3]:.0f}.",
        f"* 13 bits leave {cut[6]:.0f} dB of the sum, 25 bits {wide[6]:.0f} dB: far more than rounding the operands "
        "to 8 bits does.",
        f"* A fused multiply-add to float32 takes {fma[3]:.0f} gates for each product, {fma[3] / cut[4]:.1f} times as "
        "many as a lane of the dot product of 16 with 13 bits.",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--liberty", type=Path, help="library of cells; default: Debian's qflow-tech-osu018")
    parser.add_argument("--save", type=Path, default=Path("reports/area_dot.md"))
    arguments = parser.parse_args()

    library = find_liberty(arguments.liberty)
    pairs = layers()
    weights = weight_errors([rf8sim.as_scheme(scheme) for scheme in SCHEMES.values()])
    error = {
        name: (*both, decibel(pairs, stored(scheme, INTEGERS.get(name, "int8/channel"))),
               decibel(pairs, stored(scheme, scheme)))
        for (name, scheme), both in zip(SCHEMES.items(), weights, strict=True)
    }  # fmt: skip
    (_, mixed), (_, same), *units = area_table(library, (*dot_subjects(), *unit_subjects()), WAYS[:1])
    rounding = sums(units, same, pairs)
    version = subprocess.run(["yosys", "-V"], capture_output=True, text=True, check=True).stdout.split(" (")[0].strip()
    lines = [
        "# What RF8 buys in a dot product of 16", "",
        f"Command: `python benchmarks/area_dot.py`. {version}, {library.name}. The modules are those of `rf8sim hdl`, "
        "checked over their vectors in every format; `rf8sim hdl --area --dot` and `--area --units` print the areas.",
        "",
        "## What it says", "",
        *findings(mixed, same, error), *unit_findings(units, rounding), "",
        "## Exact dot products: gates and error", "",
        "Module `dot_product`. Gate equivalents (two-input NANDs) of 16 multipliers and the exact sum of their "
        "products, without registers; cells on the longest path; bits of the sum. SQNR of the results is that of the "
        f"example's layers: activations of {WINDOWS} windows of validation text times weights, both stored, summed "
        "exactly, against the products of the numbers before; the mean of the layers' relative squared errors.", "",
        markdown_table(summary(mixed, same, error)), "",
        "## Units that round: sums", "",
        "`float8_fma` and `float8_mac` round each sum to float32; `mxfp8_dot` shifts products and a float32 number to "
        "the largest exponent, keeps so many bits below it, and cuts the sum to float32. SQNR of the sums is that of "
        "the same layers against the exact sums of the same codes (E4M3 and E5M2 with a scale a channel, MXFP8 in "
        "blocks): what the unit loses, not the format.", "",
        markdown_table(rounding), "",
        "## Units that round: encoders", "",
        "`float32_to_float8`, and `rf8_encode` and `float8_encode` at the width of an exact product (40, 36 and 64 "
        "bits). Beyond the largest value they saturate. SQNR is that of the example's weights, one least-error scale a "
        "channel, rounded so.", "",
        markdown_table(encoders(units)), "",
        "## Limits", "",
        "* The sum of `dot_product` is exact and in fixed point. With one scale a tensor or channel (RF8, E4M3, INT8) "
        "sums of many blocks go into one integer. With a scale a block (MXFP8, MXFP4) each block's sum comes with an "
        "exponent, and what shifts it and adds it to a float is not counted in the first table; `mxfp8_dot` in the "
        "second has it.",
        "* MX blocks have 32 elements: a dot product of 16 is half a block. With INT8 activations they have MXINT8's.",
        "* No unit here cuts off RF8's products: what that would save is not measured. The float that the sum is added "
        "to is counted in the second table alone.",
        "* An academic library of 0.18 um with few cells: ratios carry over to other libraries roughly, gates do not. "
        f"No wires, no timing constraint; mapped for area by one way through Yosys (`{WAYS[0]}`). Products of E4M3 and "
        "INT8 are as Yosys builds them from `*`, without Booth recoding.",
        f"* The model is the example's ({CHECKPOINT.parent.name}/{CHECKPOINT.name}), its layers are 128 to 512 deep. "
        "Error of results is not loss of a model: see [the evaluation](evaluate.md).", "",
    ]  # fmt: skip
    text = "\n".join(lines)
    arguments.save.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
