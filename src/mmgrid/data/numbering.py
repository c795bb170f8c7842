"""Ids as whole numbers, on which rows are compared and sorted many times as fast as on texts.

Ids are found by their 64-bit hashes, in sorted order, and then compared as texts, so that the numbers are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

_BITS = 64
_AT_ONCE = 1 << 18  # rows
_COMPARED_AT_ONCE = 1 << 19  # each comparison of texts takes a while to begin


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
        rows, firsts = _runs(column.hash().to_numpy())
        ids = column.gather(firsts) + ""  # in memory of their own, which is small enough to be read at random
        odd = _differing(ids, rows, column)
        if odd.size:  # they share the hash of another id
            texts = column.gather(odd)
            more = texts.unique()
            rows[odd] = len(ids) + row_of(texts, more).to_numpy()
            ids = pl.concat([ids, more], rechunk=True)
        return cls(ids, rows)

    def find(self, column: pl.Series) -> npt.NDArray[np.int32]:
        """int32: the number of each id of another column without nulls; -1 for those that are not among `ids`."""
        if self._by_hash is None:
            return row_of(column, self.ids).fill_null(-1).to_numpy()
        column = column.rechunk()
        hashes = column.hash().to_numpy()
        rows = np.full(len(column), -1, np.int32)
        known, numbers = self._by_hash
        if not len(known):
            return rows
        order, hashes = stable_sort(hashes)  # the places of sorted values lie side by side
        places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        found = known[places] == hashes
        order, places = order[found], numbers[places[found]]
        same = (self.ids.gather(places) == column.gather(order)).to_numpy()
        rows[order[same]] = places[same]
        return rows

    def counts(self) -> npt.NDArray[np.int64]:
        """int64[N]: the number of rows of each id."""
        return np.bincount(self.rows, minlength=len(self.ids))

    @cached_property
    def _by_hash(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]] | None:
        """uint64[N], uint32[N]: the hashes of `ids`, sorted, and their numbers; None if two are equal."""
        order, hashes = stable_sort(self.ids.hash().to_numpy())
        return (hashes, order) if bool((hashes[1:] > hashes[:-1]).all()) else None


def stable_sort(
    keys: npt.NDArray[np.unsignedinteger],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
    """uint32[n], uint64[n]: the rows, sorted by key, equal keys in the order of rows, and the keys in this order.

    As np.argsort(kind="stable"), but faster: a key and its row share a whole number, and numbers are sorted. What of a key
    finds no room decides afterwards.
    """
    if len(keys) < 2:
        return np.arange(len(keys), dtype=np.uint32), keys.astype(np.uint64)
    packed, room, lost = _packed(keys)
    order = np.empty(len(keys), np.uint32)
    for part, rows in zip(_parts(packed), _parts(order), strict=True):
        rows[:] = part & np.uint64((1 << room) - 1)
    packed >>= np.uint64(room)
    if not lost:
        return order, packed
    alike = packed[1:] == packed[:-1]
    del packed
    ordered = np.empty(len(keys), np.uint64)
    for part, rows in zip(_parts(ordered), _parts(order), strict=True):
        part[:] = keys.take(rows)
    unsure = alike & (ordered[1:] != ordered[:-1])
    if unsure.any():
        run = np.concatenate([np.zeros(1, np.int64), np.cumsum(~alike)])
        of_run = np.zeros(run[-1] + 1, np.bool_)
        of_run[run[1:][unsure]] = True
        places = np.flatnonzero(of_run[run])
        within = np.argsort(ordered[places], kind="stable")
        order[places], ordered[places] = order[places][within], ordered[places][within]
    return order, ordered


def _packed(keys: npt.NDArray[np.unsignedinteger]) -> tuple[npt.NDArray[np.uint64], int, int]:
    """uint64[n]: keys and rows (in the lowest bits) as numbers, sorted; the bits of a row; and the lost ones of a key."""
    room = (len(keys) - 1).bit_length()
    lost = max(0, int(keys.max()).bit_length() + room - _BITS)
    packed = keys.astype(np.uint64)
    packed >>= np.uint64(lost)
    packed <<= np.uint64(room)
    for start, part in zip(range(0, len(keys), _AT_ONCE), _parts(packed), strict=True):
        part |= np.arange(start, start + len(part), dtype=np.uint64)
    packed.sort()
    return packed, room, lost


def _runs(hashes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """int32[n], int[N]: a number for each hash, and the first row of each number. Hashes that differ in a few bits only may
    share a number."""
    rows, firsts = np.empty(len(hashes), np.int32), [np.empty(0, np.intp)]
    if not len(hashes):
        return rows, firsts[0]
    packed, room, _ = _packed(hashes)
    count, last = 0, None
    for part in _parts(packed):
        order = (part & np.uint64((1 << room) - 1)).astype(np.intp)
        part >>= np.uint64(room)
        new = np.ones(len(part), np.bool_)
        np.not_equal(part[1:], part[:-1], out=new[1:])
        new[0] = part[0] != last
        rows[order] = count - 1 + np.cumsum(new, dtype=np.int32)
        firsts.append(order[new])
        count, last = count + len(firsts[-1]), part[-1]
    return rows, np.concatenate(firsts)


def _differing(ids: pl.Series, rows: npt.NDArray[np.int32], column: pl.Series) -> npt.NDArray[np.intp]:
    """The rows of a column that are not those of `ids[rows]`."""
    found = [np.empty(0, np.intp)]
    for start in range(0, len(rows), _COMPARED_AT_ONCE):
        end = start + _COMPARED_AT_ONCE
        differ = ids.gather(rows[start:end].view(np.uint32)) != column[start:end]
        if differ.any():
            found.append(start + np.flatnonzero(differ.to_numpy()))
    return np.concatenate(found)


def _parts(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The values, some at a time, which stay in the cache."""
    return [values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE)]


def row_of(ids: pl.Series, known: pl.Series) -> pl.Series:
    """int32: the position of each id among `known`, null for ids that are not among them."""
    rows = pl.DataFrame({"id": known, "row": pl.int_range(len(known), dtype=pl.Int32, eager=True)})
    return pl.DataFrame({"id": ids}).join(rows, on="id", how="left", maintain_order="left")["row"]


def all_distinct(ids: pl.Series) -> bool:
    """Whether no id occurs twice."""
    return ids.hash().n_unique() == len(ids) or not ids.is_duplicated().any()
