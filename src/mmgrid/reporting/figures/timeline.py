"""Interactions over time, with the phases behind them: where the data lies that each checkpoint has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import Figure, specification, text_pixels
from mmgrid.reporting.figures.overview import PHASE_ORDER
from mmgrid.reporting.tables.tables import ordered

_LOCAL = "%Y-%m-%dT00:00"
"""With a time of day, for browsers read a bare date as one of Greenwich, and show it as one of the reader's."""

_TESTED_LAST = (*PHASE_ORDER[:3], "test")


def timeline_figure(
    months: pl.DataFrame, phases: Mapping[str, tuple[str, str]], domains: Sequence[str]
) -> Figure | None:
    """Interactions a month, one line a domain, the phases as grounds; ``None`` without rows."""
    if months.is_empty():
        return None
    names = ordered(months["domain"].to_list(), domains)
    lines = (
        alt.Chart(alt.NamedData("months"))
        .mark_line(strokeWidth=1.8, point="transparent")
        .encode(
            x=alt.X("month:T").title(None).axis(tickCount=6, grid=False),
            y=alt.Y("interactions:Q").title("interactions a month").axis(tickCount=5, format="~s"),
            color=alt.Color("domain:N")
            .scale(domain=names, range="category")
            .legend(title=None, orient="top", symbolType="stroke", symbolStrokeWidth=3),
            tooltip=[
                alt.Tooltip("domain:N", title="Domain"),
                alt.Tooltip("month:T", title="Month", format="%B %Y"),
                alt.Tooltip("interactions:Q", title="Interactions", format=",d"),
            ],
        )
    )
    data = {"months": months.with_columns(pl.col("month").dt.strftime(_LOCAL))}
    layers = [lines]
    if phases:
        layers.insert(0, _grounds(ordered(list(phases), _TESTED_LAST)))
        data["phases"] = _spans(phases)
    chart = alt.layer(*layers).properties(height=260)
    return Figure(
        id="figure-months",
        caption="Interactions a month" + (", and the phases that they fall in." if phases else "."),
        alternative="Line chart of interactions by month, one line a domain",
        spec=specification(chart),
        data=data,
        label_pixels=64,
        legend_pixels=40 + text_pixels(names),
    )


def _grounds(phases: Sequence[str]) -> alt.Chart:
    fill = alt.Fill("phase:N").scale(domain=list(phases), range="ordinal")
    return (
        alt.Chart(alt.NamedData("phases"))
        .mark_rect()
        .encode(
            x="start:T",
            x2="end:T",
            fill=fill.legend(title=None, orient="bottom", symbolType="square", symbolStrokeWidth=0),
            tooltip=[
                alt.Tooltip("phase:N", title="Phase"),
                alt.Tooltip("start:T", title="From", format="%Y-%m-%d"),
                alt.Tooltip("end:T", title="Until", format="%Y-%m-%d"),
            ],
        )
    )


def _spans(phases: Mapping[str, tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(name, f"{start}T00:00", f"{end}T00:00") for name, (start, end) in phases.items()],
        schema={"phase": pl.String, "start": pl.String, "end": pl.String},
        orient="row",
    )
