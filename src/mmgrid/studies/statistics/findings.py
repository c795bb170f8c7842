"""Findings: a claim of the paper, the statistic that tests it with its interval, and a verdict."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.studies.columns import counts, numbers, texts

Verdict = Literal["reproduced", "not reproduced", "undecided"]

FINDINGS_SCHEMA = pl.Schema(
    texts("finding", "claim", "paradigm", "statistic")
    | numbers("value", "low", "high", "p")
    | counts("n")
    | texts("verdict")
    | counts("seed")
)
"""One row per tested claim.

`finding` is its short name (`finding 1`, `base replacement`), `claim` the claim of the paper as a sentence. `statistic`
describes the number in `value` (`Spearman's ρ`), with its 95 % interval in `low` and `high`. `p` is two-sided, for the
null hypothesis of no effect. `n` is the number of observations: domains, pairs or merges.
"""


def bounds(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of the resamples, ignoring NaN; NaN if all are."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def verdict(low: float, high: float, expected: Literal["positive", "negative"], p: float | None = None) -> Verdict:
    """The verdict on a claim that a statistic is positive or negative.

    Reproduced if the interval lies on the expected side of zero (and p, if there is one, is below 0.05), not reproduced
    if it lies on the other side, undecided if it contains zero or is NaN.
    """
    decided = p is None or p < 0.05
    if low > 0 and decided:
        return "reproduced" if expected == "positive" else "not reproduced"
    if high < 0 and decided:
        return "reproduced" if expected == "negative" else "not reproduced"
    return "undecided"
