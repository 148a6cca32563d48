"""What distribution the weights of the model have, by kind of matrix, from the survey of `ggd`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ggd.findings import verdict
from ggd.survey import Entry, summarize, survey

KINDS = {
    "word embeddings": ("embeddings.word_embeddings.",),
    "positions and token types": ("embeddings.",),
    "attention: query, key": ("attention.self.query.", "attention.self.key."),
    "attention: value": ("attention.self.value.",),
    "attention: output": ("attention.output.",),
    "MLP: up": ("intermediate.",),
    "MLP: down": (".output.",),
    "pooler": ("pooler.",),
}
"""Parts of the names in the checkpoint; the first kind that fits is taken."""

HEAD = (
    "| matrices | how many | weights | shape: least, mean, largest | at equal RMS | over a Gaussian | over Laplace | "
    "best family |\n|:--|--:|--:|:-:|--:|--:|--:|:--|"
)


def kind_of(name: str) -> str:
    """Return what a matrix does."""
    return next(kind for kind, parts in KINDS.items() if any(part in name for part in parts))


def fit_by_kind(weights: Mapping[str, NDArray[np.float32]]) -> tuple[str, str]:
    """Return a table in Markdown, a kind a row, and the findings of the survey as a list."""
    matrices = {name: w for name, w in weights.items() if w.ndim == 2 and w.dtype.kind == "f"}
    found = survey(summarize(name, matrix) for name, matrix in matrices.items())
    rows = [
        _row(kind, entries)
        for kind in KINDS
        if (entries := [entry for entry in found.tensors if kind_of(entry.name) == kind])
    ]
    return "\n".join([HEAD, *rows]), "\n".join(f"* {sentence}" for sentence in verdict(found))


def _row(kind: str, entries: Sequence[Entry]) -> str:
    counts = np.array([entry.histogram.size for entry in entries])

    def mean(value: Callable[[Entry], float]) -> float:
        return float(np.average([value(entry) for entry in entries], weights=counts))

    shapes = [entry.fit.shape for entry in entries]
    families = Counter(entry.finding for entry in entries)
    within = mean(lambda entry: float("nan") if entry.channels is None else entry.channels.shape)
    return (
        f"| {kind} | {len(entries)} | {counts.sum():,} | "
        f"{min(shapes):.2f}, {mean(lambda entry: entry.fit.shape):.2f}, {max(shapes):.2f} | {within:.2f} | "
        f"{mean(lambda entry: entry.excess('gaussian')):.4f} | {mean(lambda entry: entry.excess('laplace')):.4f} | "
        f"{', '.join(f'{family} {count}' for family, count in families.most_common())} |"
    )
