"""A raw domain: interactions and item texts as they were read, before anything is dropped.

Every reader returns this form, so that preparation does not depend on file formats.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.log import Log
from mmgrid.data.numbering import all_distinct

INTERACTIONS = pl.Schema({"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64})
ITEMS = pl.Schema({"item_id": pl.String, "title": pl.String, "description": pl.String})


@dataclass(frozen=True, eq=False)
class RawDomain:
    """A domain's tables, rows in file order.

    interactions: user_id str, item_id str, timestamp int64 (ms, UTC); without nulls.
    items: item_id str (distinct), title str, description str ("" if missing).
    unfiltered: the interactions are all reviews, not a 5-core; preparation then computes the 5-core first.
    repairs: what was mended or left out, as plain values (see `mmgrid.data.readers.repairs`); empty if nothing was.
    numbered: the interactions with users and items as numbers, if a reader has them.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    unfiltered: bool = False
    repairs: Mapping[str, Any] = field(default_factory=dict)
    numbered: Log | None = field(default=None, repr=False)

    @cached_property
    def log(self) -> Log:
        """The interactions with users and items as numbers."""
        return self.numbered or Log.of(self.interactions)


def raw_domain(
    name: str,
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    interactions_source: object,
    items_source: object,
    *,
    unfiltered: bool = False,
    repairs: Mapping[str, Any] | None = None,
    numbered: Log | None = None,
) -> RawDomain:
    """Check and normalise the two tables of a reader, whose values have the types of `RawDomain`; errors name the sources.

    Missing texts become "", texts lose spaces around them, and only the first of repeated items stays.

    Raises DataError for missing columns, ids or timestamps, or empty tables.
    """
    require_columns(interactions.columns, INTERACTIONS.names(), interactions_source)
    require_columns(items.columns, ["item_id", "title"], items_source)
    if "description" not in items.columns:
        items = items.with_columns(pl.lit("").alias("description"))
    interactions = interactions.select(pl.col(name).cast(dtype) for name, dtype in INTERACTIONS.items())
    items = items.select(
        pl.col("item_id").cast(pl.String),
        pl.col("title", "description").cast(pl.String).fill_null("").str.strip_chars(),
    ).filter(pl.col("item_id").is_not_null())
    if not all_distinct(items["item_id"]):
        items = items.unique("item_id", keep="first", maintain_order=True)
    for column, count in zip(interactions.columns, interactions.null_count().row(0), strict=True):
        if count:
            raise DataError(f"{interactions_source}: {count} rows without {column}; fill or remove them")
    if interactions.is_empty():
        raise DataError(f"{interactions_source}: contains no interactions")
    if items.is_empty():
        raise DataError(f"{items_source}: contains no items")
    return RawDomain(name, interactions, items, unfiltered, repairs or {}, numbered)


def require_columns(present: list[str], needed: list[str], source: object) -> None:
    """Raise DataError, naming the source, the missing and the present columns, if a needed column is missing."""
    missing = [column for column in needed if column not in present]
    if missing:
        raise DataError(
            f"{source}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing; it has "
            f"{', '.join(present) or 'none'}, and needs {', '.join(needed)}"
        )
