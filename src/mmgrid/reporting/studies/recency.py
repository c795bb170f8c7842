"""Item recency: the best λ of non-active users against the age of the items they interact with."""

import polars as pl

from mmgrid.reporting.studies.findings import finding_sentences
from mmgrid.reporting.studies.study_table import study_table
from mmgrid.reporting.studies.view import Frames, View
from mmgrid.reporting.studies.wording import Quantity, Row, extremes, no_evidence
from mmgrid.reporting.tables.numbers import count, number
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.reporting.text.section import Paragraph, paragraph

_BEST = Quantity("best", "best_low", "best_high", digits=3, sign=False)


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    rows = frames["recency"].filter(pl.col("best").is_not_null() & pl.col("gap_days").is_not_null())
    if rows.is_empty():
        return paragraph("The best λ of non-active users is not known for any domain yet.")
    found: list[Paragraph] = []
    for (name, seed), domains in rows.group_by("paradigm", "seed", maintain_order=True):
        run = (pl.col("paradigm") == name) & (pl.col("seed") == seed)
        start = f"{name}, seed {seed}" if rows["seed"].n_unique() > 1 else name
        few = no_evidence(domains.height) if domains.height > 1 else ""
        found += paragraph(f"{start}: {_summary(domains)}.", few, *finding_sentences(frames["findings"].filter(run)))
    return tuple(found)


def _summary(domains: pl.DataFrame) -> str:
    youngest, oldest = extremes(domains, "gap_days")
    if domains.height == 1:
        return f"λ* of non-active users is {_best(oldest)}; one domain shows no trend"
    return (
        f"of {count(domains.height, 'domain')}, λ* of non-active users is {_best(oldest)} where the items are oldest "
        f"and {_best(youngest)} where they are youngest"
    )


def _best(row: Row) -> str:
    return f"{_BEST.text(row)} ({row['domain']}, {number(row['gap_days'], 0)} days)"


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        "paradigm",
        "domain",
        Column("test_users", "Test users", digits=0),
        Column("active", "Active", digits=0),
        Column("non_active", "Non-active", digits=0),
        Column("active_ratio", "Active ratio", digits=3),
        Column("best", "λ* (non-active)", digits=3, low="best_low", high="best_high"),
        Column("gap_days", "Gap, days", digits=1, hint="mean age of the items at the interactions before t2"),
    )
    caption = "Test users, the best λ of non-active users, and the mean age of the items at the interactions."
    return study_table("table-recency", "Recency", caption, columns, frames["recency"], block="paradigm")


def _notes(frames: Frames) -> dict[str, str]:
    rows = frames["recency"].filter(pl.col("best").is_not_null() & pl.col("gap_days").is_not_null())
    return {} if rows.is_empty() else {"recency": no_evidence(rows["domain"].n_unique())}


VIEW = View("Recency", _paragraphs, _tables, notes=_notes)
