"""Faults in the handling of codes: fields misread or miswritten, aliases, zeros, NaN, another format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.codec import whole_table
from ...codec.rounding import Rounding, fits
from ...formats import Format, format_names, get_format
from ..golden.golden import Golden
from ..golden.ports import Codes, Fixed, Patterns, Port
from .faults import (  # fmt: skip
    Found,
    Hypothesis,
    code_ports,
    codes_per_octave,
    computed_by,
    exact_of,
    is_exact,
    misread,
    residual_fields,
    with_codes,
    with_exact,
    with_result,
    words_of,
)

__all__ = ["FAMILIES"]


def _aliases(model: Golden) -> Found:
    if model.into is not None:
        fmt = model.into
        codes = np.arange(1 << fmt.bits)
        alias = (fmt.canonical != codes) & np.isfinite(fmt.values)
        if alias.any():
            table = codes.copy()
            table[fmt.canonical[alias]] = codes[alias]
            yield Hypothesis(
                "aliases not canonical", "the design answers the alias where the canonical code is asked",
                with_codes(model, table),
            )  # fmt: skip

    def without(value: float) -> Callable[[Format], NDArray[np.float64] | None]:
        def table(fmt: Format) -> NDArray[np.float64] | None:
            alias = (fmt.canonical != np.arange(1 << fmt.bits)) & np.isfinite(fmt.values)
            return np.where(alias, value * np.sign(fmt.values), fmt.values) if alias.any() else None

        return table

    yield from misread(model, "aliases read as zero", "aliases of {} are read as zero", without(0.0))
    yield from misread(model, "aliases read as NaN", "aliases of {} are read as NaN", without(np.nan))


def _residual(model: Golden) -> Found:
    """Faults of the RF family's residual field: misread in an operand, miswritten in the result."""

    def misread_by(change: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> Any:
        def table(fmt: Format) -> NDArray[np.float64] | None:
            if fmt.depth is None:
                return None
            codes, mask = residual_fields(fmt)
            power = np.abs(fmt.values[codes - (codes & mask) + fmt.depth - 1])
            other = np.copysign(change(power, np.abs(fmt.values) - power), fmt.values)
            return np.where(np.isfinite(fmt.values) & (fmt.values != 0), other, fmt.values)

        return table

    for name, what, change in (
        ("sign of residual", "the sign of the residual is inverted when {} is read", lambda p, d: p - d),
        ("sign of residual lost", "negative residuals of {} are read as positive", lambda p, d: p + np.abs(d)),
        ("residual ignored", "the residual of {} is ignored: only the power of two is read", lambda p, d: p + 0 * d),
    ):
        yield from misread(model, name, what, misread_by(change))

    def shifted(fmt: Format, by: int) -> NDArray[np.int64]:
        codes, mask = residual_fields(fmt)
        fits = ((codes & mask) + by >= 0) & ((codes & mask) + by <= mask)
        return np.where(fits & np.isfinite(fmt.values) & (fmt.values != 0), codes + by, codes)

    for by, word in ((1, "large"), (-1, "small")):
        name = f"residual one too {word}"
        yield from misread(
            model, name, f"the residual field of {{}} is read one too {word}",
            lambda fmt, by=by: None if fmt.depth is None else fmt.values[shifted(fmt, by)],  # type: ignore[misc]
        )  # fmt: skip
        if model.into is not None and model.into.depth is not None:
            table = shifted(model.into, by)
            sentence = f"the residual field of the result is one too {word}"
            yield Hypothesis(f"{name} in the result", sentence, with_codes(model, table))
    if model.into is not None and model.into.depth is not None:
        codes, mask = residual_fields(model.into)
        inverted = (codes & ~mask) | (2 * (model.into.depth - 1) - (codes & mask) & mask)
        table = np.where(np.isfinite(model.into.values) & (model.into.values != 0), inverted, codes)
        sentence = "the sign of the residual is inverted in the result"
        yield Hypothesis("sign of residual in the result", sentence, with_codes(model, table))


def _exponent(model: Golden) -> Found:
    for by, word in ((1, "large"), (-1, "small")):
        if not isinstance(model.result.kind, Fixed) and not is_exact(model):
            yield Hypothesis(
                f"exponent one too {word}",
                f"the exponent is one too {word}: results are {'twice' if by > 0 else 'half'} of what they should be",
                with_exact(model, lambda values, by=by: np.ldexp(values, by)),  # type: ignore[misc]
            )  # fmt: skip
        elif isinstance(model.result.kind, Fixed):
            kind = model.result.kind

            def shifted(results: Patterns, by: int = by, kind: Fixed = kind) -> Patterns:
                integers = kind.integers(results)
                return kind.wrapped(integers << 1 if by > 0 else integers >> 1)

            yield Hypothesis(f"exponent one too {word}", f"the exponent is one too {word}", with_result(model, shifted))

        def scaled(fmt: Format, by: int = by) -> NDArray[np.float64] | None:
            return fmt.values * 2.0**by

        yield from misread(model, f"exponent one too {word}", f"the exponent of {{}} is read one too {word}", scaled)
        if model.into is not None:
            step = codes_per_octave(model.into)
            for far, what in ((step, "exponent field"), (1, "code")):
                if far is not None:
                    yield Hypothesis(
                        f"{what} of the result one too {word}", f"the {what} of the result is one too {word}",
                        with_codes(model, _moved_codes(model.into, by * far)),
                    )  # fmt: skip


def _moved_codes(fmt: Format, by: int) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = np.arange(1 << fmt.bits)
    half = codes.size >> 1 if fmt.signed else codes.size
    magnitude = codes % half
    moved = magnitude + by
    fits = np.isfinite(fmt.values) & (fmt.values != 0) & (moved >= 0) & (moved < half)
    return np.where(fits, codes - magnitude + moved, codes)


def _hex(fmt: Format, code: int) -> str:
    return f"{code:0{max(-(-fmt.bits // 4), 2)}X}"


def _zeros_and_nans(model: Golden) -> Found:
    into = model.into
    if into is not None and into.signed:
        sign = 1 << (into.bits - 1)

        def minus(operands: Sequence[Patterns]) -> Patterns:
            exact = exact_of(model, operands)
            right = model.round(exact, words_of(model, operands)).results
            zero = (whole_table(into.values)[right] == 0) & np.signbit(exact.values)
            return np.where(zero, sign | (into.zero or 0), right).astype(right.dtype)

        yield Hypothesis(
            "sign kept on zero", f"a zero of a negative result keeps the sign bit: code {_hex(into, sign)}", minus
        )
        if into.negative_zero is not None:
            table = np.arange(1 << into.bits)
            table[into.negative_zero] = into.zero or 0
            yield Hypothesis("no negative zero", "-0 is answered as +0", with_codes(model, table))

    def number(fmt: Format) -> NDArray[np.float64] | None:
        """NaN as the formula of the family gives it: the residual format's 0 is its lowest alias, with a sign."""
        nan = np.isnan(fmt.values)
        if not nan.any():
            return None
        if fmt.depth is None:
            step = codes_per_octave(fmt)
            if step is None:
                return None
            codes = np.arange(1 << fmt.bits)
            return np.where(nan, fmt.values[codes - step] * 2, fmt.values)
        return np.where(nan, -fmt.smallest * 0.75 / (1 - 2.0 ** (1 - fmt.depth)) if fmt.depth > 2 else 0.0, fmt.values)

    yield from misread(model, "NaN read as a number", "NaN in {} is read as a number, by the formula", number)
    yield from misread(
        model, "NaN read as zero", "NaN in {} is read as zero",
        lambda fmt: np.nan_to_num(fmt.values, posinf=np.inf, neginf=-np.inf) if np.isnan(fmt.values).any() else None,
    )  # fmt: skip
    yield from misread(
        model, "infinity read as the largest", "infinities in {} are read as the largest value",
        lambda fmt: np.clip(fmt.values, fmt.min, fmt.max) if np.isinf(fmt.values).any() else None,
    )  # fmt: skip
    if into is not None and into.nan is not None:
        nan_codes = np.flatnonzero(np.isnan(into.values))
        for code in [*nan_codes[nan_codes != into.nan][-1:], int(into.sides[0].codes[-1]), into.zero]:
            if code is not None:
                table = np.arange(1 << into.bits)
                table[into.nan] = code
                yield Hypothesis(
                    f"NaN answered as {_hex(into, code)}",
                    f"where NaN is asked the design answers {_hex(into, code)}",
                    with_codes(model, table),
                )  # fmt: skip


def _subnormals(model: Golden) -> Found:
    def flushed(fmt: Format) -> NDArray[np.float64] | None:
        lowest = _lowest(fmt)
        return None if lowest is None else np.where(lowest, np.copysign(0.0, fmt.values), fmt.values)

    sentence = "the values of {} that have the lowest exponent field are read as zero"
    yield from misread(model, "subnormals flushed", sentence, flushed)
    into = model.into
    if into is not None and (lowest := _lowest(into)) is not None:
        minus = into.negative_zero if into.negative_zero is not None else into.zero or 0
        zero = np.where(np.signbit(into.values), minus, into.zero or 0)
        table = np.where(lowest, zero, np.arange(1 << into.bits))
        sentence = "results of the lowest exponent field become zero"
        yield Hypothesis("subnormal results flushed", sentence, with_codes(model, table))


def _lowest(fmt: Format) -> NDArray[np.bool_] | None:
    """Say which codes are of subnormal numbers, or of RF's lowest exponent field."""
    below = fmt.subnormals_below
    if below:
        is_low: NDArray[np.bool_] = np.isfinite(fmt.values) & (np.abs(fmt.values) < below) & (fmt.values != 0)
        return is_low if is_low.any() else None
    if fmt.depth is None:
        return None
    codes, mask = residual_fields(fmt)
    lowest: NDArray[np.bool_] = np.isfinite(fmt.values) & (fmt.values != 0)
    lowest &= codes & ((1 << (fmt.bits - 1)) - 1) <= mask
    return lowest


def _formats(model: Golden) -> Found:
    """Another format of the same width."""
    ports = code_ports(model)
    fmt = ports[0][2] if ports else model.into
    if fmt is None:
        return
    for name in format_names():
        other = get_format(name)
        if other.bits != fmt.bits or other == fmt or (other.nan is None and fmt.nan is not None):
            continue
        kind = Codes(other.name, other.bits, other)
        operands = tuple(
            Port(port.name, kind, port.lanes) if isinstance(port.kind, Codes) and port.kind.format == fmt else port
            for port in model.operands
        )
        result = Port("result", kind) if model.into == fmt else model.result
        rounding = model.rounding
        if not fits(other, Rounding(overflow=rounding.overflow)):
            rounding = replace(rounding, overflow="saturate")
        if rounding.mode == "residual" and other.depth is None:
            continue
        changed = model.changed(operands=operands, result=result, rounding=rounding)
        yield Hypothesis(
            f"computes in {name}", f"the design computes in {name} instead of {fmt.name}", computed_by(changed)
        )


FAMILIES = (_aliases, _zeros_and_nans, _residual, _exponent, _subnormals, _formats)
