"""From raw tables to a corpus: filters interactions in a fixed order of steps, on which the result depends.

The minimum of interactions is counted over the whole file, before the calendar cuts it, as in the paper (arXiv
2601.15930); after the cut, each user needs enough rows within the calendar. Each step counts what it drops, so that
unexpected results can be explained.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
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

_CORE = 5  # the published files that the paper starts from are 5-cores


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
    titled = raw.items.filter(pl.col("title") != "")
    if titled.is_empty():
        raise DataError(
            f"{raw.name}: none of its {len(raw.items)} items has a title; recommenders read item texts, so add titles"
        )
    steps = _Steps(raw, titled)
    steps.keep_earliest()
    if raw.unfiltered:
        steps.keep_core(min(_CORE, min_interactions))
    steps.keep("item unknown", pl.col("known"))
    steps.keep("item without a title", pl.col("titled"))
    steps.count()
    for step, kept in _filters(start, end, min_interactions, compat):
        steps.keep(step, kept)
    if max_items is not None:
        steps.keep_most(max_items)
        steps.keep(*_enough_left(min_interactions))
    interactions = raw.interactions[steps.rows["row"]]
    items = titled.join(interactions, on="item_id", how="semi")
    corpus = Corpus.from_tables(raw.name, interactions, items)
    return Preparation(corpus, tuple(steps.dropped), len(raw.items) - len(titled), raw.repairs)


def k_core(users: npt.NDArray[np.integer], items: npt.NDArray[np.integer], k: int) -> npt.NDArray[np.bool_]:
    """bool[n]: the k-core, the largest subset of interactions in which each user and item has at least k.

    Args:
        users, items: int[n], numbers from 0.
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
    """Name and condition of each of the last steps, in order."""
    since = [] if start is None else [(f"before {format_time(start)}", pl.col("timestamp") >= start)]
    until = [] if end is None else [(f"at or after {format_time(end)}", pl.col("timestamp") < end)]
    counted = (pl.col("of_user") >= min_interactions) & (pl.col("of_item") >= min_interactions)
    frequent = [
        (f"user or item with fewer than {min_interactions} in the whole file", counted),
        _enough_left(min_interactions),
    ]
    return since + frequent + until if compat == "official" else since + until + frequent


def _enough_left(min_interactions: int) -> tuple[str, pl.Expr]:
    return f"user with fewer than {min_interactions} left", pl.len().over("user") >= min_interactions


class _Steps:
    """The remaining rows, and what each step dropped.

    rows: row (position in the file), user and item (as numbers), timestamp, known (whether the item has a row) and
    titled (whether it has a title).
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
        """Keep the rows for which `kept` is true."""
        self._replace(step, self.rows.filter(kept))

    def keep_earliest(self) -> None:
        """Keep the earliest row of each user and item; among equal times, the first in the file."""
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

    def keep_most(self, items: int) -> None:
        """Keep the rows of so many items: those with most rows; among equals, the first in the file."""
        of_item = self.rows.group_by("item").agg(pl.len().alias("rows"), pl.col("row").min())
        most = of_item.sort("rows", "row", descending=[True, False])["item"].head(items)
        self.keep(f"item beyond the {items} with most interactions", pl.col("item").is_in(most.implode()))

    def count(self) -> None:
        """Add the columns of_user and of_item: the present number of rows of each row's user and item."""
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
                f"{self.name}: no interactions are left. Dropped: {taken}. Before the last of these steps "
                f"they ran from {format_time(times.min())} to {format_time(times.max())}; check that the dates, "
                "the item ids and the minimum fit the data"
            )
        self.rows, self._left = rows, left


def _counts(rows: pl.DataFrame) -> tuple[int, int, int]:
    """The numbers of interactions, users and items."""
    users, items = (int(np.count_nonzero(np.bincount(rows[column].to_numpy()))) for column in ("user", "item"))
    return len(rows), users, items
