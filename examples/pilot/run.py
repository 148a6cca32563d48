"""The pilot: every recipe on every task, from several seeds; a record of each run on disk, and a report of them all.

::

    python examples/pilot/run.py --out runs --report reports/pilot.md    # hours; started again it goes on
    python examples/pilot/run.py --out quick --quick                     # minutes, to see that everything works

The second task needs WordNet: ``apt-get install wordnet-base``; or without being root ``apt-get download
wordnet-base``, ``dpkg -x wordnet-base_*.deb DIR`` and ``--wordnet DIR/usr/share/wordnet/data.noun``. Where it is not
there, the task is left out and the report says so.
"""

import argparse
import dataclasses
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).parent))
import cost
import report
import tasks
from recipes import RECIPES, Recipe

from rf8sim._base.files import write_files

SEEDS = 3
QUICK_STEPS, QUICK_ROWS = 20, 16
WIDTH, QUICK_WIDTH = 2048, 128  # of the matrices on which costs are measured


def work(task: str, wordnet: str, bible: str, recipe: Recipe, seed: int, quick: bool, path: str) -> str:
    """Do one run and write its record, the whole or nothing."""
    import training

    data = tasks.get_task(task, wordnet, bible)
    if quick:
        training.measure_less()
        few = tuple(part[:QUICK_ROWS] for part in data.held_out[0])
        data = dataclasses.replace(data, steps=QUICK_STEPS, held_out=[few])
    record = training.run(data, recipe, seed)
    write_files({Path(path): (json.dumps(record) + "\n").encode()})
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the claims about generalized Gaussian priors to the test.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records, one file for each run")
    parser.add_argument("--report", type=Path, help="write the report here, its figures beside it")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps, one seed, a few recipes")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--tasks", nargs="+", choices=("code", "glosses", "bible"), default=["code", "glosses"])
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--wordnet", default=tasks.WORDNET, help="WordNet's data.noun")
    parser.add_argument("--bible", default="", help="a text file, for the task bible")
    arguments = parser.parse_args()

    known = {recipe.name for recipe in RECIPES}
    unknown = sorted(set(arguments.recipes or ()) - known)
    if unknown:
        parser.error(f"unknown recipe {unknown[0]!r}: the choices are {', '.join(sorted(known))}")
    missing = {"glosses": arguments.wordnet, "bible": arguments.bible}
    left_out = [name for name in arguments.tasks if name in missing and not Path(missing[name]).is_file()]
    for name in left_out:
        print(f"{name} is left out: there is no file {missing[name]!r} (see --help)", file=sys.stderr)
    chosen = [recipe for recipe in RECIPES if (not arguments.quick or recipe.quick)]
    if arguments.recipes:
        chosen = [recipe for recipe in RECIPES if recipe.name in arguments.recipes]
    seeds = 1 if arguments.quick else arguments.seeds
    arguments.out.mkdir(parents=True, exist_ok=True)
    done = sorted(arguments.out.glob("*.jsonl"))
    if done and (json.loads(done[0].read_bytes())["cost"]["steps"] == QUICK_STEPS) != arguments.quick:
        parser.error(
            f"{arguments.out} holds records of {'a full' if arguments.quick else 'a quick'} run: choose another"
        )
    runs = [
        (task, arguments.wordnet, arguments.bible, recipe, seed, arguments.quick, str(path))
        for seed in range(seeds)  # whole rounds first: a run that is stopped leaves complete comparisons
        for recipe in chosen
        for task in arguments.tasks
        if task not in left_out and not (path := arguments.out / f"{task}.{recipe.name}.{seed}.jsonl").exists()
    ]
    with Progress() as progress, ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        bar = progress.add_task("runs", total=len(runs))
        for future in as_completed([pool.submit(work, *run) for run in runs]):
            progress.console.print(Path(future.result()).name)
            progress.advance(bar)
    costs = arguments.out / "cost.json"
    if not costs.exists():  # last, when nothing else runs
        record = cost.measure(QUICK_WIDTH, 2) if arguments.quick else cost.measure(WIDTH)
        write_files({costs: (json.dumps(record) + "\n").encode()})
    if arguments.report:
        report.write(arguments.out, arguments.report, left_out)
        print(f"wrote {arguments.report}")


if __name__ == "__main__":
    main()
