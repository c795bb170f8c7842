"""The report's sections in their order: each a heading, sentences, and what can be seen.

A section that has nothing to show yet keeps its heading, and its sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import polars as pl

from mmgrid.evaluation import GROUPS
from mmgrid.reporting.figures import charts
from mmgrid.reporting.figures.overview import cells_table, kinds_table, picture
from mmgrid.reporting.figures.timeline import timeline_figure
from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.studies.contents import study_sections
from mmgrid.reporting.tables.codes import codes_table
from mmgrid.reporting.tables.comparison import comparison_table, metric_order, scores
from mmgrid.reporting.tables.domains import statistics_table
from mmgrid.reporting.tables.losses import thinned
from mmgrid.reporting.tables.merges import pairs, pairs_table
from mmgrid.reporting.text import sentences
from mmgrid.reporting.text.section import Section, Sentence

T = TypeVar("T")


def sections(tables: ReportTables) -> list[Section]:
    """All sections of a report on checked tables (see `inputs.checked`), the figures numbered in their order."""
    domains = tables.statistics["domain"].to_list()
    merges = tables.studies.get("cross_domain", {}).get("merges")
    found = [
        _grid(tables, domains),
        _data(tables, domains),
        _quality(tables, domains),
        # The study of merges across domains says the same, and more.
        *([_merging(tables, domains)] if merges is None or merges.is_empty() else []),
        *study_sections(tables, domains),
        _training(tables, domains),
    ]
    return _numbered(found)


def _numbered(found: list[Section]) -> list[Section]:
    number, parts = 0, []
    for section in found:
        titles = [f"Figure {number + place}" for place in range(1, len(section.figures) + 1)]
        number += len(titles)
        figures = [replace(figure, title=title) for figure, title in zip(section.figures, titles, strict=True)]
        parts.append(replace(section, figures=tuple(figures)))
    return parts


def _grid(tables: ReportTables, domains: list[str]) -> Section:
    return Section(
        "grid",
        "Grid",
        "The grid",
        (Sentence(sentences.on_cells(tables.cells)),),
        picture=picture(tables.cells, tables.results, domains),
        tables=_present(kinds_table(tables.cells)),
        details=_present(cells_table(tables.cells)),
    )


def _data(tables: ReportTables, domains: list[str]) -> Section:
    return Section(
        "data",
        "Data",
        "The data",
        (Sentence(sentences.on_statistics(tables.statistics)),),
        tables=_present(statistics_table(tables.statistics)) + _present(codes_table(tables.codes)),
        figures=_present(timeline_figure(tables.months, tables.phases, domains)),
    )


def _quality(tables: ReportTables, domains: list[str]) -> Section:
    scored = scores(tables.results, domains)
    return Section(
        "quality",
        "Quality",
        "Recommendation quality",
        _by_group(scored, sentences.on_scores),
        tables=_present(comparison_table(scored)),
        figures=_present(charts.scores_figure(scored)),
    )


def _merging(tables: ReportTables, domains: list[str]) -> Section:
    found = pairs(tables.results, tables.changes, domains)
    metric = metric_order(found["metric"].to_list())[:1]
    return Section(
        "merging",
        "Merging",
        "Merging across domains",
        _by_group(found, sentences.on_merges),
        figures=_present(charts.merges_figure(found, domains)),
        details=_present(pairs_table(found, metric[0]) if metric else None),
    )


def _training(tables: ReportTables, domains: list[str]) -> Section:
    return Section(
        "training",
        "Training",
        "Training",
        (Sentence(sentences.on_losses(tables.losses)),),
        figures=_present(charts.losses_figure(thinned(tables.losses), domains)),
    )


def _by_group(rows: pl.DataFrame, sentence: Callable[[pl.DataFrame, str], str]) -> tuple[Sentence, ...]:
    groups = [group for group in GROUPS if group in rows["group"].unique().to_list()]
    if not groups:
        return (Sentence(sentence(rows, "all")),)
    return tuple(Sentence(sentence(rows, group), group) for group in groups)


def _present(thing: T | None) -> tuple[T, ...]:
    return () if thing is None else (thing,)
