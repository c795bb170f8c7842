"""What a study says of a claim of the paper: the statistic it rests on, its interval, and a verdict."""

from __future__ import annotations

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
"""One row a tested claim.

``finding`` is its short name (``finding 1``, ``base replacement``), ``claim`` what the paper says, as a sentence;
``statistic`` names the number in ``value`` (``Spearman's ρ``) with its 95 % interval; ``p`` is two-sided and
belongs to "no effect"; ``n`` counts what it was computed from.
"""


def bounds(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Between which 95 % of the resamples' values lie, of those that are known; NaN where none is."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def verdict(low: float, high: float, expected: Literal["positive", "negative"], p: float | None = None) -> Verdict:
    """Reproduced if the interval lies on the side the claim says (and p, if given, is below 0.05); not
    reproduced if it lies on the other side; undecided while it holds zero, or is not known."""
    decided = p is None or p < 0.05
    if low > 0 and decided:
        return "reproduced" if expected == "positive" else "not reproduced"
    if high < 0 and decided:
        return "reproduced" if expected == "negative" else "not reproduced"
    return "undecided"
