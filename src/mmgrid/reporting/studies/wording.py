"""What the summaries of studies have in common: the main metric, the extreme values, and the labels of rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmgrid.reporting.tables.labels import metric_label
from mmgrid.reporting.tables.numbers import count, with_interval
from mmgrid.reporting.tables.order import STUDY_METRICS, ordered

Row = dict[str, Any]

MOST_WITHOUT_EVIDENCE = 3
"""Domains through which some line always fits well."""


@dataclass(frozen=True)
class Quantity:
    """A column of numbers with its interval, and how it is printed."""

    column: str
    low: str = "low"
    high: str = "high"
    digits: int = 2
    unit: str = ""
    sign: bool = True

    def text(self, row: Row) -> str:
        """`+0.20 points [+0.10, +0.30]`."""
        value, low, high = (row[name] for name in (self.column, self.low, self.high))
        return with_interval(value, low, high, self.digits, sign=self.sign, unit=self.unit)


def main_metric(frame: pl.DataFrame) -> str:
    """The metric that summaries and tables are about: NDCG@20 if the table has it."""
    return next(iter(ordered(frame["metric"].drop_nulls().to_list(), STUDY_METRICS)), "")


def main_metric_rows(frame: pl.DataFrame, value: str) -> pl.DataFrame:
    """The rows of the main metric that have a `value`."""
    return frame.filter((pl.col("metric") == main_metric(frame)) & pl.col(value).is_not_null())


def main_metric_label(frame: pl.DataFrame) -> str:
    """`NDCG@20`."""
    return metric_label(main_metric(frame))


def extremes(frame: pl.DataFrame, column: str) -> tuple[Row, Row]:
    """The rows with the smallest and the largest value of a frame that has at least one."""
    rows = frame.filter(pl.col(column).is_not_null()).sort(column, maintain_order=True)
    return rows.row(0, named=True), rows.row(-1, named=True)


def extremes_text(frame: pl.DataFrame, quantity: Quantity, about: Callable[[Row], str]) -> tuple[str, str]:
    """The smallest and the largest value with their intervals, each followed by the label of its row in brackets.

    Args:
        frame: at least one row with a value.
        quantity: the values.
        about: what identifies a row, apart from its paradigm and seed.
    """
    low, high = (
        f"{quantity.text(row)} ({row_label(row, frame, about(row))})" for row in extremes(frame, quantity.column)
    )
    return low, high


def no_evidence(points: int) -> str:
    """What is to be said of a line through so few domains; empty for more than three."""
    if points > MOST_WITHOUT_EVIDENCE:
        return ""
    return f"A line through {count(points, 'domain')} is no evidence of a trend."


def row_label(row: Row, frame: pl.DataFrame, about: str) -> str:
    """`PARADIGM, books, seed 1`, without the paradigm or the seed if the whole frame has only one."""
    paradigm = [row["paradigm"]] if frame["paradigm"].n_unique() > 1 else []
    seed = [f"seed {row['seed']}"] if frame["seed"].n_unique() > 1 else []
    return ", ".join([*paradigm, about, *seed])
