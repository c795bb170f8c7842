"""Holm's correction within the families of comparisons of a study's table."""

import polars as pl

from mmgrid.evaluation import holm

FAMILY = ("paradigm", "seed", "metric")


def with_holm(table: pl.DataFrame, *more: str) -> pl.DataFrame:
    """`table` with the column `p_adjusted`, computed from `p` by Holm's method; rows keep their order.

    A family consists of the rows with the same paradigm, seed, metric and values of the columns `more`.
    """
    by = [name for name in (*FAMILY, *more) if name in table.columns]
    parts = [
        part.with_columns(p_adjusted=pl.Series(holm(part["p"].fill_null(float("nan")).to_numpy()), dtype=pl.Float64))
        for part in table.with_row_index("_place").partition_by(by, maintain_order=True)
    ]
    if not parts:
        return table
    return pl.concat(parts).sort("_place").drop("_place").with_columns(pl.col("p_adjusted").fill_nan(None))
