"""Table 2: the quality of each paradigm at t2, and whether it beats popularity and SASRec on the same users."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from mmgrid.evaluation import RESULTS_SCHEMA, paired_difference
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, Part, Study, StudyGrid, StudySpec
from mmgrid.studies.paper_order import PAPER_ORDER, below
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.over_domains import judged_mean
from mmgrid.studies.statistics.ranked import MAIN_METRIC, METRICS, Ranked

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

TABLES = {"scores": SCORES_SCHEMA, "comparisons": COMPARISONS_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="comparisons",
        table="comparisons",
        mark="point",
        x=Axis("difference", "difference in {metric}", "points"),
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
    """The users of a domain, ranked by `model`, the paradigm's model at t2, and by each reference.

    below: its users ranked by `model` and by `below_name`, the next paradigm below in the paper's order, if any.
    """

    paradigm: str
    seed: int
    domain: str
    model: str
    ranked: Ranked
    below_name: str = ""
    below: Ranked | None = None


def answer(compared: Iterable[Compared], scores: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables of the study; `scores` has the results rows of all compared models."""
    compared = list(compared)
    rows = [row for one in compared for row in _rows(one)]
    return {
        "scores": scores,
        "comparisons": with_holm(pl.DataFrame(rows, schema=COMPARISONS_SCHEMA)),
        "findings": pl.DataFrame(_findings(compared), schema=FINDINGS_SCHEMA),
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


def _findings(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """Section 3.3: the order of the paradigms, for each run with a paradigm below it."""
    runs: dict[tuple[str, int], dict[tuple[str, ...], Any]] = {}
    for one in compared:
        if one.below is not None:
            own, other = one.below.values(MAIN_METRIC, (one.model, one.below_name)).T
            runs.setdefault((one.paradigm, one.seed), {})[one.domain,] = 100.0 * (own - other)
    return [
        {
            "finding": "order of paradigms",
            "claim": f"Quality rises from paradigm to paradigm: {', '.join(PAPER_ORDER)} (section 3.3).",
            "paradigm": paradigm,
            "statistic": "NDCG@20 minus that of the next paradigm below on the same users, points, mean over domains",
            "seed": seed,
            **judged_mean(differences, seed),
        }
        for (paradigm, seed), differences in runs.items()
    ]


class BaselinesSpec(StudySpec):
    """Table 2: each paradigm at t2 against popularity and SASRec."""

    kind: Literal["baselines"]


@dataclass(frozen=True)
class BaselinesParts:
    """For one domain: the evaluation of the paradigm at t2, and those of the references by label.

    below: (name, evaluation) of the next paradigm below in the paper's order, if the grid has one.
    """

    own: Any
    references: Mapping[str, Any]
    below: tuple[str, Any] | None = None


class Baselines(Study):
    """Whether a paradigm beats popularity and SASRec."""

    name = "baselines"
    title = "Baselines"
    source = "Table 2"
    spec = BaselinesSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.baselines:VIEW"
    version = 3  # the claim of section 3.3

    def needs(self, spec: BaselinesSpec, grid: StudyGrid) -> dict[str, BaselinesParts]:
        def newest(of: StudyGrid, domain: str) -> Any:
            return of.evaluation(domain, of.phases[-1], spec.max_users)

        name, _, lower = below(spec, grid, newest) or ("", grid, {})
        return {
            domain: BaselinesParts(
                newest(grid, domain),
                grid.references(domain, spec.max_users),
                (name, lower[domain]) if domain in lower else None,
            )
            for domain in grid.domains
        }

    def answer(self, parts: Mapping[str, BaselinesParts], context: Context) -> dict[str, pl.DataFrame]:
        compared, scores = [], []
        for domain, own in parts.items():
            others: dict[str, Part] = {label: part for label, part in own.references.items() if part != own.own}
            frames = {context.paradigm: own.own.ranks()} | {label: part.ranks() for label, part in others.items()}
            one = Compared(context.paradigm, context.seed, domain, context.paradigm, Ranked.of(frames))
            if own.below:
                name, lower = own.below
                ranked = Ranked.of({context.paradigm: frames[context.paradigm], name: lower.ranks()})
                one = replace(one, below_name=name, below=ranked)
            compared.append(one)
            scores += [part.rows() for part in (own.own, *others.values())]
        return answer(compared, pl.concat([SCORES_SCHEMA.to_frame(), *scores]))


STUDY = Baselines()
