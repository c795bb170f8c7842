"""Another base: what both domains keep of a merge, by the base that its task vectors are taken from."""

from __future__ import annotations

from typing import Any

import polars as pl

from mmgrid.reporting.figures.plot_data import PAIR
from mmgrid.reporting.studies.view import (
    BOLD,
    HOLM,
    PARADIGM,
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
from mmgrid.reporting.tables.numbers import count, with_interval
from mmgrid.reporting.tables.tables import Column, Table
from mmgrid.reporting.text.section import Sentence

_BACKBONE = "backbone"
_KINDS = {"neutral": "With the neutral base", "historical": "With a historical checkpoint as base"}


def _sentences(frames: Frames) -> tuple[Sentence, ...]:
    rows = of_first_metric(frames["best"]).filter(pl.col("kept").is_not_null())
    if rows.is_empty():
        return always("No merge with another base is evaluated yet.")
    parts = []
    for kind, start in _KINDS.items():
        found = counted(rows.filter(pl.col("base").str.starts_with(kind)), "gain", "gain_low", "gain_high")
        if found.rows:
            parts.append(
                f"{start}, {found.up} of {count(found.rows, 'merge')} kept more {first_label(rows)} than with the "
                f"backbone and {found.down} less; {judgement(found)}."
            )
    low, high = extremes(rows, "kept")
    parts.append(
        "At an α chosen on other users, the mean share of their own models’ value that two domains keep is "
        + (f"{_named(low, rows)}." if low == high else f"between {_named(low, rows)} and {_named(high, rows)}.")
    )
    return always(*parts)


def _named(row: dict[str, Any], rows: pl.DataFrame) -> str:
    value = with_interval(row["kept"], row["low"], row["high"], 1, unit="%")
    return f"{value} ({whose(row, rows, row['first'])} and {row['second']}, base {row['base']})"


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        PARADIGM,
        Column("pair", "Domains"),
        Column("base", "Base"),
        Column("alpha", "Best α", digits=2, low="alpha_low", high="alpha_high", hint="share of the first domain"),
        Column("kept", "Kept, %", digits=1, low="low", high="high", hint="mean of both domains’ shares"),
        Column(
            "gain",
            "Gain, points",
            digits=1,
            low="gain_low",
            high="gain_high",
            sign=True,
            strong="decided",
            hint="kept, minus what the backbone as base keeps",
        ),
        HOLM,
    )
    caption = f"What two domains keep of their own models’ values, at an α chosen on other users. {BOLD}"
    frame = by_order(paired(frames["best"]).with_columns(decided=decided("gain_low", "gain_high")), "paradigm")
    return study_table("table-bases", "Kept by base", caption, columns, frame, block="pair")


def paired(frame: pl.DataFrame) -> pl.DataFrame:
    """With the column ``pair``: both domains, the one of the x-axis first."""
    return frame.with_columns(pair=pl.concat_str("first", "second", separator=PAIR))


def drawn(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """A historical base is named by its place in the pair, so that four colours serve all pairs."""
    historical = [
        pl.when(pl.col("base") == pl.format("historical: {}", place)).then(pl.lit(f"historical, {place}"))
        for place in ("first", "second")
    ]
    return paired(frame).with_columns(base=pl.coalesce([*historical, "base"]))


VIEW = View("Base", _sentences, _tables, drawn)
