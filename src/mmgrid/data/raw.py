"""A raw domain: interactions and item texts as they were read, before anything is dropped.

Every reader returns this form, so that preparation does not depend on file formats.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import polars as pl

from mmgrid.data.errors import DataError, named
from mmgrid.data.log import Log

INTERACTIONS = pl.Schema({"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64})
ITEMS = pl.Schema({"item_id": pl.String, "title": pl.String, "description": pl.String})


class RawDomain:
    """A domain's tables, rows in file order.

    interactions: user_id str, item_id str, timestamp int64 (ms, UTC); without nulls.
    log: the same, users and items as numbers.
    items: item_id str (distinct), title str, description str ("" if missing); texts without spaces around them.
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


def require_columns(present: Sequence[str], needed: Sequence[str], source: object) -> None:
    """Raise DataError, naming the source, the missing and the present columns, if a needed column is missing."""
    missing = [column for column in needed if column not in present]
    if missing:
        raise DataError(
            f"{source}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing; it has "
            f"{named(present) or 'none'}, and needs {', '.join(needed)}"
        )
