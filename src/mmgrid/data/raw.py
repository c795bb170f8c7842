"""A raw domain: interactions and item texts as they were read, before anything is dropped.

Every reader returns this form, so that preparation does not depend on file formats.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.log import Log
from mmgrid.data.numbering import all_distinct

INTERACTIONS = pl.Schema({"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64})
ITEMS = pl.Schema({"item_id": pl.String, "title": pl.String, "description": pl.String})


class RawDomain:
    """A domain's tables, rows in file order.

    interactions: user_id str, item_id str, timestamp int64 (ms, UTC); without nulls.
    log: the same, users and items as numbers.
    items: item_id str (distinct), title str, description str ("" if missing).
    unfiltered: the interactions are all reviews, not a 5-core; preparation then computes the 5-core first.
    repairs: what was mended or left out, as plain values (see `mmgrid.data.readers.repairs`); empty if nothing was.

    Made from interactions in either form; the other one is made when it is asked for.
    """

    def __init__(
        self,
        name: str,
        interactions: pl.DataFrame | Log,
        items: pl.DataFrame,
        unfiltered: bool = False,
        repairs: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.items, self.unfiltered, self.repairs = name, items, unfiltered, repairs or {}
        self._given = interactions

    @property
    def interactions(self) -> pl.DataFrame:
        return self._given.table() if isinstance(self._given, Log) else self._given

    @cached_property
    def log(self) -> Log:
        return self._given if isinstance(self._given, Log) else Log.of(self._given)


def raw_domain(
    name: str,
    interactions: pl.DataFrame | Log,
    items: pl.DataFrame,
    interactions_source: object,
    items_source: object,
    *,
    unfiltered: bool = False,
    repairs: Mapping[str, Any] | None = None,
) -> RawDomain:
    """Check and normalise the two tables of a reader, whose values have the types of `RawDomain`; errors name the sources.

    Missing texts become "", texts lose spaces around them, and only the first of repeated items stays.

    Raises DataError for missing columns, ids or timestamps, or empty tables.
    """
    if isinstance(interactions, pl.DataFrame):
        interactions = _checked(interactions, interactions_source)
    require_columns(items.columns, ["item_id", "title"], items_source)
    if "description" not in items.columns:
        items = items.with_columns(pl.lit("").alias("description"))
    items = items.select(
        pl.col("item_id").cast(pl.String),
        pl.col("title", "description").cast(pl.String).fill_null("").str.strip_chars(),
    ).filter(pl.col("item_id").is_not_null())
    if not all_distinct(items["item_id"]):
        items = items.unique("item_id", keep="first", maintain_order=True)
    if not len(interactions):
        raise DataError(f"{interactions_source}: contains no interactions")
    if items.is_empty():
        raise DataError(f"{items_source}: contains no items")
    return RawDomain(name, interactions, items, unfiltered, repairs)


def _checked(interactions: pl.DataFrame, source: object) -> pl.DataFrame:
    require_columns(interactions.columns, INTERACTIONS.names(), source)
    interactions = interactions.select(pl.col(name).cast(dtype) for name, dtype in INTERACTIONS.items())
    for column, count in zip(interactions.columns, interactions.null_count().row(0), strict=True):
        if count:
            raise DataError(f"{source}: {count} rows without {column}; fill or remove them")
    return interactions


def require_columns(present: list[str], needed: list[str], source: object) -> None:
    """Raise DataError, naming the source, the missing and the present columns, if a needed column is missing."""
    missing = [column for column in needed if column not in present]
    if missing:
        raise DataError(
            f"{source}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing; it has "
            f"{', '.join(present) or 'none'}, and needs {', '.join(needed)}"
        )
