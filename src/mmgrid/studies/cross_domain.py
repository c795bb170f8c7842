"""Cross-domain merging (Fig. 3): the change in quality on each of several domains when their models are merged."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from mmgrid.evaluation import change_rows
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import VECTORS_FILE, Context, Draws, Part, Study, StudyGrid, StudySpec
from mmgrid.studies.item_texts import ItemTexts
from mmgrid.studies.likeness import likeness
from mmgrid.studies.partner_table import PARTNERS_SCHEMA, partner_rows
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.set_tables import (
    PREDICTORS_SCHEMA,
    SETS_SCHEMA,
    SIZES_SCHEMA,
    draws_of,
    growth,
    predictor_rows,
    set_rows,
    size_rows,
)
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.kept_share import ratio
from mmgrid.studies.statistics.merged_sets import (
    MERGED,
    SINGLE,
    Measure,
    MergedSet,
    chosen_sets,
)
from mmgrid.studies.statistics.over_domains import judged_mean
from mmgrid.studies.statistics.pairs import correlated
from mmgrid.studies.statistics.ranked import MAIN_METRIC, METRICS, Ranked

SAMPLES = 1000
NEARLY = 0.8  # share of the merges that counts as "nearly everywhere"
Way = Literal["weight", "subspace"]
# Method, its name in results, and options. Subspace merging is DARE, then TIES, as in the paper.
WAYS: dict[Way, tuple[str, str, dict[str, Any]]] = {
    "weight": ("linear", "linear", {}),
    "subspace": ("ties", "subspace", {"preset": "subspace"}),
}
RANDOM = ("subspace",)  # the ways with random masks
WEIGHT = "weight"

MERGES_SCHEMA = pl.Schema(
    texts("paradigm", "way", "domain", "partner", "group", "metric")
    | numbers("single", "merged", "change", "low", "high", "p", "p_adjusted")
    | counts("n_users", "draws", "seed")
)
"""One row per way (`weight` or `subspace`), evaluated domain, partner, group and metric.

`single` (the domain's own model at t2) and `merged` are in percent, `change` with its bounds in percent of `single`,
paired by user. `p` is that of the sign-flip test, `p_adjusted` after Holm over the rows of a paradigm, group and
metric. `draws`: how often random masks were drawn; values are means over the draws, bounds hold their variance, and `p`
is the largest of all draws.
"""

TABLES = {
    "merges": MERGES_SCHEMA,
    "sets": SETS_SCHEMA,
    "sizes": SIZES_SCHEMA,
    "partners": PARTNERS_SCHEMA,
    "predictors": PREDICTORS_SCHEMA,
    "findings": FINDINGS_SCHEMA,
}
PLOTS = (
    Plot(
        name="changes",
        table="merges",
        mark="heat",
        x=Axis("partner", "merged with"),
        y=Axis("domain", "evaluated on"),
        colour=Axis("change", "change in {metric}", "%"),
        low="low",
        high="high",
        panel="way",
        choices=("group", "metric"),
        caption="Change when the models of two domains at t2 are merged, in percent of the domain's own model.",
    ),
    Plot(
        name="sizes",
        table="sizes",
        mark="line",
        x=Axis("size", "number of merged domains"),
        y=Axis("kept", "{metric} kept", "%"),
        colour=Axis("way", "merged by"),
        choices=("metric",),
        low="low",
        high="high",
        caption="The share of its own model's quality that a domain keeps when the models of N domains are merged into "
        "one, averaged over domains and sets.",
    ),
)


def answer(
    merged: Iterable[MergedSet],
    interactions: Mapping[str, int],
    item_texts: Mapping[str, ItemTexts],
    measures: Mapping[str, Measure],
) -> dict[str, pl.DataFrame]:
    """The tables of the study.

    Args:
        merged: sets of domains, merged in each way and evaluated on each of them.
        interactions: domain → number of training interactions, before t2 (Finding 3).
        item_texts: by domain (Finding 1); empty if the grid has no item vectors.
        measures: predictor → (domain, partner) → value, see `likeness`.
    """
    merged = list(merged)
    pairs = [one for one in merged if len(one.domains) == 2]
    rows = [row for pair in pairs for row in _merge_rows(pair)]
    merges = with_holm(pl.DataFrame(rows, schema=MERGES_SCHEMA), "group")
    main = merges.filter((pl.col("group") == "all") & (pl.col("metric") == MAIN_METRIC))
    findings = []
    for (paradigm, seed, way), own in groupby(
        main.sort("paradigm", "seed", "way", maintain_order=True).to_dicts(),
        key=lambda row: (row["paradigm"], row["seed"], row["way"]),
    ):
        found = _findings(list(own), interactions, item_texts)
        findings += [row | {"paradigm": paradigm, "seed": seed, "finding": f"{row['finding']}, {way}"} for row in found]
    findings += _subspace_against_weight(pairs)
    runs: dict[tuple[str, int, str], list[MergedSet]] = {}
    for one in merged:
        runs.setdefault((one.paradigm, one.seed, one.way), []).append(one)
    findings += [row for run in runs.values() for row in growth(run)]
    sizes = [row for run in runs.values() for row in size_rows(run)]
    of_pairs = [[one for one in run if len(one.domains) == 2] for run in runs.values()]
    partners = [row for run in of_pairs if run for row in partner_rows(run, item_texts)]
    predictors = [row for run in runs.values() for row in predictor_rows(run, measures)]
    return {
        "merges": merges,
        "sets": pl.DataFrame([row for one in merged for row in set_rows(one)], schema=SETS_SCHEMA),
        "sizes": pl.DataFrame(sizes, schema=SIZES_SCHEMA),
        "partners": pl.DataFrame(partners, schema=PARTNERS_SCHEMA),
        "predictors": with_holm(pl.DataFrame(predictors, schema=PREDICTORS_SCHEMA), "way"),
        "findings": pl.DataFrame(findings, schema=FINDINGS_SCHEMA),
    }


def _merge_rows(pair: MergedSet) -> list[dict[str, Any]]:
    users, (partner,) = pair.ranked, pair.others
    compared = change_rows(
        users.ranks[MERGED],
        users.ranks[SINGLE],
        users.active,
        paradigm=pair.paradigm,
        domain=pair.domain,
        model=MERGED,
        reference=SINGLE,
        seed=pair.seed,
        metrics=METRICS,
        samples=SAMPLES,
    )
    means = {
        (group, metric): 100.0 * own.values(metric, (SINGLE, MERGED)).mean(axis=0)
        for group, own in users.groups().items()
        for metric in METRICS
        if len(own)
    }
    return [
        {
            "paradigm": pair.paradigm,
            "way": pair.way,
            "domain": pair.domain,
            "partner": partner,
            "group": row["group"],
            "metric": row["metric"],
            "single": float(means[row["group"], row["metric"]][0]),
            "merged": float(means[row["group"], row["metric"]][1]),
            "change": row["relative"],
            "low": row["relative_low"],
            "high": row["relative_high"],
            "p": row["p_permutation"],
            "n_users": row["n_users"],
            "draws": draws_of(pair),
            "seed": pair.seed,
        }
        for row in compared.iter_rows(named=True)
        if row["n_users"]
    ]


def _findings(
    rows: Sequence[Mapping[str, Any]], interactions: Mapping[str, int], item_texts: Mapping[str, ItemTexts]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any] | None] = [_conflicts(rows)]
    domains = sorted({row["domain"] for row in rows})
    if set(domains) <= set(item_texts):
        found.append(
            correlated(
                rows,
                lambda domain, partner: item_texts[domain].likeness(item_texts[partner]),
                "finding 1",
                "The more similar the texts of two domains, the better their merge.",
                "Spearman's ρ of the change and the cosine of the domains' mean item vectors",
            )
        )
        found.append(
            correlated(
                rows,
                lambda _, partner: item_texts[partner].diversity,
                "finding 1 (diversity)",
                "The more diverse the texts of a domain, the more it helps those that it is merged with.",
                "Spearman's ρ of the change and the mean cosine distance of two of the partner's items",
            )
        )
    found.append(
        correlated(
            rows,
            lambda domain, partner: math.log(interactions[domain] / interactions[partner]),
            "finding 3",
            "Of two merged domains, the one with fewer training interactions loses more.",
            "Spearman's ρ of the change and the log ratio of training interactions",
        )
    )
    return [row for row in found if row]


def _conflicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Finding 2 (semid and semb): merging lowers quality nearly everywhere."""
    fell = sum(row["high"] < 0 and row["p_adjusted"] < 0.05 for row in rows)
    rose = sum(row["low"] > 0 and row["p_adjusted"] < 0.05 for row in rows)
    share = fell / len(rows)
    return {
        "finding": "finding 2",
        "claim": "Merging two domains lowers the quality on both, nearly everywhere.",
        "statistic": "share of merges significantly below the domain's own model (after Holm)",
        "value": share,
        "low": None,
        "high": None,
        "p": None,
        "n": len(rows),
        "verdict": "reproduced" if share >= NEARLY else "not reproduced" if rose > fell else "undecided",
    }


def _subspace_against_weight(pairs: Sequence[MergedSet]) -> list[dict[str, Any]]:
    """Section 4.3: the subspace merge, used from there on, loses less than the average."""
    ways = {(pair.paradigm, pair.seed, pair.domain, *pair.others, pair.way): pair.ranked for pair in pairs}
    runs: dict[tuple[str, int], dict[tuple[str, ...], np.ndarray]] = {}
    for (paradigm, seed, domain, partner, way), subspace in ways.items():
        weight = ways.get((paradigm, seed, domain, partner, "weight"))
        if way == "subspace" and weight is not None:
            ranks = {**subspace.ranks, WEIGHT: weight.ranks[MERGED]}
            both = replace(subspace, ranks=ranks).draws(MAIN_METRIC, (SINGLE, MERGED, WEIGHT))
            runs.setdefault((paradigm, seed), {})[domain, partner] = both
    return [
        {
            "finding": "subspace or weight",
            "claim": "A merge by subspace loses less quality than one by weight (section 4.3).",
            "paradigm": paradigm,
            "statistic": "NDCG@20 by subspace minus that by weight, in percent of the own model, mean over merges",
            "seed": seed,
            **judged_mean(values, seed, lambda means: 100.0 * ratio(means[:, 1] - means[:, 2], means[:, 0])),
        }
        for (paradigm, seed), values in runs.items()
    ]


class CrossDomainSpec(StudySpec):
    """Fig. 3: pairs of domains, and larger sets, merged and evaluated on each."""

    kind: Literal["cross_domain"]
    ways: tuple[Way, ...] = Field(default=("weight", "subspace"), min_length=1)
    sizes: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        default=(2,), min_length=1, description="numbers of domains that are merged into one model"
    )
    sets: tuple[tuple[str, ...], ...] | None = Field(
        default=None,
        min_length=1,
        description="default: every pair, all domains at once, and as many others as domains",
    )
    draws: Draws = 4

    @model_validator(mode="after")
    def _sets_fit(self) -> "CrossDomainSpec":
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes: one is named twice in {', '.join(map(str, self.sizes))}")
        for one in self.sets or ():
            if len(set(one)) < len(one):
                raise ValueError(f"sets: {', '.join(one)}: a domain is named twice")
            if len(one) not in self.sizes:
                raise ValueError(f"sets: {', '.join(one)}: {len(one)} is not among sizes; add it there")
        if len({frozenset(one) for one in self.sets or ()}) < len(self.sets or ()):
            raise ValueError("sets: one is named twice")
        return self


@dataclass(frozen=True)
class CrossDomainParts:
    """singles, corpora, item_vectors, checkpoints: by domain. base: Θ⁽⁰⁾.

    merged: by way, set of domains and evaluated domain; one for each draw.
    """

    singles: Mapping[str, Any]
    merged: Mapping[tuple[str, tuple[str, ...], str], Sequence[Any]]
    corpora: Mapping[str, Any]
    item_vectors: Mapping[str, Any]
    checkpoints: Mapping[str, Any]
    base: Any


class CrossDomain(Study):
    """The change in quality on each of several merged domains."""

    name = "cross_domain"
    title = "Merging across domains"
    source = "Fig. 3"
    spec = CrossDomainSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.cross_domain:VIEW"
    version = 6  # how diverse the partner's texts are

    def paradigms(self, trained: Sequence[str], with_base: Sequence[str]) -> Sequence[str]:
        return with_base

    def needs(self, spec: CrossDomainSpec, grid: StudyGrid) -> CrossDomainParts | None:
        if len(grid.domains) < 2:
            return None
        base = grid.base()  # an error here if there is none: merging needs a common base
        vectors = {domain: grid.item_vectors(domain) for domain in grid.domains}
        return CrossDomainParts(
            singles={domain: grid.evaluation(domain, grid.phases[-1]) for domain in grid.domains},
            merged={
                (way, domains, domain): [
                    grid.together(domain, domains, *WAYS[way], spec.max_users, draw)
                    for draw in range(spec.draws if way in RANDOM else 1)
                ]
                for way in spec.ways
                for domains in self._sets(spec, grid)
                for domain in domains
            },
            corpora={domain: grid.corpus(domain) for domain in grid.domains},
            item_vectors={domain: cell for domain, cell in vectors.items() if cell is not None},
            checkpoints={domain: grid.checkpoint(domain, grid.phases[-1]) for domain in grid.domains},
            base=base,
        )

    def _sets(self, spec: CrossDomainSpec, grid: StudyGrid) -> list[tuple[str, ...]]:
        unknown = sorted({domain for one in spec.sets or () for domain in one} - set(grid.domains))
        if unknown:
            raise grid.wrong(f"sets: {', '.join(unknown)} is not among the domains of this study; add it to `domains`")
        if max(spec.sizes) > len(grid.domains):
            raise grid.wrong(
                f"sizes: there are {len(grid.domains)} domains, so none can be merged {max(spec.sizes)} at a time"
            )
        return [one for size in sorted(spec.sizes) for one in chosen_sets(grid.domains, size, spec.sets)]

    def answer(self, parts: CrossDomainParts, context: Context) -> dict[str, pl.DataFrame]:
        merged = []
        for (way, domains, domain), draws in parts.merged.items():
            frames = {SINGLE: [parts.singles[domain].ranks()], MERGED: [part.ranks() for part in draws]}
            ranked = Ranked.of(frames)
            merged.append(MergedSet(context.paradigm, context.seed, way, domains, domain, ranked))
        item_texts = {
            name: ItemTexts.of(np.load(part.folder / VECTORS_FILE)) for name, part in parts.item_vectors.items()
        }
        interactions = _interactions(parts.corpora, context)
        folders = {domain: part.folder for domain, part in parts.checkpoints.items()}
        measures = likeness(folders, parts.base.folder, context.paradigm, interactions, item_texts)
        return answer(merged, interactions, item_texts, measures)


def _interactions(corpora: Mapping[str, Part], context: Context) -> dict[str, int]:
    """Domain → number of training interactions, over all training phases."""
    found: dict[str, Any] = {domain: part.summary["statistics"] for domain, part in corpora.items()}
    return {domain: sum(one["interactions"][phase] for phase in context.phases) for domain, one in found.items()}


STUDY = CrossDomain()
