"""A verdict in words for people, as JSON for programs, as JUnit XML for continuous integration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from ..._version import __version__
from .outcome import Verdict

__all__ = ["as_data", "as_junit", "as_text", "headline"]

_SHOWN = 4  # findings in full; the others by name
_MISSED = 12  # bins named of those that were never hit


def _setting(verdict: Verdict) -> str:
    asked = verdict.asked.manifest()
    return f"{asked['operation']}, {asked['formats']}, rounding {asked['rounding']}, overflow {asked['overflow']}"


def headline(verdict: Verdict) -> str:
    """Return the verdict in one line."""
    right = verdict.compared - verdict.wrong
    if verdict.passed:
        return f"PASS: all {verdict.expected:,} results match"
    if right == verdict.compared == verdict.expected:
        return f"FAIL: all {right:,} results match, but the stream is malformed (see below)"
    return f"FAIL: {right:,} of {verdict.expected:,} results match"


def as_text(verdict: Verdict, *, coverage: bool = True) -> Iterator[str]:
    """Yield the verdict as lines of text."""
    yield headline(verdict)
    yield f"  {_setting(verdict)}"
    yield f"  compared: {verdict.comparison.sentence()}"
    for name, problem in verdict.checks.items():
        if problem:
            yield f"  {name}: {problem}"
    if verdict.cause:
        yield f"  cause: {verdict.cause}"
    # What one slip put out of place is shown once.
    shown = 1 if verdict.cause and verdict.displaced else None
    notes = []
    if verdict.malformed > verdict.damaged and verdict.allow_text:
        notes.append(_passed_over(verdict.malformed - verdict.damaged, "line of text", "lines of text"))
    if verdict.comments:
        notes.append(_passed_over(verdict.comments, "comment or empty line", "comments and empty lines"))
    if verdict.received and not verdict.had_operands:
        notes.append("the lines hold no operands, so their order was taken on trust")
    if verdict.had_flags and not verdict.comparison.flags:
        notes.append("the lines hold flags, which --flags compares")
    for note in notes:
        yield f"  note: {note}"
    if verdict.first_malformed:
        yield "Lines that are no vectors:"
        yield from (f"  line {bad.line}: {bad.text!r}: {bad.reason}" for bad in verdict.first_malformed)
    if verdict.first_misplaced:
        yield "Lines out of place:"
        yield from (f"  {misplaced.sentence()}" for misplaced in verdict.first_misplaced[:shown])
    if verdict.first_mismatches:
        yield f"The first wrong answer{'s' * (shown is None)} of {verdict.wrong:,}:"
        for mismatch in verdict.first_mismatches[:shown]:
            yield from (f"  {line}" for line in mismatch.sentences())
        wrong = {name: counts for name, counts in verdict.by_class.items() if counts[1]}
        yield "Wrong by class: " + ", ".join(f"{name} {bad:,} of {done:,}" for name, (done, bad) in wrong.items())
    yield from _diagnosis(verdict)
    if coverage and verdict.compared:
        yield from _coverage(verdict)


def _passed_over(count: int, singular: str, plural: str) -> str:
    return f"{count:,} {singular} was passed over" if count == 1 else f"{count:,} {plural} were passed over"


def _diagnosis(verdict: Verdict) -> Iterator[str]:
    if verdict.flag_findings:
        yield "Flags:"
        yield from (f"  {finding.statement()}" for finding in verdict.flag_findings)
    if not verdict.wrong_results:
        return
    yield "Diagnosis:"
    if verdict.displaced:
        yield "  none while lines are out of place: that comes first"
    elif not verdict.findings:
        yield "  no known fault explains these answers"
    labels = {"cause": "proved", "location": "located", "part": "in part", "unknown": "unknown"}
    for finding in verdict.findings[:_SHOWN]:
        yield f"  {labels[finding.kind]}: {finding.statement()}"
    if len(verdict.findings) > _SHOWN:
        others = ", ".join(finding.name for finding in verdict.findings[_SHOWN:])
        yield f"  and just as well: {others}"


def _coverage(verdict: Verdict) -> Iterator[str]:
    yield "Coverage:"
    width = max(len(f"{group.port} {group.aspect}") for group in verdict.coverage)
    for group in verdict.coverage:
        missed = group.missed
        names = ", ".join(missed[:_MISSED]) + (", ..." if len(missed) > _MISSED else "")
        never = f"  not covered: {names}" if missed else ""
        yield f"  {f'{group.port} {group.aspect}':{width}}  {group.hit} of {len(group.bins)}{never}"


def as_data(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as plain data; ``verdict.schema.json`` beside this file says of what form."""
    return {
        "rf8sim": __version__,
        "passed": verdict.passed,
        "vectors": verdict.asked.manifest(),
        "comparison": {
            "mode": verdict.comparison.name,
            "any_nan": verdict.comparison.any_nan,
            "flags": verdict.comparison.flags,
        },
        "counts": {
            "expected": verdict.expected,
            "received": verdict.received,
            "compared": verdict.compared,
            "wrong": verdict.wrong,
            "wrong_results": verdict.wrong_results,
            "wrong_flags": verdict.wrong_flags,
            "misplaced": verdict.misplaced,
            "malformed": verdict.malformed,
            "damaged": verdict.damaged,
            "undriven": verdict.undriven,
            "comments": verdict.comments,
        },
        "checks": {name: problem or "passed" for name, problem in verdict.checks.items()},
        "cause": verdict.cause or None,
        "classes": {name: {"compared": done, "wrong": bad} for name, (done, bad) in verdict.by_class.items()},
        "mismatches": [asdict(mismatch) for mismatch in verdict.first_mismatches],
        "malformed": [line._asdict() for line in verdict.first_malformed],
        "misplaced": [asdict(line) for line in verdict.first_misplaced],
        "diagnosis": [
            {**asdict(finding), "proved": finding.proved, "statement": finding.statement()}
            for finding in verdict.findings
        ],
        "flag_diagnosis": [
            {**asdict(finding), "proved": finding.proved, "statement": finding.statement()}
            for finding in verdict.flag_findings
        ],
        "coverage": [group._asdict() for group in verdict.coverage],
    }


def as_junit(verdict: Verdict) -> bytes:
    """Return the verdict as JUnit XML: a test case a check, and one a class of vectors."""
    name = f"rf8sim verify {verdict.asked.model.name}"
    cases: dict[str, str] = dict(verdict.checks)
    for stimulus, (done, bad) in verdict.by_class.items():
        asked = verdict.asked.classes[stimulus]
        short = f"{done:,} of {asked:,} vectors were compared" if done < asked else ""
        cases[f"vectors: {stimulus}"] = f"{bad:,} of {asked:,} are wrong" if bad else short
    failed = sum(map(bool, cases.values()))
    suites = ElementTree.Element("testsuites", tests=str(len(cases)), failures=str(failed))
    suite = ElementTree.SubElement(
        suites, "testsuite", name=name, tests=str(len(cases)), failures=str(failed), errors="0", skipped="0"
    )
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="setting", value=_setting(verdict))
    details = "\n".join(as_text(verdict, coverage=False))
    for case, problem in cases.items():
        element = ElementTree.SubElement(suite, "testcase", classname=name, name=case)
        if problem:
            ElementTree.SubElement(element, "failure", message=problem).text = details
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()
