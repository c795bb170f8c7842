"""Bytes against kept quality: what it takes to serve several domains, and what each keeps of its own model."""

from typing import Any

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import (
    METRIC_MARK,
    Control,
    Figure,
    metric_control,
    metric_labels,
    panels,
    specification,
    text_pixels,
)
from mmgrid.reporting.tables.order import STUDY_METRICS, ordered, paradigm_order
from mmgrid.studies.kept_tables import NO_FAMILIES

OWN_MODELS = "own models"  # a way to serve domains: all of each
_SINGLE = (OWN_MODELS, *NO_FAMILIES)  # no line joins them
_OWN_COLOUR = "#87919c"
_SHARES = {"mean": "mean of the domains", "least": "domain that keeps least"}
_SIZE = "bytes of all that serves the domains, in float32 checkpoints"
_SHARE = f"kept of the own models’ {METRIC_MARK}, %"


def served_figure(served: pl.DataFrame) -> Figure | None:
    """Each merge and family by its bytes and its kept share, one panel per paradigm; `None` without known bytes.

    Args:
        served: `mmgrid.studies.kept_tables.SERVED_SCHEMA`.
    """
    rows = _points(served)
    if rows.is_empty():
        return None
    metrics = ordered(rows["metric"].to_list(), STUDY_METRICS)
    paradigms = ordered(rows["paradigm"].to_list(), paradigm_order())
    ways = [way for way in ordered(rows["way"].to_list(), _SINGLE) if way != OWN_MODELS]
    numbers = sorted(rows["domains"].unique().to_list(), reverse=True)
    own = f"datum.way === '{OWN_MODELS}'"
    single = " || ".join(f"datum.way === '{way}'" for way in _SINGLE)
    size = alt.X("checkpoints:Q").title(_SIZE).scale(zero=False, nice=True, padding=12).axis(tickCount=6)
    share = alt.Y("value:Q").title(_SHARE).scale(zero=False, nice=True).axis(tickCount=6)
    look: dict[str, Any] = {"title": None, "orient": "top", "symbolType": "circle", "symbolOpacity": 1}
    colour = alt.Color("way:N").scale(domain=ways, range="category").legend(**look)
    base = alt.Chart().encode(
        color=alt.when(alt.datum.way == OWN_MODELS).then(alt.value(_OWN_COLOUR)).otherwise(colour),
        detail="seed:N",
        tooltip=_tooltip(rows),
    )
    lines = base.mark_line(strokeWidth=1.6, opacity=0.7, aria=False).transform_filter(f"!({single})")
    bounds = base.mark_rule(strokeWidth=2, strokeCap="round", opacity=0.45, aria=False).transform_filter(
        "isValid(datum.low)"
    )
    layers = [
        alt.Chart().mark_rule(strokeDash=[4, 4], aria=False).encode(y=alt.datum(100)),
        lines.encode(x=size, y=share),
        bounds.encode(x=size, y=alt.Y("low:Q").title(_SHARE), y2="high:Q"),
        *(
            base.mark_point(filled=True, size=70, opacity=1, shape=shape).transform_filter(kind).encode(x=size, y=share)
            for shape, kind in (("circle", f"!({own})"), ("diamond", own))
        ),
    ]
    chart = (
        alt.layer(*layers, data=alt.NamedData("served"))
        .properties(height=300)
        .facet(facet=alt.Facet("paradigm:N").sort(paradigms).title(None), columns=panels(len(paradigms)))
        .resolve_scale(x="independent")
        .transform_filter(
            "datum.metric === metric && datum.share === share && datum.domains === toNumber(domains) && isValid(datum.value)"
        )
    )
    return Figure(
        id="figure-served",
        caption=(
            "What serves all domains, against what they keep of their own models: one merge, or a family of one shared model "
            "and the parts of each domain. Grey diamond: the own models. With 95 % bootstrap intervals over users; lines join families "
            "of one kind."
        ),
        alternative="Points of kept quality against bytes, one colour per way to serve the domains, one panel per paradigm",
        spec=specification(chart, metric=metrics[0], share="mean", domains=str(numbers[0])),
        data={"served": rows},
        controls=(
            metric_control(metrics),
            Control("share", "Share", tuple(_SHARES.items())),
            Control("domains", "Domains served", tuple((str(number), str(number)) for number in numbers)),
        ),
        metrics=metric_labels(metrics),
        panels=panels(len(paradigms)),
        legend_pixels=40 + text_pixels(ways),
        max_pixels=760,
    )


def _points(served: pl.DataFrame) -> pl.DataFrame:
    """One row per point of the figure, for both shares, with the domains' own models among them."""
    names = ["paradigm", "merge", "way", "metric", "seed", "domains", "checkpoints", "bf16_checkpoints"]
    known = served.filter(pl.col("checkpoints").is_finite())
    of_each = [
        known.select(*names, share=pl.lit(share), value=share, low=pl.col(f"{share}_low"), high=pl.col(f"{share}_high"))
        for share in _SHARES
    ]
    own = (
        known.with_columns(
            pl.col("checkpoints", "bf16_checkpoints") * pl.col("own_bytes") / pl.col("bytes"),
            merge=pl.lit(OWN_MODELS),
            way=pl.lit(OWN_MODELS),
        )
        .select(*names)
        .unique(["paradigm", "metric", "seed", "domains"], keep="first", maintain_order=True)
    )
    bounds = dict.fromkeys(("low", "high"), pl.lit(None, pl.Float64))
    of_each += [own.with_columns(share=pl.lit(share), value=pl.lit(100.0), **bounds) for share in _SHARES]
    return pl.concat(of_each)


def _tooltip(rows: pl.DataFrame) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("merge:N", title="Name"),
        alt.Tooltip("way:N", title="Served by"),
        alt.Tooltip("domains:Q", title="Domains", format="d"),
        alt.Tooltip("value:Q", title="Kept, %", format=".1f"),
        alt.Tooltip("low:Q", title="Interval from", format=".1f"),
        alt.Tooltip("high:Q", title="to", format=".1f"),
        alt.Tooltip("checkpoints:Q", title="Checkpoints in float32", format=".3~f"),
        alt.Tooltip("bf16_checkpoints:Q", title="in bf16", format=".3~f"),
        *([alt.Tooltip("seed:N", title="Seed")] if rows["seed"].n_unique() > 1 else []),
    ]
