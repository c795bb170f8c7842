"""The claims that the studies test, with their verdicts."""

from collections.abc import Mapping

import polars as pl

from mmgrid.reporting.studies.study_table import SHARED_COLUMNS
from mmgrid.reporting.tables.numbers import count, is_are, listing, p_value, with_interval
from mmgrid.reporting.tables.order import ordered
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.studies.registry import STUDIES
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA

FINDINGS = "findings"
"""The name of the table with a study's findings, if it has any."""

VERDICTS = ("reproduced", "not reproduced", "undecided")


def all_findings(studies: Mapping[str, Mapping[str, pl.DataFrame]]) -> pl.DataFrame:
    """The findings of all studies in the order of the registry.

    Returns:
        `FINDINGS_SCHEMA` and `study`, the title of the study. Columns that a study's table lacks are null.
    """
    empty = FINDINGS_SCHEMA.to_frame().with_columns(study=pl.lit("", pl.String))
    frames = [
        findings_of(tables).with_columns(study=pl.lit(STUDIES[name].title, pl.String))
        for name, tables in studies.items()
    ]
    return pl.concat([empty, *frames])


def findings_of(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The findings of one study with the columns of `FINDINGS_SCHEMA`; without rows if it has no such table."""
    frame = tables.get(FINDINGS, pl.DataFrame())
    columns = (
        pl.col(name).cast(dtype, strict=False) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in FINDINGS_SCHEMA.items()
    )
    return FINDINGS_SCHEMA.to_frame() if frame.is_empty() else frame.select(columns)


def verdicts_summary(findings: pl.DataFrame) -> str:
    """How many claims have which verdict, and that the p-values are not corrected."""
    counts = dict(findings["verdict"].drop_nulls().value_counts().iter_rows())
    verdicts = ordered([*VERDICTS, *counts], VERDICTS)
    parts = [f"{counts.get(name, 0)} {is_are(counts.get(name, 0))} {name}" for name in verdicts]
    text = f"Of {count(findings.height, 'tested claim')}, {listing(parts, limit=len(parts))}."
    if counts.get("undecided"):
        text += " Undecided means open, not refuted."
    if findings.height > 1:
        text += f" The p-values are not corrected for {findings.height} tests."
    return text


def finding_sentences(findings: pl.DataFrame) -> list[str]:
    """Each finding with a value as a sentence."""
    sentences = []
    for row in findings.filter(pl.col("value").is_not_null()).iter_rows(named=True):
        value = with_interval(row["value"], row["low"], row["high"], 2, sign=True)
        text = f"{row['statistic'] or row['finding'] or 'The statistic'} is {value}"
        if row["p"] is not None:
            text += f", p {'' if row['p'] < 0.001 else '= '}{p_value(row['p'])}"
        if row["n"] is not None:
            text += f", n = {row['n']}"
        sentences.append(f"{text}: {row['verdict']}." if row["verdict"] else f"{text}.")
    return sentences


def findings_table(findings: pl.DataFrame) -> Table:
    """One row per tested claim, from the rows of `all_findings`."""
    seeds = ("seed",) if findings["seed"].n_unique() > 1 else ()
    columns = (
        Column("finding", "Finding"),
        Column("claim", "Claim", prose=True),
        SHARED_COLUMNS["paradigm"],
        Column("statistic", "Statistic", prose=True),
        Column("value", "Value", digits=2, low="low", high="high"),
        Column("p", "p", format=p_value, hint="two-sided, not corrected for the number of tests"),
        Column("n", "n", digits=0, hint="number of values behind the statistic"),
        Column("verdict", "Verdict"),
        *(SHARED_COLUMNS[name] for name in seeds),
    )
    caption = "Each claim, the statistic that tests it with its 95 % interval, and the verdict."
    csv_only = ("study",) if seeds else ("study", "seed")
    return Table("table-findings", "Findings", caption, columns, findings, csv_only=csv_only)
