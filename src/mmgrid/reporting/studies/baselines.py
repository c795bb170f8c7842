"""Baselines: each paradigm at t2 against its references. The scores themselves are Table 2 of the report."""

import polars as pl

from mmgrid.reporting.studies.study_table import difference, study_table
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.studies.wording import Quantity, extremes_text, main_metric_label, main_metric_rows
from mmgrid.reporting.tables.numbers import count, is_are
from mmgrid.reporting.tables.order import ordered, paradigm_order
from mmgrid.reporting.tables.significance import count_differences, significance_text
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.reporting.text.section import Paragraph, paragraph

_DIFFERENCE = Quantity("difference", unit="points")
_REFERENCES = ("popularity", "random", *(name + how for name in paradigm_order() for how in ("", " (in one go)")))


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    rows = main_metric_rows(frames["comparisons"], "difference")
    if rows.is_empty():
        return paragraph("No paradigm is compared with a reference yet.")
    parts = []
    for reference in ordered(rows["reference"].to_list(), _REFERENCES):
        counts = count_differences(rows.filter(pl.col("reference") == reference), "difference")
        parts.append(
            f"Against {reference}, {counts.up} of {count(counts.rows, 'difference')} in {main_metric_label(rows)} "
            f"{is_are(counts.up or counts.rows)} positive and {counts.down} negative; {significance_text(counts)}."
        )
    low, high = extremes_text(rows, _DIFFERENCE, lambda row: f"{row['domain']}, against {row['reference']}")
    if low != high:
        parts.append(f"The smallest difference is {low}, the largest {high}.")
    return paragraph(*parts)


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        "paradigm",
        "domain",
        Column("reference", "Reference"),
        difference("difference", "Difference, points", 2),
        "p_adjusted",
        "n_users",
    )
    caption = "The paradigm at t2 minus the reference, in percentage points, paired by user."
    return study_table(
        "table-comparisons",
        "Differences",
        caption,
        columns,
        frames["comparisons"],
        orders={"reference": _REFERENCES},
        block="paradigm",
    )


VIEW = View("Baselines", _paragraphs, _tables, orders={"reference": _REFERENCES})
