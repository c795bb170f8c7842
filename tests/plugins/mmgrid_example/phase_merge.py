"""The study `phase_merge`: does merging the models of a domain's phases help its newest one?

The checkpoints of all phases after the first are merged over the first, and the merge is compared with the newest
checkpoint, user by user.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from pydantic import Field, field_validator

from mmgrid.evaluation import paired_difference, parse_metric
from mmgrid.studies import (
    FINDINGS_SCHEMA,
    Axis,
    Context,
    Part,
    Plot,
    Ranked,
    Study,
    StudyGrid,
    StudySpec,
    counts,
    numbers,
    texts,
    verdict,
)

MERGES_SCHEMA = pl.Schema(
    texts("paradigm", "domain", "metric")
    | numbers("newest", "merged", "difference", "low", "high", "p", "agreement")
    | counts("n_users", "seed")
)
"""One row per domain and metric, in percent. `difference` is merge minus newest, paired by user, with its 95 % interval;
`agreement` is the share of users whose targets both models rank equally."""


class PhaseMergeSpec(StudySpec):
    """What `[[studies]]` of a grid file may say of the study."""

    kind: Literal["phase_merge"]
    method: str = Field(default="magmax", description="any installed merge method")
    metrics: tuple[str, ...] = Field(default=("ndcg@10", "recall@10"), min_length=1)

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for metric in metrics:
            parse_metric(metric)  # ValueError for an unknown one
        return metrics


@dataclass(frozen=True)
class PhaseMergeParts:
    """The evaluations of one domain: of its newest checkpoint, and of the merge of its phases."""

    newest: Any
    merged: Any


class PhaseMerge(Study):
    """Whether merging a domain's phases helps."""

    name = "phase_merge"
    title = "Merging the phases of a domain"
    spec = PhaseMergeSpec
    tables = {"merges": MERGES_SCHEMA, "findings": FINDINGS_SCHEMA}
    plots = (
        Plot(
            name="merges",
            table="merges",
            mark="point",
            x=Axis("difference", "difference", "percentage points"),
            y=Axis("domain", "domain"),
            colour=Axis("paradigm", "paradigm"),
            x_low="low",
            x_high="high",
            choices=("metric",),
            reference=0.0,
            caption="The merge of the phases minus the newest checkpoint, paired by user, with 95 % intervals.",
        ),
    )

    def needs(self, spec: PhaseMergeSpec, grid: StudyGrid) -> dict[str, PhaseMergeParts] | None:
        first, *later = grid.phases
        found = {}
        for domain in grid.domains:
            merged = grid.evaluate_merge(
                domain,
                f"{spec.method}-of-phases",
                spec.method,
                {phase: grid.checkpoint(domain, phase) for phase in later},
                base=grid.checkpoint(domain, first),
                max_users=spec.max_users,
            )
            found[domain] = PhaseMergeParts(grid.evaluation(domain, later[-1], spec.max_users), merged)
        return found

    def values(self, spec: PhaseMergeSpec) -> dict[str, Any]:
        return {"metrics": spec.metrics}

    def answer(self, parts: Mapping[str, PhaseMergeParts], context: Context) -> dict[str, pl.DataFrame]:
        rows = [row for domain, own in parts.items() for row in _rows(domain, own.newest, own.merged, context)]
        return {
            "merges": pl.DataFrame(rows, schema=MERGES_SCHEMA),
            "findings": pl.DataFrame([_finding(row) for row in rows], schema=FINDINGS_SCHEMA),
        }


def _rows(domain: str, newest: Part, merged: Part, context: Context) -> Sequence[dict[str, Any]]:
    ranked = Ranked.of({"newest": newest.ranks(), "merged": merged.ranks()})
    rows = []
    for metric in context.values["metrics"]:
        old, new = 100.0 * ranked.values(metric, ("newest", "merged")).T
        found = paired_difference(new, old, seed=context.seed)
        rows.append(
            {
                "paradigm": context.paradigm,
                "domain": domain,
                "metric": metric,
                "newest": old.mean(),
                "merged": new.mean(),
                "difference": found.difference[0],
                "low": found.low[0],
                "high": found.high[0],
                "p": found.p_permutation[0],
                "agreement": 100.0 * (ranked.ranks["newest"] == ranked.ranks["merged"]).mean(),
                "n_users": found.n_users,
                "seed": context.seed,
            }
        )
    return rows


def _finding(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "finding": f"phases of {row['domain']}",
        "claim": "Merging the models of a domain's phases is better than its newest model.",
        "paradigm": row["paradigm"],
        "statistic": f"the difference in {row['metric']} on {row['domain']}",
        "value": row["difference"],
        "low": row["low"],
        "high": row["high"],
        "p": row["p"],
        "n": row["n_users"],
        "verdict": verdict(row["low"], row["high"], "positive", row["p"]),
        "seed": row["seed"],
    }


STUDY = PhaseMerge()
