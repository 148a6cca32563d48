"""Channels, and other roundings and scalings than those asked for, against plain numpy."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import rf8sim
from rf8sim.quantization.records import convert, to_builtins
from rf8sim.quantization.scheme import as_scheme
from rf8sim.studies import choices
from rf8sim.studies.choices import alternatives
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


@pytest.mark.parametrize("block", ["tensor", "channel", "1x8", "none", "4x8"])
@pytest.mark.parametrize("chunk", [16, 33, 100, 1 << 20])
def test_channels_against_numpy(tmp_path, block, chunk):
    schemes = [f"{name}/none" if block == "none" else f"{name}/{block},max" for name in ("rf8", "int8")]
    [tensor] = measured(tmp_path, Settings(tuple(schemes)), chunk, w=W).tensors
    for record in tensor.channels:
        expected = decibels(W, rf8sim.quantize(W, record.scheme))
        some = np.isfinite(expected)
        worst = int(np.flatnonzero(some)[np.argmin(expected[some])])
        assert (record.channels, record.worst) == (some.sum(), worst)
        assert record.worst_db == pytest.approx(expected[worst], abs=1e-9)
        assert record.median_db == pytest.approx(np.median(expected[some]), abs=1e-9)
        rms = np.sqrt(np.mean(W[worst].astype(float) ** 2) / np.mean(W.astype(float) ** 2))
        assert record.worst_rms == pytest.approx(rms, rel=1e-9)
    assert [record.scheme for record in tensor.channels] == [as_scheme(scheme) for scheme in schemes]
    if block == "tensor":
        assert tensor.channels[1].worst == 0, "the smallest channel suffers most from one scale"


@pytest.mark.parametrize("scheme", ["int8", "int8/channel", "int8/1x*x*"])
def test_channels_of_experts(tmp_path, scheme):
    [tensor] = measured(tmp_path, Settings((scheme,)), 100, w=W.reshape(4, 10, 33)).tensors
    q = rf8sim.quantize(W.reshape(4, 10, 33), scheme)
    error = W.astype(np.float64) - q.dequantize(np.float64).reshape(40, 33)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = 10 * np.log10(np.sum(W.astype(np.float64) ** 2, axis=1) / np.sum(error**2, axis=1))
    assert tensor.channels[0].channels == 39
    assert tensor.channels[0].worst_db == pytest.approx(np.nanmin(expected), abs=1e-9)
    assert tensor.channels[0].worst == np.nanargmin(expected)


def test_where_there_are_no_channels(tmp_path):
    odd = W.copy()
    odd[3, 3] = np.nan
    found = measured(tmp_path, Settings(("rf8",)), odd=odd, vector=W[0], ones=np.ones((4, 4), np.float32))
    assert [tensor.channels for tensor in found.tensors] == [(), (), ()]
    assert found.total.channels == ()


def test_choices_change_one_thing(tmp_path):
    settings = Settings(("rf8", "int8", "mxfp4"))
    experiment = measured(tmp_path, settings, w=W, **{"norm.weight": W[1]})
    for base in settings.schemes:
        choices = [choice for choice in experiment.choices if choice.base == base]
        assert (choices[0].varied, choices[0].record.scheme) == ("none", base)
        schemes = [choice.record.scheme for choice in choices]
        assert len(set(schemes)) == len(schemes)
        for choice in choices[1:]:
            assert varied(base, choice.record.scheme) == choice.varied
        # All of these tensors are in the sample, so its first record is the report's own.
        total = experiment.total.scheme(base)
        assert choices[0].record.sqnr_db == pytest.approx(total.sqnr_db, rel=1e-9)
        assert choices[0].tensors == ("w", "norm.weight")


def varied(base, other):
    """Name the one thing in which two schemes differ."""
    assert other.format == base.format
    if other.rounding != base.rounding:
        assert other.scales == base.scales
        return "rounding"
    if other.scales is None or other.scales.block != base.scales.block:
        assert other.scales is None or dataclasses.replace(other.scales, block=base.scales.block) == base.scales
        return "block"
    if other.scales.rule != base.scales.rule:
        assert dataclasses.replace(other.scales, rule=base.scales.rule) == base.scales
        return "rule"
    assert dataclasses.replace(other.scales, format=base.scales.format) == base.scales
    return "scale_format"


def test_alternatives():
    def names(scheme, varied):
        return [str(other) for what, other in alternatives(as_scheme(scheme)) if what == varied]

    assert len(names("int8", "rounding")) == 6
    assert len(names("rf8", "rounding")) == 7
    assert names("rf8", "block") == ["rf8/channel", "rf8/1x32", "rf8/none"]
    assert names("rf8/none", "block") == ["rf8", "rf8/channel", "rf8/1x32"]
    assert names("rf8/none", "rule") == names("rf8/none", "scale_format") == []
    assert names("int8", "rule") == ["int8/tensor,ggd", "int8/tensor,max", "int8/tensor,rceil", "int8/tensor,signed"]
    assert names("nvfp4", "block") == [
        "e2m1fn/tensor:e4m3fn,max,nearest-even",
        "e2m1fn/channel:e4m3fn,max,nearest-even/tensor:float32,max",
        "e2m1fn/1x32:e4m3fn,max,nearest-even/tensor:float32,max",
        "e2m1fn/none",
    ]
    assert names("q4_1", "rule") == []
    assert names("mxfp4", "rule") == [
        f"e2m1fn/1x32:e8m0fnu{rule}" for rule in ("", ",ggd", ",max", ",ceil", ",rceil", ",even")
    ]
    assert names("int8", "scale_format") == ["int8/tensor:bfloat16", "int8/tensor:e8m0fnu"]


@pytest.mark.parametrize("scheme", ["int8/channel", "int8/1x32", "int8/tensor:e8m0fnu", "int8@toward-zero"])
def test_choices_against_quantize(tmp_path, scheme):
    experiment = measured(tmp_path, Settings(("int8",)), w=W)
    [choice] = [choice for choice in experiment.choices if choice.record.name == scheme]
    q = rf8sim.quantize(W.astype(np.float64), scheme)
    error = np.sum((W.astype(np.float64) - q.dequantize(np.float64)) ** 2)
    assert choice.record.error.sum_squared_error == pytest.approx(error, rel=1e-12)
    assert choice.record.scales == q.scale.size


def test_the_sample_is_the_first_rows_of_the_largest_of_each_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "SAMPLE_ELEMENTS", 70)
    odd = W.copy()
    odd[0, 0] = np.inf
    found = measured(tmp_path, Settings(("int8",)), **{"a.mlp.w": W[:5], "b.mlp.w": odd, "norm": W[2]})
    first = found.choices[0]
    assert set(first.tensors) == {"b.mlp.w", "norm"}
    assert first.record.error.count == 2 * 33 + 33


def test_the_sample_of_experts_has_their_channels(tmp_path):
    experiment = measured(tmp_path, Settings(("int8/channel",)), experts=W.reshape(4, 10, 33))
    assert experiment.choices[0].record.scales == 40
    assert experiment.choices[0].record.sqnr_db == pytest.approx(experiment.total.schemes[0].sqnr_db, rel=1e-12)


def test_json(tmp_path):
    experiment = measured(tmp_path, Settings(("rf8",)), w=W)
    for choice in experiment.choices:
        data = json.loads(json.dumps(to_builtins(choice), allow_nan=False))
        assert to_builtins(convert(data, ChoiceRecord)) == to_builtins(choice)
    again = type(experiment).from_json(json.loads(json.dumps(experiment.to_json())))
    assert again.tensors[0].channels == experiment.tensors[0].channels
    assert again.tensors[0].fit.family == experiment.tensors[0].fit.family is not None


def test_no_formats_no_choices(tmp_path):
    assert measured(tmp_path, Settings(()), w=W).choices == ()
