"""A table of a study: the columns that studies share, one metric on the page, every metric in the CSV."""

from collections.abc import Mapping, Sequence

import polars as pl

from mmgrid.reporting.figures.plot_data import known_metrics
from mmgrid.reporting.studies.wording import main_metric
from mmgrid.reporting.tables.labels import metric_label
from mmgrid.reporting.tables.numbers import p_value
from mmgrid.reporting.tables.order import paradigm_order, sorted_rows
from mmgrid.reporting.tables.significance import NOTE, is_significant
from mmgrid.reporting.tables.table import Column, Table

SHARED_COLUMNS = {
    column.name: column
    for column in (
        Column("paradigm", "Paradigm"),
        Column("domain", "Domain"),
        Column("phase", "Phase"),
        Column("n_users", "Users", digits=0),
        Column("seed", "Seed", digits=0),
        Column("p", "p", format=p_value),
        Column("p_adjusted", "p, Holm", format=p_value, hint="p-value of the sign-flip test after Holm’s correction"),
    )
}


def difference(name: str, label: str, digits: int, *, low: str = "low", high: str = "high", hint: str = "") -> Column:
    """A column of differences with their intervals, bold where they are significant."""
    return Column(name, label, digits, low, high, sign=True, bold_if="significant", hint=hint)


def study_table(
    table_id: str,
    title: str,
    caption: str,
    columns: Sequence[Column | str],
    frame: pl.DataFrame,
    *,
    orders: Mapping[str, Sequence[str]] | None = None,
    one_metric: bool = True,
    block: str = "",
    export: pl.DataFrame | None = None,
) -> tuple[Table, ...]:
    """A table of a study, sorted by paradigm; none without rows.

    Args:
        table_id: of its element in the page.
        title, caption: printed above it.
        columns: the shown ones; a name stands for one of `SHARED_COLUMNS`. Several seeds get a column.
        frame: the rows. Of several metrics the main one is shown, and the CSV has those of Table 2.
        orders: further columns to sort by → their values in order.
        one_metric: false shows all metrics of Table 2.
        block: the column whose equal values form a block of rows.
        export: the rows of the CSV, where they are more than those of `frame`.
    """
    export = known_metrics(frame if export is None else export)
    if frame.is_empty() or export.is_empty():
        return ()
    shown_columns = [SHARED_COLUMNS[column] if isinstance(column, str) else column for column in columns]
    if frame["seed"].n_unique() > 1:
        shown_columns.append(SHARED_COLUMNS["seed"])
    tested = next((column for column in shown_columns if column.bold_if == "significant"), None)
    frame, export = (_prepared(rows, tested, orders or {}) for rows in (frame, export))
    if "metric" in frame.columns:
        metric = main_metric(export)
        frame = export.filter(pl.col("metric") == metric) if one_metric else export
        more = " (the CSV has every metric)" if export["metric"].n_unique() > 1 else ""
        caption = f"{caption} By {metric_label(metric)}{more}." if one_metric else caption
    if tested:
        caption = f"{caption} {NOTE}"
    named = {name for column in shown_columns for name in (column.name, column.low, column.high)}
    rest = tuple(name for name in export.columns if name not in named | {"group", "minor", "significant"})
    return (Table(table_id, title, caption, tuple(shown_columns), frame, block=block, csv_only=rest, export=export),)


def _prepared(frame: pl.DataFrame, tested: Column | None, orders: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    if tested:
        frame = frame.with_columns(significant=is_significant(tested.low, tested.high))
    return sorted_rows(frame, {"paradigm": paradigm_order(), **orders})
