"""Table 2: how good each paradigm is at t2, and whether it beats popularity and SASRec on the same users."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmgrid.evaluation import RESULTS_SCHEMA, paired_difference
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.ranked import METRICS, Ranked

SCORES_SCHEMA = RESULTS_SCHEMA
COMPARISONS_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "model": pl.String,
        "reference": pl.String,
        "metric": pl.String,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "p_adjusted": pl.Float64,
        "n_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""``paradigm`` at t2 minus ``reference`` (``popularity``, ``sasrec``, ``sasrec (in one go)``), percentage points,
paired by user, over all test users; p of the sign-flip test, and after Holm over the rows of a paradigm and metric."""

TABLES = {"scores": SCORES_SCHEMA, "comparisons": COMPARISONS_SCHEMA}
PLOTS = (
    Plot(
        name="comparisons",
        table="comparisons",
        mark="point",
        x=Axis("difference", "difference", "percentage points"),
        y=Axis("domain", "domain"),
        colour=Axis("reference", "compared with"),
        x_low="low",
        x_high="high",
        choices=("metric",),
        reference=0.0,
        caption="The paradigm at t2 minus each reference, paired by user, with 95 % intervals.",
    ),
)


@dataclass(frozen=True, eq=False)
class Compared:
    """A domain's users, ranked by the paradigm's model at t2 (`model`) and by what it is compared with."""

    paradigm: str
    seed: int
    domain: str
    model: str
    ranked: Ranked


def answer(compared: Iterable[Compared], scores: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The study's tables; `scores` are the results rows of the models that are compared."""
    rows = [row for one in compared for row in _rows(one)]
    table = pl.DataFrame(rows, schema=COMPARISONS_SCHEMA)
    return {
        "scores": scores,
        "comparisons": with_holm(table),
    }


def _rows(one: Compared) -> list[dict[str, Any]]:
    rows = []
    for reference in (name for name in one.ranked.ranks if name != one.model):
        values = (one.ranked.values(metric, (one.model, reference)).T for metric in METRICS)
        for metric, (own, other) in zip(METRICS, values, strict=True):
            found = paired_difference(100.0 * own, 100.0 * other, seed=one.seed)
            rows.append(
                {
                    "paradigm": one.paradigm,
                    "domain": one.domain,
                    "model": one.model,
                    "reference": reference,
                    "metric": metric,
                    "difference": found.difference[0],
                    "low": found.low[0],
                    "high": found.high[0],
                    "p": found.p_permutation[0],
                    "n_users": found.n_users,
                    "seed": one.seed,
                }
            )
    return rows
