"""Every command's page: one description, from which HTML, Markdown and JSON come and hold the same."""

import ast
import html.parser
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import rf8sim.report
from ggd.survey import summarize, survey
from rf8sim import cli
from rf8sim.checkpoints.requirements import parse_requirement
from rf8sim.compression.methods import METHODS, Compression, Point, TensorSize
from rf8sim.models.evaluation import Datapath, Evaluation
from rf8sim.models.outputs import LayerEffect, LayerInputs, ModelOutputs, OutputQuality
from rf8sim.models.precision import Precision
from rf8sim.report.figures.svg import inline
from rf8sim.report.render import html as as_html
from rf8sim.report.render import markdown, write_page
from rf8sim.report.sections.comparison import compare
from rf8sim.report.sections.contents import Contents
from rf8sim.report.sections.distortion import Compared
from rf8sim.report.sections.evaluation import Evaluated
from rf8sim.report.sections.fit import Fits
from rf8sim.report.sections.page import Page, Section
from rf8sim.report.sections.pages import EVALUATE_MODEL, PAGES
from rf8sim.report.tables.table import Column, Table
from rf8sim.studies.distortion import compare_checkpoints
from rf8sim.studies.experiment import Settings, SkippedTensor
from rf8sim.studies.measuring import run
from rf8sim.studies.planning import measure_menu, plan_checkpoint
from rf8sim.studies.pruning import Pattern, measure_sparsity
from rf8sim.studies.rf_family import theory
from rf8sim.studies.scheme_search import SearchSpace, search_schemes
from rf8sim.studies.tradeoff import measure_tradeoff

REPORT = Path(rf8sim.report.__file__).parent
ODD = "<b>odd</b> | *`name`*"


def contents(path):
    return Contents(run([path], Settings(("rf8", "int8"))))


def fits(_):
    rng = np.random.default_rng(1)
    tensors = {ODD: rng.normal(size=(40, 50)), "layers.1.mlp": rng.laplace(size=(300, 100)), "zero": np.zeros(4)}
    skipped = SkippedTensor("m", "ids", (3,), "I64", "I64 is not a floating-point type")
    return Fits(survey(summarize(name, values) for name, values in tensors.items()), (skipped,))


def evaluated(_):
    def made(losses, **path):
        return Evaluation(ODD, Datapath(**path), 6, (1.0, 2.0, 3.0), losses, (0.1, 0.1, 0.1), 1.0, 0.0)

    paths = [("rf8", "exact"), ("int8", "exact"), ("rf8", "float16")]
    results = [made((1.1, 2.1, 3.1), weights=name, accumulator=held) for name, held in paths]
    return Evaluated(tuple(results), "validation.bin")


def compressed(_):
    points = [Point(name, price, 4.0 - price, 0.01 * price) for name in METHODS for price in (0.5, 1.0, 2.0)]
    sizes = TensorSize(ODD, (4, 4), "int8/tensor,max", 3.0), TensorSize("b", (4, 4), "e3m4/tensor,max", 3.0)
    return Compression(
        ODD, "t", "next-token", "kl<=0.01", points[13], points[13], tuple(points), sizes, 9, 3, 3, ("spare",)
    )


SUBJECTS = {
    "report": contents,
    "fit": fits,
    "evaluate": evaluated,
    "tradeoff": lambda path: measure_tradeoff(path, ("rf8", "int8"), steps=(0.5, 1.0)),
    "prune": lambda path: measure_sparsity(path, [Pattern(share=0.0), Pattern(group=(2, 4))]),
    "compress": compressed,
    "plan": lambda path: plan_checkpoint(path, parse_requirement("sqnr>=20dB"), measure_menu(path, ("rf8", "int8"))),
    "rf-family": lambda _: theory((1.0,), 4, 5),
    "compare": lambda path: compare(contents(path), contents(path)),
    "compare checkpoints": lambda path: Compared(compare_checkpoints(path, path)),
    "compare-schemes": lambda path: search_schemes(path, SearchSpace(blocks=(16,), mse=False)),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pages") / "m.safetensors"
    save_file({name: rng.laplace(size=(60, 80)).astype(np.float32) for name in (ODD, "layers.0.mlp.weight")}, path)
    return path


def model_outputs(task):
    """Any model's outputs: with a loss, or embeddings; one output is not finite."""
    losses = (1.0, 2.0), (1.1, 2.3), (math.nan, 2.0)
    quality = [
        OutputQuality(Precision(name), 8.0, loss, (0.0, 0.1), 0.5, (), noise, 0.0)
        if task == "next-token"
        else OutputQuality(Precision(name), 8.0, (), (), None, (1.0, 0.5), noise, 0.0)
        for name, loss, noise in zip((None, "rf8", "int8"), losses, (0.0, 0.1, math.inf), strict=True)
    ]
    layers = LayerEffect(ODD, (4, 4), 0.1, 0.1, None), LayerEffect("b", (4, 4), math.inf, 0.1, 0.2)
    fitted = [LayerInputs(ODD, 9, 0.0, 1.0, 2.0, shape, shape, False, 3, 1, math.inf, 1) for shape in (None, 1.5)]
    losses = losses[0] if task == "next-token" else ()
    rounded = Precision("rf8")
    return ModelOutputs(ODD, "t", task, 2, 2, losses, tuple(quality), rounded, 1, layers, tuple(fitted), 1, ("Note.",))


@pytest.fixture(scope="module", params=[*SUBJECTS, "next-token", "outputs"])
def page(request, checkpoint):
    if request.param in ("next-token", "outputs"):
        return EVALUATE_MODEL.page(model_outputs(request.param), "rf8sim evaluate m --text t", figures=False)
    found = SUBJECTS[request.param](checkpoint)
    return PAGES[request.param].page(found, f"rf8sim {request.param} m.safetensors", figures=False)


class Read(html.parser.HTMLParser):
    """Collects the words of an HTML page outside its tables, and its tables as rows of cells."""

    WORDS = ("p", "li", "dt", "dd", "h1", "h2")

    def __init__(self, text):
        super().__init__()
        self.words, self.tables, self.place, self.inside = [], [], None, False
        self.feed(text.split("<main>")[1].split("</main>")[0])

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self.place = "cell"
        elif tag in self.WORDS and dict(attributes).get("class") != "caption":
            self.words.append("")
            self.place = "words"

    def handle_endtag(self, tag):
        if tag in (*self.WORDS, "th", "td"):
            self.place = None

    def handle_data(self, data):
        if self.place == "cell":
            self.tables[-1][-1][-1] += data
        elif self.place == "words":
            self.words[-1] += data


def unescaped(text):
    return re.sub(r"\\([*`|])", r"\1", text).replace("&lt;", "<")


def read_markdown(text):
    """Return the words of a Markdown page outside its tables, and its tables as rows of cells."""
    words, tables = [], []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("| "):
            rows = [[unescaped(cell) for cell in re.split(r"(?<!\\) \| ", line[2:-2])] for line in lines]
            tables.append([rows[0], *rows[2:]])
        elif lines[0].startswith("* **"):
            for line in lines:
                words += map(unescaped, re.fullmatch(r"\* \*\*(.*?)\*\*: (.*)", line).groups())
        elif lines[0].startswith("* "):
            words += [unescaped(line[2:]) for line in lines]
        elif not re.match(r"\*\*.*\*\*$|</?details>|Figures of the HTML page", block):
            made_by = re.sub(r"^Made by `(.*)`\.", r"Made by \1.", block)
            words.append(unescaped(re.sub(r"^#+ ", "", made_by)))
    return words, tables


def test_every_command_is_in_the_registry():
    assert set(PAGES) == set(SUBJECTS)


def test_html_and_markdown_hold_the_same(page):
    read = Read(as_html(page))
    words, tables = read_markdown(markdown(page))
    assert Counter(map(str, read.tables)) == Counter(map(str, tables))
    assert len(tables) == sum(len(part.tables) + (part.lead is not None) for part in page.sections) > 0
    assert Counter(" ".join(text.split()) for text in read.words) == Counter(" ".join(text.split()) for text in words)
    for sentence in page.verdict:
        assert sentence in words


def test_every_page_is_written_in_all_kinds(page, tmp_path):
    written = write_page(page, tmp_path / "out")
    assert [path.name for path in written] == [f"{page.name}.{kind}" for kind in ("html", "md", "json")]
    data = json.loads(written[2].read_text(encoding="utf-8"))
    assert data["verdict"] == list(page.verdict)
    assert data["made_by"] == page.made_by
    assert set(page.data) < set(data)
    for path in written:
        assert write_page(page, tmp_path / f"alone{path.suffix}") == [tmp_path / f"alone{path.suffix}"]
        assert (tmp_path / f"alone{path.suffix}").read_bytes() == path.read_bytes()


def test_identifiers_are_unique(page):
    ids = re.findall(r'\bid="([^"]*)"', as_html(page))
    assert len(ids) == len(set(ids))
    assert all(section.title and section.id for section in page.sections)


def test_names_are_text(checkpoint):
    """A tensor named like HTML or Markdown is shown as it is."""
    page = PAGES["fit"].page(fits(checkpoint), figures=False)
    assert "<b>" not in as_html(page)
    assert "<b>" not in markdown(page)
    assert r"&lt;b>odd&lt;/b> \| \*\`name\`\*" in markdown(page)


def test_folded_tables_and_terms():
    table = Table("Long", (Column("name"), Column("value", ".1f")), (("a", 1.0),), folded=True)
    section = Section("one", "One", ("Words.",), (table,), points=("First.",), terms=(("name", "what it is"),))
    page = Page("p", "Title", (), table, (section,), {"schema": 1}, "rf8sim p", "Again.")
    assert markdown(page) == (
        "# Title\n\nMade by `rf8sim p`. Again.\n\n## One\n\nWords.\n\n* First.\n\n* **name**: what it is.\n\n"
        "<details><summary>Long</summary>\n\n| name | value |\n| :-- | --: |\n| a | 1.0 |\n\n</details>\n"
    )
    text = as_html(page)
    assert "<dt>name</dt><dd>what it is.</dd>" in text
    assert "<li>First.</li>" in text
    assert "<p>Made by <code>rf8sim p</code>. Again.</p>" in text


def test_nothing_is_written_if_a_file_cannot_be(tmp_path):
    table = Table("T", (Column("name"),), ())
    page = Page("p", "Title", (), table, (), {"schema": 1})
    (tmp_path / "p.md").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_page(page, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["p.md"]


def test_places_of_the_command(capsys, tmp_path, monkeypatch):
    """A folder gets all kinds, a name with a suffix of a page that kind alone; a slip in a path makes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rf8sim.studies.rf_family.theory", lambda shapes: theory(shapes, 4, 5))
    for place, names in (("a", {f"a/rf_family.{k}" for k in ("html", "md", "json", "svg")}), ("b.json", {"b.json"})):
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        assert cli.main(["rf-family", "-o", place, "--shape", "1", "-q"]) == 0
        made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
        assert {path.relative_to(tmp_path).as_posix() for path in made} == names
    assert cli.main(["rf-family", "-o", "typo/b.md", "--shape", "1", "-q"]) == 2
    assert "--output typo/b.md: cannot be written: there is no folder typo" in capsys.readouterr().err
    assert cli.main(["rf-family", "-o", "c.pdf", "--shape", "1", "-q"]) == 2
    assert "c.pdf: a page is written as .html, .md or .json, or to a folder" in capsys.readouterr().err
    assert not (tmp_path / "c.pdf").exists()


@pytest.mark.parametrize("command", PAGES)
def test_help_says_where_a_page_goes(capsys, command):
    assert cli.main([command.split()[0], "--help"]) == 0
    assert "Where to write the page: a folder, for HTML, Markdown and JSON" in " ".join(capsys.readouterr().out.split())


# --- figures ----------------------------------------------------------------------------------------------------------


SVG = (
    '<?xml version="1.0"?>\n<svg xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg" '
    'width="9" viewBox="0 0 9 9"><metadata/><defs><style>*{}</style></defs><g id="a"><defs><path id="m" d="M 0 0"/>'
    '</defs><use xlink:href="#m" clip-path="url(#c)" style="fill: #abcdef; stroke: #123456"/></g>'
    "<text style=\"font: 10px 'Some Font', serif; fill: #abcdef\">a &lt; b</text></svg>"
)


def test_an_svg_is_edited():
    made = inline(SVG, "f", ("T & t", "d"), {"#abcdef": "ink"}, {"a": ["<mark>"]})
    assert made == (
        '<svg role="img" aria-labelledby="f-title f-desc" viewBox="0 0 9 9">\n <title id="f-title">T &amp; t</title>'
        '<desc id="f-desc">d</desc><g id="f-a"><defs><path id="f-m" d="M 0 0" /></defs><use href="#f-m" '
        'clip-path="url(#f-c)" style="fill: var(--ink); stroke: #123456"><title>&lt;mark&gt;</title></use></g>'
        '<text style="font-size: 10px; fill: var(--ink)">a &lt; b</text></svg>\n'
    )


@pytest.mark.parametrize("hints", [["one", "two"], []])
def test_as_many_hints_as_marks(hints):
    if hints:
        with pytest.raises(ValueError, match="a: 2 hints for 1 marks"):
            inline(SVG, "f", ("t", "d"), {}, {"a": hints})
    else:
        assert inline(SVG, "f", ("t", "d"), {}, {"a": hints}).count("<title") == 1


def test_markdown_links_to_its_figures(tmp_path):
    from rf8sim.report.figures.rf_family import sqnr_by_parameters

    drawn = replace(sqnr_by_parameters(theory((1.0,), 4, 5)), name="extra")
    page = Page("p", "Title", (), Table("T", (), ()), (Section("s", "S", figures=(drawn,)),), {})
    assert [path.name for path in write_page(page, tmp_path / "q.md")] == ["q.md", "q-extra.svg"]
    assert "](q-extra.svg)" in (tmp_path / "q.md").read_text()
    assert [path.name for path in write_page(page, tmp_path / "q.html")] == ["q.html"]
    assert [path.name for path in write_page(replace(page, figure_files=False), tmp_path / "r.md")] == ["r.md"]
    assert drawn.title in (tmp_path / "r.md").read_text()


# --- arrows inside the report -----------------------------------------------------------------------------------------


def imported(path):
    """Yield the files of the report that a file of it imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1]
            inner = base.joinpath(*(node.module or "").split("."))
            for file in (inner.with_suffix(".py"), *(inner / f"{alias.name}.py" for alias in node.names)):
                if file.is_file() and REPORT in file.parents:
                    yield file


def test_arrows_point_from_render_to_sections_to_figures_and_tables():
    order = {"figures": ("figures",), "tables": ("tables",), "sections": ("figures", "tables", "sections")}
    graph = {path: set(imported(path)) for path in REPORT.rglob("*.py")}
    for path, targets in graph.items():
        below = order.get(path.relative_to(REPORT).parts[0])
        for target in targets if below else ():
            assert target.relative_to(REPORT).parts[0] in below, f"{path} imports {target}"
    while free := [path for path, targets in graph.items() if not targets & graph.keys()]:
        for path in free:
            del graph[path]
    assert not graph, f"a circle of imports among {sorted(graph)}"
