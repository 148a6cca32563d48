"""The three files of a report: whole, deterministic, self-contained, true to the records."""

import html.parser
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rf8sim
from rf8sim.report.figures import distributions
from rf8sim.report.render import write_page
from rf8sim.report.sections.choices import scaling
from rf8sim.report.sections.compression import compression
from rf8sim.report.sections.concerns import _clipped, concerns
from rf8sim.report.sections.contents import Contents, command, hash_inputs, read_evaluation
from rf8sim.report.sections.defaults import quantized
from rf8sim.report.sections.pages import REPORT
from rf8sim.report.sections.recommendation import Candidate, candidates, cheapest, knee, most_accurate
from rf8sim.report.sections.verdict import verdict
from rf8sim.report.tables import table as tables
from rf8sim.report.tables.experiment import representative
from rf8sim.studies.experiment import Experiment, SchemeRecord, Settings
from rf8sim.studies.measuring import run

ROOT = Path(__file__).parents[1]
FIGURES = 9
NASTY = '<script>alert("1")</script> & | weight'


def sections(contents, *, with_figures=True):
    return REPORT.page(contents, figures=with_figures).sections


def write_report(experiment, folder, *, figures=True):
    return write_page(REPORT.page(Contents(experiment), figures=figures), folder)


def weights():
    rng = np.random.default_rng(3)
    return {
        "a.weight": rng.laplace(size=(64, 50)).astype(np.float32),
        NASTY: rng.normal(size=(40, 20)).astype(np.float32) * 0.02,
        "a.bias": np.zeros(30, np.float32),
        "odd": np.array([np.nan, np.inf, 1.0], np.float32),
        "ids": np.arange(5),
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_file(weights(), path)
    return path


@pytest.fixture(scope="module")
def experiment(checkpoint):
    return run([checkpoint])


@pytest.fixture(scope="module")
def by_tensor(checkpoint):
    return run([checkpoint], Settings(("rf8", "int8")))


@pytest.fixture(scope="module")
def folder(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "made" / "here"
    write_report(experiment, folder)
    return folder


# --- HTML ---------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """Checks that elements nest, and collects what a test asks about."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.words, self.elements = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"an attribute of <{tag}> is there twice"
        self.elements.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        self.references += [v for n, v in attributes if n in ("src", "href", "xlink:href", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_html_is_whole(page):
    assert len(page.ids) == len(set(page.ids))
    assert {"html", "head", "title", "main", "h1", "table"} <= {tag for tag, _ in page.elements}
    assert sum(tag == "h1" for tag, _ in page.elements) == 1


def test_html_asks_for_nothing(text, page):
    assert page.references
    assert all(reference.startswith("#") for reference in page.references)
    targets = {reference[1:] for reference in page.references} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert targets <= set(page.ids)
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [{}]
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|WebSocket|eval)\b", text.split("<script>")[1])
    outside = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "://" not in outside
    assert "@import" not in outside
    assert outside.count("url(") == outside.count("url(#")


def test_html_escapes_names(text):
    assert text.count("<script") == 1
    assert "&lt;script&gt;alert(" in text


def test_figures_are_described(text, page):
    drawn = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(drawn) == FIGURES
    for attributes in drawn:
        assert attributes["role"] == "img"
        assert set(attributes["aria-labelledby"].split()) <= set(page.ids)
        assert attributes["viewbox"]
        assert "width" not in attributes
    assert text.count("<title ") == text.count("<desc ") == FIGURES
    body = text.split("</style>")[1].split("<script>")[0]
    assert not re.search(r"#[0-9a-f]{6}\b", body), "a colour that does not follow the theme"
    assert text.count("@media screen and (prefers-color-scheme: dark)") == 1


def test_every_mark_has_a_hint(experiment):
    """Each mark says whose it is and its value; as many hints as marks, or the drawing fails."""
    for part in sections(Contents(experiment)):
        for figure in part.figures:
            words = [text for texts in figure.hints.values() for text in texts]
            assert figure.svg().count("<title>") == len(words)
            assert all(re.search(r": (shape )?-?\d", text) for text in words)


def test_html_says_what_was_found(page, experiment):
    words = " ".join(" ".join(page.words).split())
    for sentence in verdict(experiment):
        assert " ".join(sentence.split()) in words
    for record in experiment.total.schemes:
        assert f"{record.sqnr_db:.2f}" in words
        assert f" {100 * record.mean_relative_error:.2f} " in words
    assert words.index("Verdict") < words.index("Most accurate is") < words.index("SQNR over all weights is")


def test_without_figures(experiment, tmp_path):
    write_report(experiment, tmp_path, figures=False)
    assert "<svg" not in (tmp_path / "report.html").read_text()
    Page((tmp_path / "report.html").read_text())


# --- JSON, Markdown, bytes ----------------------------------------------------------------------------------


def test_json(folder, experiment, by_tensor):
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert data["schema"] == 2
    assert data["verdict"] == verdict(experiment)
    assert Experiment.from_json(data).to_json() == experiment.to_json()
    assert Contents.from_json(data).to_json() == Contents(experiment).to_json()
    # Against numpy alone: int8 of the first tensor at the scale of the report.
    tensor = next(tensor for tensor in by_tensor.to_json()["tensors"] if tensor["name"] == "a.weight")
    record = next(record for record in tensor["schemes"] if record["name"] == "int8")
    x, scale = weights()["a.weight"].astype(np.float64), record["smallest_scale"]
    y = np.clip(np.rint(x / scale), -128, 127) * scale
    assert record["sqnr_db"] == pytest.approx(10 * np.log10(np.sum(x**2) / np.sum((x - y) ** 2)), rel=1e-12)
    assert record["underflow_share"] == np.mean((x != 0) & (y == 0))


def test_bits_stand_beside_every_scheme(checkpoint):
    """In each table that names a scheme, its bits are in the row or the heading."""
    experiment = run([checkpoint], Settings(("rf8", "mxfp4", "nvfp4", "int8/channel")))
    bits = {record.name: record.bits_per_weight for record in experiment.total.schemes}
    assert bits["mxfp4"] > 4.25, "the last block of a row of 50 or 20 is not full"
    checked = 0
    for section in sections(Contents(experiment), with_figures=False):
        for shown in section.tables:
            titles = [column.title for column in shown.columns]
            for name in bits:
                if shown.caption.startswith(("SQNR by tensor", "SQNR by rounding")):
                    assert any(title.startswith(f"{name} (") and "bits)" in title for title in titles)
                    checked += 1
                elif shown.caption.startswith("SQNR"):
                    assert name in titles, "the bits are those of a row"
                elif titles[0] == "scheme":
                    assert titles[1] == "stored, bits/w."
                    checked += 1
                elif "scheme" in titles:
                    cells = [row[titles.index("scheme")] for row in shown.rows]
                    assert all(cell == "any" or "bits)" in cell for cell in cells)
                    checked += 1
    assert checked >= 4 * 8


def test_markdown(folder, experiment):
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# rf8sim report: model.safetensors\n")
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    titles = re.findall(r"^## (.*)", text, flags=re.MULTILINE)
    assert titles == [part.title for part in sections(Contents(experiment), with_figures=False)]
    assert len(titles) == 1 + len(REPORT.sections) - 2, "neither areas nor a model's run were given"


@pytest.mark.slow
def test_same_bytes_every_time(checkpoint, folder, tmp_path):
    names = ("report.html", "report.json", "report.md")
    write_report(run([checkpoint]), tmp_path / "again")
    words = [sys.executable, "-m", "rf8sim", "report", checkpoint]
    environment = {"PYTHONHASHSEED": "1", "MPLCONFIGDIR": str(tmp_path), "PATH": "", "NUMBA_NUM_THREADS": "1"}
    subprocess.run([*words, "-o", tmp_path / "other", "-q"], check=True, env=environment)
    subprocess.run([*words, "-o", tmp_path / "else", "-q", "--threads", "1"], check=True, env=environment)
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "else" / name).read_bytes()
    data, alone = (json.loads((path / "report.json").read_text()) for path in (tmp_path / "other", folder))
    assert {key: value for key, value in data.items() if value != alone[key]}.keys() == {"command", "inputs"}


def test_nothing_is_half_written(experiment, tmp_path):
    (tmp_path / "report.md").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_report(experiment, tmp_path, figures=False)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_files_change_all_at_once(experiment, tmp_path, monkeypatch):
    write_report(experiment, tmp_path, figures=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(experiment, tmp_path, figures=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_takes_back_what_was_placed(experiment, tmp_path, monkeypatch, failure):
    """The second of three renames fails: the first is undone, whether a file was there before or not."""
    import os

    real, calls = os.replace, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise failure
        real(source, target)

    for older in (False, True):
        calls.clear()
        monkeypatch.setattr("os.replace", real)
        if older:
            write_report(experiment, tmp_path, figures=False)
            (tmp_path / "report.json").write_text("older")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        monkeypatch.setattr("os.replace", second_fails)
        with pytest.raises(type(failure)):
            write_report(experiment, tmp_path, figures=False)
        assert len(calls) > 1
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- odd experiments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"w": np.zeros(9, np.float32)},
        {"w": np.array([1.0], np.float32)},
        {"w": np.array([np.nan, np.inf], np.float32)},
        {"w": np.array([1e-45, 3e38], np.float32)},
        {"w": np.array([1e-300, 1e300])},
        {"w": np.geomspace(1e-30, 1e30, 50, dtype=np.float32)},
        {"a": np.zeros((2, 2), np.float32), "b": np.full((3, 3), np.nan, np.float32)},
        {f"layer.{i}": np.linspace(-1, 1, 30 + i, dtype=np.float32) for i in range(60)},
    ],
)
@pytest.mark.parametrize("schemes", [("rf8",), ("e8m0fnu", "nf4", "nvfp4", "q4_1")])
def test_odd_experiments(tmp_path, data, schemes):
    save_file(data, tmp_path / "m.safetensors")
    write_report(run([tmp_path / "m.safetensors"], Settings(schemes)), tmp_path / "r")
    Page((tmp_path / "r" / "report.html").read_text())


def test_several_checkpoints(checkpoint, tmp_path):
    save_file({"a.weight": np.ones((2, 2), np.float32)}, tmp_path / "other.safetensors")
    experiment = run([checkpoint, tmp_path / "other.safetensors"], Settings(("rf8",)))
    parts = sections(Contents(experiment), with_figures=False)
    names = {row[0] for part in parts for table in part.tables for row in table.rows}
    assert {"model.safetensors: a.weight", "other.safetensors: a.weight"} <= names
    assert verdict(experiment)[0].startswith("model.safetensors and other.safetensors: ")


def test_verdict(experiment):
    said = verdict(experiment)
    part = quantized(experiment)
    best = max(part.total.schemes, key=lambda record: record.sqnr_db)
    assert said[0].startswith(f"For accuracy take {best.name}: {best.sqnr_db:.1f} dB at 8.")
    compressed = compression(Contents(part), False).tables[0]
    column = [column.title for column in compressed.columns].index("rANS, bits/w.")
    sizes = {row[0]: row[column] for row in compressed.rows}
    small = max(part.total.schemes, key=lambda record: record.sqnr_db - 6.0206 * sizes[record.name])
    assert f"{sizes[small.name]:.2f} bits" in said[0]
    assert said[1].startswith(
        "Figures are of what 'rf8sim quantize -f SCHEME' does by default: it keeps 2 of 4 tensors"
    )
    listed = ", ".join(f"{name} {sizes[name]:.2f}" for name in sorted(sizes, key=sizes.get))
    assert f"Entropy-coded by rANS, with a table per tensor and the scales, bits per weight are: {listed}." in said
    assert said[2].startswith("model.safetensors: 4,033 weights in 4 tensors, 0.74 % zero; 1 tensor not")
    assert any(s.startswith(f"Most accurate is {best.name} with {best.sqnr_db:.1f} dB") for s in said)
    assert said[-1].startswith("Warning: the weights hold 1 NaN and 1 infinite value;")
    lossy = [record for record in quantized(experiment).total.schemes if record.underflow_share > 0.01]
    assert lossy
    for record in lossy:
        assert any(s.startswith(f"{record.name} rounds ") for s in said)


def test_the_verdict_estimates_what_is_not_coded(experiment, monkeypatch):
    monkeypatch.setattr("rf8sim.report.sections.coded.MOST_CODED", len(quantized(experiment).tensors) - 1)
    records = sorted(quantized(experiment).total.schemes, key=lambda record: record.coded_bits_per_weight)
    listed = ", ".join(f"{record.name} {record.coded_bits_per_weight:.2f}" for record in records)
    estimated = [line for line in verdict(experiment) if "estimated with one code table for all tensors" in line]
    assert len(estimated) == 1
    assert listed in estimated[0]


def test_other_choices_are_named_with_their_bits(tmp_path):
    """A better block, scale rule or scale format is named; the bits are given where it has others."""
    weights = np.random.default_rng(0).standard_t(3, size=(64, 256)).astype(np.float32)
    weights *= np.exp(np.random.default_rng(1).normal(size=(64, 1))).astype(np.float32)
    save_file({"w": weights}, tmp_path / "m.safetensors")
    experiment = run([tmp_path / "m.safetensors"], Settings(("int8", "e2m1fn/1x16:e4m3fn,max,nearest-even")))
    section = scaling(Contents(experiment), False)
    words = " ".join(section.paragraphs)
    assert re.search(
        r"Another block is better for: int8 \+\d+\.\d dB with \S+ \(\d+\.\d{3} instead of 8\.\d{3} bits/w\.\)", words
    )
    assert re.search(r"Another scale rule is better for: .*\+\d+\.\d dB with mse", words)
    assert re.search(r"scale format is better", words)
    assert ("A dash stands" in words) is any(None in row for table in section.tables for row in table.rows)


@pytest.mark.parametrize(
    ("scheme", "what", "advice"),
    [
        ("e2m1fn/1x32:e8m0fnu,floor", r"^\d+\.\d\d % clipped$", "a scale by the rule max"),
        ("rf8/none", r"% clipped: there is no scale$", "a scale, as in rf8/tensor"),
    ],
)
def test_clipping_is_explained_by_the_rule(tmp_path, scheme, what, advice):
    rng = np.random.default_rng(0)
    tensors = {"w.weight": rng.standard_t(2, size=(8, 320)).astype(np.float32)}
    save_file(tensors, tmp_path / "m.safetensors")
    record = run([tmp_path / "m.safetensors"], Settings((scheme,))).tensors[0].schemes[0]
    assert record.error.overflow
    shown, advised = _clipped(record, record.overflow_share)
    assert re.search(what, shown)
    assert advised.startswith(advice)


def test_tables_have_a_cell_for_each_column(experiment):
    for part in sections(Contents(experiment), with_figures=False):
        for table in part.tables:
            for row in table.rows:
                assert len(row) == len(table.columns)
                [tables.cell(value, column.kind) for value, column in zip(row, table.columns, strict=True)]


# --- figures ------------------------------------------------------------------------------------------------


def test_bin_edges():
    assert distributions.bin_edges(-5, 6).tolist() == [0.4375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25]


def test_value_density_has_every_value():
    fmt = rf8sim.get_format("rf8")
    figure = distributions.value_density([fmt], scales=[2.0])
    [line] = figure.canvas.axes[0].lines
    drawn = np.unique(line.get_xdata())
    values = np.unique(fmt.values[fmt.values > 0])
    assert np.allclose(2.0**drawn, 2 * values)


def test_figures_leave_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        ugly = distributions.value_density([rf8sim.get_format("rf8")]).svg()
    assert ugly == distributions.value_density([rf8sim.get_format("rf8")]).svg()
    assert dict(matplotlib.rcParams) == before
    code = "import sys, rf8sim.report.render, rf8sim.report.figures.distributions as f, rf8sim; "
    code += "f.value_density([rf8sim.get_format('rf8')]).svg(); print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_save_figure(tmp_path, suffix, magic):
    figure = distributions.value_density([rf8sim.get_format("rf8")])
    figure.save(tmp_path / f"a.{suffix}")
    figure.save(tmp_path / f"b.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(magic)
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    with pytest.raises(ValueError, match=r"unknown kind of figure: expected \.svg, \.png or \.pdf"):
        figure.save(tmp_path / "a.gif")
    assert len(list(tmp_path.iterdir())) == 2


def test_the_verdict_counts_the_fits_that_it_speaks_of(tmp_path):
    """A tensor too small to fit is not among those whose shapes are quoted."""
    rng = np.random.default_rng(8)
    big = {f"w{i}": rng.laplace(size=(100, 100)).astype(np.float32) for i in range(2)}
    save_file({**big, "small": rng.normal(size=5).astype(np.float32)}, tmp_path / "m.safetensors")
    said = " ".join(verdict(run([tmp_path / "m.safetensors"], Settings(("rf8",)))))
    assert "fitted to 2 of the 3 tensors" in said


# --- what else a report holds -------------------------------------------------------------------------------


def part(experiment, id, **beside):
    return next(s for s in sections(Contents(experiment, **beside), with_figures=False) if s.id == id)


def test_reproducibility(checkpoint, experiment):
    import hashlib

    inputs = hash_inputs([checkpoint])
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert [(file.name, file.bytes, file.sha256) for file in inputs] == [
        (checkpoint.name, checkpoint.stat().st_size, digest)
    ]
    about = part(experiment, "about", inputs=inputs, command="rf8sim report m -o report")
    assert any("rf8sim report m -o report" in words for words in about.paragraphs)
    assert any(digest in row for table in about.tables for row in table.rows)


def test_command_makes_the_same_report(checkpoint, tmp_path, monkeypatch):
    """What a report says made it, makes it: every option that matters is there, and nothing else."""
    import shlex

    from rf8sim import cli

    monkeypatch.chdir(checkpoint.parent)
    options = "-f rf8/1x16,max@stochastic -f mxfp4 -f 'int8/*x1' --seed 3"
    options += " --include *.weight --include '*weight' --exclude odd --threads 1 -q"
    words = ["report", checkpoint.name, *shlex.split(options), "-o", str(tmp_path / "one")]
    assert cli.main(words) == 0
    said = json.loads((tmp_path / "one" / "report.json").read_text())["command"]
    assert cli.main([*shlex.split(said)[1:-1], str(tmp_path / "two")]) == 0
    for name in ("report.html", "report.json", "report.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "threads" not in said
    assert str(tmp_path) not in said
    assert command([checkpoint], Settings()) == f"rf8sim report {checkpoint.name} -o report"


def test_limits_are_limits(tmp_path):
    """Over true generalized Gaussians no format reaches the bound of its rate, and the table adds up."""
    import ggd
    from rf8sim.report.sections.limits import limits

    rng = {1.0: 0.02, 1.6: 0.1}
    x = {f"w{s}": ggd.GGD(s, a).sample(200_000, seed=1).astype(np.float32).reshape(100, -1) for s, a in rng.items()}
    save_file(x, tmp_path / "m.safetensors")
    experiment = run([tmp_path / "m.safetensors"])
    found = limits(experiment)
    assert [one.scheme for one in found] == list(experiment.settings.names)
    for one in found:
        assert one.tensors == 2
        assert one.sqnr_db == pytest.approx(experiment.total.scheme(one.scheme).sqnr_db, abs=1e-9)
        assert one.bound_db > one.sqnr_db + 1.0, "entropy-coded scalar codes stay 1.53 dB below at high rate"
        assert one.least_bits < one.bits - 0.2
        d = [(ggd.GGD(t.fit.shape, t.fit.scale), t.scheme(one.scheme)) for t in experiment.tensors]
        noise = sum(r.error.count * ggd.shannon_lower_bound(g, r.coded_bits_per_weight) for g, r in d)
        assert one.bound_db == pytest.approx(10 * np.log10(sum(r.error.sum_squares for _, r in d) / noise))


def test_large_marks_are_the_totals_of_the_table(experiment):
    figure = next(f for s in sections(Contents(experiment)) for f in s.figures if f.name == "rate")
    for i, record in enumerate(quantized(experiment).total.schemes):
        [line] = [line for line in figure.canvas.axes[0].lines if line.get_gid() == f"total-{i}"]
        assert line.get_xdata()[0] == record.coded_bits_per_weight
        assert line.get_ydata()[0] == record.sqnr_db


def test_sections_of_choices_and_errors(experiment):
    table = part(experiment, "rounding").tables[0]
    modes = [row[0] for row in table.rows]
    assert modes[0] == "nearest-even"
    assert {"stochastic", "toward-zero", "residual"} <= set(modes)
    assert next(row for row in table.rows if row[0] == "residual")[2:] == (None,) * 4
    scalings = [row[0] for row in part(experiment, "scaling").tables[0].rows]
    assert scalings == ["channel", "tensor", "1x32", "none"]
    worst, channels = part(experiment, "errors").tables
    for name in experiment.settings.names:
        listed = [row for row in worst.rows if row[0] == name]
        known = [t.scheme(name).sqnr_db for t in quantized(experiment).tensors]
        finite = sorted(db for db in known if db is not None and np.isfinite(db))
        assert [row[3] for row in listed] == finite[:3]
        assert {row[1] for row in listed} <= {t.scheme(name).bits_per_weight for t in experiment.tensors}
    assert all(row[4] <= row[5] for row in channels.rows)


def test_guard_rails(tmp_path):
    rng = np.random.default_rng(4)
    tensors = {f"w{i}": rng.normal(size=(60, 50)).astype(np.float32) for i in range(5)}
    tensors["w1"] = np.where(rng.random((60, 50)) < 0.002, 300, 0.1 * tensors["w1"]).astype(np.float32)
    tensors["w2"][7] *= 1e-4
    tensors["w3"][0, 0] = np.nan
    tensors["norm"] = np.ones(9, np.float32)
    save_file(tensors, tmp_path / "m.safetensors")
    experiment = run([tmp_path / "m.safetensors"], Settings(("int8",)))
    section = part(experiment, "guards")
    rows = {(row[0], row[3].split()[0]) for row in section.tables[0].rows}
    assert ("w3", "1") in rows
    assert ("w2", "channel") in rows
    assert "w1" in {row[0] for row in section.tables[0].rows}
    assert not {"w0", "w4"} & {row[0] for row in section.tables[0].rows}
    assert "1 of 6 tensors" in section.paragraphs[0]
    assert any(sentence.startswith("Check 3 tensors of 6 (w1, w2, w3): see ") for sentence in verdict(experiment))


def test_what_is_chosen_to_clip_is_no_concern(tmp_path):
    """A scale of least squared error clips on purpose; one of another rule that clips is named."""
    rng = np.random.default_rng(0)
    tensors = {"w.weight": rng.standard_t(2, size=(8, 320)).astype(np.float32)}
    tensors["v.weight"] = rng.normal(0, 0.1, size=(16, 320)).astype(np.float32)
    save_file(tensors, tmp_path / "m.safetensors")
    for scheme, listed in (("int4", False), ("rf8/none", True)):
        experiment = run([tmp_path / "m.safetensors"], Settings((scheme,)))
        assert experiment.total.schemes[0].error.overflow
        assert any("clipped" in concern.what for concern in concerns(experiment)) is listed


def test_what_is_usual_in_a_model_is_no_concern(tmp_path):
    """Tensors that differ among themselves are usual; one that differs from them all is not. Kept ones never are."""
    rng = np.random.default_rng(0)
    tensors = {f"w{i}.weight": (rng.standard_t(3 + i / 10, size=(40, 60))).astype(np.float32) for i in range(30)}
    tensors["norm.weight"] = rng.standard_t(1, size=(40, 60)).astype(np.float32)
    save_file(tensors, tmp_path / "m.safetensors")
    usual = {concern.tensor for concern in concerns(run([tmp_path / "m.safetensors"], Settings(("int8",))))}
    assert len(usual) <= 2
    odd = rng.normal(size=(40, 60))
    odd[0, 0] = 4000
    tensors["w7.weight"] = odd.astype(np.float32)
    save_file(tensors, tmp_path / "m.safetensors")
    listed = {concern.tensor for concern in concerns(run([tmp_path / "m.safetensors"], Settings(("int8",))))}
    assert "w7.weight" in listed
    assert "norm.weight" not in listed


def test_headlines_are_what_quantize_does(checkpoint, tmp_path):
    """The recommended text, given to the command and to the function, makes the error and the bits of the headline."""
    from rf8sim import quantize
    from rf8sim.cli import main

    clean = {name: w for name, w in weights().items() if name not in ("odd", "ids")}
    save_file(clean, tmp_path / "m.safetensors")
    experiment = run([tmp_path / "m.safetensors"])
    for one in candidates(experiment):
        output = tmp_path / "q.safetensors"
        assert main(["quantize", str(tmp_path / "m.safetensors"), "-o", str(output), "-f", one.text, "-q"]) == 0
        assert main(["dequantize", str(output), "-o", str(tmp_path / "d.safetensors"), "-q"]) == 0
        stored = load_file(tmp_path / "d.safetensors")
        changed = [name for name in clean if not np.array_equal(stored[name], clean[name])]
        assert set(changed) == {"a.weight", NASTY}
        signal = sum(np.sum(clean[name].astype(float) ** 2) for name in changed)
        noise = sum(np.sum((clean[name].astype(float) - stored[name]) ** 2) for name in changed)
        assert one.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-4)
        for name in changed:
            np.testing.assert_array_equal(quantize(clean[name], one.text).dequantize(), stored[name])


def test_names_mean_for_report_what_they_mean_for_quantize(checkpoint, tmp_path):
    from rf8sim.checkpoints.plan import Recipe
    from rf8sim.cli import main

    options = ["-f", "int8", "-f", "rf8@residual", "-f", "int8/tensor", "-f", "mxfp4"]
    assert main(["report", str(checkpoint), "-o", str(tmp_path / "r.json"), "-q", *options]) == 0
    settings = Contents.from_json(json.loads((tmp_path / "r.json").read_text())).experiment.settings
    assert list(settings.schemes) == [Recipe(text).scheme for text in options[1::2]]


def candidate(name, sqnr_db, bits):
    scheme = rf8sim.as_scheme(name)
    record = SchemeRecord(scheme=scheme, error=None, scales=1, scale_bits=32, smallest_scale=1.0, largest_scale=1.0)
    return Candidate(name, record, sqnr_db, bits, 0)


def test_the_knee_is_not_the_coarsest():
    """A few decibels for each bit are dear below the knee and cheap above it."""
    ranked = [candidate("int8", 40.0, 7.0), candidate("e4m3fn", 37.0, 6.0), candidate("e5m2", 30.0, 5.6)]
    assert most_accurate(ranked).text == "int8"
    assert knee(ranked).text == "e4m3fn", "3 dB for the first bit is little, 7 dB for 0.4 bits much"
    assert cheapest(ranked).text == "e5m2"
    assert knee([*ranked, candidate("e2m1fn", 37.5, 4.0)]).text == "e2m1fn"
    exact = [candidate("bfloat16", math.inf, 9.0), candidate("float16", math.inf, 8.0), *ranked]
    assert (most_accurate(exact).text, knee(exact).text) == ("float16", "float16")


def test_tensors_in_natural_order_and_of_every_role(tmp_path):
    """Layer 2 stands before layer 10; a figure of few tensors has every role in a layer; the maps have a legend."""
    rng = np.random.default_rng(0)
    roles = {"attn.q.weight": 5, "mlp.up.weight": 50, "mlp.down.weight": 50}
    tensors = {
        f"h.{i}.{name}": rng.normal(size=(n, 8)).astype(np.float32) for i in range(12) for name, n in roles.items()
    }
    tensors["h.3.mlp.up.weight"][0, 0] = 300
    save_file(tensors, tmp_path / "m.safetensors")
    experiment = run([tmp_path / "m.safetensors"], Settings(("int8/tensor", "e5m2/tensor")))
    for table in part(experiment, "tensors").tables:
        layers = [int(row[0].split(".")[1]) for row in table.rows]
        assert layers == sorted(layers)
    assert {row_of.name.split(".", 2)[2] for row_of in representative(experiment, 3)} == set(roles)
    figures = next(s for s in sections(Contents(experiment)) if s.id == "errors").figures
    by_scheme = {name: [t.scheme(name).sqnr_db for t in experiment.tensors] for name in ("int8", "e5m2")}
    varied = max(by_scheme, key=lambda name: max(by_scheme[name]) - min(by_scheme[name]))
    assert [f.title for f in figures] == ["SQNR by layer and scheme", f"SQNR of {varied} by layer and tensor"]
    by_layer = figures[0].hints["cell-0-3"][0]
    sums = [tensor.scheme("int8").error for tensor in experiment.tensors if tensor.name.startswith("h.3.")]
    db = 10 * np.log10(sum(e.sum_squares for e in sums) / sum(e.sum_squared_error for e in sums))
    assert by_layer == f"int8, layer 3: {db:.2f} dB"
    assert len(figures[1].canvas.legends[0].get_texts()) == 5


def test_evaluation(experiment, tmp_path):
    data = read_evaluation(ROOT / "reports" / "evaluate.json")
    section = part(experiment, "accuracy", evaluation=data)
    assert section.paragraphs[0] == data["verdict"][0]
    assert len(section.tables[0].rows) == len(data["results"])
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        read_evaluation(tmp_path / "none.json")
    for text in ("{", "[]", "{}", '{"results": [], "verdict": []}', '{"results": [{}], "verdict": []}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json: not an evaluate\.json of 'rf8sim evaluate'"):
            read_evaluation(tmp_path / "bad.json")


def test_pooling_is_said(tmp_path):
    """Gaussians of different scales together look heavy-tailed, and the report says that they do."""
    rng = np.random.default_rng(4)
    tensors = {f"w{i}": (rng.normal(size=(100, 100)) * 4.0**i).astype(np.float32) for i in range(3)}
    save_file(tensors, tmp_path / "m.safetensors")
    section = part(run([tmp_path / "m.safetensors"], Settings(("rf8",))), "distribution")
    [said] = [words for words in section.paragraphs if words.startswith("Pooling changes the shape")]
    assert "gaussian in 3" in " ".join(section.paragraphs)
    assert float(re.search(r"fit shape ([\d.]+)", said)[1]) < 1
    assert float(re.search(r"median tensor ([\d.]+)", said)[1]) == pytest.approx(2.0, abs=0.15)
    [kinds] = [table for table in section.tables if table.caption.startswith("Fits")]
    assert kinds.has_total


def test_pooled_shape_of_a_kind(tmp_path):
    """From histograms in quarter octaves the pooled shape is that of the data, to a standard error or so."""
    import ggd
    from rf8sim.report.sections.weights import by_kind

    x = {f"mlp.{i}": ggd.GGD(1.3, 0.05).sample(60_000, seed=i).astype(np.float32).reshape(60, -1) for i in range(3)}
    x |= {"attn": ggd.GGD(0.8, 0.05).sample(60_000, seed=9).astype(np.float32).reshape(60, -1)}
    save_file(x, tmp_path / "m.safetensors")
    table = by_kind(run([tmp_path / "m.safetensors"], Settings(())))
    index = [column.title for column in table.columns].index("pooled")
    pooled = {row[0]: row[index] for row in table.rows}
    whole = ggd.fit(np.concatenate([v.ravel() for k, v in x.items() if k.startswith("mlp")])).shape
    assert pooled["MLP"] == pytest.approx(whole, rel=0.01)
    assert pooled["attention"] == pytest.approx(0.8, rel=0.03)


@pytest.fixture(scope="module")
def schema():
    import jsonschema

    data = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(data)
    return jsonschema.Draft202012Validator(data)


def test_the_schema_is_that_of_the_declaration():
    done = subprocess.run([sys.executable, ROOT / "docs" / "schema.py", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), "run python docs/schema.py"


def test_the_published_schema(folder, schema, checkpoint):
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    schema.validate(data)
    evaluation = {"verdict": ["Nothing is lost."], "results": [], "made_by": "rf8sim evaluate m", "data": "d"}
    experiment = run([checkpoint], Settings(("int8/1x32", "nvfp4", "q4_1")))
    whole = Contents(experiment, "rf8sim report m", hash_inputs([checkpoint]), evaluation)
    schema.validate(json.loads(json.dumps(whole.to_json(), allow_nan=False)))


@pytest.mark.parametrize("odd", [np.zeros(9, np.float32), np.array([1e-300, 1e300]), np.array([np.nan, 1.0])])
def test_odd_reports_keep_to_the_schema(tmp_path, schema, odd):
    save_file({"w": odd}, tmp_path / "m.safetensors")
    write_report(run([tmp_path / "m.safetensors"]), tmp_path, figures=False)
    schema.validate(json.loads((tmp_path / "report.json").read_text()))


def test_the_schema_sees_what_is_wrong(folder, schema):
    """Negative control: every field taken away, added or of another type is seen."""
    text = (folder / "report.json").read_text(encoding="utf-8")
    for path in ((), ("settings",), ("tensors", 0), ("tensors", 0, "schemes", 0), ("choices", 0), ("skipped", 0)):
        whole = json.loads(text)
        place = whole
        for step in path:
            place = place[step]
        for name in list(place):
            kept = place.pop(name)
            assert not schema.is_valid(whole), (path, name)
            place[name] = {"other": 1} if name not in ("evaluation", "area") else 7
            assert not schema.is_valid(whole), (path, name)
            place[name] = kept
        place["new"] = 1
        assert not schema.is_valid(whole), path


def test_compression_is_what_files_take(by_tensor):
    """The columns of coders against blobs that are really made, within the tens of bits that only data can tell."""
    from rf8sim.entropy.coding import compress

    experiment = by_tensor
    table = part(experiment, "compression").tables[0]
    row = next(row for row in table.rows if row[0] == "int8")
    bits = weights_coded = 0
    for tensor in experiment.tensors:
        counts = tensor.scheme("int8").error.code_counts
        symbols = np.random.default_rng(0).permutation(np.repeat(np.arange(256), counts)).astype(np.uint8)
        bits += 8 * len(compress(symbols, coder="rans"))
        weights_coded += symbols.size
    scales = 32 * len(experiment.tensors) / experiment.total.scheme("int8").error.count
    assert row[4] == pytest.approx(bits / weights_coded + scales, abs=0.1 * len(experiment.tensors) / 4)
    assert row[3] == experiment.total.scheme("int8").entropy_bits
    assert row[6] == pytest.approx(1 - row[4] / row[1])


def test_area(by_tensor, tmp_path):
    from rf8sim.report.sections.area import read_area

    blocks = [
        {"block": "product", "gates rf8": 10.0, "gates int8": 30.0, "gates rf8 / e4m3fn": 1.1, "depth rf8": 3},
        {"block": "MAC, exact", "gates rf8": 100.0, "gates int8": None, "depth rf8": 3},
    ]
    (tmp_path / "area.json").write_text(json.dumps({"caption": "cells.lib", "blocks": blocks}))
    areas = read_area(tmp_path / "area.json")
    section = part(by_tensor, "area", area=areas)
    assert section.tables[0].rows == (("product", 10.0, 30.0), ("MAC, exact", 100.0, None))
    [figure] = next(s for s in sections(Contents(by_tensor, area=areas)) if s.id == "area").figures
    db = by_tensor.total.scheme("rf8").sqnr_db
    assert figure.hints == {"marks-0": [f"MAC, exact, rf8: 100 gates, {db:.2f} dB"], "marks-1": []}
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        read_area(tmp_path / "none.json")
    for text in ("[", "[]", "{}", '{"caption": "a", "blocks": []}', '{"caption": "a", "blocks": [{"block": "x"}]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json: not what"):
            read_area(tmp_path / "bad.json")
