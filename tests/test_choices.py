"""Channels, and other roundings and scalings than those asked for, against plain numpy."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import rf8sim
from rf8sim.studies import choices
from rf8sim.studies.experiment import ChoiceRecord, Settings
from rf8sim.studies.measuring import run

RNG = np.random.default_rng(11)
W = (RNG.laplace(size=(40, 33)) * np.geomspace(0.01, 1, 40)[:, None]).astype(np.float32)
W[7] = 0


def decibels(x, q):
    error = x.astype(np.float64) - q.dequantize(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(np.sum(x.astype(np.float64) ** 2, axis=1) / np.sum(error**2, axis=1))


def measured(folder, settings=None, chunk_elements=1 << 20, **tensors):
    save_file(tensors, folder / "m.safetensors")
    return run([folder / "m.safetensors"], settings, chunk_elements=chunk_elements)


@pytest.mark.parametrize("scaling", ["tensor", "channel", "block", "none"])
@pytest.mark.parametrize("chunk", [16, 33, 100, 1 << 20])
def test_channels_against_numpy(tmp_path, scaling, chunk):
    settings = Settings(formats=("rf8", "int8"), scaling=scaling, scale_rule="max", block_size=8)
    [tensor] = measured(tmp_path, settings, chunk, w=W).tensors
    for record in tensor.channels:
        q = rf8sim.quantize(W, record.format, scaling=scaling, axis=1 if scaling == "block" else 0, block_size=8)
        expected = decibels(W, q)
        some = np.isfinite(expected)
        worst = int(np.flatnonzero(some)[np.argmin(expected[some])])
        assert (record.channels, record.worst) == (some.sum(), worst)
        assert record.worst_db == pytest.approx(expected[worst], abs=1e-9)
        assert record.median_db == pytest.approx(np.median(expected[some]), abs=1e-9)
        rms = np.sqrt(np.mean(W[worst].astype(float) ** 2) / np.mean(W.astype(float) ** 2))
        assert record.worst_rms == pytest.approx(rms, rel=1e-9)
    assert [record.format for record in tensor.channels] == ["rf8", "int8"]
    if scaling == "tensor":
        assert tensor.channels[1].worst == 0, "the smallest channel suffers most from one scale"


def test_where_there_are_no_channels(tmp_path):
    odd = W.copy()
    odd[3, 3] = np.nan
    found = measured(tmp_path, Settings(formats=("rf8",)), odd=odd, vector=W[0], ones=np.ones((4, 4), np.float32))
    assert [tensor.channels for tensor in found.tensors] == [(), (), ()]
    assert found.total.channels == ()


def test_choices_change_one_thing(tmp_path):
    settings = Settings(formats=("rf8", "int8"))
    found = measured(tmp_path, settings, w=W, **{"norm.weight": W[1]})
    for name in settings.formats:
        own = [choice for choice in found.choices if choice.record.format == name]
        assert (own[0].scaling, own[0].scale_rule, own[0].rounding) == ("tensor", "mse", "nearest-even")
        keys = [(choice.scaling, choice.scale_rule, choice.rounding) for choice in own]
        assert len(set(keys)) == len(keys) == (7 + (name == "rf8")) + 3 + 2
        assert all(sum(a != b for a, b in zip(key, keys[0], strict=True)) == 1 for key in keys[1:])
        # All of these tensors are in the sample, so its first record is the report's own.
        total = found.total.format(name)
        assert own[0].record.sqnr_db == pytest.approx(total.sqnr_db, rel=1e-9)
        assert own[0].tensors == ("w", "norm.weight")


@pytest.mark.parametrize("scaling", ["channel", "block"])
def test_choices_against_quantize(tmp_path, scaling):
    found = measured(tmp_path, Settings(formats=("int8",)), w=W)
    [choice] = [c for c in found.choices if c.scaling == scaling]
    axis = 1 if scaling == "block" else 0
    q = rf8sim.quantize(W.astype(np.float64), "int8", scaling=scaling, axis=axis, scale_rule="mse")
    error = np.sum((W.astype(np.float64) - q.dequantize(np.float64)) ** 2)
    assert choice.record.error.sum_squared_error == pytest.approx(error, rel=1e-12)
    assert choice.record.scales == q.scale.size


def test_the_sample_is_the_first_rows_of_the_largest_of_each_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "SAMPLE_ELEMENTS", 70)
    odd = W.copy()
    odd[0, 0] = np.inf
    found = measured(tmp_path, Settings(formats=("int8",)), **{"a.mlp.w": W[:5], "b.mlp.w": odd, "norm": W[2]})
    first = found.choices[0]
    assert set(first.tensors) == {"b.mlp.w", "norm"}
    assert first.record.error.count == 2 * 33 + 33


def test_json(tmp_path):
    found = measured(tmp_path, Settings(formats=("rf8",)), w=W)
    for choice in found.choices:
        data = json.loads(json.dumps(choice.to_json(), allow_nan=False))
        assert ChoiceRecord.from_json(data).to_json() == choice.to_json()
    again = type(found).from_json(json.loads(json.dumps(found.to_json())))
    assert again.tensors[0].channels == found.tensors[0].channels
    assert again.tensors[0].fit.family == found.tensors[0].fit.family is not None


def test_no_formats_no_choices(tmp_path):
    assert measured(tmp_path, Settings(formats=()), w=W).choices == ()
