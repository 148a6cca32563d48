"""The self-checking testbench of the shipped blocks, generated from the list of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .block import Block, Signal

__all__ = ["bench_source"]

_HEAD = """// Generated. Every block that ships, against its vectors (see check.sv). Run it in the folder of vectors/.

module tb_rf8;
"""
_END = """
  integer total;

  initial begin
    wait (&done);
    total = TOTAL;
    if (chosen == 0) begin
      $display("FAILED: there is no such block");
      $fatal(1);
    end else if (total == 0) $display("PASSED");
    else begin
      $display("FAILED: %0d answers are wrong", total);
      $fatal(1);
    end
    $finish;
  end
endmodule
"""


def bench_source(blocks: Sequence[Block]) -> str:
    """Return the testbench: each block with its checker, one after another in one simulation.

    Examples
    --------
    >>> from rf8sim.hardware.sources.blocks import blocks
    >>> print(bench_source(blocks()[:1]).split("module tb_rf8;")[1].split("  integer")[0].strip())
    wire [0:0] done, chosen;
    <BLANKLINE>
      // rf8_decode
      wire clk_0;
    wire [7:0] in_0;
    wire [27:0] out_0;
    wire [31:0] wrong_0;
    rf8_decode rf8_decode (.code(in_0[7:0]), .sign(out_0[24:24]), .magnitude(out_0[23:4]), .nan(out_0[0:0]));
    assign out_0[27:25] = 0;
    assign out_0[3:1] = 0;
    check #(.NAME("rf8_decode"), .COUNT(256), .IN(8), .OUT(28)) check_0 (
        .start(1'b1), .clk(clk_0), .stimulus(in_0), .answer(out_0), .done(done[0]), .chosen(chosen[0]),
          .wrong(wrong_0));
    """
    total = " + ".join(f"wrong_{index}" for index in range(len(blocks)))
    bodies = "".join(_instance(index, block) for index, block in enumerate(blocks))
    return f"{_HEAD}  wire [{len(blocks) - 1}:0] done, chosen;\n{bodies}{_END.replace('TOTAL', total)}"


def _width(signals: Mapping[str, Signal]) -> int:
    return sum(4 * signal.digits for signal in signals.values())


def _slices(signals: Mapping[str, Signal]) -> Iterable[tuple[str, int, int]]:
    """Yield the name, the lowest bit and the width of each field, the first one leftmost."""
    low = _width(signals)
    for name, signal in signals.items():
        low -= 4 * signal.digits
        yield name, low, signal.bits


def _instance(index: int, block: Block) -> str:
    ports = [f".{name}(in_{index}[{low + bits - 1}:{low}])" for name, low, bits in _slices(block.inputs)]
    ports += [f".{name}(1'b{value})" for name, value in block.constants.items()]
    ports += [f".{name}(out_{index}[{low + bits - 1}:{low}])" for name, low, bits in _slices(block.outputs)]
    if block.latency:
        ports.insert(0, f".clk(clk_{index})")
    values = [f'"{value}"' if isinstance(value, str) else value for value in block.parameters.values()]
    given = ", ".join(f".{name}({value})" for name, value in zip(block.parameters, values, strict=True))
    padding = [
        f"  assign out_{index}[{low + 4 * -(-bits // 4) - 1}:{low + bits}] = 0;\n"
        for _, low, bits in _slices(block.outputs)
        if bits % 4
    ]
    width_in, width_out = _width(block.inputs), _width(block.outputs)
    start = f"done[{index - 1}]" if index else "1'b1"
    sizes = f".COUNT({block.count}), .IN({width_in}), .OUT({width_out})"
    if block.latency > 1:
        sizes += f", .LATENCY({block.latency})"
    return (
        f"\n  // {block.name}\n  wire clk_{index};\n  wire [{width_in - 1}:0] in_{index};\n"
        f"  wire [{width_out - 1}:0] out_{index};\n  wire [31:0] wrong_{index};\n"
        f"  {block.module} {f'#({given}) ' if given else ''}{block.name} ({', '.join(ports)});\n{''.join(padding)}"
        f'  check #(.NAME("{block.name}"), {sizes}) check_{index} (\n'
        f"      .start({start}), .clk(clk_{index}), .stimulus(in_{index}), .answer(out_{index}), .done(done[{index}]), "
        f".chosen(chosen[{index}]),\n      .wrong(wrong_{index}));\n"
    )
