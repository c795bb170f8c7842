"""Task vectors: how far the checkpoints moved from the backbone, and how alike two domains' moves are.

These are descriptions of single checkpoints, without intervals: the sentences give ranges and infer nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mmgrid.reporting.figures.overview import PHASE_ORDER
from mmgrid.reporting.figures.plot_data import ORDERS
from mmgrid.reporting.studies.view import DOMAIN, PARADIGM, Frames, View, always, by_order, extremes, study_table
from mmgrid.reporting.tables.numbers import number, significant
from mmgrid.reporting.tables.tables import Column, Table, ordered
from mmgrid.reporting.text.section import Sentence

_WHOLE_MODEL = "whole model"
_OUTSIDE = "outside"  # the study's name for a tower's weights that belong to no layer


def _sentences(frames: Frames) -> tuple[Sentence, ...]:
    norms = frames["norms"].filter((pl.col("part") == "whole") & pl.col("l1_mean").is_not_null())
    if norms.is_empty():
        return always("No task vector is measured yet.")
    pairs = frames["pairs"].filter((pl.col("part") == "whole") & pl.col("cosine").is_not_null())
    parts = []
    for paradigm in ordered(norms["paradigm"].to_list(), ORDERS["paradigm"]):
        own = norms.filter(pl.col("paradigm") == paradigm)
        parts.append(f"{paradigm}: {_on_norms(own)}{_on_pairs(pairs.filter(pl.col('paradigm') == paradigm))}.")
    return tuple(Sentence(part) for part in parts)


def _on_norms(norms: pl.DataFrame) -> str:
    phase = ordered(norms["phase"].to_list(), PHASE_ORDER)[-1]
    last = norms.filter(pl.col("phase") == phase)
    low, high = extremes(last, "l1_mean")
    text = f"the mean |τ| of {phase} is {significant(low['l1_mean'])} ({low['domain']})"
    if low["l1_mean"] != high["l1_mean"]:
        text = (
            f"the mean |τ| of {phase} is smallest for {low['domain']} ({significant(low['l1_mean'])}) and largest for "
            f"{high['domain']} ({significant(high['l1_mean'])})"
        )
    first = norms.filter(pl.col("phase") == "pretrain").select("domain", "seed", start="l1_mean")
    shares = last.join(first, on=["domain", "seed"]).select(100.0 * pl.col("start") / pl.col("l1_mean")).to_series()
    if phase == "pretrain" or shares.is_empty():
        return text
    return f"{text}; at the end of pretrain it was {_span(shares, 0)} % of that"


def _on_pairs(pairs: pl.DataFrame) -> str:
    if pairs.is_empty():
        return ""
    phase = ordered(pairs["phase"].to_list(), PHASE_ORDER)[-1]
    last = pairs.filter(pl.col("phase") == phase)
    conflicts = 100.0 * last["conflicts"].drop_nulls()
    text = f"; the cosine of two domains’ vectors of {phase} is {_span(last['cosine'], 2)}"
    return f"{text}, and their signs conflict in {_span(conflicts, 0)} % of the weights" if len(conflicts) else text


def _span(values: pl.Series, digits: int) -> str:
    """``0.12``, or ``0.12 to 0.34``."""
    low, high = (number(float(found), digits) for found in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _tables(frames: Frames) -> tuple[Table, ...]:
    norms = (
        PARADIGM,
        DOMAIN,
        Column("phase", "Phase"),
        Column("tower", "Part"),
        Column("l1_mean", "Mean |τ|", render=significant),
        Column("l1_sum", "L1", render=significant, hint="sum of |τ|"),
        Column("l2", "L2", render=significant),
        Column("zeros", "Zeros", digits=3, hint="share of the weights that did not move"),
        Column("elements", "Weights", digits=0),
    )
    pairs = (
        PARADIGM,
        Column("phase", "Phase"),
        Column("first", "Domain"),
        Column("second", "and domain"),
        Column("tower", "Part"),
        Column("cosine", "Cosine", digits=3),
        Column("conflicts", "Sign conflicts", digits=3, hint="share of the weights with signs that differ, none zero"),
    )
    return (
        *_without_layers("table-norms", "Norms", "Task vectors τ = Θ(phase) − Θ⁽⁰⁾", norms, frames["norms"]),
        *_without_layers("table-pairs", "Pairs of domains", "Task vectors of two domains", pairs, frames["pairs"]),
    )


def _without_layers(
    name: str, title: str, caption: str, columns: Sequence[Column], frame: pl.DataFrame
) -> tuple[Table, ...]:
    """The whole models and their towers; layers are many, and in the CSV alone."""
    every = by_order(_named(frame), "paradigm", "part")
    shown = every.filter(pl.col("part") != "layer")
    more = "; the CSV has every layer" if shown.height < every.height else ""
    return study_table(name, title, f"{caption}{more}.", columns, shown, export=every)


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    """A part that has no name is the whole model."""
    return frame.with_columns(tower=pl.col("tower").replace("", _WHOLE_MODEL))


def drawn(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Without what lies outside the layers, which has no place on a line along them."""
    return _named(frame).filter((pl.col("part") != "layer") | (pl.col("layer") != _OUTSIDE))


VIEW = View("Vectors", _sentences, _tables, drawn)
