"""The figures of the grid itself: scores, merges, losses.  Those of the studies are drawn by `plots`."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import Control, Figure, metric_control, panels, specification, text_pixels
from mmgrid.reporting.figures.overview import PHASE_ORDER
from mmgrid.reporting.figures.plot_data import orders
from mmgrid.reporting.figures.plots import drawn
from mmgrid.reporting.tables.comparison import BASELINE, metric_order
from mmgrid.reporting.tables.tables import ordered
from mmgrid.studies.plot import Axis, Plot


def scores_figure(scored: pl.DataFrame) -> Figure | None:
    """Every recommender's value and interval, one panel a domain."""
    shown = scored.filter(~pl.col("minor"))
    if shown.is_empty():
        return None
    names = ["domain", "label", "paradigm", "group", "metric", "value", "low", "high", "n_users", "seed"]
    metrics = metric_order(shown["metric"].to_list())
    domains = ordered(shown["domain"].to_list(), [])
    recommender = alt.Y("label:N").sort(ordered(shown["label"].to_list(), [])).title(None)
    paradigms = [name for name in ordered(shown["paradigm"].to_list(), []) if name != BASELINE]
    own = alt.Color("paradigm:N").scale(domain=paradigms, range="category").legend(None)
    colour = alt.when(alt.datum.paradigm == BASELINE).then(alt.value("#87919c")).otherwise(own)
    tooltip = [
        alt.Tooltip("domain:N", title="Domain"),
        alt.Tooltip("label:N", title="Recommender"),
        alt.Tooltip("value:Q", title="Percent", format=".2f"),
        alt.Tooltip("low:Q", title="Interval from", format=".2f"),
        alt.Tooltip("high:Q", title="to", format=".2f"),
        alt.Tooltip("n_users:Q", title="Users", format=",d"),
    ]
    base = alt.Chart().encode(y=recommender, color=colour, tooltip=tooltip)
    value = alt.X("value:Q").title("percent").scale(zero=True, nice=True).axis(tickCount=4)
    bounds = base.mark_rule(strokeWidth=2, strokeCap="round", opacity=0.55).encode(
        x=alt.X("low:Q").title("percent"), x2="high:Q"
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
            "Each recommender with its 95 % bootstrap interval; every domain has an axis of its own that starts "
            "at zero."
        ),
        alternative="Dot plot of each recommender's value with its interval, one panel a domain",
        spec=specification(chart, group="all", metric=metrics[0]),
        data={"scores": shown.select(names)},
        controls=(metric_control(metrics),),
        panels=panels(len(domains)),
        label_pixels=14 + 8 * max(len(label) for label in shown["label"].to_list()),
    )


def merges_figure(found: pl.DataFrame, domains: Sequence[str]) -> Figure | None:
    """The cross-domain heatmap: what merging with a partner changed on each domain, one panel a paradigm."""
    judged = "Bold: the paired 95 % interval leaves zero out."
    if found["decided"].null_count() == found.height:
        judged = "No paired intervals are at hand."
    plot = Plot(
        name="merges",
        table="pairs",
        mark="heat",
        x=Axis("partner", "merged with"),
        y=Axis("domain", "evaluated on"),
        colour=Axis("change", "change", "%"),
        low="low",
        high="high",
        panel="paradigm",
        choices=("group", "metric", "recipe"),
        caption=(
            "Change in percent of the single-domain model’s value, when the t2 models of two domains are merged. "
            + judged
        ),
    )
    return drawn(plot, "pairs", found, orders(domains), name="figure-merges")


def losses_figure(curves: pl.DataFrame, domains: Sequence[str]) -> Figure | None:
    """Loss by epoch, one panel a phase, one paradigm at a time (their losses have different units)."""
    if curves.is_empty():
        return None
    paradigms = ordered(curves["paradigm"].to_list(), [])
    phases = ordered(curves["phase"].to_list(), PHASE_ORDER)
    names = ordered(curves["domain"].to_list(), domains)
    seed = [alt.Tooltip("seed:N", title="Seed")] if curves["seed"].n_unique() > 1 else []
    chart = (
        alt.Chart(alt.NamedData("losses"))
        .mark_line(strokeWidth=1.8, interpolate="monotone", clip=True)
        .transform_filter("datum.paradigm === paradigm")
        .encode(
            x=alt.X("epoch:Q").title("epoch").axis(tickCount=4),
            y=alt.Y("loss:Q").title("loss").scale(zero=False, nice=True).axis(tickCount=5),
            color=alt.Color("domain:N")
            .scale(domain=names, range="category")
            .legend(title=None, orient="top", symbolType="stroke", symbolStrokeWidth=3),
            detail="seed:N",
            tooltip=[
                alt.Tooltip("domain:N", title="Domain"),
                *seed,
                alt.Tooltip("epoch:Q", title="Epoch", format=".2f"),
                alt.Tooltip("loss:Q", title="Loss", format=".4f"),
            ],
        )
        .properties(height=220)
        .facet(facet=alt.Facet("phase:N").sort(phases).title(None), columns=panels(len(phases), most=4))
        .resolve_scale(x="independent")
    )
    return Figure(
        id="figure-losses",
        caption="Training loss by epoch, one panel a phase. Points are means of neighbouring logged steps.",
        alternative=f"Line chart of training losses, one line a domain{' and seed' * bool(seed)}, one panel a phase",
        spec=specification(chart, paradigm=paradigms[0]),
        data={"losses": curves},
        controls=(Control("paradigm", "Paradigm", tuple((name, name) for name in paradigms)),),
        panels=panels(len(phases), most=4),
        legend_pixels=40 + text_pixels(names),
    )
