"""What the figures of a study draw: one data set a table, with the columns and rows that some figure needs.

A page holds every number once, so a data set is thinned: four metrics, five significant digits, no column that no
figure names.  The tables beside the figures keep every digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from mmgrid.evaluation import GROUPS
from mmgrid.reporting.figures.overview import PHASE_ORDER
from mmgrid.reporting.tables.comparison import PARADIGM_ORDER, group_label, metric_label
from mmgrid.reporting.tables.judged import decided
from mmgrid.reporting.tables.tables import ordered
from mmgrid.studies.plot import Plot

METRICS = ("ndcg@20", "ndcg@10", "recall@20", "recall@10")
"""The metrics of the studies' figures and tables; λ* maximises the first."""

ORDERS: Mapping[str, Sequence[str]] = {
    "metric": METRICS,
    "paradigm": PARADIGM_ORDER,
    "phase": PHASE_ORDER,
    "group": GROUPS,
    "way": ("weight", "subspace"),
    "part": ("whole", "tower", "layer"),
    "base": ("backbone", "historical, first", "historical, second", "neutral"),
    "reference": ("popularity", "sasrec", "sasrec (in one go)"),
}
"""Column → its values in the order in which they are listed; others as they come."""

PAIR = " + "
"""What stands between the two names of a pair."""

_EXTRA = ("single", "merged", "kept", "p_adjusted", "n_users")  # shown on hover wherever a table has them
_IMPLIED = ("paradigm", "seed")  # one at a time, unless the figure shows them side by side


def orders(domains: Sequence[str]) -> dict[str, Sequence[str]]:
    """`ORDERS`, with the domains in the order of the grid; of a pair, in that of their names, as tables of pairs."""
    by_name = sorted(domains)
    return dict(ORDERS) | {"domain": domains, "partner": domains, "first": by_name, "second": by_name}


def values(frame: pl.DataFrame, column: str, order: Mapping[str, Sequence[str]]) -> list[str]:
    """The distinct values of a column as they are listed."""
    return ordered(frame[column].drop_nulls().to_list(), order.get(column, ()))


def label(column: str, value: str) -> str:
    """A value as it is read: ``ndcg@10`` → ``NDCG@10``, ``non_active`` → ``non-active users``."""
    if column == "metric":
        return metric_label(value)
    return group_label(value) if column == "group" else value


def places(plot: Plot) -> list[str]:
    """The columns that have a place in the picture, so that no choice among their values is needed."""
    return [column for column in (plot.x.column, plot.y.column, plot.colour.column, plot.panel) if column]


def choices(plot: Plot, frame: pl.DataFrame) -> list[str]:
    """The columns of which one value is shown at a time: the declared ones, paradigm and seed."""
    implied = [column for column in _IMPLIED if column in frame.columns and column not in places(plot)]
    return [*plot.choices, *(column for column in implied if column not in plot.choices)]


def kept(plot: Plot) -> pl.Expr:
    """The rows that the figure draws."""
    needed = [plot.colour.column] if plot.mark == "heat" else [plot.x.column, plot.y.column]
    conditions = [pl.col(column).is_not_null() for column in needed]
    return pl.all_horizontal(conditions + [pl.col(column).is_in(list(names)) for column, names in plot.keep.items()])


def data_set(table: str, plots: Sequence[Plot], frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows and columns of ``table`` that those of ``plots`` draw that are drawn from it.

    Added are ``decided`` (see `judged.decided`) where there are p-values, and ``rule``: the place of a vertical line,
    on one row of each line that has one.
    """
    plots = [plot for plot in plots if plot.table == table]
    frame = frames[table]
    if "metric" in frame.columns:
        frame = frame.filter(pl.col("metric").is_in(METRICS))
    if frame.is_empty():
        return frame
    if {"p_adjusted", "low", "high"} <= set(frame.columns):
        frame = frame.with_columns(decided=decided())
    frame = frame.filter(pl.any_horizontal(kept(plot) for plot in plots))
    for plot in plots:
        keys = [*choices(plot, frame), *([plot.panel] if plot.panel else [])]
        if plot.rules:
            frame = _with_rules(frame, frames[plot.rules[0]], plot.rules[1], [*keys, plot.colour.column])
        if plot.cross:
            # Once a panel is enough, and keeps the lines from being drawn over themselves.
            frame = frame.with_columns(_once(pl.col(column), keys).alias(column) for column in plot.cross)
    names = [name for name in frame.columns if name in {name for plot in plots for name in _named(plot, frame)}]
    return frame.select(names).with_columns(
        pl.col(pl.Float64).round_sig_figs(5), pl.col([name for name in ("seed",) if name in names]).cast(pl.String)
    )


def _named(plot: Plot, frame: pl.DataFrame) -> set[str]:
    optional = (plot.low, plot.high, plot.x_low, plot.x_high, plot.order, plot.label, *(plot.cross or ()))
    drawn = {*places(plot), *choices(plot, frame), *plot.keep, *(name for name in optional if name)}
    return drawn | {"decided", "rule", *_EXTRA}


def _with_rules(frame: pl.DataFrame, rules: pl.DataFrame, column: str, keys: Sequence[str]) -> pl.DataFrame:
    shared = [key for key in keys if key in rules.columns]
    found = rules.select(*shared, pl.col(column).alias("rule")).unique(shared, keep="first", maintain_order=True)
    joined = frame.join(found, on=shared, how="left", maintain_order="left")
    return joined.with_columns(_once(pl.col("rule"), keys).alias("rule"))


def _once(value: pl.Expr, keys: Sequence[str]) -> pl.Expr:
    """The value on the first row of each group of rows, null on the others."""
    return pl.when(pl.int_range(pl.len()).over(list(keys)) == 0).then(value)
