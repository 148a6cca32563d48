"""The records of the pilot's runs, read from disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Records:
    """All records of one task, by recipe and seed: of the seeds that have a plain run, with which all are compared."""

    def __init__(self, task: str, records: list[Record]) -> None:
        self.task, self.unit = task, records[0]["unit"]
        seeds = {record["seed"] for record in records if record["recipe"] == "plain"}
        self.runs = {(record["recipe"], record["seed"]): record for record in records if record["seed"] in seeds}
        self.recipes = list(dict.fromkeys(recipe for recipe, _ in self.runs))
        self.weights = records[0]["weights"]
        self.steps = max(record["cost"]["steps"] for record in records)

    def of(self, recipe: str) -> dict[int, Record]:
        """Return the runs of a recipe by seed."""
        return {seed: record for (name, seed), record in sorted(self.runs.items()) if name == recipe}

    def label(self, recipe: str) -> str:
        """Return the name of a recipe, with the number of its seeds where others have more."""
        seeds, most = len(self.of(recipe)), len({seed for _, seed in self.runs})
        return recipe if seeds == most else f"{recipe} ({seeds} seed{'s' * (seeds > 1)})"

    def groups(self, *names: str) -> dict[str, list[str]]:
        """Return the recipes of each group that has runs."""
        found: dict[str, list[str]] = {}
        for record in self.runs.values():
            if record["group"] in names and record["recipe"] not in found.setdefault(record["group"], []):
                found[record["group"]].append(record["recipe"])
        return {name: sorted(found[name], key=lambda r: self.any(r)["lam"]) for name in names if name in found}

    def any(self, recipe: str) -> Record:
        """Return one run of a recipe."""
        return next(iter(self.of(recipe).values()))

    def paired(self, recipe: str, value: Callable[[Record], float], against: str = "plain") -> list[float]:
        """Return, seed by seed, a value less that of another recipe."""
        ours, theirs = self.of(recipe), self.of(against)
        return [value(ours[seed]) - value(theirs[seed]) for seed in ours if seed in theirs]


def load(folder: Path) -> list[Records]:
    """Read the records of a folder, a task at a time."""
    records = [json.loads(path.read_text(encoding="utf-8").splitlines()[0]) for path in sorted(folder.glob("*.jsonl"))]
    tasks = dict.fromkeys(record["task"] for record in records)
    return [Records(task, [record for record in records if record["task"] == task]) for task in tasks]
