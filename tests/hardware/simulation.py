"""Running the shipped sources in Icarus Verilog, whole or with a fault put in."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

from rf8sim.hardware.sources.block import Block, vector_lines
from rf8sim.hardware.sources.blocks import multiplication_table
from rf8sim.hardware.sources.hdl import hdl_files, rtl_sources
from rf8sim.hardware.sources.testbench import bench_source

CHECK = "bench/check.sv"


@cache
def check_module() -> bytes:
    return hdl_files()[CHECK]


def lay_out(folder: Path, blocks: list[Block], changes: tuple[tuple[str, str, str], ...] = ()) -> None:
    """Write sources, vectors and the testbench of some blocks; ``changes`` replaces text: (source, old, new)."""
    for part in ("rtl", "vectors", "answers", "bench"):
        (folder / part).mkdir(exist_ok=True)
    for name, text in rtl_sources().items():
        for _, old, new in (change for change in changes if change[0] == name):
            assert text.count(old) == 1, f"{old!r} is in {name} {text.count(old)} times"
            text = text.replace(old, new)
        (folder / "rtl" / name).write_text(text)
    for mode, suffix in (("nearest-even", ""), ("residual", "_residual")):
        table = "".join(f"{code:02x}\n" for code in multiplication_table(mode).tolist())
        (folder / "rtl" / f"rf8_multiply{suffix}.mem").write_text(table)
    for block in blocks:
        lines = vector_lines([*block.inputs.values(), *block.outputs.values()])
        (folder / "vectors" / f"{block.name}.mem").write_bytes(lines)
    (folder / "bench" / "check.sv").write_bytes(check_module())
    (folder / "bench" / "tb_rf8.sv").write_text(bench_source(blocks))


def simulate(folder: Path, *options: str) -> tuple[int, str]:
    """Compile with every warning an error, run, and return the exit status and what was printed."""
    sources = [*sorted((folder / "rtl").glob("*.sv")), folder / CHECK, folder / "bench" / "tb_rf8.sv"]
    build = subprocess.run(
        ["iverilog", "-g2012", "-Wall", "-s", "tb_rf8", "-o", folder / "sim", *sources], capture_output=True, text=True
    )
    assert (build.returncode, build.stdout, build.stderr) == (0, "", "")
    run = subprocess.run(["vvp", "-n", folder / "sim", *options], cwd=folder, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def counts(printed: str) -> dict[str, tuple[int, int]]:
    """Return vectors and wrong answers of each block, as the testbench printed them."""
    return {
        name: (int(vectors), int(wrong))
        for name, vectors, wrong in re.findall(r"^(\w+): (\d+) vectors, (\d+) wrong$", printed, re.MULTILINE)
    }


def first(block: Block, count: int) -> Block:
    """Return a block with its first vectors alone."""
    inputs, outputs = (
        {name: replace(signal, patterns=signal.patterns[:count]) for name, signal in ports.items()}
        for ports in (block.inputs, block.outputs)
    )
    return replace(block, inputs=inputs, outputs=outputs)


def assert_seen(folder: Path, block: Block, change: tuple[str, str, str]) -> None:
    """Put a fault into a source and check that the testbench counts wrong answers of a block and fails.

    Most faults show in the first of a block's vectors, and in all of them then; the rest of them is asked after that.
    """
    for part in (first(block, block.count // 10), block):
        lay_out(folder, [part], (change,))
        status, printed = simulate(folder)
        wrong = counts(printed)[block.name][1]
        if wrong:
            break
    assert wrong > 0
    assert f"{block.name}: vector " in printed
    assert status != 0
