"""Proposes the next numbers with Optuna: TPE over all domains' qualities at once (Ozaki et al. 2020).

The sampler is made anew for each trial from the trials so far and the trial's own seed, so a search that was stopped
and goes on proposes the same numbers as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmgrid.grid.search.errors import SearchError
from mmgrid.grid.search.ranges import Range
from mmgrid.grid.search.trials import Trial
from mmgrid.seeds import derive

RANDOM_TRIALS = 10  # before the sampler learns from the earlier ones


def propose(ranges: Sequence[Range], trials: Sequence[Trial], domains: Sequence[str], seed: int) -> dict[str, float]:
    """The numbers of the next trial, by key.

    Raises:
        SearchError: Optuna is not installed.
    """
    optuna = _optuna()
    distributions = {one.key: _distribution(one) for one in ranges}
    sampler = optuna.samplers.TPESampler(
        seed=derive(seed, "search", len(trials)) % 2**32, multivariate=True, n_startup_trials=RANDOM_TRIALS
    )
    study = optuna.create_study(directions=["maximize"] * len(domains), sampler=sampler)
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params={one.key: _inside(one, trial.values[one.key]) for one in ranges},
                distributions=distributions,
                values=None if trial.problem else [trial.quality[domain] for domain in domains],
                state=optuna.trial.TrialState.FAIL if trial.problem else optuna.trial.TrialState.COMPLETE,
            )
        )
    asked = study.ask(distributions)
    return {one.key: one.value(asked.params[one.key]) for one in ranges}


def _distribution(one: Range) -> Any:
    optuna = _optuna()
    if one.whole:
        return optuna.distributions.IntDistribution(int(one.low), int(one.high))
    return optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)


def _inside(one: Range, value: float) -> float:
    """A value within the range: rounding to six digits may have left it."""
    inside = min(max(value, one.low), one.high)
    return int(inside) if one.whole else inside


def _optuna() -> Any:
    import warnings

    try:
        import optuna
    except ImportError:
        raise SearchError("a search needs Optuna: pip install 'mmgrid[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
