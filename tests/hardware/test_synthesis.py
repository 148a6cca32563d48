"""Yosys on the shipped sources: every block synthesizes without a latch, the two multipliers are the same, areas."""

import shutil
import subprocess

import pytest
from simulation import lay_out

from rf8sim.cli.hardware_hdl import area_summary
from rf8sim.hardware.sources import area
from rf8sim.hardware.sources.hdl import rtl_sources, write_hdl
from rf8sim.hardware.sources.packages import systemverilog_package

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("yosys") is None, reason="needs Yosys (yosys)"),
]
has_library = pytest.mark.skipif(not area.LIBERTY.is_file(), reason="needs qflow-tech-osu018")
has_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="needs Verilator (verilator)")
SYNTHESIZED = sorted(name.removesuffix(".sv") for name in rtl_sources() if name != "rf8_multiply_table.sv")
# Parameters that choose other text of a module than the default ones.
VARIANTS = {
    "rf8_multiply": [("-GRESIDUAL=1",)],
    "float32_to_float8": [(f"-GE5M2={fmt}", f"-GROUNDING={mode}") for fmt in (0, 1) for mode in (0, 1, 2)],
    "float8_fma": [("-GA_E5M2=1",), ("-GA_E5M2=1", "-GB_E5M2=1")],
    "dot_product": [(f"-GWEIGHT={weight}", f"-GINT8={weight % 2}", "-GSTAGES=3", "-GSCALED=1") for weight in range(4)],
    "mxfp8_dot": [("-GFRACTION=13", "-GSTAGES=4"), ("-GLANES=4", "-GFRACTION=40")],
    "float8_encode": [("-GE5M2=1", "-GROUNDING=2", "-GRANDOM_BITS=32"), ("-GWIDTH=12", "-GFRACTION=10")],
}


def yosys(folder, script):
    done = subprocess.run(["yosys", "-p", script], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_every_module_synthesizes_without_a_latch(tmp_path):
    lay_out(tmp_path, [])
    each = "".join(
        f"design -load sources; hierarchy -check -top {top}; synth -flatten -noshare -run begin:fine; check -assert; "
        "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr; "
        for top in SYNTHESIZED
    )
    status, printed = yosys(tmp_path, f"read_verilog -sv -defer rtl/*.sv; design -save sources; {each}")
    assert status == 0, printed[-3000:]
    assert printed.count("Executing SYNTH pass") == len(SYNTHESIZED)
    assert "Latch inferred" not in printed
    assert not [line for line in printed.splitlines() if line.startswith("Warning:")]


def test_a_latch_is_seen(tmp_path):
    change = ("rf8_unpack.sv", "      default: significand = 5'd24;\n", "")
    lay_out(tmp_path, [], (change,))
    script = (
        "read_verilog -sv -defer rtl/*.sv; hierarchy -check -top rf8_decode; synth -flatten -run begin:fine; "
        "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr"
    )
    assert yosys(tmp_path, script)[0] != 0


def lint(folder, top, *options):
    command = ["verilator", "--lint-only", "-Wall", "-Wno-UNUSEDSIGNAL", *options, "--top-module", top]
    done = subprocess.run([*command, *sorted(folder.glob("*.sv"))], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@has_verilator
@pytest.mark.parametrize("top", SYNTHESIZED)
def test_no_module_has_a_warning_of_verilator(tmp_path, top):
    lay_out(tmp_path, [])
    assert lint(tmp_path / "rtl", top) == (0, "")
    for options in VARIANTS.get(top, ()):
        assert lint(tmp_path / "rtl", top, *options) == (0, ""), options


@has_verilator
def test_a_width_that_does_not_match_is_a_warning(tmp_path):
    lay_out(tmp_path, [], (("e4m3_decode.sv", "{14'd0, significand}", "{13'd0, significand}"),))
    status, printed = lint(tmp_path / "rtl", "e4m3_decode")
    assert status != 0
    assert "%Warning-WIDTH" in printed


@pytest.mark.slow
@pytest.mark.parametrize("proof", ["prove", "prove_residual"])
def test_the_multiplier_of_shifts_equals_the_table(tmp_path, proof):
    folder = write_hdl(tmp_path / "hdl")
    status, printed = yosys(folder, f"script bench/{proof}.ys")
    assert status == 0, printed[-3000:]
    assert "SAT proof finished - no model found: SUCCESS!" in printed


@pytest.mark.slow
def test_the_proof_finds_a_single_wrong_entry(tmp_path):
    folder = write_hdl(tmp_path / "hdl")
    table = folder / "rtl" / "rf8_multiply.mem"
    entries = table.read_text().split()
    entries[128 * 0x7B + 0x7F] = "7e"  # 1 times 1.5
    table.write_text("\n".join(entries))
    status, printed = yosys(folder, "script bench/prove.ys")
    assert status != 0
    assert "Called with -verify and proof did fail!" in printed


def test_the_package_is_what_yosys_reads(tmp_path):
    (tmp_path / "rf8_pkg.sv").write_text(systemverilog_package("rf8"))
    (tmp_path / "top.sv").write_text(
        "module looked_up(input wire [7:0] code, output wire sign, output wire [19:0] magnitude, output wire nan);\n"
        "  assign sign = rf8_pkg::NEGATIVE[code] | rf8_pkg::IS_NAN[code];\n"
        "  assign magnitude = rf8_pkg::MAGNITUDE[code*rf8_pkg::MAGNITUDE_WIDTH+:rf8_pkg::MAGNITUDE_WIDTH];\n"
        "  assign nan = rf8_pkg::IS_NAN[code];\n"
        "endmodule\n"
    )
    lay_out(tmp_path, [])
    script = (
        "read_verilog -sv rf8_pkg.sv top.sv rtl/rf8_unpack.sv rtl/rf8_decode.sv; proc; flatten; "
        "miter -equiv -flatten -make_assert -make_outputs looked_up rf8_decode miter; hierarchy -top miter; opt -fast; "
        "sat -verify -prove-asserts miter"
    )
    status, printed = yosys(tmp_path, script)
    assert status == 0, printed[-3000:]
    assert "no model found: SUCCESS!" in printed


@has_library
def test_area_counts_cells_of_the_library():
    nand = area._nand_area(area.LIBERTY)
    assert nand == 24.0  # NAND2X1 in osu018_stdcells.lib
    found = area.synthesize("rf8_decode")
    assert found.gates == pytest.approx(found.area / nand)
    assert 50 < found.gates < 200
    assert 3 < found.depth < 30
    assert found.cells > 20
    small, large = (area.synthesize("int8_mac", {"GUARD": guard}) for guard in (2, 12))
    assert large.area - small.area >= 10 * 96  # a flip-flop more for each guard bit


@has_library
def test_the_table_sets_formats_side_by_side():
    chosen = [area.Subject("decoder", {"rf8": "rf8_decode", "e4m3fn": "e4m3_decode"})]
    table = area_summary(area.area_table(chosen=chosen), area.LIBERTY)
    [row] = table.rows
    assert [column.title for column in table.columns][:3] == ["block", "gates rf8", "gates e4m3fn"]
    assert row[-1] == pytest.approx(row[1] / row[2])


def test_a_row_without_rf8_or_e4m3_is_compared_with_nothing():
    small, large = area.Area(24.0, 1.0, 2, 1), area.Area(96.0, 4.0, 3, 2)
    rows = [
        (area.Subject("both", {}), {"rf8": large, "e4m3fn": small}),
        (area.Subject("one", {}), {"e4m3fn": small, "e5m2": large}),
    ]
    table = area_summary(rows, area.LIBERTY)
    assert table.columns[-1].title == "gates rf8 / e4m3fn"
    assert [row[-1] for row in table.rows] == [4.0, None]
    assert [column.title for column in area_summary(rows[1:], area.LIBERTY).columns] == [
        "block", "gates e4m3fn", "gates e5m2", "depth e4m3fn", "depth e5m2", "cells e4m3fn", "cells e5m2",
    ]  # fmt: skip


def test_units_are_modules_with_the_parameters_that_they_are_given():
    sources = rtl_sources()
    units = area.unit_subjects()
    assert {"float32_to_float8", "float8_encode", "float8_fma", "float8_mac", "mxfp8_dot"} <= {
        module for unit in units for module in unit.modules.values()
    }
    for unit in units:
        for fmt, module in unit.modules.items():
            for parameter in {**unit.parameters, **unit.choices.get(fmt, {})}:
                assert f"parameter integer {parameter} =" in sources[f"{module}.sv"], (module, parameter)


@has_library
def test_units_of_e5m2_and_e4m3_differ():
    [(_, fma)] = area.area_table(chosen=area.unit_subjects()[3:4], ways=area.WAYS[:1])
    assert 700 < fma["e5m2"].gates < fma["e4m3fn"].gates < 3000


@has_library
def test_formats_of_one_module_are_told_apart_by_their_parameters():
    choices = {"int8": {"WEIGHT": 2}, "mxfp4": {"WEIGHT": 3, "SCALED": 1}}
    subject = area.Subject("dot of 4", dict.fromkeys(choices, "dot_product"), {"LANES": 4, "INT8": 0}, choices)
    [(same, areas)] = area.area_table(chosen=[subject], ways=area.WAYS[:1])
    assert same is subject
    assert 1.5 * areas["mxfp4"].gates < areas["int8"].gates
    assert all(set(choice) <= {"WEIGHT", "SCALED"} for each in area.dot_subjects() for choice in each.choices.values())


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="there is no such liberty file"):
        area.synthesize("rf8_decode", liberty=tmp_path / "none.lib")
    empty = tmp_path / "empty.lib"
    empty.write_text('library (x) { cell (AND2) { area : 3; pin (Y) { function : "(A B)"; } } }')
    with pytest.raises(ValueError, match=r"empty\.lib: no two-input NAND"):
        area.synthesize("rf8_decode", liberty=empty)
    monkeypatch.setattr(area, "LIBERTY", tmp_path / "absent.lib")
    with pytest.raises(ValueError, match="apt install qflow-tech-osu018"):
        area.synthesize("rf8_decode")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="apt install yosys"):
        area.synthesize("rf8_decode", liberty=empty)
