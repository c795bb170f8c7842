"""Fig. 5, eq. 9 and 10: the best λ between and beyond the checkpoints of t1 and t2, for each group of users."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from mmgrid.evaluation import bootstrap_interval, paired_difference
from mmgrid.frozen import each_once
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, StudyGrid
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.curve import crossfitted, smoother
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA, bounds, verdict
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.ranked import MAIN_METRIC, METRICS, Ranked
from mmgrid.studies.sweep import Sweep, SweepParts, SweepSpec, SweepStudy, by_run, sweep_points, sweeps_of

Group = Literal["all", "active", "non_active"]
PERCENT = 100.0
SMALL_GAIN = 1.0  # percent of the value at λ = 1; less counts as no gain

CURVE_SCHEMA = pl.Schema(
    texts("paradigm", "domain", "group", "metric")
    | numbers("scale", "value", "low", "high", "smooth")
    | counts("n_users", "seed")
)
"""One row per domain, group, metric and λ, for the model Θ(t1) + λ (Θ(t2) − Θ(t1)), in percent. `smooth` is the
smoothed curve at this λ."""

BEST_SCHEMA = pl.Schema(
    texts("paradigm", "domain", "group", "metric")
    | numbers("best", "best_low", "best_high")
    | {"at_edge": pl.Boolean}
    | numbers("value_at_best", "value_at_one", "value_at_zero", "gain", "gain_low", "gain_high", "p", "p_adjusted")
    | counts("n_users", "seed")
)
"""One row per domain and group.

`best` is λ* (the maximum of the smoothed curve, in steps of 0.005) with a bootstrap interval over users; `at_edge` is
true if it lies at an end of the evaluated range. `value_at_*` is the measured value at the nearest evaluated λ, in
percent. `gain` is the value at a λ chosen on one half of the users minus that at λ = 1, measured on the other half
(both ways, averaged), in percentage points; its interval takes the chosen λ as given. `p` is that of the sign-flip
test, `p_adjusted` after Holm over the rows of a paradigm.
"""

TABLES = {"curve": CURVE_SCHEMA, "best": BEST_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="curves",
        table="curve",
        mark="line",
        x=Axis("scale", "λ (0 is t1, 1 is t2)"),
        y=Axis("smooth", "{metric}", "%"),
        colour=Axis("group", "users"),
        panel="domain",
        low="low",
        high="high",
        choices=("metric",),
        points="value",
        rules=("best", "best"),
        rule_bounds=("best_low", "best_high"),
        reference=1.0,
        caption="Quality of Θ(t1) + λ (Θ(t2) − Θ(t1)); λ = 0 and λ = 1 are the checkpoints at t1 and t2. Points: "
        "measured, with 95 % intervals as bands. Lines: smoothed; the dot on a line is its maximum, the best λ, and the "
        "bar through it the 95 % interval.",
    ),
)


def answer(sweeps: Iterable[Sweep], groups: Sequence[str] = ("all", "active", "non_active")) -> dict[str, pl.DataFrame]:
    """The tables of the study, from one sweep per domain; groups without users have no rows."""
    sweeps = list(sweeps)
    curve, best = [], []
    for sweep in sweeps:
        for group, users in sweep.ranked.groups().items():
            if group in groups and len(users):
                curve += _curve_rows(sweep, group, users)
                best.append(_best_row(sweep, group, users))
    best_table = with_holm(pl.DataFrame(best, schema=BEST_SCHEMA))
    return {
        "curve": pl.DataFrame(curve, schema=CURVE_SCHEMA),
        "best": best_table,
        "findings": pl.DataFrame(_findings(sweeps, best_table), schema=FINDINGS_SCHEMA),
    }


def _curve_rows(sweep: Sweep, group: str, users: Ranked) -> list[dict[str, Any]]:
    rows = []
    smooth = smoother(sweep.scales, sweep.scales)
    for metric in METRICS:
        interval = bootstrap_interval(users.values(metric), seed=sweep.seed)
        for place, scale in enumerate(sweep.scales):
            rows.append(
                {
                    "paradigm": sweep.paradigm,
                    "domain": sweep.domain,
                    "group": group,
                    "metric": metric,
                    "scale": float(scale),
                    "value": PERCENT * interval.value[place],
                    "low": PERCENT * interval.low[place],
                    "high": PERCENT * interval.high[place],
                    "smooth": PERCENT * float(smooth[place] @ interval.value),
                    "n_users": len(users),
                    "seed": sweep.seed,
                }
            )
    return rows


def _best_row(sweep: Sweep, group: str, users: Ranked) -> dict[str, Any]:
    found = sweep.best[group]
    values = users.values(MAIN_METRIC)
    names = list(users.ranks)
    one, zero, best = (names.index(sweep.at(scale)) for scale in (1.0, 0.0, found.place))
    judged = crossfitted(values, sweep.scales, users.first_half(sweep.seed))
    gain = paired_difference(judged, values[:, one], seed=sweep.seed)
    return {
        "paradigm": sweep.paradigm,
        "domain": sweep.domain,
        "group": group,
        "metric": MAIN_METRIC,
        "best": found.place,
        "best_low": found.low,
        "best_high": found.high,
        "at_edge": found.at_edge,
        "value_at_best": PERCENT * values[:, best].mean(),
        "value_at_one": PERCENT * values[:, one].mean(),
        "value_at_zero": PERCENT * values[:, zero].mean(),
        "gain": PERCENT * gain.difference[0],
        "gain_low": PERCENT * gain.low[0],
        "gain_high": PERCENT * gain.high[0],
        "p": gain.p_permutation[0],
        "p_adjusted": None,
        "n_users": len(users),
        "seed": sweep.seed,
    }


def _findings(sweeps: Sequence[Sweep], best: pl.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for about, own in by_run(sweeps):
        table = best.filter(**about)
        rows += [about | row for row in (_not_one(table), _less_variable(own)) if row]
    return rows


def _not_one(best: pl.DataFrame) -> dict[str, Any] | None:
    """λ = 1 is not always best: counts the domains in which a λ chosen on other users beats it."""
    rows = best.filter(pl.col("group") == "all").to_dicts()
    if not rows:
        return None
    better = sum(row["gain_low"] > 0 and row["p_adjusted"] < 0.05 for row in rows)
    nothing = all(row["gain_high"] < SMALL_GAIN / 100 * row["value_at_one"] for row in rows)
    return {
        "finding": "λ ≠ 1",
        "claim": "The newest checkpoint (λ = 1) is not the best one in every domain.",
        "statistic": "domains in which a λ chosen on half of the users beats λ = 1 on the other half",
        "value": float(better),
        "low": None,
        "high": None,
        "p": min(row["p_adjusted"] for row in rows),
        "n": len(rows),
        "verdict": "reproduced" if better else "not reproduced" if nothing else "undecided",
    }


def _less_variable(sweeps: Sequence[Sweep]) -> dict[str, Any] | None:
    """λ* of active users varies less over the domains than λ* of non-active users.

    Sampling noise alone makes λ* vary. The measured variance over domains contains the mean variance of the bootstrap
    replicates once, that of a resample contains it twice; both are subtracted.
    """
    whole = [sweep for sweep in sweeps if {"active", "non_active"} <= set(sweep.best)]
    if len(whole) < 3:
        return None

    def variance(of: str) -> tuple[float, np.ndarray]:
        places = np.array([sweep.best[of].place for sweep in whole])
        drawn = np.column_stack([sweep.best[of].replicates for sweep in whole])
        noise = float(drawn.var(axis=0, ddof=1).mean())
        return float(places.var(ddof=1)) - noise, drawn.var(axis=1, ddof=1) - 2 * noise

    (active, drawn_active), (non_active, drawn_non_active) = variance("active"), variance("non_active")
    low, high = bounds(drawn_non_active - drawn_active)
    return {
        "finding": "active users",
        "claim": "The best λ varies less between domains for active users than for non-active ones.",
        "statistic": "variance of λ* over domains less sampling noise, non-active minus active users",
        "value": non_active - active,
        "low": low,
        "high": high,
        "p": None,
        "n": len(whole),
        "verdict": verdict(low, high, "positive"),
    }


class TemporalSpec(SweepSpec):
    """Fig. 5: Θ(t1) + λ (Θ(t2) − Θ(t1))."""

    kind: Literal["temporal"]
    groups: Annotated[tuple[Group, ...], AfterValidator(each_once)] = Field(
        default=("all", "active", "non_active"), min_length=1
    )


class Temporal(SweepStudy):
    """The best λ between and beyond the two newest checkpoints."""

    name = "temporal"
    title = "Merging across time"
    source = "Fig. 5"
    spec = TemporalSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.temporal:VIEW"
    version = 4  # variance less sampling noise; smaller p-values; clearer sentences

    def values(self, spec: TemporalSpec) -> dict[str, Any]:
        return {"groups": spec.groups}

    def needs(self, spec: TemporalSpec, grid: StudyGrid) -> dict[str, SweepParts]:
        return {domain: SweepParts(sweep_points(spec, grid, domain)) for domain in grid.domains}

    def answer(self, parts: Mapping[str, SweepParts], context: Context) -> dict[str, pl.DataFrame]:
        return answer(sweeps_of(parts, context), context.values["groups"])


STUDY = Temporal()
