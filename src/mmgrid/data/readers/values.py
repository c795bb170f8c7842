"""Ids, texts and ratings, from the types that files give them.

An id is text: a whole number is written without a point, also when a tool made a float of it. A text may be a list of
paragraphs, which are joined by newlines, also a list that was written into a text file as its Python or JSON form.
"""

import ast
import json
import re

import polars as pl

from mmgrid.data.readers.piece import Piece

_LITERAL = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LIST = re.compile(rf"\[\s*(?:{_LITERAL}[\s,]*)*\]", re.DOTALL)
_LIST_BEGINS = r"""^\[\s*(?:\]|'|")"""
_NO_TEXT = ("NaN", "nan")


def ids(piece: Piece, name: str) -> pl.Series:
    """A column of ids as text. Raises DataError for a missing one, and for types that are no ids."""
    column = piece.frame[name]
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Boolean, pl.Object):
        piece.refuse_column(name, f"holds {column.dtype}; expected ids: texts or whole numbers")
    if column.dtype.is_float():
        piece.refuse(
            column.is_not_null() & column.is_not_nan() & (column != column.round(0)),
            lambda row: f"{name} is {column[row]}; expected an id: a text or a whole number",
        )
        column = column.cast(pl.Int64, strict=False)
    column = column.cast(pl.String)
    piece.refuse(
        column.is_null() | (column.str.len_bytes() == 0),
        lambda row: f"{name} is missing; fill it in, or remove the row",
    )
    return column


def texts(piece: Piece, name: str) -> pl.Series:
    """A column of texts; "" where there is none. Raises DataError for types that are no texts."""
    column = piece.frame[name]
    dtype = column.dtype
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        if inner == pl.Null:
            return pl.Series(name, [""] * len(column), dtype=pl.String)
        if not isinstance(inner, pl.DataType) or inner.is_nested() or inner in (pl.Binary, pl.Object):
            piece.refuse_column(name, f"holds {dtype}; expected texts, or lists of texts")
        if isinstance(dtype, pl.Array):
            column = column.arr.to_list()
        return column.list.eval(pl.element().cast(pl.String)).list.join("\n", ignore_nulls=True).fill_null("")
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        piece.refuse_column(name, f"holds {dtype}; expected texts, or lists of texts")
    if dtype.is_float():
        column = column.fill_nan(None)
        if (column.drop_nulls() == column.drop_nulls().round(0)).all():
            column = column.cast(pl.Int64, strict=False)  # numbers that a tool made floats because some are missing
    column = column.cast(pl.String).fill_null("")
    return _unwritten(column) if piece.line is not None else column


def ratings(piece: Piece, name: str) -> pl.Series:
    """A column of numbers. Raises DataError for a missing one, and for anything else."""
    column = piece.frame[name]
    if column.dtype != pl.String and not column.dtype.is_numeric():
        piece.refuse_column(name, f"holds {column.dtype}; expected numbers")
    numbers = column.cast(pl.Float64, strict=False)
    piece.refuse(numbers.is_null() | numbers.is_nan(), lambda row: f"{name} is {column[row]!r}; expected a number")
    return numbers


def listed(text: str) -> list[str] | None:
    """The texts of a list in its Python, numpy or JSON form; None for any other text."""
    if not _LIST.fullmatch(text):
        return None
    try:
        return [str(part) for part in json.loads(text)]
    except ValueError:
        # numpy writes ['one' 'two'], which Python would read as one text
        return [str(ast.literal_eval(part)) for part in re.findall(_LITERAL, text, re.DOTALL)]


def _unwritten(column: pl.Series) -> pl.Series:
    """The column of a text file, without NaN, and with written lists as their paragraphs."""
    stripped = column.str.strip_chars()
    column = column.zip_with(~stripped.is_in(_NO_TEXT), pl.Series([""], dtype=pl.String))
    found = (stripped.str.contains(_LIST_BEGINS) & stripped.str.ends_with("]")).arg_true()
    if not len(found):
        return column
    read = [(row, listed(stripped[row])) for row in found.to_list()]
    changed = [(row, "\n".join(parts)) for row, parts in read if parts is not None]
    if not changed:
        return column
    rows, values = zip(*changed, strict=True)
    return column.scatter(list(rows), list(values))
