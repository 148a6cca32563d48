"""Lines grouped by shape have the shapes that each has for itself."""

import numpy as np
import pytest

from rf8sim.hardware.verdict import shapes
from rf8sim.hardware.verdict.shapes import grouped, rows, shapes_of

RNG = np.random.default_rng(0)
ALPHABET = np.frombuffer(b"0123aF xX_,zZ\t#/\x01og?", np.uint8)


def lines(count, lengths):
    """Lines of characters that matter, prefixes among them."""
    texts = [RNG.choice(ALPHABET, n).tobytes() for n in RNG.choice(lengths, count)]
    return [b"0x" + text if i % 3 == 0 else text.replace(b" ", b" 0x") for i, text in enumerate(texts)]


def bounds(texts):
    stops = np.cumsum([len(text) for text in texts])
    return np.frombuffer(b"".join(texts), np.uint8), np.concatenate([[0], stops[:-1]]), stops


@pytest.mark.parametrize("lengths", [[1], [2, 3], [7], [8], [9], range(1, 40), [600]], ids=str)
def test_shapes_of_many_lines_are_those_of_each(lengths):
    texts = lines(400, lengths) + lines(3, range(1, 20))
    texts += [text[:1] for text in texts[:40]] + [texts[5]] * 30
    found, which = grouped(*bounds(texts))
    assert len(set(found)) == len(found)
    assert [found[index] for index in which.tolist()] == shapes_of(texts)


@pytest.mark.parametrize("length", [8, 20])
def test_rows_of_one_hash_are_told_apart(monkeypatch, length):
    monkeypatch.setattr(shapes, "_MIX", np.uint64(0))
    texts = lines(300, [length])
    found, which = grouped(*bounds(texts))
    assert [found[index] for index in which.tolist()] == shapes_of(texts)


def test_rows_of_a_table():
    data, starts, _ = bounds([b"abc", b"def", b"xy", b"ghi"])
    assert rows(data, starts[:2], 3).tobytes() == b"abcdef"
    assert np.shares_memory(rows(data, starts[:2], 3), data)
    assert rows(data, starts[[0, 1, 3]], 3).tobytes() == b"abcdefghi"
    assert rows(data, starts[2:3], 2).tobytes() == b"xy"


def test_prefixes():
    assert shapes_of([b"0x3 0xz", b"a0x3", b"0xg", b"0x", b"1_0X5"]) == [
        b"\x01\x010 \x01\x01x", b"00x0", b"0xo", b"0x", b"0 \x01\x010",
    ]  # fmt: skip
