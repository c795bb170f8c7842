"""Table 2: how good each paradigm is on each domain at t2, and what any recommender must beat.

Shown at once: the models of ``phase2``, the reference trained in one go (``all``), popularity and chance.  The
models of earlier phases are shown on demand.  Merges are none of this table's business (see `merges`).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mmgrid.evaluation import GROUPS
from mmgrid.reporting.tables.tables import Column, Table, ordered

BASELINE = "baseline"
REFERENCE_MODEL = "phase2"
PARADIGM_ORDER = ("text", "semid", "semb", "sasrec")
TABLE_METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")

_TRAINED = {"pretrain": "to t0", "phase1": "to t1", "phase2": "to t2", "all": "to t2, in one go"}
_MODEL_ORDER = ("phase2", "all", "phase1", "pretrain")
_ALWAYS_SHOWN = ("phase2", "all")


def metric_label(metric: str) -> str:
    """``ndcg@10`` → ``NDCG@10``; ``recall@10`` → ``Recall@10``."""
    family, _, cutoff = metric.partition("@")
    name = "Recall" if family == "recall" else family.upper()
    return f"{name}@{cutoff}" if cutoff else name


def group_label(group: str) -> str:
    return {"all": "all users", "active": "active users", "non_active": "non-active users"}.get(group, group)


def metric_order(metrics: Sequence[str]) -> list[str]:
    """Distinct metrics as they are listed: those of Table 2 first."""
    return ordered(list(metrics), ["ndcg@10", "ndcg@20", "recall@10", "recall@20"])


def scores(results: pl.DataFrame, domains: Sequence[str]) -> pl.DataFrame:
    """Results rows of single models and baselines, in the order of the table, with how they are named.

    Returns:
        The results' columns with ``recommender`` (paradigm or baseline), ``trained``, ``label`` (both), and
        ``minor`` (bool: shown on demand).
    """
    single = results.filter(
        (pl.col("merge").fill_null("") == "")
        & ((pl.col("paradigm") == BASELINE) | pl.col("model").is_in(list(_TRAINED)))
    )
    paradigms = [*ordered(single["paradigm"].to_list(), PARADIGM_ORDER)]
    paradigms = [name for name in paradigms if name != BASELINE] + [BASELINE]
    baseline = pl.col("paradigm") == BASELINE
    recommender = pl.when(baseline).then(pl.col("model")).otherwise(pl.col("paradigm"))
    trained = pl.col("model").replace_strict(_TRAINED, default="", return_dtype=pl.String)
    always = single["model"].is_in(list(_ALWAYS_SHOWN)).any()
    minor = ~(baseline | pl.col("model").is_in(list(_ALWAYS_SHOWN))) if always else pl.lit(False)
    return (
        single.with_columns(
            recommender=recommender,
            trained=pl.when(baseline).then(pl.lit("")).otherwise(trained),
            minor=minor,
            _domain=_place("domain", ordered(single["domain"].to_list(), domains)),
            _group=_place("group", ordered(single["group"].to_list(), GROUPS)),
            _paradigm=_place("paradigm", paradigms),
            _model=_place("model", [*_MODEL_ORDER, "popularity", "random"]),
        )
        .with_columns(
            label=pl.when(pl.col("model") == REFERENCE_MODEL)
            .then(pl.col("recommender"))
            .when(pl.col("model") == "all")
            .then(pl.col("recommender") + " (in one go)")
            .when(baseline)
            .then(pl.col("recommender"))
            .otherwise(pl.col("recommender") + " " + pl.col("trained"))
        )
        .sort("_group", "_domain", pl.col("paradigm") == BASELINE, "minor", "_paradigm", "_model", "seed")
        .drop("_domain", "_group", "_paradigm", "_model")
    )


def comparison_table(scored: pl.DataFrame) -> Table | None:
    """Table 2 from the rows of `scores`; ``None`` without rows."""
    if scored.is_empty():
        return None
    present = scored["metric"].unique().to_list()
    metrics = [metric for metric in TABLE_METRICS if metric in present] or sorted(present)[:4]
    keys = ["group", "domain", "recommender", "trained", "label", "minor", "paradigm", "model", "seed"]
    wide = scored.select([*keys, "n_users"]).unique(keys, keep="first", maintain_order=True)
    for metric in metrics:
        values = scored.filter(pl.col("metric") == metric).select(
            *keys,
            pl.col("value").alias(metric),
            pl.col("low").alias(f"{metric} low"),
            pl.col("high").alias(f"{metric} high"),
        )
        wide = wide.join(values.unique(keys), on=keys, how="left", nulls_equal=True, maintain_order="left")
    several_seeds = wide["seed"].n_unique() > 1
    columns = [
        Column("domain", "Domain"),
        Column("recommender", "Recommender"),
        Column("trained", "Trained", hint="t0, t1 and t2 are the ends of pretrain, phase1 and phase2"),
        *([Column("seed", "Seed", digits=0)] if several_seeds else []),
        *(Column(m, metric_label(m), digits=2, low=f"{m} low", high=f"{m} high", best=True) for m in metrics),
        Column("n_users", "Users", digits=0, hint="test users of the group"),
    ]
    caption = (
        "Recommendation quality in percent over the full catalogue, with 95 % bootstrap intervals over users. "
        "The highest value of a domain is bold."
    )
    if wide.group_by("group", "domain").agg(pl.col("n_users").n_unique() > 1)["n_users"].any():
        caption += " Where a row has fewer users, they are a sample of the others' users."
    return Table("table-2", "Table 2", caption, tuple(columns), wide, block="domain")


def _place(column: str, order: Sequence[str]) -> pl.Expr:
    places = {name: place for place, name in enumerate(order)}
    return pl.col(column).replace_strict(places, default=len(order), return_dtype=pl.Int64)
