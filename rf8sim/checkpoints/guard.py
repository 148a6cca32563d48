"""Guard rails: a quantized checkpoint takes its place only when every check has passed.

`quantize_checkpoint` writes beside, reads what it wrote back from the disk, compares it with the original, holds it to
the requirements, and only then puts it in place in one step, with a manifest of every check.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from .._base.display import bits_in_words
from .._base.files import check_place, staged
from .._version import __version__
from ..quantization.tensor import QuantizedTensor
from .checkpoint import Checkpoint, open_checkpoint
from .comparison import Comparison, compare, decibels
from .conversion import write_quantized
from .dequantization import write_dequantized
from .folders import carry_over, is_model_folder, original_config, weights_name, write_flushed
from .gguf_output import GgufFile, check_source, compare_gguf, write_gguf
from .manifest import Check, Manifest, RefusedError, manifest_path
from .plan import Plan
from .protect import Protection
from .quantized import QuantizedCheckpoint, find_damage, open_quantized
from .requirements import Requirement, parse_requirement
from .safetensors import is_one_file
from .tasks import file_sha256

__all__ = ["command_metric", "quantize_checkpoint"]

Progress = Callable[[str, int, int], None]
Evaluate = Callable[["Path | None"], float]
"""Returns the figure of a plain checkpoint at a path, or that of the original for None."""


# --- evaluating ---------------------------------------------------------------------------------------------


_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\bnan\b|[-+]?\binf\b", re.IGNORECASE)


def command_metric(command: str, source: Path) -> Evaluate:
    """Return what evaluates a plain checkpoint by somebody's command: the last number that it prints.

    Parameters
    ----------
    command : str
        A command line, in which ``{}`` stands for the checkpoint: a file, or a folder where the original is a model's.
    source : Path
        The original, which it gets to find the figure that others are held to.

    Returns
    -------
    callable
        From a path to the number; from None to the original's.

    Raises
    ------
    ValueError
        If there is no ``{}`` in it. The callable raises it if the command fails or prints no number.

    Examples
    --------
    >>> command_metric("echo {} has accuracy 0.75", Path("original.npz"))(None)
    0.75
    """
    if "{}" not in command:
        raise ValueError(f"the evaluation command must have {{}} where the checkpoint's path goes, got {command!r}")

    def evaluate(path: Path | None) -> float:
        line = command.replace("{}", shlex.quote(str(path or source)))
        done = subprocess.run(line, shell=True, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise ValueError(f"the evaluation command failed with exit status {done.returncode}: {line}")
        numbers = _NUMBER.findall(done.stdout)
        if not numbers:
            raise ValueError(f"the evaluation command printed no number: {line}")
        return float(numbers[-1])

    return evaluate


# --- quantizing, held to all of this ------------------------------------------------------------------------


def quantize_checkpoint(
    source: str | Path,
    output: str | Path,
    plan: Plan | None = None,
    *,
    protection: Protection | None = None,
    require: Sequence[str | Requirement] = (),
    evaluate: Evaluate | None = None,
    progress: Progress | None = None,
    rounded: Mapping[str, QuantizedTensor] | None = None,
) -> Manifest:
    """Quantize a checkpoint, check the result, and put it in place if all is as required.

    Parameters
    ----------
    source : str or Path
        Any checkpoint that `rf8sim.checkpoints.checkpoint.open_checkpoint` reads.
    output : str or Path
        A ``.safetensors`` file, which replaces one that is there; or a folder, with as many files as the source has,
        that does not exist or is empty; or, from GGUF, a ``.gguf`` file (schemes of `BLOCK_TYPES`, by default q8_0).
    plan : Plan, optional
        What each tensor gets; by default what it had before it was dequantized, or else the defaults of `Plan`.
    protection : Protection, optional
        Which weights are kept exactly.
    require : sequence of str or Requirement
        Bounds, as `rf8sim.checkpoints.requirements.parse_requirement` reads them.
    evaluate : callable, optional
        What measures ``loss`` and ``metric``: `model_loss` or `command_metric`.
    progress : callable, optional
        Called with what is at work, what is done and what there is in all.
    rounded : mapping of str to QuantizedTensor, optional
        Codes and scales of tensors that were rounded in another way (`rf8sim.compression`), for which the plan has the
        same scheme; not for GGUF nor with protection.

    Returns
    -------
    Manifest
        Every check, all passed. It is written beside the file, or into the folder.

    Raises
    ------
    RefusedError
        If a check failed: nothing is written and what was there is as it was.
    ValueError
        If an option is unknown or the source cannot be read or quantized.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = Path(folder) / "lm.rf8.safetensors"
    ...     manifest = quantize_checkpoint("examples/lm/model.safetensors", out, require=["sqnr>=25dB"])
    ...     names = sorted(path.name for path in out.parent.iterdir())
    >>> names
    ['lm.rf8.safetensors', 'lm.rf8.safetensors.manifest.json']
    >>> [(check.name, check.passed) for check in manifest.checks]
    [('read back', True), ('same tensors', True), ('sqnr>=25dB', True)]
    """
    requirements = [parse_requirement(text) if isinstance(text, str) else text for text in require]
    planned = next((text for text in requirements if text.quantity == "kl"), None)
    if planned is not None:
        raise ValueError(
            f"{planned.text!r} is a budget of 'rf8sim plan --text FILE': quantize by the plan that it writes"
        )
    needs = [text for text in requirements if text.quantity in ("loss", "metric")]
    if needs and evaluate is None:
        raise ValueError(f"{needs[0].text!r} needs an evaluation: a command, or a model with its data")
    checkpoint, output = open_checkpoint(source), Path(output)
    as_gguf = output.suffix.lower() == ".gguf" and not output.is_dir()
    single = as_gguf or is_one_file(output)
    check_place(output)
    if not single and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output}: exists and is not empty: name a new folder or a .safetensors file")
    for file in dict.fromkeys(file for tensor in checkpoint for file in tensor.files):
        if output.exists() and single and os.path.samefile(file, output):
            raise ValueError(f"{output}: output would overwrite the input; choose another path")
    if rounded and (as_gguf or protection is not None):
        raise ValueError(f"{output}: tensors that are rounded already go into .safetensors, and none of their weights "
                         "is protected")  # fmt: skip
    if as_gguf:
        if protection is not None or needs:
            raise ValueError(f"{output}: GGUF holds no protected weights, and is not evaluated here: use .safetensors")
        return _to_gguf(checkpoint, output, plan, requirements, progress)
    with staged(output) as (beside, place):
        written = write_quantized(checkpoint, output, beside, plan, protection, progress, rounded)
        damage = find_damage(beside)
        figure = float(len(damage))
        checks = [
            Check(
                "read back",
                not damage,
                damage[0] if damage else "the file read back is identical to what was written",
                figure,
                0.0,
            )
        ]
        if damage:
            raise RefusedError(_manifest(checkpoint, output, None, checks, (), protection))
        quantized = open_quantized(beside)
        reasons = {tensor.name: tensor.reason for tensor in written}
        compared = tuple(
            msgspec.structs.replace(tensor, reason=reasons[tensor.name])
            for tensor in compare(checkpoint, quantized, progress)
        )
        checks.append(_same_tensors(compared))
        figures = _Figures(quantized, compared, evaluate, progress, Path(source))
        checks += _required(requirements, figures)
        manifest = _manifest(checkpoint, output, quantized, checks, compared, protection)
        if not manifest.passed:
            raise RefusedError(manifest)
        if protection is not None:
            gain = _gain(checkpoint, beside.with_name("unprotected.safetensors"), plan, figures)
            manifest = msgspec.structs.replace(manifest, gain=gain)
        record = manifest_path(beside)
        write_flushed(record, manifest.to_bytes())
        place()
        if single:
            os.replace(record, manifest_path(output))
    return manifest


def _to_gguf(
    checkpoint: Checkpoint,
    output: Path,
    plan: Plan | None,
    requirements: Sequence[Requirement],
    progress: Progress | None,
) -> Manifest:
    """Write a GGUF file, held to the same checks."""
    check_source(checkpoint, output)
    with staged(output) as (beside, place):
        written = write_gguf(checkpoint, beside, plan, progress)
        compared, damage = compare_gguf(written, progress)
        sentence = damage[0] if damage else "gguf decodes the numbers that were quantized, and every kept byte is there"
        checks = [Check("read back", not damage, sentence, float(len(damage)), 0.0), _same_tensors(compared)]
        figures = _Figures(written, compared, None, progress, checkpoint.path)
        checks += _required(requirements, figures)
        manifest = _manifest(checkpoint, output, written, checks, compared, None)
        if not manifest.passed:
            raise RefusedError(manifest)
        record = manifest_path(beside)
        write_flushed(record, manifest.to_bytes())
        place()
        os.replace(record, manifest_path(output))
    return manifest


def _same_tensors(compared: Sequence[Comparison]) -> Check:
    wrong = [tensor for tensor in compared if tensor.differing]
    if not wrong:
        return Check("same tensors", True, "every tensor is present, and finite where the original is", 0.0, 0.0)
    first = wrong[0]
    what = (
        f"{first.name!r} has {first.differing} infinite or NaN elements that would become numbers: replace them in "
        f"the original (numpy.nan_to_num), or keep the tensor (--keep {first.name!r}, keep = true in a plan)"
        if first.scheme
        else f"{first.name!r} was to be kept and differs from the original"
    )
    return Check("same tensors", False, what, float(len(wrong)), 0.0)


class _Figures:
    """What a quantized checkpoint comes to, measured when first asked for."""

    def __init__(
        self,
        quantized: QuantizedCheckpoint | GgufFile,
        compared: Sequence[Comparison],
        evaluate: Evaluate | None,
        progress: Progress | None,
        source: Path,
    ) -> None:
        self.quantized, self.evaluate, self.progress, self.source = quantized, evaluate, progress, source
        self.changed = [tensor for tensor in compared if tensor.scheme]

    @cached_property
    def sqnr(self) -> float:
        return decibels(sum(t.signal for t in self.changed), sum(t.noise for t in self.changed))

    @cached_property
    def worst_sqnr(self) -> float:
        return min((tensor.sqnr_db for tensor in self.changed if tensor.signal), default=math.inf)

    @cached_property
    def bits(self) -> float:
        return self.quantized.bits_per_weight

    @cached_property
    def evaluated(self) -> float:
        """The figure of the numbers of the checkpoint, written as a plain one that is removed again.

        Where the original is a model's folder, it is one too.
        """
        assert self.evaluate is not None
        assert isinstance(self.quantized, QuantizedCheckpoint)
        with tempfile.TemporaryDirectory(dir=self.quantized.path.parent) as folder:
            as_folder = is_model_folder(self.source)
            plain = Path(folder) / ("model" if as_folder else "model.safetensors")
            write_dequantized(self.quantized, plain, plain, plain=True, progress=self.progress)
            if as_folder:
                if len(self.quantized.headers) == 1:
                    name = weights_name(self.quantized.headers[0].path.name)
                    (plain / name).rename(plain / "model.safetensors")
                carry_over(self.source, plain, original_config(self.source))
            return self.evaluate(plain)

    @cached_property
    def original(self) -> float:
        assert self.evaluate is not None
        return self.evaluate(None)


_FIGURES = {"sqnr": "sqnr", "worst-sqnr": "worst_sqnr", "bits": "bits", "loss": "evaluated", "metric": "evaluated"}


def _required(requirements: Sequence[Requirement], figures: _Figures) -> Iterator[Check]:
    for requirement in requirements:
        try:
            figure = getattr(figures, _FIGURES[requirement.quantity])
            original = figures.original if requirement.relative else math.nan
        except ValueError as error:  # of an evaluation
            yield Check(requirement.text, False, str(error))
            continue
        bound, met = requirement.bound(original), requirement.met(figure, original)
        sentence = _sentence(requirement, figure, bound)
        if requirement.relative:
            sentence += f" ({original:.6g} unquantized)"
        if requirement.quantity == "bits":
            sentence += f" ({bits_in_words(figures.quantized.bits)})"
        yield Check(requirement.text, met, sentence, figure, bound)


_NAMES = {"sqnr": "SQNR", "worst-sqnr": "SQNR of the worst tensor", "bits": "size"}
_UNITS = {"sqnr": " dB", "worst-sqnr": " dB", "bits": " bits per weight", "loss": " nats per token"}


def _sentence(requirement: Requirement, figure: float, bound: float) -> str:
    """Write a figure and its bound, as ``SQNR 28.27 dB >= 25 dB``, with digits enough to tell them apart."""
    unit = _UNITS.get(requirement.quantity, "")
    met = figure <= bound if requirement.operator == "<=" else figure >= bound
    sign = requirement.operator if met else {"<=": ">", ">=": "<"}[requirement.operator]
    digits = next((n for n in range(4, 17) if float(f"{figure:.{n}g}") != float(f"{bound:.{n}g}")), 17)
    required = "" if met else "required "
    if math.isnan(figure):
        sign, required = "is not", f"{requirement.operator} "
    name = _NAMES.get(requirement.quantity, requirement.quantity)
    return f"{name} {figure:.{digits}g}{unit} {sign} {required}{bound:.{digits}g}{unit}"


def _gain(checkpoint: Checkpoint, beside: Path, plan: Plan | None, figures: _Figures) -> dict[str, tuple[float, float]]:
    """Quantize without protection, beside, and return what that comes to and what protection does."""
    write_quantized(checkpoint, beside, beside, plan, None, figures.progress)
    quantized = open_quantized(beside)
    compared = tuple(compare(checkpoint, quantized))
    bare = _Figures(quantized, compared, figures.evaluate, figures.progress, figures.source)
    gain = {"sqnr_db": (bare.sqnr, figures.sqnr), "bits_per_weight": (bare.bits, figures.bits)}
    if figures.evaluate is not None:
        gain["evaluated"] = bare.evaluated, figures.evaluated
    beside.unlink()
    return gain


def _manifest(
    checkpoint: Checkpoint,
    output: Path,
    quantized: QuantizedCheckpoint | GgufFile | None,
    checks: Sequence[Check],
    compared: Sequence[Comparison],
    protection: Protection | None,
) -> Manifest:
    sources = dict.fromkeys(file for tensor in checkpoint for file in tensor.files)
    return Manifest(
        output=output.name,
        source=checkpoint.path.name,
        version=__version__,
        seals={} if quantized is None else dict(quantized.seals),
        sources={path.name: file_sha256(path) for path in sources},
        bits={} if quantized is None else quantized.bits,
        checks=tuple(checks),
        tensors=tuple(compared),
        protection="" if protection is None else protection.text,
    )
