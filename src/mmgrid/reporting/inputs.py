"""What a report is made of: a name, some facts, and tidy tables; no model, no store, no grid.

Whoever makes the tables may leave out what is not there yet: a table without rows (or without columns) is an
empty section, and a column that is not listed here is passed by.  A table that has rows but lacks a column is
a mistake, and says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from mmgrid.evaluation import CHANGES_SCHEMA, RESULTS_SCHEMA
from mmgrid.studies.registry import STUDIES

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

CODES_SCHEMA = pl.Schema(
    {"domain": pl.String, "seed": pl.Int64, "quantiser": pl.String}
    | dict.fromkeys(("items", "levels", "codes", "least_used"), pl.Int64)
    | {"least_entropy_bits": pl.Float64, "error": pl.Float64, "colliding_before": pl.Int64, "colliding": pl.Int64}
)
"""One row a domain and seed with semantic IDs.  ``least_…`` are of a level, the worst one; ``error`` in percent."""

MONTHS_SCHEMA = pl.Schema({"domain": pl.String, "month": pl.Date, "interactions": pl.Int64})
"""One row a domain and month (its first day) that has interactions."""


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
        codes: `CODES_SCHEMA`.  Optional: what semantic IDs there are.
        months: `MONTHS_SCHEMA`.  Optional: how the interactions spread over time.
        phases: phase → (first day, day after the last) in ISO 8601, marked where time is drawn.  Optional.
        studies: study → table → rows of all paradigms and seeds, as `mmgrid.studies.registry.STUDIES` declares
            them.  A study that is not there has no section; a table that is not there is empty.
        grid: how commands name the grid's file; empty if no command is to be shown beside the studies.
    """

    name: str
    command: str
    facts: dict[str, str]
    cells: pl.DataFrame
    statistics: pl.DataFrame
    results: pl.DataFrame
    losses: pl.DataFrame
    changes: pl.DataFrame = field(default_factory=pl.DataFrame)
    codes: pl.DataFrame = field(default_factory=pl.DataFrame)
    months: pl.DataFrame = field(default_factory=pl.DataFrame)
    phases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    studies: Mapping[str, Mapping[str, pl.DataFrame]] = field(default_factory=dict)
    grid: str = ""


def checked(tables: ReportTables) -> ReportTables:
    """The same tables with exactly the columns and types of their schemas.

    Every table of a study that is present is there afterwards, if only as an empty one, and a number in it that is
    not finite is null.

    Raises:
        ValueError: naming the table (and the study) and its column, if rows lack a column or hold another type;
            or if there is no such study, or it has no such table.
    """
    schemas = {
        "cells": CELLS_SCHEMA,
        "statistics": STATISTICS_SCHEMA,
        "results": RESULTS_SCHEMA,
        "losses": LOSSES_SCHEMA,
        "changes": CHANGES_SCHEMA,
        "codes": CODES_SCHEMA,
        "months": MONTHS_SCHEMA,
    }
    frames = {
        name: _fitted(f"report table {name!r}", getattr(tables, name), schema) for name, schema in schemas.items()
    }
    studies = {name: _checked_study(name, given) for name, given in tables.studies.items()}
    return replace(tables, **frames, studies={name: studies[name] for name in STUDIES if name in studies})


def _checked_study(name: str, given: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    if name not in STUDIES:
        raise ValueError(f"report study {name!r}: no such study; there are {', '.join(STUDIES)}")
    schemas = STUDIES[name].tables
    for table in given:
        if table not in schemas:
            raise ValueError(f"report study {name!r}: no such table {table!r}; it has {', '.join(schemas)}")
    frames = {}
    for table, schema in schemas.items():
        frame = _fitted(f"report study {name!r}, table {table!r}", given.get(table, pl.DataFrame()), schema)
        floats = pl.col(pl.Float64)
        frames[table] = frame.with_columns(pl.when(floats.is_finite()).then(floats))
    return frames


def _fitted(place: str, frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    if frame.is_empty():
        return schema.to_frame()
    missing = [column for column in schema if column not in frame.columns]
    if missing:
        raise ValueError(f"{place}: no column {', '.join(missing)}; it has {frame.columns}")
    columns = []
    for column, dtype in schema.items():
        given = frame.schema[column]
        if dtype == pl.String and isinstance(given, pl.List):
            columns.append(pl.col(column).list.join("+"))
        elif dtype == pl.String and given.is_temporal():
            columns.append(pl.col(column).dt.to_string("iso"))
        elif dtype == pl.Date and given == pl.String:
            columns.append(pl.col(column).str.to_date())
        else:
            columns.append(pl.col(column).cast(dtype))
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{place}: {error}") from error
