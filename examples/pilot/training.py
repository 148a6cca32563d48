"""One run of the pilot: a model trained by a recipe, and everything that is measured on it, as plain numbers."""

import copy
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from recipes import Recipe
from tasks import Task, judge
from torch import nn

import ggd
import ggd.torch
import rf8sim.torch
from rf8sim.torch import QuantizeConfig

Record = dict[str, Any]

STEPS = tuple(2.0 ** -(k / 2) for k in range(5, 15))  # of a uniform quantizer of 255 levels, the same for all weights
PRUNED = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)
FORMATS = ("rf8", "e4m3fn", "e5m2", "e3m4", "int8")
SHAPE_FACTORS, STD_FACTORS = (0.6, 0.8, 1.0), (0.5, 0.75, 1.0)

ROUNDED_SHARE, LAST_SHARE = 0.2, 0.1  # of the steps: with rounded weights, and without the prior
TUNING_RATE = 0.1  # of the learning rate, for fine-tuning


def measure_less() -> None:
    """Measure some of the formats and factors: enough to see that everything works."""
    global FORMATS, SHAPE_FACTORS, STD_FACTORS  # of this process, which makes a quick run and ends
    FORMATS, SHAPE_FACTORS, STD_FACTORS = FORMATS[:2], SHAPE_FACTORS[:1], STD_FACTORS[::2]


def matrices(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that are constrained, quantized and counted: those of two dimensions."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.ndim == 2}


def train(
    task: Task, recipe: Recipe, seed: int, steps: int, model: nn.Module | None = None, *, rows: int = 12
) -> tuple[nn.Module, list[Record], Record]:
    """Train by a recipe; return the model with plain weights, its history, and what it cost.

    Batches depend on the seed alone, so that recipes are compared on the same ones. A model that is given is
    fine-tuned.
    """
    generator = torch.Generator().manual_seed(seed)
    rounded_steps, rate = round(ROUNDED_SHARE * steps), task.rate
    if model is not None:
        rounded_steps, rate = steps, TUNING_RATE * task.rate
    else:
        model = task.build(generator)
        if recipe.init:
            ggd.torch.gg_init_(model, **recipe.init, generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=max(0.1, 2 / steps))
    constraint = ggd.torch.RateConstraint(
        model, recipe.lam, **{"warmup": steps // 10, "until": steps - round(LAST_SHARE * steps), **recipe.constraint}
    )
    draws = torch.Generator().manual_seed(seed + 1)
    history, losses, shrinking, began = [], [], 0.0, time.perf_counter()
    for step in range(steps):
        if recipe.rounded and step == steps - rounded_steps:
            rf8sim.torch.quantize_(model, QuantizeConfig(**recipe.rounded))
        optimizer.zero_grad()
        loss = task.loss(model, task.batch(draws))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if recipe.lam:
            before = time.perf_counter()
            constraint.step(optimizer)
            shrinking += time.perf_counter() - before
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % max(1, steps // rows) == 0:
            shapes = {name: _shape(weight) for name, weight in matrices(model).items()}
            names = {name.replace(".parametrizations.weight.original", ".weight"): s for name, s in shapes.items()}
            history.append({"step": step + 1, "train": float(np.mean(losses)), **judge(task, model), "shapes": names})
            losses.clear()
    seconds = time.perf_counter() - began
    if recipe.rounded:
        rf8sim.torch.dequantize_(model)
    cost = {"seconds": seconds, "shrinking": shrinking, "steps": steps}
    return model, history, cost


def _shape(weight: torch.Tensor) -> float | None:
    found = ggd.fit(weight.detach().numpy().ravel(), "half-moments").shape
    return found if np.isfinite(found) else None


# --- what is measured on a trained model ------------------------------------------------------------------------------


def rounded(task: Task, model: nn.Module, config: QuantizeConfig, calibrate: int = 0) -> Record:
    """Quantize a copy of the model; return its quality, and bits per weight of its matrices, fixed and coded."""
    trial = rf8sim.torch.quantize_(copy.deepcopy(model), config)
    if calibrate:  # running scales of the inputs
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _ in range(calibrate):
                trial.train()(*_inputs(task, draws))
    tensors = [t for t in rf8sim.torch.model_size(trial).tensors if t.scheme != "float32"]
    weights = sum(t.weights for t in tensors)
    coded = sum(t.weights * t.coded + t.side + t.table for t in tensors) / weights
    zeros = sum(int((m.weight == 0).sum()) for m in trial.modules() if hasattr(m, "parametrizations")) / weights
    return {**judge(task, trial), "bits": coded, "zeros": zeros}


def _inputs(task: Task, draws: torch.Generator) -> tuple[torch.Tensor, ...]:
    batch = task.batch(draws)
    return (batch[0],) if len(batch) > 1 else (batch[0][:, :-1],)


def curve(task: Task, model: nn.Module) -> list[Record]:
    """Return quality against bits over the steps of a uniform quantizer with an entropy coder."""
    return [{"step": step, **rounded(task, model, QuantizeConfig("int8", scale=step))} for step in STEPS]


def fits(model: nn.Module) -> list[Record]:
    """Return for each matrix how many bits a weight a GGD saves over a Gaussian and a Laplace of the best scale."""
    found = []
    for name, weight in matrices(model).items():
        data = weight.detach().numpy().ravel()
        fit, gauss, laplace = ggd.fit(data), ggd.fit(data, shape=2.0), ggd.fit(data, shape=1.0)
        if np.isfinite(fit.shape):
            over = {kind: (fit.loglik - other.loglik) / np.log(2) for kind, other in
                    (("gaussian", gauss), ("laplace", laplace))}  # fmt: skip
            found.append({"name": name, "n": data.size, "shape": fit.shape, "zeros": fit.zeros / data.size, **over})
    return found


def pruned(task: Task, model: nn.Module) -> list[Record]:
    """Return quality with the smallest weights of all matrices together set to zero."""
    found = []
    for share in PRUNED:
        trial = copy.deepcopy(model)
        weights = matrices(trial)
        magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
        limit = magnitudes.sort().values[int(share * (len(magnitudes) - 1))]
        with torch.no_grad():
            for weight in weights.values():
                weight[weight.abs() < limit] = 0.0
        found.append({"share": share, **judge(task, trial)})
    return found


def formats(task: Task, model: nn.Module) -> list[Record]:
    """Return quality in every format, a scale for each tensor and each channel, of weights and of inputs too."""
    found = []
    for dtype in (torch.float16, torch.bfloat16):
        trial = copy.deepcopy(model)
        with torch.no_grad():
            for weight in matrices(trial).values():
                weight.copy_(weight.to(dtype))
        name = str(dtype).removeprefix("torch.")
        found.append({"format": name, "scaling": "none", "inputs": False, "bits": 16.0, **judge(task, trial)})
    for name in FORMATS:
        for scaling in ("tensor", "channel"):
            for inputs in (False, True):
                config = QuantizeConfig(f"{name}/{scaling}", inputs=name if inputs else None)
                record = rounded(task, model, config, calibrate=4 * inputs)
                found.append({"format": name, "scaling": scaling, "inputs": inputs, **record})
    return found


def reshaped(task: Task, model: nn.Module, seed: int, steps: int) -> list[Record]:
    """Return quality and bits after DeepShape, straight and after a little fine-tuning."""
    found = []
    tuning = Recipe("tuning", "tuning")
    for shape_factor, std_factor in [(s, 1.0) for s in SHAPE_FACTORS] + [(1.0, s) for s in STD_FACTORS[:-1]]:
        trial = ggd.torch.deepshape_(copy.deepcopy(model), shape_factor=shape_factor, std_factor=std_factor)
        tuned, _, _ = train(task, tuning, seed, steps, copy.deepcopy(trial), rows=1)
        for fine_tuned, each in ((False, trial), (True, tuned)):
            where = {"shape_factor": shape_factor, "std_factor": std_factor, "fine_tuned": fine_tuned}
            found += [
                {**where, "step": step, **rounded(task, each, QuantizeConfig("int8", scale=step))}
                for step in STEPS[1:9]
            ]
    return found


def tuned(task: Task, model: nn.Module, seed: int, steps: int) -> list[Record]:
    """Return quality after a little fine-tuning: with plain weights, and with those rounded to every format."""
    trial, _, _ = train(task, Recipe("tuning", "tuning"), seed, steps, copy.deepcopy(model), rows=1)
    found: list[Record] = [{"format": "float32", **judge(task, trial)}]
    for name in FORMATS:
        recipe = Recipe("tuning", "tuning", rounded={"scheme": name})
        trial, _, _ = train(task, recipe, seed, steps, copy.deepcopy(model), rows=1)
        found.append({"format": name, **rounded(task, trial, QuantizeConfig(name))})
    return found


def run(task: Task, recipe: Recipe, seed: int) -> Record:
    """Train and measure; return one record."""
    torch.set_num_threads(1)  # the models are small: runs side by side are faster than threads
    model, history, cost = train(task, recipe, seed, task.steps)
    record: Record = {
        "task": task.name, "unit": task.unit, "recipe": recipe.name, "group": recipe.group, "lam": recipe.lam,
        "seed": seed, "options": asdict(recipe), "weights": sum(w.numel() for w in matrices(model).values()),
        "history": history, "cost": cost, "final": judge(task, model), "curve": curve(task, model), "fits": fits(model),
        "grid": rounded(task, model, QuantizeConfig("rf8", scale=2.0**9)),
        "rf8": rounded(task, model, QuantizeConfig("rf8")), "pruned": pruned(task, model),
    }  # fmt: skip
    if recipe.thorough:
        record["formats"] = formats(task, model)
        if not recipe.lam:
            few = max(5, task.steps // 10)
            record["reshaped"], record["tuned"] = (
                reshaped(task, model, seed + 100, few),
                tuned(task, model, seed + 100, few),
            )
    if recipe.rounded:
        record["rounded"] = rounded(task, model, QuantizeConfig(**recipe.rounded))
    return record
