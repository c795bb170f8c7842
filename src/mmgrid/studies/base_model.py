"""Fig. 4, eq. 7 and 8: does another base for the task vectors make merging across domains cost less?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from mmgrid.evaluation import bootstrap_interval
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import BACKBONE, HISTORICAL, NEUTRAL, Context, Draws, Steps, Study, StudyGrid, StudySpec
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA, verdict
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.kept_share import (
    PERCENT,
    Estimate,
    PairSweep,
    best_alpha,
    judged_shares,
    pareto_area,
    ratio,
    shares,
    two_sided,
)
from mmgrid.studies.statistics.ranked import MAIN_METRIC, METRICS, Ranked

Base = Literal["backbone", "historical", "neutral"]
SINGLE = "single"  # the domain's own model at t2, next to the merges

CURVE_SCHEMA = pl.Schema(
    texts("paradigm", "first", "second", "base")
    | numbers("alpha")
    | texts("metric")
    | numbers(
        "first_value",
        "first_low",
        "first_high",
        "second_value",
        "second_low",
        "second_high",
        "first_single",
        "second_single",
        "kept",
        "kept_low",
        "kept_high",
        "kept_mean",
    )
    | counts("first_users", "second_users", "draws", "seed")
)
"""One row per pair of domains, base, α and metric.

`base` is `backbone`, `historical: <domain>` (the checkpoint of that domain at t1) or `neutral`. `alpha` is the weight
of `first`. `*_value` with bounds is the merge on each domain, in percent; `*_single` is the domain's own model at t2 on
the same users. Of the two shares value / single, in percent, `kept` with bounds is the smaller one, which both domains
keep, and `kept_mean` the mean; NaN if a single model finds nothing. `draws`: how often random masks were drawn; values
are means over the draws, and bounds hold their variance.
"""

BEST_SCHEMA = pl.Schema(
    texts("paradigm", "first", "second", "base", "metric")
    | numbers("alpha", "alpha_low", "alpha_high", "kept", "low", "high", "mean", "mean_low", "mean_high")
    | numbers("area", "area_low", "area_high", "gain", "gain_low", "gain_high", "p", "p_adjusted")
    | counts("draws", "seed")
)
"""One row per pair and base.

`alpha` is the α at which the smaller of the two domains' shares is largest, over all users, with its interval. `kept` is
this smaller share, `mean` that of both, for an α chosen on one half of the users and judged on the other (both ways,
averaged), in percent. `area` is the area below the curve of both shares over α, in percent of the square in which both
domains keep 100 %. `gain` is `kept` minus that of the backbone as
base, in percentage points, paired by user; null for the backbone itself. `p_adjusted` is after Holm over the rows of a
paradigm. NaN if a single model finds nothing for the users of a half or of a resample.
"""

TABLES = {"curve": CURVE_SCHEMA, "best": BEST_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="joint",
        table="curve",
        mark="path",
        x=Axis("first_value", "first domain: {metric}", "%"),
        y=Axis("second_value", "second domain: {metric}", "%"),
        colour=Axis("base", "base"),
        order="alpha",
        panel="pair",
        choices=("metric",),
        low="second_low",
        high="second_high",
        x_low="first_low",
        x_high="first_high",
        cross=("first_single", "second_single"),
        caption="Quality of the merged model on both domains, α from 0 to 1 along each line; up and right is better. "
        "Thin lines: each domain's own model.",
    ),
)


def answer(sweeps: Iterable[PairSweep]) -> dict[str, pl.DataFrame]:
    """The tables of the study, from one sweep per pair of domains and base."""
    sweeps = sorted(sweeps, key=lambda sweep: sweep.pair)
    best, gains = [], []
    for _, group in groupby(sweeps, key=lambda sweep: sweep.pair):
        rows, drawn = _best_rows({sweep.base: sweep for sweep in group})
        best += rows
        gains += drawn
    return {
        "curve": pl.DataFrame([row for sweep in sweeps for row in _curve_rows(sweep)], schema=CURVE_SCHEMA),
        "best": with_holm(pl.DataFrame(best, schema=BEST_SCHEMA)),
        "findings": pl.DataFrame(_findings(gains), schema=FINDINGS_SCHEMA),
    }


def _curve_rows(sweep: PairSweep) -> list[dict[str, Any]]:
    rows = []
    for metric in METRICS:
        values = [users.draws(metric) for users in sweep.both]
        first, second = (bootstrap_interval(of, seed=sweep.seed) for of in values)
        drawn, draws = shares(sweep.resampled(values)).min(axis=0), values[0].shape[2]
        for place, alpha in enumerate(sweep.alphas, start=1):  # place 0 is the single model
            row = {
                "paradigm": sweep.paradigm,
                "first": sweep.first,
                "second": sweep.second,
                "base": sweep.base,
                "alpha": float(alpha),
                "metric": metric,
                "first_users": first.n_users,
                "second_users": second.n_users,
                "seed": sweep.seed,
            }
            for side, found in (("first", first), ("second", second)):
                row |= {
                    f"{side}_value": PERCENT * found.value[place],
                    f"{side}_low": PERCENT * found.low[place],
                    f"{side}_high": PERCENT * found.high[place],
                    f"{side}_single": PERCENT * found.value[0],
                }
            kept = [PERCENT * ratio(found.value[place], found.value[0]) for found in (first, second)]
            low, high = np.quantile(drawn[:, place - 1], [0.025, 0.975])
            row |= {"kept": float(np.min(kept)), "kept_mean": float(np.mean(kept))}
            rows.append(row | {"kept_low": float(low), "kept_high": float(high), "draws": draws})
    return rows


@dataclass(frozen=True, eq=False)
class _Gain:
    """The difference in kept share between a base and the backbone."""

    paradigm: str
    seed: int
    base: str
    points: Estimate


def _best_rows(by_base: Mapping[str, PairSweep]) -> tuple[list[dict[str, Any]], list[_Gain]]:
    judged = {base: judged_shares(sweep) for base, sweep in by_base.items()}
    rows, gains = [], []
    for base, sweep in by_base.items():
        row: dict[str, Any] = {
            "paradigm": sweep.paradigm,
            "first": sweep.first,
            "second": sweep.second,
            "base": base,
            "metric": MAIN_METRIC,
            **dict(zip(("alpha", "alpha_low", "alpha_high"), best_alpha(sweep), strict=True)),
            **_columns(judged[base].least, "kept", "low", "high"),
            **_columns(judged[base].mean, "mean", "mean_low", "mean_high"),
            **_columns(pareto_area(sweep), "area", "area_low", "area_high"),
            "draws": sweep.on_first.draws(MAIN_METRIC).shape[2],
            "seed": sweep.seed,
        } | dict.fromkeys(("gain", "gain_low", "gain_high", "p", "p_adjusted"))
        if base != BACKBONE and BACKBONE in judged:
            gain = judged[base].least - judged[BACKBONE].least
            gains.append(_Gain(sweep.paradigm, sweep.seed, base, gain))
            row |= _columns(gain, "gain", "gain_low", "gain_high") | {"p": two_sided(gain.drawn)}
        rows.append(row)
    return rows, gains


def _columns(found: Estimate, value: str, low: str, high: str) -> dict[str, float]:
    return dict(zip((value, low, high), (found.value, *found.bounds), strict=True))


def _findings(gains: Sequence[_Gain]) -> list[dict[str, Any]]:
    rows = []
    for (paradigm, seed), group in groupby(gains, key=lambda gain: (gain.paradigm, gain.seed)):
        own = list(group)
        old = [gain.points for gain in own if gain.base.startswith(HISTORICAL)]
        neutral = [gain.points for gain in own if gain.base == NEUTRAL]
        found = []
        if old:
            found.append(
                _finding(
                    "base replacement",
                    "With a historical checkpoint as the base, a merge of two domains keeps more than with the backbone.",
                    "historical minus backbone",
                    _mean(old),
                    len(old),
                )
            )
        if neutral:
            found.append(
                _finding(
                    "neutral base",
                    "With the average of the historical checkpoints as the base, a merge keeps more than with the backbone.",
                    "neutral minus backbone",
                    _mean(neutral),
                    len(neutral),
                )
            )
        if old and neutral:
            found.append(
                _finding(
                    "neutral against historical",
                    "The neutral base keeps more than a historical checkpoint of one of the domains.",
                    "neutral minus historical",
                    _mean(neutral) - _mean(old),
                    len(neutral),
                )
            )
        rows += [row | {"paradigm": paradigm, "seed": seed} for row in found]
    return rows


def _mean(gains: Sequence[Estimate]) -> Estimate:
    """The mean over pairs (and bases)."""
    return Estimate(float(np.mean([gain.value for gain in gains])), np.mean([gain.drawn for gain in gains], axis=0))


def _finding(finding: str, claim: str, difference: str, points: Estimate, n: int) -> dict[str, Any]:
    low, high = points.bounds
    return {
        "finding": finding,
        "claim": claim,
        "statistic": f"percentage points of the single models' NDCG@20 that both domains keep, {difference}",
        "value": points.value,
        "low": low,
        "high": high,
        "p": two_sided(points.drawn),
        "n": n,
        "verdict": verdict(low, high, "positive"),
    }


class BaseModelSpec(StudySpec):
    """Fig. 4: pairs of domains merged over several bases, α from 0 to 1."""

    kind: Literal["base_model"]
    bases: tuple[Base, ...] = Field(default=("backbone", "historical", "neutral"), min_length=1)
    alphas: Steps = Steps.model_validate({"from": 0.0, "to": 1.0, "step": 0.1})
    pairs: tuple[tuple[str, str], ...] | None = Field(default=None, min_length=1, description="default: every pair")
    draws: Draws = 4

    @field_validator("pairs")
    @classmethod
    def _of_two(cls, pairs: tuple[tuple[str, str], ...] | None) -> tuple[tuple[str, str], ...] | None:
        for first, second in pairs or ():
            if first == second:
                raise ValueError(f"{first} is paired with itself")
        if len({frozenset(pair) for pair in pairs or ()}) < len(pairs or ()):
            raise ValueError("a pair is named twice; α from 0 to 1 covers both of its orders")
        return pairs


@dataclass(frozen=True)
class BaseModelParts:
    """singles: by domain. points: by pair and base (three names), then by evaluated domain and α; one for each draw."""

    singles: Mapping[str, Any]
    points: Mapping[tuple[str, str, str], Mapping[str, Mapping[float, Sequence[Any]]]]


class BaseModel(Study):
    """Whether another base makes merging across domains cost less."""

    name = "base_model"
    title = "Another base"
    source = "Fig. 4"
    spec = BaseModelSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.base_model:VIEW"
    version = 4  # the smaller share, and the area; several draws

    def paradigms(self, trained: Sequence[str], with_base: Sequence[str]) -> Sequence[str]:
        return with_base

    def needs(self, spec: BaseModelSpec, grid: StudyGrid) -> BaseModelParts | None:
        pairs = spec.pairs or tuple(combinations(sorted(grid.domains), 2))
        outside = sorted({domain for pair in pairs for domain in pair} - set(grid.domains))
        if outside:
            raise grid.wrong(f"pairs: {', '.join(outside)} is not among the domains of this study; add it to `domains`")
        if not pairs:
            return None
        singles = {
            domain: grid.evaluation(domain, grid.phases[-1]) for domain in dict.fromkeys(d for p in pairs for d in p)
        }
        points = {
            (*pair, base): {
                domain: {
                    alpha: [
                        grid.over_base(domain, *pair, base, alpha, spec.max_users, draw) for draw in range(spec.draws)
                    ]
                    for alpha in spec.alphas.values()
                }
                for domain in pair
            }
            for pair in pairs
            for base in _bases(spec, pair)
        }
        return BaseModelParts(singles, points)

    def answer(self, parts: BaseModelParts, context: Context) -> dict[str, pl.DataFrame]:
        sweeps = []
        for (first, second, base), by_domain in parts.points.items():
            alphas = sorted(by_domain[first])
            ranked = []
            for domain in (first, second):
                frames = {SINGLE: [parts.singles[domain].ranks()]}
                frames |= {repr(alpha): [part.ranks() for part in by_domain[domain][alpha]] for alpha in alphas}
                ranked.append(Ranked.of(frames))
            sweeps.append(PairSweep(context.paradigm, context.seed, first, second, base, np.array(alphas), *ranked))
        return answer(sweeps)


def _bases(spec: BaseModelSpec, pair: tuple[str, str]) -> list[str]:
    """The bases of a pair, as in the column `base`."""
    names: dict[Base, list[str]] = {
        "backbone": [BACKBONE],
        "historical": [f"{HISTORICAL}{domain}" for domain in pair],
        "neutral": [NEUTRAL],
    }
    return [name for kind, found in names.items() if kind in spec.bases for name in found]


STUDY = BaseModel()
