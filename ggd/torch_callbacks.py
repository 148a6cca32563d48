"""The rate constraint in training loops of others: callbacks of transformers' and of Lightning's Trainer."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["STATE_FILE", "lightning_callback", "trainer_callback"]

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


def lightning_callback(constraint: Any) -> Any:
    """Return a callback of Lightning's Trainer that runs a constraint; its state is part of Lightning's checkpoints.

    Parameters
    ----------
    constraint : ggd.torch.RateConstraint
        On the parameters of the module that is trained, or of a part of it. Of several optimizers the one that holds
        them is followed.

    Returns
    -------
    lightning.pytorch.Callback
        For ``Trainer(..., callbacks=[...])``, of the package ``lightning`` or ``pytorch_lightning``, whichever is
        imported.

    Raises
    ------
    ModuleNotFoundError
        If neither is installed.

    Examples
    --------
    >>> import torch, ggd.torch
    >>> constraint = ggd.torch.RateConstraint(torch.nn.Linear(4, 4), lam=1e-4)
    >>> callback = ggd.torch.lightning_callback(constraint)  # doctest: +SKIP
    """

    class RateConstraintCallback(_lightning().Callback):  # type: ignore[misc]
        """Attaches the constraint to the trainer's optimizer while it trains."""

        handle: Any = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            holding = [optimizer for optimizer in trainer.optimizers if _holds(optimizer, constraint)]
            self.handle = constraint.attach((holding or trainer.optimizers)[0])

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            if self.handle is not None:
                self.handle.remove()
                self.handle = None

        def state_dict(self) -> dict[str, Any]:
            return dict(constraint.state_dict())

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            constraint.load_state_dict(state_dict)

    return RateConstraintCallback()


def _lightning() -> Any:
    """Return the module of Lightning's callbacks: of the two packages that have it, the one that is imported."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("the callback needs Lightning: pip install lightning")


def _holds(optimizer: Any, constraint: Any) -> bool:
    """Return whether an optimizer holds every parameter of a constraint."""
    identities = {id(param) for group in optimizer.param_groups for param in group["params"]}
    return all(id(param) in identities for param in constraint.params.values())


def _folder(args: Any, state: Any) -> Path:
    """Return the folder of a trainer's checkpoint at its step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
