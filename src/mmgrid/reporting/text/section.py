"""A section of the report: a heading, paragraphs, tables and figures."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from mmgrid.evaluation import GROUPS
from mmgrid.reporting.figures.checkpoints import CheckpointGrid
from mmgrid.reporting.figures.figure import Figure
from mmgrid.reporting.tables.table import Table


@dataclass(frozen=True)
class Paragraph:
    """A paragraph. `group` is the group of users it is about; empty if it does not depend on the choice of users."""

    text: str
    group: str = ""


@dataclass(frozen=True)
class Headline:
    """A statement of the first screen: a label of one to three words, and one or two sentences."""

    label: str
    text: str


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        id: of its element in the page.
        name: its link at the top of the page; short.
        title: the heading.
        paragraphs: what its numbers say.
        source: the table or figure of the paper that it reproduces, if any.
        command: the command that computes its numbers, if any.
        checkpoints: the tiles of the grid's checkpoints, if any.
        tables, figures: shown in this order unless `figures_first`.
        details: tables that are folded away at first.
    """

    id: str
    name: str
    title: str
    paragraphs: tuple[Paragraph, ...]
    source: str = ""
    command: str = ""
    checkpoints: CheckpointGrid | None = None
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    details: tuple[Table, ...] = ()
    figures_first: bool = False

    @property
    def groups(self) -> set[str]:
        """The groups of users between which its content changes."""
        found = {paragraph.group for paragraph in self.paragraphs if paragraph.group}
        for part in (*self.tables, *self.details, *self.figures):
            found |= set(part.groups)
        return found


def paragraph(*sentences: str) -> tuple[Paragraph, ...]:
    """One paragraph that does not depend on the choice of users; none without text."""
    text = " ".join(sentence for sentence in sentences if sentence)
    return (Paragraph(text),) if text else ()


def paragraph_per_group(rows: pl.DataFrame, summary: Callable[[pl.DataFrame, str], str]) -> tuple[Paragraph, ...]:
    """One paragraph per group of users among the rows: `summary(rows of the group, group)`."""
    groups = [group for group in GROUPS if group in rows["group"].unique().to_list()]
    return tuple(Paragraph(summary(rows.filter(pl.col("group") == group), group), group) for group in groups)
