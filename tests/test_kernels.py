"""Numpy's forms of the kernels have the bits of the compiled ones, and small work loads no numba."""

import subprocess
import sys

import numpy as np
import pytest
from loops import looped

import rf8sim
from rf8sim import Rounding
from rf8sim._kernels import codec as compiled
from rf8sim._kernels import plain, sums
from rf8sim.arithmetic import codes as operations
from rf8sim.codec import dispatch
from rf8sim.codec.codec import random_words
from rf8sim.codec.rounding import RoundingMode, fits
from rf8sim.formats import format_names, get_format
from rf8sim.quantization.scaling import choose_scales

SIZES = (0, 1, 3, 4, 257, 5000)


@pytest.fixture
def both(monkeypatch):
    """Return a function that calls another with numpy's forms and then with the compiled ones."""

    def run(work):
        results = []
        for little in (True, False):
            for kernel in vars(dispatch).values():
                if isinstance(kernel, dispatch.Kernel):
                    monkeypatch.setattr(kernel, "_compiled", None)
            monkeypatch.setattr(dispatch.Kernel, "_is_little", lambda kernel, size, little=little: little)
            results.append(work())
        return results

    return run


def numbers(fmt, dtype, size=5000):
    """Numbers on, beside and far from the values of a format, specials first."""
    rng = np.random.default_rng(7)
    values = fmt.values[np.isfinite(fmt.values)]
    near = rng.choice(values, size) * (1 + rng.choice([0.0, 2.0**-12, -(2.0**-12), 2.0**-25, 0.03], size))
    middle = (rng.choice(values, size) + np.roll(near, 1)) / 2
    x = np.where(rng.random(size) < 0.5, near, middle) * rng.choice([1.0, -1.0, 8.0, 2.0**-9], size)
    x[:8] = [0.0, -0.0, np.inf, -np.inf, 5e-324, 1e300, -1e300, 1.0] if fmt.nan is None else [
        np.nan, -0.0, np.inf, -np.inf, 5e-324, 1e300, -1e300, 1.0]  # fmt: skip
    with np.errstate(all="ignore"):
        return x.astype(dtype)


@pytest.mark.parametrize("name", format_names())
def test_codes_are_the_same(name, both):
    fmt = get_format(name)
    for mode in RoundingMode:
        if not fits(fmt, mode):
            continue
        for dtype in (np.float32, np.float64, np.float16):
            x = numbers(fmt, dtype, 1500)
            rounding = (
                Rounding(mode.value, seed=5, offset=3) if mode is RoundingMode.STOCHASTIC else Rounding(mode.value)
            )
            little, large = both(lambda x=x, rounding=rounding: rf8sim.encode(x, fmt, rounding=rounding))
            np.testing.assert_array_equal(little, large, f"{name} {mode} {dtype}")
    little, large = both(lambda: rf8sim.decode(np.arange(1 << fmt.bits), fmt, dtype="float64"))
    np.testing.assert_array_equal(little, large)


@pytest.mark.parametrize("size", SIZES)
@looped("name", ["rf8", "e4m3fn", "float16", "e8m0fnu", "int8"])
def test_draws_are_the_same(name, size, both):
    fmt = get_format(name)
    for rounding in (
        Rounding("stochastic", seed=1, offset=2, bits=9),
        Rounding("stochastic", seed=2, variant="C", bits=5),
    ):
        for dtype in (np.float64, np.float32):
            x = numbers(fmt, dtype)[8 : 8 + size]
            little, large = both(lambda x=x, rounding=rounding: rf8sim.encode(x, fmt, rounding=rounding))
            np.testing.assert_array_equal(little, large)
    little, large = both(lambda: random_words(2**64 - 1, size, offset=2**34 + 1))
    np.testing.assert_array_equal(little, large)


@pytest.mark.parametrize("rounding", ["nearest-even", "down", Rounding("stochastic", seed=3)])
@pytest.mark.parametrize("formats", [("rf8", "rf8"), ("e4m3fn", "int8"), ("float16", "bfloat16")])
def test_operations_are_the_same(formats, rounding, both):
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 1 << get_format(name).bits, 4000) for name in formats)
    for operation in (operations.add, operations.multiply, operations.divide):
        (little, raised), (large, wanted) = both(
            lambda operation=operation: operation(a, b, formats, result=formats[0], rounding=rounding, flags=True)
        )
        np.testing.assert_array_equal(little, large)
        np.testing.assert_array_equal(raised, wanted)


@pytest.mark.parametrize("name", ["e4m3fn/channel", "rf8/1x16", "e5m10/channel,mse", "int8/1x7@down", "e4m3fn"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scales_of_least_error_are_the_same(name, dtype, both):
    x = np.random.default_rng(3).standard_t(3, size=(4, 777)).astype(dtype)
    x[1, ::2] = x[1, 0]  # a number that recurs
    little, large = both(lambda: choose_scales(x, name).scales[0])
    assert np.array_equal(little, large)


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("spread", [0, 30, 400, 1000])
def test_sums_are_the_same(spread, odd):
    rng = np.random.default_rng(spread)
    for count in (1, 2, 3, 9, 64):
        terms = np.ldexp(rng.normal(size=(count, 700)), rng.integers(-spread, spread + 1, (count, 700)))
        terms[rng.random(terms.shape) < 0.1] = 0.0
        if count > 1:  # sums that cancel, wholly and but for one small term
            terms[-1, :200] = -terms[0, :200]
            terms[1:-1, :100] = 0.0
            terms[:, 200] = 0.0
        little, large = np.empty(700), np.empty(700)
        plain.sum_terms(terms, odd, little)
        sums.sum_terms(terms, odd, large)
        np.testing.assert_array_equal(little.view(np.int64), large.view(np.int64))
    for form in (plain.sum_terms, sums.sum_terms):
        form(np.zeros((3, 0)), odd, np.zeros(0))


@pytest.mark.parametrize("form", [plain, sums])
def test_sums_round_the_exact_one(form):
    terms = np.array([[2.0**53, 2.0**53, -(2.0**53), 2.0**60, 1.0], [1.0, 3.0, -1.0, -1.0, 2.0**-1074]])
    out = np.empty(5)
    form.sum_terms(terms, False, out)
    np.testing.assert_array_equal(out, [2.0**53, 2.0**53 + 4, -(2.0**53), 2.0**60, 1.0])
    form.sum_terms(terms, True, out)
    np.testing.assert_array_equal(out, [2.0**53 + 2, 2.0**53 + 2, -(2.0**53) - 2, 2.0**60 - 128, 1 + 2.0**-52])


@pytest.mark.parametrize(("size", "module"), [(0, plain), (63, plain), (64, compiled), (65, compiled)])
def test_one_place_decides_by_size(size, module, monkeypatch):
    monkeypatch.setattr(dispatch, "LARGE", 64)
    monkeypatch.delitem(sys.modules, "numba")
    kernel = dispatch.Kernel("codec", "look_up")
    used = []
    monkeypatch.setattr(kernel, "_plain", lambda *arguments: used.append(plain) or plain.look_up(*arguments))
    index, out = np.arange(size, dtype=np.uint8), np.empty(size, np.uint8)
    kernel(index, np.arange(256, dtype=np.uint8)[::-1].copy(), out)
    np.testing.assert_array_equal(out, 255 - index)
    assert (plain if used else compiled) is module


def test_many_small_arrays_are_large_together(monkeypatch):
    monkeypatch.delitem(sys.modules, "numba")
    monkeypatch.setattr(dispatch, "_done", 0)
    monkeypatch.setattr(dispatch, "PATIENCE", 1000)
    kernels = [dispatch.Kernel("codec", "look_up"), dispatch.Kernel("codec", "encode_cells")] * 2
    assert [kernel._is_little(400) for kernel in kernels] == [True, True, False, False]


def test_a_loop_is_compiled_for_work_of_its_kind_once_numba_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", object())
    monkeypatch.setattr(dispatch, "WORTH_COMPILING", 1000)
    kernel, other = dispatch.Kernel("codec", "look_up"), dispatch.Kernel("codec", "encode_cells")
    assert [kernel._is_little(400) for _ in range(4)] == [True, True, False, False]
    assert other._is_little(400)
    assert not other._is_little(dispatch.LARGE)


def loaded(code, *arguments):
    """Run Python code in a process of its own, and return which of the heavy modules it loaded."""
    code += "\nimport sys; print(*sorted({'numba', 'scipy', 'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return run.stderr.split()


COMMANDS = [
    "vectors multiply", "vectors fma -f e4m3fn -n 0", "vectors add -f float16 -n 100", "vectors dot:4 -n 10",
    "vectors encode --rounding stochastic -n 100", "vectors accumulate -n 100", "vectors decode --result float64",
]  # fmt: skip
RUN = """
import io, sys
from rf8sim.cli import main
sys.stdout = io.TextIOWrapper(io.BytesIO())
try:
    main()
except SystemExit as status:
    assert (status.code or 0) == int({}), sys.stdout
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_small_vectors_load_no_numba(command):
    assert loaded(RUN.format(0), *command.split()) == []


def test_small_verdicts_load_no_numba(tmp_path):
    """A right stream, and a wrong one with its diagnosis."""
    path = tmp_path / "answers.txt"
    lines = subprocess.run(
        [sys.executable, "-m", "rf8sim", "vectors", "multiply"], capture_output=True, check=True
    ).stdout  # fmt: skip
    path.write_bytes(lines)
    assert loaded(RUN.format(0), "verify", "multiply", str(path)) == []
    path.write_bytes(lines.replace(b"7B 6F 6F 00", b"7B 6F 6E 00"))
    assert loaded(RUN.format(1), "verify", "multiply", str(path)) == []
    path.write_bytes(b"".join(lines.splitlines(keepends=True)[:5]))
    assert loaded(RUN.format(1), "verify", "multiply", str(path)) == []


def test_large_work_loads_numba():
    work = "import numpy as np, rf8sim; rf8sim.encode(np.ones({}, np.float32), 'rf8')"
    assert loaded(work.format(dispatch.LARGE - 1)) == []
    assert "numba" in loaded(work.format(dispatch.LARGE))
