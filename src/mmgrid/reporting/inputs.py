"""The input of a report: a name, some facts, and tidy tables.

A table without rows, or even without columns, gives an empty section; columns that no schema lists are ignored. A
table with rows that lacks a column is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl
import polars.selectors as cs

from mmgrid.evaluation import CHANGES_SCHEMA, RESULTS_SCHEMA
from mmgrid.studies.kept_tables import KEPT_SCHEMA, SERVED_SCHEMA
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
"""One row per cell. `state` is one of `STATES`; `problem` says why a cell failed or is blocked, else null; `paradigm`,
`domain` and `phase` are null for cells without them; `finished` is in ISO 8601."""

STATISTICS_SCHEMA = pl.Schema(
    {"domain": pl.String}
    | dict.fromkeys(("users", "items", "pretrain", "phase1", "phase2", "test", "items_test"), pl.Int64)
    | dict.fromkeys(("test_users", "active", "non_active"), pl.Int64)
    | {"active_ratio": pl.Float64, "gap_days": pl.Float64}
)
"""One row per domain. `pretrain`, `phase1`, `phase2` and `test` count interactions, `items_test` the items of the test
phase."""

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
"""One row per logged training step."""

CODES_SCHEMA = pl.Schema(
    {"domain": pl.String, "seed": pl.Int64, "quantiser": pl.String}
    | dict.fromkeys(("items", "levels", "codes", "least_used"), pl.Int64)
    | {"least_entropy_bits": pl.Float64, "error": pl.Float64, "colliding_before": pl.Int64, "colliding": pl.Int64}
)
"""One row per domain and seed with semantic IDs. `least_used` and `least_entropy_bits` are those of the worst level;
`error` is in percent."""

MONTHS_SCHEMA = pl.Schema(
    {"domain": pl.String, "month": pl.Date}
    | dict.fromkeys(("interactions", "users", "items"), pl.Int64)
    | {"new_items": pl.Float64}
)
"""One row per domain and month; `month` is its first day. users, items: those with an interaction in it. new_items: the
share of its items that have none before (0 to 1)."""


@dataclass(frozen=True)
class ReportTables:
    """The content of a report, as plain tables.

    Attributes:
        name: of the grid; the title of the report.
        command: the command that makes the report again.
        facts: printed below the title in this order, such as seed, backbone, phases, threads, total time.
        cells: `CELLS_SCHEMA`.
        statistics: `STATISTICS_SCHEMA`.
        results: `mmgrid.evaluation.RESULTS_SCHEMA`; percent.
        losses: `LOSSES_SCHEMA`.
        changes: `mmgrid.evaluation.CHANGES_SCHEMA`: merges against the model `phase2` of the domain, paired by user.
            Without it the heatmap has no intervals.
        kept, served: `KEPT_SCHEMA` and `SERVED_SCHEMA` of `mmgrid.studies.kept_tables`, of the merges that the grid file
            names, and of its families.
        codes: `CODES_SCHEMA`, of domains with semantic IDs.
        months: `MONTHS_SCHEMA`, for the figure of interactions over time.
        phases: phase → (first day, day after the last) in ISO 8601, for the same figure.
        studies: study → table → rows of all paradigms and seeds, with the schemas of
            `mmgrid.studies.registry.STUDIES`. A study that is not a key has no section; a missing table is empty.
        grid: the path of the grid's file in commands; empty to print no commands next to the studies.
    """

    name: str
    command: str
    facts: dict[str, str]
    cells: pl.DataFrame
    statistics: pl.DataFrame
    results: pl.DataFrame
    losses: pl.DataFrame
    changes: pl.DataFrame = field(default_factory=pl.DataFrame)
    kept: pl.DataFrame = field(default_factory=pl.DataFrame)
    served: pl.DataFrame = field(default_factory=pl.DataFrame)
    codes: pl.DataFrame = field(default_factory=pl.DataFrame)
    months: pl.DataFrame = field(default_factory=pl.DataFrame)
    phases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    studies: Mapping[str, Mapping[str, pl.DataFrame]] = field(default_factory=dict)
    grid: str = ""


def checked(tables: ReportTables) -> ReportTables:
    """The same tables with exactly the columns and types of their schemas.

    The studies come in the order of the registry, each with all its tables. Their values are numbers, booleans and
    texts only: numbers that are not finite become null, dates and lists become texts.

    Raises:
        ValueError: rows lack a column or have another type, or there is no such study or table; the message names
            the table, its study, and the column.
    """
    schemas = {
        "cells": CELLS_SCHEMA,
        "statistics": STATISTICS_SCHEMA,
        "results": RESULTS_SCHEMA,
        "losses": LOSSES_SCHEMA,
        "changes": CHANGES_SCHEMA,
        "kept": KEPT_SCHEMA,
        "served": SERVED_SCHEMA,
        "codes": CODES_SCHEMA,
        "months": MONTHS_SCHEMA,
    }
    frames = {
        name: _with_schema(f"report table {name!r}", getattr(tables, name), schema) for name, schema in schemas.items()
    }
    studies = {name: _checked_study(name, study_tables) for name, study_tables in tables.studies.items()}
    return replace(tables, **frames, studies={name: studies[name] for name in STUDIES if name in studies})


def _checked_study(name: str, tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    if name not in STUDIES:
        raise ValueError(f"report study {name!r}: no such study; there are {', '.join(STUDIES)}")
    schemas = STUDIES[name].tables
    for table in tables:
        if table not in schemas:
            raise ValueError(f"report study {name!r}: no such table {table!r}; it has {', '.join(schemas)}")
    return {
        table: _plain(
            _with_schema(f"report study {name!r}, table {table!r}", tables.get(table, pl.DataFrame()), schema)
        )
        for table, schema in schemas.items()
    }


def _with_schema(place: str, frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    if frame.is_empty():
        return schema.to_frame()
    missing = [column for column in schema if column not in frame.columns]
    if missing:
        raise ValueError(f"{place}: no column {', '.join(missing)}; it has {frame.columns}")
    columns = []
    for column, dtype in schema.items():
        found = frame.schema[column]
        if dtype == pl.String and isinstance(found, pl.List):
            columns.append(pl.col(column).list.join("+"))
        elif dtype == pl.String and found.is_temporal():
            columns.append(pl.col(column).dt.to_string("iso"))
        elif dtype == pl.Date and found == pl.String:
            columns.append(pl.col(column).str.to_date())
        else:
            columns.append(pl.col(column).cast(dtype))
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{place}: {error}") from error


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Only numbers, booleans and texts, which tables, JSON and CSV can hold; numbers are finite or null."""
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List | pl.Array)]
    frame = frame.with_columns(
        pl.col(name).map_elements(lambda values: ", ".join(map(str, values)), return_dtype=pl.String) for name in lists
    )
    frame = frame.with_columns(cs.temporal().dt.to_string("iso"), cs.decimal().cast(pl.Float64))
    frame = frame.with_columns(pl.when(cs.float().is_finite()).then(cs.float()))
    return frame.with_columns((~(cs.numeric() | cs.boolean() | cs.string())).cast(pl.String))
