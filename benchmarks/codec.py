"""Encode and decode against peers and the memory limit, in one run.

python benchmarks/codec.py [--log2-size 24] [--rounds 9] [--save reports/speed_codec.md]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
from harness import Contender, machine, race, version

import rf8sim
from rf8sim._base.threads import available_threads
from rf8sim.codec import boundaries, rounding, thresholds

SLOW = 1 << 20  # peers slower than 1e8 a second get fewer elements: their rate does not depend on the size

SIZES = (16, 18, 20, 22, 24, 26)


def parallel_copy(
    source: np.ndarray, target: np.ndarray, pool: ThreadPoolExecutor, threads: int
) -> Callable[[], object]:
    step = -(-source.size // threads)
    pieces = [slice(start, start + step) for start in range(0, source.size, step)]
    return lambda: list(pool.map(lambda piece: np.copyto(target[piece], source[piece]), pieces))


def codec_rates(size: int, rounds: int, threads: int) -> dict[str, float]:
    x = (np.random.default_rng(0).normal(size=size) * 0.02).astype(np.float32)
    codes, values = np.empty(size, np.uint8), np.empty(size, np.float32)
    # Encoding reads 4 bytes and writes 1, decoding the reverse: a copy of 2.5 bytes moves as much.
    source, target = np.ones(size * 5 // 2, np.uint8), np.ones(size * 5 // 2, np.uint8)
    e4m3, few = np.empty(size, ml_dtypes.float8_e4m3fn), x[:SLOW]
    pool = ThreadPoolExecutor(threads)

    def encode(threads: int, **options: str) -> Callable[[], object]:
        return lambda: rf8sim.encode(
            x, options.get("fmt", "rf8"), rounding=options["rounding"], out=codes, threads=threads
        )

    contenders = [
        Contender("np.copyto, same bytes, 1 thread", lambda: np.copyto(target, source), size),
        Contender("np.copyto, same bytes, all threads", parallel_copy(source, target, pool, threads), size),
        Contender("ml_dtypes float32 -> float8_e4m3fn", lambda: np.copyto(e4m3, x, casting="unsafe"), size),
        Contender("ml_dtypes float8_e4m3fn -> float32", lambda: np.copyto(values, e4m3, casting="unsafe"), size),
    ]
    for name in ("rf8", "e4m3fn"):
        for mode in ("nearest-even", "residual", "stochastic"):
            if mode == "residual" and name != "rf8":
                continue
            contenders += [
                Contender(f"rf8sim encode {name} {mode}, 1 thread", encode(1, fmt=name, rounding=mode), size),
                Contender(f"rf8sim encode {name} {mode}, all threads", encode(threads, fmt=name, rounding=mode), size),
            ]
    contenders += [
        Contender(f"rf8sim encode {name} stochastic, 1 thread", encode(1, fmt=name, rounding="stochastic"), size)
        for name in ("nf4", "nf8", "lns8")
    ]
    contenders += [
        Contender("rf8sim decode rf8, 1 thread", lambda: rf8sim.decode(codes, "rf8", out=values, threads=1), size),
        Contender(
            "rf8sim decode rf8, all threads", lambda: rf8sim.decode(codes, "rf8", out=values, threads=threads), size
        ),
    ]
    if version("torch"):
        import torch

        torch.set_num_threads(1)
        tensor, target8 = torch.from_numpy(x), torch.empty(size, dtype=torch.float8_e4m3fn)
        target32 = torch.empty(size)
        contenders += [
            Contender("torch float32 -> float8_e4m3fn, 1 thread", lambda: target8.copy_(tensor), size),
            Contender("torch float8_e4m3fn -> float32, 1 thread", lambda: target32.copy_(target8), size),
        ]
    if version("gfloat"):
        import gfloat
        from gfloat.formats import format_info_ocp_e4m3

        info = format_info_ocp_e4m3

        def by_gfloat() -> object:
            return gfloat.encode_ndarray(info, gfloat.round_ndarray(info, few))

        contenders.append(Contender("gfloat round and encode e4m3fn", by_gfloat, SLOW))
    if version("pychop"):
        import pychop

        pychop.backend("numpy")
        nearest, stochastic = (pychop.Chop(exp_bits=4, sig_bits=3, rmode=mode) for mode in (1, 5))
        contenders += [
            Contender("pychop round to e4m3, nearest", lambda: nearest(few), SLOW),
            Contender("pychop round to e4m3, stochastic", lambda: stochastic(few), SLOW),
        ]
    return race(contenders, rounds)


def of_size(log2_size: int, rounds: int) -> tuple[float, float]:
    """Return how many elements a second one thread copies, as many bytes as encoding moves, and how many it encodes.

    Arrays of one size are handled many times over, so that small ones stay in the cache.
    """
    size, times = 1 << log2_size, range(max(1, 1 << 22 - min(log2_size, 22)))
    x = (np.random.default_rng(0).normal(size=size) * 0.02).astype(np.float32)
    codes, source, target = (np.ones(count, np.uint8) for count in (size, size * 5 // 2, size * 5 // 2))

    def copy() -> None:
        for _ in times:
            np.copyto(target, source)

    def encode() -> None:
        for _ in times:
            rf8sim.encode(x, "rf8", out=codes, threads=1)

    every = size * len(times)
    rates = race([Contender("copy", copy, every), Contender("encode", encode, every)], rounds)
    return rates["copy"], rates["encode"]


def table_times() -> list[tuple[str, float]]:
    """Milliseconds to build everything that encoding one format in one mode needs, for every dtype."""
    rows = []
    for name in rf8sim.format_names():
        fmt = rf8sim.get_format(name)
        worst = 0.0
        for mode in rounding.RoundingMode:
            if mode == "residual" and fmt.depth is None:
                continue
            for cached in (
                boundaries.boundaries,
                boundaries.place,
                thresholds.step_table,
                thresholds.cell_table,
                thresholds.full_table,
                thresholds.stochastic_table,
            ):
                cached.cache_clear()
            start = time.perf_counter()
            for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
                rf8sim.encode(np.ones(1, dtype), fmt, rounding=mode)
            worst = max(worst, time.perf_counter() - start)
        rows.append((name, 1e3 * worst))
    return rows


def fresh_process(code: str, rounds: int = 5) -> float:
    """Median seconds that a new interpreter says a statement takes."""
    program = f"import numpy, time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log2-size", type=int, default=24, help="base-2 logarithm of the number of elements")
    parser.add_argument("--rounds", type=int, default=9, help="timed calls each; the median counts")
    parser.add_argument("--save", type=Path, help="write the result as Markdown")
    arguments = parser.parse_args()
    threads = available_threads()

    rates = codec_rates(1 << arguments.log2_size, arguments.rounds, threads)
    copy1, copy_all = (rates[f"np.copyto, same bytes, {which}"] for which in ("1 thread", "all threads"))
    peer = rates["ml_dtypes float32 -> float8_e4m3fn"]
    torch_copy = rates.get("torch float32 -> float8_e4m3fn, 1 thread")
    size, rounds = arguments.log2_size, arguments.rounds
    lines = [
        "# Speed of the codec",
        "",
        machine(),
        "",
        f"Command: `python benchmarks/codec.py --log2-size {size} --rounds {rounds}`. Median of {rounds} calls, "
        f"contenders taking turns; 2^{size} float32 elements, Gaussian, deviation 0.02. The copy limit is `np.copyto` "
        "of as many bytes as encoding reads and writes, 5 an element.",
        "",
        "| contender | 1e9 elements/s | of the copy limit (1 thread) | times ml_dtypes | times torch |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, rate in rates.items():
        over_torch = f"{rate / torch_copy:.2f}" if torch_copy else ""
        lines.append(f"| {name} | {rate / 1e9:.3f} | {rate / copy1:.2f} | {rate / peer:.2f} | {over_torch} |")
    all_threads = [
        f"{name.removeprefix('rf8sim ').removesuffix(', all threads')} {rate / copy_all:.2f}"
        for name, rate in rates.items()
        if name.startswith("rf8sim") and name.endswith("all threads")
    ]
    lines += [
        "",
        f"All threads against the copy limit of all threads ({copy_all / 1e9:.2f}e9/s): {', '.join(all_threads)}.",
        "",
        "## RF8 by size, 1 thread",
        "",
        "| elements | copy, 1e9/s | encode, 1e9/s | of the copy |",
        "|---|---:|---:|---:|",
    ]
    for log2_size in SIZES:
        copied, encoded = of_size(log2_size, rounds)
        lines.append(f"| 2^{log2_size} | {copied / 1e9:.2f} | {encoded / 1e9:.2f} | {encoded / copied:.2f} |")
    first_call = "import rf8sim; rf8sim.encode(numpy.ones(4, numpy.float32), 'rf8')"
    lines += [
        "",
        "## Tables, import, first call",
        "",
        "| what | ms |",
        "|---|---:|",
        f"| `import rf8sim`, after numpy | {1e3 * fresh_process('import rf8sim'):.0f} |",
        f"| import and first encode in a fresh process, numba's cache filled | {1e3 * fresh_process(first_call):.0f} |",
    ]
    lines += [f"| tables of {name}, every dtype, slowest mode | {ms:.0f} |" for name, ms in table_times()]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.save:
        arguments.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
