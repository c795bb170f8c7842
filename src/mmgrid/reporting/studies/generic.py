"""Shows a study that has no view: its findings in a paragraph, and one table per table with all its columns."""

from functools import partial

import polars as pl

from mmgrid.reporting.figures.plot_data import known_metrics
from mmgrid.reporting.studies.findings import FINDINGS, finding_sentences, findings_of, verdicts_summary
from mmgrid.reporting.studies.study_table import SHARED_COLUMNS
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.tables.labels import column_label, value_label
from mmgrid.reporting.tables.numbers import three_digits
from mmgrid.reporting.tables.order import paradigm_order, sorted_rows
from mmgrid.reporting.tables.table import Column, Table, element_id
from mmgrid.reporting.text.section import Paragraph, paragraph
from mmgrid.studies.contract import Study

MOST_ROWS = 200
"""Rows of a table on the page at most; the CSV has all of them."""

_LABELLED = ("metric", "group")  # columns with values that have labels
_LONG_TEXT = 40


def generic_view(study: Study) -> View:
    """The view of a study with any tables, with or without a paradigm, seeds, metrics or findings."""

    def tables(frames: Frames) -> tuple[Table, ...]:
        shown = [name for name in study.tables if name != FINDINGS and not frames[name].is_empty()]
        return tuple(_table(study.name, name, frames[name]) for name in shown)

    return View(study.title or column_label(study.name), _paragraphs, tables)


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    if all(frame.is_empty() for frame in frames.values()):
        return paragraph("This study has no results yet.")
    findings = findings_of(frames)
    summary = verdicts_summary(findings) if findings.height > 1 else ""
    return paragraph(summary, *finding_sentences(findings))


def _table(study: str, name: str, frame: pl.DataFrame) -> Table:
    metrics = frame["metric"].n_unique() if "metric" in frame.columns else 0
    frame = sorted_rows(known_metrics(frame), {"paradigm": paradigm_order()})
    notes = ["The CSV has all its rows."] if frame.height > MOST_ROWS else []
    if metrics and frame["metric"].n_unique() < metrics:
        notes.append("Of the metrics, those of Table 2 are shown.")
    columns = _columns(frame)
    shown = frame.head(MOST_ROWS).with_columns(
        pl.col(column).map_elements(partial(value_label, column), return_dtype=pl.String)
        for column in frame.columns
        if column in _LABELLED or frame.schema[column] == pl.Boolean
    )
    title = column_label(name)
    return Table(element_id("table", study, name), title, " ".join(notes), columns, shown, all_rows=True, export=frame)


def _columns(frame: pl.DataFrame) -> tuple[Column, ...]:
    """All columns: texts first, then numbers, each with its interval below it."""
    bounds = _bounds(frame)
    hidden = {column for pair in bounds.values() for column in pair}
    names = [name for name in frame.columns if name not in hidden]
    texts = [name for name in names if not frame.schema[name].is_numeric()]
    return tuple(_column(frame, name, bounds.get(name)) for name in [*texts, *(n for n in names if n not in texts)])


def _bounds(frame: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """Value → the columns with its bounds: `VALUE_low` and `VALUE_high`, or `low` and `high` right after the value."""
    names = [name for name in frame.columns if frame.schema[name].is_numeric()]
    found = {name: (f"{name}_low", f"{name}_high") for name in names if {f"{name}_low", f"{name}_high"} <= set(names)}
    for value, low, high in zip(frame.columns, frame.columns[1:], frame.columns[2:], strict=False):
        if (low, high) == ("low", "high") and {value, low, high} <= set(names):
            found[value] = (low, high)
    return found


def _column(frame: pl.DataFrame, name: str, bounds: tuple[str, str] | None) -> Column:
    if name in SHARED_COLUMNS and frame.schema[name].is_numeric() == SHARED_COLUMNS[name].numeric:
        return SHARED_COLUMNS[name]
    low, high = bounds or ("", "")
    label = column_label(name)
    dtype = frame.schema[name]
    if dtype.is_float():
        return Column(name, label, format=three_digits, low=low, high=high)
    if dtype.is_numeric():
        return Column(name, label, digits=0, low=low, high=high)
    lengths = frame[name].cast(pl.String).str.len_chars()
    return Column(name, label, prose=int(lengths.max() or 0) > _LONG_TEXT)  # type: ignore[arg-type]
