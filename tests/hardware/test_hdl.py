"""The folder that `rf8sim hdl` writes: what is in it, that it is whole, and that nobody's work is overwritten."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from rf8sim.cli import main
from rf8sim.hardware.sources import hdl
from rf8sim.hardware.sources.hdl import hdl_files, rtl_sources, write_hdl

ROOT = Path(__file__).parents[2]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_every_file_once(tmp_path, capsys):
    folder = tmp_path / "deep" / "hdl"
    folder.parent.mkdir()
    assert main(["hdl", "-o", str(folder), "-f", "rf8", "-f", "posit8_es1"]) == 0
    assert f"make -C {folder} test" in capsys.readouterr().out.replace("\n", " ")
    files = contents(folder)
    assert files == hdl_files(["rf8", "posit8_es1"])
    assert {"README.md", "Makefile", "rtl/rf8_multiply.sv", "bench/tb_rf8.sv", "c/posit8_es1.h"} <= set(files)
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["sha256"] == {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    assert manifest["formats"] == ["rf8", "posit8_es1"]
    assert [path.name for path in folder.parent.iterdir()] == ["hdl"]


def test_the_readme_names_every_module():
    page = hdl_files()["README.md"].decode()
    for name in rtl_sources():
        module = name.removesuffix(".sv")
        assert f"`{module}`" in page or module.startswith(("e4m3", "int8")), module


def test_no_source_speaks_of_this_machine():
    for name, data in hdl_files().items():
        assert str(ROOT).encode() not in data, name


def test_a_folder_of_ours_is_replaced_and_what_was_built_goes(tmp_path):
    folder = write_hdl(tmp_path / "hdl", ["rf8", "int8"])
    (folder / "build").mkdir()
    (folder / "build" / "tb_rf8").write_text("binary")
    write_hdl(folder, ["e4m3fn"])
    assert contents(folder) == hdl_files(["e4m3fn"])


@pytest.mark.parametrize("case", ["foreign", "changed", "added", "other manifest", "file"])
def test_what_is_not_ours_is_refused(tmp_path, capsys, case):
    folder = tmp_path / "hdl"
    if case == "file":
        folder.write_text("mine")
    elif case == "foreign":
        folder.mkdir()
        (folder / "thesis.tex").write_text("mine")
    else:
        write_hdl(folder)
        place = {"changed": "rtl/lfsr.sv", "added": "rtl/mine.sv", "other manifest": "manifest.json"}[case]
        (folder / place).write_text('{"made_by": "me"}')
    before = contents(tmp_path)
    assert main(["hdl", "-o", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rf8sim: error: ")
    assert said.count("\n") == 1
    words = {
        "changed": "rtl/lfsr.sv was changed since",
        "added": "rtl/mine.sv is not written by",
        "file": "is not a folder",
    }
    assert words.get(case, "was not written by rf8sim hdl") in said
    assert contents(tmp_path) == before


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "hdl").mkdir()
    assert contents(write_hdl(tmp_path / "hdl"))


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path, monkeypatch):
    folder = write_hdl(tmp_path / "hdl")
    before = contents(tmp_path)
    rename = os.replace

    def fails(source, target):
        if Path(source).name == "new":
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(hdl.os, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        write_hdl(folder, ["int8"])
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["hdl"]


def test_a_folder_that_cannot_be_is_named_and_no_other(tmp_path, monkeypatch):
    """The hidden folder beside it, in which the work begins, is nobody's business."""

    def fails(prefix, dir):
        raise FileNotFoundError(2, "No such file or directory", f"{dir}/{prefix}x")

    monkeypatch.setattr(hdl.tempfile, "mkdtemp", fails)
    with pytest.raises(OSError, match="No such file") as caught:
        write_hdl(tmp_path / "hdl")
    assert caught.value.filename == str(tmp_path / "hdl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say where to write, with --output DIR, or ask for --area"),
        (["-o", "x", "--liberty", "y"], "--liberty is for --area"),
        (["-o", "x", "--dot"], "--dot is for --area"),
        (["-o", "x", "-f", "rf9"], "unknown format 'rf9'"),
        (["-o", "x", "-f", "rf8", "-f", "rf8"], "give each format once"),
        (["--area", "--liberty", "none.lib"], "none.lib: there is no such liberty file"),
    ],
)
def test_bad_requests_get_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["hdl", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_wide_format_has_decoders_in_files_and_no_tables():
    files = hdl_files(["float16", "bfloat16"])
    assert len(files["rom/float16_fixed.mem"].split()) == len(files["vectors/bfloat16_fields.mem"].split()) == 1 << 16
    assert "rom/bfloat16_fixed.sv" not in files
    assert {"c/float16.h", "c/float16_dpi.c", "package/bfloat16_pkg.vhd", "rom/bfloat16_fields.vhd"} <= set(files)
    assert "bench/tb_float16_pkg.vhd" not in files
    assert b"float16_fixed" in files["bench/tb_rf8.sv"]
    assert b"float16_fixed" in files["bench/tb_roms.vhd"]
