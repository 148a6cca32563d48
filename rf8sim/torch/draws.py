"""Seeds of stochastic rounding: one for each parameter and step, the same wherever the step is computed again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .stepping import Stepped

__all__ = ["Draws"]

_SEEDS = (1 << 62) - 1


class Draws(Stepped):
    """The seed of a parameter's stochastic rounding, which changes with each step of an optimizer.

    Within a step it stays: modules that share the parameter, repeated passes, and activation checkpointing round alike.
    Its state is two numbers, which a model's state holds; ranks that start from the same state draw the same words. A
    parameter that is changed by hand between two passes is a step too, but inside `torch.compile`.

    Parameters
    ----------
    device : torch.device, optional
        Where the state lives.

    Examples
    --------
    >>> draws, weight = Draws(), torch.zeros(2, requires_grad=True)
    >>> first = int(draws(weight))
    >>> first == int(draws(weight))
    True
    >>> weight.grad = torch.ones(2)
    >>> torch.optim.SGD([weight], lr=0.1).step()
    >>> first == int(draws(weight))
    False
    """

    seed: Tensor
    step: Tensor

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(0, 1 << 62, (), dtype=torch.int64).to(device))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device=device))

    def _register(self) -> None:
        super()._register()
        self._steps = 0
        self._previous: tuple[int, int] | None = None

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)  # type: ignore[no-untyped-call, unused-ignore]
        self._previous = None  # the parameter is loaded too, which is no step

    def advance(self) -> None:
        """Begin another step."""
        self._steps += 1
        self.step += 1

    def forward(self, parameter: Tensor) -> Tensor:
        """Return the seed of the step, for a parameter as it is."""
        if not torch.compiler.is_compiling():
            state = parameter._version, self._steps
            # A version that is lower is that of another tensor with the same numbers, as when a model is sharded.
            if self._previous is not None and self._previous[0] < state[0] and self._previous[1] == state[1]:
                self.advance()
            self._previous = parameter._version, self._steps
        return self.seed + self.step * 0x1E3779B97F4A7C15 & _SEEDS
