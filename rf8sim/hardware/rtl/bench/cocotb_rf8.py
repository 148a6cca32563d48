"""The multiplier and the accumulator under cocotb 2: ``make cocotb``. Needs the packages rf8sim and cocotb."""

import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from rf8sim.hardware.cocotb import Scoreboard
from rf8sim.hardware.vectors.vectors import vectors

VECTORS = Path(os.environ.get("VECTORS", "vectors"))


def lines(name: str) -> list[list[int]]:
    """Return the fields of each line of a vector file."""
    text = (VECTORS / f"{name}.mem").read_text(encoding="ascii")
    return [[int(field, 16) for field in line.split("_")] for line in text.split()]


@cocotb.test(skip=os.environ.get("COCOTB_TOPLEVEL") != "rf8_multiply")
async def multiply(dut: Any) -> None:
    """Every product of two codes."""
    board = Scoreboard(vectors("multiply", "rf8"))
    await board.drive(dut, names={"result": "code"})
    board.check()


@cocotb.test(skip=os.environ.get("COCOTB_TOPLEVEL") != "rf8_mac")
async def accumulate(dut: Any) -> None:
    """Random sums, the worst sum that must fit, and sums that overflow."""
    Clock(dut.clk, 2, "ns").start()
    await FallingEdge(dut.clk)
    for number, (clear, valid, a, b, total, overflow, nan) in enumerate(lines("rf8_mac_4")):
        dut.clear.value, dut.valid.value, dut.a.value, dut.b.value = clear, valid, a, b
        await FallingEdge(dut.clk)
        got = int(dut.sum.value), int(dut.overflow.value), int(dut.nan.value)
        wanted = total & (1 << len(dut.sum)) - 1, overflow, nan
        assert got == wanted, f"clock {number}: sum, overflow, nan should be {wanted}, got {got}"
