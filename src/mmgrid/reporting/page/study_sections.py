"""The sections of the studies: the tested claims of all, then one section per study in the order of the registry."""

import shlex
from collections.abc import Sequence

import polars as pl

from mmgrid.reporting.figures.figure import Figure
from mmgrid.reporting.figures.plot_data import data_set
from mmgrid.reporting.figures.plots import plot_figure
from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.studies.findings import all_findings, findings_table, verdicts_summary
from mmgrid.reporting.studies.registry import view
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.tables.order import listing_orders
from mmgrid.reporting.tables.table import element_id
from mmgrid.reporting.text.section import Section, paragraph
from mmgrid.studies.contract import Study
from mmgrid.studies.registry import STUDIES

_FOLDED = 24
"""Rows above which a table is folded away at first."""


def study_sections(tables: ReportTables, domains: Sequence[str]) -> list[Section]:
    """The sections of all studies of checked tables (`inputs.checked`); that of the claims if any is tested.

    Raises:
        ValueError: a study declares a figure that cannot be drawn, or a view that cannot be imported.
    """
    findings = all_findings(tables.studies)
    sections = [_study_section(STUDIES[name], frames, domains, tables.grid) for name, frames in tables.studies.items()]
    if findings.is_empty():
        return sections
    summary = Section(
        "findings",
        "Findings",
        "Tested claims",
        paragraph(verdicts_summary(findings)),
        tables=(findings_table(findings),),
    )
    return [summary, *sections]


def _study_section(study: Study, frames: Frames, domains: Sequence[str], grid: str) -> Section:
    own = view(study.name)
    tables = own.tables(frames)
    return Section(
        element_id(study.name),
        own.name,
        study.title,
        own.paragraphs(frames),
        source=study.source,
        command=f"mmgrid run {shlex.quote(grid)} --only 'study/{study.name}/*'" if grid else "",
        tables=tuple(table for table in tables if table.longest <= _FOLDED),
        figures=study_figures(study, own, frames, domains),
        details=tuple(table for table in tables if table.longest > _FOLDED),
        figures_first=True,
    )


def study_figures(study: Study, own: View, frames: Frames, domains: Sequence[str]) -> tuple[Figure, ...]:
    """The figures that a study declares, of the tables that have rows.

    Args:
        study: in the registry.
        own: its view.
        frames: its tables.
        domains: in the order to list them.

    Raises:
        ValueError: a plot names a column that its table lacks, or cannot be drawn; the message names the study.
    """
    drawn = {plot.table for plot in study.plots}
    rows = {name: own.plot_rows(name, frame) if name in drawn else frame for name, frame in frames.items()}
    orders = {**listing_orders(domains), **own.orders}
    figures = []
    try:
        data = {table: data_set(table, study.plots, rows) for table in drawn}
        for plot in study.plots:
            figure_id = element_id("figure", study.name, plot.name)
            figures.append(
                plot_figure(plot, f"{study.name}/{plot.table}", data[plot.table], orders, figure_id=figure_id)
            )
    except (ValueError, KeyError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"study {study.name!r}: {error}") from error
    return tuple(figure for figure in figures if figure is not None)
