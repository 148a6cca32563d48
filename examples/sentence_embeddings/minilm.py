"""all-MiniLM-L6-v2 in numpy: sentences to embeddings.

A BERT encoder (Devlin et al., 2018) of 6 layers, width 384; the embedding of a text is the mean of its tokens' last
states, of length 1 (Reimers and Gurevych, *Sentence-BERT*, 2019). Tokens are words in lower case without accents, cut
greedily into the longest pieces that the vocabulary has (WordPiece).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[np.float32]
MAX_TOKENS = 256  # the model's own limit (sentence_bert_config.json)


class Tokenizer:
    """WordPiece over a vocabulary, a token a line."""

    def __init__(self, vocabulary: Path) -> None:
        self.numbers = {token: i for i, token in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}

    def __call__(self, text: str) -> list[int]:
        """Return the numbers of a text's tokens, between [CLS] and [SEP]."""
        pieces = [piece for word in self._words(text) for piece in self._pieces(word)]
        return [self.numbers[token] for token in ["[CLS]", *pieces[: MAX_TOKENS - 2], "[SEP]"]]

    def _words(self, text: str) -> Iterator[str]:
        kept = [c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn"]
        spaced = "".join(f" {c} " if self._stands_alone(c) else c for c in kept)
        yield from spaced.split()

    @staticmethod
    def _stands_alone(c: str) -> bool:
        ascii_sign = 33 <= ord(c) <= 126 and not c.isalnum()
        return ascii_sign or unicodedata.category(c).startswith("P") or "\u4e00" <= c <= "\u9fff"

    def _pieces(self, word: str) -> list[str]:
        pieces: list[str] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            end = next((e for e in range(len(word), start, -1) if prefix + word[start:e] in self.numbers), None)
            if end is None or len(word) > 100:
                return ["[UNK]"]
            pieces.append(prefix + word[start:end])
            start = end
        return pieces


class Encoder:
    """The model: its weights by their names in the checkpoint."""

    def __init__(self, folder: Path, weights: Mapping[str, Array]) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.epsilon = np.float32(config["layer_norm_eps"])
        self.weights = weights

    def __call__(self, texts: Sequence[Sequence[int]]) -> Array:
        """Return the embeddings of texts given as token numbers: one row of length 1 each, whatever their order."""
        return np.concatenate([self._embed(np.array(tokens)) for tokens in texts])

    def _embed(self, tokens: NDArray[np.int64]) -> Array:
        own = self.weights
        x = own["embeddings.word_embeddings.weight"][tokens]
        x = x + own["embeddings.position_embeddings.weight"][: len(tokens)]
        x = self._norm(x + own["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for i in range(self.layers):
            layer = f"encoder.layer.{i}"
            query, key, value = (
                self._linear(x, f"{layer}.attention.self.{name}").reshape(len(x), self.heads, -1).swapaxes(0, 1)
                for name in ("query", "key", "value")
            )
            scores = query @ key.swapaxes(1, 2) / np.float32(np.sqrt(query.shape[-1]))
            shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed = (shares / shares.sum(axis=-1, keepdims=True) @ value).swapaxes(0, 1).reshape(x.shape)
            attended = self._linear(mixed, f"{layer}.attention.output.dense")
            x = self._norm(x + attended, f"{layer}.attention.output.LayerNorm")
            inner = self._linear(x, f"{layer}.intermediate.dense")
            curved = inner * np.float32(0.5) * (1 + erf(inner / np.float32(np.sqrt(2))))
            x = self._norm(x + self._linear(curved, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        mean = x.mean(axis=0, keepdims=True)
        return mean / np.linalg.norm(mean)

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + self.epsilon)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
