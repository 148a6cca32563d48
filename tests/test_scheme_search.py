"""Comparing scale modes: numbers against `quantize` and `measure`, sentences against the table they follow from."""

import itertools
import json
import math
import random

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

import rf8sim
from rf8sim import cli
from rf8sim.entropy.coding import compress
from rf8sim.quantization.metrics import measure
from rf8sim.quantization.records import convert
from rf8sim.quantization.scaling import choose_scales
from rf8sim.report.render import write_page
from rf8sim.report.sections import scheme_search as sections
from rf8sim.report.sections.pages import COMPARE_SCHEMES
from rf8sim.studies.scheme_search import (
    FAMILIES,
    MODES,
    SchemeSearch,
    SearchSpace,
    block_scheme,
    mode_of,
    pareto_front,
    search_schemes,
)

SMALL = SearchSpace(("mxfp4", "int4"), (16, 48, "channel"), ("e8m0fnu", "e4m3fn", "float16"))
WIDE = SearchSpace(tuple(FAMILIES), (32, "channel"), mse=False)
POWERS = SearchSpace(("mxfp4",), (16, 32), ("e8m0fnu",))


def weights():
    rng = np.random.default_rng(0)
    return {
        "layers.0.attn.weight": rng.normal(size=(12, 100)).astype(np.float32),
        "layers.0.mlp.weight": (0.02 * rng.laplace(size=(3, 5, 70))).astype(np.float16),
        "conv.weight": rng.normal(size=(4, 3, 5, 5)).astype(np.float32),
        "embed.weight": np.zeros((2, 40), np.float32),
        "norm.weight": np.ones(30, np.float32),
    }


MATRICES = [name for name, values in weights().items() if values.ndim > 1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "m.safetensors"
    save_file({**weights(), "ids": np.arange(6).reshape(2, 3)}, path)
    return path


@pytest.fixture(scope="module")
def found(checkpoint):
    return search_schemes(checkpoint, SMALL)


# --- what is tried ----------------------------------------------------------------------------------------------------


def test_the_default_tries_every_mode_at_every_block():
    texts = [scheme.text for scheme in SearchSpace().schemes()]
    for block, rule in itertools.product(
        ("1x16", "1x32", "1x64", "1x128", "channel"), (",floor", ",even", ",max,nearest-even", ",ceil", ",rceil", "")
    ):
        assert f"e2m1fn/{block}:e8m0fnu{rule}" in texts
    assert "e2m1fn/1x16:e4m3fn,max,nearest-even/tensor:float32,max" in texts
    assert "e2m1fn/1x32:bfloat16" in texts
    assert not any("1x16:bfloat16" in text or "1x32:float32" in text for text in texts)  # over half a bit a weight
    assert len(set(texts)) == len(texts)


def test_families_have_the_named_schemes():
    names = {str(scheme) for scheme in SearchSpace(tuple(FAMILIES)).schemes()}
    assert {"mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4", "q4_0"} <= names
    assert "int4_g128" in names
    assert {mode_of(scheme) for scheme in SearchSpace(tuple(FAMILIES)).schemes()} == set(MODES)


def test_a_scheme_has_the_mode_it_was_made_with():
    for scheme in SearchSpace(tuple(FAMILIES)).schemes():
        scales = scheme.scales
        block = "channel" if scales.block == (1, -1) else scales.block[1]
        assert block_scheme(scheme.format.name, block, scales.format, mode_of(scheme)) == scheme


def test_without_mse_and_with_other_widths():
    space = SearchSpace(("mxfp8", "int4"), (32,), mse=False)
    assert "mse" not in {mode_of(scheme) for scheme in space.schemes()}
    assert [str(scheme) for scheme in space.references()] == ["nf4_g64", "rf8/1x32", "q8_0"]  # q4_0 is tried


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [SMALL, WIDE], ids=["small", "wide"])
def test_numbers_are_those_of_quantize_and_measure(checkpoint, space):
    found = search_schemes(checkpoint, space)
    tensors = {name: weights()[name] for name in MATRICES}
    assert [tensor.name for tensor in found.tensors] == sorted(MATRICES)
    assert found.results
    for result in (*found.results, *found.references):
        errors, stored, coded = [], 0, 0.0
        for tensor, decibels in zip(found.tensors, result.tensor_db, strict=True):
            values = tensors[tensor.name]
            quantized = rf8sim.quantize(values, result.scheme)
            error = measure(values, quantized)
            errors.append(error)
            assert decibels == (error.sqnr_db if error.sum_squares else math.inf), (result.name, tensor.name)
            bits = result.scheme.scale_bits(values.shape)
            stored += result.scheme.format.bits * values.size + bits
            coded += 8 * len(compress(quantized.codes, "rans")) + bits
        total = result.total
        assert total.weights == sum(values.size for values in tensors.values())
        assert total.sum_squared_error == pytest.approx(sum(e.sum_squared_error for e in errors), rel=1e-14)
        assert total.sum_squares == pytest.approx(sum(e.sum_squares for e in errors), rel=1e-14)
        assert total.clipped == sum(e.overflow for e in errors)
        assert total.zeroed == sum(e.underflow for e in errors)
        assert total.stored_bits == stored
        assert total.coded_bits == pytest.approx(coded, abs=8 * 32 * len(tensors))
        assert total.sqnr_db == pytest.approx(10 * math.log10(total.sum_squares / total.sum_squared_error))
        assert (
            found.tensors[result.worst].name
            == min(zip(result.tensor_db, (tensor.name for tensor in found.tensors), strict=True))[1]
        )


def test_kinds_add_up(found):
    assert {"attention", "MLP", "embedding"} < set(found.kinds)
    for result in found.results:
        for name in ("weights", "clipped", "zeroed", "stored_bits"):
            assert sum(getattr(tally, name) for tally in result.kinds.values()) == getattr(result.total, name)
        [attention] = [i for i, tensor in enumerate(found.tensors) if tensor.kind == "attention"]
        assert result.sqnr_db("attention") == result.tensor_db[attention]


@pytest.mark.parametrize("threads", [1, 2])
def test_neither_threads_nor_chunks_change_a_number(checkpoint, threads):
    space = SearchSpace(("mxfp4",), (16, "channel"), ("e8m0fnu", "e4m3fn"))
    again = search_schemes(checkpoint, space, threads=threads, chunk_elements=100)
    assert again == search_schemes(checkpoint, space, threads=3 - threads)


def test_a_large_tensor_is_divided_among_threads(tmp_path):
    save_file({"w": np.random.default_rng(1).normal(size=(400, 33)).astype(np.float32)}, tmp_path / "m.safetensors")
    space = SearchSpace(("mxfp4", "nvfp4"), (32, "channel"), mse=False)
    runs = [search_schemes(tmp_path / "m.safetensors", space, threads=n, chunk_elements=200) for n in (1, 2)]
    assert runs[0] == runs[1] == search_schemes(tmp_path / "m.safetensors", space)


def test_every_nth_row(checkpoint, tmp_path):
    matrices = {name: weights()[name].reshape(-1, weights()[name].shape[-1])[::3] for name in MATRICES[:2]}
    matrices["conv.weight"] = weights()["conv.weight"].reshape(4, 75)[::3]
    save_file({name: values.copy() for name, values in matrices.items()}, tmp_path / "rows.safetensors")
    wants = matrices.__contains__
    for chunk_elements in (50, 150, 1 << 20):
        sampled = search_schemes(checkpoint, POWERS, every=3, wants=wants, chunk_elements=chunk_elements)
        rows = search_schemes(tmp_path / "rows.safetensors", POWERS)
        assert sampled.results == rows.results
    assert sampled.tensors[0].shape == (2, 75)


def test_weights_that_are_not_finite_are_passed_over(tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    y = np.concatenate([x, np.full((1, 64), np.nan, np.float32)])
    save_file({"w": x}, tmp_path / "x.safetensors")
    save_file({"w": y}, tmp_path / "y.safetensors")
    plain, other = (search_schemes(tmp_path / f"{name}.safetensors", POWERS) for name in "xy")
    for a, b in zip(plain.results, other.results, strict=True):
        assert a.total.sum_squared_error == b.total.sum_squared_error
        assert a.total.weights == b.total.weights == 512


def test_floor_is_the_rule_of_ocp_by_hand():
    """OCP MX 1.0, 6.3: the scale is 2**(floor(log2(amax)) - emax), with emax 2 of E2M1 and 8 of E4M3."""
    block = np.zeros((1, 32), np.float32)
    for amax, e2m1, e4m3 in ((6.0, 1.0, 2.0**-6), (7.99, 1.0, 2.0**-6), (8.0, 2.0, 2.0**-5), (0.3, 2.0**-4, 2.0**-10)):
        block[0, 5] = -amax
        for element, scale in (("e2m1fn", e2m1), ("e4m3fn", e4m3)):
            scheme = block_scheme(element, 32, "e8m0fnu", "floor")
            assert choose_scales(block, scheme).scales[0].item() == scale
    block[0] = [7.0, 3.0, -0.25, 0.24, 1.0] + 27 * [0.5]  # scale 1: 7 is clipped to 6, 0.25 ties to even, that is 0
    error = measure(block, rf8sim.quantize(block, block_scheme("e2m1fn", 32, "e8m0fnu", "floor")))
    assert (error.overflow, error.underflow) == (1, 2)
    assert error.sum_squared_error == pytest.approx(1.0**2 + 0.25**2 + 0.24**2)


# --- the front --------------------------------------------------------------------------------------------------------


def brute_force(points):
    def dominates(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    return {i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)}


def test_the_front_is_that_of_the_definition():
    draw = random.Random(0)
    for _ in range(300):
        points = [(draw.randint(0, 6) / 2, draw.randint(0, 6) / 2) for _ in range(draw.randint(0, 12))]
        front = pareto_front(points)
        assert set(front) == brute_force(points)
        assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)
        assert len(set(front)) == len(front)


def test_the_front_of_a_search(found):
    both = (*found.results, *found.references)
    for coded, name in ((False, "bits_per_weight"), (True, "coded_bits_per_weight")):
        points = [(getattr(result.total, name), result.total.sqnr_db) for result in both]
        assert {result.name for result in found.front(coded)} == {both[i].name for i in brute_force(points)}
    table = sections.scheme_table(found, both, "All")
    marks = {row[0]: row[-1] for row in table.rows}
    stored, coded = ({result.name for result in found.front(c)} for c in (False, True))
    for name, mark in marks.items():
        assert mark == (" and ".join(["bits"] * (name in stored) + ["coded bits"] * (name in coded)) or None)


# --- the verdict ------------------------------------------------------------------------------------------------------


def of_one_block(rows):
    return np.tile(np.array(rows, np.float32), (4, 1))


CEIL_WINS = [[7.5] + [6.0] * 31]  # floor clips 7.5 to 6; with scale 2 it is 8, and all 6s are exact
FLOOR_WINS = [[7.0, 0.5, 1.5, 0.5] * 8]  # floor clips 7 to 6, as far away as 8; scale 2 has neither 0.5 nor 1.5


def searched(tmp_path, rows, name="m"):
    save_file({"layers.0.mlp.weight": of_one_block(rows)}, tmp_path / f"{name}.safetensors")
    return search_schemes(tmp_path / f"{name}.safetensors", SearchSpace(("mxfp4",), (32,), ("e8m0fnu",)))


def test_the_verdict_follows_from_the_data(tmp_path):
    """Two sets of weights, for each of which another rule is best: the sentences differ, each as its table says."""
    ceil, floor = searched(tmp_path, CEIL_WINS), searched(tmp_path, FLOOR_WINS)
    [group] = ceil.groups()
    assert group.gain(group.result("ceil")) > 0
    assert group.best().mode == "even"  # as ceil and rceil here; the first of those equal
    gain = f"{group.gain(group.best()):+.2f} dB"
    assert f"even is the best rule for powers of two, {gain} over OCP's floor" in sections.verdict(ceil)[0]
    assert (
        f"the best rule is even (as good: ceil and rceil) at 32 ({gain}, best on 1 of 1 tensors)"
        in sections.verdict(ceil)[1]
    )
    [group] = floor.groups()
    assert group.gain(group.result("ceil")) < 0
    assert "none gains over OCP's floor" in sections.verdict(floor)[0]
    assert "the best rule is floor" in sections.verdict(floor)[1]


def test_swapped_numbers_change_the_verdict(tmp_path):
    """The records of floor and of the best rule change places: what was gained is now lost."""
    before = searched(tmp_path, CEIL_WINS)
    [group] = before.groups()
    swap = {"floor": group.result("ceil"), "ceil": group.result("floor")}
    results = tuple(
        msgspec.structs.replace(
            r, total=swap.get(r.mode, group.result("floor")).total, kinds=swap.get(r.mode, group.result("floor")).kinds,
            tensor_db=swap.get(r.mode, group.result("floor")).tensor_db,
        )
        for r in before.results
    )  # fmt: skip
    after = msgspec.structs.replace(before, results=results)
    assert "even is the best rule" in sections.verdict(before)[0]
    assert "none gains over OCP's floor" in sections.verdict(after)[0]


def test_kinds_with_other_rules_are_named(tmp_path):
    tensors = {"layers.0.mlp.weight": of_one_block(CEIL_WINS), "layers.0.attn.weight": of_one_block(FLOOR_WINS)}
    save_file(tensors, tmp_path / "two.safetensors")
    space = SearchSpace(("mxfp4",), (32,), ("e8m0fnu",))
    both = search_schemes(tmp_path / "two.safetensors", space)
    [sentence] = [text for text in sections.verdict(both) if "for all kinds of tensors" in text]
    assert "is not the same for all kinds of tensors (attention and MLP): MLP has another in 1 of 1" in sentence
    save_file(dict.fromkeys(tensors, tensors["layers.0.mlp.weight"]), tmp_path / "same.safetensors")
    same = search_schemes(tmp_path / "same.safetensors", space)
    assert any("is the same for all kinds of tensors" in text for text in sections.verdict(same))


def test_modes_in_the_table_are_gains_over_the_usual_one(found):
    for table in sections.mode_tables(found):
        titles = [column.title for column in table.columns]
        for row in table.rows:
            cells = dict(zip(titles, row, strict=True))
            [group] = [
                g for g in found.groups() if (g.element.name, g.scale_format, g.block) == (row[0], row[1], row[2])
            ]
            usual = group.baseline.mode
            for mode in MODES:
                if group.result(mode) is not None and mode != usual:
                    gain = group.result(mode).sqnr_db() - group.baseline.sqnr_db()
                    assert cells[f"{mode} - {usual}"] == gain
                    assert mode == "mse" or gain <= group.gain(group.best())


def test_no_rule_beats_the_search(found):
    assert not any(rule.mode == "mse" for group in found.groups() for rule in group.rules)
    for group in found.groups():
        if group.scale_format == "e8m0fnu":
            assert group.result("mse").sqnr_db() >= group.best().sqnr_db()


# --- the page and the command -----------------------------------------------------------------------------------------


def test_the_record_is_read_back(found):
    assert convert(json.loads(json.dumps(found.to_json())), SchemeSearch) == found


def test_the_page(found, tmp_path):
    written = write_page(COMPARE_SCHEMES.page(found, "rf8sim compare-schemes m.safetensors"), tmp_path)
    names = ["compare_schemes.html", "compare_schemes.md", "compare_schemes.json", "compare_schemes-modes.svg"]
    assert [path.name for path in written] == [*names, "compare_schemes.svg"]
    page = written[1].read_text()
    assert "Made by `rf8sim compare-schemes m.safetensors`" in page
    assert "torchao RCEIL" in page
    again = write_page(COMPARE_SCHEMES.page(found, "rf8sim compare-schemes m.safetensors"), tmp_path / "b")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


@pytest.mark.parametrize("space", [SearchSpace(("nvfp4",), (16,)), SearchSpace(("mxfp8",), (32,), ("float32",))])
def test_nothing_is_asked_of_powers_of_two_that_were_not_tried(checkpoint, space):
    if space.scale_formats:
        space = SearchSpace(space.families, ("channel",), space.scale_formats)
    page = COMPARE_SCHEMES.page(search_schemes(checkpoint, space))
    assert not any("OCP's floor" in sentence for sentence in page.verdict)
    assert page.brief.rows


def test_the_command(capsys, checkpoint, tmp_path):
    out = tmp_path / "out"
    options = ["-f", "mxfp4", "-b", "32", "-b", "channel", "-s", "e8m0fnu", "--include", "layers*", "--no-mse"]
    assert cli.main(["compare-schemes", str(checkpoint), "-o", str(out), *options]) == 0
    shown, err = capsys.readouterr()
    assert err == ""
    assert "even - floor" in shown
    assert "OCP's floor" in shown
    assert f"{out / 'compare_schemes.html'}" in shown
    assert {path.suffix for path in out.iterdir()} == {".html", ".md", ".json", ".svg"}
    data = json.loads((out / "compare_schemes.json").read_text())
    assert data["made_by"].endswith("--block 32 --block channel --scale-format e8m0fnu --include 'layers*' --no-mse")
    read = convert(data, SchemeSearch)
    assert read == search_schemes(
        checkpoint,
        SearchSpace(("mxfp4",), (32, "channel"), ("e8m0fnu",), False),
        wants=lambda n: n.startswith("layers"),
    )
    assert list(data["verdict"]) == sections.verdict(read)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "mxfp5"], "unknown family of schemes 'mxfp5': did you mean 'mxfp"),
        (["-b", "1"], "a block size is a whole number of 2 or more, or 'channel', got 1"),
        (["-b", "row"], "a block size is a whole number of 2 or more, or 'channel', got 'row'"),
        (["-s", "e8m0"], "unknown format of scales 'e8m0': did you mean 'e8m0fnu'?"),
        (["-s", "float32", "-b", "16"], "a scale of these formats would take more than half a bit for each element"),
        (["--include", "nothing"], "no tensor of two axes or more is left by the patterns"),
        (["--every", "0"], "Invalid value for '--every'"),
    ],
)
def test_the_command_refuses(capsys, checkpoint, tmp_path, options, message):
    assert cli.main(["compare-schemes", str(checkpoint), "-o", str(tmp_path / "out"), *options]) == 2
    shown, err = capsys.readouterr()
    assert shown == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_every_is_refused_below_one(checkpoint):
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        search_schemes(checkpoint, every=0)
