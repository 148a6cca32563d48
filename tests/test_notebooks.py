"""The notebooks of the documentation: one for each kind of user, stored without output, run as the site is built."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def site():
    """The hook of the site's build, which runs notebooks."""
    pytest.importorskip("nbclient", reason="the tools of the documentation are not installed")
    spec = importlib.util.spec_from_file_location("site_hook", ROOT / "docs" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebook(folder, *cells):
    """Write a notebook of a heading and some code, and return its path."""
    heading = {"cell_type": "markdown", "id": "heading", "metadata": {}, "source": "# A heading\n\nA sentence."}
    code = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
        for i, source in enumerate(cells)
    ]
    path = folder / "some.ipynb"
    path.write_text(json.dumps({"cells": [heading, *code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.mark.slow
def test_a_page_has_what_was_printed_and_drawn(site, tmp_path):
    files = site.executed(
        notebook(tmp_path, "print(6 * 7)", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    )
    page, figure = files
    assert page == "some.md"
    assert files[page].startswith("# A heading\n\n[This notebook](some.ipynb)")
    assert "    42" in files[page]
    assert f"]({figure})" in files[page]
    assert b"<svg" in files[figure]


@pytest.mark.slow
def test_a_cell_that_fails_ends_the_build(site, tmp_path):
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        site.executed(notebook(tmp_path, "1 / 0"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_generated_is_stored(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert "".join(cells[0]["source"]).startswith("# ")
    for cell in cells:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_each_has_a_page():
    assert [path.stem for path in NOTEBOOKS] == ["distribution", "hardware", "training", "weights"]
    pages = re.findall(r"docs/notebooks/(\w+)\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages) == [path.stem for path in NOTEBOOKS]
