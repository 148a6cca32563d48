"""The command formats: families, constants, wide formats, plug-ins; and that it imports little."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest

import rf8sim
from rf8sim import cli
from rf8sim.formats import format_aliases, format_grammar
from rf8sim.formats.base import Format
from rf8sim.report.tables import listings
from rf8sim.report.tables.gaussian import GAUSSIAN_SQNR_DB

registry = sys.modules["rf8sim.formats"]


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))
    monkeypatch.setattr(registry, "_built", dict(registry._built))


def half_precision(name="half"):
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    return Format(name, 16, "minifloat", "IEEE half precision", values, 65536.0, subnormals_below=2.0**-14)


def out(capsys, *arguments):
    assert cli.main(["formats", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


# --- constants ----------------------------------------------------------------------------------------------


def test_every_signed_format_has_its_constant():
    """A new built-in format of up to 8 bits needs a line in `gaussian.py`."""
    signed = {name for name in rf8sim.format_names() if rf8sim.get_format(name).signed}
    missing = signed - set(GAUSSIAN_SQNR_DB)
    lines = [f'"{name}": {listings.computed_sqnr_db(rf8sim.get_format(name))!r},' for name in sorted(missing)]
    assert not lines, "add to rf8sim/report/tables/gaussian.py:\n" + "\n".join(lines)
    assert set(GAUSSIAN_SQNR_DB) <= set(rf8sim.format_names(16))


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("rf8", "e4m3fn", "int4", "nf4", "hifloat8") else pytest.param(name, marks=pytest.mark.slow)
        for name in GAUSSIAN_SQNR_DB
    ],
)
def test_constants_are_what_is_computed(name):
    assert listings.computed_sqnr_db(rf8sim.get_format(name)) == pytest.approx(GAUSSIAN_SQNR_DB[name], abs=1e-9)


def test_a_format_without_a_constant_is_computed():
    fmt = rf8sim.get_format("int(5)")
    assert fmt.name not in GAUSSIAN_SQNR_DB
    assert 19.3 < listings.gaussian_sqnr_db(fmt) < 40.5  # between int4 and int8
    assert listings.gaussian_sqnr_db(rf8sim.get_format("uint8")) is None


def test_the_search_of_wide_formats_finds_the_same(monkeypatch):
    """An 8-bit table repeated to 9 bits has the SQNR of the 8-bit one: found by the search in two steps."""
    for name in ("e4m3fn", "int8"):
        narrow = rf8sim.get_format(name)
        wide = Format("twice", 9, "minifloat", "", np.repeat(narrow.values, 2), narrow.beyond)
        assert listings.computed_sqnr_db(wide) == pytest.approx(GAUSSIAN_SQNR_DB[name], abs=1e-3)


def test_the_listing_imports_neither_numba_nor_scipy():
    code = (
        "import sys; from rf8sim import cli; cli.main(['formats']); cli.main(['formats', 'rf8']);"
        "print(sorted({'numba', 'scipy', 'matplotlib', 'ggd'} & set(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr.strip() == "[]"


# --- families, aliases, grammar -----------------------------------------------------------------------------


def test_families_are_in_order(capsys):
    text = out(capsys)
    headings = [line.rstrip() for line in text.splitlines() if line.rstrip() in listings.FAMILIES.values()]
    assert headings == [heading for heading in listings.FAMILIES.values() if heading in headings]
    assert {"Residual floats", "Minifloats", "IEEE P3109", "Integers", "Posits", "Quantiles"} <= set(headings)


def test_families_of_others_follow():
    values = np.array([0.0, 1.0])
    made = [Format(f"x{family}", 1, family, "", values) for family in ("user", "ternary", "takum", "residual")]
    groups = listings.by_family([*made, rf8sim.get_format("binary8p4")])
    assert list(groups) == ["Residual floats", "IEEE P3109", "Takums", "Ternary", "Your own"]
    assert groups["Your own"] == made[:1]


def test_all_lists_aliases_and_formats_with_parameters(capsys, monkeypatch):
    text = out(capsys, "--all")
    for form, _, example in format_grammar():
        assert form in text
        assert example in text
        assert rf8sim.get_format(example).count > 1
    monkeypatch.setattr(registry, "format_aliases", lambda: {"residual8": "rf8"})
    assert "residual8" in out(capsys, "--all")
    data = json.loads(out(capsys, "--all", "--json"))
    assert data["aliases"] == {"residual8": "rf8"}
    assert {row["written"] for row in data["grammar"]} == {form for form, _, _ in format_grammar()}
    assert {row["format"] for row in data["formats"]} == set(rf8sim.format_names(16))


def test_aliases_stand_for_registered_formats():
    assert set(format_aliases().values()) <= set(rf8sim.format_names(16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rf8", "--all"], "--all lists several tables: leave out names of formats, --figure and --csv"),
        (["--all", "--csv"], "--all lists several tables"),
        (["--codes"], "--codes takes the name of one format"),
        (["rf8", "int8", "--codes"], "--codes takes the name of one format"),
        (["-o", "x.csv"], "--output takes the name of one format"),
        (["rf8", "-o", "x.txt"], "x.txt: a format is written to a .csv or a .json file"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["formats", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_special_codes_are_those_of_the_formats(capsys):
    for row in json.loads(out(capsys, "--json")):
        fmt = rf8sim.get_format(row["format"])
        codes = [side.infinity for side in fmt.sides if side.infinity is not None]
        assert row["infinities"] == (" ".join(f"0x{code:02X}" for code in codes) or "–")


# --- wide formats -------------------------------------------------------------------------------------------


def test_a_wide_format_is_summed_up(capsys):
    rf8sim.register(half_precision())
    text = out(capsys, "half")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert len(lines) < 50
    for fact in (
        "bits 16",
        "values 63,487",
        "largest 65504",
        "subnormals 1,023 below 6.10351562e-05",
        "zero 0x0000 0x8000",
        "NaN 0x7C01, 2,046 codes in all",
        "infinities 0x7C00 0xFC00",
        "2^-14 to 2^15 1,024 0.0977",
        "2^-24 1 100",
    ):
        assert fact in lines


def test_every_code_of_a_wide_format(capsys):
    fmt = rf8sim.register(half_precision())
    rows = list(csv.DictReader(io.StringIO(out(capsys, "half", "--csv"))))
    assert [int(row["code"], 16) for row in rows] == list(range(1 << 16))
    assert rows[5]["code"] == "0x0005"
    values = np.array([float(row["value"] or "nan") for row in rows])
    np.testing.assert_array_equal(values, fmt.values)
    assert len(json.loads(out(capsys, "half", "--json"))) == 1 << 16


def test_codes_are_shown_if_asked(capsys):
    values = np.arange(1 << 9) / 4
    rf8sim.register(Format("fixed9", 9, "fixed point", "unsigned", values))
    assert "0x1FF" not in out(capsys, "fixed9")
    assert "0x1FF" in out(capsys, "fixed9", "--codes")
    assert out(capsys, "rf8") == out(capsys, "rf8", "--codes")


def test_the_listing_leaves_out_the_sqnr_of_wide_formats(capsys, monkeypatch):
    rf8sim.register(half_precision())
    monkeypatch.setattr(listings, "computed_sqnr_db", lambda fmt: 12.5)
    rows = {row["format"]: row for row in json.loads(out(capsys, "--json"))}
    assert rows["half"]["Gaussian SQNR, dB"] is None
    assert rows["half"]["bits"] == 16
    assert rows["rf8"]["Gaussian SQNR, dB"] == GAUSSIAN_SQNR_DB["rf8"]
    rows = {row["format"]: row for row in json.loads(out(capsys, "half", "rf8", "--json"))}
    assert rows["half"]["Gaussian SQNR, dB"] == 12.5


def test_precision_by_octave():
    rows = listings.summary(rf8sim.get_format("posit8_es1"))[1].rows
    assert rows[0][:2] == ("2^12", 1)
    assert ("2^-2 to 2^1", 16, 6.25) in rows
    assert sum(count for octave, count, _ in rows if "to" not in octave) < 127
    assert listings.summary(rf8sim.get_format("e8m0fnu"))[1].rows == (("2^-127 to 2^127", 1, 100.0),)


# --- plug-ins -----------------------------------------------------------------------------------------------

MODULE = """
import numpy as np
from rf8sim.formats import Format

def ternary():
    return Format("ternary", 2, "user", "three values", np.array([0.0, 1.0, -1.0, np.nan]))

def other():
    return Format("another", 1, "residual", "", np.array([0.0, 1.0]))

def broken():
    raise KeyError("no table")

def text():
    return "rf8"
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install a package with entry points into a folder of sys.path."""
    registry = sys.modules["rf8sim.formats"]  # without what other tests have built
    built = {name: fmt for name, fmt in registry._built.items() if name in registry._builders}
    monkeypatch.setattr(registry, "_built", built)

    def install(package, **entries):
        folder = tmp_path / "site"
        info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "ternary_module.py").write_text(MODULE)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[rf8sim.formats]", *lines, ""]))
        if str(folder) not in sys.path:
            monkeypatch.syspath_prepend(folder)
        return folder

    yield install
    sys.modules.pop("ternary_module", None)


def test_a_format_of_a_plugin(plugin, capsys):
    plugin("ternary-tools", ternary="ternary_module:ternary")
    assert rf8sim.get_format("ternary").values[2] == -1
    assert rf8sim.as_scheme("ternary/channel").format.name == "ternary"
    text = out(capsys)
    assert text.index("Your own") < text.index("three values (from ternary-tools)")
    rows = {row["format"]: row["description"] for row in json.loads(out(capsys, "--json"))}
    assert rows["ternary"] == "three values (from ternary-tools)"
    with pytest.raises(ValueError, match="unknown format 'ternari': did you mean 'ternary'"):
        rf8sim.get_format("ternari")


def test_a_built_in_name_is_not_a_plugins(plugin, capsys):
    plugin("impostor", rf8="ternary_module:other")
    assert rf8sim.get_format("rf8").count == 225
    assert "impostor" not in out(capsys)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ternary_module:broken", "format 'mine' of package 'bad-tools' cannot be loaded: KeyError: 'no table'"),
        ("ternary_module:absent", "format 'mine' of package 'bad-tools' cannot be loaded: AttributeError: "),
        ("no_such_module:f", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("ternary_module:text", "of package 'bad-tools': ternary_module:text returned str, expected a Format"),
        ("ternary_module:other", "has the name 'another': its entry point must have the same"),
    ],
)
def test_a_broken_plugin(plugin, capsys, value, message):
    plugin("bad-tools", mine=value)
    assert cli.main(["formats", "mine"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("rf8sim: error: format 'mine' of package 'bad-tools'")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert cli.main(["formats"]) == 0
    captured = capsys.readouterr()
    assert "e4m3fn" in captured.out
    assert message in captured.err
    assert captured.err.startswith("rf8sim: warning: ")
    assert captured.err.count("\n") == 1


def test_two_packages_of_one_format(plugin):
    plugin("first", mine="ternary_module:ternary")
    plugin("second", mine="ternary_module:ternary")
    with pytest.raises(ValueError, match="format 'mine' is given by packages first and second: uninstall all but one"):
        rf8sim.get_format("mine")


def test_plugins_are_not_looked_for_at_import(plugin):
    """Not even when a built-in format is used."""
    folder = plugin("ternary-tools", ternary="ternary_module:ternary")
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import rf8sim; rf8sim.get_format('rf8');"
        "print({'rf8sim.formats.plugins', 'rf8sim.formats.files', 'ternary_module'} & set(sys.modules));"
        "rf8sim.get_format('ternary'); print('ternary_module' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["set()", "True"]


@pytest.mark.parametrize("room", [60, 80, 120, 160, 400])
def test_a_narrow_terminal_shows_fewer_columns_and_cuts_none(room):
    """What is left out is said; numbers are never broken over lines, nor cut off."""
    from rf8sim.cli.formats import _DESCRIPTION, _fitting, _widths
    from rf8sim.report.tables import listings

    table = listings.overview([rf8sim.get_format(name) for name in ("rf8", "e8m0fnu", "binary16p11se")], wide=False)
    widths = _widths([table])
    kept, left_out = _fitting(table.columns, widths, room)
    titles = [table.columns[k].title for k in kept]
    assert {*titles, *left_out, "family"} == {column.title for column in table.columns}
    assert titles[0] == "format"
    assert titles[-1] == "description"
    shown = sum(max(widths[k], len(table.columns[k].title)) + 3 for k in kept[:-1]) + _DESCRIPTION
    assert shown <= max(room, 65)
    assert bool(left_out) == (room < 400)
