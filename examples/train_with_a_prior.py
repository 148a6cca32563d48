"""A small language model trained without a generalized Gaussian prior, then with one; rounded to RF8, entropy-coded."""

import argparse
import sys
from pathlib import Path

import torch
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parent / "lm"))
import corpus
from model import Config, LanguageModel, evaluate, initialize, loss_of

import ggd.torch
import rf8sim.torch
from rf8sim.entropy.coding import compress

CONFIG = Config(context=64, width=64, layers=2)
GRID = rf8sim.torch.QuantizeConfig("rf8", scale=2.0**9)  # a grid that stays: weights below 0.007 become zero


def train(lam: float, steps: int) -> tuple[LanguageModel, torch.Tensor]:
    """Return a model whose weights are on the grid, and the held-out windows to judge it by."""
    generator = torch.Generator().manual_seed(0)
    text, held_out, _ = corpus.read()
    data, span = torch.from_numpy(text.copy()), torch.arange(CONFIG.context + 1)
    model = LanguageModel(CONFIG)
    initialize(model, generator)
    ggd.torch.gg_init_(model, shape=1.0, mode="current", generator=generator)  # Laplace, as wide as it was
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    constraint = ggd.torch.RateConstraint(model, lam, warmup=steps // 10, until=steps * 9 // 10)
    constraint.attach(optimizer)  # from here on each step of the optimizer shrinks the weights a little
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for step in track(range(steps), f"lam {lam:g}"):
        if step == steps * 9 // 10:  # fine-tune with rounded weights
            rf8sim.torch.quantize_(model, GRID)
        starts = torch.randint(len(data) - len(span), (16, 1), generator=generator)
        optimizer.zero_grad()
        loss_of(model, data[starts + span].long()).backward()
        optimizer.step()
        schedule.step()
    return model, corpus.windows(held_out, 128, CONFIG.context + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train with a prior, round, entropy-code, report.")
    parser.add_argument("--lam", type=float, default=0.02, help="weight of the prior")
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    for lam in (0.0, arguments.lam):
        model, windows = train(lam, arguments.steps)
        loss, size = evaluate(model, windows), rf8sim.torch.model_size(model)
        stored = rf8sim.torch.quantized_tensors(model).values()
        coded = sum(len(compress(t.codes) if isinstance(t, rf8sim.QuantizedTensor) else t.tobytes()) for t in stored)
        print(f"loss {loss:.3f} nats per byte, {size.bits_per_weight():.2f} bits per weight, {coded:,} bytes")


if __name__ == "__main__":
    main()
