"""Which paradigm is the strongest: figures open on it, and the first screen is about it."""

from collections.abc import Sequence

import polars as pl

from mmgrid.reporting.tables.order import BASELINE, STUDY_METRICS, ordered, paradigm_order

_NEWEST = ("phase2", "phase1", "pretrain", "all")
"""The models that stand for a paradigm, the preferred one first: those that merges are compared with, then others."""


def strongest_first(results: pl.DataFrame) -> list[str]:
    """The evaluated paradigms, by the mean of the main metric over domains, all users and seeds.

    The mean is over the domains that all paradigms share, so that nobody gains from an easy domain; without such
    domains, over each paradigm's own. Equal paradigms keep the order of listings.

    Args:
        results: `mmgrid.evaluation.RESULTS_SCHEMA`.
    """
    rows = results.filter(
        (pl.col("group") == "all")
        & (pl.col("merge").fill_null("") == "")
        & (pl.col("paradigm") != BASELINE)
        & pl.col("model").is_in(list(_NEWEST))
        & pl.col("value").is_finite()
    )
    metric = next(iter(ordered(sorted(rows["metric"].unique()), STUDY_METRICS)), "")
    place = pl.col("model").replace_strict({name: i for i, name in enumerate(_NEWEST)}, return_dtype=pl.Int64)
    newest = rows.filter(pl.col("metric") == metric).filter(place == place.min().over("paradigm", "domain"))
    values = newest.group_by("paradigm", "domain").agg(pl.col("value").mean())
    names = ordered(values["paradigm"].to_list(), paradigm_order())
    domains = [set(values.filter(pl.col("paradigm") == name)["domain"]) for name in names]
    shared = set.intersection(*domains) if domains else set()
    judged = values.filter(pl.col("domain").is_in(sorted(shared))) if shared else values
    means = dict(judged.group_by("paradigm").agg(pl.col("value").mean()).iter_rows())
    return sorted(names, key=lambda name: -means[name])


def first_of(strength: Sequence[str], present: Sequence[str]) -> str:
    """The strongest of the paradigms that are present; the first of them if none is evaluated, "" without any."""
    return next((name for name in strength if name in present), present[0] if present else "")
