"""`Rounding`: what it refuses, its text form, and that a text means the same as the value everywhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rf8sim
from rf8sim.codec.rounding import Overflow, Rounding, RoundingMode, as_rounding, check_choices
from rf8sim.hardware.golden.golden import golden

TEXTS = ("nearest-even", "up", "toward-zero/nan", "residual", "stochastic", "stochastic/nan")
CODES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"mode": "nearest"},
            r"^unknown rounding mode 'nearest': did you mean 'nearest-even' or 'nearest-away'\? the choices are",
        ),
        ({"mode": "up/nan"}, r"^unknown rounding mode 'up/nan': "),
        ({"overflow": "inf"}, r"^unknown overflow option 'inf': did you mean 'infinity'\? the choices are"),
        ({"bits": 0}, r"^bits must be an integer from 1 to 32, got 0$"),
        ({"bits": 33}, r"^bits must be an integer from 1 to 32, got 33$"),
        ({"bits": 2.5}, r"^bits must be an integer from 1 to 32, got 2\.5$"),
        ({"bits": "8"}, r"^bits must be an integer from 1 to 32, got '8'$"),
        ({"seed": -1}, r"^seed must be an integer from 0 to 2\*\*64 - 1, got -1$"),
        ({"seed": 2**64}, r"^seed must be an integer from 0 to 2\*\*64 - 1, got 18446744073709551616$"),
        ({"seed": 1.5}, r"^seed must be an integer from 0 to 2\*\*64 - 1, got 1\.5$"),
        ({"offset": -1}, r"^offset must be an integer from 0 to 2\*\*64 - 1, got -1$"),
        ({"offset": 0.0}, r"^offset must be an integer from 0 to 2\*\*64 - 1, got 0\.0$"),
    ],
)
def test_a_wrong_field_is_refused_in_one_sentence(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Rounding(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "/", "up/", "/nan", "up/nan/nan", "up nan"])
def test_what_is_no_text_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown (rounding mode|overflow option)"):
        as_rounding(text)


@given(st.sampled_from(list(RoundingMode)), st.sampled_from(list(Overflow)))
def test_the_text_form_is_read_back(mode: str, overflow: str) -> None:
    rounding = Rounding(mode, overflow)
    assert as_rounding(str(rounding)) == rounding
    assert str(rounding) == (str(mode) if overflow == "saturate" else f"{mode}/{overflow}")
    assert as_rounding(f"{mode}/{overflow}") == rounding
    assert as_rounding(rounding) is rounding
    assert (type(rounding.mode), type(rounding.overflow)) == (str, str)
    assert rounding.stochastic == (mode == "stochastic")


@given(
    st.sampled_from(list(RoundingMode)), st.sampled_from(list(Overflow)), st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1), st.integers(1, 32),
)  # fmt: skip
def test_the_representation_is_code(mode: str, overflow: str, seed: int, offset: int, bits: int) -> None:
    rounding = Rounding(mode, overflow, seed, offset, None, bits)
    assert eval(repr(rounding)) == rounding
    assert hash(eval(repr(rounding))) == hash(rounding)


def test_numpy_integers_are_integers() -> None:
    rounding = Rounding("stochastic", seed=np.uint64(7), offset=np.int32(2), bits=np.uint8(8))
    assert rounding == Rounding("stochastic", seed=7, offset=2, bits=8)
    assert type(rounding.seed) is int


def test_words_are_compared_by_identity() -> None:
    words = np.zeros(3, np.uint32)
    one = Rounding("stochastic", words=words)
    assert one == Rounding("stochastic", words=words)
    assert one != Rounding("stochastic", words=words.copy())
    assert one != Rounding("stochastic")
    assert len({one, Rounding("stochastic", words=words), Rounding("stochastic")}) == 2
    assert repr(one) == "Rounding('stochastic', words=...)"
    assert one != "stochastic"


def test_it_is_immutable() -> None:
    with pytest.raises(AttributeError):
        Rounding().mode = "up"  # type: ignore[misc]
    assert replace(Rounding(), mode="up") == as_rounding("up")


@pytest.mark.parametrize(
    ("fmt", "text", "sentence"),
    [
        ("int8", "residual", "rounding 'residual' is for the RF family only"),
        ("int8", "up/nan", "format 'int8' has no NaN code: use overflow='saturate'"),
        ("rf8", "up/infinity", "format 'rf8' has no infinity: use overflow='saturate' or overflow='ieee'"),
    ],
)
def test_a_format_refuses_what_it_has_not(fmt: str, text: str, sentence: str) -> None:
    for rounding in (text, as_rounding(text)):
        with pytest.raises(ValueError, match=sentence):
            check_choices(rf8sim.get_format(fmt), rounding)
    assert check_choices(rf8sim.get_format("rf8"), "up/nan") == (RoundingMode.UP, Overflow.NAN)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_means_the_same_as_the_value(text: str) -> None:
    rng = np.random.default_rng(3)
    x, a, b = rng.normal(size=2000), CODES[1:128].reshape(-1, 1), CODES[129:]
    rounding = as_rounding(text)
    calls = {
        "encode": lambda given: rf8sim.encode(x, "rf8", rounding=given),
        "add": lambda given: rf8sim.add(a, b, "rf8", rounding=given),
        "fma": lambda given: rf8sim.fma(a, b, 0x6F, "rf8", rounding=given),
        "convert": lambda given: rf8sim.convert(CODES, "rf8", result="rf6", rounding=given),
        "matmul": lambda given: rf8sim.matmul(a, b[None], "rf8", result="rf8", rounding=given),
        "sums": lambda given: rf8sim.matmul(a.T, a, "rf8", accumulator=rf8sim.Accumulation("rf8", rounding=given)),
    }
    results = {name: (call(text), call(rounding)) for name, call in calls.items()}
    for name, (by_text, by_value) in results.items():
        np.testing.assert_array_equal(by_text, by_value, err_msg=name)
    assert golden("multiply", "rf8", rounding=text) == golden("multiply", "rf8", rounding=rounding)
    usual = {name: call(Rounding()) for name, call in calls.items()}
    assert text == "nearest-even" or any(np.any(results[name][0] != usual[name]) for name in calls)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.lists(st.integers(0, 300), max_size=5))
def test_pieces_draw_as_the_array_does(seed: int, offset: int, cuts: list[int]) -> None:
    x = np.random.default_rng(1).normal(size=300).astype(np.float32)
    drawn = Rounding("stochastic", seed=seed, offset=offset)
    edges = [0, *sorted(cuts), x.size]
    expected = rf8sim.encode(x, "rf8", rounding=drawn)
    pieces = [rf8sim.encode(x[start:stop], "rf8", rounding=drawn.at(start)) for start, stop in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(pieces), expected)
    assert drawn.at(3).at(4) == drawn.at(7)


def test_a_piece_of_given_words_is_refused() -> None:
    drawn = Rounding("stochastic", words=np.zeros(8, np.uint32))
    assert drawn.at(0) == drawn
    with pytest.raises(ValueError, match=r"^words belong to the elements of one array: make a rounding with the words"):
        drawn.at(4)
    with pytest.raises(ValueError, match=r"^offset must be an integer"):
        Rounding().at(-1)


def test_formats_of_operands_are_one_or_one_for_each() -> None:
    np.testing.assert_array_equal(
        rf8sim.add(CODES[:5], CODES[:5], ("rf8", "rf8")), rf8sim.add(CODES[:5], CODES[:5], "rf8")
    )
    for call, count in (
        (lambda: rf8sim.add(1, 2, ("rf8",)), "one for each of 2 operands: got 1"),
        (lambda: rf8sim.fma(1, 2, 3, ("rf8", "rf8")), "one for each of 3 operands: got 2"),
        (lambda: rf8sim.negate(1, ("rf8", "rf8")), "one for each of 1 operand: got 2"),
        (lambda: rf8sim.matmul([[1]], [[1]], ("rf8",) * 3), "one for each of 2 operands: got 3"),
    ):
        with pytest.raises(ValueError, match=f"^fmt must be one format, or {count}$"):
            call()
