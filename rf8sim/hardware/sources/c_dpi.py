"""The functions of a C header for SystemVerilog: a C file that exports them, and the package that imports them."""

from __future__ import annotations

from collections.abc import Sequence

from ...formats import Format, get_format
from .c_arithmetic import sum_words
from .c_header import c_constants
from .packages import identifier

__all__ = ["c_dpi", "dpi_package"]

_HOW = "int rounding, int overflow"
# Of functions that return a code: their arguments, CODE standing for its type.
_FUNCTIONS = {
    "encode": f"double x, {_HOW}",
    "encode_fixed": f"long long x, int fraction, {_HOW}",
    "encode_stochastic": "double x, unsigned int word, int bits, int variant, int overflow",
    **dict.fromkeys(("add", "subtract", "multiply", "divide"), f"CODE a, CODE b, {_HOW}"),
    "fma": f"CODE a, CODE b, CODE c, {_HOW}",
}
_SV_TYPES = {"double": "real", "long long": "longint", "unsigned int": "int unsigned", "int": "int"}

_C = """\
/* {name} for SystemVerilog's DPI: import them with {prefix}_dpi_pkg.sv. Generated. */
#include "{prefix}.h"

#ifdef __cplusplus /* Verilator compiles C as C++ */
extern "C" {{
#endif
double {prefix}_dpi_decode({code} code) {{ return {prefix}_decode(code); }}
{functions}
/* A sum is a vector of bits: the words of {prefix}_sum. */
void {prefix}_dpi_accumulate(uint32_t *words, {code} a, {code} b) {{
    {prefix}_sum sum;
    memcpy(sum.words, words, sizeof sum.words);
    {prefix}_accumulate(&sum, a, b);
    memcpy(words, sum.words, sizeof sum.words);
}}
{code} {prefix}_dpi_round_sum(const uint32_t *words, int rounding, int overflow) {{
    {prefix}_sum sum;
    memcpy(sum.words, words, sizeof sum.words);
    return {prefix}_round_sum(&sum, rounding, overflow);
}}
#ifdef __cplusplus
}}
#endif
"""

_PACKAGE = """\
// {name} by its C functions, for simulators with DPI (Verilator and the commercial ones; Icarus has none). Generated.
package {prefix}_dpi_pkg;
{choices}
  import "DPI-C" function real {prefix}_dpi_decode(input {code} code);
{functions}

  // An exact sum of products; it starts as 0.
  typedef bit [{top}:0] {prefix}_sum;
  import "DPI-C" function void {prefix}_dpi_accumulate(inout bit [{top}:0] sum, input {code} a, input {code} b);
  import "DPI-C" function {code} {prefix}_dpi_round_sum(
      input bit [{top}:0] sum, input int rounding, input int overflow);

  // The sum of the products of two arrays of one size, rounded once.
  function automatic {code} {prefix}_dpi_dot(
      input {code} a[], input {code} b[], input int rounding, input int overflow);
    {prefix}_sum sum = '0;
    for (int lane = 0; lane < a.size(); lane++) {prefix}_dpi_accumulate(sum, a[lane], b[lane]);
    return {prefix}_dpi_round_sum(sum, rounding, overflow);
  endfunction
endpackage
"""


def _arguments(text: str) -> list[tuple[str, str]]:
    """Return the type and the name of each argument."""
    pairs = [argument.rpartition(" ") for argument in text.split(", ")]
    return [(kind, name) for kind, _, name in pairs]


def _c_function(prefix: str, name: str, arguments: Sequence[tuple[str, str]], code: str) -> str:
    taken = ", ".join(f"{kind} {argument}" for kind, argument in arguments).replace("CODE", code)
    passed = ", ".join(argument for _, argument in arguments)
    return f"{code} {prefix}_dpi_{name}({taken}) {{\n    return {prefix}_{name}({passed});\n}}"


def _sv_import(prefix: str, name: str, arguments: Sequence[tuple[str, str]], code: str) -> str:
    inputs = ", ".join(
        f"input {code if kind == 'CODE' else _SV_TYPES[kind]} {argument}" for kind, argument in arguments
    )
    line = f'  import "DPI-C" function {code} {prefix}_dpi_{name}({inputs});'
    return line if len(line) <= 120 else line.replace(f"_dpi_{name}(", f"_dpi_{name}(\n      ")


def c_dpi(fmt: str | Format) -> str:
    """Return a C file that exports the header's functions under names that DPI can import.

    Examples
    --------
    >>> "rf8_dpi_multiply" in c_dpi("rf8")
    True
    """
    fmt = get_format(fmt)
    prefix, code = identifier(fmt), "unsigned char" if fmt.bits <= 8 else "unsigned short"
    functions = [_c_function(prefix, name, _arguments(text), code) for name, text in _FUNCTIONS.items()]
    return _C.format(name=fmt.name, prefix=prefix, code=code, functions="\n".join(functions))


def dpi_package(fmt: str | Format) -> str:
    """Return the SystemVerilog package that imports `c_dpi`.

    Its function ``rf8_dpi_dot`` takes dynamic arrays; sums of products that go on take ``rf8_dpi_accumulate``.

    Examples
    --------
    >>> "RF8_RESIDUAL = 6" in dpi_package("rf8")
    True
    """
    fmt = get_format(fmt)
    prefix, code = identifier(fmt), "byte unsigned" if fmt.bits <= 8 else "shortint unsigned"
    variants = [f"{prefix.upper()}_STOCHASTIC_{variant} = {index}" for index, variant in enumerate("ABC")]
    constants = [f"  localparam int {constant};" for group in (*c_constants(fmt), variants) for constant in group]
    functions = [_sv_import(prefix, name, _arguments(text), code) for name, text in _FUNCTIONS.items()]
    fields = {"choices": "\n".join(constants), "functions": "\n".join(functions)}
    return _PACKAGE.format(name=fmt.name, prefix=prefix, code=code, top=32 * (sum_words(fmt)[0] + 1) - 1, **fields)
