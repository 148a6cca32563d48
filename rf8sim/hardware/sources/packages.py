"""A format as a package of constants in SystemVerilog and VHDL: its special codes, and the table of its values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...formats import Format, get_format
from ...formats.base import PRECISION

__all__ = [
    "FIXED_WIDTH",
    "TABLE_BITS",
    "FixedTable",
    "code_lines",
    "fixed_table",
    "identifier",
    "odd_parts",
    "systemverilog_package",
    "vhdl_package",
    "vhdl_testbench",
]

TABLE_BITS = 8
"""Formats of at most so many bits have their tables in the source; of more bits they are memory files of decoders."""

FIXED_WIDTH = 64
"""Bits of fixed point up to which a format of more than `TABLE_BITS` bits is decoded to it."""


@dataclass(frozen=True)
class FixedTable:
    """The finite values of a format in fixed point: ``(-1)**sign * magnitude * 2**-fraction``.

    Attributes
    ----------
    width, fraction : int
        Bits of a magnitude, and the place of its binary point.
    magnitudes : tuple of int
        Of each code; 0 for NaN and infinities.
    negative : tuple of bool
        The sign of each code, of -0 and of infinities too.
    """

    width: int
    fraction: int
    magnitudes: tuple[int, ...]
    negative: tuple[bool, ...]


def identifier(fmt: Format) -> str:
    """Return a format's name as SystemVerilog, VHDL and C take it.

    Examples
    --------
    >>> import rf8sim
    >>> identifier(rf8sim.get_format("rf(4,4,12)"))
    'rf_4_4_12'
    """
    return re.sub(r"[^a-z0-9]+", "_", fmt.name.lower()).strip("_")


def fixed_table(fmt: str | Format) -> FixedTable:
    """Return the values of a format in the narrowest fixed point that holds all of them exactly.

    Examples
    --------
    >>> table = fixed_table("rf8")
    >>> table.width, table.fraction, table.magnitudes[0x7F]
    (20, 19, 786432)
    """
    return _fixed_table(get_format(fmt))


@lru_cache(maxsize=4)
def _fixed_table(fmt: Format) -> FixedTable:
    odd, power = odd_parts(fmt)
    fraction = max(0, -int(power.min()))
    shifts = np.where(odd == 0, 0, power + fraction).tolist()
    magnitudes = tuple(number << shift for number, shift in zip(odd.tolist(), shifts, strict=True))
    negative = tuple((np.signbit(fmt.values) & ~np.isnan(fmt.values)).tolist())
    return FixedTable(max(1, *(m.bit_length() for m in magnitudes)), fraction, magnitudes, negative)


def odd_parts(fmt: Format) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return an odd number and a power for each code: the magnitude is ``odd * 2**power``; zeros where it is not one.

    Examples
    --------
    >>> import rf8sim
    >>> odd, power = odd_parts(rf8sim.get_format("rf8"))
    >>> int(odd[0x7F]), int(power[0x7F])  # 1.5
    (3, -1)
    """
    mantissas, exponents = np.frexp(np.where(np.isfinite(fmt.values), np.abs(fmt.values), 0.0))
    integers = np.ldexp(mantissas, PRECISION).astype(np.int64)
    zeros = np.frexp((integers & -integers).astype(np.float64))[1] - 1  # at the end of an integer
    zeros = np.where(integers == 0, 0, zeros)
    power = np.where(integers == 0, 0, exponents.astype(np.int64) - PRECISION + zeros)
    return integers >> zeros, power


def _special(fmt: Format) -> dict[str, int | None]:
    """Return the codes that have names; None where the format has no such value."""
    largest, smallest = (int(fmt.sides[0].codes[index]) for index in (-1, 0))
    if fmt.zero is not None:
        smallest = int(fmt.sides[0].codes[1])
    return {
        "ZERO": fmt.zero,
        "NEGATIVE_ZERO": fmt.negative_zero,
        "NAN": fmt.nan,
        "INFINITY": fmt.sides[0].infinity,
        "NEGATIVE_INFINITY": fmt.sides[1].infinity,
        "LARGEST": largest,
        "LOWEST": fmt.lowest_code,
        "SMALLEST": smallest,
    }


def _masks(fmt: Format) -> dict[str, list[bool]]:
    codes = np.arange(fmt.values.size)
    return {
        "NEGATIVE": list(fixed_table(fmt).negative),
        "IS_NAN": np.isnan(fmt.values).tolist(),
        "IS_INFINITE": np.isinf(fmt.values).tolist(),
        "IS_CANONICAL": (fmt.canonical == codes).tolist(),
    }


def systemverilog_package(fmt: str | Format) -> str:
    """Return a SystemVerilog package of a format: named codes, and the tables of its values if it has few.

    Tables are packed constants, element 0 lowest, which every simulator and Yosys take. A format of more than
    `TABLE_BITS` bits has none: its decoders read a table from a file (`rf8sim.hardware.sources.roms`).

    Parameters
    ----------
    fmt : str or Format
        The format.

    Returns
    -------
    str
        The source of package ``<name>_pkg``.

    Examples
    --------
    >>> "localparam [7:0] NAN = 8'h80;" in systemverilog_package("rf8")
    True
    """
    fmt = get_format(fmt)
    name = identifier(fmt)
    lines = [f"// {fmt.name}: {fmt.description}. Generated."]
    if fmt.bits <= TABLE_BITS:
        lines += [
            "// Code c has the value (-1)^NEGATIVE[c] * MAGNITUDE[c*MAGNITUDE_WIDTH+:MAGNITUDE_WIDTH] * 2^-FRACTION,",
            "// unless IS_NAN[c] or IS_INFINITE[c]; CANONICAL[c*8+:8] is what an encoder produces for the same value.",
        ]
    lines += [f"package {name}_pkg;", f"  localparam integer BITS = {fmt.bits};"]
    lines += [f"  localparam integer {what} = {number};" for what, number in _sizes(fmt).items()]
    for what, code in _special(fmt).items():
        if what in ("NAN", "INFINITY", "NEGATIVE_ZERO"):
            lines.append(f"  localparam HAS_{what} = 1'b{int(code is not None)};")
        if code is not None:
            lines.append(f"  localparam [{fmt.bits - 1}:0] {what} = {fmt.bits}'h{code:0{-(-fmt.bits // 4)}x};")
    tables = _systemverilog_tables(fmt) if fmt.bits <= TABLE_BITS else []
    return "\n".join([*lines, *tables, "endpackage", ""])


def _sizes(fmt: Format) -> dict[str, int]:
    """Return the width and the binary point of magnitudes, unless they are too wide to be used."""
    table = fixed_table(fmt)
    if fmt.bits > TABLE_BITS and table.width > FIXED_WIDTH:
        return {}
    return {"MAGNITUDE_WIDTH": table.width, "FRACTION": table.fraction}


def _systemverilog_tables(fmt: Format) -> list[str]:
    table, count = fixed_table(fmt), fmt.values.size
    digits = -(-table.width // 4)
    lines = []
    for what, mask in _masks(fmt).items():
        bits = sum(1 << code for code, there in enumerate(mask) if there)
        lines.append(f"  localparam [{count - 1}:0] {what} = {count}'h{bits:x};")
    elements = [f"{table.width}'h{magnitude:0{digits}x}" for magnitude in reversed(table.magnitudes)]
    lines += [f"  localparam [{count * table.width - 1}:0] MAGNITUDE = {{", *_rows(elements, digits + 6), "  };"]
    elements = [f"8'h{code:02x}" for code in reversed(fmt.canonical.tolist())]
    return [*lines, f"  localparam [{count * 8 - 1}:0] CANONICAL = {{", *_rows(elements, 7), "  };"]


def _rows(elements: list[str], width: int) -> list[str]:
    """Join elements by commas, several on a line."""
    each = max(1, 112 // (width + 1))
    each = 1 << (each.bit_length() - 1)
    rows = [", ".join(elements[start : start + each]) for start in range(0, len(elements), each)]
    return [f"    {row}{',' if index < len(rows) - 1 else ''}" for index, row in enumerate(rows)]


def vhdl_package(fmt: str | Format) -> str:
    r"""Return a VHDL-2008 package of a format: named codes, and if it has few, its values and their look-up.

    Parameters
    ----------
    fmt : str or Format
        The format.

    Returns
    -------
    str
        The source of package ``<name>_pkg``.

    Examples
    --------
    >>> "constant NAN : code_t := x\"80\";" in vhdl_package("rf8")
    True
    """
    fmt = get_format(fmt)
    name, tables = identifier(fmt), fmt.bits <= TABLE_BITS
    lines = [f"-- {fmt.name}: {fmt.description}. Generated."]
    if tables:
        lines += [
            "-- Code c has the value (-1)**NEGATIVE(c) * MAGNITUDES(c) * 2.0**(-FRACTION), unless IS_NAN(c) or",
            "-- IS_INFINITE(c); CANONICAL(c) is the code that an encoder produces for the same value.",
        ]
    lines += [
        "library ieee;",
        "use ieee.std_logic_1164.all;",
        "use ieee.numeric_std.all;",
        "",
        f"package {name}_pkg is",
        f"  constant BITS : positive := {fmt.bits};",
        *(f"  constant {what} : natural := {number};" for what, number in _sizes(fmt).items()),
        "  subtype code_t is std_logic_vector(BITS - 1 downto 0);",
    ]
    for what, code in _special(fmt).items():
        if what in ("NAN", "INFINITY", "NEGATIVE_ZERO"):
            lines.append(f"  constant HAS_{what} : boolean := {str(code is not None).lower()};")
        if code is not None:
            lines.append(f"  constant {what} : code_t := {_vhdl_bits(code, fmt.bits)};")
    declared, body = (_vhdl_tables(fmt), _vhdl_body(name)) if tables else ([], [])
    return "\n".join([*lines, *declared, f"end package {name}_pkg;", "", *body])


def _vhdl_bits(value: int, width: int) -> str:
    return f'x"{value:0{width // 4}x}"' if width % 4 == 0 else f'"{value:0{width}b}"'


def _vhdl_tables(fmt: Format) -> list[str]:
    table, count = fixed_table(fmt), fmt.values.size
    lines = [
        "  subtype magnitude_t is unsigned(MAGNITUDE_WIDTH - 1 downto 0);",
        "  type code_table is array (0 to 2**BITS - 1) of code_t;",
        "  type magnitude_table is array (0 to 2**BITS - 1) of magnitude_t;",
    ]
    for what, mask in _masks(fmt).items():
        text = "".join(str(int(there)) for there in mask)
        lines.append(f'  constant {what} : std_logic_vector(0 to {count - 1}) := "{text}";')
    elements = [_vhdl_bits(magnitude, table.width) for magnitude in table.magnitudes]
    lines += ["  constant MAGNITUDES : magnitude_table := (", *_rows(elements, len(elements[0]) + 1), "  );"]
    elements = [_vhdl_bits(code, fmt.bits) for code in fmt.canonical.tolist()]
    lines += ["  constant CANONICAL : code_table := (", *_rows(elements, len(elements[0]) + 1), "  );"]
    return [*lines, "  function magnitude(code : code_t) return magnitude_t;"]


def _vhdl_body(name: str) -> list[str]:
    return [
        f"package body {name}_pkg is",
        "  function magnitude(code : code_t) return magnitude_t is",
        "  begin",
        "    return MAGNITUDES(to_integer(unsigned(code)));",
        "  end function;",
        f"end package body {name}_pkg;",
        "",
    ]


def vhdl_testbench(fmt: str | Format) -> str:
    """Return a VHDL-2008 testbench that compares a package with tables with ``vectors/<name>_codes.txt``, line by line.

    A line holds in binary: code, sign, NaN, infinity, canonical code, magnitude.
    """
    name = identifier(get_format(fmt))
    return f"""-- Generated. The package of {name} against vectors/{name}_codes.txt. Run it in the folder of vectors/.
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;
use std.textio.all;
use work.{name}_pkg.all;

entity tb_{name}_pkg is
end entity;

architecture test of tb_{name}_pkg is
begin
  process
    file vectors : text open read_mode is "vectors/{name}_codes.txt";
    variable row : line;
    variable code, canon : bit_vector(BITS - 1 downto 0);
    variable flags : bit_vector(0 to 2);
    variable value : bit_vector(MAGNITUDE_WIDTH - 1 downto 0);
    variable index, seen, wrong : natural := 0;
  begin
    while not endfile(vectors) loop
      readline(vectors, row);
      read(row, code);
      read(row, flags);
      read(row, canon);
      read(row, value);
      index := to_integer(unsigned(to_stdlogicvector(code)));
      if std_logic_vector'(NEGATIVE(index), IS_NAN(index), IS_INFINITE(index)) /= to_stdlogicvector(flags)
          or CANONICAL(index) /= to_stdlogicvector(canon)
          or magnitude(to_stdlogicvector(code)) /= unsigned(to_stdlogicvector(value)) then
        report "code " & integer'image(index) & " differs" severity warning;
        wrong := wrong + 1;
      end if;
      seen := seen + 1;
    end loop;
    assert seen = 2**BITS report "the vectors are not complete" severity failure;
    assert wrong = 0 report integer'image(wrong) & " codes differ" severity failure;
    report "PASSED";
    wait;
  end process;
end architecture;
"""


def code_lines(fmt: str | Format) -> str:
    """Return the vectors of `vhdl_testbench`."""
    fmt = get_format(fmt)
    table, masks = fixed_table(fmt), _masks(fmt)
    rows = zip(
        masks["NEGATIVE"], masks["IS_NAN"], masks["IS_INFINITE"], fmt.canonical.tolist(), table.magnitudes, strict=True
    )
    return "".join(
        f"{code:0{fmt.bits}b} {sign:b}{nan:b}{infinite:b} {canonical:0{fmt.bits}b} {magnitude:0{table.width}b}\n"
        for code, (sign, nan, infinite, canonical, magnitude) in enumerate(rows)
    )
