"""The data sets of a study's figures: one per table, with the rows and columns that some figure draws.

The page contains every number once, so a data set is thinned: the metrics of Table 2 where a table has them, five
significant digits, no column that no figure needs. The tables next to the figures keep every digit.
"""

from collections.abc import Mapping, Sequence

import polars as pl
import polars.selectors as cs

from mmgrid.evaluation import GROUPS
from mmgrid.reporting.tables.order import STUDY_METRICS
from mmgrid.reporting.tables.significance import is_significant
from mmgrid.studies.plot import Plot

SIGNIFICANT = "_significant"
"""The added column that says which values are significant (`significance.is_significant`)."""

HOVER_COLUMNS = ("single", "merged", "kept", "p_adjusted", "n_users")
"""Shown on hover where a table has them."""

_IMPLIED_CHOICES = ("paradigm", "seed", "metric")


def rule_column(plot: Plot) -> str:
    """The added column with the place of a vertical line, set on the nearest row of each line that has one."""
    return f"_rule {plot.name}"


def rule_bounds(plot: Plot) -> tuple[str, ...]:
    """The added columns with the bounds of that place; empty without bounds."""
    return (f"_rule low {plot.name}", f"_rule high {plot.name}") if plot.rule_bounds else ()


def cross_columns(plot: Plot) -> tuple[str, ...]:
    """The added columns with the places of the crossing lines, set on one row per panel; empty without such lines."""
    return (f"_cross x {plot.name}", f"_cross y {plot.name}") if plot.cross else ()


def positions(plot: Plot) -> list[str]:
    """The columns that the figure shows as axes, colours or panels, so that all their values are visible at once."""
    return [column for column in (plot.x.column, plot.y.column, plot.colour.column, plot.panel) if column]


def choices(plot: Plot, frame: pl.DataFrame) -> list[str]:
    """The columns that the reader chooses a value of.

    These are the declared ones, and paradigm, seed, metric and group of users unless all their values are visible.
    """
    implied = [*_IMPLIED_CHOICES, *(["group"] if is_group_of_users(frame, "group") else [])]
    columns = [*plot.choices, *(column for column in implied if column not in positions(plot))]
    return [column for column in dict.fromkeys(columns) if column in frame.columns and not _is_null(frame, column)]


def is_group_of_users(frame: pl.DataFrame, column: str) -> bool:
    """Whether a column holds groups of users; the page has one control for them."""
    return column == "group" and column in frame.columns and set(frame[column].drop_nulls()) <= set(GROUPS)


def is_drawn(plot: Plot) -> pl.Expr:
    """Whether the figure draws a row."""
    needed = [plot.colour.column] if plot.mark == "heat" else [plot.x.column, plot.y.column]
    conditions = [pl.col(column).is_not_null() for column in needed]
    return pl.all_horizontal(conditions + [pl.col(column).is_in(list(values)) for column, values in plot.keep.items()])


def known_metrics(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of the metrics of Table 2; all rows where the table has none of them, or no metrics."""
    if "metric" not in frame.columns:
        return frame
    known = [metric for metric in STUDY_METRICS if metric in frame["metric"].unique().to_list()]
    return frame.filter(pl.col("metric").is_in(known)) if known else frame


def data_set(table: str, plots: Sequence[Plot], frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows and columns of `table` that its plots draw, with `SIGNIFICANT` and the columns of lines where needed.

    Args:
        table: a name in `frames`.
        plots: of the study; those of other tables are ignored.
        frames: the tables of the study.

    Raises:
        ValueError: a plot names a column that its table lacks.
    """
    plots = [plot for plot in plots if plot.table == table]
    frame = known_metrics(frames[table])
    if frame.is_empty():
        return frame
    for plot in plots:
        _check_columns(plot, frame, frames)
    if all(column in frame.columns and frame.schema[column].is_numeric() for column in ("p_adjusted", "low", "high")):
        frame = frame.with_columns(is_significant().alias(SIGNIFICANT))
    frame = frame.filter(pl.any_horizontal(is_drawn(plot) for plot in plots))
    for plot in plots:
        keys = [*choices(plot, frame), *([plot.panel] if plot.panel else [])]
        if plot.rules:
            table, *columns = (*plot.rules, *(plot.rule_bounds or ()))
            added = [rule_column(plot), *rule_bounds(plot)]
            rules = frames[table].with_columns(
                pl.col(name).alias(new) for new, name in zip(added, columns, strict=True)
            )
            frame = _with_rules(frame, rules, added, [*keys, plot.colour.column], plot.x.column)
        if plot.cross:
            # One row per panel is enough; more would draw the lines over themselves.
            frame = frame.with_columns(
                _first_only(pl.col(column), keys).alias(name)
                for column, name in zip(plot.cross, cross_columns(plot), strict=True)
            )
    named = {name for plot in plots for name in (*_drawn_columns(plot), *choices(plot, frame))}
    named |= {SIGNIFICANT, *HOVER_COLUMNS}
    named |= {name for plot in plots for name in (rule_column(plot), *rule_bounds(plot), *cross_columns(plot))}
    return frame.select(name for name in frame.columns if name in named).with_columns(cs.float().round_sig_figs(5))


def _drawn_columns(plot: Plot) -> set[str]:
    """The columns of the plot's table that its rows are drawn from."""
    optional = (plot.low, plot.high, plot.x_low, plot.x_high, plot.order, plot.label, plot.points)
    return {*positions(plot), *plot.choices, *plot.keep, *(name for name in optional if name)}


def _check_columns(plot: Plot, frame: pl.DataFrame, frames: Mapping[str, pl.DataFrame]) -> None:
    missing = sorted({*_drawn_columns(plot), *(plot.cross or ())} - set(frame.columns))
    if missing:
        raise ValueError(f"figure {plot.name!r}: table {plot.table!r} has no column {', '.join(missing)}")
    if plot.rules:
        table, *columns = (*plot.rules, *(plot.rule_bounds or ()))
        for column in columns:
            if table not in frames or column not in frames[table].columns:
                raise ValueError(f"figure {plot.name!r}: there is no column {column!r} in a table {table!r}")


def _with_rules(
    frame: pl.DataFrame, rules: pl.DataFrame, columns: Sequence[str], keys: Sequence[str], x: str
) -> pl.DataFrame:
    """The frame with the `columns` of the rules, matched by the keys that both have.

    The first of the columns is a place on x. They are set on the row of each line that is nearest to it, null elsewhere.
    """
    place = columns[0]
    shared = [key for key in dict.fromkeys(keys) if key in rules.columns]
    if shared:
        found = rules.select(*shared, *columns).unique(shared, keep="first", maintain_order=True)
        frame = frame.join(found, on=shared, how="left", maintain_order="left")
    else:
        known = rules.filter(pl.col(place).is_not_null())
        frame = frame.with_columns(pl.lit(known[name][0] if len(known) else None).alias(name) for name in columns)
    lines = list(dict.fromkeys(keys))
    chosen = pl.lit(True)
    if frame.schema[x].is_numeric() and frame.schema[place].is_numeric():
        away = (pl.col(x) - pl.col(place)).abs()
        chosen = (away == (away.min().over(lines) if lines else away.min())).fill_null(False)
    first = _first_only(chosen, [*lines, chosen])
    return frame.with_columns(pl.when(chosen & first).then(pl.col(name)).alias(name) for name in columns)


def _first_only(value: pl.Expr, keys: Sequence[str | pl.Expr]) -> pl.Expr:
    """The value on the first row of each combination of the keys, null on the others."""
    index = pl.int_range(pl.len())
    return pl.when((index.over(list(keys)) if keys else index) == 0).then(value)


def _is_null(frame: pl.DataFrame, column: str) -> bool:
    return frame[column].null_count() == frame.height
