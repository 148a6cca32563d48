"""The VHDL packages, analysed by GHDL, and their tables against the vectors of the folder."""

import shutil
import subprocess

import pytest

import rf8sim
from rf8sim.hardware.sources.packages import code_lines, identifier, vhdl_package, vhdl_testbench

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("ghdl") is None, reason="needs GHDL (ghdl)"),
]


def run(folder, fmt, package, lines):
    """Analyse, elaborate and run the testbench; return the exit status and the output."""
    name = identifier(fmt)
    (folder / "vectors").mkdir(exist_ok=True)
    (folder / f"{name}_pkg.vhd").write_text(package)
    (folder / "tb.vhd").write_text(vhdl_testbench(fmt))
    (folder / "vectors" / f"{name}_codes.txt").write_text(lines)
    for step in (["-a", "--std=08", f"{name}_pkg.vhd", "tb.vhd"], ["-e", "--std=08", f"tb_{name}_pkg"],
                 ["-r", "--std=08", f"tb_{name}_pkg"]):  # fmt: skip
        done = subprocess.run(["ghdl", *step], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            break
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", rf8sim.format_names())
def test_the_package_is_the_format(tmp_path, name):
    fmt = rf8sim.get_format(name)
    status, printed = run(tmp_path, fmt, vhdl_package(fmt), code_lines(fmt))
    assert status == 0, printed
    assert "PASSED" in printed


def test_the_vectors_are_the_format():
    """What the testbench compares with, read back, is the values of the format."""
    for name in rf8sim.format_names():
        fmt = rf8sim.get_format(name)
        rows = [line.split() for line in code_lines(fmt).splitlines()]
        unit = min(abs(float(v)) / int(row[3], 2) for v, row in zip(fmt.values, rows, strict=True) if int(row[3], 2))
        for code, (text, flags, canonical, magnitude) in enumerate(rows):
            value = fmt.values[code]
            assert int(text, 2) == code
            assert int(canonical, 2) == fmt.canonical[code]
            assert flags[1:] == f"{value != value:d}{abs(value) == float('inf'):d}"
            if value == value and abs(value) != float("inf"):
                assert (-1 if flags[0] == "1" else 1) * int(magnitude, 2) * unit == value


def test_a_wrong_table_and_missing_vectors_are_seen(tmp_path):
    fmt = rf8sim.get_format("rf8")
    package = vhdl_package(fmt)
    assert package.count('x"80000"') == 2
    status, printed = run(tmp_path, fmt, package.replace('x"80000"', 'x"80001"', 1), code_lines(fmt))
    assert status != 0
    assert "code 123 differs" in printed
    assert "PASSED" not in printed
    status, printed = run(tmp_path, fmt, package, code_lines(fmt).split("\n", 1)[1])
    assert status != 0
    assert "not complete" in printed
