"""The items of a domain and their texts; all tables and models refer to an item by its row in `Items`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl


@dataclass(frozen=True, eq=False)
class Items:
    """N items, sorted by id, of which M may be recommended.

    ids: str[N]. titles, descriptions: N strings each (a description may be "").
    candidates: int64[M], sorted rows that may be recommended or drawn as negatives; all N in a closed catalogue.
    new: int64[≤ M], in an open catalogue the candidates that are new since the phase before.
    """

    ids: npt.NDArray[np.str_]
    titles: list[str]
    descriptions: list[str]
    candidates: npt.NDArray[np.int64]
    new: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.titles) == len(self.descriptions):
            raise ValueError(
                f"items: {len(self.ids)} ids, {len(self.titles)} titles, {len(self.descriptions)} "
                "descriptions; expected equal numbers"
            )
        rows = self.candidates
        if rows.size and (rows[0] < 0 or rows[-1] >= len(self.ids) or np.any(np.diff(rows) <= 0)):
            raise ValueError(f"candidates: expected sorted, distinct rows in [0, {len(self.ids)})")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_table(cls, table: pl.DataFrame) -> Items:
        """Items from a table with item_id (distinct), title, description; sorted by id, all of them candidates."""
        table = table.sort("item_id")
        return cls(
            strings(table["item_id"]),
            table["title"].to_list(),
            table["description"].to_list(),
            np.arange(len(table), dtype=np.int64),
        )

    def table(self) -> pl.DataFrame:
        """The table with columns item_id, title, description: N rows."""
        columns = {"item_id": self.ids.tolist(), "title": self.titles, "description": self.descriptions}
        return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))

    def is_candidate(self) -> npt.NDArray[np.bool_]:
        """bool[N]: whether each item may be recommended."""
        mask = np.zeros(len(self), np.bool_)
        mask[self.candidates] = True
        return mask

    def with_candidates(self, rows: npt.ArrayLike) -> Items:
        """The same items with only `rows` as candidates."""
        return replace(self, candidates=np.unique(np.asarray(rows, np.int64)))


def strings(column: pl.Series) -> npt.NDArray[np.str_]:
    """A text column without nulls as a numpy array of strings."""
    return np.array(column.to_list(), dtype=np.str_)
