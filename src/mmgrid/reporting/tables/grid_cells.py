"""The cells of the grid, by kind and one by one: their states, and what they took."""

import polars as pl

from mmgrid.quantities import duration, size
from mmgrid.reporting.inputs import STATES
from mmgrid.reporting.tables.table import Column, Table


def kinds_table(cells: pl.DataFrame) -> Table | None:
    """The number of cells in each state, their time and peak memory, by kind; `None` without cells."""
    if cells.is_empty():
        return None
    states = [(pl.col("state") == state).sum().cast(pl.Int64).alias(state) for state in STATES]
    frame = cells.group_by("kind", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("cells"), *states, pl.col("seconds").sum(), pl.col("peak_bytes").max()
    )
    columns = [
        Column("kind", "Kind"),
        Column("cells", "Cells", digits=0),
        *(Column(state, state.capitalize(), digits=0) for state in STATES),
        Column("seconds", "Total time", format=duration),
        Column("peak_bytes", "Peak memory", format=size, hint="of the cell that took the most"),
    ]
    return Table("table-kinds", "Cells by kind", "All cells of the grid, by kind.", tuple(columns), frame)


def cells_table(cells: pl.DataFrame) -> Table | None:
    """One row per cell; `None` without cells."""
    if cells.is_empty():
        return None
    columns = [
        Column("kind", "Kind"),
        Column("name", "Cell", code=True),
        Column("state", "State"),
        Column("seconds", "Time", format=duration),
        Column("peak_bytes", "Peak memory", format=size),
        Column("fingerprint", "Fingerprint", code=True),
        Column("finished", "Finished"),
        Column("problem", "Problem"),
    ]
    return Table("table-cells", "All cells", "All cells of the grid, one by one.", tuple(columns), cells)
