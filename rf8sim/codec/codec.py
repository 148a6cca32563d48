"""From numbers to codes and back."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ggd.arrays import as_numpy, in_kind

from .._base.checks import as_codes, as_integer, as_output, dtype_name
from .._base.threads import in_pieces
from ..formats import Format, get_format
from ..formats.floats import ARRAY_LAYOUTS
from . import dispatch as _kernels
from .drawing import adder_words, has_wide_gaps, interval_numbers, mend_wide_gaps, ties_of_numbers
from .inputs import as_data
from .rounding import Overflow, Rounding, RoundingMode, as_rounding, check_choices
from .thresholds import SIGNIFICAND, CellTable, cell_table, full_table, integer_codes, search_table, stochastic_table

__all__ = ["canonical", "decode", "encode", "random_words"]

_PATTERN = {name: layout.pattern_dtype for name, layout in ARRAY_LAYOUTS.items()}


def encode(
    x: ArrayLike,
    fmt: str | Format,
    *,
    rounding: str | Rounding = "nearest-even",
    threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Round numbers to a format, once and exactly, and return the codes.

    The mode sees the exact value of each input: nothing is first rounded to another type.

    Parameters
    ----------
    x : array_like
        float64, float32, float16, bfloat16 or integers, of any shape and layout. Small floats of ml_dtypes and PyTorch
        are read as the float32 numbers that they are. A PyTorch tensor or an array of JAX, CuPy or another library
        with the array API is copied from its device.
    fmt : str or Format
        The format.
    rounding : str or Rounding
        A mode, such as ``"up"``; a mode and what becomes of inputs beyond the largest value, ``"toward-zero/nan"``; or
        a `Rounding`, which has the seed and the random words of ``stochastic`` too.
    threads : int, optional
        At most this many threads; the result does not depend on it.
    out : ndarray of uint8 or uint16, optional
        Where to put the codes; of x's shape.

    Returns
    -------
    ndarray of uint8, or of uint16 for a format of more than 8 bits
        Canonical codes, of x's shape; as an array of x's library, on its device, unless ``out`` is given.

    Raises
    ------
    ValueError
        If the format, mode or option is unknown or they do not fit each other; if x holds NaN and the format has none.
    TypeError
        If x is not real numbers.

    See Also
    --------
    decode, quantize

    Examples
    --------
    >>> import rf8sim
    >>> codes = rf8sim.encode([1.0, -0.3, 0.026, 7.0], "rf8")
    >>> codes
    array([123, 238,  81, 127], dtype=uint8)
    >>> rf8sim.decode(codes, "rf8")
    array([ 1.        , -0.3125    ,  0.02734375,  1.5       ], dtype=float32)
    >>> drawn = rf8sim.Rounding("stochastic", seed=1)
    >>> rf8sim.decode(rf8sim.encode([0.29, 0.29, 0.29, 0.29], "rf8", rounding=drawn), "rf8").tolist()
    [0.3125, 0.3125, 0.28125, 0.28125]
    """
    fmt = get_format(fmt)
    chosen = as_rounding(rounding)
    mode, option = check_choices(fmt, chosen)
    data = as_data(x)
    codes = as_output(out, data.shape, fmt.code_dtype)
    flat = np.ascontiguousarray(data).reshape(-1)
    in_place = codes.flags.c_contiguous and not np.may_share_memory(codes, flat)
    target = codes.reshape(-1) if in_place else np.empty(data.size, dtype=fmt.code_dtype)
    if fmt.nan is None:
        _refuse_nan(flat, data.shape, fmt)
    if mode is RoundingMode.STOCHASTIC:
        words = _checked_words(chosen.words, data.shape)
        _encode_stochastic(flat, fmt, chosen, words, threads, target)
    else:
        _encode_flat(flat, fmt, mode, option, threads, target)
    if not in_place:
        codes[...] = target.reshape(data.shape)
    return codes if out is not None else in_kind(codes, x)


def _encode_flat(
    flat: NDArray[Any], fmt: Format, mode: RoundingMode, option: Overflow, threads: int | None, out: NDArray[Any]
) -> None:
    """Encode a flat, contiguous array by the smallest table that its dtype allows."""
    name = dtype_name(flat.dtype)
    if flat.dtype.itemsize <= 2:
        table = full_table(fmt, mode, option, name)
        index = flat.view(np.uint16 if flat.dtype.itemsize == 2 else np.uint8)
        in_pieces(lambda start, stop: _kernels.look_up(index[start:stop], table, out[start:stop]), flat.size, threads)
        return
    if flat.dtype.kind in "iu":
        out[:] = integer_codes(fmt, mode, option, flat)
        return
    bits = flat.view(_PATTERN[name])
    cells = cell_table(fmt, mode, option, name)
    if cells is None:
        search = tuple(search_table(fmt, mode, option, name))
        in_pieces(
            lambda start, stop: _kernels.encode_search(bits[start:stop], search, out[start:stop]), flat.size, threads
        )
        return
    threshold, result, shift = cells
    in_pieces(
        lambda start, stop: _kernels.encode_cells(bits[start:stop], threshold, result, shift, out[start:stop]),
        flat.size,
        threads,
    )


def _encode_stochastic(
    flat: NDArray[Any],
    fmt: Format,
    rounding: Rounding,
    words: NDArray[np.uint32] | None,
    threads: int | None,
    out: NDArray[Any],
) -> None:
    key = _philox_key(rounding.seed, rounding.offset, flat.size)
    if flat.dtype.itemsize == 2 and flat.dtype.kind not in "iu":
        flat = flat.astype(np.float32)
    elif flat.dtype.kind in "iu":
        flat = _integers_as_float64(flat, fmt)
    table = stochastic_table(fmt, Overflow(rounding.overflow), dtype_name(flat.dtype))
    bits = flat.view(_PATTERN[dtype_name(flat.dtype)])
    cells = table.cells
    if cells is None:  # find the intervals by search, and let each be a cell of its own
        bits = (np.searchsorted(table.steps.first, bits.astype(np.uint64), side="right") - 1).astype(np.uint32)
        cells = CellTable(
            np.arange(table.steps.first.size, dtype=np.uint32),
            np.repeat(table.steps.result.astype(np.uint32), 2),
            np.uint32(0),
        )
    wide, number = has_wide_gaps(table), None
    if rounding.variant != "A" or wide:
        number = interval_numbers(flat.view(_PATTERN[dtype_name(flat.dtype)]), table)
        if words is None:
            words = random_words(rounding.seed, flat.size, rounding.offset)
        ties = ties_of_numbers(flat, words, rounding.bits, table, number) if rounding.variant == "C" else None
        words, compared = adder_words(words, rounding, ties)
        rounding = replace(rounding, variant="A", bits=compared)
    fine, coarse = (table.drop, table.cell_codes), (table.lower, table.gap, table.inverse, table.codes)
    mantissa = ARRAY_LAYOUTS[dtype_name(flat.dtype)].mantissa_bits
    digits, k = (np.uint64(mantissa), np.uint64(SIGNIFICAND - mantissa)), np.uint64(rounding.bits)

    def work(start: int, stop: int) -> None:
        where = flat[start:stop], bits[start:stop], tuple(cells), fine, coarse, digits
        if words is None:
            _kernels.encode_drawn(*where, key, np.uint64(rounding.offset + start), k, out[start:stop])
        else:
            _kernels.encode_stochastic(*where, words[start:stop], k, out[start:stop])

    in_pieces(work, flat.size, threads)
    if wide and words is not None and number is not None:
        mend_wide_gaps(flat, fmt, rounding, words, table, number, out)


def _philox_key(seed: int, offset: int, size: int) -> tuple[np.uint64, np.uint64]:
    seed = as_integer("seed", seed, 0, (1 << 64) - 1, "from 0 to 2**64 - 1")
    if not 0 <= offset <= (1 << 64) - max(size, 1):
        raise ValueError(f"offset plus the number of elements must not pass 2**64, got {offset} and {size}")
    return np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)


def random_words(seed: int, size: int, offset: int = 0) -> NDArray[np.uint32]:
    """Return the words that ``stochastic`` draws: Philox4x32-10 keyed by the seed, counted by the flat index.

    Element i of the whole takes word ``i % 4`` of the block of counter ``i // 4``.

    Parameters
    ----------
    seed : int
        0 to 2**64 - 1.
    size : int
        How many words.
    offset : int
        Flat index of the first.

    Returns
    -------
    ndarray of uint32, shape (size,)
        The words.

    Raises
    ------
    ValueError
        If an argument is no such integer.

    Examples
    --------
    >>> [hex(word) for word in random_words(0, 4).tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    size = as_integer("size", size, 0, (1 << 63) - 1, "that is not negative")
    offset = as_integer("offset", offset, 0, (1 << 64) - 1, "from 0 to 2**64 - 1")
    skip = offset % 4
    buffer = np.empty(-(-(skip + size) // 4) * 4, dtype=np.uint32)
    _kernels.philox_words(*_philox_key(seed, offset, size), np.uint64(offset // 4), buffer)
    return buffer[skip : skip + size]


def drawn_words(shape: tuple[int, ...], rounding: Rounding) -> NDArray[np.uint32]:
    """Return the words of stochastic rounding, flat, for results of a shape: those given, or else the generator's."""
    size = math.prod(shape)
    _philox_key(rounding.seed, rounding.offset, size)
    words = _checked_words(rounding.words, shape)
    return random_words(rounding.seed, size, rounding.offset) if words is None else words


def _checked_words(words: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.uint32] | None:
    if words is None:
        return None
    array = np.asarray(words)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise ValueError(f"words must be uint32 of x's shape {shape}, got {array.dtype.name} of shape {array.shape}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >> 32):
        raise ValueError("words must fit in 32 bits")
    return np.ascontiguousarray(array, dtype=np.uint32).reshape(-1)


def _integers_as_float64(x: NDArray[Any], fmt: Format) -> NDArray[np.float64]:
    """Convert integers to float64, those above 2**53 truncated: a draw of 32 bits in a gap of 2**43 sees no more."""
    wide = x.astype(np.int64 if x.dtype.kind == "i" else np.uint64)
    negative = wide < 0
    magnitude = np.where(negative, np.uint64(0) - wide.view(np.uint64), wide.view(np.uint64))
    if np.any(magnitude >> np.uint64(53)):
        for side in fmt.sides:
            if np.any(np.diff(side.magnitudes)[side.magnitudes[1:] > 2.0**53] < 2.0**43):
                raise ValueError(
                    f"integers beyond 2**53 cannot round stochastically to {fmt.name!r}: convert to float64"
                )
    magnitude = np.where(magnitude >> np.uint64(53) != 0, magnitude & ~np.uint64((1 << 11) - 1), magnitude)
    return np.where(negative, -magnitude.astype(np.float64), magnitude.astype(np.float64))


def _refuse_nan(flat: NDArray[Any], shape: tuple[int, ...], fmt: Format) -> None:
    if flat.dtype.kind in "iu" or not flat.size:
        return
    layout = ARRAY_LAYOUTS[dtype_name(flat.dtype)]
    pattern = layout.pattern_dtype.type
    bits = flat.view(layout.pattern_dtype)
    first = _kernels.first_above(bits, pattern(layout.magnitude_mask), pattern(layout.infinity))
    if first >= 0:
        where = ", ".join(map(str, np.unravel_index(first, shape))) if shape else ""
        raise ValueError(
            f"x holds NaN, first at index ({where}), and format {fmt.name!r} has no NaN code: "
            "replace it (numpy.nan_to_num), or choose a format with NaN"
        )


def decode(
    codes: ArrayLike,
    fmt: str | Format,
    *,
    dtype: DTypeLike = np.float32,
    threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the values of codes; exact in float32 and float64.

    Parameters
    ----------
    codes : array_like of uint8 or uint16
        Codes of the format, canonical or not; also as an array of another library, as in `encode`.
    fmt : str or Format
        The format.
    dtype : dtype
        float32, float64, float16 or bfloat16; the latter two round the table once, to nearest even.
    threads : int, optional
        At most this many threads.
    out : ndarray, optional
        Where to put the values; of the codes' shape and of ``dtype``.

    Returns
    -------
    ndarray
        The values, of the codes' shape; as an array of the codes' library, on its device, unless ``out`` is given.

    Raises
    ------
    ValueError
        If the format is unknown, a code is out of range, or float32 does not hold the format's values.
    TypeError
        If the codes are not integers or the dtype is not one of the four.

    Examples
    --------
    >>> import rf8sim
    >>> rf8sim.decode([0x00, 0x7B, 0xFF, 0x80], "rf8")
    array([ 0. ,  1. , -1.5,  nan], dtype=float32)
    """
    fmt = get_format(fmt)
    table = _value_table(fmt, np.dtype(dtype))
    array = as_codes(as_numpy(codes), fmt.bits, fmt.name)
    values = as_output(out, array.shape, table.dtype)
    flat = np.ascontiguousarray(array).reshape(-1)
    _fill(values, flat, table, threads)
    return values if out is not None else in_kind(values, codes)


def canonical(codes: ArrayLike, fmt: str | Format, *, threads: int | None = None) -> NDArray[Any]:
    """Replace each code by the canonical code of its value: aliases by what an encoder produces, NaNs by the NaN.

    Parameters
    ----------
    codes : array_like of uint8 or uint16
        Codes of the format.
    fmt : str or Format
        The format.
    threads : int, optional
        At most this many threads.

    Returns
    -------
    ndarray of uint8 or uint16
        Canonical codes, of the same shape and library.

    Raises
    ------
    ValueError
        If the format is unknown or a code is out of range.

    Examples
    --------
    >>> import rf8sim
    >>> rf8sim.canonical([0x07, 0x08], "rf8")
    array([7, 7], dtype=uint8)
    """
    fmt = get_format(fmt)
    array = as_codes(as_numpy(codes), fmt.bits, fmt.name)
    values: NDArray[Any] = np.empty(array.shape, dtype=fmt.code_dtype)
    _fill(values, np.ascontiguousarray(array).reshape(-1), whole_table(fmt.canonical), threads)
    return in_kind(values, codes)


def _fill(values: NDArray[Any], flat: NDArray[Any], table: NDArray[Any], threads: int | None) -> None:
    contiguous = values.flags.c_contiguous and values.flags.aligned and not np.may_share_memory(values, flat)
    target = values.reshape(-1) if contiguous else np.empty(flat.size, dtype=values.dtype)
    # numba knows no bfloat16: a look-up moves bits, whatever they mean.
    bits, moved = (table.view(np.uint16), target.view(np.uint16)) if table.dtype.itemsize == 2 else (table, target)
    in_pieces(lambda start, stop: _kernels.look_up(flat[start:stop], bits, moved[start:stop]), flat.size, threads)
    if not contiguous:
        values[...] = target.reshape(values.shape)


@lru_cache(maxsize=64)
def _value_table(fmt: Format, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.name not in _PATTERN or not dtype.isnative:
        raise TypeError(f"decode gives float32, float64, float16 or bfloat16, not {dtype.name}")
    if dtype == np.float32 and not fmt.fits_float32:
        raise ValueError(f"format {fmt.name!r} has values that are no float32 numbers: decode with dtype='float64'")
    with np.errstate(over="ignore", invalid="ignore"):
        return whole_table(fmt.values).astype(dtype)


def whole_table(table: NDArray[Any]) -> NDArray[Any]:
    """Extend a table of a narrow format to all bytes, or pairs of bytes: a look-up needs no check.

    Codes are checked before.
    """
    size = 1 << (8 if table.size <= 256 else 16)
    return table if table.size == size else np.resize(table, size)
