"""What a model is worth and what it costs, rounded to whole steps or stored in a format."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from classifier import Classifier
from distillation import WORDS, round_
from newsgroups import Split, Texts
from torch import nn
from torch.nn import functional

from rf8sim.checkpoints.plan import Recipe
from rf8sim.entropy.coding import compress
from rf8sim.studies.rate_distortion import cost_of

Record = dict[str, Any]
PARTS = ("develop", "test")
FORMATS = ("rf8/tensor", "e4m3fn/tensor", "mxfp4", "nvfp4")
FLOATS = {"float32": 32, "float16": 16, "bfloat16": 16}


@torch.no_grad()
def quality(model: Classifier, texts: Texts, *, exact: bool = False) -> Record:
    """Return loss and share of right answers; products in bfloat16, as in training, unless exact is asked for."""
    losses, right = [], 0
    for start in range(0, len(texts), 64):
        part = texts[slice(start, start + 64)]
        with torch.autocast("cpu", torch.bfloat16, enabled=not exact):
            logits = model(part.tokens).float()
        losses.append(functional.cross_entropy(logits, part.groups, reduction="sum"))
        right += int((logits.argmax(dim=1) == part.groups).sum())
    return {"loss": float(torch.stack(losses).sum()) / len(texts), "accuracy": right / len(texts)}


def judge(model: Classifier, split: Split, parts: tuple[str, ...] = PARTS) -> Record:
    """Return the quality on the texts that recipes are chosen by, and on those that judge."""
    return {part: quality(model, getattr(split, part)) for part in parts}


def at_step(model: Classifier, split: Split, step: float, parts: tuple[str, ...] = PARTS) -> Record:
    """Return quality and bits per weight of a copy of a model rounded to a step.

    Bits are those of every parameter: codes with their tables, scales, what int8 does not hold; norms, biases and the
    head in float32. Matrices are those of the encoder, with or without the word embeddings.
    """
    trial = copy.deepcopy(model)
    bits = {f"encoder.{name}": cost for name, cost in round_(trial.encoder, step).items()}
    bits |= {f"head.{name}": 32 * parameter.numel() for name, parameter in trial.head.named_parameters()}
    sizes = {name: parameter.numel() for name, parameter in trial.named_parameters()}
    layers = [name for name, parameter in trial.named_parameters() if _in_layer(name) and parameter.ndim > 1]
    zeros = sum(int((trial.get_parameter(name) == 0).sum()) for name in layers)
    weights = sum(sizes[name] for name in layers)
    return {
        "step": step,
        "bits": sum(bits.values()) / sum(sizes.values()),
        "bits_words": bits[f"encoder.{WORDS}"] / sizes[f"encoder.{WORDS}"],
        "bits_matrices": sum(bits[name] for name in layers) / weights,
        "zeros": zeros / weights,
        **judge(trial, split, parts),
    }


def _in_layer(name: str) -> bool:
    return name.startswith("encoder.encoder.")


def in_formats(model: Classifier, split: Split) -> list[Record]:
    """Return quality and bits per weight with all matrices of the encoder in a format, at fixed width and coded."""
    records = []
    for name in (*FLOATS, *FORMATS):
        trial = copy.deepcopy(model)
        fixed = coded = 0.0
        for parameter in trial.parameters():
            if parameter.ndim < 2 or parameter is trial.head.weight:
                fixed, coded = fixed + 32 * parameter.numel(), coded + 32 * parameter.numel()
                continue
            more = _stored(parameter, name)
            fixed, coded = fixed + more[0], coded + more[1]
        weights = sum(parameter.numel() for parameter in trial.parameters())
        records.append(
            {"format": name, "bits": fixed / weights, "bits_coded": coded / weights,
             "test": quality(trial, split.test, exact=True)}
        )  # fmt: skip
    return records


@torch.no_grad()
def _stored(parameter: nn.Parameter, name: str) -> tuple[float, float]:
    """Round a matrix to a format in place; return its bits at fixed width and coded by rANS, scales included."""
    weight = np.ascontiguousarray(parameter.numpy())
    if name in FLOATS:
        width = FLOATS[name]
        stored = weight.astype(np.float32)
        if width == 16:
            parameter.copy_(parameter.to(getattr(torch, name)).float())
            stored = parameter.to(getattr(torch, name)).view(torch.int16).numpy().view(np.uint16)
        return width * weight.size, 8.0 * len(compress(stored)) if width == 16 else float(width * weight.size)
    recipe = Recipe(name, entropy="rans")
    cost, quantized = cost_of(weight, recipe)
    parameter.copy_(torch.from_numpy(quantized.dequantize()))
    return recipe.scheme.format.bits * weight.size + cost.scale_bits, cost.code_bits + cost.scale_bits
