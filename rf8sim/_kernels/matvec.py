"""Products of a vector with weights that are decoded on the fly.

A table of 256 values is looked up by nibbles, 16 bytes at a time; the loop is written in LLVM's own language, since
numba has no shuffle of bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_jit = njit(nogil=True, cache=True)

_builders: Any = cgutils
_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_BYTES, _WORDS, _FLOATS = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16), ir.VectorType(_F32, 8)

# Interleaving inside the 128-bit halves of a register, as the instructions of x86 do it, moves element DECODED[p] of 32
# to place p; on other machines it is an order like any other.
_UNPACK8 = [[half * 8 + lane * 16 + p + odd * 32 for lane in range(2) for p in range(8) for odd in range(2)]
            for half in range(2)]  # fmt: skip
_UNPACK16 = [[16 if low else part * 4 + lane * 8 + p for lane in range(2) for p in range(4) for low in (True, False)]
             for part in range(2)]  # fmt: skip
DECODED = [lane * 16 + half * 8 + part * 4 + p
           for half in range(2) for part in range(2) for lane in range(2) for p in range(4)]  # fmt: skip


def _emit_add_decoded(typing_context: Any, codes: Any, x: Any, low: Any, high: Any, lanes: Any, size: Any) -> Any:
    """``lanes[p] += decode(codes[k + DECODED[p]]) * x[k + p]`` for k in steps of 32; returns 255 if a code is 0x80.

    The upper 16 bits of a value's float32 pattern are made of bytes: two looked up by a code's lower four bits, the
    next three bits added to the upper byte, the sign on top; code 0 is zero. Written as vectors of 32 codes, it is two
    byte shuffles on a machine that has them; no compiler finds that in a loop over a table.
    """
    signature = types.uint8(codes, x, low, high, lanes, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:5], arguments[:5], strict=True)
        ]

        def same(kind: Any, value: int) -> Any:
            return ir.Constant(kind, [value] * kind.count)

        def address(array: int, index: Any, kind: Any) -> Any:
            return builder.bitcast(builder.gep(pointers[array], [index]), kind.as_pointer())

        def load(array: int, index: Any, kind: Any) -> Any:
            return builder.load(address(array, index, kind), align=1)

        def looked_up(table: Any, index: Any) -> Any:
            result = ir.Constant(_BYTES, ir.Undefined)
            for place in (ir.Constant(_I32, i) for i in range(32)):
                byte = builder.extract_element(table, builder.extract_element(index, place))
                result = builder.insert_element(result, byte, place)
            return result

        def shuffled(a: Any, b: Any, places: list[int]) -> Any:
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(places)), places))

        zero, nothing = ir.Constant(_I64, 0), same(_BYTES, 0)
        tables = load(2, zero, _BYTES), load(3, zero, _BYTES)
        sums = [_builders.alloca_once_value(builder, load(4, ir.Constant(_I64, 8 * j), _FLOATS)) for j in range(4)]
        seen = _builders.alloca_once_value(builder, nothing)
        with _builders.for_range_slice(builder, zero, arguments[5], ir.Constant(_I64, 32)) as (k, _):
            code = load(0, k, _BYTES)
            nibble = builder.and_(code, same(_BYTES, 15))
            lower, upper = (looked_up(table, nibble) for table in tables)
            shifted = builder.lshr(builder.bitcast(code, _WORDS), same(_WORDS, 4))
            upper = builder.add(upper, builder.and_(builder.bitcast(shifted, _BYTES), same(_BYTES, 7)))
            upper = builder.or_(upper, builder.and_(code, same(_BYTES, 0x80)))
            is_zero = builder.icmp_unsigned("==", code, nothing)
            lower, upper = (builder.select(is_zero, nothing, byte) for byte in (lower, upper))
            marked, before = builder.xor(code, same(_BYTES, 0x7F)), builder.load(seen)
            builder.store(builder.select(builder.icmp_unsigned(">", marked, before), marked, before), seen)
            for half in range(2):
                words = builder.bitcast(shuffled(lower, upper, _UNPACK8[half]), _WORDS)
                for part in range(2):
                    value = builder.bitcast(shuffled(words, same(_WORDS, 0), _UNPACK16[part]), _FLOATS)
                    j = 2 * half + part
                    product = builder.fmul(value, load(1, builder.add(k, ir.Constant(_I64, 8 * j)), _FLOATS))
                    builder.store(builder.fadd(builder.load(sums[j]), product), sums[j])
        for j in range(4):
            builder.store(builder.load(sums[j]), address(4, ir.Constant(_I64, 8 * j), _FLOATS), align=1)
        largest, marks = ir.Constant(_I8, 0), builder.load(seen)
        for place in (ir.Constant(_I32, i) for i in range(32)):
            mark = builder.extract_element(marks, place)
            largest = builder.select(builder.icmp_unsigned(">", mark, largest), mark, largest)
        return largest

    return signature, generate


_add_decoded: Any = intrinsic(_emit_add_decoded)


@_jit
def _sum_lanes(lanes: Any) -> Any:
    """Sum 32 lanes in float32 by halves: lane l and l + 16, then l and l + 8, and so on."""
    width = 16
    while width:
        for lane in range(width):
            lanes[lane] += lanes[lane + width]
        width //= 2
    return lanes[0]


@_jit
def matvec_nibbles(codes: Any, x: Any, low: Any, high: Any, order: Any, out: Any) -> None:
    """Multiply rows of codes with ``x``, whose 32s are in the order ``DECODED`` and end in zeros."""
    decoded, lanes = np.empty(32, dtype=np.float32), np.empty(32, dtype=np.float32)
    tail = np.zeros(32, dtype=np.uint8)
    vectorized = codes.shape[1] // 32 * 32
    for i in range(codes.shape[0]):
        row = codes[i]
        decoded[:] = 0
        mark = _add_decoded(row, x, low, high, decoded, vectorized)
        if vectorized < row.size:
            tail[: row.size - vectorized] = row[vectorized:]
            mark = max(mark, _add_decoded(tail, x[vectorized:], low, high, decoded, 32))
        for place in range(32):
            lanes[order[place]] = decoded[place]
        total = _sum_lanes(lanes)
        out[i] = np.nan if mark == 255 else total


@_jit
def matvec_table(codes: Any, x: Any, table: Any, out: Any) -> None:
    """Multiply rows of codes with ``x``: 32 float32 sums, products and sums rounded; ``x`` ends in zeros."""
    lanes, values = np.empty(32, dtype=np.float32), np.empty(32, dtype=np.float32)
    for i in range(codes.shape[0]):
        row = codes[i]
        lanes[:] = 0
        values[:] = 0
        for start in range(0, row.size, 32):
            size = min(32, row.size - start)
            for lane in range(size):
                values[lane] = table[row[start + lane]]
            for lane in range(size):
                lanes[lane] += values[lane] * x[start + lane]
        out[i] = _sum_lanes(lanes)
