"""Some rows of a table, with the types of its file, and where they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import polars as pl

from mmgrid.data.errors import DataError

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of a file, in its order.

    rows_before: the rows of the file before these. lines: for text files, the lines in which some rows of the whole
    piece (from 0) begin; it may raise DataError with a better reason why they are wrong. lines_again: the same by reading
    the file again, for a piece that is kept without its values; None: `lines` does so.
    rows: which rows of the whole piece these are; None: all.
    controls, zero_bytes, exponents: whether there may be control characters, zero bytes, or numbers such as 1.2E+11, in the
    texts.
    """

    path: Path
    frame: pl.DataFrame
    rows_before: int = 0
    lines: Callable[[Sequence[int]], list[int]] | None = None
    rows: pl.Series | None = None
    lines_again: Callable[[Sequence[int]], list[int]] | None = None
    controls: bool = True
    zero_bytes: bool = True
    exponents: bool = True

    def places(self, rows: Sequence[int]) -> list[str]:
        """For each row of this piece the file and its line (of a text file) or row, from 1."""
        if not rows:
            return []
        own = rows if self.rows is None else self.rows[list(rows)].to_list()
        if self.lines is None:
            return [f"{self.path}: row {self.rows_before + row + 1}" for row in own]
        return [f"{self.path}:{line}" for line in self.lines(own)]

    def place(self, row: int) -> str:
        """The file and the line or row of one row."""
        return self.places([row])[0]

    def kept(self, mask: pl.Series) -> "Piece":
        """The rows for which `mask` is true; they still know their places."""
        if mask.all():
            return self
        rows = mask.arg_true() if self.rows is None else self.rows.filter(mask)
        return replace(self, frame=self.frame.filter(mask), rows=rows)

    def with_column(self, name: str, column: pl.Series) -> "Piece":
        """The piece with other values in a column."""
        return replace(self, frame=self.frame.with_columns(column.alias(name)))

    def emptied(self) -> "Piece":
        """The piece without its values, which still knows where they were."""
        return replace(self, frame=self.frame.clear(), lines=self.lines_again or self.lines)

    def refuse(self, wrong: pl.Series, problem: Callable[[int], str]) -> None:
        """Raise BadRows about the rows for which `wrong` is true, if there are any."""
        if wrong.any():
            raise BadRows(self, wrong, problem)

    def refuse_column(self, name: str, problem: str) -> NoReturn:
        """Raise DataError about a column."""
        raise DataError(f"{self.path}: column {name} {problem}")


class BadRows(DataError):  # noqa: N818 - the name says enough
    """Some rows cannot be read: about the first one, and which others have the same fault.

    The message is made when it is read, since the places of rows are found by reading their file again.

    piece, wrong: bool of each of its rows. problem: what is wrong with a row.
    """

    def __init__(self, piece: Piece, wrong: pl.Series, problem: Callable[[int], str]) -> None:
        super().__init__()
        self.piece, self.wrong, self.problem = piece, wrong, problem

    def __str__(self) -> str:
        return self._message

    def __reduce__(self) -> tuple[type[DataError], tuple[str]]:
        return DataError, (str(self),)  # another process may not see the file

    @cached_property
    def _message(self) -> str:
        rows = self.wrong.fill_null(False).arg_true()
        try:
            first, *others = self.piece.places(rows[: 1 + _SHOWN].to_list())
        except DataError as better:
            return str(better)
        more = ""
        if others:
            unit, sign = ("row", " ") if self.piece.lines is None else ("line", ":")
            named = ", ".join(place.rpartition(sign)[2] for place in others)
            left = len(rows) - 1 - len(others)
            more = f" (also {unit}{'s' * (len(others) > 1)} {named}" + (f" and {left:,} more)" if left else ")")
        return f"{first}: {self.problem(int(rows[0]))}{more}"
