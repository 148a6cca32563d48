"""Compare the sums of matrix engines with MMA-Sim, a published model of them, bit for bit.

python benchmarks/engines.py FOLDER

FOLDER is a copy of github.com/microsoft/MMA-Sim (arXiv 2511.10909) of January 2026; PyTorch is needed. Nothing of it is
part of this project. Exit status 1 if an output differs.
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
    ("Ampere", "mma", "m16n8k8.f32.tf32.tf32.f32", "ampere-tf32"),
    ("Ada Lovelace", "mma", "m16n8k16.f32.f16.f16.f32", "ada-fp16"),
    ("Ada Lovelace", "mma", "m16n8k8.f32.tf32.tf32.f32", "ada-tf32"),
    ("Ada Lovelace", "mma", "m16n8k32.f32.e4m3.e5m2.f32", "ada-fp8"),
    ("Ada Lovelace", "mma", "m16n8k32.f32.e5m2.e5m2.f32", "ada-fp8"),
    ("Hopper", "wgmma", "m64n8k16.f32.f16.f16", "hopper-fp16"),
    ("Hopper", "wgmma", "m64n8k16.f32.bf16.bf16", "hopper-fp16"),
    ("Hopper", "wgmma", "m64n8k8.f32.tf32.tf32", "hopper-tf32"),
    ("Hopper", "wgmma", "m64n8k32.f32.e4m3.e4m3", "hopper-fp8"),
    ("Hopper", "wgmma", "m64n8k32.f32.e5m2.e4m3", "hopper-fp8"),
    ("Hopper", "wgmma", "m64n8k32.f32.e5m2.e5m2", "hopper-fp8"),
    ("Blackwell", "tcgen05mma", "m64n8k16.f32.f16.f16", "blackwell-fp16"),
    ("Blackwell", "tcgen05mma", "m64n8k16.f32.bf16.bf16", "blackwell-fp16"),
    ("Blackwell", "tcgen05mma", "m64n8k8.f32.tf32.tf32", "blackwell-tf32"),
    ("Blackwell", "tcgen05mma", "m64n8k32.f32.e4m3.e5m2", "blackwell-fp8"),
    ("RTX Blackwell", "mma", "m16n8k32.f32.e4m3.e4m3.f32", "blackwell-fp8"),
    ("RTX Blackwell", "mma", "m16n8k32.f32.e5m2.e5m2.f32", "blackwell-fp8"),
    ("Blackwell", "tcgen05mma_block_scale", "m128n8k32.block32.f32.e4m3.e4m3.ue8m0", "blackwell-mxfp8"),
    ("Blackwell", "tcgen05mma_block_scale", "m128n8k32.block32.f32.e5m2.e4m3.ue8m0", "blackwell-mxfp8"),
    ("RTX Blackwell", "mma_block_scale", "m16n8k64.block32.f32.e2m1.e2m1.f32.ue8m0", "blackwell-mxfp4"),
    ("RTX Blackwell", "mma_block_scale", "m16n8k64.block16.f32.e2m1.e2m1.f32.ue4m3", "blackwell-nvfp4"),
    ("CDNA2", "mfma", "f32_16x16x16f16", "cdna2-fp16"),
    ("CDNA2", "mfma", "f32_16x16x8bf16", "cdna2-bf16"),
    ("CDNA2", "mfma", "f32_16x16x16bf16_1k", "cdna2-bf16-1k"),
    ("CDNA3", "mfma", "f32_16x16x16_f16", "cdna3-fp16"),
    ("CDNA3", "mfma", "f32_16x16x16_bf16", "cdna3-fp16"),
    ("CDNA3", "mfma", "f32_16x16x8_xf32", "cdna3-xf32"),
    ("CDNA3", "mfma", "f32_16x16x32_fp8_fp8", "cdna3-fp8"),
    ("CDNA3", "mfma", "f32_16x16x32_fp8_bf8", "cdna3-fp8"),
    ("CDNA3", "mfma", "f32_16x16x32_bf8_bf8", "cdna3-fp8"),
)  # fmt: skip
FORMATS = {
    "float16": "float16", "bfloat16": "bfloat16", "float32": "float32", "float8_e4m3fn": "e4m3fn",
    "float8_e5m2": "e5m2", "float8_e4m3fnuz": "e4m3fnuz", "float8_e5m2fnuz": "e5m2fnuz", "uint8": "e2m1fn",
    "float8_e8m0fnu": "e8m0fnu",
}  # fmt: skip
KINDS = ("normal", "spread", "any number", "any code")
STEPS, SIZE = 4, 8  # instructions in a row; rows and columns that are looked at


def numbers(name: str, shape: tuple[int, int], kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return codes of a format, or float32 numbers of TF32's precision for "float32"."""
    spread = 2.0 ** rng.integers(-4, 4, shape) if kind == "spread" else 1.0
    if name == "float32":
        values = (rng.normal(0, 1, shape) * spread).astype(np.float32)
        if "any" in kind:
            values = rng.integers(0, 1 << 32, shape, np.uint32).view(np.float32)
            values = np.where(np.isfinite(values), values, np.inf if kind == "any code" else 0).astype(np.float32)
        return (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    fmt = rf8sim.get_format(name)
    if kind == "any code":
        return rng.integers(0, fmt.values.size, shape).astype(fmt.code_dtype)
    if kind == "any number":
        return rng.choice(np.flatnonzero(np.isfinite(fmt.values)), shape).astype(fmt.code_dtype)
    return rf8sim.encode(rng.normal(0, 1, shape) * spread, fmt)


def tensor(x: np.ndarray, dtype: Any) -> Any:
    """Return codes as a tensor of PyTorch, two of 4 bits in a byte, the first of them low."""
    import torch

    if x.dtype == np.float32:
        return torch.from_numpy(x.copy())
    if dtype == torch.uint8:
        return torch.from_numpy(x[:, ::2] | x[:, 1::2] << 4)
    signed = np.int8 if x.itemsize == 1 else np.int16
    return torch.from_numpy(np.ascontiguousarray(x).view(signed).copy()).view(dtype)


def wanted(instruction: Any, a: np.ndarray, b: np.ndarray, scales: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """Return the sums of MMA-Sim: instructions in a row, each adding to the sums of the one before."""
    import torch
    from mmasim.simulator.arithmetic import flush_denormal

    sums = torch.zeros((a.shape[0], b.shape[1]), dtype=torch.float32)
    depth, trees = instruction.k, getattr(instruction, "operation_type", "") == "pairwise"
    for start in range(0, a.shape[1], depth):
        part = slice(start, start + depth)
        left, right = tensor(a[:, part], instruction.a_type), tensor(b[part].T, instruction.b_type).T
        if trees:  # which it takes as float32 only; subnormal operands are those of their own type
            left, right = (flush_denormal(x.clone()).float() for x in (left, right))
        given = ()
        if scales is not None:
            of_block = slice(start // instruction.block_size, (start + depth) // instruction.block_size)
            given = tensor(scales[0][:, of_block], instruction.s_type), tensor(scales[1][of_block], instruction.s_type)
        sums = instruction(left, right, sums, *given)
    return sums.numpy()


def compared(architecture: str, kind: str, qualifier: str, engine: str, rng: np.random.Generator) -> list[str]:
    """Return a row of the table for each kind of operands, and for each, "unequal" if an output differs."""
    from mmasim.simulator import amd, nv_ptx

    instruction = getattr(amd if kind == "mfma" else nv_ptx, kind)(architecture, qualifier)
    first, second = (FORMATS[str(dtype).split(".")[1]] for dtype in (instruction.a_type, instruction.b_type))
    rows, columns, depth = min(instruction.m, SIZE), min(instruction.n, SIZE), instruction.k
    instruction.m, instruction.n, instruction.check_input = rows, columns, lambda *_: None
    lines = []
    for what in KINDS:
        a, b = numbers(first, (rows, depth * STEPS), what, rng), numbers(second, (depth * STEPS, columns), what, rng)
        scales = given = None
        if hasattr(instruction, "s_type"):
            name, blocks = FORMATS[str(instruction.s_type).split(".")[1]], depth * STEPS // instruction.block_size
            fmt = rf8sim.get_format(name)
            middle = int(rf8sim.encode(1.0, fmt))
            low, high = (1, 0x7F) if name == "e4m3fn" and "any" in what else (middle - 6, middle + 6)
            if name == "e8m0fnu" and "any" in what:
                low, high = middle - 60, middle + 60
            scales = tuple(
                rng.integers(low, high, shape).astype(np.uint8) for shape in ((rows, blocks), (blocks, columns))
            )
            values = (rf8sim.decode(scale, fmt) for scale in scales)
            given = rf8sim.OperandScales(*values, block_size=instruction.block_size, format=fmt)
        if engine.startswith("cdna3") and first in ("bfloat16", "float32"):
            a, b = (_without_overflow(x, name) for x, name in ((a, first), (b, second)))
        got = rf8sim.matmul(a, b, (first, second), accumulator=engine, scales=given)
        right = wanted(instruction, a, b, scales)
        equal = int(np.count_nonzero((got == right) | (np.isnan(got) & np.isnan(right))))
        lines.append(f"| {architecture} {kind} {qualifier} | {engine} | {what} | {equal} of {right.size} |")
        lines[-1] += "" if equal == right.size else " unequal"
    return lines


def _without_overflow(x: np.ndarray, name: str) -> np.ndarray:
    """Return operands whose products stay in float32: MMA-Sim drops an infinite product beside an infinite sum.

    Later revisions of it add the two, and so does rf8sim: infinities of both signs make NaN.
    """
    values = x if name == "float32" else rf8sim.decode(x, name)
    return np.where(np.abs(values) < 2.0**60, x, x.dtype.type(0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a copy of github.com/microsoft/MMA-Sim")
    sys.path.insert(0, str(parser.parse_args().folder))
    rng, unequal = np.random.default_rng(1), 0
    print("| instruction | accumulator | operands | equal outputs |\n|---|---|---|---:|")
    for row in INSTRUCTIONS:
        for line in compared(*row, rng):
            print(line, flush=True)
            unequal += line.endswith("unequal")
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())
