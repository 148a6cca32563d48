"""A plain byte-level transformer: learned positions, pre-norm blocks, no biases, no dropout."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Config:
    """The sizes of the model. ``epsilon`` is the one inside the square root of every RMSNorm."""

    vocabulary: int = 256
    context: int = 128
    width: int = 128
    layers: int = 4
    heads: int = 4
    epsilon: float = 1e-5


class Attention(nn.Module):
    """Causal multi-head attention; ``qkv`` holds queries, keys and values in turn, each head by head."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.proj = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """Four times as wide inside, GELU by its tanh formula."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, 4 * config.width, bias=False)
        self.down = nn.Linear(4 * config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """Attention, then the MLP, each on a normalized input and added to the stream."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.width, eps=config.epsilon)
        self.attn = Attention(config)
        self.norm2 = nn.RMSNorm(config.width, eps=config.epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class LanguageModel(nn.Module):
    """Bytes in, shape (batch, length); logits of the next byte out, shape (batch, length, vocabulary)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.epsilon)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@torch.no_grad()
def initialize(model: LanguageModel, generator: torch.Generator) -> None:
    """Draw the weights: Gaussian, 0.06, and less where ``2 * layers`` branches add up."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            branch = name.endswith(("attn.proj.weight", "mlp.down.weight"))
            parameter.normal_(0.0, 0.06 / (math.sqrt(2 * model.config.layers) if branch else 1), generator=generator)


def loss_of(model: LanguageModel, batch: Tensor) -> Tensor:
    """Return the mean cross-entropy, nats per byte, of each window's bytes given those before."""
    return functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def evaluate(model: LanguageModel, windows: NDArray[np.uint8], batch: int = 64) -> float:
    """Return the loss on windows of bytes, shape (count, context + 1), in nats per byte.

    Divide by ln 2 for bits per byte. Every position counts alike, the first, with one byte to go by, too.
    """
    data = torch.from_numpy(windows.astype(np.int64))
    total = sum(float(loss_of(model, part)) * len(part) for part in data.split(batch))
    return total / len(data)
