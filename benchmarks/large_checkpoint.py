"""Report on a sharded checkpoint of many gigabytes: throughput beside reading the same bytes, and memory.

python benchmarks/large_checkpoint.py [--gigabytes 8] [--folder DIR] [--save reports/large_checkpoint.md]

The checkpoint is made up (bfloat16 weights of generalized Gaussian tensors, 1 GB a shard) and removed at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import mmap
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from harness import machine

import ggd

ROWS, COLUMNS = 4096, 4096  # of a tensor: 32 MB as bfloat16
FORMATS = ("rf8", "e4m3fn", "e5m2", "e3m4", "int8")
PIECE = 1 << 21  # bytes: 2**20 elements of bfloat16, as the report reads


def make(folder: Path, gigabytes: float) -> list[Path]:
    """Write shards and their index; each tensor has its own shape and scale, and its own samples."""
    count = max(1, round(gigabytes * 1e9 / (ROWS * COLUMNS * 2)))
    shards, weight_map = max(1, round(gigabytes)), {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        own = range(shard, count, shards)
        names = [f"layers.{i}.mlp.up_proj.weight" for i in own]
        size = ROWS * COLUMNS * 2
        header = {
            tensor: {"dtype": "BF16", "shape": [ROWS, COLUMNS], "data_offsets": [place * size, (place + 1) * size]}
            for place, tensor in enumerate(names)
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for i in own:
                law = ggd.GGD(0.6 + 1.4 * (i % 7) / 6, 0.01 * 2.0 ** (i % 5))
                x = law.sample((ROWS, COLUMNS), seed=i, dtype=np.float32)
                file.write((x.view(np.uint32) >> 16).astype("<u2").data)
        weight_map |= dict.fromkeys(names, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return sorted(folder.glob("*.safetensors"))


def readers(files: list[Path]) -> dict[str, Callable[[], object]]:
    """Ways to read the same bytes and do nothing with them, or add them up."""

    def pieces() -> Iterator[np.ndarray]:
        buffer = np.empty(PIECE, np.uint8)
        for path in files:
            with path.open("rb") as file:
                while read := file.readinto(buffer):
                    yield buffer[:read]

    def from_file() -> int:
        total = 0
        for path in files:
            with path.open("rb") as file:
                while (part := np.fromfile(file, np.uint8, PIECE)).size:
                    total += part.size
        return total

    def mapped() -> int:
        total = 0
        for path in files:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                data = np.frombuffer(view, np.uint8)
                for start in range(0, data.size, PIECE):
                    total += data[start : start + PIECE].copy().size
                del data
        return total

    def summary() -> int:
        histogram = ggd.MagnitudeHistogram()
        for part in pieces():
            histogram.update(
                part[: part.size // 2 * 2].view(np.uint16).astype(np.uint32).__lshift__(16).view(np.float32)
            )
        return histogram.size

    return {
        "cat to /dev/null": lambda: subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True),
        "np.fromfile, 2 MB at a time": from_file,
        "read into a buffer, 2 MB at a time (what the report does)": lambda: sum(part.size for part in pieces()),
        "memory map, copied 2 MB at a time": mapped,
        "the one-pass summary alone, of the values as float32, one thread": summary,
    }


# The peak of the process's own memory: what the system reports of a child includes that of the parent which started it.
CHILD = """
import resource, sys
from pathlib import Path
from rf8sim.cli import main
status = main(sys.argv[1:])
own = Path("/proc/self/status")
peaks = [line.split()[1] for line in own.read_text().splitlines() if line.startswith("VmHWM")] if own.exists() else []
print(int(peaks[0]) * 1024 if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def report(files: list[Path], threads: int) -> tuple[float, float, bytes]:
    """Run the command; return its seconds, its largest resident memory in MB, and the report's JSON."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CHILD, "report", str(files[0].parent), "-o", folder, "-q", "--no-figures"]
        command += [word for name in FORMATS for word in ("--format", f"{name}/tensor")] + ["--threads", str(threads)]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        seconds = time.perf_counter() - start
        return seconds, int(done.stdout) / 1e6, (Path(folder) / "report.json").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--folder", type=Path, help="where there is room; by default the system's temporary folder")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        files = make(folder, options.gigabytes)
        size = sum(path.stat().st_size for path in files)
        rows = []
        for name, read in readers(files).items():
            times = []
            for _ in range(2):
                start = time.perf_counter()
                read()
                times.append(time.perf_counter() - start)
            rows.append((name, min(times), math.nan))
        found = {}
        for threads in (1, 2):
            seconds, peak, found[threads] = report(files, threads)
            plural = "s" if threads > 1 else ""
            rows.append((f"rf8sim report, {len(FORMATS)} formats, {threads} thread{plural}", seconds, peak))
        if found[1] != found[2]:
            raise SystemExit("one thread and two made different reports")
        lines = [
            "# A large checkpoint",
            "",
            f"`python benchmarks/large_checkpoint.py --gigabytes {options.gigabytes:g}`",
            "",
            f"{machine()}. {len(files)} shards of {size / len(files) / 1e9:.2f} GB, {size / 1e9:.2f} GB of bfloat16 in "
            "all. Each line reads them all; the better of two runs, of the report one. Files that fit in memory are "
            "read from the page cache.",
            "",
            "| | seconds | GB/s | resident MB |",
            "|---|---:|---:|---:|",
            *(
                f"| {name} | {seconds:.1f} | {size / seconds / 1e9:.2f} | {'' if math.isnan(peak) else f'{peak:.0f}'} |"
                for name, seconds, peak in rows
            ),
            "",
            "The reports of one thread and of two are the same bytes.",
            "",
        ]
        text = "\n".join(lines)
        print(text)
        if options.save:
            options.save.write_text(text)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
