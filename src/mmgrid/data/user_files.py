"""Histories of users from a file: one row for a user, or one for an interaction.

With one row for a user the columns are `user_id` and `history`: item ids, oldest first. They are a list, or a text: with
commas or spaces between them, or a list that was written as text (`[1, 2]`, `["a", "b"]`, `[1 2]`). With one row for an
interaction they are `user_id`, `item_id` and, optionally, `timestamp`; without it the order of the file counts. Any format
of tables will do.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mmgrid.data.errors import DataError, named
from mmgrid.data.readers import json_lines, tables
from mmgrid.data.readers.mending import NO_TEXT, listed
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.times import Times
from mmgrid.data.readers.values import ids, texts

_SEPARATORS = re.compile(r"[\s,]+")
_WRITTEN_LIST = re.compile(r"\[(.*)\]|\((.*)\)", re.DOTALL)
_BETWEEN = "\0"  # no id holds it
_OPENS = ("[", "(", "{")
_FRACTION = r"^(\d+)\.0*$"


@dataclass(frozen=True)
class UserFile:
    """A file of histories. It is opened, and its columns are checked, by `read_users`."""

    path: Path
    by_user: bool
    timed: bool

    def histories(self, block: int) -> Iterator[pl.DataFrame]:
        """`user_id` and `history` (list of texts), at most `block` users at a time, in the order of the file.

        A file with one row for a user is read piece by piece; the other kind is held in memory.

        Raises DataError for missing ids, naming their rows.
        """
        if self.by_user:
            for piece in _pieces(self.path, ["user_id", "history"]):
                yield from _blocks(_by_user(piece), block)
            return
        names = ["user_id", "item_id", *(["timestamp"] if self.timed else [])]
        parts, times = [], Times("timestamp")
        for piece in _pieces(self.path, names):
            parts.append(pl.DataFrame({name: ids(piece, name) for name in names[:2]}))
            if self.timed:
                times.add(piece)
        rows = pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(names[:2], pl.String))
        order = pl.int_range(pl.len())
        if self.timed:
            rows, order = rows.with_columns(times.milliseconds()), pl.col("timestamp")
        grouped = rows.group_by("user_id", maintain_order=True).agg(
            pl.col("item_id").sort_by(order, maintain_order=True).alias("history")
        )
        yield from _blocks(grouped, block)

    def count(self) -> int:
        """The number of users."""
        if self.by_user:
            return sum(len(piece.frame) for piece in _pieces(self.path, ["user_id"]))
        users = [ids(piece, "user_id").unique() for piece in _pieces(self.path, ["user_id"])]
        return pl.concat(users).n_unique() if users else 0


def read_users(path: Path) -> UserFile:
    """A file of histories. Raises DataError if it is missing or unreadable, or has other columns."""
    present = tables.column_names(path, ("user_id", "history", "item_id", "timestamp"))
    if "user_id" in present and "history" in present:
        return UserFile(path, True, False)
    if "user_id" in present and "item_id" in present:
        return UserFile(path, False, "timestamp" in present)
    raise DataError(
        f"{path}: its columns are {named(present)}; histories need user_id and history (a list of item ids), or "
        "user_id and item_id (and timestamp), one row for an interaction"
    )


def _pieces(path: Path, names: list[str]) -> Iterator[Piece]:
    if tables.file_format(path) == "jsonl":
        return json_lines.read_fields(path, names, optional=["history"])
    return tables.read(path, names)


def _by_user(piece: Piece) -> pl.DataFrame:
    column = piece.frame["history"]
    if isinstance(column.dtype, pl.List | pl.Array):
        _check_inner(piece, column.dtype.inner)  # type: ignore[union-attr]
        joined = texts(_with_whole_numbers(piece), "history", _BETWEEN)
        history = joined.str.split(_BETWEEN)
    else:
        written = texts(piece, "history")
        read = [_listed(text.strip()) for text in written]
        piece.refuse(
            pl.Series([parts is None for parts in read], dtype=pl.Boolean),
            lambda row: f"history is {written[row][:80]!r}; expected a list of ids: texts or whole numbers",
        )
        history = pl.Series(read, dtype=pl.List(pl.String))
        if piece.lines is not None:  # as for single ids: numbers that pandas made floats
            history = history.list.eval(pl.element().str.replace(_FRACTION, "$1"))
    history = history.list.eval(pl.element().filter(pl.element() != ""))
    return pl.DataFrame({"user_id": ids(piece, "user_id"), "history": history})


def _check_inner(piece: Piece, inner: Any) -> None:
    """Raise DataError if the values of lists are no ids."""
    if not (inner.is_numeric() or inner in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        piece.refuse_column("history", f"holds lists of {inner}; expected lists of ids: texts or whole numbers")


def _with_whole_numbers(piece: Piece) -> Piece:
    """Lists of floats as lists of whole numbers, which they were before a tool changed them."""
    column = piece.frame["history"]
    if column.dtype.inner not in (pl.Float32, pl.Float64):  # type: ignore[attr-defined]
        return piece
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    column = column.list.eval(pl.element().fill_nan(None))
    piece.refuse(
        column.list.eval(pl.element() != pl.element().round(0)).list.any().fill_null(False),
        lambda row: f"history is {column[row][:8].to_list()}; expected ids: texts or whole numbers",
    )
    return piece.with_column("history", column.cast(pl.List(pl.Int64)))


def _listed(text: str) -> list[str] | None:
    """The ids in a text: of a list in JSON, in the forms of Python and numpy, or between commas or spaces.

    None if they are no ids, but lists, objects or truth values, or the list has no end.
    """
    if text in NO_TEXT:
        return []
    parts = listed(text)
    if parts is not None:
        return parts
    if not (written := _WRITTEN_LIST.fullmatch(text)):
        return None if text[:1] in _OPENS else _SEPARATORS.split(text)
    try:
        values = json.loads(text)
    except RecursionError:
        return None
    except ValueError:
        inner = written[1] or written[2] or ""
        found = (part.strip("'\"") for part in _SEPARATORS.split(inner))
        return None if inner[:1] in _OPENS else [part for part in found if part not in NO_TEXT]
    found = [_id(value) for value in values if value is not None]
    return None if None in found else found  # type: ignore[return-value]


def _id(value: Any) -> str | None:
    """A scalar of JSON as an id; None for what is none."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None if value == value else ""
    known = isinstance(value, int | str) and not isinstance(value, bool)
    return str(value).encode("utf-8", "replace").decode() if known else None


def _blocks(users: pl.DataFrame, block: int) -> Iterator[pl.DataFrame]:
    for start in range(0, len(users), block):
        yield users[start : start + block]
