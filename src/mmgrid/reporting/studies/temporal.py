"""Merging across time: the best λ of each domain and group of users, and its gain over the newest checkpoint."""

import numpy as np
import polars as pl

from mmgrid.reporting.figures.plot_data import known_metrics
from mmgrid.reporting.studies.study_table import difference, study_table
from mmgrid.reporting.studies.view import Frames, Lead, View
from mmgrid.reporting.studies.wording import (
    Quantity,
    extremes,
    extremes_text,
    main_metric_label,
    main_metric_rows,
    row_label,
)
from mmgrid.reporting.tables.labels import group_label
from mmgrid.reporting.tables.numbers import count, listing, number
from mmgrid.reporting.tables.significance import count_differences, is_significant, significance_text
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.reporting.text.section import Headline, Paragraph, paragraph, paragraph_per_group
from mmgrid.studies.statistics.curve import fine_places, smoother

_GAIN = Quantity("gain", "gain_low", "gain_high", unit="points")
_BEST = Quantity("best", "best_low", "best_high", sign=False)
_DRAWN = 60
"""Places of a drawn curve between its ends."""

_FEW = 4
"""Curves that the first screen names one by one."""


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    rows = main_metric_rows(frames["best"], "best")
    return paragraph_per_group(rows, _summary) or paragraph("No curve over λ is evaluated yet.")


def _summary(rows: pl.DataFrame, group: str) -> str:
    low, high = extremes(rows, "best")
    text = f"By {main_metric_label(rows)} over {group_label(group)}, λ* "
    if low["best"] == high["best"]:
        text += f"is {number(low['best'], 3)}" + (f" in all {count(rows.height, 'curve')}" if rows.height > 1 else "")
    else:
        text += (
            f"ranges from {number(low['best'], 3)} ({row_label(low, rows, low['domain'])}) to "
            f"{number(high['best'], 3)} ({row_label(high, rows, high['domain'])})"
        )
    return " ".join(part for part in (f"{text}{_difference_from_one(rows)}.", _edges(rows), _gains(rows)) if part)


def _difference_from_one(rows: pl.DataFrame) -> str:
    known = rows.filter(pl.col("best_low").is_not_null() & pl.col("best_high").is_not_null())
    if known.is_empty():
        return "; without intervals it is open whether it differs from 1"
    excluding = known.filter((pl.col("best_low") > 1) | (pl.col("best_high") < 1)).height
    return f"; its interval excludes λ = 1 in {excluding} of {count(known.height, 'curve')}"


def _edges(rows: pl.DataFrame) -> str:
    labels = [row_label(row, rows, row["domain"]) for row in rows.filter(pl.col("at_edge")).iter_rows(named=True)]
    if not labels:
        return ""
    return f"For {listing(labels)}, λ* lies at the edge of the range of λ, so that the best may lie outside."


def _gains(rows: pl.DataFrame) -> str:
    rows = rows.filter(pl.col("gain").is_not_null())
    if rows.is_empty():
        return ""
    counts = count_differences(rows, "gain", "gain_low", "gain_high")
    text = (
        f"A λ chosen on other users is better than λ = 1 in {counts.up} of {count(counts.rows, 'curve')} and worse in "
        f"{counts.down}; {significance_text(counts)}."
    )
    highest = extremes_text(rows, _GAIN, lambda row: row["domain"])[1]
    return f"{text} The largest gain is {highest}." if counts.rows > 1 else text


def _headline(frames: Frames, paradigm: str) -> Headline | None:
    rows = main_metric_rows(frames["best"], "best").filter(group="all", paradigm=paradigm)
    if rows.is_empty():
        return None
    places = [f"{_BEST.text(row)} in {row_label(row, rows, row['domain'])}" for row in rows.iter_rows(named=True)]
    if len(places) > _FEW:
        low, high = extremes_text(rows, _BEST, lambda row: row["domain"])
        places = [f"between {low} and {high}"]
    text = f"The best λ of {paradigm} is {listing(places)}, where 0 is the model of t1 and 1 that of t2."
    return Headline("Across time", f"{text} {_worth(rows)}")


def _worth(rows: pl.DataFrame) -> str:
    """Where a λ chosen on other users is better or worse than the newest model, and where that is undecided."""
    rows = rows.filter(pl.col("gain").is_not_null()).with_columns(
        _significant=is_significant("gain_low", "gain_high").fill_null(False)
    )
    parts, rest = [], []
    for row in rows.iter_rows(named=True):
        label = row_label(row, rows, row["domain"])
        if row["_significant"]:
            parts.append(f"is {'better' if row['gain'] > 0 else 'worse'} in {label} by {_GAIN.text(row)}")
        else:
            rest.append(f"in {label}" if rows.height > 1 else label)
    if not parts and not rest:
        return ""
    if not parts:
        return f"Whether a λ chosen on other users beats λ = 1 is undecided{' everywhere' if len(rest) > 1 else ''}."
    end = f"; {listing(rest)} it is undecided" if rest else ""
    return f"Against λ = 1, a λ chosen on other users {listing(parts)}{end}."


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        "paradigm",
        "domain",
        Column("users", "Group"),
        Column("best", "λ*", digits=3, low="best_low", high="best_high"),
        Column("edge", "Edge", hint="whether λ* lies at an end of the range of λ"),
        Column("value_at_best", "At λ*, %", digits=2),
        Column("value_at_one", "At λ = 1, %", digits=2),
        Column("value_at_zero", "At λ = 0, %", digits=2),
        difference(
            "gain",
            "Gain, points",
            2,
            low="gain_low",
            high="gain_high",
            hint="λ chosen on one half of the users, evaluated on the other half, minus λ = 1",
        ),
        "p_adjusted",
        "n_users",
    )
    # All groups are shown side by side, so the column may not be called `group`.
    frame = frames["best"].with_columns(
        users=pl.col("group").map_elements(group_label, return_dtype=pl.String),
        edge=pl.when("at_edge").then(pl.lit("at the edge")).otherwise(pl.lit("")),
    )
    caption = "The best λ of Θ(t1) + λ (Θ(t2) − Θ(t1)), and its gain over λ = 1."
    return study_table("table-best", "Best λ", caption, columns, frame.drop("group"), block="domain")


def _plot_rows(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Adds rows between the measured ones, without a measured value, so that the smoothed curve shows its maximum."""
    if table != "curve" or frame.is_empty():
        return frame
    frame = known_metrics(frame)
    curves = ["paradigm", "domain", "group", "metric", "seed"]
    added = []
    for key, rows in frame.filter(pl.col("value").is_finite()).group_by(curves, maintain_order=True):
        places, values = rows["scale"].to_numpy(), rows["value"].to_numpy()
        fine = fine_places(places)
        smooth = smoother(places, fine) @ values
        # Of the places that λ* is chosen from, a few; the best is one of them.
        wanted = np.union1d(np.arange(0, len(fine), max(1, len(fine) // _DRAWN)), smooth.argmax())
        wanted = wanted[~np.isclose(fine[wanted][:, None], places).any(axis=1)]
        added.append(
            pl.DataFrame({"scale": fine[wanted], "smooth": smooth[wanted]}).with_columns(
                pl.lit(value).alias(name) for name, value in zip(curves, key, strict=True)
            )
        )
    return pl.concat([frame, *added], how="diagonal_relaxed").sort([*curves, "scale"], maintain_order=True)


VIEW = View("Time", _paragraphs, _tables, _plot_rows, headline=_headline, lead=Lead("curves", 2, {"group": "all"}))
