"""Write the measured part of docs/comparison.md from the committed pages of speed, so that the two never differ.

python benchmarks/comparison.py [--check]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "comparison.md"
PLACE = re.compile(r"(<!-- measured:[^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)

# What is compared: the page, its heading, the column of the number, our row and each peer's, by their first cells.
ROWS = (
    ("encode float32 as E4M3, one thread", "speed_codec", "", "1e9 elements/s",
     "rf8sim encode e4m3fn nearest-even, 1 thread",
     {"ml_dtypes": "ml_dtypes float32 -> float8_e4m3fn", "torch": "torch float32 -> float8_e4m3fn, 1 thread",
      "gfloat": "gfloat round and encode e4m3fn", "pychop": "pychop round to e4m3, nearest"}),
    ("encode float32 as RF8, one thread", "speed_codec", "", "1e9 elements/s",
     "rf8sim encode rf8 nearest-even, 1 thread", {"copying as many bytes": "np.copyto, same bytes, 1 thread"}),
    ("round stochastically to E4M3, one thread", "speed_codec", "", "1e9 elements/s",
     "rf8sim encode e4m3fn stochastic, 1 thread", {"pychop": "pychop round to e4m3, stochastic"}),
    ("decode RF8, against E4M3 of others, one thread", "speed_codec", "", "1e9 elements/s",
     "rf8sim decode rf8, 1 thread",
     {"ml_dtypes": "ml_dtypes float8_e4m3fn -> float32", "torch": "torch float8_e4m3fn -> float32, 1 thread"}),
    ("multiply E4M3 codes, one thread", "speed_arithmetic", "", "1e9 elements/s", "multiply|rf8sim e4m3fn, 1 thread",
     {"ml_dtypes": "multiply|ml_dtypes e4m3fn", "gfloat": "multiply|gfloat e4m3",
      "apytypes": "multiply|apytypes e4m3"}),
    ("exact product of RF8 matrices, 1024^3", "speed_linalg", "Exact sums", "1e9 products/s", "rf8sim exact rf8",
     {"numpy float64, rounded sums": "numpy float64 (dgemm)"}),
    ("product of matrices, every sum rounded to float32, 512^3", "speed_linalg", "Every sum", "1e9 products/s",
     "rf8sim float32 sequential",
     {"pychop": "pychop float32, sequential", "apytypes": "apytypes float32, sequential"}),
    ("RF8 weights times a float32 vector, 4096^2", "speed_linalg", "RF8 weights", "1e9 weights/s",
     "rf8sim weight_matvec rf8, 1 thread", {"numpy float32, all threads": "numpy float32 (sgemv), all threads"}),
)  # fmt: skip


def table(page: str, heading: str) -> list[dict[str, str]]:
    """Return the first table under a heading of a page, or of the page, as records."""
    lines = (ROOT / "reports" / f"{page}.md").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"## {heading}")) if heading else 0
    begin = next(i for i in range(start, len(lines)) if lines[i].startswith("|"))
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([part.strip() for part in line.strip("|").split("|")])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def rate(page: str, heading: str, column: str, row: str) -> float | None:
    """Return one number of a page; None if the peer was not there when it was measured."""
    cells = row.split("|")
    for record in table(page, heading):
        if list(record.values())[: len(cells)] == cells:
            return float(record[column])
    return None


def times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def measured() -> str:
    lines = [
        "| | rf8sim, " + "1e9 a second | others, 1e9 a second (rf8sim is so many times as fast) | page |",
        "|---|---:|---|---|",
    ]
    for title, page, heading, column, own, peers in ROWS:
        ours = rate(page, heading, column, own)
        if ours is None:
            raise SystemExit(f"reports/{page}.md has no row {own!r}")
        others = []
        for name, row in peers.items():
            theirs = rate(page, heading, column, row)
            others.append(
                f"{name}: not measured" if theirs is None else f"{name} {theirs:.3g} ({times(ours / theirs)})"
            )
        lines.append(f"| {title} | {ours:.3g} | {'; '.join(others)} | [{page}](../reports/{page}.md) |")
    shapes = table("speed_ggd", "Fit by maximum likelihood")
    fits = [float(row["times as fast"]) for row in shapes]
    samples = [(float(row["times normal"]), float(row["times rvs"])) for row in table("speed_ggd", "Samples")]
    normal, rvs = ([sample[i] for sample in samples] for i in range(2))
    lines += [
        "",
        f"`ggd.fit` takes 1/{min(fits):.0f} to 1/{max(fits):.0f} of the time of `scipy.stats.gennorm.fit` on a million "
        f"float32 values, by shape; samples come {min(normal):.1f} to {max(normal):.1f} times as fast as numpy's "
        f"`normal` and {min(rvs):.0f} to {max(rvs):.0f} times as fast as scipy's `rvs` "
        "([speed_ggd](../reports/speed_ggd.md)).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    new = PLACE.sub(lambda found: found[1] + "\n" + measured() + "\n" + found[2], text)
    if "--check" in sys.argv[1:]:
        if new != text:
            raise SystemExit("docs/comparison.md is not what the pages of speed say: python benchmarks/comparison.py")
    else:
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
