"""Arithmetic of the C headers against the library: all pairs of codes, all triples of narrow formats, dot products."""

import ctypes
import subprocess
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
import test_c_header
from test_c_header import FLAGS, call, modes

import rf8sim
from rf8sim import Rounding, reference
from rf8sim.codec.boundaries import boundaries
from rf8sim.hardware.sources.c_header import c_header
from rf8sim.hardware.sources.packages import identifier
from rf8sim.hardware.vectors.vectors import vectors

pytestmark = test_c_header.pytestmark
LOOPS = """
#include "NAME.h"
#define PAIRS(function) \\
void function##_pairs(const TYPE *a, const TYPE *b, int n, int rounding, int overflow, TYPE *out) { \\
    for (int i = 0; i < n; i++) out[i] = NAME_##function(a[i], b[i], rounding, overflow); \\
}
PAIRS(add) PAIRS(subtract) PAIRS(multiply) PAIRS(divide)
void fmas(const TYPE *a, const TYPE *b, const TYPE *c, int n, int rounding, int overflow, TYPE *out) {
    for (int i = 0; i < n; i++) out[i] = NAME_fma(a[i], b[i], c[i], rounding, overflow);
}
void dots(const TYPE *a, const TYPE *b, int n, int lanes, int rounding, int overflow, TYPE *out) {
    for (int i = 0; i < n; i++) out[i] = NAME_dot(a + i * lanes, b + i * lanes, lanes, rounding, overflow);
}
void draws(const double *x, const uint32_t *words, int n, int bits, int variant, int overflow, TYPE *out) {
    for (int i = 0; i < n; i++) out[i] = NAME_encode_stochastic(x[i], words[i], bits, variant, overflow);
}
"""
OPERATIONS = ("add", "subtract", "multiply", "divide")
SANITIZED = ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"]


def slow(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def build(folder, fmt, header=None, flags=()):
    """Compile the header into a library of loops; return it."""
    name = identifier(fmt)
    (folder / f"{name}.h").write_text(header or c_header(fmt))
    loops = LOOPS.replace("NAME", name).replace("TYPE", f"uint{8 * fmt.code_dtype.itemsize}_t")
    (folder / "loops.c").write_text(loops)
    command = ["gcc", *FLAGS, "-Wno-unused-function", *flags, "-shared", "-fPIC", "-o", "loops.so", "loops.c"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    return ctypes.CDLL(str(folder / "loops.so"))


def roundings(fmt):
    """Yield the header's numbers of each rounding mode and overflow option, and the rounding."""
    rounding, overflow = modes(fmt)
    for r, mode in rounding:
        for o, option in overflow:
            yield r, o, Rounding(mode, option)


def with_answers(operation, columns, fmt):
    """Return which operands do not give NaN in a format without it."""
    if fmt.nan is not None:
        return np.ones(columns[0].shape, np.bool_)
    wide = [fmt.values[column] for column in columns]
    with np.errstate(all="ignore"):
        if operation == "divide":
            return ~np.isnan(wide[0] / wide[1]) & (wide[1] != 0)
        if operation == "multiply":
            return ~np.isnan(wide[0] * wide[1])
        if operation == "subtract":
            return ~np.isnan(wide[0] - wide[1])
        return ~np.isnan(wide[0] * (wide[1] if len(wide) == 3 else 1) + wide[-1])


def check(got, wanted, columns, message):
    wrong = np.flatnonzero(got != wanted)
    assert wrong.size == 0, (message, wrong.size, [column[wrong[0]] for column in columns],
                             hex(got[wrong[0]]), hex(wanted[wrong[0]]))  # fmt: skip


def check_pairs(library, fmt, columns, chosen):
    for operation in OPERATIONS:
        a, b = (np.ascontiguousarray(x[with_answers(operation, columns, fmt)]) for x in columns)
        for r, o, rounding in chosen:
            got = call(library[f"{operation}_pairs"], a, b, a.size, r, o, size=a.size, dtype=fmt.code_dtype)
            check(got, getattr(rf8sim, operation)(a, b, fmt, rounding=rounding), (a, b), (operation, rounding))


def check_fma(library, fmt, columns, chosen):
    columns = [np.ascontiguousarray(x[with_answers("fma", columns, fmt)]) for x in columns]
    size = columns[0].size
    for r, o, rounding in chosen:
        got = call(library.fmas, *columns, size, r, o, size=size, dtype=fmt.code_dtype)
        check(got, rf8sim.fma(*columns, fmt, rounding=rounding), columns, rounding)


def every(fmt, operands):
    codes = np.arange(fmt.values.size, dtype=fmt.code_dtype)
    return [np.ascontiguousarray(x.ravel()) for x in np.meshgrid(*[codes] * operands, indexing="ij")]


def check_every_pair(library, fmt):
    check_pairs(library, fmt, every(fmt, 2), roundings(fmt))


PAIRS = ("rf8", "e5m2", "uint8", "takum(8)")
REST = [name for name in (*rf8sim.format_names(), "rf(5,2)") if name not in PAIRS]


@pytest.mark.parametrize("name", [*PAIRS, *slow(*REST)])
def test_all_pairs_are_the_librarys(tmp_path, name):
    fmt = rf8sim.get_format(name)
    check_every_pair(build(tmp_path, fmt, flags=SANITIZED), fmt)


@pytest.mark.parametrize("name", slow("float16", "bfloat16", "posit16_es2", "rf(5,8)"))
def test_pairs_of_wide_codes_are_the_librarys(tmp_path, name):
    """Random pairs, and pairs near each other, whose sums cancel."""
    fmt = rf8sim.get_format(name)
    a, b = np.random.default_rng(5).integers(0, fmt.values.size, (2, 3000), fmt.code_dtype)
    near = (a ^ (b & 7) ^ fmt.values.size // 2).astype(fmt.code_dtype)
    columns = np.concatenate([a, a]), np.concatenate([b, near])
    check_pairs(build(tmp_path, fmt, flags=SANITIZED), fmt, columns, list(roundings(fmt))[::3])


@pytest.mark.parametrize("name", ["e2m1fn", *slow("int4", "nf4", "uint4", "rf6", "e2m3fn", "e3m2fn")])
def test_all_triples_are_the_librarys(tmp_path, name):
    fmt = rf8sim.get_format(name)
    check_fma(build(tmp_path, fmt, flags=SANITIZED), fmt, every(fmt, 3), roundings(fmt))


def check_structured(library, fmt):
    """Compare fma and dot products with vectors, structured and random, in a mode of each kind."""
    chosen = {rounding.mode: (r, o, rounding) for r, o, rounding in roundings(fmt)}
    for mode in ("nearest-even", "down", "residual" if fmt.depth else "to-odd"):
        r, o, rounding = chosen[mode]
        for operation in ("fma", "dot:3", "dot:16"):
            asked = vectors(operation, fmt, rounding=rounding, n=2000)
            columns = [np.ascontiguousarray(column) for column in asked.operands]
            size = len(asked)
            if operation == "fma":
                got = call(library.fmas, *columns, size, r, o, size=size, dtype=fmt.code_dtype)
            else:
                lanes = columns[0].shape[1]
                got = call(library.dots, *columns, size, lanes, r, o, size=size, dtype=fmt.code_dtype)
            check(got, asked.results, columns, (operation, rounding))


@pytest.mark.parametrize("name", ["e5m2", *slow("rf8", "e4m3fn", "posit8_es2", "rf(5,2)")])
def test_vectors_of_fma_and_dot_are_answered(tmp_path, name):
    fmt = rf8sim.get_format(name)
    check_structured(build(tmp_path, fmt, flags=SANITIZED), fmt)


@lru_cache
def products(fmt):
    """Return the codes of two factors by their product, where both are powers of two."""
    powers = {value: code for code, value in enumerate(fmt.values.tolist()) if abs(np.frexp(value)[0]) == 0.5}
    return {a * b: (powers[a], powers[b]) for a in powers for b in powers}


def products_of(number, more, fmt, unit):
    """Return codes whose products add up to ``(number + more) * 2**unit``; None if that takes too many."""
    pairs = [products(fmt)[more * 2.0**unit]] if more else []
    for place in range(number.bit_length()):
        if number >> place & 1:
            wanted, lanes = 2.0 ** (place + unit), 1
            while wanted not in products(fmt) and lanes < 8:
                wanted, lanes = wanted / 2, lanes * 2
            if wanted not in products(fmt):
                return None
            pairs += [products(fmt)[wanted]] * lanes
    return np.ascontiguousarray(np.array(pairs, fmt.code_dtype).T)


MAGNITUDES = np.array([0.0, 2.0**-125, 2.0**-40, 2.0**45, 2.0**84])
CODES = np.concatenate([MAGNITUDES, [2.0**85, 2.0**86, 2.0**87], -MAGNITUDES, [-(2.0**85), -(2.0**86), -(2.0**87)]])
FAR = rf8sim.Format("far", 4, "user", "values far apart", CODES, beyond=2.0**88)
RESIDUAL = rf8sim.get_format("rf(6,2)")


def check_next_to_thresholds(library, fmt):
    """Compare the last sum below a threshold and the first one that goes up, in every mode, with the oracle."""
    unit, asked = -250 if fmt is FAR else -126, 0
    for r, mode in modes(fmt)[0]:
        for boundary in boundaries(fmt, rf8sim.RoundingMode(mode), False)[:: 1 if fmt is FAR else 9]:
            first = boundary.ceiling(unit)
            for more in (-1, 0, 1):
                lanes = products_of(first, more, fmt, unit) if first + more else None
                if lanes is None:
                    continue
                a, b = lanes
                got = call(library.dots, a, b, 1, a.size, r, 0, size=1, dtype=fmt.code_dtype)
                wanted = reference.round_value(Fraction(first + more) * Fraction(2) ** unit, fmt, mode)
                assert got[0] == wanted, (mode, boundary, more)
                asked += 1
    assert asked > 30


@pytest.mark.parametrize("fmt", [RESIDUAL, FAR], ids=["residual", "far"])
def test_sums_next_to_thresholds_of_more_than_64_bits(tmp_path, fmt):
    header = c_header(fmt)
    assert "open_thresholds" in header
    check_next_to_thresholds(build(tmp_path, fmt, header, flags=SANITIZED), fmt)


def inputs_of_draws(fmt, count):
    """Return values, what lies between neighbours at every distance, and numbers beyond the range."""
    generator = np.random.default_rng(8)
    values = np.sort(fmt.values[np.isfinite(fmt.values)])
    index = generator.integers(0, values.size - 1, count)
    way = np.ldexp(generator.random(count), generator.integers(-40, 1, count))
    between = values[index] + (values[index + 1] - values[index]) * way
    largest = np.abs(values).max()
    edges = [0.0, -0.0, 5e-324, -5e-324, 1e-300, -1e-300, largest, -largest, np.inf, -np.inf, 1e300]
    return np.concatenate([between, values, largest * generator.uniform(-1.5, 1.5, 100), edges])


@pytest.mark.parametrize("name", ["rf8", "ue4m3", "takum(8)", *slow("e4m3fn", "posit8_es2", "e8m0fnu", "float16")])
def test_stochastic_rounding_is_the_librarys(tmp_path, name):
    fmt = rf8sim.get_format(name)
    library = build(tmp_path, fmt, flags=SANITIZED)
    x = inputs_of_draws(fmt, 3000)
    words = np.random.default_rng(9).integers(0, 1 << 32, x.size, np.uint32)
    for bits, variant in ((32, "A"), (12, "A"), (1, "A"), (31, "B"), (5, "B"), (31, "C"), (3, "C")):
        for o, option in modes(fmt)[1]:
            rounding = Rounding("stochastic", option, words=words, bits=bits, variant=variant)
            got = call(
                library.draws, x, words, x.size, bits, "ABC".index(variant), o, size=x.size, dtype=fmt.code_dtype
            )
            wanted = rf8sim.encode(x, fmt, rounding=rounding)
            check(got, wanted, (x, words), rounding)


def check_words(library, fmt):
    """Compare all words of 8 bits for inputs between neighbours, ties of the draw included, with the oracle."""
    low, high = fmt.values[0x45], fmt.values[0x46]
    x = np.concatenate([low + (high - low) * np.arange(1, 40) / 2.0**10, [2.0**-18, 2.0**-40, 1.55, -1.6]])
    pairs = np.broadcast_arrays(x[:, None], np.arange(256, dtype=np.uint32))
    x, words = (np.ascontiguousarray(column.ravel()) for column in pairs)
    for index, variant in enumerate("ABC"):
        got = call(library.draws, x, words, x.size, 8, index, 0, size=x.size)
        wanted = [
            reference.round_value(number, fmt, "stochastic", word=word, random_bits=8, variant=variant)
            for number, word in zip(x.tolist(), words.tolist(), strict=True)
        ]
        check(got, np.array(wanted), (x, words), variant)


def test_every_random_word_of_8_bits(tmp_path):
    fmt = rf8sim.get_format("rf8")
    check_words(build(tmp_path, fmt, flags=SANITIZED), fmt)


FAULTS = [
    ("rf8", "carry = before >> 32 & 1;", "carry = 0;", check_every_pair),
    ("e5m2", "first == second ? first : rounding == E5M2_DOWN", "0", check_every_pair),
    ("takum(8)", "if (rest) significand |= 1;", "", check_every_pair),
    ("rf8", "int negative = x.negative ^ y.negative, special", "int negative = x.negative, special", check_structured),
    (RESIDUAL, "bits > at->after[word] ?", "bits < at->after[word] ?", check_next_to_thresholds),
    (FAR, "if (bits != at->after[word])", "if (0)", check_next_to_thresholds),
    ("rf8", "variant == RF8_STOCHASTIC_C && way & 1", "0", check_words),
]


@pytest.mark.parametrize(("name", "right", "wrong", "check_all"), FAULTS)
def test_a_fault_in_the_header_is_seen(tmp_path, name, right, wrong, check_all):
    """Negative control: with one statement changed the checks above fail."""
    fmt = rf8sim.get_format(name)
    header = c_header(fmt)
    assert header.count(right) == 1
    with pytest.raises(AssertionError):
        check_all(build(tmp_path, fmt, header.replace(right, wrong)), fmt)


@pytest.mark.parametrize("name", ["rf8", "float16", "takum(8)"])
def test_it_is_c_plus_plus_too(tmp_path, name):
    fmt = rf8sim.get_format(name)
    (tmp_path / "header.h").write_text(c_header(fmt))
    (tmp_path / "unit.cpp").write_text('#include "header.h"\n')
    command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-c", "unit.cpp"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_nothing_is_read_or_written_out_of_bounds(tmp_path):
    """All pairs, a dot product and every kind of input with the address sanitizer, in a program of its own."""
    program = """
#include "NAME.h"
int main(void) {
    uint8_t a[256], sum = 0;
    for (int i = 0; i < 256; i++) a[i] = (uint8_t)i;
    for (int i = 0; i < 65536; i++) {
        uint8_t x = (uint8_t)(i / 256), y = (uint8_t)i;
        for (int mode = 0; mode < 6; mode++) {
            sum ^= NAME_add(x, y, mode, 0) ^ NAME_subtract(x, y, mode, 0) ^ NAME_divide(x, y, mode, 0);
            sum ^= NAME_fma(x, y, (uint8_t)mode, mode, 0);
        }
        sum ^= NAME_encode_stochastic(NAME_decode(x) * 1.01, (uint32_t)i * 2654435761u, 1 + i % 31, i % 3, 0);
    }
    return (NAME_dot(a, a, 256, 0, 0) ^ sum) + 1 == 0;
}
"""
    for name in ("rf8", "takum(8)"):
        fmt = rf8sim.get_format(name)
        prefix = identifier(fmt)
        (tmp_path / f"{prefix}.h").write_text(c_header(fmt))
        (tmp_path / "main.c").write_text(program.replace("NAME", prefix))
        flags = [*FLAGS, "-Wno-unused-function", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        run = subprocess.run(["gcc", *flags, "-o", "main", "main.c"], cwd=tmp_path, capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")
        run = subprocess.run([tmp_path / "main"], capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")
