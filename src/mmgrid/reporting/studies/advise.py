"""λ predicted from the data: the line that left a domain out, and what its λ̂ gains over the newest checkpoint."""

from __future__ import annotations

from typing import Any

import polars as pl

from mmgrid.reporting.studies.view import (
    BOLD,
    DOMAIN,
    HOLM,
    PARADIGM,
    USERS,
    Frames,
    View,
    always,
    by_order,
    extremes,
    first_label,
    of_first_metric,
    study_table,
    whose,
)
from mmgrid.reporting.tables.comparison import metric_label
from mmgrid.reporting.tables.judged import counted, decided, judgement
from mmgrid.reporting.tables.numbers import count, number, with_interval
from mmgrid.reporting.tables.tables import Column, Table
from mmgrid.reporting.text.section import Sentence


def _sentences(frames: Frames) -> tuple[Sentence, ...]:
    predictions = frames["predictions"].filter(pl.col("predicted").is_not_null())
    if predictions.is_empty():
        return always("No λ is predicted yet: a line needs the λ* of other domains.")
    return always(_on_predictions(predictions), _on_gains(of_first_metric(frames["comparison"])))


def _on_predictions(rows: pl.DataFrame) -> str:
    low, high = extremes(rows, "scale")
    text = f"λ̂ is {number(low['scale'], 3)} ({whose(low, rows, low['domain'])})"
    if low != high:
        text = (
            f"λ̂ runs from {number(low['scale'], 3)} ({whose(low, rows, low['domain'])}) to {number(high['scale'], 3)} "
            f"({whose(high, rows, high['domain'])})"
        )
    missed = rows.with_columns(missed=(pl.col("predicted") - pl.col("best")).abs()).drop_nulls("missed")
    if missed.is_empty():
        return f"{text}."
    near, far = extremes(missed, "missed")
    by = number(near["missed"], 3)
    if near != far:
        by += (
            f" ({whose(near, rows, near['domain'])}) to {number(far['missed'], 3)} ({whose(far, rows, far['domain'])})"
        )
    return f"{text}; the line that has not seen a domain misses its λ* by {by}."


def _on_gains(rows: pl.DataFrame) -> str:
    rows = rows.filter(pl.col("difference").is_not_null())
    if rows.is_empty():
        return "It is not evaluated against λ = 1 yet."
    found = counted(rows, "difference")
    text = (
        f"Against λ = 1 over all test users, {first_label(rows)} is higher in {found.up} of "
        f"{count(found.rows, 'comparison')} and lower in {found.down}; {judgement(found)}."
    )
    low, high = extremes(rows, "difference")
    return text if low == high else f"{text} The differences run from {_named(low, rows)} to {_named(high, rows)}."


def _named(row: dict[str, Any], rows: pl.DataFrame) -> str:
    value = with_interval(row["difference"], row["low"], row["high"], 2, sign=True, unit="points")
    return f"{value} ({whose(row, rows, row['domain'])})"


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        PARADIGM,
        DOMAIN,
        Column("gap_days", "Gap, days", digits=1),
        Column("active_ratio", "p active", digits=3, hint="share of the test users"),
        Column("best", "λ*", digits=3, hint="of the domain’s own non-active users"),
        Column("predicted", "λ̃", digits=3, hint="of the line through the other domains"),
        Column("scale", "λ̂", digits=3, hint="(1 − p) λ̃ + p"),
        Column("scale_before", "λ̂ before", digits=3, hint="with p estimated one phase earlier"),
        Column("n_domains", "Domains", digits=0, hint="that the line goes through"),
    )
    caption = "λ predicted for each domain by the line through the others: λ* = intercept + slope · gap."
    frame = by_order(frames["predictions"], "paradigm")
    predictions = study_table("table-predictions", "Predicted λ", caption, columns, frame, block="paradigm")
    return (*predictions, *_comparison(by_order(frames["comparison"], "paradigm")))


def _comparison(frame: pl.DataFrame) -> tuple[Table, ...]:
    columns = (
        PARADIGM,
        DOMAIN,
        Column("metric_label", "Metric"),
        Column("scale", "λ̂", digits=3),
        Column("value_at_one", "At λ = 1, %", digits=3),
        Column("value", "At λ̂, %", digits=3),
        Column("difference", "Difference, points", digits=3, low="low", high="high", sign=True, strong="decided"),
        HOLM,
        USERS,
    )
    frame = frame.with_columns(
        decided=decided(), metric_label=pl.col("metric").map_elements(metric_label, return_dtype=pl.String)
    )
    caption = f"The model at λ̂ against λ = 1 on all test users, paired by user. {BOLD}"
    return study_table("table-advice", "λ̂ against λ = 1", caption, columns, frame, one_metric=False, block="domain")


VIEW = View("Advice", _sentences, _tables)
