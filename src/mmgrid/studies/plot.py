"""The declaration of a study's figure: a table, and the columns for x, y and colour. The report draws it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mark = Literal["line", "path", "heat", "point", "bar"]


@dataclass(frozen=True)
class Axis:
    """A column, and its title and unit for the reader. `{metric}` in the title stands for the name of the metric shown."""

    column: str
    title: str
    unit: str = ""


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        name: unique within the study.
        table: the table of the study that is drawn.
        mark: `line` connects the rows in the order of x, `path` in the order of `order`.
        x, y: the axes.
        colour: the column that distinguishes lines, bars or points; in a heatmap, the value.
        panel: the column whose values get one panel each, if any.
        low, high: the columns with the bounds of the value (y; in a heatmap, the colour), if any.
        x_low, x_high: the columns with the bounds of x, if any.
        order: the column along which a path runs.
        choices: columns whose value the reader selects; only rows with the selected value are shown.
        points: in a line, the column with measured values, drawn as points beside it, if y is not what was measured;
            `low` and `high` are then the bounds of these.
        rules: a table and its column of x for dashed vertical lines, each with a dot where it meets its line; panel,
            colour and choices as for the marks.
        rule_bounds: the columns of that table with the bounds of the x of a rule, if any.
        label: the column with the labels of points, if any.
        cross: the columns with an x and a y at which each panel gets thin lines, if any.
        keep: column → values; only rows with one of these values are drawn.
        reference: an x at which a thin line is drawn, such as λ = 1, if any.
        caption: a sentence that says what the figure shows.
    """

    name: str
    table: str
    mark: Mark
    x: Axis
    y: Axis
    colour: Axis
    caption: str
    panel: str = ""
    low: str = ""
    high: str = ""
    x_low: str = ""
    x_high: str = ""
    order: str = ""
    choices: tuple[str, ...] = ()
    points: str = ""
    rules: tuple[str, str] | None = None
    rule_bounds: tuple[str, str] | None = None
    label: str = ""
    cross: tuple[str, str] | None = None
    keep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reference: float | None = None
