"""Dot products and matrix products of codes, with a stated accumulator.

A product of two values of 8-bit formats is exact in float64. What differs between machines is how products are summed:
in which accumulator, in which order, rounded how. All of that is stated here, and the result is that of the stated
machine, bit for bit, on any number of threads.

The sums
--------
*accumulator* ``exact`` does not round before the end. ``float32``, ``float16``, ``bfloat16``, ``tf32`` (8 bits of
exponent, 10 of mantissa) and ``e{E}m{M}`` (2 to 10 of exponent, 1 to 50 of mantissa, such as ``e8m13``) are IEEE 754
binary formats with subnormals and infinities, into which they overflow.
``int:n`` is a two's complement integer of n bits that saturates, ``int:n:wrap`` one that wraps around; it counts in
units of the products: the largest power of two that divides every value of the first format, times that of the second
(2**-19 each for RF8). A format's name makes the accumulator a number of that format, which overflows as its
``rounding`` says.

*order*: with ``sequential`` each exact product is added to the accumulator, which starts at zero, with one rounding, as
a fused multiply-add does. With ``blocked:K`` each K products are summed exactly, then added with one rounding. With
``pairwise`` a tree of adders sums neighbours, each sum rounded once; an odd one out is added to zero. With
``aligned:F:K`` K products and the running sum are shifted to the largest exponent among them, cut off F bits below it,
added without another error, and the sum is rounded into the accumulator, a float. ``hopper-fp8`` and other names of
`rf8sim.arithmetic.accumulation.ENGINES` stand for matrix engines of NVIDIA, AMD and RISC-V as published models have
them, and docs/accumulators.md lists these, their sources and the options of an order. The exponent of a product is the
sum of its operands' exponents, that of a subnormal being that of the smallest normal number; sums beyond the largest
value are infinite.

*products* are exact, unless ``products`` names a floating-point type or a format: then each is first rounded to it, as
``product_rounding`` says and an accumulator of that type would, and integer accumulators count in its smallest value.

All these are fields of one value, `rf8sim.arithmetic.accumulation.Accumulation`.

*rounding* ``stochastic``: sum number s (from 1 on) of the output of flat index i draws word ``i % 4`` of the
Philox4x32-10 block of key (seed low, seed high) and counter (i // 4 low, i // 4 high, s, 0), and its low 24 bits are
added to the first 24 bits of the fraction to be cut off: the carry rounds up. Blocks with scales count their own sums
and then the one that adds them. Rounding the result draws from counters with s = 0.

*NaN*: one anywhere in a dot product makes it NaN, as do infinity times zero and infinity minus infinity. An exact sum
of zero is +0. An empty sum is 0.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import reference
from .._base.checks import as_codes
from .._base.threads import in_pieces
from ..codec.codec import drawn_words, encode, whole_table
from ..codec.rounding import Rounding, as_rounding, check_choices
from ..codec.undecided import is_odd, next_to_boundary, undecided
from ..formats import Format, get_format
from ..formats.floats import ARRAY_LAYOUTS
from .accumulation import Accumulation, OperandScales, as_accumulation
from .accumulators import Accumulator, get_accumulator, get_rule
from .operands import FLOAT32_DTYPES, Operand, get_operand, grid_of, nibble_tables
from .operations import Formats, each_format
from .orders import get_order
from .products import Outputs, Plan, accumulate, accumulate_blocks, accumulate_rounded, scaled_to_odd

__all__ = ["ProductOptions", "dot", "matmul", "matvec", "weight_matvec"]

Array = NDArray[np.float64]


class ProductOptions(TypedDict, total=False):
    """The options of `matmul`, which products of other shapes take too."""

    scales: OperandScales | None
    accumulator: str | Format | Accumulator | Accumulation
    result: str | Format | None
    rounding: str | Rounding
    threads: int | None


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    fmt: Formats,
    *,
    scales: OperandScales | None = None,
    accumulator: str | Format | Accumulator | Accumulation = "exact",
    result: str | Format | None = None,
    rounding: str | Rounding = "nearest-even",
    threads: int | None = None,
) -> NDArray[Any]:
    """Multiply matrices of codes; shapes are those of `numpy.matmul`.

    Parameters
    ----------
    a, b : array_like of uint8
        Codes, of shapes ``(..., rows, depth)`` and ``(..., depth, columns)``; a vector is a row or a column.
    fmt : str, Format or tuple
        Format of both, or a pair with the formats of ``a`` and ``b``; ``"float32"`` for numbers instead of codes.
    scales : OperandScales, optional
        Scales of the operands, for the tensor, channels or blocks.
    accumulator : str, Format, Accumulator or Accumulation
        ``exact``, ``float32``, ``float16``, ``bfloat16``, ``tf32``, ``e{E}m{M}``, ``int:n``, ``int:n:wrap`` or a
        format; or a matrix engine, ``hopper-fp8``, ``aligned:F:K``. An `Accumulation` has the order of the sums, their
        rounding and that of products too.
    result : str or Format, optional
        Format to round the result to; by default it stays as the accumulator has it.
    rounding : str or Rounding
        How the result is rounded to that format; without one, nothing but the accumulator rounds.
    threads : int, optional
        At most this many; the result does not depend on it. Exact sums, those of ``blocked`` orders too, are left to
        numpy's BLAS, in which nothing rounds, and to its own threads, which wait busily: limit those in BLAS.

    Returns
    -------
    ndarray
        Codes of ``result``; without one, numbers: float64 for ``exact`` and integers (rounded once, to nearest even,
        where the sum has more than 53 bits) and for floats wider than float32, float32 for the others, which it holds
        exactly.

    Raises
    ------
    ValueError
        If shapes do not match, an option is unknown, does not fit or changes nothing, or products are too wide for an
        integer.
    TypeError
        If an operand is not codes.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> a = rf8sim.encode([[1.0, 0.5], [0.25, -1.5]], "rf8")
    >>> rf8sim.matmul(a, a, "rf8")
    array([[ 1.125, -0.25 ],
           [-0.125,  2.375]])
    >>> rf8sim.decode(rf8sim.matmul(a, a, "rf8", accumulator="float16", result="rf8"), "rf8").tolist()
    [[1.125, -0.25], [-0.125, 1.5]]

    RF8 weights and int8 activations, summed in 24 bits:

    >>> x = np.array([[100], [-3]], np.int8).view(np.uint8)
    >>> rf8sim.matmul(a, x, ("rf8", "int8"), accumulator="int:28").ravel().tolist()
    [98.5, 29.5]

    A multiplier that rounds to RF8, and to bfloat16:

    >>> y = rf8sim.encode([1.25, 0.625], "rf8")
    >>> multipliers = [rf8sim.Accumulation(products=name) for name in ("exact", "bfloat16", "rf8")]
    >>> [float(rf8sim.dot(y, y, "rf8", accumulator=one)) for one in multipliers]
    [1.953125, 1.953125, 1.875]
    """
    left, right = (get_operand(x, name) for x, name in zip((a, b), each_format(fmt, 2), strict=True))
    sum_of, scaled = as_accumulation(accumulator), scales or OperandScales()
    layout, block_size = get_accumulator(sum_of.accumulator), scaled.block_size
    row, column = left.data.ndim == 1, right.data.ndim == 1
    batch = _check_shapes(left, right)
    if row:
        left = left._replace(data=left.data[None, :])
    if column:
        right = right._replace(data=right.data[:, None])
    rows, depth = left.shape[-2:]
    columns = right.shape[-1]
    rounded = get_accumulator(sum_of.products)
    unit, bits = left.grid.unit + right.grid.unit, left.grid.bits + right.grid.bits
    if not rounded.exact:
        _check_products(rounded, block_size)
        unit, bits = grid_of(rounded)
    if layout.integer is not None:
        _check_integer(layout, unit, bits, block_size)
    into = None if result is None else get_format(result)
    if into is not None:
        check_choices(into, rounding)
    elif as_rounding(rounding) != Rounding():
        raise ValueError(
            f"rounding '{as_rounding(rounding)}' changes nothing without `result`, whose rounding it is: name a format "
            "there, or give the rounding of sums as Accumulation(accumulator, rounding=...)"
        )
    rule = None if layout.exact else get_rule(layout, sum_of.rounding, unit)
    first = None if rounded.exact else get_rule(rounded, sum_of.product_rounding, unit)
    summing = as_rounding(sum_of.rounding)
    to_odd = into is not None
    plan = Plan(
        layout, get_order(sum_of.order), rule, summing.mode, summing.overflow, to_odd, threads, first, scaled.smallest
    )
    blocks = 1 if block_size is None else _block_count(depth, block_size)
    factors = (
        _scales("scales.a", scaled.a, (*batch, rows, blocks)),
        _scales("scales.b", scaled.b, (*batch, blocks, columns)),
    )
    sums = unscaled = _stacked(left, right, batch, factors, block_size, plan)
    if block_size is None and not (scaled.a is None and scaled.b is None):
        product = factors[0] * factors[1]
        sums = sums * product if into is None and layout.dtype is np.float64 else scaled_to_odd(sums, product)
    shape = sums.shape[:-2] + (() if row else (rows,)) + (() if column else (columns,))
    sums = np.asarray(sums).reshape(shape)
    if into is not None:
        outputs = Outputs(left, right, factors, block_size, plan)
        return _rounded(np.asarray(unscaled).reshape(shape), sums, outputs, into, as_rounding(rounding))
    with np.errstate(over="ignore"):
        return np.asarray(sums).astype(layout.dtype, copy=False)


def _rounded(unscaled: Array, sums: Array, outputs: Outputs, into: Format, rounding: Rounding) -> NDArray[Any]:
    """Round sums to codes; where a sum rounded to odd does not decide, the exact number does."""
    codes = encode(sums, into, rounding=rounding, threads=outputs.plan.threads)
    open_sums = undecided(sums, into, rounding)
    if outputs.plan.accumulator.exact and outputs.block_size is None:
        # A sum that was rounded to odd was then multiplied by a scale: the error lies before the product.
        inexact = (unscaled != sums) & is_odd(unscaled)
        if inexact.any():
            open_sums |= inexact & next_to_boundary(sums, into, rounding)
    if open_sums.any():
        words = drawn_words(sums.shape, rounding) if rounding.stochastic else None
        for index in np.flatnonzero(open_sums).tolist():
            word = None if words is None else int(words[index])
            number = outputs.number(index, float(unscaled.flat[index]))
            codes.flat[index] = reference.round_value(
                number, into, rounding.mode, rounding.overflow, word, rounding.bits, rounding.variant
            )
    return codes


def dot(a: ArrayLike, b: ArrayLike, fmt: Formats, **options: Unpack[ProductOptions]) -> NDArray[Any]:
    """Return the dot product of two vectors of codes.

    Parameters
    ----------
    a, b : array_like of uint8
        Codes, of shape ``(depth,)``.
    fmt : str, Format or tuple
        Format of both, or a pair with the formats of ``a`` and ``b``.
    **options
        ``scales``, ``accumulator``, ``result``, ``rounding`` and ``threads``, as for `matmul`.

    Returns
    -------
    ndarray
        Of shape ``()``; see `matmul`.

    Raises
    ------
    ValueError, TypeError
        As for `matmul`.

    Examples
    --------
    Half of 4096 small products is lost by float16 sums in sequence, none by a tree:

    >>> import numpy as np, rf8sim
    >>> x = rf8sim.encode(np.full(4096, 1.0), "rf8")
    >>> sums = [rf8sim.Accumulation("float16", order=order) for order in ("sequential", "pairwise")]
    >>> [float(rf8sim.dot(x, x, "rf8", accumulator=one)) for one in sums]
    [2048.0, 4096.0]
    """
    left, right = np.shape(a), np.shape(b)
    if len(left) != 1 or len(right) != 1:
        raise ValueError(f"dot takes two vectors, got shapes {left} and {right}: use matmul")
    return matmul(a, b, fmt, **options)


def matvec(a: ArrayLike, b: ArrayLike, fmt: Formats, **options: Unpack[ProductOptions]) -> NDArray[Any]:
    """Multiply matrices and vectors of codes.

    Parameters
    ----------
    a : array_like of uint8
        Codes, of shape ``(..., rows, depth)``.
    b : array_like of uint8
        Codes, of shape ``(..., depth)``.
    fmt : str, Format or tuple
        Format of both, or a pair with the formats of ``a`` and ``b``.
    **options
        ``scales``, ``accumulator``, ``result``, ``rounding`` and ``threads``, as for `matmul`; ``scales.b`` broadcasts
        with ``(..., 1)``, with a block size with ``(..., blocks)``.

    Returns
    -------
    ndarray
        Of shape ``(..., rows)``; see `matmul`.

    Raises
    ------
    ValueError, TypeError
        As for `matmul`.

    Examples
    --------
    >>> import rf8sim
    >>> a, x = rf8sim.encode([[1.0, 0.5], [0.25, -1.5]], "rf8"), rf8sim.encode([1.0, 1.0], "rf8")
    >>> rf8sim.matvec(a, x, "rf8", accumulator="float32")
    array([ 1.5 , -1.25], dtype=float32)
    """
    vector = np.asarray(b)
    if np.ndim(a) < 2 or not vector.ndim:
        raise ValueError(f"matvec takes matrices and vectors, got shapes {np.shape(a)} and {vector.shape}")
    scales = options.get("scales")
    if scales is not None and scales.b is not None and np.ndim(scales.b):
        options["scales"] = replace(scales, b=np.asarray(scales.b)[..., None])
    product: NDArray[Any] = matmul(a, vector[..., None], fmt, **options)[..., 0]
    return product


def weight_matvec(
    codes: ArrayLike,
    x: ArrayLike,
    fmt: str | Format,
    *,
    scale: ArrayLike | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Multiply a matrix of coded weights with a float32 vector, fast: codes are decoded on the way.

    This is for running a model, `matvec` for simulating a machine. It is exactly defined all the same: product i is
    rounded to float32 and added, rounded, to sum i % 32; then sums l and l + 16 are added, l and l + 8, and so on.
    RF8 is decoded 32 codes at a time by looking up bytes, other formats by a table of values; the result is the same.

    Parameters
    ----------
    codes : array_like of uint8, shape (rows, depth)
        The weights.
    x : array_like of float32, shape (depth,)
        The activations; float16 and bfloat16 are widened.
    fmt : str or Format
        Format of the weights.
    scale : array_like of float32, optional
        One scale, or one for each row, of shape (rows,) or (rows, 1): multiplied to the result in float32.
    threads : int, optional
        At most this many; the result does not depend on it.

    Returns
    -------
    ndarray of float32, shape (rows,)
        The product.

    Raises
    ------
    ValueError
        If shapes do not match or the format is unknown.
    TypeError
        If the codes are not integers, or x is float64 or no numbers.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> codes = rf8sim.encode([[1.0, 0.5], [0.25, -1.5]], "rf8")
    >>> rf8sim.arithmetic.linalg.weight_matvec(codes, np.float32([0.1, 10.0]), "rf8", scale=2.0)
    array([ 10.2 , -29.95], dtype=float32)
    """
    from .._kernels.matvec import DECODED, matvec_nibbles, matvec_table

    chosen = get_format(fmt)
    weights = np.ascontiguousarray(as_codes(codes, chosen.bits, chosen.name))
    vector = np.asarray(x)
    if vector.dtype.name not in FLOAT32_DTYPES:
        raise TypeError(f"x must be float32 numbers, got dtype {vector.dtype.name}: convert first")
    if weights.ndim != 2 or vector.shape != weights.shape[1:]:
        raise ValueError(f"weights (rows, depth) and x (depth,) are needed, got shapes {weights.shape}, {vector.shape}")
    rows, depth = weights.shape
    padded = np.zeros(-(-depth // 32) * 32, np.float32)
    padded[:depth] = vector
    out = np.empty(rows, np.float32)
    bytes_of = nibble_tables(chosen)
    if bytes_of is None:
        table = whole_table(chosen.values).astype(np.float32)
        in_pieces(
            lambda start, stop: matvec_table(weights[start:stop], padded, table, out[start:stop]),
            rows, threads, weight=depth,
        )  # fmt: skip
    else:
        order = np.array(DECODED)
        turned = np.ascontiguousarray(padded.reshape(-1, 32)[:, order]).reshape(-1)
        in_pieces(
            lambda start, stop: matvec_nibbles(
                weights[start:stop], turned, *bytes_of, order, out[start:stop]
            ),
            rows, threads, weight=depth,
        )  # fmt: skip
    if scale is not None:
        factor = np.asarray(scale, dtype=np.float32)
        if factor.shape not in ((), (rows,), (rows, 1)):
            raise ValueError(f"scale must be one, or one for each of {rows} rows, got shape {factor.shape}")
        out *= factor.reshape(-1) if factor.ndim else factor
    return out


def _stacked(
    a: Operand, b: Operand, batch: tuple[int, ...], scales: tuple[Array, Array], block_size: int | None, plan: Plan
) -> Array:
    """Multiply stacks of matrices; one matrix ``b`` takes all rows of the stack at once."""
    rows, depth = a.shape[-2:]
    columns = b.shape[-1]
    count, blocks = math.prod(batch), scales[0].shape[-1]
    left = np.broadcast_to(a.data, (*batch, rows, depth))
    by_row, by_column, right = scales[0], scales[1], b.data
    if b.data.ndim == 2 and count > 1 and (block_size is None or not any(by_column.strides[:-2])):
        count, rows = 1, count * rows
        by_column = by_column[(0,) * len(batch)]
    else:
        right = np.broadcast_to(b.data, (*batch, depth, columns))
    left, right = left.reshape(count, rows, depth), right.reshape(count, depth, columns)
    by_row, by_column = by_row.reshape(count, rows, blocks), by_column.reshape(count, blocks, columns)
    sums = np.empty((count, rows, columns))
    for number in range(count):
        pair = a._replace(data=left[number]), b._replace(data=right[number])
        first = number * rows * columns
        if plan.products is not None:
            sums[number] = accumulate_rounded(*pair, plan.products, plan, first)
        elif block_size is None:
            sums[number] = accumulate(*pair, plan, first)
        else:
            sums[number] = accumulate_blocks(*pair, (by_row[number], by_column[number]), block_size, plan, first)
    return sums.reshape(*batch, a.shape[-2], columns)


def _check_shapes(a: Operand, b: Operand) -> tuple[int, ...]:
    """Return the shape of the stack, or raise ValueError."""
    left, right = a.shape, b.shape
    if not left or not right:
        raise ValueError(f"matmul takes vectors and matrices, got shapes {left} and {right}: use multiply for scalars")
    depth = right[-2] if len(right) > 1 else right[0]
    try:
        batch = np.broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        raise ValueError(f"stacks of matrices of shapes {left} and {right} do not broadcast") from None
    if left[-1] != depth:
        raise ValueError(f"shapes {left} and {right} do not match: {left[-1]} columns of a against {depth} rows of b")
    return batch


def _check_products(rounded: Accumulator, block_size: int | None) -> None:
    if block_size is not None:
        raise ValueError(f"products rounded to {rounded.name!r} take no block scales: leave block_size out")


def _check_integer(accumulator: Accumulator, unit: int, bits: int, block_size: int | None) -> None:
    if bits > 52:
        raise ValueError(
            f"accumulator {accumulator.name!r}: products of these formats are integers of up to {bits} bits in units "
            f"of 2**{unit}, and integer accumulators take products of up to 52: use 'exact' or a float"
        )
    if block_size is not None:
        raise ValueError(
            f"accumulator {accumulator.name!r} takes no block scales: scaled sums are no integers; use a float "
            f"accumulator with order 'blocked:{block_size}', whose block sums are exact"
        )


def _block_count(depth: int, block_size: int) -> int:
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    return -(-depth // block_size)


def _scales(name: str, scale: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    array = np.asarray(1.0 if scale is None else scale)
    if array.dtype.kind not in "fiu" and array.dtype.name not in ARRAY_LAYOUTS:
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype.name}")
    values = array.astype(np.float32)
    if not np.all((values > 0) & np.isfinite(values) & (values == array)):
        raise ValueError(f"{name} must be positive finite float32 numbers")
    try:
        return np.broadcast_to(values.astype(np.float64), shape)
    except ValueError:
        raise ValueError(
            f"{name} of shape {array.shape} does not broadcast with {shape}: (..., rows, 1) for a and (..., 1, "
            "columns) for b, or with block_size the blocks along the summed axis in place of 1"
        ) from None
