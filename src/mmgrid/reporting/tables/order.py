"""The order in which the report lists paradigms, phases, metrics and other names."""

from collections.abc import Mapping, Sequence

import polars as pl

from mmgrid.evaluation import GROUPS
from mmgrid.paradigms.registry import PARADIGMS

BASELINE = "baseline"
"""Stands in the column `paradigm` of popularity and random, which are listed last."""

PHASES = ("pretrain", "phase1", "phase2", "all")
RESULT_METRICS = ("ndcg@10", "ndcg@20", "recall@10", "recall@20")
STUDY_METRICS = ("ndcg@20", "ndcg@10", "recall@20", "recall@10")
"""The metrics in the figures and tables of studies; λ* maximises the first."""


def paradigm_order() -> tuple[str, ...]:
    """The names of all installed paradigms in the order to list them."""
    return tuple(PARADIGMS)


def listing_orders(domains: Sequence[str] = ()) -> dict[str, Sequence[str]]:
    """Column → its values in the order to list them; the values of other columns keep the order of their rows.

    Args:
        domains: in the order of the grid. The two domains of a pair are listed by name, as tables of pairs are.
    """
    by_name = sorted(domains)
    return {
        "metric": STUDY_METRICS,
        "paradigm": paradigm_order(),
        "phase": PHASES,
        "group": GROUPS,
        "domain": domains,
        "partner": domains,
        "first": by_name,
        "second": by_name,
    }


def ordered(values: Sequence[str], first: Sequence[str] = ()) -> list[str]:
    """Distinct values: those of `first` in its order, then the others in the order in which they appear."""
    distinct = list(dict.fromkeys(values))
    return [value for value in first if value in distinct] + [value for value in distinct if value not in first]


def ordered_metrics(metrics: Sequence[str]) -> list[str]:
    """Distinct metrics, those of Table 2 first."""
    return ordered(metrics, RESULT_METRICS)


def position(column: str, order: Sequence[str]) -> pl.Expr:
    """The index of each value in `order`, to sort by; values that it lacks come last."""
    indices = {name: index for index, name in enumerate(order)}
    return pl.col(column).replace_strict(indices, default=len(order), return_dtype=pl.Int64)


def sorted_rows(frame: pl.DataFrame, orders: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """The rows sorted by the columns of `orders`, each in its order; a stable sort."""
    ranks = [
        position(column, ordered(frame[column].drop_nulls().to_list(), order))
        for column, order in orders.items()
        if column in frame.columns
    ]
    return frame.sort(ranks, maintain_order=True) if ranks else frame
