"""Is a λ for each tower, each third of the layers, or each group of users better than one λ for all?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import AfterValidator, Field

from mmgrid.evaluation import paired_difference
from mmgrid.frozen import each_once
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, Part, PartScales, Study, StudyGrid
from mmgrid.studies.model_parts import parts_of
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.curve import Floats, chosen_place, crossfitted
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.over_domains import judged_mean
from mmgrid.studies.statistics.ranked import MAIN_METRIC, Ranked
from mmgrid.studies.sweep import Sweep, SweepParts, SweepSpec, by_run, generative, sweep_points, sweeps_of

Per = Literal["tower", "third", "group"]
PERCENT = 100.0
NOUN = {"tower": "tower", "third": "third of the layers", "group": "group of users"}
Mask = npt.NDArray[np.bool_]
PartsOf = Callable[[Sweep, Literal["tower", "third"]], Sequence[str]]
RanksAt = Callable[[Sweep, PartScales], pl.DataFrame]

CHOSEN_SCHEMA = pl.Schema(
    texts("paradigm", "domain", "per", "part")
    | numbers("first", "second", "single_first", "single_second")
    | counts("seed")
)
"""One row per domain, way to divide (`per`) and part. `first` and `second` are the λ of the part that the first and the
second half of the users chose, `single_first` and `single_second` the one λ for all that they chose."""

COMPARISON_SCHEMA = pl.Schema(
    texts("paradigm", "domain", "per", "metric")
    | numbers("value_at_one", "single", "parts", "gain", "low", "high", "p", "p_adjusted")
    | counts("n_users", "seed")
)
"""One row per domain and way to divide: NDCG@20 in percent at λ = 1, at one λ, and at a λ for each part, the latter two
chosen on one half of the users and measured on the other. `gain` is `parts` minus `single` in points, paired by user;
`p` is that of the sign-flip test, `p_adjusted` after Holm over the rows of a paradigm.
"""

TABLES = {"chosen": CHOSEN_SCHEMA, "comparison": COMPARISON_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="gains",
        table="comparison",
        mark="point",
        x=Axis("gain", "NDCG@20 with a λ for each part minus one λ", "points"),
        y=Axis("domain", "domain"),
        colour=Axis("per", "a λ for each"),
        x_low="low",
        x_high="high",
        reference=0.0,
        caption="Gain of a λ for each part over one λ for all, both chosen on the other half of the users, with 95 % "
        "intervals.",
    ),
)


def answer(sweeps: Iterable[Sweep], per: Sequence[Per], parts: PartsOf, ranks_at: RanksAt) -> dict[str, pl.DataFrame]:
    """The tables of the study; a model with only one part, and users of only one group, have no rows.

    Args:
        sweeps: one sweep per domain.
        per: the ways to divide.
        parts: of the model of a sweep.
        ranks_at: returns the table of ranks of a sweep's model with a λ for each part.
    """
    chosen, comparison, findings = [], [], []
    for about, own in by_run(sweeps):
        for way in per:
            gains = {}
            for sweep in own:
                found = _by_group(sweep) if way == "group" else _by_part(sweep, way, parts(sweep, way), ranks_at)
                if found is None:
                    continue
                place = about | {"domain": sweep.domain, "per": way}
                chosen += [place | row for row in found.chosen]
                comparison.append(place | _compared(sweep, found.values))
                gains[sweep.domain,] = PERCENT * (found.values - _single(sweep))
            if gains:
                findings.append(about | _finding(way, gains, own[0].seed))
    return {
        "chosen": pl.DataFrame(chosen, schema=CHOSEN_SCHEMA),
        "comparison": with_holm(pl.DataFrame(comparison, schema=COMPARISON_SCHEMA)),
        "findings": pl.DataFrame(findings, schema=FINDINGS_SCHEMA),
    }


@dataclass(frozen=True, eq=False)
class _Found:
    """The chosen λ by part, and float64[B]: each user's NDCG@20 at the λ that the other half chose."""

    chosen: list[dict[str, Any]]
    values: Floats


def _single(sweep: Sweep) -> Floats:
    return crossfitted(sweep.ranked.values(MAIN_METRIC), sweep.scales, sweep.ranked.first_half(sweep.seed))


def _halves(sweep: Sweep) -> tuple[Mask, Mask]:
    """The first and the second half of the users; both are everybody if one would be empty."""
    first = sweep.ranked.first_half(sweep.seed)
    everybody = np.ones_like(first)
    return (first, ~first) if first.any() and not first.all() else (everybody, everybody)


def _rows(by_half: Sequence[Mapping[str, float]], single: Sequence[float]) -> list[dict[str, Any]]:
    (first, second), (single_first, single_second) = by_half, single
    return [
        {
            "part": part,
            "first": first[part],
            "second": second[part],
            "single_first": single_first,
            "single_second": single_second,
        }
        for part in first
    ]


def _by_group(sweep: Sweep) -> _Found | None:
    """A λ for active and one for non-active users, who are ranked by models of their own."""
    values, scales, active = sweep.ranked.values(MAIN_METRIC), sweep.scales, sweep.ranked.active
    groups = {"active": active, "non_active": ~active}
    halves = _halves(sweep)
    if not all((half & mask).any() for half in halves for mask in groups.values()):
        return None
    single = [float(scales[chosen_place(values[half], scales)]) for half in halves]
    chosen = [
        {name: float(scales[chosen_place(values[half & mask], scales)]) for name, mask in groups.items()}
        for half in halves
    ]
    judged = np.empty(len(values))
    for half, of_others in zip(halves, reversed(chosen), strict=True):
        for name, mask in groups.items():
            judged[half & mask] = values[half & mask, int(np.flatnonzero(scales == of_others[name])[0])]
    return _Found(_rows(chosen, single), judged)


def _by_part(sweep: Sweep, per: Literal["tower", "third"], parts: Sequence[str], ranks_at: RanksAt) -> _Found | None:
    """A λ for each part, found coordinate by coordinate from the best single λ, once through all parts."""
    if len(parts) < 2:
        return None
    values, scales = sweep.ranked.values(MAIN_METRIC), sweep.scales
    known: dict[tuple[float, ...], Floats] = {(scale,) * len(parts): values[:, at] for at, scale in enumerate(scales)}

    def values_at(by_part: Mapping[str, float]) -> Floats:
        key = tuple(by_part[part] for part in parts)
        if key not in known:
            known[key] = _values_of(sweep, ranks_at(sweep, PartScales(per, by_part)))
        return known[key]

    halves = _halves(sweep)
    single, chosen = [], []
    for half in halves:
        start = float(scales[chosen_place(values[half], scales)])
        by_part = dict.fromkeys(parts, start)
        for part in parts:
            curve = np.column_stack([values_at(by_part | {part: float(scale)})[half] for scale in scales])
            by_part[part] = float(scales[chosen_place(curve, scales)])
        single.append(start)
        chosen.append(by_part)
    judged = np.empty(len(values))
    for half, of_others in zip(halves, reversed(chosen), strict=True):
        judged[half] = values_at(of_others)[half]
    return _Found(_rows(chosen, single), judged)


def _values_of(sweep: Sweep, ranks: pl.DataFrame) -> Floats:
    """float64[B]: the NDCG@20 of the users of the sweep, from a table of ranks that has at least these users."""
    users = sweep.ranked
    own = pl.DataFrame(
        {
            "user_id": users.user_ids.tolist(),
            "target": users.targets,
            "active": users.active,
            "rank": users.ranks[sweep.at(1.0)],
        }
    )
    return Ranked.of({"own": own, "point": ranks}).values(MAIN_METRIC, ("point",))[:, 0]


def _compared(sweep: Sweep, judged: Floats) -> dict[str, Any]:
    single = _single(sweep)
    newest = sweep.ranked.values(MAIN_METRIC, (sweep.at(1.0),))[:, 0]
    gain = paired_difference(judged, single, seed=sweep.seed)
    return {
        "metric": MAIN_METRIC,
        "value_at_one": PERCENT * newest.mean(),
        "single": PERCENT * single.mean(),
        "parts": PERCENT * judged.mean(),
        "gain": PERCENT * gain.difference[0],
        "low": PERCENT * gain.low[0],
        "high": PERCENT * gain.high[0],
        "p": gain.p_permutation[0],
        "n_users": len(judged),
    }


def _finding(per: Per, gains: Mapping[tuple[str, ...], Floats], seed: int) -> dict[str, Any]:
    return {
        "finding": f"λ per {per}",
        "claim": f"A λ for each {NOUN[per]} is better than one for all.",
        "statistic": "NDCG@20 with a λ for each part minus one λ, points, both chosen on other users, mean over domains",
    } | judged_mean(gains, seed)


class TemporalPartsSpec(SweepSpec):
    """A λ for each tower, third of the layers, or group of users."""

    kind: Literal["temporal_parts"]
    per: Annotated[tuple[Per, ...], AfterValidator(each_once)] = Field(
        default=("tower", "third", "group"), min_length=1, description="what gets a λ of its own"
    )


@dataclass(frozen=True)
class TemporalPartsParts(SweepParts):
    """A sweep, and the newest checkpoint of its domain."""

    newest: Any


class TemporalParts(Study):
    """A λ for each part of the model, or each group of users."""

    name = "temporal_parts"
    title = "λ by part"
    spec = TemporalPartsSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.temporal_parts:VIEW"

    def paradigms(self, trained: Sequence[str], with_base: Sequence[str]) -> Sequence[str]:
        return generative(trained)

    def values(self, spec: TemporalPartsSpec) -> dict[str, Any]:
        return {"per": spec.per}

    def needs(self, spec: TemporalPartsSpec, grid: StudyGrid) -> dict[str, TemporalPartsParts]:
        return {
            domain: TemporalPartsParts(sweep_points(spec, grid, domain), grid.checkpoint(domain, grid.phases[-1]))
            for domain in grid.domains
        }

    def answer(self, parts: Mapping[str, TemporalPartsParts], context: Context) -> dict[str, pl.DataFrame]:
        ranks_at = context.ranks_at
        assert ranks_at is not None  # every grid provides it

        def ranks_of(sweep: Sweep, scales: PartScales) -> pl.DataFrame:
            points: Mapping[float, Part] = parts[sweep.domain].points
            return ranks_at(next(part for at, part in points.items() if at not in (0.0, 1.0)), scales)

        return answer(
            sweeps_of(parts, context),
            context.values["per"],
            lambda sweep, per: parts_of(parts[sweep.domain].newest.folder, per),
            ranks_of,
        )


STUDY = TemporalParts()
