"""The share that a merge of two domains keeps: the mean over both of its quality over that of the domain's own model.

The share is a curve over α, smoothed as in `curve`. Shapes: B users of a domain, P values of α, F fine values of α,
S resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmgrid.evaluation import resampled_means
from mmgrid.seeds import derive
from mmgrid.studies.statistics.curve import fine_places, nearest, smoother
from mmgrid.studies.statistics.ranked import MAIN_METRIC, Ranked

PERCENT = 100.0
SAMPLES = 1000


@dataclass(frozen=True, eq=False)
class PairSweep:
    """Two domains merged over one base, α from 0 to 1.

    alphas: float64[P], the share of `first`.  on_first, on_second: each domain's users, ranked by `single` (its own
    model at t2) and then by the P merges, in the order of `alphas`.
    """

    paradigm: str
    seed: int
    first: str
    second: str
    base: str
    alphas: np.ndarray
    on_first: Ranked
    on_second: Ranked

    @property
    def both(self) -> tuple[Ranked, Ranked]:
        return self.on_first, self.on_second

    @property
    def pair(self) -> tuple[str, int, str, str]:
        return self.paradigm, self.seed, self.first, self.second


def best_alpha(sweep: PairSweep) -> tuple[float, float, float]:
    """The α that keeps most on all users, and its interval."""
    fine = fine_places(sweep.alphas)
    weights = smoother(sweep.alphas, fine)
    kept = _kept(*(users.values(MAIN_METRIC).mean(axis=0)[None] for users in sweep.both))
    drawn = _kept(*_resampled(sweep, [users.values(MAIN_METRIC) for users in sweep.both]))
    low, high = np.quantile(_best(drawn, weights, fine), [0.025, 0.975])
    return float(_best(kept, weights, fine)[0]), float(low), float(high)


def _best(curves: np.ndarray, weights: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """float64[S]: where each of the curves [S, P] is highest once smoothed; NaN where it is not known."""
    smooth = np.einsum("sp,fp->sf", curves, weights)
    return np.where(np.isnan(smooth).any(axis=1), np.nan, fine[smooth.argmax(axis=1)])


def judged_share(sweep: PairSweep) -> tuple[float, np.ndarray]:
    """What is kept by an α that the other half of the users chose, percent; and its resamples [S]."""
    fine = fine_places(sweep.alphas)
    weights = smoother(sweep.alphas, fine)
    values = [users.values(MAIN_METRIC) for users in sweep.both]
    halves = [users.first_half(sweep.seed) for users in sweep.both]
    judged = [np.empty((len(of), 2)) for of in values]  # single, merged
    for flip in (False, True):
        here = [half ^ flip for half in halves]
        others = [of[~mask] if (~mask).any() else of for of, mask in zip(values, here, strict=True)]
        best = _best(_kept(*(of.mean(axis=0)[None] for of in others)), weights, fine)[0]
        if np.isnan(best):  # the others' single models are no measure: they find nothing
            return np.nan, np.full(SAMPLES, np.nan)
        chosen = nearest(sweep.alphas, float(best))
        for of, mask, into in zip(values, here, judged, strict=True):
            into[mask] = of[mask][:, [0, chosen + 1]]
    value = _kept(*(of.mean(axis=0)[None] for of in judged))
    return float(value[0, 0]), _kept(*_resampled(sweep, judged))[:, 0]


def _resampled(sweep: PairSweep, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Resampled means of both domains: a domain's are the same for every base and pair it takes part in."""
    domains = (sweep.first, sweep.second)
    seeds = (derive(sweep.seed, "studies", "users", domain) for domain in domains)
    return [resampled_means(of, seed=seed, samples=SAMPLES) for seed, of in zip(seeds, values, strict=True)]


def _kept(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[S, P] percent, from means [S, 1 + P] whose first column is the single model's."""
    return PERCENT * (ratio(first[:, 1:], first[:, :1]) + ratio(second[:, 1:], second[:, :1])) / 2


def ratio(value: Any, single: Any) -> Any:
    """NaN where the single model finds nothing."""
    return value / np.where(single > 0, single, np.nan)


def two_sided(drawn: np.ndarray) -> float:
    """Twice the smaller share of resamples on either side of zero; never 0, and NaN if one is not known."""
    if np.isnan(drawn).any():
        return np.nan
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(drawn) + 1))
