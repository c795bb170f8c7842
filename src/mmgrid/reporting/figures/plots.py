"""Draws any `mmgrid.studies.plot.Plot`: data, layers, panels, controls and caption."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from mmgrid.reporting.figures.drawing import TILE_HEIGHT, Drawing, datum, field, option_text, quoted
from mmgrid.reporting.figures.figure import (
    Control,
    Figure,
    metric_labels,
    panels,
    specification,
    text_pixels,
    with_metric,
)
from mmgrid.reporting.figures.marks import layers
from mmgrid.reporting.figures.plot_data import SIGNIFICANT, choices, is_drawn, is_group_of_users, positions
from mmgrid.reporting.figures.theme import INKS
from mmgrid.reporting.tables.labels import column_label, column_words, value_label
from mmgrid.reporting.tables.significance import NOTE
from mmgrid.studies.plot import Axis, Plot

PAIR_SEPARATOR = " + "
_WIDEST = 760
_NEWEST_FIRST = "phase"  # the options of this choice are listed from the last to the first


def plot_figure(
    plot: Plot,
    data_name: str,
    frame: pl.DataFrame,
    orders: Mapping[str, Sequence[str]],
    *,
    figure_id: str,
    opens: Mapping[str, Sequence[str]] | None = None,
) -> Figure | None:
    """The figure of a plot; `None` if it has no rows.

    Args:
        plot: the declaration.
        data_name: the name of the data set in the page.
        frame: the data set (`plot_data.data_set`); the figure draws the rows that `plot.keep` allows.
        orders: column → its values in the order to list them.
        figure_id: the id of the figure's element in the page.
        opens: column → its values in order of preference; a choice opens on the first that there is.

    Raises:
        ValueError: the value of a heatmap is not a number.
    """
    rows = frame.filter(is_drawn(plot)) if not frame.is_empty() else frame
    if rows.is_empty():
        return None
    drawing = Drawing(plot, rows, orders)
    heat = plot.mark == "heat"
    if heat and not drawing.is_numeric(plot.colour.column):
        raise ValueError(f"figure {plot.name!r}: the value of a heatmap, {plot.colour.column!r}, must be a number")
    fixed = [column for column, kept in plot.keep.items() if len(kept) == 1]
    chosen = {column: drawing.values(column) for column in choices(plot, rows) if column not in fixed}
    if _NEWEST_FIRST in chosen:
        chosen[_NEWEST_FIRST].reverse()
    parameters = {column: _parameter(column, number, rows) for number, column in enumerate(chosen)}
    names = drawing.values(plot.panel) if plot.panel else []
    chart = _sized(alt.layer(*layers(drawing), data=alt.NamedData(data_name)), drawing)
    if names:
        facet = alt.Facet(field=field(plot.panel), type="nominal").sort(names).title(None)
        facet = facet.header(_header(drawing, names))
        chart = _resolved(chart.facet(facet=facet, columns=panels(len(names), _abreast(plot))), drawing)
    chart = chart.transform_filter(_condition(drawing, parameters))
    first = {column: _first(values, (opens or {}).get(column, ())) for column, values in chosen.items()}
    metrics = metric_labels(drawing.values("metric") if "metric" in rows.columns else [])
    first_values = {parameters[column]: option_text(value) for column, value in first.items()}
    spec = specification(chart, **first_values, **(INKS["light"] if heat else {}))
    return Figure(
        id=figure_id,
        caption=_caption(drawing),
        alternative=_alternative(plot),
        # A choice of metrics changes the titles; otherwise they are known here.
        spec=spec if len(metrics) > 1 else with_metric(spec, next(iter(metrics.values()), "value")),
        metrics=metrics if len(metrics) > 1 else {},
        data={data_name: frame},
        controls=tuple(
            _control(parameters[column], column, values, first[column])
            for column, values in chosen.items()
            if not is_group_of_users(rows, column)
        ),
        groups=tuple(chosen["group"]) if "group" in chosen and is_group_of_users(rows, "group") else (),
        panels=panels(len(names), _abreast(plot)),
        panel_pixels=drawing.tile_width * len(drawing.values(plot.x.column)) if heat else 0,
        label_pixels=_label_pixels(drawing),
        legend_pixels=max(90, 0 if heat else 40 + text_pixels(_colour_names(drawing, plot.colour))),
        max_pixels=_WIDEST,
        axis_pixels=_label_pixels(drawing) if plot.mark in ("line", "path") else 0,
    )


def _parameter(column: str, number: int, rows: pl.DataFrame) -> str:
    """The name of the parameter that holds a choice; `group` is the one that follows the page's choice of users."""
    usual = re.fullmatch(r"[a-z][a-z_]*", column) and column != "datum"
    return column if usual and (column != "group" or is_group_of_users(rows, column)) else f"choice{number}"


def _condition(drawing: Drawing, parameters: Mapping[str, str]) -> str:
    """Which rows are seen, as an expression over the parameters."""
    plot = drawing.plot
    wanted = []
    for column, parameter in parameters.items():
        if drawing.is_numeric(column):
            wanted.append(f"{datum(column)} === toNumber({parameter})")
        elif drawing.frame.schema[column] == pl.Boolean:
            wanted.append(f"toString({datum(column)}) === {parameter}")
        else:
            wanted.append(f"{datum(column)} === {parameter}")
    for column, values in plot.keep.items():
        wanted.append("(" + " || ".join(f"{datum(column)} === {quoted(value)}" for value in values) + ")")
    needed = [plot.colour.column] if plot.mark == "heat" else [plot.x.column, plot.y.column]
    return " && ".join([*wanted, *(f"isValid({datum(column)})" for column in needed)])


def _control(parameter: str, column: str, values: Sequence[Any], first: Any) -> Control:
    options = tuple((option_text(value), value_label(column, value)) for value in values)
    return Control(parameter, column_label(column), options, option_text(first))


def _first(values: Sequence[Any], preferred: Sequence[Any]) -> Any:
    """The first preferred value that there is, else the first value."""
    return next((value for value in preferred if value in values), values[0])


def _sized(chart: Any, drawing: Drawing) -> Any:
    plot = drawing.plot
    if plot.mark == "heat":
        return chart.properties(width=alt.Step(drawing.tile_width), height=alt.Step(TILE_HEIGHT))
    if drawing.is_numeric(plot.y.column):
        return chart.properties(height=200 if plot.panel else 300)
    side_by_side = plot.mark == "point" and plot.colour.column not in positions(plot)[:2]
    return chart.properties(height=alt.Step(16 if side_by_side else 30))


def _resolved(chart: alt.FacetChart, drawing: Drawing) -> alt.FacetChart:
    """Panels have their own scales where their levels differ; lines over numbers share the x-axis."""
    plot = drawing.plot
    if plot.mark == "path" or (plot.mark == "line" and not drawing.is_numeric(plot.x.column)):
        return chart.resolve_scale(x="independent", y="independent")
    return chart.resolve_scale(y="independent") if plot.mark == "line" else chart


def _header(drawing: Drawing, names: Sequence[Any]) -> alt.Header:
    """The name of a panel; a pair of long names takes two lines, so that it does not widen the panel."""
    if expression := drawing.label_expression(drawing.plot.panel):
        return alt.Header(labelExpr=expression)
    if any(PAIR_SEPARATOR in str(name) for name in names) and text_pixels(names) > 200:
        return alt.Header(labelExpr=f"split(replace(datum.label, {quoted(PAIR_SEPARATOR)}, ' +\\n'), '\\n')")
    return alt.Header()


def _abreast(plot: Plot) -> int:
    return 2 if plot.mark == "bar" else 3


def _label_pixels(drawing: Drawing) -> int:
    """The width of the y-axis with its title."""
    axis = drawing.plot.y
    if not drawing.on_scale(axis):
        return 58 + text_pixels(drawing.values(axis.column))
    largest = max(abs(float(value)) for value in drawing.frame[axis.column].drop_nulls())
    return 62 if largest >= 0.01 else 84


def _colour_names(drawing: Drawing, axis: Axis) -> list[str]:
    return [value_label(axis.column, value) for value in drawing.values(axis.column)]


def _caption(drawing: Drawing) -> str:
    plot, frame = drawing.plot, drawing.frame
    text = plot.caption
    if plot.mark == "path" and plot.order:
        text += f" Points grow with {column_words(plot.order)}."
    if plot.mark == "heat" and SIGNIFICANT in frame.columns and "p_adjusted" in frame.columns:
        known = frame[SIGNIFICANT].null_count() < frame.height
        text += f" {NOTE}" if known else " There are no p-values."
    return text.strip()


def _alternative(plot: Plot) -> str:
    kinds = {"line": "Lines", "path": "Paths", "point": "Points", "bar": "Bars"}
    if plot.mark == "heat":
        text = f"Heatmap of {plot.colour.title} by {plot.y.title} and {plot.x.title}"
    else:
        text = f"{kinds[plot.mark]} of {plot.y.title} against {plot.x.title}, one colour per {plot.colour.title}"
    text = text.replace("{metric}", "the metric")
    return f"{text}, one panel per {column_words(plot.panel)}" if plot.panel else text
