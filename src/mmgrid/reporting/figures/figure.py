"""A figure: a small declarative Vega-Lite specification (written with Altair) over named data.

A specification names its data and holds none.  The page fills in the data and the theme (colours, text), and
turns the controls: a parameter ``group`` follows the page's choice of users, the others are the figure's own.
Colours come from named ranges (``category``, ``diverging``, ``ordinal``) of the theme, so that light and dark are
one specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from mmgrid.reporting.tables.comparison import metric_label


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
    the first panel, ``legend_pixels`` the width of a legend's entry, and ``max_pixels``, where it is not 0,
    the most that a panel alone in its figure takes.  ``axis_pixels`` is what the axis of a further panel takes, where
    each has its own.  The ``title`` is its number, given where the order is known.
    """

    id: str
    caption: str
    alternative: str
    spec: dict[str, Any]
    data: dict[str, pl.DataFrame]
    controls: tuple[Control, ...] = ()
    panels: int = 1
    panel_pixels: int = 0
    label_pixels: int = 60
    legend_pixels: int = 120
    max_pixels: int = 0
    axis_pixels: int = 0
    title: str = ""


def vegalite_version() -> str:
    """``6.4``: of the language that Altair writes, as the chart library and the converter name it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def specification(chart: Any, **parameters: str | float) -> dict[str, Any]:
    """The chart as a dictionary, with its parameters and their first values, and without Altair's own theme."""
    with alt.theme.enable("none"):
        found = chart.to_dict()
    found.pop("config", None)
    found["params"] = [{"name": name, "value": value} for name, value in parameters.items()]
    return found


def metric_control(metrics: Sequence[str]) -> Control:
    return Control("metric", "Metric", tuple((metric, metric_label(metric)) for metric in metrics))


def panels(amount: int, most: int = 3) -> int:
    """How many panels of ``amount`` stand side by side at most."""
    return max(1, min(most, amount))


def text_pixels(names: Sequence[str]) -> int:
    """About how wide the longest of the names is."""
    return 7 * max((len(name) for name in names), default=0)
