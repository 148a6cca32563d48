"""Where the error of a matrix product comes from: the inputs' quantization, the accumulation, the output's rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codec.boundaries import place
from ..codec.rounding import Rounding, RoundingMode, as_rounding, check_choices
from ..formats import Format
from ..quantization.scheme import Scheme, as_scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .accumulation import Accumulation, as_accumulation
from .accumulators import Accumulator, get_accumulator
from .linalg import matmul
from .orders import Order, get_order, step_count

__all__ = ["MatmulError", "accumulation_bound", "matmul_error", "unit_roundoff"]

Array = NDArray[np.float64]

_NEAREST = ("nearest-even", "nearest-away")


@dataclass(frozen=True)
class MatmulError:
    """The parts of a matrix product's forward error; they add up to the whole.

    Parameters
    ----------
    exact : ndarray of float64, shape (rows, columns)
        The product of the unquantized matrices.
    inputs : ndarray of float64
        What quantizing the inputs adds: the exact product of the quantized matrices, less ``exact``.
    accumulation : ndarray of float64
        What the accumulator adds.
    output : ndarray of float64
        What rounding the result to a format adds; zeros without one.
    bound : ndarray of float64
        The a-priori bound of ``abs(accumulation)``; see `accumulation_bound`. Infinite where there is none.
    """

    exact: Array
    inputs: Array
    accumulation: Array
    output: Array
    bound: Array

    @property
    def total(self) -> Array:
        """The whole error."""
        return self.inputs + self.accumulation + self.output

    def relative(self) -> dict[str, float]:
        """Return the root mean square of each part and of the whole, over that of the exact product."""
        signal = _rms(self.exact)
        parts = {name: getattr(self, name) for name in ("inputs", "accumulation", "output", "total")}
        return {name: _rms(part) / signal if signal else math.nan for name, part in parts.items()}


def _rms(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(x)))) if x.size else math.nan


def _transposed(quantized: QuantizedTensor) -> QuantizedTensor:
    """Return a matrix with its channels along the columns."""
    scales = tuple(scale.T for scale in quantized.scales)
    scheme = quantized.scheme
    if scheme.scales is not None and scheme.scales.block is not None:
        scheme = replace(scheme, scales=replace(scheme.scales, block=(-1, 1)))
    return QuantizedTensor(np.ascontiguousarray(quantized.codes.T), scales, scheme)


def matmul_error(
    a: ArrayLike,
    b: ArrayLike,
    scheme: str | Scheme,
    *,
    scheme_b: str | Scheme | None = None,
    accumulator: str | Format | Accumulator | Accumulation = "float32",
    result: str | Scheme | None = None,
    seed: int = 0,
) -> MatmulError:
    """Quantize two matrices, multiply them, and split the error by its source.

    Parameters
    ----------
    a, b : array_like of float32
        Of shapes (rows, depth) and (depth, columns).
    scheme, scheme_b : str or Scheme
        How ``a`` is stored, and ``b`` if it is another: with one scale, or one for each channel, which are the rows of
        ``a`` and the columns of ``b``.
    accumulator
        As for `rf8sim.matmul`.
    result : str or Scheme, optional
        How the result is stored, if it is rounded.
    seed : int
        Of stochastic rounding of the result.

    Returns
    -------
    MatmulError
        The parts.

    Raises
    ------
    ValueError
        If an option is unknown, or a scheme has other scales.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a, b = (rng.normal(size=(64, 64)).astype(np.float32) for _ in range(2))
    >>> error = matmul_error(a, b, "rf8/tensor,max", accumulator="bfloat16").relative()
    >>> {name: round(value, 4) for name, value in error.items()}
    {'inputs': 0.054, 'accumulation': 0.009, 'output': 0.0, 'total': 0.0548}
    """
    stored = as_scheme(scheme)
    other = stored if scheme_b is None else as_scheme(scheme_b)
    for given in (stored, other):
        scales = given.scales
        if scales is not None and (scales.block not in (None, (1, -1)) or scales.outer or scales.zero):
            raise ValueError(f"an analysed product has one scale for the tensor or the channel, got {given}")
    first, second = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    left, right = quantize(first, stored), _transposed(quantize(second.T, other))
    scale = left.scale.astype(np.float64) * right.scale.astype(np.float64)
    exact: Array = matmul(first, second, "float32")
    formats = left.format, right.format
    ideal = matmul(left.codes, right.codes, formats)
    summed = matmul(left.codes, right.codes, formats, accumulator=accumulator).astype(np.float64)
    output = np.zeros_like(ideal)
    if result is not None:
        rounded = quantize(summed * scale, result, seed=seed)
        output = rounded.dequantize(np.float64) - summed * scale
    order = get_order(as_accumulation(accumulator).order)
    values = [np.abs(q.format.values)[q.codes] for q in (left, right)]
    counted = [_counted(x, q.format) for x, q in zip(values, (left, right), strict=True)]
    is_engine = order.name == "aligned" or order.flush
    sizes = counted if is_engine else values
    bound = accumulation_bound(sizes[0] @ sizes[1], first.shape[1], accumulator)
    if order.flush:
        flushed = [np.where(x == size, x, 0.0) for x, size in zip(values, counted, strict=True)]
        bound = bound + (values[0] @ values[1] - flushed[0] @ flushed[1])
    return MatmulError(exact, ideal * scale - exact, (summed - ideal) * scale, output, bound * np.abs(scale))


def _counted(sizes: Array, fmt: Format) -> Array:
    """Return magnitudes as an adder of products counts them: subnormal ones as the smallest normal number."""
    return np.where(sizes > 0, np.maximum(sizes, fmt.subnormals_below or fmt.smallest), 0.0)


def unit_roundoff(
    accumulator: str | Format | Accumulator, rounding: str | Rounding = "nearest-even"
) -> tuple[float, float]:
    """Return ``(u, eta)``: rounding x into the accumulator changes it by at most ``max(u * abs(x), eta)``.

    That is so for results in range. Of a float, u is the unit roundoff and eta half the smallest subnormal, both twice
    that in modes that do not round to nearest. Of a format, u is the largest relative error, at the turn from one value
    to the next, and eta the largest error below the smallest normal value.

    Parameters
    ----------
    accumulator : str, Format or Accumulator
        A float, a format, or ``exact`` or an integer, which do not round.
    rounding : str or Rounding
        How sums are rounded into it; without effect on the last two.

    Returns
    -------
    tuple of float
        u and eta.

    Raises
    ------
    ValueError
        If there is no such accumulator.

    Examples
    --------
    >>> unit_roundoff("float16") == (2.0**-11, 2.0**-25), unit_roundoff("rf8")[0] == 0.125 / 1.375
    (True, True)
    """
    layout = get_accumulator(accumulator)
    ulps = 1.0 if as_rounding(rounding).mode in _NEAREST else 2.0
    if layout.floating is not None:
        kind = layout.floating
        return ulps * 2.0**-kind.precision, ulps * math.ldexp(1.0, kind.emin - kind.precision)
    if layout.format is None:
        return 0.0, 0.0
    fmt = layout.format
    if not fmt.signed or fmt.zero is None:  # negative sums, or zero, are out of range
        return math.inf, math.inf
    mode = check_choices(fmt, rounding)[0]
    relative, absolute = 0.0, 0.0
    for negative, side in enumerate(fmt.sides):
        lower, upper = side.magnitudes[:-1], side.magnitudes[1:]
        turn = place(fmt, mode, bool(negative)).nearest[: lower.size]
        if mode is RoundingMode.STOCHASTIC:  # which may turn anywhere
            turn = lower
        worst = np.maximum(turn - lower, upper - turn)
        normal = (lower >= (fmt.smallest if fmt.subnormals_below is None else fmt.subnormals_below)) & (lower > 0)
        relative = max(relative, float(np.max(worst[normal] / turn[normal], initial=0.0)))
        absolute = max(absolute, float(np.max(worst[~normal], initial=0.0)))
    return relative, absolute


def accumulation_bound(
    magnitudes: ArrayLike,
    depth: int,
    accumulator: str | Format | Accumulator | Accumulation,
) -> Array:
    """Bound the error of accumulation before it happens: ``gamma_n * magnitudes`` and what underflow adds.

    ``gamma_n = n u / (1 - n u)`` with n the most roundings that a product goes through: ``depth`` in sequence, the
    number of blocks in blocks, ``ceil(log2(depth))`` in a tree (Higham, Accuracy and Stability of Numerical Algorithms,
    2002, sections 3.1 and 4.2, with one rounding for a product and its addition). Each of all roundings may add eta
    where it underflows, and later ones enlarge that by at most ``1 + gamma_n``.

    Of ``aligned`` sums, each step cuts t terms by at most ``2**-F`` of the largest, and rounds their sum: it errs by at
    most ``alpha * largest + beta`` with ``alpha = t * 2**-F + u``, and no term or sum is larger than the magnitudes and
    the error so far. So s steps err by at most ``s * (alpha * magnitudes + beta) / (1 - s * alpha)``.

    Parameters
    ----------
    magnitudes : array_like
        The exact products of the absolute values, ``abs(a) @ abs(b)``; for ``aligned`` sums with subnormal operands
        as large as the smallest normal ones, by whose exponents products are aligned. What ``flush`` takes from
        operands is not in the bound.
    depth : int
        Length of the dot products.
    accumulator
        As for `rf8sim.matmul`; its ``products`` have no part in the bound.

    Returns
    -------
    ndarray of float64
        The bound of each absolute error; infinite where a sum could overflow, or n u or s alpha is 1 or more.

    Raises
    ------
    ValueError
        If an option is unknown.

    Examples
    --------
    >>> float(accumulation_bound(1.0, 100, "float16")) > 100 * 2.0**-11
    True
    >>> float(accumulation_bound(1.0, 32, "hopper-fp8")) < 34 * 2.0**-13 * 1.01
    True
    """
    sum_of = as_accumulation(accumulator)
    layout, plan = get_accumulator(sum_of.accumulator), get_order(sum_of.order)
    sizes = np.asarray(magnitudes, dtype=np.float64)
    unit, eta = unit_roundoff(layout, sum_of.rounding)
    roundings = step_count(plan, depth) if depth else 0
    passed = max(math.ceil(math.log2(depth)), 1) if plan.name == "pairwise" and depth else roundings
    if plan.name == "pairwise" and plan.block and depth:  # a product, its way up the tree, the additions of trees
        passed = roundings + plan.block.bit_length()
        roundings += 2 * plan.block * roundings
        eta = 2.0 * math.ldexp(1.0, _emin(layout)) if plan.flush else eta
    gamma = passed * unit / (1 - passed * unit) if passed * unit < 1 else math.inf
    if layout.exact:
        largest = math.inf
    elif layout.floating is not None:
        largest = layout.floating.max
    elif layout.format is not None:
        largest = min(layout.format.max, -layout.format.min)
    else:
        largest = 0.0  # an integer overflows without rounding: there is no bound that does not know its unit
    constant = roundings * eta * (1 + gamma)
    if plan.name == "aligned":
        gamma, constant = _aligned_bound(plan, layout, (unit, eta), depth)
    with np.errstate(invalid="ignore"):
        bound = np.where(sizes > 0, gamma * sizes, 0.0) + constant
        return np.where(sizes + bound <= largest, bound, np.inf)  # NaN, of infinite operands, has none


def _emin(layout: Accumulator) -> int:
    assert layout.floating is not None
    return layout.floating.emin


def _aligned_bound(order: Order, layout: Accumulator, rounding: tuple[float, float], depth: int) -> tuple[float, float]:
    """Return the factor of the magnitudes in the bound of aligned sums, and its constant part.

    A cut is at most one unit of ``2**-F`` of the largest term, or half of it. The running sum is aligned at the
    smallest normal exponent or above, and groups at the exponent 0 of scales that are not there.
    """
    unit, eta = rounding
    block = min(order.block or depth, depth)
    step, steps = math.ldexp(0.5 if order.cut == "nearest-even" else 1.0, -order.fraction), step_count(order, depth)
    terms = -(-block // order.exact) + (0 if order.apart else 1)
    if order.then:  # besides, the sum of the products is cut, and that of both streams before
        terms += 3 if order.split else 1
    alpha = terms * step + (2 * unit if order.apart else unit)
    smallest = math.ldexp(1.0, 0 if order.exact > 1 else _emin(layout))
    beta = terms * step * smallest + (2 * eta if order.apart else eta)
    if steps * alpha >= 1:
        return math.inf, math.inf
    return steps * alpha / (1 - steps * alpha), steps * beta / (1 - steps * alpha)
