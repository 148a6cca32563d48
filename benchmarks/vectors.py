"""How fast vectors are made and answers verified, and in how much memory.

python benchmarks/vectors.py [--lines 10000000] [--save reports/speed_vectors.md]

There is no peer that knows these formats. What a stream costs at least is to read it: the same lines are read by a loop
in Python that splits each line and converts its fields, which is what a testbench's checker script does.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import machine

from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.verify import verify

PIECE = 200_000  # lines that the slow readers are given


def timed(run: Callable[[], object], rounds: int = 3) -> float:
    """Return the median of several times."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2]


def command(*arguments: str, rounds: int = 3) -> float:
    """Return the time of a whole command, Python's start included."""
    line = [sys.executable, "-m", "rf8sim", *arguments]
    return timed(lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL), rounds)


def by_hand(text: bytes) -> int:
    """Read lines as a checker script would."""
    return sum(sum(int(word, 16) for word in line.split()) for line in text.splitlines())


def verified(operation: str, lines: int, folder: Path) -> tuple[float, int]:
    """Verify so many lines from a file; return the seconds, and the memory that it took beyond the start in bytes."""
    asked = vectors(operation, "rf8", n=lines - len(vectors(operation, "rf8", n=0)))
    assert len(asked) == lines
    path = folder / "answers.txt"
    with path.open("wb") as file:
        file.writelines(asked.text())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with path.open("rb") as stream:
        verdict = verify(asked, stream)
    seconds = time.perf_counter() - start
    assert verdict.passed
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000_000, help="lines to verify")
    parser.add_argument("--save", type=Path, help="write the result as Markdown")
    arguments = parser.parse_args()
    asked = vectors("multiply", "rf8")
    list(asked.blocks())  # kernels are compiled, tables made
    rows = [
        (
            "65,536 pairs of multiply, with answers, as arrays",
            65536,
            timed(lambda: list(vectors("multiply", "rf8").blocks())),
        ),
        ("the same as text", 65536, timed(lambda: b"".join(vectors("multiply", "rf8").text()))),
        ("`rf8sim vectors multiply`, the whole command", 65536, command("vectors", "multiply")),
        ("`rf8sim vectors fma`, the whole command", len(vectors("fma", "rf8")), command("vectors", "fma")),
    ]
    text = b"".join(vectors("encode", "rf8", n=PIECE).text())
    count = text.count(b"\n")
    rows.append(("read by a loop in Python, nothing checked", count, timed(lambda: by_hand(text))))
    asked = vectors("encode", "rf8", n=PIECE)
    rows.append(("the same lines verified", count, timed(lambda: verify(asked, io.BytesIO(text)))))
    with tempfile.TemporaryDirectory() as folder:
        for operation in ("encode", "multiply", "accumulate"):
            seconds, memory = verified(operation, arguments.lines, Path(folder))
            what = f"{operation} from a file, verified ({memory / 2**20:.0f} MiB more memory)"
            rows.append((what, arguments.lines, seconds))
    lines = [
        "# Speed of vectors and verification", "", machine(), "",
        f"Command: `python benchmarks/vectors.py --lines {arguments.lines}`. Median of three; the last three, once.",
        "", "| what | lines | s | 1e6 lines/s |", "|---|---:|---:|---:|",
        *(f"| {what} | {count:,} | {seconds:.3f} | {count / seconds / 1e6:.2f} |" for what, count, seconds in rows),
    ]  # fmt: skip
    page = "\n".join(lines) + "\n"
    print(page)
    if arguments.save:
        arguments.save.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
