"""Vectors of the E4M3 and E5M2 blocks: decoder, rounding encoders, and the threshold tables they are proved with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...codec.boundaries import boundaries
from ...codec.codec import encode
from ...codec.rounding import Rounding, RoundingMode
from ...formats import get_format
from .block import Block, Signal, signal

__all__ = ["ENCODER_PROOFS", "float8_blocks", "float32_thresholds", "prove_encoder"]

_SEED = 0xF8
_FORMATS = ("e4m3fn", "e5m2")
_ROUNDINGS = ("nearest-even", "toward-zero", "stochastic")
_OVERFLOWS = ("saturate", "propagate", "ieee", "infinity", "nan")  # by the number that float8_round gives them

ENCODER_PROOFS = tuple((name, mode) for name in _FORMATS for mode in _ROUNDINGS[:2])
"""Format and rounding mode of each encoder of float32 that is proved to equal the table of thresholds."""


def float32_thresholds(name: str, mode: str) -> NDArray[np.uint32]:
    """Return the patterns of the first positive float32 number of each code from 1 to the largest finite one.

    Examples
    --------
    >>> float32_thresholds("e4m3fn", "toward-zero")[:2].view(np.float32).tolist()
    [0.001953125, 0.00390625]
    """
    patterns = []
    for boundary in boundaries(get_format(name), RoundingMode(mode), False):
        # No octave is in question: every boundary of these formats has a few bits, far from the ends of float32.
        octave = boundary.ceiling(-60).bit_length() - 61
        significand = boundary.ceiling(octave - 23)
        patterns.append(((octave + 127) << 23) + significand - (1 << 23))
    return np.array(patterns[: get_format(name).sides[0].codes.size - 1], np.uint32)


def float8_blocks() -> Iterator[Block]:
    """Yield the blocks.

    Encoders of float32 have a number of each of the 65,536 upper halves of a pattern and every threshold with its
    neighbours; those of fixed point all finite float16 numbers (E4M3) and the exact products of two codes.
    """
    yield _decoder()
    for number, name in enumerate(_FORMATS):
        for rounding, mode in enumerate(_ROUNDINGS):
            for overflow, option in enumerate(_OVERFLOWS):
                if option in ("propagate", "infinity") and name != "e5m2":
                    continue
                if option != "saturate" and mode == "stochastic":
                    continue
                choices = {"E5M2": number, "ROUNDING": rounding, "OVERFLOW": overflow}
                yield _from_float32(name, mode, option, choices)
        yield from _fixed_encoders(number, name)


def _decoder() -> Block:
    codes = np.arange(256)
    values = get_format("e5m2").values
    finite = np.where(np.isfinite(values), values, 0.0)
    outputs = {
        "sign": signal(1, codes >> 7),
        "magnitude": signal(32, np.abs(np.ldexp(finite, 16)).astype(np.int64)),
        "infinite": signal(1, np.isinf(values)),
        "nan": signal(1, np.isnan(values)),
    }
    return Block("e5m2_decode", "e5m2_decode", {"code": signal(8, codes)}, outputs)


def _floats(name: str, mode: str, step: int) -> NDArray[np.float32]:
    """Return a number of each upper half of a pattern, and thresholds with their neighbours, of both signs."""
    halves = np.arange(0, 1 << 16, step, dtype=np.uint32) << np.uint32(16)
    below = np.random.default_rng(_SEED).integers(0, 1 << 16, halves.size, np.uint32)
    below[::4] = 0
    near = float32_thresholds(name, "nearest-even" if mode == "stochastic" else mode)
    beside = (near[:, None] + np.arange(-1, 2).astype(np.uint32)).ravel()
    return np.concatenate([halves | below, beside, beside | np.uint32(1 << 31)]).view(np.float32)


def _from_float32(name: str, mode: str, option: str, choices: dict[str, int]) -> Block:
    numbers = _floats(name, mode, 1 if option == "saturate" else 16)
    inputs = {"x": signal(32, numbers.view(np.uint32))}
    constants: dict[str, int] = {}
    how = Rounding(mode, option)
    if mode == "stochastic":
        bits = 8 if name == "e4m3fn" else 12
        words = np.random.default_rng(_SEED).integers(0, 1 << bits, numbers.size, np.uint32)
        how = Rounding(mode, option, words=words, bits=bits)
        inputs["random"] = signal(bits, words)
        choices = choices | {"RANDOM_BITS": bits}
    else:
        constants["random"] = 0
        choices = choices | {"RANDOM_BITS": 1}
    with np.errstate(invalid="ignore"):
        codes = encode(numbers, name, rounding=how)
    suffix = "" if option == "saturate" else f"_{option}"
    title = f"float32_to_{name}_{mode.replace('-', '_')}{suffix}"
    return Block(title, "float32_to_float8", inputs, {"code": signal(8, codes)}, choices, constants)


def _fixed_encoders(number: int, name: str) -> Iterator[Block]:
    """Yield encoders of the exact products of two codes, in 36 or 64 bits, and of cut numbers with ``sticky``."""
    values = get_format(name).values
    magnitudes = np.unique(np.abs(values[np.isfinite(values)]))
    products = np.unique(magnitudes[:, None] * magnitudes[None, :])
    width, fraction = (36, 18) if name == "e4m3fn" else (64, 32)
    units = np.ldexp(products, fraction).astype(np.uint64)
    constants = {"nan": 0, "sticky": 0}
    for rounding, mode in enumerate(_ROUNDINGS):
        inputs = _both_signs(width, units)
        numbers = np.concatenate([products, -products])
        choices = {"E5M2": number, "WIDTH": width, "FRACTION": fraction, "ROUNDING": rounding}
        how, fixed = Rounding(mode), constants
        if mode == "stochastic":
            words = np.random.default_rng(_SEED).integers(0, 1 << 32, numbers.size, np.uint32)
            how = Rounding(mode, words=words, bits=32)
            inputs["random"] = signal(32, words)
            choices["RANDOM_BITS"] = 32
        else:
            fixed = constants | {"random": 0}
            choices["RANDOM_BITS"] = 1
        codes = encode(numbers, name, rounding=how)
        title = f"{name}_encode_{mode.replace('-', '_')}"
        yield Block(title, "float8_encode", inputs, {"code": signal(8, codes)}, choices, fixed)
    # A cut number lies half a unit higher: no threshold is between it and what it stands for.
    fraction = 10 if name == "e4m3fn" else 17
    small = np.arange(1 << 12, dtype=np.uint64)
    cut = np.repeat([0, 1], small.size)
    inputs = _both_signs(12, small) | {"sticky": signal(1, cut)}
    finer = np.ldexp(np.tile(2.0 * small, 2) + cut, -fraction - 1)
    finer[small.size :] *= -1.0
    inputs["sign"] = signal(1, cut)
    choices = {"E5M2": number, "WIDTH": 12, "FRACTION": fraction, "RANDOM_BITS": 1}
    answer = {"code": signal(8, encode(finer, name))}
    yield Block(f"{name}_encode_sticky", "float8_encode", inputs, answer, choices, {"nan": 0, "random": 0})


def _both_signs(width: int, units: NDArray[np.uint64]) -> dict[str, Signal]:
    return {"sign": signal(1, np.repeat([0, 1], units.size)), "magnitude": signal(width, np.tile(units, 2))}


def prove_encoder(name: str, mode: str) -> str:
    """Return a Yosys script: the encoder of float32 equals a count of thresholds, for each of the 2**32 inputs.

    Parameters
    ----------
    name : str
        ``e4m3fn`` or ``e5m2``.
    mode : str
        ``nearest-even`` or ``toward-zero``.

    Examples
    --------
    >>> prove_encoder("e5m2", "toward-zero").count("wire passed_")
    123
    """
    fmt = get_format(name)
    first = float32_thresholds(name, mode)
    passed = "".join(f"  wire passed_{rank} = x[30:0] >= 31'h{at:08x};\n" for rank, at in enumerate(first.tolist(), 1))
    ladder = "".join(f"    if (passed_{rank}) code = {{x[31], 7'd{rank}}};\n" for rank in range(1, first.size + 1))
    choices = f".E5M2({_FORMATS.index(name)}), .ROUNDING({_ROUNDINGS.index(mode)})"
    return f"""# Generated. The encoder of float32 to {name}, {mode}, saturating, equals a count of
# the format's thresholds: there is no input of 32 bits for which they differ.
read_verilog -sv -defer rtl/float8_round.sv rtl/float32_to_float8.sv
read_verilog -sv <<WRAPPERS
module encoder(input wire [31:0] x, output wire [7:0] code);
  float32_to_float8 #({choices}) block (.x(x), .random(8'd0), .code(code));
endmodule
module counted(input wire [31:0] x, output reg [7:0] code);
{passed}  always @* begin
    code = {{x[31], 7'd0}};
{ladder}    if (x[30:0] > 31'h7f800000) code = 8'h{fmt.nan:02x};
  end
endmodule
WRAPPERS
hierarchy
proc
flatten
opt -fast
miter -equiv -flatten -make_assert -make_outputs encoder counted miter
hierarchy -top miter
opt -fast
sat -verify -prove-asserts -show-inputs miter
"""
