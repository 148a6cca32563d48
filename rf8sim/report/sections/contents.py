"""What a report is made of: what was measured, from which files and how."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..._base.files import read_json
from ..._base.threads import available_threads
from ...checkpoints.checkpoint import open_checkpoint
from ...checkpoints.plan import explicit
from ...models.evaluation import Evaluation
from ...quantization.records import Count, Record, convert, to_builtins
from ...studies.experiment import Experiment, Settings, check_version
from .verdict import verdict

__all__ = ["Contents", "InputFile", "Report", "command", "hash_inputs", "read_evaluation"]


class InputFile(Record, frozen=True):
    """A file that was read.

    Attributes
    ----------
    name : str
        Its name without folders.
    bytes : int
        Its size.
    sha256 : str
        Its SHA-256, in hexadecimal digits.
    """

    name: str
    bytes: Count
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Report(Experiment, frozen=True, kw_only=True):
    """What ``report.json`` holds: an experiment, its verdict, and what the report was made from and how.

    Attributes
    ----------
    settings : Settings
        What was asked.
    versions : dict of str to str
        Versions of the packages that the numbers depend on.
    checkpoints : tuple of str
        The checkpoints by their names in the records.
    tensors : tuple of TensorRecord
        In the order of the files.
    total : TensorRecord
        All of them together.
    skipped : tuple of SkippedTensor
        The other tensors of the checkpoints.
    choices : tuple of ChoiceRecord
        Schemes that differ from those of the settings in one thing, on a sample; for each its own first.
    verdict : tuple of str
        The results in words.
    command : str
        The command that makes the report again; empty if it is not known.
    inputs : tuple of InputFile
        The files of the checkpoints; empty if they were not hashed.
    evaluation : dict or None
        What ``rf8sim evaluate`` wrote to ``evaluate.json``, if the model was run.
    area : dict or None
        What ``rf8sim hdl --area --json`` printed, if it was given.
    """

    verdict: tuple[str, ...]
    command: str
    inputs: tuple[InputFile, ...]
    evaluation: dict[str, Any] | None
    area: dict[str, Any] | None


@dataclass(frozen=True)
class Contents:
    """Everything that a report shows, and all that ``report.json`` holds.

    Attributes
    ----------
    experiment : Experiment
        What was measured.
    command : str
        The command that makes the report again; empty if it is not known.
    inputs : tuple of InputFile
        The files of the checkpoints; empty if they were not hashed.
    evaluation : dict or None
        What ``rf8sim evaluate`` wrote to ``evaluate.json``, if the model was run.
    area : dict or None
        What ``rf8sim hdl --area --json`` printed, if it was given.
    """

    experiment: Experiment
    command: str = ""
    inputs: tuple[InputFile, ...] = ()
    evaluation: Mapping[str, Any] | None = None
    area: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data for JSON: a `Report`."""
        report = Report(
            **{name: getattr(self.experiment, name) for name in Experiment.__struct_fields__},
            verdict=tuple(verdict(self.experiment)),
            command=self.command,
            inputs=self.inputs,
            evaluation=None if self.evaluation is None else dict(self.evaluation),
            area=None if self.area is None else dict(self.area),
        )
        data = to_builtins(report)
        return {"schema": data.pop("schema"), "verdict": data.pop("verdict"), **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contents:
        """Return what `to_json` wrote.

        Raises
        ------
        ValueError
            If the data are not such a report, or of another version.
        """
        check_version(data)
        report = convert(data, Report)
        experiment = Experiment(**{name: getattr(report, name) for name in Experiment.__struct_fields__})
        return cls(experiment, report.command, report.inputs, report.evaluation, report.area)


def command(
    checkpoints: Sequence[Path],
    settings: Settings,
    evaluation: Path | None = None,
    area: Path | None = None,
    flags: Sequence[str] = (),
) -> str:
    """Return the command that makes a report again: what changes its bytes and no more, without absolute paths.

    Parameters
    ----------
    checkpoints : sequence of Path
        What was measured.
    settings : Settings
        How; defaults are left out.
    evaluation, area : Path, optional
        The file of an evaluation, and that of areas.
    flags : sequence of str
        Options besides: ``--no-figures``, ``--no-hash``.

    Examples
    --------
    >>> command([Path("model.safetensors")], Settings(("rf8", "int8/channel"), include=("*.weight",)))
    "rf8sim report model.safetensors --format rf8/tensor --format int8/channel --include '*.weight' -o report"
    """
    words = ["rf8sim", "report", *map(_shown, checkpoints)]
    usual = Settings()
    if settings.schemes != usual.schemes:
        words += [word for scheme in settings.schemes for word in ("--format", explicit(scheme))]
    words += ["--seed", str(settings.seed)] * (settings.seed != usual.seed)
    for option, patterns in (("--include", settings.include), ("--exclude", settings.exclude)):
        words += [word for pattern in patterns for word in (option, pattern)]
    for option, path in (("--evaluation", evaluation), ("--area", area)):
        if path is not None:
            words += [option, _shown(path)]
    return shlex.join([*words, *flags, "-o", "report"])


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() else path.as_posix()


def hash_inputs(checkpoints: Sequence[Path]) -> tuple[InputFile, ...]:
    """Read the files of checkpoints and return their SHA-256, in the order of their tensors.

    Raises
    ------
    CheckpointError
        If a checkpoint cannot be read.
    """
    files = dict.fromkeys(file for path in checkpoints for tensor in open_checkpoint(path) for file in tensor.files)

    def digest(path: Path) -> InputFile:
        with path.open("rb") as file:
            return InputFile(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())

    with ThreadPoolExecutor(available_threads()) as pool:
        return tuple(pool.map(digest, files))


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read an ``evaluate.json``.

    Raises
    ------
    ValueError
        If the file is not one.
    """
    try:
        data: dict[str, Any] = read_json(path)
        [Evaluation.from_json(result) for result in data["results"]]
        if not (data["results"] and all(isinstance(sentence, str) for sentence in data["verdict"])):
            raise KeyError("results")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: --evaluation takes the evaluate.json of 'rf8sim evaluate'") from None
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        raise ValueError(f"{path}: not an evaluate.json of 'rf8sim evaluate'") from None
    return data
