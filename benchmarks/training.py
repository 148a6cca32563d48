"""Fake quantization, a training step with it, and a step of the constraint, beside PyTorch, torchao, Brevitas, by hand.

python benchmarks/training.py [--rounds 7] [--save reports/speed_training.md]

Peers that are not installed are left out; `pip install --no-deps brevitas unfoldNd dependencies==2.0.1` leaves PyTorch
as it is. One thread; processor time, so that what else runs on the machine matters less. Schemes get their scales; what
chooses scales anew in each pass says so. Bytes a weight are all that PyTorch allocates in a step, freed again or not.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from harness import machine, version
from torch import nn
from torch.nn.utils import parametrize
from torch.profiler import ProfilerActivity, profile

import ggd.torch
import rf8sim.torch as rt

SIZE, BATCH, LAYERS = 1024, 256, 4
SCHEMES = ("rf8", "e4m3fn", "rf8/channel", "e4m3fn/channel", "int8/channel", "mxfp4", "e4m3fn/channel@stochastic")


def race(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of processor time of each, taking turns, after one warm-up call each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) * 1e3 for name, values in times.items()}


def table(times: dict[str, float], head: str, memory: dict[str, float] | None = None) -> str:
    first = next(iter(times.values()))
    rows = [f"| {name} | {spent:.1f} | {spent / first:.2f} |" for name, spent in times.items()]
    if memory is None:
        return f"| {head} | ms | times the first |\n|---|---:|---:|\n" + "\n".join(rows)
    rows = [f"{row} {size:.0f} |" for row, size in zip(rows, memory.values(), strict=True)]
    return f"| {head} | ms | times the first | bytes a weight |\n|---|---:|---:|---:|\n" + "\n".join(rows)


def allocated(run: Callable[[], object]) -> int:
    """Return the bytes that PyTorch allocates in a call, whether or not it frees them again."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    return sum(max(event.self_cpu_memory_usage, 0) for event in record.events() or ())


class ByHand(nn.Module):
    """int8 with a scale for each channel, chosen in each pass, with a straight-through gradient, in float32."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        scale = weight.detach().abs().amax(1, keepdim=True) / 127
        return weight + ((weight / scale).round().clamp(-128, 127) * scale - weight).detach()


def rounding(rounds: int) -> Iterator[str]:
    x = torch.randn(2048, 2048)
    scale = x.abs().amax() / 127
    channels = x.abs().amax(1) / 127
    zeros = torch.zeros(2048, dtype=torch.int32)
    contenders: dict[str, Callable[[], object]] = {
        "copy": x.clone,
        "int8 a channel by hand": lambda: ByHand()(x),
        "PyTorch, int8 a tensor": lambda: torch.fake_quantize_per_tensor_affine(x, float(scale), 0, -128, 127),
        "PyTorch, int8 a channel": lambda: torch.fake_quantize_per_channel_affine(x, channels, zeros, 0, -128, 127),
    }
    if version("torchao"):
        from torchao.quantization.qat import IntxFakeQuantizeConfig
        from torchao.quantization.qat.fake_quantizer import IntxFakeQuantizer

        fake = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int8, "per_channel"))
        contenders["torchao, int8 a channel, scales anew"] = lambda: fake(x)
    contenders["rf8/none"] = lambda: rt.fake_quantize(x, "rf8/none")
    for scheme in SCHEMES:
        layer = nn.Linear(2048, 2048, bias=False)
        layer.weight.data.copy_(x)
        quantizer = rt.FakeQuantize(layer.weight, rt.QuantizeConfig(scheme))
        contenders[scheme] = lambda quantizer=quantizer: quantizer(x)
    yield "## Fake quantization of 2048 × 2048 float32"
    with torch.no_grad():
        yield table(race(contenders, rounds), "")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(SIZE, SIZE) for _ in range(LAYERS)))


def wide() -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(2 * SIZE, 2 * SIZE) for _ in range(LAYERS)))


def stepping(model: nn.Sequential, optimizer: torch.optim.Optimizer | None = None) -> Callable[[], object]:
    x = torch.randn(BATCH, model[0].in_features, generator=torch.Generator().manual_seed(0))
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return run


def steps(rounds: int) -> Iterator[str]:
    by_hand = network()
    for layer in by_hand:
        parametrize.register_parametrization(layer, "weight", ByHand())
    contenders = {"plain": stepping(network()), "int8 a channel by hand": stepping(by_hand)}
    if version("torchao"):
        from torchao.quantization import quantize_
        from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

        model = network()
        quantize_(model, QATConfig(weight_config=IntxFakeQuantizeConfig(torch.int8, "per_channel"), step="prepare"))
        contenders["torchao, int8 a channel"] = stepping(model)
    if version("brevitas"):
        import brevitas.nn
        from brevitas.quant import Int8WeightPerChannelFloat as PerChannel

        torch.manual_seed(0)
        layers = (brevitas.nn.QuantLinear(SIZE, SIZE, bias=True, weight_quant=PerChannel) for _ in range(LAYERS))
        contenders["Brevitas, int8 a channel"] = stepping(nn.Sequential(*layers))
    for scheme in SCHEMES:
        contenders[scheme] = stepping(rt.quantize_(network(), rt.QuantizeConfig(scheme)))
    yield f"## A step of {LAYERS} Linear({SIZE}, {SIZE}) at batch {BATCH}, SGD"
    times = race(contenders, rounds)
    parameters = LAYERS * SIZE * SIZE
    memory = {name: allocated(run) / parameters for name, run in contenders.items()}
    yield table(times, "weights rounded to", memory)


def constrained(rounds: int) -> Iterator[str]:
    """Race whole steps of training, for the constraint's share depends on what else a step does."""
    contenders = {}
    for name, options in {
        "AdamW": None, "estimated shape, every 100 steps": {}, "estimated shape, each step": {"every": 1},
        "shape 1": {"shape": 1.0}, "explicit": {"update": "explicit"}, "the source's step": {"update": "source"},
    }.items():  # fmt: skip
        model = ggd.torch.gg_init_(wide(), 0.8, generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        if options is not None:
            ggd.torch.RateConstraint(model, lam=1e-4, **options).attach(optimizer)
        contenders[name] = stepping(model, optimizer)
    yield (
        f"## The constraint: a step of AdamW on {LAYERS} × Linear({2 * SIZE}, {2 * SIZE}) at batch {BATCH}, weights of "
        "shape 0.8"
    )
    yield table(race(contenders, rounds), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    peer = "".join(f", {name} {version(name)}" for name in ("torchao", "brevitas") if version(name))
    page = [
        "# Speed of training with rounded weights",
        machine() + peer,
        f"Command: `python benchmarks/training.py --rounds {options.rounds}`. Medians of processor time on one thread, "
        "contenders taking turns. Not measured: a GPU.",
    ]
    for part in (rounding, steps, constrained):
        for text in part(options.rounds):
            page.append(text)
            print(text, flush=True)
    if options.save:
        options.save.write_text("\n\n".join(page) + "\n")


if __name__ == "__main__":
    main()
