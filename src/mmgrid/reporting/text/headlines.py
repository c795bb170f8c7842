"""The statements of the first screen about the grid itself: which model is best where, and what is not built yet."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from mmgrid.reporting.tables.labels import metric_label
from mmgrid.reporting.tables.numbers import count, is_are, listing, number, with_interval
from mmgrid.reporting.tables.order import BASELINE, STUDY_METRICS, ordered
from mmgrid.reporting.tables.strength import first_of
from mmgrid.reporting.text.section import Headline

MERGE = "A merge costs"
"""The label of the statement about merges of two domains, from a study or from the grid's own merges."""

_FEW = 4
"""Domains that are named one by one; more are counted."""


def best_headline(scored: pl.DataFrame) -> Headline:
    """Which recommender is best in which domain over all users, with intervals; overlapping ones are undecided.

    Args:
        scored: the rows of `mmgrid.reporting.tables.comparison.scores`.
    """
    rows = scored.filter(
        (pl.col("group") == "all") & ~pl.col("minor") & pl.col("value").is_finite() & (pl.col("paradigm") != BASELINE)
    )
    if rows.is_empty():
        return Headline("Best model", "No model is evaluated yet.")
    metric = ordered(rows["metric"].to_list(), STUDY_METRICS)[0]
    # Several seeds: the mean, within the outermost bounds.
    found = (
        rows.filter(pl.col("metric") == metric)
        .group_by("domain", "label", maintain_order=True)
        .agg(pl.col("value").mean(), pl.col("low").min(), pl.col("high").max())
    )
    decided: dict[str, list[dict[str, Any]]] = {}
    undecided: list[tuple[dict[str, Any], dict[str, Any]]] = []
    alone: list[dict[str, Any]] = []
    for (_,), own in found.group_by("domain", maintain_order=True):
        first, *others = own.sort("value", descending=True, maintain_order=True).head(2).iter_rows(named=True)
        if not others:
            alone.append(first)
        elif first["low"] > others[0]["high"]:
            decided.setdefault(first["label"], []).append(first)
        else:
            undecided.append((first, others[0]))
    sentences = [
        *_decided_sentences(decided, found["domain"].n_unique(), metric_label(metric)),
        _undecided_sentence(undecided, metric_label(metric)),
        _alone_sentence(alone, metric_label(metric)),
    ]
    return Headline("Best model", " ".join(sentence for sentence in sentences if sentence))


def _decided_sentences(decided: dict[str, list[dict[str, Any]]], domains: int, metric: str) -> list[str]:
    sentences = []
    for label, rows in sorted(decided.items(), key=lambda item: -len(item[1])):
        if len(rows) <= _FEW:
            where = listing([f"{row['domain']} ({metric} {_value(row)})" for row in rows])
            sentences.append(f"{label} is best in {where}.")
        else:
            low, high = min(rows, key=_amount), max(rows, key=_amount)
            sentences.append(
                f"{label} is best in {len(rows)} of {domains} domains, with {metric} from {_value(low)} "
                f"({low['domain']}) to {_value(high)} ({high['domain']})."
            )
    return sentences


def _undecided_sentence(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], metric: str) -> str:
    if not pairs:
        return ""
    if len(pairs) > _FEW:
        where = listing([first["domain"] for first, _ in pairs])
        return f"In {len(pairs)} domains ({where}) it is undecided: the intervals of the two best overlap."
    parts = [
        f"in {first['domain']} between {first['label']} ({metric} {_value(first)}) and {second['label']} "
        f"({_value(second)})"
        for first, second in pairs
    ]
    return f"Undecided, since their intervals overlap: {listing(parts)}."


def _alone_sentence(rows: Sequence[dict[str, Any]], metric: str) -> str:
    if not rows:
        return ""
    parts = [f"{row['label']} in {row['domain']} ({metric} {_value(row)})" for row in rows]
    return f"Without another model to compare with: {listing(parts)}."


def _amount(row: dict[str, Any]) -> float:
    return float(row["value"])


def _value(row: dict[str, Any]) -> str:
    return with_interval(row["value"], row["low"], row["high"], 2, unit="%")


def merge_headline(pairs: pl.DataFrame, strength: Sequence[str]) -> Headline | None:
    """What the grid's own merges of two domains cost the strongest paradigm that has any; `None` without merges.

    Args:
        pairs: `mmgrid.reporting.tables.merges.PAIRS_SCHEMA`.
        strength: the paradigms, the strongest first.
    """
    rows = pairs.filter(pl.col("group") == "all")
    if rows.is_empty():
        return None
    paradigm = first_of(strength, rows["paradigm"].unique(maintain_order=True).to_list())
    metric = ordered(rows["metric"].to_list(), STUDY_METRICS)[0]
    rows = rows.filter((pl.col("paradigm") == paradigm) & (pl.col("metric") == metric)).sort("change")
    low, high = (
        f"{with_interval(row['change'], row['low'], row['high'], 1, sign=True, unit='%')} "
        f"({row['domain']} with {row['partner']}, {row['recipe']})"
        for row in (rows.row(0, named=True), rows.row(-1, named=True))
    )
    span = low if rows.height == 1 else f"between {low} and {high}"
    text = f"A model of {paradigm} merged with that of another domain changes {metric_label(metric)} by {span}"
    tested = rows.filter(pl.col("significant").is_not_null())
    if tested.is_empty():
        return Headline(MERGE, f"{text}; without paired intervals it is undecided which changes are more than chance.")
    sure = tested.filter(pl.col("significant"))
    fell, rose = sure.filter(pl.col("change") < 0).height, sure.filter(pl.col("change") > 0).height
    return Headline(
        MERGE,
        f"{text}: by their intervals, {fell} of {count(rows.height, 'merge')} {is_are(fell)} worse, {rose} better and "
        f"{rows.height - fell - rose} undecided.",
    )


def unfinished_headline(cells: pl.DataFrame) -> Headline | None:
    """What is not built; `None` if everything is."""
    states = dict(cells["state"].value_counts().iter_rows())
    built = states.pop("built", 0)
    if built == cells.height:
        return None
    rest = [f"{number(states[state])} {state}" for state in ("failed", "blocked", "missing") if states.get(state)]
    return Headline(
        "Unfinished",
        f"{number(built)} of {count(cells.height, 'cell')} {is_are(built)} built, {listing(rest)}; this page can only "
        "speak about the built ones.",
    )
