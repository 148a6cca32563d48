"""Fine-tuning by distillation from itself, for fewer bits; and what a model costs and is worth, rounded to a step.

The teacher is the model as it came, the student starts as its copy, and no label is needed: the loss is how far the
student's embeddings and last states are from the teacher's. Embeddings of words and positions are not trained: a text
holds few of them, and a prior would shrink the rows of all others with nothing to hold them.
"""

from __future__ import annotations

import bz2
import copy
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from minilm import Tokenizer
from rich.progress import track
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch_minilm import Encoder, embedding

import ggd.torch
import rf8sim
from rf8sim.entropy.coding import compress

WORDS = "embeddings.word_embeddings.weight"
DATA = "gensim/test/test_data/"
NEWS = DATA + "lee_background.cor"  # 300 articles of the same source as the fifty that judge, which are left out
PAGES = DATA + "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
WORD_STEPS = 4  # a step of word embeddings is so many of the other matrices: they bear it (the report shows others)
LEVELS = 127  # steps on either side of zero: the format int8
EXACT_BITS = 64  # a weight beyond them is stored as it is, with its place


# --- text on hand -----------------------------------------------------------------------------------------------------


def read_texts(wheel: Path, held_out: list[str]) -> list[str]:
    """Return the news and the encyclopedia's paragraphs of the wheel gensim, without the texts that judge."""
    with zipfile.ZipFile(wheel) as archive:
        news = archive.read(NEWS).decode("latin-1").splitlines()
        pages = bz2.decompress(archive.read(PAGES)).decode("utf-8")
    judged = {piece for text in held_out for piece in _pieces(text)}
    return [text for text in [*news, *paragraphs(pages)] if not judged & set(_pieces(text))]


def _pieces(text: str, words: int = 8) -> Iterator[str]:
    """Yield every run of a few words: texts that share one are not independent."""
    split = re.findall(r"\w+", text.lower())
    for i in range(len(split) - words + 1):
        yield " ".join(split[i : i + words])


def paragraphs(pages: str) -> Iterator[str]:
    """Yield the prose of a dump of MediaWiki: its long lines, without markup; lines of which some is left are not."""
    for line in pages.splitlines():
        if len(line) > 300 and line[0].isalpha():
            line = re.sub(r"&lt;ref.*?(/ref|/)&gt;|\{\{[^{}]*\}\}|&lt;!--.*?--&gt;", "", line)
            line = re.sub(r"\[\[(?:[^][|]*\|)?([^][|]*)\]\]", r"\1", line)
            line = re.sub(r"'{2,}|&quot;", "", line).replace("&amp;", "&").replace("&nbsp;", " ")
            if not re.search(r"[][{}|<>=]|&[a-z]+;|https?:", line):
                yield line


def windows(texts: list[str], tokenizer: Tokenizer, length: int, count: int, seed: int) -> Tensor:
    """Return so many windows of so many tokens each, [CLS] and [SEP] included, of texts in random order."""
    rng, found = np.random.default_rng(seed), []
    for i in rng.permutation(len(texts)):
        first, *inner, last = tokenizer(texts[i])
        found += [[first, *inner[k : k + length - 2], last] for k in range(0, len(inner) - length + 3, length - 2)]
        if len(found) >= count:
            return torch.tensor(found)[torch.from_numpy(rng.permutation(len(found)))[:count]]
    raise ValueError(f"the texts make {len(found)} windows of {length} tokens, {count} are needed")


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One way to fine-tune.

    Attributes
    ----------
    name : str
        What its record is called.
    lam : float
        Weight of the prior.
    prior : dict
        Further options of `ggd.torch.RateConstraint`.
    step : float
        Of the quantizer in whose presence the student is trained; 0 for plain weights.
    words : bool
        Whether word embeddings are trained and constrained too.
    rate : float
        The highest learning rate.
    """

    name: str
    lam: float = 0.0
    prior: dict[str, Any] = field(default_factory=dict)
    step: float = 0.0
    words: bool = False
    rate: float = 2e-4


class Rounded(nn.Module):
    """A parametrization: weights in whole steps, those that int8 cannot hold as they are; the gradient goes through.

    A uniform grid needs no table: this is `rf8sim.torch.fake_quantize` to int8 but for the weights beyond the format,
    of which a few are large here and matter.
    """

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, weight: Tensor) -> Tensor:
        plain = weight.detach()
        rounded = torch.round(plain / self.step) * self.step
        inside = plain.abs() <= LEVELS * self.step
        return weight + torch.where(inside, rounded - plain, 0.0)


def step_of(name: str, step: float, words: float = WORD_STEPS) -> float:
    """Return the quantizer's step of a matrix."""
    return step * words if name == WORDS else step


def train(
    teacher: Encoder, run: Run, batches: Tensor, targets: Tensor, last: float = 0.2
) -> tuple[Encoder, list[float]]:
    """Return the student and its loss at each step. The prior rests in the last ones.

    Batches are (steps, texts, tokens), targets the teacher's states of them.
    """
    student = copy.deepcopy(teacher)
    optimizer = torch.optim.AdamW(_trained(student, run.words), lr=run.rate, betas=(0.9, 0.98), weight_decay=0.0)
    steps = len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, run.rate, steps + 1, pct_start=0.1)
    until = steps - round(last * steps)
    options: dict[str, Any] = {"until": until, "every": 20, "filter_fn": partial(_constrained, words=run.words)}
    ggd.torch.RateConstraint(student, run.lam, **options, **run.prior).attach(optimizer)
    if run.step:
        for name, module in list(student.named_modules()):
            if isinstance(module, nn.Linear | nn.Embedding):
                rounded = Rounded(step_of(f"{name}.weight", run.step))
                if module.weight.requires_grad:
                    parametrize.register_parametrization(module, "weight", rounded)
                else:
                    module.weight.copy_(rounded(module.weight))
    losses = []
    for tokens, target in track(list(zip(batches, targets, strict=True)), run.name):
        optimizer.zero_grad()
        loss = distance(student.states(tokens), target)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    for module in student.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return student.requires_grad_(False), losses


def _trained(student: Encoder, words: bool) -> list[nn.Parameter]:
    """Return what is trained, and freeze the rest."""
    student.requires_grad_(True)
    for module in student.embeddings.values():
        if isinstance(module, nn.Embedding):
            module.weight.requires_grad_(False)
    student.get_parameter(WORDS).requires_grad_(words)
    return [parameter for parameter in student.parameters() if parameter.requires_grad]


def _constrained(module: nn.Module, name: str, words: bool) -> bool:
    return (isinstance(module, nn.Linear) and name.endswith("weight")) or (words and name == WORDS)


def distance(states: Tensor, target: Tensor) -> Tensor:
    """Return one less the cosine of the embeddings, and the squared error of the states relative to their squares."""
    cosine = torch.sum(embedding(states) * embedding(target), dim=-1).mean()
    return 1 - cosine + torch.mean((states - target) ** 2) / torch.mean(target**2)


# --- what is measured -------------------------------------------------------------------------------------------------


@torch.no_grad()
def round_(model: Encoder, step: float, words: float = WORD_STEPS) -> dict[str, int]:
    """Round every matrix to whole steps, in place, and return the bits of each parameter as it is stored.

    Codes are those of int8, entropy-coded by rANS: tables, heads and checksums count, and so does a scale for each
    matrix. Weights beyond the format stay exact, at `EXACT_BITS` each. Norms and biases stay in float32.
    """
    bits = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            bits[name] = 32 * parameter.numel()
            continue
        weight, own = parameter.numpy(), step_of(name, step, words)
        rounded = rf8sim.quantize(weight, "int8", scale=own)
        outside = np.abs(weight) > LEVELS * own
        bits[name] = 8 * len(compress(rounded.codes)) + 32 + EXACT_BITS * int(outside.sum())
        parameter.copy_(torch.from_numpy(np.where(outside, weight, rounded.dequantize())))
    return bits


@torch.no_grad()
def embed(model: Encoder, texts: list[list[int]]) -> np.ndarray:
    """Return the embeddings of texts of any lengths."""
    return np.concatenate([model(torch.tensor([tokens])).numpy() for tokens in texts])


@torch.no_grad()
def embed_words(model: Encoder, words: Tensor) -> Tensor:
    """Return the embeddings of texts of one word each, given as (words, 3) tokens."""
    return torch.cat([model(part) for part in words.split(256)])
