"""Arrays of codes that calculate as numpy arrays do, with every result rounded once to their format."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._base.checks import as_codes
from ..codec.codec import encode
from ..codec.rounding import Rounding, as_rounding, check_choices
from ..formats import Format, get_format
from ..formats.floats import ARRAY_LAYOUTS
from . import codes as arithmetic

__all__ = ["QArray"]

_TABLES: dict[Any, Callable[..., Any]] = {
    np.add: arithmetic.add,
    np.subtract: arithmetic.subtract,
    np.multiply: arithmetic.multiply,
    np.true_divide: arithmetic.divide,
    np.minimum: arithmetic.minimum,
    np.maximum: arithmetic.maximum,
    np.negative: arithmetic.negate,
    np.absolute: arithmetic.absolute,
    np.sqrt: arithmetic.sqrt,
}
# The scale of the result, from the operands' (exact) scales. Those that are not here need one scale, and keep it.
_SCALES: dict[Any, Callable[..., Fraction | None]] = {
    np.multiply: lambda a, b: a * b,
    np.true_divide: lambda a, b: a / b,
    np.sqrt: lambda a: _exact_root(a),
}
_COMPARISONS = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
_QUESTIONS = (np.isnan, np.isinf, np.isfinite, np.signbit)
_PLACES = (np.shape, np.ndim, np.size)
# What only moves elements. The arguments that hold elements come first: one array, or several as a sequence.
_MOVES = (
    np.reshape, np.ravel, np.transpose, np.swapaxes, np.moveaxis, np.squeeze, np.expand_dims, np.broadcast_to, np.flip,
    np.roll, np.rot90, np.repeat, np.tile, np.take, np.take_along_axis, np.atleast_1d, np.atleast_2d,
    np.copy, np.concatenate, np.stack, np.vstack, np.hstack, np.dstack, np.column_stack, np.split, np.array_split,
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class QArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Codes of a format with one scale: an immutable array of the numbers ``scale * decode(codes)``.

    ``+ - * / @``, unary ``- + abs``, comparisons and numpy's functions of the same names work on it, each result
    rounded once as `rounding` says; so do indexing and the functions that only move elements
    (`numpy.reshape`, `numpy.concatenate` ...). What cannot be exact is refused by name. For other modes, formats of
    results, flags and accumulators use the functions that these operators call (`rf8sim.add`, `rf8sim.matmul` ...).

    Scales multiply and divide exactly, and do not take part in rounding; sums and extremes need equal scales. Numbers
    that are not a `QArray` may be operands where each is exactly a value of the format: at the array's own scale in
    sums and extremes, at scale 1 in products and quotients. Comparisons take any scales and numbers.

    Parameters
    ----------
    codes : array_like of uint8
        Codes; not copied.
    format : str or Format
        Their format.
    scale : float
        Positive and finite.
    rounding : str or Rounding
        As for `rf8sim.encode`, ``stochastic`` excepted; operands must agree in it.

    Raises
    ------
    ValueError
        If an option is unknown, the scale is not one positive number, or codes are out of range.
    TypeError
        If codes are not integers.

    See Also
    --------
    quantize : chooses scales; `QArray(q.codes, q.format, q.scale)` of a tensor with one.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> w = QArray(rf8sim.encode([1.0, 0.25, -0.5], "rf8"), "rf8", scale=2.0)
    >>> w
    QArray([2.0, 0.5, -1.0], format='rf8', scale=2.0)
    >>> np.asarray(w + w[::-1]), (w * w).scale
    (array([1., 1., 1.]), 4.0)
    >>> w > 0
    array([ True,  True, False])
    >>> np.exp(w)
    Traceback (most recent call last):
    TypeError: numpy.exp is not an operation of a QArray: take numpy.asarray of it, and rf8sim.encode what comes out
    """

    codes: NDArray[np.uint8]
    format: Format
    scale: float = 1.0
    rounding: str | Rounding = "nearest-even"

    def __post_init__(self) -> None:
        fmt = get_format(self.format)
        chosen = as_rounding(self.rounding)
        check_choices(fmt, chosen)
        if chosen.stochastic:
            raise ValueError("a QArray does not round stochastically: choose another mode, or encode numbers instead")
        codes = as_codes(self.codes, fmt.bits, fmt.name).view()
        codes.flags.writeable = False
        if np.ndim(self.scale) != 0:
            raise ValueError(f"a QArray has one scale, got scales of shape {np.shape(self.scale)}")
        scale = float(self.scale)
        if not 0 < scale < math.inf:
            raise ValueError(f"a scale is a positive number, got {scale}")
        for name, value in (("codes", codes), ("format", fmt), ("scale", scale), ("rounding", chosen)):
            object.__setattr__(self, name, value)

    # --- what an array has ---

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.codes.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.codes.size

    @property
    def nbytes(self) -> int:
        """Bytes of the codes."""
        return self.codes.nbytes

    @property
    def dtype(self) -> np.dtype[np.float64]:
        """The dtype that `numpy.asarray` gives: float64."""
        return np.dtype(np.float64)

    @property
    def T(self) -> QArray:  # noqa: N802
        """The array with its axes reversed."""
        return self._like(self.codes.T)

    def reshape(self, *shape: Any) -> QArray:
        """Return the same elements in another shape."""
        return self._like(self.codes.reshape(*shape))

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[QArray]:
        return (self._like(part) for part in self.codes)

    def __getitem__(self, index: Any) -> QArray:
        return self._like(np.asarray(self.codes[index]))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("a QArray is immutable: change a copy of its codes, and make a new one")

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __float__(self) -> float:
        return float(np.asarray(self))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return ``scale * decode(codes)`` as float64, exact where 53 bits hold it, else rounded once."""
        if copy is False:
            raise ValueError("the numbers of a QArray are computed: numpy.asarray cannot avoid a copy")
        values = _values(self.format, self.scale)[0][self.codes]
        return np.asarray(values if dtype is None else values.astype(dtype))

    def convert(self, format: str | Format | None = None, scale: float | None = None) -> QArray:
        """Return the numbers in another format, at another scale, or both, each rounded once.

        Parameters
        ----------
        format : str or Format, optional
            By default the array's.
        scale : float, optional
            By default the array's.

        Returns
        -------
        QArray
            With the array's ``rounding``.

        Raises
        ------
        ValueError
            If the format or the scale is none, or NaN has no code in the format.

        Examples
        --------
        >>> import rf8sim
        >>> QArray(rf8sim.encode([1.0, -0.3125], "rf8"), "rf8").convert("int8", scale=0.25)
        QArray([1.0, -0.25], format='int8', scale=0.25)
        """
        into = self.format if format is None else get_format(format)
        target = QArray(np.zeros((), np.uint8), into, self.scale if scale is None else scale, self.rounding)
        ratio = Fraction(self.scale) / Fraction(target.scale)
        table = arithmetic.conversion_table(self.format, into, ratio, self.rounding)
        if table.missing[self.codes].any():
            raise ValueError(f"the array holds NaN, and format {into.name!r} has no NaN code: choose a format with NaN")
        return target._like(table.codes[self.codes])

    def __repr__(self) -> str:
        values, _ = _values(self.format, self.scale)  # of the elements that are shown alone
        numbers = np.array2string(
            self.codes, separator=", ", prefix="QArray(", formatter={"int": lambda code: str(float(values[code]))}
        )
        scale = "" if self.scale == 1 else f", scale={self.scale!r}"
        return f"QArray({numbers}, format={self.format.name!r}{scale})"

    def _repr_html_(self) -> str:
        shape = " &times; ".join(map(str, self.shape)) or "scalar"
        caption = f"{html.escape(self.format.name)}, {shape}, scale {self.scale:g}"
        values, _ = _values(self.format, self.scale)
        corner = np.atleast_2d(self.codes)
        if self.size:
            corner = corner[(0,) * (corner.ndim - 2)][:8, :8]
        rows = (
            "".join(f'<td title="{code:#04x}">{values[code]:g}</td>' for code in row) for row in corner[: self.size]
        )
        return f"<table><caption>{caption}</caption>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    def _like(self, codes: NDArray[np.uint8]) -> QArray:
        return replace(self, codes=codes)

    # --- numpy's protocols ---

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Operate as numpy's universal functions do."""
        if "out" in options:
            raise TypeError("a QArray is immutable: it takes no out=, and no += or the like")
        if method != "__call__" or options:
            what = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
            with_options = f" with {', '.join(options)}" if options else ""
            raise TypeError(f"{what}{with_options} is not available for a QArray: take numpy.asarray of it first")
        if ufunc is np.positive:
            return inputs[0]
        if ufunc is np.matmul:
            return _matmul(*inputs)
        if ufunc in _COMPARISONS or ufunc in _QUESTIONS:
            return ufunc(*(_exact_values(x) for x in inputs))
        if ufunc not in _TABLES:
            _refuse(ufunc.__name__)
        scales = _SCALES.get(ufunc)
        operands = _agreeing(inputs, ufunc.__name__, None if scales is None else 1.0)
        first = operands[0]
        scale = first.scale if scales is None else _float_scale(scales(*(Fraction(x.scale) for x in operands)), ufunc)
        codes = _TABLES[ufunc](*(x.codes for x in operands), first.format, rounding=first.rounding)
        return replace(first, codes=codes, scale=scale)

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Move elements as numpy's functions do."""
        if function is np.dot and len(args) == 2 and not options:
            return _matmul(*args)
        if function in _PLACES:
            return function(args[0].codes, *args[1:], **options)
        if function is np.array_equal and len(args) == 2 and not options:
            return np.array_equal(*(_exact_values(x) for x in args))
        if function is np.where and len(args) == 3 and any(isinstance(x, QArray) for x in args[1:]):
            chosen = _agreeing(args[1:], "where", None)
            return chosen[0]._like(np.where(np.asarray(args[0]), *(x.codes for x in chosen)))
        name = f"{function.__module__}.{function.__name__}".removeprefix("numpy.")
        if function not in _MOVES or any(isinstance(x, QArray) for x in args[1:]):
            _refuse(name)
        if not args or {"out", "dtype"} & set(options):
            raise TypeError(f"numpy.{name} of a QArray takes the array as its first argument, and no out= or dtype=")
        like, codes = _elements(args[0], name)
        moved = function(codes, *args[1:], **options)
        return [like._like(part) for part in moved] if isinstance(moved, list) else like._like(moved)


def _elements(x: Any, name: str) -> tuple[QArray, Any]:
    """Return the codes of an array or of a sequence of them, and an array like which they are."""
    if isinstance(x, QArray):
        return x, x.codes
    parts = _agreeing(tuple(x), name, None)
    return parts[0], [part.codes for part in parts]


def _refuse(name: str) -> None:
    raise TypeError(
        f"numpy.{name} is not an operation of a QArray: take numpy.asarray of it, and rf8sim.encode what comes out"
    )


@lru_cache(maxsize=256)
def _values(fmt: Format, scale: float) -> tuple[NDArray[np.float64], bool]:
    """Return the number of each code, and whether all of them are exact."""
    with np.errstate(over="ignore", under="ignore"):
        numbers = fmt.values * scale
    exact = scale == 1.0 or all(
        Fraction(value) * Fraction(scale) == Fraction(number)
        for value, number in zip(fmt.values.tolist(), numbers.tolist(), strict=True)
        if math.isfinite(value) and math.isfinite(number)
    )
    return numbers, exact and bool(np.isfinite(numbers)[np.isfinite(fmt.values)].all())


def _require_exact(fmt: Format, scale: float) -> NDArray[np.float64]:
    numbers, exact = _values(fmt, scale)
    if not exact:
        raise ValueError(
            f"{fmt.name} numbers of scale {scale!r} are not exact in float64, so they do not go with other numbers: "
            "convert(scale=...) to a scale of fewer bits first"
        )
    return numbers


def _exact_values(x: Any) -> NDArray[np.float64]:
    """Return numbers as float64, or refuse if that rounds."""
    return _require_exact(x.format, x.scale)[x.codes] if isinstance(x, QArray) else _as_float64(x)


def _as_float64(x: Any) -> NDArray[np.float64]:
    array = np.asarray(x)
    if array.dtype.kind in "iu" and array.size and max(-int(array.min()), int(array.max())) >> 53:
        raise ValueError("integers beyond 2**53 are not exact in float64: they cannot be operands of a QArray")
    if array.dtype.kind not in "biuf" and array.dtype.name not in ARRAY_LAYOUTS:
        raise TypeError(f"operands of a QArray are real numbers, got dtype {array.dtype.name}")
    return array.astype(np.float64)


def _agreeing(inputs: tuple[Any, ...], name: str, scale_of_numbers: float | None) -> list[QArray]:
    """Return operands as arrays of one format and one way of rounding, and of one scale unless numbers have their own.

    Numbers become arrays of the first array's format, at its scale or at ``scale_of_numbers``.
    """
    arrays = [x for x in inputs if isinstance(x, QArray)]
    first = arrays[0]
    for other in arrays[1:]:
        if other.format != first.format:
            raise ValueError(
                f"numpy.{name} of {first.format.name!r} and {other.format.name!r} does not say which format the result "
                "has: convert(...) one, or use the function of rf8sim with two formats and result="
            )
        if other.rounding != first.rounding:
            raise ValueError(f"operands round differently: '{first.rounding}' and '{other.rounding}'; make them agree")
        if scale_of_numbers is None and other.scale != first.scale:
            raise ValueError(
                f"numpy.{name} needs one scale, got {first.scale!r} and {other.scale!r}: convert(scale=...) one of them"
            )
    scale = first.scale if scale_of_numbers is None else scale_of_numbers
    return [x if isinstance(x, QArray) else _exactly(x, first, scale) for x in inputs]


def _exactly(x: Any, like: QArray, scale: float) -> QArray:
    """Return numbers as an array like another, or refuse if one is not a value of its format at the scale."""
    numbers = _as_float64(x)
    values = _require_exact(like.format, scale)
    infinity = like.format.sides[0].infinity is not None
    nan = np.isnan(numbers)
    with np.errstate(over="ignore"):
        units = np.where(nan, 0.0, numbers / scale)
    codes = encode(units, like.format, rounding=Rounding(overflow="infinity" if infinity else "saturate"))
    same = (values[codes] == numbers) | (nan & (like.format.nan is not None))
    if not same.all():
        wrong = float(numbers[~same].flat[0])
        raise ValueError(
            f"{wrong} is not a value of {like.format.name!r} at scale {scale!r}: encode it first, and say how to round"
        )
    if like.format.nan is not None:
        codes[nan] = like.format.nan
    return replace(like, codes=codes, scale=scale)


def _exact_root(x: Fraction) -> Fraction | None:
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    return root if root * root == x else None


def _float_scale(scale: Fraction | None, ufunc: np.ufunc) -> float:
    """Return an exact scale as a float, or refuse."""
    try:
        number = math.nan if scale is None else float(scale)
    except OverflowError:
        number = math.inf
    if not 0 < number < math.inf or Fraction(number) != scale:
        raise ValueError(
            f"the scale of numpy.{ufunc.__name__} would not be exact in float64: convert(scale=...) an operand to a "
            "power of two first"
        )
    return number


def _matmul(a: Any, b: Any) -> QArray:
    """Sum exactly, round once to the format: `rf8sim.arithmetic.linalg.matmul` with the exact accumulator."""
    from .linalg import matmul

    left, right = _agreeing((a, b), "matmul", 1.0)
    codes = matmul(left.codes, right.codes, left.format, result=left.format, rounding=left.rounding)
    scale = _float_scale(Fraction(left.scale) * Fraction(right.scale), np.matmul)
    return replace(left, codes=codes, scale=scale)
