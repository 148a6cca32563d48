"""The pages say what is so: their examples run, their links lead somewhere."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rf8sim import as_scheme
from rf8sim.quantization.named import NAMED

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

registry = sys.modules["rf8sim.formats"]


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """What an example registers is gone after it."""
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))
    monkeypatch.setattr(registry, "_built", dict(registry._built))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_run(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    examples = "\n".join(block for block in blocks if ">>>" in block)
    test = doctest.DocTestParser().get_doctest(examples, {}, page.name, str(page), 0)
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in targets if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_there_are_examples():
    """The specification and the front page are among the pages, with examples in them."""
    assert {"README.md", "docs/rf8.md"} <= {page.relative_to(ROOT).as_posix() for page in PAGES}
    for page in ("README.md", "docs/rf8.md"):
        assert (ROOT / page).read_text(encoding="utf-8").count(">>>") >= 5


@pytest.mark.parametrize("package", ["ggd", "rf8sim"])
def test_the_map_names_every_module(package):
    """A map without a module is no map: each module of a package, and each package in it, is in ARCHITECTURE.md."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = page.split(f"| `{package}/` |")[1].split("\n\n")[0]
    names = [path.name for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"]
    names += [f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")]
    assert [name for name in sorted(names) if f"`{name}`" not in table] == []


def test_the_page_of_schemes_lists_every_named_one():
    page = (ROOT / "docs" / "schemes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(.+)` \| ([\d.]+) \| (.+) \|$", page, flags=re.MULTILINE)
    bits = {name: f"{as_scheme(name).bits_per_weight((4096, 4096)):.4g}" for name in NAMED}
    assert rows == [(name, text, bits[name], source) for name, (text, source) in NAMED.items()]


@pytest.mark.parametrize(
    ("name", "page", "old", "new"),
    [
        ("comparison.py", "docs/comparison.md", "ml_dtypes 0", "ml_dtypes 1"),
        ("summary.py", "reports/speed.md", "no", "yes"),
    ],
)
def test_the_pages_say_what_was_measured(tmp_path, name, page, old, new):
    """The numbers of the comparison and of the summary are those of the pages of speed; a page that differs is seen."""
    script = ROOT / "benchmarks" / name
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0
    for folder in ("benchmarks", "docs", "reports"):
        (tmp_path / folder).mkdir()
    (tmp_path / "benchmarks" / name).write_bytes(script.read_bytes())
    for measured in (ROOT / "reports").glob("speed_*.md"):
        (tmp_path / "reports" / measured.name).write_bytes(measured.read_bytes())
    text = (ROOT / page).read_text(encoding="utf-8")
    (tmp_path / page).write_text(text.replace(f" {old}", f" {new}", 1), encoding="utf-8")
    other = subprocess.run(
        [sys.executable, tmp_path / "benchmarks" / name, "--check"], check=False, capture_output=True
    )
    assert other.returncode == 1
    assert b"is not what the pages of speed say" in other.stderr


def test_the_table_of_other_packages_is_that_of_its_claims(tmp_path):
    """What is installed bears out what is claimed of it; a table, or a claim, that differs is seen."""
    script, page = ROOT / "docs" / "peers.py", ROOT / "docs" / "comparison.md"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0
    for path, old, new in ((page, "ROMs in VHDL from", "ROMs from"), (script, '"array_api_compat"', '"no such word"')):
        for other in (script, page):
            text = other.read_text(encoding="utf-8")
            (tmp_path / other.name).write_text(text.replace(old, new) if other == path else text, encoding="utf-8")
        made = subprocess.run([sys.executable, tmp_path / "peers.py", "--check"], check=False, capture_output=True)
        assert made.returncode == 1


def test_the_figure_of_the_architecture_is_drawn_from_the_layers(tmp_path):
    script = ROOT / "docs" / "architecture.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0
    drawn = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    for name in ("codec", "histogram", "hardware"):
        assert f">{name}</text>" in drawn
    for folder in ("docs", "tests"):
        (tmp_path / folder).mkdir()
    for part in ("docs/architecture.py", "docs/architecture.svg"):
        (tmp_path / part).write_bytes((ROOT / part).read_bytes())
    (tmp_path / "rf8sim").symlink_to(ROOT / "rf8sim")
    (tmp_path / "ggd").symlink_to(ROOT / "ggd")
    layers = (ROOT / "tests" / "test_layering.py").read_text(encoding="utf-8")
    (tmp_path / "tests" / "test_layering.py").write_text(layers.replace('{"codec"},', "", 1), encoding="utf-8")
    old = subprocess.run(
        [sys.executable, tmp_path / "docs" / "architecture.py", "--check"], check=False, capture_output=True
    )
    assert old.returncode == 1
    assert b"is old" in old.stderr
