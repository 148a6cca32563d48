"""How far a model's predictions move when its matrices are quantized, alone and together: what plans are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..models.precision import Precision
from ..quantization.scheme import Scheme
from .evaluation import EvaluateConfig, evaluate, evaluating
from .matrices import Matrices, Spool, as_floats, find_matrices
from .predictions import compare, run_batch, tensor_of

__all__ = ["ModelPredictions", "names_in"]


class ModelPredictions:
    """The predictions of a model on a few batches, next to those with quantized matrices.

    Parameters
    ----------
    model : nn.Module
        The model, in float32; it is as it was after each call.
    batches : sequence
        Token ids, as for `evaluate`.
    names : sequence of str
        The matrices that are quantized, as the checkpoint calls them: a parameter's name, with the prefix of the base
        model or without it.
    progress : callable, optional
        Called with what is at work, the forward passes done and those in all.

    Raises
    ------
    ValueError
        If a name is none of the model's, or the model holds its matrix transposed.

    Examples
    --------
    >>> from rf8sim import as_scheme
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50))
    >>> with ModelPredictions(model, [torch.randint(0, 50, (2, 12))], ["1.weight"]) as predictions:
    ...     alone = predictions.alone(as_scheme("e2m1fn"))
    ...     together = predictions.together({"1.weight": as_scheme("e2m1fn")})
    >>> alone["1.weight"] == together > 0
    True
    """

    def __init__(self, model: nn.Module, batches: Sequence[Any], names: Sequence[str], progress: Any = None) -> None:
        self.model, self.batches, self._progress, self._done = model, list(batches), progress, 0
        self.names = names_in(model, names)
        items = {item.name: item for item in find_matrices(model)}
        for name, parameter in self.names.items():
            if parameter not in items or items[parameter].transposed:
                raise ValueError(f"{name!r} is no matrix of the model, or one that it holds transposed: keep it")
        chosen = set(self.names.values())
        self._matrices = Matrices(model, lambda name, _: name in chosen)
        self._indices = {item.name: index for index, item in enumerate(self._matrices.items)}
        self._originals, self.tokens = Spool(), 0
        with torch.no_grad(), evaluating(model):
            for batch in self.batches:
                output = tensor_of(run_batch(model, batch))
                self._originals.write(as_floats(output))
                self.tokens += compare(batch, output, output, "next-token").predictions

    def __enter__(self) -> ModelPredictions:
        return self

    def __exit__(self, *_: object) -> None:
        self._matrices.__exit__()
        self._originals.__exit__()

    def alone(self, scheme: Scheme) -> dict[str, float]:
        """Return the divergence with each matrix alone quantized, on all batches, by the checkpoint's names."""
        chosen = set(self.names.values())
        config = EvaluateConfig(
            task="next-token",
            filter_fn=lambda name, _: name in chosen,
            layers=Precision(scheme),
            layer_batches=len(self.batches),
        )
        outputs = evaluate(self.model, self.batches, [], config, progress=self._progress)
        effects = {layer.name: layer.effect for layer in outputs.layers}
        return {name: effects[parameter] for name, parameter in self.names.items()}

    def together(self, schemes: Mapping[str, Scheme]) -> float:
        """Return the divergence with matrices quantized, each by its own scheme, nats per token."""
        chosen = {self._indices[self.names[name]]: scheme for name, scheme in schemes.items()}
        means: list[float] = []
        with torch.no_grad(), evaluating(self.model), self._matrices.rounded_each(chosen):
            for number, batch in enumerate(self.batches):
                if self._progress:
                    self._progress("all tensors", number, len(self.batches))
                original = torch.from_numpy(self._originals.read(number))
                output = tensor_of(run_batch(self.model, batch)).detach().cpu()
                means += compare(batch, original, output, "next-token").divergences
        return sum(means) / len(means)


def names_in(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Return the model's name of each matrix of a checkpoint."""
    known = {name for name, _ in model.named_parameters()}
    prefix = str(getattr(model, "base_model_prefix", "") or "")
    spelled = {}
    for name in names:
        spellings = (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))
        spelled[name] = next((spelling for spelling in spellings if spelling in known), name)
    return spelled
