"""The studies' part of the report: what was found, then one section a study, in the registry's order."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mmgrid.reporting.figures.figure import Figure
from mmgrid.reporting.figures.plot_data import data_set, orders
from mmgrid.reporting.figures.plots import drawn
from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.studies.findings import all_findings, findings_table, on_findings
from mmgrid.reporting.studies.registry import view
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.text.section import Section, Sentence
from mmgrid.studies.registry import STUDIES, Study

_FOLDED = 24
"""Rows that are seen at once; a longer table is folded away at first."""


def study_sections(tables: ReportTables, domains: Sequence[str]) -> list[Section]:
    """The findings, if there are any, and every study of checked tables (see `inputs.checked`)."""
    found = all_findings(tables.studies)
    sections = [_section(STUDIES[name], frames, domains, tables.grid) for name, frames in tables.studies.items()]
    if found.is_empty():
        return sections
    summary = Section(
        "findings",
        "Findings",
        "What of the paper holds here",
        (Sentence(on_findings(found)),),
        tables=(findings_table(found),),
    )
    return [summary, *sections]


def _section(study: Study, frames: Frames, domains: Sequence[str], grid: str) -> Section:
    shown = view(study.name)
    tables = shown.tables(frames)
    return Section(
        study.name.replace("_", "-"),
        shown.name,
        study.title,
        shown.sentences(frames),
        source=study.source,
        command=f"mmgrid run {shlex.quote(grid)} --only 'study/{study.name}/*'" if grid else "",
        tables=tuple(table for table in tables if table.height <= _FOLDED),
        figures=_figures(study, shown, frames, domains),
        details=tuple(table for table in tables if table.height > _FOLDED),
        figures_first=True,
    )


def _figures(study: Study, shown: View, frames: Frames, domains: Sequence[str]) -> tuple[Figure, ...]:
    rows = {name: shown.drawn(name, frame) if _is_drawn(study, name) else frame for name, frame in frames.items()}
    data = {plot.table: data_set(plot.table, study.plots, rows) for plot in study.plots}
    figures = [
        drawn(
            plot,
            f"{study.name}/{plot.table}",
            data[plot.table],
            orders(domains),
            name=f"figure-{study.name.replace('_', '-')}-{plot.name}",
        )
        for plot in study.plots
    ]
    return tuple(figure for figure in figures if figure is not None)


def _is_drawn(study: Study, table: str) -> bool:
    return any(plot.table == table for plot in study.plots)
