"""A domain month by month, in UTC: how much happens, how many take part, and how much of it is new.

Also how alike the titles of two domains are, and how old items are when they are chosen.
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.calendar import DAY_MS
from mmgrid.data.corpus import Corpus

GAP_DAYS = (1, 7, 30, 90, 365, 1095)
"""Where the classes of gaps end, in days."""


def by_month(corpus: Corpus) -> pl.DataFrame:
    """One row for each month from the first to the last: month (date of its first day), interactions, users and items
    (int64, those with an interaction), new_items (0 to 1: the share of its items that have none before; null without
    items).
    """
    months = _months(corpus)
    low = int(months.min()) if len(months) else 0
    count = int(months.max()) - low + 1 if len(months) else 0
    first = np.full(len(corpus.catalogue), np.iinfo(np.int64).max)
    np.minimum.at(first, corpus.items, months)
    items = _distinct(months - low, corpus.items, count)
    new = np.bincount(first[first < np.iinfo(np.int64).max] - low, minlength=count)
    share = np.divide(new, items, out=np.full(count, np.nan), where=items > 0)
    return pl.DataFrame(
        {
            "month": (low + np.arange(count)).astype("datetime64[M]").astype("datetime64[D]"),
            "interactions": np.bincount(months - low, minlength=count).astype(np.int64),
            "users": _distinct(months - low, corpus.users, count),
            "items": items,
            "new_items": pl.Series(share, nan_to_null=True),
        },
        schema_overrides={"month": pl.Date},
    )


def gaps(corpus: Corpus) -> npt.NDArray[np.float64]:
    """float64 [len(GAP_DAYS) + 1]: the share (0 to 1) of the interactions whose item had its first one less than so many
    days before, in classes; the last class is all later ones. All 0 without interactions.
    """
    first = np.full(len(corpus.catalogue), np.iinfo(np.int64).max)
    np.minimum.at(first, corpus.items, corpus.timestamps)
    days = (corpus.timestamps - first[corpus.items]) / DAY_MS
    counts = np.bincount(np.searchsorted(GAP_DAYS, days, side="right"), minlength=len(GAP_DAYS) + 1)
    return counts / max(len(corpus), 1)


def gap_names() -> list[str]:
    """The names of the classes of `gaps`."""
    return [f"{low}–{high} d" for low, high in zip((0, *GAP_DAYS), GAP_DAYS, strict=False)] + [
        f"{GAP_DAYS[-1]} d or more"
    ]


def shared_titles(corpora: dict[str, Corpus]) -> pl.DataFrame:
    """One row for each pair of domains: domain, other, shared (distinct titles of both, without regard to case), of_domain
    and of_other (0 to 1: their shares of each one's distinct titles).
    """
    titles = {name: {title.casefold() for title in corpus.catalogue.titles} for name, corpus in corpora.items()}
    rows = []
    for one, other in combinations(sorted(titles), 2):
        shared = len(titles[one] & titles[other])
        rows.append((one, other, shared, shared / max(len(titles[one]), 1), shared / max(len(titles[other]), 1)))
    schema = {
        "domain": pl.String,
        "other": pl.String,
        "shared": pl.Int64,
        "of_domain": pl.Float64,
        "of_other": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _months(corpus: Corpus) -> npt.NDArray[np.int64]:
    """int64 [n]: the month of each interaction, counted from 1970."""
    return corpus.timestamps.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)


def _distinct(months: npt.NDArray[np.int64], rows: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    """int64 [count]: the number of distinct rows in each month."""
    pairs = np.unique(months.astype(np.int64) << 32 | rows.astype(np.int64))
    return np.bincount(pairs >> 32, minlength=count).astype(np.int64)
