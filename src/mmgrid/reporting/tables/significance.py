"""Which differences are significant: p below 0.05 after Holm's correction, and an interval that excludes zero."""

from dataclasses import dataclass

import polars as pl

from mmgrid.reporting.tables.numbers import count

LEVEL = 0.05
NOTE = "Bold: significant (p < 0.05 after Holm’s correction, and an interval that excludes zero)."


def is_significant(low: str = "low", high: str = "high") -> pl.Expr:
    """Whether a row is significant; null without a p-value. Without an interval, p alone decides.

    low, high: the columns with the bounds of the interval.
    """
    p = pl.col("p_adjusted")
    includes_zero = (pl.col(low) <= 0) & (pl.col(high) >= 0)
    return pl.when(p.is_not_null()).then((p < LEVEL) & ~includes_zero.fill_null(False))


@dataclass(frozen=True)
class Counts:
    """How many rows differ in each direction, how many of these significantly, and how many have a p-value."""

    rows: int
    up: int
    down: int
    significant_up: int
    significant_down: int
    tested: int


def count_differences(frame: pl.DataFrame, value: str, low: str = "low", high: str = "high") -> Counts:
    """Count the rows that have a `value`."""
    rows = frame.filter(pl.col(value).is_not_null()).with_columns(_significant=is_significant(low, high))
    up, down = rows.filter(pl.col(value) > 0), rows.filter(pl.col(value) < 0)
    significant_up, significant_down = (part.filter(pl.col("_significant")).height for part in (up, down))
    tested = rows["_significant"].drop_nulls().len()
    return Counts(rows.height, up.height, down.height, significant_up, significant_down, tested)


def significance_text(counts: Counts) -> str:
    """`significant after Holm’s correction: 3 of 5 increases and 0 of 1 decrease`, or why nothing is significant."""
    if not counts.tested:
        return "without p-values it is open which of these differences are more than chance"
    if not counts.significant_up + counts.significant_down:
        text = "none of these differences is significant after Holm’s correction"
    else:
        parts = [f"{counts.significant_up} of {count(counts.up, 'increase')}"] if counts.up else []
        parts += [f"{counts.significant_down} of {count(counts.down, 'decrease')}"] if counts.down else []
        text = f"significant after Holm’s correction: {' and '.join(parts)}"
    untested = counts.rows - counts.tested
    return f"{text}; {count(untested, 'row')} {'has' if untested == 1 else 'have'} no p-value" if untested else text
