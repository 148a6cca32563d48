"""Faults that are read off the answers: constants, echoes, bits that are exchanged, single codes, other NaNs.

There are too many of them to try each, and the answers say which one it would be. Each is then a hypothesis as any
other, proved only by predicting every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..golden.golden import Golden
from ..golden.ports import Codes, Kind, Patterns
from .faults import Found, Hypothesis, computed_by, with_result

__all__ = ["difference", "inferred"]

_CODES = 4  # codes that are named
_EXHAUSTIVE = 1 << 16


def inferred(model: Golden, operands: Sequence[Patterns], right: Patterns, got: Patterns) -> Found:
    """Yield hypotheses that the answers suggest.

    Parameters
    ----------
    model : Golden
        What is right.
    operands : sequence of ndarray
        Bit patterns of vectors that were answered.
    right, got : ndarray
        The right answers to them, and the design's.
    """
    wrong = right != got
    if not wrong.any():
        return
    yield from _constant(model, got)
    yield from _echo(model)
    yield from _bits(model, right, got)
    yield from _codes(model, right[wrong], got[wrong])
    if not model.streams:
        yield from _misread(model, operands, got, wrong)


def _constant(model: Golden, got: Patterns) -> Found:
    value = got[0]
    if (got == value).all():
        shown = f"{int(value):0{model.result.digits}X}"
        yield Hypothesis(
            "constant", f"the result is always {shown}", lambda operands: np.full(len(operands[0]), value, got.dtype)
        )


def _echo(model: Golden) -> Found:
    for place, port in enumerate(model.operands):
        if port.lanes == 1 and port.bits == model.result.bits:

            def answer(operands: Sequence[Patterns], place: int = place) -> Patterns:
                return operands[place].copy()

            yield Hypothesis(f"echo of {port.name}", f"the result is operand {port.name} itself", answer)


def _bits(model: Golden, right: Patterns, got: Patterns) -> Found:
    """Each bit of the answer is a bit of the right one, perhaps inverted."""
    bits = model.result.bits
    ones = [(pattern >> pattern.dtype.type(bit) & pattern.dtype.type(1)).astype(np.bool_)
            for pattern in (right, got) for bit in range(bits)]  # fmt: skip
    wanted, answered = ones[:bits], ones[bits:]
    source, inverted = [], []
    for bit in range(bits):
        order = [bit, *(other for other in range(bits) if other != bit)]
        same = next((other for other in order if np.array_equal(answered[bit], wanted[other])), None)
        opposite = None
        if same is None:
            opposite = next((other for other in order if np.array_equal(answered[bit], ~wanted[other])), None)
        chosen = same if same is not None else opposite
        if chosen is None:
            return
        source.append(chosen)
        inverted.append(same is None)
    if len(set(source)) < bits or (source == list(range(bits)) and not any(inverted)):
        return
    flipped = [bit for bit in range(bits) if inverted[bit]]
    moved = [bit for bit in range(bits) if source[bit] != bit]
    if moved and flipped:
        return
    if flipped:
        which = f"bit{'s' * (len(flipped) > 1)} {', '.join(map(str, flipped))} of the result"
        if len(flipped) == bits:
            which = "every bit of the result"
        name, sentence = (
            f"inverted {which}",
            f"{which} {'is' if len(flipped) == 1 or bits == len(flipped) else 'are'} inverted",
        )
    elif source == list(range(bits))[::-1]:
        name, sentence = "bits reversed", "the bits of the result are in reverse order"
    elif len(moved) == 2:
        name = f"bits {moved[0]} and {moved[1]} of the result swapped"
        sentence = f"bits {moved[0]} and {moved[1]} of the result are swapped"
    elif bits % 2 == 0 and source == [(bit + bits // 2) % bits for bit in range(bits)]:
        name, sentence = "halves swapped", "the halves of the result are swapped"
    else:
        name = "bits permuted"
        sentence = f"the bits of the result are permuted: from bit 0 on they are bits {', '.join(map(str, source))}"

    def permuted(results: Patterns) -> Patterns:
        out = np.zeros_like(results)
        kind = results.dtype.type
        for bit in range(bits):
            level = results >> kind(source[bit]) & kind(1)
            out |= (level ^ kind(inverted[bit])) << kind(bit)
        return out

    yield Hypothesis(name, sentence, with_result(model, permuted))


def _codes(model: Golden, right: Patterns, got: Patterns) -> Found:
    """Yield that a few right results are answered as others."""
    pairs = np.unique(np.stack([right.astype(np.uint64), got.astype(np.uint64)]), axis=1)
    if pairs.shape[1] > _CODES or np.unique(pairs[0]).size < pairs.shape[1]:
        return
    digits = model.result.digits
    pairs_shown = [(f"{int(a):0{digits}X}", f"{int(b):0{digits}X}") for a, b in pairs.T]
    is_nan = model.result.kind.is_nan(np.concatenate([right, got])).all()

    def answer(results: Patterns) -> Patterns:
        out = results.copy()
        for a, b in pairs.T:
            out[results == results.dtype.type(a)] = results.dtype.type(b)
        return out

    if is_nan:
        wanted, other = pairs_shown[0]
        yield Hypothesis(
            f"NaN answered as {other}",
            f"NaN is answered as {other}, another NaN than the canonical {wanted}, which --any-nan accepts",
            with_result(model, answer),
        )
        return
    words = ", ".join(f"{a} answered as {b}" for a, b in pairs_shown)
    sentence = "the result " + words.replace(" answered", " is answered")
    yield Hypothesis(f"code {words}", sentence, with_result(model, answer))


def _misread(model: Golden, operands: Sequence[Patterns], got: Patterns, wrong: NDArray[np.bool_]) -> Found:
    """One code of an operand is read as another."""
    for place, port in enumerate(model.operands):
        if not isinstance(port.kind, Codes) or port.lanes > 1 or port.bits > 8:
            continue
        codes = np.unique(operands[place][wrong])
        if codes.size != 1:
            continue
        code = codes[0]
        chosen = np.flatnonzero(wrong)[:64]
        few = [patterns[chosen] for patterns in operands]
        for other in range(1 << port.bits):
            few[place] = np.full(chosen.size, other, operands[place].dtype)
            if other != code and np.array_equal(model.compute(few)[0].results, got[chosen]):
                read = _reading(model, place, int(code), other)
                name = f"{int(code):02X} of {port.name} read as {other:02X}"
                yield Hypothesis(name, f"operand {port.name} = {int(code):02X} is read as {other:02X}", read)
                break


def _reading(model: Golden, place: int, code: int, other: int) -> Callable[[Sequence[Patterns]], Patterns]:
    right = computed_by(model)

    def answer(operands: Sequence[Patterns]) -> Patterns:
        changed = list(operands)
        kind = operands[place].dtype.type
        changed[place] = np.where(operands[place] == kind(code), kind(other), operands[place])
        return right(changed)

    return answer


def difference(kind: Kind, right: Patterns, got: Patterns, digits: int) -> str:
    """Say how wrong answers differ from the right ones, if all do in one way; else nothing."""
    from .comparison import places

    if not right.size:
        return ""
    if (got == got[0]).all() and right.size > 1:
        return f"the answer is always {int(got[0]):0{digits}X}"
    changed = right ^ got
    if (changed == changed[0]).all():
        bits = [bit for bit in range(kind.bits) if int(changed[0]) >> bit & 1]
        if len(bits) == 1:
            return f"bit {bits[0]} of the result is inverted"
    off, sense = places(kind, got, right)
    if sense.all():
        for sign, word in ((1, "high"), (-1, "low")):
            away = sign * off
            if (away == away[0]).all() and away[0] > 0:
                return f"the answer is {int(away[0]):,} place{'s' * (int(away[0]) != 1)} too {word}"
        if (off > 0).all() or (off < 0).all():
            return f"the answer is too {'high' if off[0] > 0 else 'low'}"
    return ""
