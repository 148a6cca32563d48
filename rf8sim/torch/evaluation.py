"""Any model judged by its own outputs: its loss, its predictions or its embeddings, in stated precisions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._base.checks import choose
from .._base.files import write_files
from .._version import __version__
from ..models.outputs import LayerEffect, ModelOutputs, OutputQuality
from ..models.precision import Precision, as_precision
from ..quantization.records import convert, to_builtins
from ..quantization.scheme import Scheme
from .inputs import InputSummaries, layers_with_inputs, rounded_layers
from .layers import LayerStudy
from .matrices import FilterFn, Matrices, Spool, as_floats
from .predictions import TASKS, Comparison, compare, losses, run_batch, targets, task_of, tensor_of

__all__ = ["EvaluateConfig", "evaluate", "evaluating"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvaluateConfig:
    """How `evaluate` runs a model.

    Attributes
    ----------
    task : str, optional
        ``next-token`` (batches hold token ids, outputs are logits; ``labels`` of the ids' shape, -100 for none, say
        which tokens to predict), ``labels`` (batches hold ``labels``, one for each prediction) or ``outputs``
        (embeddings: no loss). By default what fits the first batch. The model is not given the labels.
    filter_fn : callable, optional
        ``filter_fn(name, parameter)`` says whether a parameter of two axes or more is rounded; by default all are.
    layers : Precision, Scheme or str, optional
        Also measure what each layer does in this precision.
    layer_batches : int
        The first batches, which layers are measured on.
    calibration : sequence of batches, optional
        What static scales of activations are chosen on; by default the first ``layer_batches`` of those evaluated.
    cache : callable, optional
        ``cache(model, scheme)`` returns named arguments of the model with which its keys and values are rounded;
        `rf8sim.torch.pretrained.rounded_cache` for models of transformers.
    journal : Path, optional
        A file that results are kept in, so that the same work, interrupted and begun again, goes on from there.
    """

    task: str | None = None
    filter_fn: FilterFn | None = None
    layers: Precision | Scheme | str | None = None
    layer_batches: int = 1
    calibration: Sequence[Any] | None = None
    cache: Callable[[nn.Module, Scheme], dict[str, Any]] | None = None
    journal: Path | None = None

    def __post_init__(self) -> None:
        if self.task is not None:
            choose("task", self.task, TASKS)
        if self.layer_batches < 1:
            raise ValueError(f"layer_batches must be at least 1, got {self.layer_batches}")


def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    schemes: Sequence[str | Scheme | Precision],
    config: EvaluateConfig | None = None,
    *,
    name: str = "",
    data: str = "",
    progress: Progress | None = None,
) -> ModelOutputs:
    """Run a model as it is and in stated precisions, on the same batches, and compare its outputs.

    The model runs in eval mode (dropout off) and is as it was afterwards. Matrices are rounded one at a time; their
    originals and the original's outputs wait in temporary files, so that beside the model and one batch no more than
    the largest matrix is in memory. Results are the same from run to run for one number of PyTorch's threads.

    Parameters
    ----------
    model : nn.Module
        The model. Run it in float32: rounded numbers are stored in the dtype of its parameters.
    batches : iterable of Tensor, tuple or mapping
        What the model is called with: ``model(batch)``, ``model(*batch)`` or ``model(**batch)``. For the next token the
        token ids, shape (windows, tokens); an ``attention_mask`` leaves positions out.
    schemes : sequence of str, Scheme or Precision
        What is rounded: a scheme is that of the weights, ``"float32"`` rounds nothing, a `Precision` says it all.
    config : EvaluateConfig, optional
        How.
    name, data : str
        What the report calls the model and the data.
    progress : callable, optional
        Called with what is at work, the forward passes done and those in all.

    Returns
    -------
    ModelOutputs
        The results.

    Raises
    ------
    ValueError
        If there are no batches, no matrix is chosen, a scheme cannot be read, or an output is none that can be judged.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50))
    >>> ids = torch.randint(0, 50, (4, 12))
    >>> plain, rf8, e2m1 = evaluate(model, [ids], ["float32", "rf8", "e2m1fn"]).results
    >>> plain.divergence, plain.agreement, 0 < rf8.divergence < e2m1.divergence
    (0.0, 1.0, True)
    """
    config = config or EvaluateConfig()
    kept = list(batches)
    if not kept:
        raise ValueError("there are no batches to evaluate")
    precisions = list(dict.fromkeys(map(as_precision, schemes)))
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        run = stack.enter_context(_Run(model, kept, config, progress, precisions))
        journal = _Journal(config.journal, lambda: _key(model, run.matrices, kept, config))
        run.reference()
        results = tuple(journal.get(("result", str(p)), OutputQuality, partial(run.result, p)) for p in precisions)
        layers = run.layers(journal)
        return ModelOutputs(
            model=name or type(model).__name__,
            data=data,
            task=run.task,
            tokens=run.predictions,
            windows=run.windows,
            baseline_losses=tuple(run.losses),
            results=results,
            layer_precision=run.layer_precision if layers else None,
            layer_tokens=run.layer_tokens,
            layers=layers,
            inputs=run.summaries.records(),
            threads=torch.get_num_threads(),
            notes=tuple(run.notes()),
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Turn dropout off, and caches of models of transformers; put both back."""
    training = [module for module in model.modules() if module.training]
    settings = getattr(model, "config", None)
    cached = getattr(settings, "use_cache", None)
    model.eval()
    try:
        if cached is not None:
            settings.use_cache = False  # type: ignore[union-attr]
        yield
    finally:
        for module in training:
            module.training = True
        if cached is not None:
            settings.use_cache = cached  # type: ignore[union-attr]


class _Run:
    """The work of one evaluation: the original's outputs in a file, then one precision after the other."""

    def __init__(
        self,
        model: nn.Module,
        batches: list[Any],
        config: EvaluateConfig,
        progress: Progress | None,
        precisions: Sequence[Precision],
    ) -> None:
        self.model, self.batches, self.config, self._progress = model, batches, config, progress
        self.layer_precision = None if config.layers is None else as_precision(config.layers)
        self._check(precisions)
        self.few = batches[: config.layer_batches]
        self.matrices = Matrices(model, config.filter_fn)
        self.spool = Spool()
        self.summaries = InputSummaries()
        self.task = config.task or ""
        self.losses: list[float] = []
        self.predictions = self.windows = self.layer_tokens = 0
        layers = len(self.matrices.items) + 3 if self.layer_precision else 0
        self.total = len(batches) * (1 + len(precisions)) + layers * len(self.few)
        self.done = 0

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.matrices.__exit__()
        self.spool.__exit__()

    def _check(self, precisions: Sequence[Precision]) -> None:
        layer = self.layer_precision
        if layer is not None and (layer.cache is not None or layer.weights is None):
            raise ValueError(f"layers are measured with rounded weights, and activations if asked, not {layer}")
        if self.config.cache is None and any(precision.cache is not None for precision in precisions):
            raise ValueError(
                "this model's cache of keys and values cannot be rounded: it takes a model of transformers and "
                "EvaluateConfig(cache=rf8sim.torch.pretrained.rounded_cache)"
            )

    def _call(self, batch: Any, label: str, cache: Scheme | None = None) -> Any:
        if self._progress:
            self._progress(label, min(self.done, self.total - 1), self.total)
        self.done += 1
        options = {}
        if cache is not None:
            assert self.config.cache is not None
            options = self.config.cache(self.model, cache)
        return run_batch(self.model, batch, **options)

    def reference(self) -> None:
        """Run the original: its outputs go to a file, what enters its layers is summarized."""
        watched = layers_with_inputs(self.matrices)
        calibration = self.config.calibration
        for number, batch in enumerate(self.batches):
            with self.summaries.recording(watched) if calibration is None and number < len(self.few) else nullcontext():
                output = self._call(batch, "original")
            self.task = self.task or task_of(batch, output)
            values = tensor_of(output)
            self.spool.write(as_floats(values))
            if self.task == "outputs":
                count, windows = len(compare(batch, values, values, self.task).cosines), 0
            else:
                wanted = targets(batch, values, self.task)
                batch_losses = losses(values.cpu(), wanted)
                self.losses += batch_losses
                count, windows = int((wanted != -100).sum()), len(batch_losses)
            self.predictions += count
            self.windows += windows or count
            self.layer_tokens += count if number < len(self.few) and self.layer_precision else 0
        if not self.predictions:
            raise ValueError("the batches ask for no prediction: windows need two tokens or more")
        if calibration is not None:
            with self.summaries.recording(watched):
                for batch in calibration:
                    run_batch(self.model, batch)

    def original(self, number: int) -> Tensor:
        """Return the original's output of a batch."""
        return torch.from_numpy(self.spool.read(number))

    def result(self, precision: Precision) -> OutputQuality:
        """Run all batches in a precision."""
        with rounded_layers(self.matrices, precision, self.summaries):
            comparisons = [
                compare(batch, self.original(number), self._output(batch, precision), self.task)
                for number, batch in enumerate(self.batches)
            ]
        weights = precision.weights
        return _quality(precision, None if weights is None else self.matrices.bits_per_weight(weights), comparisons)

    def _output(self, batch: Any, precision: Precision) -> Tensor:
        return tensor_of(self._call(batch, str(precision), precision.cache)).detach().cpu()

    def layers(self, journal: _Journal) -> tuple[LayerEffect, ...]:
        """Measure each layer, if asked."""
        precision, names = self.layer_precision, [item.name for item in self.matrices.items]
        if precision is None:
            return ()
        known = [journal.known(("layer", str(precision), name), LayerEffect) for name in names]
        if all(layer is not None for layer in known):
            return tuple(layer for layer in known if layer is not None)
        label = "layers"

        def run(number: int) -> Tensor:
            return tensor_of(self._call(self.few[number], label)).detach().cpu()

        def judge(number: int, output: Tensor) -> Comparison:
            return compare(self.few[number], self.original(number), output, self.task)

        study = LayerStudy(self.model, self.matrices, run, judge, len(self.few))
        try:
            below = study.below(precision, self.summaries)
            effects = []
            for index, name in enumerate(names):
                label = name
                work = partial(study.effect, index, precision, self.summaries, below[index])
                effects.append(journal.get(("layer", str(precision), name), LayerEffect, work))
        finally:
            study.close()
        return tuple(effects)

    def notes(self) -> Iterator[str]:
        """Say what of the model is not rounded with the rest."""
        names = [name for name, _ in layers_with_inputs(self.matrices)]
        missing = [name for name in names if name not in self.summaries.histograms]
        if missing:
            yield (
                f"What enters {len(missing)} of {len(names)} layers is neither summarized nor rounded: they are not "
                f"called by themselves on the calibration data ({', '.join(map(repr, missing[:3]))})."
            )
        narrow = {str(i.parameter.dtype) for i in self.matrices.items} - {"torch.float32", "torch.float64"}
        if narrow:
            names_of = ", ".join(sorted(name.removeprefix("torch.") for name in narrow))
            yield f"The model computes in {names_of}: rounded weights are rounded to that once more."


def _quality(precision: Precision, bits: float | None, comparisons: Sequence[Comparison]) -> OutputQuality:
    predictions, size = sum(part.predictions for part in comparisons), sum(part.size for part in comparisons)
    signal, error = math.fsum(part.signal for part in comparisons), sum(part.error for part in comparisons)
    broken = sum(part.not_finite for part in comparisons)
    noise = 0.0 if error == 0 else error / signal if signal else math.inf
    has_classes = any(part.losses for part in comparisons)
    return OutputQuality(
        precision=precision,
        bits_per_weight=bits,
        losses=tuple(loss for part in comparisons for loss in part.losses),
        divergences=tuple(divergence for part in comparisons for divergence in part.divergences),
        agreement=sum(part.agreeing for part in comparisons) / predictions if has_classes else None,
        cosines=tuple(cosine for part in comparisons for cosine in part.cosines),
        noise=math.inf if broken or not math.isfinite(noise) else noise,
        not_finite=broken / size if size else 0.0,
    )


class _Journal:
    """Results of work that may be interrupted, in a file that is always whole; those of other work are left out."""

    def __init__(self, path: Path | None, key: Callable[[], str]) -> None:
        self.path, self.results = path, {}  # type: tuple[Path | None, dict[str, Any]]
        self.key = key() if path is not None else ""
        if path is not None and path.is_file():
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                data = {}
            if isinstance(data, dict) and data.get("key") == self.key and isinstance(data.get("results"), dict):
                self.results = data["results"]

    def known(self, name: tuple[str, ...], kind: type[Any]) -> Any:
        """Return a result that the file has, or None."""
        data = self.results.get("\n".join(name))
        return None if data is None else convert(data, kind)

    def get(self, name: tuple[str, ...], kind: type[Any], work: Callable[[], Any]) -> Any:
        """Return the result of a name: what the file has, or that of the work, which is then written to it."""
        before = self.known(name, kind)
        if before is not None or self.path is None:
            return before or work()
        result = work()
        self.results["\n".join(name)] = to_builtins(result)
        text = json.dumps({"key": self.key, "results": self.results})
        write_files({self.path: text.encode()})
        return result


def _key(model: nn.Module, matrices: Matrices, batches: Sequence[Any], config: EvaluateConfig) -> str:
    """Return a digest of what results depend on: weights, data, settings, versions and threads."""
    digest = hashlib.sha256()
    settings = (config.task, config.layer_batches, __version__, torch.__version__, torch.get_num_threads())
    digest.update(repr((settings, [item.name for item in matrices.items])).encode())
    for tensor in _tensors((model.state_dict(), list(batches), list(config.calibration or ()))):
        digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
