"""Matrix products of codes against BLAS, and against others' ways of rounding every sum, in one run.

python benchmarks/linalg.py [--rounds 7] [--save reports/speed_linalg.md]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import Contender, machine, race, version

import rf8sim
from rf8sim._base.threads import available_threads
from rf8sim.arithmetic.linalg import weight_matvec

FEW = 8  # of the 512 terms of each sum, or rows: who is slow gets these, and its rate does not depend on the number


def codes(rng: np.random.Generator, *shape: int, fmt: str = "rf8") -> np.ndarray:
    return rf8sim.encode(rng.normal(size=shape) * 0.3 * rf8sim.get_format(fmt).max / 1.5, fmt)


def exact_rates(rounds: int) -> dict[str, float]:
    """Multiply and add pairs a second, 1024 x 1024 x 1024."""
    rng = np.random.default_rng(0)
    names = ("rf8", "int8", "e4m3fn", "e5m2")
    pairs = {name: (codes(rng, 1024, 1024, fmt=name), codes(rng, 1024, 1024, fmt=name)) for name in names}
    x, y = (rf8sim.decode(m, "rf8", dtype=np.float64) for m in pairs["rf8"])
    contenders = [Contender("numpy float64 (dgemm)", lambda: x @ y, 1 << 30)]
    contenders += [
        Contender(f"rf8sim exact {name}", lambda name=name: rf8sim.matmul(*pairs[name], name), 1 << 30)
        for name in names
    ]
    return race(contenders, rounds)


def scalar_loop(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Add products in sequence by numpy scalars, the plain way."""
    out = np.empty((x.shape[0], y.shape[1]), np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = np.float32(0)
            for k in range(x.shape[1]):
                total = total + x[i, k] * y[k, j]
            out[i, j] = total
    return out


def rounded_loop(x: np.ndarray, y: np.ndarray, rounded: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Add one product after the other to all outputs at once, each sum rounded by a function of arrays."""
    total = np.zeros((x.shape[0], y.shape[1]))
    for k in range(x.shape[1]):
        total = rounded(total + x[:, k, None] * y[k])
    return total


def sequential_rates(rounds: int) -> dict[str, float]:
    """Multiply and add pairs a second, 512 x 512 x 512; who is slow multiplies fewer rows."""
    rng = np.random.default_rng(1)
    a, b = codes(rng, 512, 512), codes(rng, 512, 512)
    size = 512**3
    x, y = rf8sim.decode(a, "rf8"), rf8sim.decode(b, "rf8")
    contenders = [
        Contender(
            f"rf8sim {held} {order}",
            lambda held=held, order=order: rf8sim.matmul(
                a, b, "rf8", accumulator=rf8sim.Accumulation(held, order=order)
            ),
            size,
        )
        for held in ("float32", "float16", "bfloat16", "tf32", "int:48", "e4m3fn")
        for order in ("sequential", "blocked:16", "pairwise")
    ]
    contenders.append(
        Contender(
            "rf8sim bfloat16 sequential, stochastic",
            lambda: rf8sim.matmul(a, b, "rf8", accumulator=rf8sim.Accumulation("bfloat16", rounding="stochastic")),
            size,
        )
    )
    contenders.append(Contender("numpy float32 scalars, sequential", lambda: scalar_loop(x[:2], y[:, :8]), 2 * 8 * 512))
    wide, tall = x[:, :FEW].astype(np.float64), y[:FEW].astype(np.float64)
    if version("pychop"):
        import pychop

        pychop.backend("numpy")
        single, half = pychop.Chop(exp_bits=8, sig_bits=23, rmode=1), pychop.Chop(exp_bits=5, sig_bits=10, rmode=1)
        contenders += [
            Contender("pychop float32, sequential", lambda: rounded_loop(wide, tall, single), FEW * 512**2),
            Contender("pychop float16, sequential", lambda: rounded_loop(wide, tall, half), FEW * 512**2),
        ]
    if version("apytypes"):
        import apytypes

        options = {"exp_bits": 8, "man_bits": 23}
        left, right = (apytypes.APyFloatArray.from_float(m.tolist(), **options) for m in (x[:FEW], y))
        mode = apytypes.APyFloatAccumulatorContext(**options)

        def apytypes_product() -> object:
            with mode:
                return left @ right

        contenders.append(Contender("apytypes float32, sequential", apytypes_product, FEW * 512**2))
    return race(contenders, rounds)


ENGINES = (
    ("hopper-fp8", "e4m3fn"), ("hopper-fp16", "float16"), ("blackwell-fp8", "e5m2"), ("blackwell-mxfp4", "e2m1fn"),
    ("cdna1-fp16", "float16"), ("cdna2-fp16", "float16"), ("cdna3-fp16", "float16"), ("cdna3-fp8", "e4m3fnuz"),
    ("riscv-bf16", "bfloat16"), ("riscv-fp8", "e4m3fn"),
)  # fmt: skip


def engine_rates(rounds: int) -> dict[str, float]:
    """Multiply and add pairs a second, 512 x 512 x 512, as matrix engines sum them."""
    rng = np.random.default_rng(1)
    pairs = {
        name: (rf8sim.encode(rng.normal(size=(512, 512)), name), rf8sim.encode(rng.normal(size=(512, 512)), name))
        for _, name in ENGINES
    }
    contenders = [
        Contender(
            f"rf8sim {engine}, {name}",
            lambda engine=engine, name=name: rf8sim.matmul(*pairs[name], name, accumulator=engine),
            512**3,
        )
        for engine, name in (("float32", "e4m3fn"), *ENGINES)
    ]
    return race(contenders, rounds)


def matvec_rates(rounds: int, threads: int) -> dict[str, float]:
    """Weights a second, 4096 x 4096."""
    rng = np.random.default_rng(2)
    weights, x = codes(rng, 4096, 4096), rng.normal(size=4096).astype(np.float32)
    matrix = rf8sim.decode(weights, "rf8")
    spare = np.empty_like(weights)
    size = weights.size
    return race(
        [
            Contender("numpy float32 (sgemv), all threads", lambda: matrix @ x, size),
            Contender("rf8sim weight_matvec rf8, 1 thread", lambda: weight_matvec(weights, x, "rf8", threads=1), size),
            Contender(
                f"rf8sim weight_matvec rf8, {threads} threads",
                lambda: weight_matvec(weights, x, "rf8", threads=threads),
                size,
            ),
            Contender("rf8sim weight_matvec e4m3fn (table), 1 thread",
                      lambda: weight_matvec(weights, x, "e4m3fn", threads=1), size),
            # A copy reads and writes: half of it takes what reading the codes once takes, at least.
            Contender("np.copyto of half the codes' bytes, 1 thread",
                      lambda: np.copyto(spare[:2048], weights[:2048]), size),
        ],
        rounds,
    )  # fmt: skip


def table(rates: dict[str, float], against: str, unit: str) -> list[str]:
    lines = [f"| contender | 1e9 {unit}/s | times {against} |", "|---|---:|---:|"]
    return lines + [f"| {name} | {rate / 1e9:.4g} | {rate / rates[against]:.3g} |" for name, rate in rates.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed calls each; the median counts")
    parser.add_argument("--save", type=Path, help="write the result as Markdown")
    arguments = parser.parse_args()
    threads = available_threads()

    exact = exact_rates(arguments.rounds)
    sequential = sequential_rates(max(arguments.rounds // 2, 3))
    engines = engine_rates(arguments.rounds)
    matvec = matvec_rates(3 * arguments.rounds, threads)
    peer = "pychop float32, sequential" if "pychop float32, sequential" in sequential else next(iter(sequential))
    lines = [
        "# Speed of matrix products of codes", "", machine(), "",
        f"Command: `python benchmarks/linalg.py --rounds {arguments.rounds}`. Medians, contenders taking turns; "
        "numpy's BLAS with its own number of threads, rf8sim with all.", "",
        "## Exact sums, 1024 x 1024 x 1024", "",
        *table(exact, "numpy float64 (dgemm)", "products"), "",
        "## Every sum rounded, 512 x 512 x 512", "",
        *table(sequential, peer, "products"), "",
        "## Matrix engines, 512 x 512 x 512", "",
        *table(engines, "rf8sim float32, e4m3fn", "products"), "",
        "## RF8 weights times a float32 vector, 4096 x 4096", "",
        *table(matvec, "numpy float32 (sgemv), all threads", "weights"), "",
    ]  # fmt: skip
    text = "\n".join(lines)
    print(text)
    if arguments.save:
        arguments.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
