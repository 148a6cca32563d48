"""The section of a report about how it was measured: definitions, settings, files, the command."""

from __future__ import annotations

from ..tables import experiment as tables
from ..tables.table import Column, Table
from .contents import Contents
from .page import Section

__all__ = ["about"]


def about(contents: Contents, _: bool) -> Section:
    """Say how it was measured, and how to measure it again."""
    experiment = contents.experiment
    words = [
        "SQNR is 10 log10(Σ w² / Σ (w - ŵ)²) in dB, where ŵ is the weight after quantization and back. The "
        "entropy of the codes is a lower bound for a coder of single codes with one table. Stored bits per weight are "
        "those of the code and its share of the scales and zero points, each at the width that it is stored in. Coded "
        "bits per weight are the entropy of the pooled codes plus the bits of scales and zero points: an estimate with "
        "one code table for all tensors.",
        "Schemes are written as every command and Python reads them: int8/channel has a scale for each output channel, "
        "int8/tensor one for the tensor, both of least squared error. A bare format name means the former for 'rf8sim "
        "report', 'rf8sim quantize' and plan files, the latter for the other commands and in Python. "
        "Channels are the outputs: axis 0 "
        "of a matrix or a convolution, and of stacked experts (expert, output); blocks lie along the last axis. A "
        "vector is one channel.",
    ]
    if contents.command:
        words.append(f"Command that makes the same files: {contents.command}")
    words += [f"{note}." for note in experiment.notes]
    columns = (Column("file"), Column("bytes", "count"), Column("SHA-256"))
    files = Table("Files that were read", columns, tuple((f.name, f.bytes, f.sha256) for f in contents.inputs))
    optional = (files, tables.quantized(experiment), tables.not_finite(experiment), tables.skipped(experiment))
    shown = (tables.settings(experiment), *(table for table in optional if table.rows))
    return Section("about", "How this was measured, and how to repeat it", tuple(words), shown)
