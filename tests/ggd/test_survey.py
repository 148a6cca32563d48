"""A checkpoint surveyed: scaled summaries, channels, kinds of tensors, findings, and `python -m ggd`."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import ggd
from ggd.__main__ import main
from ggd.findings import verdict
from ggd.survey import TensorSummary, depth_of, kind_of, summarize, survey


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "depth"),
    [
        ("model.embed_tokens.weight", "embedding", None),
        ("model.layers.31.self_attn.q_proj.weight", "attention", 31),
        ("model.layers.3.mlp.gate_proj.weight", "MLP", 3),
        ("model.layers.3.post_attention_layernorm.weight", "norm", 3),
        ("model.norm.weight", "norm", None),
        ("lm_head.weight", "embedding", None),
        ("transformer.h.7.attn.c_attn.weight", "attention", 7),
        ("transformer.h.7.ln_2.weight", "norm", 7),
        ("transformer.ln_f.weight", "norm", None),
        ("transformer.wpe.weight", "embedding", None),
        ("model.layers.2.block_sparse_moe.experts.5.w1.weight", "MLP", 2),
        ("encoder.layer.0.attention.self.query.bias", "bias", 0),
        ("encoder.layer.11.intermediate.dense.weight", "MLP", 11),
        ("decoder.block.4.layer.0.SelfAttention.k.weight", "attention", 4),
        ("features.0.conv1.weight", "convolution", 0),
        ("bn1.weight", "norm", None),
        ("blocks.2.attn.qkv.weight", "attention", 2),
        ("positions.weight", "embedding", None),
        ("something", "other", None),
    ],
)
def test_names_tell_kind_and_depth(name, kind, depth):
    assert (kind_of(name), depth_of(name)) == (kind, depth)


# --- summaries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.37, 1.0, 4.0, 1e6])
def test_a_scaled_summary_is_that_of_scaled_data(factor):
    x = ggd.GGD(0.8, 0.02).sample(200_000, seed=1)
    x[:100] = 0
    fast = ggd.MagnitudeHistogram.from_array(x).scaled(factor)
    slow = ggd.MagnitudeHistogram.from_array(x * factor)
    assert (fast.count, fast.zero_count) == (slow.count, slow.zero_count)
    assert fast.max == pytest.approx(slow.max, rel=1e-6)
    for p in (0.5, 1.0, 2.0, 4.0):
        # A histogram's own error is at most 6e-6 p |p - 1|, and there are two.
        assert fast.abs_moment(p) == pytest.approx(slow.abs_moment(p), rel=1e-7 + 1.2e-5 * p * abs(p - 1))
    assert fast.mean == pytest.approx(slow.mean, abs=1e-7 * slow.abs_moment(1.0))
    assert ggd.fit(fast).shape == pytest.approx(ggd.fit(slow).shape, rel=1e-5)


def test_a_scaled_summary_loses_no_value_beyond_float32():
    h = ggd.MagnitudeHistogram.from_array([1e-30, 1e30, -1e30]).scaled(1e20)
    assert h.count == 3
    assert ggd.MagnitudeHistogram.from_array([1e-30, 1.0]).scaled(1e-30).nonzero_count == 2


def test_channels_are_at_equal_scale_whatever_the_pieces():
    x = gaussian(40, 50) * np.geomspace(1e-6, 1e6, 40, dtype=np.float32)[:, None]
    whole, pieces = TensorSummary("w", x.shape), TensorSummary("w", x.shape)
    whole.add(x)
    for start in range(0, 40, 7):
        pieces.add(x[start : start + 7])
    assert whole.channels == pieces.channels
    rms = np.sqrt(np.mean(x.astype(np.float64) ** 2, axis=1, keepdims=True))
    expected = ggd.MagnitudeHistogram.from_array(x / rms)
    assert whole.channels.abs_moment(1.0) == pytest.approx(expected.abs_moment(1.0), rel=1e-6)
    assert whole.channels.abs_moment(2.0) == pytest.approx(1.0, rel=1e-6)


def test_channels_with_zeros_nan_and_infinities():
    x = np.ones((4, 16), np.float32)
    x[0] = 0
    x[1, 3], x[2, :2] = np.nan, (np.inf, -np.inf)
    summary = TensorSummary("w", x.shape)
    summary.add(x)
    channels = summary.channels
    assert (channels.zero_count, channels.nan_count, channels.inf_count) == (16, 1, 2)
    assert channels.abs_max == 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_channels_of_any_scale_and_type(dtype):
    """The path for ordinary float32 and the careful one agree, and hold at the ends of the range."""
    x = gaussian(8, 64).astype(dtype)
    ordinary = summarize("w", x).channels
    with_zeros = summarize("w", np.concatenate([x, np.zeros((1, 64), dtype)])).channels
    assert with_zeros.zero_count == 64
    assert with_zeros.abs_sum == pytest.approx(ordinary.abs_sum, rel=1e-6)
    if dtype != np.float16:
        limits = np.array([[1e-37], [1e37]]) if dtype == np.float32 else np.array([[1e-300], [1e300]])
        extreme = summarize("w", (x[:2] / np.abs(x).max() * limits).astype(dtype)).channels
        assert extreme.abs_moment(2.0) == pytest.approx(1.0, rel=1e-4)


def test_narrow_channels_and_vectors_have_none():
    assert summarize("w", gaussian(100, 15)).channels.size == 0
    assert summarize("w", gaussian(100)).channels.size == 0
    found = survey([summarize("a", gaussian(1000, 15)), summarize("b", gaussian(1000))])
    assert found.tensors[0].channels is None
    assert found.tensors[1].channels.shape == pytest.approx(found.tensors[1].fit.shape, rel=1e-5)


# --- findings -----------------------------------------------------------------------------------------------

_SAMPLES = {
    "gaussian": lambda: gaussian(300_000),
    "laplace": lambda: np.random.default_rng(1).laplace(size=300_000),
    "ggd": lambda: ggd.GGD(0.6, 0.02).sample(300_000, seed=2),
    "student-t": lambda: np.random.default_rng(3).standard_t(3, size=300_000),
    "none": lambda: np.ones(100),
}


@pytest.mark.parametrize("truth", _SAMPLES)
def test_the_finding_is_the_truth(truth):
    [entry] = survey([summarize("w", np.asarray(_SAMPLES[truth]()))]).tensors
    assert entry.finding == truth
    assert entry.estimators_split == (truth == "student-t")


def test_pooling_hides_gaussians():
    """The case to be warned of: Gaussian tensors whose scales spread."""
    rng = np.random.default_rng(0)
    scales = np.exp(0.65 * rng.standard_normal(40))
    found = survey(summarize(f"w{i}", (s * rng.standard_normal((16, 128))).astype("f4")) for i, s in enumerate(scales))
    assert 0.8 < found.pooled.fit.shape < 1.2
    assert found.equal_tensors.fit.shape == pytest.approx(2.0, abs=0.05)
    assert found.equal_channels.fit.shape == pytest.approx(2.0, abs=0.1)
    [pooling] = [line for line in verdict(found) if line.startswith("Pooled")]
    assert f"{found.pooled.fit.shape:.2f}" in pooling
    assert f"{found.equal_tensors.fit.shape:.2f} with every tensor" in pooling


def test_channels_of_different_scales_look_like_a_heavy_tail():
    x = gaussian(400, 200) * np.exp(gaussian(400, 1, seed=1))
    found = survey([summarize("w", x)])
    [entry] = found.tensors
    assert entry.fit.shape < 1.1
    assert entry.channels.shape == pytest.approx(2.0, abs=0.06)
    assert any("A tensor pools its channels" in line and "w (from" in line for line in verdict(found))


def test_the_verdict_names_what_is_not():
    found = survey(
        [
            summarize("heavy", np.random.default_rng(3).standard_t(5, size=300_000)),
            summarize("plain", gaussian(300_000)),
            summarize("ggd", ggd.GGD(0.6).sample(300_000, seed=0)),
            summarize("norm.weight", 1 + gaussian(60) / 10),
            summarize("constant", np.ones(50)),
        ]
    )
    text = "\n".join(verdict(found))
    assert "A Gaussian is as good as a generalized Gaussian in plain." in text
    assert "heavy (student-t, by" in text
    assert "in 2 of 3 tensors, with 66.7 % of the weights" in text
    assert "norm.weight and constant do not lie about zero" in text
    assert "2 tensors have no trusted fit and are left out above: " in text
    assert "estimates of the shape disagree in 1 of 3 tensors" in text


def test_nothing_to_survey():
    with pytest.raises(ValueError, match="no tensor was given"):
        survey([])


def test_the_order_of_tensors_changes_no_pooled_fit():
    summaries = [summarize(f"w{i}", gaussian(50, 40, seed=i) * 3**i) for i in range(4)]
    one, other = survey(summaries), survey(summaries[::-1])
    assert [level.fit for level in one.levels] == [level.fit for level in other.levels]


# --- python -m ggd ------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    import ml_dtypes

    x = ggd.GGD(0.7, 0.02).sample((300, 100), seed=0)
    np.save(tmp_path / "w.npy", x)
    np.savez(tmp_path / "w.npz", **{"a.weight": x.astype(np.float32), "ids": np.arange(5), "none": np.empty(0)})
    save_file(
        {"a": x.astype(np.float16), "b": x.astype(ml_dtypes.bfloat16), "i": np.arange(3)}, tmp_path / "w.safetensors"
    )
    return tmp_path


def test_module_table(files, capsys):
    assert main([str(files / "w.safetensors")]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["tensor", "size", "weights"]
    assert [line.split()[0] for line in lines[2:4]] == ["a", "b"]
    assert "300 x 100" in lines[2]
    assert lines[4].startswith("all together")
    assert "'i' is left out: int64 is no floating-point type" in err
    assert "The generalized Gaussians fitted to 2 of them" in out


def test_module_json(files, capsys):
    assert main([str(files / "w.npy"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    [tensor] = data["tensors"]
    assert tensor["name"] == "w"
    assert abs(tensor["fit"]["shape"] - 0.7) < 5 * tensor["fit"]["shape_error"]
    assert tensor["finding"] == "ggd"
    assert set(tensor["families"]) == {*ggd.families.family_names()}
    assert data["pooled"][0]["name"] == "all together"


def test_module_patterns_and_several_files(files, capsys):
    assert main([str(files / "w.npz"), str(files / "w.npy"), "--json", "--exclude", "ids"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [tensor["name"] for tensor in data["tensors"]] == ["w.npz: a.weight", "w.npy: w"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.npy"], "missing.npy: no such file"),
        (["w.txt"], "expected a .npy, .npz or .safetensors file"),
        (["w.npz", "--include", "zz"], "no tensor is left to fit"),
        (["cut.npy"], "not a whole .npy file"),
        (["cut.npz"], "not a whole .npz file"),
        (["cut.safetensors"], "not a whole safetensors file"),
    ],
)
def test_module_bad_input(files, capsys, arguments, message):
    for suffix in (".npy", ".npz", ".safetensors"):
        (files / f"cut{suffix}").write_bytes((files / f"w{suffix}").read_bytes()[:-300])
    assert main([str(files / arguments[0]), *arguments[1:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ggd: error: ")
    assert err.count("\n") == 1
    assert message in err
