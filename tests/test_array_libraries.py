"""Arrays of PyTorch, of the array API and of devices are taken as numpy's are, and answered in kind."""

import subprocess
import sys
import types

import array_api_strict
import ml_dtypes
import numpy as np
import pytest

import ggd
import rf8sim
from ggd.arrays import as_numpy, in_kind
from rf8sim.studies.experiment import Experiment, Settings
from rf8sim.studies.measuring import run

X = np.random.default_rng(0).laplace(size=(40, 50)).astype(np.float32) / 8


class DeviceArray:
    """An array as CuPy's are: numpy may not copy it, `get` does."""

    __module__ = "cupy"

    def __init__(self, array):
        self.array, self.device = array, "gpu 0"

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def get(self):
        return self.array

    def __array_namespace__(self):
        return types.SimpleNamespace(asarray=lambda array, device=None: DeviceArray(array))


def of_device(array):
    return DeviceArray(array)


def of_array_api(array):
    return array_api_strict.asarray(array)


@pytest.mark.parametrize("make", [of_device, of_array_api])
def test_other_arrays_are_answered_in_kind(make):
    codes = rf8sim.encode(make(X), "rf8")
    assert type(codes) is type(make(X))
    expected = rf8sim.encode(X, "rf8")
    assert np.array_equal(as_numpy(codes), expected)
    values = rf8sim.decode(codes, "rf8")
    assert type(values) is type(codes)
    assert np.array_equal(as_numpy(values), rf8sim.decode(expected, "rf8"))
    assert np.array_equal(as_numpy(rf8sim.canonical(codes, "rf8")), expected)
    assert ggd.fit(make(X)) == ggd.fit(X)
    out = np.empty(X.shape, np.uint8)
    assert rf8sim.encode(make(X), "rf8", out=out) is out
    assert type(ggd.deepshape(make(X), shape_factor=0.5)) is type(codes)


def test_an_array_with_dlpack_alone():
    class Exported:
        def __dlpack__(self, **options):
            return X.__dlpack__(**options)

        def __dlpack_device__(self):
            return X.__dlpack_device__()

    assert np.array_equal(rf8sim.encode(Exported(), "rf8"), rf8sim.encode(X, "rf8"))


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_small_floats_are_the_numbers_that_they_are(name):
    small = X.astype(getattr(ml_dtypes, name))
    wide = small.astype(np.float32)
    assert ggd.fit(small) == ggd.fit(wide)
    assert ggd.MagnitudeHistogram.from_array(small) == ggd.MagnitudeHistogram.from_array(wide)
    assert np.array_equal(rf8sim.encode(small, "rf8"), rf8sim.encode(wide, "rf8"))


@pytest.mark.parametrize("function", [
    lambda x: rf8sim.encode(x, "rf8"), lambda x: rf8sim.quantize(x, "int8"), ggd.fit, ggd.deepshape,
    lambda x: rf8sim.measure(x, rf8sim.quantize(X, "int8")), ggd.MagnitudeHistogram.from_array,
    ggd.select, ggd.fit_asymmetric, lambda x: rf8sim.decode(x, "rf8"),
])  # fmt: skip
def test_masked_arrays_are_refused(function):
    masked = np.ma.masked_greater(X, 0.1)
    with pytest.raises(TypeError, match=r"masked array.*x\.compressed\(\)"):
        function(masked)


@pytest.mark.torch
class TestTorch:
    @pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
    def test_tensors(self, name):
        import torch

        tensor = torch.from_numpy(X).to(getattr(torch, name))
        expected = as_numpy(tensor).astype(np.float64)
        assert np.array_equal(expected, tensor.to(torch.float64).numpy())
        codes = rf8sim.encode(tensor, "int8")
        assert (type(codes), codes.dtype, codes.device) == (torch.Tensor, torch.uint8, tensor.device)
        assert np.array_equal(codes.numpy(), rf8sim.encode(expected, "int8"))
        assert rf8sim.encode(tensor, "float16").dtype == torch.uint16
        values = rf8sim.decode(codes, "int8", dtype="bfloat16")
        assert values.dtype == torch.bfloat16
        assert torch.equal(values.float(), rf8sim.decode(codes, "int8"))
        quantized = rf8sim.quantize(tensor, "e4m3fn/1x32")
        assert np.array_equal(quantized.codes, rf8sim.quantize(expected.astype(np.float32), "e4m3fn/1x32").codes)
        assert rf8sim.measure(tensor, quantized).count == X.size
        assert ggd.fit(tensor) == ggd.fit(expected.astype(np.float32))

    def test_gradient_strides_and_views(self):
        import torch

        weight = torch.nn.Parameter(torch.from_numpy(X.copy()))
        assert np.array_equal(rf8sim.encode(weight, "rf8").numpy(), rf8sim.encode(X, "rf8"))
        assert np.array_equal(rf8sim.encode(weight.t()[::2], "rf8").numpy(), rf8sim.encode(X.T[::2], "rf8"))
        assert np.array_equal(as_numpy(torch._neg_view(weight)), -X)
        assert not rf8sim.decode(rf8sim.encode(weight, "rf8"), "rf8").requires_grad

    def test_deepshape_keeps_the_kind(self):
        import torch

        moved = ggd.deepshape(torch.from_numpy(X), shape_factor=0.5)
        assert np.array_equal(moved.numpy(), ggd.deepshape(X, shape_factor=0.5))

    def test_what_numpy_lacks(self):
        import torch

        bits = np.arange(1 << 16, dtype=np.uint16)
        array = bits.view(ml_dtypes.bfloat16)
        tensor = in_kind(array, torch.zeros(1))
        assert np.array_equal(tensor.view(torch.int16).numpy().view(np.uint16), bits)
        assert np.array_equal(as_numpy(tensor).view(np.uint16), bits)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    np.savez(folder / "m.npz", w=X, zero=np.zeros((3, 3), np.float32))
    return run([folder / "m.npz"], Settings(("rf8", "int8/channel")))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(experiment, library):
    frame = experiment.to_dataframe(library)
    assert type(frame).__module__.partition(".")[0] == library
    assert frame.shape[0] == 3 * 2
    assert list(frame["name"]) == ["w", "w", "zero", "zero", "", ""]
    assert list(frame["scheme"][:2]) == ["rf8", "int8/channel"]
    assert frame["sqnr_db"][0] == experiment.tensors[0].schemes[0].sqnr_db
    assert frame["ggd_shape"][0] == experiment.tensors[0].fit.shape
    assert frame["shape"][0] == "40x50"
    again = Experiment.from_json(experiment.to_json()).to_dataframe(library)
    assert again.equals(frame)


def test_a_library_that_is_not_there(experiment, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match="pip install pandas"):
        experiment.to_dataframe()
    with pytest.raises(ValueError, match="unknown library of tables 'arrow'"):
        experiment.to_dataframe("arrow")


def test_nothing_of_these_is_needed():
    code = "import rf8sim, ggd, sys; rf8sim.encode([1.0], 'rf8'); ggd.fit([1.0, 2.0, 3.0])"
    code += "; assert not {'torch', 'pandas', 'polars', 'jax'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
