"""Any model judged by its own outputs, next to the same written out in plain PyTorch."""

import json
import math
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

import ggd  # noqa: E402
import rf8sim  # noqa: E402
from rf8sim import cli  # noqa: E402
from rf8sim.models.outputs import ModelOutputs  # noqa: E402
from rf8sim.models.precision import Precision, as_precision  # noqa: E402
from rf8sim.quantization.scaling import scales_from_histogram  # noqa: E402
from rf8sim.torch import EvaluateConfig, evaluate  # noqa: E402
from rf8sim.torch import evaluation as evaluation_module  # noqa: E402
from rf8sim.torch.layers import BlockReplay  # noqa: E402
from rf8sim.torch.matrices import find_matrices  # noqa: E402
from rf8sim.torch.pretrained import rounded_cache  # noqa: E402

pytestmark = pytest.mark.torch

VOCABULARY, WINDOWS, TOKENS = 96, 3, 24


def tiny_llama(tied=False):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tied, initializer_range=0.2,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The models are so small that a second thread is waited for longer than it works."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(one_thread):
    return tiny_llama()


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    return list(torch.randint(0, VOCABULARY, (WINDOWS, TOKENS), generator=generator).split(1))


@pytest.fixture(scope="module")
def found(model, batches):
    """One evaluation that most tests look at."""
    schemes = [
        "float32",
        "rf8",
        "int8_channel",
        "e2m1fn",
        Precision("rf8", "int8/channel,max"),
        Precision("rf8", "int8"),
    ]
    config = EvaluateConfig(layers="e2m1fn", layer_batches=2)
    return evaluate(model, batches, schemes, config, name="tiny", data="random tokens")


def logits_of(model, batches, **options):
    with torch.no_grad():
        return torch.cat([model(ids, use_cache=False, **options).logits for ids in batches]).double()


def scores(original, logits, batches):
    """Losses and divergences of windows, and agreement, as they are defined."""
    ids = torch.cat(batches)
    p, q = (torch.log_softmax(x[:, :-1], -1) for x in (original, logits))
    pairs = zip(logits[:, :-1], ids[:, 1:], strict=True)
    windows = [nn.functional.cross_entropy(x, right).item() for x, right in pairs]
    divergences = nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1).mean(1)
    return windows, divergences.tolist(), (p.argmax(-1) == q.argmax(-1)).double().mean().item()


def numbers_of(parameter, scheme):
    return torch.from_numpy(rf8sim.quantize(parameter.detach().numpy(), scheme).dequantize(np.float32))


def with_rounded(model, scheme, names=None):
    """A copy of the model with its matrices rounded."""
    copy = tiny_llama()
    copy.load_state_dict(model.state_dict())
    for name, parameter in copy.named_parameters():
        if parameter.ndim == 2 and (names is None or name in names):
            parameter.data = torch.from_numpy(
                rf8sim.quantize(parameter.detach().numpy(), scheme).dequantize(np.float32)
            )
    return copy


def same_scores(result, original, logits, batches):
    losses, divergences, agreement = scores(original, logits, batches)
    assert result.losses == pytest.approx(losses, rel=1e-9)
    assert result.divergences == pytest.approx(divergences, rel=1e-6, abs=1e-12)
    assert result.agreement == pytest.approx(agreement)
    error = (logits - original)[:, :-1].square().sum() / original[:, :-1].square().sum()
    assert result.noise == pytest.approx(error.item(), rel=1e-9)


# --- the whole model ------------------------------------------------------------------------------------------------


def test_what_rounds_nothing_is_the_original_exactly(found, model, batches):
    plain = found.results[0]
    assert plain.losses == found.baseline_losses
    assert (plain.divergence, plain.agreement, plain.noise, plain.not_finite) == (0.0, 1.0, 0.0, 0.0)
    assert plain.bits_per_weight is None
    losses = [model(ids, labels=ids, use_cache=False).loss.item() for ids in batches]
    assert found.baseline_losses == pytest.approx(losses, rel=1e-5)
    assert (found.task, found.tokens, found.windows) == ("next-token", WINDOWS * (TOKENS - 1), WINDOWS)


@pytest.mark.parametrize(("number", "scheme"), [(1, "rf8"), (2, "int8_channel"), (3, "e2m1fn")])
def test_rounded_weights(found, model, batches, number, scheme):
    original, logits = logits_of(model, batches), logits_of(with_rounded(model, scheme), batches)
    same_scores(found.results[number], original, logits, batches)
    assert found.results[number].bits_per_weight == pytest.approx(8 if scheme != "e2m1fn" else 4, abs=1)


def rounding_hooks(model, scheme, summaries=None):
    """Round what enters each Linear layer, and return the hooks."""

    def enter(name):
        def hook(module, arguments):
            rows = arguments[0].numpy().reshape(-1, arguments[0].shape[-1])
            scale = summaries and scales_from_histogram(summaries[name], scheme)
            numbers = rf8sim.quantize(rows, scheme, scale=scale).dequantize(np.float32)
            return (torch.from_numpy(numbers).reshape(arguments[0].shape),)

        return hook

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [module.register_forward_pre_hook(enter(name)) for name, module in layers]


def test_activations_rounded_on_the_fly(found, model, batches):
    rounded = with_rounded(model, "rf8")
    rounding_hooks(rounded, "int8/channel,max")
    same_scores(found.results[4], logits_of(model, batches), logits_of(rounded, batches), batches)


def test_activations_with_static_scales(found, model, batches):
    """The scale of a layer's inputs comes from the original's run on the calibration data, the first batches."""
    summaries = {}

    def record(name):
        return lambda module, arguments: summaries.setdefault(name, ggd.MagnitudeHistogram()).update(
            arguments[0].numpy().ravel()
        )

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_pre_hook(record(name)) for name, module in layers]
    logits_of(model, batches[:2])
    for hook in hooks:
        hook.remove()
    rounded = with_rounded(model, "rf8")
    rounding_hooks(rounded, "int8", summaries)
    same_scores(found.results[5], logits_of(model, batches), logits_of(rounded, batches), batches)


def test_rounded_cache(model, batches):
    """Keys (after their rotation) and values as attention reads them, next to attention with them rounded."""
    config = EvaluateConfig(cache=rounded_cache)
    plain, coarse = evaluate(model, batches, ["float32", Precision(cache="e2m1fn/channel,max")], config).results

    def attention(module, query, key, value, mask, **options):
        key, value = (
            torch.from_numpy(
                rf8sim.quantize(x.numpy().reshape(-1, x.shape[-1]), "e2m1fn/channel,max").dequantize(np.float32)
            ).reshape(x.shape)
            for x in (key, value)
        )
        return transformers.models.llama.modeling_llama.eager_attention_forward(
            module, query, key, value, mask, **options
        )

    transformers.AttentionInterface.register("rounded", attention)
    transformers.AttentionMaskInterface.register("rounded", transformers.masking_utils.eager_mask)
    copy = with_rounded(model, "rf8", ())
    copy.set_attn_implementation("rounded")
    losses, divergences, _ = scores(logits_of(model, batches), logits_of(copy, batches), batches)
    assert coarse.losses == pytest.approx(losses, rel=1e-5)
    assert coarse.divergences == pytest.approx(divergences, rel=1e-3)
    assert coarse.divergence > 1e-3 > plain.divergence == 0


def test_accumulator(model, batches):
    """Exact sums of rounded weights and activations are PyTorch's to its last digits; a narrow accumulator is not."""
    both = Precision("int8_channel", "int8/channel,max")
    paths = [both, *(Precision(both.weights, both.activations, accumulator=name) for name in ("exact", "e4m3fn"))]
    torch_sums, exact, narrow = evaluate(model, batches[:1], paths).results
    assert exact.losses == pytest.approx(torch_sums.losses, rel=1e-4)
    assert exact.losses != torch_sums.losses
    assert narrow.divergence > 2 * exact.divergence


def test_tied_weights_and_convolutions_of_gpt2():
    """A tied matrix is one; GPT-2's Conv1D holds (inputs, outputs), and channels are outputs."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    gpt2 = transformers.GPT2LMHeadModel(config).eval()
    names = [item.name for item in find_matrices(gpt2)]
    assert "transformer.wte.weight" in names
    assert "lm_head.weight" not in names
    weight = gpt2.transformer.h[0].mlp.c_fc.weight
    assert weight.shape == (16, 64)
    before = weight.detach().numpy().copy()
    ids = torch.arange(20)[None]
    seen = []
    handle = gpt2.transformer.h[0].mlp.c_fc.register_forward_hook(
        lambda m, a, o: seen.append(m.weight.detach().clone())
    )
    evaluate(gpt2, [ids], ["int4/channel,max"])
    handle.remove()
    expected = rf8sim.quantize(before.T.copy(), "int4/channel,max").dequantize(np.float32).T
    np.testing.assert_array_equal(seen[-1].numpy(), expected)
    np.testing.assert_array_equal(weight.detach().numpy(), before)


# --- layers ---------------------------------------------------------------------------------------------------------


def layer_output(model, module_name, batches):
    outputs = []
    hook = model.get_submodule(module_name).register_forward_hook(lambda m, a, output: outputs.append(output))
    logits = logits_of(model, batches)
    hook.remove()
    return torch.cat(outputs).double(), logits


def test_every_layer_alone_and_with_all(found, model, batches):
    two = batches[:2]
    assert len(found.layers) == 2 + 3 * 7
    assert found.layer_tokens == 2 * (TOKENS - 1)
    every = with_rounded(model, "e2m1fn")
    for name in ("model.embed_tokens", "model.layers.1.mlp.down_proj", "model.layers.2.self_attn.v_proj", "lm_head"):
        layer = next(layer for layer in found.layers if layer.name == f"{name}.weight")
        one = with_rounded(model, "e2m1fn", [f"{name}.weight"])
        before, original = layer_output(model, name, two)
        alone, logits = layer_output(one, name, two)
        below, _ = layer_output(every, name, two)
        power = before.square().sum()
        assert layer.noise_alone == pytest.approx(((alone - before).square().sum() / power).item(), rel=1e-6)
        assert layer.noise_below == pytest.approx(((below - before).square().sum() / power).item(), rel=1e-6)
        assert layer.effect == pytest.approx(np.mean(scores(original, logits, two)[1]), rel=1e-6)
        assert layer.shape == tuple(model.get_submodule(name).weight.shape)


def test_a_damaged_layer_comes_first(batches):
    """One weight so large that it takes the scale of its tensor: its layer is the one to keep."""
    damaged = tiny_llama()
    damaged.model.layers[1].self_attn.o_proj.weight.data[3, 5] = 40.0
    found = evaluate(damaged, batches, [], EvaluateConfig(layers="int8/tensor,max"))
    first, second, *_ = found.sorted_layers()
    assert first.name == "model.layers.1.self_attn.o_proj.weight"
    assert first.effect > 5 * second.effect


def test_blocks_that_are_given_again_change_nothing(found, model, batches, monkeypatch):
    monkeypatch.setattr(BlockReplay, "first_changed", lambda self, names: 0)
    config = EvaluateConfig(layers="e2m1fn", layer_batches=2)
    assert evaluate(model, batches, [], config).layers == found.layers


class _Remembers(nn.Module):
    """Blocks that leave something behind besides what they return."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(30, 8), nn.Linear(8, 30)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.calls = 0

    def forward(self, ids):
        x = self.embed(ids)
        kept = []
        handle = self.blocks[0].register_forward_pre_hook(lambda m, a: kept.append(a[0]))
        for block in self.blocks:
            x = torch.tanh(block(x))
        handle.remove()
        return self.head(x + kept[0]) if kept else self.head(x)


def test_layers_of_any_module_and_dropout_is_off():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(30, 8), nn.Dropout(0.5), nn.Linear(8, 30)).train()
    ids = torch.randint(0, 30, (2, 9))
    plain, coarse = (evaluate(model, [ids], ["float32", "int2"], EvaluateConfig(layers="int2")) for _ in range(2))
    assert plain == coarse
    assert plain.results[0].divergence == 0
    assert model.training
    assert model[1].training
    blocks = _Remembers()
    found = evaluate(blocks, [ids], [], EvaluateConfig(layers="int4"))
    assert all(layer.effect > 0 for layer in found.layers)


# --- activations ----------------------------------------------------------------------------------------------------


def test_inputs_of_layers_are_summarized(batches):
    marked = tiny_llama()
    marked.model.norm.weight.data[7] = 50.0  # a channel of what enters the head
    found = evaluate(marked, batches, [], EvaluateConfig(layer_batches=3))
    assert [inputs.name for inputs in found.inputs] == [
        name for name, module in marked.named_modules() if isinstance(module, nn.Linear)
    ]
    rows = []
    hook = marked.lm_head.register_forward_pre_hook(lambda m, arguments: rows.append(arguments[0][0].numpy()))
    logits_of(marked, batches)
    hook.remove()
    rows = np.concatenate(rows)
    head = found.inputs[-1]
    fit = ggd.fit(rows)
    assert (head.count, head.channels, head.outlier, head.outliers) == (rows.size, 32, 7, 1)
    assert head.largest == np.abs(rows).max()
    assert head.rms == pytest.approx(np.sqrt(np.square(rows, dtype=float).mean()), rel=1e-6)
    assert (head.shape, head.scale) == pytest.approx((fit.shape, fit.scale))
    largest = np.abs(rows).max(axis=0)
    assert head.outlier_ratio == pytest.approx(largest.max() / np.median(largest))


# --- other tasks ----------------------------------------------------------------------------------------------------


def test_embeddings_of_an_encoder():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    bert = transformers.BertModel(config).eval()
    ids = torch.randint(1, 60, (3, 10))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    found = evaluate(bert, [batch], ["float32", "e2m1fn"], EvaluateConfig(layers="e2m1fn"))
    plain, coarse = found.results
    assert (found.task, found.baseline, plain.loss) == ("outputs", None, None)
    assert (plain.cosine, plain.sqnr_db) == (1.0, math.inf)

    def embedded(model):
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state.double()
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    before = embedded(bert)
    for parameter in bert.parameters():
        if parameter.ndim == 2:
            parameter.data = torch.from_numpy(
                rf8sim.quantize(parameter.detach().numpy(), "e2m1fn").dequantize(np.float32)
            )
    after = embedded(bert)
    assert coarse.cosines == pytest.approx(nn.functional.cosine_similarity(before, after).tolist(), rel=1e-9)
    assert coarse.noise == pytest.approx(((after - before).square().sum() / before.square().sum()).item(), rel=1e-9)
    assert max(layer.effect for layer in found.layers) > 0


def test_labels_of_a_classifier_of_images():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, pixels):
            return self.net(pixels)

    pixels, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, -100])
    batch = {"pixels": pixels, "labels": labels}
    found = evaluate(Named(), [batch], ["float32", "int4/channel,max", Precision("int8", "int8/channel,max")])
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(pixels).double()[:5], labels[:5], reduction="none")
    assert found.baseline_losses == pytest.approx(expected.tolist(), rel=1e-9)
    assert found.tokens == 5
    assert 0 == found.results[0].divergence < found.results[1].divergence


def test_outputs_that_are_not_finite_are_counted():
    model = nn.Sequential(nn.Linear(4, 4))
    with torch.no_grad():
        model[0].weight.fill_(1e6)  # beyond the largest number of E5M2
    schemes = ["e5m2/none@nearest-even/infinity", "e5m2/none", "e5m2"]
    found = evaluate(model, [torch.ones(3, 4)], schemes, EvaluateConfig(task="outputs"))
    assert [result.not_finite for result in found.results] == [1.0, 0.0, 0.0]


# --- resuming, and what is refused ------------------------------------------------------------------------------------


def test_work_goes_on_where_it_stopped(model, batches, tmp_path, monkeypatch):
    journal = tmp_path / "kept.json"
    config = EvaluateConfig(layers="rf8", journal=journal)
    expected = evaluate(model, batches, ["rf8", "e2m1fn"], EvaluateConfig(layers="rf8"))
    real, calls = evaluation_module.run_batch, 0

    def stopping(*arguments, **options):  # as an interrupt in the middle of the layers
        nonlocal calls
        calls += 1
        if calls > 3 * WINDOWS + 6:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(evaluation_module, "run_batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, batches, ["rf8", "e2m1fn"], config)
    np.testing.assert_array_equal(logits_of(model, batches[:1]), logits_of(tiny_llama(), batches[:1]))  # put back
    kept = json.loads(journal.read_text())
    assert 2 < len(kept["results"]) < 2 + len(expected.layers)
    calls = -10_000
    assert evaluate(model, batches, ["rf8", "e2m1fn"], config) == expected
    calls, allowed = 0, []
    monkeypatch.setattr(evaluation_module, "run_batch", lambda *a, **o: allowed.append(1) or real(*a, **o))
    assert evaluate(model, batches, ["rf8", "e2m1fn"], config) == expected
    assert len(allowed) == WINDOWS  # the original alone
    other = tiny_llama()
    other.model.norm.weight.data *= 2
    assert evaluate(other, batches, ["rf8"], config).results != expected.results[:1]


def test_records_survive_json(found):
    assert ModelOutputs.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.to_json()["results"][1]["perplexity"] == pytest.approx(math.exp(found.results[1].loss))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, b: evaluate(m, [], ["rf8"]), "there are no batches"),
        (lambda m, b: evaluate(m, b, ["rf9"]), "rf9"),
        (lambda m, b: evaluate(m, b, [Precision(cache="rf8")]), "cache of keys and values cannot be rounded"),
        (lambda m, b: evaluate(m, b, [], EvaluateConfig(filter_fn=lambda *_: False)), "no matrix to round"),
        (lambda m, b: evaluate(m, [b[0][:, :1]], ["rf8"]), "windows need two tokens"),
        (lambda m, b: evaluate(m, b, [], EvaluateConfig(layers="float32")), "layers are measured with rounded weights"),
        (lambda m, b: EvaluateConfig(task="loss"), "task"),
        (lambda m, b: EvaluateConfig(layer_batches=0), "layer_batches"),
        (
            lambda m, b: evaluate(m.to("meta") if False else nn.Linear(2, 2, device="meta"), [torch.ones(1, 2)], []),
            "meta",
        ),
        (lambda m, b: Precision(accumulator="float32"), "give a scheme for the weights"),
        (lambda m, b: Precision("rf8", accumulator="int:24"), "sums integers"),
    ],
)
def test_refusals(model, batches, make, message):
    with pytest.raises(ValueError, match=message):
        make(model, batches)


def test_weights_that_a_format_cannot_hold_name_their_layer(batches):
    broken = tiny_llama()
    broken.model.layers[0].mlp.up_proj.weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.up_proj\.weight: "):
        evaluate(broken, batches, ["int8"])


def test_precisions_are_read_as_they_are_written():
    assert as_precision("rf8") == Precision("rf8") == as_precision(Precision(rf8sim.as_scheme("rf8")))
    assert str(Precision("rf8", "int8", "e4m3fn", "hopper-fp8")) == (
        "rf8, activations int8, cache e4m3fn, accumulator hopper-fp8"
    )


# --- the command -----------------------------------------------------------------------------------------------------

WORDS = [f"word{n}" for n in range(40)]
TEXT = "\n\n".join(" ".join(WORDS[(3 * i * j + i) % 40] for j in range(12)) for i in range(30))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    """A tiny Llama with a tokenizer, as `save_pretrained` writes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    place = tmp_path_factory.mktemp("hf") / "tiny"
    words = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    options = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options).save_pretrained(place)
    tiny_llama().save_pretrained(place)
    (place.parent / "text.txt").write_text(TEXT)
    return place


def test_command(folder, tmp_path, capsys):
    text = folder.parent / "text.txt"
    arguments = ["evaluate", folder, "--text", text, "--context", 32, "--tokens", 128, "-f", "float32", "-f", "rf8"]
    options = ["--activations", "none", "--activations", "int8_channel", "--cache", "e4m3fn", "--layers", "rf8"]
    arguments += [*options, "--exclude", "*embed*", "--threads", 1, "-o", tmp_path / "out"]
    assert cli.main([str(word) for word in arguments]) == 0
    out, _ = capsys.readouterr()
    assert "The loss of tiny on text.txt is" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    data = json.loads((tmp_path / "out" / "evaluate.json").read_text())
    found = ModelOutputs.from_json(data)
    assert [str(result.precision) for result in found.results] == [
        "float32, cache e4m3fn", "rf8, cache e4m3fn", "float32, activations int8_channel, cache e4m3fn",
        "rf8, activations int8_channel, cache e4m3fn",
    ]  # fmt: skip
    assert (found.tokens, found.windows, found.threads) == (4 * 31, 4, 1)
    assert not [layer for layer in found.layers if "embed" in layer.name]
    page = (tmp_path / "out" / "evaluate.md").read_text()
    assert "## Which layers to keep" in page
    assert "## What enters the layers" in page
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = transformers.AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"][0, :128]
    with torch.no_grad():
        losses = [loaded(row[None], labels=row[None]).loss.item() for row in ids.reshape(4, 32)]
    assert found.baseline_losses == pytest.approx(losses, rel=1e-5)


def test_command_with_an_encoder(folder, tmp_path, capsys):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    bert = tmp_path / "bert"
    transformers.BertModel(config).save_pretrained(bert)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, bert / name)
    text = folder.parent / "text.txt"
    arguments = ["evaluate", bert, "--text", text, "-f", "float32", "-f", "e2m1fn", "--tokens", "120", "--json"]
    assert cli.main([str(word) for word in arguments]) == 0
    found = ModelOutputs.from_json(json.loads(capsys.readouterr().out))
    assert (found.task, found.tokens) == ("outputs", 10)
    assert found.results[0].cosine == 1 > found.results[1].cosine > 0.5


def test_command_with_a_gguf_file(folder, tmp_path, capsys):
    """The model of a folder, written as GGUF in Q8_0: its loss is that of the dequantized weights."""
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    path = tmp_path / "tiny.gguf"
    write_gguf(gguf, path, tiny_llama())
    text = folder.parent / "text.txt"
    arguments = ["evaluate", path, "--text", text, "--context", "32", "--tokens", "64", "-f", "q8_0", "-f", "rf8"]
    assert cli.main([str(word) for word in [*arguments, "--json"]]) == 0
    data = json.loads(capsys.readouterr().out)
    same, rf8 = ModelOutputs.from_json(data).results
    assert same.divergence < 1e-3 * rf8.divergence
    assert any("stores matrices as Q8_0" in note for note in data["notes"])


def write_gguf(gguf, path, model):
    """Write a Llama as llama.cpp's converter does, rows of queries and keys in its order."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    letters = ["<unk>", "<s>", "</s>", *"word0123456789", "\u0120", "\u010a", "wo"]  # a space, a new line, a merge
    words = [*letters, *(f"spare{n}" for n in range(VOCABULARY - len(letters)))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges(["w o"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm"}
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        layer, numbers = name.removesuffix(".weight"), tensor.numpy()
        if layer not in names:
            index, part = layer.removeprefix("model.layers.").split(".", 1)
            names[layer] = f"blk.{index}.{parts[part]}"
            count = heads.get(parts[part])
            if count:
                numbers = numbers.reshape(count, 2, -1, numbers.shape[1]).swapaxes(1, 2).reshape(numbers.shape)
        if numbers.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{names[layer]}.weight", gguf.quants.quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{names[layer]}.weight", numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["F"], "give it with --text FILE"),
        (["F", "--layers", "rf8"], "--layers is only for a model run with --text"),
        (["F", "--text", "T", "--order", "pairwise"], "--order is not for a model run with --text"),
        (["F", "--text", "missing.txt"], "cannot be read as UTF-8 text"),
        (["missing", "--text", "T"], "not a Hugging Face folder"),
        (["missing.gguf", "--text", "T"], "missing.gguf: no such file"),
        (["F", "--text", "T", "--context", "1000"], "takes 2 to 64"),
        (["F", "--text", "T", "--tokens", "8", "--context", "32"], "fills no window"),
        (["F", "--text", "T", "-f", "float32", "--activations", "same"], "needs a scheme for the weights"),
        (["Q", "--text", "T"], "already quantized"),
        (["B", "--text", "T"], "is not in the file"),
    ],
)
def test_refusals_of_the_command(folder, tmp_path, capsys, options, message):
    for name in ("Q", "B"):
        shutil.copytree(folder, tmp_path / name)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "Q" / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}))
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "B" / "model.safetensors", {"format": "pt"})
    places = {"F": folder, "T": folder.parent / "text.txt", "Q": tmp_path / "Q", "B": tmp_path / "B"}
    assert cli.main(["evaluate", *(str(places.get(word, word)) for word in options)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("package", ["transformers", "torch"])
def test_a_missing_package_is_named(folder, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith("rf8sim.torch")]:
        monkeypatch.delitem(sys.modules, name)
    assert cli.main(["evaluate", str(folder), "--text", str(folder.parent / "text.txt")]) == 2
    assert "not installed: pip install 'rf8sim[hf]'" in capsys.readouterr().err
