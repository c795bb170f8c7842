"""The general drawing: a declared `Plot` of a study becomes a figure.

One function a mark gives the layers; what all have in common (data, rows, panels, controls, reference lines) is
added around them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from mmgrid.reporting.figures.figure import Control, Figure, panels, specification, text_pixels
from mmgrid.reporting.figures.plot_data import PAIR, choices, kept, label, places, values
from mmgrid.reporting.figures.theme import INKS
from mmgrid.studies.plot import Axis, Plot

_TILE_WIDTHS, _TILE_HEIGHT = (74, 62), 40  # of few and of many columns
_WIDEST = 760
_CHOICE_NAMES = {"way": "Merged by", "recipe": "Merge"}
_NAMES = {"alpha": "α", "scale": "λ"}
_HOVER = {  # columns that no axis names: title, format
    "single": ("Own model, %", ".2f"),
    "merged": ("Merged, %", ".2f"),
    "kept": ("Kept, %", ".1f"),
    "p_adjusted": ("p after Holm", ".2~g"),
    "n_users": ("Users", ",d"),
}


@dataclass(frozen=True)
class Drawing:
    """A plot, the rows it draws, and how names are listed."""

    plot: Plot
    frame: pl.DataFrame
    orders: Mapping[str, Sequence[str]]

    def values(self, column: str) -> list[str]:
        return values(self.frame, column, self.orders)

    def numeric(self, column: str) -> bool:
        return self.frame.schema[column].is_numeric()

    def field(self, column: str) -> str:
        return f"{column}:{'Q' if self.numeric(column) else 'N'}"

    def labelled(self, column: str) -> str:
        """An expression that reads ``datum.label`` as a reader does, or nothing where the two are the same."""
        names = {name: label(column, name) for name in self.values(column)}
        if all(name == read for name, read in names.items()):
            return ""
        return " : ".join([*(f"datum.label === {_quoted(n)} ? {_quoted(r)}" for n, r in names.items()), "datum.label"])


def drawn(
    plot: Plot, data: str, frame: pl.DataFrame, orders: Mapping[str, Sequence[str]], *, name: str
) -> Figure | None:
    """The figure of a plot, or ``None`` if it has no rows.

    Args:
        plot: what is x, y, colour.
        data: the name of the data set in the page.
        frame: that data set, of which the plot's rows are drawn (see `plot_data.data_set`).
        orders: column → its values as they are to be listed.
        name: of the figure in the page, its id.
    """
    rows = frame.filter(kept(plot)) if not frame.is_empty() else frame
    if rows.is_empty():
        return None
    drawing = Drawing(plot, rows, orders)
    chosen = {column: drawing.values(column) for column in choices(plot, rows)}
    if "phase" in chosen:
        chosen["phase"].reverse()  # the newest first
    marks = {"line": _line, "path": _path, "heat": _heat, "point": _point, "bar": _bar}
    chart = alt.layer(*marks[plot.mark](drawing), *_reference(plot), data=alt.NamedData(data))
    chart = _sized(chart, drawing)
    names = drawing.values(plot.panel) if plot.panel else []
    if names:
        facet = alt.Facet(f"{plot.panel}:N").sort(names).title(None).header(_header(drawing, names))
        chart = chart.facet(facet=facet, columns=panels(len(names), _abreast(drawing)))
        chart = _resolved(chart, drawing)
    chart = chart.transform_filter(_condition(plot, list(chosen)))
    heat = plot.mark == "heat"
    colours = 0 if heat else 40 + text_pixels([label(plot.colour.column, n) for n in _texts(drawing, plot.colour)])
    return Figure(
        id=name,
        caption=_caption(drawing),
        alternative=_alternative(plot),
        spec=specification(
            chart, **{name: found[0] for name, found in chosen.items()}, **(INKS["light"] if heat else {})
        ),
        data={data: frame},
        controls=tuple(_control(column, found) for column, found in chosen.items() if column != "group"),
        panels=panels(len(names), _abreast(drawing)),
        panel_pixels=_tile_width(drawing) * len(drawing.values(plot.x.column)) if heat else 0,
        label_pixels=_label_pixels(drawing),
        legend_pixels=max(90, colours),
        max_pixels=_WIDEST,
        axis_pixels=_label_pixels(drawing) if plot.mark in ("line", "path") else 0,
    )


def _line(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    base = _base(drawing).encode(color=_colour(drawing))
    x, y = _position(alt.X, drawing, plot.x), _position(alt.Y, drawing, plot.y)
    line = base.mark_line(strokeWidth=1.8, point="transparent").encode(x=x, y=y)
    layers = [_band(base, plot).encode(x=x), line] if plot.low and plot.high else [line]
    if "rule" in drawing.frame.columns and plot.rules:
        rules = base.mark_rule(strokeDash=[5, 4], strokeWidth=1.8).transform_filter("isValid(datum.rule)")
        hover = [_hover(drawing, plot.colour), alt.Tooltip("rule:Q", title="Dashed at", format=".3~f")]
        layers.append(rules.encode(x=alt.X("rule:Q").title(_title(plot.x)), tooltip=hover))
    return layers


def _path(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    base = _base(drawing).encode(color=_colour(drawing))
    x, y = _position(alt.X, drawing, plot.x), _position(alt.Y, drawing, plot.y)
    order = alt.Order(drawing.field(plot.order))
    size = alt.Size(drawing.field(plot.order)).scale(range=[8, 90]).legend(None)
    return [
        *_crossing(plot),
        *_intervals(base, drawing, opacity=0.14, width=1.0),
        base.mark_line(strokeWidth=1.8).encode(x=x, y=y, order=order),
        base.mark_point(filled=True, opacity=1).encode(x=x, y=y, size=size),
    ]


def _point(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    base = _base(drawing).encode(color=_colour(drawing))
    if not drawing.numeric(plot.y.column) and plot.colour.column not in (plot.x.column, plot.y.column):
        names = drawing.values(plot.colour.column)
        base = base.encode(yOffset=alt.YOffset(f"{plot.colour.column}:N").sort(names))
    x, y = _position(alt.X, drawing, plot.x), _position(alt.Y, drawing, plot.y)
    layers = [
        *_intervals(base, drawing, opacity=0.55, width=2.0),
        base.mark_point(filled=True, size=64, opacity=1).encode(x=x, y=y),
    ]
    if plot.label:
        # On the side where there is more room.
        far = f"datum[{_quoted(plot.x.column)}] > {_middle(drawing.frame[plot.x.column])}"
        side: dict[str, Any] = {"align": alt.ExprRef(f"{far} ? 'right' : 'left'"), "dx": alt.ExprRef(f"{far} ? -8 : 8")}
        text = base.mark_text(**side, dy=-9, fontSize=12)
        layers.append(text.encode(x=x, y=y, text=drawing.field(plot.label)))
    return layers


def _bar(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    base = _base(drawing).encode(color=_colour(drawing))
    if plot.colour.column != plot.x.column:
        names = drawing.values(plot.colour.column)
        base = base.encode(xOffset=alt.XOffset(f"{plot.colour.column}:N").sort(names))
    x, y = _position(alt.X, drawing, plot.x), _position(alt.Y, drawing, plot.y, zero=True)
    layers = [base.mark_bar(cornerRadiusEnd=2).encode(x=x, y=y)]
    if plot.low and plot.high:
        layers.append(base.mark_rule().encode(x=x, y=f"{plot.low}:Q", y2=plot.high, color=alt.value("#87919c")))
    return layers


def _heat(drawing: Drawing) -> list[alt.Chart]:
    plot, column = drawing.plot, drawing.plot.colour.column
    percent = plot.colour.unit == "%"
    limit = scale_limit(drawing.frame[column], percent=percent)
    legend = alt.Legend(
        title=_title(plot.colour),
        orient="bottom",
        direction="horizontal",
        gradientLength=240,
        values=[-limit, -limit / 2, 0, limit / 2, limit],
        labelExpr="(datum.value > 0 ? '+' : '') + datum.label",
    )
    scale = alt.Scale(domain=[-limit, limit], domainMid=0, range="diverging", interpolate="lab", clamp=True)
    ink = (
        alt.when(f"abs(datum[{_quoted(column)}]) > inkFrom * {limit}")
        .then(alt.value(alt.ExprRef("inkOnEnds")))
        .otherwise(alt.value(alt.ExprRef("inkOnMiddle")))
    )
    base = _base(drawing).encode(x=_position(alt.X, drawing, plot.x), y=_position(alt.Y, drawing, plot.y))
    weight = alt.ExprRef("datum.decided === true ? 'bold' : 'normal'")
    tiles = base.mark_rect(cornerRadius=3, stroke=None).encode(
        color=alt.Color(f"{column}:Q", scale=scale, legend=legend)
    )
    text = base.mark_text(fontSize=13, fontWeight=weight)
    return [tiles, text.encode(text=alt.Text(f"{column}:Q", format="+.1f" if percent else "+.2f"), color=ink)]


def scale_limit(changes: pl.Series, *, percent: bool = True) -> float:
    """Where the colours end: a round number that nearly all values stay within, for all choices alike."""
    limits = (6, 10, 20, 30, 40, 60, 80, 100) if percent else (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    if changes.is_empty():
        return float(limits[1])
    usual = float(pl.DataFrame([changes.abs().alias("size")])["size"].quantile(0.95) or 0.0)
    return next((float(limit) for limit in limits if usual <= limit), float(limits[-1]))


# ---- what the marks share ----------------------------------------------------------------------------------------


def _base(drawing: Drawing) -> alt.Chart:
    """A chart without a mark, which tells on hover all that is known of a row, each column once."""
    plot = drawing.plot
    named = [Axis(plot.panel, plot.panel.capitalize())] if plot.panel else []
    named += [plot.x, plot.y, plot.colour]
    named += [Axis(plot.order, _NAMES.get(plot.order, plot.order))] if plot.order else []
    hover = {axis.column: _hover(drawing, axis) for axis in reversed(named)}
    hover = dict(reversed(hover.items()))
    for low, high in ((plot.x_low, plot.x_high), (plot.low, plot.high)):
        if low and high:
            hover[low] = alt.Tooltip(f"{low}:Q", title="Interval from", format=".4~g")
            hover[high] = alt.Tooltip(f"{high}:Q", title="to", format=".4~g")
    for column, (title, form) in _HOVER.items():
        if column in drawing.frame.columns:
            hover[column] = alt.Tooltip(f"{column}:Q", title=title, format=form)
    return alt.Chart().encode(tooltip=list(hover.values()))


def _hover(drawing: Drawing, axis: Axis) -> alt.Tooltip:
    title = _title(axis)
    title = title[:1].upper() + title[1:]
    if drawing.numeric(axis.column):
        return alt.Tooltip(f"{axis.column}:Q", title=title, format=".4~g")
    return alt.Tooltip(f"{axis.column}:N", title=title)


def _middle(values: pl.Series) -> float:
    found = [float(value) for value in values.drop_nulls()]
    return (min(found) + max(found)) / 2


def _title(axis: Axis) -> str:
    return f"{axis.title}, {axis.unit}" if axis.unit else axis.title


def _position(channel: Any, drawing: Drawing, axis: Axis, *, zero: bool = False) -> Any:
    """An axis: numbers on a scale of their own, names in their order, and slanted where they would not fit."""
    if drawing.numeric(axis.column):
        scale = {"zero": zero, "nice": channel is alt.Y, "padding": 0 if channel is alt.Y else 6}
        return channel(f"{axis.column}:Q").title(_title(axis)).scale(**scale).axis(tickCount=5)
    names = drawing.values(axis.column)
    position = channel(f"{axis.column}:N").sort(names)
    heat = drawing.plot.mark == "heat"
    if channel is alt.Y:
        return position.title(_title(axis) if heat else None)
    fits = text_pixels(names) <= _tile_width(drawing) if heat else len(names) * text_pixels(names) <= 200
    slant = 0 if fits else -35
    if drawing.plot.mark == "line":  # a scale of names, such as layers: thin them rather than slant them
        return position.title(_title(axis)).axis(labelAngle=0, labelOverlap="greedy")
    axis_look = alt.Axis(labelAngle=slant, labelLimit=180 if slant else 110, labelOverlap=False, orient="bottom")
    return position.title(_title(axis) if heat else None).axis(axis_look)


def _colour(drawing: Drawing) -> alt.Color:
    axis = drawing.plot.colour
    colour = alt.Color(f"{axis.column}:N").scale(domain=drawing.values(axis.column), range="category")
    if axis.column in (drawing.plot.x.column, drawing.plot.y.column, drawing.plot.label):
        return colour.legend(None)
    look: dict[str, Any] = {"title": None, "orient": "top", "symbolStrokeWidth": 3, "symbolOpacity": 1}
    look["symbolType"] = {"bar": "square", "point": "circle"}.get(drawing.plot.mark, "stroke")
    if expression := drawing.labelled(axis.column):
        look["labelExpr"] = expression
    return colour.legend(**look)


def _band(base: alt.Chart, plot: Plot) -> alt.Chart:
    y = alt.Y(f"{plot.low}:Q").title(_title(plot.y))
    return base.mark_area(opacity=0.13, stroke=None).encode(y=y, y2=plot.high)


def _intervals(base: alt.Chart, drawing: Drawing, *, opacity: float, width: float) -> list[alt.Chart]:
    plot = drawing.plot
    rule = base.mark_rule(strokeWidth=width, strokeCap="round", opacity=opacity)
    layers = []
    if plot.x_low and plot.x_high:
        low = alt.X(f"{plot.x_low}:Q").title(_title(plot.x))
        layers.append(rule.encode(x=low, x2=plot.x_high, y=_position(alt.Y, drawing, plot.y)))
    if plot.low and plot.high:
        low = alt.Y(f"{plot.low}:Q").title(_title(plot.y))
        layers.append(rule.encode(y=low, y2=plot.high, x=_position(alt.X, drawing, plot.x)))
    return layers


def _crossing(plot: Plot) -> list[alt.Chart]:
    if not plot.cross:
        return []
    rule = alt.Chart().mark_rule(strokeWidth=1, strokeDash=[2, 3])
    return [
        rule.transform_filter(f"isValid(datum[{_quoted(plot.cross[0])}])").encode(
            x=alt.X(f"{plot.cross[0]}:Q").title(_title(plot.x))
        ),
        rule.transform_filter(f"isValid(datum[{_quoted(plot.cross[1])}])").encode(
            y=alt.Y(f"{plot.cross[1]}:Q").title(_title(plot.y))
        ),
    ]


def _reference(plot: Plot) -> list[alt.Chart]:
    if plot.reference is None:
        return []
    # Of all rows of the panel in one: else the line would be drawn once for each.
    one = alt.Chart().transform_aggregate(rows="count()")
    return [one.mark_rule(strokeWidth=1, opacity=0.8).encode(x=alt.datum(plot.reference))]


def _sized(chart: Any, drawing: Drawing) -> Any:
    plot = drawing.plot
    if plot.mark == "heat":
        return chart.properties(width=alt.Step(_tile_width(drawing)), height=alt.Step(_TILE_HEIGHT))
    if drawing.numeric(plot.y.column):
        return chart.properties(height=200 if plot.panel else 300)
    beside = plot.mark == "point" and plot.colour.column not in places(plot)[:2]
    return chart.properties(height=alt.Step(16 if beside else 30))


def _tile_width(drawing: Drawing) -> int:
    return _TILE_WIDTHS[len(drawing.values(drawing.plot.x.column)) > 4]


def _resolved(chart: alt.FacetChart, drawing: Drawing) -> alt.FacetChart:
    """Panels with scales of their own where their levels differ; the x of lines is one, for it is compared."""
    plot = drawing.plot
    if plot.mark == "path" or (plot.mark == "line" and not drawing.numeric(plot.x.column)):
        return chart.resolve_scale(x="independent", y="independent")
    return chart.resolve_scale(y="independent") if plot.mark == "line" else chart


def _header(drawing: Drawing, names: Sequence[str]) -> alt.Header:
    """A panel's name; a pair of long names takes two lines, lest the panels be as wide as their names."""
    if expression := drawing.labelled(drawing.plot.panel):
        return alt.Header(labelExpr=expression)
    if any(PAIR in name for name in names) and text_pixels(names) > 200:
        return alt.Header(labelExpr=f"split(replace(datum.label, {_quoted(PAIR)}, ' +\\n'), '\\n')")
    return alt.Header()


def _abreast(drawing: Drawing) -> int:
    return 2 if drawing.plot.mark == "bar" else 3


def _label_pixels(drawing: Drawing) -> int:
    """What the y-axis takes with its title."""
    column = drawing.plot.y.column
    if not drawing.numeric(column):
        return 40 + text_pixels(drawing.values(column))
    largest = max(abs(float(value)) for value in drawing.frame[column].drop_nulls())
    return 62 if largest >= 0.01 else 84


def _texts(drawing: Drawing, axis: Axis) -> list[str]:
    return [] if drawing.numeric(axis.column) else drawing.values(axis.column)


def _condition(plot: Plot, chosen: Sequence[str]) -> str:
    """Which rows of the data set are seen, as an expression over the figure's parameters."""
    wanted = [f"datum[{_quoted(name)}] === {name}" for name in chosen]
    for column, names in plot.keep.items():
        wanted.append("(" + " || ".join(f"datum[{_quoted(column)}] === {_quoted(name)}" for name in names) + ")")
    needed = [plot.colour.column] if plot.mark == "heat" else [plot.x.column, plot.y.column]
    return " && ".join([*wanted, *(f"isValid(datum[{_quoted(name)}])" for name in needed)])


def _control(column: str, found: Sequence[str]) -> Control:
    name = _CHOICE_NAMES.get(column, column.capitalize())
    return Control(column, name, tuple((value, label(column, value)) for value in found))


def _caption(drawing: Drawing) -> str:
    text = drawing.plot.caption
    if drawing.plot.mark == "path":
        text += f" Points grow with {_NAMES.get(drawing.plot.order, drawing.plot.order)}."
    if drawing.plot.mark == "heat" and "p_adjusted" in drawing.frame.columns:
        if drawing.frame["decided"].null_count() < drawing.frame.height:
            text += " Bold: p < 0.05 after Holm, and a paired interval that leaves zero out."
        else:
            text += " No p-values are at hand."
    return text


def _alternative(plot: Plot) -> str:
    kinds = {"line": "Lines", "path": "Paths", "heat": "Heatmap", "point": "Points", "bar": "Bars"}
    if plot.mark == "heat":
        text = f"Heatmap of {plot.colour.title} by {plot.y.title} and {plot.x.title}"
    else:
        text = f"{kinds[plot.mark]} of {plot.y.title} against {plot.x.title}, one colour a value of {plot.colour.title}"
    return f"{text}, one panel a value of {plot.panel}" if plot.panel else text


def _quoted(text: str) -> str:
    """A string of Vega's expression language, whose strings are JSON's; names come from outside."""
    return json.dumps(text)
