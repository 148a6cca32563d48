"""What a report and scales cost, a weight and a tensor, beside copying the same numbers, in one run.

python benchmarks/measuring.py [--log2-size 22] [--rounds 5] [--save reports/speed_measuring.md]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
from harness import Contender, machine
from harness import race as race_by
from safetensors.numpy import save_file

import ggd
from rf8sim import as_scheme, encode, quantize
from rf8sim.checkpoints.checkpoint import open_checkpoint
from rf8sim.entropy.code_lengths import code_lengths
from rf8sim.quantization.scaling import choose_scales
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import Metering

COLUMNS = 4096
FORMATS = ("rf8", "e4m3fn", "e5m2", "e3m4", "int8")
MORE = (*FORMATS, "e4m3", "e5m2fnuz", "posit8_es1", "lns8", "rf8@residual")
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
BY_CHANNEL = tuple(f"{name}/channel" for name in FORMATS)  # what a report measures by default
SCHEMES = ("e4m3fn/channel", "rf8/channel", "int8/channel", "e4m3fn/1x32")


def race(contenders: list[Contender], rounds: int) -> dict[str, float]:
    return race_by(contenders, rounds, time.process_time)


def weights(size: int) -> np.ndarray:
    return ggd.GGD(0.9, 0.02).sample((size // COLUMNS, COLUMNS), seed=1, dtype=np.float32)


def table(rates: dict[str, float], first: str = "copy") -> str:
    rows = (f"| {name} | {1e9 / rate:.2f} | {rates[first] / rate:.1f} |" for name, rate in rates.items())
    return f"| | ns a weight | times {first} |\n|---|---:|---:|\n" + "\n".join(rows)


def report(size: int, rounds: int, folder: Path) -> Iterator[str]:
    """Both passes of a report over a tensor in a file, reading included."""
    x = weights(size)
    for name, dtype in DTYPES.items():
        data = x.astype(dtype)
        save_file({"w": data}, folder / f"{name}.safetensors")
        tensor = next(iter(open_checkpoint(folder / f"{name}.safetensors")))
        contenders = [Contender("copy", lambda data=data: data.copy(), size)]
        contenders.append(Contender("reading", lambda tensor=tensor: sum(1 for _ in tensor.chunks()), size))
        for label, schemes in (("5 formats", FORMATS), ("10 formats", MORE), ("5 formats by channel", BY_CHANNEL)):
            metering = Metering(Settings(schemes), 1 << 20)
            contenders.append(
                Contender(label, lambda m=metering, tensor=tensor: m.meters(tensor, lambda done: None), size)
            )
        yield f"## A report of {name} weights"
        yield f"{size:,} weights, one thread: summary, scales of least error (one, or one a channel), errors."
        yield table(race(contenders, rounds))


def scales(size: int, rounds: int) -> Iterator[str]:
    x = weights(size)
    for name, dtype in DTYPES.items():
        data = x.astype(dtype)
        contenders = [Contender("copy", lambda data=data: data.copy(), size)]
        contenders += [
            Contender(scheme, lambda scheme=scheme, data=data: quantize(data, scheme, threads=1), size)
            for scheme in SCHEMES
        ]
        yield f"## Quantizing {name} weights with scales of least error"
        yield table(race(contenders, rounds))


def tensors(rounds: int) -> Iterator[str]:
    """What each tensor costs however small it is."""
    x = weights(64 * COLUMNS).reshape(-1)[: 64 * 64].astype(ml_dtypes.bfloat16)
    summary = ggd.MagnitudeHistogram.from_array(x)
    counts = np.bincount(encode(x.astype(np.float32) / 0.1, "e4m3fn"), minlength=256)
    scheme = as_scheme("e4m3fn")
    rates = race(
        [
            Contender("summary", lambda: ggd.MagnitudeHistogram.from_array(x), 1),
            Contender("fit of the generalized Gaussian", lambda: ggd.fit(summary), 1),
            Contender("fits of all families", lambda: ggd.select(summary, distances=False), 1),
            Contender("the same with distances", lambda: ggd.select(summary), 1),
            Contender("a scale of least error", lambda: choose_scales(x, scheme), 1),
            Contender("code lengths, Huffman", lambda: code_lengths(counts, "huffman"), 1),
            Contender("code lengths, rANS", lambda: code_lengths(counts, "rans"), 1),
        ],
        rounds,
    )
    yield "## Each tensor"
    yield f"A tensor of {x.size:,} bfloat16 weights."
    yield "| | ms |\n|---|---:|\n" + "\n".join(f"| {name} | {1e3 / rate:.2f} |" for name, rate in rates.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log2-size", type=int, default=22)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    size = 1 << options.log2_size
    command = f"python benchmarks/measuring.py --log2-size {options.log2_size} --rounds {options.rounds}"
    lines = ["# Speed of measuring and of scales", machine()]
    lines.append(f"Command: `{command}`. Processor time, medians of {options.rounds} calls, contenders taking turns.")
    with tempfile.TemporaryDirectory() as folder:
        for part in (report(size, options.rounds, Path(folder)), scales(size, options.rounds), tensors(options.rounds)):
            for line in part:
                lines.append(line)
                print(line + "\n", flush=True)
    if options.save:
        options.save.write_text("\n\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
