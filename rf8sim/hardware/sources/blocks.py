"""What each hardware block that ships must answer: stimuli, and the expected outputs by this library."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.codes import multiply
from ...codec.boundaries import boundaries
from ...codec.codec import encode
from ...codec.rounding import Rounding, RoundingMode
from ...formats import get_format
from .block import Block, Signal, signal
from .dot_blocks import dot_blocks
from .float8_blocks import float8_blocks
from .fma_blocks import fma_blocks

__all__ = ["GUARD", "blocks", "encoded_fixed", "lfsr_words", "multiplication_table", "near_thresholds"]

GUARD = 4
"""Guard bits of the accumulators in the vectors: few, so that their overflow is reached too."""

_SEED = 0x5EED


def multiplication_table(rounding: str | Rounding = "nearest-even") -> NDArray[np.uint8]:
    """Return the memory of ``rf8_multiply_table``: the product of each two RF8 codes without a sign.

    Parameters
    ----------
    rounding : str or Rounding
        As `rf8sim.multiply` takes it.

    Returns
    -------
    ndarray of uint8, shape (16384,)
        The code of product ``a * b`` at index ``128 a + b``.

    Examples
    --------
    >>> hex(multiplication_table()[128 * 0x7B + 0x7F])  # 1 times 1.5
    '0x7f'
    """
    codes = np.arange(128, dtype=np.uint8)
    # Code 0x80 is NaN; a table of magnitudes meets it only as a result.
    products: NDArray[np.uint8] = multiply(codes[:, None], codes[None, :], "rf8", rounding=rounding)
    return products.ravel()


def lfsr_words(seed: int, size: int, steps: int = 32) -> NDArray[np.uint32]:
    """Return the words of the shipped LFSR, the seed first: the ``words`` of a `rf8sim.Rounding` that matches it.

    The polynomial x^32 + x^22 + x^2 + x + 1 in Galois form, ``steps`` steps a word.

    Parameters
    ----------
    seed : int
        The first word, 1 to 2**32 - 1; 0 is taken as 1.
    size : int
        How many words.
    steps : int
        Steps between two words.

    Returns
    -------
    ndarray of uint32, shape (size,)
        The words.

    Raises
    ------
    ValueError
        If the seed has more than 32 bits.

    Examples
    --------
    >>> [hex(word) for word in lfsr_words(1, 3, steps=1)]
    ['0x1', '0x80200003', '0xc0300002']
    """
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"the seed of the LFSR must be from 0 to 2**32 - 1, got {seed}")
    words = np.empty(size, dtype=np.uint32)
    word = seed or 1
    for index in range(size):
        words[index] = word
        for _ in range(steps):
            word = word >> 1 ^ (0x80200003 if word & 1 else 0)
    return words


def blocks() -> tuple[Block, ...]:
    """Return every block of the testbench with its vectors, expected answers by this library.

    Two-operand blocks have all 65,536 pairs; encoders all finite float16 numbers, every 16-bit input of one width, and
    every threshold with its neighbours at the width of an exact product and at 64 bits; accumulators long random
    streams, the worst sum that must fit and one that overflows.

    Examples
    --------
    >>> from rf8sim.hardware.sources.blocks import blocks
    >>> [block.name for block in blocks()][:3]
    ['rf8_decode', 'e4m3_decode', 'rf8_multiply']
    """
    return (
        *_decoders(), *_rounded_multipliers(), *_exact_multipliers(), *_encoders(), *_stochastic_encoders(),
        *_accumulators(), *float8_blocks(), *fma_blocks(),
        *dot_blocks(),
    )  # fmt: skip


class _Operand(NamedTuple):
    """A format as the blocks see it: in units of the smallest step, NaN as the number that its bits would be."""

    name: str
    units: NDArray[np.int64]
    nan: NDArray[np.bool_]
    fraction: int
    bits: int


def _operand(name: str, fmt: str, fraction: int, bits: int, nan_units: int) -> _Operand:
    values = get_format(fmt).values
    nan = np.isnan(values)
    signs = np.where(np.arange(256) < 128, 1, -1)
    units = np.where(nan, signs * nan_units, np.ldexp(np.where(nan, 0.0, values), fraction).astype(np.int64))
    return _Operand(name, units, nan, fraction, bits)


@cache
def _operands() -> tuple[_Operand, _Operand, _Operand]:
    return (
        _operand("rf8", "rf8", 19, 20, 0),
        _operand("e4m3", "e4m3fn", 9, 18, 480 << 9),
        _operand("int8", "int8", 0, 8, 0),
    )


def _pairs() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = np.divmod(np.arange(1 << 16), 256)
    return first, second


def _decoders() -> Iterator[Block]:
    codes = np.arange(256)
    for fmt in _operands()[:2]:
        outputs = {
            "sign": signal(1, codes >> 7),
            "magnitude": signal(fmt.bits, np.abs(fmt.units)),
            "nan": signal(1, fmt.nan),
        }
        yield Block(f"{fmt.name}_decode", f"{fmt.name}_decode", {"code": signal(8, codes)}, outputs)


def _rounded_multipliers() -> Iterator[Block]:
    a, b = _pairs()
    both = {"a": signal(8, a), "b": signal(8, b)}
    for residual, mode in enumerate(("nearest-even", "residual")):
        for nan_overflow, option in enumerate(("saturate", "nan")):
            codes = multiply(a.astype(np.uint8), b.astype(np.uint8), "rf8", rounding=Rounding(mode, option))
            answer = {"code": signal(8, codes)}
            suffix = ("_residual" if residual else "") + ("_nan" if nan_overflow else "")
            choices = {"RESIDUAL": residual, "NAN_OVERFLOW": nan_overflow}
            yield Block(f"rf8_multiply{suffix}", "rf8_multiply", both, answer, choices)
            if not nan_overflow:
                table = {"FILE": f"rtl/rf8_multiply{suffix}.mem"}
                yield Block(f"rf8_multiply_table{suffix}", "rf8_multiply_table", both, answer, table)


def _exact_multipliers() -> Iterator[Block]:
    a, b = _pairs()
    both = {"a": signal(8, a), "b": signal(8, b)}
    mixed = {"weight": both["a"], "activation": both["b"]}
    rf8, e4m3, int8 = _operands()
    for fmt in (rf8, e4m3):
        exact = fmt.units[a] * fmt.units[b]
        outputs = {
            "sign": signal(1, (a ^ b) >> 7),
            "magnitude": signal(2 * fmt.bits, np.abs(exact)),
            "nan": signal(1, fmt.nan[a] | fmt.nan[b]),
        }
        yield Block(f"{fmt.name}_multiply_exact", f"{fmt.name}_multiply_exact", both, outputs)
        outputs = {"product": signal(fmt.bits + 8, fmt.units[a] * int8.units[b]), "nan": signal(1, fmt.nan[a])}
        yield Block(f"{fmt.name}_times_int8", f"{fmt.name}_times_int8", mixed, outputs)
    yield Block("int8_multiply", "int8_multiply", both, {"product": signal(16, int8.units[a] * int8.units[b])})


def _fixed(width: int, magnitudes: NDArray[np.uint64], negative: NDArray[np.bool_]) -> dict[str, Signal]:
    return {"sign": signal(1, negative), "magnitude": signal(width, magnitudes)}


def _finite_float16() -> NDArray[np.float16]:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    return every[np.isfinite(every)]


def near_thresholds(mode: str, fraction: int, width: int) -> NDArray[np.uint64]:
    """Return the fixed-point magnitudes at every threshold of RF8 and beside it, powers of two and random ones."""
    rng = np.random.default_rng(_SEED)
    patterns = {0, 1, (1 << width) - 1}
    for boundary in boundaries(get_format("rf8"), RoundingMode(mode), False):
        first = boundary.ceiling(-fraction)
        patterns |= {first - 2, first - 1, first, first + 1}
    patterns |= {(1 << k) + d for k in range(width) for d in (-1, 0, 1)}
    lengths = rng.integers(1, width + 1, 2000).tolist()
    patterns |= {
        int(word) >> (64 - n) for word, n in zip(rng.integers(0, 1 << 64, 2000, np.uint64), lengths, strict=True)
    }
    return np.array(sorted(n for n in patterns if 0 <= n < 1 << width), dtype=np.uint64)


def encoded_fixed(magnitudes: NDArray[np.uint64], fraction: int, mode: str, sticky: bool = False) -> NDArray[np.uint8]:
    """Return the RF8 codes of ``magnitude * 2**-fraction``, exact at 64 bits: each compared with integer thresholds.

    ``sticky`` says that the numbers are larger than that by less than one unit.
    """
    fmt = get_format("rf8")
    placed = boundaries(fmt, RoundingMode(mode), False)
    # One bit finer, a cut number lies half a unit higher: no threshold is between it and what it stands for.
    firsts = [boundary.ceiling(-fraction - sticky) for boundary in placed]
    firsts = [first for first in firsts if first < 1 << 65]
    finer = [2 * int(n) + 1 if sticky else int(n) for n in magnitudes.tolist()]
    codes = fmt.sides[0].codes
    return np.array([codes[min(bisect_right(firsts, n), codes.size - 1)] for n in finer], dtype=np.uint8)


def _encoders() -> Iterator[Block]:
    halves = _finite_float16()
    units = np.abs(np.ldexp(halves.astype(np.float64), 24)).astype(np.uint64)
    small = np.arange(1 << 12, dtype=np.uint64)
    for residual, mode in enumerate(("nearest-even", "residual")):
        suffix = "_residual" if residual else ""

        def block(
            name: str, width: int, fraction: int, inputs: dict[str, Signal], codes: NDArray[np.uint8], **more: int
        ) -> Block:
            given = {"WIDTH": width, "FRACTION": fraction, "RESIDUAL": residual} | more  # noqa: B023
            constants = {port: 0 for port in ("sticky", "nan") if port not in inputs}
            name = f"rf8_encode_{name}{suffix}"  # noqa: B023
            return Block(name, "rf8_encode", inputs, {"code": signal(8, codes)}, given, constants)

        inputs = _fixed(41, units, np.signbit(halves))
        yield block("float16", 41, 24, inputs, encode(halves, "rf8", rounding=mode))
        large = np.abs(halves) >= 1
        codes = encode(halves[large], "rf8", rounding=Rounding(mode, "nan"))
        yield block("nan", 41, 24, _fixed(41, units[large], np.signbit(halves[large])), codes, NAN_OVERFLOW=1)
        # From half of the smallest value to the largest there are 17 octaves: 12 bits see one end of the range.
        for fraction in (21, 10):
            codes = encode(np.ldexp(small.astype(np.float64), -fraction), "rf8", rounding=mode)
            yield block(f"12_{fraction}", 12, fraction, _fixed(12, small, small < 0), codes)
        for width, fraction in ((40, 38), (64, 62), (64, 40)):
            near = near_thresholds(mode, fraction, width)
            codes = encoded_fixed(near, fraction, mode)
            yield block(f"{width}_{fraction}", width, fraction, _fixed(width, near, near < 0), codes)
    near = near_thresholds("nearest-even", 20, 24)
    cut = np.repeat([False, True], near.size)
    codes = np.concatenate([encoded_fixed(near, 20, "nearest-even", sticky) for sticky in (False, True)])
    both = _fixed(24, np.tile(near, 2), np.zeros(cut.size, np.bool_)) | {"sticky": signal(1, cut)}
    choices = {"WIDTH": 24, "FRACTION": 20}
    yield Block("rf8_encode_sticky", "rf8_encode", both, {"code": signal(8, codes)}, choices, {"nan": 0})
    numbers = np.arange(1 << 6)
    inputs = _fixed(2, (numbers & 3).astype(np.uint64), numbers >= 32) | {"nan": signal(1, np.ones(64, np.int64))}
    answer = {"code": signal(8, np.full(64, 0x80))}
    yield Block("rf8_encode_of_nan", "rf8_encode", inputs, answer, {"WIDTH": 2, "FRACTION": 0}, {"sticky": 0})


def _stochastic_encoders() -> Iterator[Block]:
    halves = _finite_float16()
    rng = np.random.default_rng(_SEED)
    some = rng.permutation(halves.size)[:8192]

    def inputs(numbers: NDArray[np.float16]) -> dict[str, Signal]:
        return _fixed(41, np.abs(np.ldexp(numbers.astype(np.float64), 24)).astype(np.uint64), np.signbit(numbers))

    for bits, option, numbers in ((8, "saturate", halves), (3, "nan", halves[some]), (32, "saturate", halves[some])):
        words = rng.integers(0, 1 << bits, numbers.size, np.uint64).astype(np.uint32)
        codes = encode(numbers, "rf8", rounding=Rounding("stochastic", option, words=words, bits=bits))
        answer = {"code": signal(8, codes)}
        given = {"WIDTH": 41, "FRACTION": 24, "RANDOM_BITS": bits, "NAN_OVERFLOW": int(option == "nan")}
        drawn = inputs(numbers) | {"random": signal(bits, words)}
        yield Block(f"rf8_encode_stochastic_{bits}", "rf8_encode_stochastic", drawn, answer, given, {"nan": 0})
    numbers = halves[some[:1024]]
    words = lfsr_words(_SEED, numbers.size)
    codes = encode(numbers, "rf8", rounding=Rounding("stochastic", words=words, bits=12))
    # The first clock loads the seed, whose word is the first element's.
    later = np.arange(numbers.size) > 0
    stream = inputs(numbers) | {
        "load": signal(1, ~later), "seed": signal(32, np.full(numbers.size, _SEED)), "valid": signal(1, later)
    }  # fmt: skip
    given = {"WIDTH": 41, "FRACTION": 24, "RANDOM_BITS": 12}
    answer = {"code": signal(8, codes)}
    yield Block("rf8_encode_lfsr", "rf8_encode_lfsr", stream, answer, given, {"nan": 0}, latency=1)


def _accumulators() -> Iterator[Block]:
    rf8, e4m3, int8 = _operands()
    for name, first, second, product, guard in (
        ("rf8_mac", rf8, rf8, 40, GUARD),
        ("rf8_mac", rf8, rf8, 40, 12),
        ("rf8_int8_mac", rf8, int8, 27, GUARD),
        ("e4m3_mac", e4m3, e4m3, 36, GUARD),
        ("e4m3_int8_mac", e4m3, int8, 25, GUARD),
        ("int8_mac", int8, int8, 15, GUARD),
    ):
        yield _accumulator(name, first, second, product, guard)


def _accumulator(name: str, first: _Operand, second: _Operand, product: int, guard: int) -> Block:
    """Make a stream: short random sums, a long one, the worst sums that must fit, each then driven on to overflow."""
    rng = np.random.default_rng(_SEED)
    a, b = rng.integers(0, 256, (2, 12000))
    clear = rng.random(a.size) < 1 / 50
    clear[-4000:] = False
    clear[[0, -4000]] = True
    valid = rng.random(a.size) < 0.9
    exact = first.units[:, None] * second.units[None, :]
    exact[first.nan] = 0
    exact[:, second.nan] = 0
    extremes = [divmod(int(place), 256) for place in (exact.argmax(), exact.argmin())]
    for extreme, opposite in (extremes, extremes[::-1]):
        run, back = 2 ** (guard + 1) + 3, 3  # far enough to overflow, and back within range
        x, y = np.array([extreme] * run + [opposite] * back).T
        a, b = np.append(a, x), np.append(b, y)
        clear = np.append(clear, np.arange(run + back) == 0)
        valid = np.append(valid, np.ones(run + back, np.bool_))
    sums, overflow = _saturating_sums(first.units[a] * second.units[b], clear, valid, product + guard + 1)
    flags = {"overflow": signal(1, overflow)}
    if first.nan.any():
        flags["nan"] = signal(1, _since_clear(first.nan[a] | second.nan[b], clear, valid))
    ports = ("weight", "activation") if second is not first else ("a", "b")
    inputs = {"clear": signal(1, clear), "valid": signal(1, valid), ports[0]: signal(8, a), ports[1]: signal(8, b)}
    outputs = {"sum": signal(product + guard + 1, sums)} | flags
    return Block(f"{name}_{guard}", name, inputs, outputs, {"GUARD": guard}, latency=1)


def _saturating_sums(
    products: NDArray[np.int64], clear: NDArray[np.bool_], valid: NDArray[np.bool_], bits: int
) -> tuple[NDArray[np.int64], list[bool]]:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    total, over = 0, False
    sums, flags = [], []
    for term, fresh, taken in zip(products.tolist(), clear.tolist(), valid.tolist(), strict=True):
        if fresh:
            total, over = 0, False
        if taken:
            total += term
            over = over or not low <= total <= high
            total = min(max(total, low), high)
        sums.append(total)
        flags.append(over)
    return np.array(sums, dtype=np.int64), flags


def _since_clear(event: NDArray[np.bool_], clear: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say whether an event happened since the last clear."""
    counted = np.cumsum(event & valid)
    before = np.maximum.accumulate(np.where(clear, counted - (event & valid), 0))
    return np.asarray(counted > before)
