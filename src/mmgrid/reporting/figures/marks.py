"""The layers of each mark: line, path, point, bar and heatmap, with their intervals and reference lines."""

from typing import Any

import altair as alt
import polars as pl

from mmgrid.reporting.figures.drawing import Drawing, datum, field, titled
from mmgrid.reporting.figures.plot_data import SIGNIFICANT, choices, cross_columns, rule_bounds, rule_column

_MUTED = "#87919c"
_PERCENT_LIMITS = (6, 10, 20, 30, 40, 60, 80, 100)
_LIMITS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def layers(drawing: Drawing) -> list[alt.Chart]:
    """The layers of a plot, the lowest first."""
    marks = {"line": _line, "path": _path, "heat": _heat, "point": _point, "bar": _bar}
    return [*marks[drawing.plot.mark](drawing), *_reference(drawing)]


def _line(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    base = drawing.base().encode(color=drawing.colour())
    x, y = drawing.axis(alt.X, plot.x), drawing.axis(alt.Y, plot.y)
    alone = _places_of_a_line(drawing) == 1
    line = (
        base.mark_line(strokeWidth=2, aria=False)
        if plot.points
        else base.mark_line(strokeWidth=1.8, point=True if alone else "transparent")
    )
    found = [line.encode(x=x, y=y)]
    if plot.low and plot.high:
        low = alt.Y(**drawing.channel(plot.low)).title(titled(plot.y))
        band = base.mark_area(opacity=0.13, stroke=None, aria=False).transform_filter(f"isValid({datum(plot.low)})")
        found.insert(0, band.encode(x=x, y=low, y2=alt.Y2(field=field(plot.high))))
        if alone:
            bar = base.mark_rule(strokeWidth=2, opacity=0.55, aria=False)
            found.insert(1, bar.encode(x=x, y=low, y2=alt.Y2(field=field(plot.high))))
    if plot.points:
        measured = base.mark_point(filled=True, size=22, opacity=0.6).transform_filter(f"isValid({datum(plot.points)})")
        found.append(measured.encode(x=x, y=alt.Y(**drawing.channel(plot.points)).title(titled(plot.y))))
    return [*found, *_rules(drawing, base, y)]


def _places_of_a_line(drawing: Drawing) -> int:
    """Of the line with the fewest: a line of one place is only seen by its point and the bar of its interval."""
    plot, frame = drawing.plot, drawing.frame
    own = {*choices(plot, frame), plot.colour.column, *([plot.panel] if plot.panel else [])}
    lines = frame.drop_nulls([plot.x.column, plot.y.column]).partition_by(*sorted(own))
    return min((line[plot.x.column].n_unique() for line in lines), default=0)


def _rules(drawing: Drawing, base: alt.Chart, y: alt.Y) -> list[alt.Chart]:
    """A dashed vertical line for each rule, and where it meets its line, a dot and the interval of its place."""
    plot, rule, bounds = drawing.plot, rule_column(drawing.plot), rule_bounds(drawing.plot)
    if rule not in drawing.frame.columns or not drawing.is_numeric(rule):
        return []
    hover = [
        drawing.tooltip(plot.colour.column, titled(plot.colour)),
        drawing.tooltip(rule, "Dashed line at", ".3~f"),
        *(drawing.tooltip(name, title, ".3~f") for name, title in zip(bounds, ("Interval from", "to"), strict=False)),
    ]
    own = base.encode(tooltip=hover).transform_filter(f"isValid({datum(rule)})")
    place = alt.X(**drawing.channel(rule)).title(titled(plot.x))
    found = [own.mark_rule(strokeDash=[4, 4], strokeWidth=1.2, aria=False).encode(x=place)]
    if bounds:
        low = alt.X(**drawing.channel(bounds[0])).title(titled(plot.x))
        bar = own.mark_rule(strokeWidth=4, opacity=0.55, strokeCap="round", aria=False)
        found.append(bar.encode(x=low, x2=alt.X2(field=field(bounds[1])), y=y))
    if drawing.is_numeric(plot.y.column):
        found.append(own.mark_point(filled=True, size=80, opacity=1).encode(x=place, y=y))
    return found


def _path(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    base = drawing.base().encode(color=drawing.colour())
    x, y = drawing.axis(alt.X, plot.x), drawing.axis(alt.Y, plot.y)
    line = base.mark_line(strokeWidth=1.8).encode(x=x, y=y)
    points = base.mark_point(filled=True, opacity=1).encode(x=x, y=y)
    if plot.order:
        order = drawing.channel(plot.order)
        line = line.encode(order=alt.Order(**order))
        points = points.encode(size=alt.Size(**order).scale(range=[8, 90]).legend(None))
    return [*_crossing(drawing), *_intervals(base, drawing, opacity=0.14, width=1.0), line, points]


def _point(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    base = drawing.base().encode(color=drawing.colour())
    if not drawing.is_numeric(plot.y.column) and plot.colour.column not in (plot.x.column, plot.y.column):
        names = drawing.values(plot.colour.column)
        base = base.encode(yOffset=alt.YOffset(**drawing.channel(plot.colour.column, nominal=True)).sort(names))
    x, y = drawing.axis(alt.X, plot.x), drawing.axis(alt.Y, plot.y)
    found = [
        *_intervals(base, drawing, opacity=0.55, width=2.0),
        base.mark_point(filled=True, size=64, opacity=1).encode(x=x, y=y),
    ]
    if plot.label:
        text = base.mark_text(**_label_side(drawing), dy=-9, fontSize=12)
        found.append(text.encode(x=x, y=y, text=alt.Text(**drawing.channel(plot.label))))
    return found


def _label_side(drawing: Drawing) -> dict[str, Any]:
    """Where the label of a point stands: on the side with more room."""
    column = drawing.plot.x.column
    if not drawing.is_numeric(column):
        return {"align": "left", "dx": 8}
    values = drawing.frame[column].drop_nulls().to_list()
    far = f"{datum(column)} > {(float(min(values)) + float(max(values))) / 2}"
    return {"align": alt.ExprRef(f"{far} ? 'right' : 'left'"), "dx": alt.ExprRef(f"{far} ? -8 : 8")}


def _bar(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    base = drawing.base().encode(color=drawing.colour())
    if plot.colour.column != plot.x.column:
        names = drawing.values(plot.colour.column)
        base = base.encode(xOffset=alt.XOffset(**drawing.channel(plot.colour.column, nominal=True)).sort(names))
    x = drawing.axis(alt.X, plot.x)
    found = [base.mark_bar(cornerRadiusEnd=2).encode(x=x, y=drawing.axis(alt.Y, plot.y, zero=True))]
    if plot.low and plot.high:
        low = alt.Y(**drawing.channel(plot.low)).title(titled(plot.y))
        rule = base.mark_rule(aria=False).encode(x=x, y=low, y2=alt.Y2(field=field(plot.high)), color=alt.value(_MUTED))
        found.append(rule)
    return found


def _heat(drawing: Drawing) -> list[alt.Chart]:
    plot, column = drawing.plot, drawing.plot.colour.column
    percent = plot.colour.unit == "%"
    limit = scale_limit(drawing.frame[column], percent=percent)
    legend = alt.Legend(
        title=titled(plot.colour),
        orient="bottom",
        direction="horizontal",
        gradientLength=240,
        values=[-limit, -limit / 2, 0, limit / 2, limit],
        labelExpr="(datum.value > 0 ? '+' : '') + datum.label",
    )
    scale = alt.Scale(domain=[-limit, limit], domainMid=0, range="diverging", interpolate="lab", clamp=True)
    ink = (
        alt.when(f"abs({datum(column)}) > inkFrom * {limit}")
        .then(alt.value(alt.ExprRef("inkOnEnds")))
        .otherwise(alt.value(alt.ExprRef("inkOnMiddle")))
    )
    base = drawing.base().encode(x=drawing.axis(alt.X, plot.x), y=drawing.axis(alt.Y, plot.y))
    tiles = base.mark_rect(cornerRadius=3, stroke=None).encode(
        color=alt.Color(**drawing.channel(column), scale=scale, legend=legend)
    )
    weight: Any = "normal"
    if SIGNIFICANT in drawing.frame.columns:
        weight = alt.ExprRef(f"{datum(SIGNIFICANT)} === true ? 'bold' : 'normal'")
    form = "+.1f" if percent else "+.2f" if limit <= 1 else "+,.3~r"
    text = base.mark_text(fontSize=13, fontWeight=weight)
    return [tiles, text.encode(text=alt.Text(**drawing.channel(column), format=form), color=ink)]


def scale_limit(values: pl.Series, *, percent: bool = True) -> float:
    """The end of the colour scale: a round number that 95 % of the values do not exceed, common to all choices."""
    limits = _PERCENT_LIMITS if percent else _LIMITS
    if values.is_empty():
        return float(limits[1])
    usual = float(values.abs().quantile(0.95) or 0.0)
    if not percent and usual > _LIMITS[-1]:
        limits = [step * 10.0**power for power in range(1, 12) for step in _LIMITS[:-1]]
    return next((float(limit) for limit in limits if usual <= limit), float(limits[-1]))


def _intervals(base: alt.Chart, drawing: Drawing, *, opacity: float, width: float) -> list[alt.Chart]:
    plot = drawing.plot
    rule = base.mark_rule(strokeWidth=width, strokeCap="round", opacity=opacity, aria=False)
    found = []
    if plot.x_low and plot.x_high:
        low = alt.X(**drawing.channel(plot.x_low)).title(titled(plot.x))
        found.append(rule.encode(x=low, x2=alt.X2(field=field(plot.x_high)), y=drawing.axis(alt.Y, plot.y)))
    if plot.low and plot.high:
        low = alt.Y(**drawing.channel(plot.low)).title(titled(plot.y))
        found.append(rule.encode(y=low, y2=alt.Y2(field=field(plot.high)), x=drawing.axis(alt.X, plot.x)))
    return found


def _crossing(drawing: Drawing) -> list[alt.Chart]:
    """A thin vertical and a thin horizontal line in each panel."""
    plot = drawing.plot
    if not plot.cross:
        return []
    rule = alt.Chart().mark_rule(strokeWidth=1, strokeDash=[2, 3], aria=False)
    x, y = (drawing.channel(column) for column in cross_columns(plot))
    vertical, horizontal = (rule.transform_filter(f"isValid({datum(column)})") for column in cross_columns(plot))
    return [
        vertical.encode(x=alt.X(**x).title(titled(plot.x))),
        horizontal.encode(y=alt.Y(**y).title(titled(plot.y))),
    ]


def _reference(drawing: Drawing) -> list[alt.Chart]:
    plot = drawing.plot
    if plot.reference is None or not drawing.on_scale(plot.x):
        return []
    # Aggregated to one row per panel: otherwise every row would draw the line again.
    one = alt.Chart().transform_aggregate(rows="count()")
    return [one.mark_rule(strokeWidth=1, opacity=0.8, aria=False).encode(x=alt.datum(plot.reference))]
