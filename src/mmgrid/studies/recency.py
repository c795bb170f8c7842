"""Table 4: is the best λ of non-active users smaller in domains where users interact with older items?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, Part, StudyGrid
from mmgrid.studies.domain_facts import domain_facts
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA, bounds, verdict
from mmgrid.studies.statistics.permutation import correlation, permutation_p
from mmgrid.studies.sweep import DescribedSweepParts, Sweep, SweepSpec, SweepStudy, by_run, described_sweeps, sweeps_of

LEAST_DOMAINS = 5  # with fewer, even a perfect order is likely by chance

RECENCY_SCHEMA = pl.Schema(
    texts("paradigm", "domain")
    | counts("test_users", "active", "non_active")
    | numbers("active_ratio", "best", "best_low", "best_high", "gap_days")
    | counts("seed")
)
"""One row per domain. `best` is λ* of the non-active users with its interval, null if there are none; `gap_days` is the
mean interaction time gap (see `mmgrid.data.statistics.mean_gap_days`) over all interactions before t2."""

TABLES = {"recency": RECENCY_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="recency",
        table="recency",
        mark="point",
        x=Axis("gap_days", "mean interaction time gap", "days"),
        y=Axis("best", "λ* of non-active users"),
        colour=Axis("domain", "domain"),
        low="best_low",
        high="best_high",
        label="domain",
        caption="The best λ of each domain's non-active users, with its 95 % interval, over the domain's mean "
        "interaction time gap.",
    ),
)


def answer(sweeps: Iterable[Sweep], statistics: Mapping[str, Mapping[str, Any]]) -> dict[str, pl.DataFrame]:
    """The tables of the study.

    Args:
        sweeps: one sweep per domain.
        statistics: domain → facts, see `domain_facts`.
    """
    sweeps = list(sweeps)
    rows = [_row(sweep, statistics[sweep.domain]) for sweep in sweeps]
    findings = []
    for about, own in by_run(sweeps):
        found = _finding(own, statistics)
        findings += [found | about] if found else []
    return {
        "recency": pl.DataFrame(rows, schema=RECENCY_SCHEMA),
        "findings": pl.DataFrame(findings, schema=FINDINGS_SCHEMA),
    }


def _row(sweep: Sweep, statistics: Mapping[str, Any]) -> dict[str, Any]:
    best = sweep.best.get("non_active")
    counts = {name: statistics[name] for name in ("test_users", "active", "non_active", "active_ratio", "gap_days")}
    places = {"best": best and best.place, "best_low": best and best.low, "best_high": best and best.high}
    return {"paradigm": sweep.paradigm, "domain": sweep.domain, "seed": sweep.seed} | counts | places


def _finding(sweeps: Sequence[Sweep], statistics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Table 4: the larger the gap, the smaller λ*. (Two sentences of the paper say the reverse.)"""
    used = [s for s in sweeps if "non_active" in s.best and statistics[s.domain]["gap_days"] is not None]
    if len(used) < LEAST_DOMAINS:
        return None
    gaps = np.array([statistics[sweep.domain]["gap_days"] for sweep in used])
    places = np.array([sweep.best["non_active"].place for sweep in used])
    drawn = np.column_stack([sweep.best["non_active"].replicates for sweep in used])
    low, high = bounds(np.array([correlation(gaps, row) for row in drawn]))
    p = permutation_p(gaps, places)
    return {
        "finding": "recency",
        "claim": "Where people take older items, the best λ of non-active users is smaller (Table 4).",
        "statistic": "Pearson's r of mean gap and λ* (interval over users, p over domains)",
        "value": correlation(gaps, places),
        "low": low,
        "high": high,
        "p": p,
        "n": len(used),
        "verdict": verdict(low, high, "negative", p),
    }


class RecencySpec(SweepSpec):
    """Table 4: item recency and the best λ of non-active users."""

    kind: Literal["recency"]


class Recency(SweepStudy):
    """Whether the mean interaction time gap of a domain predicts its best λ."""

    name = "recency"
    title = "Item recency"
    source = "Table 4"
    spec = RecencySpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.recency:VIEW"

    def needs(self, spec: RecencySpec, grid: StudyGrid) -> dict[str, DescribedSweepParts]:
        return described_sweeps(spec, grid)

    def answer(self, parts: Mapping[str, DescribedSweepParts], context: Context) -> dict[str, pl.DataFrame]:
        corpora: dict[str, Part] = {domain: own.corpus for domain, own in parts.items()}
        return answer(sweeps_of(parts, context), domain_facts(corpora, context))


STUDY = Recency()
