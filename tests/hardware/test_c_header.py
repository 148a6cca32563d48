"""The C headers, compiled with every warning an error and compared with the library: exhaustively where inputs end."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from oracle_helpers import overflows

import rf8sim
from rf8sim import reference
from rf8sim.hardware.sources.blocks import encoded_fixed, near_thresholds
from rf8sim.hardware.sources.c_dpi import c_dpi, dpi_package
from rf8sim.hardware.sources.c_header import c_header
from rf8sim.hardware.sources.packages import identifier

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]
FLAGS = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O2"]
LOOPS = """
#include "NAME.h"
void decode_all(double *out) { for (int i = 0; i < 256; i++) out[i] = NAME_decode((uint8_t)i); }
void canonical_all(uint8_t *out) { for (int i = 0; i < 256; i++) out[i] = NAME_canonical((uint8_t)i); }
void multiply_all(int n, int rounding, int overflow, uint8_t *out) {
    for (int i = 0; i < n * n; i++) out[i] = NAME_multiply((uint8_t)(i / n), (uint8_t)(i % n), rounding, overflow);
}
void encode_all(const double *x, int n, int rounding, int overflow, uint8_t *out) {
    for (int i = 0; i < n; i++) out[i] = NAME_encode(x[i], rounding, overflow);
}
void encode_floats(const float *x, int n, int rounding, int overflow, uint8_t *out) {
    for (int i = 0; i < n; i++) out[i] = NAME_encode(x[i], rounding, overflow);
}
void encode_fixed(const int64_t *x, int n, int fraction, int rounding, int overflow, uint8_t *out) {
    for (int i = 0; i < n; i++) out[i] = NAME_encode_fixed(x[i], fraction, rounding, overflow);
}
"""
NAMES = rf8sim.format_names()


def build(folder, fmt, header=None):
    """Compile the header into a library of loops; return it."""
    name = identifier(fmt)
    (folder / f"{name}.h").write_text(header or c_header(fmt))
    (folder / "loops.c").write_text(LOOPS.replace("NAME", name))
    command = ["gcc", *FLAGS, "-Wno-unused-function", "-shared", "-fPIC", "-o", folder / "loops.so", folder / "loops.c"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    return ctypes.CDLL(str(folder / "loops.so"))


def call(function, *arguments, size, dtype=np.uint8):
    out = np.empty(size, dtype)
    pointers = [a.ctypes.data_as(ctypes.c_void_p) if isinstance(a, np.ndarray) else a for a in (*arguments, out)]
    function(*pointers)
    return out


def modes(fmt):
    rounding = [mode for mode in rf8sim.RoundingMode if mode != "stochastic" and (mode != "residual" or fmt.depth)]
    overflow = [option for option in overflows(fmt) if fmt.signed or option != "ieee"]
    return [*enumerate(rounding)], [*enumerate(overflow)]


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_ends_is_the_librarys(tmp_path, name):
    fmt = rf8sim.get_format(name)
    library = build(tmp_path, fmt)
    codes = np.arange(fmt.values.size, dtype=np.uint8)
    decoded = call(library.decode_all, size=256, dtype=np.float64)[: codes.size]
    assert (
        decoded.view(np.uint64)[~np.isnan(decoded)].tolist()
        == fmt.values.view(np.uint64)[~np.isnan(fmt.values)].tolist()
    )
    assert np.array_equal(np.isnan(decoded), np.isnan(fmt.values))
    assert np.array_equal(call(library.canonical_all, size=256)[: codes.size], fmt.canonical)
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    if fmt.nan is None:
        halves = halves[~np.isnan(halves)]
    # 16-bit floats of both kinds, and float64 patterns of every kind
    patterns = np.random.default_rng(0).integers(0, 1 << 64, 20000, np.uint64)
    patterns[::2] = patterns[::2] >> np.uint64(12) | (patterns[::2] % np.uint64(80) + np.uint64(983)) << np.uint64(52)
    wide = patterns.view(np.float64)
    wide = np.concatenate([wide[~np.isnan(wide)], np.ldexp([1.0, -1.0, 5.0], -1074)])
    rounding, overflow = modes(fmt)
    for (r, mode), (o, option) in ((first, second) for first in rounding for second in overflow):
        if mode == "nearest-even" or (name == "rf8" and mode == "residual"):
            n = codes.size
            got = call(library.multiply_all, n, r, o, size=n * n).reshape(n, n)
            a, b = codes[:, None], codes[None, :]
            with np.errstate(invalid="ignore"):
                known = ~np.isnan(fmt.values[a] * fmt.values[b]) if fmt.nan is None else np.ones((n, n), np.bool_)
            products = np.where(known, rf8sim.multiply(a, b, fmt, rounding=rf8sim.Rounding(mode, option)), got)
            assert np.array_equal(got, products)
        for data, function in ((halves.astype(np.float32), library.encode_floats), (wide, library.encode_all)):
            got = call(function, data, data.size, r, o, size=data.size)
            assert np.array_equal(got, rf8sim.encode(data, fmt, rounding=rf8sim.Rounding(mode, option))), (mode, option)


@pytest.mark.parametrize("mode", ["nearest-even", "residual"])
@pytest.mark.parametrize("fraction", [20, 38, 61])
def test_fixed_point_of_64_bits_is_exact(tmp_path, mode, fraction):
    """Every threshold of RF8 and its neighbours in 63-bit magnitudes, which no double holds."""
    fmt = rf8sim.get_format("rf8")
    library = build(tmp_path, fmt)
    near = near_thresholds(mode, fraction, 63)
    wanted = encoded_fixed(near, fraction, mode)
    rounding = dict(map(reversed, modes(fmt)[0]))
    got = call(library.encode_fixed, near.view(np.int64), near.size, fraction, rounding[mode], 0, size=near.size)
    assert np.array_equal(got, wanted)
    got = call(library.encode_fixed, -near.view(np.int64), near.size, fraction, rounding[mode], 0, size=near.size)
    assert np.array_equal(got, np.where(wanted, wanted | 0x80, 0))
    lowest = np.array([-(1 << 63)], np.int64)
    got = call(library.encode_fixed, lowest, 1, 63, rounding[mode], 0, size=1)
    assert got[0] == reference.round_value(-1.0, "rf8", mode)


def test_a_wrong_threshold_is_seen(tmp_path):
    """Negative control: one place in the 64th bit of one residual threshold."""
    header = c_header("rf8")
    fmt = rf8sim.get_format("rf8")
    place = header.index("residual */")
    start = header.rindex("{0, 0x", 0, place)
    number = header[start + 4 : header.index("u", start)]
    changed = header[:start] + header[start:].replace(number, hex(int(number, 16) + 4), 1)
    near = near_thresholds("residual", 61, 63)
    residual = dict(map(reversed, modes(fmt)[0]))["residual"]
    answers = []
    for version in (header, changed):
        folder = tmp_path / f"{len(answers)}"
        folder.mkdir()
        encode = build(folder, fmt, version).encode_fixed
        answers.append(call(encode, -near.view(np.int64), near.size, 61, residual, 1, size=near.size))
    assert np.count_nonzero(answers[0] != answers[1]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_functions_for_dpi_compile(tmp_path, name):
    fmt = rf8sim.get_format(name)
    prefix = identifier(fmt)
    (tmp_path / f"{prefix}.h").write_text(c_header(fmt))
    (tmp_path / "dpi.c").write_text(c_dpi(fmt))
    command = ["gcc", *FLAGS, "-shared", "-fPIC", "-o", tmp_path / "dpi.so", tmp_path / "dpi.c"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    library = ctypes.CDLL(str(tmp_path / "dpi.so"))
    assert 'extern "C" {' in c_dpi(fmt)  # Verilator compiles it as C++
    functions = (
        "decode",
        "encode",
        "encode_fixed",
        "encode_stochastic",
        "add",
        "subtract",
        "multiply",
        "divide",
        "fma",
    )
    for function in (*functions, "accumulate", "round_sum"):
        assert f"{prefix}_dpi_{function}(" in dpi_package(fmt)
        assert getattr(library, f"{prefix}_dpi_{function}")
