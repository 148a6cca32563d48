"""ROM decoders of formats of 1 to 16 bits: each code in Icarus Verilog and in GHDL, and their vectors by arithmetic."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import rf8sim
from rf8sim.hardware.sources.block import vector_lines
from rf8sim.hardware.sources.packages import fixed_table, systemverilog_package, vhdl_package
from rf8sim.hardware.sources.rom_bench import rom_bench
from rf8sim.hardware.sources.roms import rom_block, rom_memory, rom_sources, roms
from rf8sim.hardware.sources.testbench import bench_source

pytestmark = pytest.mark.hardware
has_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog (iverilog)")
has_ghdl = pytest.mark.skipif(shutil.which("ghdl") is None, reason="needs GHDL (ghdl)")
has_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="needs Yosys (yosys)")
has_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="needs Verilator (verilator)")

CHECK = Path(rf8sim.__file__).parent / "hardware" / "rtl" / "bench" / "check.sv"
BIT = rf8sim.Format("bit", 1, "user", "zero and minus three", np.array([0.0, -3.0]))
SOME = ["rf8", "e5m2", "e8m0fnu", "ue4m3", "int4", "nf8", "posit(9,1)"]
WIDE = [name for name in rf8sim.format_names(16) if name not in rf8sim.format_names()]
OTHERS = ["e4m4", "e6m3", "e9m3", "posit(12,1)", "lns(5,10)", "takum(13)", "q(1,15)", "bposit(16,5,6)"]


def decoders(names):
    return [rom for name in names for rom in roms(name)]


def lay_out(folder, chosen):
    """Write decoders, vectors and both testbenches."""
    files = {path: text.encode() for path, text in rom_sources(chosen).items()}
    for rom in chosen:
        block = rom_block(rom)
        files[f"vectors/{rom.name}.mem"] = vector_lines([*block.inputs.values(), *block.outputs.values()])
    files["bench/check.sv"] = CHECK.read_bytes()
    files["bench/tb_rf8.sv"] = bench_source([rom_block(rom) for rom in chosen]).encode()
    files["bench/tb_roms.vhd"] = rom_bench(chosen).encode()
    for path, data in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)


def run(folder, *commands):
    """Run commands until one fails; return the last status and what was printed."""
    printed = ""
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True)
        printed += done.stdout + done.stderr
        if done.returncode:
            break
    return done.returncode, printed


def icarus(folder):
    build = "iverilog -g2012 -Wall -s tb_rf8 -o sim rom/*.sv bench/check.sv bench/tb_rf8.sv"
    return run(folder, build, "vvp -n sim")


def ghdl(folder):
    return run(
        folder, "ghdl -a --std=08 rom/*.vhd bench/tb_roms.vhd", "ghdl -e --std=08 tb_roms",
        "ulimit -s 65536; ghdl -r --std=08 tb_roms",
    )  # fmt: skip


def counts(printed):
    return {
        name: (int(count), int(wrong))
        for name, count, wrong in re.findall(r"(\w+): (\d+) vectors, (\d+) wrong", printed)
    }


def assert_right(simulate, folder, names):
    chosen = decoders(names)
    lay_out(folder, chosen)
    status, printed = simulate(folder)
    assert status == 0, printed[-2000:]
    assert counts(printed) == {rom.name: (len(rom.words), 0) for rom in chosen}


@has_icarus
def test_every_code_of_every_byte_format_in_icarus(tmp_path):
    assert_right(icarus, tmp_path, [BIT, *rf8sim.format_names(), "posit(12,1)"])


@has_ghdl
def test_every_code_of_some_formats_in_ghdl(tmp_path):
    assert_right(ghdl, tmp_path, [BIT, *SOME])


@pytest.mark.slow
@has_icarus
def test_every_code_of_wide_formats_in_icarus(tmp_path):
    assert_right(icarus, tmp_path, [*WIDE, *OTHERS])


@pytest.mark.slow
@has_ghdl
def test_every_code_of_wide_formats_in_ghdl(tmp_path):
    assert_right(ghdl, tmp_path, [*rf8sim.format_names(), *WIDE, *OTHERS])


@pytest.mark.parametrize("name", [BIT, *SOME, "float16", "bfloat16", "posit16", "takum16", "int16"], ids=str)
def test_the_vectors_are_the_values(name):
    """Outputs put together as the comment in a source says give the value of each code."""
    fmt = rf8sim.get_format(name)
    for rom in roms(fmt):
        block = rom_block(rom)
        ports = {port: signal.patterns.astype(np.int64) for port, signal in block.outputs.items()}
        if "magnitude" in ports:
            values = np.ldexp(ports["magnitude"].astype(np.float64), -fixed_table(fmt).fraction)
        else:
            bits = block.outputs["exponent"].bits
            exponents = (ports["exponent"] ^ (1 << (bits - 1))) - (1 << (bits - 1))
            top = block.outputs["significand"].bits - 1
            assert np.all((ports["significand"] >> top == 1) | (ports["significand"] == 0))
            values = np.ldexp(ports["significand"].astype(np.float64), exponents - top)
        values = np.where(ports["infinite"] == 1, np.inf, values) * np.where(ports["sign"] == 1, -1.0, 1.0)
        values = np.where(ports["nan"] == 1, np.nan, values)
        np.testing.assert_array_equal(values, fmt.values)
        np.testing.assert_array_equal(np.signbit(values), np.signbit(fmt.values) & ~np.isnan(fmt.values))


def test_which_decoders_there_are():
    """Fixed point up to 64 bits: float16, int16, posits of one exponent bit; not bfloat16, which takes 261 bits."""
    there = {name: [rom.name.rpartition("_")[2] for rom in roms(name)] for name in ("rf8", *WIDE)}
    assert {name for name, kinds in there.items() if kinds == ["fixed", "fields"]} == {
        "rf8", "float16", "binary16p11se", "int16", "uint16", "posit16_es1",
    }  # fmt: skip
    assert all("fields" in kinds for kinds in there.values())
    widths = {name: {port: width for rom in roms(name) for port, width in rom.ports.items()} for name in there}
    assert widths["float16"] == {"magnitude": 40, "exponent": 6, "significand": 11}
    assert widths["bfloat16"] == {"exponent": 9, "significand": 8}
    assert widths["posit16_es2"] == {"exponent": 7, "significand": 12}


@has_icarus
@has_ghdl
@pytest.mark.parametrize("name", ["rf8", "posit(9,1)"])
def test_one_wrong_bit_is_seen(tmp_path, name):
    """In the table of a source, and in a memory file."""
    chosen = decoders([name])
    lay_out(tmp_path, chosen)
    rom = chosen[0]
    if rom.in_file:
        lines = rom_memory(rom).splitlines()
        lines[7] = f"{rom.words[7] ^ 1:0{len(lines[7])}x}"
        (tmp_path / "rom" / f"{rom.name}.mem").write_text("\n".join(lines) + "\n")
    else:
        word = rom.words[7]
        for suffix, old, new in (
            ("sv", f"8'h07: word = 23'h{word:06x}", f"8'h07: word = 23'h{word ^ 1:06x}"),
            ("vhd", f'    7 => "{word:023b}"', f'    7 => "{word ^ 1:023b}"'),
        ):
            path = tmp_path / "rom" / f"{rom.name}.{suffix}"
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new, 1))
    for simulate in (icarus, ghdl):
        status, printed = simulate(tmp_path)
        assert status != 0
        assert counts(printed)[rom.name] == (len(rom.words), 1)


@has_ghdl
def test_missing_vectors_are_seen(tmp_path):
    lay_out(tmp_path, decoders(["int4"]))
    path = tmp_path / "vectors" / "int4_fields.mem"
    path.write_text(path.read_text().partition("\n")[2])
    status, printed = ghdl(tmp_path)
    assert status != 0
    assert "int4_fields: the vectors are not complete" in printed


@has_verilator
@has_yosys
def test_decoders_have_no_warning_and_synthesize(tmp_path):
    chosen = decoders([BIT, "rf8", "posit(9,1)"])
    lay_out(tmp_path, chosen)
    for rom in chosen:
        assert run(tmp_path, f"verilator --lint-only -Wall rom/{rom.name}.sv") == (0, "")
        synthesis = f"read_verilog -sv rom/{rom.name}.sv; synth -flatten -top {rom.name}; check -assert"
        status, printed = run(tmp_path, f"yosys -p '{synthesis}; select -assert-none t:$_DLATCH* t:$dlatch*'")
        assert status == 0, printed[-2000:]


@has_icarus
@has_ghdl
def test_packages_of_wide_formats_name_codes(tmp_path):
    names = ("float16", "bfloat16", "posit(9,1)")
    for name in names:
        (tmp_path / f"{rf8sim.get_format(name).bits}_{name}.vhd").write_text(vhdl_package(name))
    status, printed = run(tmp_path, "ghdl -a --std=08 *.vhd")
    assert (status, printed) == (0, "")
    (tmp_path / "float16_pkg.sv").write_text(systemverilog_package("float16"))
    (tmp_path / "top.sv").write_text(
        'module top; initial $display("%h %h %0d", float16_pkg::INFINITY, float16_pkg::LARGEST, float16_pkg::FRACTION);'
        "\nendmodule\n"
    )
    assert run(tmp_path, "iverilog -g2012 -Wall -o top *.sv", "vvp -n top") == (0, "7c00 7bff 24\n")
    assert "FRACTION" not in systemverilog_package("bfloat16") + vhdl_package("bfloat16")
