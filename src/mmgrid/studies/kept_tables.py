"""What merges keep of each domain's own model: per domain, and over all domains that a merge serves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.statistics.findings import bounds
from mmgrid.studies.statistics.merged_sets import MergedSet
from mmgrid.studies.statistics.ranked import METRICS

KEPT_SCHEMA = pl.Schema(
    texts("paradigm", "merge", "domain", "metric")
    | numbers("single", "merged", "kept", "low", "high")
    | counts("n_users", "draws", "seed")
)
"""One row per merge, evaluated domain and metric: `merged` in percent of `single`, the domain's newest own model."""

SERVED_SCHEMA = pl.Schema(
    texts("paradigm", "merge", "metric")
    | counts("domains")
    | numbers("least", "least_low", "least_high", "mean", "mean_low", "mean_high")
    | counts("draws", "seed")
)
"""One row per merge and metric: the smallest kept share of its domains, and the mean over them."""


def kept_rows(of: MergedSet, draws: int) -> list[dict[str, Any]]:
    """The rows of `KEPT_SCHEMA` of a merge on one domain; its `way` is the name of the merge."""
    rows = []
    for metric in METRICS:
        (single, merged, kept), (low, high) = of.kept(metric), bounds(of.resampled(metric))
        about = {"paradigm": of.paradigm, "merge": of.way, "domain": of.domain, "metric": metric, "seed": of.seed}
        values = {"single": single, "merged": merged, "kept": kept, "low": low, "high": high}
        rows.append(about | values | {"n_users": len(of.ranked), "draws": draws})
    return rows


def served_rows(merges: Sequence[tuple[MergedSet, int]]) -> list[dict[str, Any]]:
    """The rows of `SERVED_SCHEMA` of a merge, from each of its domains and the number of draws."""
    first, draws = merges[0][0], max(number for _, number in merges)
    rows = []
    for metric in METRICS:
        values = np.array([of.kept(metric)[2] for of, _ in merges])
        drawn = np.stack([of.resampled(metric) for of, _ in merges])
        row: dict[str, Any] = {"paradigm": first.paradigm, "merge": first.way, "metric": metric, "seed": first.seed}
        row |= {"domains": len(merges), "draws": draws, "least": float(values.min()), "mean": float(values.mean())}
        for name, of_resamples in (("least", drawn.min(axis=0)), ("mean", drawn.mean(axis=0))):
            row |= dict(zip((f"{name}_low", f"{name}_high"), bounds(of_resamples), strict=True))
        rows.append(row)
    return rows
