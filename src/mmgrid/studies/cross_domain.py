"""Cross-domain merging (Fig. 3): the change in quality on each of two domains when their models are merged."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from mmgrid.evaluation import CHANGES_SCHEMA, change_rows
from mmgrid.seeds import generator
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import VECTORS_FILE, Context, Part, Study, StudyGrid, StudySpec
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA, bounds, verdict
from mmgrid.studies.statistics.holm import with_holm
from mmgrid.studies.statistics.kept_share import ratio
from mmgrid.studies.statistics.over_domains import judged_mean
from mmgrid.studies.statistics.permutation import labels_p, rank_correlation
from mmgrid.studies.statistics.ranked import MAIN_METRIC, METRICS, Ranked

LEAST_DOMAINS = 4  # with fewer, a correlation over pairs means nothing
SAMPLES = 1000
NEARLY = 0.8  # share of the merges that counts as "nearly everywhere"
MERGED, SINGLE = "merged", "single"
Way = Literal["weight", "subspace"]
# Method, its name in results, and options. Subspace merging is DARE, then TIES, as in the paper.
WAYS: dict[Way, tuple[str, str, dict[str, Any]]] = {
    "weight": ("linear", "linear", {}),
    "subspace": ("ties", "subspace", {"preset": "subspace"}),
}

MERGES_SCHEMA = pl.Schema(
    texts("paradigm", "way", "domain", "partner", "group", "metric")
    | numbers("single", "merged", "change", "low", "high", "p", "p_adjusted")
    | counts("n_users", "seed")
)
"""One row per way (`weight` or `subspace`), evaluated domain, partner, group and metric.

`single` (the domain's own model at t2) and `merged` are in percent, `change` with its bounds in percent of `single`,
paired by user. `p` is that of the sign-flip test, `p_adjusted` after Holm over the rows of a paradigm, group and
metric.
"""

TABLES = {"merges": MERGES_SCHEMA, "findings": FINDINGS_SCHEMA}
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
)


@dataclass(frozen=True)
class Compared:
    """The ranks of a merge on one domain, and those of the domain's own model for at least the same users."""

    recipe: Mapping[str, Any]  # of the evaluation of the merge
    ranks: pl.DataFrame  # user_id, target, active, rank
    reference_ranks: pl.DataFrame
    reference: str  # the domain's own model


def changes(compared: Iterable[Compared]) -> pl.DataFrame:
    """The change from the domain's own model to each merge, paired by user: `CHANGES_SCHEMA`.

    Raises:
        ValueError: a user of the merge has no rank by the domain's own model, or one for another target.
    """
    frames = []
    for pair in compared:
        same = ["user_id", "target"]
        reference = pair.ranks.select(same).join(pair.reference_ranks, on=same, how="left", maintain_order="left")
        if reference["rank"].null_count():
            raise ValueError(f"{pair.recipe['model']} and {pair.reference}: ranked for different users or targets")
        merge = pair.recipe["merge"]
        own_name = "rules" in merge  # a merge of the grid file with a name of its own
        share = None if own_name else merge["weights"].get(pair.recipe["domain"])
        frames.append(
            change_rows(
                pair.ranks["rank"].to_numpy(),
                reference["rank"].to_numpy(),
                pair.ranks["active"].to_numpy(),
                paradigm=pair.recipe["paradigm"],
                domain=pair.recipe["domain"],
                model=pair.recipe["model"],
                reference=pair.reference,
                sources=tuple(merge["weights"]),
                merge=pair.recipe["model"] if own_name else merge["method"],
                parameter=None if share is None else float(share),
                seed=pair.recipe["seed"],
                samples=SAMPLES,
            )
        )
    return pl.concat([CHANGES_SCHEMA.to_frame(), *frames])


@dataclass(frozen=True, eq=False)
class MergedPair:
    """A merge of the models of two domains, evaluated on one of them.

    way: `weight` or `subspace`. ranked: the users of `domain`, ranked by the models `single` and `merged`.
    """

    paradigm: str
    seed: int
    way: str
    domain: str
    partner: str
    ranked: Ranked

    @property
    def run(self) -> tuple[str, int, str]:
        return self.paradigm, self.seed, self.way


def answer(
    pairs: Iterable[MergedPair], interactions: Mapping[str, int], centres: Mapping[str, np.ndarray]
) -> dict[str, pl.DataFrame]:
    """The tables of the study.

    Args:
        pairs: every pair of domains, merged in each way and evaluated on both.
        interactions: domain → number of training interactions, before t2 (Finding 3).
        centres: domain → mean vector of its items (Finding 1); empty if the grid has no item vectors.
    """
    pairs = list(pairs)
    rows = [row for pair in pairs for row in _merge_rows(pair)]
    merges = with_holm(pl.DataFrame(rows, schema=MERGES_SCHEMA), "group")
    main = merges.filter((pl.col("group") == "all") & (pl.col("metric") == MAIN_METRIC))
    findings = []
    for (paradigm, seed, way), own in groupby(
        main.sort("paradigm", "seed", "way", maintain_order=True).to_dicts(),
        key=lambda row: (row["paradigm"], row["seed"], row["way"]),
    ):
        found = _findings(list(own), interactions, centres)
        findings += [row | {"paradigm": paradigm, "seed": seed, "finding": f"{row['finding']}, {way}"} for row in found]
    findings += _subspace_against_weight(pairs)
    return {"merges": merges, "findings": pl.DataFrame(findings, schema=FINDINGS_SCHEMA)}


def _merge_rows(pair: MergedPair) -> list[dict[str, Any]]:
    users = pair.ranked
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
            "partner": pair.partner,
            "group": row["group"],
            "metric": row["metric"],
            "single": float(means[row["group"], row["metric"]][0]),
            "merged": float(means[row["group"], row["metric"]][1]),
            "change": row["relative"],
            "low": row["relative_low"],
            "high": row["relative_high"],
            "p": row["p_permutation"],
            "n_users": row["n_users"],
            "seed": pair.seed,
        }
        for row in compared.iter_rows(named=True)
        if row["n_users"]
    ]


def _findings(
    rows: Sequence[Mapping[str, Any]], interactions: Mapping[str, int], centres: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any] | None] = [_conflicts(rows)]
    domains = sorted({row["domain"] for row in rows})
    if set(domains) <= set(centres):
        found.append(
            _correlated(
                rows,
                lambda domain, partner: _cosine(centres[domain], centres[partner]),
                "finding 1",
                "The more similar the texts of two domains, the better their merge.",
                "Spearman's ρ of the change and the cosine of the domains' mean item vectors",
            )
        )
    found.append(
        _correlated(
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


def _subspace_against_weight(pairs: Sequence[MergedPair]) -> list[dict[str, Any]]:
    """Section 4.3: the subspace merge, used from there on, loses less than the average."""
    ways = {(pair.paradigm, pair.seed, pair.domain, pair.partner, pair.way): pair.ranked for pair in pairs}
    runs: dict[tuple[str, int], dict[tuple[str, ...], np.ndarray]] = {}
    for (paradigm, seed, domain, partner, way), subspace in ways.items():
        weight = ways.get((paradigm, seed, domain, partner, "weight"))
        if way == "subspace" and weight is not None:
            columns = (subspace.values(MAIN_METRIC, (SINGLE, MERGED)), weight.values(MAIN_METRIC, (MERGED,)))
            runs.setdefault((paradigm, seed), {})[domain, partner] = np.hstack(columns)
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


def _correlated(
    rows: Sequence[Mapping[str, Any]],
    predictor: Callable[[str, str], float],
    finding: str,
    claim: str,
    statistic: str,
) -> dict[str, Any] | None:
    """Rank correlation of the changes with a predictor over (domain, partner); its p comes from exchanging domains."""
    domains = sorted({row["domain"] for row in rows})
    if len(domains) < LEAST_DOMAINS:
        return None
    changes = np.array([row["change"] for row in rows])
    places = [(row["domain"], row["partner"]) for row in rows]

    def over(names: Mapping[str, str]) -> float:
        return rank_correlation(np.array([predictor(names[a], names[b]) for a, b in places]), changes)

    predicted = np.array([predictor(a, b) for a, b in places])
    low, high = _over_domains(places, predicted, changes)
    p = labels_p(domains, over)
    return {
        "finding": finding,
        "claim": claim,
        "statistic": statistic,
        "value": rank_correlation(predicted, changes),
        "low": low,
        "high": high,
        "p": p,
        "n": len(rows),
        "verdict": verdict(low, high, "positive", p),
    }


def _over_domains(places: Sequence[tuple[str, str]], x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """95 % interval of the rank correlation from resampling domains, each with all of its pairs."""
    at = {place: index for index, place in enumerate(places)}
    domains = sorted({domain for place in places for domain in place})
    draw = generator(0, "studies", "domains")
    values = []
    for _ in range(SAMPLES):
        drawn = [domains[place] for place in draw.integers(len(domains), size=len(domains))]
        chosen = [at[one, other] for one in drawn for other in drawn if (one, other) in at]
        values.append(rank_correlation(x[chosen], y[chosen]) if chosen else math.nan)
    return bounds(np.array(values))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


class CrossDomainSpec(StudySpec):
    """Fig. 3: every pair of domains merged and evaluated on both."""

    kind: Literal["cross_domain"]
    ways: tuple[Way, ...] = Field(default=("weight", "subspace"), min_length=1)


@dataclass(frozen=True)
class CrossDomainParts:
    """singles, corpora, item_vectors: by domain. merged: by way, evaluated domain and partner."""

    singles: Mapping[str, Any]
    merged: Mapping[tuple[str, str, str], Any]
    corpora: Mapping[str, Any]
    item_vectors: Mapping[str, Any]


class CrossDomain(Study):
    """The change in quality on each of two merged domains."""

    name = "cross_domain"
    title = "Merging across domains"
    source = "Fig. 3"
    spec = CrossDomainSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.cross_domain:VIEW"
    version = 4  # the two ways against each other

    def paradigms(self, trained: Sequence[str], with_base: Sequence[str]) -> Sequence[str]:
        return with_base

    def needs(self, spec: CrossDomainSpec, grid: StudyGrid) -> CrossDomainParts | None:
        if len(grid.domains) < 2:
            return None
        grid.base()  # an error here if there is none: merging needs a common base
        vectors = {domain: grid.item_vectors(domain) for domain in grid.domains}
        return CrossDomainParts(
            singles={domain: grid.evaluation(domain, grid.phases[-1]) for domain in grid.domains},
            merged={
                (way, domain, partner): grid.pair(domain, partner, *WAYS[way], spec.max_users)
                for way in spec.ways
                for pair in combinations(sorted(grid.domains), 2)
                for domain, partner in (pair, pair[::-1])
            },
            corpora={domain: grid.corpus(domain) for domain in grid.domains},
            item_vectors={domain: cell for domain, cell in vectors.items() if cell is not None},
        )

    def answer(self, parts: CrossDomainParts, context: Context) -> dict[str, pl.DataFrame]:
        pairs = []
        for (way, domain, partner), part in parts.merged.items():
            frames = {SINGLE: parts.singles[domain].ranks(), MERGED: part.ranks()}
            pairs.append(MergedPair(context.paradigm, context.seed, way, domain, partner, Ranked.of(frames)))
        centres = {name: np.load(part.folder / VECTORS_FILE).mean(axis=0) for name, part in parts.item_vectors.items()}
        return answer(pairs, _interactions(parts.corpora, context), centres)


def _interactions(corpora: Mapping[str, Part], context: Context) -> dict[str, int]:
    """Domain → number of training interactions, over all training phases."""
    found: dict[str, Any] = {domain: part.summary["statistics"] for domain, part in corpora.items()}
    return {domain: sum(one["interactions"][phase] for phase in context.phases) for domain, one in found.items()}


STUDY = CrossDomain()
