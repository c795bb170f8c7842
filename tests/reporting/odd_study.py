"""A study by somebody else: no view, no paradigm, seed or metric, column names with dots and brackets, any types."""

from datetime import date
from typing import Literal

import polars as pl

from mmgrid.studies.contract import Study, StudySpec
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA


class OddSpec(StudySpec):
    kind: Literal["odd"]


class Odd(Study):
    name = "odd"
    title = "Yields of a field"
    spec = OddSpec
    tables = {
        "yields": pl.Schema(
            {
                "crop.name": pl.String,
                "height [cm]": pl.Float64,
                "low": pl.Float64,
                "high": pl.Float64,
                "it's ripe": pl.Boolean,
                "sown_on": pl.Date,
                "tags": pl.List(pl.String),
                "plots": pl.Int64,
            }
        ),
        "growth": pl.Schema(
            {
                "group": pl.String,
                "field_number": pl.Int64,
                "wet": pl.Boolean,
                "week": pl.Int64,
                "growth": pl.Float32,
                "growth_low": pl.Float32,
                "growth_high": pl.Float32,
            }
        ),
        "nothing": pl.Schema({"a": pl.String}),
        "findings": FINDINGS_SCHEMA,
    }
    plots = (
        Plot(
            "heights",
            "yields",
            "heat",
            Axis("crop.name", "crop"),
            Axis("sown_on", "sown on"),
            Axis("height [cm]", "height", "cm"),
            caption="Heights.",
        ),
        Plot(
            "crops",
            "yields",
            "point",
            Axis("height [cm]", "height", "cm"),
            Axis("crop.name", "crop"),
            Axis("it's ripe", "ripe"),
            caption="Heights with intervals.",
            x_low="low",
            x_high="high",
            reference=10.0,
        ),
        Plot("bars", "yields", "bar", Axis("plots", "plots"), Axis("height [cm]", "height"), Axis("tags", "tags"), ""),
        Plot(
            "growth",
            "growth",
            "line",
            Axis("week", "week"),
            Axis("growth", "growth", "cm"),
            Axis("field_number", "field"),
            caption="Growth by week.",
            panel="group",
            low="growth_low",
            high="growth_high",
            choices=("wet",),
            rules=("yields", "plots"),
        ),
        Plot(
            "paths",
            "growth",
            "path",
            Axis("week", "week"),
            Axis("growth", "growth", "cm"),
            Axis("wet", "wet"),
            caption="Growth of one field.",
            order="week",
            choices=("field_number", "group"),
            cross=("growth_low", "growth_high"),
        ),
    )

    def needs(self, spec, grid):
        return None

    def answer(self, parts, context):
        return {}


STUDY = Odd()
FIELDS = (3, 12)


def odd_tables(findings=True):
    """Its answer: three crops, and the growth of two fields in two groups."""
    yields = [
        {
            "crop.name": name,
            "height [cm]": height,
            "low": height - 1.5,
            "high": height + 1.5,
            "it's ripe": height > 10,
            "sown_on": date(2024, 4, 1 + number),
            "tags": ["tall", "early"][: number % 3],
            "plots": 2 + number,
        }
        for number, (name, height) in enumerate((("barley", 12.25), ("rye", float("nan")), ("oats (late)", 2250.0)))
    ]
    growth = [
        {
            "group": group,
            "field_number": field,
            "wet": wet,
            "week": week,
            "growth": 1.0 * week,
            "growth_low": 0.5 * week,
        }
        | {"growth_high": 2.0 * week}
        for group in ("control", "treated")
        for field in FIELDS
        for wet in (False, True)
        for week in range(1, 40)
    ]
    claim = {"finding": "rain", "claim": "Rain helps.", "statistic": "Mean difference", "value": 1.5, "low": 0.2}
    claim |= {"high": 2.8, "verdict": "reproduced"}
    rows = {"yields": yields, "growth": growth, "findings": [claim] if findings else []}
    return {
        name: pl.DataFrame([{column: row.get(column) for column in Odd.tables[name]} for row in made], Odd.tables[name])
        for name, made in rows.items()
    }
