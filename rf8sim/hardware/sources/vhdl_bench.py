"""The self-checking testbench of the RF8 encoder in VHDL, over the vectors of the one in SystemVerilog."""

from __future__ import annotations

from collections.abc import Sequence

from .block import Block

__all__ = ["encoder_bench"]

_CHECK = """-- Generated. rf8_encode.vhd over the vectors of rf8_encode.sv. Run it in the folder of vectors/.
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;
use std.textio.all;

entity check_rf8_encode is
  generic (NAME : string; COUNT, WIDTH, FRACTION, RESIDUAL, NAN_OVERFLOW : natural; STICKY, NAN : boolean);
  port (done : out boolean := false; wrong : out natural := 0);
end entity;

architecture test of check_rf8_encode is
  constant DIGITS : positive := (WIDTH + 3) / 4;
  constant EXTRA : natural := boolean'pos(STICKY or NAN);  -- a digit for the third input, where there is one
  signal sign, cut, invalid : std_logic := '0';
  signal magnitude : std_logic_vector(WIDTH - 1 downto 0) := (others => '0');
  signal code : std_logic_vector(7 downto 0);
begin
  encoder : entity work.rf8_encode
    generic map (WIDTH => WIDTH, FRACTION => FRACTION, RESIDUAL => RESIDUAL, NAN_OVERFLOW => NAN_OVERFLOW)
    port map (sign => sign, magnitude => magnitude, sticky => cut, nan => invalid, code => code);

  process
    file vectors : text open read_mode is "vectors/" & NAME & ".mem";
    variable row : line;
    variable fields : std_logic_vector(4 * (3 + EXTRA + DIGITS) - 1 downto 0);
    variable seen, faults : natural := 0;
  begin
    while not endfile(vectors) loop
      readline(vectors, row);
      hread(row, fields);
      sign <= fields(fields'high - 3);
      magnitude <= fields(8 + 4 * EXTRA + WIDTH - 1 downto 8 + 4 * EXTRA);
      cut <= '1' when STICKY and fields(8) = '1' else '0';
      invalid <= '1' when NAN and fields(8) = '1' else '0';
      wait for 1 ns;
      if code /= fields(7 downto 0) then
        faults := faults + 1;
      end if;
      seen := seen + 1;
    end loop;
    report NAME & ": " & integer'image(seen) & " vectors, " & integer'image(faults) & " wrong";
    assert seen = COUNT report NAME & ": the vectors are not complete" severity failure;
    wrong <= faults;
    done <= true;
    wait;
  end process;
end architecture;

entity tb_rf8_encode is
end entity;

architecture test of tb_rf8_encode is
  type counts_t is array (0 to LAST) of natural;
  type flags_t is array (0 to LAST) of boolean;
  signal done : flags_t;
  signal wrong : counts_t;
begin
INSTANCES
  process
    variable total : natural := 0;
  begin
    wait until done = (done'range => true);
    for index in wrong'range loop
      total := total + wrong(index);
    end loop;
    assert total = 0 report "FAILED: " & integer'image(total) & " answers are wrong" severity failure;
    report "PASSED";
    wait;
  end process;
end architecture;
"""


def encoder_bench(blocks: Sequence[Block]) -> str:
    """Return the VHDL-2008 testbench of ``rf8_encode``: a checker for each of its blocks.

    Parameters
    ----------
    blocks : sequence of Block
        Any blocks, at least two with the module ``rf8_encode``; those of other modules are left out.

    Returns
    -------
    str
        The source of entity ``tb_rf8_encode``.

    Examples
    --------
    >>> from rf8sim.hardware.sources.blocks import blocks
    >>> "check_0 : entity work.check_rf8_encode" in encoder_bench(blocks())
    True
    """
    encoders = [block for block in blocks if block.module == "rf8_encode"]
    instances = "".join(_instance(index, block) for index, block in enumerate(encoders))
    return _CHECK.replace("LAST", str(len(encoders) - 1)).replace("INSTANCES", instances)


def _instance(index: int, block: Block) -> str:
    given = {"RESIDUAL": 0, "NAN_OVERFLOW": 0} | dict(block.parameters)
    numbers = ", ".join(f"{name} => {value}" for name, value in given.items())
    flags = ", ".join(f"{name.upper()} => {str(name in block.inputs).lower()}" for name in ("sticky", "nan"))
    return (
        f"  check_{index} : entity work.check_rf8_encode\n"
        f'    generic map (NAME => "{block.name}", COUNT => {block.count}, {numbers},\n      {flags})\n'
        f"    port map (done => done({index}), wrong => wrong({index}));\n"
    )
