"""A plot that is being drawn: its rows, and the axes, colours and tooltips made from its columns.

Columns of studies may have any name, so names are escaped: in an encoding (`Drawing.channel`) and in an expression
(`datum`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import METRIC_MARK, text_pixels
from mmgrid.reporting.figures.plot_data import HOVER_COLUMNS
from mmgrid.reporting.tables.labels import column_label, value_label
from mmgrid.reporting.tables.order import ordered
from mmgrid.studies.plot import Axis, Plot

TILE_HEIGHT = 40
_FEW_TILES, _MANY_TILES = 74, 62  # width of a tile, among up to four columns and among more
_HOVER_TITLES = {"single": "Own model, %", "merged": "Merged, %", "kept": "Kept, %", "p_adjusted": "p after Holm"}
_HOVER_FORMATS = {"single": ".2f", "merged": ".2f", "kept": ".1f", "p_adjusted": ".2~g", "n_users": ",d"}


def quoted(text: Any) -> str:
    """A literal of Vega's expression language, written as in JSON."""
    return json.dumps(text)


def datum(column: str) -> str:
    """An expression for the value of a column."""
    return f"datum[{quoted(column)}]"


def field(column: str) -> str:
    """The name of a column in an encoding, where dots and brackets would otherwise reach into the value."""
    return re.sub(r"""([\\.\[\]'"])""", r"\\\1", column)


def option_text(value: Any) -> str:
    """A value as text, as the page's script writes it."""
    return value if isinstance(value, str) else quoted(value)


def titled(axis: Axis) -> str:
    """`gap, days`; the name of the metric is put in once it is known which one is shown."""
    title = axis.title.replace("{metric}", METRIC_MARK)
    return f"{title}, {axis.unit}" if axis.unit else title


@dataclass(frozen=True)
class Drawing:
    """A plot and the rows it draws.

    Attributes:
        plot: the declaration.
        frame: the rows.
        orders: column → its values in the order to list them.
    """

    plot: Plot
    frame: pl.DataFrame
    orders: Mapping[str, Sequence[str]]

    def values(self, column: str) -> list[Any]:
        """The distinct values of a column in the order to list them; numbers ascend."""
        distinct = ordered(self.frame[column].drop_nulls().to_list(), self.orders.get(column, ()))
        return sorted(distinct) if self.is_numeric(column) else distinct

    def is_numeric(self, column: str) -> bool:
        return self.frame.schema[column].is_numeric()

    def on_scale(self, axis: Axis) -> bool:
        """Whether an axis is a scale of numbers; tiles and bars stand side by side, whatever their values."""
        names = self.plot.mark == "heat" or (self.plot.mark == "bar" and axis == self.plot.x)
        return self.is_numeric(axis.column) and not names

    def channel(self, column: str, *, nominal: bool = False) -> dict[str, Any]:
        """Field and type of an encoding; `nominal` treats numbers as names."""
        numeric = self.is_numeric(column) and not nominal
        return {"field": field(column), "type": "quantitative" if numeric else "nominal"}

    def tooltip(self, column: str, title: str, number_format: str = ".4~g") -> alt.Tooltip:
        title = title[:1].upper() + title[1:]
        look: dict[str, Any] = {"format": number_format} if self.is_numeric(column) else {}
        return alt.Tooltip(**self.channel(column), **look, title=title)

    def base(self) -> alt.Chart:
        """A chart without a mark; its tooltip shows each known column of a row once."""
        plot = self.plot
        axes = [Axis(plot.panel, column_label(plot.panel))] if plot.panel else []
        axes += [plot.x, plot.y, plot.colour]
        axes += [Axis(plot.order, column_label(plot.order))] if plot.order else []
        tooltips = {}
        for axis in axes:
            tooltips.setdefault(axis.column, self.tooltip(axis.column, titled(axis)))
        if plot.points:
            tooltips[plot.points] = self.tooltip(plot.points, "Measured")
        for low, high in ((plot.x_low, plot.x_high), (plot.low, plot.high)):
            if low and high:
                tooltips[low] = self.tooltip(low, "Interval from")
                tooltips[high] = self.tooltip(high, "to")
        for column in HOVER_COLUMNS:
            if column in self.frame.columns and self.is_numeric(column):
                title = _HOVER_TITLES.get(column, column_label(column))
                tooltips[column] = self.tooltip(column, title, _HOVER_FORMATS[column])
        return alt.Chart().encode(tooltip=list(tooltips.values()))

    def axis(self, channel: Any, axis: Axis, *, zero: bool = False) -> Any:
        """`alt.X` or `alt.Y`: numbers on a scale; names in their order, slanted where they would not fit."""
        if self.on_scale(axis):
            scale = {"zero": zero, "nice": channel is alt.Y, "padding": 0 if channel is alt.Y else 6}
            return channel(**self.channel(axis.column)).title(titled(axis)).scale(**scale).axis(tickCount=5)
        names = self.values(axis.column)
        position = channel(**self.channel(axis.column, nominal=True)).sort(names)
        heat = self.plot.mark == "heat"
        if channel is alt.Y:
            return position.title(titled(axis))
        if self.plot.mark == "line":  # a scale of names, such as layers: leave some out rather than slant them
            return position.title(titled(axis)).axis(labelAngle=0, labelOverlap="greedy")
        fits = text_pixels(names) <= self.tile_width if heat else len(names) * text_pixels(names) <= 200
        slant = 0 if fits else -35
        look = alt.Axis(labelAngle=slant, labelLimit=180 if slant else 110, labelOverlap=False, orient="bottom")
        return position.title(titled(axis)).axis(look)

    def colour(self) -> alt.Color:
        """The colour of each value, with a legend unless an axis or a label already names the values."""
        axis = self.plot.colour
        colour = alt.Color(**self.channel(axis.column, nominal=True))
        colour = colour.scale(domain=self.values(axis.column), range="category")
        named = (self.plot.x.column, self.plot.y.column, self.plot.label)
        if axis.column in named or len(self.plot.keep.get(axis.column, ())) == 1:
            return colour.legend(None)
        look: dict[str, Any] = {"title": None, "orient": "top", "symbolStrokeWidth": 3, "symbolOpacity": 1}
        look["symbolType"] = {"bar": "square", "point": "circle"}.get(self.plot.mark, "stroke")
        if expression := self.label_expression(axis.column):
            look["labelExpr"] = expression
        return colour.legend(**look)

    def label_expression(self, column: str) -> str:
        """An expression that prints `datum.label` as `value_label` does; empty if it would change nothing."""
        labels = {option_text(value): value_label(column, value) for value in self.values(column)}
        if all(value == label for value, label in labels.items()):
            return ""
        cases = (f"datum.label === {quoted(value)} ? {quoted(label)}" for value, label in labels.items())
        return " : ".join([*cases, "datum.label"])

    @property
    def tile_width(self) -> int:
        return _FEW_TILES if len(self.values(self.plot.x.column)) <= 4 else _MANY_TILES
