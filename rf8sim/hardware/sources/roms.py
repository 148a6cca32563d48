"""A format as ROM decoders in SystemVerilog and VHDL: each code to fixed point, or to exponent and significand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...formats import Format, get_format
from .block import Block, Signal, signal
from .packages import FIXED_WIDTH, TABLE_BITS, fixed_table, identifier, odd_parts

__all__ = ["FLAGS", "Rom", "rom_block", "rom_memory", "rom_sources", "roms", "systemverilog_rom", "vhdl_rom"]

FLAGS = ("nan", "infinite", "sign")
"""Outputs of one bit that every decoder has, in the order of a word."""

_VHDL_NOTE = ("-- FILE_NAME is looked for where the tool runs. GHDL needs a stack for the memory: ulimit -s 65536.",)


@dataclass(frozen=True)
class Rom:
    """A decoder of one format by look-up.

    Attributes
    ----------
    name : str
        The module or entity: the format's identifier with ``_fixed`` or ``_fields``.
    format : Format
        The format.
    meaning : str
        What the outputs stand for, as a line of a comment.
    ports : dict of str to int
        Widths of the outputs after ``nan``, ``infinite`` and ``sign``, in the order of a word, most significant first.
    words : tuple of int, 2**bits of them
        The word of each code: the three flags, then the ports.
    """

    name: str
    format: Format
    meaning: str
    ports: dict[str, int]
    words: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bits of a word."""
        return len(FLAGS) + sum(self.ports.values())

    @property
    def in_file(self) -> bool:
        """Whether the words are in a memory file."""
        return self.format.bits > TABLE_BITS


def roms(fmt: str | Format) -> tuple[Rom, ...]:
    """Return the decoders of a format: to fixed point where `FIXED_WIDTH` bits hold every value, and to fields.

    Parameters
    ----------
    fmt : str or Format
        A format of 1 to 16 bits.

    Returns
    -------
    tuple of Rom
        The one to fixed point, if there is one, and the one to fields.

    Examples
    --------
    >>> [(rom.name, rom.width) for rom in roms("e5m2")]
    [('e5m2_fixed', 35), ('e5m2_fields', 11)]
    >>> [(rom.name, rom.ports) for rom in roms("bfloat16")]
    [('bfloat16_fields', {'exponent': 9, 'significand': 8})]
    """
    fmt = get_format(fmt)
    fixed = () if fixed_table(fmt).width > FIXED_WIDTH else (_fixed_rom(fmt),)
    return (*fixed, _fields_rom(fmt))


def _flags(fmt: Format) -> list[int]:
    """Return NaN, infinity and sign of each code, as one number of three bits."""
    nan, infinite = np.isnan(fmt.values), np.isinf(fmt.values)
    flags: list[int] = (nan * 4 + infinite * 2 + (np.signbit(fmt.values) & ~nan)).tolist()
    return flags


def _fixed_rom(fmt: Format) -> Rom:
    table = fixed_table(fmt)
    words = tuple(flag << table.width | word for flag, word in zip(_flags(fmt), table.magnitudes, strict=True))
    scale = f" * 2^-{table.fraction}" if table.fraction else ""
    meaning = f"(-1)^sign * magnitude{scale}"
    return Rom(f"{identifier(fmt)}_fixed", fmt, meaning, {"magnitude": table.width}, words)


def _fields_rom(fmt: Format) -> Rom:
    odd, power = odd_parts(fmt)
    bits = np.frexp(odd.astype(np.float64))[1].astype(np.int64)
    significand = max(1, int(bits.max()))
    exponents = np.where(odd == 0, 0, power + bits - 1)
    low, high = int(exponents.min()), int(exponents.max())
    exponent = 1 + max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0)
    fields = (exponents & ((1 << exponent) - 1)) << significand | odd << (significand - bits)
    words = np.array(_flags(fmt)) << (exponent + significand) | fields
    top = f"(exponent - {significand - 1})" if significand > 1 else "exponent"
    ports = {"exponent": exponent, "significand": significand}
    meaning = f"(-1)^sign * significand * 2^{top}"
    return Rom(f"{identifier(fmt)}_fields", fmt, meaning, ports, tuple(words.tolist()))


def _comment(rom: Rom, mark: str) -> list[str]:
    lines = [
        f"{rom.format.name}: {rom.format.description}. Generated.",
        f"A code has the value {rom.meaning}, unless nan or infinite is 1; then the other",
        "outputs are 0 but for the sign of an infinity.",
    ]
    if "significand" in rom.ports:
        lines.append(
            "The leading bit of a significand is 1 but for zero; exponents are in two's complement, 0 for zero."
        )
    return [f"{mark} {line}" for line in lines]


def systemverilog_rom(rom: Rom) -> str:
    """Return a decoder as a SystemVerilog module, without a clock.

    Examples
    --------
    >>> "8'h7f: word = 23'h0c0000;  // 1.5" in systemverilog_rom(roms("rf8")[0])
    True
    """
    ports = dict.fromkeys(reversed(FLAGS), 1) | rom.ports
    top = rom.format.bits - 1
    head = [*_comment(rom, "//")]
    if rom.in_file:
        head += ["// FILE is looked for where the tool runs. A register after the outputs makes it a block memory.",
                 f"module {rom.name} #(", f'    parameter FILE = "rom/{rom.name}.mem"', ") ("]  # fmt: skip
    else:
        head.append(f"module {rom.name} (")
    head.append(f"    input  wire [{top}:0] code,")
    head += [f"    output wire {f'[{width - 1}:0] ' if width > 1 or name in rom.ports else ''}{name}"
             f"{',' if name != list(ports)[-1] else ''}" for name, width in ports.items()]  # fmt: skip
    head.append(");")
    joined = ", ".join((*FLAGS, *rom.ports))
    if rom.in_file:
        body = [f"  reg [{rom.width - 1}:0] words[0:{len(rom.words) - 1}];", "  initial $readmemh(FILE, words);",
                f"  assign {{{joined}}} = words[code];"]  # fmt: skip
    else:
        digits, codes = -(-rom.width // 4), -(-rom.format.bits // 4)
        body = [f"  reg [{rom.width - 1}:0] word;", "  always @*", "    case (code)"]
        for code, (word, value) in enumerate(zip(rom.words, rom.format.values.tolist(), strict=True)):
            row = f"{rom.format.bits}'h{code:0{codes}x}: word = {rom.width}'h{word:0{digits}x};  // {value!r}"
            body.append(f"      {row}")
        body += [f"      default: word = {{{rom.width}{{1'bx}}}};", "    endcase", f"  assign {{{joined}}} = word;"]
    return "\n".join([*head, *body, "endmodule", ""])


def vhdl_rom(rom: Rom) -> str:
    """Return a decoder as a VHDL-2008 entity with the ports of the SystemVerilog module.

    Examples
    --------
    >>> "entity rf8_fields is" in vhdl_rom(roms("rf8")[1])
    True
    """
    count, digits = len(rom.words), -(-rom.width // 4)
    lines = [
        *_comment(rom, "--"),
        *_VHDL_NOTE[: rom.in_file],
        "library ieee;",
        "use ieee.std_logic_1164.all;",
        "use ieee.numeric_std.all;",
    ]
    if rom.in_file:
        lines += ["use std.textio.all;", "", f"entity {rom.name} is",
                  f'  generic (FILE_NAME : string := "rom/{rom.name}.mem");']  # fmt: skip
    else:
        lines += ["", f"entity {rom.name} is"]
    lines += ["  port (", f"    code : in std_logic_vector({rom.format.bits - 1} downto 0);",
              "    sign, infinite, nan : out std_logic;"]  # fmt: skip
    outputs = [f"    {name} : out std_logic_vector({width - 1} downto 0)" for name, width in rom.ports.items()]
    lines += [";\n".join(outputs), "  );", "end entity;", "", f"architecture rom of {rom.name} is",
              f"  subtype word_t is std_logic_vector({rom.width - 1} downto 0);",
              f"  type words_t is array (0 to {count - 1}) of word_t;"]  # fmt: skip
    lines += _vhdl_loader(digits) if rom.in_file else _vhdl_table(rom)
    lines += ["  signal word : word_t;", "begin",
              "  word <= (others => 'X') when is_x(code) else words(to_integer(unsigned(code)));",
              f"  nan <= word({rom.width - 1});", f"  infinite <= word({rom.width - 2});",
              f"  sign <= word({rom.width - 3});"]  # fmt: skip
    low = rom.width - len(FLAGS)
    for name, width in rom.ports.items():
        lines.append(f"  {name} <= word({low - 1} downto {low - width});")
        low -= width
    return "\n".join([*lines, "end architecture;", ""])


def _vhdl_table(rom: Rom) -> list[str]:
    rows = [f'    {code} => "{word:0{rom.width}b}"' for code, word in enumerate(rom.words)]
    return ["  constant words : words_t := (", ",\n".join(rows), "  );"]


def _vhdl_loader(digits: int) -> list[str]:
    return [
        "  impure function loaded return words_t is",
        "    file memory : text open read_mode is FILE_NAME;",
        "    variable row : line;",
        f"    variable padded : std_logic_vector({4 * digits - 1} downto 0);",
        "    variable all_words : words_t;",
        "  begin",
        "    for index in words_t'range loop",
        "      readline(memory, row);",
        "      hread(row, padded);",
        "      all_words(index) := padded(word_t'range);",
        "    end loop;",
        "    return all_words;",
        "  end function;",
        "  constant words : words_t := loaded;",
    ]


def rom_memory(rom: Rom) -> str:
    r"""Return the words as lines of hexadecimal digits, for ``$readmemh``.

    Examples
    --------
    >>> rom_memory(roms("float16")[0]).splitlines()[0x3C00]  # 1.0, in units of 2**-24
    '00001000000'
    """
    digits = -(-rom.width // 4)
    return "".join(f"{word:0{digits}x}\n" for word in rom.words)


def rom_block(rom: Rom) -> Block:
    """Return a decoder with every code as its vectors; the answers are computed from the values by numpy.

    Examples
    --------
    >>> block = rom_block(roms("e8m0fnu")[0])
    >>> block.count, block.outputs["exponent"].patterns[:2].tolist()  # -127 and -126 in eight bits
    (256, [129, 130])
    """
    values = rom.format.values
    finite = np.where(np.isfinite(values), values, 0.0)
    outputs: dict[str, Signal] = {
        "nan": signal(1, np.isnan(values)),
        "infinite": signal(1, np.isinf(values)),
        "sign": signal(1, ~np.isnan(values) & np.signbit(values)),
    }
    if "magnitude" in rom.ports:
        fraction = fixed_table(rom.format).fraction
        magnitudes = np.ldexp(np.abs(finite), fraction).astype(np.uint64)
        outputs["magnitude"] = signal(rom.ports["magnitude"], magnitudes)
    else:
        mantissas, exponents = np.frexp(np.abs(finite))
        width = rom.ports["significand"]
        outputs["exponent"] = signal(rom.ports["exponent"], np.where(finite == 0, 0, exponents - 1))
        outputs["significand"] = signal(width, np.ldexp(mantissas, width).astype(np.uint64))
    codes = {"code": signal(rom.format.bits, np.arange(values.size))}
    return Block(rom.name, rom.name, codes, outputs)


def rom_sources(decoders: Sequence[Rom]) -> dict[str, str]:
    """Return the files of decoders by path: modules, entities, and tables of those that read one."""
    files = {}
    for rom in decoders:
        files[f"rom/{rom.name}.sv"] = systemverilog_rom(rom)
        files[f"rom/{rom.name}.vhd"] = vhdl_rom(rom)
        if rom.in_file:
            files[f"rom/{rom.name}.mem"] = rom_memory(rom)
    return files
