"""How a machine sums products, as one value: `Accumulation`; and the scales of its operands, `OperandScales`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from numpy.typing import ArrayLike

from .._base.checks import choose
from ..codec.rounding import Rounding, as_rounding
from ..formats import Format, get_format
from .accumulators import Accumulator, accumulator_names, get_accumulator, get_rule
from .orders import Order, get_order

__all__ = ["ENGINES", "Accumulation", "OperandScales", "as_accumulation", "is_engine"]


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
        ``sequential``, ``pairwise``, ``blocked:K``, or, for a float, an order of matrix engines: ``aligned:F:K``, where
        K products (all, without K) and the running sum are shifted to the largest exponent among them, cut F bits below
        it, and added without another error, with the options of `get_order`; or ``pairwise:K``, where a tree of rounded
        additions sums each K products. Without effect on ``exact``.
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
        order = get_order(self.order)
        if order.name == "aligned" or (order.name == "pairwise" and order.block):
            _check_engine(accumulator, order, products, as_rounding(self.rounding))
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


def _check_engine(accumulator: Accumulator, order: Order, products: Accumulator, rounding: Rounding) -> None:
    """Raise ValueError unless an order of matrix engines fits the rest."""
    name = str(order)
    if accumulator.floating is None:
        raise ValueError(
            f"order {name!r} keeps its sums in a float, not in {accumulator.name!r}: choose 'float32' or 'e8m13'"
        )
    if order.name == "pairwise" and (rounding.mode, accumulator.name) != ("nearest-even", "float32"):
        raise ValueError(f"order {name!r} rounds its sums to float32, rounded to 'nearest-even'")
    if rounding.mode not in ("nearest-even", "toward-zero", "to-odd"):
        raise ValueError(
            f"order {name!r} rounds its sums to 'nearest-even', 'toward-zero' or 'to-odd', not {rounding.mode!r}"
        )
    if not products.exact:
        raise ValueError(f"order {name!r} takes exact products: leave out `products`")


def _engines(table: str) -> dict[str, Accumulation]:
    """Return matrix engines by name; a line is name, accumulator, order, rounding."""
    lines = (line.split() for line in table.strip().splitlines())
    return {name: Accumulation(layout, order=order, rounding=rounding) for name, layout, order, rounding in lines}


ENGINES = _engines(
    """
    volta-fp16         float32  aligned:23:4                  toward-zero
    turing-fp16        float32  aligned:24:8                  toward-zero
    ampere-fp16        float32  aligned:24:8                  toward-zero
    ampere-tf32        float32  aligned:24:4                  toward-zero
    ada-fp16           float32  aligned:24:8                  toward-zero
    ada-tf32           float32  aligned:24:4                  toward-zero
    ada-fp8            e8m13    aligned:13:16                 toward-zero
    hopper-fp16        float32  aligned:25:16                 toward-zero
    hopper-tf32        float32  aligned:25:8                  toward-zero
    hopper-fp8         e8m13    aligned:13:32                 toward-zero
    blackwell-fp16     float32  aligned:25:16                 toward-zero
    blackwell-tf32     float32  aligned:25:8                  toward-zero
    blackwell-fp8      float32  aligned:25:32                 toward-zero
    blackwell-mxfp8    float32  aligned:25:32                 toward-zero
    blackwell-mxfp4    float32  aligned:35:64:exact=16        toward-zero
    blackwell-nvfp4    float32  aligned:35:64:exact=16        toward-zero
    cdna1-fp16         float32  blocked:4                     nearest-even
    cdna1-bf16         float32  blocked:2                     nearest-even
    cdna2-fp16         float32  pairwise:4:flush              nearest-even
    cdna2-bf16         float32  pairwise:2:flush              nearest-even
    cdna2-bf16-1k      float32  pairwise:4:flush              nearest-even
    cdna3-fp16         float32  aligned:24:8:then=31          nearest-even
    cdna3-xf32         float32  aligned:24:4:then=31          nearest-even
    cdna3-fp8          float32  aligned:24:16:then=31:split   nearest-even
    riscv-bf16         float32  aligned:27:16:odd:apart       to-odd
    riscv-fp8          float32  aligned:28:32:odd:apart       to-odd
    """
)
"""Matrix engines with float32 results by architecture and operands; docs/accumulators.md has the source of each line.

bfloat16 is summed as fp16 where it has no line of its own. An instruction of a larger K does several steps.
"""


def is_engine(name: object) -> bool:
    """Return whether a name is that of a matrix engine or of aligned sums, which say accumulator, order and rounding.

    Examples
    --------
    >>> is_engine("hopper-fp8"), is_engine("aligned:25:16"), is_engine("float32")
    (True, True, False)
    """
    return isinstance(name, str) and (name in ENGINES or name.startswith("aligned:"))


def as_accumulation(accumulator: str | Format | Accumulator | Accumulation) -> Accumulation:
    """Return an `Accumulation`, or make one of its name.

    Parameters
    ----------
    accumulator : str, Format, Accumulator or Accumulation
        An accumulator, in which products are summed in sequence, rounded to nearest even; an ``aligned`` order, as
        ``aligned:F`` or ``aligned:F:K``, whose sums are float32 rounded toward zero, with another float after it
        (``aligned:F:K:e8m13``) if it is that; or a matrix engine of `ENGINES`.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> as_accumulation("float16") == Accumulation("float16")
    True
    >>> as_accumulation("hopper-fp8") == as_accumulation("aligned:13:32:e8m13")
    True
    """
    if isinstance(accumulator, Accumulation):
        return accumulator
    if not isinstance(accumulator, str):
        return Accumulation(accumulator)
    if accumulator in ENGINES:
        return ENGINES[accumulator]
    if accumulator.startswith("aligned:"):
        order, _, layout = accumulator.rpartition(":")
        if not re.fullmatch(r"e\d+m\d+|[a-z]+\d+", layout):
            order, layout = accumulator, "float32"
        return Accumulation(layout, order=order, rounding="toward-zero")
    try:
        return Accumulation(accumulator)
    except ValueError as error:
        if str(error).startswith("unknown accumulator"):
            choose("accumulator", accumulator, [*accumulator_names(), "aligned:F", "aligned:F:K", *ENGINES])
        raise


@dataclass(frozen=True, eq=False)
class OperandScales:
    """Positive scales of the operands of a matrix product.

    They multiply the sum that is left in the accumulator, as float64: a power of two exactly, another scale with one
    rounding to 53 bits. With ``block_size``, each block of products is summed from zero in the accumulator (exactly for
    ``blocked:K`` with K the block size), multiplied by its scales, and added to the total with one rounding. In
    ``aligned`` orders scales of blocks multiply the products and add to their exponents before they are aligned.

    Parameters
    ----------
    a, b : array_like, optional
        One scale for the tensor, or shapes that broadcast with ``(..., rows, 1)`` and ``(..., 1, columns)``, as
        `rf8sim.quantize` gives them for schemes of ``channel`` (``a``) and ``*x1`` (``b``). With ``block_size``, scales
        of blocks along the summed axis (``1x32`` and ``32x1``), of shapes that broadcast with ``(..., rows, blocks)``
        and ``(..., blocks, columns)``.
    block_size : int, optional
        Products that share scales, along the summed axis.
    format : str or Format, optional
        Format of the scales of blocks, for ``aligned`` sums: its subnormal numbers count with the exponent of its
        smallest normal number.

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
    format: str | Format | None = None

    @property
    def smallest(self) -> int:
        """The exponent of the smallest normal scale; -1000, below any, if the format is not given."""
        fmt = None if self.format is None else get_format(self.format)
        return -1000 if fmt is None else math.frexp(fmt.subnormals_below or fmt.smallest)[1] - 1
