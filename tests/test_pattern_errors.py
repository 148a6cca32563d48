"""Errors from a table of 16-bit patterns have the bits of errors of the elements one by one."""

import ml_dtypes
import numpy as np
import pytest

import ggd
from rf8sim import as_scheme, quantize
from rf8sim.quantization.metrics import RowErrors, row_scales
from rf8sim.quantization.pattern_errors import PatternErrors
from rf8sim.quantization.scaling import choose_scales
from rf8sim.studies import measuring, meters
from rf8sim.studies.experiment import Settings

SCHEMES = (
    "rf8", "e4m3fn", "e5m2/none", "int8@up", "posit8_es2/none@toward-zero", "uint8/tensor,max,zero=uint8",
    "e5m10/none", "e4m3fn/none@nearest-even/ieee",
)  # fmt: skip
DTYPES = (ml_dtypes.bfloat16, np.float16)


def matrix(dtype, shape=(37, 211)):
    """Numbers of many sizes, some beyond every format, and in some rows specials and zeros."""
    rng = np.random.default_rng(5)
    with np.errstate(over="ignore"):
        x = (rng.standard_t(2, size=shape) * 2.0 ** rng.integers(-20, 10, size=(shape[0], 1))).astype(dtype)
    x[3], x[4, ::2], x[5, 7], x[6, 8], x[6, 9] = 0, -0.0, np.nan, np.inf, -np.inf
    x[7, :4] = np.array([1, 2, 0x8001, 0x8000], np.uint16).view(dtype)
    return x


def one_by_one(x, scheme, scales):
    finite = np.where(np.isfinite(x), x, x.dtype.type(0))
    quantized = quantize(finite, scheme, scale=scales)
    errors = RowErrors(scheme.format, len(x), finite_only=True)
    errors.add(x.astype(np.float32), quantized.codes, *row_scales(quantized))
    return errors


def same(errors, expected):
    assert np.array_equal(errors.sums, expected.sums)
    for name, value in vars(errors.total()).items():
        assert np.array_equal(value, getattr(expected.total(), name)), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("summarized", [True, False])
def test_every_bit_is_that_of_the_elements(dtype, summarized):
    x = matrix(dtype)
    schemes = [(scheme, choose_scales(x, scheme)) for scheme in map(as_scheme, SCHEMES)]
    summary = ggd.MagnitudeHistogram.from_array(x) if summarized else None
    errors = PatternErrors(x.dtype, schemes, len(x), summary)
    errors.add(x[:20, :100])  # in pieces, of rows and of parts of rows
    errors.add(x[20:], 20)
    errors.add(x[:20, 100:])
    for found, (scheme, scales) in zip(errors.of_schemes(), schemes, strict=True):
        same(found, one_by_one(x, scheme, scales))


def test_each_element_counts():
    x = matrix(np.float16)
    scheme = as_scheme("rf8")
    scales = choose_scales(x, scheme)
    errors = PatternErrors(x.dtype, [(scheme, scales)], len(x))
    other = x.copy()
    other[9, 9] *= np.float16(1.25)
    errors.add(other)
    found, expected = errors.of_schemes()[0], one_by_one(x, scheme, scales)
    assert (found.sums != expected.sums).any(axis=1).nonzero()[0].tolist() == [9]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_report_is_the_same_by_patterns_and_by_elements(dtype, tmp_path, monkeypatch):
    np.save(tmp_path / "w.npy", matrix(dtype).view(np.uint16) if dtype != np.float16 else matrix(dtype))
    if dtype != np.float16:
        from safetensors.numpy import save_file

        save_file({"w": matrix(dtype)}, tmp_path / "w.safetensors")
    path = tmp_path / ("w.npy" if dtype == np.float16 else "w.safetensors")
    settings = Settings((*SCHEMES, "rf8/channel", "int8@stochastic"))
    results = []
    for many in (1, 1 << 40):
        monkeypatch.setitem(meters._MANY, np.dtype(dtype).name, many)
        results.append(measuring.run([path], settings, chunk_elements=1000).to_json())
    assert results[0] == results[1]
