"""One part of the report: a heading, sentences, and what can be seen."""

from __future__ import annotations

from dataclasses import dataclass

from mmgrid.reporting.figures.figure import Figure
from mmgrid.reporting.figures.overview import Picture
from mmgrid.reporting.tables.tables import Table


@dataclass(frozen=True)
class Sentence:
    """A paragraph; ``group`` names the users it speaks of, empty if it always holds."""

    text: str
    group: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        id: of its place in the page.
        name: in the page's bar; short.
        title: the heading.
        sentences: what its numbers say.
        source: the table or figure of the paper that it answers, if any.
        command: what makes its numbers, if that can be said.
        picture, tables, figures: what is seen, in this order unless ``figures_first``.
        details: tables that are folded away at first.
    """

    id: str
    name: str
    title: str
    sentences: tuple[Sentence, ...]
    source: str = ""
    command: str = ""
    picture: Picture | None = None
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    details: tuple[Table, ...] = ()
    figures_first: bool = False
