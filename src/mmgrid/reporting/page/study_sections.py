"""What the page says about studies: a section per study, the tested claims of all, and their part of the first screen."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from mmgrid.reporting.figures.figure import Figure
from mmgrid.reporting.figures.plot_data import data_set
from mmgrid.reporting.figures.plots import plot_figure
from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.studies.claims_table import claims_table
from mmgrid.reporting.studies.findings import all_findings, verdicts_headline, verdicts_summary
from mmgrid.reporting.studies.registry import view
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.studies.wording import main_metric
from mmgrid.reporting.tables.labels import value_label
from mmgrid.reporting.tables.order import listing_orders
from mmgrid.reporting.tables.strength import first_of
from mmgrid.reporting.tables.table import element_id
from mmgrid.reporting.text.section import Headline, Section, paragraph
from mmgrid.studies.contract import Study
from mmgrid.studies.plot import Plot
from mmgrid.studies.registry import STUDIES

_FOLDED = 24
"""Rows above which a table is folded away at first."""


def findings_section(tables: ReportTables) -> Section | None:
    """The section of the tested claims of all studies; `None` if none is tested."""
    findings = all_findings(tables.studies)
    if findings.is_empty():
        return None
    summary = paragraph(verdicts_summary(findings))
    return Section("findings", "Findings", "Tested claims", summary, tables=(claims_table(findings),))


def study_sections(tables: ReportTables, domains: Sequence[str], strength: Sequence[str] = ()) -> list[Section]:
    """The sections of the studies of checked tables (`inputs.checked`), in the order of the registry.

    Args:
        tables: checked.
        domains: in the order to list them.
        strength: the paradigms, the strongest first; figures open on the first that they have.

    Raises:
        ValueError: a study declares a figure that cannot be drawn, or a view that cannot be imported.
    """
    return [
        _study_section(STUDIES[name], frames, domains, strength, tables.grid) for name, frames in tables.studies.items()
    ]


def a_study_shows_merges(tables: ReportTables) -> bool:
    """Whether a study has the numbers of the section on merges, so that they need not stand twice."""
    shown = ((frames, view(name).merges) for name, frames in tables.studies.items())
    return any(table in frames and not frames[table].is_empty() for frames, table in shown)


def study_headlines(tables: ReportTables, strength: Sequence[str]) -> list[Headline]:
    """What the studies found for the strongest paradigm that each has, and the verdicts on the claims."""
    found = []
    for name, frames in tables.studies.items():
        found.append(view(name).headline(frames, first_of(strength, _paradigms(frames))))
    findings = all_findings(tables.studies)
    paradigms = findings["paradigm"].drop_nulls().unique(maintain_order=True).to_list()
    found.append(verdicts_headline(findings, first_of(strength, paradigms)))
    return [headline for headline in found if headline is not None]


def lead_figure(tables: ReportTables, domains: Sequence[str], strength: Sequence[str]) -> Figure | None:
    """The figure of a study for the first screen, of the strongest paradigm alone; `None` without such rows."""
    leads = [(lead.weight, name, lead) for name in tables.studies if (lead := view(name).lead) is not None]
    for _, name, lead in sorted(leads, key=lambda found: -found[0]):
        study, own, frames = STUDIES[name], view(name), tables.studies[name]
        (plot,) = (plot for plot in study.plots if plot.name == lead.plot)
        only = {"paradigm": first_of(strength, _paradigms(frames)), **lead.keep}
        metric = main_metric(frames[plot.table]) if "metric" in frames[plot.table].columns else ""
        fixed = {"metric": metric} if metric else {}
        keep = {**plot.keep, **{column: (value,) for column, value in (only | fixed).items()}}
        (figure,) = study_figures(
            study, own, frames, domains, strength, plots=[replace(plot, keep=keep)], figure_id="figure-lead"
        ) or (None,)
        if figure is not None:
            words = ", ".join(value_label(column, value) for column, value in only.items())
            return replace(figure, caption=f"{figure.caption} Here: {words}; the others are below, under {own.name}.")
    return None


def _paradigms(frames: Frames) -> list[str]:
    """The paradigms in a study's tables, the first first."""
    columns = [frame["paradigm"].drop_nulls() for frame in frames.values() if "paradigm" in frame.columns]
    return list(dict.fromkeys(name for column in columns for name in column.cast(pl.String).to_list()))


def _study_section(study: Study, frames: Frames, domains: Sequence[str], strength: Sequence[str], grid: str) -> Section:
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
        figures=study_figures(study, own, frames, domains, strength),
        details=tuple(table for table in tables if table.longest > _FOLDED),
        figures_first=True,
    )


def study_figures(
    study: Study,
    own: View,
    frames: Frames,
    domains: Sequence[str],
    strength: Sequence[str] = (),
    *,
    plots: Sequence[Plot] | None = None,
    figure_id: str = "",
) -> tuple[Figure, ...]:
    """The figures that a study declares, of the tables that have rows.

    Args:
        study: in the registry.
        own: its view.
        frames: its tables.
        domains: in the order to list them.
        strength: the paradigms, the strongest first; a figure opens on the first that it has.
        plots: drawn instead of all plots of the study; they differ from those in `keep` only.
        figure_id: of the element of the only figure, if it is not the usual one.

    Raises:
        ValueError: a plot names a column that its table lacks, or cannot be drawn; the message names the study.
    """
    drawn = {plot.table for plot in study.plots}
    rows = {name: own.plot_rows(name, frame) if name in drawn else frame for name, frame in frames.items()}
    orders = {**listing_orders(domains), **own.orders}
    notes = own.notes(frames)
    try:
        # All figures of a table share its data set, so each is made from all plots of the study.
        data = {table: data_set(table, study.plots, rows) for table in drawn}
        figures = [
            plot_figure(
                replace(plot, caption=f"{plot.caption} {notes.get(plot.name, '')}".strip()),
                f"{study.name}/{plot.table}",
                data[plot.table],
                orders,
                figure_id=figure_id or element_id("figure", study.name, plot.name),
                opens={"paradigm": strength},
            )
            for plot in (study.plots if plots is None else plots)
        ]
    except (ValueError, KeyError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"study {study.name!r}: {error}") from error
    return tuple(figure for figure in figures if figure is not None)
