"""What a report is made of: a name, some facts, and tidy tables; no model, no store, no grid.

Whoever makes the tables may leave out what is not there yet: a table without rows (or without columns) is an
empty section, and a column that is not listed here is passed by.  A table that has rows but lacks a column is
a mistake, and says which.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import polars as pl

from mmgrid.evaluation import CHANGES_SCHEMA, RESULTS_SCHEMA

STATES = ("built", "missing", "failed", "blocked")

CELLS_SCHEMA = pl.Schema(
    {
        "kind": pl.String,
        "name": pl.String,
        "paradigm": pl.String,
        "domain": pl.String,
        "phase": pl.String,
        "state": pl.String,
        "problem": pl.String,
        "seconds": pl.Float64,
        "peak_bytes": pl.Int64,
        "fingerprint": pl.String,
        "finished": pl.String,
    }
)
"""One row a cell; ``state`` is one of ``STATES``; ``problem`` says why a cell failed or is blocked, else null;
``paradigm``, ``domain``, ``phase`` null where a cell has none; ``finished`` in ISO 8601."""

STATISTICS_SCHEMA = pl.Schema(
    {"domain": pl.String}
    | dict.fromkeys(("users", "items", "pretrain", "phase1", "phase2", "test", "items_test"), pl.Int64)
    | dict.fromkeys(("test_users", "active", "non_active"), pl.Int64)
    | {"active_ratio": pl.Float64, "gap_days": pl.Float64}
)
"""One row a domain.  ``pretrain`` … ``test`` are interactions; ``items_test`` the items of the test phase."""

LOSSES_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "phase": pl.String,
        "seed": pl.Int64,
        "step": pl.Int64,
        "epoch": pl.Float64,
        "loss": pl.Float64,
    }
)
"""One row a logged training step."""


@dataclass(frozen=True)
class ReportTables:
    """Everything that a report says, as plain tables.

    Attributes:
        name: of the grid; the title.
        command: what the reader would type to make this again.
        facts: shown under the title in this order, such as seed, backbone, phases, threads, total time.
        cells: `CELLS_SCHEMA`.
        statistics: `STATISTICS_SCHEMA`.
        results: `mmgrid.evaluation.RESULTS_SCHEMA`; percent.
        losses: `LOSSES_SCHEMA`.
        changes: `mmgrid.evaluation.CHANGES_SCHEMA`, merges against the model ``phase2`` of the domain, paired
            by user.  Optional: without it the heatmap shows changes without intervals.
    """

    name: str
    command: str
    facts: dict[str, str]
    cells: pl.DataFrame
    statistics: pl.DataFrame
    results: pl.DataFrame
    losses: pl.DataFrame
    changes: pl.DataFrame = field(default_factory=pl.DataFrame)


def checked(tables: ReportTables) -> ReportTables:
    """The same tables with exactly the columns and types of their schemas.

    Raises:
        ValueError: naming the table and its column, if rows lack a column or hold another type.
    """
    schemas = {
        "cells": CELLS_SCHEMA,
        "statistics": STATISTICS_SCHEMA,
        "results": RESULTS_SCHEMA,
        "losses": LOSSES_SCHEMA,
        "changes": CHANGES_SCHEMA,
    }
    frames = {name: _fitted(name, getattr(tables, name), schema) for name, schema in schemas.items()}
    return replace(tables, **frames)


def _fitted(name: str, frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    if frame.is_empty():
        return schema.to_frame()
    missing = [column for column in schema if column not in frame.columns]
    if missing:
        raise ValueError(f"report table {name!r}: no column {', '.join(missing)}; it has {frame.columns}")
    columns = []
    for column, dtype in schema.items():
        given = frame.schema[column]
        if dtype == pl.String and isinstance(given, pl.List):
            columns.append(pl.col(column).list.join("+"))
        elif dtype == pl.String and given.is_temporal():
            columns.append(pl.col(column).dt.to_string("iso"))
        else:
            columns.append(pl.col(column).cast(dtype))
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"report table {name!r}: {error}") from error
