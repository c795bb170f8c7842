"""Synthetic sweeps with a known optimum: the share of hits falls with the distance of λ or α from it."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from mmgrid.evaluation import NOT_RANKED
from mmgrid.studies.sweep import Sweep

SCALES = tuple(round(-0.5 + 0.25 * place, 2) for place in range(11))  # -0.5 to 2


def frame(ranks: Sequence[int] | np.ndarray, active: np.ndarray | None = None) -> pl.DataFrame:
    """A table of the ranks of users u0000, u0001, …; by default every second user is active."""
    n = len(ranks)
    who = np.arange(n) % 2 == 0 if active is None else active
    users = {"user_id": [f"u{row:04d}" for row in range(n)], "target": np.arange(n, dtype=np.int64)}
    return pl.DataFrame(users | {"active": who, "rank": np.asarray(ranks, np.int64)})


def hits(share: float | np.ndarray, n: int) -> np.ndarray:
    """Ranks int64 [n]: 0 for this share of the users, a miss for the others. A larger share only adds hits.

    Both halves of the users, and active and other users, get the same share of hits.
    """
    threshold = ((np.arange(n) * 0.6180339887498949) % 1.0 + 0.5 / n) % 1.0  # evenly spaced, in scattered order
    return np.where(threshold < share, 0, NOT_RANKED)


def parabola(at: float, best: float | np.ndarray, top: float = 0.6, steep: float = 0.12) -> float | np.ndarray:
    """The share of users that are hits."""
    return np.clip(top - steep * (at - best) ** 2, 0.0, 1.0)


def temporal_sweep(
    domain: str,
    active_best: float,
    non_active_best: float,
    *,
    n: int = 600,
    active: np.ndarray | None = None,
    paradigm: str = "semb",
    seed: int = 0,
    scales: Sequence[float] = SCALES,
    steep: float = 0.12,
) -> Sweep:
    """A sweep in which the active users have their optimum at one λ, and the other users at another."""
    who = np.arange(n) % 2 == 0 if active is None else active
    points = {
        scale: frame(hits(parabola(scale, np.where(who, active_best, non_active_best), steep=steep), n), who)
        for scale in scales
    }
    return Sweep.of(paradigm, domain, seed, points)


def statistics(gap_days: float | None, active_ratio: float = 0.5, before: float | None = 0.4) -> Mapping[str, object]:
    """The statistics of a corpus that the studies read."""
    return {
        "test_users": 600,
        "active": 300,
        "non_active": 300,
        "active_ratio": active_ratio,
        "gap_days": gap_days,
        "active_ratio_before": before,
    }


def schemas_hold(tables: Mapping[str, pl.DataFrame], declared: Mapping[str, pl.Schema]) -> None:
    """Checks that exactly the declared tables exist, with the declared columns and types."""
    assert tables.keys() == declared.keys()
    for name, table in tables.items():
        assert table.schema == declared[name], name
