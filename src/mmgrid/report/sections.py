"""The report's sections in their order: each a heading, sentences, and what can be seen.

A section that has nothing to show yet keeps its heading, and its sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from mmgrid.evaluation import GROUPS
from mmgrid.report import charts, sentences
from mmgrid.report.comparison import comparison_table, metric_order, scores
from mmgrid.report.inputs import ReportTables
from mmgrid.report.losses import thinned
from mmgrid.report.merges import pairs, pairs_table
from mmgrid.report.overview import Picture, cells_table, kinds_table, picture
from mmgrid.report.statistics import statistics_table
from mmgrid.report.tables import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Sentence:
    """A paragraph; ``group`` names the users it speaks of, empty if it always holds."""

    text: str
    group: str = ""


@dataclass(frozen=True)
class Section:
    """One part of the report; ``details`` are tables that are folded away at first."""

    id: str
    name: str
    title: str
    sentences: tuple[Sentence, ...]
    picture: Picture | None = None
    tables: tuple[Table, ...] = ()
    figures: tuple[charts.Figure, ...] = ()
    details: tuple[Table, ...] = ()


def sections(tables: ReportTables) -> list[Section]:
    """All sections of a report on checked tables (see `inputs.checked`)."""
    domains = tables.statistics["domain"].to_list()
    return [
        _grid(tables, domains),
        _data(tables),
        _quality(tables, domains),
        _merging(tables, domains),
        _training(tables, domains),
    ]


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


def _data(tables: ReportTables) -> Section:
    return Section(
        "data",
        "Data",
        "The data",
        (Sentence(sentences.on_statistics(tables.statistics)),),
        tables=_present(statistics_table(tables.statistics)),
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
