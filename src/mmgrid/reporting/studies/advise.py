"""λ predicted from the data: by a line fitted without the domain, and its gain over the newest checkpoint."""

import polars as pl

from mmgrid.reporting.studies.study_table import difference, study_table
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.studies.wording import (
    Quantity,
    extremes,
    extremes_text,
    main_metric_label,
    main_metric_rows,
    no_evidence,
    row_label,
)
from mmgrid.reporting.tables.labels import metric_label
from mmgrid.reporting.tables.numbers import count, number
from mmgrid.reporting.tables.significance import count_differences, significance_text
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.reporting.text.section import Paragraph, paragraph

_DIFFERENCE = Quantity("difference", unit="points")


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    predictions = frames["predictions"].filter(pl.col("predicted").is_not_null())
    if predictions.is_empty():
        return paragraph("No λ is predicted yet: a line needs the λ* of other domains.")
    return paragraph(_predictions(predictions), _few(predictions), _gains(frames["comparison"]))


def _predictions(rows: pl.DataFrame) -> str:
    text = f"λ̂ {_range(rows, 'scale', 'is', 'ranges from')}"
    errors = rows.with_columns(error=(pl.col("predicted") - pl.col("best")).abs()).drop_nulls("error")
    if errors.is_empty():
        return f"{text}."
    return (
        f"{text}; the error of λ̃, predicted without the domain itself, {_range(errors, 'error', 'is', 'ranges from')}."
    )


def _few(predictions: pl.DataFrame) -> str:
    """Says so if a line is fitted to few domains."""
    fitted = predictions["n_domains"].drop_nulls().to_list()
    return no_evidence(max(fitted)) if fitted else ""


def _range(rows: pl.DataFrame, column: str, one: str, several: str) -> str:
    """`is 0.900 (a)`, or `ranges from 0.900 (a) to 1.000 (b)`."""
    low, high = (f"{number(row[column], 3)} ({row_label(row, rows, row['domain'])})" for row in extremes(rows, column))
    return f"{one} {low}" if low == high else f"{several} {low} to {high}"


def _gains(frame: pl.DataFrame) -> str:
    rows = main_metric_rows(frame, "difference")
    if rows.is_empty():
        return "It is not evaluated against λ = 1 yet."
    counts = count_differences(rows, "difference")
    text = (
        f"Over all test users, {main_metric_label(rows)} at λ̂ is higher than at λ = 1 in {counts.up} of "
        f"{count(counts.rows, 'comparison')} and lower in {counts.down}; {significance_text(counts)}."
    )
    low, high = extremes_text(rows, _DIFFERENCE, lambda row: row["domain"])
    return text if low == high else f"{text} The differences range from {low} to {high}."


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        "paradigm",
        "domain",
        Column("gap_days", "Gap, days", digits=1),
        Column("active_ratio", "p active", digits=3, hint="share of active users among the test users"),
        Column("best", "λ*", digits=3, hint="the best λ of the domain’s own non-active users"),
        Column("predicted", "λ̃", digits=3, hint="predicted by the line through the other domains"),
        Column("scale", "λ̂", digits=3, hint="(1 − p) λ̃ + p"),
        Column("scale_before", "λ̂ before", digits=3, hint="with p estimated one phase earlier"),
        Column("n_domains", "Domains", digits=0, hint="on which the line is fitted"),
    )
    caption = "λ predicted for each domain by the line through the others: λ̃ = intercept + slope · gap."
    caption = " ".join(part for part in (caption, _few(frames["predictions"])) if part)
    predictions = study_table(
        "table-predictions", "Predicted λ", caption, columns, frames["predictions"], block="paradigm"
    )
    return (*predictions, *_comparison_table(frames["comparison"]))


def _comparison_table(frame: pl.DataFrame) -> tuple[Table, ...]:
    columns = (
        "paradigm",
        "domain",
        Column("metric_label", "Metric"),
        Column("scale", "λ̂", digits=3),
        Column("value_at_one", "At λ = 1, %", digits=3),
        Column("value", "At λ̂, %", digits=3),
        difference("difference", "Difference, points", 3),
        "p_adjusted",
        "n_users",
    )
    frame = frame.with_columns(metric_label=pl.col("metric").map_elements(metric_label, return_dtype=pl.String))
    caption = "The model at λ̂ against λ = 1 on all test users, paired by user."
    return study_table("table-advice", "λ̂ against λ = 1", caption, columns, frame, one_metric=False, block="domain")


def _notes(frames: Frames) -> dict[str, str]:
    few = _few(frames["predictions"])
    return {"gains": few} if few else {}


VIEW = View("Advice", _paragraphs, _tables, notes=_notes)
