"""What a merge of two domains keeps of each domain's own model, as a function of α: smoothed, chosen, and judged.

The kept share of a merge is the smaller of its two: a merge that gives one domain up serves nobody. Beside it stand the
mean of both, and the area below the curve of both shares, for which no α has to be chosen.
Shapes: P values of α, F fine ones, S resamples, B users, D draws of random masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgrid.evaluation import mean_over_draws, resampled_means
from mmgrid.seeds import derive
from mmgrid.studies.statistics.curve import fine_places, nearest, smoother
from mmgrid.studies.statistics.ranked import MAIN_METRIC, Ranked

PERCENT = 100.0
SAMPLES = 1000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairSweep:
    """The merges of two domains over one base, for P values of α.

    Attributes:
        base: the base, as the column `base` names it.
        alphas: float64[P], the weight of `first`, ascending.
        on_first, on_second: the users of each domain, ranked by its own model at t2 and then by the P merges in the
            order of `alphas`; each merge with D draws of its random masks.
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

    def resampled(self, values: Sequence[Floats]) -> Floats:
        """float64[2, S, M]: resampled means of float64[B, M, D] for each domain.

        A domain is resampled in the same way for every base and pair, and so are the draws of all merges.
        """
        draws = derive(self.seed, "studies", "draws")
        return np.stack(
            [
                resampled_means(
                    of, seed=derive(self.seed, "studies", "users", domain), samples=SAMPLES, draws_seed=draws
                )
                for domain, of in zip((self.first, self.second), values, strict=True)
            ]
        )


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number, and its resamples, float64[S]."""

    value: float
    drawn: Floats

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95 % interval; NaN if a resample is NaN."""
        low, high = np.quantile(self.drawn, [0.025, 0.975])
        return float(low), float(high)

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.drawn - other.drawn)


@dataclass(frozen=True, eq=False)
class Judged:
    """The kept shares at an α that was chosen on other users, in percent: the smaller one, and the mean of both."""

    least: Estimate
    mean: Estimate


def best_alpha(sweep: PairSweep) -> tuple[float, float, float]:
    """The α at which the smaller share is largest, over all users, and the bounds of its 95 % interval."""
    fine = fine_places(sweep.alphas)
    values = [users.draws(MAIN_METRIC) for users in sweep.both]
    observed = _best(_smooth(shares(_means(values)), sweep.alphas, fine), fine)
    drawn = _best(_smooth(shares(sweep.resampled(values)), sweep.alphas, fine), fine)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(observed[0]), float(low), float(high)


def judged_shares(sweep: PairSweep) -> Judged:
    """The crossfitted shares: each half of the users takes the best α of the other half.

    NaN if a single model finds nothing for one half.
    """
    fine = fine_places(sweep.alphas)
    values = [users.draws(MAIN_METRIC) for users in sweep.both]
    halves = [users.first_half(sweep.seed) for users in sweep.both]
    judged = [np.empty((len(of), 2, of.shape[2])) for of in values]  # single, merged
    for flip in (False, True):
        here = [half ^ flip for half in halves]
        others = [of[~mask] if (~mask).any() else of for of, mask in zip(values, here, strict=True)]
        best = _best(_smooth(shares(_means(others)), sweep.alphas, fine), fine)[0]
        if np.isnan(best):  # a single model finds nothing for the other half: no share can be computed
            unknown = Estimate(np.nan, np.full(SAMPLES, np.nan))
            return Judged(unknown, unknown)
        chosen = nearest(sweep.alphas, float(best))
        for of, mask, into in zip(values, here, judged, strict=True):
            into[mask] = of[mask][:, [0, chosen + 1]]
    observed, drawn = shares(_means(judged))[:, :, 0], shares(sweep.resampled(judged))[:, :, 0]
    return Judged(
        Estimate(float(observed.min(axis=0)[0]), drawn.min(axis=0)),
        Estimate(float(observed.mean(axis=0)[0]), drawn.mean(axis=0)),
    )


def pareto_area(sweep: PairSweep) -> Estimate:
    """The area below the smoothed curve of both shares, in percent of the square in which both domains keep 100 %.

    It is the area of all pairs of shares that some α reaches or exceeds. A merge that serves one domain or the other,
    but never both, has next to none.
    """
    fine = fine_places(sweep.alphas)
    values = [users.draws(MAIN_METRIC) for users in sweep.both]
    observed, drawn = (
        _area(_smooth(shares(means), sweep.alphas, fine)) for means in (_means(values), sweep.resampled(values))
    )
    return Estimate(float(observed[0]), drawn)


def _area(curves: Floats) -> Floats:
    """float64[S]: the area below curves [2, S, F] in percent of 100 × 100; NaN for a curve with NaN."""
    x, y = np.clip(curves, 0, None)
    order = np.argsort(-x, axis=1, kind="stable")
    x, y = np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1)
    width = x - np.concatenate([x[:, 1:], np.zeros((len(x), 1))], axis=1)
    return (width * np.maximum.accumulate(y, axis=1)).sum(axis=1) / PERCENT


def _means(values: Sequence[Floats]) -> Floats:
    """float64[2, 1, M]: the means of each domain over users and draws."""
    return np.stack([mean_over_draws(of)[None] for of in values])


def shares(means: Floats) -> Floats:
    """float64[2, S, P]: each domain's share in percent, from means [2, S, 1 + P] with the single model first."""
    return PERCENT * ratio(means[:, :, 1:], means[:, :, :1])


def _smooth(curves: Floats, alphas: Floats, fine: Floats) -> Floats:
    """float64[2, S, F]: the smoothed shares."""
    return np.einsum("dsp,fp->dsf", curves, smoother(alphas, fine))


def _best(curves: Floats, fine: Floats) -> Floats:
    """float64[S]: the α at which the smaller of the shares [2, S, F] is largest; NaN if a share is."""
    least = curves.min(axis=0)
    return np.where(np.isnan(least).any(axis=1), np.nan, fine[least.argmax(axis=1)])


def ratio(value: Any, single: Any) -> Any:
    """`value` / `single`; NaN where the single model finds nothing."""
    return value / np.where(single > 0, single, np.nan)


def two_sided(drawn: np.ndarray) -> float:
    """Two-sided p: twice the smaller share of resamples on one side of zero. Never 0; NaN if a resample is NaN."""
    if np.isnan(drawn).any():
        return np.nan
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(drawn) + 1))
