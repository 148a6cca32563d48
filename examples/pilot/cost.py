"""What the prior costs a step of training, in time and in memory, and what RF8 weights cost a product with a vector.

Every line is measured in a process of its own, one after another, on matrices that are large enough to matter::

    python examples/pilot/cost.py prior 2048    # one of them, as the pilot calls it
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

LAYERS, BATCH = 4, 256
UPDATES: dict[str, dict[str, Any] | None] = {
    "without": None,
    "prior": {},
    "L1": {"shape": 1.0},
    "L2": {"shape": 2.0},
    "source's step": {"update": "source"},
}
PRODUCTS = ("float32", "rf8", "e4m3fn")


def _times(work: Callable[[], object], rounds: int) -> float:
    """Return the median duration in seconds."""
    work()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return median(found)


def _peak() -> int:
    """Return the most bytes that this process has had resident; Linux counts a parent's in ru_maxrss."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def training_step(update: str, width: int, rounds: int = 9) -> dict[str, float]:
    """Time steps of AdamW on square matrices of a width, with a constraint or without."""
    import torch

    import ggd.torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(LAYERS)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    options = UPDATES[update]
    # lam in units of the weights' own size, so that they shrink little over the rounds
    constraint = None if options is None else ggd.torch.RateConstraint(model, 1e-6, **options)
    inputs = torch.randn(BATCH, width)

    def step() -> None:
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        if constraint is not None:
            constraint.step(optimizer)

    return {"seconds": _times(step, rounds), "peak": _peak()}


def product(weights: str, width: int, rounds: int = 99) -> dict[str, float]:
    """Time the product of a square matrix of weights, float32 or coded, with a float32 vector, on one thread."""
    import numpy as np
    import torch

    import rf8sim.arithmetic.linalg

    torch.set_num_threads(1)
    matrix = np.random.default_rng(0).normal(0, 0.05, (width, width)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=width).astype(np.float32)
    if weights == "float32":
        held, vector = torch.from_numpy(matrix), torch.from_numpy(x)
        return {"seconds": _times(lambda: held @ vector, rounds), "bytes": matrix.nbytes}
    codes = rf8sim.encode(matrix, weights)
    return {
        "seconds": _times(lambda: rf8sim.arithmetic.linalg.weight_matvec(codes, x, weights, threads=1), rounds),
        "bytes": codes.nbytes,
    }


def measure(width: int, most: int | None = None) -> dict[str, Any]:
    """Measure everything, or the first few of each kind; return one record."""
    record: dict[str, Any] = {"width": width, "layers": LAYERS, "batch": BATCH, "training": {}, "products": {}}
    for kind, names in (("training", UPDATES), ("products", PRODUCTS)):
        for name in list(names)[:most]:
            done = subprocess.run(
                [sys.executable, __file__, name, str(width)], capture_output=True, text=True, check=True
            )
            record[kind][name] = json.loads(done.stdout)
    return record


if __name__ == "__main__":
    chosen, size = sys.argv[1], int(sys.argv[2])
    print(json.dumps(training_step(chosen, size) if chosen in UPDATES else product(chosen, size)))
