"""Ids, texts and ratings, from the types that files give them.

An id is text: a whole number is written without a point, also when a tool made a float of it. A text may be a list of
paragraphs, which are joined.
"""

from typing import Any

import polars as pl

from mmgrid.data.readers.mending import NO_VALUE
from mmgrid.data.readers.piece import Piece

_ZERO_BYTE = "\0"
_WITH_EXPONENT = r"^\s*-?\d(?:[.,]\d+)?[eE]\+\d{2,3}\s*$"
_DECIMAL_COMMA = r"^\s*(\d+),(\d{1,2})\s*$"
_TEXTS = (pl.String, pl.Categorical, pl.Enum, pl.Null)
_SHOWN_AS_TEXT = (*_TEXTS, pl.Boolean, pl.Date, pl.Datetime, pl.Time)
NO_ID = (*NO_VALUE, "\\N")
"""What pandas, Spark and databases write in place of a missing id."""
_NO_ID_BYTES = max(map(len, NO_ID))
# Fractions hold whole numbers below this exactly; those that are not named here are of 16 bits.
_EXACT_BELOW: dict[Any, int] = {pl.Float64: 2**53, pl.Float32: 2**24}
_EXACT_BELOW_IN_16_BITS = 2**11


def ids(piece: Piece, name: str) -> pl.Series:
    """A column of ids as text. Raises DataError for a missing one, and for types that are no ids."""
    column = piece.frame[name]
    if not (column.dtype.is_numeric() or column.dtype in _TEXTS):
        piece.refuse_column(name, f"holds {column.dtype}; expected ids: texts or whole numbers")
    if column.dtype.is_float() or isinstance(column.dtype, pl.Decimal):
        column = _whole(piece, name, column)
    column = column.cast(pl.String)
    lengths = column.str.len_bytes()
    piece.refuse(column.is_null() | (lengths == 0), lambda row: f"{name} is missing; fill it in, or remove the row")
    if (lengths <= _NO_ID_BYTES).any():
        piece.refuse(
            column.is_in(NO_ID),
            lambda row: f"{name} is {column[row]}, as tools write a missing one; fill it in, or remove the row",
        )
    if piece.zero_bytes:
        piece.refuse(
            column.str.contains(_ZERO_BYTE, literal=True),
            lambda row: f"{name} is {column[row]!r}, which holds a zero byte; get the file again, or remove the row",
        )
    if piece.exponents and piece.lines is not None:
        piece.refuse(
            column.str.contains(_WITH_EXPONENT),
            lambda row: (
                f"{name} is {column[row]}, as Excel and others write a long number whose last digits they have dropped; "
                "write ids as texts"
            ),
        )
    if piece.lines is not None and column.str.ends_with(".0").any():  # numbers that pandas made floats
        column = column.str.replace(r"^(\d+)\.0$", "$1")
    return column


def _whole(piece: Piece, name: str, numbers: pl.Series) -> pl.Series:
    """Fractions that are whole numbers; null for NaN. Raises DataError for others, and for those that have lost digits."""
    if numbers.dtype.is_float():
        numbers = numbers.fill_nan(None)
        piece.refuse(
            numbers.abs() >= _EXACT_BELOW.get(numbers.dtype, _EXACT_BELOW_IN_16_BITS),
            lambda row: (
                f"{name} is {numbers[row]}, a fraction so large that it has lost digits; write ids as texts or whole numbers"
            ),
        )
    piece.refuse(numbers % 1 != 0, lambda row: f"{name} is {numbers[row]}; expected an id: a text or a whole number")
    return numbers.cast(pl.Int64) if numbers.dtype.is_float() else numbers.cast(pl.Decimal(38, 0))


def texts(piece: Piece, name: str, joint: str = "\n") -> pl.Series:
    """A column of texts; "" where there is none; `joint` stands between the parts of a list.

    Raises DataError for types that are no texts.
    """
    column = piece.frame[name]
    dtype = column.dtype
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        if inner == pl.Null:
            return pl.Series(name, [""] * len(column), dtype=pl.String)
        if not _is_shown_as_text(inner):
            piece.refuse_column(name, f"holds {dtype}; expected texts, or lists of texts")
        if isinstance(dtype, pl.Array):
            column = column.arr.to_list()
        parts = pl.element().fill_nan(None) if inner.is_float() else pl.element()
        return column.list.eval(parts.cast(pl.String)).list.join(joint, ignore_nulls=True).fill_null("")
    if not _is_shown_as_text(dtype):
        piece.refuse_column(name, f"holds {dtype}; expected texts, or lists of texts")
    if dtype.is_float():
        column = column.fill_nan(None)
        if (column.drop_nulls() == column.drop_nulls().round(0)).all():
            column = column.cast(pl.Int64, strict=False)  # numbers that a tool made floats because some are missing
    return column.cast(pl.String).fill_null("")


def _is_shown_as_text(dtype: Any) -> bool:
    return dtype.is_numeric() or dtype in _SHOWN_AS_TEXT


def ratings(piece: Piece, name: str) -> pl.Series:
    """A column of numbers. Raises DataError for a missing one, and for anything else."""
    column = piece.frame[name]
    if column.dtype != pl.String and not column.dtype.is_numeric():
        piece.refuse_column(name, f"holds {column.dtype}; expected numbers")
    plain = column.str.replace(_DECIMAL_COMMA, "$1.$2") if column.dtype == pl.String else column
    numbers = plain.cast(pl.Float64, strict=False)
    piece.refuse(numbers.is_null() | numbers.is_nan(), lambda row: f"{name} is {column[row]!r}; expected a number")
    return numbers
