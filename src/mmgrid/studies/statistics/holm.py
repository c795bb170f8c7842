"""Which comparisons of a study are corrected together."""

from __future__ import annotations

import polars as pl

from mmgrid.evaluation import holm

FAMILY = ("paradigm", "seed", "metric")


def with_holm(table: pl.DataFrame, *more: str) -> pl.DataFrame:
    """`table` with the column `p_adjusted` made from `p` by Holm's method; rows keep their order.

    A family is the rows of one paradigm, seed and metric, and of one value of each column in `more`.
    """
    by = [name for name in (*FAMILY, *more) if name in table.columns]
    parts = [
        part.with_columns(p_adjusted=pl.Series(holm(part["p"].fill_null(float("nan")).to_numpy()), dtype=pl.Float64))
        for part in table.with_row_index("_place").partition_by(by, maintain_order=True)
    ]
    if not parts:
        return table
    return pl.concat(parts).sort("_place").drop("_place").with_columns(pl.col("p_adjusted").fill_nan(None))
