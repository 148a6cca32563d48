"""The C functions as SystemVerilog calls them through DPI, in Verilator, against the library."""

import shutil
import subprocess

import numpy as np
import pytest

import rf8sim
from rf8sim import Rounding
from rf8sim.hardware.golden.golden import golden
from rf8sim.hardware.sources.c_dpi import c_dpi, dpi_package
from rf8sim.hardware.sources.c_header import c_header
from rf8sim.hardware.sources.packages import identifier

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("verilator", "g++", "make")), reason="needs Verilator (verilator)"
    ),
]

# Prints decoded bits, products, codes of float64 and fixed-point numbers, a line each; then the other operations.
BENCH = """
module top;
  import NAME_dpi_pkg::*;
  longint unsigned numbers[COUNT];
  int file;
  initial begin
    $readmemh("numbers.mem", numbers);
    file = $fopen("answers.txt", "w");
    for (int code = 0; code < CODES; code++) $fdisplay(file, "%h", $realtobits(NAME_dpi_decode(TYPE'(code))));
    for (int pair = 0; pair < PAIRS; pair++)
      $fdisplay(file, "%h", NAME_dpi_multiply(
          TYPE'(numbers[pair] >> 8), TYPE'(numbers[pair] >> 32), MULTIPLY_MODE, MULTIPLY_OVERFLOW));
    for (int place = 0; place < COUNT; place++)
      $fdisplay(file, "%h", NAME_dpi_encode($bitstoreal(numbers[place]), ENCODE_MODE, ENCODE_OVERFLOW));
    for (int place = 0; place < COUNT; place++)
      $fdisplay(file, "%h", NAME_dpi_encode_fixed($signed(numbers[place]) >>> 12, 32, ENCODE_MODE, ENCODE_OVERFLOW));
    for (int place = 0; place < COUNT; place++) begin
      code_t a, b, c;
      code_t lanes_a[], lanes_b[];
      a = TYPE'(numbers[place] >> 8);
      b = TYPE'(numbers[place] >> 32);
      c = TYPE'(numbers[place] >> 20);
      lanes_a = '{a, b, c};
      lanes_b = '{b, b, a};
      $fdisplay(file, "%h %h %h %h %h %h", NAME_dpi_add(a, b, MULTIPLY_MODE, MULTIPLY_OVERFLOW),
          NAME_dpi_subtract(a, b, MULTIPLY_MODE, MULTIPLY_OVERFLOW),
          NAME_dpi_divide(a, b, MULTIPLY_MODE, MULTIPLY_OVERFLOW),
          NAME_dpi_fma(a, b, c, MULTIPLY_MODE, MULTIPLY_OVERFLOW),
          NAME_dpi_dot(lanes_a, lanes_b, MULTIPLY_MODE, MULTIPLY_OVERFLOW),
          NAME_dpi_encode_stochastic($bitstoreal(numbers[place]), 32'(numbers[place]), 12, PREFIX_STOCHASTIC_A,
              ENCODE_OVERFLOW));
    end
    $fclose(file);
    $finish;
  end
endmodule
"""


def numbers(count):
    """Return patterns of float64 numbers about the range of 8-bit and 16-bit floats, none NaN."""
    words = np.random.default_rng(3).integers(0, 1 << 64, count, np.uint64)
    exponents = words % np.uint64(60) + np.uint64(993)
    return words >> np.uint64(63) << np.uint64(63) | exponents << np.uint64(52) | words >> np.uint64(12)


def answers(folder, name, encode, multiply, header=None):
    """Build the bench with Verilator, run it, and return what it printed."""
    fmt = rf8sim.get_format(name)
    prefix, count = identifier(fmt), 4000
    patterns = numbers(count)
    (folder / f"{prefix}.h").write_text(header or c_header(fmt))
    (folder / f"{prefix}_dpi.c").write_text(c_dpi(fmt))
    (folder / "package.sv").write_text(dpi_package(fmt))
    (folder / "numbers.mem").write_text("".join(f"{pattern:016x}\n" for pattern in patterns.tolist()))
    text = BENCH
    for role, how in (("ENCODE", encode), ("MULTIPLY", multiply)):
        mode = f"{prefix}_{how.mode}".upper().replace("-", "_")
        text = text.replace(f"{role}_MODE", mode).replace(
            f"{role}_OVERFLOW", f"{prefix}_overflow_{how.overflow}".upper()
        )
    code = "byte unsigned" if fmt.bits <= 8 else "shortint unsigned"
    text = text.replace("TYPE'", "code_t'").replace("module top;", f"module top;\n  typedef {code} code_t;")
    text = (
        text.replace("NAME", prefix)
        .replace("PREFIX", prefix.upper())
        .replace("COUNT", str(count))
        .replace("PAIRS", str(count))
    )
    (folder / "top.sv").write_text(text.replace("CODES", str(fmt.values.size)))
    command = ["verilator", "--cc", "--exe", "--build", "--main", "--no-timing", "-O0", "--top-module", "top"]
    command += ["-CFLAGS", f"-I{folder} -O0", "package.sv", "top.sv", f"{prefix}_dpi.c"]
    build = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    run = subprocess.run([folder / "obj_dir" / "Vtop"], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return (folder / "answers.txt").read_text().split()


def expected(name, encode, multiply):
    fmt = rf8sim.get_format(name)
    patterns = numbers(4000)
    a, b = ((patterns >> np.uint64(shift)).astype(fmt.code_dtype) for shift in (8, 32))
    fixed = np.ldexp((patterns.view(np.int64) >> np.int64(12)).astype(np.float64), -32)
    codes = [
        rf8sim.multiply(a, b, fmt, rounding=multiply),
        rf8sim.encode(patterns.view(np.float64), fmt, rounding=encode),
    ]
    codes.append(rf8sim.encode(fixed, fmt, rounding=encode))
    c = (patterns >> np.uint64(20)).astype(fmt.code_dtype)
    drawn = Rounding("stochastic", encode.overflow, words=patterns.astype(np.uint32), bits=12)
    others = [
        rf8sim.add(a, b, fmt, rounding=multiply),
        rf8sim.subtract(a, b, fmt, rounding=multiply),
        rf8sim.divide(a, b, fmt, rounding=multiply),
        rf8sim.fma(a, b, c, fmt, rounding=multiply),
        golden("dot:3", fmt, rounding=multiply).compute((np.stack([a, b, c], 1), np.stack([b, b, a], 1)))[0].results,
        rf8sim.encode(patterns.view(np.float64), fmt, rounding=drawn),
    ]
    codes.append(np.stack(others, axis=1).ravel())
    digits = 2 if fmt.bits <= 8 else 4
    decoded = [f"{bits:016x}" for bits in fmt.values.view(np.uint64).tolist()]
    return decoded, [f"{code:0{digits}x}" for part in codes for code in part.tolist()]


CASES = [
    ("rf8", Rounding("residual", "nan"), Rounding("nearest-even")),
    ("float16", Rounding("toward-zero", "infinity"), Rounding("nearest-even", "infinity")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "encode", "multiply"), CASES)
def test_answers_through_dpi_are_the_librarys(tmp_path, name, encode, multiply):
    got = answers(tmp_path, name, encode, multiply)
    decoded, codes = expected(name, encode, multiply)
    nan = np.isnan(rf8sim.get_format(name).values)
    assert [row for row, skip in zip(got, nan, strict=False) if not skip] == [
        row for row, skip in zip(decoded, nan, strict=True) if not skip
    ]
    wrong = [place for place, (x, y) in enumerate(zip(got[nan.size :], codes, strict=True)) if x != y]
    assert wrong == []


@pytest.mark.slow
def test_a_wrong_value_in_the_header_is_seen(tmp_path):
    name, encode, multiply = CASES[0]
    header = c_header(name)
    assert header.count(" 1.25,") >= 1
    got = answers(tmp_path, name, encode, multiply, header.replace(" 1.25,", " 1.26,", 1))
    decoded, codes = expected(name, encode, multiply)
    assert got[:256] != decoded or got[256:] != codes
