"""ggd against numpy, scipy, fitter and distfit, in one run. (A file ``ggd.py`` here would hide the package.)

python benchmarks/ggd_peers.py [--log2-size 24] [--rounds 7] [--save reports/speed_ggd.md]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
from harness import Contender, machine, race
from scipy import integrate, stats

import ggd

SHAPES = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0)
FITTED = 1_000_000
DRAWN = 1_000_000
SLOW_ROUNDS = 3  # timed calls of a peer that takes seconds
COMPARED = 100_000  # the peers that compare families fit each by a search over the data: minutes for more
LLOYD_MAX_DB = {0.3: 37.10, 0.5: 39.12, 0.8: 40.88, 1.0: 41.67, 1.5: 43.00, 2.0: 43.85}


def summary(size: int, rounds: int) -> Iterator[str]:
    x = np.random.default_rng(0).normal(0.0, 0.02, size).astype(np.float32)
    few = x[: 1 << 20]
    contenders = [Contender("np.sum, float32", lambda: np.sum(x), size)]
    for dtype in (np.float32, ml_dtypes.bfloat16, np.float16):
        data = x.astype(dtype)
        name = f"ggd.MagnitudeHistogram, {np.dtype(dtype).name}"
        contenders.append(Contender(name, lambda data=data: ggd.MagnitudeHistogram.from_array(data), size))
    contenders.append(Contender("np.histogram, 100 bins, float32", lambda: np.histogram(few, 100), few.size))
    rates = race(contenders, rounds)
    tracemalloc.start()
    histogram = ggd.MagnitudeHistogram.from_array(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = sum(array.nbytes for array in (histogram.keys, histogram.counts, histogram.low_sums))
    yield "## One pass over the data"
    yield f"{size:,} values, one thread."
    yield "| | 1e9 values/s | of np.sum |\n|---|---:|---:|\n" + "\n".join(
        f"| {name} | {rate / 1e9:.3f} | {rate / rates['np.sum, float32']:.2f} |" for name, rate in rates.items()
    )
    yield f"The float32 summary is {kept / 1e3:.0f} kB; making it took {peak / 1e3:.0f} kB beside the data."


def fits(rounds: int) -> Iterator[str]:
    rows = []
    for shape in SHAPES:
        x = ggd.GGD(shape, 0.02).sample(FITTED, seed=1)
        narrow = x.astype(np.float32)
        rates = race(
            [
                Contender("float64", lambda x=x: ggd.fit(x), FITTED),
                Contender("float32", lambda x=narrow: ggd.fit(x), FITTED),
            ],
            rounds,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seconds = statistics.median(clock(lambda x=x: stats.gennorm.fit(x, floc=0)) for _ in range(SLOW_ROUNDS))
            theirs, _, _ = stats.gennorm.fit(x, floc=0)
        ours = ggd.fit(x)
        times = " | ".join(f"{1e3 * FITTED / rate:.1f} | {seconds * rate / FITTED:.0f}" for rate in rates.values())
        shapes = f"{ours.shape:.6f} | {theirs:.6f} | {ours.stderr.shape:.6f}"
        rows.append(f"| {shape:g} | {1e3 * seconds:.0f} | {times} | {shapes} |")
    yield "## Fit by maximum likelihood"
    yield (
        f"{FITTED:,} samples, from the data to the result: `ggd.fit(x)`, median of {rounds}, against "
        f"`scipy.stats.gennorm.fit(x, floc=0)` of the float64 data, median of {SLOW_ROUNDS}."
    )
    head = (
        "| true shape | scipy, ms | ggd, float64, ms | times as fast | ggd, float32, ms | times as fast "
        "| shape, ggd | shape, scipy | standard error |"
    )
    yield "\n".join([head, "|---:|---:|---:|---:|---:|---:|---:|---:|---:|", *rows])


def samples(rounds: int) -> Iterator[str]:
    rng, out, rows = np.random.default_rng(0), np.empty(DRAWN), []
    for shape in SHAPES:
        density = ggd.GGD(shape, 0.02)
        rates = race(
            [
                Contender("ggd", lambda d=density: d.sample(out=out, seed=1), DRAWN),
                Contender("normal", lambda: rng.normal(0.0, 0.02, DRAWN), DRAWN),
                Contender("rvs", lambda p=shape: stats.gennorm.rvs(p, 0.0, 0.02, DRAWN, random_state=rng), DRAWN),
            ],
            rounds,
        )
        ours = rates["ggd"]
        rows.append(f"| {shape:g} | {ours / 1e6:.0f} | {ours / rates['normal']:.2f} | {ours / rates['rvs']:.1f} |")
    yield "## Samples"
    yield f"{DRAWN:,} float64 values, one thread: `GGD.sample(out=)`, `Generator.normal`, `scipy.stats.gennorm.rvs`."
    yield "\n".join(["| shape | 1e6 values/s | times normal | times rvs |", "|---:|---:|---:|---:|", *rows])


def quantizers() -> Iterator[str]:
    rows = []
    for shape, known in LLOYD_MAX_DB.items():
        density = ggd.GGD(shape)
        ggd.lloyd_max(density, 16)
        start = time.perf_counter()
        best = ggd.lloyd_max(density, 256)
        solved = time.perf_counter() - start
        ours = clock(lambda d=density, b=best: ggd.expected_mse(d, b.values, b.boundaries))
        start = time.perf_counter()
        peer = by_quadrature(density, best.values, best.boundaries)
        seconds = time.perf_counter() - start
        db = 10 * math.log10(density.var / best.mse)
        rows.append(
            f"| {shape:g} | {1e3 * solved:.0f} | {db:.2f} | {known:.2f} | {1e3 * ours:.2f} | {1e3 * seconds:.0f} "
            f"| {abs(peer / best.mse - 1):.0e} |"
        )
    yield "## Quantizers of 256 values"
    yield (
        "`ggd.lloyd_max`, and `ggd.expected_mse` of its result against `scipy.integrate.quad` in each cell. No package "
        "was found that solves Lloyd-Max for a density; the SQNR to reach stands beside."
    )
    head = "| shape | lloyd_max, ms | SQNR, dB | to reach | expected_mse, ms | quad, ms | relative difference |"
    yield "\n".join([head, "|---:|---:|---:|---:|---:|---:|---:|", *rows])


def by_quadrature(density: ggd.GGD, values: np.ndarray, boundaries: np.ndarray) -> float:
    """Twice the integral over the positive half, cell by cell; the cell at zero is cut there."""
    edges = np.concatenate([[0.0], boundaries[boundaries > 0], [np.inf]])
    cells = zip(values[-(edges.size - 1) :], edges[:-1], edges[1:], strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"epsabs": 0.0, "epsrel": 1e-9, "limit": 200}
        return 2 * math.fsum(
            integrate.quad(lambda t, v=v: (t - v) ** 2 * density.pdf(t), left, right, **options)[0]
            for v, left, right in cells
        )


def families() -> Iterator[str]:
    x = ggd.GGD(0.8, 0.02).sample(COMPARED, seed=1)
    names = ["norm", "laplace", "logistic", "gennorm", "t"]
    contenders: dict[str, Callable[[], object]] = {"ggd.select, 7 families": lambda: ggd.select(x)}
    missing = []
    try:
        from fitter import Fitter

        contenders["fitter, 5 families"] = lambda: Fitter(x, distributions=names, timeout=300).fit(max_workers=1)
    except ImportError:
        missing.append("fitter")
    try:
        from distfit import distfit

        contenders["distfit, 5 families"] = lambda: distfit(distr=names, verbose=0).fit_transform(x)
    except ImportError:
        missing.append("distfit")
    rows, reference = [], None
    contenders["ggd.select, 7 families"]()
    for name, run in contenders.items():
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with warnings.catch_warnings(), quiet[0], quiet[1]:
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            seconds = clock(run)
        reference = reference or seconds
        rows.append(f"| {name} | {seconds:.2f} | {seconds / reference:.0f} |")
    yield "## Families compared"
    yield (
        f"{COMPARED:,} samples of shape 0.8. fitter and distfit fit scipy's norm, laplace, logistic, gennorm and t "
        "with a free centre and rank them by the error of a histogram; ggd centres on zero and ranks by code length: "
        "the same use, not the same numbers." + (f" Not installed: {', '.join(missing)}." if missing else "")
    )
    yield "\n".join(["| | s | times ggd |", "|---|---:|---:|", *rows])


def clock(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log2-size", type=int, default=24, help="base-2 logarithm of the values summarized")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls each; the median counts")
    parser.add_argument("--save", type=Path, help="write the result as Markdown")
    arguments = parser.parse_args()
    command = f"python benchmarks/ggd_peers.py --log2-size {arguments.log2_size} --rounds {arguments.rounds}"
    parts = [
        "# Speed of ggd",
        machine(),
        f"Command: `{command}`. Medians of {arguments.rounds} calls, contenders taking turns.",
    ]
    sections = (
        lambda: summary(1 << arguments.log2_size, arguments.rounds),
        lambda: fits(arguments.rounds),
        lambda: samples(arguments.rounds),
        quantizers,
        families,
    )
    print("\n\n".join(parts), flush=True)
    for section in sections:
        made = list(section())
        parts += made
        print("\n" + "\n\n".join(made), flush=True)
    if arguments.save:
        arguments.save.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
