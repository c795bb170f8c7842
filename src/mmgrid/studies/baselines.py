"""Table 2: the quality of each paradigm at t2, and whether it beats popularity and SASRec on the same users."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from mmgrid.evaluation import RESULTS_SCHEMA, paired_difference
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, Part, Study, StudyGrid, StudySpec
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.ranked import METRICS, Ranked

SCORES_SCHEMA = RESULTS_SCHEMA
COMPARISONS_SCHEMA = pl.Schema(
    texts("paradigm", "domain", "model", "reference", "metric")
    | numbers("difference", "low", "high", "p", "p_adjusted")
    | counts("n_users", "seed")
)
"""One row per domain, reference and metric: `paradigm` at t2 minus `reference`, in percentage points.

`reference` is `popularity`, `sasrec` or `sasrec (in one go)`. Differences are paired by user, over all test users. `p`
is that of the sign-flip test, `p_adjusted` after Holm over the rows of a paradigm and metric.
"""

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
        caption="Each paradigm at t2 minus each reference, paired by user, with 95 % intervals.",
    ),
)


@dataclass(frozen=True, eq=False)
class Compared:
    """The users of a domain, ranked by `model`, the paradigm's model at t2, and by each reference."""

    paradigm: str
    seed: int
    domain: str
    model: str
    ranked: Ranked


def answer(compared: Iterable[Compared], scores: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables of the study; `scores` has the results rows of all compared models."""
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


class BaselinesSpec(StudySpec):
    """Table 2: each paradigm at t2 against popularity and SASRec."""

    kind: Literal["baselines"]


@dataclass(frozen=True)
class BaselinesParts:
    """For one domain: the evaluation of the paradigm at t2, and those of the references by label."""

    own: Any
    references: Mapping[str, Any]


class Baselines(Study):
    """Whether a paradigm beats popularity and SASRec."""

    name = "baselines"
    title = "Baselines"
    source = "Table 2"
    spec = BaselinesSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.baselines:VIEW"
    version = 2  # smaller p-values

    def needs(self, spec: BaselinesSpec, grid: StudyGrid) -> dict[str, BaselinesParts]:
        return {
            domain: BaselinesParts(
                grid.evaluation(domain, grid.phases[-1], spec.max_users), grid.references(domain, spec.max_users)
            )
            for domain in grid.domains
        }

    def answer(self, parts: Mapping[str, BaselinesParts], context: Context) -> dict[str, pl.DataFrame]:
        compared, scores = [], []
        for domain, own in parts.items():
            others: dict[str, Part] = {label: part for label, part in own.references.items() if part != own.own}
            frames = {context.paradigm: own.own.ranks()} | {label: part.ranks() for label, part in others.items()}
            compared.append(Compared(context.paradigm, context.seed, domain, context.paradigm, Ranked.of(frames)))
            scores += [part.rows() for part in (own.own, *others.values())]
        return answer(compared, pl.concat([SCORES_SCHEMA.to_frame(), *scores]))


STUDY = Baselines()
