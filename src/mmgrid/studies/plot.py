"""A study's figure, declared: which columns of which table are x, y and colour.  `report` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mark = Literal["line", "path", "heat", "point", "bar"]


@dataclass(frozen=True)
class Axis:
    """A column and what a reader calls it."""

    column: str
    title: str
    unit: str = ""


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        name: of the figure, within its study.
        table: the study's table that is drawn.
        mark: ``line`` connects the rows in the order of x, ``path`` in the order of ``order``.
        x, y: the axes.
        colour: the column that tells the lines, bars or points apart; of a heatmap the value.
        panel: the column with a panel for each of its values, if any.
        low, high: the bounds of the value (y; of a heatmap the colour), if any.
        x_low, x_high: the bounds of x, if any.
        order: the column along which a path runs.
        choices: columns of which one value at a time is shown, chosen by the reader.
        rules: another table of the study and its column of vertical lines, by the same panels, colours and choices.
        label: the column that names points, if any.
        cross: columns with a value of x and of y at which each panel has a thin line, if any.
        keep: column → the values whose rows are drawn; rows of others are for the tables.
        reference: a value of x at which a thin line stands (λ = 1, say), if any.
        caption: what is seen, in a sentence.
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
    rules: tuple[str, str] | None = None
    label: str = ""
    cross: tuple[str, str] | None = None
    keep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reference: float | None = None
