"""The tasks of the pilot: real data, a model that learns from it in a minute, and how good it is.

* ``code``: bytes of Python's standard library, the corpus of ``examples/lm``, and a transformer of 0.28 million
  weights.
* ``glosses``: definitions of nouns in WordNet 3.0 and the 26 classes of its lexicographers; words hashed into a table
  of embeddings, their mean, and an MLP. The data are Debian's ``wordnet-base``.
* ``bible``: the code's model on the King James text of Debian's ``bible-kjv-text``, optional.
"""

import functools
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))
import corpus
from model import Config, LanguageModel, initialize, loss_of

WORDNET = "/usr/share/wordnet/data.noun"
WORDS = 16  # of a gloss
BUCKETS = 8192  # of the hash of a word; bucket 0 is for padding

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Task:
    """A data set and a model for it.

    Attributes
    ----------
    name, unit : str
        What it is called, and the unit of its loss.
    steps, rate : int, float
        Steps of a full training and its peak learning rate.
    build : callable
        ``build(generator)`` makes a model with its usual initial weights.
    batch : callable
        ``batch(generator)`` draws a batch of the training data.
    loss : callable
        ``loss(model, batch)``.
    held_out : list of Batch
        What it is judged by.
    accuracy : callable
        ``accuracy(model, batch)``: share of right answers.
    """

    name: str
    unit: str
    steps: int
    rate: float
    build: Callable[[torch.Generator], nn.Module]
    batch: Callable[[torch.Generator], Batch]
    loss: Callable[[nn.Module, Batch], Tensor]
    held_out: list[Batch]
    accuracy: Callable[[nn.Module, Batch], Tensor]


@torch.no_grad()
def judge(task: Task, model: nn.Module) -> dict[str, float]:
    """Return loss and accuracy on the held-out data."""
    was = model.training
    model.eval()
    total = sum(len(batch[0]) for batch in task.held_out)
    loss = sum(float(task.loss(model, batch)) * len(batch[0]) for batch in task.held_out) / total
    accuracy = sum(float(task.accuracy(model, batch)) * len(batch[0]) for batch in task.held_out) / total
    model.train(was)
    return {"loss": loss, "accuracy": accuracy}


# --- bytes ------------------------------------------------------------------------------------------------------------


def _bytes(name: str, train: np.ndarray, held_out: np.ndarray) -> Task:
    config = Config(context=64, width=96, layers=2)
    data, span = torch.from_numpy(train.copy()), torch.arange(config.context + 1)
    windows = torch.from_numpy(corpus.windows(held_out, 128, config.context + 1).astype(np.int64))

    def build(generator: torch.Generator) -> nn.Module:
        model = LanguageModel(config)
        initialize(model, generator)
        return model

    def batch(generator: torch.Generator) -> Batch:
        starts = torch.randint(len(data) - len(span), (16, 1), generator=generator)
        return (data[starts + span].long(),)

    def accuracy(model: nn.Module, batch: Batch) -> Tensor:
        return (model(batch[0][:, :-1]).argmax(-1) == batch[0][:, 1:]).float().mean()

    return Task(
        name, "nats per byte", 800, 4e-3, build, batch, lambda model, batch: loss_of(model, batch[0]),
        [(part,) for part in windows.split(64)], accuracy,
    )  # fmt: skip


def code() -> Task:
    """Bytes of Python's standard library."""
    train, held_out, _ = corpus.read()
    return _bytes("code", train, held_out)


def bible(path: Path) -> Task:
    """Bytes of the King James text; its last twentieth is held out."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    cut = data.size * 19 // 20
    return _bytes("bible", data[:cut], data[cut:])


# --- glosses ----------------------------------------------------------------------------------------------------------


def read_glosses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return hashed words, shape (glosses, WORDS), 0 where there are fewer, and classes, of WordNet's data.noun."""
    words, classes = [], []
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):  # the licence
            continue
        found = re.findall(r"[a-z]+", line.split("|")[1].split('; "')[0].lower())[:WORDS]
        buckets = [1 + zlib.crc32(word.encode()) % (BUCKETS - 1) for word in found]
        words.append(buckets + [0] * (WORDS - len(buckets)))
        classes.append(int(line.split()[1]) - 3)
    return np.array(words), np.array(classes)


class Glosses(nn.Module):
    """Mean of the embeddings of words, an MLP of one hidden layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(BUCKETS, 32, mode="mean", padding_idx=0)
        self.up = nn.Linear(32, 128)
        self.head = nn.Linear(128, classes)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(functional.gelu(self.up(self.embed(words))))


def glosses(path: Path) -> Task:
    """Classes of nouns by their glosses; one gloss in 20 is held out."""
    words, classes = (torch.from_numpy(part) for part in read_glosses(path))
    held_out = torch.arange(len(words)) % 20 == 0
    train = words[~held_out], classes[~held_out]

    def build(generator: torch.Generator) -> nn.Module:
        model = Glosses(int(classes.max()) + 1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                std = 0.1 if name.startswith("embed") else parameter.shape[-1] ** -0.5 * (parameter.ndim > 1)
                parameter.normal_(0.0, std, generator=generator)
            model.embed.weight[0].zero_()
        return model

    def batch(generator: torch.Generator) -> Batch:
        chosen = torch.randint(len(train[0]), (128,), generator=generator)
        return train[0][chosen], train[1][chosen]

    return Task(
        "glosses", "nats per gloss", 1500, 4e-3, build, batch,
        lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]),
        list(zip(words[held_out].split(1024), classes[held_out].split(1024), strict=True)),
        lambda model, batch: (model(batch[0]).argmax(-1) == batch[1]).float().mean(),
    )  # fmt: skip


@functools.cache
def get_task(name: str, wordnet: str = WORDNET, bible_text: str = "") -> Task:
    """Return a task by its name."""
    if name == "code":
        return code()
    if name == "glosses":
        return glosses(Path(wordnet))
    return bible(Path(bible_text))
