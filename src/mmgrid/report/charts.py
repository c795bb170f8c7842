"""The figures, each a small declarative Vega-Lite specification (written with Altair) over the shared data.

A specification names its data and holds none.  The page fills in the data and the theme (colours, text), and
turns the controls: a parameter ``group`` follows the page's choice of users, the others are the figure's own.
Colours come from named ranges (``category``, ``diverging``) of the theme, so that light and dark are one
specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from mmgrid.report.comparison import BASELINE, metric_label, metric_order
from mmgrid.report.merges import scale_limit
from mmgrid.report.overview import PHASE_ORDER
from mmgrid.report.tables import ordered

_TILE_WIDTH = 86


@dataclass(frozen=True)
class Control:
    """A choice beneath a figure's title: sets the parameter ``name`` to the value of an option."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]  # (value, what is read)


@dataclass(frozen=True)
class Figure:
    """A specification, the data sets it names, and how it is presented.

    ``panels``: how many stand side by side at most.  The page sets fewer where it is narrow, and gives each an
    equal share of its width, or ``panel_pixels`` where that is not 0.  ``label_pixels`` is what stands left of
    the first panel.
    """

    id: str
    title: str
    caption: str
    alternative: str
    spec: dict[str, Any]
    data: dict[str, pl.DataFrame]
    controls: tuple[Control, ...] = ()
    panels: int = 1
    panel_pixels: int = 0
    label_pixels: int = 60


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
        .facet(facet=alt.Facet("domain:N").sort(domains).title(None), columns=_panels(len(domains)))
        .resolve_scale(x="independent")
    )
    return Figure(
        id="figure-scores",
        title="Figure 1",
        caption=(
            "Each recommender with its 95 % bootstrap interval; every domain has an axis of its own that starts "
            "at zero."
        ),
        alternative="Dot plot of each recommender's value with its interval, one panel a domain",
        spec=_specification(chart, group="all", metric=metrics[0]),
        data={"scores": shown.select(names)},
        controls=(_metric_control(metrics),),
        panels=_panels(len(domains)),
        label_pixels=14 + 8 * max(len(label) for label in shown["label"].to_list()),
    )


def merges_figure(found: pl.DataFrame, domains: Sequence[str]) -> Figure | None:
    """The cross-domain heatmap: what merging with a partner changed on each domain, one panel a paradigm."""
    if found.is_empty():
        return None
    metrics = metric_order(found["metric"].to_list())
    recipes = ordered(found["recipe"].to_list(), [])
    paradigms = ordered(found["paradigm"].to_list(), [])
    names = ordered([*found["domain"].to_list(), *found["partner"].to_list()], domains)
    specification = _specification(
        _heatmap(names, paradigms, scale_limit(found)),
        group="all",
        metric=metrics[0],
        recipe=recipes[0],
        inkFrom=0.85,
        inkOnEnds="#ffffff",
        inkOnMiddle="#1b1f24",
    )
    judged = "Bold: the paired 95 % interval leaves zero out."
    if found["decided"].null_count() == found.height:
        judged = "No paired intervals are at hand."
    controls = [_metric_control(metrics)]
    if len(recipes) > 1:
        controls.append(Control("recipe", "Merge", tuple((name, name) for name in recipes)))
    return Figure(
        id="figure-merges",
        title="Figure 2",
        caption=(
            "Change in percent of the single-domain model’s value, when the t2 models of two domains are merged. "
            + judged
        ),
        alternative="Heatmap of changes by evaluated domain and partner, one panel a paradigm",
        spec=specification,
        data={"pairs": found},
        controls=tuple(controls),
        panels=_panels(len(paradigms)),
        panel_pixels=_TILE_WIDTH * len(names),
        label_pixels=40 + 8 * max(len(name) for name in names),
    )


def _heatmap(names: Sequence[str], paradigms: Sequence[str], limit: float) -> alt.FacetChart:
    """Tiles with their change written on them; ``inkFrom`` is the share of the scale from which ink turns."""
    tooltip = [
        alt.Tooltip("domain:N", title="Evaluated on"),
        alt.Tooltip("partner:N", title="Merged with"),
        alt.Tooltip("change:Q", title="Change, %", format="+.1f"),
        alt.Tooltip("low:Q", title="Interval from", format="+.1f"),
        alt.Tooltip("high:Q", title="to", format="+.1f"),
        alt.Tooltip("single:Q", title="Single-domain, %", format=".2f"),
        alt.Tooltip("merged:Q", title="Merged, %", format=".2f"),
        alt.Tooltip("n_users:Q", title="Users", format=",d"),
    ]
    axis = alt.Axis(orient="bottom", labelAngle=0, labelLimit=_TILE_WIDTH - 6)
    base = alt.Chart().encode(
        x=alt.X("partner:N").sort(names).title("merged with").axis(axis),
        y=alt.Y("domain:N").sort(names).title("evaluated on"),
        tooltip=tooltip,
    )
    legend = alt.Legend(
        title="change, %",
        orient="bottom",
        direction="horizontal",
        gradientLength=240,
        values=[-limit, -limit / 2, 0, limit / 2, limit],
        labelExpr="(datum.value > 0 ? '+' : '') + datum.label",
    )
    colour = (
        alt.Color("change:Q")
        .scale(domain=[-limit, limit], domainMid=0, range="diverging", interpolate="lab", clamp=True)
        .legend(legend)
    )
    ink = (
        alt.when(f"abs(datum.change) > inkFrom * {limit}")
        .then(alt.value(alt.ExprRef("inkOnEnds")))
        .otherwise(alt.value(alt.ExprRef("inkOnMiddle")))
    )
    weight = alt.ExprRef("datum.decided === true ? 'bold' : 'normal'")
    tiles = base.mark_rect(cornerRadius=3, stroke=None).encode(color=colour)
    text = base.mark_text(fontSize=13, fontWeight=weight).encode(text=alt.Text("change:Q", format="+.1f"), color=ink)
    return (
        alt.layer(tiles, text, data=alt.NamedData("pairs"))
        .transform_filter("datum.group === group && datum.metric === metric && datum.recipe === recipe")
        .properties(width=alt.Step(_TILE_WIDTH), height=alt.Step(46))
        .facet(facet=alt.Facet("paradigm:N").sort(paradigms).title(None), columns=_panels(len(paradigms)))
    )


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
        .facet(facet=alt.Facet("phase:N").sort(phases).title(None), columns=_panels(len(phases), most=4))
        .resolve_scale(x="independent")
    )
    return Figure(
        id="figure-losses",
        title="Figure 3",
        caption="Training loss by epoch, one panel a phase. Points are means of neighbouring logged steps.",
        alternative=f"Line chart of training losses, one line a domain{' and seed' * bool(seed)}, one panel a phase",
        spec=_specification(chart, paradigm=paradigms[0]),
        data={"losses": curves},
        controls=(Control("paradigm", "Paradigm", tuple((name, name) for name in paradigms)),),
        panels=_panels(len(phases), most=4),
    )


def _specification(chart: Any, **parameters: str | float) -> dict[str, Any]:
    """The chart as a dictionary, with its parameters and their first values, and without Altair's own theme."""
    with alt.theme.enable("none"):
        specification = chart.to_dict()
    specification.pop("config", None)
    specification["params"] = [{"name": name, "value": value} for name, value in parameters.items()]
    return specification


def _metric_control(metrics: Sequence[str]) -> Control:
    return Control("metric", "Metric", tuple((metric, metric_label(metric)) for metric in metrics))


def _panels(amount: int, most: int = 3) -> int:
    return max(1, min(most, amount))
