"""What predicts the best λ of a domain that is left out: recency, ridge over several facts, or the nearest domains?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from mmgrid.evaluation import bootstrap_interval, paired_difference
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.scale_case import FEATURES, Case
from mmgrid.studies.scale_folds import PREDICTORS, Fold, predicted, used_features
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA, verdict

PERCENT = 100.0
LEAST_DOMAINS = 6  # to judge a predictor; the signs of five differences all agree by chance in 2 of 32 cases
CLAIMED = {
    "recency": "a line over the mean age of items",
    "ridge": "ridge over all facts",
    "nearest": "the nearest domains",
}

FACTS_SCHEMA = pl.Schema(
    texts("paradigm", "window", "domain", "group")
    | numbers(*FEATURES, "best", "best_low", "best_high")
    | {"at_edge": pl.Boolean}
    | counts("n_users", "seed")
)
"""One row per domain and window, which is named by the end of training. The facts are
`mmgrid.studies.scale_case.FEATURES`; `best` is λ* with its bootstrap interval over users, `at_edge` as in the temporal
study."""

PREDICTIONS_SCHEMA = pl.Schema(
    texts("paradigm", "fold", "predictor", "window", "domain")
    | numbers("predicted", "best", "error", "regret", "regret_low", "regret_high", "gain", "gain_low", "gain_high")
    | counts("n_cases", "n_users", "seed")
)
"""One row per fold (leave out the `domain` in all windows, or the `window` with all domains), predictor and case.

`predicted` is λ from the `n_cases` other cases, held within the range of the sweep, `error` = |predicted − best|.
`regret` is the smoothed NDCG@20 at λ* minus that at `predicted`, and `gain` that at `predicted` minus that at λ = 1, in
percentage points with bootstrap intervals over users that take both λ as given. λ* is chosen on these users, so regret
is too large, by the same amount for every predictor; gain is not.
"""

PREDICTORS_SCHEMA = pl.Schema(
    texts("paradigm", "fold", "predictor", "features")
    | numbers(
        "error", "error_low", "error_high", "regret", "regret_low", "regret_high", "gain", "gain_low", "gain_high"
    )
    | numbers("advantage", "advantage_low", "advantage_high", "p")
    | counts("n_domains", "n_windows", "seed")
)
"""One row per fold and predictor: means over domains, each the mean of its windows, with intervals over domains.

`advantage` is the mean error of the mean of the other cases' λ*, minus the error of this predictor; its interval and p
(sign flips) are over domains, so few domains decide nothing. `features` are the facts that ridge and nearest use.
"""

TABLES = {
    "facts": FACTS_SCHEMA,
    "predictions": PREDICTIONS_SCHEMA,
    "predictors": PREDICTORS_SCHEMA,
    "findings": FINDINGS_SCHEMA,
}


def answer(cases: Iterable[Case]) -> dict[str, pl.DataFrame]:
    """The tables of this question, from the domains of one window or of several.

    Raises:
        ValueError: a domain is there twice in a window.
    """
    facts, predictions, predictors, findings = [], [], [], []
    for about, own in _runs(cases):
        facts += [about | _fact_row(case) for case in own]
        for fold in _folds(own):
            rows = [row for found in predicted(own, fold) for row in _prediction_rows(*found)]
            predictions += [about | {"fold": fold} | row for row in rows]
            judged = [row for name in PREDICTORS if (row := _predictor_row(name, rows, own, about["seed"]))]
            predictors += [about | {"fold": fold} | row for row in judged]
            if fold == "domain":
                findings += [about | found for row in judged if (found := _finding(row))]
    return {
        "facts": pl.DataFrame(facts, schema=FACTS_SCHEMA),
        "predictions": pl.DataFrame(predictions, schema=PREDICTIONS_SCHEMA),
        "predictors": pl.DataFrame(predictors, schema=PREDICTORS_SCHEMA),
        "findings": pl.DataFrame(findings, schema=FINDINGS_SCHEMA),
    }


def _runs(cases: Iterable[Case]) -> Iterator[tuple[dict[str, Any], list[Case]]]:
    """The cases of each paradigm and seed."""

    def run(case: Case) -> tuple[str, int]:
        return case.sweep.paradigm, case.sweep.seed

    for (paradigm, seed), group in groupby(sorted(cases, key=run), key=run):
        own = list(group)
        names = [(case.window, case.domain) for case in own]
        twice = sorted({f"{domain} ({window})" for window, domain in names if names.count((window, domain)) > 1})
        if twice:
            raise ValueError(
                f"{', '.join(twice)}: given twice. Each domain may be there once with the same end of training; "
                "leave a grid out, or give it other phases or other names of domains"
            )
        yield {"paradigm": paradigm, "seed": seed}, own


def _folds(cases: Sequence[Case]) -> tuple[Fold, ...]:
    return ("domain", "window") if len({case.window for case in cases}) > 1 else ("domain",)


def _fact_row(case: Case) -> dict[str, Any]:
    best = case.best
    places = {"best": best.place, "best_low": best.low, "best_high": best.high, "at_edge": best.at_edge}
    about = {"window": case.window, "domain": case.domain, "group": case.group, "n_users": len(case.users)}
    return about | {name: case.facts[name] for name in FEATURES} | places


def _prediction_rows(case: Case, n_cases: int, guesses: Mapping[str, float]) -> list[dict[str, Any]]:
    values = case.values_at([case.best.place, 1.0, *guesses.values()])
    best, one, at_guess = values[:, :1], values[:, 1:2], values[:, 2:]
    regret, gain = (
        bootstrap_interval(PERCENT * change, seed=case.sweep.seed) for change in (best - at_guess, at_guess - one)
    )
    return [
        {
            "predictor": name,
            "window": case.window,
            "domain": case.domain,
            "predicted": scale,
            "best": case.best.place,
            "error": abs(scale - case.best.place),
            "regret": regret.value[place],
            "regret_low": regret.low[place],
            "regret_high": regret.high[place],
            "gain": gain.value[place],
            "gain_low": gain.low[place],
            "gain_high": gain.high[place],
            "n_cases": n_cases,
            "n_users": len(case.users),
        }
        for place, (name, scale) in enumerate(guesses.items())
    ]


def _predictor_row(
    predictor: str, rows: Sequence[Mapping[str, Any]], cases: Sequence[Case], seed: int
) -> dict[str, Any] | None:
    own = _by_domain(rows, predictor)
    if not own:
        return None
    found: dict[str, Any] = {
        "predictor": predictor,
        "features": ", ".join(used_features(cases)) if predictor in ("ridge", "nearest") else "",
        "n_domains": len(own),
        "n_windows": len({case.window for case in cases}),
    }
    interval = bootstrap_interval(np.array(list(own.values())), seed=seed)
    for place, name in enumerate(("error", "regret", "gain")):
        bounds = {name: interval.value[place], f"{name}_low": interval.low[place], f"{name}_high": interval.high[place]}
        found |= bounds
    mean = _by_domain(rows, "mean")
    if predictor != "mean" and own.keys() == mean.keys():
        errors = (np.array([of[domain][0] for domain in own]) for of in (mean, own))
        change = paired_difference(*errors, seed=seed)
        found |= {
            "advantage": change.difference[0],
            "advantage_low": change.low[0],
            "advantage_high": change.high[0],
            "p": change.p_permutation[0],
        }
    return found


def _by_domain(rows: Sequence[Mapping[str, Any]], predictor: str) -> dict[str, np.ndarray]:
    """Domain → mean error, regret and gain of a predictor over its windows, float64[3]."""
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["predictor"] == predictor:
            found.setdefault(row["domain"], []).append([row["error"], row["regret"], row["gain"]])
    return {domain: np.mean(own, axis=0) for domain, own in found.items()}


def _finding(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whether a predictor errs less on left-out domains than the mean λ* of the others."""
    if row["predictor"] not in CLAIMED or row["n_domains"] < LEAST_DOMAINS:
        return None
    low, high, p = row["advantage_low"], row["advantage_high"], row["p"]
    return {
        "finding": f"λ* by {row['predictor']}",
        "claim": f"The best λ of a left-out domain is predicted better by {CLAIMED[row['predictor']]} than by the "
        "mean of the other domains.",
        "statistic": "mean error in λ* of the other domains' mean, minus that of the predictor, over domains",
        "value": row["advantage"],
        "low": low,
        "high": high,
        "p": p,
        "n": row["n_domains"],
        "verdict": verdict(low, high, "positive", p),
    }


def evidence(tables: Mapping[str, pl.DataFrame]) -> list[str]:
    """Sentences that say what the tables show, and what they are too few for."""
    few = [
        f"{row['paradigm']}, seed {row['seed']}: {row['n_domains']} domains cannot order predictors; "
        f"{LEAST_DOMAINS} are needed."
        for row in tables["predictors"].filter(fold="domain", predictor="mean").iter_rows(named=True)
        if row["n_domains"] < LEAST_DOMAINS
    ]
    alone = ["One domain has no others to predict from."] if tables["predictors"].is_empty() else []
    edges = tables["facts"].filter("at_edge")
    edge = [f"At an end of the sweep, so that the best λ may lie outside: {_places(edges)}."] if edges.height else []
    found = [f"{row['claim']} {row['verdict'].capitalize()}." for row in tables["findings"].iter_rows(named=True)]
    return [*alone, *few, *found, *edge]


def _places(rows: pl.DataFrame) -> str:
    return ", ".join(f"{row['domain']} ({row['window']})" for row in rows.iter_rows(named=True))
