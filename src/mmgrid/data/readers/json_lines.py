"""Reads a few fields of JSON lines, one object per line, as tables.

Polars parses whole blocks. A block that it refuses is parsed line by line, which accepts unusual values (a description
that is a string instead of a list) and names broken lines.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.readers.lines import Block, blocks

_PARAGRAPHS = pl.List(pl.String)


def read_interactions(path: Path, item_key: str) -> pl.DataFrame:
    """A table of user_id, item_id and timestamp in file order; `item_key` is the item field of the file."""
    schema = {"user_id": pl.String, item_key: pl.String, "timestamp": pl.Int64}
    tables = [_parse(path, block, schema, required=list(schema)) for block in blocks(path)]
    return _stack(tables, schema).rename({item_key: "item_id"})


def read_items(path: Path, item_key: str) -> Iterator[pl.DataFrame]:
    """Tables of item_id, title and description (paragraphs of a list joined by newlines), one per block."""
    schema = {item_key: pl.String, "title": pl.String, "description": _PARAGRAPHS}
    for block in blocks(path):
        table = _parse(path, block, schema, required=[item_key])
        yield table.select(
            pl.col(item_key).alias("item_id"),
            "title",
            pl.col("description").list.join("\n", ignore_nulls=True),
        )


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
    if value is None:
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
        return [part if isinstance(part, str) else json.dumps(part) for part in parts if part is not None]
    return value if isinstance(value, str) else json.dumps(value)


def _stack(tables: list[pl.DataFrame], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.concat(tables) if tables else pl.DataFrame(schema=schema)
