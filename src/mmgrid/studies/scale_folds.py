"""λ* of a left-out domain or year, predicted from the other ones in several ways."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mmgrid.studies.scale_case import FEATURES, Case
from mmgrid.studies.statistics.leave_one_out_line import LineFit
from mmgrid.studies.statistics.nearest_rows import nearest_mean
from mmgrid.studies.statistics.ridge import Ridge
from mmgrid.studies.statistics.standardised import Floats

Fold = Literal["domain", "window"]
PREDICTORS = ("one", "mean", "recency", "ridge", "nearest")
"""λ = 1; the mean λ* of the others; a line over the mean age of items; ridge over all facts; the nearest by all facts."""

LEAST_CASES = 3  # for ridge and nearest; fewer say nothing about several facts


def used_features(cases: Sequence[Case]) -> tuple[str, ...]:
    """The facts that are known for every case."""
    return tuple(name for name in FEATURES if all(case.facts[name] is not None for case in cases))


def predicted(cases: Sequence[Case], fold: Fold) -> list[tuple[Case, int, dict[str, float]]]:
    """Each case, the number of cases that its λ is predicted from, and predictor → λ.

    All cases of its domain (or its window) are left out, and so are predictors that need more cases. A prediction is
    held within the range of the sweep. A case whose fold is everything has no row.
    """
    features = used_features(cases)
    found = []
    for case in cases:
        others = [other for other in cases if _group(other, fold) != _group(case, fold)]
        if others:
            scales = case.sweep.scales
            guesses = _predictions(case, others, features, fold)
            held = {name: float(np.clip(scale, scales[0], scales[-1])) for name, scale in guesses.items()}
            found.append((case, len(others), held))
    return found


def _predictions(case: Case, others: Sequence[Case], features: tuple[str, ...], fold: Fold) -> dict[str, float]:
    best = np.array([other.best.place for other in others])
    found = {"one": 1.0, "mean": float(best.mean())}
    if "gap_days" in features:
        gaps = [float(_row(other, ("gap_days",))[0]) for other in others]
        if len(set(gaps)) > 1:
            line = LineFit.of(list(zip(gaps, best.tolist(), strict=True)))
            found["recency"] = line.at(float(_row(case, ("gap_days",))[0]))
    if features and len(others) >= LEAST_CASES:
        table, here = np.stack([_row(other, features) for other in others]), _row(case, features)
        groups = [_group(other, fold) for other in others]
        if len(set(groups)) < 2:  # of two windows, one is left: the penalty is chosen by leaving out its domains
            groups = [other.domain for other in others]
        found["ridge"] = float(Ridge.chosen(table, best, groups).at(here))
        found["nearest"] = nearest_mean(table, best, here)
    return found


def _group(case: Case, fold: Fold) -> str:
    return case.domain if fold == "domain" else case.window


def _row(case: Case, features: Sequence[str]) -> Floats:
    return np.array([case.facts[name] for name in features], np.float64)
