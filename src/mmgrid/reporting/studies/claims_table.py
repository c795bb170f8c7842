"""The tested claims as a table: one line per claim, and way of merging, with the paradigms beside each other."""

from typing import Any

import polars as pl

from mmgrid.reporting.studies.findings import VERDICTS, p_text
from mmgrid.reporting.tables.numbers import with_interval
from mmgrid.reporting.tables.order import ordered, paradigm_order
from mmgrid.reporting.tables.table import Column, Table

_WHOLE_GRID = "whole grid"
"""Heads the column of findings that belong to no paradigm."""


def claims_table(findings: pl.DataFrame) -> Table:
    """From the rows of `findings.all_findings`; the CSV has one row per test."""
    rows = findings.with_columns(pl.col("paradigm").fill_null(_WHOLE_GRID))
    paradigms = ordered(rows["paradigm"].to_list(), paradigm_order())
    lines = []
    # Claims in the order of the studies; the ways of testing one claim follow each other.
    for (claim,), of_claim in rows.group_by("claim", maintain_order=True):
        for (finding,), tests in of_claim.group_by("finding", maintain_order=True):
            statistics = list(dict.fromkeys(tests["statistic"].drop_nulls().to_list()))
            line = {"claim": claim or finding, "finding": finding, "statistic": "; ".join(statistics)}
            for place, paradigm in enumerate(paradigms):
                own = tests.filter(pl.col("paradigm") == paradigm).to_dicts()
                line |= {f"verdict {place}": _verdict(own), f"numbers {place}": _numbers(own)}
            lines.append(line)
    names = [f"{kind} {place}" for place in range(len(paradigms)) for kind in ("verdict", "numbers")]
    frame = pl.DataFrame(lines, schema=dict.fromkeys(["claim", "finding", "statistic", *names], pl.String))
    columns = (
        Column("claim", "Claim", prose=True),
        Column("finding", "Test", prose=True, below="statistic"),
        *(
            Column(f"verdict {place}", paradigm, below=f"numbers {place}", verdict=True)
            for place, paradigm in enumerate(paradigms)
        ),
    )
    caption = (
        "The verdict on each claim, by paradigm, with the statistic that tests it, its 95 % interval, its two-sided p "
        "(not corrected for the number of tests) and the number n of values behind it. The CSV has one row per test."
    )
    csv_only = tuple(name for name in findings.columns if name != "study")
    return Table(
        "table-findings",
        "Findings",
        caption,
        columns,
        frame,
        block="claim",
        csv_only=("study", *csv_only),
        export=findings,
    )


def _verdict(tests: list[dict[str, Any]]) -> str:
    """The verdict of a test; of several seeds, each verdict with its count unless they agree."""
    given = [test["verdict"] for test in tests if test["verdict"]]
    distinct = ordered(given, VERDICTS)
    return distinct[0] if len(distinct) == 1 else ", ".join(f"{given.count(one)} {one}" for one in distinct)


def _numbers(tests: list[dict[str, Any]]) -> str:
    """Two lines per seed: the value with its interval; p and n."""
    lines = []
    for test in tests:
        small = ([p_text(test["p"])] if test["p"] is not None else []) + [f"n = {test['n']}"] * (test["n"] is not None)
        seed = f"seed {test['seed']}: " if len(tests) > 1 else ""
        lines += [seed + with_interval(test["value"], test["low"], test["high"], 2), ", ".join(small)]
    return "\n".join(line for line in lines if line)
