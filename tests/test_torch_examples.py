"""The examples of training run, and say what they should."""

import dataclasses
import importlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        cwd=EXAMPLES.parent,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # models so small that threads only wait for each other
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_with_a_prior():
    script = EXAMPLES / "train_with_a_prior.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60
    output = run(str(script), "--steps", "30", "--lam", "0.3")
    found = re.findall(r"loss (\S+) nats per byte, (\S+) bits per weight, (\S+) bytes", output)
    (loss, bits, size), (loss_with, bits_with, size_with) = [
        (float(a), float(b), int(c.replace(",", ""))) for a, b, c in found
    ]
    assert 2 < loss < 5
    assert 2 < loss_with < 5
    assert bits_with < 0.9 * bits
    assert size_with < 0.9 * size


@pytest.fixture
def pilot(monkeypatch):
    """Import the pilot's own modules, on one thread."""
    import torch

    monkeypatch.syspath_prepend(str(EXAMPLES / "pilot"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield importlib.import_module
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_every_recipe_trains(pilot):
    """A few steps of each: an option that does not exist, a loss that is not finite, are found before the long run."""
    recipes, tasks, training = pilot("recipes").RECIPES, pilot("tasks"), pilot("training")
    task = tasks.get_task("code")
    task = dataclasses.replace(task, held_out=[(task.held_out[0][0][:4],)])
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    for recipe in recipes:
        model, history, _ = training.train(task, recipe, 0, 10, rows=1)
        assert math.isfinite(history[-1]["loss"]), recipe.name
        assert set(model.state_dict()) == set(task.build(None).state_dict()), recipe.name


def test_glosses_are_read(pilot, tmp_path):
    tasks = pilot("tasks")
    line = '{:08d} {:02d} n 01 word{} 0 000 | a {} of some kind, "quoted"; "for example, this"  \n'
    licence = "  1 This software and database is being provided to you\n"
    path = tmp_path / "data.noun"
    path.write_text(licence + "".join(line.format(i, 3 + i % 26, i, f"thing{'ab'[i % 2]}") for i in range(400)))
    words, classes = tasks.read_glosses(path)
    assert words.shape == (400, tasks.WORDS)
    assert classes.tolist() == [i % 26 for i in range(400)]
    assert (words[0] > 0).sum() == 6  # a thinga of some kind quoted
    assert words[0].tolist() == words[2].tolist() != words[1].tolist()
    task = tasks.glosses(path)
    training = pilot("training")
    recipe = next(recipe for recipe in pilot("recipes").RECIPES if recipe.name == "stepped-l1-0.01")
    record = training.run(dataclasses.replace(task, steps=5), recipe, 0)
    assert json.loads(json.dumps(record)) == record
    assert 0 < record["curve"][0]["bits"] < 8


def test_fewest_bits_are_read_off_a_curve(pilot):
    cheapest = pilot("claims").cheapest
    curve = [{"bits": bits, "loss": loss} for bits, loss in ((6.0, 1.0), (4.0, 1.1), (2.0, 1.5))]
    assert cheapest(curve, 1.1) == 4.0
    assert cheapest(curve, 1.3) == pytest.approx(3.0)  # half of the way from 4 bits to 2
    assert cheapest(curve, 1.05) == pytest.approx(5.0)
    assert cheapest(curve, 2.0) == 2.0
    assert cheapest(curve, 0.9) == math.inf
    assert cheapest([], 1.0) == math.inf


def test_recipes_are_compared_seed_by_seed(pilot):
    """A prior that halves the bits at equal loss, and an explicit step that needs more: the page says so."""
    claims, records = pilot("claims"), pilot("records")

    def run(recipe, group, lam, seed, worth):
        curve = [{"step": 0.1, "bits": worth * (4 - k), "loss": 1 + seed + 0.001 * 4**k} for k in range(3)]
        return {"task": "t", "unit": "nats", "recipe": recipe, "group": group, "lam": lam, "seed": seed, "weights": 9,
                "cost": {"steps": 1}, "final": {"loss": 1.0 + seed}, "curve": curve}  # fmt: skip

    runs = [run("plain", "plain", 0.0, seed, 1.0) for seed in (0, 1)]
    runs += [run("prior-1", "prior", 1.0, seed, 0.5) for seed in (0, 1)]
    runs += [run("pooled-1", "pooled", 1.0, seed, 1.5) for seed in (1, 2)]  # of seed 2 there is no plain run
    _, text, _ = claims.claim_c([records.Records("t", runs)])
    plain, best = 4 - 1 - (0.01 - 0.004) / 0.012, 0.5 * (4 - 1 - (0.01 - 0.004) / 0.012)
    assert f"| plain | +0.000 ± 0.000 | {plain:.2f} ± 0.00 | 92% | 84% | 0% |" in text
    assert f"| prior-1 | +0.000 ± 0.000 | {best:.2f} ± 0.00 | 96% | 92% | 50% |" in text
    assert f"| t | prior-1 | {best:.2f} | 0.50 | pooled-1 | {1.5 * plain:.2f} | 1.50 |" in text
    assert "| pooled-1 (1 seed) |" in text
    assert "**Verdict: holds** (t: yes)" in text
    _, text, _ = claims.claim_c([records.Records("t", [r for r in runs if r["recipe"] != "prior-1"])])
    assert "**Verdict: does not hold** (t: no)" in text


@pytest.mark.slow
def test_quick_pilot(tmp_path):
    """The whole of it: records, a report whose numbers are the records', and nothing done twice."""
    script, out, page = str(EXAMPLES / "pilot" / "run.py"), tmp_path / "runs", tmp_path / "report" / "pilot.md"
    options = ("--out", str(out), "--quick", "--report", str(page), "--wordnet", str(tmp_path / "missing"))
    run(script, *options)
    names = {f"code.{recipe}.0.jsonl" for recipe in ("plain", "init-0.5", "prior-0.02", "stepped")}
    assert {path.name for path in out.iterdir()} == names | {"cost.json"}
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (\w)\. ", text, flags=re.MULTILINE) == list("abcdefg")
    assert "Left out for want of data: glosses" in text
    assert "A quick run" in text
    plain = json.loads((out / "code.plain.0.jsonl").read_text())
    assert f"| 90% | {plain['pruned'][-1]['loss']:.3f} |" in text
    cost = json.loads((out / "cost.json").read_text())
    assert f"| prior | {1e3 * cost['training']['prior']['seconds']:.0f} |" in text
    assert cost["products"]["rf8"]["bytes"] * 4 == cost["products"]["float32"]["bytes"]
    figures = re.findall(r"\]\((\S+\.svg)\)", text)
    assert len(figures) == 4
    assert all((page.parent / figure).stat().st_size > 5000 for figure in figures)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "code.init-0.5.0.jsonl").unlink()
    run(script, *options)
    after = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert {path.name for path in before if before[path] != after[path]} == {"code.init-0.5.0.jsonl"}
    assert page.read_text(encoding="utf-8") == text  # the same seed, the same numbers
