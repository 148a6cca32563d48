"""Einsum against one dot product after the other; what it refuses. Convolution is tested with the matrix products."""

from __future__ import annotations

from itertools import product

import linalg_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rf8sim

SUBSCRIPTS = [
    "ij,jk->ik", "ij,jk->ki", "ij,jk", "ij,kj", "bij,bjk->bik", "bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd", "i,i->", "i,i",
    "i,j->ij", "i,i->i", "ij,ij->j", "ijk,kj->i", "ijk,jk->i", ",ij->ji", "ij,->ij", ",", "ab,cd->dbca", "aij,jia->",
]  # fmt: skip
SIZES = dict(zip("abcdhijkq", (2, 3, 4, 5, 3, 4, 6, 2, 5), strict=True))


def arrays(subscripts: str, seed: int = 0, **sizes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    axes = subscripts.partition("->")[0].split(",")
    a, b = (rng.integers(0, 256, [{**SIZES, **sizes}[axis] for axis in each], dtype=np.uint8) for each in axes)
    return np.where(a == 0x80, 0, a), b


def wanted(
    subscripts: str, a: np.ndarray, b: np.ndarray, fmt_b: str, accumulator: str, mode: str = "nearest-even",
    seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Each result by the oracle of dot products, its products in the order of a's axes."""
    axes, arrow, result = subscripts.partition("->")
    first, second = axes.split(",")
    if not arrow:
        result = "".join(sorted(axis for axis in {*axes} - {","} if axes.count(axis) == 1))
    sizes = dict(zip(first + second, a.shape + b.shape, strict=True))
    x, y = rf8sim.decode(a, "rf8", dtype=np.float64), rf8sim.decode(b, fmt_b, dtype=np.float64)
    summed = [axis for axis in first if axis not in result]
    # The flat index of an element: axes of both, a's others, b's others.
    places = [axis for axis in first if axis in second and axis not in summed]
    places += [axis for axis in first if axis not in second] + [axis for axis in second if axis not in first]
    out = np.empty([sizes[axis] for axis in result])
    for number, at in enumerate(product(*(range(sizes[axis]) for axis in places))):
        here = dict(zip(places, at, strict=True))
        left, right = [], []
        for inner in product(*(range(sizes[axis]) for axis in summed)):
            index = {**here, **dict(zip(summed, inner, strict=True))}
            left.append(float(x[tuple(index[axis] for axis in first)]))
            right.append(float(y[tuple(index[axis] for axis in second)]))
        value = oracle.dot(
            left, right, accumulator, mode=mode, word=lambda step, n=number: oracle.word_of(seed, n, step)
        )
        out[tuple(here[axis] for axis in result)] = float(value)
    return out


@pytest.mark.parametrize("accumulator", ["exact", "float16", "e4m3fn"])
@pytest.mark.parametrize("subscripts", SUBSCRIPTS)
def test_every_result_is_its_dot_product(subscripts: str, accumulator: str) -> None:
    a, b = arrays(subscripts)
    got = rf8sim.einsum(subscripts, a, b, ("rf8", "int8"), accumulator=accumulator)
    oracle.same(got, wanted(subscripts, a, b, "int8", accumulator), subscripts)
    if accumulator == "exact":
        same = np.einsum(subscripts, rf8sim.decode(a, "rf8", dtype=np.float64), b.view(np.int8).astype(np.float64))
        np.testing.assert_array_equal(got, same)


@pytest.mark.parametrize("subscripts", ["bqhd,bkhd->bhqk", "ijk,kj->i", "ab,cd->dbca"])
def test_words_are_those_of_the_documented_index(subscripts: str) -> None:
    a, b = arrays(subscripts)
    drawn = [rf8sim.Accumulation("bfloat16", rounding=rf8sim.Rounding("stochastic", seed=seed)) for seed in (5, 6)]
    got = rf8sim.einsum(subscripts, a, b, ("rf8", "int8"), accumulator=drawn[0])
    oracle.same(got, wanted(subscripts, a, b, "int8", "bfloat16", "stochastic", 5), subscripts)
    assert np.any(got != rf8sim.einsum(subscripts, a, b, ("rf8", "int8"), accumulator=drawn[1]))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_subscripts(data: st.DataObject) -> None:
    first = data.draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=3))
    second = data.draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=3))
    alone = {*first} ^ {*second}
    kept = data.draw(st.sets(st.sampled_from([*{*first} & {*second}] or ["a"]))) & {*first} & {*second}
    result = data.draw(st.permutations(sorted(alone | kept)))
    subscripts = f"{''.join(first)},{''.join(second)}->{''.join(result)}"
    sizes = {axis: data.draw(st.integers(0, 4)) for axis in "abcd"}
    a, b = arrays(subscripts, data.draw(st.integers(0, 99)), **sizes)
    got = rf8sim.einsum(subscripts, a, b, ("rf8", "int8"), accumulator="bfloat16")
    oracle.same(got, wanted(subscripts, a, b, "int8", "bfloat16"), subscripts)


def test_scales_and_result() -> None:
    a, b = arrays("bqhd,bkhd->bhqk")
    scale_a = 2.0 ** np.arange(3 * 5 * 3, dtype=np.float32).reshape(3, 5, 3, 1) / 1024
    scale_b = np.array([3.0, 0.5, 7.0], np.float32)[:, None]  # of the heads; broadcasts as in numpy
    got = rf8sim.einsum(
        "bqhd,bkhd->bhqk", a, b, "rf8", accumulator="float32", scales=rf8sim.OperandScales(scale_a, scale_b)
    )
    plain = rf8sim.einsum("bqhd,bkhd->bhqk", a, b, "rf8", accumulator="float32").astype(np.float64)
    factor = scale_a.transpose(0, 2, 1, 3) * scale_b.reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(got, (plain * factor).astype(np.float32))
    codes = rf8sim.einsum(
        "ij,jk->ki",
        [[0x7B]],
        [rf8sim.encode([1.0, 0.5], "rf8")],
        "rf8",
        result="e4m3fn",
        scales=rf8sim.OperandScales(2.0),
    )
    assert rf8sim.decode(codes, "e4m3fn").tolist() == [[2.0], [1.0]]
    x = np.array([[0.1, 0.2]], np.float32)
    got = rf8sim.einsum("ij,kj->ik", [[0x7B, 0x7B]], x, ("rf8", "float32"), accumulator="float32")
    assert got.tolist() == [[float(x[0, 0] + x[0, 1])]]


@pytest.mark.parametrize(
    ("subscripts", "shapes", "message"),
    [
        ("ij,jk,kl->il", ((2, 2), (2, 2)), "takes two arrays, as in 'ij,jk->ik', got 'ij,jk,kl->il' of 3"),
        ("ij", ((2, 2), (2, 2)), "of 1"),
        ("...ij,...jk->...ik", ((2, 2), (2, 2)), "the axes of an ellipsis have no names"),
        ("i1,1k->ik", ((2, 2), (2, 2)), "axes are letters"),
        ("ij,jk=>ik", ((2, 2), (2, 2)), "axes are letters"),
        ("ii,ij->j", ((2, 2), (2, 2)), "axis 'i' is twice in a: take a diagonal first"),
        ("ij,jk->ii", ((2, 2), (2, 2)), "axis 'i' is twice in the result"),
        ("ij,jk->il", ((2, 2), (2, 2)), "axis 'l' of the result is in neither array"),
        ("ijl,jk->ik", ((2, 2, 2), (2, 2)), "axis 'l' of a is in nothing else"),
        ("ij,jkl->ik", ((2, 2), (2, 2, 2)), "axis 'l' of b is in nothing else"),
        ("ij,jk->ik", ((2, 2, 2), (2, 2)), r"name 2 axes of a, which has shape \(2, 2, 2\)"),
        ("ij,jk->ik", ((2, 3), (2, 2)), r"axis 'j' is 3 long in a of shape \(2, 3\), 2 in b of \(2, 2\)"),
    ],
)
def test_refusals(subscripts: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rf8sim.einsum(subscripts, *(np.zeros(shape, np.uint8) for shape in shapes), "rf8")


def test_refused_options() -> None:
    a = np.zeros((2, 3), np.uint8)
    for options, message in (
        ({"scales": rf8sim.OperandScales(block_size=3)}, "takes no block scales"),
        (
            {"scales": rf8sim.OperandScales(np.ones((2, 3)))},
            r"scales.a of shape \(2, 3\) does not broadcast with \(2, 1\)",
        ),
        ({"scales": rf8sim.OperandScales(b=np.ones(2))}, r"scales.b of shape \(2,\) does not broadcast with \(2, 1\)"),
        ({"accumulator": "float12"}, "accumulator"),
    ):
        with pytest.raises(ValueError, match=message):
            rf8sim.einsum("ij,kj->ik", a, a, "rf8", **options)
