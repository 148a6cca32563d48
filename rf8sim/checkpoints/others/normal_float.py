"""bitsandbytes' 4-bit codes: a table of sixteen values, a largest magnitude for each block of the flat tensor."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .parts import Decode, Meaning, Parts, read

__all__ = ["four_bit_table"]


def four_bit_table(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read NF4 or FP4: table values times the block's largest magnitude, which may be quantized too."""
    codes, largest = parts["codes"], parts[".absmax"]
    state = next((part for suffix, part in parts.items() if suffix.startswith(".quant_state")), None)
    if codes.dtype != "uint8" or state is None:
        return None
    said = _state(read(state))
    shape, block = tuple(said.get("shape", ())), said.get("blocksize", 0)
    nested = ".nested_absmax" in parts
    if (
        not shape
        or not block
        or codes.size != -(-math.prod(shape) // 2)
        or largest.size != -(-math.prod(shape) // block)
    ):
        return None
    words = f"{said.get('quant_type', 'nf4')}, a {'quantized' if nested else 'float32'} scale for {block} elements"

    def decode() -> Decode:
        table, packed = read(parts[".quant_map"]).astype(np.float32), read(codes).reshape(-1)
        scales = read(largest).reshape(-1)
        if nested:
            outer = np.repeat(read(parts[".nested_absmax"]), int(said["nested_blocksize"]))[: scales.size]
            scales = read(parts[".nested_quant_map"])[scales] * outer + np.float32(said["nested_offset"])

        def numbers(rows: range) -> NDArray[np.float32]:
            places = np.arange(rows.start * shape[-1], rows.stop * shape[-1])
            nibbles = packed[places // 2] >> (4 * (1 - places % 2)).astype(np.uint8) & 15  # the first one is the higher
            product: NDArray[np.float32] = (table[nibbles] * scales[places // block]).astype(np.float32)
            return product.reshape(len(rows), shape[-1])

        return numbers

    return Meaning(shape, words, decode)


def _state(data: NDArray[Any]) -> dict[str, Any]:
    try:
        said = json.loads(data.astype(np.uint8).tobytes())
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
