"""Timing that compares: contenders take turns, so that a slow moment of the machine hits them all."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata


@dataclass
class Contender:
    """Something to time: ``run`` handles ``elements``; its time is reported for each element."""

    name: str
    run: Callable[[], object]
    elements: int
    threads: int = 1


def race(
    contenders: list[Contender], rounds: int = 7, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median rate of each in elements a second, after one warm-up call each.

    ``clock`` may be ``time.process_time`` where all run on one thread: what else the machine does then counts less.
    """
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        contender.run()
    for _ in range(rounds):
        for contender in contenders:
            start = clock()
            contender.run()
            times[contender.name].append(clock() - start)
    return {c.name: c.elements / statistics.median(times[c.name]) for c in contenders}


def machine() -> str:
    """Return one line on the machine and the versions."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = ("numpy", "numba", "ml_dtypes", "gfloat", "pychop", "torch", "scipy")
    versions = ", ".join(f"{name} {version(name)}" for name in names if version(name))
    return f"{cpu}, {threads} threads; Python {platform.python_version()}, {versions}"


def version(name: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
