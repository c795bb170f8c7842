"""The interactions of a domain, users and items as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.numbering import Numbered


@dataclass(frozen=True, eq=False)
class Log:
    """n interactions, in file order. timestamps: int64[n], ms UTC."""

    users: Numbered
    items: Numbered
    timestamps: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.timestamps)

    @classmethod
    def of(cls, table: pl.DataFrame) -> Log:
        """The rows of a table with user_id, item_id and timestamp, without nulls."""
        return cls(Numbered.of(table["user_id"]), Numbered.of(table["item_id"]), table["timestamp"].to_numpy())

    def table(self) -> pl.DataFrame:
        """The table of which it was made."""
        users, items = (column.ids.gather(column.rows) for column in (self.users, self.items))
        return pl.DataFrame({"user_id": users, "item_id": items, "timestamp": self.timestamps})

    def taken(self, rows: npt.NDArray[np.integer]) -> Log:
        """Some of the interactions, in this order; users and items keep their numbers."""
        users, items = (Numbered(column.ids, column.rows[rows]) for column in (self.users, self.items))
        return Log(users, items, self.timestamps[rows])
