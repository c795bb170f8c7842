"""Which differences are more than chance: decided only after Holm, and only where the interval leaves zero out."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mmgrid.reporting.tables.numbers import count

LEVEL = 0.05


def decided(low: str = "low", high: str = "high", p: str = "p_adjusted") -> pl.Expr:
    """Whether a row is decided; null without a p-value.  A missing interval leaves it to p alone."""
    holds_zero = (pl.col(low) <= 0) & (pl.col(high) >= 0)
    return pl.when(pl.col(p).is_not_null()).then((pl.col(p) < LEVEL) & ~holds_zero.fill_null(False))


@dataclass(frozen=True)
class Counts:
    """How many differences go up and down, how many of these are decided, and how many have a p-value at all."""

    rows: int
    up: int
    down: int
    sure_up: int
    sure_down: int
    judged: int


def counted(frame: pl.DataFrame, value: str, low: str = "low", high: str = "high") -> Counts:
    """Count the rows that have a ``value``."""
    rows = frame.filter(pl.col(value).is_not_null()).with_columns(_sure=decided(low, high))
    up, down = rows.filter(pl.col(value) > 0), rows.filter(pl.col(value) < 0)
    sure_up, sure_down = (part.filter(pl.col("_sure")).height for part in (up, down))
    return Counts(rows.height, up.height, down.height, sure_up, sure_down, rows["_sure"].drop_nulls().len())


def judgement(counts: Counts) -> str:
    """``decided after Holm: 3 of 5 rises and 0 of 1 fall``, and what stays open; or that nothing is known."""
    if not counts.judged:
        return "no p-values are at hand, so which of these are more than chance is open"
    sure = counts.sure_up + counts.sure_down
    if not sure:
        text = "after Holm none of this is decided"
    else:
        parts = [f"{counts.sure_up} of {count(counts.up, 'rise')}"] if counts.up else []
        parts += [f"{counts.sure_down} of {count(counts.down, 'fall')}"] if counts.down else []
        text = f"decided after Holm: {' and '.join(parts)}" + (", the rest stays open" * (sure < counts.judged))
    without = counts.rows - counts.judged
    return f"{text}; {count(without, 'row')} {'has' if without == 1 else 'have'} no p-value" if without else text
