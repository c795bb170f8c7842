"""Merges of N domains: what each domain keeps of its own model, how that falls with N, and what predicts it.

A set is a group of domains whose models are merged into one, which is evaluated on each of them. All intervals resample
the users of each domain in the same way for every set, and the draws of random masks in the same way for every merge.
Shapes: B users, D draws, S resamples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgrid.evaluation import mean_over_draws, resampled_means
from mmgrid.seeds import derive, generator
from mmgrid.studies.statistics.findings import bounds
from mmgrid.studies.statistics.kept_share import PERCENT, ratio
from mmgrid.studies.statistics.permutation import labels_p, rank_correlation
from mmgrid.studies.statistics.ranked import METRICS, Ranked

SAMPLES = 1000
LEAST_DOMAINS = 4  # with fewer, a correlation over their merges means nothing
MERGED, SINGLE = "merged", "single"
Floats = npt.NDArray[np.float64]
Measure = Mapping[tuple[str, str], float]  # (domain, other domain) → a number


def chosen_sets(
    domains: Sequence[str], size: int, given: Sequence[Sequence[str]] | None = None
) -> list[tuple[str, ...]]:
    """The sets of a size: those that are given, else all pairs, else all sets if they are no more than the domains.

    Of more sets, as many as there are domains are chosen, each of domains in a row, from the last to the first again:
    every domain is in equally many.
    """
    names = sorted(domains)
    told = [tuple(sorted(one)) for one in given or () if len(one) == size]
    if told:
        return told
    if size == 2 or math.comb(len(names), size) <= len(names):
        return list(combinations(names, size))
    return sorted(tuple(sorted((names * 2)[start : start + size])) for start in range(len(names)))


@dataclass(frozen=True, eq=False)
class MergedSet:
    """The merge of a set of domains, evaluated on one of them.

    ranked: the users of `domain`, ranked by the models `single` and `merged`, the latter with D draws.
    """

    paradigm: str
    seed: int
    way: str
    domains: tuple[str, ...]
    domain: str
    ranked: Ranked

    @property
    def name(self) -> str:
        return "+".join(self.domains)

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(domain for domain in self.domains if domain != self.domain)

    def kept(self, metric: str) -> tuple[float, float, float]:
        """Single and merged model in percent, and the kept share in percent."""
        single, merged = mean_over_draws(self.ranked.draws(metric, (SINGLE, MERGED)))
        return PERCENT * float(single), PERCENT * float(merged), PERCENT * float(ratio(merged, single))

    def resampled(self, metric: str) -> Floats:
        """float64[S]: the kept share in percent."""
        return self._resampled[metric]

    @cached_property
    def _resampled(self) -> dict[str, Floats]:
        """Metric → resampled shares; all metrics at once, since drawing the users takes most of the time."""
        both = [self.ranked.draws(metric, (SINGLE, MERGED)) for metric in METRICS]
        means = resampled_means(
            np.concatenate(both, axis=1),
            seed=derive(self.seed, "studies", "users", self.domain),
            samples=SAMPLES,
            draws_seed=derive(self.seed, "studies", "draws"),
        )
        return {
            metric: PERCENT * ratio(means[:, 2 * place + 1], means[:, 2 * place])
            for place, metric in enumerate(METRICS)
        }


@dataclass(frozen=True, eq=False)
class SizeShares:
    """What merges of one size keep: the mean over domains and sets, and the smallest share of a set, over sets.

    Each with its resamples, float64[S].
    """

    size: int
    sets: int
    mean: tuple[float, Floats]
    least: tuple[float, Floats]


def by_size(merges: Sequence[MergedSet], metric: str) -> list[SizeShares]:
    """The kept shares of merges of one way, for each size, in ascending order."""
    found = []
    for size in sorted({len(merge.domains) for merge in merges}):
        own: dict[str, list[MergedSet]] = {}
        for merge in merges:
            if len(merge.domains) == size:
                own.setdefault(merge.name, []).append(merge)
        values = [np.array([merge.kept(metric)[2] for merge in group]) for group in own.values()]
        drawn = [np.stack([merge.resampled(metric) for merge in group]) for group in own.values()]
        found.append(
            SizeShares(
                size,
                len(own),
                (float(np.concatenate(values).mean()), np.concatenate(drawn).mean(axis=0)),
                (float(np.mean([of.min() for of in values])), np.mean([of.min(axis=0) for of in drawn], axis=0)),
            )
        )
    return found


def predicted_by(merges: Sequence[MergedSet], metric: str, measure: Measure) -> dict[str, Any] | None:
    """How well a measure of two domains orders the kept shares of their merges; None with fewer than four domains.

    Of a set, the measure is the mean over the evaluated domain's partners. Spearman's ρ is computed within the merges of
    each size and averaged, weighted by their numbers, so that the size itself does not count. p comes from exchanging
    the names of the domains (Mantel's test), the interval from resampling the evaluated domains with all their merges.

    Returns:
        The columns `value`, `low`, `high`, `p` and `n` (merges).
    """
    domains = sorted({merge.domain for merge in merges})
    if len(domains) < LEAST_DOMAINS or not all(
        (one, other) in measure for one in domains for other in domains if one != other
    ):
        return None
    kept = np.array([merge.kept(metric)[2] for merge in merges])
    sizes = np.array([len(merge.domains) for merge in merges])

    def measured(names: Mapping[str, str]) -> Floats:
        return np.array([np.mean([measure[names[m.domain], names[o]] for o in m.others]) for m in merges], np.float64)

    observed = measured({name: name for name in domains})
    p = labels_p(domains, lambda names: _within(measured(names), kept, sizes))
    draw, values = generator(0, "studies", "domains"), []
    rows = {domain: [place for place, merge in enumerate(merges) if merge.domain == domain] for domain in domains}
    for _ in range(SAMPLES):
        chosen = [row for place in draw.integers(len(domains), size=len(domains)) for row in rows[domains[place]]]
        values.append(_within(observed[chosen], kept[chosen], sizes[chosen]))
    low, high = bounds(np.array(values))
    return {"value": _within(observed, kept, sizes), "low": low, "high": high, "p": p, "n": len(merges)}


def _within(x: Floats, y: Floats, sizes: npt.NDArray[np.int64]) -> float:
    """Spearman's ρ within each size, averaged with the numbers of merges as weights; NaN if no size has one."""
    found = [(rank_correlation(x[sizes == size], y[sizes == size]), (sizes == size).sum()) for size in np.unique(sizes)]
    known = [(value, weight) for value, weight in found if not math.isnan(value)]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else math.nan
