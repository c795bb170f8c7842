"""What a value of a JSON object is as a text, a time or paragraphs, whatever type a file gives it."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import polars as pl

PARAGRAPHS = pl.List(pl.String)
_HALF = re.compile("[\ud800-\udfff]")
_EXACT_BELOW = 2**53  # whole numbers that a fraction holds exactly


_DEEPEST = 16  # fields of fields that are named


def field_of(row: Mapping[str, Any], name: str) -> Any:
    """The value of a key, or of a field of a nested object, as in `context.item.id`; None if there is none."""
    if name in row:
        return row[name]
    for key, rest in _splits(name):
        if isinstance(inner := row.get(key), dict):
            return field_of(inner, rest)
    return None


@cache
def _splits(name: str) -> tuple[tuple[str, str], ...]:
    """The ways in which a name can be a key and the name of a field in its object, the shortest key first."""
    places = [place for place, sign in enumerate(name) if sign == "."]
    return tuple((name[:place], name[place + 1 :]) for place in places)


def names_in(row: Mapping[str, Any], depth: int = _DEEPEST) -> list[str]:
    """The keys of an object, and after them the fields of nested ones."""
    nested = [
        f"{key}.{name}"
        for key, value in row.items()
        if isinstance(value, dict) and depth
        for name in names_in(value, depth - 1)
    ]
    return [*row, *(name for name in nested if name not in row)]


def value_of(value: Any, dtype: Any) -> Any:
    """A value for a column of texts, of paragraphs, or of times, of which some are texts; None for a missing one."""
    if dtype == pl.Int64:
        fits = type(value) is int and abs(value) < 2**63
        return value if fits else _text(value)  # fractions and dates, and what is no time
    if value is None or _is_nan(value):
        return None
    if dtype == PARAGRAPHS:
        parts = value if isinstance(value, list) else [value]
        return [_text(part) for part in parts if part is not None and not _is_nan(part)]
    return _text(value)


def is_id(value: Any) -> bool:
    """Whether a value can be an id: a text, or a whole number that has not lost digits."""
    if isinstance(value, float):
        return value.is_integer() and abs(value) < _EXACT_BELOW
    if isinstance(value, str):
        return value.isascii() or not _HALF.search(value)  # two ids with different halves would become one
    return type(value) is int


def table_of(columns: Mapping[str, Sequence[Any]], schema: Mapping[str, Any]) -> pl.DataFrame:
    """The table of columns of `value_of`. Times are texts, if one of them is."""
    found = {}
    for name, dtype in schema.items():
        values = columns[name]
        if dtype == pl.Int64 and any(isinstance(value, str) for value in values):
            values, dtype = [str(value) for value in values], pl.String
        found[name] = pl.Series(name, values, dtype=dtype)
    return pl.DataFrame(found)


def _text(value: Any) -> str:
    """A value as text, with ? in place of halves of characters, which a text cannot hold."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_BELOW:
        return str(int(value))
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _is_nan(value: Any) -> bool:
    """Whether a value is NaN, which stands for a missing one and is no text."""
    return isinstance(value, float) and math.isnan(value)
