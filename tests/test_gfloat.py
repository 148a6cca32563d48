"""gfloat against rf8sim over all that both have: gfloat's own test-suite, and every mode at every decision point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import gfloat
import gfloat.formats
import gfloat_adapter as adapter
import numpy as np
import pytest
from gfloat import FormatInfo, RoundMode
from gfloat.types import Domain, Signedness

# ---------------------------------------------------------------- its test-suite

FILES = ("test_round.py", "test_decode.py", "test_encode.py", "test_p3109_spec.py", "test_finfo.py", "test_block.py")
# What rf8sim has not, which gfloat answers itself. P3109 defines signed formats of K bits for precisions below K.
NOT_SHARED = {"p3109_k2p1se", "p3109_k2p1ue", "p3109_k2p2se", "p3109_k2p2ue", "p3109_k3p3se", "p3109_k3p3sf",
              "p3109_k4p4se", "p3109_k4p4sf", "32 random bits"}  # fmt: skip


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """gfloat's source: what GFLOAT_SOURCE names, or the source distribution of the installed version."""
    if "GFLOAT_SOURCE" in os.environ:
        return Path(os.environ["GFLOAT_SOURCE"]).resolve()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "gfloat", "--dest", tmp_path]
    fetched = subprocess.run([*pip, f"gfloat=={version('gfloat')}"], capture_output=True, text=True, timeout=600)
    if fetched.returncode:
        pytest.skip(f"gfloat's source distribution is not available: {fetched.stderr[-300:]}")
    (archive,) = tmp_path.glob("gfloat-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / archive.name.removesuffix(".tar.gz")


@pytest.mark.slow
def test_the_suite_of_gfloat(suite: Path, tmp_path: Path) -> None:
    results, calls, here = tmp_path / "results.xml", tmp_path / "calls.json", Path(__file__).parent
    paths = [str(suite / "src"), str(here), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GFLOAT_ADAPTER_CALLS": str(calls)}
    options = ["-q", "-c", os.devnull, f"--rootdir={suite}", "-p", "no:cacheprovider", "-p", "gfloat_adapter",
               "-k", "not binary32 and not binary64", f"--junitxml={results}"]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *FILES], cwd=suite / "test", env=environment, capture_output=True,
        text=True, timeout=1200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    tests = list(ElementTree.parse(results).iter("testcase"))
    assert {test.get("classname", "").rpartition(".")[2] + ".py" for test in tests} == set(FILES)
    assert len(tests) > 300
    assert not [test for test in tests if list(test)]  # skipped, or worse
    answered: Counter[str] = Counter()
    for library, function, about, count in json.loads(calls.read_text(encoding="utf-8")):
        answered[f"{library} {function}"] += count
        assert library == "rf8sim" or about in NOT_SHARED, (function, about)
    assert all(answered[f"rf8sim {function}"] for function in adapter.ORIGINAL)


# ---------------------------------------------------------------- every decision point


def p3109(bits: int) -> list[FormatInfo]:
    return [
        gfloat.formats.format_info_p3109(bits, precision, sign, domain)
        for sign in Signedness
        for domain in Domain
        for precision in range(1, bits + 1)
        if precision <= bits - (sign == Signedness.Signed)
    ]


NAMED = [info for info in gfloat.formats.sample_formats if info.name in adapter.NAMES]
INFOS = {info.name: info for info in [*NAMED, *(info for bits in range(3, 9) for info in p3109(bits))]}
INFOS |= {info.name: info for info in p3109(10)[1::4]}
MODES = [mode for mode in RoundMode if mode.name in adapter.MODES]
STOCHASTIC = [mode for mode in RoundMode if mode.name in adapter.STOCHASTIC]


def decision_points(info: FormatInfo, *, fraction_bits: int | None = None) -> np.ndarray:
    """Values, midpoints, points between, their float64 neighbours, what is beyond the largest value, specials.

    With ``fraction_bits`` neighbours are that far off, relative to the gap between values: a fraction of more than 32
    bits is cut off before a draw, and gfloat 0.5 adds fraction and word in float64, which may round up to a carry.
    """
    values = gfloat.decode_ndarray(info, np.arange(1 << info.k))
    values = np.unique(values[np.isfinite(values)])
    gap = np.diff(values)
    eighths = [values[:-1] + gap * (k / 8) for k in range(1, 8)] if info.k <= 8 else [values[:-1] + gap / 2]
    beyond = [end + sign * step * k for end, sign, step in ((values[0], -1, gap[0]), (values[-1], 1, gap[-1]))
              for k in (0.25, 0.5, 0.75, 1, 1.5, 2, 3)]  # fmt: skip
    exact = np.concatenate([values, *eighths, beyond])
    if fraction_bits is None:
        exact = np.append(exact, [-1e300, 1e300, -5e-324, 5e-324])
        near = [exact, np.nextafter(exact, np.inf), np.nextafter(exact, -np.inf)]
    else:
        step = np.append(gap, gap[-1])[np.clip(np.searchsorted(values, exact), 0, gap.size)] * 2.0**-fraction_bits
        near = [exact, exact + step, exact - step]
    x = np.concatenate([*near, [0.0, -0.0, np.inf, -np.inf, *([np.nan] if info.num_nans else [])]])
    # gfloat gives negative numbers back as they are in an unsigned format, and makes +inf of -inf.
    x = x if info.is_signed else x[~(x < 0)]
    # It goes on below the smallest value of a format without zero.
    return x if info.has_zero else x[~(x < info.smallest)]


def refuses(round_float: object, info: FormatInfo, x: float, mode: RoundMode) -> bool:
    try:
        round_float(info, x, mode, False)
    except ValueError:
        return True
    return False


def same(got: np.ndarray, expected: np.ndarray, what: object) -> None:
    np.testing.assert_array_equal(got, expected, err_msg=str(what))
    known = ~np.isnan(got)  # and the sign of zero
    np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]), err_msg=str(what))


@pytest.mark.parametrize("name", INFOS)
def test_every_mode_at_every_decision_point(name: str) -> None:
    info, everything = INFOS[name], decision_points(INFOS[name])
    codes = np.arange(1 << info.k)
    same(adapter.decode_ndarray(info, codes), gfloat.decode_ndarray(info, codes), "decode")
    for mode in MODES:
        for sat in (True, False):
            x = everything
            if not sat and info.domain == Domain.Finite and not info.num_nans:
                outside = (x > info.max) | (x < info.min)
                for number in x[outside].tolist():
                    refused = (refuses(way, info, number, mode) for way in (adapter.round_float, gfloat.round_float))
                    assert len(set(refused)) == 1, (mode, number)
                x = x[~outside]
            rounded = gfloat.round_ndarray(info, x, mode, sat)
            same(adapter.round_ndarray(info, x, mode, sat), rounded, (mode, sat))
            np.testing.assert_array_equal(adapter.encode_ndarray(info, rounded), gfloat.encode_ndarray(info, rounded))


@pytest.mark.parametrize("name", INFOS)
def test_every_draw_at_every_decision_point(name: str) -> None:
    """In stochastic modes, with random words of few bits and of many."""
    info, x = INFOS[name], decision_points(INFOS[name], fraction_bits=28)
    rng = np.random.default_rng(3)
    finite = x[np.isfinite(x)]
    for mode in STOCHASTIC:
        for bits in (1, 3, 8, 31):
            for sat in (True, False):
                known = finite if sat or info.domain == Domain.Extended or info.num_nans else np.clip(
                    finite, info.min, info.max
                )  # fmt: skip
                words = rng.integers(0, 1 << bits, known.size)
                expected = gfloat.round_ndarray(info, known, mode, sat, words, bits)
                same(adapter.round_ndarray(info, known, mode, sat, words, bits), expected, (mode, bits, sat))
