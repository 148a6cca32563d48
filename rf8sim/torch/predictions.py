"""Outputs of a model and how they are judged: losses, divergences, agreement, cosines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["TASKS", "Comparison", "compare", "losses", "run_batch", "task_of", "tensor_of"]

TASKS = ("next-token", "labels", "outputs")

_ROWS = 32  # predictions whose logarithms are formed together; no loss depends on it


def tensor_of(output: Any) -> Tensor:
    """Return the tensor that a model's output is judged by: logits, else the last hidden state, else the first.

    Raises
    ------
    ValueError
        If there is none.
    """
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "last_hidden_state"):
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ValueError(
        f"the model returned {type(output).__name__}: expected a tensor, or an object with logits or last_hidden_state"
    )


def run_batch(model: nn.Module, batch: Any, **options: Any) -> Any:
    """Call a model on a batch: a tensor, a tuple of arguments, or a mapping of named ones without its labels."""
    if isinstance(batch, Mapping):
        return model(**{name: value for name, value in batch.items() if name != "labels"}, **options)
    return model(*batch, **options) if isinstance(batch, tuple | list) else model(batch, **options)


def _ids(batch: Any) -> Tensor | None:
    value: Any = batch.get("input_ids") if isinstance(batch, Mapping) else batch
    value = value[0] if isinstance(value, tuple | list) and value else value
    return value if isinstance(value, Tensor) and not value.is_floating_point() and value.ndim == 2 else None


def _mask(batch: Any) -> Tensor | None:
    value = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return value if isinstance(value, Tensor) and value.ndim == 2 else None


def task_of(batch: Any, output: Any) -> str:
    """Return how a model is judged: by its labels, by the next token, or by its outputs alone.

    Raises
    ------
    ValueError
        If labels may be those of the same tokens or of the next ones.
    """
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if isinstance(labels, Tensor):
        tokens = _ids(batch)
        if tokens is not None and labels.shape == tokens.shape:
            raise ValueError("labels for every token: give task='next-token' or task='labels' (of the same token)")
        return "labels"
    hidden = not isinstance(output, Tensor) and getattr(output, "logits", None) is None
    ids, values = _ids(batch), tensor_of(output)
    fits = ids is not None and values.ndim == 3 and values.shape[:2] == ids.shape
    return "next-token" if fits and not (hidden and hasattr(output, "last_hidden_state")) else "outputs"


def targets(batch: Any, logits: Tensor, task: str) -> Tensor:
    """Return the class that each prediction should give, -100 where none is asked; of the logits' leading axes.

    Raises
    ------
    ValueError
        If the batch has no such classes.
    """
    if task == "labels":
        labels = batch.get("labels") if isinstance(batch, Mapping) else None
        if not isinstance(labels, Tensor) or labels.shape != logits.shape[:-1]:
            raise ValueError(f"labels of shape {tuple(logits.shape[:-1])} are needed, one for each prediction")
        return labels.cpu()
    ids = _ids(batch)
    if ids is None or logits.ndim != 3 or logits.shape[:2] != ids.shape:
        raise ValueError("the next token needs batches of token ids (windows, tokens) and logits of each")
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    ids = (labels if isinstance(labels, Tensor) and labels.shape == ids.shape else ids).cpu()
    following = torch.full_like(ids, -100)
    following[:, :-1] = ids[:, 1:]
    mask = _mask(batch)
    if mask is not None:
        kept = mask.cpu().bool()
        following[:, :-1][~(kept[:, 1:] & kept[:, :-1])] = -100
    return following


def embeddings(batch: Any, output: Tensor) -> Tensor:
    """Return a vector for each sample: the mean over positions that the mask keeps, as float64."""
    wide = output.cpu().double()
    if wide.ndim == 3:
        mask = _mask(batch)
        if mask is None or mask.shape != wide.shape[:2]:
            return wide.mean(1)
        weights = mask.cpu().double()[..., None]
        return (wide * weights).sum(1) / weights.sum(1).clamp(min=1)
    return wide.reshape(len(wide), -1) if wide.ndim else wide.reshape(1, 1)


class Comparison(NamedTuple):
    """Outputs of a batch next to the original's: a number for each window or sample, and sums over all of them."""

    losses: list[float]
    divergences: list[float]
    cosines: list[float]
    agreeing: int
    predictions: int
    signal: float
    error: float
    not_finite: int
    size: int


def losses(logits: Tensor, wanted: Tensor) -> list[float]:
    """Return the mean loss of each window in nats."""
    return [_means(_logarithms_of(rows, classes)) for rows, classes in _windows(logits, wanted)]


def _windows(logits: Tensor, wanted: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the logits and classes of each window that has any, without those that nothing is asked of."""
    if logits.ndim == 2:
        logits, wanted = logits[:, None], wanted[:, None]
    flat = [(rows.reshape(-1, rows.shape[-1]), row.reshape(-1)) for rows, row in zip(logits, wanted, strict=True)]
    kept = [(rows[classes != -100], classes[classes != -100]) for rows, classes in flat]
    return [(rows, classes) for rows, classes in kept if len(classes)]


def _means(values: Tensor) -> float:
    return float(values.sum()) / len(values)


def _logarithms_of(rows: Tensor, classes: Tensor) -> Tensor:
    parts = [
        -_log_softmax(rows[start : start + _ROWS]).gather(1, classes[start : start + _ROWS, None])[:, 0]
        for start in range(0, len(rows), _ROWS)
    ]
    return torch.cat(parts)


def _log_softmax(rows: Tensor) -> Tensor:
    return torch.log_softmax(rows.detach().cpu().double(), -1)


def compare(batch: Any, original: Tensor, output: Tensor, task: str) -> Comparison:
    """Compare the outputs of a batch with the original's.

    Parameters
    ----------
    batch : object
        The batch.
    original, output : Tensor
        Logits, or outputs of a model without a loss.
    task : str
        One of `TASKS`.
    """
    if task == "outputs":
        before, after = (embeddings(batch, values.detach()) for values in (original, output))
        cosines = torch.nn.functional.cosine_similarity(before, after, dim=-1)
        same = (before == after).all(-1)
        cosines = torch.where(same, torch.ones_like(cosines), cosines)
        return Comparison([], [], cosines.tolist(), 0, len(cosines), *_noise(before, after))
    wanted = targets(batch, original, task)
    window_losses: list[float] = []
    divergences: list[float] = []
    agreeing = predictions = 0
    sums = [0.0, 0.0, 0, 0]
    pairs = zip(_windows(original, wanted), _windows(output, wanted), strict=True)
    for (before, classes), (after, _) in pairs:
        parts = []
        for start in range(0, len(classes), _ROWS):
            p, q = (rows[start : start + _ROWS].detach().cpu().double() for rows in (before, after))
            expected, actual = torch.log_softmax(p, -1), torch.log_softmax(q, -1)
            loss = -actual.gather(1, classes[start : start + _ROWS, None])[:, 0]
            parts.append((loss, _divergence(expected, actual)))
            agreeing += int(((p.argmax(-1) == q.argmax(-1)) & torch.isfinite(actual).any(-1)).sum())
            sums = [total + part for total, part in zip(sums, _noise(p, q), strict=True)]
        window_losses.append(_means(torch.cat([loss for loss, _ in parts])))
        divergences.append(_means(torch.cat([divergence for _, divergence in parts])))
        predictions += len(classes)
    return Comparison(window_losses, divergences, [], agreeing, predictions, *sums)  # type: ignore[arg-type]


def _divergence(expected: Tensor, actual: Tensor) -> Tensor:
    """Return the divergence of each row of logarithms; a class that is never expected adds nothing."""
    shares = expected.exp()
    sums = (shares * (expected - actual)).sum(-1)
    if torch.isfinite(sums).all():
        return sums
    return torch.where(shares > 0, shares * (expected - actual), torch.zeros_like(shares)).sum(-1)


def _noise(before: Tensor, after: Tensor) -> tuple[float, float, int, int]:
    """Return the sum of squares, that of the errors, outputs that are not finite where the original is, and all."""
    wide, other = before.double().reshape(-1), after.double().reshape(-1)
    signal, error = float(wide @ wide), other - wide
    power = float(error @ error)
    if math.isfinite(signal) and math.isfinite(power):
        return signal, power, 0, wide.numel()
    finite = torch.isfinite(wide)
    wide, other = wide[finite], other[finite]
    signal, power = float(wide.square().sum()), float((other - wide).square().sum())
    return signal, power, int((~torch.isfinite(other)).sum()), wide.numel()
