"""Table 2: the quality of each paradigm on each domain at t2, next to popularity and random.

The table always shows the models of `phase2`, models trained on all phases at once (`all`), and the baselines. It
shows the models of earlier phases on demand, and no merges (see `merges`).
"""

from collections.abc import Sequence

import polars as pl

from mmgrid.evaluation import GROUPS
from mmgrid.reporting.tables.labels import metric_label
from mmgrid.reporting.tables.order import BASELINE, ordered, paradigm_order, position
from mmgrid.reporting.tables.table import Column, Table

REFERENCE_MODEL = "phase2"
TABLE_METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")

_TRAINED = {"pretrain": "to t0", "phase1": "to t1", "phase2": "to t2", "all": "to t2, in one go"}
_MODEL_ORDER = ("phase2", "all", "phase1", "pretrain")
_ALWAYS_SHOWN = ("phase2", "all")


def scores(results: pl.DataFrame, domains: Sequence[str]) -> pl.DataFrame:
    """The results of single models and baselines, sorted as the table lists them, with their labels.

    Args:
        results: `mmgrid.evaluation.RESULTS_SCHEMA`.
        domains: in the order to list them.

    Returns:
        The columns of `results` with `recommender` (the paradigm or baseline), `trained` (on which phases), `label`
        (both), and `minor` (bool: shown on demand).
    """
    single = results.filter(
        (pl.col("merge").fill_null("") == "")
        & ((pl.col("paradigm") == BASELINE) | pl.col("model").is_in(list(_TRAINED)))
    )
    paradigms = ordered(single["paradigm"].to_list(), paradigm_order())
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
            _domain=position("domain", ordered(single["domain"].to_list(), domains)),
            _group=position("group", ordered(single["group"].to_list(), GROUPS)),
            _paradigm=position("paradigm", paradigms),
            _model=position("model", [*_MODEL_ORDER, "popularity", "random"]),
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
    """Table 2 from the rows of `scores`; `None` without rows."""
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
        Column("trained", "Trained", hint="t0, t1 and t2 are the ends of the phases pretrain, phase1 and phase2"),
        *([Column("seed", "Seed", digits=0)] if several_seeds else []),
        *(Column(m, metric_label(m), digits=2, low=f"{m} low", high=f"{m} high", best=True) for m in metrics),
        Column("n_users", "Users", digits=0, hint="test users of the chosen group"),
    ]
    caption = (
        "Quality in percent, ranked over the full catalogue, with 95 % bootstrap intervals over users. "
        "Bold: the highest value of each domain."
    )
    if wide.group_by("group", "domain").agg(pl.col("n_users").n_unique() > 1)["n_users"].any():
        caption += " Rows with fewer users are evaluated on a sample of the test users."
    return Table("table-2", "Table 2", caption, tuple(columns), wide, block="domain")
