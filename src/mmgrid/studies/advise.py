"""Table 3, eq. 11: λ of a domain, predicted from its data alone by a line through the other domains."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from mmgrid.evaluation import paired_difference, resampled_means
from mmgrid.seeds import derive
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, Part, StudyGrid
from mmgrid.studies.domain_facts import domain_facts
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA, verdict
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.leave_one_out_line import blended, left_out
from mmgrid.studies.statistics.ranked import MAIN_METRIC, METRICS, Ranked
from mmgrid.studies.sweep import DescribedSweepParts, Sweep, SweepSpec, SweepStudy, by_run, described_sweeps, sweeps_of

PERCENT = 100.0
LEAST_DOMAINS = 3  # leaving one out must leave two for the line
LEAST_TO_JUDGE = 5  # domains needed to compare the line with the mean of the others
RanksAt = Callable[[Sweep, float], pl.DataFrame]

PREDICTIONS_SCHEMA = pl.Schema(
    texts("paradigm", "domain")
    | numbers(
        "gap_days",
        "active_ratio",
        "active_ratio_before",
        "best",
        "predicted",
        "scale",
        "scale_before",
        "slope",
        "intercept",
    )
    | counts("n_domains", "seed")
)
"""One row per domain, which the line leaves out.

`best` is its own λ* (non-active users). `predicted` is λ̃ of the line through the `n_domains` other domains
(λ* = intercept + slope · gap_days). `scale` is λ̂ = (1 − p) λ̃ + p with p = `active_ratio` over the test users;
`scale_before` is the same with p estimated one phase earlier, as in a deployment without labels.
"""

COMPARISON_SCHEMA = pl.Schema(
    texts("paradigm", "domain", "metric")
    | numbers("scale", "value_at_one", "value", "difference", "low", "high", "p", "p_adjusted")
    | counts("n_users", "seed")
)
"""One row per domain and metric: the model at λ̂ compared with λ = 1 on all test users, paired by user.

Values are in percent, differences in percentage points. The interval takes λ̂ as given: it leaves out the uncertainty
of the prediction. `p` is that of the sign-flip test, `p_adjusted` after Holm over the rows of a paradigm and metric.
"""

TABLES = {"predictions": PREDICTIONS_SCHEMA, "comparison": COMPARISON_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="gains",
        table="comparison",
        mark="point",
        x=Axis("difference", "{metric} at λ̂ minus λ = 1", "points"),
        y=Axis("domain", "domain"),
        colour=Axis("domain", "domain"),
        x_low="low",
        x_high="high",
        choices=("metric",),
        reference=0.0,
        caption="Gain of the model at the predicted λ̂ over the newest checkpoint (λ = 1), paired by user, with 95 % "
        "intervals.",
    ),
)


def answer(
    sweeps: Iterable[Sweep], statistics: Mapping[str, Mapping[str, Any]], ranks_at: RanksAt
) -> dict[str, pl.DataFrame]:
    """The tables of the study, without rows if fewer than three domains have a gap and non-active users.

    Args:
        sweeps: one sweep per domain.
        statistics: domain → facts, see `domain_facts`.
        ranks_at: returns the table of ranks of a sweep at any λ.
    """
    predictions, comparison, findings = [], [], []
    for about, group in by_run(sweeps):
        own = {sweep.domain: sweep for sweep in group}
        rows = _predictions(own, statistics)
        judged = {
            row["domain"]: Ranked.of(
                {
                    "advised": ranks_at(own[row["domain"]], row["scale"]),
                    "newest": _frame(own[row["domain"]]),
                }
            )
            for row in rows
        }
        predictions += rows
        comparison += [row for found in rows for row in _comparison(found, judged[found["domain"]])]
        found = [_gains(judged, group[0].seed), _better_line(rows, own, statistics)]
        findings += [row | about for row in found if row]
    return {
        "predictions": pl.DataFrame(predictions, schema=PREDICTIONS_SCHEMA),
        "comparison": with_holm(pl.DataFrame(comparison, schema=COMPARISON_SCHEMA)),
        "findings": pl.DataFrame(findings, schema=FINDINGS_SCHEMA),
    }


def _points(sweeps: Mapping[str, Sweep], statistics: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Domain → gap and λ*, for the domains that have both."""
    return {
        domain: (statistics[domain]["gap_days"], sweep.best["non_active"].place)
        for domain, sweep in sweeps.items()
        if "non_active" in sweep.best and statistics[domain]["gap_days"] is not None
    }


def _predictions(sweeps: Mapping[str, Sweep], statistics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    points = _points(sweeps, statistics)
    if len(points) < LEAST_DOMAINS:
        return []
    rows = []
    for domain, (gap, best) in points.items():
        line, about = left_out(points, domain), statistics[domain]
        predicted = line.at(gap)
        before = about["active_ratio_before"]
        rows.append(
            {
                "paradigm": sweeps[domain].paradigm,
                "domain": domain,
                "gap_days": gap,
                "active_ratio": about["active_ratio"],
                "active_ratio_before": before,
                "best": best,
                "predicted": predicted,
                "scale": blended(predicted, about["active_ratio"]),
                "scale_before": None if before is None else blended(predicted, before),
                "slope": line.slope,
                "intercept": line.intercept,
                "n_domains": line.n,
                "seed": sweeps[domain].seed,
            }
        )
    return rows


def _frame(sweep: Sweep) -> pl.DataFrame:
    """The table of ranks of the newest checkpoint."""
    users = sweep.ranked
    ranks = users.ranks[sweep.at(1.0)]
    columns = {"user_id": users.user_ids.tolist(), "target": users.targets, "active": users.active, "rank": ranks}
    return pl.DataFrame(columns)


def _comparison(found: Mapping[str, Any], judged: Ranked) -> list[dict[str, Any]]:
    rows = []
    for metric in METRICS:
        advised, newest = judged.values(metric).T
        change = paired_difference(advised, newest, seed=found["seed"])
        rows.append(
            {name: found[name] for name in ("paradigm", "domain", "scale", "seed")}
            | {
                "metric": metric,
                "value_at_one": PERCENT * newest.mean(),
                "value": PERCENT * advised.mean(),
                "difference": PERCENT * change.difference[0],
                "low": PERCENT * change.low[0],
                "high": PERCENT * change.high[0],
                "p": change.p_permutation[0],
                "n_users": len(judged),
            }
        )
    return rows


def _gains(judged: Mapping[str, Ranked], seed: int) -> dict[str, Any] | None:
    """By how much λ̂ raises NDCG@20, in percent of its value at λ = 1, averaged over domains; NaN if one value is 0."""
    if not judged:
        return None

    def gain(advised: np.ndarray, newest: np.ndarray) -> np.ndarray:
        return PERCENT * (np.divide(advised, newest, out=np.full(advised.shape, np.nan), where=newest > 0) - 1)

    values = [users.values(MAIN_METRIC) for users in judged.values()]
    drawn = [resampled_means(users.values(MAIN_METRIC), seed=derive(seed, name)) for name, users in judged.items()]
    means = np.mean([gain(both[:, 0], both[:, 1]) for both in drawn], axis=0)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "finding": "advised λ",
        "claim": "A λ predicted from other domains and the data alone is better than λ = 1 (Table 3).",
        "statistic": "change of NDCG@20 from λ = 1 to λ̂, percent, mean over domains",
        "value": float(np.mean([gain(*both.mean(axis=0)[:, None]) for both in values])),
        "low": float(low),
        "high": float(high),
        "p": None,
        "n": len(values),
        "verdict": verdict(float(low), float(high), "positive"),
    }


def _better_line(
    rows: Sequence[Mapping[str, Any]], sweeps: Mapping[str, Sweep], statistics: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Whether the line predicts λ* of a left-out domain better than the mean of the other domains."""
    if len(rows) < LEAST_TO_JUDGE:
        return None
    names = [row["domain"] for row in rows]
    gaps = [statistics[name]["gap_days"] for name in names]

    def advantage(places: Sequence[float]) -> float:
        points = dict(zip(names, zip(gaps, places, strict=True), strict=True))
        errors = []
        for name, (gap, best) in points.items():
            others = [place for other, (_, place) in points.items() if other != name]
            line = left_out(points, name)
            errors.append(abs(float(np.mean(others)) - best) - abs(line.at(gap) - best))
        return float(np.mean(errors))

    best = [sweeps[name].best["non_active"] for name in names]
    drawn = np.column_stack([each.replicates for each in best])
    low, high = np.quantile([advantage(row.tolist()) for row in drawn], [0.025, 0.975])
    return {
        "finding": "recency predicts λ*",
        "claim": "The mean interaction time gap predicts λ* of a left-out domain.",
        "statistic": "mean error in λ* of the other domains' mean, minus that of the line through them",
        "value": advantage([each.place for each in best]),
        "low": float(low),
        "high": float(high),
        "p": None,
        "n": len(names),
        "verdict": verdict(float(low), float(high), "positive"),
    }


class AdviseSpec(SweepSpec):
    """Table 3: λ predicted from the other domains, and its gain."""

    kind: Literal["advise"]


@dataclass(frozen=True)
class AdviseParts(DescribedSweepParts):
    """A sweep with its corpus, and the checkpoints at t1 and t2, for the evaluation at λ̂."""

    start: Any
    end: Any


class Advise(SweepStudy):
    """λ predicted from the data alone."""

    name = "advise"
    title = "λ predicted from the data"
    source = "Table 3"
    spec = AdviseSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.advise:VIEW"
    version = 4  # NaN in place of a percentage of zero; smaller p-values; clearer sentences

    def needs(self, spec: AdviseSpec, grid: StudyGrid) -> dict[str, AdviseParts]:
        old, new = grid.phases[-2:]
        return {
            domain: AdviseParts(own.points, own.corpus, grid.checkpoint(domain, old), grid.checkpoint(domain, new))
            for domain, own in described_sweeps(spec, grid).items()
        }

    def answer(self, parts: Mapping[str, AdviseParts], context: Context) -> dict[str, pl.DataFrame]:
        corpora: dict[str, Part] = {domain: own.corpus for domain, own in parts.items()}
        ranks_at = context.ranks_at
        assert ranks_at is not None  # every grid provides it

        def ranks_of(sweep: Sweep, scale: float) -> pl.DataFrame:
            points = parts[sweep.domain].points
            return ranks_at(next(part for at, part in points.items() if at not in (0.0, 1.0)), scale)

        return answer(sweeps_of(parts, context), domain_facts(corpora, context), ranks_of)


STUDY = Advise()
