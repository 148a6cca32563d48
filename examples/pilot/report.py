"""The report of the pilot: each claim with its numbers, a figure and a verdict, all computed from the records."""

import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from claims import CLAIMS, claim_g, table
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from records import Records, load

from rf8sim._base.files import write_files

FEWEST_STEPS = 500  # of a training that says anything
LIMITS = """**What this cannot show.** The models have 0.3 million weights and were trained from scratch on little text:
they have nothing to spare, where the source fine-tunes pretrained models of more than 100 million weights. The recipes
`pooled` and `explicit` step by the prior's own gradient (eps 1e-8); the step that the source published has eps 1, which
makes it nearly an L1 step, and was not tried. The strengths of `pooled` end while it still wins on glosses, and recipes
are chosen on the data that judges them. The verdict of claim c is of these recipes on these models: the source's claim
was not tested at this scale.
"""


def write(folder: Path, path: Path, left_out: Iterable[str] = ()) -> None:
    """Write the report and its figures beside it, all or nothing."""
    all_tasks = [records for records in load(folder) if records.of("plain")]
    if not all_tasks:
        raise SystemExit(f"{folder} holds no record of the recipe 'plain', which all others are compared with")
    seeds = sorted({seed for records in all_tasks for _, seed in records.runs})
    facts = "; ".join(f"{r.task} ({r.weights:,} weights, {r.steps} steps, {r.unit})" for r in all_tasks)
    lines = [
        "# The pilot: claims about generalized Gaussian priors, put to the test\n",
        f"Tasks: {facts}. Seeds: {', '.join(map(str, seeds))}; numbers are mean ± standard deviation over them, and "
        "comparisons are made seed by seed, on the same batches. Made by `python examples/pilot/run.py --out runs "
        "--report reports/pilot.md`; recipes and tasks are described in "
        "[examples/pilot](../examples/pilot/README.md).\n",
    ]
    lines.append(LIMITS)
    if max(records.steps for records in all_tasks) < FEWEST_STEPS:
        lines.append("**A quick run, to see that everything works: too short to judge anything by.**\n")
    if left_out:
        lines.append(f"**Left out for want of data: {', '.join(left_out)}.**\n")
    files: dict[Path, bytes] = {}
    costs = folder / "cost.json"
    sections = {letter: claim(all_tasks) for letter, claim in CLAIMS.items()}
    sections["g"] = claim_g(json.loads(costs.read_text(encoding="utf-8")) if costs.exists() else None)
    rows = []
    for letter, (title, text, _) in sections.items():
        if found := re.search(r"\*\*Verdict: (.*?)\*\* *(\(.*?\))?", text):
            rows.append([f"{letter}. {title}", found[1], (found[2] or "")[1:-1]])
    lines.append(table(["claim", "verdict", "by task"], rows))
    for letter, (title, text, draw) in sections.items():
        lines.append(f"## {letter}. {title}\n")
        if draw is not None:
            figure_path = path.with_name(f"{path.stem}-{letter}.svg")
            files[figure_path] = _figure(draw, all_tasks)
            lines.append(f"![{title}]({figure_path.name})\n")
        lines.append(text)
    files[path] = "\n".join(lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_files(files)


def _figure(draw: Callable[[Axes, Records], None], all_tasks: list[Records]) -> bytes:
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "pilot", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(4.2 * len(all_tasks), 3.4), layout="constrained")
        for axes, records in zip(figure.subplots(1, len(all_tasks), squeeze=False)[0], all_tasks, strict=True):
            draw(axes, records)
            axes.grid(alpha=0.3)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
