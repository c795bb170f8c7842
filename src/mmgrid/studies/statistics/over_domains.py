"""A mean over domains, each with its own users, and its interval: users are resampled within each domain."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgrid.evaluation import mean_over_draws, resampled_means
from mmgrid.seeds import derive
from mmgrid.studies.statistics.findings import bounds, verdict
from mmgrid.studies.statistics.kept_share import two_sided

SAMPLES = 1000
Means = npt.NDArray[np.float64]


def mean_of(means: Means) -> Means:
    """float64[S]: the only column."""
    return means[:, 0]


def judged_mean(
    values: Mapping[tuple[str, ...], npt.NDArray[np.float64]], seed: int, statistic: Callable[[Means], Means] = mean_of
) -> dict[str, Any]:
    """The mean of a statistic over domains (or pairs of them), for the claim that it is positive.

    Args:
        values: (domain, …) → float64[B], [B, M] or [B, M, D], one row per user of the domain. The users of a domain are
            resampled in the same way in all its entries, and the draws in the same way in all entries.
        seed: of the run.
        statistic: from the means of the M columns, float64[S, M], to float64[S].

    Returns:
        The columns `value`, `low`, `high`, `p`, `n` (the entries) and `verdict` of a finding.
    """
    found = [float(statistic(mean_over_draws(table)[None])[0]) for table in values.values()]
    draws = derive(seed, "studies", "draws")
    drawn = np.mean(
        [
            statistic(
                resampled_means(table, seed=derive(seed, "studies", "users", key[0]), samples=SAMPLES, draws_seed=draws)
            )
            for key, table in values.items()
        ],
        axis=0,
    )
    (low, high), p = bounds(drawn), two_sided(drawn)
    judged = verdict(low, high, "positive", p)
    return {"value": float(np.mean(found)), "low": low, "high": high, "p": p, "n": len(found), "verdict": judged}
