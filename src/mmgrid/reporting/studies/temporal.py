"""Merging across time: the best λ of each domain and group of users, and what it gains over the newest checkpoint."""

from __future__ import annotations

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
from mmgrid.reporting.tables.numbers import count, listing, number, with_interval
from mmgrid.reporting.tables.tables import Column, Table
from mmgrid.reporting.text.section import Sentence


def _sentences(frames: Frames) -> tuple[Sentence, ...]:
    rows = of_first_metric(frames["best"]).filter(pl.col("best").is_not_null())
    return by_group(rows, _on_group) or always("No curve over λ is evaluated yet.")


def _on_group(rows: pl.DataFrame, group: str) -> str:
    low, high = extremes(rows, "best")
    start = f"By {first_label(rows)} over {group_label(group)}, λ* "
    if low["best"] == high["best"]:
        start += f"is {number(low['best'], 3)}" + (f" in all {count(rows.height, 'curve')}" if rows.height > 1 else "")
    else:
        start += (
            f"runs from {number(low['best'], 3)} ({whose(low, rows, low['domain'])}) to {number(high['best'], 3)} "
            f"({whose(high, rows, high['domain'])})"
        )
    return " ".join(part for part in (f"{start}{_on_one(rows)}.", _on_edges(rows), _on_gains(rows)) if part)


def _on_one(rows: pl.DataFrame) -> str:
    known = rows.filter(pl.col("best_low").is_not_null() & pl.col("best_high").is_not_null())
    if known.is_empty():
        return "; without intervals it is open whether it differs from 1"
    out = known.filter((pl.col("best_low") > 1) | (pl.col("best_high") < 1)).height
    return f"; its interval leaves λ = 1 out in {out} of {count(known.height, 'curve')}"


def _on_edges(rows: pl.DataFrame) -> str:
    edges = [whose(row, rows, row["domain"]) for row in rows.filter(pl.col("at_edge")).iter_rows(named=True)]
    if not edges:
        return ""
    return f"At the edge of the range that was tried, so that the best may lie beyond: {listing(edges)}."


def _on_gains(rows: pl.DataFrame) -> str:
    rows = rows.filter(pl.col("gain").is_not_null())
    if rows.is_empty():
        return ""
    found = counted(rows, "gain", "gain_low", "gain_high")
    text = (
        f"A λ chosen on other users does better than λ = 1 in {found.up} of {found.rows} and worse in {found.down}; "
        f"{judgement(found)}."
    )
    high = extremes(rows, "gain")[1]
    gain = with_interval(high["gain"], high["gain_low"], high["gain_high"], 2, sign=True, unit="points")
    return f"{text} The largest gain is {gain} ({whose(high, rows, high['domain'])})." if found.rows > 1 else text


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        PARADIGM,
        DOMAIN,
        Column("users", "Group"),
        Column("best", "λ*", digits=3, low="best_low", high="best_high"),
        Column("edge", "", hint="whether λ* lies at an end of the range that was tried"),
        Column("value_at_best", "At λ*, %", digits=2),
        Column("value_at_one", "At λ = 1, %", digits=2),
        Column("value_at_zero", "At λ = 0, %", digits=2),
        Column(
            "gain",
            "Gain, points",
            digits=2,
            low="gain_low",
            high="gain_high",
            sign=True,
            strong="decided",
            hint="λ chosen on one half of the users, minus λ = 1, on the other half",
        ),
        HOLM,
        USERS,
    )
    frame = by_order(frames["best"], "paradigm").with_columns(
        decided=decided("gain_low", "gain_high"),
        users=pl.col("group").replace({name: group_label(name) for name in ("all", "active", "non_active")}),
        edge=pl.when("at_edge").then(pl.lit("at the edge")).otherwise(pl.lit("")),
    )
    caption = f"The best λ of Θ(t1) + λ (Θ(t2) − Θ(t1)), and its gain over λ = 1. {BOLD}"
    return study_table("table-best", "Best λ", caption, columns, frame.drop("group"), block="domain")


VIEW = View("Time", _sentences, _tables)
