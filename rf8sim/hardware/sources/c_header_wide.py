"""A format of 9 to 16 bits as a C99 header: as that of fewer bits, with thresholds computed where they are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...codec.boundaries import place
from ...codec.rounding import RoundingMode
from ...formats import Format
from .c_tables import ENCODE, c_number, rows

__all__ = ["computes_thresholds", "wide_c_header"]

_TEMPLATE = """\
/* {name}: {description}. Generated.
 *
 * Exact: {prefix}_encode sees the value of a double (a float converts to one exactly), {prefix}_encode_fixed that of
 * x * 2^-fraction, for all 64 bits, and each rounds once, by integer comparisons with the format's thresholds.
 * C99, nothing to link. The tables take {kilobytes} KiB. {nan_note} */
#ifndef {guard}_H
#define {guard}_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* How to round, and what a number beyond the largest value becomes. */
enum {{ {modes} }};
enum {{ {overflows} }};

static const {real} {prefix}_values[{count}] = {{
{values}
}};
/* By sign: canonical codes of ascending magnitude. */
static const uint16_t {prefix}_ladder[2][{ladder_length}] = {{
{ladder}
}};
static const int {prefix}_ladder_length[2] = {{{lengths}}};
static const int {prefix}_threshold_count[2] = {{{threshold_counts}}};
/* By sign: the next magnitude, were the format to go on. */
static const double {prefix}_next[2] = {{{next}}};
/* What finite numbers beyond the largest value become, by rounding, overflow option and sign; and infinities. */
static const uint16_t {prefix}_beyond[{mode_count}][{overflow_count}][2] = {{{beyond}}};
static const uint16_t {prefix}_infinite[{overflow_count}][2] = {{{infinite}}};
{tables}
static inline double {prefix}_decode(uint16_t code) {{ return (double){prefix}_values[code{mask}]; }}

/* The code that an encoder produces for the same value. */
static inline uint16_t {prefix}_canonical(uint16_t code) {{ {canonical} }}

/* The magnitude of a rank: its place on the ladder. */
static inline double {prefix}_magnitude(int negative, int rank) {{
    if (rank >= {prefix}_ladder_length[negative]) return {prefix}_next[negative];
    return fabs((double){prefix}_values[{prefix}_ladder[negative][rank]]);
}}

/* Whether significand / 2^63 * 2^octave is below (-1), at (0) or above (1) a number that is not negative. */
static inline int {prefix}_compare(int octave, uint64_t significand, double at) {{
    uint64_t pattern, other;
    int exponent;
    if (at <= 0.0) return 1;
    memcpy(&pattern, &at, sizeof pattern);
    exponent = (int)(pattern >> 52) - 1023;
    other = ((pattern & 0xfffffffffffffu) | 1ull << 52) << 11;
    if (octave != exponent) return octave > exponent ? 1 : -1;
    return significand > other ? 1 : significand == other ? 0 : -1;
}}

/* Whether a magnitude between those of two neighbouring ranks goes to the upper one. */
static inline int {prefix}_goes_up(int negative, int octave, uint64_t significand, int lower, int rounding) {{
    double below = {prefix}_magnitude(negative, lower), above = {prefix}_magnitude(negative, lower + 1);
    int order, inward = rounding == {guard}_TOWARD_ZERO;
    if (rounding == {guard}_NEAREST_EVEN || rounding == {guard}_NEAREST_AWAY) {{
        order = {prefix}_compare(octave, significand, {middle});
        return order > 0 || (order == 0 && ({ties_away}rounding == {guard}_NEAREST_AWAY || lower % 2));
    }}
    if (rounding == {guard}_UP) inward = negative;
    if (rounding == {guard}_DOWN) inward = !negative;
    if (rounding == {guard}_TO_ODD) inward = lower % 2;
    if (inward) return {prefix}_compare(octave, significand, above) >= 0;
    return {prefix}_compare(octave, significand, below) > 0;
}}

static inline uint16_t {prefix}_place(int negative, int octave, uint64_t significand, int rounding, int overflow) {{
    int low = 0, high = {prefix}_threshold_count[negative];
    while (low < high) {{
        int middle = (low + high) / 2;
        if ({prefix}_goes_up(negative, octave, significand, middle, rounding)) low = middle + 1;
        else high = middle;
    }}
    if ({unsigned}low >= {prefix}_ladder_length[negative]) return {prefix}_beyond[rounding][overflow][negative];
    return {prefix}_ladder[negative][low];
}}

"""


def computes_thresholds(fmt: Format) -> bool:
    """Return whether the header of a format computes its thresholds: all are values or float64 midpoints."""
    midpoints = (place(fmt, RoundingMode.NEAREST_EVEN, negative) for negative in (False, True)[: 1 + fmt.signed])
    return fmt.bits > 8 and fmt.depth is None and not any(side.rest.any() for side in midpoints)


def wide_c_header(
    fmt: Format,
    constants: tuple[Sequence[str], Sequence[str]],
    choices: tuple[Sequence[RoundingMode], Sequence[str]],
    fields: dict[str, str],
) -> str:
    """Return the header.

    Parameters
    ----------
    fmt : Format
        A format for which `computes_thresholds` holds.
    constants, choices : tuple of two sequences
        Of rounding modes and overflow options: the constants of the C enumerations, and what they stand for.
    fields : dict of str to str
        Fields of the template that headers of fewer bits have too.
    """
    (mode_names, option_names), (modes, options), prefix = constants, choices, fields["prefix"]
    finite = np.abs(fmt.values[np.isfinite(fmt.values) & (fmt.values != 0)])
    single = fmt.fits_float32 and bool(finite.min() >= 2.0**-126)  # a float that no mode of a processor flushes
    lengths = [side.codes.size for side in fmt.sides]
    tables, middle, canonical, size = _tables(fmt, prefix)
    size += fmt.values.size * (4 if single else 8) + 4 * max(lengths)
    grows = [1 if np.isfinite(side.beyond) else 0 for side in fmt.sides]
    signs = range(1 + fmt.signed)
    counts = [lengths[sign] - 1 + grows[sign] for sign in signs]
    return (_TEMPLATE + ENCODE).format(
        **fields,
        code="uint16_t",
        kilobytes=-(-size // 1024),
        modes=", ".join(mode_names),
        overflows=", ".join(option_names),
        real="float" if single else "double",
        count=fmt.values.size,
        mask="" if fmt.bits == 16 else f" & {fmt.values.size - 1}",
        values=rows([c_number(value, "f" if single else "") for value in fmt.values.tolist()]),
        ladder_length=max(lengths),
        ladder=",\n".join(
            f"  {{\n{rows([f'{code:#06x}' for code in side.codes.tolist()])}\n  }}" for side in fmt.sides
        ),
        lengths=", ".join(map(str, lengths)),
        threshold_counts=", ".join(map(str, [*counts, 0][:2])),
        next=", ".join(c_number(side.beyond) for side in fmt.sides),
        mode_count=len(modes),
        overflow_count=len(options),
        tables=tables,
        middle=middle,
        canonical=canonical,
        ties_away="1 || " if fmt.ties_away else "",
        unsigned="" if fmt.signed else "negative || ",
    )


def _tables(fmt: Format, prefix: str) -> tuple[str, str, str, int]:
    """Return further tables, where the nearest modes round, the body of ``canonical``, and the size of the tables."""
    tables, size = "", 0
    middle = "(below + above) / 2"
    if fmt.nearest_boundaries is not None:  # the first is 0: no number that is not zero becomes zero
        points = place(fmt, RoundingMode.NEAREST_EVEN, False).point
        tables += f"/* Where the nearest modes round. */\nstatic const double {prefix}_nearest[{points.size}] = {{\n"
        tables += rows([c_number(point) for point in points.tolist()]) + "\n};\n"
        middle = f"{prefix}_nearest[lower]"
        size += 8 * points.size
    mask = "" if fmt.bits == 16 else f" & {fmt.values.size - 1}"
    codes = np.arange(fmt.values.size)
    if np.any((fmt.canonical != codes) & ~np.isnan(fmt.values)):
        tables += f"static const uint16_t {prefix}_canonicals[{fmt.values.size}] = {{\n"
        tables += rows([f"{code:#06x}" for code in fmt.canonical.tolist()]) + "\n};\n"
        return tables, middle, f"return {prefix}_canonicals[code{mask}];", size + 2 * fmt.values.size
    masked = f"(uint16_t)(code{mask})" if mask else "code"
    if fmt.nan is None:
        return tables, middle, f"return {masked};", size
    return tables, middle, f"return isnan({prefix}_decode(code)) ? {fmt.nan:#06x} : {masked};", size
