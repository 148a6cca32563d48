"""Elementwise operations on codes against peers, in one run.

python benchmarks/arithmetic.py [--log2-size 24] [--rounds 7] [--save reports/speed_arithmetic.md]

Each peer is given what it works on: ml_dtypes its own float8 arrays, apytypes its own arrays, gfloat codes that it
decodes, operates on in float64, rounds and encodes. All compute E4M3; only rf8sim knows RF8.
"""

from __future__ import annotations

import argparse
import operator
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import ml_dtypes
import numpy as np
from harness import Contender, machine, race, version

import rf8sim
from rf8sim._base import threads as _parallel

SLOW = 1 << 18  # peers slower than 1e7 a second get fewer elements: their rate does not depend on the size
OPERATIONS = {"add": operator.add, "multiply": operator.mul, "divide": operator.truediv}
PEERS = ("ml_dtypes", "gfloat", "apytypes")


def limited(call: Callable[[], object], threads: int) -> Callable[[], object]:
    def run() -> object:
        with patch.object(_parallel, "available_threads", lambda: threads):
            return call()

    return run


def contenders(name: str, size: int, threads: int) -> list[Contender]:
    operation = OPERATIONS[name]
    a, b = np.random.default_rng(0).integers(0, 256, (2, size), dtype=np.uint8)
    out = np.empty(size, np.uint8)
    found = [Contender("np.add of uint8, 1 thread", lambda: np.add(a, b, out=out), size)]
    for fmt in ("rf8", "e4m3fn"):
        for count in sorted({1, threads}):

            def ours(fmt: str = fmt) -> object:
                return getattr(rf8sim, name)(a, b, fmt, out=out)

            label = f"rf8sim {fmt}, {count} thread{'s' * (count > 1)}"
            found.append(Contender(label, limited(ours, count), size, count))

    def drawn() -> object:
        return getattr(rf8sim, name)(a, b, "rf8", rounding="stochastic", out=out)

    found.append(Contender("rf8sim rf8, stochastic, 1 thread", limited(drawn, 1), size))
    peer_a, peer_b, peer_out = (x.view(ml_dtypes.float8_e4m3fn) for x in (a, b, out))
    found.append(Contender("ml_dtypes e4m3fn", lambda: getattr(np, name)(peer_a, peer_b, out=peer_out), size))
    few_a, few_b = a[:SLOW], b[:SLOW]
    if version("gfloat"):
        import gfloat
        from gfloat.formats import format_info_ocp_e4m3 as info

        def gfloat_way() -> object:
            result = operation(gfloat.decode_ndarray(info, few_a), gfloat.decode_ndarray(info, few_b))
            return gfloat.encode_ndarray(info, gfloat.round_ndarray(info, result))

        found.append(Contender("gfloat e4m3", gfloat_way, SLOW))
    if version("apytypes"):
        from apytypes import APyFloatArray

        left, right = (APyFloatArray.from_bits(x, 4, 3) for x in (few_a, few_b))
        found.append(Contender("apytypes e4m3", lambda: operation(left, right), SLOW))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log2-size", type=int, default=24, help="base-2 logarithm of the number of elements")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls each; the median counts")
    parser.add_argument("--save", type=Path, help="write the result as Markdown")
    arguments = parser.parse_args()
    threads = _parallel.available_threads()
    lines = [
        "# Speed of operations on codes", "", f"{machine()}, apytypes {version('apytypes')}", "",
        f"Command: `python benchmarks/arithmetic.py --log2-size {arguments.log2_size} --rounds {arguments.rounds}`. "
        f"Median of {arguments.rounds} calls, contenders taking turns; 2^{arguments.log2_size} codes for "
        f"rf8sim and ml_dtypes, 2^{SLOW.bit_length() - 1} for the others.", "",
        "| operation | contender | 1e9 elements/s | rf8sim e4m3fn, 1 thread, is faster by |",
        "|---|---|---:|---:|",
    ]  # fmt: skip
    for name in OPERATIONS:
        with np.errstate(all="ignore"):
            rates = race(contenders(name, 1 << arguments.log2_size, threads), arguments.rounds)
        ours = rates["rf8sim e4m3fn, 1 thread"]
        for contender, rate in rates.items():
            times = f"{ours / rate:.1f}" if contender.startswith(PEERS) else ""
            lines.append(f"| {name} | {contender} | {rate / 1e9:.4f} | {times} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.save:
        arguments.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
