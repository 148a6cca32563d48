"""The model as a classifier, and its training: a trunk of plain fine-tuning, and branches from it by a recipe.

Word and position embeddings are not trained and so not constrained: a few thousand short texts hold few of their rows,
and a prior would shrink the others with nothing to hold them. They are stored and counted like the rest.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from agenda import FAMILIES, Run
from distillation import Rounded, step_of
from newsgroups import Texts
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch_minilm import Encoder

import ggd.torch
import rf8sim.torch
from rf8sim.torch import QuantizeConfig

RATE, BATCH = 2e-4, 16
WARMUP = 30  # steps of the trunk
DECAY = 0.3  # share of a branch's steps in which the learning rate falls to nothing


class Classifier(nn.Module):
    """The encoder, the mean of its last states, and a linear head on it."""

    def __init__(self, encoder: Encoder, groups: int, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.embeddings["LayerNorm"].weight.numel(), groups)
        with torch.no_grad():
            self.head.weight.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(seed))
            self.head.bias.zero_()
        for module in encoder.embeddings.values():
            if isinstance(module, nn.Embedding):
                module.weight.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of (texts, tokens): (texts, groups)."""
        logits: Tensor = self.head(self.encoder.states(tokens).mean(dim=1))
        return logits


def build(folder: Path, groups: int, seed: int) -> Classifier:
    """Return the model as it came, with a head of a seed's own."""
    return Classifier(Encoder(folder, load_file(folder / "model.safetensors")), groups, seed)


def constrained(module: nn.Module, name: str) -> bool:
    """Return whether a parameter is constrained: a matrix of the encoder that is trained."""
    return isinstance(module, nn.Linear) and name.startswith("encoder.") and name.endswith("weight")


def rounded(module: nn.Module, name: str) -> bool:
    """Return whether a module is rounded while it learns."""
    return isinstance(module, nn.Linear) and name.startswith("encoder.")


def optimizer_of(model: Classifier) -> torch.optim.AdamW:
    """Return the optimizer of what is trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)


def batches(texts: Texts, steps: int, seed: int) -> list[Texts]:
    """Return batches in a seed's order, every text once before one comes again."""
    generator = torch.Generator().manual_seed(seed)
    rounds = max(1, math.ceil(steps * BATCH / len(texts)))
    order = torch.cat([torch.randperm(len(texts), generator=generator) for _ in range(rounds)])
    return [texts[part] for part in order[: steps * BATCH].reshape(steps, BATCH)]


def learn(model: Classifier, optimizer: torch.optim.Optimizer, texts: list[Texts], rates: list[float]) -> float:
    """Train on batches at learning rates; return the mean loss of the last tenth."""
    losses = []
    for batch, rate in zip(texts, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(model(batch.tokens), batch.groups)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / max(1, len(last))


def trunk(folder: Path, texts: Texts, groups: int, seed: int, steps: int) -> dict[str, Any]:
    """Fine-tune plainly and return the state of model and optimizer, from which every branch of a seed starts."""
    model = build(folder, groups, seed)
    optimizer = optimizer_of(model)
    loss = learn(model, optimizer, batches(texts, steps, seed), rising(steps))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loss": loss}


def rising(steps: int) -> list[float]:
    """Return the learning rates of a trunk."""
    return [RATE * min(1.0, (i + 1) / WARMUP) for i in range(steps)]


def falling(steps: int) -> list[float]:
    """Return the learning rates of a branch."""
    last = max(1, round(DECAY * steps))
    return [RATE * min(1.0, (steps - i) / last) for i in range(steps)]


def branch(
    folder: Path, texts: Texts, groups: int, run: Run, state: dict[str, Any], steps: tuple[int, int]
) -> tuple[Classifier, dict[str, Any]]:
    """Train on from a trunk by a run's recipe; return the model with plain weights, and what it came to.

    Steps are those of the trunk and the branch. A recipe that always acts starts from the model as it came and goes
    through the batches and learning rates of both.
    """
    family = FAMILIES[run.family]
    model = build(folder, groups, run.seed)
    optimizer = optimizer_of(model)
    # A seed's branches see the same batches, which are not those of its trunk in the same order.
    shown, rates = batches(texts, steps[1], 1000 + run.seed), falling(steps[1])
    if family.always:
        shown, rates = batches(texts, steps[0], run.seed) + shown, rising(steps[0]) + rates
    else:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
    constraint = None
    if run.strength:
        constraint = ggd.torch.RateConstraint(model, run.strength, every=20, filter_fn=constrained, **family.constraint)
        constraint.attach(optimizer)
    if run.step:
        rf8sim.torch.quantize_(model, QuantizeConfig("int16", scale=run.step), rounded)
        _round_tables(model.encoder, run.step)
    loss = learn(model, optimizer, shown, rates)
    if run.step:
        rf8sim.torch.dequantize_(model)
    shapes = sorted(constraint.shapes.values()) if constraint is not None else []
    return model.requires_grad_(False), {"train_loss": loss, "shapes": [shapes[0], shapes[-1]] if shapes else []}


@torch.no_grad()
def _round_tables(encoder: Encoder, step: float) -> None:
    """Round the embeddings, which are not trained, so that what is trained learns to do with the rounded ones."""
    for name, parameter in encoder.named_parameters():
        if name.endswith("embeddings.weight"):
            parameter.copy_(Rounded(step_of(name, step))(parameter))
