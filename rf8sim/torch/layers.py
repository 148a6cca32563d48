"""What each layer of a model does to its outputs, rounded alone and with every other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..models.outputs import LayerEffect
from ..models.precision import Precision
from .inputs import InputSummaries, rounded_layers
from .matrices import Matrices, Spool, as_floats
from .predictions import Comparison

__all__ = ["BlockReplay", "LayerOutputs", "LayerStudy"]


class LayerOutputs:
    """The outputs of layers, written to a file in the order of their calls, and later outputs next to them."""

    def __init__(self, matrices: Matrices, spool: Spool) -> None:
        self.matrices, self.spool = matrices, spool
        self._places: dict[tuple[int, str, int], list[int]] = {}
        self.signal: dict[int, float] = {}
        self.error: dict[int, float] = {}

    @contextmanager
    def recording(self, batch: int) -> Iterator[None]:
        """Write the outputs of all layers in a batch."""

        def record(index: int, name: str, output: Tensor) -> None:
            self._places.setdefault((index, name, batch), []).append(self.spool.write(as_floats(output)))

        with self._hooked(range(len(self.matrices.items)), record):
            yield

    @contextmanager
    def comparing(self, batch: int, indices: Sequence[int]) -> Iterator[None]:
        """Add the squared errors of outputs of layers in a batch."""
        calls: dict[tuple[int, str], int] = {}

        def compared(index: int, name: str, output: Tensor) -> None:
            call = calls.get((index, name), 0)
            calls[index, name] = call + 1
            places = self._places.get((index, name, batch), [])
            if call >= len(places):
                return
            before = torch.from_numpy(self.spool.read(places[call])).double()
            after = torch.from_numpy(as_floats(output)).double()
            self.signal[index] = self.signal.get(index, 0.0) + float(before.square().sum())
            self.error[index] = self.error.get(index, 0.0) + float((after - before).square().sum())

        with self._hooked(indices, compared):
            yield

    @contextmanager
    def _hooked(self, indices: Sequence[int] | range, seen: Callable[[int, str, Tensor], None]) -> Iterator[None]:
        def hook(index: int, name: str) -> Any:
            def leave(module: nn.Module, arguments: Any, output: Any) -> None:
                value = output[0] if isinstance(output, tuple | list) and output else output
                if isinstance(value, Tensor) and value.is_floating_point():
                    seen(index, name, value)

            return leave

        with ExitStack() as stack:
            for index in indices:
                for name, module in self.matrices.items[index].modules:
                    stack.callback(module.register_forward_hook(hook(index, name)).remove)
            yield

    def take(self, index: int) -> float | None:
        """Return the error of a layer's outputs relative to their power, and forget it; None without outputs."""
        signal, error = self.signal.pop(index, None), self.error.pop(index, 0.0)
        if signal is None:
            return None
        if not math.isfinite(error):
            return math.inf
        return error / signal if signal else (0.0 if error == 0 else math.inf)


class BlockReplay:
    """The outputs of a model's blocks, given again in place of computing them before the block that changed.

    The blocks are the modules of its longest `torch.nn.ModuleList` or `torch.nn.Sequential` outside others, if each is
    called once in a forward pass, in order.
    """

    def __init__(self, model: nn.Module) -> None:
        lists: list[tuple[str, nn.Module]] = []
        for name, module in model.named_modules():  # a list inside a block comes after it
            inside = any(f"{name}.".startswith(f"{outer}.") or not outer for outer, _ in lists)
            if isinstance(module, nn.ModuleList | nn.Sequential) and not inside:
                lists.append((name, module))
        longest = max(lists, key=lambda item: len(item[1]), default=None)  # type: ignore[arg-type]
        self.blocks: list[tuple[str, nn.Module]] = []
        if longest is not None:
            prefix, modules = longest
            self.blocks = [(f"{prefix}.{name}".lstrip("."), block) for name, block in modules.named_children()]
        self._outputs: dict[int, list[Any]] = {}

    @contextmanager
    def recording(self, batch: int) -> Iterator[None]:
        """Keep the outputs of all blocks in a batch; of blocks that are not called in order none."""
        outputs: list[tuple[int, Any]] = []

        def hook(index: int) -> Any:
            return lambda module, arguments, output: outputs.append((index, output))

        with ExitStack() as stack:
            for index, (_, block) in enumerate(self.blocks):
                stack.callback(block.register_forward_hook(hook(index)).remove)
            yield
        if [index for index, _ in outputs] == list(range(len(self.blocks))):
            self._outputs[batch] = [output for _, output in outputs]
        else:
            self.blocks = []

    def first_changed(self, names: Sequence[str]) -> int:
        """Return how many blocks come before the first that owns one of the modules; 0 if one is in no block."""
        places = [
            next((index for index, (block, _) in enumerate(self.blocks) if f"{name}.".startswith(f"{block}.")), None)
            for name in names
        ]
        return min((place or 0 for place in places), default=0)

    @contextmanager
    def replaying(self, batch: int, count: int) -> Iterator[None]:
        """Give the outputs of the first blocks in place of computing them."""
        outputs = self._outputs.get(batch, [])[:count] if self.blocks else []
        with ExitStack() as stack:
            for (_, block), output in zip(self.blocks, outputs, strict=False):
                before = block.__dict__.get("forward")
                block.forward = _giving(output)
                stack.callback(_put_back, block, before)
            yield

    def drop(self) -> None:
        """Compute all blocks from now on."""
        self.blocks, self._outputs = [], {}


def _giving(output: Any) -> Callable[..., Any]:
    return lambda *arguments, **named: output


def _put_back(block: nn.Module, before: Any) -> None:
    del block.__dict__["forward"]
    if before is not None:
        block.__dict__["forward"] = before


class LayerStudy:
    """Every layer rounded alone, then all of them, on a few batches.

    Parameters
    ----------
    model : nn.Module
        The model, in eval mode.
    matrices : Matrices
        Its matrices.
    run : callable
        ``run(batch number)`` runs the model and returns the tensor that it is judged by.
    judge : callable
        ``judge(batch number, output)`` compares it with the original's.
    batches : int
        How many batches there are.
    """

    def __init__(
        self,
        model: nn.Module,
        matrices: Matrices,
        run: Callable[[int], Tensor],
        judge: Callable[[int, Tensor], Comparison],
        batches: int,
    ) -> None:
        self.matrices, self.run, self.judge, self.batches = matrices, run, judge, batches
        self.spool = Spool()
        self.outputs = LayerOutputs(matrices, self.spool)
        self.replay = BlockReplay(model)
        finals = []
        for batch in range(batches):
            with self.outputs.recording(batch), self.replay.recording(batch):
                finals.append(run(batch))
        if self.replay.blocks:  # a model whose blocks do more than return something is computed in full
            for batch, final in enumerate(finals):
                with self.replay.replaying(batch, len(self.replay.blocks)):
                    same = torch.equal(run(batch), final)
                if not same:
                    self.replay.drop()
                    break

    def close(self) -> None:
        """Remove the file of outputs."""
        self.spool.__exit__()

    def below(self, precision: Precision, summaries: InputSummaries) -> list[float | None]:
        """Return the noise of the outputs of each layer with every layer rounded."""
        indices = range(len(self.matrices.items))
        with rounded_layers(self.matrices, precision, summaries):
            for batch in range(self.batches):
                with self.outputs.comparing(batch, list(indices)):
                    self.run(batch)
        return [self.outputs.take(index) for index in indices]

    def effect(self, index: int, precision: Precision, summaries: InputSummaries, below: float | None) -> LayerEffect:
        """Measure one layer rounded alone."""
        item = self.matrices.items[index]
        count = self.replay.first_changed([name for name, _ in item.modules])
        effects: list[float] = []
        with rounded_layers(self.matrices, precision, summaries, [index]):
            for batch in range(self.batches):
                with self.replay.replaying(batch, count), self.outputs.comparing(batch, [index]):
                    result = self.judge(batch, self.run(batch))
                effects += result.divergences or [1 - cosine for cosine in result.cosines]
        effect = sum(effects) / len(effects)
        alone = self.outputs.take(index)
        return LayerEffect(
            item.name, tuple(item.parameter.shape), effect if math.isfinite(effect) else math.inf, alone, below
        )
