"""Reads a few fields of JSON lines, one object per line, as tables.

Blocks of lines are parsed whole, see `typed_lines`. What is refused there is parsed line by line by the standard library,
which accepts NaN and halves of characters, or as objects of Python (`{'asin': 'B0'}`), as which some public data sets are
written; broken lines are named.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.readers.chosen_lines import ChosenLines, Wanted
from mmgrid.data.readers.json_values import PARAGRAPHS, field_of, is_id, names_in, table_of, value_of
from mmgrid.data.readers.lines import Block, blocks, unsaid
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.repairs import Repairs
from mmgrid.data.readers.typed_lines import TypedLines

_FIRST = 10  # objects that show which keys there are
_BEGINS_OF_PYTHON = re.compile(rb"\s*\{u?'")
_BEGINS_ARRAY = re.compile(rb"\s*\[\s*(?:\{|$)")
_WRITTEN_CONTROL = re.compile(rb"\\(?:u00[0189]|u007[fF]|[bf])")  # others below 128 stand in no text of JSON
_LATE_CONTROL = re.compile(rb"\xc2[\x80-\x9f]")


def read_interactions(
    path: Path, user: str, item: str, time: str, others: Sequence[str] = (), repairs: Repairs | None = None
) -> Iterator[Piece]:
    """User, item, time (a number, or a date as text) and other fields, as text, of each line, in file order."""
    needed = {user: pl.String, item: pl.String, time: pl.Int64}
    return _pieces(path, dict.fromkeys(others, pl.String) | needed, list(needed), repairs or Repairs(), [user, item])


def read_items(
    path: Path,
    item: str,
    title: str,
    descriptions: list[str],
    others: Sequence[str] = (),
    repairs: Repairs | None = None,
    wanted: Wanted | None = None,
) -> Iterator[Piece]:
    """Item, title, descriptions (lists of paragraphs, or these joined by line breaks) and other fields of each line; one
    that a line lacks is null, or "" if it is a description.

    Args:
        wanted: for ids, whether their lines are wanted; some of the others may be left out.
    """
    schema = {item: pl.String, title: pl.String} | dict.fromkeys(descriptions, PARAGRAPHS)
    chosen = None if wanted is None else ChosenLines(item, wanted)
    return _pieces(path, dict.fromkeys(others, pl.String) | schema, [item], repairs or Repairs(), [item], chosen)


def read_fields(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Piece]:
    """Some fields of each line, as text (a list in its JSON form), the times as numbers where they are; null for one of
    the optional ones that a line lacks."""
    schema = {name: pl.Int64 if name == "timestamp" else pl.String for name in names}
    return _pieces(path, schema, [name for name in names if name not in optional], Repairs())


def _pieces(
    path: Path,
    schema: dict[str, Any],
    required: list[str],
    repairs: Repairs,
    ids: Sequence[str] = (),
    chosen: ChosenLines | None = None,
) -> Iterator[Piece]:
    rows_before = 0
    lines = TypedLines(schema, required, ids)
    for number, block in enumerate(blocks(path, skip=repairs.skip if repairs.skip_bad_lines else None)):
        some = chosen.of(block.data) if chosen is not None else None
        table = None if some is None else lines.table(some.data)
        if table is None:
            some, table = None, lines.table(block.data)
        if table is None:
            table = lines.table_of_any(block.data)
        if table is None:
            table, places = _parse_lines(path, block, schema, required, ids, repairs)
            yield Piece(path, table, rows_before, partial(_chosen, places))
        else:
            again, rows = partial(_lines_of, path, number, repairs), some.rows if some else None
            where, controls = partial(_lines_in, block), _holds_controls(block.data)
            yield Piece(path, table, rows_before, where, rows, again, controls=controls, zero_bytes=controls)
        rows_before += some.of if some else len(table)


def _holds_controls(data: bytes) -> bool:
    return (
        b"\0" in data
        or b"\x7f" in data
        or (b"\\" in data and _WRITTEN_CONTROL.search(data) is not None)
        or (b"\xc2" in data and _LATE_CONTROL.search(data) is not None)
    )


def _chosen(lines: list[int], rows: Sequence[int]) -> list[int]:
    return [lines[row] for row in rows]


def _lines_in(block: Block, rows: Sequence[int]) -> list[int]:
    """The lines of rows of a block. Blank lines do not count."""
    return _chosen([line for line, _ in block.lines()], rows)


def _lines_of(path: Path, number: int, repairs: Repairs, rows: Sequence[int]) -> list[int]:
    """As `_lines_in`, of a block that is read again: blocks are not kept for an error."""
    again = blocks(path, skip=repairs.again().skip if repairs.skip_bad_lines else None)
    return _lines_in(next(islice(again, number, None)), rows)


def first_keys(path: Path) -> list[str]:
    """The keys of the first objects; empty if the file is empty. Raises DataError if all of these lines are broken."""
    for block in blocks(path, 1 << 16, skip=unsaid):
        keys: dict[str, None] = {}
        broken: DataError | None = None
        for number, line in islice(block.lines(), _FIRST):
            try:
                keys |= dict.fromkeys(names_in(_object(path, number, line)))
            except DataError as error:
                if _BEGINS_ARRAY.match(line):  # a list of objects: its lines are not the objects
                    raise
                broken = broken or error
        if broken is not None and not keys:
            raise broken
        if keys:
            return list(keys)
    return []


def _parse_lines(
    path: Path, block: Block, schema: dict[str, Any], required: list[str], ids: Sequence[str], repairs: Repairs
) -> tuple[pl.DataFrame, list[int]]:
    """As `_parse`, line by line. Raises DataError naming the first broken or incomplete line, if it is not left out."""
    rows, lines = [], []
    for number, line in block.lines():
        try:
            rows.append(_row(path, number, line, schema, required, ids))
        except DataError as error:
            if not repairs.skip_bad_lines:
                raise
            place = f"{path}:{number}"
            repairs.skip(place, str(error).removeprefix(f"{place}: "))
        else:
            lines.append(number)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(schema)}
    return table_of(columns, schema), lines


def _row(
    path: Path, number: int, line: bytes, schema: dict[str, Any], required: list[str], ids: Sequence[str]
) -> list[Any]:
    """The values of a line. Raises DataError if it is broken, or lacks a value that it needs."""
    row = _object(path, number, line)
    for name in required:
        if field_of(row, name) in (None, ""):
            raise DataError(
                f"{path}:{number}: {name} is missing; each line needs {', '.join(required)}, this one has "
                f"{', '.join(row) or 'nothing'}"
            )
    for name in ids:
        if not is_id(value := field_of(row, name)):
            shown = json.dumps(value)
            raise DataError(
                f"{path}:{number}: {name} is {shown[:60]}{'…' if len(shown) > 60 else ''}; expected an id: a text or a "
                f"whole number{_of_parts(name, value)}"
            )
    return [value_of(field_of(row, name), dtype) for name, dtype in schema.items()]


def _of_parts(name: str, value: Any) -> str:
    """What to do about an id that is an object or a list."""
    if isinstance(value, dict) and value:
        return (
            f'; a field of it is named as in "{name}.{next(iter(value))}", and pandas writes one row in a line by '
            'to_json(orient="records", lines=True)'
        )
    return "; write one row for each entry of the list" if isinstance(value, list) else ""


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    if number == 1 and _BEGINS_ARRAY.match(line):
        raise DataError(
            f"{path}: is a list of objects in JSON, not JSON lines; write one object in a line (jq -c '.[]')"
        )
    if number == 1 and line.strip() == b"{":
        raise DataError(f"{path}: is one object of JSON in several lines; write one row in a line (jq -c .)")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        row = _of_python(line)
        if row is None:
            _broken(path, number, error, line)
    if not isinstance(row, dict):
        _broken(path, number, f"a {type(row).__name__} instead of an object", line)
    return row


def _of_python(line: bytes) -> dict[str, Any] | None:
    """An object that was written as Python shows it, with what JSON has in place of its types; None for anything else."""
    if not _BEGINS_OF_PYTHON.match(line):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown escapes
            return json.loads(json.dumps(ast.literal_eval(line.decode().strip())))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _broken(path: Path, number: int, why: object, line: bytes) -> NoReturn:
    shown = line[:60].decode(errors="replace") + ("…" if len(line) > 60 else "")
    raise DataError(f"{path}:{number}: broken JSON ({why}) in {shown!r}; fix or remove the line, or get the file again")
