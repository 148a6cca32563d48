"""Whole commands on little work, beside what they cannot do without: Python, numpy and typer.

python benchmarks/startup.py [--rounds 7] [--fresh] [--save reports/speed_startup.md]

Wall and processor time, medians of several runs that take turns. Bytecode and numba's cache are warm; ``--fresh`` adds
runs in which numba has compiled nothing yet, as after an installation.
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
    "--help", "formats", "doctor",
    "vectors multiply -f rf8", "vectors fma -f e4m3fn -n 0", "vectors multiply -f float16 -n 100",
    "vectors encode --rounding stochastic -n 0", "vectors multiply -f nonesuch", "vectors multiply --from float16",
    "verify multiply SHORT", "verify multiply WHOLE", "verify multiply WRONG",
)  # fmt: skip
LM = str(Path(__file__).parents[1] / "examples" / "lm" / "model.safetensors")
ENCODE = "import numpy as np, rf8sim; rf8sim.encode(np.ones(100, np.float32), 'rf8')"
MATMUL = (
    "import numpy as np, rf8sim; x = np.full((64, 64), 0x38, np.uint8); "
    "rf8sim.matmul(x, x, 'e4m3fn', accumulator='bfloat16')"
)


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


def timed(command: list[str], environment: dict[str, str] | None = None, check: bool = False) -> tuple[float, float]:
    """Run a command and return its wall and its processor time in seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, capture_output=True, env=environment, check=check)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--fresh", action="store_true", help="also without bytecode and numba's cache")
    options = parser.parse_args()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as place:
        paths = answers(Path(place))
        commands = {**BASE, "encode of 100 numbers": [sys.executable, "-c", ENCODE]}
        for text in COMMANDS:
            commands[f"rf8sim {text}"] = [*RF8SIM, *(paths.get(word, word) for word in text.split())]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(options.rounds + 1):
            for name, command in commands.items():
                measured = timed(command, environment)
                if number:  # the first run fills the caches
                    times[name].append(measured)
        lines = [
            "# Speed of the start\n",
            machine() + "\n",
            f"Command: `python benchmarks/startup.py --rounds {options.rounds}{' --fresh' * options.fresh}`. Medians; "
            "`SHORT` is 20 lines, `WHOLE` all pairs of codes, `WRONG` these with one wrong answer.\n",
            "| command | wall, s | processor, s | least processor, s |\n|---|---:|---:|---:|",
        ]
        for name, measured in times.items():
            wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
            lines.append(f"| `{name}` | {wall:.2f} | {cpu:.2f} | {min(cpu for _, cpu in measured):.2f} |")
        if options.fresh:  # only numba's cache: bytecode is that of numpy, scipy and matplotlib too
            fresh = {
                "rf8sim vectors multiply -f rf8": commands["rf8sim vectors multiply -f rf8"],
                "rf8sim verify multiply WHOLE": commands["rf8sim verify multiply WHOLE"],
                "rf8sim report examples/lm/model.safetensors": [*RF8SIM, "report", LM, "-o", f"{place}/report"],
                "matmul(x, x, accumulator='bfloat16') of 64 x 64": [sys.executable, "-c", MATMUL],
            }
            for number, (name, command) in enumerate(fresh.items()):
                for state in ("nothing compiled", "then again"):
                    wall, cpu = timed(command, {**environment, "NUMBA_CACHE_DIR": f"{place}/{number}"}, check=True)
                    lines.append(f"| `{name}`, {state} | {wall:.2f} | {cpu:.2f} | |")
        print("\n".join(lines))
        if options.save:
            options.save.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
