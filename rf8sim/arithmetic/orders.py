"""The order in which products are summed, and how matrix engines align them: `Order` and its text form."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .._base.checks import suggestion

__all__ = ["Order", "get_order", "step_count"]

_FRACTION = 40  # bits that the terms of an aligned sum may keep
_SIGNIFICAND = 53  # bits of float64, in which aligned terms are whole numbers
_LARGEST_TREE = 64  # products
_CUTS = {"nearest": "nearest-even", "odd": "to-odd"}
_FORMS = ("sequential", "pairwise", "pairwise:K", "blocked:K", "aligned:F", "aligned:F:K")


class Order(NamedTuple):
    """The order of the sums.

    Attributes
    ----------
    name : str
        ``sequential``, ``pairwise``, ``blocked`` or ``aligned``.
    block : int
        Products in a block, of ``blocked`` and ``aligned``, and of ``pairwise`` in blocks; 0 for all of them.
    fraction : int
        Of ``aligned``: bits below the largest exponent that a term keeps.
    cut : str
        Of ``aligned``: how a term is rounded there: ``toward-zero``, ``nearest-even`` or ``to-odd``.
    exact : int
        Of ``aligned``: products that are summed exactly into one term, whose exponent is that of its block scales.
    then : int
        Of ``aligned``, if not 0: products are aligned without the running sum. Their sum, cut that many bits below the
        larger of their exponents, and the running sum, cut ``fraction`` bits below it, both toward minus infinity, are
        then added.
    split : bool
        With ``then``: products of even and of odd index are aligned apart, and the two sums added like the running sum,
        which counts as zero where it is more than ``fraction`` + 1 bits below.
    apart : bool
        Of ``aligned``: products are aligned without the running sum, their sum is rounded into the accumulator, and
        then added to the running sum with another rounding.
    flush : bool
        Of ``pairwise`` in blocks: subnormal operands, products and sums count as zero.
    """

    name: str
    block: int = 0
    fraction: int = 0
    cut: str = "toward-zero"
    exact: int = 1
    then: int = 0
    split: bool = False
    apart: bool = False
    flush: bool = False

    def __str__(self) -> str:
        """Return the text form, which `get_order` reads."""
        words = [self.name]
        if self.name == "aligned":
            words.append(str(self.fraction))
        if self.block:
            words.append(str(self.block))
        words += [word for word, cut in _CUTS.items() if cut == self.cut]
        words += [f"exact={self.exact}"] * (self.exact > 1) + [f"then={self.then}"] * bool(self.then)
        return ":".join(words + [word for word in ("split", "apart", "flush") if getattr(self, word)])


def get_order(name: str | Order) -> Order:
    """Return the order of a name.

    Parameters
    ----------
    name : str or Order
        ``sequential``; ``pairwise``; ``pairwise:K``, with ``flush``; ``blocked:K``; or ``aligned:F``, ``aligned:F:K``
        with ``nearest`` or ``odd``, ``exact=G``, ``then=B``, ``split`` and ``apart``: see `Order`.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> get_order("blocked:16").block, get_order("aligned:25:16").fraction
    (16, 25)
    >>> str(get_order("aligned:24:16:split:then=31"))
    'aligned:24:16:then=31:split'
    """
    if isinstance(name, Order):
        return name
    kind, *words = str(name).split(":")
    if kind == "aligned" and words:
        return _aligned_order(str(name))
    if kind == "blocked" and words:
        if len(words) > 1 or not words[0].isdecimal() or int(words[0]) < 1:
            raise ValueError(f"order {name!r}: expected 'blocked:K' with K products in a block, K at least 1")
        return Order("blocked", int(words[0]))
    if kind == "pairwise" and words:
        size = int(words[0]) if words[0].isdecimal() else 0
        if size.bit_count() != 1 or not 2 <= size <= _LARGEST_TREE or words[1:] not in ([], ["flush"]):
            raise ValueError(
                f"order {name!r}: expected 'pairwise:K' or 'pairwise:K:flush', K products in a block, a power of two "
                f"from 2 to {_LARGEST_TREE}"
            )
        return Order("pairwise", size, flush=len(words) > 1)
    if kind not in ("sequential", "pairwise") or words:
        hint = suggestion(str(name), _FORMS)
        raise ValueError(
            f"unknown order {name!r}: {hint}the choices are sequential, pairwise, pairwise:K, blocked:K (K products in "
            "a block: 1, 2, …), aligned:F and aligned:F:K (F fraction bits)"
        )
    return Order(kind)


def _aligned_order(name: str) -> Order:
    """Return an order ``aligned``; all its terms and their sum must be whole numbers of float64."""
    match = re.fullmatch(r"aligned:(\d+)(?::([1-9]\d*))?((?::[a-z]+(?:=[1-9]\d*)?)*)", name)
    if match is not None:
        options = [_option(word) for word in match[3].split(":")[1:]]
        fields = {field: value for option in options for field, value in option}
        order = Order("aligned", int(match[2] or 0), int(match[1]))
        kept = max(order.fraction, fields.get("then", 0)) + 2 + order.block.bit_length()
        if len(fields) == len(options) and 1 <= order.fraction <= _FRACTION and kept < _SIGNIFICAND:
            return _checked(name, order._replace(**fields))
    raise ValueError(
        f"order {name!r}: expected 'aligned:F' or 'aligned:F:K', F from 1 to {_FRACTION} fraction bits and K products "
        f"in a block, 1 or more and, with F bits, below {_SIGNIFICAND - 3} together; then any of nearest, odd, "
        "exact=G, then=B, split, apart"
    )


def _option(word: str) -> list[tuple[str, Any]]:
    """Return the field of an aligned order that a word sets, and its value; nothing for another word."""
    name, equals, number = word.partition("=")
    if equals:
        return [(name, int(number))] if name in ("exact", "then") else []
    return [("cut", _CUTS[word])] if word in _CUTS else [(word, True)] if word in ("split", "apart") else []


def _checked(name: str, order: Order) -> Order:
    """Return an aligned order whose options fit each other, or raise ValueError."""
    if order.exact > 1 and (not order.block or order.block % order.exact or order.then or order.apart):
        raise ValueError(f"order {name!r}: exact=G sums G products, and K is a multiple of G; not with then or apart")
    if order.then and (order.then < order.fraction or order.apart or order.cut != "toward-zero"):
        raise ValueError(f"order {name!r}: then=B keeps B bits, at least F; not with nearest, odd or apart")
    if order.split and not order.then:
        raise ValueError(f"order {name!r}: split goes with then=B")
    return order


def step_count(order: Order, depth: int) -> int:
    """Return how many sums of one output of that many products are rounded."""
    if order.name == "sequential":
        return depth
    if order.name != "pairwise" or order.block:
        return -(-depth // (order.block or max(depth, 1)))
    count, total = depth, 0
    while count > 1 or not total:
        count = (count + 1) // 2
        total += count
    return total
