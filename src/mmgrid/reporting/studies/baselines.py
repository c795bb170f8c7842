"""Baselines: each paradigm at t2 against popularity and SASRec.  The scores themselves are Table 2 of the report."""

from __future__ import annotations

from typing import Any

import polars as pl

from mmgrid.reporting.figures.plot_data import ORDERS
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
from mmgrid.reporting.tables.judged import counted, decided, judgement
from mmgrid.reporting.tables.numbers import count, is_are, with_interval
from mmgrid.reporting.tables.tables import Column, Table, ordered
from mmgrid.reporting.text.section import Sentence


def _sentences(frames: Frames) -> tuple[Sentence, ...]:
    rows = of_first_metric(frames["comparisons"]).filter(pl.col("difference").is_not_null())
    if rows.is_empty():
        return always("No paradigm is compared with a reference yet.")
    parts = []
    for reference in ordered(rows["reference"].to_list(), ORDERS["reference"]):
        found = counted(rows.filter(pl.col("reference") == reference), "difference")
        parts.append(
            f"Against {reference}, {found.up} of {count(found.rows, 'difference')} in {first_label(rows)} "
            f"{is_are(found.up or found.rows)} positive and {found.down} negative; {judgement(found)}."
        )
    low, high = extremes(rows, "difference")
    if low != high:
        parts.append(f"The smallest difference is {_named(low, rows)}, the largest {_named(high, rows)}.")
    return always(*parts)


def _named(row: dict[str, Any], rows: pl.DataFrame) -> str:
    value = with_interval(row["difference"], row["low"], row["high"], 2, sign=True, unit="points")
    return f"{value} ({whose(row, rows, row['domain'])}, against {row['reference']})"


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        PARADIGM,
        DOMAIN,
        Column("reference", "Compared with"),
        Column("difference", "Difference, points", digits=2, low="low", high="high", sign=True, strong="decided"),
        HOLM,
        USERS,
    )
    caption = f"The paradigm at t2 minus the reference, in percentage points, paired by user. {BOLD}"
    frame = by_order(frames["comparisons"].with_columns(decided=decided()), "paradigm", "reference")
    return study_table("table-comparisons", "Differences", caption, columns, frame, block="paradigm")


VIEW = View("Baselines", _sentences, _tables)
