"""Item recency: the best λ of the people who were away, beside the age of what people take."""

from __future__ import annotations

from typing import Any

import polars as pl

from mmgrid.reporting.studies.findings import spoken
from mmgrid.reporting.studies.view import DOMAIN, PARADIGM, Frames, View, always, by_order, extremes, study_table
from mmgrid.reporting.tables.numbers import count, number, with_interval
from mmgrid.reporting.tables.tables import Column, Table
from mmgrid.reporting.text.section import Sentence


def _sentences(frames: Frames) -> tuple[Sentence, ...]:
    rows = frames["recency"].filter(pl.col("best").is_not_null() & pl.col("gap_days").is_not_null())
    if rows.is_empty():
        return always("The best λ of non-active users is known for no domain yet.")
    paragraphs = []
    for (paradigm, seed), own in rows.group_by("paradigm", "seed", maintain_order=True):
        same = (pl.col("paradigm") == paradigm) & (pl.col("seed") == seed)
        start = [str(paradigm)] + ([f"seed {seed}"] if rows["seed"].n_unique() > 1 else [])
        said = spoken(frames["findings"].filter(same))
        paragraphs.append(Sentence(" ".join([f"{', '.join(start)}: {_on_domains(own)}.", *said])))
    return tuple(paragraphs)


def _on_domains(rows: pl.DataFrame) -> str:
    young, old = extremes(rows, "gap_days")
    if rows.height == 1:
        return f"λ* of non-active users is {_named(old)}; one domain shows no trend"
    return (
        f"of {count(rows.height, 'domain')}, λ* of non-active users is {_named(old)} where the items are oldest, and "
        f"{_named(young)} where they are youngest"
    )


def _named(row: dict[str, Any]) -> str:
    value = with_interval(row["best"], row["best_low"], row["best_high"], 3)
    return f"{value} ({row['domain']}, {number(row['gap_days'], 0)} days)"


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
