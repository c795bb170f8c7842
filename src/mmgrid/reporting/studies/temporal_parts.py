"""λ by part: what a λ for each tower, third of the layers or group of users gains over one for all."""

import polars as pl

from mmgrid.reporting.studies.findings import finding_sentences
from mmgrid.reporting.studies.study_table import difference, study_table
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.studies.wording import Quantity, extremes_text
from mmgrid.reporting.tables.numbers import count
from mmgrid.reporting.tables.significance import count_differences, significance_text
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.reporting.text.section import Paragraph, paragraph

_GAIN = Quantity("gain", unit="points")


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    rows = frames["comparison"].filter(pl.col("gain").is_not_null())
    if rows.is_empty():
        return paragraph("No model with several parts is evaluated yet.")
    counts = count_differences(rows, "gain")
    text = (
        f"Chosen on other users, a λ for each part is better than one for all in {counts.up} of "
        f"{count(counts.rows, 'comparison')} and worse in {counts.down}; {significance_text(counts)}."
    )
    low, high = extremes_text(rows, _GAIN, lambda row: f"{row['domain']}, per {row['per']}")
    spread = "" if low == high else f"The gains range from {low} to {high}."
    return paragraph(text, spread, *finding_sentences(frames["findings"]))


def _tables(frames: Frames) -> tuple[Table, ...]:
    compared = (
        "paradigm",
        "domain",
        Column("per", "A λ for each"),
        Column("value_at_one", "At λ = 1, %", digits=2),
        Column("single", "One λ, %", digits=2),
        Column("parts", "By part, %", digits=2),
        difference("gain", "Gain, points", 2, hint="by part minus one λ, both chosen on the other half of the users"),
        "p_adjusted",
        "n_users",
    )
    chosen = (
        "paradigm",
        "domain",
        Column("per", "A λ for each"),
        Column("part", "Part"),
        Column("first", "λ, first half", digits=2, hint="chosen by the first half of the users"),
        Column("second", "λ, second half", digits=2),
        Column("single_first", "One λ, first half", digits=2),
        Column("single_second", "One λ, second half", digits=2),
    )
    caption = "NDCG@20 at one λ and at a λ for each part, chosen on one half of the users and measured on the other."
    return (
        *study_table(
            "table-parts", "One λ or one for each part", caption, compared, frames["comparison"], block="domain"
        ),
        *study_table(
            "table-part-scales",
            "Chosen λ by part",
            "The λ that each half of the users chose; where they differ much, the choice is noise.",
            chosen,
            frames["chosen"],
            block="domain",
        ),
    )


VIEW = View("Parts", _paragraphs, _tables)
