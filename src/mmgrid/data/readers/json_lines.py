"""Reads a few fields of JSON lines, one object per line, as tables.

Polars parses whole blocks. A block that it refuses is parsed line by line, which accepts unusual values (a description
that is a string instead of a list) and names broken lines.
"""

import io
import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.readers.lines import Block, blocks
from mmgrid.data.readers.piece import Piece

_PARAGRAPHS = pl.List(pl.String)


def read_interactions(path: Path, user: str, item: str, time: str, others: Sequence[str] = ()) -> Iterator[Piece]:
    """User, item, time (a whole number) and other fields, as text, of each line, in file order."""
    needed = {user: pl.String, item: pl.String, time: pl.Int64}
    return _pieces(path, dict.fromkeys(others, pl.String) | needed, list(needed))


def read_items(path: Path, item: str, title: str, descriptions: list[str]) -> Iterator[Piece]:
    """Item, title and descriptions (lists of paragraphs) of each line; a field that a line lacks is null."""
    return _pieces(path, {item: pl.String, title: pl.String} | dict.fromkeys(descriptions, _PARAGRAPHS), [item])


def _pieces(path: Path, schema: dict[str, Any], required: list[str]) -> Iterator[Piece]:
    rows_before = 0
    for block in blocks(path):
        table = _parse(path, block, schema, required)
        yield Piece(path, table, rows_before, partial(_line_of, path))
        rows_before += len(table)


def _line_of(path: Path, row: int) -> int:
    """The line of a row of the file: the blank ones do not count."""
    lines = (number for block in blocks(path) for number, _ in block.lines())
    return next(islice(lines, row, None))


def first_keys(path: Path) -> list[str]:
    """The keys of the first object; empty if the file is empty. Raises DataError if the first line is broken."""
    for block in blocks(path, 1 << 16):
        for number, line in block.lines():
            return list(_object(path, number, line))
    return []


def _parse(path: Path, block: Block, schema: dict[str, Any], required: list[str]) -> pl.DataFrame:
    try:
        table = pl.read_ndjson(io.BytesIO(block.data), schema=schema)
    except pl.exceptions.PolarsError:
        return _parse_lines(path, block, schema, required)
    if any(table.select(required).null_count().row(0)):
        return _parse_lines(path, block, schema, required)
    return table


def _parse_lines(path: Path, block: Block, schema: dict[str, Any], required: list[str]) -> pl.DataFrame:
    """The block's table, read line by line. Raises DataError naming the first broken or incomplete line."""
    columns: dict[str, list[Any]] = {name: [] for name in schema}
    for number, line in block.lines():
        row = _object(path, number, line)
        for name in required:
            if row.get(name) in (None, ""):
                raise DataError(
                    f"{path}:{number}: {name} is missing; each line needs {', '.join(required)}, this one has "
                    f"{', '.join(row) or 'nothing'}"
                )
        for name, dtype in schema.items():
            columns[name].append(_value(path, number, name, row.get(name), dtype))
    return pl.DataFrame(columns, schema=schema)


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        _broken(path, number, error, line)
    if not isinstance(row, dict):
        _broken(path, number, f"a {type(row).__name__} instead of an object", line)
    return row


def _broken(path: Path, number: int, why: object, line: bytes) -> NoReturn:
    shown = line[:60].decode(errors="replace") + ("…" if len(line) > 60 else "")
    raise DataError(f"{path}:{number}: broken JSON ({why}) in {shown!r}; fix or remove the line, or get the file again")


def _value(path: Path, number: int, name: str, value: Any, dtype: Any) -> Any:
    if value is None or (dtype != pl.Int64 and _is_nan(value)):
        return None
    if dtype == pl.Int64:
        try:
            whole = int(value)
            if isinstance(value, str | int) or whole == value:
                return whole
        except (TypeError, ValueError, OverflowError):
            pass
        raise DataError(f"{path}:{number}: {name} is {value!r}; expected a whole number of milliseconds")
    if dtype == _PARAGRAPHS:
        parts = value if isinstance(value, list) else [value]
        return [
            part if isinstance(part, str) else json.dumps(part)
            for part in parts
            if part is not None and not _is_nan(part)
        ]
    return value if isinstance(value, str) else json.dumps(value)


def _is_nan(value: Any) -> bool:
    """Whether a value is NaN, which stands for a missing one and is no text."""
    return isinstance(value, float) and math.isnan(value)
