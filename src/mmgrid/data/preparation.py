"""From raw tables to a corpus: which rows stay, in an order of steps that changes the result.

Counts for the minimum are taken over the whole file, before the calendar cuts it, as in the paper (arXiv
2601.15930); then each user needs enough rows within the calendar.  What each step dropped is counted, so that
a table which surprises can be explained.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.calendar import Calendar, format_time
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import DataError
from mmgrid.data.raw import RawDomain, row_of
from mmgrid.data.sampling import nested_sample

Compat = Literal["official"]

_CORE = 5  # of the published files that the paper starts from


@dataclass(frozen=True)
class Dropped:
    """What one step of preparation removed: interactions, and users and items that have none left."""

    step: str
    interactions: int
    users: int
    items: int


@dataclass(frozen=True, eq=False)
class Preparation:
    """A corpus, what each step dropped on the way to it, and how many items had no title."""

    corpus: Corpus
    dropped: tuple[Dropped, ...]
    untitled_items: int

    def summary(self) -> dict[str, Any]:
        """Plain numbers for a record or for --json."""
        return {
            "users": self.corpus.n_users,
            "items": len(self.corpus.catalogue),
            "interactions": len(self.corpus),
            "untitled_items": self.untitled_items,
            "dropped": [asdict(step) for step in self.dropped],
        }


def prepare(
    raw: RawDomain,
    calendar: Calendar,
    *,
    min_interactions: int = 5,
    max_users: int | None = None,
    seed: int = 0,
    compat: Compat | None = None,
) -> Preparation:
    """A domain as a grid uses it: `filter_interactions` over the calendar, then a sample of users.

    Args:
        max_users: a nested, deterministic sample of at most so many users; the catalogue stays the whole
            domain's.
        compat: see `filter_interactions`.

    Raises DataError if nothing is left.
    """
    preparation = filter_interactions(
        raw,
        start=calendar.pretrain.start,
        end=calendar.test.end,
        min_interactions=min_interactions,
        compat=compat,
    )
    if max_users is None:
        return preparation
    corpus = preparation.corpus
    sample = corpus.take_users(nested_sample(corpus.user_ids, max_users, seed, f"users of {corpus.name}"))
    step = Dropped("users outside the sample", len(corpus) - len(sample), corpus.n_users - sample.n_users, 0)
    return Preparation(sample, (*preparation.dropped, step), preparation.untitled_items)


def filter_interactions(
    raw: RawDomain,
    *,
    start: int | None = None,
    end: int | None = None,
    min_interactions: int = 5,
    compat: Compat | None = None,
) -> Preparation:
    """Drop what a grid cannot use, in the order of the paper (arXiv 2601.15930).

    Repeated (user, item) rows after the earliest go; interactions with items that have no row or no title go;
    interactions of each user and item are counted over the whole file; timestamps outside [start, end) go;
    rows whose user or item was counted fewer than `min_interactions` times go; users with fewer rows left go.
    The catalogue is the items that are left.  Unfiltered reviews first lose the users and items outside the
    5-core (or a smaller core, if `min_interactions` is smaller), as the published 5-core files did.

    Args:
        start, end: ms UTC; None does not cut.
        compat: "official" lets rows at or after `end` count in the last filter and cuts them afterwards, as
            the paper's official code does.

    Raises DataError if nothing is left, naming the step that emptied the domain.
    """
    if min_interactions < 1:
        raise ValueError(f"min_interactions {min_interactions}: expected at least 1")
    if compat not in (None, "official"):
        raise ValueError(f"compat {compat!r}: expected None or 'official'")
    titled = raw.items.filter(pl.col("title") != "")
    if titled.is_empty():
        raise DataError(f"{raw.name}: none of its {len(raw.items)} items has a title; items are known by their text")
    steps = _Steps(raw, titled)
    steps.keep_earliest()
    if raw.unfiltered:
        steps.keep_core(min(_CORE, min_interactions))
    steps.keep("item unknown", pl.col("known"))
    steps.keep("item without a title", pl.col("titled"))
    steps.count()
    for step, kept in _filters(start, end, min_interactions, compat):
        steps.keep(step, kept)
    interactions = raw.interactions[steps.rows["row"]]
    items = titled.join(interactions, on="item_id", how="semi")
    corpus = Corpus.from_tables(raw.name, interactions, items)
    return Preparation(corpus, tuple(steps.dropped), len(raw.items) - len(titled))


def k_core(users: npt.NDArray[np.integer], items: npt.NDArray[np.integer], k: int) -> npt.NDArray[np.bool_]:
    """The largest part of n interactions in which each user and each item has at least k: bool[n].

    Args:
        users, items: int[n] numbers from 0.
    """
    kept = np.arange(len(users))
    while True:
        of_user, of_item = np.bincount(users[kept]), np.bincount(items[kept])
        enough = (of_user[users[kept]] >= k) & (of_item[items[kept]] >= k)
        if enough.all():
            break
        kept = kept[enough]
    mask = np.zeros(len(users), np.bool_)
    mask[kept] = True
    return mask


def _filters(
    start: int | None, end: int | None, min_interactions: int, compat: Compat | None
) -> list[tuple[str, pl.Expr]]:
    """Name and condition of each step after the repeats are gone, in order."""
    since = [] if start is None else [(f"before {format_time(start)}", pl.col("timestamp") >= start)]
    until = [] if end is None else [(f"at or after {format_time(end)}", pl.col("timestamp") < end)]
    counted = (pl.col("of_user") >= min_interactions) & (pl.col("of_item") >= min_interactions)
    frequent = [
        (f"user or item with fewer than {min_interactions} in the whole file", counted),
        (f"user with fewer than {min_interactions} left", pl.len().over("user") >= min_interactions),
    ]
    return since + frequent + until if compat == "official" else since + until + frequent


class _Steps:
    """The rows that are still there, and what each step took.

    rows: row (place in the file), user and item (as numbers, which compare quickly), timestamp, known and
    titled (whether the item has a row, and a title).
    """

    def __init__(self, raw: RawDomain, titled: pl.DataFrame) -> None:
        self.name = raw.name
        user_ids, item_ids = raw.interactions["user_id"], raw.interactions["item_id"]
        known = item_ids.unique()
        of_item = pl.DataFrame({"item": row_of(item_ids, known)})
        flags = pl.select(
            known=known.is_in(raw.items["item_id"].implode()), titled=known.is_in(titled["item_id"].implode())
        )
        self.rows = pl.DataFrame(
            {"user": row_of(user_ids, user_ids.unique()), "timestamp": raw.interactions["timestamp"]}
        ).with_row_index("row")
        self.rows = pl.concat([self.rows, of_item, flags[of_item["item"]]], how="horizontal")
        self.dropped: list[Dropped] = []
        self._left = _counts(self.rows)

    def keep(self, step: str, kept: pl.Expr | pl.Series) -> None:
        """Keep the rows where `kept` holds."""
        self._replace(step, self.rows.filter(kept))

    def keep_earliest(self) -> None:
        """Of the rows of one user and item keep the earliest, of those at one time the first in the file."""
        pair = pl.col("user").cast(pl.Int64) * len(self.rows) + pl.col("item")
        rows = self.rows
        if rows.select(pair.n_unique()).item() < len(rows):  # most files have no repeats
            first = rows.sort("timestamp", maintain_order=True).unique(["user", "item"], keep="first")
            rows = first.sort("row")
        self._replace("repeated user and item", rows)

    def keep_core(self, k: int) -> None:
        """Keep the k-core."""
        mask = k_core(self.rows["user"].to_numpy(), self.rows["item"].to_numpy(), k)
        self.keep(f"outside the {k}-core of the reviews", pl.Series(mask))

    def count(self) -> None:
        """Add of_user and of_item: how many rows each row's user and item have now."""
        self.rows = self.rows.with_columns(
            pl.len().over("user").alias("of_user"), pl.len().over("item").alias("of_item")
        )

    def _replace(self, step: str, rows: pl.DataFrame) -> None:
        left = _counts(rows)
        self.dropped.append(Dropped(step, *(had - has for had, has in zip(self._left, left, strict=True))))
        if rows.is_empty():
            taken = "; ".join(f"{drop.step}: {drop.interactions}" for drop in self.dropped if drop.interactions)
            times = self.rows["timestamp"].to_numpy()
            raise DataError(
                f"{self.name}: no interactions are left. Dropped were: {taken}. Before the last of these steps "
                f"they ran from {format_time(times.min())} to {format_time(times.max())}; check that the dates, "
                "the item ids and the minimum fit the data"
            )
        self.rows, self._left = rows, left


def _counts(rows: pl.DataFrame) -> tuple[int, int, int]:
    """Interactions, users, items."""
    users, items = (int(np.count_nonzero(np.bincount(rows[column].to_numpy()))) for column in ("user", "item"))
    return len(rows), users, items
