"""Another base: how much two domains both keep of their models' quality, by the base of the task vectors."""

import polars as pl

from mmgrid.reporting.figures.plots import PAIR_SEPARATOR
from mmgrid.reporting.studies.study_table import difference, study_table
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.studies.wording import Quantity, extremes_text, main_metric_label, main_metric_rows
from mmgrid.reporting.tables.numbers import count
from mmgrid.reporting.tables.significance import count_differences, significance_text
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.reporting.text.section import Paragraph, paragraph

_KEPT = Quantity("kept", digits=1, unit="%", sign=False)
_KINDS = {"neutral": "With the neutral base", "historical": "With a historical checkpoint as base"}
_BASES = ("backbone", "historical, first", "historical, second", "neutral")


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    rows = main_metric_rows(frames["best"], "kept")
    if rows.is_empty():
        return paragraph("No merge with another base is evaluated yet.")
    parts = []
    for kind, start in _KINDS.items():
        counts = count_differences(rows.filter(pl.col("base").str.starts_with(kind)), "gain", "gain_low", "gain_high")
        if counts.rows:
            parts.append(
                f"{start}, {counts.up} of {count(counts.rows, 'merge')} kept more {main_metric_label(rows)} for both "
                f"domains than with the backbone and {counts.down} less; {significance_text(counts)}."
            )
    low, high = extremes_text(rows, _KEPT, lambda row: f"{row['first']} and {row['second']}, base {row['base']}")
    kept = low if low == high else f"between {low} and {high}"
    parts.append(f"At an α chosen on other users, the domain that keeps less keeps {kept}.")
    return paragraph(*parts)


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        "paradigm",
        Column("pair", "Domains"),
        Column("base", "Base"),
        Column("alpha", "Best α", digits=2, low="alpha_low", high="alpha_high", hint="weight of the first domain"),
        Column("kept", "Both keep, %", digits=1, low="low", high="high", hint="the smaller share of the two domains"),
        Column("mean", "Mean, %", digits=1, low="mean_low", high="mean_high", hint="the mean of both shares"),
        Column(
            "area",
            "Area, %",
            digits=1,
            low="area_low",
            high="area_high",
            hint="below the curve of both shares over α; 100 where both domains keep all",
        ),
        difference(
            "gain",
            "Gain, points",
            1,
            low="gain_low",
            high="gain_high",
            hint="the share that both keep, minus that with the backbone as base",
        ),
        "p_adjusted",
    )
    caption = (
        "The share of its own model’s value that each of two domains keeps at least, at an α chosen on other users."
    )
    frame = _with_pair(frames["best"])
    return study_table("table-bases", "Kept by base", caption, columns, frame, block="pair")


def _with_pair(frame: pl.DataFrame) -> pl.DataFrame:
    """Adds the column `pair`: both domains, that of the x-axis first."""
    return frame.with_columns(pair=pl.concat_str("first", "second", separator=PAIR_SEPARATOR))


def _plot_rows(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Names a historical base by its place in the pair, so that four colours serve all pairs."""
    historical = [
        pl.when(pl.col("base") == pl.format("historical: {}", place)).then(pl.lit(f"historical, {place}"))
        for place in ("first", "second")
    ]
    return _with_pair(frame).with_columns(base=pl.coalesce([*historical, "base"]))


VIEW = View("Base", _paragraphs, _tables, _plot_rows, {"base": _BASES})
