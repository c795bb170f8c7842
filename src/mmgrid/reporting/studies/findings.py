"""What the studies say of the paper's claims: every tested claim, whichever study tested it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from mmgrid.reporting.tables.numbers import count, is_are, listing, p_value, with_interval
from mmgrid.reporting.tables.tables import Column, Table
from mmgrid.studies.registry import STUDIES
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA

VERDICTS = ("reproduced", "not reproduced", "undecided")


def all_findings(studies: Mapping[str, Mapping[str, pl.DataFrame]]) -> pl.DataFrame:
    """The findings of all studies in the registry's order, with the title of the ``study`` that has them."""
    empty = FINDINGS_SCHEMA.to_frame().with_columns(study=pl.lit("", pl.String))
    frames = [
        tables["findings"].with_columns(study=pl.lit(STUDIES[name].title))
        for name, tables in studies.items()
        if "findings" in tables
    ]
    return pl.concat([empty, *frames])


def on_findings(findings: pl.DataFrame) -> str:
    """How many claims were reproduced, how many not, and how many are open."""
    counts = dict(findings["verdict"].value_counts().iter_rows())
    parts = [f"{counts.get(name, 0)} {is_are(counts.get(name, 0))} {name}" for name in VERDICTS]
    text = f"Of {count(findings.height, 'test')} of the paper’s claims, {listing(parts)}."
    if counts.get("undecided"):
        text += " What is undecided is open, not refuted."
    if findings.height > 1:
        text += f" The p-values are not corrected for {findings.height} tests."
    return text


def spoken(findings: pl.DataFrame) -> list[str]:
    """Each finding as a sentence."""
    said = []
    for row in findings.filter(pl.col("value").is_not_null()).iter_rows(named=True):
        value = with_interval(row["value"], row["low"], row["high"], 2, sign=True)
        p = "" if row["p"] is None else f", p {'' if row['p'] < 0.001 else '= '}{p_value(row['p'])}"
        said.append(f"{row['statistic']} is {value}{p}, n = {row['n']}: {row['verdict']}.")
    return said


def findings_table(findings: pl.DataFrame) -> Table:
    """Every tested claim, one a row."""
    several = findings["seed"].n_unique() > 1
    columns = (
        Column("finding", "Finding"),
        Column("claim", "Claim", prose=True),
        Column("paradigm", "Paradigm"),
        Column("statistic", "Statistic", prose=True),
        Column("value", "Value", digits=2, low="low", high="high"),
        Column("p", "p", render=p_value, hint="two-sided, not corrected"),
        Column("n", "n", digits=0, hint="what the statistic was computed from"),
        Column("verdict", "Verdict"),
        *([Column("seed", "Seed", digits=0)] if several else []),
    )
    caption = "Claims of the paper, the statistic that tests each, with its 95 % interval, and what follows."
    return Table(
        "table-findings", "Findings", caption, columns, findings, csv_only=("study",) if several else ("study", "seed")
    )
