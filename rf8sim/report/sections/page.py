"""What a page is: sections of words, tables and figures as data, with the records that they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..figures.figure import Figure
from ..tables.table import Table

__all__ = ["Kind", "Page", "Section", "SectionOf"]

_Found = TypeVar("_Found")

SectionOf = Callable[[_Found, bool], "Section | None"]
"""Makes a section of what was measured, with figures or without; None where there is nothing to show."""


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it, in this order. All words are plain text.

    Attributes
    ----------
    id : str
        Unique in its page.
    title : str
        The heading.
    paragraphs : tuple of str
        Text.
    tables : tuple of Table
        Folded ones stand below the figures.
    figures : tuple of Figure
        Drawings, each with its title and description.
    points : tuple of str
        Sentences of a list.
    terms : tuple of (str, str)
        Words that the tables use, with their definitions.
    lead : Table, optional
        A small table above everything else.
    """

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    points: tuple[str, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()
    lead: Table | None = None


@dataclass(frozen=True)
class Page:
    """The page of a command: what HTML, Markdown, JSON and the terminal show.

    Attributes
    ----------
    name : str
        The name of its files, without a suffix.
    title : str
        The heading.
    verdict : tuple of str
        The answer, in sentences.
    brief : Table
        The table for a terminal.
    sections : tuple of Section
        The verdict and what follows.
    data : dict
        The records as plain data for JSON.
    made_by : str
        The command; empty if it is not known, or stands in a section.
    remark : str
        A sentence about making the page again.
    figure_files : bool
        Whether the Markdown shows the figures, as files beside it.
    """

    name: str
    title: str
    verdict: tuple[str, ...]
    brief: Table
    sections: tuple[Section, ...]
    data: Mapping[str, Any]
    made_by: str = ""
    remark: str = ""
    figure_files: bool = True

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures of all sections."""
        return tuple(figure for section in self.sections for figure in section.figures)

    def record(self) -> dict[str, Any]:
        """Return what the JSON file holds: the command, the verdict and the records."""
        made_by = {"made_by": self.made_by} if self.made_by else {}
        verdict = {} if "verdict" in self.data else {"verdict": list(self.verdict)}
        return {**made_by, **verdict, **self.data}


@dataclass(frozen=True)
class Kind(Generic[_Found]):
    """The page of one command, for anything that it measures.

    Attributes
    ----------
    name : str
        The name of its files, without a suffix.
    title : callable
        Returns the heading.
    verdict : callable
        Returns the answer in sentences.
    brief : callable
        Returns the table for a terminal.
    data : callable
        Returns the records as plain data.
    sections : tuple of callable
        What follows the verdict, in order.
    remark : str
        As in `Page`.
    figure_files : bool
        As in `Page`.
    answer : callable, optional
        Returns the answer as a small table, and further ones, folded, that it rests on.
    """

    name: str
    title: Callable[[_Found], str]
    verdict: Callable[[_Found], Sequence[str]]
    brief: Callable[[_Found], Table]
    data: Callable[[_Found], Mapping[str, Any]]
    sections: tuple[SectionOf[_Found], ...]
    remark: str = "The same command gives the same page."
    figure_files: bool = True
    answer: Callable[[_Found], tuple[Table, ...]] | None = None

    def page(self, study: _Found, made_by: str = "", *, figures: bool = True) -> Page:
        """Describe what was measured.

        Parameters
        ----------
        study : object
            What the command measured.
        made_by : str
            The command.
        figures : bool
            Whether figures are drawn, which takes seconds.
        """
        verdict = tuple(self.verdict(study))
        made = (make(study, figures) for make in self.sections)
        lead, *grounds = (self.answer(study) if self.answer is not None else ()) or (None,)
        top = Section("verdict", "Verdict", tables=tuple(grounds), points=verdict, lead=lead)
        sections = (top, *(part for part in made if part is not None))
        return Page(
            self.name,
            self.title(study),
            verdict,
            self.brief(study),
            sections,
            self.data(study),
            made_by,
            self.remark,
            self.figure_files,
        )
