"""Pruning: which weights go, and what is measured of it."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

import rf8sim
from rf8sim import cli
from rf8sim.entropy.coding import compress
from rf8sim.report.sections import pruning as pruning_sections
from rf8sim.studies.pruning import Pattern, kept, measure_sparsity, parse_pattern, underflow

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 7), st.integers(1, 11)),
    elements=st.one_of(st.floats(-4, 4, width=32), st.sampled_from([0.0, 1.0, -1.0])),
)


@given(values=MATRICES, share=st.floats(0, 1))
def test_a_share_takes_the_least(values, share):
    keep = kept(values, Pattern(share=share))
    assert np.count_nonzero(~keep) == round(share * values.size)
    if keep.any() and not keep.all():
        assert np.abs(values[keep]).min() >= np.abs(values[~keep]).max()


@given(values=MATRICES, n=st.integers(1, 5), extra=st.integers(0, 4))
def test_groups_keep_their_largest(values, n, extra):
    m = n + extra
    keep = kept(values, Pattern(group=(n, m)))
    for row, own in zip(values, keep, strict=True):
        for start in range(0, row.size, m):
            part, left = np.abs(row[start : start + m]), own[start : start + m]
            assert left.sum() == math.ceil(n * part.size / m)
            if not left.all():
                assert part[left].min() >= part[~left].max()


@given(values=MATRICES, threshold=st.floats(0, 4))
def test_a_threshold_keeps_what_reaches_it(values, threshold):
    assert np.array_equal(kept(values, Pattern(threshold=threshold)), np.abs(values) >= threshold)


def test_equal_magnitudes_go_from_the_end():
    assert kept(np.ones((1, 4)), Pattern(share=0.5)).tolist() == [[True, True, False, False]]
    assert kept(np.ones((1, 4)), Pattern(group=(1, 2))).tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("text", ["0%", "80%", "12.5%", "<0.01", "<1e-05", "2:4", "1:1"])
def test_patterns_are_read_as_they_are_written(text):
    assert str(parse_pattern(text)) == text


@pytest.mark.parametrize(
    "text", ["", "80", "101%", "-1%", "<", "<5%", "4:2", "0:4", "2:300", "nan%", "1e999%", "<1e999"]
)
def test_no_patterns(text):
    with pytest.raises(ValueError, match="pattern"):
        parse_pattern(text)


def test_only_matrices_are_pruned():
    with pytest.raises(ValueError, match=r"got shape \(3,\): reshape to \(rows, columns\)"):
        kept(np.ones(3), Pattern(share=0.5))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("pruning") / "m.safetensors"
    generator = np.random.default_rng(0)
    tensors = {name: generator.laplace(size=(100, 200)) * size for name, size in (("a", 1.0), ("b", 0.1))}
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, path)
    return path


def test_what_is_measured_is_the_thing_itself(checkpoint):
    from safetensors.numpy import load_file

    found = measure_sparsity(checkpoint, [Pattern(share=0.7), Pattern(group=(2, 4))], scopes=["tensor"])
    assert [(r.pattern, r.scheme) for r in found.results] == [
        ("70%", "float32"), ("70%", "rf8"), ("2:4", "float32"), ("2:4", "rf8"),
    ]  # fmt: skip
    values = load_file(checkpoint)
    for result, pattern in zip(found.results[1::2], (Pattern(share=0.7), Pattern(group=(2, 4))), strict=True):
        bytes_, error, zeros = 0, 0.0, 0
        for matrix in values.values():
            pruned = np.where(kept(matrix, pattern), matrix, np.float32(0))
            q = rf8sim.quantize(pruned, "rf8")
            bytes_ += len(compress(q.codes)) + 1
            error += float(np.sum((matrix.astype(np.float64) - q.dequantize(np.float64)) ** 2))
            zeros += int(np.count_nonzero(q.dequantize() == 0))
        assert abs(result.cost.bits_per_weight * 40_000 / 8 - bytes_) < 64
        assert result.cost.error == pytest.approx(error, rel=1e-9)
        assert result.zeros == zeros
        assert result.sparsity == zeros / 40_000


def test_one_threshold_for_all_spares_the_large_tensor(checkpoint):
    found = measure_sparsity(checkpoint, [Pattern(share=0.5)], schemes=[])
    each, all_ = found.results
    assert (each.scope, all_.scope) == ("tensor", "global")
    assert each.sparsity == 0.5
    assert all_.sparsity == pytest.approx(0.5, abs=0.005)
    assert all_.cost.sqnr_db > each.cost.sqnr_db + 3


def test_more_pruning_costs_more_and_takes_less(checkpoint):
    found = measure_sparsity(checkpoint, [Pattern(share=s / 10) for s in range(10)], scopes=["tensor"])
    for fmt in ("float32", "rf8"):
        own = [result.cost for result in found.results if result.scheme == fmt]
        assert all(a.bits_per_weight > b.bits_per_weight for a, b in itertools.pairwise(own[1:]))
        assert all(a.sqnr_db > b.sqnr_db for a, b in itertools.pairwise(own))


def test_underflow_is_what_the_format_makes_zero(checkpoint):
    found = measure_sparsity(checkpoint, [Pattern(share=0.0)], schemes=["rf8", "e2m1fn"])
    shares = dict(underflow(found.results))
    assert shares["rf8"] < 0.001 < 0.05 < shares["e2m1fn"]


def test_a_pruned_model_is_worse():
    from rf8sim.models.transformer import load_model, read_windows

    model = load_model("examples/lm/model.safetensors")
    windows = read_windows("examples/lm/validation.bin", model, 256)
    patterns = [Pattern(share=0.0), Pattern(share=0.8)]
    found = measure_sparsity("examples/lm/model.safetensors", patterns, scopes=["tensor"], model=(model, windows))
    losses = [np.mean(result.losses) - np.mean(found.baseline) for result in found.results]
    assert losses[0] == 0
    assert abs(losses[1]) < 0.02
    assert min(losses[2:]) > 1
    assert "With 80 % pruned (scope tensor, the better one)" in " ".join(pruning_sections.verdict(found))


def test_the_command(capsys, checkpoint, tmp_path):
    out = tmp_path / "out"
    assert cli.main(["prune", str(checkpoint), "-o", str(out), "-p", "0%", "-p", "50%", "-p", "2:4"]) == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert "Without pruning, rf8 rounds" in printed
    assert sorted(path.name for path in out.iterdir()) == [f"sparsity.{kind}" for kind in ("html", "json", "md", "svg")]
    data = json.loads((out / "sparsity.json").read_text())
    assert [result["pattern"] for result in data["results"]] == ["0%"] * 2 + ["50%"] * 4 + ["2:4"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["-p", "80"],
            "a pattern of pruning is a share such as '80%', a threshold such as '<0.01', or '2:4', got '80'",
        ),
        (["-f", "rf9"], "unknown format or scheme 'rf9'"),
        (["--include", "nothing"], "no tensor of two axes or more is left by the patterns"),
    ],
)
def test_the_command_refuses(capsys, checkpoint, tmp_path, options, message):
    assert cli.main(["prune", str(checkpoint), "-o", str(tmp_path / "out"), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert not (tmp_path / "out").exists()
