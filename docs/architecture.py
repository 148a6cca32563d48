"""Draw docs/architecture.svg from the layers that tests/test_layering.py holds.

python docs/architecture.py [--check]
"""

from __future__ import annotations

import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "docs" / "architecture.svg"
ROW, BOX, GAP, CHAR, LEFT = 34, 24, 6, 6.6, 12

# The subjects, and the modules of each; a module that is named nowhere belongs to the first.
COLOURS = {
    "numbers": "#2457c5", "arithmetic": "#0f766e", "checkpoints": "#7a3fb0", "compression": "#b4530a",
    "measuring": "#3f6212", "ways in": "#9d174d", "groundwork": "#5b6472",
}  # fmt: skip
SUBJECTS = {
    "groundwork": "_version _base _kernels _gamma _cells _storing _counting",
    "arithmetic": "arithmetic reference",
    "checkpoints": "checkpoints",
    "compression": "entropy compression",
    "measuring": "models studies report survey findings groups",
    "ways in": "cli __main__ hardware torch",
}


def layers() -> dict[str, list[list[str]]]:
    """Read the table of the test, from the bottom up, without importing it."""
    tree = ast.parse((ROOT / "tests" / "test_layering.py").read_text(encoding="utf-8"))
    table = next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "LAYERS")
    return {package: [sorted(names) for names in rows] for package, rows in ast.literal_eval(table).items()}


def existing(package: str, rows: list[list[str]]) -> list[list[str]]:
    """Leave out modules that are planned only."""
    folder = ROOT / package
    found = [[n for n in row if (folder / f"{n}.py").exists() or (folder / n).is_dir()] for row in rows]
    return [row for row in found if row]


def subject(name: str) -> str:
    """Return the subject that a module is of."""
    return next((subject for subject, names in SUBJECTS.items() if name in names.split()), "numbers")


def drawing() -> str:
    """Return the figure."""
    shapes, right = [], 0.0
    tall = max(len(existing(package, rows)) for package, rows in layers().items())
    height = 96 + tall * ROW
    for package, rows in layers().items():
        rows, begin = existing(package, rows), LEFT + right
        shapes.append(f'<text x="{begin}" y="22" class="head">{package}</text>')
        for level, names in enumerate(rows):
            x, y = begin, height - 62 - (level + 1) * ROW
            for name in names:
                width = len(name) * CHAR + 14
                colour = COLOURS[subject(name)]
                shapes.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BOX}" rx="4" fill="{colour}"/>'
                    f'<text x="{x + width / 2:.1f}" y="{y + 16}" class="name">{escape(name)}</text>'
                )
                x += width + GAP
            right = max(right, x)
        right += 30
    x = float(LEFT)
    for name, colour in COLOURS.items():
        shapes.append(f'<rect x="{x:.1f}" y="{height - 26}" width="12" height="12" rx="2" fill="{colour}"/>')
        shapes.append(f'<text x="{x + 18:.1f}" y="{height - 16}" class="key">{name}</text>')
        x += 18 + len(name) * 7 + 22
    width = right + LEFT
    note = "A module imports only from rows below its own; ggd imports nothing of rf8sim."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" '
        'aria-labelledby="t d">\n'
        f'<title id="t">Architecture</title><desc id="d">{note}</desc>\n'
        "<style>text{font-family:system-ui,sans-serif;fill:#5b6472}.head{font-size:16px;font-weight:700}"
        ".name{font-size:11px;fill:#fff;text-anchor:middle}.key{font-size:12px}</style>\n"
        + "\n".join(shapes)
        + f'\n<text x="{LEFT}" y="{height - 40}" class="key">{note}</text>\n</svg>\n'
    )


if __name__ == "__main__":
    text = drawing()
    if "--check" in sys.argv[1:]:
        sys.exit(
            None if PLACE.read_text(encoding="utf-8") == text else f"{PLACE.name} is old: python docs/architecture.py"
        )
    PLACE.write_text(text, encoding="utf-8")
