"""The Pareto front of trials over domains, and the trial that serves every domain best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmgrid.grid.search.trials import Trial


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other one beats: at least as good in every domain, and better in one.

    Trials of which there is no merge are left out.
    """
    kept: list[Trial] = []
    trials = [one for one in trials if not one.problem]
    for one in trials:
        beaten = any(
            all(other.quality[domain] >= value for domain, value in one.quality.items())
            and any(other.quality[domain] > value for domain, value in one.quality.items())
            for other in trials
        )
        twin = any(other.quality == one.quality for other in kept)
        if not beaten and not twin:
            kept.append(one)
    return kept


def shares(quality: Mapping[str, float], own: Mapping[str, float]) -> dict[str, float]:
    """What each domain keeps of the quality of its own model; a domain whose model finds nothing keeps all of it."""
    return {domain: value / own[domain] if own[domain] > 0 else 1.0 for domain, value in quality.items()}


def best(trials: Sequence[Trial], own: Mapping[str, float]) -> Trial:
    """The trial whose least share kept is largest; of equals the one with the larger mean, then the earlier one."""

    def rank(trial: Trial) -> tuple[float, float, int]:
        kept = list(shares(trial.quality, own).values())
        return min(kept), sum(kept) / len(kept), -trial.number

    return max(trials, key=rank)
