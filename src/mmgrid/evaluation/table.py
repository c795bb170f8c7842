"""Turns ranks into the rows that tables, studies and the report read: one row per group and metric, in percent.

`result_rows` gives the quality of a model; `change_rows` compares it with another model on the same users, where
pairing makes the interval much narrower than two separate intervals suggest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.evaluation.groups import group_masks
from mmgrid.evaluation.intervals import bootstrap_interval, mean_over_draws, paired_difference, resampled_means
from mmgrid.evaluation.metrics import DEFAULT_METRICS, per_user

PERCENT = 100.0

RESULTS_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "model": pl.String,
        "sources": pl.String,
        "merge": pl.String,
        "parameter": pl.Float64,
        "group": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "n_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""One row per model, domain, group and metric.

`sources` are the merged checkpoints, joined by `+`, and `merge` the method; both are empty if
nothing was merged. `parameter` is its λ or α, or null. `value`, `low` and `high` are percent, NaN
for a group without users (`n_users` 0).
"""

CHANGES_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "model": pl.String,
        "sources": pl.String,
        "merge": pl.String,
        "parameter": pl.Float64,
        "reference": pl.String,
        "group": pl.String,
        "metric": pl.String,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "relative": pl.Float64,
        "relative_low": pl.Float64,
        "relative_high": pl.Float64,
        "p_bootstrap": pl.Float64,
        "p_permutation": pl.Float64,
        "n_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""One row per comparison of `model` with `reference` on the same users.

`difference` with `low` and `high` in percentage points; `relative` with its bounds in percent of the
reference's value, NaN where that is 0 (for the bounds: in any resample).
"""


def result_rows(
    ranks: npt.NDArray[np.integer],
    active: npt.NDArray[np.bool_],
    *,
    paradigm: str,
    domain: str,
    model: str,
    sources: Sequence[str] = (),
    merge: str = "",
    parameter: float | None = None,
    seed: int = 0,
    metrics: Sequence[str] = DEFAULT_METRICS,
    samples: int = 1000,
    level: float = 0.95,
) -> pl.DataFrame:
    """Result rows of one model on one domain, for every group and metric.

    Args:
        ranks: int[B] ranks of the targets, or int[B, D] for D draws of a random merge.
        active: bool[B].
        paradigm, domain, model, sources, merge, parameter: as in `RESULTS_SCHEMA`.
        seed: of the grid; recorded, and determines the resamples.
        metrics: names, see `metrics`.
        samples, level: of the bootstrap.

    Returns:
        `RESULTS_SCHEMA`, len(GROUPS) · len(metrics) rows.
    """
    _check_lengths(ranks=ranks, active=active)
    values = per_user(ranks, metrics)
    identity = _identity(paradigm, domain, model, sources, merge, parameter)
    records: list[dict[str, Any]] = []
    for group, mask in group_masks(active).items():
        interval = bootstrap_interval(values[mask], seed=seed, samples=samples, level=level)
        for column, metric in enumerate(metrics):
            records.append(
                identity
                | {
                    "group": group,
                    "metric": metric,
                    "value": PERCENT * interval.value[column],
                    "low": PERCENT * interval.low[column],
                    "high": PERCENT * interval.high[column],
                    "n_users": interval.n_users,
                    "seed": seed,
                }
            )
    return pl.DataFrame(records, schema=RESULTS_SCHEMA)


def change_rows(
    ranks: npt.NDArray[np.integer],
    reference_ranks: npt.NDArray[np.integer],
    active: npt.NDArray[np.bool_],
    *,
    paradigm: str,
    domain: str,
    model: str,
    reference: str,
    sources: Sequence[str] = (),
    merge: str = "",
    parameter: float | None = None,
    seed: int = 0,
    metrics: Sequence[str] = DEFAULT_METRICS,
    samples: int = 1000,
    level: float = 0.95,
) -> pl.DataFrame:
    """Rows that compare a model with another on the same users in the same order, for every group and metric.

    Args:
        ranks, reference_ranks: int[B], or int[B, D] for D draws of a random merge; position i of both is the same user.
        reference: name of the other model, for example `phase2`.
        The rest: as for `result_rows`.

    Returns:
        `CHANGES_SCHEMA`, len(GROUPS) · len(metrics) rows.
    """
    _check_lengths(ranks=ranks, reference_ranks=reference_ranks, active=active)
    values, base = per_user(ranks, metrics), per_user(reference_ranks, metrics)
    identity = _identity(paradigm, domain, model, sources, merge, parameter) | {"reference": reference}
    records: list[dict[str, Any]] = []
    for group, mask in group_masks(active).items():
        change = paired_difference(values[mask], base[mask], seed=seed, samples=samples, level=level)
        relative = _relative(values[mask], base[mask], seed=seed, samples=samples, level=level)
        for column, metric in enumerate(metrics):
            records.append(
                identity
                | {
                    "group": group,
                    "metric": metric,
                    "difference": PERCENT * change.difference[column],
                    "low": PERCENT * change.low[column],
                    "high": PERCENT * change.high[column],
                    "relative": PERCENT * relative[0, column],
                    "relative_low": PERCENT * relative[1, column],
                    "relative_high": PERCENT * relative[2, column],
                    "p_bootstrap": change.p_bootstrap[column],
                    "p_permutation": change.p_permutation[column],
                    "n_users": change.n_users,
                    "seed": seed,
                }
            )
    return pl.DataFrame(records, schema=CHANGES_SCHEMA)


def _relative(
    values: npt.NDArray[np.float64], base: npt.NDArray[np.float64], *, seed: int, samples: int, level: float
) -> npt.NDArray[np.float64]:
    """float64[3, M]: the ratio of the means minus one, and its percentile interval."""
    if len(values) == 0:
        return np.full((3, values.shape[1]), np.nan)
    means = resampled_means(values, seed=seed, samples=samples)
    base_means = resampled_means(base, seed=seed, samples=samples)
    tail = (1.0 - level) / 2.0
    bounds = np.quantile(_ratio(means, base_means), [tail, 1.0 - tail], axis=0)
    return np.vstack([_ratio(mean_over_draws(values), mean_over_draws(base)), bounds])


def _ratio(value: npt.NDArray[np.float64], base: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.divide(value, base, out=np.full(value.shape, np.nan), where=base > 0) - 1.0


def _identity(
    paradigm: str, domain: str, model: str, sources: Sequence[str], merge: str, parameter: float | None
) -> dict[str, Any]:
    if isinstance(sources, str):
        raise ValueError(f"sources {sources!r}: expected a sequence of names, got one string")
    return {
        "paradigm": paradigm,
        "domain": domain,
        "model": model,
        "sources": "+".join(sources),
        "merge": merge,
        "parameter": parameter,
    }


def _check_lengths(**arrays: npt.NDArray[Any]) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{lengths}: each needs one entry per test user")
