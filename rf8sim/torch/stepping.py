"""When a step of training ends: state that is the same wherever a step is computed, and changes from step to step."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["Stepped"]

_LIVE: weakref.WeakSet[Stepped] = weakref.WeakSet()


class Stepped(nn.Module):
    """A module whose `advance` is called after each step of the optimizer that trains a parameter.

    Steps of other optimizers, as of another model, do not count. Where no optimizer trains the parameter, because it is
    frozen or left out, those of any do.

    Attributes
    ----------
    owner : tuple of nn.Module
        The module whose ``original`` is the parameter, as of `torch.nn.utils.parametrize`; empty to advance with every
        optimizer. In a tuple, which makes it no submodule but lets copies of a model refer to their copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owner: tuple[Any, ...] = ()
        self._register()

    def _register(self) -> None:
        self._is_trained = False
        self._parameter_version: int | None = None
        _LIVE.add(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take part in the steps of optimizers, as a copy too."""
        super().__setstate__(state)  # type: ignore[no-untyped-call, unused-ignore]
        self._register()

    def advance(self) -> None:
        """Begin another step."""
        raise NotImplementedError

    def notice_changes(self) -> None:
        """Begin another step where the parameter was changed by hand, and no optimizer trains it."""
        if not torch.compiler.is_compiling() and self.owner and not self._is_trained:
            version = self.owner[0].original._version
            if self._parameter_version is not None and version > self._parameter_version:
                self.advance()
            self._parameter_version = version

    def takes_part(self, parameters: set[int]) -> bool:
        """Return whether a step of an optimizer, which holds parameters of these ids, is one of this module."""
        if not self.owner:
            return True
        parameter: Tensor = self.owner[0].original
        if id(parameter) in parameters:
            self._is_trained = True
            return True
        return not self._is_trained and (not parameter.requires_grad or parameter.grad is not None)


def _advance(optimizer: Any, *_: Any) -> None:
    parameters = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for module in list(_LIVE):
        if module.takes_part(parameters):
            module.advance()


register_optimizer_step_post_hook(_advance)
