"""A table of the report: a polars frame, and which of its columns are shown and how.

The same value is drawn in HTML (`Table.lines`) and written as CSV and LaTeX (`writers`), so the three can never
disagree.  Rows may belong to one group of users (a column ``group``), of which one at a time is seen, and may be
shown on demand only (a column ``minor``, bool).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmgrid.reporting.tables.numbers import interval, is_number, number


@dataclass(frozen=True)
class Column:
    """One shown column.

    Attributes:
        name: of the frame's column.
        label: the heading.
        digits: decimals of a number; ``None`` for text.
        low, high: names of the columns with the bounds of its interval, shown beneath.
        sign: whether gains carry a ``+``.
        best: set the largest value of each ``Table.block`` in bold.
        strong: name of a column (bool) that says which values are set in bold.
        render: how a number becomes text, where ``digits`` is not enough (durations, sizes).
        hint: what the heading means, shown on hover.
        code: whether the text is an identifier, set in a fixed-width face.
        prose: whether the text is a sentence, which may break into lines.
    """

    name: str
    label: str
    digits: int | None = None
    low: str = ""
    high: str = ""
    sign: bool = False
    best: bool = False
    strong: str = ""
    render: Callable[[Any], str] | None = None
    hint: str = ""
    code: bool = False
    prose: bool = False

    @property
    def numeric(self) -> bool:
        return self.digits is not None or self.render is not None

    def text(self, value: Any) -> str:
        """The value as a reader sees it."""
        if self.render is not None:
            return self.render(value)
        if self.digits is not None:
            return number(value, self.digits, sign=self.sign)
        return "" if value is None else str(value)

    def bounds(self, row: dict[str, Any]) -> str:
        """The interval as a reader sees it; empty where there is none."""
        return interval(row[self.low], row[self.high], self.digits or 0, sign=self.sign) if self.low else ""


@dataclass(frozen=True)
class Cell:
    """What one place of a table shows, and by what it is sorted (``None`` sorts last)."""

    text: str
    detail: str
    sort: str | float | None
    numeric: bool
    best: bool
    code: bool
    prose: bool


@dataclass(frozen=True)
class Line:
    """One row as drawn; ``opens`` where a new block of rows begins, of which it is the first."""

    cells: tuple[Cell, ...]
    group: str
    minor: bool
    opens: bool


@dataclass(frozen=True)
class Table:
    """A frame and how it is shown; ``block`` names the column whose equal values belong together.

    ``csv_only`` are columns that only the CSV has, and ``export`` its rows where they are more than the shown ones.
    """

    id: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    frame: pl.DataFrame
    block: str = ""
    csv_only: tuple[str, ...] = ()
    export: pl.DataFrame | None = None

    @property
    def groups(self) -> list[str]:
        """The groups of users among the rows; empty if rows belong to none."""
        if "group" not in self.frame.columns:
            return []
        return self.frame["group"].unique(maintain_order=True).to_list()

    @property
    def height(self) -> int:
        """Rows of the longest group."""
        return max(self.part(group, minor=False).height for group in self.groups or [""])

    @property
    def has_minor(self) -> bool:
        return "minor" in self.frame.columns and bool(self.frame["minor"].any())

    def part(self, group: str = "", minor: bool = True) -> pl.DataFrame:
        """The rows of one group of users, with or without those shown on demand."""
        frame = self.frame
        if group and self.groups:
            frame = frame.filter(pl.col("group") == group)
        if not minor and "minor" in frame.columns:
            frame = frame.filter(~pl.col("minor"))
        return frame

    def best(self, frame: pl.DataFrame) -> dict[tuple[str, Any], float]:
        """The largest value of each (column, block) among the rows that are always shown."""
        found: dict[tuple[str, Any], float] = {}
        shown = [row for row in frame.iter_rows(named=True) if not row.get("minor")]
        for column in (column for column in self.columns if column.best):
            for row in shown:
                value = row[column.name]
                key = (column.name, row.get(self.block))
                if is_number(value) and value > found.get(key, float("-inf")):
                    found[key] = value
        # A best of one is no distinction.
        return found if len(shown) > 1 else {}

    def strong(self, column: Column, row: dict[str, Any], best: dict[tuple[str, Any], float]) -> bool:
        """Whether a value is set in bold; ``best`` as `Table.best` gives it."""
        if column.strong and row[column.strong]:
            return True
        key = (column.name, row.get(self.block))
        return not row.get("minor") and key in best and row[column.name] == best[key]

    def lines(self) -> list[Line]:
        """Every row, group by group, ready for the template."""
        return [line for group in self.groups or [""] for line in self._group_lines(group)]

    def _group_lines(self, group: str) -> list[Line]:
        frame = self.part(group)
        best = self.best(frame)
        lines: list[Line] = []
        block: object = None
        for row in frame.iter_rows(named=True):
            minor = bool(row.get("minor"))
            key = row[self.block] if self.block else None
            opens = bool(self.block) and key != block
            block = key
            cells = tuple(self._cell(column, row, best) for column in self.columns)
            lines.append(Line(cells, group, minor, opens))
        return lines

    def _cell(self, column: Column, row: dict[str, Any], best: dict[tuple[str, Any], float]) -> Cell:
        value = row[column.name]
        amount = float(value) if is_number(value) else None
        return Cell(
            text=column.text(value),
            detail=column.bounds(row),
            sort=amount if column.numeric else column.text(value),
            numeric=column.numeric,
            best=self.strong(column, row, best),
            code=column.code,
            prose=column.prose,
        )


def without_nan(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with null where a number is none; JSON and CSV know no NaN."""
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def ordered(values: Sequence[str], first: Sequence[str]) -> list[str]:
    """Distinct values: those of ``first`` in its order, then the others as they come."""
    distinct = list(dict.fromkeys(values))
    return [value for value in first if value in distinct] + [v for v in distinct if v not in first]
