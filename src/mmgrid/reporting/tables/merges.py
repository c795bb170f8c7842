"""The change of quality when two domains' models are merged: the rows of the cross-domain heatmap.

A pair is a merge with sources from two domains: the domain on which it is evaluated, and its partner. The change is
in percent of the value of the domain's own model of phase2. Merges of more domains, or within one, and families are left
out.
"""

import re
from collections.abc import Iterable

import polars as pl

from mmgrid.reporting.tables.comparison import REFERENCE_MODEL
from mmgrid.reporting.tables.labels import metric_label
from mmgrid.reporting.tables.order import STUDY_METRICS, ordered
from mmgrid.reporting.tables.table import Column, Table

PAIRS_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "recipe": pl.String,
        "domain": pl.String,
        "partner": pl.String,
        "group": pl.String,
        "metric": pl.String,
        "single": pl.Float64,
        "merged": pl.Float64,
        "change": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "significant": pl.Boolean,
        "seeds": pl.Int64,
        "n_users": pl.Int64,
    }
)
"""`single` and `merged` in percent; `change` and its bounds in percent of `single`; `significant` is whether the
interval excludes zero, null without an interval. Several `seeds` have their means, and the outermost bounds."""

FAMILY = "family"  # in the column `merge` of a family's results
_KEYS = ["paradigm", "domain", "group", "metric", "seed"]


def pairs(results: pl.DataFrame, changes: pl.DataFrame, domains: Iterable[str]) -> pl.DataFrame:
    """One row per paradigm, recipe, domain, partner, group and metric: `PAIRS_SCHEMA`.

    Args:
        results: the merges and the single models of phase2, `mmgrid.evaluation.RESULTS_SCHEMA`.
        changes: their paired comparisons, `mmgrid.evaluation.CHANGES_SCHEMA`; without rows the pairs have no interval.
        domains: every domain's name; the names of sources contain one.
    """
    known = set(domains) | set(results["domain"].to_list())
    merged = results.filter(~pl.col("merge").fill_null("").is_in(["", FAMILY]))
    partners = [partner(sources, domain, known) for sources, domain in merged.select("sources", "domain").iter_rows()]
    merged = merged.with_columns(
        partner=pl.Series(partners, dtype=pl.String),
        recipe=pl.Series([recipe(*row) for row in merged.select("merge", "parameter").iter_rows()], dtype=pl.String),
    ).filter(pl.col("partner").is_not_null())
    single = results.filter((pl.col("merge").fill_null("") == "") & (pl.col("model") == REFERENCE_MODEL)).select(
        *_KEYS, pl.col("value").alias("single")
    )
    bounds = changes.filter(pl.col("reference") == REFERENCE_MODEL).select(
        *_KEYS, "model", "sources", "merge", "parameter", low="relative_low", high="relative_high"
    )
    joined = (
        merged.drop("low", "high")
        .join(single.unique(_KEYS), on=_KEYS, how="inner", maintain_order="left")
        .join(
            bounds.unique([*_KEYS, "model", "sources", "merge", "parameter"]),
            on=[*_KEYS, "model", "sources", "merge", "parameter"],
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
        .with_columns(change=100.0 * (pl.col("value") / pl.col("single") - 1.0))
        .filter(pl.col("change").is_finite())
    )
    by = ["paradigm", "recipe", "domain", "partner", "group", "metric"]
    bound = pl.col("low", "high").fill_nan(None)
    return (
        joined.with_columns(bound)
        .group_by(by, maintain_order=True)
        .agg(
            pl.col("single", "change").mean(),
            merged=pl.col("value").mean(),
            low=pl.when(pl.col("low").null_count() == 0).then(pl.col("low").min()),
            high=pl.when(pl.col("high").null_count() == 0).then(pl.col("high").max()),
            seeds=pl.col("seed").n_unique().cast(pl.Int64),
            n_users=pl.col("n_users").max(),
        )
        .with_columns(significant=(pl.col("low") > 0) | (pl.col("high") < 0))
        .select(PAIRS_SCHEMA.names())
    )


def partner(sources: str | None, domain: str, known: set[str]) -> str | None:
    """The other domain of a pair, or `None` if the sources are not `domain` and one other.

    Args:
        sources: joined with `+`; each is a domain or the name of its checkpoint, such as `PARADIGM/toys/phase2`.
        domain: on which the merge is evaluated.
        known: every domain's name.
    """
    found, rest = set(), sources or ""
    for name in sorted(known, key=len, reverse=True):  # the longest first, since a name may contain another
        rest, times = re.subn(rf"(?<![^/:@+ ]){re.escape(name)}(?![^/:@+ ])", "", rest)
        if times:
            found.add(name)
    others = found - {domain}
    return others.pop() if domain in found and len(others) == 1 else None


def recipe(merge: str, parameter: float | None) -> str:
    """`linear, 0.5`; the method alone without a parameter."""
    return merge if parameter is None else f"{merge}, {parameter:g}"


def pairs_table(found: pl.DataFrame, metric: str) -> Table | None:
    """The numbers of the heatmap for one metric; `None` without rows."""
    frame = found.filter(pl.col("metric") == metric)
    if frame.is_empty():
        return None
    columns = [
        Column("paradigm", "Paradigm"),
        Column("recipe", "Merge"),
        Column("domain", "Evaluated on"),
        Column("partner", "Merged with"),
        Column("single", "Own model, %", digits=2),
        Column("merged", "Merged, %", digits=2),
        Column("change", "Change, %", digits=1, low="low", high="high", sign=True),
        Column("n_users", "Users", digits=0),
    ]
    caption = (
        f"{metric_label(metric)} of the domain’s own model and of the merged model, and the change in percent of the "
        "own model’s value."
    )
    return Table("table-merges", "The changes as a table", caption, tuple(columns), frame)


def kept_table(kept: pl.DataFrame) -> Table | None:
    """What each merge or family keeps of each domain's own model, for one metric; `None` without rows.

    Args:
        kept: `mmgrid.studies.kept_tables.KEPT_SCHEMA`.
    """
    if kept.is_empty():
        return None
    metric = ordered(kept["metric"].to_list(), STUDY_METRICS)[0]
    columns = [
        Column("merge", "Merge"),
        Column("paradigm", "Paradigm"),
        Column("domain", "Domain"),
        Column("single", "Own model, %", digits=2),
        Column("merged", "Merged, %", digits=2),
        Column("kept", "Kept, %", digits=1, low="low", high="high"),
        Column("n_users", "Users", digits=0),
        Column("draws", "Draws", digits=0, hint="of random masks, averaged; the interval holds their variance"),
    ]
    columns += [Column("seed", "Seed", digits=0)] if kept["seed"].n_unique() > 1 else []
    caption = (
        f"{metric_label(metric)} of each domain’s own newest model and of the merge or family that serves it, and the share "
        "that is kept, with 95 % bootstrap intervals over users (the CSV has every metric)."
    )
    rows = kept.filter(metric=metric)
    return Table("table-kept", "Kept", caption, tuple(columns), rows, block="merge", csv_only=("metric",), export=kept)


def served_table(served: pl.DataFrame) -> Table | None:
    """The smallest share of the domains of each merge or family, the mean, and the bytes; `None` without rows.

    Args:
        served: `mmgrid.studies.kept_tables.SERVED_SCHEMA`.
    """
    if served.is_empty():
        return None
    metric = ordered(served["metric"].to_list(), STUDY_METRICS)[0]
    columns = [
        Column("merge", "Merge"),
        Column("paradigm", "Paradigm"),
        Column("domains", "Domains", digits=0),
        Column("least", "All keep, %", digits=1, low="least_low", high="least_high", hint="the smallest share"),
        Column("mean", "Mean, %", digits=1, low="mean_low", high="mean_high"),
        Column("way", "Served by", hint="one merge or one for each domain, a family’s parts, or another training"),
        Column("checkpoints", "Checkpoints", digits=2, hint="bytes of all weights, in those of one in float32"),
        Column("bf16_checkpoints", "in bf16", digits=2, hint="the same in bytes of one checkpoint in bf16"),
        Column("minutes", "Minutes", digits=1, hint="to make it, beyond the domains’ own models"),
    ]
    columns += [Column("seed", "Seed", digits=0)] if served["seed"].n_unique() > 1 else []
    caption = (
        f"What all domains of a merge, family or other training keep at least of their own models’ {metric_label(metric)}, "
        "the mean, how much serves them all, and how long it took to make."
    )
    rows, more = served.filter(metric=metric), ("metric", "draws", "bytes", "own_bytes")
    return Table("table-served", "Kept by all", caption, tuple(columns), rows, csv_only=more, export=served)
