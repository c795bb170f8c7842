"""A table of the report: a polars frame, and how its columns are shown.

The page (`Table.rows`), the CSV and the LaTeX (`export`) are made from the same object, so they cannot disagree.
Two columns are special: `group`, if it holds groups of users (the page shows one group at a time), and `minor` (bool),
which marks rows shown on demand.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import polars.selectors as cs

from mmgrid.evaluation import GROUPS
from mmgrid.reporting.tables.numbers import interval, is_number, number

_TONES = {"reproduced": "good", "not reproduced": "bad", "undecided": "open"}


@dataclass(frozen=True)
class Column:
    """How one column is shown.

    Attributes:
        name: in the frame.
        label: the heading.
        digits: decimals of a number; `None` for text.
        low, high: the columns with the bounds of its interval, printed below the value.
        sign: print a `+` before positive numbers.
        best: set the largest value of each `Table.block` in bold.
        bold_if: the column (bool) that says which values are bold.
        format: prints the value where `digits` is not enough (durations, sizes, p-values).
        hint: explains the heading, on hover.
        code: set in a fixed-width font (identifiers).
        prose: may break into lines (sentences).
        below: the column with a text that is printed below the value, if any.
        verdict: its values are verdicts on claims, marked by colour.
    """

    name: str
    label: str
    digits: int | None = None
    low: str = ""
    high: str = ""
    sign: bool = False
    best: bool = False
    bold_if: str = ""
    format: Callable[[Any], str] | None = None
    hint: str = ""
    code: bool = False
    prose: bool = False
    below: str = ""
    verdict: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the column is set flush right and sorted by number."""
        return self.digits is not None or self.format is not None

    def text(self, value: Any) -> str:
        """The value as printed."""
        if self.format is not None:
            return self.format(value)
        if self.digits is not None:
            return number(value, self.digits, sign=self.sign)
        return "" if value is None else str(value)

    def interval(self, row: dict[str, Any]) -> str:
        """What is printed below the value: its interval, rounded like the value, or the text of `below`."""
        if self.below:
            return str(row[self.below] or "")
        if not self.low or not (is_number(row[self.low]) and is_number(row[self.high])):
            return ""
        if self.format is not None:
            return f"[{self.format(row[self.low])}, {self.format(row[self.high])}]"
        return interval(row[self.low], row[self.high], self.digits or 0, sign=self.sign)


@dataclass(frozen=True)
class Cell:
    """One field of a table.

    Attributes:
        text, interval: the value, and what is printed below it.
        sort: the key to sort by, `None` last.
        tone: `good`, `bad`, `open` or `mixed` for a verdict; empty for other values.
        repeated: whether it only repeats the label of the row above, in the same block.
    """

    text: str
    interval: str
    sort: str | float | None
    numeric: bool
    bold: bool
    code: bool
    prose: bool
    tone: str = ""
    repeated: bool = False


@dataclass(frozen=True)
class Row:
    """One row as the page shows it; `starts_block` marks the first row of a block."""

    cells: tuple[Cell, ...]
    group: str
    minor: bool
    starts_block: bool


@dataclass(frozen=True)
class Table:
    """A frame and how it is shown.

    Attributes:
        id: of its element in the page.
        title, caption: printed above it.
        columns: the shown ones, from left to right.
        frame: its rows.
        block: the column whose equal values form a block of rows.
        all_rows: show all rows at once; the columns `group` and `minor` are not special.
        csv_only: columns that only the CSV has.
        export: the rows of the CSV, where they are others than those of `frame`; the CSV has those of the columns that
            they have.
    """

    id: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    frame: pl.DataFrame
    block: str = ""
    all_rows: bool = False
    csv_only: tuple[str, ...] = ()
    export: pl.DataFrame | None = None

    @property
    def groups(self) -> list[str]:
        """The groups of users among the rows; empty if the rows do not belong to such groups."""
        if self.all_rows or "group" not in self.frame.columns:
            return []
        found = self.frame["group"].unique(maintain_order=True).to_list()
        return found if set(found) <= set(GROUPS) else []

    @property
    def longest(self) -> int:
        """The number of rows of its largest group, without those shown on demand."""
        return max(self.select(group, minor=False).height for group in self.groups or [""])

    @property
    def has_minor(self) -> bool:
        """Whether some rows are shown on demand only."""
        return not self.all_rows and "minor" in self.frame.columns and bool(self.frame["minor"].any())

    def select(self, group: str = "", minor: bool = True) -> pl.DataFrame:
        """The rows of one group of users, with or without those shown on demand."""
        frame = self.frame
        if group and self.groups:
            frame = frame.filter(pl.col("group") == group)
        if not minor and self.has_minor:
            frame = frame.filter(~pl.col("minor"))
        return frame

    def best_values(self, frame: pl.DataFrame) -> dict[tuple[str, Any], float]:
        """(column, block) → its largest value, among the rows that are always shown; empty if there is only one."""
        found: dict[tuple[str, Any], float] = {}
        shown = [row for row in frame.iter_rows(named=True) if not self._is_minor(row)]
        for column in (column for column in self.columns if column.best):
            for row in shown:
                value = row[column.name]
                key = (column.name, row.get(self.block))
                if is_number(value) and value > found.get(key, float("-inf")):
                    found[key] = value
        return found if len(shown) > 1 else {}

    def is_bold(self, column: Column, row: dict[str, Any], best: dict[tuple[str, Any], float]) -> bool:
        """Whether a value is set in bold; `best` comes from `Table.best_values`."""
        if column.bold_if and row[column.bold_if]:
            return True
        key = (column.name, row.get(self.block))
        return not self._is_minor(row) and key in best and row[column.name] == best[key]

    def _is_minor(self, row: dict[str, Any]) -> bool:
        return not self.all_rows and bool(row.get("minor"))

    def rows(self) -> list[Row]:
        """Every row, group by group, for the template."""
        return [row for group in self.groups or [""] for row in self._rows_of(group)]

    def _rows_of(self, group: str) -> list[Row]:
        frame = self.select(group)
        best = self.best_values(frame)
        rows: list[Row] = []
        names = [column.name for column in self.columns]
        # A block ends where a label left of its column changes, too: otherwise the new label would be left out.
        keys = [*(names[: names.index(self.block)] if self.block in names else []), self.block] if self.block else []
        above: list[Any] | None = None
        label = ""
        for values in frame.iter_rows(named=True):
            key = [values[name] for name in keys]
            cells = tuple(self._cell(column, values, best) for column in self.columns)
            opens = bool(keys) and key != above
            if keys and not opens and cells[0].text == label:
                cells = (replace(cells[0], repeated=True), *cells[1:])
            rows.append(Row(cells, group, self._is_minor(values), opens))
            above, label = key, cells[0].text
        return rows

    def _cell(self, column: Column, row: dict[str, Any], best: dict[tuple[str, Any], float]) -> Cell:
        value = row[column.name]
        amount = float(value) if is_number(value) else None
        return Cell(
            text=column.text(value),
            interval=column.interval(row),
            sort=amount if column.numeric else column.text(value),
            numeric=column.numeric,
            bold=self.is_bold(column, row, best),
            code=column.code,
            prose=column.prose,
            tone=_TONES.get(column.text(value), "mixed") if column.verdict and value else "",
        )


def nan_to_null(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with null in place of NaN, which JSON does not have."""
    return frame.with_columns(cs.float().fill_nan(None))


def element_id(*parts: str) -> str:
    """An id of an element in the page: `("table", "my_study")` → `table-my-study`."""
    return "-".join(re.sub(r"[^a-zA-Z0-9]+", "-", part).strip("-") for part in parts)
