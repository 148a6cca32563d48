"""Whole commands on little work, beside what they cannot do without: Python, numpy and typer.

``python benchmarks/startup.py`` prints wall and processor time, medians of several runs that take turns. Bytecode and
numba's cache are warm; ``--fresh`` adds a run with neither, as on a machine that has just installed the package.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import machine

RF8SIM = [sys.executable, "-m", "rf8sim"]
BASE = {
    "python": [sys.executable, "-c", "pass"],
    "import numpy, typer": [sys.executable, "-c", "import numpy, typer"],
    "import numba": [sys.executable, "-c", "import numba"],
}
COMMANDS = (
    "--help", "vectors multiply -f rf8", "vectors fma -f e4m3fn -n 0", "vectors multiply -f float16 -n 100",
    "vectors encode --rounding stochastic -n 0", "vectors multiply -f nonesuch", "vectors multiply --from float16",
    "verify multiply SHORT", "verify multiply WHOLE", "verify multiply WRONG",
)  # fmt: skip


def answers(folder: Path) -> dict[str, str]:
    """Write answers to read: a few lines, all of them, and all with one that is wrong."""
    whole = subprocess.run([*RF8SIM, "vectors", "multiply"], capture_output=True, check=True).stdout
    contents = {
        "SHORT": b"".join(whole.splitlines(keepends=True)[:20]),
        "WHOLE": whole,
        "WRONG": whole.replace(b"7B 6F 6F 00", b"7B 6F 6E 00"),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {name: str(folder / name) for name in contents}


def timed(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Run a command and return its wall and its processor time in seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, capture_output=True, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fresh", action="store_true", help="also without bytecode and numba's cache")
    options = parser.parse_args()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as place:
        paths = answers(Path(place))
        commands = dict(BASE)
        for text in COMMANDS:
            commands[f"rf8sim {text}"] = [*RF8SIM, *(paths.get(word, word) for word in text.split())]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(options.rounds + 1):
            for name, command in commands.items():
                measured = timed(command, environment)
                if number:  # the first run fills the caches
                    times[name].append(measured)
        print(machine())
        print("| command | wall, s | processor, s | least processor, s |\n|---|---|---|---|")
        for name, measured in times.items():
            wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
            print(f"| `{name}` | {wall:.2f} | {cpu:.2f} | {min(cpu for _, cpu in measured):.2f} |")
        if options.fresh:
            empty = {**environment, "PYTHONPYCACHEPREFIX": f"{place}/bytecode", "NUMBA_CACHE_DIR": f"{place}/numba"}
            for name in ("rf8sim vectors multiply -f rf8", "rf8sim verify multiply WHOLE"):
                wall, cpu = timed(commands[name], empty)
                print(f"| `{name}`, nothing cached | {wall:.2f} | {cpu:.2f} | |")


if __name__ == "__main__":
    main()
