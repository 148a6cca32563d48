"""`rf8sim compare`: what got worse is found, what did not is not, and the exit code says so."""

import csv
import dataclasses
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import save_file

from rf8sim import cli
from rf8sim.report.render import write_page
from rf8sim.report.sections import comparison
from rf8sim.report.sections.comparison import Thresholds, compare
from rf8sim.report.sections.contents import Contents
from rf8sim.report.sections.pages import PAGES, REPORT
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import run

SCHEMES = ("rf8/tensor:e8m0fnu,max", "int8/tensor,max")
RF8, INT8 = "rf8/tensor,max", "int8/tensor,max"


def weights(**change):
    rng = np.random.default_rng(2)
    tensors = {name: rng.normal(size=(40, 50)).astype(np.float32) for name in ("a", "b", "c")}
    return {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}


def outlier():
    tensor = weights()["b"].copy()
    tensor[0, 0] = 400
    return tensor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")

    def report(name, schemes=SCHEMES, seed=0, **change):
        save_file(weights(**change), folder / "model.safetensors")
        contents = Contents(run([folder / "model.safetensors"], Settings(schemes, seed=seed)))
        write_page(REPORT.page(contents, figures=False), folder / name)

    odd = weights()["c"].copy()
    odd[1, 1] = np.nan
    report("before")
    report("worse", b=outlier())
    report("zeros", a=np.zeros((40, 50), np.float32))
    report("missing", c=None, d=weights()["c"])
    report("odd", c=odd)
    report("seed", seed=4)
    report("channel", schemes=(INT8, "int8/channel,max"))
    report("other", schemes=("e5m2",))
    return folder


def both(folder, a, b):
    return [str(folder / a), str(folder / b / "report.json")]


def test_the_same_report_is_not_worse(capsys, folder):
    assert cli.main(["compare", *both(folder, "before", "before")]) == 0
    out, err = capsys.readouterr()
    assert "0 of 32 numbers got worse." in out
    assert err == ""


def test_fewer_bits_with_a_worse_error_are_not_better(capsys, folder):
    """An outlier, or weights lost to zero, leave little to code."""
    for name, where in (("worse", "b"), ("zeros", "a")):
        assert cli.main(["compare", *both(folder, "before", name), "--json"]) == 1
        changes = {(c["where"], c["scheme"], c["quantity"]): c for c in json.loads(capsys.readouterr().out)["changes"]}
        bits = changes[where, INT8, "coded, bits/w."]
        assert bits["change"] < -1
        assert bits["verdict"] == "paid"
    assert cli.main(["compare", *both(folder, "worse", "before"), "--json"]) == 1  # and back: bits, which are worse
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert {"worse", "better", "same"} == {change["verdict"] for change in changes}


@pytest.mark.parametrize(("sqnr", "verdict"), [(30.0, "better"), (29.6, "better"), (29.4, "paid"), (None, "paid")])
def test_bits_are_judged_with_the_error(sqnr, verdict):
    def record(bits, decibels):
        return SimpleNamespace(
            name=INT8, sqnr_db=decibels, coded_bits_per_weight=bits, underflow_share=0.0, overflow_share=0.0
        )

    changes = comparison._format_changes("a", record(6.0, 30.0), record(5.0, sqnr), Thresholds())
    assert {change.quantity: change.verdict for change in changes}["coded, bits/w."] == verdict


def test_what_got_worse(capsys, folder):
    assert cli.main(["compare", *both(folder, "before", "worse"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    worse = {(c["where"], c["scheme"], c["quantity"]) for c in found["changes"] if c["verdict"] == "worse"}
    assert ("b", INT8, "SQNR, dB") in worse
    assert ("b", INT8, "underflow, share") in worse
    assert not {one for one in worse if one[0] in ("a", "c")}
    assert ("b", RF8, "SQNR, dB") not in worse, "its values reach far enough down"
    assert found["worse"] == len(worse)
    old, new = (json.loads((folder / name / "report.json").read_text()) for name in ("before", "worse"))
    change = next(c for c in found["changes"] if (c["where"], c["scheme"], c["quantity"]) == ("b", INT8, "SQNR, dB"))
    expected = [
        next(f for f in next(t for t in data["tensors"] if t["name"] == "b")["schemes"] if f["name"] == INT8)
        for data in (old, new)
    ]
    assert [change["before"], change["after"]] == [one["sqnr_db"] for one in expected]
    assert change["change"] == pytest.approx(expected[1]["sqnr_db"] - expected[0]["sqnr_db"])


def test_tables_give_shares_in_percent(capsys, folder):
    """The table, the page and CSV do as --percent does; JSON keeps the shares of report.json."""
    assert cli.main(["compare", *both(folder, "before", "worse"), "--json"]) == 1
    changes = json.loads(capsys.readouterr().out)["changes"]
    share = next(c for c in changes if (c["where"], c["scheme"], c["quantity"]) == ("b", INT8, "underflow, share"))
    assert cli.main(["compare", *both(folder, "before", "worse"), "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    row = next(r for r in rows if (r["where"], r["scheme"], r["quantity"]) == ("b", INT8, "underflow, %"))
    assert [float(row[name]) for name in ("before", "after", "change")] == pytest.approx(
        [100 * share[name] for name in ("before", "after", "change")]
    )


def test_the_other_way_it_is_better(capsys, folder):
    assert cli.main(["compare", *both(folder, "worse", "before"), "--bits", "9"]) == 0
    out = capsys.readouterr().out
    assert "better" in out
    assert "0 of 32 numbers got worse." in out


def test_thresholds_decide(capsys, folder):
    words = ["compare", *both(folder, "before", "worse"), "-q"]
    assert cli.main([*words, "--sqnr", "100", "--percent", "100", "--bits", "9"]) == 0
    assert cli.main([*words, "--sqnr", "100", "--percent", "100", "--bits", "9"]) == 0
    assert cli.main([*words, "--sqnr", "1", "--percent", "100", "--bits", "9"]) == 1
    assert cli.main([*words, "--sqnr", "100", "--percent", "1", "--bits", "9"]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_threshold_is_reached_only_beyond_it(folder):
    before = Contents.from_json(json.loads((folder / "before" / "report.json").read_text()))
    after = Contents.from_json(json.loads((folder / "worse" / "report.json").read_text()))
    experiments = before.experiment, after.experiment
    a, b = (e.tensors[1].scheme(INT8).sqnr_db for e in experiments)
    at = compare(before, after, Thresholds(sqnr_db=a - b, bits=9, share=1))
    below = compare(before, after, Thresholds(sqnr_db=(a - b) * 0.999, bits=9, share=1))
    assert [(c.where, c.verdict) for c in at.worse if c.where == "b"] == []
    assert [(c.where, c.quantity) for c in below.worse if c.where == "b"] == [("b", "SQNR, dB")]


def test_missing_tensors_and_new_ones(capsys, folder):
    assert cli.main(["compare", *both(folder, "before", "missing")]) == 1
    out = capsys.readouterr().out
    assert "1 tensors of the first report are missing in the second: c." in out
    assert "1 tensors of the second report are new." in out


def test_values_that_are_not_finite(capsys, folder):
    assert cli.main(["compare", *both(folder, "before", "odd"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    odd = [c for c in found["changes"] if c["quantity"] == "values not finite"]
    assert [(c["where"], c["before"], c["after"], c["verdict"]) for c in odd] == [
        ("all weights", 0, 1, "worse"),
        ("c", 0, 1, "worse"),
    ]


def test_settings_that_differ_are_said(capsys, folder):
    cli.main(["compare", *both(folder, "before", "seed")])
    assert "Setting seed differs: 0 and 4." in capsys.readouterr().out


def test_schemes_are_matched_by_their_texts(capsys, folder):
    """Of INT8 with one scale and INT8 with one for each channel only the first is in both reports."""
    assert cli.main(["compare", *both(folder, "before", "channel"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {change["scheme"] for change in found["changes"]} == {INT8}
    assert f"Only in BEFORE: {RF8}. Only in AFTER: int8_channel; not compared." in found["notes"]


def test_csv(capsys, folder):
    assert cli.main(["compare", *both(folder, "before", "worse"), "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 32
    assert {row["verdict"] for row in rows} == {"same", "worse", "paid"}


def test_an_exact_tensor_that_becomes_inexact_is_worse(folder):
    before = Contents.from_json(json.loads((folder / "before" / "report.json").read_text()))
    tensor = before.experiment.tensors[0]
    record = tensor.scheme(INT8)
    exact = replace(record, error=dataclasses.replace(record.error, sum_squared_error=0.0))
    tensors = (replace(tensor, schemes=(tensor.schemes[0], exact)), *before.experiment.tensors[1:])
    perfect = dataclasses.replace(before, experiment=replace(before.experiment, tensors=tensors))
    found = compare(perfect, before)
    assert [(c.where, c.before, c.change) for c in found.worse] == [("a", float("inf"), None)]
    assert json.dumps(found.to_json(), allow_nan=False)
    assert not compare(before, perfect).failed


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("before", "none", "none: no such file: a report.json of 'rf8sim report' was expected, or its folder"),
        ("model.safetensors", "before", "model.safetensors: not a report.json of 'rf8sim report'"),
        ("before", "old.json", "old.json: not a report of this version: expected schema 2, got None"),
        ("before", "list.json", "list.json: not a report of this version"),
        ("before", "part.json", "part.json: field 'total' is missing"),
        ("before", "other", f"the reports have no scheme in common: {RF8}, {INT8} and e5m2"),
    ],
)
def test_what_is_no_report_is_refused(capsys, folder, a, b, words):
    (folder / "old.json").write_text('{"results": 1}')
    (folder / "list.json").write_text("[1]")
    data = json.loads((folder / "before" / "report.json").read_text())
    (folder / "part.json").write_text(json.dumps({k: v for k, v in data.items() if k != "total"}))
    assert cli.main(["compare", str(folder / a), str(folder / b)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_bad_options_are_refused(capsys, folder):
    for words, said in (
        (["--sqnr", "-1"], "Invalid value for '--sqnr'"),
        (["--bits", "inf"], "threshold bits must be >= 0, got inf"),
        (["--json", "--csv"], "exclude each other"),
    ):
        assert cli.main(["compare", *both(folder, "before", "before"), *words]) == 2
        assert said in capsys.readouterr().err


def page_of(folder, *names):
    reports = (Contents.from_json(json.loads((folder / name / "report.json").read_text())) for name in names)
    compared = compare(*reports)
    return compared, PAGES["compare"].page(compared).sections[0].lead


def test_the_page_begins_with_what_got_worse(folder):
    compared, lead = page_of(folder, "before", "worse")
    rows = {row[0]: dict(zip([column.title for column in lead.columns], row, strict=True)) for row in lead.rows}
    assert sum(row["worse"] for row in rows.values()) == len(compared.worse) > 0
    assert sum(row[word] for row in rows.values() for word in ("worse", "better", "paid", "same")) == len(
        compared.changes
    )
    by_quantity = {
        name: [c.change for c in compared.worse if c.quantity == name] for name in ("SQNR, dB", "underflow, share")
    }
    assert rows["SQNR, dB"]["worst"] == "all weights, int8/tensor,max"
    assert rows["SQNR, dB"]["change"] == min(by_quantity["SQNR, dB"]) < -20
    assert rows["underflow, %"]["change"] == 100 * max(by_quantity["underflow, share"])
    _, nothing = page_of(folder, "before", "before")
    assert {row[5:] for row in nothing.rows} == {("", None)}
