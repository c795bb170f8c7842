"""Some rows of a table, with the types of its file, and where they are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import polars as pl

from mmgrid.data.errors import DataError


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of a file, in its order.

    rows_before: the rows of the file before these. line: the line of a row of the file (from 0), for text files.
    rows: which rows of the whole piece these are; None: all.
    """

    path: Path
    frame: pl.DataFrame
    rows_before: int = 0
    line: Callable[[int], int] | None = None
    rows: pl.Series | None = None

    def place(self, row: int) -> str:
        """The file and the line (of a text file) or row, from 1, of a row of this piece."""
        row = self.rows_before + (row if self.rows is None else int(self.rows[row]))
        return f"{self.path}: row {row + 1}" if self.line is None else f"{self.path}:{self.line(row)}"

    def kept(self, mask: pl.Series) -> "Piece":
        """The rows for which `mask` is true; they still know their places."""
        if mask.all():
            return self
        rows = mask.arg_true() if self.rows is None else self.rows.filter(mask)
        return replace(self, frame=self.frame.filter(mask), rows=rows)

    def emptied(self) -> "Piece":
        """The piece without its values, which still knows where they were."""
        return replace(self, frame=self.frame.clear())

    def refuse(self, wrong: pl.Series, problem: Callable[[int], str]) -> None:
        """Raise DataError about the first row for which `wrong` is true, if there is one, and say how many there are."""
        row = wrong.fill_null(False).arg_max() if wrong.any() else None
        if row is None:
            return
        count = int(wrong.sum())
        more = f" (as in {count - 1:,} more rows)" if count > 1 else ""
        raise DataError(f"{self.place(row)}: {problem(row)}{more}")

    def refuse_column(self, name: str, problem: str) -> NoReturn:
        """Raise DataError about a column."""
        raise DataError(f"{self.path}: column {name} {problem}")
