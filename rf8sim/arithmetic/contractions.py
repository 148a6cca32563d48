"""Sums of products over other axes than a matrix product's, each as one `matmul`: einsum and convolution.

Accumulators, orders and everything else are those of `rf8sim.arithmetic.linalg`, where they are described.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..formats import Format, get_format
from .accumulation import OperandScales
from .linalg import ProductOptions, matmul
from .operations import Formats, each_format

__all__ = ["conv2d", "einsum"]


def einsum(
    subscripts: str, a: ArrayLike, b: ArrayLike, fmt: Formats, **options: Unpack[ProductOptions]
) -> NDArray[Any]:
    """Sum products of two arrays of codes over named axes, as `numpy.einsum` does.

    Parameters
    ----------
    subscripts : str
        A letter for each axis: ``"bqd,bkd->bqk"``. A letter of both arrays that is not in the result is summed over. If
        ``->`` and the result are left out, it has the letters that occur once, in alphabetical order.
    a, b : array_like of uint8
        Codes.
    fmt : str, Format or tuple
        Format of both, or a pair with the formats of ``a`` and ``b``.
    **options
        ``scales``, ``accumulator``, ``result``, ``rounding`` and ``threads``, as for `matmul`, without block scales.
        Products are summed in the order of ``a``'s axes, the last one fastest. ``scales.a`` and ``scales.b`` are one
        number, or have an axis for each of the array's, of length 1 where it is summed over. The flat index that
        stochastic rounding draws words by is that of a result whose axes come as those in both arrays, ``a``'s others,
        ``b``'s others, each in the order of their array.

    Returns
    -------
    ndarray
        Codes or numbers, as for `matmul`.

    Raises
    ------
    ValueError
        As for `matmul`; if the subscripts do not fit the arrays, or ask for what is no sum of products of both.
    TypeError
        As for `matmul`.

    See Also
    --------
    rf8sim.matmul

    Examples
    --------
    Scores of attention, in a float16 accumulator:

    >>> import numpy as np, rf8sim
    >>> queries = rf8sim.encode(np.arange(12.0).reshape(1, 2, 3, 2) / 8, "rf8")
    >>> rf8sim.einsum("bqhd,bkhd->bhqk", queries, queries, "rf8", accumulator="float16")[0, 0].tolist()
    [[0.015625, 0.109375], [0.109375, 1.328125]]
    """
    left, right = np.asarray(a), np.asarray(b)
    first, second, result = _axes(subscripts, (left.shape, right.shape))
    scales = options.get("scales") or OperandScales()
    if scales.block_size is not None:
        raise ValueError("einsum takes no block scales: transpose the arrays, and use matmul")
    sizes = {**dict(zip(first, left.shape, strict=True)), **dict(zip(second, right.shape, strict=True))}
    common = [axis for axis in first if axis in second]
    stacked = [axis for axis in common if axis in result]
    summed = [axis for axis in common if axis not in result]
    rows, columns = ([axis for axis in axes if axis not in common] for axes in (first, second))
    groups = {"a": (first, (stacked, rows, summed)), "b": (second, (stacked, summed, columns))}
    for name, (axes, group) in groups.items():
        given = getattr(scales, name)
        if given is not None and np.ndim(given):
            wanted = tuple(1 if axis in summed else sizes[axis] for axis in axes)
            try:
                scale = np.broadcast_to(given, wanted)
            except ValueError:
                raise ValueError(
                    f"scales.{name} of shape {np.shape(given)} does not broadcast with {wanted}: an axis for each of "
                    f"{name}'s, of length 1 where it is summed over"
                ) from None
            grouped = _grouped(scale, axes, group)
            scales = replace(scales, a=grouped) if name == "a" else replace(scales, b=grouped)
    options["scales"] = scales
    product = matmul(_grouped(left, *groups["a"]), _grouped(right, *groups["b"]), fmt, **options)
    made = [*stacked, *rows, *columns]
    return product.reshape([sizes[axis] for axis in made]).transpose([made.index(axis) for axis in result])


def _axes(subscripts: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[str, str, str]:
    """Return the letters of both arrays and of the result, or raise ValueError."""
    given, arrow, result = str(subscripts).replace(" ", "").partition("->")
    operands = given.split(",")
    if len(operands) != 2:
        raise ValueError(
            f"einsum takes two arrays, as in 'ij,jk->ik', got {subscripts!r} of {len(operands)}: multiply two at a "
            "time, and say with result= how each product is rounded"
        )
    if not arrow:
        result = "".join(sorted(axis for axis in {*given} - {","} if given.count(axis) == 1))
    letters = "".join([*operands, result])
    if letters and not (letters.isascii() and letters.isalpha()):
        what = "the axes of an ellipsis have no names: give each a letter" if "..." in letters else "axes are letters"
        raise ValueError(f"subscripts {subscripts!r}: {what}")
    for name, axes, shape in zip(("a", "b", "the result"), (*operands, result), (*shapes, None), strict=True):
        twice = sorted(axis for axis in set(axes) if axes.count(axis) > 1)
        if twice:
            raise ValueError(f"subscripts {subscripts!r}: axis {twice[0]!r} is twice in {name}: take a diagonal first")
        if shape is not None and len(axes) != len(shape):
            raise ValueError(f"subscripts {subscripts!r} name {len(axes)} axes of {name}, which has shape {shape}")
    for axis in result:
        if axis not in given:
            raise ValueError(f"subscripts {subscripts!r}: axis {axis!r} of the result is in neither array")
    sizes: dict[str, int] = {}
    for name, axes, other, shape in zip("ab", operands, operands[::-1], shapes, strict=True):
        for axis, size in zip(axes, shape, strict=True):
            if axis not in result and axis not in other:
                raise ValueError(
                    f"subscripts {subscripts!r}: axis {axis!r} of {name} is in nothing else: a sum over it is none of "
                    "products; keep it in the result"
                )
            if sizes.setdefault(axis, size) != size:
                raise ValueError(
                    f"axis {axis!r} is {sizes[axis]} long in a of shape {shapes[0]}, {size} in b of {shape}"
                )
    return operands[0], operands[1], result


def _grouped(x: NDArray[Any], axes: str, groups: tuple[list[str], ...]) -> NDArray[Any]:
    """Return an array with each group of axes as one."""
    order = [axes.index(axis) for group in groups for axis in group]
    shape = [math.prod(x.shape[axes.index(axis)] for axis in group) for group in groups]
    return x.transpose(order).reshape(shape)


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    fmt: Formats,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    **options: Unpack[ProductOptions],
) -> NDArray[Any]:
    """Correlate images with filters: `matmul` of the images' patches (im2col) and the filters.

    Products are summed in the order channel, row, column of a filter.

    Parameters
    ----------
    x : array_like of uint8, shape (images, channels, height, width)
        Codes of images.
    weight : array_like of uint8, shape (filters, channels, rows, columns)
        Codes of filters.
    fmt : str, Format or tuple
        Format of both, or a pair with the formats of the images and of the filters.
    stride, padding : int or pair of int
        Step between patches, and zeros around each image: down, across.
    **options
        ``scales``, ``accumulator``, ``result``, ``rounding`` and ``threads``, as for `matmul`: the images are its
        ``a``, a filter is a column of its ``b``. So ``scales.b`` may have the shape ``(filters,)``.

    Returns
    -------
    ndarray, shape (images, filters, height', width')
        Codes or numbers, as for `matmul`.

    Raises
    ------
    ValueError
        As for `matmul`; if shapes do not fit, or zeros are asked for of a format without zero.
    TypeError
        As for `matmul`.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> image = rf8sim.encode(np.arange(9).reshape(1, 1, 3, 3) / 8, "rf8")
    >>> ones = rf8sim.encode(np.ones((1, 1, 2, 2)), "rf8")
    >>> rf8sim.conv2d(image, ones, "rf8")[0, 0].tolist()
    [[1.0, 1.5], [2.5, 3.0]]
    """
    images, filters = np.asarray(x), np.asarray(weight)
    if images.ndim != 4 or filters.ndim != 4 or images.shape[1] != filters.shape[1]:
        raise ValueError(
            "conv2d takes images (images, channels, height, width) and filters (filters, channels, rows, columns) "
            f"of as many channels, got shapes {images.shape} and {filters.shape}"
        )
    down, across = _pair("stride", stride, 1)
    top, left = _pair("padding", padding, 0)
    if top or left:
        images = np.pad(
            images, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=_zero_of(each_format(fmt, 2)[0])
        )
    size = filters.shape[2:]
    if any(have < need for have, need in zip(images.shape[2:], size, strict=True)) or not all(size):
        raise ValueError(f"filters of {size} do not fit into padded images of {images.shape[2:]}")
    windows = np.lib.stride_tricks.sliding_window_view(images, size, axis=(2, 3))[:, :, ::down, ::across]
    patches = windows.transpose(0, 2, 3, 1, 4, 5)
    count, height, width = patches.shape[:3]
    depth = math.prod(filters.shape[1:])
    product = matmul(patches.reshape(count * height * width, depth), filters.reshape(-1, depth).T, fmt, **options)
    return product.reshape(count, height, width, -1).transpose(0, 3, 1, 2)


def _zero_of(fmt: str | Format) -> int | float:
    if isinstance(fmt, str) and fmt == "float32":
        return 0.0
    chosen = get_format(fmt)
    if chosen.zero is None:
        raise ValueError(f"format {chosen.name!r} has no zero: padding must be 0")
    return chosen.zero


def _pair(name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(f"{name} must be an integer of at least {least}, or two, got {value!r}")
    return pair[0], pair[1]
