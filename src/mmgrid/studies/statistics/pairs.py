"""Correlations over pairs of domains, which are dependent where they share a domain."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmgrid.seeds import generator
from mmgrid.studies.statistics.findings import bounds, verdict
from mmgrid.studies.statistics.merged_sets import LEAST_DOMAINS
from mmgrid.studies.statistics.permutation import labels_p, rank_correlation

SAMPLES = 1000


def correlated(
    rows: Sequence[Mapping[str, Any]],
    predictor: Callable[[str, str], float],
    finding: str,
    claim: str,
    statistic: str,
) -> dict[str, Any] | None:
    """Rank correlation of the changes with a predictor over (domain, partner); its p comes from exchanging domains."""
    domains = sorted({row["domain"] for row in rows})
    if len(domains) < LEAST_DOMAINS:
        return None
    changes = np.array([row["change"] for row in rows])
    places = [(row["domain"], row["partner"]) for row in rows]

    def over(names: Mapping[str, str]) -> float:
        return rank_correlation(np.array([predictor(names[a], names[b]) for a, b in places]), changes)

    predicted = np.array([predictor(a, b) for a, b in places])
    low, high = _over_domains(places, predicted, changes)
    p = labels_p(domains, over)
    return {
        "finding": finding,
        "claim": claim,
        "statistic": statistic,
        "value": rank_correlation(predicted, changes),
        "low": low,
        "high": high,
        "p": p,
        "n": len(rows),
        "verdict": verdict(low, high, "positive", p),
    }


def _over_domains(places: Sequence[tuple[str, str]], x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """95 % interval of the rank correlation from resampling domains, each with all of its pairs."""
    at = {place: index for index, place in enumerate(places)}
    domains = sorted({domain for place in places for domain in place})
    draw = generator(0, "studies", "domains")
    values = []
    for _ in range(SAMPLES):
        drawn = [domains[place] for place in draw.integers(len(domains), size=len(domains))]
        chosen = [at[one, other] for one in drawn for other in drawn if (one, other) in at]
        values.append(rank_correlation(x[chosen], y[chosen]) if chosen else math.nan)
    return bounds(np.array(values))
