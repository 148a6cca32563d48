"""How a machine sums products, as one value: `Accumulation`; and the scales of its operands, `OperandScales`."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from ..codec.rounding import Rounding, as_rounding
from ..formats import Format
from .accumulators import Accumulator, Order, get_accumulator, get_order, get_rule

__all__ = ["ENGINES", "Accumulation", "OperandScales", "as_accumulation", "is_aligned"]


@dataclass(frozen=True)
class Accumulation:
    """How products are summed: the accumulator, the order of the sums, and what is rounded on the way.

    A function that takes an `Accumulation` takes the accumulator alone too: ``"float16"``, ``"int:24"``.

    Parameters
    ----------
    accumulator : str, Format or Accumulator
        ``exact``, ``float32``, ``float16``, ``bfloat16``, ``tf32``, ``e{E}m{M}``, ``int:n``, ``int:n:wrap`` or a
        format.
    order : str or Order
        ``sequential``, ``pairwise``, ``blocked:K``, or, for a float, ``aligned:F:K``: K products and the running sum
        are shifted to the largest exponent among them, cut off (``aligned:F:K:nearest``: rounded) F bits below it, and
        added without another error. Without effect on ``exact``.
    rounding : str or Rounding
        How sums are rounded into the accumulator: a mode of `rf8sim.encode`, for a format with what a sum beyond its
        range becomes. Without effect on ``exact`` and integers. Of ``stochastic`` only the seed can be set.
    products : str, Format or Accumulator
        ``exact``, or what each product is rounded to before it is summed: ``float32``, ``float16``, ``bfloat16``,
        ``tf32`` or a format.
    product_rounding : str or Rounding
        How products are rounded; not ``stochastic``.

    Raises
    ------
    ValueError
        If a name is unknown or a rounding does not fit what is rounded to.

    Examples
    --------
    >>> Accumulation("float16", order="blocked:16").order.block
    16
    >>> import rf8sim
    >>> x = rf8sim.encode([1.25, 0.625], "rf8")
    >>> float(rf8sim.dot(x, x, "rf8", accumulator=Accumulation("float32", products="rf8")))
    1.875
    """

    accumulator: str | Format | Accumulator = "exact"
    order: str | Order = "sequential"
    rounding: str | Rounding = "nearest-even"
    products: str | Format | Accumulator = "exact"
    product_rounding: str | Rounding = "nearest-even"

    def __post_init__(self) -> None:
        for name, value in (
            ("accumulator", get_accumulator(self.accumulator)),
            ("order", get_order(self.order)),
            ("rounding", as_rounding(self.rounding)),
            ("products", get_accumulator(self.products, "products")),
            ("product_rounding", as_rounding(self.product_rounding)),
        ):
            object.__setattr__(self, name, value)
        accumulator, products = get_accumulator(self.accumulator), get_accumulator(self.products)
        if get_order(self.order).name == "aligned":
            _check_aligned(accumulator, products, as_rounding(self.rounding))
        if not accumulator.exact:
            get_rule(accumulator, self.rounding, 0)
        if products.exact:
            return
        if products.integer is not None:
            raise ValueError(
                f"products are rounded to a float or a format, not to {products.name!r}: 'float16', for example"
            )
        if as_rounding(self.product_rounding).stochastic:
            raise ValueError(
                "product_rounding 'stochastic' is not available: only sums and the result are rounded stochastically"
            )
        get_rule(products, self.product_rounding, 0)


def _check_aligned(accumulator: Accumulator, products: Accumulator, rounding: Rounding) -> None:
    if accumulator.floating is None:
        raise ValueError(
            f"order 'aligned' keeps its sums in a float, not in {accumulator.name!r}: choose 'float32' or 'e8m13'"
        )
    if rounding.mode not in ("nearest-even", "toward-zero"):
        raise ValueError(f"order 'aligned' rounds its sums to 'nearest-even' or 'toward-zero', not {rounding.mode!r}")
    if not products.exact:
        raise ValueError("order 'aligned' takes exact products: leave out `products`")


ENGINES: dict[str, Accumulation] = {
    name: Accumulation(layout, order=order, rounding="toward-zero")
    for name, layout, order in (
        ("volta-fp16", "float32", "aligned:23:4"),
        ("turing-fp16", "float32", "aligned:24:8"),
        ("ampere-fp16", "float32", "aligned:24:8"),
        ("ampere-tf32", "float32", "aligned:24:4"),
        ("ada-fp16", "float32", "aligned:24:8"),
        ("ada-fp8", "e8m13", "aligned:13:16"),
        ("hopper-fp16", "float32", "aligned:25:16"),
        ("hopper-tf32", "float32", "aligned:25:8"),
        ("hopper-fp8", "e8m13", "aligned:13:32"),
        ("blackwell-fp16", "float32", "aligned:25:16"),
        ("blackwell-fp8", "float32", "aligned:25:32"),
    )
}
"""Matrix engines of NVIDIA GPUs by architecture and operands, with float32 results, as MMA-Sim models them (Xie et al.,
arXiv 2511.10909): bfloat16 is summed as fp16. Ampere's and Ada's instructions of twice these K do two steps."""


def is_aligned(name: object) -> bool:
    """Return whether a name is that of a matrix engine or of aligned sums, which say accumulator, order and rounding.

    Examples
    --------
    >>> is_aligned("hopper-fp8"), is_aligned("aligned:25:16"), is_aligned("float32")
    (True, True, False)
    """
    return isinstance(name, str) and (name in ENGINES or name.startswith("aligned:"))


def as_accumulation(accumulator: str | Format | Accumulator | Accumulation) -> Accumulation:
    """Return an `Accumulation`, or make one of its name.

    Parameters
    ----------
    accumulator : str, Format, Accumulator or Accumulation
        An accumulator, in which products are summed in sequence, rounded to nearest even; ``aligned:F:K`` or
        ``aligned:F:K:LAYOUT``, a float (by default float32) for aligned sums rounded toward zero; or a matrix engine of
        `ENGINES`.

    Examples
    --------
    >>> as_accumulation("float16") == Accumulation("float16")
    True
    >>> as_accumulation("hopper-fp8") == as_accumulation("aligned:13:32:e8m13")
    True
    """
    if isinstance(accumulator, Accumulation):
        return accumulator
    if isinstance(accumulator, str) and accumulator in ENGINES:
        return ENGINES[accumulator]
    if isinstance(accumulator, str) and accumulator.startswith("aligned:"):
        parts = accumulator.split(":")
        return Accumulation(":".join(parts[3:]) or "float32", order=":".join(parts[:3]), rounding="toward-zero")
    return Accumulation(accumulator)


@dataclass(frozen=True, eq=False)
class OperandScales:
    """Positive scales of the operands of a matrix product.

    They multiply the sum that is left in the accumulator, as float64: a power of two exactly, another scale with one
    rounding to 53 bits. With ``block_size``, each block of products is summed from zero in the accumulator (exactly for
    ``blocked:K`` with K the block size), multiplied by its scales, and added to the total with one rounding.

    Parameters
    ----------
    a, b : array_like, optional
        One scale for the tensor, or shapes that broadcast with ``(..., rows, 1)`` and ``(..., 1, columns)``, as
        `rf8sim.quantize` gives them for schemes of ``channel`` (``a``) and ``*x1`` (``b``). With ``block_size``, scales
        of blocks along the summed axis (``1x32`` and ``32x1``), of shapes that broadcast with ``(..., rows, blocks)``
        and ``(..., blocks, columns)``.
    block_size : int, optional
        Products that share scales, along the summed axis.

    Examples
    --------
    >>> import rf8sim
    >>> one = rf8sim.encode([[1.0]], "rf8")
    >>> rf8sim.matmul(one, one, "rf8", scales=OperandScales(0.5, 3.0)).item()
    1.5
    """

    a: ArrayLike | None = None
    b: ArrayLike | None = None
    block_size: int | None = None
