"""The tables of merged sets of domains: each merge, the means by size, and what predicts the kept shares."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.likeness import PREDICTORS
from mmgrid.studies.statistics.findings import bounds, verdict
from mmgrid.studies.statistics.kept_share import two_sided
from mmgrid.studies.statistics.merged_sets import MERGED, Measure, MergedSet, by_size, predicted_by
from mmgrid.studies.statistics.ranked import MAIN_METRIC, METRICS

SETS_SCHEMA = pl.Schema(
    texts("paradigm", "way", "set")
    | counts("size")
    | texts("domain", "metric")
    | numbers("single", "merged", "kept", "low", "high")
    | counts("n_users", "draws", "seed")
)
"""One row per way, merged set of domains (joined by `+`), evaluated domain and metric, over all users.

`kept` with bounds is `merged` in percent of `single`.
"""

SIZES_SCHEMA = pl.Schema(
    texts("paradigm", "way", "metric")
    | counts("size", "sets")
    | numbers("kept", "low", "high", "least", "least_low", "least_high")
    | counts("draws", "seed")
)
"""One row per way, metric and number of merged domains.

`kept` with bounds is the share that a domain keeps, in percent, averaged over domains and sets; `least` that of the
domain that keeps least, averaged over sets.
"""

PREDICTORS_SCHEMA = pl.Schema(
    texts("paradigm", "way", "predictor", "measure", "metric")
    | numbers("value", "low", "high", "p", "p_adjusted")
    | counts("n", "seed")
)
"""One row per way and predictor of the kept shares.

`value` is Spearman's ρ of the kept share and the measure between the evaluated domain and its partners (the mean over
them), within the merges of a size and averaged over sizes. `p` comes from exchanging domains, `p_adjusted` is after Holm
over the predictors of a way. `n` is the number of merges.
"""


def draws_of(merged: MergedSet) -> int:
    """How often the random masks of a merge were drawn."""
    ranks = merged.ranked.ranks[MERGED]
    return ranks.shape[1] if ranks.ndim == 2 else 1


def set_rows(merged: MergedSet) -> list[dict[str, Any]]:
    """The rows of `SETS_SCHEMA` of a merge."""
    rows = []
    for metric in METRICS:
        (single, value, kept), (low, high) = merged.kept(metric), bounds(merged.resampled(metric))
        rows.append(
            {
                "paradigm": merged.paradigm,
                "way": merged.way,
                "set": merged.name,
                "size": len(merged.domains),
                "domain": merged.domain,
                "metric": metric,
                "single": single,
                "merged": value,
                "kept": kept,
                "low": low,
                "high": high,
                "n_users": len(merged.ranked),
                "draws": draws_of(merged),
                "seed": merged.seed,
            }
        )
    return rows


def size_rows(run: Sequence[MergedSet]) -> list[dict[str, Any]]:
    """The rows of `SIZES_SCHEMA` of all merges of one way."""
    about = {"paradigm": run[0].paradigm, "way": run[0].way, "draws": draws_of(run[0]), "seed": run[0].seed}
    rows = []
    for metric in METRICS:
        for found in by_size(run, metric):
            (kept, drawn), (least, least_drawn) = found.mean, found.least
            row = {"metric": metric, "size": found.size, "sets": found.sets, "kept": kept, "least": least}
            row |= dict(zip(("low", "high"), bounds(drawn), strict=True))
            row |= dict(zip(("least_low", "least_high"), bounds(least_drawn), strict=True))
            rows.append(about | row)
    return rows


def predictor_rows(run: Sequence[MergedSet], measures: Mapping[str, Measure]) -> list[dict[str, Any]]:
    """The rows of `PREDICTORS_SCHEMA` of all merges of one way, without `p_adjusted`."""
    about = {"paradigm": run[0].paradigm, "way": run[0].way, "metric": MAIN_METRIC, "seed": run[0].seed}
    rows = []
    for predictor, measure in measures.items():
        found = predicted_by(run, MAIN_METRIC, measure)
        if found is not None:
            rows.append(about | {"predictor": predictor, "measure": PREDICTORS.get(predictor, "")} | found)
    return rows


def growth(run: Sequence[MergedSet]) -> list[dict[str, Any]]:
    """The finding whether merges of more domains keep less; none if all merges of the way have the same size."""
    sizes = by_size(run, MAIN_METRIC)
    if len(sizes) < 2:
        return []
    few, many = sizes[0], sizes[-1]
    drawn = few.mean[1] - many.mean[1]
    low, high = bounds(drawn)
    p = two_sided(drawn)
    return [
        {
            "finding": f"more domains, {run[0].way}",
            "claim": "The more domains are merged into one model, the less each keeps.",
            "paradigm": run[0].paradigm,
            "statistic": f"percentage points of the own model's NDCG@20 kept, merges of {few.size} minus merges of "
            f"{many.size} domains",
            "value": few.mean[0] - many.mean[0],
            "low": low,
            "high": high,
            "p": p,
            "n": len(run),
            "verdict": verdict(low, high, "positive", p),
            "seed": run[0].seed,
        }
    ]
