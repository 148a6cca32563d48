"""Formats of 16 bits against peers, in one run: encoding and operations on codes.

python benchmarks/wide.py [--log2-size 22] [--rounds 5] [--save reports/speed_wide.md]

numpy computes float16 and ml_dtypes bfloat16, of which neither has a fused multiply-add; gfloat decodes, operates in
float64 and rounds, which is not exact for every sum. Numbers are normal deviates.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
from harness import Contender, machine, race

import rf8sim
from rf8sim._base import threads as _parallel

SLOW = 1 << 16
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
GFLOAT = {"float16": gfloat.formats.format_info_binary16, "bfloat16": gfloat.formats.format_info_bfloat16}
PEER = {"float16": "numpy", "bfloat16": "ml_dtypes"}
OPERATIONS = ("encode", "add", "multiply", "fma", "divide")


def limited(call: Callable[[], object], threads: int) -> Callable[[], object]:
    def run() -> object:
        with patch.object(_parallel, "available_threads", lambda: threads):
            return call()

    return run


def contenders(operation: str, fmt: str, size: int, threads: int) -> list[Contender]:
    rng = np.random.default_rng(0)
    count = {"encode": 1, "fma": 3}.get(operation, 2)
    numbers = [rng.normal(size=size).astype(np.float32) for _ in range(count)]
    codes = [rf8sim.encode(x, fmt) for x in numbers]
    values = [x.view(DTYPES[fmt]) for x in codes]
    out, target = np.empty(size, np.uint16), np.empty(size, DTYPES[fmt])
    info, few = GFLOAT[fmt], [x[:SLOW].astype(np.int64) for x in codes]

    def ours() -> object:
        given = numbers if operation == "encode" else codes
        return getattr(rf8sim, operation)(*given, fmt, out=out)

    def gfloat_way() -> object:
        if operation == "encode":
            return gfloat.encode_ndarray(info, gfloat.round_ndarray(info, numbers[0][:SLOW].astype(np.float64)))
        decoded = [gfloat.decode_ndarray(info, x) for x in few]
        result = decoded[0] * decoded[1] + decoded[2] if count == 3 else getattr(np, operation)(*decoded)
        return gfloat.encode_ndarray(info, gfloat.round_ndarray(info, result))

    found = [Contender("np.copyto of the results", lambda: np.copyto(out, codes[0]), size)]
    found += [Contender(f"rf8sim, {n} thread{'s' * (n > 1)}", limited(ours, n), size, n) for n in sorted({1, threads})]
    if operation == "encode":
        found.append(Contender(PEER[fmt], lambda: np.copyto(target, numbers[0], casting="same_kind"), size))
    elif count == 2:
        found.append(Contender(PEER[fmt], lambda: getattr(np, operation)(*values, out=target), size))
    return [*found, Contender("gfloat", gfloat_way, SLOW)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log2-size", type=int, default=22, help="base-2 logarithm of the number of elements")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls each; the median counts")
    parser.add_argument("--save", type=Path, help="write the result as Markdown")
    arguments = parser.parse_args()
    lines = [
        "# Speed of formats of 16 bits", "", machine(), "",
        f"Command: `python benchmarks/wide.py --log2-size {arguments.log2_size} --rounds {arguments.rounds}`. "
        f"Median of {arguments.rounds} calls, contenders taking turns; 2^{arguments.log2_size} normal deviates, and "
        f"2^{SLOW.bit_length() - 1} for gfloat.", "",
        "| format | operation | contender | 1e9 elements/s | rf8sim, all threads, is faster by |",
        "|---|---|---|---:|---:|",
    ]  # fmt: skip
    threads = _parallel.available_threads()
    for fmt in DTYPES:
        for operation in OPERATIONS:
            with np.errstate(all="ignore"):
                rates = race(contenders(operation, fmt, 1 << arguments.log2_size, threads), arguments.rounds)
            best = max(rate for contender, rate in rates.items() if contender.startswith("rf8sim"))
            for contender, rate in rates.items():
                times = "" if contender.startswith("rf8sim") else f"{best / rate:.2f}"
                lines.append(f"| {fmt} | {operation} | {contender} | {rate / 1e9:.4f} | {times} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.save:
        arguments.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
