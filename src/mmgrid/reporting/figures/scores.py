"""The scores of Table 2 as a dot plot."""

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import METRIC_MARK, Figure, metric_control, metric_labels, panels, specification
from mmgrid.reporting.tables.order import BASELINE, ordered, ordered_metrics

_BASELINE_COLOUR = "#87919c"
_VALUE = f"{METRIC_MARK}, %"


def scores_figure(scored: pl.DataFrame) -> Figure | None:
    """Every recommender's value and interval, one panel per domain; `None` without rows."""
    shown = scored.filter(~pl.col("minor"))
    if shown.is_empty():
        return None
    names = ["domain", "label", "paradigm", "group", "metric", "value", "low", "high", "n_users", "seed"]
    metrics = ordered_metrics(shown["metric"].to_list())
    domains = ordered(shown["domain"].to_list())
    recommender = alt.Y("label:N").sort(ordered(shown["label"].to_list())).title("recommender")
    paradigms = [name for name in ordered(shown["paradigm"].to_list()) if name != BASELINE]
    paradigm_colour = alt.Color("paradigm:N").scale(domain=paradigms, range="category").legend(None)
    colour = alt.when(alt.datum.paradigm == BASELINE).then(alt.value(_BASELINE_COLOUR)).otherwise(paradigm_colour)
    tooltip = [
        alt.Tooltip("domain:N", title="Domain"),
        alt.Tooltip("label:N", title="Recommender"),
        alt.Tooltip("value:Q", title=_VALUE, format=".2f"),
        alt.Tooltip("low:Q", title="Interval from", format=".2f"),
        alt.Tooltip("high:Q", title="to", format=".2f"),
        alt.Tooltip("n_users:Q", title="Users", format=",d"),
    ]
    base = alt.Chart().encode(y=recommender, color=colour, tooltip=tooltip)
    value = alt.X("value:Q").title(_VALUE).scale(zero=True, nice=True).axis(tickCount=4)
    bounds = base.mark_rule(strokeWidth=2, strokeCap="round", opacity=0.55, aria=False).encode(
        x=alt.X("low:Q").title(_VALUE), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=64, opacity=1).encode(x=value)
    chart = (
        alt.layer(bounds, points, data=alt.NamedData("scores"))
        .transform_filter("datum.group === group && datum.metric === metric && isValid(datum.value)")
        .properties(height=alt.Step(24))
        .facet(facet=alt.Facet("domain:N").sort(domains).title(None), columns=panels(len(domains)))
        .resolve_scale(x="independent")
    )
    return Figure(
        id="figure-scores",
        caption=(
            "Each recommender with its 95 % bootstrap interval. Every domain has its own axis, which starts at zero."
        ),
        alternative="Dot plot of each recommender's value with its interval, one panel per domain",
        spec=specification(chart, group="all", metric=metrics[0]),
        data={"scores": shown.select(names)},
        controls=(metric_control(metrics),),
        metrics=metric_labels(metrics),
        panels=panels(len(domains)),
        label_pixels=38 + 8 * max(len(label) for label in shown["label"].to_list()),
    )
