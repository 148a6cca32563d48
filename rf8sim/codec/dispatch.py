"""The compiled loops by name, each loaded when first needed; little work is done by numpy meanwhile.

To load numba takes more than a second, in which numpy does ten million elements. So a process begins with numpy's forms
(`rf8sim._kernels.plain`, the same bits), and changes to the compiled ones, for good, with the first large array, when
many elements have been done, or when numba is loaded for something else. Even then numpy does the first elements of a
loop: where nothing is cached, a loop is compiled for up to a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .._kernels import plain

__all__ = [
    "LARGE",
    "PATIENCE",
    "WORTH_COMPILING",
    "Kernel",
    "accumulate",
    "accumulate_float32",
    "accumulate_tree",
    "distinct_numbers",
    "encode_cells",
    "encode_drawn",
    "encode_search",
    "encode_stochastic",
    "first_above",
    "least_error",
    "look_up",
    "look_up_drawn",
    "look_up_pair",
    "philox_words",
    "round_groups",
    "sum_aligned",
    "sum_groups",
    "sum_late",
    "sum_terms",
    "sum_trees",
]  # fmt: skip

LARGE = 1 << 18
"""Elements of one call that numba is loaded for; what is worth a second thread is."""
PATIENCE = 1 << 24
"""Elements of all calls that numba is loaded for."""
WORTH_COMPILING = 1 << 18
"""Elements of all calls of a loop that it is compiled for once numba is loaded."""

_done = 0  # elements that numpy has done


class Kernel:
    """A compiled loop, loaded when first needed.

    Parameters
    ----------
    module : str
        The file of `rf8sim._kernels` that holds it.
    name : str
        Its name there, and that of numpy's form of it, if there is one.
    sized : int
        The argument whose size is the amount of work.
    """

    def __init__(self, module: str, name: str, sized: int = 0) -> None:
        self.module, self.name, self.sized = module, name, sized
        self._plain: Callable[..., Any] | None = getattr(plain, name, None)
        self._compiled: Callable[..., Any] | None = None
        self._done = 0  # elements that numpy has done of it

    def __call__(self, *arguments: Any) -> Any:
        """Do the work, by whichever form is the faster one for it."""
        if self._compiled is None:
            if self._plain is not None and self._is_little(arguments[self.sized].size):
                return self._plain(*arguments)
            self._compiled = getattr(import_module(f".._kernels.{self.module}", __package__), self.name)
        return self._compiled(*arguments)

    def _is_little(self, size: int) -> bool:
        """Return whether work is too little for the compiled loop, and count it."""
        global _done
        _done, self._done = _done + size, self._done + size
        most = (self._done, WORTH_COMPILING) if "numba" in sys.modules else (_done, PATIENCE)
        return size < LARGE and most[0] < most[1]


accumulate = Kernel("codec", "accumulate")
accumulate_blocks = Kernel("codec", "accumulate_blocks")
accumulate_float32 = Kernel("codec", "accumulate_float32")
accumulate_tree = Kernel("codec", "accumulate_tree")
distinct_numbers = Kernel("scales", "distinct_numbers")
encode_cells = Kernel("codec", "encode_cells")
encode_drawn = Kernel("codec", "encode_drawn")
encode_search = Kernel("codec", "encode_search")
encode_stochastic = Kernel("codec", "encode_stochastic")
first_above = Kernel("codec", "first_above")
least_error = Kernel("scales", "least_error")
look_up = Kernel("codec", "look_up")
look_up_drawn = Kernel("codec", "look_up_drawn")
look_up_pair = Kernel("codec", "look_up_pair")
philox_words = Kernel("codec", "philox_words", sized=3)
round_groups = Kernel("codec", "round_groups")
sum_aligned = Kernel("aligned", "sum_aligned")
sum_groups = Kernel("aligned", "sum_groups")
sum_late = Kernel("aligned", "sum_late")
sum_terms = Kernel("sums", "sum_terms")
sum_trees = Kernel("aligned", "sum_trees")
