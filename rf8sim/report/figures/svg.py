"""A drawing as an element of a page: matplotlib's SVG, parsed and edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

__all__ = ["inline"]


def inline(
    drawing: str,
    name: str,
    words: tuple[str, str],
    colours: Mapping[str, str],
    hints: Mapping[str, Sequence[str]],
) -> str:
    """Make an SVG file an ``<svg>`` element that can stand in a page beside others.

    Parameters
    ----------
    drawing : str
        The file.
    name : str
        Unique in the page: it is put before every identifier.
    words : tuple of str
        Title and description, for screen readers.
    colours : dict of str to str
        By colour the name of the CSS variable that takes its place.
    hints : dict of str to sequence of str
        By the identifier of a group, a title for each of its marks.

    Returns
    -------
    str
        The element, without namespaces, which HTML does not need.

    Raises
    ------
    ValueError
        If a group has not as many marks as hints.

    Examples
    --------
    >>> file = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path id="a" fill="#fff" /></svg>'
    >>> print(inline(file, "f", ("Title", "Words"), {"#fff": "ink"}, {}), end="")
    <svg role="img" aria-labelledby="f-title f-desc" viewBox="0 0 9 9">
     <title id="f-title">Title</title><desc id="f-desc">Words</desc><path id="f-a" fill="var(--ink)" /></svg>
    """
    root = ElementTree.fromstring(drawing)
    for element in root.iter():
        _without_namespaces(element)
    for child in list(root):
        if child.tag == "metadata" or (child.tag == "defs" and child.find("style") is not None):
            root.remove(child)
    _add_hints(root, hints)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _attribute(key, value, name, colours))
    title, description = (ElementTree.Element(tag, id=f"{name}-{tag}") for tag in ("title", "desc"))
    title.text, description.text = words
    description.tail, root.text = root.text, "\n "
    root[:0] = [title, description]
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"role": "img", "aria-labelledby": f"{name}-title {name}-desc", "viewBox": box})
    return ElementTree.tostring(root, encoding="unicode").rstrip() + "\n"


def _without_namespaces(element: ElementTree.Element) -> None:
    element.tag = _local(element.tag)
    given = {_local(key): value for key, value in element.attrib.items()}
    element.attrib.clear()
    element.attrib.update(given)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _add_hints(root: ElementTree.Element, hints: Mapping[str, Sequence[str]]) -> None:
    groups = {element.get("id"): element for element in root.iter("g")}
    for gid, texts in hints.items():
        if not texts:
            continue
        # What has an identifier is the shape that marks are copies of.
        shapes = (element for element in groups[gid].iter() if element.tag in ("use", "path"))
        marks = [shape for shape in shapes if shape.get("id") is None]
        if len(marks) != len(texts):
            raise ValueError(f"{gid}: {len(texts)} hints for {len(marks)} marks")
        for mark, text in zip(marks, texts, strict=True):
            ElementTree.SubElement(mark, "title").text = text


def _attribute(key: str, value: str, name: str, colours: Mapping[str, str]) -> str:
    """Return an attribute's value with identifiers made unique and colours made variables."""
    if key == "id":
        return f"{name}-{value}"
    if key == "style":
        return "; ".join(_declaration(part, name, colours) for part in value.split(";") if part.strip())
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return _value(value, name, colours)


def _declaration(text: str, name: str, colours: Mapping[str, str]) -> str:
    """Return a declaration of a style; of a font only its size is kept: the page chooses the family."""
    prop, _, value = (part.strip() for part in text.partition(":"))
    if prop == "font":
        return f"font-size: {next(word for word in value.split() if word.endswith('px'))}"
    return f"{prop}: {_value(value, name, colours)}"


def _value(value: str, name: str, colours: Mapping[str, str]) -> str:
    if value in colours:
        return f"var(--{colours[value]})"
    return f"url(#{name}-{value[5:]}" if value.startswith("url(#") else value
