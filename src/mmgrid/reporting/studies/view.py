"""How a study is shown, beyond the figures that it declares itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmgrid.evaluation import GROUPS
from mmgrid.reporting.figures.plot_data import METRICS, ORDERS
from mmgrid.reporting.tables.comparison import metric_label
from mmgrid.reporting.tables.numbers import p_value
from mmgrid.reporting.tables.tables import Column, Table, ordered
from mmgrid.reporting.text.section import Sentence

Frames = Mapping[str, pl.DataFrame]
"""Table name → rows; every table of the study, if only an empty one."""

PARADIGM = Column("paradigm", "Paradigm")
DOMAIN = Column("domain", "Domain")
USERS = Column("n_users", "Users", digits=0)
BOLD = "Bold: p < 0.05 after Holm, and an interval that leaves zero out."
HOLM = Column("p_adjusted", "p, Holm", render=p_value, hint="of the sign-flip test, after Holm")


@dataclass(frozen=True)
class View:
    """One study in the report.

    Attributes:
        name: in the page's bar; short.
        sentences: what its numbers say.
        tables: of its numbers.
        drawn: (table name, its rows) → the rows for the figures, with what these need besides.
    """

    name: str
    sentences: Callable[[Frames], tuple[Sentence, ...]]
    tables: Callable[[Frames], tuple[Table, ...]]
    drawn: Callable[[str, pl.DataFrame], pl.DataFrame] = lambda table, frame: frame


def study_table(
    name: str,
    title: str,
    caption: str,
    columns: Sequence[Column],
    frame: pl.DataFrame,
    *,
    one_metric: bool = True,
    block: str = "",
    export: pl.DataFrame | None = None,
) -> tuple[Table, ...]:
    """A table of a study, or none without rows.

    Of several metrics the first is shown (or, unless ``one_metric``, all of `METRICS`); the CSV has all of
    `METRICS`, every column, and the rows of ``export`` where those are more.  Seeds have a column where there are several.
    """
    if frame.is_empty():
        return ()
    export = frame if export is None else export
    if "metric" in frame.columns:
        export = frame.filter(pl.col("metric").is_in(METRICS))
        if export.is_empty():
            return ()
        shown = first_metric(export)
        frame = export.filter(pl.col("metric") == shown) if one_metric else export
        more = "; the CSV has every metric" if export["metric"].n_unique() > 1 else ""
        caption = f"{caption} By {metric_label(shown)}{more}." if one_metric else caption
    columns = [*columns, *([Column("seed", "Seed", digits=0)] if frame["seed"].n_unique() > 1 else [])]
    named = {place for column in columns for place in (column.name, column.low, column.high)}
    rest = tuple(place for place in export.columns if place not in named | {"group", "minor", "decided"})
    return (Table(name, title, caption, tuple(columns), frame, block=block, csv_only=rest, export=export),)


def by_order(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Rows in the usual order of the columns' values; those with the same values as they were."""
    ranks = []
    for column in columns:
        names = ordered(frame[column].drop_nulls().to_list(), ORDERS.get(column, ()))
        places = {name: place for place, name in enumerate(names)}
        ranks.append(pl.col(column).replace_strict(places, default=len(names), return_dtype=pl.Int64))
    return frame.sort(ranks, maintain_order=True) if ranks else frame


def first_metric(frame: pl.DataFrame) -> str:
    """The metric that is spoken of: NDCG@20 where it is there."""
    return next((metric for metric in ordered(frame["metric"].to_list(), METRICS)), "")


def of_first_metric(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of the metric that is spoken of."""
    return frame.filter(pl.col("metric") == first_metric(frame))


def first_label(frame: pl.DataFrame) -> str:
    """``NDCG@20``: the metric that is spoken of, as it is read."""
    return metric_label(first_metric(frame))


def by_group(frame: pl.DataFrame, sentence: Callable[[pl.DataFrame, str], str]) -> tuple[Sentence, ...]:
    """One paragraph a group of users, of which the page shows that of its choice."""
    groups = [group for group in GROUPS if group in frame["group"].unique().to_list()]
    return tuple(Sentence(sentence(frame.filter(pl.col("group") == group), group), group) for group in groups)


def always(*texts: str) -> tuple[Sentence, ...]:
    """One paragraph of the given sentences, whatever group is chosen; none without text."""
    text = " ".join(text for text in texts if text)
    return (Sentence(text),) if text else ()


def extremes(frame: pl.DataFrame, column: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows with the smallest and the largest value; the frame has at least one."""
    rows = frame.filter(pl.col(column).is_not_null()).sort(column, maintain_order=True)
    return rows.row(0, named=True), rows.row(-1, named=True)


def whose(row: dict[str, Any], frame: pl.DataFrame, *words: str) -> str:
    """``semb, books, seed 1``: what tells a row of the frame from its others."""
    paradigm = [row["paradigm"]] if frame["paradigm"].n_unique() > 1 else []
    seed = [f"seed {row['seed']}"] if frame["seed"].n_unique() > 1 else []
    return ", ".join([*paradigm, *words, *seed])
