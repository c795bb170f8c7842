"""The loss curves of the trainings."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import Control, Figure, panels, specification, text_pixels
from mmgrid.reporting.tables.order import PHASES, ordered
from mmgrid.reporting.tables.strength import first_of


def losses_figure(curves: pl.DataFrame, domains: Sequence[str], strength: Sequence[str] = ()) -> Figure | None:
    """Loss by epoch, one panel per phase and one paradigm at a time, the strongest first; `None` without rows."""
    if curves.is_empty():
        return None
    paradigms = ordered(curves["paradigm"].to_list())
    first = first_of(strength, paradigms)
    phases = ordered(curves["phase"].to_list(), PHASES)
    names = ordered(curves["domain"].to_list(), domains)
    seed = [alt.Tooltip("seed:N", title="Seed")] if curves["seed"].n_unique() > 1 else []
    chart = (
        alt.Chart(alt.NamedData("losses"))
        .mark_line(strokeWidth=1.8, interpolate="monotone", clip=True)
        .transform_filter("datum.paradigm === paradigm")
        .encode(
            x=alt.X("epoch:Q").title("epoch").axis(tickCount=4),
            y=alt.Y("loss:Q").title("training loss").scale(zero=False, nice=True).axis(tickCount=5),
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
        caption="Training loss by epoch, one panel per phase. Each point is a mean over neighbouring logged steps.",
        alternative=f"Line chart of training losses, one line per domain{' and seed' * bool(seed)}, one panel per phase",
        spec=specification(chart, paradigm=first),
        data={"losses": curves},
        controls=(Control("paradigm", "Paradigm", tuple((name, name) for name in paradigms), first),),
        panels=panels(len(phases), most=4),
        legend_pixels=40 + text_pixels(names),
    )
