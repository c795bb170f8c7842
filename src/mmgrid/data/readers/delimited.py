"""Text tables with a header line: values between commas, tabs or semicolons, some of them in quotes.

Values are read as text, so that an error can name the line of a wrong one. The separator is the one that gives the
columns that are asked for. In RecBole's atomic files the header holds `name:type`; the names are those before the colon.
"""

import csv
import io
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.raw import require_columns
from mmgrid.data.readers.lines import Block, blocks
from mmgrid.data.readers.piece import Piece

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_ATOMIC = (".inter", ".item", ".user")


def column_names(path: Path, wanted: tuple[str, ...] = (), encoding: str | None = None) -> list[str]:
    """The names in the first line; empty if the file is empty."""
    return _header(path, wanted, encoding)[1]


def read(path: Path, names: list[str], encoding: str | None = None) -> Iterator[Piece]:
    """The wanted columns as text, one piece for each block of the file; rows without any value are left out.

    Raises DataError if a column is missing, or a row has too few or too many values.
    """
    rows_before = 0
    for _, _, table in _tables(path, names, encoding):
        yield Piece(path, table, rows_before, partial(_line_of, path, names, encoding))
        rows_before += len(table)


def _tables(path: Path, names: list[str], encoding: str | None) -> Iterator[tuple[Block, str, pl.DataFrame]]:
    """Each block without the header, the separator, and the block's table."""
    separator, header = _header(path, tuple(names), encoding)
    require_columns(header, names, path)
    for name in names:
        if header.count(name) > 1:
            raise DataError(f"{path}: has {header.count(name)} columns called {name}; rename all but one")
    schema = {str(place): pl.String for place in range(len(header))}
    chosen = [pl.col(str(header.index(name))).alias(name) for name in names]
    begun = False
    for block in blocks(path, separator=separator, encoding=encoding):
        block = _without_blank_start(block)
        if not begun and block.data:
            block, begun = _without_blank_start(_after_header(block, separator)), True
        if not block.data:
            continue
        try:
            table = (
                pl.read_csv(io.BytesIO(block.data), has_header=False, schema=schema, separator=separator)
                .filter(~pl.all_horizontal(pl.all().is_null()))
                .select(chosen)
            )
        except pl.exceptions.PolarsError:
            table = _by_rows(path, block, header, names, separator)
        yield block, separator, table


def _header(path: Path, wanted: tuple[str, ...], encoding: str | None) -> tuple[str, list[str]]:
    """The separator, and the names in the first line."""
    first = ""
    for block in blocks(path, 1 << 16, encoding=encoding):
        first = block.data.decode(errors="replace").lstrip("\r\n")
        if first:
            break
    if "\r" in first and "\n" not in first:
        raise DataError(f"{path}: its lines end with CR alone; save it with the line ends of Unix or Windows")
    plain = "\t" if ".tsv" in path.name or _is_atomic(path) else ","
    best: tuple[int, str, list[str]] = (-1, plain, [])
    for separator in (plain, *_SEPARATORS):
        names = [name.strip() for name in next(csv.reader(io.StringIO(first, newline=""), delimiter=separator), [])]
        if _is_atomic(path):
            names = [name.partition(":")[0] for name in names]
        score = sum(name in names for name in wanted) if wanted else len(names) - 1
        if score > best[0]:
            best = (score, separator, names)
    return best[1], best[2] if any(best[2]) else []


def _is_atomic(path: Path) -> bool:
    return any(path.name.endswith(suffix) or f"{suffix}." in path.name for suffix in _ATOMIC)


def _after_header(block: Block, separator: str) -> Block:
    """The block without its first row, in which a quoted name may hold line breaks."""
    reader = csv.reader(io.StringIO(block.data.decode(errors="replace"), newline=""), delimiter=separator)
    next(reader, None)
    data = block.data
    place = 0
    for _ in range(reader.line_num):
        place = data.find(b"\n", place) + 1 or len(data)
    return Block(block.first_line + reader.line_num, data[place:])


def _without_blank_start(block: Block) -> Block:
    """The block from its first line that is not blank: Polars takes the number of columns from it."""
    data = block.data.lstrip(b"\r\n")
    return Block(block.first_line + block.data[: len(block.data) - len(data)].count(b"\n"), data)


def _line_of(path: Path, names: list[str], encoding: str | None, row: int) -> int:
    """The line in which a row of the file begins. Reads the file again: blocks are not kept for an error.

    Raises DataError if the row has too few values, which is then the reason why one of them is missing.
    """
    header = _header(path, tuple(names), encoding)[1]
    for block, separator, table in _tables(path, names, encoding):
        if row < len(table):
            rows = ((line, fields) for line, fields in _rows(block, separator) if any(fields))
            line, fields = next(islice(rows, row, None))
            _check_length(path, line, fields, header, separator)
            return line
        row -= len(table)
    raise AssertionError(f"{path} has changed")


def _rows(block: Block, separator: str) -> Iterator[tuple[int, list[str]]]:
    """First line and values of each row."""
    csv.field_size_limit(1 << 29)
    text = io.StringIO(block.data.decode(errors="replace"), newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    line = block.first_line
    for fields in reader:
        yield line, fields
        line = block.first_line + reader.line_num


def _by_rows(path: Path, block: Block, header: list[str], names: list[str], separator: str) -> pl.DataFrame:
    """The block's table, row by row: for what Polars refuses, such as a quote within a value (a 5" pipe).

    Raises DataError naming the first wrong row.
    """
    for number, line in block.lines():
        try:
            line.decode()
        except UnicodeDecodeError as cause:
            raise DataError(
                f"{path}:{number}: {cause} in {line[:80].decode(errors='replace')!r}; fix the line, or name the "
                'encoding of the file (encoding = "cp1252")'
            ) from None
    columns: dict[str, list[str]] = {name: [] for name in names}
    places = [header.index(name) for name in names]
    number = block.first_line
    try:
        for number, fields in _rows(block, separator):
            if any(fields):
                _check_length(path, number, fields, header, separator)
                for values, place in zip(columns.values(), places, strict=True):
                    values.append(fields[place])
    except csv.Error as error:
        raise DataError(
            f"{path}:{number}: the row that begins in this line, or the next, cannot be read ({error}); close its quotes,"
            " and double a quote that belongs to the text"
        ) from None
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))


def _check_length(path: Path, line: int, fields: list[str], header: list[str], separator: str) -> None:
    if len(fields) != len(header):
        raise DataError(
            f"{path}:{line}: {len(fields)} values for {len(header)} columns ({', '.join(header)}) in "
            f"{separator.join(fields)[:80]!r}; fix or remove the row, or put quotes around values that hold "
            f"{_SEPARATORS[separator]}"
        )
