"""Target ranks, metrics per user, groups, intervals, baselines, result rows. numpy and polars only."""

from mmgrid.evaluation.baselines import popularity_ranks, random_ranks
from mmgrid.evaluation.corrections import holm
from mmgrid.evaluation.groups import GROUPS, group_masks
from mmgrid.evaluation.intervals import (
    Difference,
    Interval,
    bootstrap_interval,
    mean_over_draws,
    paired_difference,
    resampled_means,
)
from mmgrid.evaluation.metrics import DEFAULT_METRICS, METRICS, Metric, parse_metric, per_user
from mmgrid.evaluation.ranking import NOT_RANKED, list_ranks, target_ranks
from mmgrid.evaluation.table import CHANGES_SCHEMA, RESULTS_SCHEMA, change_rows, result_rows

__all__ = [
    "CHANGES_SCHEMA",
    "DEFAULT_METRICS",
    "GROUPS",
    "METRICS",
    "NOT_RANKED",
    "RESULTS_SCHEMA",
    "Difference",
    "Interval",
    "Metric",
    "bootstrap_interval",
    "change_rows",
    "group_masks",
    "holm",
    "list_ranks",
    "mean_over_draws",
    "paired_difference",
    "parse_metric",
    "per_user",
    "popularity_ranks",
    "random_ranks",
    "resampled_means",
    "result_rows",
    "target_ranks",
]
