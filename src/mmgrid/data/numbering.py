"""Ids as whole numbers, on which rows are compared and sorted many times as fast as on texts.

Ids are found by their 64-bit hashes, in sorted order, and then compared as texts, so that the numbers are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

_BITS = 64
_AT_ONCE = 1 << 20  # rows


@dataclass(frozen=True, eq=False)
class Numbered:
    """A column of ids as numbers.

    ids: str[N], distinct, in no order. rows: int32[n]: `ids[rows]` is the column.
    """

    ids: pl.Series
    rows: npt.NDArray[np.int32]

    @classmethod
    def of(cls, column: pl.Series) -> Numbered:
        """The numbers of a text column without nulls."""
        column = column.rechunk()  # whose rows are then found several times as fast
        hashes = column.hash().to_numpy()
        order = stable_order(hashes)
        ordered = hashes[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = ordered[1:] != ordered[:-1]
        rows = np.empty(len(order), np.int32)
        rows[order] = np.cumsum(first, dtype=np.int32) - 1
        ids = column.gather(order[first])
        if any(
            (ids.gather(rows[start : start + _AT_ONCE].view(np.uint32)) != column[start : start + _AT_ONCE]).any()
            for start in range(0, len(column), _AT_ONCE)
        ):  # two ids of one hash
            ids = column.unique()
            rows = row_of(column, ids).to_numpy()
        return cls(ids, rows)

    def find(self, column: pl.Series) -> npt.NDArray[np.int32]:
        """int32: the number of each id of another column without nulls; -1 for those that are not among `ids`."""
        if self._hashes is None:
            return row_of(column, self.ids).fill_null(-1).to_numpy()
        column = column.rechunk()
        hashes = column.hash().to_numpy()
        rows = np.full(len(column), -1, np.int32)
        if not len(self.ids):
            return rows
        order = stable_order(hashes)  # the places of sorted values lie side by side
        hashes = hashes[order]
        places = np.searchsorted(self._hashes, hashes).astype(np.uint32)
        found = self._hashes[np.minimum(places, len(self.ids) - 1)] == hashes
        order, places = order[found], places[found]
        same = (self.ids.gather(places) == column.gather(order)).to_numpy()
        rows[order[same]] = places[same]
        return rows

    def counts(self) -> npt.NDArray[np.int64]:
        """int64[N]: the number of rows of each id."""
        return np.bincount(self.rows, minlength=len(self.ids))

    @cached_property
    def _hashes(self) -> npt.NDArray[np.uint64] | None:
        """uint64[N]: the hashes of `ids`, which grow; None if two are equal."""
        hashes = self.ids.hash().to_numpy()
        return hashes if bool((hashes[1:] > hashes[:-1]).all()) else None


def stable_order(keys: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.uint32]:
    """uint32[n]: the rows, sorted by key, equal keys in the order of rows; as np.argsort(kind="stable"), but faster.

    A key and its row share a whole number, and numbers are sorted. What of a key finds no room decides afterwards.
    """
    n = len(keys)
    if n < 2:
        return np.arange(n, dtype=np.uint32)
    room = (n - 1).bit_length()
    lost = max(0, int(keys.max()).bit_length() + room - _BITS)
    packed = keys.astype(np.uint64) >> np.uint64(lost)
    packed <<= np.uint64(room)
    packed |= np.arange(n, dtype=np.uint64)
    packed.sort()
    order = (packed & np.uint64((1 << room) - 1)).astype(np.uint32)
    if not lost:
        return order
    ordered = keys[order]
    packed >>= np.uint64(room)
    alike = packed[1:] == packed[:-1]
    unsure = alike & (ordered[1:] != ordered[:-1])
    if unsure.any():
        run = np.concatenate([np.zeros(1, np.int64), np.cumsum(~alike)])
        of_run = np.zeros(run[-1] + 1, np.bool_)
        of_run[run[1:][unsure]] = True
        places = np.flatnonzero(of_run[run])
        order[places] = order[places][np.argsort(ordered[places], kind="stable")]
    return order


def row_of(ids: pl.Series, known: pl.Series) -> pl.Series:
    """int32: the position of each id among `known`, null for ids that are not among them."""
    rows = pl.DataFrame({"id": known, "row": pl.int_range(len(known), dtype=pl.Int32, eager=True)})
    return pl.DataFrame({"id": ids}).join(rows, on="id", how="left", maintain_order="left")["row"]


def all_distinct(ids: pl.Series) -> bool:
    """Whether no id occurs twice."""
    return ids.hash().n_unique() == len(ids) or not ids.is_duplicated().any()
