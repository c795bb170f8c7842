"""How a study is shown, apart from the figures that it declares itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mmgrid.reporting.tables.table import Table
from mmgrid.reporting.text.section import Headline, Paragraph

Frames = Mapping[str, pl.DataFrame]
"""Table name → rows, for every table of the study; a table that is not computed yet has no rows."""


@dataclass(frozen=True)
class Lead:
    """A figure of a study that may stand on the first screen.

    Attributes:
        plot: its name among the plots of the study.
        weight: of all studies with rows, the figure with the highest weight is shown.
        keep: column → the only value that is drawn, such as one group of users.
    """

    plot: str
    weight: int
    keep: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """One study in the report.

    Attributes:
        name: its link at the top of the page; short.
        paragraphs: what its numbers say.
        tables: its numbers.
        plot_rows: (table name, its rows) → the rows for the figures, with the columns that only figures need.
        orders: column → its values in the order in which figures list them.
        notes: name of a plot → a sentence about what its numbers cannot show, added to the caption of the figure.
        headline: (tables, a paradigm) → what the study found for the paradigm, for the first screen; `None` if nothing.
        lead: its figure for the first screen, if any.
        merges: its table with the numbers of the report's own section on merges, and more; empty if it has none.
    """

    name: str
    paragraphs: Callable[[Frames], tuple[Paragraph, ...]]
    tables: Callable[[Frames], tuple[Table, ...]]
    plot_rows: Callable[[str, pl.DataFrame], pl.DataFrame] = lambda table, frame: frame
    orders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Callable[[Frames], Mapping[str, str]] = lambda frames: {}
    headline: Callable[[Frames, str], Headline | None] = lambda frames, paradigm: None
    lead: Lead | None = None
    merges: str = ""
