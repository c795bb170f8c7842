"""From raw tables to a corpus: filters interactions in a fixed order of steps, on which the result depends.

The minimum of interactions is counted over the whole file, before the calendar cuts it, as in the paper (arXiv
2601.15930); after the cut, each user needs enough rows within the calendar. Each step counts what it drops, so that
unexpected results can be explained.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.calendar import Calendar, format_time
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import DataError
from mmgrid.data.log import Log
from mmgrid.data.numbering import stable_sort
from mmgrid.data.raw import RawDomain
from mmgrid.data.sampling import nested_sample

Compat = Literal["official"]

_CORE = 5  # the published files that the paper starts from are 5-cores
_AT_ONCE = 1 << 18  # rows, which stay in the cache


@dataclass(frozen=True)
class Dropped:
    """The number of interactions that one step removed, and of users and items without any left."""

    step: str
    interactions: int
    users: int
    items: int


@dataclass(frozen=True, eq=False)
class Preparation:
    """A corpus, the numbers that each step dropped, the number of items without a title, and the repairs of the reader."""

    corpus: Corpus
    dropped: tuple[Dropped, ...]
    untitled_items: int
    repairs: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Plain numbers for a record or for --json."""
        return {
            "users": self.corpus.n_users,
            "items": len(self.corpus.catalogue),
            "interactions": len(self.corpus),
            "untitled_items": self.untitled_items,
            "dropped": [asdict(step) for step in self.dropped],
        } | ({"repairs": dict(self.repairs)} if self.repairs else {})


def prepare(
    raw: RawDomain,
    calendar: Calendar,
    *,
    min_interactions: int = 5,
    max_items: int | None = None,
    max_users: int | None = None,
    seed: int = 0,
    compat: Compat | None = None,
) -> Preparation:
    """Prepare a domain for a grid: `filter_interactions` over the calendar, then a sample of users.

    Args:
        max_users: sample at most this many users (deterministic, nested); the catalogue stays that of all users.
        max_items, compat: see `filter_interactions`.

    Raises DataError if no interaction is left.
    """
    preparation = filter_interactions(
        raw,
        start=calendar.pretrain.start,
        end=calendar.test.end,
        min_interactions=min_interactions,
        max_items=max_items,
        compat=compat,
    )
    if max_users is None:
        return preparation
    corpus = preparation.corpus
    sample = corpus.take_users(nested_sample(corpus.user_ids, max_users, seed, f"users of {corpus.name}"))
    step = Dropped("users outside the sample", len(corpus) - len(sample), corpus.n_users - sample.n_users, 0)
    return replace(preparation, corpus=sample, dropped=(*preparation.dropped, step))


def filter_interactions(
    raw: RawDomain,
    *,
    start: int | None = None,
    end: int | None = None,
    min_interactions: int = 5,
    max_items: int | None = None,
    compat: Compat | None = None,
) -> Preparation:
    """Drop the interactions that a grid cannot use, in the order of the paper (arXiv 2601.15930).

    1. Of repeated (user, item) rows, keep the earliest.
    2. Reviews only: keep the 5-core (or a smaller core if `min_interactions` is smaller), as the published files do.
    3. Drop interactions with items that have no row or no title.
    4. Count the interactions of each user and item over the whole file.
    5. Drop timestamps outside [start, end).
    6. Drop rows with a user or item that was counted fewer than `min_interactions` times in step 4.
    7. Drop users with fewer than `min_interactions` rows left.
    8. With `max_items`, drop all but so many items, those with most rows left; then repeat step 7.

    The catalogue consists of the items that are left.

    Args:
        start, end: ms UTC; None: no limit.
        max_items: most items of the catalogue; of items with equally many rows, those that come first in the file.
        compat: "official" counts rows at or after `end` in step 7 and drops them afterwards, like the paper's
            official code.

    Raises DataError if no interaction is left; it names the step that dropped the last ones.
    """
    if min_interactions < 1:
        raise ValueError(f"min_interactions {min_interactions}: expected at least 1")
    if max_items is not None and max_items < 1:
        raise ValueError(f"max_items {max_items}: expected at least 1, or None for all")
    if compat not in (None, "official"):
        raise ValueError(f"compat {compat!r}: expected None or 'official'")
    titled = (raw.items["title"] != "").fill_null(False).to_numpy()
    if not titled.any():
        raise DataError(
            f"{raw.name}: none of its {len(raw.items)} items has a title; recommenders read item texts, so add titles"
        )
    numbers = raw.log.items.find(raw.items["item_id"])
    steps = _Steps(raw, numbers, titled)
    steps.keep("repeated user and item", _earliest(raw.log))
    if raw.unfiltered:
        steps.keep_core(min(_CORE, min_interactions))
    steps.keep("item unknown", steps.known[steps.rows.items])
    steps.keep("item without a title", steps.titled[steps.rows.items])
    steps.count()
    if start is not None:
        steps.keep(f"before {format_time(start)}", steps.rows.times >= start)
    if end is not None and compat != "official":
        steps.keep(f"at or after {format_time(end)}", steps.rows.times < end)
    steps.keep_counted(min_interactions)
    steps.keep_users(min_interactions)
    if end is not None and compat == "official":
        steps.keep(f"at or after {format_time(end)}", steps.rows.times < end)
    if max_items is not None:
        steps.keep_most(max_items)
        steps.keep_users(min_interactions)
    chosen = np.bincount(steps.rows.items, minlength=len(steps.known))[numbers] > 0
    chosen &= titled & (numbers >= 0)
    items = raw.items.filter(pl.Series(chosen))
    corpus = Corpus.from_log(raw.name, raw.log.taken(steps.rows.places), items, numbers[chosen])
    return Preparation(corpus, tuple(steps.dropped), len(raw.items) - int(titled.sum()), raw.repairs)


def k_core(users: npt.NDArray[np.integer], items: npt.NDArray[np.integer], k: int) -> npt.NDArray[np.bool_]:
    """bool[n]: the k-core, the largest subset of interactions in which each user and item has at least k.

    Args:
        users, items: int[n], numbers from 0.
    """
    kept = np.arange(len(users))
    while True:
        of_user, of_item = np.bincount(users[kept]), np.bincount(items[kept])
        enough = (of_user >= k)[users[kept]] & (of_item >= k)[items[kept]]
        if enough.all():
            break
        kept = kept[enough]
    mask = np.zeros(len(users), np.bool_)
    mask[kept] = True
    return mask


@dataclass(frozen=True, eq=False)
class _Rows:
    """Remaining interactions: their places in the log, users and items as numbers, and times.

    of_log: the times of the whole log, of which no step needs a copy. of_user, of_item: how many rows each user, and each item, has.
    """

    places: npt.NDArray[np.integer]
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    of_log: npt.NDArray[np.int64]
    of_user: npt.NDArray[np.int64]
    of_item: npt.NDArray[np.int64]

    @classmethod
    def of(cls, log: Log) -> "_Rows":
        """All rows of a log."""
        places = np.arange(len(log), dtype=np.int32 if len(log) < 2**31 else np.int64)
        return cls(places, log.users.rows, log.items.rows, log.timestamps, log.users.counts(), log.items.counts())

    def __len__(self) -> int:
        return len(self.places)

    @property
    def times(self) -> npt.NDArray[np.int64]:
        return self.of_log[self.places]

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """The numbers of interactions, users and items."""
        return len(self), int(np.count_nonzero(self.of_user)), int(np.count_nonzero(self.of_item))

    def kept(self, mask: npt.NDArray[np.bool_]) -> "_Rows":
        """The rows for which `mask` is true."""
        places, users, items = _where(mask, self.places, self.users, self.items)
        if 2 * len(places) < len(self):
            of_user, of_item = _counts(users, self.of_user), _counts(items, self.of_item)
        else:  # what is dropped is counted sooner
            dropped = _where(~mask, self.users, self.items)
            of_user, of_item = (
                self.of_user - _counts(dropped[0], self.of_user),
                self.of_item - _counts(dropped[1], self.of_item),
            )
        return _Rows(places, users, items, self.of_log, of_user, of_item)


class _Steps:
    """The remaining rows, and what each step dropped.

    known, titled: bool, whether each item has a row, and a title. of_user, of_item: rows of each user and item when they
    were counted.
    """

    def __init__(self, raw: RawDomain, items: npt.NDArray[np.int32], titled: npt.NDArray[np.bool_]) -> None:
        """items, titled: for each row of the item table the number of its item, or -1, and whether it has a title."""
        self.name = raw.name
        self.rows = _Rows.of(raw.log)
        self.known, self.titled = (np.zeros(len(raw.log.items.ids), np.bool_) for _ in range(2))
        self.known[items[items >= 0]] = True
        self.titled[items[(items >= 0) & titled]] = True
        self.of_user = self.of_item = np.empty(0, np.int64)
        self.dropped: list[Dropped] = []

    def keep(self, step: str, kept: npt.NDArray[np.bool_]) -> None:
        """Keep the rows for which `kept` is true."""
        rows = self.rows if kept.all() else self.rows.kept(kept)
        self.dropped.append(Dropped(step, *(had - has for had, has in zip(self.rows.size, rows.size, strict=True))))
        if not len(rows):
            taken = "; ".join(f"{drop.step}: {drop.interactions}" for drop in self.dropped if drop.interactions)
            times = self.rows.times
            raise DataError(
                f"{self.name}: no interactions are left. Dropped: {taken}. Before the last of these steps "
                f"they ran from {format_time(times.min())} to {format_time(times.max())}; check that the dates, "
                "the item ids and the minimum fit the data"
            )
        self.rows = rows

    def keep_core(self, k: int) -> None:
        """Keep the k-core."""
        self.keep(f"outside the {k}-core of the reviews", k_core(self.rows.users, self.rows.items, k))

    def keep_most(self, items: int) -> None:
        """Keep the rows of so many items: those with most rows; among equals, the first in the file."""
        of_item = np.bincount(self.rows.items, minlength=len(self.known))
        first = np.full(len(of_item), len(self.rows), np.int64)
        np.minimum.at(first, self.rows.items, np.arange(len(self.rows)))
        chosen = np.zeros(len(of_item), np.bool_)
        chosen[np.lexsort((first, -of_item))[:items]] = True
        self.keep(f"item beyond the {items} with most interactions", chosen[self.rows.items])

    def keep_users(self, least: int) -> None:
        """Keep the users with at least so many rows."""
        self.keep(f"user with fewer than {least} left", (self.rows.of_user >= least)[self.rows.users])

    def keep_counted(self, least: int) -> None:
        """Keep the rows whose user and item were counted at least so often."""
        kept = (self.of_user >= least)[self.rows.users]
        kept &= (self.of_item >= least)[self.rows.items]
        self.keep(f"user or item with fewer than {least} in the whole file", kept)

    def count(self) -> None:
        """Count the rows of each user and item."""
        self.of_user, self.of_item = self.rows.of_user, self.rows.of_item


def _earliest(log: Log) -> npt.NDArray[np.bool_]:
    """bool[n]: the earliest row of each user and item; among equal times, the first in the file."""
    pairs = log.users.rows.astype(np.uint64)
    pairs *= np.uint64(len(log.items.ids))
    pairs += log.items.rows.view(np.uint32)
    order, pairs = stable_sort(pairs)
    again = pairs[1:] == pairs[:-1]
    kept = np.ones(len(log), np.bool_)
    if again.any():
        begins = np.append(True, ~again)
        repeated = np.append(again, False) | ~begins
        order, starts = order[repeated], np.flatnonzero(begins[repeated])
        times, run = log.timestamps[order], np.cumsum(begins[repeated]) - 1
        earliest = np.flatnonzero(times == np.minimum.reduceat(times, starts)[run])
        kept[order] = False
        kept[order[earliest[np.diff(run[earliest], prepend=-1) > 0]]] = True
    return kept


def _counts(numbers: npt.NDArray[np.int32], known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64: how often each number below the length of `known` occurs."""
    return np.bincount(numbers, minlength=len(known))


def _where(mask: npt.NDArray[np.bool_], *columns: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The values of columns where the mask is true, some at a time: numpy's own way by a mask takes several times as long."""
    chosen = [np.empty(np.count_nonzero(mask), column.dtype) for column in columns]
    done = 0
    for start in range(0, len(mask), _AT_ONCE):
        rows = np.flatnonzero(mask[start : start + _AT_ONCE])
        for values, column in zip(chosen, columns, strict=True):
            values[done : done + len(rows)] = column[start : start + _AT_ONCE].take(rows)
        done += len(rows)
    return chosen
