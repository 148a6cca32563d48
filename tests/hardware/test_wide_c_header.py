"""C headers of formats of 9 to 16 bits, compiled with every warning an error and compared with the library."""

import ctypes
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest
import test_c_header
from oracle_helpers import overflows
from test_c_header import FLAGS, LOOPS, call

import rf8sim
from rf8sim import Rounding, RoundingMode, reference
from rf8sim.codec.boundaries import place
from rf8sim.formats import get_format
from rf8sim.hardware.sources.c_dpi import c_dpi, dpi_package
from rf8sim.hardware.sources.c_header import c_header
from rf8sim.hardware.sources.packages import identifier

pytestmark = test_c_header.pytestmark
FORMATS = ("float16", "bfloat16", "posit16_es2", "int(12)", "uint16", "takum16", "minifloat(4,5)", "rf(5,8)")
SLOW = ("dlfloat16", "binary16p11se", "takum_linear16", "posit16_es1", "uint(9)", "int16")
WIDE = [*FORMATS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def build(folder, fmt, header=None):
    name = identifier(fmt)
    (folder / f"{name}.h").write_text(header or c_header(fmt))
    loops = LOOPS.replace("uint8_t", "uint16_t").replace("256", "65536").replace("NAME", name)
    (folder / "loops.c").write_text(loops)
    command = ["gcc", *FLAGS, "-Wno-unused-function", "-shared", "-fPIC", "-o", folder / "loops.so", folder / "loops.c"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    return ctypes.CDLL(str(folder / "loops.so"))


def codes_of(function, *arguments, size):
    return call(function, *arguments, size=size, dtype=np.uint16)


def choices(fmt):
    """Numbers and names of the header's rounding modes and overflow options."""
    rounding = [mode for mode in RoundingMode if mode != "stochastic" and (mode != "residual" or fmt.depth)]
    overflow = [option for option in overflows(fmt) if fmt.signed or option != "ieee"]
    return [*enumerate(rounding)], [*enumerate(overflow)]


def near_thresholds(fmt, mode):
    """About every threshold of a mode, and three float64 numbers to either side, of both signs."""
    points = np.concatenate([place(fmt, mode, negative).nearest for negative in (False, True)[: 1 + fmt.signed]])
    below, above = np.nextafter(points, -np.inf), np.nextafter(points, np.inf)
    near = np.concatenate([points, below, above, np.nextafter(above, np.inf)])
    return np.concatenate([near, -near])


@pytest.mark.parametrize("name", WIDE)
def test_all_codes_and_thresholds_are_the_librarys(tmp_path, name):
    fmt = get_format(name)
    library = build(tmp_path, fmt)
    size = fmt.values.size
    decoded = call(library.decode_all, size=1 << 16, dtype=np.float64)
    number = ~np.isnan(fmt.values)
    np.testing.assert_array_equal(np.isnan(decoded[:size]), ~number)
    np.testing.assert_array_equal(decoded[:size][number].view(np.uint64), fmt.values[number].view(np.uint64))
    np.testing.assert_array_equal(decoded.view(np.uint64), np.resize(decoded[:size], 1 << 16).view(np.uint64))
    np.testing.assert_array_equal(codes_of(library.canonical_all, size=1 << 16)[:size], fmt.canonical)
    patterns = np.random.default_rng(0).integers(0, 1 << 64, 40000, np.uint64)
    patterns[::2] = patterns[::2] >> np.uint64(12) | (patterns[::2] % np.uint64(80) + np.uint64(983)) << np.uint64(52)
    wide = patterns.view(np.float64)
    wide = np.concatenate(
        [wide[~np.isnan(wide)], [np.inf, -np.inf, 0.0, -0.0, 1e308, -1e308], np.ldexp([1.0, -5], -1074)]
    )
    single = np.random.default_rng(1).integers(0, 1 << 32, 40000, np.uint32).view(np.float32)
    if fmt.nan is None:
        single = single[~np.isnan(single)]
    rounding, overflow = choices(fmt)
    for r, mode in rounding:
        near = np.concatenate([near_thresholds(fmt, mode), wide])
        for o, option in overflow:
            wanted = rf8sim.encode(near, fmt, rounding=Rounding(mode, option))
            got = codes_of(library.encode_all, near, near.size, r, o, size=near.size)
            np.testing.assert_array_equal(got, wanted, err_msg=f"{mode} {option}")
            got = codes_of(library.encode_floats, single, single.size, r, o, size=single.size)
            np.testing.assert_array_equal(got, rf8sim.encode(single, fmt, rounding=Rounding(mode, option)))
        # Every value comes back.
        values = np.ascontiguousarray(fmt.values[np.isfinite(fmt.values)])
        back = codes_of(library.encode_all, values, values.size, r, 0, size=values.size)
        np.testing.assert_array_equal(back, fmt.canonical[np.isfinite(fmt.values)])


@pytest.mark.parametrize("name", ["float16", "bfloat16", "posit16_es2", "int(12)"])
def test_products_are_the_librarys(tmp_path, name):
    fmt = get_format(name)
    loop = """
void multiply_some(const uint16_t *a, const uint16_t *b, int n, int rounding, int overflow, uint16_t *out) {
    for (int i = 0; i < n; i++) out[i] = NAME_multiply(a[i], b[i], rounding, overflow);
}
""".replace("NAME", identifier(fmt))
    library = build(tmp_path, fmt, c_header(fmt).replace("\n#endif\n", loop + "\n#endif\n"))
    a, b = np.random.default_rng(2).integers(0, fmt.values.size, (2, 100_000), np.uint16)
    rounding, overflow = choices(fmt)
    for r, mode in rounding:
        for o, option in overflow:
            got = codes_of(library.multiply_some, a, b, a.size, r, o, size=a.size)
            np.testing.assert_array_equal(got, rf8sim.multiply(a, b, fmt, rounding=Rounding(mode, option)))


@pytest.mark.parametrize("name", ["float16", "posit16_es2", "uint16"])
def test_fixed_point_of_64_bits_is_exact(tmp_path, name):
    """Thresholds and their neighbours in 63-bit magnitudes, which no double holds, against the oracle."""
    fmt = get_format(name)
    library = build(tmp_path, fmt)
    rounding, _ = choices(fmt)
    for fraction in (44, 60):
        for r, mode in rounding:
            points = place(fmt, mode, False).point
            points = points[(points > 2.0**-fraction) & (points < 2.0 ** (62 - fraction))][::311]
            base = np.array([int(Fraction(point) * 2**fraction) for point in points.tolist()], np.int64)
            numbers = np.concatenate([base - 1, base, base + 1, -base, 1 - base, -1 - base])
            got = codes_of(library.encode_fixed, numbers, numbers.size, fraction, r, 0, size=numbers.size)
            wanted = [
                reference.round_value(Fraction(number, 1 << fraction) if number else 0.0, fmt, mode)
                for number in numbers.tolist()
            ]
            assert got.tolist() == wanted, (mode, fraction)


def test_the_size_in_the_comment_is_that_of_the_tables(tmp_path):
    for name in ("float16", "bfloat16", "posit16_es2"):
        header = c_header(name)
        (tmp_path / "size.c").write_text(header + "int main(void) { return 0; }\n")
        command = ["gcc", "-c", "-fkeep-static-consts", "-o", tmp_path / "size.o", tmp_path / "size.c"]
        subprocess.run(command, check=True, capture_output=True)
        stated = int(header.split("The tables take ")[1].split(" KiB")[0])
        kept = subprocess.run(["size", "-A", tmp_path / "size.o"], check=True, capture_output=True, text=True).stdout
        data = sum(int(line.split()[1]) for line in kept.splitlines() if line.startswith(".rodata"))
        assert stated * 1024 <= data + 1024
        assert data < stated * 1024 + 4096


@pytest.mark.parametrize("name", ["float16", "int(12)", "rf(5,8)"])
def test_the_functions_for_dpi_compile(tmp_path, name):
    fmt = get_format(name)
    prefix = identifier(fmt)
    (tmp_path / f"{prefix}.h").write_text(c_header(fmt))
    (tmp_path / "dpi.c").write_text(c_dpi(fmt))
    command = ["gcc", *FLAGS, "-shared", "-fPIC", "-o", tmp_path / "dpi.so", tmp_path / "dpi.c"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    library = ctypes.CDLL(str(tmp_path / "dpi.so"))
    encode = library[f"{prefix}_dpi_encode"]
    encode.argtypes, encode.restype = [ctypes.c_double, ctypes.c_int, ctypes.c_int], ctypes.c_ushort
    assert encode(-1.0, 0, 0) == rf8sim.encode([-1.0], fmt)[0]
    assert f'import "DPI-C" function shortint unsigned {prefix}_dpi_encode(input real x' in dpi_package(fmt)


def test_it_is_c_plus_plus_too(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    (tmp_path / "float16.h").write_text(c_header("float16"))
    (tmp_path / "dpi.cpp").write_text(c_dpi("float16"))
    run = subprocess.run(["g++", "-c", "-o", tmp_path / "dpi.o", tmp_path / "dpi.cpp"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
