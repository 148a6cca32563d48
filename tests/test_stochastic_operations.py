"""Stochastic rounding of operations: the exact fraction of every pair, the words that decide, flags, arrays."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from arithmetic_oracle import DIVIDE_BY_ZERO, ONE, SELECTING, TWO, exact, formats_of, raised, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_helpers import overflows

import rf8sim
from rf8sim import reference
from rf8sim._base import threads as _parallel
from rf8sim.arithmetic.codes import DrawTable, Flags, draw_table
from rf8sim.formats import Format, format_names, get_format
from rf8sim.reference import Number

# Operands, and the result. The gaps of nf4 and lns8 are no powers of two, sums of e8m0fnu have more than 53 bits.
FORMATS = [
    ("rf8", "rf8", "rf8"),
    ("e4m3fn", "e4m3fn", "e4m3fn"),
    ("e5m2", "e5m2", "e5m2"),
    pytest.param("e5m2", "rf8", "uint8", marks=pytest.mark.slow),
    ("rf8", "rf8", "nf4"),
    pytest.param("e8m0fnu", "lns8", "lns8", marks=pytest.mark.slow),
]
OPTIONS = {"rounding": "stochastic"}


def by_words(**fields: object) -> rf8sim.Rounding:
    return rf8sim.Rounding("stochastic", **fields)


def drawn(
    operation: str, result: Number, own: int, into: Format, overflow: str, word: int, random_bits: int = 32
) -> tuple[int, int, bool]:
    """The oracle's code and flags for one word, and whether the result is a NaN that the format does not have."""
    if own & DIVIDE_BY_ZERO and (into.family == "p3109" or not np.isinf(into.values).any()):
        result = np.nan
    if result != result and into.nan is None:
        return 0, own, True
    if operation in SELECTING and np.isinf(float(result)) and np.isinf(into.values).any():
        return int(np.flatnonzero(into.values == result)[0]), own, False
    code, more = reference.round_with_flags(result, into, "stochastic", overflow, word, random_bits)
    return code, own | more, False


def check_draws(
    operation: str, table: DrawTable, places: np.ndarray, results: list[tuple[Number, int]], into: Format, overflow: str
) -> int:
    """Check a table for every word, by the oracle's answer to two: the last that stays below, and the next.

    The oracle takes the upper value where ``floor(p * 2**32) + word >= 2**32``, so it changes once as words grow.
    Returns how many results are drawn.
    """
    here = tuple(slice(size) for size in places.shape)
    codes, flags, fraction, missing, inexact = (column[here] for column in table)
    first = np.unique(places, return_index=True)[1]
    for column in (codes, flags, fraction, missing, inexact):  # one result, one entry
        np.testing.assert_array_equal(column, column.ravel()[first][places])
    count = 0
    # The places are those of the results: 0, 1, 2, ...
    entries = zip(*(column.ravel()[first].tolist() for column in (fraction, codes, flags, missing)), strict=True)
    for (result, own), (way, pair, raises, lacks) in zip(results, entries, strict=True):
        lower, upper = (pair & 0xFFFF, raises & 0xFFFF), (pair >> 16, raises >> 16)
        wanted = [(2**32 - 1 - way, lower), *([(2**32 - way, upper)] if way else [])]
        if lower == upper:
            assert not way
            wanted = [(0, lower), (2**32 - 1, upper)]
        count += lower != upper
        for word, entry in wanted:
            code, more, absent = drawn(operation, result, own, into, overflow, word)
            assert absent == lacks
            assert absent or entry == (code, more), (result, hex(word), entry, (code, more))
    return count


@pytest.mark.parametrize("operation", [*TWO, *ONE])
@pytest.mark.parametrize(("first", "second", "result"), FORMATS)
def test_the_fraction_of_every_pair_against_the_oracle(operation: str, first: str, second: str, result: str) -> None:
    formats, into = formats_of(operation, first, second), get_format(result)
    exactly = whole(operation, formats)
    for overflow in overflows(into):
        table = draw_table(operation, formats, result=result, rounding=rf8sim.Rounding("stochastic", overflow))
        count = check_draws(operation, table, exactly.index, exactly.results, into, overflow)
        moves = operation not in ("minimum", "maximum", "negate", "absolute", "convert") or first != result
        assert (count > 40) == (moves and result != "e8m0fnu")


def test_a_wrong_fraction_is_seen() -> None:
    """Negative control of the check above: one unit of 2**-32 in one result, one code, one flag."""
    fmt = get_format("rf8")
    exactly = whole("divide", (fmt, fmt))
    table = draw_table("divide", "rf8")
    check_draws("divide", table, exactly.index, exactly.results, fmt, "saturate")
    thirds = exactly.index == exactly.index[0x7B, 0x7F]  # 1 / 1.5
    for name, wrong in (
        ("fraction", table.fraction + np.where(thirds, np.uint32(1), np.uint32(0))),
        ("fraction", table.fraction - np.where(thirds, np.uint32(1), np.uint32(0))),
        ("codes", table.codes ^ np.where(thirds, np.uint32(1 << 16), np.uint32(0))),
        ("flags", table.flags ^ np.where(thirds, np.uint32(Flags.UNDERFLOW), np.uint32(0))),
    ):
        with pytest.raises(AssertionError):
            check_draws("divide", table._replace(**{name: wrong}), exactly.index, exactly.results, fmt, "saturate")


# ---------------------------------------------------------------- functions


@pytest.mark.parametrize("random_bits", [1, 5, 24, 32])
@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e5m2"])
def test_every_pair_with_given_words(name: str, random_bits: int) -> None:
    """All pairs by the adder's carry over the tables proved above, some of them by the oracle too."""
    fmt, rng = get_format(name), np.random.default_rng(random_bits)
    a, b = (x.ravel() for x in np.meshgrid(np.arange(256), np.arange(256), indexing="ij"))
    numbers = [reference.number(code, fmt) for code in range(256)]
    for operation in (*TWO, *ONE):
        operands = (a, b) if operation in TWO else (np.arange(256),)
        words = rng.integers(0, 2**32, operands[0].size, dtype=np.uint32)
        got, flags = getattr(rf8sim, operation)(
            *operands, name, rounding=by_words(words=words, bits=random_bits), flags=True
        )
        table = draw_table(operation, name)
        way = table.fraction[operands] >> (32 - random_bits)
        up = way.astype(np.int64) + (words & (2**random_bits - 1)) >= 2**random_bits
        for found, pairs in ((got, table.codes), (flags, table.flags)):
            np.testing.assert_array_equal(found, np.where(up, pairs[operands] >> 16, pairs[operands] & 0xFFFF))
        for i in rng.integers(0, operands[0].size, 300).tolist():
            these = tuple(numbers[x[i]] for x in operands)
            result = exact(operation, *these)
            own = raised(operation, these, result)
            wanted = drawn(operation, result, own, fmt, "saturate", int(words[i]), random_bits)
            assert (int(got[i]), int(flags[i])) == wanted[:2]


@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e5m2"])
def test_fma_of_every_pair(name: str) -> None:
    """Every pair with a third operand and a word that change from pair to pair."""
    fmt, rng = get_format(name), np.random.default_rng(11)
    codes = np.arange(256)
    numbers = [reference.number(code, fmt) for code in range(256)]
    third = rng.integers(0, 256, (256, 256))
    words = rng.integers(0, 2**32, (256, 256), dtype=np.uint32)
    got, flags = rf8sim.fma(codes[:, None], codes, third, name, rounding=by_words(words=words), flags=True)
    differ = 0
    for i in range(256):
        for j in range(i % 8, 256, 8):
            x, y, z = numbers[i], numbers[j], numbers[third[i, j]]
            result = reference.add(reference.multiply(x, y), z)
            own = int(Flags.INVALID) if result != result and not any(one != one for one in (x, y, z)) else 0
            assert (int(got[i, j]), int(flags[i, j])) == drawn("fma", result, own, fmt, "saturate", int(words[i, j]))[
                :2
            ]
            differ += int(got[i, j]) != drawn("fma", result, own, fmt, "saturate", 0)[0]
    assert differ > 1000


@given(data=st.data())
@settings(max_examples=250, deadline=None)
def test_fma_of_any_formats_at_the_word_that_decides(data: st.DataObject) -> None:
    fmts = [get_format(data.draw(st.sampled_from(format_names()))) for _ in range(3)]
    into = get_format(data.draw(st.sampled_from([name for name in format_names() if get_format(name).nan is not None])))
    codes = [data.draw(st.integers(0, (1 << fmt.bits) - 1)) for fmt in fmts]
    overflow = data.draw(st.sampled_from(overflows(into)))
    k = data.draw(st.integers(1, 32))
    x, y, z = (reference.number(code, fmt) for code, fmt in zip(codes, fmts, strict=True))
    result = reference.add(reference.multiply(x, y), z)
    own = int(Flags.INVALID) if result != result and not any(one != one for one in (x, y, z)) else 0
    word = data.draw(st.integers(0, 2**32 - 1))
    words = {word, *deciding_words(result, into, k)}
    for one in words:
        got = rf8sim.fma(
            *codes,
            tuple(fmts[:3]),
            result=into,
            rounding=by_words(overflow=overflow, words=np.uint32(one), bits=k),
            flags=True,
        )
        assert [int(part) for part in got] == list(drawn("fma", result, own, into, overflow, one, k)[:2])


def deciding_words(result: Number, into: Format, k: int) -> list[int]:
    """The last word with which a result stays at its lower neighbour and the first with which it does not."""
    if not isinstance(result, Fraction):
        return []
    magnitudes = [*reference.ladder(into, result < 0)[0], Fraction(into.beyond if np.isfinite(into.beyond) else 10**40)]
    m = abs(result)
    if not magnitudes[0] <= m < magnitudes[-1]:
        return []
    low = max(value for value in magnitudes if value <= m)
    high = min(value for value in magnitudes if value > m)
    way = int((m - low) / (high - low) * 2**k)
    return [2**k - 1 - way, *([2**k - way] if way else [])]


def test_words_follow_the_seed_and_the_flat_index() -> None:
    rng = np.random.default_rng(5)
    a, b, c = rng.integers(0, 256, (3, 7, 9), dtype=np.uint8)
    for seed, offset in ((0, 0), (2**40 + 1, 3), (7, 2**34 - 2)):
        words = rf8sim.random_words(seed, 63, offset).reshape(7, 9)
        for call in (
            lambda **o: rf8sim.divide(a, b, "rf8", rounding=by_words(**o)),
            lambda **o: rf8sim.sqrt(a, "e5m2", rounding=by_words(**o)),
            lambda **o: rf8sim.convert(a, "rf8", result="e5m2", rounding=by_words(**o)),
            lambda **o: rf8sim.fma(a, b, c, "rf8", rounding=by_words(**o)),
            lambda **o: rf8sim.add(a[:, :1], b[0], "rf8", rounding=by_words(**o)),  # words of the result's shape
        ):
            drawn_here = call(seed=seed, offset=offset)
            np.testing.assert_array_equal(drawn_here, call(words=words))
            assert np.any(drawn_here != call(seed=seed + 1, offset=offset))
    whole_array = rf8sim.divide(a, b, "rf8", rounding=by_words(seed=9))
    parts = [rf8sim.divide(a[i], b[i], "rf8", rounding=by_words(seed=9, offset=9 * i)) for i in range(7)]
    np.testing.assert_array_equal(np.stack(parts), whole_array)


def test_convert_is_encode_of_decode() -> None:
    codes = np.arange(256, dtype=np.uint8)
    for rounding in ("stochastic", "nearest-even", "up"):
        wanted = rf8sim.encode(rf8sim.decode(codes, "rf8"), "e5m2", rounding=rf8sim.Rounding(rounding, seed=3))
        np.testing.assert_array_equal(
            rf8sim.convert(codes, "rf8", result="e5m2", rounding=rf8sim.Rounding(rounding, seed=3)), wanted
        )


def test_the_mean_of_many_draws_is_the_exact_quotient() -> None:
    one, three_halves = rf8sim.encode([1.0, 1.5], "rf8")
    codes = rf8sim.divide(np.full(40_000, one), three_halves, "rf8", rounding=by_words(seed=1))
    values = rf8sim.decode(codes, "rf8", dtype=np.float64)
    assert len(np.unique(values)) == 2
    assert abs(values.mean() - 2 / 3) < 5 * values.std() / 200


def test_threads_and_layouts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    size = 2 * _parallel.SMALLEST_PIECE + 12_345
    a, b = rng.integers(0, 256, (2, size), dtype=np.uint8)
    runs: list[Any] = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(_parallel, "available_threads", lambda threads=threads: threads)
        runs.append((*rf8sim.divide(a, b, "rf8", flags=True, **OPTIONS), rf8sim.sqrt(a, "e4m3fn", **OPTIONS)))
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=True):
            np.testing.assert_array_equal(one, other)
    wanted = rf8sim.divide(a[:60], b[:60], "rf8", **OPTIONS)
    out = np.zeros(120, dtype=np.uint8)
    rf8sim.divide(a[:60], b[:60], "rf8", **OPTIONS, out=out[::2])
    np.testing.assert_array_equal(out[::2], wanted)
    same_place = a[:60].copy()
    _, flags = rf8sim.divide(same_place, b[:60], "rf8", **OPTIONS, out=same_place, flags=True)
    np.testing.assert_array_equal(same_place, wanted)
    np.testing.assert_array_equal(flags, runs[0][1][:60])
    for shape in ((0,), (2, 0), ()):
        for operation in (rf8sim.add, rf8sim.multiply):
            assert operation(np.zeros(shape, int), np.zeros(shape, int), "rf8", **OPTIONS).shape == shape
        assert rf8sim.fma(np.zeros(shape, int), 0, 0, "rf8", **OPTIONS).shape == shape


def test_refusals() -> None:
    for message, options in {
        "bits must be an integer from 1 to 32, got 0": {"bits": 0},
        "seed must be": {"seed": -1},
        "offset plus": {"offset": 2**64 - 1},
        r"words must be uint32 of x's shape \(2,\)": {"words": [1, 2, 3]},
        "words must fit in 32 bits": {"words": [1, 2**32]},
        "has no infinity": {"overflow": "infinity"},
    }.items():
        out = np.full(2, 9, dtype=np.uint8)
        for call in (
            lambda options=options, out=out: rf8sim.add([1, 2], 3, "rf8", rounding=by_words(**options), out=out),
            lambda options=options, out=out: rf8sim.fma([1, 2], 3, 4, "rf8", rounding=by_words(**options), out=out),
        ):
            with pytest.raises(ValueError, match=message):
                call()
        assert out.tolist() == [9, 9]
    with pytest.raises(ValueError, match="divide gives NaN"):
        rf8sim.divide(1, 0, "int8", **OPTIONS)
    for column in draw_table("add", "rf8"):
        with pytest.raises(ValueError, match="read-only"):
            column[0, 0] = 1
