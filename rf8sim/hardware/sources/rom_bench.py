"""The self-checking testbench of ROM decoders in VHDL, over the vectors of those in SystemVerilog."""

from __future__ import annotations

from collections.abc import Sequence

from .roms import FLAGS, Rom

__all__ = ["rom_bench"]

_HEAD = """-- Generated. Every decoder, each code against its vectors. Run it in the folder of vectors/ and rom/.
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;
use std.textio.all;

entity tb_roms is
end entity;

architecture test of tb_roms is
"""

_SIGNALS = """  signal code_{index} : std_logic_vector({top} downto 0);
  signal answer_{index} : std_logic_vector({answer} downto 0) := (others => '0');
"""

_CHECK = """
  decoder_{index} : entity work.{rom}
    port map (code => code_{index}, {ports});

  check_{index} : process
    file vectors : text open read_mode is "vectors/{rom}.mem";
    variable row : line;
    variable fields : std_logic_vector({fields} downto 0);
    variable seen, wrong : natural := 0;
  begin
    while not endfile(vectors) loop
      readline(vectors, row);
      hread(row, fields);
      code_{index} <= fields({code} downto {code_low});
      wait for 1 ns;
      if answer_{index} /= fields({answer} downto 0) then
        wrong := wrong + 1;
      end if;
      seen := seen + 1;
    end loop;
    report "{rom}: " & integer'image(seen) & " vectors, " & integer'image(wrong) & " wrong";
    assert seen = {count} report "{rom}: the vectors are not complete" severity failure;
    assert wrong = 0 report "{rom}: FAILED" severity failure;
    report "{rom}: PASSED";
    wait;
  end process;
"""


def rom_bench(decoders: Sequence[Rom]) -> str:
    """Return the VHDL-2008 testbench of decoders.

    Parameters
    ----------
    decoders : sequence of Rom
        At least one, each of another name.

    Returns
    -------
    str
        The source of entity ``tb_roms``, which reads ``vectors/<decoder>.mem``.

    Examples
    --------
    >>> from rf8sim.hardware.sources.roms import roms
    >>> "decoder_1 : entity work.rf8_fields" in rom_bench(roms("rf8"))
    True
    """
    signals, checks = "", ""
    for index, rom in enumerate(decoders):
        answer = 4 * sum(_digits(width) for width in _widths(rom).values())
        code = rom.format.bits
        places = {
            "index": index, "rom": rom.name, "top": code - 1, "answer": answer - 1, "code": answer + code - 1,
            "code_low": answer, "fields": answer + 4 * _digits(code) - 1, "count": len(rom.words),
            "ports": ", ".join(_ports(rom, index)),
        }  # fmt: skip
        signals += _SIGNALS.format(**places)
        checks += _CHECK.format(**places)
    return f"{_HEAD}{signals}begin{checks}end architecture;\n"


def _widths(rom: Rom) -> dict[str, int]:
    return dict.fromkeys(FLAGS, 1) | rom.ports


def _digits(bits: int) -> int:
    return -(-bits // 4)


def _ports(rom: Rom, index: int) -> list[str]:
    """Return the association of each output with its bits of a line."""
    widths = _widths(rom)
    low = 4 * sum(map(_digits, widths.values()))
    ports = []
    for name, width in widths.items():
        low -= 4 * _digits(width)
        place = f"{low}" if name in FLAGS else f"{low + width - 1} downto {low}"
        ports.append(f"{name} => answer_{index}({place})")
    return ports
