"""Interactions per month, with the phases as background."""

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import Figure, specification, text_pixels
from mmgrid.reporting.tables.order import PHASES, ordered

_LOCAL = "%Y-%m-%dT00:00"
"""With a time of day: browsers read a bare date as midnight in UTC, and show it in local time."""

_PHASES_IN_TIME = (*PHASES[:3], "test")


def timeline_figure(
    months: pl.DataFrame, phases: Mapping[str, tuple[str, str]], domains: Sequence[str]
) -> Figure | None:
    """Interactions per month, one line per domain; `None` without rows."""
    if months.is_empty():
        return None
    names = ordered(months["domain"].to_list(), domains)
    lines = (
        alt.Chart(alt.NamedData("months"))
        .mark_line(strokeWidth=1.8, point="transparent")
        .encode(
            x=alt.X("month:T").title("month").axis(tickCount=6, grid=False),
            y=alt.Y("interactions:Q").title("interactions per month").axis(tickCount=5, format="~s"),
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
        layers.insert(0, _background(ordered(list(phases), _PHASES_IN_TIME)))
        data["phases"] = _spans(phases)
    chart = alt.layer(*layers).properties(height=260)
    return Figure(
        id="figure-months",
        caption="Interactions per month" + (", with the phases of the grid as background." if phases else "."),
        alternative="Line chart of interactions by month, one line per domain",
        spec=specification(chart),
        data=data,
        label_pixels=64,
        legend_pixels=40 + text_pixels(names),
    )


def _background(phases: Sequence[str]) -> alt.Chart:
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
