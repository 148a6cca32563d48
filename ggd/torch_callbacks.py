"""The rate constraint in a training loop of others: a callback of transformers' Trainer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["STATE_FILE", "trainer_callback"]

STATE_FILE = "rate_constraint.json"
"""Name of the file of a constraint's state in each checkpoint folder."""


def trainer_callback(constraint: Any) -> Any:
    """Return a callback of `transformers.Trainer` that runs a constraint, and saves and resumes it with checkpoints.

    Parameters
    ----------
    constraint : ggd.torch.RateConstraint
        On the parameters of the model that the trainer is given.

    Returns
    -------
    transformers.TrainerCallback
        For ``Trainer(..., callbacks=[...])``.

    Raises
    ------
    ModuleNotFoundError
        If transformers is not installed.

    Examples
    --------
    >>> import torch, ggd.torch
    >>> constraint = ggd.torch.RateConstraint(torch.nn.Linear(4, 4), lam=1e-4)
    >>> callback = ggd.torch.trainer_callback(constraint)  # doctest: +SKIP
    """
    try:
        from transformers import TrainerCallback
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the callback of a Trainer needs transformers: pip install 'rf8sim[hf]'") from error

    class RateConstraintCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
        """Attaches the constraint to the trainer's optimizer while it trains."""

        handle: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            path = _folder(args, state) / STATE_FILE
            if state.global_step and path.exists():
                constraint.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
            self.handle = constraint.attach(optimizer)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                folder = _folder(args, state)
                folder.mkdir(parents=True, exist_ok=True)
                beside = folder / f"{STATE_FILE}.part"
                beside.write_text(json.dumps(constraint.state_dict()), encoding="utf-8")
                os.replace(beside, folder / STATE_FILE)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.handle is not None:
                self.handle.remove()
                self.handle = None

    return RateConstraintCallback()


def _folder(args: Any, state: Any) -> Path:
    """Return the folder of a trainer's checkpoint at its step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
