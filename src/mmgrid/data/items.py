"""The items of a domain and their texts; all tables and models refer to an item by its row in `Items`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

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
    titles: Sequence[str]
    descriptions: Sequence[str]
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
            Texts(table["title"]),
            Texts(table["description"]),
            np.arange(len(table), dtype=np.int64),
        )

    def table(self) -> pl.DataFrame:
        """The table with columns item_id, title, description: N rows."""
        columns = {"item_id": self.ids.tolist(), "title": self.titles, "description": self.descriptions}
        return pl.DataFrame(
            {name: texts.column if isinstance(texts, Texts) else texts for name, texts in columns.items()},
            schema=dict.fromkeys(columns, pl.String),
        )

    def is_candidate(self) -> npt.NDArray[np.bool_]:
        """bool[N]: whether each item may be recommended."""
        mask = np.zeros(len(self), np.bool_)
        mask[self.candidates] = True
        return mask

    def with_candidates(self, rows: npt.ArrayLike) -> Items:
        """The same items with only `rows` as candidates."""
        return replace(self, candidates=np.unique(np.asarray(rows, np.int64)))


class Texts(Sequence[str]):
    """A text column without nulls, of which a list is made when a text is asked for: millions may only pass through."""

    def __init__(self, column: pl.Series) -> None:
        self._texts: pl.Series | list[str] = column

    @property
    def column(self) -> pl.Series:
        """The texts as a column."""
        return self._texts if isinstance(self._texts, pl.Series) else pl.Series(self._texts, dtype=pl.String)

    @property
    def _list(self) -> list[str]:
        if isinstance(self._texts, pl.Series):
            self._texts = self._texts.to_list()
        return self._texts

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._list)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        return self._list[place]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self._list == (other._list if isinstance(other, Texts) else other)

    __hash__ = None  # pyright: ignore[reportAssignmentType] - as of a list

    def __repr__(self) -> str:
        return f"Texts({self._list!r})"


def strings(column: pl.Series) -> npt.NDArray[np.str_]:
    """A text column without nulls as a numpy array of strings."""
    return np.array(column.to_list(), dtype=np.str_)
