"""The loop that decodes blocks of packed codes: a table says where the bits of each element and each scale lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def decode_blocks(data: Any, halves: Any, fields: Any, masks: Any, tables: Any, out: Any) -> int:
    """Decode blocks to ``d scale[g] value[code]``, less or plus ``d2 minimum[g]``; return how many are not finite.

    ``data``, uint8 of shape (blocks, bytes). ``halves``, float32: the number of each float16. ``fields``, uint8 arrays
    of shape (6, count) for elements, scales and minima: byte and shift of the low bits, those of the high bits, masks
    of both. ``masks``, int64: where the float16 ``d`` and ``d2`` lie; the sign of the minimum or 0; for all
    elements the mask of the low bits, of the high bits, and the place of these; the place for scales and minima.
    ``tables``, float32 of 256 each: the value of a code, of a scale, of a minimum.
    """
    elements, scales, minima = fields
    values, scale_values, minimum_values = tables
    at, at2, sign, low_mask, high_mask, high_place = masks[0], masks[1], masks[2], masks[3], masks[4], masks[5]
    scale_place, groups = masks[6], scales.shape[1]
    width = elements.shape[1] // groups
    wrong = 0
    for b in range(data.shape[0]):
        block = data[b]
        d = halves[np.uint64(block[at]) | np.uint64(block[at + 1]) << np.uint64(8)]
        d2 = halves[np.uint64(block[at2]) | np.uint64(block[at2 + 1]) << np.uint64(8)]
        wrong += not (abs(d) < np.inf and abs(d2) < np.inf)
        for g in range(groups):
            code = (block[scales[0, g]] >> scales[1, g]) & scales[4, g]
            code |= ((block[scales[2, g]] >> scales[3, g]) & scales[5, g]) << scale_place
            scale = d * scale_values[np.uint8(code)]
            code = (block[minima[0, g]] >> minima[1, g]) & minima[4, g]
            code |= ((block[minima[2, g]] >> minima[3, g]) & minima[5, g]) << scale_place
            minimum = d2 * minimum_values[np.uint8(code)]
            for e in range(g * width, g * width + width):
                code = (block[elements[0, e]] >> elements[1, e]) & low_mask
                if high_mask:
                    code |= ((block[elements[2, e]] >> elements[3, e]) & high_mask) << high_place
                number = scale * values[np.uint8(code)]
                if sign > 0:
                    number = number + minimum
                elif sign < 0:
                    number = number - minimum
                out[b, e] = number
    return wrong
