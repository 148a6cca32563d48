"""The fine-tuning of the sentence-embedding model, on a small one with random weights: nothing is downloaded here."""

import bz2
import dataclasses
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples" / "sentence_embeddings"))

import compare  # noqa: E402
import distillation  # noqa: E402
import finetune  # noqa: E402
import minilm  # noqa: E402
import rate_report  # noqa: E402
from distillation import WORDS, Run  # noqa: E402
from small_encoder import VOCABULARY, make_weights, write  # noqa: E402
from torch_minilm import Encoder  # noqa: E402

import rf8sim  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights():
    return make_weights()


@pytest.fixture
def folder(tmp_path, weights):
    return write(tmp_path, weights)


@pytest.fixture
def teacher(folder, weights):
    return Encoder(folder, weights).requires_grad_(False)


def batches(steps, seed=0):
    tokens = torch.randint(4, len(VOCABULARY), (steps, 8, 12), generator=torch.Generator().manual_seed(seed))
    tokens[..., 0], tokens[..., -1] = 2, 3
    return tokens


def train(teacher, run, steps=40, rate=3e-3):
    own, run = batches(steps), dataclasses.replace(run, rate=rate)
    return distillation.train(teacher, run, own, torch.stack([teacher.states(batch) for batch in own]))


def bits(model, step):
    import copy

    return sum(distillation.round_(copy.deepcopy(model), step).values())


def test_pytorch_is_numpy(folder, weights, teacher):
    """Every weight is in its place: each matters to the result, and the result is that of numpy."""
    texts = [[2, 10, 4, 5, 3], [2, 3], [2, *range(20, 60), 3]]
    exact = minilm.Encoder(folder, weights)(texts)
    np.testing.assert_allclose(distillation.embed(teacher, texts), exact, atol=2e-6)
    for name in teacher.state_dict():
        changed = {
            **weights,
            name: weights[name] * np.linspace(0.5, 1.5, weights[name].size).reshape(weights[name].shape),
        }
        exact = minilm.Encoder(folder, changed)(texts)
        np.testing.assert_allclose(distillation.embed(Encoder(folder, changed), texts), exact, atol=2e-6)


def test_a_batch_is_its_texts(teacher):
    tokens = batches(1)[0]
    one_by_one = distillation.embed(teacher, tokens.tolist())
    np.testing.assert_allclose(teacher(tokens).numpy(), one_by_one, atol=1e-6)


def test_no_distance_from_itself(teacher):
    states = teacher.states(batches(1)[0])
    assert abs(float(distillation.distance(states, states))) < 1e-6
    assert float(distillation.distance(states + 1, states)) > 0.1


def test_rounding_is_the_codecs(teacher):
    """Codes of the file, the values that training sees, and exact weights beyond the format."""
    step = 2.0**-4
    weight = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    weight[0, :3] = torch.tensor([127 * step, 127.5 * step, -300 * step])
    rounded = distillation.Rounded(step)(weight)
    expected = rf8sim.quantize(weight.numpy(), "int8", scale=step).dequantize()
    expected[0, 1:3] = weight[0, 1:3]
    np.testing.assert_array_equal(rounded.numpy(), expected)
    teacher.encoder["layer"][0]["output"]["dense"].weight.data[:50, :40] = weight[:24, :40]
    before = {name: parameter.clone() for name, parameter in teacher.named_parameters()}
    stored = distillation.round_(teacher, step)
    name = "encoder.layer.0.output.dense.weight"
    assert float(teacher.get_parameter(name)[0, 2]) == -300 * step
    for name, parameter in teacher.named_parameters():
        if parameter.ndim < 2:
            assert torch.equal(parameter, before[name])
            assert stored[name] == 32 * parameter.numel()
        else:
            own = distillation.WORD_STEPS * step if name == WORDS else step
            assert torch.equal(parameter, distillation.Rounded(own)(before[name]))
            assert 0 < stored[name] < 8.5 * parameter.numel() + 8000


def test_exact_weights_are_paid_for(teacher):
    import copy

    other = copy.deepcopy(teacher)
    name = "encoder.layer.0.output.dense.weight"
    teacher.get_parameter(name).data[0, 0] = 127 * 2.0**-4
    other.get_parameter(name).data[0, 0] = 128 * 2.0**-4
    first, second = (distillation.round_(model, 2.0**-4) for model in (teacher, other))
    assert second[name] - first[name] == distillation.EXACT_BITS


def test_fine_tuning_for_fewer_bits(teacher):
    """The prior saves bits, training with rounded weights brings the student nearer, and what is frozen stays."""
    step = 2.0**-4
    plain, losses = train(teacher, Run("plain"))
    prior, _ = train(teacher, Run("prior", 3.0, {"shape": 1.0}))
    assert bits(prior, step) < 0.97 * bits(plain, step)
    assert losses[0] < 1e-6  # the student starts as the teacher
    alone, rounded = Run("alone", step=step), Run("rounded", 3.0, {"shape": 1.0}, step=step)
    student, losses = train(teacher, alone)
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    both, _ = train(teacher, rounded)
    assert bits(both, step) < 0.97 * bits(student, step)
    assert set(both.state_dict()) == set(teacher.state_dict())
    frozen = [name for name, _ in teacher.named_parameters() if "_embeddings." in name]
    assert len(frozen) == 3
    for name in frozen:
        assert torch.equal(prior.get_parameter(name), teacher.get_parameter(name)), name


def test_words_that_no_text_holds_are_shrunk(teacher):
    """Why word embeddings are not constrained: rows without a gradient have nothing to hold them."""
    used = batches(40).unique()
    unused = [i for i in range(len(VOCABULARY)) if i not in set(used.tolist())]
    assert unused  # [PAD] and [UNK] at least
    student, _ = train(teacher, Run("words", 1.0, {"shape": 1.0}, words=True))
    after, before = (model.get_parameter(WORDS)[unused].abs() for model in (student, teacher))
    assert bool((after < before).all())


def test_texts(tmp_path):
    pages = (
        "{{Infobox}}\nThe '''Anarchism''' is a [[political philosophy|philosophy]] &lt;ref&gt;a b&lt;/ref&gt;of "
        + "[[order]] &quot;without&quot; rulers. " * 12
        + "\n"
        + "A line with a {{template {{in}} another}} " * 12
        + "\n* short\n"
    )
    [found] = distillation.paragraphs(pages)
    assert found.startswith("The Anarchism is a philosophy of order without rulers. order")
    judged = "one two three four five six seven eight nine"
    with zipfile.ZipFile(tmp_path / "wheel", "w") as wheel:
        wheel.writestr(
            distillation.NEWS, "said: One two three, four five six seven eight!\none two three four x five\n"
        )
        wheel.writestr(distillation.PAGES, bz2.compress(pages.encode()))
    assert distillation.read_texts(tmp_path / "wheel", [judged]) == ["one two three four x five", found]


def test_windows(folder):
    tokenizer = minilm.Tokenizer(folder / "vocab.txt")
    texts = [" ".join(VOCABULARY[4 + (7 * i + k) % 120] for k in range(25)) for i in range(9)]
    found = distillation.windows(texts, tokenizer, 12, 16, 0)
    assert found.shape == (16, 12)
    assert bool((found[:, 0] == 2).all())
    assert bool((found[:, -1] == 3).all())
    assert len({tuple(row) for row in found.tolist()}) == 16  # no part of a text twice
    with pytest.raises(ValueError, match="18 windows of 12 tokens, 19 are needed"):
        distillation.windows(texts, tokenizer, 12, 19, 0)


def test_records_and_report(folder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(VOCABULARY[4:100], 40)) for _ in range(40)]
    judged, human = [" ".join(rng.choice(VOCABULARY[4:], 9)) for _ in range(8)], rng.random((8, 8))
    out, page = tmp_path / "runs", tmp_path / "page.md"
    out.mkdir()
    runs = [Run("rounded", step=2.0**-5), Run("distilled"), Run("prior", 1.0, {"shape": 1.0})]
    runs.append(Run("prior, words too", 1.0, {"shape": 1.0}, words=True))
    options = {"steps": 3, "runs": runs, "out": out, "grid": (2.0**-4, 2.0**-5), "length": 12}
    found = list(finetune.records(folder, texts, judged, human, **options))
    assert [json.loads((out / f"{name}.json").read_text()) for name in ("original", 0, 1, 2, 3)] == found
    assert [len(record["curve"]) for record in found] == [2, 1, 2, 2, 2]
    assert 0 < found[1]["curve"][0]["bits"] < 8.5
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "1.json").unlink()
    again = list(finetune.records(folder, texts, judged, human, **options))
    assert {path.name for path in before if path.stat().st_mtime_ns != before[path]} == {"1.json"}
    assert again[2]["losses"] == found[2]["losses"]
    capsys.readouterr()
    rate_report.write_report(page, again)
    text = page.read_text(encoding="utf-8")
    assert f"| {again[3]['curve'][0]['bits']:.3f} |" in text
    assert "word embeddings trained and constrained too take" in text
    assert (tmp_path / "page.svg").stat().st_size > 5000
    list(finetune.records(folder, texts, judged, human, **{**options, "steps": 4, "runs": runs[:1]}))
    assert json.loads((out / "0.json").read_text())["steps"] == 4  # a record of another setting is made again


def test_bits_at_a_cosine():
    curve = [{"cosine": 0.9, "bits": 2.0}, {"cosine": 0.999, "bits": 4.0}]
    assert rate_report.bits_at(curve, 0.99) == pytest.approx(3.0)
    assert rate_report.bits_at(curve, 0.9) == pytest.approx(2.0)
    assert rate_report.bits_at(curve, 0.89) is None
    assert rate_report.bits_at(curve, 0.9991) is None
    assert rate_report.bits_at([], 0.9) is None
    assert rate_report.bits_at([*curve, {"cosine": 0.95, "bits": 4.5}], 0.99) == pytest.approx(3.0)


def test_the_command(folder, tmp_path, monkeypatch, capsys):
    """From the two packages to the page, by one command; a second one makes nothing again."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(VOCABULARY[4:100], 62)) for _ in range(60)]
    judged = [" ".join(rng.choice(VOCABULARY[4:], 9)) for _ in range(8)]
    with zipfile.ZipFile(tmp_path / "model.whl", "w") as wheel:
        for name in ("model.safetensors", "config.json", "vocab.txt"):
            wheel.write(folder / name, compare.MODEL + name)
    with zipfile.ZipFile(tmp_path / "texts.whl", "w") as wheel:
        wheel.writestr(compare.TEXTS, "\n".join(judged))
        wheel.writestr(compare.HUMAN, "\n".join(" ".join(map(str, row)) for row in rng.random((8, 8))))
        wheel.writestr(distillation.NEWS, "\n".join(texts))
        wheel.writestr(distillation.PAGES, bz2.compress(b"nothing\n"))
    out, page = tmp_path / "runs", tmp_path / "page.md"
    arguments = [
        tmp_path / "model.whl",
        tmp_path / "texts.whl",
        "--out",
        out,
        "--report",
        page,
        "--quick",
        "--threads",
        1,
    ]
    monkeypatch.setattr(sys, "argv", ["finetune.py", *map(str, arguments)])
    finetune.main()
    text = page.read_text(encoding="utf-8")
    assert "A short run: after 10 steps" in text
    assert {path.name for path in out.iterdir()} == {"original.json", "0.json", "1.json", "2.json"}
    assert capsys.readouterr().out.count("bits, cosine") == 4
    finetune.main()
    assert page.read_text(encoding="utf-8") == text
    assert "bits, cosine" not in capsys.readouterr().out
