"""What can be wrong with a checkpoint."""

from __future__ import annotations

__all__ = ["CheckpointError", "CheckpointWarning", "UnreadableError"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read: missing, of an unknown kind, damaged, incomplete or empty."""


class CheckpointWarning(UserWarning):
    """Part of a checkpoint is left out: training state, or a file that an index does not name."""


class UnreadableError(CheckpointError):
    """There is no quantized checkpoint to read: nothing is there, or it is plain, or of another form. No damage."""
