"""A domain as it was found: who took which item when, and the items' texts, before anything is dropped.

Every reader gives this one shape, so that preparation knows no file format.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mmgrid.data.errors import DataError

INTERACTIONS = pl.Schema({"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64})
ITEMS = pl.Schema({"item_id": pl.String, "title": pl.String, "description": pl.String})

# Milliseconds of the years 1973 and 5138: a table wholly outside is in another unit.
_LEAST_MS, _MOST_MS = 10**11, 10**14


@dataclass(frozen=True, eq=False)
class RawDomain:
    """A domain's tables, rows in file order.

    interactions: user_id str, item_id str, timestamp int64 (ms, UTC); without nulls.
    items: item_id str (each once), title str, description str ("" where there is none).
    unfiltered: the interactions are all reviews as they were written, not a 5-core file: preparation makes
        them one first.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    unfiltered: bool = False


def raw_domain(
    name: str,
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    interactions_source: object,
    items_source: object,
    *,
    unfiltered: bool = False,
) -> RawDomain:
    """Check and tidy two tables that a reader has read; the sources are named in errors.

    Ids become strings, date columns milliseconds, missing texts "", and of repeated items the first stays.
    Raises DataError: columns missing, ids or timestamps missing, timestamps not in milliseconds, no rows.
    """
    require_columns(interactions.columns, INTERACTIONS.names(), interactions_source)
    require_columns(items.columns, ["item_id", "title"], items_source)
    if "description" not in items.columns:
        items = items.with_columns(pl.lit("").alias("description"))
    interactions = interactions.select(
        pl.col("user_id", "item_id").cast(pl.String), _timestamp(interactions, interactions_source)
    )
    items = (
        items.select(
            pl.col("item_id").cast(pl.String),
            pl.col("title", "description").cast(pl.String).fill_null("").str.strip_chars(),
        )
        .filter(pl.col("item_id").is_not_null())
        .unique("item_id", keep="first", maintain_order=True)
    )
    for column, count in zip(interactions.columns, interactions.null_count().row(0), strict=True):
        if count:
            raise DataError(f"{interactions_source}: {count} rows without {column}; fill or remove them")
    if interactions.is_empty():
        raise DataError(f"{interactions_source}: no interactions in it")
    if items.is_empty():
        raise DataError(f"{items_source}: no items in it")
    check_milliseconds(interactions["timestamp"], interactions_source)
    return RawDomain(name, interactions, items, unfiltered)


def require_columns(present: list[str], needed: list[str], source: object) -> None:
    """DataError naming the source, what is missing and what is there, unless all needed columns are there."""
    missing = [column for column in needed if column not in present]
    if missing:
        raise DataError(
            f"{source}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing; it has "
            f"{', '.join(present) or 'none'}, and needs {', '.join(needed)}"
        )


def check_milliseconds(timestamps: pl.Series, source: object) -> None:
    """DataError if the timestamps are in seconds, or in micro- or nanoseconds, instead of milliseconds."""
    low, high = timestamps.min(), timestamps.max()
    if not isinstance(low, int) or not isinstance(high, int):
        return
    if high < _LEAST_MS:
        unit, remedy = "seconds", "multiply them by 1000"
    elif low > _MOST_MS:
        unit, remedy = "microseconds or nanoseconds", "divide them by 1000 or 1,000,000"
    else:
        return
    raise DataError(
        f"{source}: its timestamps (from {low} to {high}) look like {unit}; milliseconds since 1970 UTC are "
        f"needed: {remedy}"
    )


def row_of(ids: pl.Series, known: pl.Series) -> pl.Series:
    """The position of each id among `known` (int32), null where it is not among them."""
    rows = pl.DataFrame({"id": known, "row": pl.int_range(len(known), dtype=pl.Int32, eager=True)})
    return pl.DataFrame({"id": ids}).join(rows, on="id", how="left", maintain_order="left")["row"]


def _timestamp(interactions: pl.DataFrame, source: object) -> pl.Expr:
    dtype = interactions.schema["timestamp"]
    if dtype in (pl.Date, pl.Datetime):
        return pl.col("timestamp").dt.epoch("ms")
    if not dtype.is_numeric():
        raise DataError(
            f"{source}: column timestamp holds {dtype}; expected whole numbers (milliseconds since 1970 UTC)"
        )
    return pl.col("timestamp").cast(pl.Int64, strict=False)
