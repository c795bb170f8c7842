"""The sections of the report, in their order.

A section without rows keeps its heading, and its paragraph says that there is nothing yet.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mmgrid.reporting.figures.checkpoints import checkpoint_grid
from mmgrid.reporting.figures.losses import losses_figure
from mmgrid.reporting.figures.merges import merges_figure
from mmgrid.reporting.figures.scores import scores_figure
from mmgrid.reporting.figures.served import served_figure
from mmgrid.reporting.figures.timeline import timeline_figure
from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.page.study_sections import a_study_shows_merges, findings_section, study_sections
from mmgrid.reporting.tables.codes import codes_table
from mmgrid.reporting.tables.comparison import comparison_table, scores
from mmgrid.reporting.tables.domains import statistics_table
from mmgrid.reporting.tables.grid_cells import cells_table, kinds_table
from mmgrid.reporting.tables.losses import thinned
from mmgrid.reporting.tables.merges import kept_table, pairs, pairs_table, served_table
from mmgrid.reporting.tables.order import ordered_metrics
from mmgrid.reporting.text.section import Section, paragraph, paragraph_per_group
from mmgrid.reporting.text.summaries import (
    cells_summary,
    kept_summary,
    losses_summary,
    merges_summary,
    scores_summary,
    statistics_summary,
)

T = TypeVar("T")


def report_sections(tables: ReportTables, strength: Sequence[str] = ()) -> list[Section]:
    """The sections of a report on checked tables (`inputs.checked`): results, then the data and the grid behind them.

    Args:
        tables: checked.
        strength: the paradigms, the strongest first; figures open on the first that they have.
    """
    domains = tables.statistics["domain"].to_list()
    return [
        *_present(findings_section(tables)),
        _quality_section(tables, domains),
        *([] if a_study_shows_merges(tables) else [_merging_section(tables, domains)]),
        *_kept_section(tables),
        *study_sections(tables, domains, strength),
        _data_section(tables, domains),
        _training_section(tables, domains, strength),
        _grid_section(tables, domains),
    ]


def numbered(sections: Sequence[Section], first: int) -> list[Section]:
    """The sections with their figures numbered in order, the first of them `first`."""
    number, found = first, []
    for section in sections:
        figures = [replace(figure, title=f"Figure {place}") for place, figure in enumerate(section.figures, number)]
        number += len(figures)
        found.append(replace(section, figures=tuple(figures)))
    return found


def _grid_section(tables: ReportTables, domains: list[str]) -> Section:
    return Section(
        "grid",
        "Grid",
        "The grid",
        paragraph(cells_summary(tables.cells)),
        checkpoints=checkpoint_grid(tables.cells, tables.results, domains),
        tables=_present(kinds_table(tables.cells)),
        details=_present(cells_table(tables.cells)),
    )


def _data_section(tables: ReportTables, domains: list[str]) -> Section:
    return Section(
        "data",
        "Data",
        "The data",
        paragraph(statistics_summary(tables.statistics)),
        tables=_present(statistics_table(tables.statistics)) + _present(codes_table(tables.codes)),
        figures=_present(timeline_figure(tables.months, tables.phases, domains)),
    )


def _quality_section(tables: ReportTables, domains: list[str]) -> Section:
    scored = scores(tables.results, domains)
    return Section(
        "quality",
        "Quality",
        "Recommendation quality",
        paragraph_per_group(scored, scores_summary) or paragraph(scores_summary(scored, "all")),
        tables=_present(comparison_table(scored)),
        figures=_present(scores_figure(scored)),
    )


def _merging_section(tables: ReportTables, domains: list[str]) -> Section:
    rows = pairs(tables.results, tables.changes, domains)
    metrics = ordered_metrics(rows["metric"].to_list())
    return Section(
        "merging",
        "Merging",
        "Merging across domains",
        paragraph_per_group(rows, merges_summary) or paragraph(merges_summary(rows, "all")),
        figures=_present(merges_figure(rows, domains)),
        details=_present(pairs_table(rows, metrics[0]) if metrics else None),
    )


def _kept_section(tables: ReportTables) -> list[Section]:
    """The merges that the grid file names, and its families; nothing without them."""
    if tables.kept.is_empty():
        return []
    return [
        Section(
            "kept",
            "Merges",
            "Merges and families of this grid",
            paragraph(kept_summary(tables.served)),
            figures=_present(served_figure(tables.served)),
            figures_first=True,
            tables=_present(served_table(tables.served)) + _present(kept_table(tables.kept)),
        )
    ]


def _training_section(tables: ReportTables, domains: list[str], strength: Sequence[str]) -> Section:
    return Section(
        "training",
        "Training",
        "Training",
        paragraph(losses_summary(tables.losses)),
        figures=_present(losses_figure(thinned(tables.losses), domains, strength)),
    )


def _present(thing: T | None) -> tuple[T, ...]:
    return () if thing is None else (thing,)
