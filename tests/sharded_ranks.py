"""What one of two ranks does with sharded models, beside the same model in one piece: run by `test_torch_sharded.py`.

Prints a line of JSON: the largest difference of each check, or the sentence of a refusal.
"""

import contextlib
import json
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import ggd.torch
import rf8sim.torch
from ggd.torch_shards import gathered

RECIPES = {
    "proximal": {"update": "proximal", "shape": 0.8},
    "proximal, estimated": {"update": "proximal"},
    "normalized": {"update": "proximal", "normalize": True, "per": "matrices"},
    "source": {"update": "source"},
}
SCHEMES = ("int8/channel", "rf8", "mxfp4", "e4m3fn/channel@stochastic")


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(31, 20, bias=False), nn.Tanh(), nn.Linear(20, 7))
    return ggd.torch.gg_init_(model, 0.7, generator=torch.Generator().manual_seed(0))


def sharded(model: nn.Sequential, mesh) -> nn.Sequential:
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def trained(model: nn.Module, **options) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if options:
        ggd.torch.RateConstraint(model, lam=0.01, every=1, **options).attach(optimizer)
    for step in range(3):
        x = torch.randn(8, 31, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return model


def largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).detach().abs().max())


def difference(one: nn.Module, other: nn.Module) -> float:
    by_name = [dict(model.named_parameters()) for model in (one, other)]
    assert by_name[0].keys() == by_name[1].keys()
    return max(largest(gathered(param), by_name[1][name]) for name, param in by_name[0].items())


def refusal(function: Callable[[], object]) -> str:
    try:
        function()
    except ValueError as error:
        return str(error)
    return "no refusal"


def tensors(mesh) -> dict[str, object]:
    """Return differences of single tensors: steps of bfloat16, initialization, reshaping, tensor parallelism."""
    results: dict[str, object] = {}
    full = ggd.torch.gg_normal_(torch.empty(7, 20), 0.7, generator=torch.Generator().manual_seed(1)).bfloat16()
    for placement in (Shard(0), Shard(1), Replicate()):
        pieces = [full.clone(), distribute_tensor(full.clone(), mesh, [placement])]
        for piece in pieces:
            constraint = ggd.torch.RateConstraint([("w", piece)], lam=1e-5, scale_by_lr=False, every=1)
            optimizer = torch.optim.SGD([piece], lr=0.0)
            for _ in range(5):
                constraint.step(optimizer)
        moved = float((pieces[0] != full).float().mean())
        results[f"bfloat16 {placement}"] = largest(gathered(pieces[1]), pieces[0])
        results[f"bfloat16 {placement}, not moved"] = float(moved == 0.0)
    layers = nn.Linear(20, 7, bias=False), nn.Linear(20, 7, bias=False)
    layers[1].weight = nn.Parameter(distribute_tensor(layers[1].weight.detach(), mesh, [Shard(0)]))
    for layer in layers:
        ggd.torch.gg_init_(layer, 0.7, generator=torch.Generator().manual_seed(2))
    results["initialization"] = difference(layers[1], layers[0])
    for layer in layers:
        ggd.torch.gg_normal_(layer.weight, 1.2, mode="current", generator=torch.Generator().manual_seed(3))
        ggd.torch.deepshape_(layer, shape_factor=0.8)
    results["reshaping"] = difference(layers[1], layers[0])
    quantizers = [rf8sim.torch.FakeQuantize(layer.weight, rf8sim.torch.QuantizeConfig("int4")) for layer in layers]
    weight = torch.linspace(1, 2, 140).reshape(7, 20)
    for layer, quantizer in zip(layers, quantizers, strict=True):
        rounded = gathered(quantizer(layer.weight))
        (rounded * weight).sum().backward()
    results["tensor parallel"] = largest(gathered(quantizers[1](layers[1].weight)), quantizers[0](layers[0].weight))
    results["tensor parallel, gradient"] = largest(gathered(layers[1].weight.grad), layers[0].weight.grad)
    return results


def main() -> None:
    rank, store = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    results: dict[str, object] = {}
    for name, options in RECIPES.items():
        results[name] = difference(trained(sharded(plain(), mesh), **options), trained(plain(), **options))
    for scheme in SCHEMES:
        models = []
        for shard in (True, False):
            model = plain()
            torch.manual_seed(1)
            rf8sim.torch.quantize_(model, rf8sim.torch.QuantizeConfig(scheme))
            models.append(trained(sharded(model, mesh) if shard else model, shape=0.8))
            rf8sim.torch.update_scales_(model)
        results[scheme] = difference(*models)
        codes = [rf8sim.torch.quantized_tensors(model)["0.weight"] for model in models]
        results[f"{scheme}, codes"] = float((codes[0].codes != codes[1].codes).sum())
        if scheme == "rf8":
            results["dequantize_"] = refusal(lambda model=models[0]: rf8sim.torch.dequantize_(model))
    results["quantize_"] = refusal(lambda: rf8sim.torch.quantize_(sharded(plain(), mesh)))
    results |= tensors(mesh)
    if rank == 0:
        print(json.dumps(results))
    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
