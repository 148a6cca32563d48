"""What a report is made of: what was measured, from which files and how."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..._base.threads import available_threads
from ...checkpoints.checkpoint import open_checkpoint
from ...models.evaluation import Evaluation
from ...studies.experiment import Experiment, Settings

__all__ = ["Contents", "InputFile", "command", "hash_inputs", "read_evaluation"]


@dataclass(frozen=True)
class InputFile:
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
    bytes: int
    sha256: str


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
        """Return everything as plain data for JSON: the experiment's, and the rest beside it."""
        beside = {"command": self.command, "inputs": [asdict(file) for file in self.inputs]}
        return {**self.experiment.to_json(), **beside, "evaluation": self.evaluation, "area": self.area}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contents:
        """Return what `to_json` wrote.

        Raises
        ------
        ValueError
            If the data are not such a report, or of another version.
        """
        experiment = Experiment.from_json(data)
        try:
            inputs = tuple(InputFile(**file) for file in data["inputs"])
            return cls(experiment, data["command"], inputs, data["evaluation"], data["area"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a whole report: {error}") from None


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
        How; what is as by default is not said.
    evaluation, area : Path, optional
        The file of an evaluation, and that of areas.
    flags : sequence of str
        Options besides: ``--no-figures``, ``--no-hash``.

    Examples
    --------
    >>> command([Path("model.safetensors")], Settings(formats=("rf8",), scaling="channel", include=("*.weight",)))
    "rf8sim report model.safetensors --format rf8 --scaling channel --include '*.weight' -o report"
    """
    words = ["rf8sim", "report", *map(_shown, checkpoints)]
    usual = Settings()
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if value != getattr(usual, field.name):
            option = f"--{field.name.rstrip('s') if field.name == 'formats' else field.name.replace('_', '-')}"
            for item in value if isinstance(value, tuple) else [value]:
                words += [option, str(item)]
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
    files = dict.fromkeys(tensor.source for path in checkpoints for tensor in open_checkpoint(path))

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
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        [Evaluation.from_json(result) for result in data["results"]]
        if not (data["results"] and all(isinstance(sentence, str) for sentence in data["verdict"])):
            raise KeyError("results")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: --evaluation takes the evaluate.json of 'rf8sim evaluate'") from None
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        raise ValueError(f"{path}: not an evaluate.json of 'rf8sim evaluate'") from None
    return data
