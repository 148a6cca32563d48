"""Plans within a divergence of the predictions: the budget is measured, and the sum of single effects is judged."""

import json
import tomllib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import rf8sim  # noqa: E402
from rf8sim.__main__ import main  # noqa: E402
from rf8sim.checkpoints.quantized import open_quantized  # noqa: E402
from rf8sim.checkpoints.requirements import parse_requirement  # noqa: E402
from rf8sim.report.sections.pages import PLAN  # noqa: E402
from rf8sim.studies.divergence_plan import plan_divergence  # noqa: E402
from rf8sim.studies.planning import measure_menu  # noqa: E402
from rf8sim.torch.divergence import ModelPredictions  # noqa: E402

pytestmark = pytest.mark.torch

SCHEMES = ("int8/channel", "e2m3fn/channel", "e2m1fn/channel", "int2/channel")
WORDS = [f"w{number}" for number in range(90)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    """A tiny Llama with a tokenizer of words, and a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    place = tmp_path_factory.mktemp("llama")
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(["<unk>", *WORDS])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    words = np.random.default_rng(0).choice(WORDS, 200)
    (place / "text.txt").write_text(" ".join(words), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def batches():
    return list(torch.randint(0, 96, (3, 24), generator=torch.Generator().manual_seed(1)).split(1))


@pytest.fixture(scope="module")
def menu(folder):
    return measure_menu(folder, SCHEMES, "none")


@pytest.fixture(scope="module")
def predictions(model, batches, menu):
    with ModelPredictions(model, batches, [matrix.name for matrix in menu.matrices]) as predictions:
        yield predictions


def divergence_of(model, batches, schemes):
    """The same by hand: the weights replaced one by one, and the definition of the divergence."""
    parameters = dict(model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in schemes}
    with torch.no_grad():
        before = [model(batch).logits[:, :-1].double().log_softmax(-1) for batch in batches]
        for name, scheme in schemes.items():
            rounded = rf8sim.quantize(kept[name].numpy(), scheme).dequantize(np.float32)
            parameters[name].copy_(torch.from_numpy(rounded))
        after = [model(batch).logits[:, :-1].double().log_softmax(-1) for batch in batches]
        for name, weights in kept.items():
            parameters[name].copy_(weights)
    return float(np.mean([(p.exp() * (p - q)).sum(-1).mean().item() for p, q in zip(before, after, strict=True)]))


def test_divergence_alone_and_together(model, batches, predictions):
    names = list(predictions.names)
    coarse = rf8sim.as_scheme("e2m1fn/channel")
    alone = predictions.alone(coarse)
    assert sorted(alone) == sorted(names)
    for name in (names[0], names[-1]):
        assert alone[name] == pytest.approx(divergence_of(model, batches, {name: coarse}), rel=1e-6)
    mixed = {name: rf8sim.as_scheme(SCHEMES[number % 3]) for number, name in enumerate(names)}
    assert predictions.together(mixed) == pytest.approx(divergence_of(model, batches, mixed), rel=1e-6)
    assert predictions.tokens == 3 * 23


def test_the_plan_keeps_the_bound_when_measured_by_hand(folder, model, batches, menu, predictions):
    bound = 0.02
    planned = plan_divergence(folder, parse_requirement(f"kl<={bound}"), menu, predictions)
    schemes = {choice.name: choice.recipe.scheme for choice in planned.choices}
    measured = divergence_of(model, batches, schemes)
    assert planned.divergence.measured == pytest.approx(measured, rel=1e-6)
    assert 0 < measured <= bound
    # no more bits than one scheme for all that keeps it, and fewer than the most accurate
    uniform = [menu.bits()[:, c].sum() for c in range(len(SCHEMES)) if divergence_of(
        model, batches, dict.fromkeys(schemes, rf8sim.as_scheme(SCHEMES[c]))) <= bound]  # fmt: skip
    spent = sum(choice.cost.code_bits + choice.cost.scale_bits for choice in planned.choices)
    assert spent <= min(uniform)


class Stated:
    """Predictions with stated effects: each tensor alone adds 1e-3, together they cost what a factor says."""

    tokens = 7

    def __init__(self, menu, factor):
        self.menu, self.factor = menu, factor
        self.columns = {recipe.scheme: column for column, recipe in enumerate(menu.recipes)}

    def alone(self, scheme):
        self.scheme = scheme
        return dict.fromkeys((matrix.name for matrix in self.menu.matrices), 1e-3)

    def together(self, schemes):
        errors, coarse = self.menu.errors(), self.columns[self.scheme]
        ratios = [
            errors[row, self.columns[schemes[matrix.name]]] / errors[row, coarse]
            for row, matrix in enumerate(self.menu.matrices)
        ]
        return self.factor * 1e-3 * sum(ratios)


@pytest.mark.parametrize(
    ("factor", "words"), [(1.0, "is a fair estimate"), (3.0, "misjudges"), (0.2, "cost only"), (1.2, "is a fair")]
)
def test_a_sum_that_misjudges_is_named(folder, menu, factor, words):
    planned = plan_divergence(folder, parse_requirement("kl<=0.002"), menu, Stated(menu, factor))
    assert planned.divergence.measured <= 0.002
    assert planned.divergence.measured == pytest.approx(factor * planned.divergence.summed)
    [sentence] = [line for line in PLAN.page(planned).verdict if "adds up to" in line]
    assert words in sentence
    # the next step on the hull would have broken the bound: the measurement decided, not the sum
    if factor == 0.2:
        assert planned.divergence.summed > 0.002


def test_a_bound_that_none_keeps(folder, menu):
    with pytest.raises(ValueError, match="with the most accurate of these schemes the divergence is"):
        plan_divergence(folder, parse_requirement("kl<=1e-12"), menu, Stated(menu, 1.0))


def test_names_with_and_without_the_prefix_of_the_base_model(model, batches):
    with ModelPredictions(model, batches[:1], ["layers.0.mlp.up_proj.weight"]) as predictions:
        [short] = predictions.names.items()
    assert short == ("layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight")
    with pytest.raises(ValueError, match=r"'no\.weight' is no matrix of the model"):
        ModelPredictions(model, batches[:1], ["no.weight"])


def test_the_command(capsys, folder, tmp_path):
    out, page = tmp_path / "plan.toml", tmp_path / "page.json"
    text = ["--text", str(folder / "text.txt"), "--context", "24", "--tokens", "60"]
    options = [word for scheme in SCHEMES for word in ("-f", scheme)]
    command = ["plan", str(folder), "--budget", "kl<=0.02", "-o", str(out), "--report", str(page), *text, *options]
    assert main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "a divergence of" in printed
    divergence = json.loads(page.read_text())["divergence"]
    assert 0 < divergence["measured"] <= 0.02
    assert tomllib.loads(out.read_text())["defaults"]["scheme"] in SCHEMES
    assert main(["quantize", str(folder), "-o", str(tmp_path / "q"), "--plan", str(out), "-q"]) == 0
    stored = {tensor.name: str(tensor.scheme) for tensor in open_quantized(tmp_path / "q") if tensor.recipe}
    chosen = {choice["tensor"]: choice["scheme"] for choice in json.loads(page.read_text())["choices"]}
    assert stored == {name: str(rf8sim.as_scheme(scheme)) for name, scheme in chosen.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "{}", "--budget", "kl<=0.01"], "belong together"),
        (["plan", "{}", "--budget", "sqnr>=20dB", "--text", "{}/text.txt"], "belong together"),
        (["plan", "{}/model.safetensors", "--budget", "kl<=1", "--text", "{}/text.txt"], "for a Hugging Face folder"),
        (["plan", "{}", "--budget", "kl<=1%", "--text", "{}/text.txt"], "kl is given in nats per token"),
        (
            ["plan", "{}", "--budget", "kl>=1", "--text", "{}/text.txt", "--context", "24"],
            "a bound on the divergence is",
        ),
        (["quantize", "{}", "-o", "{}/x.safetensors", "--require", "kl<=1"], "is a budget of 'rf8sim plan"),
    ],
)
def test_refusals(capsys, folder, arguments, message):
    few = ["-f", "int8"] if arguments[0] == "plan" else []
    assert main([argument.format(folder) for argument in arguments] + few) == 2
    assert message in " ".join(capsys.readouterr().err.split())
