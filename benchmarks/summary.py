"""One page from the pages of speed: what was to be reached, and what was.

python benchmarks/summary.py [--save reports/speed.md] [--check]

Nothing is measured here: each figure is read from the page of the benchmark that measured it, and stands with its peer
or limit from the same run.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

REPORTS = Path(__file__).parents[1] / "reports"
MEASURING, CODING, TRAINING, STARTUP = "speed_measuring", "speed_coding", "speed_training", "speed_startup"


def cell(page: str, heading: str, row: str, column: int) -> float:
    """Return a number of a page: of the first line under a heading whose first cell is ``row``."""
    text = (REPORTS / f"{page}.md").read_text(encoding="utf-8")
    section = text.split(f"{heading}\n", 1)[1] if heading else text
    for line in section.splitlines():
        cells = [part.strip().strip("`") for part in line.strip().strip("|").split("|")]
        if line.startswith("|") and cells[0] == row:
            return float(re.sub(r"[^0-9.eE+-]", "", cells[column]))
    raise SystemExit(f"{page}.md has no row {row!r} under {heading!r}: make it again")


def weights(dtype: str, formats: int) -> float:
    return cell(MEASURING, f"## A report of {dtype} weights", f"{formats} formats", 1)


def by_channel(dtype: str) -> float:
    return cell(MEASURING, f"## A report of {dtype} weights", "5 formats by channel", 1)


def further(dtype: str) -> float:
    return (weights(dtype, 10) - weights(dtype, 5)) / 5


def tensor() -> float:
    rows = ("summary", "fits of all families", "a scale of least error", "code lengths, Huffman")
    return sum(cell(MEASURING, "## Each tensor", row, 1) for row in rows)


def scales(dtype: str, scheme: str) -> float:
    return cell(MEASURING, f"## Quantizing {dtype} weights with scales of least error", scheme, 1)


def decode(coder: str) -> float:
    text = (REPORTS / f"{CODING}.md").read_text(encoding="utf-8")
    heading = next(line for line in text.splitlines() if line.startswith("## rf8"))
    return cell(CODING, heading, coder, 4)


def start(command: str) -> float:
    return cell(STARTUP, "", command, 2)


def step(scheme: str) -> float:
    return cell(TRAINING, "## A step of 4 Linear(1024, 1024) at batch 256, SGD", scheme, 2)


FRESH = "rf8sim report examples/lm/model.safetensors`, nothing compiled"
AGAIN = "rf8sim report examples/lm/model.safetensors`, then again"
PRODUCT = "matmul(x, x, accumulator='bfloat16') of 64 x 64`"

# What, the unit, the goal, how the figure is read, its page.
ROWS: list[tuple[str, str, str, Callable[[], float], str]] = [
    ("report, bfloat16, 5 formats", "ns a weight", "at most 5", lambda: weights("bfloat16", 5), MEASURING),
    ("report, bfloat16, each further format", "ns a weight", "at most 0.4", lambda: further("bfloat16"), MEASURING),
    ("report, float32, 5 formats", "ns a weight", "at most 10", lambda: weights("float32", 5), MEASURING),
    ("report, float32, each further format", "ns a weight", "", lambda: further("float32"), MEASURING),
    ("report, bfloat16, 5 formats by channel", "ns a weight", "", lambda: by_channel("bfloat16"), MEASURING),
    ("report, float32, 5 formats by channel", "ns a weight", "", lambda: by_channel("float32"), MEASURING),
    ("report, each tensor of 4,096", "ms", "at most 15", tensor, MEASURING),
    ("quantize, bfloat16, e4m3fn/channel", "ns a weight", "at most 25", lambda: scales("bfloat16", "e4m3fn/channel"),
     MEASURING),
    ("quantize, float32, e4m3fn/channel", "ns a weight", "at most 100", lambda: scales("float32", "e4m3fn/channel"),
     MEASURING),
    ("quantize, float32, rf8/channel", "ns a weight", "at most 100", lambda: scales("float32", "rf8/channel"),
     MEASURING),
    ("Huffman, decode", "MB/s", "at least 900", lambda: decode("rf8sim huffman"), CODING),
    ("rANS, decode", "MB/s", "at least 600", lambda: decode("rf8sim rans"), CODING),
    ("zstd, decode", "MB/s", "", lambda: decode("rf8sim zstd"), CODING),
    ("`formats`", "s of processor", "at most 1", lambda: start("rf8sim formats"), STARTUP),
    ("`doctor`", "s of processor", "at most 1", lambda: start("rf8sim doctor"), STARTUP),
    ("`vectors multiply -f rf8`", "s of processor", "at most 1", lambda: start("rf8sim vectors multiply -f rf8"),
     STARTUP),
    ("`verify multiply` of 20 lines", "s of processor", "at most 1", lambda: start("rf8sim verify multiply SHORT"),
     STARTUP),
    ("`encode` of 100 numbers, in Python", "s of processor", "at most 1", lambda: start("encode of 100 numbers"),
     STARTUP),
    ("first report of a fresh install: compilation", "s of processor", "at most 5",
     lambda: start(FRESH) - start(AGAIN), STARTUP),
    ("first bfloat16 product of a fresh install: compilation", "s of processor", "at most 3",
     lambda: start(f"{PRODUCT}, nothing compiled") - start(f"{PRODUCT}, then again"), STARTUP),
    ("a training step with weights in e4m3fn/channel", "times a plain one", "at most 1.25",
     lambda: step("e4m3fn/channel"), TRAINING),
    ("the same, drawn at random", "times a plain one", "at most 1.5", lambda: step("e4m3fn/channel@stochastic"),
     TRAINING),
]  # fmt: skip


def verdict(value: float, goal: str) -> str:
    if not goal:
        return ""
    bound = float(goal.split()[-1])
    return "yes" if (value <= bound if goal.startswith("at most") else value >= bound) else "no"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--save", type=Path)
    parser.add_argument("--check", action="store_true", help="exit with status 1 if reports/speed.md differs")
    options = parser.parse_args()
    lines = [
        "# Speed: what was to be reached, and what was\n",
        "`python benchmarks/summary.py` reads the figures from the pages of the benchmarks that measured them; peers "
        "and limits of the same runs stand there. One thread, unless a page says otherwise.\n",
        "| work | unit | goal | measured | reached | page |\n|---|---|---|---:|---|---|",
    ]
    for work, unit, goal, read, page in ROWS:
        value = read()
        lines.append(f"| {work} | {unit} | {goal} | {value:.3g} | {verdict(value, goal)} | [{page}]({page}.md) |")
    lines += [
        "",
        "Products of matrices, the codec, operations, formats of 16 bits, vectors and fits have pages of their own "
        "beside their peers: [linalg](speed_linalg.md), [codec](speed_codec.md), [arithmetic](speed_arithmetic.md), "
        "[wide](speed_wide.md), [vectors](speed_vectors.md), [ggd](speed_ggd.md); a checkpoint of 8 GB is "
        "[here](large_checkpoint.md). No GPU has been measured: on one, tables are looked up by PyTorch, and what is "
        "tested is that code on the CPU.",
    ]
    text = "\n".join(lines) + "\n"
    if options.check:
        if (REPORTS / "speed.md").read_text(encoding="utf-8") != text:
            raise SystemExit("reports/speed.md is not what the pages of speed say: make it again with --save")
        return
    print(text)
    if options.save:
        options.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
