"""What merges and families keep of each domain's own model: per domain, and over all domains that one serves."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    texts("paradigm", "merge", "way", "metric")
    | counts("domains")
    | numbers("least", "least_low", "least_high", "mean", "mean_low", "mean_high")
    | counts("bytes", "own_bytes")
    | numbers("checkpoints", "bf16_checkpoints", "minutes")
    | counts("draws", "seed")
)
"""One row per merge, family or other training, and metric: the smallest kept share of its domains, the mean over them, and
what serves them.

`way`: `merge`, `merge per domain`, `joint training`, `other training` (a variant), or the kinds of a family's parts.
`minutes`: to make it, beyond the domains' own models; a merge in memory takes none. `bytes`: of all weights that serve the domains;
`own_bytes`: of their own models. `checkpoints`: `bytes` in those of one checkpoint in float32, `bf16_checkpoints` in bf16.
"""

ONE_MERGE, MERGES, JOINT, VARIANT = "merge", "merge per domain", "joint training", "other training"  # in `way`
NO_FAMILIES = (ONE_MERGE, MERGES, JOINT, VARIANT)
_BYTES = {"checkpoints": 4, "bf16_checkpoints": 2}  # of a number


def is_family(served: pl.DataFrame) -> pl.Series:
    """bool: which rows of `SERVED_SCHEMA` are of families."""
    return ~served["way"].fill_null(ONE_MERGE).is_in(NO_FAMILIES)


def is_merge(served: pl.DataFrame) -> pl.Series:
    """bool: which rows of `SERVED_SCHEMA` are of merges."""
    return served["way"].fill_null(ONE_MERGE).is_in([ONE_MERGE, MERGES])


@dataclass(frozen=True)
class ServedSize:
    """What it takes to serve some domains.

    Attributes:
        way: how they are served.
        bytes: of all weights. own_bytes: of the domains' own models.
        parameters: of one domain's model, the mean over the domains.
    """

    way: str
    bytes: int
    own_bytes: int
    parameters: float


def kept_rows(of: MergedSet, draws: int) -> list[dict[str, Any]]:
    """The rows of `KEPT_SCHEMA` of a merge on one domain; its `way` is the name of the merge."""
    rows = []
    for metric in METRICS:
        (single, merged, kept), (low, high) = of.kept(metric), bounds(of.resampled(metric))
        about = {"paradigm": of.paradigm, "merge": of.way, "domain": of.domain, "metric": metric, "seed": of.seed}
        values = {"single": single, "merged": merged, "kept": kept, "low": low, "high": high}
        rows.append(about | values | {"n_users": len(of.ranked), "draws": draws})
    return rows


def served_rows(
    merges: Sequence[tuple[MergedSet, int]], size: ServedSize | None, seconds: float | None
) -> list[dict[str, Any]]:
    """The rows of `SERVED_SCHEMA` of one way to serve, from each of its domains and the number of draws.

    seconds: to make it.
    """
    first, draws = merges[0][0], max(number for _, number in merges)
    rows = []
    for metric in METRICS:
        values = np.array([of.kept(metric)[2] for of, _ in merges])
        drawn = np.stack([of.resampled(metric) for of, _ in merges])
        row: dict[str, Any] = {"paradigm": first.paradigm, "merge": first.way, "metric": metric, "seed": first.seed}
        row |= {"minutes": None if seconds is None else seconds / 60}
        row |= {"domains": len(merges), "draws": draws, "least": float(values.min()), "mean": float(values.mean())}
        for name, of_resamples in (("least", drawn.min(axis=0)), ("mean", drawn.mean(axis=0))):
            row |= dict(zip((f"{name}_low", f"{name}_high"), bounds(of_resamples), strict=True))
        if size is not None:
            row |= {"way": size.way, "bytes": size.bytes, "own_bytes": size.own_bytes}
            row |= {name: size.bytes / (width * size.parameters) for name, width in _BYTES.items()}
        rows.append(row)
    return rows
