"""A format as a C99 header: decode, encode from floats and fixed point, arithmetic; exact, and nothing to link."""

from __future__ import annotations

from collections.abc import Sequence

from ...codec.boundaries import boundaries
from ...codec.rounding import Overflow, Rounding, RoundingMode, fits
from ...codec.thresholds import overflow_code
from ...formats import Format, get_format
from .c_arithmetic import c_arithmetic, first_above
from .c_header_wide import computes_thresholds, wide_c_header
from .c_tables import ENCODE, c_number, rows
from .packages import identifier

__all__ = ["c_constants", "c_header"]

_MODES: tuple[RoundingMode, ...] = tuple(mode for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC)
_ABOVE_ZERO = (-32767, 0)  # the threshold of every magnitude but zero

_TEMPLATE = """\
/* {name}: {description}. Generated.
 *
 * Exact: {prefix}_encode sees the value of a double (a float converts to one exactly), {prefix}_encode_fixed that of
 * x * 2^-fraction, for all 64 bits, and each rounds once, by integer comparisons with the format's thresholds.
 * C99, nothing to link. {nan_note} */
#ifndef {guard}_H
#define {guard}_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* How to round, and what a number beyond the largest value becomes. */
enum {{ {modes} }};
enum {{ {overflows} }};

/* The upper neighbour is taken from octave.significand on: significand / 2^63 * 2^octave, rounded up to 64 bits. */
typedef struct {{ int16_t octave; uint64_t significand; }} {prefix}_threshold;

static const double {prefix}_values[{count}] = {{
{values}
}};
static const {code} {prefix}_canonicals[{count}] = {{
{canonicals}
}};
/* By sign: canonical codes of ascending magnitude. */
static const {code} {prefix}_ladder[2][{ladder_length}] = {{
{ladder}
}};
static const int {prefix}_ladder_length[2] = {{{lengths}}};
/* What finite numbers beyond the largest value become, by rounding, overflow option and sign; and infinities. */
static const {code} {prefix}_beyond[{mode_count}][{overflow_count}][2] = {{{beyond}}};
static const {code} {prefix}_infinite[{overflow_count}][2] = {{{infinite}}};
static const int {prefix}_threshold_count[2] = {{{threshold_lengths}}};
static const {prefix}_threshold {prefix}_thresholds[{mode_count}][2][{threshold_length}] = {{
{thresholds}
}};

static inline double {prefix}_decode({code} code) {{ return {prefix}_values[code{mask}]; }}

/* The code that an encoder produces for the same value. */
static inline {code} {prefix}_canonical({code} code) {{ return {prefix}_canonicals[code{mask}]; }}

static inline {code} {prefix}_place(int negative, int octave, uint64_t significand, int rounding, int overflow) {{
    const {prefix}_threshold *thresholds = {prefix}_thresholds[rounding][negative];
    int low = 0, high = {prefix}_threshold_count[negative];
    while (low < high) {{
        int middle = (low + high) / 2;
        {prefix}_threshold at = thresholds[middle];
        if (octave > at.octave || (octave == at.octave && significand >= at.significand)) low = middle + 1;
        else high = middle;
    }}
    if (low >= {prefix}_ladder_length[negative]) return {prefix}_beyond[rounding][overflow][negative];
    return {prefix}_ladder[negative][low];
}}

"""


def _hex(fmt: Format, code: int) -> str:
    return f"0x{code:0{2 * fmt.code_dtype.itemsize}x}"


def _code_type(fmt: Format) -> str:
    return f"uint{8 * fmt.code_dtype.itemsize}_t"


def _choices(fmt: Format) -> tuple[list[RoundingMode], list[Overflow]]:
    modes = [mode for mode in _MODES if mode is not RoundingMode.RESIDUAL or fmt.depth is not None]
    # Below an unsigned format's zero the tables have one threshold, for all options.
    options = [option for option in Overflow if fmt.signed or option is not Overflow.IEEE]
    return modes, [option for option in options if fits(fmt, Rounding(overflow=option))]


def c_constants(fmt: Format) -> tuple[list[str], list[str]]:
    """Return the constants of rounding modes and of overflow options, each with its number.

    Examples
    --------
    >>> c_constants(get_format("rf8"))[1]
    ['RF8_OVERFLOW_SATURATE = 0', 'RF8_OVERFLOW_IEEE = 1', 'RF8_OVERFLOW_NAN = 2']
    """
    prefix = identifier(fmt).upper()
    modes, options = _choices(fmt)
    return (
        [f"{prefix}_{mode.value.upper().replace('-', '_')} = {index}" for index, mode in enumerate(modes)],
        [f"{prefix}_OVERFLOW_{option.upper()} = {index}" for index, option in enumerate(options)],
    )


def _overflow_tables(fmt: Format, modes: Sequence[RoundingMode], options: Sequence[Overflow]) -> dict[str, str]:
    """Return what is beyond the largest value, by mode, option and sign, and what infinities become, as C."""

    def row(mode: RoundingMode | None) -> str:
        pairs = ([_hex(fmt, overflow_code(fmt, option, negative, mode)) for negative in (False, True)]
                 for option in options)  # fmt: skip
        return ", ".join(f"{{{', '.join(pair)}}}" for pair in pairs)

    return {"beyond": ", ".join(f"{{{row(mode)}}}" for mode in modes), "infinite": row(None)}


def c_header(fmt: str | Format) -> str:
    """Return a C99 header of a format, every function ``static inline`` and exact.

    With ``rf8`` for the format's name: ``rf8_decode``, ``rf8_canonical``, ``rf8_encode`` (from double or float),
    ``rf8_encode_fixed`` (from 64-bit fixed point), ``rf8_add``, ``rf8_subtract``, ``rf8_multiply``, ``rf8_divide``,
    ``rf8_fma`` and ``rf8_dot``, in every deterministic rounding mode of the format, with every overflow option that it
    has (``ieee`` for signed ones only); ``rf8_encode_stochastic`` with a random word; and ``rf8_accumulate`` and
    ``rf8_round_sum``, an exact sum of products. Codes are ``uint8_t``, those of more
    than 8 bits ``uint16_t``. Headers of more than 8 bits have tables of up to a megabyte; of the RF family, whose
    thresholds are irrational, several megabytes.

    Parameters
    ----------
    fmt : str or Format
        The format.

    Returns
    -------
    str
        The header.

    Examples
    --------
    >>> "static inline uint8_t rf8_multiply(uint8_t a, uint8_t b, int rounding, int overflow)" in c_header("rf8")
    True
    """
    fmt = get_format(fmt)
    prefix = identifier(fmt)
    modes, options = _choices(fmt)
    mode_names, option_names = c_constants(fmt)
    fields = {
        "name": fmt.name,
        "description": fmt.description.replace("*/", "* /"),
        "prefix": prefix,
        "guard": prefix.upper(),
        "nan_note": "NaN gives NaN."
        if fmt.nan is not None
        else "The format has no NaN: do not encode one (it gives 0).",
        **_overflow_tables(fmt, modes, options),
        "nan_code": _hex(fmt, fmt.nan) if fmt.nan is not None else f"{prefix}_ladder[0][0]",
    }
    computed = computes_thresholds(fmt)
    if computed:
        text = wide_c_header(fmt, (mode_names, option_names), (modes, options), fields)
    else:
        text = _with_thresholds(fmt, modes, options, fields)
    return text + c_arithmetic(fmt, prefix, modes, options, computed) + "\n#endif\n"


def _with_thresholds(
    fmt: Format, modes: Sequence[RoundingMode], options: Sequence[Overflow], fields: dict[str, str]
) -> str:
    """Return the header up to `multiply`, with tables of thresholds."""
    mode_names, option_names = c_constants(fmt)
    placed = {mode: [_thresholds(fmt, mode, negative) for negative in (False, True)] for mode in modes}
    threshold_length = max(len(side) for sides in placed.values() for side in sides)
    lengths = [side.codes.size for side in fmt.sides]
    first = placed[modes[0]]
    return (_TEMPLATE + ENCODE).format(
        **fields,
        code=_code_type(fmt),
        modes=", ".join(mode_names),
        overflows=", ".join(option_names),
        count=fmt.values.size,
        mask="" if fmt.bits in (8, 16) else f" & {fmt.values.size - 1}",
        values=rows([c_number(value) for value in fmt.values.tolist()]),
        canonicals=rows([_hex(fmt, code) for code in fmt.canonical.tolist()]),
        ladder_length=max(lengths),
        ladder=",\n".join(
            f"  {{\n{rows([_hex(fmt, code) for code in side.codes.tolist()])}\n  }}" for side in fmt.sides
        ),
        lengths=", ".join(map(str, lengths)),
        overflow_count=len(options),
        threshold_lengths=", ".join(str(len(side)) for side in first),
        mode_count=len(modes),
        threshold_length=max(threshold_length, 1),
        thresholds=",\n".join(_c_thresholds(mode, sides) for mode, sides in placed.items()),
    )


def _thresholds(fmt: Format, mode: RoundingMode, negative: bool) -> list[tuple[int, int]]:
    if negative and not fmt.signed:  # every negative number is out of range
        return [_ABOVE_ZERO]
    return [first_above(boundary) for boundary in boundaries(fmt, mode, negative)]


def _c_thresholds(mode: RoundingMode, sides: list[list[tuple[int, int]]]) -> str:
    tables = [rows([f"{{{octave}, {significand:#x}u}}" for octave, significand in side or [(0, 0)]]) for side in sides]
    return "  {" + ",\n   ".join(f"{{\n{table}\n   }}" for table in tables) + f"}} /* {mode.value} */"
