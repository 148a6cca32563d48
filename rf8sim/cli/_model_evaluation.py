"""What `rf8sim evaluate --text` does: a model that transformers opens, judged by its own outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._base.files import read_json
from ._common import progress_bar

if TYPE_CHECKING:
    from ..checkpoints.requirements import Requirement
    from ..models.outputs import ModelOutputs
    from ..models.precision import Precision
    from ..quantization.scheme import Scheme
    from ..torch.compression import CompressedModel
    from ..torch.divergence import ModelPredictions

__all__ = ["TextOptions", "compressed_by_text", "evaluate_text", "needs_text", "predictions_of", "read_precisions"]

_PARAGRAPHS = 16  # that layers are measured on, of a model of embeddings


class TextOptions(NamedTuple):
    """Options of the command, as given."""

    text: Path
    tokens: int
    context: int
    layers: str | None
    layer_windows: int | None
    include: Sequence[str]
    exclude: Sequence[str]
    threads: int | None


def needs_text(checkpoint: Path) -> bool:
    """Whether a checkpoint is one that transformers opens, not the example's model."""
    if checkpoint.suffix.lower() == ".gguf":
        return True
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config


def read_precisions(
    formats: Sequence[str],
    activations: Sequence[str],
    caches: Sequence[str],
    accumulators: Sequence[str],
    same: Callable[[Scheme], Scheme],
) -> list[Precision]:
    """Return every combination of the options."""
    from ..models.precision import Precision, as_precision
    from ..quantization.scheme import as_scheme

    precisions: dict[Precision, None] = {}
    for inputs, cache, accumulator, name in product(activations, caches, accumulators, formats):
        weights = as_precision(name).weights
        if inputs == "same" and weights is None:
            raise ValueError("--activations same needs a scheme for the weights: give it with --format")
        given = {"none": None, "same": weights and same(weights)}[inputs] if inputs in ("none", "same") else inputs
        rounded = as_scheme(given) if given is not None else None
        stored = None if cache == "none" else as_scheme(cache)
        precisions[Precision(weights, rounded, stored, accumulator)] = None
    return list(precisions)


def evaluate_text(
    checkpoint: Path, precisions: Sequence[Precision], options: TextOptions, journal: Path | None, quiet: bool
) -> ModelOutputs:
    """Open the model, cut the text into windows, and run all precisions.

    Raises
    ------
    ValueError
        If PyTorch or transformers is missing, or the model or the text cannot be read.
    """
    text = _read_text(options.text)
    try:
        from ..torch.evaluation import EvaluateConfig, evaluate
        from ..torch.pretrained import load_pretrained, rounded_cache, set_threads, windows_of
    except ModuleNotFoundError as error:
        raise _without_torch(error) from None
    if options.threads is not None:
        set_threads(options.threads)
    pretrained = load_pretrained(checkpoint)
    batches = windows_of(pretrained, text, options.tokens, options.context)
    config = EvaluateConfig(
        task="next-token" if pretrained.causal else "outputs",
        filter_fn=_chosen(options),
        layers=options.layers,
        layer_batches=options.layer_windows or (1 if pretrained.causal else _PARAGRAPHS),
        cache=rounded_cache,
        journal=journal,
    )
    with progress_bar(quiet) as progress:
        outputs = evaluate(
            pretrained.model, batches, precisions, config, name=pretrained.name, data=options.text.name,
            progress=progress,
        )  # fmt: skip
    if not pretrained.stored:
        return outputs
    import msgspec

    note = (
        f"The original is itself quantized: its file stores matrices as {pretrained.stored}. Costs are on top of that."
    )
    return msgspec.structs.replace(outputs, notes=(note, *outputs.notes))


def predictions_of(
    folder: Path,
    data: tuple[Path, int, int],
    names: Sequence[str],
    progress: Callable[[str, int, int], None],
) -> ModelPredictions:
    """Open the model of a checkpoint's folder, for a plan that is held to its predictions.

    Parameters
    ----------
    folder : Path
        A folder that transformers opens.
    data : (Path, int, int)
        A text, how many of its tokens are predicted (0 for all), and the tokens of a window.
    names : sequence of str
        The tensors that are planned.
    progress : callable
        Called with what is at work, what is done and what there is in all.

    Raises
    ------
    ValueError
        If PyTorch or transformers is missing, or the model or the text cannot be read.
    """
    file, tokens, context = data
    if not folder.is_dir():
        raise ValueError(f"{folder}: a bound on 'kl' is planned for a Hugging Face folder, which transformers opens")
    text = _read_text(file)
    try:
        from ..torch.divergence import ModelPredictions
        from ..torch.pretrained import load_pretrained, windows_of
    except ModuleNotFoundError as error:
        raise _without_torch(error) from None
    pretrained = load_pretrained(folder)
    if not pretrained.causal:
        raise ValueError(f"{folder}: the model predicts no tokens, so its predictions have no divergence")
    return ModelPredictions(pretrained.model, windows_of(pretrained, text, tokens, context), names, progress)


def compressed_by_text(
    folder: Path, names: Sequence[str], budget: Requirement, options: TextOptions, curves: bool, quiet: bool
) -> CompressedModel:
    """Open the model of a folder and compress those of its matrices that are tensors of the checkpoint.

    Returns
    -------
    CompressedModel
        Its tensors have the checkpoint's names.

    Raises
    ------
    ValueError
        If PyTorch or transformers is missing, or the model or the text cannot be read or does not suffice.
    """
    text = _read_text(options.text)
    import msgspec

    try:
        from ..torch.compression import compress_model
        from ..torch.divergence import names_in
        from ..torch.pretrained import load_pretrained, set_threads, windows_of
    except ModuleNotFoundError as error:
        raise _without_torch(error) from None
    if options.threads is not None:
        set_threads(options.threads)
    pretrained = load_pretrained(folder)
    batches = windows_of(pretrained, text, options.tokens, options.context)
    part = len(batches) // 4
    if not part:
        raise ValueError(f"--text {options.text}: {len(batches)} windows are too few, 4 are needed: give more text")
    spelled = {parameter: name for name, parameter in names_in(pretrained.model, names).items()}
    chosen = _chosen(options)
    with progress_bar(quiet) as progress:
        result = compress_model(
            pretrained.model,
            batches[: len(batches) - 2 * part],
            batches[len(batches) - 2 * part : len(batches) - part],
            batches[len(batches) - part :],
            budget,
            filter_fn=lambda name, parameter: name in spelled and chosen(spelled[name], parameter),
            curves=curves,
            progress=progress,
        )
    record = msgspec.structs.replace(result.record, model=pretrained.name, data=options.text.name)
    tensors = {spelled[name]: tensor for name, tensor in result.tensors.items()}
    return replace(result, record=record, tensors=tensors)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--text {path}: cannot be read as UTF-8 text: {error}") from None


def _without_torch(error: ModuleNotFoundError) -> Exception:
    if error.name != "torch":
        return error
    return ValueError("--text needs PyTorch, which is not installed: pip install 'rf8sim[hf]'")


def _chosen(options: TextOptions) -> Callable[[str, Any], bool]:
    def chosen(name: str, parameter: Any) -> bool:
        included = not options.include or any(fnmatchcase(name, pattern) for pattern in options.include)
        return included and not any(fnmatchcase(name, pattern) for pattern in options.exclude)

    return chosen
