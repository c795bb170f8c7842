"""Statistics of a prepared domain: Table 1 of the paper, and the data columns of its Table 4."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from mmgrid.data.calendar import DAY_MS, Calendar
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import NoTestUsersError
from mmgrid.data.held_out import held_out_users


@dataclass(frozen=True)
class Statistics:
    """Statistics of one domain.

    users: with an interaction. items: the catalogue. test_items: items with an interaction in the test phase.
    interactions: of each phase. test_users = active + non_active; active users have an interaction in phase2.
    active_ratio: active / test_users, None without test users.
    gap_days: time since the item's first interaction in the prepared data, mean over all training interactions
    (before t2); None without training interactions.

    The paper's `# Users` in Table 1 is `test_users`, and its `# Items` most likely `test_items`.
    """

    domain: str
    users: int
    items: int
    test_items: int
    interactions: dict[str, int]
    test_users: int
    active: int
    non_active: int
    active_ratio: float | None
    gap_days: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def statistics(corpus: Corpus, calendar: Calendar) -> Statistics:
    """The statistics of a prepared domain. A domain without test users is not an error."""
    times = corpus.timestamps
    in_phase = {phase.name: (times >= phase.start) & (times < phase.end) for phase in calendar.phases}
    try:
        active = held_out_users(corpus, calendar).active
    except NoTestUsersError:
        active = np.zeros(0, np.bool_)
    n_active = int(active.sum())
    return Statistics(
        domain=corpus.name,
        users=corpus.n_users,
        items=len(corpus.catalogue),
        test_items=len(np.unique(corpus.items[in_phase["test"]])),
        interactions={name: int(mask.sum()) for name, mask in in_phase.items()},
        test_users=len(active),
        active=n_active,
        non_active=len(active) - n_active,
        active_ratio=n_active / len(active) if len(active) else None,
        gap_days=mean_gap_days(corpus.before(calendar.t2)),
    )


def mean_gap_days(corpus: Corpus) -> float | None:
    """Mean over all interactions of the item's age, in days since its first interaction; None without interactions."""
    if not len(corpus):
        return None
    first = np.full(len(corpus.catalogue), np.iinfo(np.int64).max)
    np.minimum.at(first, corpus.items, corpus.timestamps)
    return float((corpus.timestamps - first[corpus.items]).mean() / DAY_MS)


def interactions_by_month(corpus: Corpus) -> pl.DataFrame:
    """A table with month (date of its first day) and interactions (int64), for every month from first to last, UTC."""
    months = corpus.timestamps.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    low = int(months.min()) if len(months) else 0
    counts = np.bincount(months - low)
    first_days = (low + np.arange(len(counts))).astype("datetime64[M]").astype("datetime64[D]")
    return pl.DataFrame({"month": first_days, "interactions": counts.astype(np.int64)})
