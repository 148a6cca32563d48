"""Coverage as a file of functional coverage, in the forms of cocotb-coverage: XML, or YAML.

The tree is that of ``coverage_db.export_to_xml`` and ``export_to_yaml``: the root ``top``, below it a group for each
port (``top.multiply_a``), and in it a cover point with bins for each aspect. `cocotb_coverage.coverage.merge_coverage`
merges such files of several runs, and PyUCIS (``ucis convert --input-format cocotb-xml``) turns them into UCIS.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from .coverage import Group
from .outcome import Verdict

__all__ = ["SUFFIXES", "as_coverage", "check_suffix"]

SUFFIXES = (".xml", ".yml", ".yaml")
_CLASS = "<class 'cocotb_coverage.coverage.{}'>"


def check_suffix(path: Path) -> None:
    """Raise ValueError if a path does not say in which form a coverage file is to be."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: a coverage file ends in {', '.join(SUFFIXES)}")


class _Node(NamedTuple):
    """A node of the tree: the bins below it, and how many of them were hit; its group, if it is a cover point."""

    name: str
    size: int
    hit: int
    group: Group | None = None

    @property
    def percentage(self) -> float:
        return round(100 * self.hit / self.size, 2) if self.size else 0.0


def _identifier(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")


def _tree(verdict: Verdict) -> list[_Node]:
    """Return the root, the ports and their cover points, each after the node above it."""
    groups: dict[str, list[_Node]] = {}
    for group in verdict.coverage:
        port = f"top.{_identifier(verdict.asked.model.name)}_{_identifier(group.port)}"
        point = _Node(f"{port}.{_identifier(group.aspect)}", len(group.bins), group.hit, group)
        groups.setdefault(port, []).append(point)
    ports = {name: _above(name, points) for name, points in groups.items()}
    nodes = [_above("top", list(ports.values()))]
    for name, points in groups.items():
        nodes += [ports[name], *points]
    return nodes


def _above(name: str, nodes: list[_Node]) -> _Node:
    return _Node(name, sum(node.size for node in nodes), sum(node.hit for node in nodes))


def as_coverage(verdict: Verdict, path: Path) -> bytes:
    """Return the coverage of a verdict as a file.

    Parameters
    ----------
    verdict : Verdict
        What was covered.
    path : Path
        Where the file is to go: its suffix chooses XML or YAML.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    ValueError
        If the suffix is neither.

    Examples
    --------
    >>> import io
    >>> from rf8sim.hardware.vectors.vectors import vectors
    >>> from rf8sim.hardware.verdict.verify import verify
    >>> asked = vectors("decode", "e2m1fn", result="rf8")
    >>> verdict = verify(asked, io.BytesIO(b"".join(asked.text())))
    >>> for line in as_coverage(verdict, Path("coverage.xml")).decode().splitlines()[2:5]:
    ...     print(line.strip()[:48])
    <decode_a abs_name="top.decode_a" size="28" cove
    <codes abs_name="top.decode_a.codes" size="16" c
    <bin0 bin="00" hits="1" abs_name="top.decode_a.c
    """
    check_suffix(path)
    nodes = _tree(verdict)
    return _as_xml(nodes) if path.suffix == ".xml" else _as_yaml(nodes)


def _as_xml(nodes: list[_Node]) -> bytes:
    elements: dict[str, ElementTree.Element] = {}
    for node in nodes:
        above, _, name = node.name.rpartition(".")
        attributes = {
            "abs_name": node.name, "size": str(node.size), "coverage": str(node.hit),
            "cover_percentage": str(node.percentage),
        }  # fmt: skip
        if node.group is not None:
            attributes |= {"weight": "1", "at_least": "1"}
        element = (
            ElementTree.SubElement(elements[above], name, attributes)
            if above
            else ElementTree.Element(name, attributes)
        )
        elements[node.name] = element
        for number, (label, hits) in enumerate(node.group.bins.items() if node.group else ()):
            place = {"bin": label, "hits": str(hits), "abs_name": f"{node.name}.bin{number}"}
            ElementTree.SubElement(element, f"bin{number}", place)
    root = elements["top"]
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _as_yaml(nodes: list[_Node]) -> bytes:
    """Return YAML in the syntax of JSON, which is YAML."""
    data: dict[str, dict[str, Any]] = {}
    for node in nodes:
        entry: dict[str, Any] = {
            "type": _CLASS.format("CoverPoint" if node.group else "CoverItem"), "size": node.size, "coverage": node.hit,
            "cover_percentage": node.percentage,
        }  # fmt: skip
        if node.group is not None:
            entry |= {"weight": 1, "at_least": 1, "bins:_hits": node.group.bins}
        data[node.name] = entry
    return (json.dumps(data, indent=1) + "\n").encode()
