"""The verdict on a design: its answers, read in blocks, against the golden model.

What is right is computed here, from the operands; nothing that the stream says of expected results is believed. A
stream passes only if every line is a vector of the set, in its place, with the right answer, and none is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO

from ..vectors.vectors import VectorSet
from . import causes
from .answers import Batch, read_answers
from .comparison import Comparison
from .diagnosis import diagnose
from .flag_faults import diagnose_flags
from .matching import Matching
from .outcome import Verdict

__all__ = ["judge", "verify"]


def verify(
    asked: VectorSet,
    stream: BinaryIO,
    comparison: Comparison | None = None,
    *,
    first: int = 10,
    allow_text: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verdict:
    """Compare a design's answers with what is right.

    Parameters
    ----------
    asked : VectorSet
        What the design was asked.
    stream : binary file
        Its answers: see `rf8sim.hardware.verdict.answers`.
    comparison : Comparison, optional
        When an answer is right; by default when every bit of the result is.
    first : int
        How many wrong answers to explain.
    allow_text : bool
        Pass over lines that are no vectors (a simulator's messages): they are counted and shown. All vectors must
        come in just the same.
    progress : callable, optional
        Called with a word, the vectors done, and those in all.

    Returns
    -------
    Verdict
        The verdict.

    Examples
    --------
    >>> import io
    >>> from rf8sim.hardware.vectors.vectors import vectors
    >>> asked = vectors("decode", "rf8", result="fixed:2.19")
    >>> lines = b"".join(asked.text())
    >>> verify(asked, io.BytesIO(lines)).passed
    True
    >>> verdict = verify(asked, io.BytesIO(lines.replace(b"7B 080000", b"7B 080001")))
    >>> verdict.passed, verdict.wrong_results, verdict.first_mismatches[0].sentences()[1].strip()
    (False, 1, 'exact 1, expected 080000 (1), got 080001 (1.0000019073486328), 1 place too high')
    """
    batches = read_answers(stream, asked.model, max(first, 1))
    return judge(asked, batches, comparison, first=first, allow_text=allow_text, progress=progress)


def judge(
    asked: VectorSet,
    batches: Iterable[Batch],
    comparison: Comparison | None = None,
    *,
    first: int = 10,
    allow_text: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verdict:
    """Compare answers that have been read; the parameters are those of `verify`."""
    comparison = comparison or Comparison()
    if comparison.mode == "faithful" and (not asked.model.rounds or asked.model.stochastic):
        how = "drawn" if asked.model.stochastic else "exact"
        raise ValueError(f"the comparison faithful has no sense here: results are {how}; compare bits or value")
    verdict = Verdict(asked, comparison, allow_text)
    matching = Matching(asked, verdict, first)
    for batch in batches:
        matching.add(batch)
        if progress is not None:
            progress("verifying", min(verdict.received, verdict.expected), verdict.expected)
    verdict.coverage, verdict.by_class = matching.coverage.groups(), matching.by_class()
    slipped = causes.shift(asked, verdict.evidence)
    verdict.displaced = bool(verdict.misplaced or slipped)
    if not verdict.passed:
        verdict.cause = slipped or causes.other_setting(asked, verdict.evidence)
    if verdict.displaced:
        return verdict
    flags, results = matching.wrong_flags(), matching.wrong_results()
    if flags is not None:
        verdict.flag_findings = diagnose_flags(asked, flags)
    if results is not None:
        verdict.findings = diagnose(asked, results, comparison, progress)
    return verdict
