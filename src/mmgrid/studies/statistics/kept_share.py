"""The kept share of a merge of two domains: its quality relative to each domain's own model, averaged over both.

The share is a function of α and is smoothed as in `curve`. Shapes: P values of α, S resamples.
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
    """The merges of two domains over one base, for P values of α.

    Attributes:
        base: the base, as the column `base` names it.
        alphas: float64[P], the weight of `first`, ascending.
        on_first, on_second: the users of each domain, ranked by its own model at t2 and then by the P merges in the
            order of `alphas`.
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
    """The α that keeps most, over all users, and the bounds of its 95 % interval."""
    fine = fine_places(sweep.alphas)
    weights = smoother(sweep.alphas, fine)
    kept = _kept(*(users.values(MAIN_METRIC).mean(axis=0)[None] for users in sweep.both))
    drawn = _kept(*_resampled(sweep, [users.values(MAIN_METRIC) for users in sweep.both]))
    low, high = np.quantile(_best(drawn, weights, fine), [0.025, 0.975])
    return float(_best(kept, weights, fine)[0]), float(low), float(high)


def _best(curves: np.ndarray, weights: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """float64[S]: the α at which each curve [S, P] is highest after smoothing; NaN for a curve with NaN."""
    smooth = np.einsum("sp,fp->sf", curves, weights)
    return np.where(np.isnan(smooth).any(axis=1), np.nan, fine[smooth.argmax(axis=1)])


def judged_share(sweep: PairSweep) -> tuple[float, np.ndarray]:
    """The crossfitted share in percent, and its resamples [S]: each half takes the best α of the other half.

    NaN if a single model finds nothing for one half.
    """
    fine = fine_places(sweep.alphas)
    weights = smoother(sweep.alphas, fine)
    values = [users.values(MAIN_METRIC) for users in sweep.both]
    halves = [users.first_half(sweep.seed) for users in sweep.both]
    judged = [np.empty((len(of), 2)) for of in values]  # single, merged
    for flip in (False, True):
        here = [half ^ flip for half in halves]
        others = [of[~mask] if (~mask).any() else of for of, mask in zip(values, here, strict=True)]
        best = _best(_kept(*(of.mean(axis=0)[None] for of in others)), weights, fine)[0]
        if np.isnan(best):  # a single model finds nothing for the other half: no share can be computed
            return np.nan, np.full(SAMPLES, np.nan)
        chosen = nearest(sweep.alphas, float(best))
        for of, mask, into in zip(values, here, judged, strict=True):
            into[mask] = of[mask][:, [0, chosen + 1]]
    value = _kept(*(of.mean(axis=0)[None] for of in judged))
    return float(value[0, 0]), _kept(*_resampled(sweep, judged))[:, 0]


def _resampled(sweep: PairSweep, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Resampled means for both domains; a domain is resampled in the same way for every base and pair."""
    domains = (sweep.first, sweep.second)
    seeds = (derive(sweep.seed, "studies", "users", domain) for domain in domains)
    return [resampled_means(of, seed=seed, samples=SAMPLES) for seed, of in zip(seeds, values, strict=True)]


def _kept(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[S, P]: the kept share in percent, from means [S, 1 + P] with the single model in the first column."""
    return PERCENT * (ratio(first[:, 1:], first[:, :1]) + ratio(second[:, 1:], second[:, :1])) / 2


def ratio(value: Any, single: Any) -> Any:
    """`value` / `single`; NaN where the single model finds nothing."""
    return value / np.where(single > 0, single, np.nan)


def two_sided(drawn: np.ndarray) -> float:
    """Two-sided p: twice the smaller share of resamples on one side of zero. Never 0; NaN if a resample is NaN."""
    if np.isnan(drawn).any():
        return np.nan
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(drawn) + 1))
