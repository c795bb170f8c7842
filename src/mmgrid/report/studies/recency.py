"""Item recency: the best λ of the people who were away, beside the age of what people take."""

from __future__ import annotations

from typing import Any

import polars as pl

from mmgrid.report.section import Sentence
from mmgrid.report.studies.findings import spoken
from mmgrid.report.studies.view import DOMAIN, PARADIGM, Frames, View, always, by_order, extremes, study_table, whose
from mmgrid.report.tables import Column, Table
from mmgrid.report.units import count, number, with_interval


def _sentences(frames: Frames) -> tuple[Sentence, ...]:
    rows = frames["recency"].filter(pl.col("best").is_not_null() & pl.col("gap_days").is_not_null())
    if rows.is_empty():
        return always("The best λ of non-active users is known for no domain yet.")
    young, old = extremes(rows, "gap_days")
    if rows.height == 1:
        return always(f"λ* of non-active users is {_named(old, rows)}: one domain shows no trend.")
    text = f"λ* of non-active users is {_named(old, rows)} where items are oldest and {_named(young, rows)} where they are youngest"
    rest = count(rows.height, "domain") if rows["domain"].n_unique() == rows.height else count(rows.height, "row")
    return always(f"{text}, of {rest}.", *spoken(frames["findings"]))


def _named(row: dict[str, Any], rows: pl.DataFrame) -> str:
    value = with_interval(row["best"], row["best_low"], row["best_high"], 3)
    return f"{value} ({whose(row, rows, row['domain'])}, {number(row['gap_days'], 0)} days)"


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        PARADIGM,
        DOMAIN,
        Column("test_users", "Test users", digits=0),
        Column("active", "Active", digits=0),
        Column("non_active", "Non-active", digits=0),
        Column("active_ratio", "Active ratio", digits=3),
        Column("best", "λ* (non-active)", digits=3, low="best_low", high="best_high"),
        Column("gap_days", "Gap, days", digits=1, hint="mean age of an item when somebody takes it, before t2"),
    )
    frame = by_order(frames["recency"], "paradigm")
    caption = "Test users, their best λ, and how old the items are that people take."
    return study_table("table-recency", "Recency", caption, columns, frame, block="paradigm")


VIEW = View("Recency", _sentences, _tables)
