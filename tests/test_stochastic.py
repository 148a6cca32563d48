"""Stochastic rounding: the generator's words, the adder's carry, what may not change the result, its mean."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from loops import looped
from oracle_helpers import (
    DTYPES,
    UNREGISTERED,
    around,
    overflows,
    points,
    same_codes,
    specials,
)

import rf8sim
from rf8sim.formats import format_names, get_format
from rf8sim.reference import ladder, philox4x32, power_of_two, random_word, round_value

NAMES = [*format_names(), *UNREGISTERED]
BITS = [1, 2, 4, 8, 16, 24, 32]


def oracle_stochastic(x, words, fmt, overflow="saturate", random_bits=32):
    """`reference.round_value` of every element with its word."""
    codes = [
        round_value(value, fmt, "stochastic", overflow, int(word), random_bits)
        for value, word in zip(x.ravel(), words.ravel().tolist(), strict=True)
    ]
    return np.array(codes, dtype=np.uint8).reshape(x.shape)


# ---------------------------------------------------------------- the words


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter: str, key: str, words: str) -> None:
    """The vectors that Random123 publishes (kat_vectors, philox4x32 with 10 rounds)."""
    split = [[int(word, 16) for word in text.split()] for text in (counter, key, words)]
    assert list(philox4x32(split[0], split[1])) == split[2]


@looped("seed", [0, 1, 2**32 - 1, 2**32, 0x0123456789ABCDEF, 2**64 - 1])
@looped("offset", [0, 1, 2, 3, 5, 2**34 - 2, 2**63 + 1])
def test_words_are_the_oracle_s(seed: int, offset: int) -> None:
    expected = [random_word(seed, offset + i) for i in range(11)]
    assert rf8sim.random_words(seed, 11, offset).tolist() == expected


def test_seed_halves_and_block_halves_count() -> None:
    streams = {tuple(rf8sim.random_words(seed, 8).tolist()) for seed in (0, 1, 2**32, 2**63)}
    streams |= {tuple(rf8sim.random_words(0, 8, offset).tolist()) for offset in (8, 2**34, 2**35)}
    assert len(streams) == 7


@pytest.mark.parametrize("offset", [0, 10, 2**34 - 3, 2**63 + 1])
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_codes_draw_the_words_of_their_index(dtype: str, offset: int) -> None:
    fmt = get_format("rf8")
    x = np.random.default_rng(0).normal(size=(7, 9)).astype(DTYPES[dtype])
    words = np.array([random_word(42, offset + i) for i in range(63)]).reshape(7, 9)
    got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", seed=42, offset=offset))
    same_codes(got, oracle_stochastic(x, words, fmt), x, fmt)
    given = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", words=words.astype(np.uint32)))
    np.testing.assert_array_equal(given, got)
    assert np.any(rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", seed=43, offset=offset)) != got)


# ---------------------------------------------------------------- the decision


def edge_inputs(fmt: rf8sim.Format, dtype: str, random_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs at and about ``v + j/2**k`` of a gap, each with the words about the one that decides.

    Each dtype has gaps of its own, beside the first: what a gap is, is the format's.
    """
    x, words = [], []
    rng = np.random.default_rng([random_bits, list(DTYPES).index(dtype)])
    one = 2**random_bits
    for negative in (False, True)[: 1 + fmt.signed]:
        magnitudes = list(ladder(fmt, negative)[0])
        if math.isfinite(fmt.sides[negative].beyond):
            magnitudes.append(Fraction(fmt.sides[negative].beyond))
        for i in {0, *rng.choice(len(magnitudes) - 1, size=min(3, len(magnitudes) - 1), replace=False).tolist()}:
            low, high = magnitudes[i], magnitudes[i + 1]
            for j in {0, 1, one // 2, one - 1, int(rng.integers(one))}:
                near = around([low + (high - low) * Fraction(j, one)], dtype)
                near = near[np.signbit(near) == negative]
                for value in near:
                    for word in {(one - j - 1) % one, (one - j) % one, (one - j + 1) % one}:
                        x.append(value)
                        # Only the low bits count.
                        words.append((word + one * int(rng.integers(2**32 // one))) % 2**32)
    return np.array(x, dtype=DTYPES[dtype]), np.array(words, dtype=np.uint32)


@looped("random_bits", BITS)
@pytest.mark.parametrize("dtype", list(DTYPES))
@looped("name", NAMES)
def test_the_carry_is_the_oracle_s(name: str, dtype: str, random_bits: int) -> None:
    fmt = get_format(name)
    x, words = edge_inputs(fmt, dtype, random_bits)
    got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", words=words, bits=random_bits))
    expected = oracle_stochastic(x, words, fmt, random_bits=random_bits)
    same_codes(got, expected, x, fmt, f"{dtype}, {random_bits} bits")
    down = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", words=np.zeros_like(words), bits=random_bits))
    assert np.any(expected != down), "some word must decide"


@pytest.mark.parametrize("dtype", list(DTYPES))
@looped(("name", "overflow"), [(name, option) for name in NAMES for option in overflows(get_format(name))])
def test_overflow_and_specials(name: str, overflow: str, dtype: str) -> None:
    """Between the largest value and the one beyond, an overflow is drawn; further out it is certain."""
    fmt = get_format(name)
    x = np.concatenate([around(points(fmt)[-10:], dtype, ulps=3), specials(dtype)])
    words = np.random.default_rng(2).integers(0, 2**32, x.size, dtype=np.uint32)
    got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", overflow, words=words))
    same_codes(got, oracle_stochastic(x, words, fmt, overflow), x, fmt, f"{overflow} {dtype}")


@pytest.mark.parametrize("name", ["rf8", "int8", "e8m0fnu", "posit8_es2", "e4m3fn"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_integers(name: str, dtype: str) -> None:
    fmt = get_format(name)
    info, rng = np.iinfo(dtype), np.random.default_rng(9)
    spread = np.exp2(rng.uniform(0, math.log2(info.max), 300)).astype(np.uint64).tolist()
    signed = [n * s for n in spread for s in (1, -1)]
    edges = [info.min, info.max, *(2**k + d for k in range(64) for d in (-1, 0, 1))]
    x = np.array([n for n in [*signed, *edges] if info.min <= n <= info.max], dtype=dtype)
    words = rng.integers(0, 2**32, x.size, dtype=np.uint32)
    got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", words=words))
    same_codes(got, oracle_stochastic(x, words, fmt), x, fmt, dtype)


def test_wide_integers_are_not_rounded_first() -> None:
    """2**62 - 1 lies below 2**62 and is drawn; its float64 is 2**62 exactly and would not be."""
    x = np.array([2**62 - 1, 2**62, 2**62 + 1, 2**54 - 1], dtype=np.int64)
    for word in (0, 1, 2**32 - 1):
        words = np.full(4, word, dtype=np.uint32)
        got = rf8sim.encode(x, "e8m0fnu", rounding=rf8sim.Rounding("stochastic", words=words))
        same_codes(got, oracle_stochastic(x, words, get_format("e8m0fnu")), x, get_format("e8m0fnu"))


# ---------------------------------------------------------------- what the result may not depend on


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("name", ["rf8", "nf4", "lns8"])
def test_neither_on_threads_nor_on_pieces(name: str, dtype: str) -> None:
    x = np.random.default_rng(1).normal(size=1_200_001).astype(DTYPES[dtype])
    drawn = rf8sim.Rounding("stochastic", seed=2**40 + 7, offset=3)
    whole = rf8sim.encode(x, name, threads=1, rounding=drawn)
    for threads in (2, 3, 4, None):
        np.testing.assert_array_equal(rf8sim.encode(x, name, threads=threads, rounding=drawn), whole)
    for cuts in ([0, 1, 2, 3, 5, 1_000_000, x.size], [0, 600_001, 600_002, x.size]):
        pieces = [rf8sim.encode(x[start:stop], name, rounding=drawn.at(start)) for start, stop in pairwise(cuts)]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
    some = np.arange(0, x.size, 9973)
    words = np.array([random_word(2**40 + 7, 3 + int(i)) for i in some])
    same_codes(whole[some], oracle_stochastic(x[some], words, get_format(name)), x[some], get_format(name))


def test_the_type_of_the_same_number_does_not_matter() -> None:
    x = np.random.default_rng(4).normal(size=5000).astype(np.float16)
    n = np.arange(-300, 300)
    options = {"rounding": rf8sim.Rounding("stochastic", seed=5)}
    for dtype in ("float32", "float64"):
        wide = rf8sim.encode(x.astype(dtype), "rf8", **options)
        np.testing.assert_array_equal(wide, rf8sim.encode(x, "rf8", **options))
    for dtype in ("int16", "int32", "float32", "float64"):
        same = rf8sim.encode(n.astype(dtype), "e4m3fn", **options)
        np.testing.assert_array_equal(same, rf8sim.encode(n, "e4m3fn", **options))


# ---------------------------------------------------------------- the mean


@pytest.mark.parametrize("name", [name for name in NAMES if get_format(name).count > 8])
def test_unbiased_with_32_bits(name: str) -> None:
    """The mean of n draws is within 5 standard errors of the input (seeded: the verdict is always the same)."""
    fmt = get_format(name)
    magnitudes = ladder(fmt, False)[0]
    n = 40_000
    for rank in (0, 1, len(magnitudes) // 2, len(magnitudes) - 2):
        low, high = float(magnitudes[rank]), float(magnitudes[rank + 1])
        for share in (0.1, 0.5, 0.83):
            x = low + (high - low) * share
            codes = rf8sim.encode(np.full(n, x), fmt, rounding=rf8sim.Rounding("stochastic", seed=17, offset=rank * n))
            y = rf8sim.decode(codes, fmt, dtype=np.float64)
            assert set(np.unique(y)) == {low, high}
            p = (x - low) / (high - low)
            upper = np.count_nonzero(y == high)
            assert abs(upper - n * p) < 5 * math.sqrt(n * p * (1 - p)) + n * 2.0**-32


@pytest.mark.parametrize("random_bits", [1, 2, 4, 8])
def test_bias_of_few_bits_is_the_documented_one(random_bits: int) -> None:
    """Of all 2**k words, floor(p * 2**k) take the upper neighbour: never more than p asks for."""
    fmt = get_format("rf8")
    one = 2**random_bits
    words = np.arange(one, dtype=np.uint32)
    rng = np.random.default_rng(8)
    for _ in range(60):
        rank = int(rng.integers(0, 112))
        low, high = ladder(fmt, False)[0][rank : rank + 2]
        x = float(low + (high - low) * Fraction(float(rng.uniform(0, 1))))
        p = (Fraction(x) - low) / (high - low)
        for sign in (1, -1):
            codes = rf8sim.encode(
                np.full(one, sign * x), fmt, rounding=rf8sim.Rounding("stochastic", words=words, bits=random_bits)
            )
            y = np.abs(rf8sim.decode(codes, fmt, dtype=np.float64))
            taken = int(np.count_nonzero(y == float(high)))
            assert taken == math.floor(p * one)
            bias = Fraction(taken, one) - p
            assert -power_of_two(-random_bits) < bias <= 0


def test_only_the_low_bits_of_a_word_count() -> None:
    x = np.random.default_rng(6).normal(size=1000)
    words = np.random.default_rng(7).integers(0, 2**32, 1000, dtype=np.uint32)
    expected = rf8sim.encode(x, "rf8", rounding=rf8sim.Rounding("stochastic", words=words, bits=5))
    low = rf8sim.encode(x, "rf8", rounding=rf8sim.Rounding("stochastic", words=words & 31, bits=5))
    np.testing.assert_array_equal(low, expected)
    assert np.any(rf8sim.encode(x, "rf8", rounding=rf8sim.Rounding("stochastic", words=words)) != expected)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, "bits must be an integer from 1 to 32, got 0"),
        ({"bits": 33}, "bits must be"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"offset": -1}, "offset"),
        ({"words": np.zeros(4, np.uint32)}, "words must be uint32 of x's shape"),
        ({"words": np.zeros(3, np.float32)}, "words must be uint32"),
        ({"words": np.array([0, 1, 2**32])}, "words must fit in 32 bits"),
        ({"words": np.array([0, 1, -1])}, "words must fit in 32 bits"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    out = np.full(3, 9, dtype=np.uint8)
    with pytest.raises(ValueError, match=message):
        rf8sim.encode(np.ones(3), "rf8", rounding=rf8sim.Rounding("stochastic", **options), out=out)
    with pytest.raises(ValueError, match="threads"):
        rf8sim.encode(np.ones(3), "rf8", rounding="stochastic", out=out, threads=0)
    assert out.tolist() == [9, 9, 9], "nothing half-written"
