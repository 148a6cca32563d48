"""What the matrices of a model are multiplied with, and what errors of their outputs do to the model's, in one pass.

Second moments of what enters a layer say which errors of its weights cancel. Squared gradients of what leaves it, for
outputs drawn from the model's own predictions, say what an error that is left costs: their mean is Fisher's
information, half of which is the divergence of the predictions per squared error. Tokens count by these gradients in
the moments too. All is of the model as it is, not of one whose earlier layers are rounded already.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .evaluation import evaluating
from .matrices import Matrices, Matrix
from .predictions import embeddings, run_batch, targets, task_of, tensor_of

__all__ = ["Calibration", "calibrate"]

Progress = Callable[[str, int, int], None]
Array = NDArray[np.float64]

_TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass
class _Sums:
    """Sums over tokens of one matrix, as a layer and as a table of rows that are looked up."""

    moments: Array  # products of inputs, each token times its squared gradients
    weight: float
    rows: Array  # squared gradients of each output
    columns: Array  # squared gradients of each column of the table


class Calibration:
    """Second moments and importances of the matrices of a model.

    The sums of moments lie in a temporary file, of 8 bytes for the square of each layer's inputs.

    Parameters
    ----------
    matrices : Matrices
        The model's.

    Attributes
    ----------
    predictions : int
        Outputs that were drawn.
    """

    def __init__(self, matrices: Matrices) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._size = self.predictions = 0
        self._sums: dict[str, _Sums] = {}
        for item in matrices.items:
            rows, columns = tuple(item.parameter.shape)[:: -1 if item.transposed else 1][:2]
            if _layers(item) or _tables(item):
                moments = self._zeros((columns, columns) if _layers(item) else (0, 0))
                self._sums[item.name] = _Sums(moments, 0.0, np.zeros(rows), np.zeros(columns))

    def _zeros(self, shape: tuple[int, int]) -> Array:
        """Return zeros that lie in the file."""
        start, size = self._size, 8 * math.prod(shape)
        if not size:
            return np.zeros(shape)
        self._size += -(-size // 65536) * 65536
        self._file.truncate(self._size)
        return np.memmap(self._file, np.float64, "r+", start, shape)

    def __enter__(self) -> Calibration:
        return self

    def __exit__(self, *_: object) -> None:
        self._sums.clear()
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The matrices that something entered."""
        return tuple(name for name, sums in self._sums.items() if sums.weight or sums.columns.any())

    def moments(self, name: str) -> Array:
        """Return what an error of a row of a matrix costs, shape (inputs, inputs), or (inputs,) for a table."""
        sums = self._sums[name]
        if not sums.weight:
            return sums.columns / max(float(sums.columns.mean()), 1e-300)
        moments = np.array(sums.moments) / sums.weight
        # A row of a table that is a layer too is looked up as often as any other.
        index, looked_up = np.arange(len(moments)), sums.columns / max(float(sums.rows.sum()), 1e-300)
        moments[index, index] += looked_up
        return moments

    def importance(self, name: str) -> Array:
        """Return what a squared error of each output costs: half of Fisher's information, for one prediction."""
        sums, count = self._sums[name], 2.0 * max(self.predictions, 1)
        if sums.weight:
            return sums.rows / count
        return np.full(sums.rows.size, float(sums.columns.mean()) / (count * sums.rows.size))

    def add_layer(self, name: str, x: Tensor, gradient: Tensor) -> None:
        """Add what entered a layer, and the gradient of what left it, each of shape (tokens, channels)."""
        sums, squares = self._sums[name], gradient.square()
        share = squares.sum(1)
        sums.moments += ((x * share[:, None]).T @ x).double().numpy()
        sums.rows += squares.sum(0, dtype=torch.float64).numpy()
        sums.weight += float(share.double().sum())

    def add_table(self, name: str, gradient: Tensor) -> None:
        """Add the gradient of the rows that were looked up, shape (tokens, columns)."""
        self._sums[name].columns += gradient.double().square().sum(0).numpy()


def calibrate(
    model: nn.Module,
    matrices: Matrices,
    batches: Sequence[Any],
    task: str | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Run a model on batches, forwards and backwards, and sum up what enters and leaves its matrices.

    Parameters
    ----------
    model : nn.Module
        The model, in float32, on the CPU.
    matrices : Matrices
        Its matrices; those of Linear layers and embeddings, and of transformers' Conv1D, are calibrated.
    batches : sequence
        As for `evaluate`.
    task : str, optional
        As for `EvaluateConfig`.
    seed : int
        Of the outputs that are drawn: the next tokens, or for a model without a loss directions of its embeddings.
    progress : callable, optional
        Called with what is at work, the batches done and those in all.

    Returns
    -------
    Calibration
        To be closed.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50))
    >>> with Matrices(model) as matrices, calibrate(model, matrices, [torch.randint(0, 50, (4, 12))]) as calibration:
    ...     calibration.names, calibration.moments("1.weight").shape, calibration.importance("1.weight").shape
    (('0.weight', '1.weight'), (16, 16), (50,))
    """
    calibration = Calibration(matrices)
    generator = torch.Generator().manual_seed(seed)
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.enable_grad())
        for parameter in frozen:
            parameter.requires_grad_(False)
            stack.callback(parameter.requires_grad_, True)
        for item in matrices.items:
            for hook, modules in ((_layer_hook, _layers(item)), (_table_hook, _tables(item))):
                for module in modules:
                    stack.callback(module.register_forward_hook(hook(calibration, item)).remove)
        for number, batch in enumerate(batches):
            if progress:
                progress("calibration", number, len(batches))
            output = run_batch(model, batch)
            judged = task or task_of(batch, output)
            count, loss = _drawn(batch, tensor_of(output), judged, generator)
            calibration.predictions += count
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
    return calibration


def _layers(item: Matrix) -> list[nn.Module]:
    modules = [module for _, module in item.modules]
    return [module for module in modules if isinstance(module, nn.Linear) or item.transposed]


def _tables(item: Matrix) -> list[nn.Module]:
    return [module for _, module in item.modules if isinstance(module, _TABLES)]


def _drawn(batch: Any, output: Tensor, task: str, generator: torch.Generator) -> tuple[int, Tensor]:
    """Draw what each prediction should have been, and return how many there are and the loss that follows."""
    if task == "outputs":
        vectors = embeddings(batch, output)
        directions = torch.randn(vectors.shape, dtype=vectors.dtype, generator=generator)
        return len(vectors), 2**0.5 * (vectors * directions).sum()  # half of its squared gradients is the squared error
    wanted = targets(batch, output, task)
    logits = output[wanted.to(output.device) != -100]
    drawn = torch.multinomial(torch.softmax(logits.detach(), -1), 1, generator=generator)[:, 0]
    return len(drawn), nn.functional.cross_entropy(logits, drawn, reduction="sum")


def _layer_hook(calibration: Calibration, item: Matrix) -> Any:
    def enter(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        x, seen = arguments[0].detach(), _leaf(output)

        def add(gradient: Tensor) -> None:
            calibration.add_layer(item.name, _matrix(x), _matrix(gradient))

        seen.register_hook(add)  # type: ignore[no-untyped-call]
        return seen

    return enter


def _table_hook(calibration: Calibration, item: Matrix) -> Any:
    def enter(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        seen = _leaf(output)

        def add(gradient: Tensor) -> None:
            calibration.add_table(item.name, _matrix(gradient))

        seen.register_hook(add)  # type: ignore[no-untyped-call]
        return seen

    return enter


def _leaf(output: Tensor) -> Tensor:
    """Return an output as the start of a graph where no graph leads to it: parameters have no gradients here."""
    return output if output.requires_grad else output.detach().requires_grad_()


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]).float()
