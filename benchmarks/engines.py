"""Compare aligned sums with MMA-Sim, the published model of matrix engines, bit for bit.

python benchmarks/engines.py FOLDER

FOLDER is a copy of github.com/microsoft/MMA-Sim (arXiv 2511.10909); PyTorch is needed. Nothing of it is part of this
project. Exit status 1 if an output differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import rf8sim

INSTRUCTIONS = (
    ("Volta", "mma", "m8n8k4.f32.f16.f16.f32", "volta-fp16"),
    ("Turing", "mma", "m16n8k8.f32.f16.f16.f32", "turing-fp16"),
    ("Ampere", "mma", "m16n8k16.f32.f16.f16.f32", "ampere-fp16"),
    ("Ampere", "mma", "m16n8k16.f32.bf16.bf16.f32", "ampere-fp16"),
    ("Ada Lovelace", "mma", "m16n8k16.f32.f16.f16.f32", "ada-fp16"),
    ("Ada Lovelace", "mma", "m16n8k32.f32.e4m3.e5m2.f32", "ada-fp8"),
    ("Hopper", "wgmma", "m64n8k16.f32.f16.f16", "hopper-fp16"),
    ("Hopper", "wgmma", "m64n8k16.f32.bf16.bf16", "hopper-fp16"),
    ("Hopper", "wgmma", "m64n8k32.f32.e4m3.e4m3", "hopper-fp8"),
    ("Hopper", "wgmma", "m64n8k32.f32.e5m2.e4m3", "hopper-fp8"),
    ("RTX Blackwell", "mma", "m16n8k32.f32.e4m3.e4m3.f32", "blackwell-fp8"),
)  # fmt: skip
FORMATS = {"f16": "float16", "bf16": "bfloat16", "e4m3": "e4m3fn", "e5m2": "e5m2"}
STEPS, SIZE = 4, 8  # instructions in a row; rows and columns that are looked at


def codes(name: str, shape: tuple[int, int], kind: str, rng: np.random.Generator) -> np.ndarray:
    fmt = rf8sim.get_format(name)
    if kind == "any code":
        return rng.integers(0, fmt.values.size, shape).astype(fmt.code_dtype)
    if kind == "any number":
        return rng.choice(np.flatnonzero(np.isfinite(fmt.values)), shape).astype(fmt.code_dtype)
    spread = 2.0 ** rng.integers(-4, 4, shape) if kind == "spread" else 1.0
    return rf8sim.encode(rng.normal(0, 1, shape) * spread, fmt)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a copy of github.com/microsoft/MMA-Sim")
    sys.path.insert(0, str(parser.parse_args().folder))
    import torch
    from mmasim.simulator import nv_ptx

    types = {"float16": torch.float16, "bfloat16": torch.bfloat16, "e4m3fn": torch.float8_e4m3fn,
             "e5m2": torch.float8_e5m2}  # fmt: skip

    def tensor(x: np.ndarray, name: str) -> Any:
        signed = np.int8 if x.itemsize == 1 else np.int16
        return torch.from_numpy(np.ascontiguousarray(x).view(signed).copy()).view(types[name])

    rng, unequal = np.random.default_rng(1), 0
    print("| instruction | accumulator | operands | equal outputs |\n|---|---|---|---:|")
    for architecture, kind, qualifier, engine in INSTRUCTIONS:
        instruction = getattr(nv_ptx, kind)(architecture, qualifier)
        first, second = (FORMATS[part] for part in qualifier.split(".")[2:4])
        rows, columns, depth = min(instruction.m, SIZE), min(instruction.n, SIZE), instruction.k
        instruction.m, instruction.n, instruction.check_input = rows, columns, lambda *_: None
        for what in ("normal", "spread", "any number", "any code"):
            a = codes(first, (rows, depth * STEPS), what, rng)
            b = codes(second, (depth * STEPS, columns), what, rng)
            sums = torch.zeros((rows, columns), dtype=torch.float32)
            for start in range(0, depth * STEPS, depth):
                part = slice(start, start + depth)
                sums = instruction(tensor(a[:, part], first), tensor(b[part], second), sums)
            got, wanted = rf8sim.matmul(a, b, (first, second), accumulator=engine), sums.numpy()
            equal = int(np.count_nonzero((got == wanted) | (np.isnan(got) & np.isnan(wanted))))
            unequal += wanted.size - equal
            print(f"| {architecture} {kind} {qualifier} | {engine} | {what} | {equal} of {wanted.size} |")
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())
