"""A domain by month: interactions, users, items and the share of new ones, with the phases as background."""

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import Control, Figure, specification, text_pixels
from mmgrid.reporting.tables.order import PHASES, ordered

_LOCAL = "%Y-%m-%dT00:00"
"""With a time of day: browsers read a bare date as midnight in UTC, and show it in local time."""

_PHASES_IN_TIME = (*PHASES[:3], "test")


_MEASURES = {
    "interactions": "interactions per month",
    "users": "users per month",
    "items": "items per month",
    "new_items": "share of the month's items that are new",
}


def timeline_figure(
    months: pl.DataFrame, phases: Mapping[str, tuple[str, str]], domains: Sequence[str]
) -> Figure | None:
    """What happens per month, one line per domain; `None` without rows."""
    if months.is_empty():
        return None
    names = ordered(months["domain"].to_list(), domains)
    alone = months.group_by("domain").len()["len"].min() == 1  # a line of one month is only seen by its point
    lines = (
        alt.Chart(alt.NamedData("months"))
        .mark_line(strokeWidth=1.8, point=True if alone else "transparent")
        .encode(
            x=alt.X("month:T").title("month").axis(tickCount=6, grid=False),
            y=alt.Y("value:Q").title("per month").axis(tickCount=5, format="~s"),
            color=alt.Color("domain:N")
            .scale(domain=names, range="category")
            .legend(title=None, orient="top", symbolType="stroke", symbolStrokeWidth=3),
            tooltip=[
                alt.Tooltip("domain:N", title="Domain"),
                alt.Tooltip("month:T", title="Month", format="%B %Y"),
                alt.Tooltip("value:Q", title="Value", format=",.4~r"),
            ],
        )
        .transform_calculate(value="datum[measure]")
        .transform_filter("isValid(datum.value)")
    )
    measures = [measure for measure in _MEASURES if months[measure].null_count() < len(months)]
    data = {"months": months.with_columns(pl.col("month").dt.strftime(_LOCAL))}
    layers = [lines]
    if phases:
        layers.insert(0, _background(ordered(list(phases), _PHASES_IN_TIME)))
        data["phases"] = _spans(phases)
    chart = alt.layer(*layers).properties(height=260)
    return Figure(
        id="figure-months",
        caption="The domains by month" + (", with the phases of the grid as background." if phases else "."),
        alternative="Line chart of interactions, users, items or new items by month, one line per domain",
        spec=specification(chart, measure=measures[0]),
        data=data,
        controls=(Control("measure", "What", tuple((measure, _MEASURES[measure]) for measure in measures)),),
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
