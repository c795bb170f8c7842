"""Merging across domains: what a merge of two domains' models costs or gains on each of them."""

from __future__ import annotations

from typing import Any

import polars as pl

from mmgrid.reporting.figures.plot_data import ORDERS
from mmgrid.reporting.studies.view import (
    BOLD,
    HOLM,
    PARADIGM,
    USERS,
    Frames,
    View,
    always,
    by_group,
    by_order,
    extremes,
    first_label,
    of_first_metric,
    study_table,
    whose,
)
from mmgrid.reporting.tables.comparison import group_label
from mmgrid.reporting.tables.judged import counted, decided, judgement
from mmgrid.reporting.tables.numbers import count, with_interval
from mmgrid.reporting.tables.tables import Column, Table, ordered
from mmgrid.reporting.text.section import Sentence


def _sentences(frames: Frames) -> tuple[Sentence, ...]:
    rows = of_first_metric(frames["merges"]).filter(pl.col("change").is_not_null())
    return by_group(rows, _on_group) or always("No merge of two domains is evaluated yet.")


def _on_group(rows: pl.DataFrame, group: str) -> str:
    parts = []
    for way in ordered(rows["way"].to_list(), ORDERS["way"]):
        found = counted(rows.filter(pl.col("way") == way), "change")
        of = count(found.rows, "value")
        parts.append(
            f"Merged by {way}, {found.down} of {of} fell below the domain’s own model and {found.up} rose above it; "
            f"{judgement(found)}."
        )
    low, high = extremes(rows, "change")
    if low != high:
        parts.append(f"The lowest change is {_named(low, rows)}, the highest {_named(high, rows)}.")
    return " ".join([f"{first_label(rows)} over {group_label(group)}.", *parts])


def _named(row: dict[str, Any], rows: pl.DataFrame) -> str:
    value = with_interval(row["change"], row["low"], row["high"], 1, sign=True, unit="%")
    return f"{value} ({whose(row, rows, row['domain'])} merged with {row['partner']} by {row['way']})"


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        PARADIGM,
        Column("way", "Merged by"),
        Column("domain", "Evaluated on"),
        Column("partner", "Merged with"),
        Column("single", "Own model, %", digits=2),
        Column("merged", "Merged, %", digits=2),
        Column("change", "Change, %", digits=1, low="low", high="high", sign=True, strong="decided"),
        HOLM,
        USERS,
    )
    caption = (
        f"Before and after merging two domains’ models, and the change in percent of the own model’s value. {BOLD}"
    )
    frame = by_order(frames["merges"].with_columns(decided=decided()), "paradigm", "way")
    return study_table("table-changes", "Changes", caption, columns, frame)


VIEW = View("Domains", _sentences, _tables)
