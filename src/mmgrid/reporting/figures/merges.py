"""The cross-domain heatmap of a grid's own merges."""

from collections.abc import Sequence

import polars as pl

from mmgrid.reporting.figures.figure import Figure
from mmgrid.reporting.figures.plot_data import SIGNIFICANT
from mmgrid.reporting.figures.plots import plot_figure
from mmgrid.reporting.tables.order import listing_orders
from mmgrid.studies.plot import Axis, Plot


def merges_figure(pairs: pl.DataFrame, domains: Sequence[str]) -> Figure | None:
    """The change on each domain when its model is merged with a partner's; `None` without rows.

    Args:
        pairs: `mmgrid.reporting.tables.merges.PAIRS_SCHEMA`.
        domains: in the order to list them.
    """
    note = "Bold: the paired 95 % interval excludes zero."
    if pairs["significant"].null_count() == pairs.height:
        note = "There are no paired intervals."
    plot = Plot(
        name="merges",
        table="pairs",
        mark="heat",
        x=Axis("partner", "merged with"),
        y=Axis("domain", "evaluated on"),
        colour=Axis("change", "change in {metric}", "%"),
        low="low",
        high="high",
        panel="paradigm",
        choices=("group", "metric", "recipe"),
        caption=f"Change when the t2 models of two domains are merged, in percent of the own model’s value. {note}",
    )
    frame = pairs.rename({"significant": SIGNIFICANT})
    return plot_figure(plot, "pairs", frame, listing_orders(domains), figure_id="figure-merges")
