"""The section of a report about entropy coding."""

from __future__ import annotations

import numpy as np

from ..tables.experiment import STORED
from ..tables.table import Column, Table
from .coded import MOST_CODED, coded_bits
from .contents import Contents
from .page import Section

__all__ = ["compression"]


def compression(contents: Contents, _: bool) -> Section | None:
    """Show what entropy coding saves."""
    experiment = contents.experiment
    if not experiment.settings.names:
        return None
    columns = (
        Column("scheme"), STORED, Column("scales, bits/w.", ".3f"), Column("entropy", ".3f"),
        *(Column(f"{coder}, bits/w.", ".3f") for coder in _CODERS.values()), Column("saved by rANS, %", "percent"),
        Column("codes used", "count"),
    )  # fmt: skip
    rows = []
    for record in experiment.total.schemes:
        stored, scales = record.bits_per_weight, record.scale_overhead_bits
        coded: list[float | None] = [None for _ in _CODERS]
        if scales is not None:
            coded = [scales + coded_bits(experiment, record.name, coder) for coder in _CODERS]
        saved = 1 - coded[0] / stored if stored and coded[0] is not None else None
        used = int(np.count_nonzero(record.error.code_counts))
        rows.append((record.name, stored, scales, record.entropy_bits, *coded, saved, used))
    words = (
        "Some codes occur more often than others, so an entropy coder needs fewer bits than their width. The entropy "
        "of the codes of all tensors together is a lower bound for a coder of single codes with one table. The columns "
        "of coders are sizes of files: scales, a table for each tensor, headers and checksums of blocks are included. "
        "Codes of more than 8 bits are coded in two parts, high bits and low bits. With its own table a tensor can "
        "need fewer bits than the entropy of all tensors together."
        + (f" They are for the {MOST_CODED} largest tensors." if len(experiment.tensors) > MOST_CODED else ""),
    )
    return Section("compression", "Compression", words, (Table("Bits per weight", columns, tuple(rows)),))


_CODERS = {"rans": "rANS", "huffman": "Huffman"}
