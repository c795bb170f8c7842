"""The claims that the studies test, with their verdicts."""

from collections.abc import Mapping

import polars as pl

from mmgrid.reporting.tables.numbers import count, is_are, listing, p_value, with_interval
from mmgrid.reporting.tables.order import ordered
from mmgrid.reporting.text.section import Headline
from mmgrid.studies.registry import STUDIES
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA

FINDINGS = "findings"
"""The name of the table with a study's findings, if it has any."""

_NAMED = 8
"""Findings that the first screen names, per verdict."""

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
    """How many tests of how many claims have which verdict, and that the p-values are not corrected."""
    counts = dict(findings["verdict"].drop_nulls().value_counts().iter_rows())
    verdicts = ordered([*VERDICTS, *counts], VERDICTS)
    parts = [f"{counts.get(name, 0)} {is_are(counts.get(name, 0))} {name}" for name in verdicts]
    claims = findings["claim"].drop_nulls().n_unique()
    tests = count(findings.height, "test")
    about = f"{tests} of {count(claims, 'claim')}" if claims else tests
    text = f"Of {about}, {listing(parts, limit=len(parts))}."
    if counts.get("undecided"):
        text += " Undecided means open, not refuted."
    if findings.height > 1:
        text += f" The p-values are not corrected for {findings.height} tests."
    return text


def verdicts_headline(findings: pl.DataFrame, paradigm: str) -> Headline | None:
    """The verdicts on the claims for one paradigm, each named, and their counts over all; `None` without findings."""
    if findings.is_empty():
        return None
    own = findings.filter(pl.col("paradigm") == paradigm)
    sentences = []
    if not own.is_empty():
        parts = []
        for verdict in ordered([*VERDICTS, *own["verdict"].drop_nulls().to_list()], VERDICTS):
            rows = own.filter(pl.col("verdict") == verdict)
            names = list(dict.fromkeys(name.replace(", ", " by ") for name in rows["finding"].drop_nulls()))
            parts.append(f"{rows.height} {verdict}{f' ({listing(names, _NAMED)})' if names else ''}")
        sentences.append(f"Of {count(own.height, 'test')} for {paradigm}: {'; '.join(parts)}.")
    if own.height < findings.height:
        counts = dict(findings["verdict"].drop_nulls().value_counts().iter_rows())
        parts = [f"{counts.get(verdict, 0)} {verdict}" for verdict in ordered([*VERDICTS, *counts], VERDICTS)]
        sentences.append(f"Over all paradigms: {listing(parts, len(parts))}.")
    return Headline("Claims", " ".join(sentences))


def finding_sentences(findings: pl.DataFrame) -> list[str]:
    """Each finding with a value as a sentence."""
    sentences = []
    for row in findings.filter(pl.col("value").is_not_null()).iter_rows(named=True):
        value = with_interval(row["value"], row["low"], row["high"], 2, sign=True)
        text = f"{row['statistic'] or row['finding'] or 'The statistic'} is {value}"
        if row["p"] is not None:
            text += f", {p_text(row['p'])}"
        if row["n"] is not None:
            text += f", n = {row['n']}"
        sentences.append(f"{text}: {row['verdict']}." if row["verdict"] else f"{text}.")
    return sentences


def p_text(p: float) -> str:
    """`p = 0.034`, `p < 0.001`."""
    return f"p {'' if p < 0.001 else '= '}{p_value(p)}"
