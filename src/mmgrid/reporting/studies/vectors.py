"""Task vectors: how far the checkpoints moved from the backbone, and how similar the vectors of two domains are.

These are descriptions of single checkpoints without intervals, so the paragraphs state ranges and infer nothing.
"""

from collections.abc import Sequence

import polars as pl

from mmgrid.reporting.studies.study_table import study_table
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.studies.wording import extremes
from mmgrid.reporting.tables.numbers import number, three_digits
from mmgrid.reporting.tables.order import PHASES, ordered, paradigm_order
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.reporting.text.section import Paragraph, paragraph

_WHOLE_MODEL = "whole model"
_OUTSIDE = "outside"  # the study's name for weights that belong to no layer
_PARTS = ("whole", "tower", "layer")


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    norms = frames["norms"].filter((pl.col("part") == "whole") & pl.col("l1_mean").is_not_null())
    if norms.is_empty():
        return paragraph("No task vector is measured yet.")
    pairs = frames["pairs"].filter((pl.col("part") == "whole") & pl.col("cosine").is_not_null())
    found: list[Paragraph] = []
    for name in ordered(norms["paradigm"].to_list(), paradigm_order()):
        same = pl.col("paradigm") == name
        found += paragraph(f"{name}: {_norms_summary(norms.filter(same))}{_pairs_summary(pairs.filter(same))}.")
    return tuple(found)


def _norms_summary(norms: pl.DataFrame) -> str:
    phase = ordered(norms["phase"].to_list(), PHASES)[-1]
    last = norms.filter(pl.col("phase") == phase)
    low, high = extremes(last, "l1_mean")
    text = f"the mean |τ| of {phase} is {three_digits(low['l1_mean'])} ({low['domain']})"
    if low["l1_mean"] != high["l1_mean"]:
        text = (
            f"the mean |τ| of {phase} ranges from {three_digits(low['l1_mean'])} ({low['domain']}) to "
            f"{three_digits(high['l1_mean'])} ({high['domain']})"
        )
    first = norms.filter(pl.col("phase") == "pretrain").select("domain", "seed", start="l1_mean")
    shares = last.join(first, on=["domain", "seed"]).select(100.0 * pl.col("start") / pl.col("l1_mean")).to_series()
    if phase == "pretrain" or shares.is_empty():
        return text
    return f"{text}; at the end of pretrain it was {_range(shares, 0)} % of that"


def _pairs_summary(pairs: pl.DataFrame) -> str:
    if pairs.is_empty():
        return ""
    phase = ordered(pairs["phase"].to_list(), PHASES)[-1]
    last = pairs.filter(pl.col("phase") == phase)
    conflicts = 100.0 * last["conflicts"].drop_nulls()
    text = f"; the cosine between the {phase} vectors of two domains is {_range(last['cosine'], 2)}"
    return f"{text}, and their signs conflict in {_range(conflicts, 0)} % of the weights" if len(conflicts) else text


def _range(values: pl.Series, digits: int) -> str:
    """`0.12`, or `0.12 to 0.34`."""
    low, high = (number(float(extreme), digits) for extreme in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _tables(frames: Frames) -> tuple[Table, ...]:
    norms = (
        "paradigm",
        "domain",
        "phase",
        Column("tower", "Part"),
        Column("l1_mean", "Mean |τ|", format=three_digits),
        Column("l1_sum", "L1", format=three_digits, hint="sum of |τ|"),
        Column("l2", "L2", format=three_digits),
        Column("zeros", "Zeros", digits=3, hint="share of the weights that did not change"),
        Column("elements", "Weights", digits=0),
    )
    pairs = (
        "paradigm",
        "phase",
        Column("first", "First domain"),
        Column("second", "Second domain"),
        Column("tower", "Part"),
        Column("cosine", "Cosine", digits=3),
        Column("conflicts", "Sign conflicts", digits=3, hint="share of the weights with opposite signs"),
    )
    return (
        *_without_layers("table-norms", "Norms", "Task vectors τ = Θ(phase) − Θ⁽⁰⁾", norms, frames["norms"]),
        *_without_layers("table-pairs", "Pairs of domains", "Task vectors of two domains", pairs, frames["pairs"]),
    )


def _without_layers(
    table_id: str, title: str, caption: str, columns: Sequence[Column | str], frame: pl.DataFrame
) -> tuple[Table, ...]:
    """The whole models and their towers; the many layers are in the CSV alone."""
    export = _with_part_names(frame)
    shown = export.filter(pl.col("part") != "layer")
    more = " (the CSV has every layer)" if shown.height < export.height else ""
    return study_table(table_id, title, f"{caption}{more}.", columns, shown, orders={"part": _PARTS}, export=export)


def _with_part_names(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(tower=pl.col("tower").replace("", _WHOLE_MODEL))


def _plot_rows(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Leaves out the weights outside the layers, which have no place on an axis of layers."""
    return _with_part_names(frame).filter((pl.col("part") != "layer") | (pl.col("layer") != _OUTSIDE))


VIEW = View("Vectors", _paragraphs, _tables, _plot_rows, {"part": _PARTS})
