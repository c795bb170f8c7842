"""A figure: a Vega-Lite specification, written with Altair, over named data sets.

A specification names its data and contains none. The page fills in the data and the theme, and sets the parameters:
`group` follows the page's choice of users, the others follow the controls of the figure. Colours come from the named
ranges `category`, `diverging` and `ordinal` of the theme, so that light and dark share one specification.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import polars as pl

from mmgrid.reporting.tables.labels import metric_label

METRIC_MARK = "\ue000"
"""Stands in the titles of a specification for the name of the metric that is shown (a character for private use)."""


@dataclass(frozen=True)
class Control:
    """A choice below the caption: sets the parameter `name` to the value of one of the `options` (value, label).

    `opens` is the value that is chosen at first; empty for the first option.
    """

    name: str
    label: str
    options: tuple[tuple[str, str], ...]
    opens: str = ""

    @property
    def several(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.options) > 1


@dataclass(frozen=True)
class Figure:
    """A specification, its data sets, and its layout.

    Attributes:
        id: of its element in the page.
        caption: printed above it.
        alternative: describes it to readers who cannot see it.
        spec: the Vega-Lite specification.
        data: name → data set.
        controls: the choices below the caption.
        groups: the groups of users that it can show, one at a time, following the page; else empty.
        panels: side by side at most. A narrow page has fewer; they share its width unless `panel_pixels` is set.
        panel_pixels: width of a panel, or 0.
        label_pixels: width of the axis left of the first panel.
        legend_pixels: width of an entry of the legend.
        max_pixels: width at most, for a figure with one panel; 0 for no limit.
        axis_pixels: width of the axis of each further panel, if each has its own.
        metrics: metric → its name, which takes the place of `METRIC_MARK` in the specification, if that has any.
        title: its number, set once the order of the figures is known.
    """

    id: str
    caption: str
    alternative: str
    spec: dict[str, Any]
    data: dict[str, pl.DataFrame]
    controls: tuple[Control, ...] = ()
    groups: tuple[str, ...] = ()
    panels: int = 1
    panel_pixels: int = 0
    label_pixels: int = 60
    legend_pixels: int = 120
    max_pixels: int = 0
    axis_pixels: int = 0
    metrics: Mapping[str, str] = field(default_factory=dict)
    title: str = ""

    @property
    def first_spec(self) -> dict[str, Any]:
        """The specification as it is shown at first, with the name of the metric in its titles."""
        chosen = next((one["value"] for one in self.spec["params"] if one["name"] == "metric"), "")
        return with_metric(self.spec, self.metrics.get(chosen, "")) if self.metrics else self.spec


def with_metric(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """The specification with the name of a metric in its titles; the page's script does the same."""
    return json.loads(json.dumps(spec, ensure_ascii=False).replace(METRIC_MARK, json.dumps(name)[1:-1]))


def vegalite_version() -> str:
    """The version of Vega-Lite that Altair writes, such as `6.4`, as `vl_convert` names it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def specification(chart: Any, **parameters: str | float) -> dict[str, Any]:
    """The chart as a dictionary with these parameters and their first values, without Altair's own theme."""
    with alt.theme.enable("none"):
        spec = chart.to_dict()
    spec.pop("config", None)
    spec["params"] = [{"name": name, "value": value} for name, value in parameters.items()]
    return spec


def metric_labels(metrics: Sequence[str]) -> dict[str, str]:
    """Metric → its name."""
    return {metric: metric_label(metric) for metric in metrics}


def metric_control(metrics: Sequence[str]) -> Control:
    """The choice of a metric."""
    return Control("metric", "Metric", tuple((metric, metric_label(metric)) for metric in metrics))


def panels(amount: int, most: int = 3) -> int:
    """How many of `amount` panels stand side by side."""
    return max(1, min(most, amount))


def text_pixels(names: Sequence[Any]) -> int:
    """The approximate width of the longest name."""
    return 7 * max((len(str(name)) for name in names), default=0)
