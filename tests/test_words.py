"""Words that stop a reader of this field are in no text that users read: help, messages, docstrings, documentation."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AVOIDED = "befell", "lest", "memories", "said", "settle", "settled", "told", "whatever", "whoever"
# What a design of hardware has, and a table of results that stays as it was made.
MEANT = {("rf8sim/hardware/rtl/README.md", "memories"), ("docs/rtl.md", "memories")}
AVOIDED_WORD = re.compile(rf"\b({'|'.join(AVOIDED)})\b", re.IGNORECASE)

SOURCES = sorted(path for package in ("rf8sim", "ggd") for path in (ROOT / package).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "rf8sim").rglob("*.md")])


def texts(path: Path) -> list[tuple[int, str]]:
    """Return the texts of a file with the lines they start in: all of a page; strings of a module."""
    if path.suffix == ".md":
        return list(enumerate(path.read_text().splitlines(), 1))
    nodes = ast.walk(ast.parse(path.read_text()))
    return [(n.lineno, n.value) for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def found(path: Path) -> list[str]:
    where = path.relative_to(ROOT).as_posix()
    return [
        f"{where}:{line}: {word.group()!r}"
        for line, text in texts(path)
        for word in AVOIDED_WORD.finditer(text)
        if (where, word.group().lower()) not in MEANT
    ]


@pytest.mark.parametrize("package", ["rf8sim", "ggd"])
def test_words_of_modules(package):
    assert not [hit for path in SOURCES if path.is_relative_to(ROOT / package) for hit in found(path)]


def test_words_of_pages():
    assert not [hit for path in PAGES for hit in found(path)]


def test_a_word_is_found_in_messages_docstrings_and_pages(tmp_path, monkeypatch):
    monkeypatch.setattr("test_words.ROOT", tmp_path)
    module, page = tmp_path / "module.py", tmp_path / "page.md"
    module.write_text('"""Whatever befell."""\n\ndef f(told):\n    raise ValueError(f"so {told} said")  # lest\n')
    page.write_text("fine\nLest\n")
    assert found(module) == ["module.py:1: 'Whatever'", "module.py:1: 'befell'", "module.py:4: 'said'"]
    assert found(page) == ["page.md:2: 'Lest'"]
