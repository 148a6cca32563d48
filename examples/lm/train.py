"""Train the example checkpoint again, from a seed, on two CPU cores in under 15 minutes.

::

    python examples/lm/train.py --out new            # the shipped run
    python examples/lm/train.py --out new --quick    # a few seconds, to see that it works

With the same seed, thread count, Python, PyTorch and kind of processor the weights come out the same, bit for
bit.
"""

import argparse
import csv
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import corpus
import numpy as np
import torch
from model import Config, LanguageModel, evaluate, initialize, loss_of
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Schedule:
    """AdamW with a linear warm-up, then a cosine down to ``final_rate`` of the peak."""

    steps: int = 4500
    batch: int = 16
    rate: float = 4e-3
    final_rate: float = 0.02
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1
    clip: float = 1.0

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = min(1.0, (step + 1) / self.warmup)
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * warm * (self.final_rate + (1 - self.final_rate) * fall)


# A row of the loss curve. "train" is the mean since the row before, "validation" that of the moment.
Row = dict[str, float]


def train(
    model: LanguageModel,
    data: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    schedule: Schedule,
    generator: torch.Generator,
    *,
    every: int = 250,
    penalty: Callable[[LanguageModel], Tensor] | None = None,
    report: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Train the model in place and return its loss curve.

    Parameters
    ----------
    model : LanguageModel
        With its initial weights.
    data : ndarray of uint8
        The training bytes; each batch is windows of it that start anywhere.
    validation : ndarray of uint8, shape (count, context + 1)
        The windows of the validation loss.
    schedule : Schedule
        Steps, batch and optimizer.
    generator : torch.Generator
        Draws the windows.
    every : int
        Steps between rows of the curve.
    penalty : callable, optional
        Added to the loss that is differentiated (a prior on the weights, a rate), not to the losses reported.
    report : callable
        Called with each row as it comes.
    """
    decayed = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=schedule.rate, betas=schedule.betas, fused=True)
    span = torch.arange(model.config.context + 1)
    tokens = torch.from_numpy(data.astype(np.int64))
    rows: list[Row] = []
    losses: list[float] = []

    def note(step: int, rate: float) -> None:
        seen = step * schedule.batch * model.config.context
        row = Row(
            step=step,
            bytes=seen,
            rate=rate,
            train=float(np.mean(losses)),
            validation=evaluate(model, validation),
        )
        rows.append(row)
        report(row)
        losses.clear()

    for step in range(schedule.steps):
        rate = schedule.rate_at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(tokens) - len(span) + 1, (schedule.batch, 1), generator=generator)
        loss = loss_of(model, tokens[starts + span])
        losses.append(float(loss.detach()))
        if step == 0:
            note(0, rate)
        (loss if penalty is None else loss + penalty(model)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % every == 0 or step + 1 == schedule.steps:
            note(step + 1, rate)
    return rows


def draw(rows: list[Row], path: Path) -> None:
    """Draw the loss curve as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "loss", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axes = figure.subplots()
        for name, style in (("train", "--"), ("validation", "-")):
            axes.plot([row["bytes"] / 1e6 for row in rows], [row[name] for row in rows], style, label=name)
        axes.set(xlabel="bytes seen, millions", ylabel="loss, nats per byte", ylim=(0, 3))
        axes.legend()
        axes.grid(alpha=0.3)
        figure.savefig(path, metadata={"Date": None})


def save(out: Path, model: LanguageModel, record: dict[str, object], rows: list[Row]) -> None:
    """Write ``model.safetensors`` (float32), ``config.json``, ``loss.csv`` and ``loss.svg`` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    flat = {key: json.dumps(value) for key, value in record.items()}
    save_file(weights, out / "model.safetensors", metadata=flat)
    (out / "config.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    with (out / "loss.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    draw(rows, out / "loss.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the example language model from a seed.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Schedule.steps)
    parser.add_argument("--rate", type=float, default=Schedule.rate, help="peak learning rate")
    parser.add_argument("--quick", action="store_true", help="30 steps and a few windows, to see that it works")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(arguments.seed)
    config = Config()
    steps = 30 if arguments.quick else arguments.steps
    schedule = Schedule(steps=steps, rate=arguments.rate, warmup=min(Schedule.warmup, steps // 4 + 1))
    data, _, source = corpus.read()
    validation = corpus.read_windows(HERE / "validation.bin", config.context + 1)
    validation = validation[::16] if arguments.quick else validation
    model = LanguageModel(config)
    initialize(model, generator)

    wall, cpu = time.perf_counter(), time.process_time()

    def report(row: Row) -> None:
        elapsed = time.perf_counter() - wall
        losses = f"train {row['train']:.4f}  validation {row['validation']:.4f}"
        print(f"{row['step']:6.0f}  {losses}  {elapsed:.0f} s", flush=True)

    rows = train(model, data, validation, schedule, generator, every=steps if arguments.quick else 250, report=report)
    loss = rows[-1]["validation"]
    record: dict[str, object] = {
        "model": asdict(config) | {"parameters": sum(parameter.numel() for parameter in model.parameters())},
        "training": asdict(schedule) | {"seed": arguments.seed, "threads": arguments.threads},
        "corpus": source,
        "validation": {
            "windows": len(validation),
            "sha256": hashlib.sha256(validation.tobytes()).hexdigest(),
            "nats_per_byte": round(loss, 6),
            "bits_per_byte": round(loss / math.log(2), 6),
        },
        "cost": {
            "wall_seconds": round(time.perf_counter() - wall),
            "cpu_seconds": round(time.process_time() - cpu),
        },
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    save(arguments.out, model, record, rows)
    print(f"{loss:.4f} nats, {loss / math.log(2):.4f} bits per byte on {len(validation)} windows held out")


if __name__ == "__main__":
    main()
