"""`rf8sim fit`: its tables, files and words, the committed report, and the walkthrough of `ggd`."""

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import ggd
from ggd.families import family_names
from ggd.findings import verdict
from ggd.survey import summarize, survey
from rf8sim import cli
from rf8sim.report.sections.fit import Fits
from rf8sim.report.sections.pages import FIT
from rf8sim.report.tables import fit as fit_tables
from rf8sim.studies import measuring

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "lm" / "model.safetensors"
FIGURES = ["densities.svg", "density.svg", "estimators.svg", "groups.svg", "quantiles.svg", "shapes.svg"]


def tensors():
    rng = np.random.default_rng(0)
    return {
        "embed.weight": ggd.GGD(0.6, 0.02).sample((300, 200), seed=1, dtype=np.float32),
        "layers.0.attn.weight": rng.standard_normal((200, 300)).astype(np.float32),
        "layers.0.norm.weight": (1 + 0.1 * rng.standard_normal(64)).astype(np.float32),
        "layers.1.mlp.weight": rng.standard_t(4, (200, 300)).astype(np.float32),
        "layers.1.mlp.zero": np.zeros((8, 8), np.float32),
    }


@pytest.fixture
def checkpoint(tmp_path):
    save_file({**tensors(), "ids": np.arange(3)}, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.fixture(scope="module")
def found():
    return survey(summarize(name, x) for name, x in tensors().items())


def run(capsys, *arguments, code=0):
    assert cli.main(["fit", *map(str, arguments)]) == code
    return capsys.readouterr()


# --- what it prints -----------------------------------------------------------------------------------------


def test_table_and_verdict(capsys, checkpoint, found):
    out, err = run(capsys, checkpoint)
    assert err == ""
    for word in (
        "embed.weight",
        "200 × 300",
        "all together",
        "channels at equal RMS",
        "gaussian, + bits/w.",
        "student-t",
    ):
        assert word in out
    assert f"{found.tensors[0].fit.shape:.3f}" in out
    assert "1 not fitted: 'ids': I64 is not a floating-point type" in out
    plain = " ".join(out.split())
    for sentence in verdict(found):
        assert " ".join(sentence.split()) in plain


def test_the_same_call_prints_the_same(capsys, checkpoint):
    assert run(capsys, checkpoint, "--json") == run(capsys, checkpoint, "--json")


def test_families_of_choice(capsys, checkpoint):
    out, _ = run(capsys, checkpoint, "--family", "student-t", "--family", "logistic", "--include", "*.attn.*")
    assert "student-t, + bits/w." in out
    assert "logistic, + bits/w." in out
    assert "laplace, + bits/w." not in out


def test_json_is_the_survey(capsys, checkpoint, found):
    data = json.loads(run(capsys, checkpoint, "--json").out)
    assert data["verdict"] == verdict(found)
    assert {**found.to_json(), "verdict": data["verdict"], "skipped": data["skipped"]} == data
    assert [tensor["name"] for tensor in data["skipped"]] == ["ids"]
    by_name = {tensor["name"]: tensor for tensor in data["tensors"]}
    assert list(by_name) == list(tensors())
    findings = {name: tensor["finding"] for name, tensor in by_name.items() if "norm" not in name}
    assert list(findings.values()) == ["ggd", "gaussian", "student-t", "none"]
    assert by_name["layers.1.mlp.zero"]["remark"] == "all 64 values are zero"
    assert by_name["layers.1.mlp.zero"]["fit"]["shape"] is None


def test_csv_has_everything(capsys, checkpoint, found):
    rows = list(csv.DictReader(io.StringIO(run(capsys, checkpoint, "--csv").out)))
    assert [row["tensor"] for row in rows] == [*tensors(), *(level.name for level in found.levels)]
    first, entry = rows[0], found.tensors[0]
    assert float(first["shape"]) == entry.fit.shape
    assert (first["kind"], first["depth"], first["size"], first["trusted"]) == ("embedding", "", "300x200", "True")
    assert rows[1]["depth"] == "0"
    assert rows[-1]["kind"] == ""
    for name in family_names():
        assert float(first[f"{name}_excess_bits"]) == entry.excess(name)
    groups = [float(first[f"shape_groups_{which}"]) for which in ("lowest", "median", "highest")]
    assert (first["groups"], *groups) == ("14", *entry.groups.spread)
    assert (float(first["groups_saved_bits"]), first["groups_differ"]) == (entry.groups.saved, "False")
    assert float(first["misfit_bits"]) == entry.fit.misfit
    assert rows[4]["shape"] == ""


def test_without_a_fit_there_is_no_comparison_with_it(found):
    """As in the report: rivals have a number only beside a fitted shape, and a column tells which fits are trusted."""
    table = fit_tables.tensors(found)
    titles = [column.title for column in table.columns]
    for row, entry in zip(table.rows, found.tensors, strict=False):
        cells = dict(zip(titles, row, strict=True))
        rivals = [cells[f"{name}, + bits/w."] for name in fit_tables.RIVALS]
        assert cells["trusted"] == ("yes" if entry.fit.trusted else "no")
        if math.isnan(entry.fit.shape):
            assert rivals == [None, None]
            assert cells["GGD shape"] is None
        else:
            assert None not in rivals
    assert {row[titles.index("trusted")] for row in table.rows} == {"yes", "no"}


def test_one_tensor_is_not_pooled(capsys, checkpoint):
    out, _ = run(capsys, checkpoint, "--include", "embed*")
    assert "all together" not in out
    assert "fitted to embed.weight has shape" in out


def test_dtypes_and_several_checkpoints(capsys, tmp_path):
    x = ggd.GGD(0.7, 0.02).sample((300, 200), seed=0)
    save_file({"w": x.astype(ml_dtypes.bfloat16), "f8": x.astype(ml_dtypes.float8_e5m2)}, tmp_path / "a.safetensors")
    np.savez(tmp_path / "b.npz", w=x, half=x.astype(np.float16))
    data = json.loads(run(capsys, tmp_path / "a.safetensors", tmp_path / "b.npz", "--json").out)
    shapes = {tensor["name"]: tensor["fit"]["shape"] for tensor in data["tensors"]}
    assert set(shapes) == {"a.safetensors: w", "a.safetensors: f8", "b.npz: w", "b.npz: half"}
    assert shapes["b.npz: w"] == pytest.approx(0.7, abs=0.02)
    assert shapes["a.safetensors: w"] == pytest.approx(shapes["b.npz: w"], abs=0.01)


def test_pieces_do_not_matter(checkpoint):
    whole, _ = measuring.survey([checkpoint])
    pieces, _ = measuring.survey([checkpoint], chunk_elements=1024)
    assert pieces.to_json() == whole.to_json()


# --- files --------------------------------------------------------------------------------------------------


def test_figures(capsys, checkpoint, tmp_path):
    out, _ = run(capsys, checkpoint, "--figures", tmp_path / "drawn")
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == FIGURES
    assert all(name in out for name in FIGURES)
    assert "<svg" in (tmp_path / "drawn" / "shapes.svg").read_text()


def test_report_is_the_same_every_time(capsys, checkpoint, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(capsys, checkpoint, "--report", tmp_path / name / "fit.md", "--json", "--exclude", "*.zero")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    text = (tmp_path / "one" / "fit.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((.*?)\)", text)
    assert sorted(links) == [f"fit-{name}" for name in FIGURES]
    assert all((tmp_path / "one" / link).is_file() for link in links)
    assert "`rf8sim fit m.safetensors --exclude '*.zero' --report fit.md`" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_figures_of_little_data(tmp_path, suffix):
    """A single tensor of few values, one that reaches beyond the axis, one without a fit, one that is not trusted."""
    x, far = ggd.GGD(1.0).sample(200, seed=0), np.random.default_rng(0).standard_t(3, 10_000)
    spoilt = np.append(x, 1e4)
    assert np.abs(far).max() > 12 * np.std(far)
    for i, arrays in enumerate([[x], [x, np.zeros(4)], [np.zeros(4)], [far, spoilt]]):
        drawn = FIT.page(Fits(survey(summarize(f"w{j}", a) for j, a in enumerate(arrays)))).figures
        assert len(drawn) == [4, 5, 0, 5][i]
        for figure in drawn:
            figure.save(tmp_path / f"{i}-{figure.name}.{suffix}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", "--json"], "--csv and --json exclude each other"),
        (["--family", "gausian"], "unknown family 'gausian'"),
        (["--include", "zz"], "no tensor is left by the patterns"),
    ],
)
def test_bad_input_leaves_nothing(capsys, checkpoint, tmp_path, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    out, err = run(capsys, checkpoint, *arguments, code=2)
    assert out == ""
    assert err.startswith("rf8sim: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("option", ["--figures", "--report"])
def test_a_folder_that_cannot_be(capsys, checkpoint, option):
    place = checkpoint / "x" / "page.md"
    assert "is not a folder" in run(capsys, checkpoint, option, place, code=2).err


# --- tables -------------------------------------------------------------------------------------------------


def test_table_of_families(found):
    rows = {row[0]: row for row in fit_tables.families(found).rows}
    trusted = [entry for entry in found.tensors if entry.fit.trusted]
    assert list(rows) == list(family_names())
    for name, row in rows.items():
        assert row[3] == max(entry.selection[name].lost for entry in trusted)
        assert row[2] <= row[3]
        assert row[6] <= row[5] <= len(trusted)
    assert rows["gaussian"][1] == rows["laplace"][1] == 1
    assert rows["ggd"][1] == 2


def test_table_of_kinds(found):
    rows = {row[0]: row for row in fit_tables.by_kind(found).rows}
    assert list(rows) == ["norm", "attention", "MLP", "embedding or head"]
    assert rows["embedding or head"][4] == rows["embedding or head"][6] == found.tensors[0].fit.shape
    assert rows["embedding or head"][7] == pytest.approx(found.tensors[0].fit.shape, rel=1e-9)
    assert rows["embedding or head"][8] == pytest.approx(found.tensors[0].fit.shape, rel=1e-5)
    assert rows["MLP"][1:4] == (2, 1, 200 * 300 + 64)


def test_table_of_groups(found):
    table = fit_tables.groups(found)
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == sorted(rows, key=lambda name: -rows[name][9])
    assert set(rows) == {"embed.weight", "layers.0.attn.weight", "layers.1.mlp.weight"}
    groups = found.tensors[0].groups
    row = rows["embed.weight"]
    assert row[1] == row[2] == len(groups.fits) == 14
    assert row[4:7] == groups.spread
    assert row[7:11] == (min(groups.rms), max(groups.rms), groups.saved, groups.saved_by_scale)
    assert {row[-1] for row in rows.values()} == {"alike"}


def test_table_of_estimators(found):
    rows = {row[0]: row for row in fit_tables.estimators(found).rows}
    assert rows["layers.1.mlp.weight"][-1] == "disagree"
    assert rows["embed.weight"][-1] == rows["layers.0.attn.weight"][-1] == "agree"


# --- what is committed --------------------------------------------------------------------------------------


def numbers_apart(text):
    """Return the words of a page, and its numbers."""
    number = r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?![\w])"
    return re.sub(number, "#", text), [float(found.replace(",", "")) for found in re.findall(number, text)]


def test_the_committed_report_is_what_its_command_makes(capsys, tmp_path, monkeypatch):
    committed = (ROOT / "reports" / "ggd.md").read_text(encoding="utf-8")
    arguments = re.search(r"`rf8sim (.*?)`", committed)[1].split()
    shutil.copytree(MODEL.parent, tmp_path / "examples" / "lm", ignore=lambda *_: {"__pycache__"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    assert cli.main(arguments) == 0
    again = (tmp_path / "reports" / "ggd.md").read_text(encoding="utf-8")
    (words, numbers), (expected_words, expected) = numbers_apart(again), numbers_apart(committed)
    assert words == expected_words
    # Other versions of numpy and scipy may end a search elsewhere in the last digits.
    assert numbers == pytest.approx(expected, rel=2e-3, abs=2e-3)
    for link in re.findall(r"\]\((.*?)\)", committed):
        assert (ROOT / "reports" / link).is_file()


def test_walkthrough():
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "ggd_walkthrough.py")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    out = done.stdout
    assert done.stderr == ""
    shape, error = map(float, re.search(r"fit:   shape ([\d.]+) \+- ([\d.]+)", out).groups())
    assert abs(shape - 0.8) < 5 * error
    assert "seven pieces, backwards, give the same: True" in out
    assert "fit from the summary is the fit from the data: True" in out
    pool, single = map(float, re.search(r"pool ([\d.]+), median shape of the tensors ([\d.]+)", out).groups())
    assert pool < 1.2 < 1.9 < single < 2.1
    for theory, measured in re.findall(r"SQNR ([\d.]+) dB, measured on the sample ([\d.]+) dB", out):
        assert math.isclose(float(theory), float(measured), abs_tol=0.25)
    assert len(re.findall(r"refused: ", out)) == 4
    assert re.search(r"two clusters +refused: no generalized Gaussian about 0 describes the values", out)
    assert re.search(r"^ *0\.68 +0\.90 - 2\.00 .* embed\.weight$", out, flags=re.MULTILINE)
    assert re.search(r"^ggd;", out, flags=re.MULTILINE)
