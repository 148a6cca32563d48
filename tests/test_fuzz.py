"""Damaged files and wrong texts: read as what they mean, or refused by the documented error in one sentence.

In continuous integration some hundred changes of each kind; for more, `pytest tests/test_fuzz.py
--hypothesis-profile=long`.
"""

# ruff: noqa: E501 - tables of texts

import warnings

import numpy as np
import pytest
from fuzzing import PARSERS, TARGETS, changed_file, changed_text, one_sentence
from hypothesis import given

import ggd
import rf8sim
from rf8sim.checkpoints.checkpoint import CheckpointError
from rf8sim.entropy.blobs import BlobError
from rf8sim.entropy.coding import compress, decompress

warnings.filterwarnings("ignore", module="zipfile")


def error_of(call, argument):
    try:
        call(argument)
    except Exception as error:
        return error
    return None


def refused_well(error, errors):
    """Whether an error is a documented one, not a kin of it that Python raised, and says what is wrong in a line."""
    families = tuple(kind for kind in errors if kind is not ValueError)
    return (type(error) in errors or isinstance(error, families)) and one_sentence(error)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """The folder and the bytes of each kind, made once."""
    made = {}

    def of_kind(kind):
        if kind not in made:
            path = TARGETS[kind].make(tmp_path_factory.mktemp("fuzz"))
            made[kind] = path, path.read_bytes()
        return made[kind]

    return of_kind


@pytest.mark.parametrize("kind", TARGETS)
def test_a_file_is_read_or_refused(kind, workplace):
    target, (path, data) = TARGETS[kind], workplace(kind)
    target.read(path)  # as it is, without an error

    @given(changed_file(target, data))
    def check(changed):
        path.write_bytes(changed)
        error = error_of(target.read, path)
        assert error is None or refused_well(error, target.errors), f"{type(error).__name__}: {error}"

    try:
        check()
    finally:
        path.write_bytes(data)


@pytest.mark.parametrize("kind", PARSERS)
def test_a_text_is_parsed_or_refused(kind):
    parse, texts = PARSERS[kind]
    for text in texts:
        parse(text)

    @given(changed_text(texts))
    def check(text):
        error = error_of(parse, text)
        assert error is None or refused_well(error, (ValueError,)), f"{type(error).__name__}: {error}"

    check()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors.index.json", b"[" * 100_000, "not an index of a checkpoint"),
        ("w.npy", b"\x93NUMPY\x01\x00v\x00[1, 2]" + b" " * 112, "not a NumPy array"),
        ("w.npy", b"\x93NUMPY\x01\x00v\x00'abc\n" + b"(" * 113, "not a NumPy array"),
        ("m.pt", b"PK\x03\x04" + bytes(60), "not a file of weights alone|not a whole PyTorch file"),
    ],
)
def test_heads_that_are_none(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        rf8sim.quantize_checkpoint(tmp_path / file, tmp_path / "out.safetensors")


@pytest.mark.parametrize("order", [9, 62, 63, 64, 255])
def test_an_order_of_exp_golomb_that_no_encoder_writes(order):
    [inner] = [TARGETS["eg blob"].inner]
    blob = bytearray(compress(np.arange(200, dtype=np.uint8) % 7, "eg"))
    blob[6] = order
    with pytest.raises(BlobError, match=f"k must be an integer from 0 to 8, got {order}"):
        decompress(inner(bytes(blob))[1](bytes(blob)))


CODES, X = np.arange(200, dtype=np.uint8) % 7, np.ones((2, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compress(CODES, block_size=(1, 2)), r"block_size must be an integer from 1 to 2147483647, got \(1, 2\)"),
        (lambda: compress(CODES, block_size=2.5), "block_size must be an integer .*, got 2.5"),
        (lambda: compress(CODES, "eg", parameter="a"), "parameter must be an integer .*, got 'a'"),
        (lambda: compress(CODES, "eg", parameter=2.5), "parameter must be an integer .*, got 2.5"),
        (lambda: decompress(compress(CODES), fill=1.5), "fill must be an integer from 0 to 255, got 1.5"),
        (lambda: compress(CODES, threads=1.5), "threads must be an integer of at least 1, got 1.5"),
        (lambda: rf8sim.measure(X, X), r"what quantize returns for it \(measure\(x, quantize\(x, 'int8'\)\)\), got ndarray"),
        (lambda: rf8sim.Rounding("stochastic", bits=2.5), "bits must be an integer from 1 to 32, got 2.5"),
        (lambda: rf8sim.quantize(X, "rf8@stochastic", seed=1.5), r"seed must be an integer from 0 to 2\*\*64 - 1, got 1.5"),
        (lambda: rf8sim.random_words(1.5, 3), r"seed must be an integer from 0 to 2\*\*64 - 1, got 1.5"),
        (lambda: rf8sim.random_words(1, 2.5), "size must be an integer that is not negative, got 2.5"),
        (lambda: ggd.GGD(1.0).sample(3, seed=1.5), "seed must be integers that are not negative, .* got 1.5"),
        (lambda: rf8sim.get_format("rf(4,4,12.5)"), "p, depth and bias are whole numbers"),
        (lambda: rf8sim.Scales(block=2.5), r"a block is a tuple of sizes such as \(1, 32\), got 2.5"),
    ],
)  # fmt: skip
def test_arguments_of_another_type(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as refused:
        call()
    assert one_sentence(refused.value)


@pytest.mark.parametrize("shape", [0.001, 0.05, 2.0, 500.0, 1e4, 1e6, 1e300])
def test_quantiles_of_any_shape(shape):
    """Of large shapes they are those of the uniform distribution; of tiny ones they pass float64, without a warning."""
    density, q = ggd.GGD(shape), np.array([1e-9, 0.1, 0.3, 0.5, 0.9, 0.999])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = density.ppf(q)
    assert x[3] == 0
    inside = np.isfinite(x) & (np.abs(x) > 0)
    assert np.allclose(density.cdf(x[inside]), q[inside], rtol=1e-9)
    if shape >= 1e4:
        assert np.allclose(x, 2 * q - 1, atol=20 / shape)
